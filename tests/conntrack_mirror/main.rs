//! A mirror of the conntrack table equals the kernel's table, despite losses, stalls, and flows that end without an
//! event.

#[path = "../common/mod.rs"]
mod common;
mod conntrack_list;
mod maker;
mod reused;
mod setup;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{own_namespace, run_or_skip, skip};
use maker::{Maker, key_of, tuple_of};
use nlring::conntrack::{
    Filter, FlowChange, Key, NewFlow, Requests, Tuple, Zone, ZoneDirection, tcp_state,
};
use nlring::{Backend, MirrorOptions, ResyncReason};
use setup::Setup;

on_each_backend!(
    after_overruns_the_mirror_equals_the_kernels_table,
    flows_from_before_the_start_are_in_the_first_round,
    zones_keep_equal_tuples_apart,
    a_filtered_mirror_has_what_matches,
);

/// Nothing here takes longer, even if other programs use most of the CPU time.
const PATIENCE: Duration = Duration::from_secs(180);

/// Half a million flows begin, change and end. The receiver is too slow for them, and sometimes does nothing at all.
fn after_overruns_the_mirror_equals_the_kernels_table(backend: Backend) {
    const FLOW_COUNT: u32 = 500_000;
    const STEP: u32 = 2000;
    const MOST_ALIVE: u32 = 60_000;

    own_namespace();
    let options = MirrorOptions::new().resync_interval(Duration::from_millis(300));
    let mut setup = Setup::new(backend, 64 << 10, options);
    let is_over = Arc::new(AtomicBool::new(false));
    // The maker sometimes waits until the mirror has caught up, so that losses meet a synced mirror.
    let (stop, stops) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let maker = {
        let is_over = is_over.clone();
        // The thread inherits the namespace.
        thread::spawn(move || {
            let mut maker = Maker::new();
            for start in (0..FLOW_COUNT).step_by(STEP as usize) {
                maker.make(start..start + STEP);
                maker.change((start..start + STEP).step_by(5), 7);
                maker.change((start..start + STEP).step_by(10), 0);
                if start >= MOST_ALIVE {
                    let old = start - MOST_ALIVE;
                    maker.remove((old..old + STEP).filter(|number| number % 50 != 0));
                }
                if start % 100_000 == 50_000 {
                    stop.send(()).expect("the receiver is there");
                    goes.recv().expect("the receiver is there");
                }
            }
            is_over.store(true, Ordering::Release);
        })
    };
    let mut is_awaited = false;
    setup.turn_until(|setup| {
        is_awaited |= stops.try_recv().is_ok();
        if is_awaited && setup.mirror.is_synced() {
            is_awaited = false;
            go.send(()).expect("the maker is there");
            thread::sleep(Duration::from_millis(100)); // nobody receives
        }
        is_over.load(Ordering::Acquire)
    });
    maker.join().expect("made");
    setup.turn_until_quiet();
    let statistics = setup.running.statistics(setup.id).expect("statistics");
    let resyncs = &setup.listener.resyncs;
    assert!(statistics.dropped > 0, "{statistics:?}");
    assert!(resyncs.len() > 4, "{resyncs:?}");
    let reported: u64 = resyncs.iter().map(|(resync, _)| resync.lost_count).sum();
    assert_eq!(reported, statistics.dropped);
    assert_eq!(setup.mirror.repeated_count(), 0);
    let alive = FLOW_COUNT - (FLOW_COUNT - MOST_ALIVE) * 49 / 50;
    assert_eq!(setup.mirror.len(), alive as usize);
    setup.assert_is_the_kernels();
}

fn flows_from_before_the_start_are_in_the_first_round(backend: Backend) {
    own_namespace();
    if !set_events(true) {
        return skip(
            "flows_from_before_the_start_are_in_the_first_round",
            NO_EVENTS,
        );
    }
    let mut maker = Maker::new();
    maker.make(0..5000);
    let mut setup = Setup::new(backend, 8 << 20, MirrorOptions::new());
    // Events come before the first dump, and while the mirror reads and merges it.
    maker.remove(0..1000);
    maker.change(1000..2000, 9);
    let mut next = 5000;
    setup.turn_until(|setup| {
        maker.make(next..next + 4);
        maker.change(next - 4..next, 5);
        maker.remove(next - 4000..next - 3997);
        next += 4;
        setup.mirror.is_synced()
    });
    let (resync, _) = setup.listener.resyncs[0];
    assert_eq!(resync.reason, ResyncReason::Snapshot);
    assert_eq!((resync.lost_count, resync.is_interrupted), (0, false));
    assert!(resync.new_count >= 3000, "{resync:?}");
    setup.turn_until_quiet();
    assert_eq!(setup.listener.resyncs.len(), 1);
    assert_eq!(setup.listener.dropped_count, 0);
    setup.assert_is_the_kernels();
}

/// Flows begin and stop to match while events are received, and while some are lost.
fn a_filtered_mirror_has_what_matches(backend: Backend) {
    own_namespace();
    let mut maker = Maker::new();
    maker.make(20_000..20_100); // they began before anybody listened, so their changes have no events
    let filter: Filter = "proto tcp and not src 198.18.1.0/24 and mark {2, 7}"
        .parse()
        .expect("a filter");
    let options = MirrorOptions::new().resync_interval(Duration::ZERO);
    let mut setup = Setup::with_filter(backend, 1 << 20, options, filter.clone());
    setup.turn_until_quiet();
    setup.assert_is_what_matches(&filter);
    let before = setup.mirror.len();
    assert!(before > 0 && setup.listener.resyncs[0].0.entry_count == before);

    maker.make(0..400);
    setup.turn_until_quiet();
    setup.assert_is_what_matches(&filter);
    let before = setup.mirror.len();
    maker.change(0..100, 7);
    setup.turn_until_quiet();
    setup.assert_is_what_matches(&filter);
    assert!(setup.mirror.len() > before && setup.mirror.get(&key_of(1)).is_some());
    maker.change(0..50, 1);
    maker.remove(50..75);
    setup.turn_until_quiet();
    setup.assert_is_what_matches(&filter);
    assert!(setup.mirror.get(&key_of(1)).is_none() && setup.mirror.get(&key_of(4)).is_none());
    assert_eq!(setup.listener.dropped_count, 0);

    maker.make(400..10_000);
    maker.change(75..10_000, 7);
    maker.change((75..10_000).step_by(3), 5);
    setup.turn_until_quiet();
    assert!(setup.listener.dropped_count > 0);
    setup.assert_is_what_matches(&filter);
}

fn zones_keep_equal_tuples_apart(backend: Backend) {
    own_namespace();
    let mut requests = Requests::open().expect("requests");
    let mut setup = Setup::new(backend, 1 << 20, MirrorOptions::new());
    let tuple = tuple_of(1);
    let zones = [
        None,
        Some(Zone::new(5, ZoneDirection::Both)),
        Some(Zone::new(6, ZoneDirection::Orig)),
    ];
    let flow_in = |zone: Option<Zone>, mark: u32| {
        let flow = NewFlow::new(tuple, 600)
            .tcp_state(tcp_state::ESTABLISHED)
            .mark(mark);
        zone.map_or(flow, |zone| flow.zone(zone))
    };
    // The dump brings the first one, events bring the others. In zone 0 the last one would have the reply tuple of
    // the first.
    let translated = Tuple::new(
        tuple.dst,
        [192, 0, 2, 7].into(),
        6,
        tuple.reversed().unwrap().layer4,
    );
    for (zone, mark) in zones.into_iter().zip(1..) {
        let mut flow = flow_in(zone, mark);
        if zone == zones[2] {
            flow = flow.reply(translated);
        }
        requests.add(&flow).expect("made");
        setup.turn_until_quiet();
    }
    for (zone, mark) in zones.into_iter().zip(1..) {
        let key = Key { orig: tuple, zone };
        let flow = setup.mirror.get(&key).expect("mirrored");
        assert_eq!((flow.mark, flow.zone), (Some(mark), zone));
        let same = setup
            .mirror
            .get_by_reply(&flow.reply.unwrap(), zone)
            .expect("by reply");
        assert_eq!(same.mark, Some(mark));
        let with_id: Vec<_> = setup.mirror.find_by_id(flow.id.unwrap()).collect();
        assert!(with_id.iter().any(|flow| flow.key() == key));
        assert!(
            flow.timeout_seconds
                .is_some_and(|left| (590..=600).contains(&left))
        );
    }
    setup.assert_is_the_kernels();
    let key = Key {
        orig: tuple,
        zone: zones[1],
    };
    assert!(requests.delete(&key, None).expect("removed"));
    setup.turn_until(|setup| setup.mirror.len() == 2);
    assert_eq!(setup.mirror.get(&key), None);
    setup.assert_is_the_kernels();
}

#[test]
fn a_large_table_is_repaired_soon_after_a_loss() {
    run_or_skip("a_large_table_is_repaired_soon_after_a_loss", || {
        own_namespace();
        let mut setup = Setup::new(Backend::Auto, 64 << 10, MirrorOptions::new());
        setup.turn_until_quiet();
        let mut maker = Maker::new();
        maker.make(0..100_000); // nobody receives
        setup.turn_until(|setup| !setup.mirror.is_synced());
        assert!(setup.mirror.len() < 100_000);
        setup.turn_until(|setup| setup.mirror.is_synced());
        let (resync, at) = *setup.listener.resyncs.last().expect("repaired");
        let lost_at = setup.listener.lost_at.expect("a loss");
        assert!(at - lost_at < Duration::from_secs(15));
        assert_eq!(
            (resync.reason, resync.entry_count),
            (ResyncReason::Loss, 100_000)
        );
        assert_eq!(resync.lost_count, setup.listener.dropped_count);
        assert_eq!(resync.new_count, resync.lost_count);
        setup.assert_is_the_kernels();
    });
}

const NO_EVENTS: &str = "net.netfilter.nf_conntrack_events cannot be set";

/// Makes flows that begin from now on have events, even if nobody listens. False: the setting cannot be changed here.
fn set_events(on: bool) -> bool {
    let path = "/proc/sys/net/netfilter/nf_conntrack_events";
    std::fs::write(path, if on { "1" } else { "0" }).is_ok()
}

/// Nobody listened when these flows began, so no event reports their ends.
#[test]
fn silent_ends_are_found_and_silent_refreshes_are_no_ends() {
    const NAME: &str = "silent_ends_are_found_and_silent_refreshes_are_no_ends";
    const LIFE: Duration = Duration::from_secs(3);

    own_namespace();
    if !set_events(false) {
        return skip(NAME, NO_EVENTS);
    }
    let mut requests = Requests::open().expect("requests");
    let made_at = Instant::now();
    let keys: Vec<Key> = (0..300).map(key_of).collect();
    for key in &keys {
        let mut flow = NewFlow::new(key.orig, 3);
        if key.orig.protocol == 6 {
            flow = flow.tcp_state(tcp_state::ESTABLISHED);
        }
        requests.add(&flow).expect("made");
    }
    let refreshed = keys[7];
    set_events(true);
    // Events report the ends of these flows, even though the kernel may remove them only when somebody asks for them.
    let reported: Vec<Key> = (1000..1100).map(key_of).collect();
    for key in &reported {
        requests.add(&NewFlow::new(key.orig, 3)).expect("made");
    }
    let mut setup = Setup::new(Backend::Auto, 1 << 20, MirrorOptions::new());
    setup.turn_until_quiet();
    assert_eq!(setup.mirror.len(), keys.len() + reported.len());
    let change = FlowChange::new().timeout_seconds(30);
    assert!(requests.update(&refreshed, &change).expect("refreshed"));
    let mut checked_count = 0;
    setup.turn_until(|setup| {
        let ends = &setup.listener.silent_ends[checked_count..];
        for (key, at) in ends {
            assert!(*at - made_at >= LIFE, "an end was made up: {key:?}");
            assert_eq!(requests.get(key, |_| ()).expect("asked"), None, "{key:?}");
        }
        checked_count += ends.len();
        setup.mirror.len() == 1
    });
    let took = made_at.elapsed();
    assert!(took < LIFE + Duration::from_secs(15));
    // The mirror asks the kernel about this flow too, and learns that it still exists.
    setup.turn_until(|setup| {
        let left = setup.mirror.get(&refreshed).expect("kept").timeout_seconds;
        left.is_some_and(|left| left > 5)
    });
    assert_eq!(setup.listener.silent_ends.len(), keys.len() - 1);
    assert_eq!(setup.listener.resyncs.len(), 1);
    assert!(setup.mirror.is_synced());
    setup.assert_is_the_kernels();
}
