//! Mirrors that cannot be right, because their dumps fail or their memory is limited.

mod common;

use std::fs;
use std::ops::Range;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::Value;

use common::{
    Directory, Follower, await_that, json, make_flows, make_routes, own_namespace, remove_flows,
    remove_routes,
};

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

/// Prevents a process from opening more files, or allows it again. Each dump needs a socket of its own.
fn limit_files(follower: &Follower, most: Option<u64>) -> Rlimit {
    let id = i32::try_from(follower.child.id()).expect("a process ID");
    let limit = Rlimit {
        current: most,
        maximum: Some(1024),
    };
    prlimit(Pid::from_raw(id), Resource::Nofile, limit).expect("a limit")
}

const CANNOT: &str = "could not compare the mirror with the kernel's table: ";
const AGAIN: &str = "the mirror equals the kernel's table again";

fn count_of(words: &str, follower: &Follower) -> usize {
    follower.errors().matches(words).count()
}

#[test]
fn failing_dumps_are_reported_once_and_events_are_followed() {
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
        await_that("the failure is reported", || {
            count_of(CANNOT, &follower) == 1
        });
        change(0);
        follower.await_lines(before + 1);
        limit_files(&follower, Some(1024));
        await_that("the recovery is reported", || {
            count_of(AGAIN, &follower) == 1
        });
        change(1);
        follower.await_lines(before + 2);
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(ended.errors.matches(CANNOT).count(), 1, "{}", ended.errors);
        assert!(ended.stat("failed_dumps") > 0, "{}", ended.errors);
        assert_eq!(ended.stats["mirror_error"], Value::Null);
    }
}

/// The mirrored table at this moment, without the last line, if that says that the table is incomplete.
fn table_now(follower: &Follower, file: &str) -> (usize, bool) {
    let _ = fs::remove_file(file);
    follower.signal(Signal::USR1);
    await_that("the table is written", || fs::exists(file).unwrap_or(false));
    let text = fs::read_to_string(file).expect("the table");
    let lines: Vec<Value> = text.lines().map(json::parse).collect();
    let is_incomplete = lines
        .last()
        .is_some_and(|line| line["event"] == "incomplete");
    (lines.len() - usize::from(is_incomplete), is_incomplete)
}

#[test]
fn a_mirror_without_memory_shows_all_events_and_reports_what_it_lacks() {
    for command in ["conntrack", "route"] {
        own_namespace();
        let change = |is_new: bool, numbers: Range<u32>| match (command, is_new) {
            ("conntrack", true) => make_flows(numbers),
            ("conntrack", false) => remove_flows(numbers),
            (_, true) => make_routes(numbers),
            (_, false) => remove_routes(numbers),
        };
        let directory = Directory::new();
        let file = directory.file("table");
        let options = format!("--mirror-memory 20KiB --resync-interval 100ms --table {file}");
        let follower = Follower::start(&format!("{command} --mirror --json {options}"));
        await_snapshot(&follower);
        let (before, _) = table_now(&follower, &file); // the namespace's own routes
        let count_of_events = |event: &str| {
            let is_it = |object: &Value| object["event"] == event && object["resynced"] != true;
            objects(&follower)
                .iter()
                .filter(|object| is_it(object))
                .count()
        };
        change(true, 0..300);
        await_that("all are shown", || count_of_events("new") == 300);
        let (count, is_incomplete) = table_now(&follower, &file);
        assert!(is_incomplete && (50..250).contains(&count), "{count}");
        assert_eq!(count_of("the mirror is full", &follower), 1);
        change(false, 0..280);
        let end = if command == "conntrack" {
            "destroy"
        } else {
            "delete"
        };
        await_that("all ends are shown", || count_of_events(end) == 280);
        await_that("the table is complete again", || {
            count_of(AGAIN, &follower) == 1
        });
        assert_eq!(table_now(&follower, &file), (before + 20, false));
        let ended = follower.end();
        ended.assert_good();
        assert!(ended.stat("not_kept") >= 50, "{}", ended.errors);
        assert!(
            ended
                .output
                .contains(r#""event":"resynced","reason":"room""#)
        );
    }
}
