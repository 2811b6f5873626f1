//! What a mirror does when it cannot be right: its dumps fail, or its memory is bounded.

mod common;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;

use common::{Follower, await_that, json, make_flows, make_routes, own_namespace};

fn objects(follower: &Follower) -> Vec<Value> {
    let lines = follower.lines();
    lines.iter().map(|line| json::parse(line)).collect()
}

fn await_snapshot(follower: &Follower) {
    await_that("the table is read", || {
        objects(follower)
            .iter()
            .any(|object| object["event"] == "resynced")
    });
}

/// Lets a process open no further file, or again as many as before. Each dump has a socket of its own.
fn limit_files(follower: &Follower, most: Option<u64>) -> Rlimit {
    let id = i32::try_from(follower.child.id()).expect("a process ID");
    let limit = Rlimit {
        current: most,
        maximum: Some(1024),
    };
    prlimit(Pid::from_raw(id), Resource::Nofile, limit).expect("a limit")
}

const CANNOT: &str = "the mirror cannot be compared with the kernel's table: ";
const AGAIN: &str = "mirror: it is the kernel's table again";

fn count_of(words: &str, follower: &Follower) -> usize {
    follower.errors().matches(words).count()
}

#[test]
fn dumps_that_fail_are_told_once_and_events_are_followed() {
    for command in ["conntrack", "route"] {
        own_namespace();
        let change = |number: u32| match command {
            "conntrack" => make_flows(number..number + 1),
            _ => make_routes(number..number + 1),
        };
        let intervals = "--resync-interval 50ms --audit-interval 50ms";
        let follower = Follower::start(&format!("{command} --snapshot --json {intervals}"));
        await_snapshot(&follower);
        let before = follower.lines().len();
        limit_files(&follower, Some(3));
        await_that("it is told", || count_of(CANNOT, &follower) == 1);
        change(0);
        follower.await_lines(before + 1);
        limit_files(&follower, Some(1024));
        await_that("it is over", || count_of(AGAIN, &follower) == 1);
        change(1);
        follower.await_lines(before + 2);
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(ended.errors.matches(CANNOT).count(), 1, "{}", ended.errors);
        assert!(ended.stat("failed_dumps") > 0, "{}", ended.errors);
        assert_eq!(ended.stats["mirror_error"], Value::Null);
    }
}
