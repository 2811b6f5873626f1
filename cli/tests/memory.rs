//! How much memory the command takes.

mod common;

use std::fs;

use common::{
    Directory, Events, Follower, Groups, Load, await_that, make_flows, make_routes, own_namespace,
    remove_flows, remove_routes, skip,
};
use rustix::process::Signal;

/// What the command takes without a mirror.
const MOST_KIB: u64 = 12 << 10;

#[test]
fn twelve_mib_are_enough_under_load() {
    const NAME: &str = "twelve_mib_are_enough_under_load";
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

/// Of a hundred thousand entries only some have room. The table is written while they are there, and after they have
/// gone: then it is whole.
#[test]
fn a_full_mirror_and_its_table_take_no_more_than_the_bound() {
    const NAME: &str = "a_full_mirror_and_its_table_take_no_more_than_the_bound";
    const BOUND_KIB: u64 = 4 << 10;
    /// The ends of flows that a mirror remembers, and pages that are partly used.
    const MORE_KIB: u64 = 12 << 10;
    const ENTRIES: u32 = 100_000;
    if cfg!(debug_assertions) {
        return skip(
            NAME,
            "it is about the optimised binary: cargo test --release",
        );
    }
    for command in ["conntrack", "route"] {
        own_namespace();
        let directory = Directory::new();
        let table = directory.file("table");
        let follower = Follower::start(&format!(
            "{command} --mirror --mirror-memory 4MiB --resync-interval 100ms --table {table}"
        ));
        let (make, remove) = match command {
            "conntrack" => (make_flows as fn(_), remove_flows as fn(_)),
            _ => (make_routes as fn(_), remove_routes as fn(_)),
        };
        make(0..ENTRIES);
        await_that("the mirror is full", || {
            follower.errors().contains("the mirror is full")
        });
        follower.signal(Signal::USR1);
        await_that("the table is written", || fs::metadata(&table).is_ok());
        let text = fs::read_to_string(&table).expect("the table");
        assert!(text.ends_with("{\"event\":\"incomplete\"}\n"), "{command}");
        assert!(text.lines().count() > 10_000, "{command}");
        remove(0..ENTRIES);
        let peak_kib = peak_kib(&follower);
        let ended = follower.end();
        ended.assert_good();
        println!(
            "{command}: {peak_kib} KiB, {} not kept",
            ended.stat("not_kept")
        );
        let text = fs::read_to_string(&table).expect("the table");
        assert!(
            text.lines().count() < 100 && !text.contains("incomplete"),
            "{command}: {text}"
        );
        assert!(ended.stat("not_kept") > 50_000, "{command}: {ended:#?}");
        let most_kib = MOST_KIB + BOUND_KIB + MORE_KIB;
        assert!(peak_kib <= most_kib, "{command}: {peak_kib} KiB");
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
