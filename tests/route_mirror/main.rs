//! A mirror of routes equals the list of `ip route`, even after losses, and after changes that no event reports.

#[path = "../common/mod.rs"]
mod common;
mod follower;
mod ip_route;
mod load;

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use common::{ip, own_namespace, run, skip};
use follower::{DUMP_LIMIT, Follower};
use ip_route::{index_of, learn_device_names, listed_by_ip};
use load::{add_route_with_hops, change_multipath_routes, flood};
use nlring::{
    Backend, ErrorKind, MirrorOptions, Protocol, Resync, ResyncReason, Socket, StopHandle,
};

on_each_backend!(
    a_device_that_goes_down_shows_at_the_end_if_dumps_are_never_due,
    a_round_that_fails_is_tried_again_after_the_interval_of_its_reason,
    the_mirror_follows_events_although_one_route_cannot_be_dumped,
    the_mirror_equals_ips_list_after_concurrent_changes_of_multipath_routes,
    a_device_that_goes_down_shows_within_a_second,
    the_mirror_equals_ips_list_after_every_kind_of_change,
    the_mirror_equals_ips_list_after_a_flood_that_was_mostly_lost,
);

const PATIENCE: Duration = Duration::from_secs(15);

/// Two pairs of devices, up, with addresses.
fn make_devices() -> bool {
    let has_ip = ip("link set lo up");
    if has_ip {
        for commands in [
            "link add v0 type veth peer name p0",
            "link add v1 type veth peer name p1",
            "link set v0 up",
            "link set v1 up",
            "link set p0 up",
            "link set p1 up",
            "address add 10.0.0.1/24 dev v0",
            "address add 10.1.0.1/24 dev v1",
            "address add fd00::1/64 dev v0 nodad",
            "address add fd01::1/64 dev v1 nodad",
        ] {
            ip(commands);
        }
        await_devices_up();
        learn_device_names();
    }
    has_ip
}

/// Waits until both devices have a carrier. The kernel reports a carrier later, at most once a second, which would
/// look like an effect of the next change.
fn await_devices_up() {
    let start = Instant::now();
    loop {
        let output = run("ip", &["-o", "link", "show", "type", "veth"]).expect("ip");
        let text = String::from_utf8_lossy(&output.stdout);
        if text.lines().all(|line| line.contains(" state UP ")) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How the mirror learns of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// From route events alone.
    Events,
    /// From a dump.
    Dump,
    /// From route events. The mirror also makes a dump, because there could be more changes, and the dump finds
    /// nothing.
    Both,
}

/// The changes in their order, and how the mirror learns of each. Each one changes the routes.
const CHANGES: &[(By, &str)] = &[
    (By::Events, "route add 10.9.0.0/16 via 10.0.0.2"),
    (By::Events, "route append 10.9.0.0/16 via 10.0.0.3"),
    (
        By::Events,
        "route append 10.9.0.0/16 via 10.0.0.3 proto static",
    ),
    (By::Events, "route prepend 10.9.0.0/16 via 10.0.0.4"),
    (By::Dump, "route replace 10.9.0.0/16 via 10.0.0.5"),
    (
        By::Events,
        "route del 10.9.0.0/16 via 10.0.0.3 proto static",
    ),
    (By::Events, "route add 10.10.0.0/16 via 10.0.0.2"),
    (By::Events, "route replace 10.10.0.0/16 via 10.1.0.3"),
    (
        By::Events,
        "route change 10.10.0.0/16 via 10.1.0.3 mtu 1300",
    ),
    (By::Events, "route add 10.10.0.0/16 via 10.0.0.2 metric 7"),
    (By::Events, "route add 10.10.0.0/16 tos 0x10 via 10.0.0.2"),
    (By::Events, "route add 10.10.0.0/16 via 10.0.0.2 table 1000"),
    (By::Events, "route add 10.10.0.0/24 via 10.0.0.2 table 7"),
    (By::Events, "route add blackhole 10.11.0.0/16"),
    (By::Events, "route add default via 10.0.0.2"),
    (
        By::Events,
        "route add 10.12.0.0/16 via inet6 fd00::5 dev v0",
    ),
    (
        By::Events,
        "route add 10.13.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop via 10.1.0.2",
    ),
    (
        By::Events,
        "-6 route add fd09::/64 metric 9 nexthop via fd00::2 nexthop via fd01::3",
    ),
    (By::Events, "-6 route append fd09::/64 metric 9 via fd00::4"),
    (
        By::Events,
        "-6 route append fd09::/64 metric 9 nexthop via fd00::6 nexthop via fd00::7",
    ),
    (By::Events, "-6 route append fd09::/64 metric 9 dev v1"),
    (
        By::Events,
        "-6 route del fd09::/64 metric 9 via fd00::2 dev v0",
    ),
    (
        By::Events,
        "-6 route del fd09::/64 metric 9 nexthop via fd00::4 dev v0 nexthop via fd00::6 dev v0",
    ),
    (
        By::Events,
        "-6 route del fd09::/64 metric 9 via fd01::3 dev v1",
    ),
    (
        By::Events,
        "-6 route replace fd09::/64 metric 9 via fd00::9",
    ),
    (By::Events, "-6 route del fd09::/64 metric 9 dev v1"), // otherwise the next dump skips it
    (
        By::Events,
        "-6 route replace fd09::/64 metric 9 nexthop via fd00::9 nexthop via fd00::10",
    ),
    (
        By::Events,
        "-6 route del fd09::/64 metric 9 via fd00::10 dev v0",
    ),
    (By::Events, "-6 route add fd0a::/64 dev v0"),
    (By::Events, "-6 route append fd0a::/64 dev v1"),
    (By::Dump, "-6 route replace fd0a::/64 dev v0 mtu 1400"),
    (By::Events, "-6 route add fd0b::/64 via fd00::2 proto ra"),
    (By::Dump, "-6 route append fd0b::/64 via fd00::3 proto ra"),
    (By::Dump, "-6 route del fd0b::/64 via fd00::2 proto ra"),
    (By::Events, "-6 route add unreachable fd0c::/64"),
    (By::Events, "-6 route add fd0d::/64 via fd00::2 table 1000"),
    (By::Events, "-6 route add default via fd00::2 metric 5"),
    (By::Events, "route add 10.14.0.0/16 nhid 1"),
    (By::Events, "-6 route add fd0e::/64 nhid 2"),
    (By::Events, "route add 10.15.0.0/16 nhid 3"),
    (By::Both, "nexthop replace id 1 via 10.0.0.7 dev v0"),
    (By::Both, "nexthop replace id 2 via fd00::7 dev v0"),
    (By::Dump, "nexthop del id 1"),
    (By::Both, "nexthop del id 2"),
    (By::Dump, "nexthop del id 3"),
    (By::Dump, "link set p1 down"), // linkdown
    (By::Dump, "link set p1 up"),
    (By::Dump, "link set v1 down"), // IPv4 routes disappear without an event
    (By::Dump, "link set v1 up"),
    (By::Both, "address add 10.2.0.1/24 dev v1"),
    (By::Both, "address del 10.1.0.1/24 dev v1"),
    (By::Dump, "address del 10.2.0.1/24 dev v1"), // the last address: no IPv4 on the device any more
    (
        By::Events,
        "route add 10.16.0.0/16 via 10.0.0.2 src 10.0.0.1",
    ),
    (By::Events, "address add fd02::1/64 dev v1 nodad"),
    (By::Both, "address del fd02::1/64 dev v1"),
    (By::Dump, "link del v1"),
    (By::Events, "route flush table 1000"),
    (By::Events, "-6 route flush fd09::/64"),
    (By::Dump, "link set v0 down"),
    (By::Dump, "link set v0 up"),
    (By::Dump, "link del v0"),
];

fn the_mirror_equals_ips_list_after_every_kind_of_change(backend: Backend) {
    own_namespace();
    if !make_devices() {
        return skip(
            "the_mirror_equals_ips_list_after_every_kind_of_change",
            "no ip",
        );
    }
    let options = MirrorOptions::new().change_interval(Duration::from_millis(100));
    let mut follower = Follower::new(backend, 4 << 20, options);
    follower.await_ip("the start");
    assert_eq!(follower.reported.resyncs[0].reason, ResyncReason::Snapshot);
    let first = follower.reported.resyncs[0];
    assert_eq!(first.entry_count as u64, first.new_count);
    for nexthop in [
        "nexthop add id 1 via 10.0.0.2 dev v0",
        "nexthop add id 2 via fd00::3 dev v0",
        "nexthop add id 4 via 10.1.0.2 dev v1",
        "nexthop add id 3 group 1/4",
    ] {
        ip(nexthop);
    }
    follower.await_ip("the nexthop objects");
    for (by, change) in CHANGES {
        let (before, resyncs_before) = (follower.lines(), follower.reported.resyncs.len());
        let resynced_before = follower.reported.resynced_count;
        ip(change);
        follower.await_ip(change);
        assert!(follower.longest_delay <= Some(DUMP_LIMIT), "{change}");
        assert_ne!(before, follower.lines(), "{change} changed nothing");
        let resyncs = &follower.reported.resyncs[resyncs_before..];
        assert_eq!(
            *by == By::Events,
            resyncs.is_empty(),
            "{change}: {resyncs:?}"
        );
        // If a dump finds nothing, no change is marked as resynced.
        let resynced_count = follower.reported.resynced_count - resynced_before;
        match by {
            By::Events => {}
            By::Dump => assert!(resynced_count > 0, "{change}: {resyncs:?}"),
            By::Both => assert_eq!(resynced_count, 0, "{change}: {resyncs:?}"),
        }
    }
    let found = follower.mirror.find(7, "10.10.0.0".parse().unwrap(), 24);
    assert_eq!(found.count(), 0);
    assert!(
        follower.reported.resyncs[1..]
            .iter()
            .all(|resync| resync.lost_count == 0)
    );
}

/// The terms of the second half can change while a route lives.
const FILTERS: [&str; 8] = [
    "table 1000",
    "table main and family ipv4",
    "dst 10.9.0.0/16 or dst fd09::/64 and metric 9",
    "not dst 10.0.0.0/8 or-longer and metric {1024, 5}",
    "via fd00::/64 or via 10.0.0.2",
    "proto static",
    "table main and not (scope link or type unreachable) and not proto {kernel, boot}",
    "not dst 10.10.0.0/16 or-shorter and type blackhole",
];

#[test]
fn a_filtered_mirror_equals_what_matches_after_every_kind_of_change() {
    const NAME: &str = "a_filtered_mirror_equals_what_matches_after_every_kind_of_change";
    own_namespace();
    if !make_devices() {
        return skip(NAME, "no ip");
    }
    let mut followers = FILTERS.map(|text| {
        let options = MirrorOptions::new().change_interval(Duration::from_millis(100));
        let filter = text.parse().expect("a filter");
        let mut follower = Follower::with_filter(Backend::Auto, 4 << 20, options, filter);
        follower.await_ip(text);
        follower
    });
    for nexthop in [
        "nexthop add id 1 via 10.0.0.2 dev v0",
        "nexthop add id 2 via fd00::3 dev v0",
        "nexthop add id 4 via 10.1.0.2 dev v1",
        "nexthop add id 3 group 1/4",
    ] {
        ip(nexthop);
    }
    let mut shown_counts = FILTERS.map(|_| 0);
    for (_, change) in CHANGES {
        ip(change);
        for ((follower, text), count) in followers.iter_mut().zip(FILTERS).zip(&mut shown_counts) {
            follower.await_ip(&format!("{change}, {text}"));
            *count += follower.mirror.len();
        }
    }
    assert!(
        shown_counts.iter().all(|count| *count > 0),
        "{shown_counts:?}"
    );
    // The kernel did not send the events of other tables.
    let received = followers.map(|follower| {
        let statistics = follower.running.statistics(follower.id);
        statistics.expect("its socket's").received
    });
    assert!(2 * received[0] < received[5], "{received:?}");
}

fn a_device_that_goes_down_shows_within_a_second(backend: Backend) {
    own_namespace();
    if !make_devices() {
        return skip("a_device_that_goes_down_shows_within_a_second", "no ip");
    }
    let mut follower = Follower::new(backend, 4 << 20, MirrorOptions::default());
    follower.await_ip("the start");
    ip("link set v1 down");
    follower.await_ip("the first change");
    follower.assert_dumped_soon();
    follower.turn_for(Duration::from_secs(1));
    ip("link set v1 up");
    follower.await_ip("a change after a rest");
    follower.assert_dumped_soon();
    assert!(follower.reported.resynced_delete_count > 0);
    let now = Instant::now();
    let due = follower.mirror.due(now).expect("an audit");
    assert!(due > now + Duration::from_secs(5), "nothing else is due");
}

fn a_device_that_goes_down_shows_at_the_end_if_dumps_are_never_due(backend: Backend) {
    own_namespace();
    if !make_devices() {
        return skip(
            "a_device_that_goes_down_shows_at_the_end_if_dumps_are_never_due",
            "no ip",
        );
    }
    let options = MirrorOptions::new()
        .resync_interval(Duration::MAX)
        .change_interval(Duration::MAX);
    let mut follower = Follower::new(backend, 4 << 20, options);
    follower.await_ip("the start");
    for needs_dump in ["a change", "a loss"] {
        if needs_dump == "a change" {
            ip("link set v1 down");
        } else {
            follower.mirror.note_unreadable();
        }
        follower.turn_for(Duration::from_millis(300));
        assert!(!follower.mirror.is_synced(), "{needs_dump}");
        assert_eq!(follower.mirror.due(Instant::now()), None, "{needs_dump}");
        assert_eq!(follower.reported.resyncs.len(), 1, "{needs_dump}");
    }
    assert_ne!(follower.lines(), listed_by_ip());
    let (mirror, reported) = (&mut follower.mirror, &mut follower.reported);
    mirror
        .finish(|change| reported.take(&change))
        .expect("a dump");
    follower.await_ip("the end");
    assert!(follower.reported.resynced_delete_count > 0);
}

fn a_round_that_fails_is_tried_again_after_the_interval_of_its_reason(backend: Backend) {
    own_namespace();
    if !make_devices() {
        return skip(
            "a_round_that_fails_is_tried_again_after_the_interval_of_its_reason",
            "no ip",
        );
    }
    let interval = Duration::from_secs(2);
    let options = MirrorOptions::new()
        .resync_interval(interval)
        .change_interval(Duration::from_millis(1));
    let mut follower = Follower::new(backend, 4 << 20, options);
    follower.await_ip("the start");
    // Nobody answers on this protocol, so the round fails at its beginning.
    let no_socket = Socket::open(Protocol::USERSOCK).expect("a socket");
    for is_loss in [false, true] {
        if is_loss {
            follower.mirror.note_unreadable();
        } else {
            ip("link set v1 down");
            while follower.mirror.is_synced() {
                let event = follower.running.poll(Some(PATIENCE), |event, _| {
                    follower
                        .mirror
                        .feed(&event, |change| follower.reported.take(&change));
                    ControlFlow::<()>::Continue(())
                });
                let _ = event.expect("a turn");
            }
        }
        let start = Instant::now();
        while follower.mirror.advance(&no_socket, |_| {}).is_ok() {
            assert!(start.elapsed() < PATIENCE);
            thread::yield_now();
        }
        let now = Instant::now();
        let due = follower.mirror.due(now).expect("another");
        let wait = due.saturating_duration_since(now);
        assert!(!wait.is_zero());
        let is_long = wait > interval / 2;
        assert_eq!(is_long, is_loss, "{wait:?}");
    }
    follower.await_ip("the end");
}

fn the_mirror_equals_ips_list_after_concurrent_changes_of_multipath_routes(backend: Backend) {
    own_namespace();
    if !make_devices() {
        return skip(
            "the_mirror_equals_ips_list_after_concurrent_changes_of_multipath_routes",
            "no ip",
        );
    }
    let options = MirrorOptions::new().resync_interval(Duration::from_millis(100));
    let mut follower = Follower::new(backend, 8 << 20, options);
    follower.await_ip("the start");
    let device = index_of("v0");
    for _ in 0..5 {
        let changes = [[24, 25], [24, 24], [25, 24]].map(|message_types| {
            thread::spawn(move || change_multipath_routes(message_types, device))
        });
        while !changes.iter().all(thread::JoinHandle::is_finished) {
            follower.turn();
        }
        for change in changes {
            change.join().expect("the changes");
        }
        follower.await_ip("the changes");
    }
}

fn the_mirror_follows_events_although_one_route_cannot_be_dumped(backend: Backend) {
    own_namespace();
    if !make_devices() {
        return skip(
            "the_mirror_follows_events_although_one_route_cannot_be_dumped",
            "no ip",
        );
    }
    let mut follower = Follower::new(backend, 8 << 20, MirrorOptions::new());
    follower.await_ip("the start");
    add_route_with_hops(index_of("v0"), 1200);
    if !common::reports_large_routes() {
        return skip(
            "the_mirror_follows_events_although_one_route_cannot_be_dumped",
            "the kernel omits the route without an error",
        );
    }
    ip("link set v1 mtu 1400"); // asks for a dump
    let start = Instant::now();
    let failure = loop {
        follower.receive(Duration::from_millis(20));
        match follower.advance() {
            Err(failure) => break failure,
            Ok(()) => assert!(start.elapsed() < PATIENCE, "a dump that fails"),
        }
    };
    assert_eq!(failure.kind(), ErrorKind::EntryTooLarge, "{failure}");

    ip("route add 10.77.0.0/16 dev v0");
    let is_there = |follower: &Follower| {
        let dst = [10, 77, 0, 0].into();
        follower.mirror.find(254, dst, 16).count() == 1
    };
    while !is_there(&follower) && start.elapsed() < PATIENCE {
        follower.receive(Duration::from_millis(20));
    }
    assert!(is_there(&follower), "a route that was added later");
    let ended = follower.mirror.finish(|_| ()).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::EntryTooLarge, "{ended}");
    ip("-6 route del fd20:1::/64");
    let stop = StopHandle::new().expect("a handle");
    stop.stop();
    let stopped = follower.mirror.finish_until(&stop, |_| ()).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Stopped, "{stopped}");
    follower.mirror.finish(|_| ()).expect("a dump");
    assert!(follower.mirror.is_synced());
}

/// How many routes of each family are added.
const ROUTE_COUNT: u32 = 100_000;
/// One route of this many stays.
const STAYS: u32 = 50;

fn the_mirror_equals_ips_list_after_a_flood_that_was_mostly_lost(backend: Backend) {
    own_namespace();
    if !make_devices() {
        return skip(
            "the_mirror_equals_ips_list_after_a_flood_that_was_mostly_lost",
            "no ip",
        );
    }
    let options = MirrorOptions::new().resync_interval(Duration::from_millis(300));
    let mut follower = Follower::new(backend, 64 << 10, options);
    follower.await_ip("the start");
    let device = index_of("v0");
    let flood = thread::spawn(move || flood(device));
    // Nobody reads until the buffer is full, so that even a slow flood loses events.
    let socket = follower.running.socket(follower.id).expect("its socket");
    while socket.drops().expect("its drops") == 0 && !flood.is_finished() {
        thread::yield_now();
    }
    while !flood.is_finished() {
        follower.turn();
    }
    flood.join().expect("the flood");
    follower.await_ip("the flood");
    let kept_count = 2 * ROUTE_COUNT.div_ceil(STAYS) as usize;
    assert!(follower.mirror.len() > kept_count);
    let statistics = follower
        .running
        .statistics(follower.id)
        .expect("its socket's");
    assert!(statistics.dropped > 0, "{statistics:?}");
    let lost_count: u64 = follower
        .reported
        .resyncs
        .iter()
        .map(|resync| resync.lost_count)
        .sum();
    assert_eq!(
        lost_count, statistics.dropped,
        "{:?}",
        follower.reported.resyncs
    );
    let is_loss = |resync: &Resync| resync.reason == ResyncReason::Loss;
    assert!(
        follower.reported.resyncs.iter().any(is_loss),
        "{:?}",
        follower.reported.resyncs
    );
    let found = follower.mirror.find(254, "16.0.0.0".parse().unwrap(), 24);
    assert_eq!(found.count(), 1);
}
