//! A mirror of routes equals the list of `ip route`, even after losses, and after changes that no event reports.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::mem;
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use common::{ip, own_namespace, run, skip, start};
use nlring::EventKind;
use nlring::Family;
use nlring::message::flags;
use nlring::route::{Change, Mirror, MirrorOptions, Nexthop, Route, protocol, route_flags};
use nlring::{
    AddOptions, Backend, Engine, ErrorKind, MessageBuilder, Protocol, Requester, Resync,
    ResyncReason, Running, Socket, SocketId, StopHandle, Turn,
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

/// After a change that no event reports, a dump is due within this time.
const DUMP_LIMIT: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(15);

/// A mirror, the engine that feeds it, and what it has reported.
struct Follower {
    running: Running,
    id: SocketId,
    mirror: Mirror,
    reported: Reported,
    /// The longest time for which the mirror put off a dump that it needed, during the last [`Follower::await_ip`].
    longest_delay: Option<Duration>,
}

/// What the mirror has reported.
#[derive(Default)]
struct Reported {
    /// The routes, by what identifies them.
    routes: BTreeMap<String, String>,
    resyncs: Vec<Resync>,
    /// Changes that no event reported since the last [`Resync`]: new, changed and deleted routes.
    unreported: [u64; 3],
    /// All such changes so far.
    resynced_count: u64,
    resynced_delete_count: u64,
}

impl Reported {
    fn take(&mut self, change: &Change<'_>) {
        match change {
            Change::Route { route, is_resynced } => {
                let is_known = follow(&mut self.routes, route);
                if *is_resynced {
                    let is_gone = route.kind == EventKind::Delete;
                    let index = if is_gone { 2 } else { usize::from(is_known) };
                    self.unreported[index] += 1;
                    self.resynced_count += 1;
                    self.resynced_delete_count += u64::from(is_gone);
                }
            }
            Change::Resynced(resync) => {
                let counts = [resync.new_count, resync.update_count, resync.destroy_count];
                assert_eq!(counts, mem::take(&mut self.unreported), "{resync:?}");
                self.resyncs.push(*resync);
            }
            _ => panic!("unknown"),
        }
    }
}

impl Follower {
    fn new(backend: Backend, recv_buffer_bytes: usize, options: MirrorOptions) -> Self {
        let socket = Socket::builder(Protocol::ROUTE)
            .groups(Mirror::GROUPS)
            .open()
            .expect("a socket");
        let _ = socket
            .set_recv_buffer_bytes(recv_buffer_bytes)
            .expect("a receive buffer");
        let builder = Engine::builder().backend(backend);
        let (running, id) = start(&builder, socket, AddOptions::new());
        Self {
            running,
            id,
            mirror: Mirror::new(options),
            reported: Reported::default(),
            longest_delay: None,
        }
    }

    /// Takes a turn. Returns whether nothing came.
    fn turn(&mut self) -> bool {
        let now = Instant::now();
        let longest = Duration::from_millis(20);
        let timeout = match self.mirror.due(now) {
            Some(due) => due.saturating_duration_since(now).min(longest),
            None => longest,
        };
        let is_idle = self.receive(timeout);
        self.advance().expect("advanced");
        let now = Instant::now();
        if let Some(due) = self.mirror.due(now).filter(|_| !self.mirror.is_synced()) {
            let delay = due.saturating_duration_since(now);
            self.longest_delay = self.longest_delay.max(Some(delay));
        }
        is_idle
    }

    /// Receives, and returns whether nothing came.
    fn receive(&mut self, timeout: Duration) -> bool {
        let (mirror, reported) = (&mut self.mirror, &mut self.reported);
        let turn = self.running.poll(Some(timeout), |event, _| {
            mirror.feed(&event, |change| reported.take(&change));
            ControlFlow::<()>::Continue(())
        });
        matches!(turn.expect("a turn"), Turn::Idle)
    }

    fn advance(&mut self) -> nlring::Result<()> {
        let socket = self.running.socket(self.id).expect("its socket");
        let reported = &mut self.reported;
        self.mirror.advance(socket, |change| reported.take(&change))
    }

    fn turn_for(&mut self, duration: Duration) {
        let deadline = Instant::now() + duration;
        while Instant::now() < deadline {
            self.turn();
        }
    }

    /// Turns until no event is queued, the mirror has nothing to do and is what `ip route` lists.
    ///
    /// Only a mirror that has read all events is compared, because `ip` takes long on a slow machine and nobody reads
    /// events meanwhile.
    #[track_caller]
    fn await_ip(&mut self, what: &str) {
        self.longest_delay = None;
        let start = Instant::now();
        let mut idle_since = start;
        let mut looked_at = None;
        loop {
            let is_idle = self.turn();
            if !is_idle {
                idle_since = Instant::now();
            }
            let is_late = idle_since.elapsed() > PATIENCE || start.elapsed() > 8 * PATIENCE;
            let is_soon =
                looked_at.is_some_and(|at: Instant| at.elapsed() < Duration::from_millis(20));
            if (!is_idle || !self.mirror.is_synced() || is_soon) && !is_late {
                continue;
            }
            looked_at = Some(Instant::now());
            let listed = listed_by_ip();
            let mirrored = self.lines();
            if mirrored == listed && self.mirror.is_synced() {
                break;
            }
            assert!(
                !is_late,
                "after {what}, is_idle {is_idle}, is_synced {}: only in the mirror {:#?}, only in ip's list {:#?}",
                self.mirror.is_synced(),
                missing(&mirrored, &listed),
                missing(&listed, &mirrored),
            );
        }
        let mut followed: Vec<_> = self.reported.routes.values().cloned().collect();
        followed.sort();
        assert_eq!(followed, self.lines(), "what was reported, after {what}");
        assert_eq!(self.mirror.len(), followed.len());
    }

    /// Asserts that the mirror knew of a difference, and that its dump was due soon.
    #[track_caller]
    fn assert_dumped_soon(&self) {
        let delay = self.longest_delay.expect("a dump was due");
        assert!(delay <= DUMP_LIMIT, "{delay:?}");
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.mirror.iter().map(|route| line(&route)).collect();
        lines.sort();
        lines
    }
}

/// Keeps a table from the mirror's reports alone. Returns whether the route was there before.
fn follow(routes: &mut BTreeMap<String, String>, route: &Route<'_>) -> bool {
    let line = line(route);
    match route.kind {
        EventKind::New | EventKind::Update | EventKind::Entry => {
            let before = routes.insert(identity(route, &line), line.clone());
            assert_ne!(before.as_ref(), Some(&line), "reported twice");
            before.is_some()
        }
        EventKind::Delete => {
            let before = routes.remove(&identity(route, &line));
            assert!(before.is_some(), "an unknown route was deleted: {line}");
            true
        }
    }
}

/// What identifies a route, as the documentation of `Mirror` says.
fn identity(route: &Route<'_>, line: &str) -> String {
    let is_learned = [protocol::REDIRECT, 9 /* ra */].contains(&route.protocol);
    let has_gateways = route.hop.gateway.is_some() && !is_learned || !route.nexthops.is_empty();
    if route.family == Family::INET6 && has_gateways && route.nexthop_id.is_none() {
        return format!(
            "{:?}/{} metric {:?} table {} gateways",
            route.dst, route.dst_prefix_len, route.priority, route.table
        );
    }
    if let Some(id) = route.nexthop_id {
        return format!(
            "{:?}/{} metric {:?} table {} nhid {id} proto {}",
            route.dst, route.dst_prefix_len, route.priority, route.table, route.protocol
        );
    }
    let words = line
        .split(' ')
        .filter(|word| !["linkdown", "dead"].contains(word));
    words.collect::<Vec<_>>().join(" ")
}

fn missing(from: &[String], other: &[String]) -> Vec<String> {
    from.iter()
        .filter(|line| !other.contains(line))
        .cloned()
        .collect()
}

fn output(arguments: &str) -> String {
    let output = run("ip", &arguments.split_whitespace().collect::<Vec<_>>()).expect("ip");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

thread_local! {
    /// The names of devices, including deleted ones.
    static NAMES: std::cell::RefCell<HashMap<u32, String>> = std::cell::RefCell::default();
}

fn learn_device_names() {
    for link in output("-o link").lines() {
        let (index, rest) = link.split_once(": ").expect("an index");
        let name = rest.split([':', '@']).next().expect("a name");
        NAMES.with(|names| {
            names
                .borrow_mut()
                .insert(index.parse().unwrap(), name.into())
        });
    }
}

fn index_of(device: &str) -> u32 {
    NAMES.with(|names| {
        let names = names.borrow();
        let found = names.iter().find(|(_, name)| *name == device);
        *found.expect("the device").0
    })
}

/// All routes, each with its words sorted, because the order in which `ip` prints them does not matter.
fn listed_by_ip() -> Vec<String> {
    let list = output("-d -N -o route show table all");
    // `ip` prints nexthop objects on lines of their own.
    let list = list.replace("\n\tnh_info", "\\nh_info");
    let mut lines: Vec<_> = list.lines().map(normal).collect();
    lines.sort();
    lines.dedup();
    lines
}

fn normal(line: &str) -> String {
    let mut parts = line.split('\\').map(str::trim);
    let mut words: Vec<_> = parts.next().unwrap_or("").split_whitespace().collect();
    // The mirror keeps no ages.
    for name in ["expires", "error"] {
        if let Some(index) = words.iter().position(|word| *word == name) {
            words.drain(index..index + 2);
        }
    }
    let mut hops: Vec<_> = parts.filter(|part| part.starts_with("nexthop")).collect();
    hops.sort_unstable();
    joined(words, hops.into_iter().map(str::to_owned).collect())
}

fn joined(mut words: Vec<&str>, mut hops: Vec<String>) -> String {
    words.sort_unstable();
    hops.sort_unstable();
    hops.insert(0, words.join(" "));
    hops.join(" \\ ")
}

/// A route as `ip -d -N -o route` prints it, with its words sorted.
fn line(route: &Route<'_>) -> String {
    let mut words = format!("{} {}", route.route_type, destination(route));
    if route.tos != 0 {
        let _ = write!(words, " tos {:#04x}", route.tos);
    }
    if let Some(id) = route.nexthop_id {
        let _ = write!(words, " nhid {id}");
    }
    if let Some(gateway) = route.hop.gateway {
        let _ = write!(words, " via {gateway}");
    }
    if let Some(via) = route.hop.via.and_then(|via| via.address.ip()) {
        let _ = write!(words, " via inet6 {via}");
    }
    if let Some(oif) = route.oif {
        let _ = write!(words, " dev {}", name(oif));
    }
    let _ = write!(
        words,
        " table {} proto {} scope {}",
        route.table, route.protocol, route.scope
    );
    if let Some(prefsrc) = route.prefsrc {
        let _ = write!(words, " src {prefsrc}");
    }
    if let Some(priority) = route.priority {
        let _ = write!(words, " metric {priority}");
    }
    words += &states(route.flags);
    for metric in route.metrics {
        if let (nlring::route::metric::MTU, nlring::route::MetricValue::Number(mtu)) =
            (metric.number, metric.value)
        {
            let _ = write!(words, " mtu {mtu}");
        }
    }
    if let Some(pref) = route.pref {
        let _ = write!(
            words,
            " pref {}",
            ["medium", "high", "invalid", "low"][usize::from(pref & 3)]
        );
    }
    let hops = route.nexthops.map(|hop| hop_line(&hop)).collect();
    joined(words.split(' ').collect(), hops)
}

fn destination(route: &Route<'_>) -> String {
    let host_len = if route.family == Family::INET {
        32
    } else {
        128
    };
    match route.dst.and_then(|dst| dst.ip()) {
        None => "default".into(),
        Some(dst) if route.dst_prefix_len == host_len => dst.to_string(),
        Some(dst) => format!("{dst}/{}", route.dst_prefix_len),
    }
}

fn hop_line(hop: &Nexthop<'_>) -> String {
    let gateway = hop.hop.gateway.map(|gateway| format!("via {gateway} "));
    format!(
        "nexthop {}dev {} weight {}{}",
        gateway.unwrap_or_default(),
        name(hop.oif),
        hop.weight,
        states(hop.flags)
    )
}

fn states(flags: u32) -> String {
    let known = [
        (route_flags::DEAD, " dead"),
        (route_flags::ONLINK, " onlink"),
        (route_flags::LINKDOWN, " linkdown"),
    ];
    let set = known.into_iter().filter(|(bit, _)| flags & bit != 0);
    set.map(|(_, word)| word).collect()
}

fn name(index: u32) -> String {
    let name = NAMES.with(|names| names.borrow().get(&index).cloned());
    name.unwrap_or_else(|| format!("if{index}"))
}

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
    assert_eq!(
        follower.reported.resyncs[0].entry_count,
        follower.reported.resyncs[0].new_count.try_into().unwrap()
    );
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

/// Adds fd20:1::/64 with many gateways.
fn add_route_with_hops(device: u32, hop_count: u16) {
    let mut hops = Vec::new();
    for number in 0..hop_count {
        let [high, low] = (0x100 + number).to_be_bytes();
        hops.extend_from_slice(&multipath_hop(device, [high, low]));
    }
    let mut dst = [0; 16];
    dst[..4].copy_from_slice(&[0xfd, 0x20, 0, 1]);
    let mut requester = Requester::open(Protocol::ROUTE).expect("a requester");
    let added = requester.ask(24, flags::CREATE | flags::EXCL, |request| {
        let request = request.bytes(&[Family::INET6.into(), 64, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
        request.attribute(1, &dst).attribute(9, &hops)
    });
    added.expect("a route");
}

/// `struct rtnexthop` with a gateway in fd00::/64, by its last two bytes.
fn multipath_hop(device: u32, [high, low]: [u8; 2]) -> Vec<u8> {
    let mut hop = 28u16.to_ne_bytes().to_vec();
    hop.extend_from_slice(&[0, 0]);
    hop.extend_from_slice(&device.to_ne_bytes());
    hop.extend_from_slice(&20u16.to_ne_bytes());
    hop.extend_from_slice(&5u16.to_ne_bytes());
    hop.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low]);
    hop
}

/// Adds some routes, adds hops to them and deletes them, a few times each. The kernel sometimes sends the events in
/// the wrong order.
fn change_multipath_routes(message_types: [u16; 2], device: u32) {
    let socket = Socket::open(Protocol::ROUTE).expect("a socket");
    for number in 0..3000u16 {
        let message_type = message_types[usize::from(number % 2)];
        let more_flags = if message_type == 24 {
            flags::CREATE | flags::APPEND
        } else {
            0
        };
        let mut hops = Vec::new();
        for host in [number % 3, 3 + number % 4] {
            hops.extend(multipath_hop(device, (0x100 + host).to_be_bytes()));
        }
        let [high, low] = (number / 100).to_be_bytes();
        let mut dst = [0; 16];
        dst[..4].copy_from_slice(&[0xfd, 9, high, low]);
        let mut request = Vec::new();
        let mut builder =
            MessageBuilder::new(&mut request, message_type, flags::REQUEST | more_flags)
                .bytes(&[Family::INET6.into(), 64, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0])
                .attribute(1, &dst);
        if message_type == 24 {
            builder = builder.attribute(9, &hops);
        }
        builder.finish().expect("a request");
        socket.send(&request).expect("sent");
    }
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

/// Adds routes of both families in turn, and a little later deletes most of them.
fn flood(device: u32) {
    const LAG: u32 = 5000;
    let socket = Socket::open(Protocol::ROUTE).expect("a socket");
    let mut requests = Vec::new();
    for index in 0..ROUTE_COUNT + LAG {
        if index < ROUTE_COUNT {
            put(
                &mut requests,
                24,
                flags::CREATE | flags::EXCL,
                index,
                device,
            );
        }
        if let Some(old) = index.checked_sub(LAG).filter(|old| old % STAYS != 0) {
            put(&mut requests, 25, 0, old, device);
        }
        if requests.len() > 20_000 {
            socket.send(&requests).expect("sent");
            requests.clear();
        }
    }
    socket.send(&requests).expect("sent");
}

fn put(requests: &mut Vec<u8>, message_type: u16, more_flags: u16, index: u32, device: u32) {
    let [_, a, b, c] = index.to_be_bytes();
    let new = MessageBuilder::new(requests, message_type, flags::REQUEST | more_flags);
    new.bytes(&[Family::INET.into(), 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0])
        .attribute(1, &[16 + a, b, c, 0])
        .attribute(5, &[10, 0, 0, 2])
        .attribute_u32(4, device)
        .finish()
        .expect("a request");
    let ipv6 = |net: [u8; 4], host: u8| {
        let mut address = [0; 16];
        address[0] = 0xfd;
        address[1..5].copy_from_slice(&net);
        address[15] = host;
        address
    };
    let new = MessageBuilder::new(requests, message_type, flags::REQUEST | more_flags);
    new.bytes(&[Family::INET6.into(), 64, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0])
        .attribute(1, &ipv6([0x80, a, b, c], 0))
        .attribute(5, &ipv6([0, 0, 0, 0], 2))
        .attribute_u32(4, device)
        .finish()
        .expect("a request");
}
