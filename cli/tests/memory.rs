//! How much memory the command takes.

mod common;

use std::fs;

use common::{Events, Follower, Groups, Load, await_that, own_namespace, skip};

#[test]
fn twelve_mib_are_enough_under_load() {
    const NAME: &str = "twelve_mib_are_enough_under_load";
    const MOST_KIB: u64 = 12 << 10;
    if cfg!(debug_assertions) {
        return skip(
            NAME,
            "it is about the optimised binary: cargo test --release",
        );
    }
    own_namespace();
    for (command, events) in [("conntrack", Events::Conntrack), ("route", Events::Route)] {
        let follower = Follower::start(command);
        let await_output = |bytes: u64| {
            let before = output_bytes(&follower);
            await_that("events are written", || {
                output_bytes(&follower) > before + bytes
            });
        };
        let load = Load::start(events);
        await_output(1 << 20);
        // A receive buffer full of events, all at once.
        follower.freeze();
        let groups = Groups::of(events);
        await_that("its receive buffer overruns", || groups.drop_count() > 0);
        follower.thaw();
        await_output(1 << 20);
        drop(load);
        let peak_kib = peak_kib(&follower);
        let ended = follower.end();
        ended.assert_good();
        println!(
            "{command}: {peak_kib} KiB, {} events",
            ended.stat("received")
        );
        assert!(peak_kib <= MOST_KIB, "{command}: {peak_kib} KiB");
    }
}

fn output_bytes(follower: &Follower) -> u64 {
    let output = fs::metadata(&follower.output).expect("the output");
    output.len()
}

/// The process's peak resident memory (proc_pid_status(5)).
fn peak_kib(follower: &Follower) -> u64 {
    let status = format!("/proc/{}/status", follower.child.id());
    let status = fs::read_to_string(status).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    peak.and_then(|peak| peak.parse().ok()).expect("its peak")
}
