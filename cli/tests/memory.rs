//! How much memory the command takes.

mod common;

use std::fs;
use std::thread;
use std::time::Duration;

use common::{Events, Follower, Load, own_namespace, skip};

#[test]
fn twelve_mib_are_enough_under_load() {
    const NAME: &str = "twelve_mib_are_enough_under_load";
    const MOST_KIB: u64 = 12 << 10;
    if cfg!(debug_assertions) {
        return skip(
            NAME,
            "the promise is about the optimised binary: cargo test --release",
        );
    }
    own_namespace();
    for (command, events) in [("conntrack", Events::Conntrack), ("route", Events::Route)] {
        let follower = Follower::start(command);
        let load = Load::start(events);
        thread::sleep(Duration::from_secs(1));
        // Then all at once, as after a reader that was away for a while.
        follower.freeze();
        thread::sleep(Duration::from_millis(200));
        follower.thaw();
        thread::sleep(Duration::from_millis(800));
        drop(load);
        let status = format!("/proc/{}/status", follower.child.id());
        let status = fs::read_to_string(status).expect("its status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
        let peak_kib: u64 = peak.and_then(|peak| peak.parse().ok()).expect("its peak");
        let ended = follower.end();
        ended.assert_good();
        let received = ended.stat("received");
        println!("{command}: {peak_kib} KiB at most, {received} events");
        assert!(received > 10_000, "that was no load: {received} events");
        assert!(
            peak_kib <= MOST_KIB,
            "{command}: {peak_kib} KiB, {received} events"
        );
    }
}
