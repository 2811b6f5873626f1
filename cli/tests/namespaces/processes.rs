//! `--all-netns=processes`: namespaces without a name, in which there are only processes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::common::{Follower, await_that, is_installed, skip};
use super::{add_namespace, add_route, follows_routes, has_event, objects_of, prepare};

/// A process in a network namespace of its own. It makes a route there for each line of its input.
struct Process(Child);

impl Process {
    fn start() -> Self {
        let script = "ip link set lo up; echo there; while read -r number; do \
             ip route add 10.$number.0.0/16 dev lo; done";
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        assert_eq!(line, "there\n");
        Self(child)
    }

    fn label(&self) -> String {
        format!("pid:{}", self.0.id())
    }

    /// Whether somebody listens to routes in its namespace.
    fn is_heard(&self) -> bool {
        let table = format!("/proc/{}/net/netlink", self.0.id());
        follows_routes(&std::fs::read_to_string(table).expect("the sockets"))
    }

    fn add_route(&self, number: u32) {
        let mut input = self.0.stdin.as_ref().expect("its input");
        writeln!(input, "{number}").expect("a line");
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("its end");
    }
}

#[test]
fn namespaces_of_processes_are_followed_only_if_that_is_asked_for() {
    let test = "namespaces_of_processes_are_followed_only_if_that_is_asked_for";
    if !prepare(test) {
        return;
    }
    if !is_installed("unshare") {
        return skip(test, "unshare is not installed");
    }
    add_namespace("blue");
    let first = Process::start();
    let processes = Follower::start("route --all-netns=processes --json");
    let names = Follower::start("route --all-netns --json");
    await_that("nlring listens there", || first.is_heard());
    first.add_route(1);
    add_route(Some("blue"), 2);
    add_route(None, 3);
    let has = |follower: &Follower, netns: Option<&str>, number: u32| {
        let is_its = |object: &Value| {
            let of = object.get("netns").and_then(Value::as_str);
            of == netns && object["dst"] == json!(format!("10.{number}.0.0/16"))
        };
        objects_of(&follower.lines()).iter().any(is_its)
    };
    await_that("the route of the process", || {
        has(&processes, Some(&first.label()), 1)
    });
    for follower in [&processes, &names] {
        await_that("the route of blue", || has(follower, Some("blue"), 2));
        await_that("the route here", || has(follower, None, 3));
    }
    let second = Process::start();
    await_that("the second process", || {
        has_event(&processes, &second.label(), "appeared")
    });
    second.add_route(4);
    await_that("its route", || has(&processes, Some(&second.label()), 4));
    let label = second.label();
    second.end();
    await_that("its end", || has_event(&processes, &label, "disappeared"));
    let labels = [first.label(), label];
    first.end();
    let ended = processes.end();
    ended.assert_good();
    let lines: Vec<String> = names.lines();
    let of_processes = |line: &&String| labels.iter().any(|label| line.contains(label));
    assert_eq!(lines.iter().filter(of_processes).count(), 0, "{lines:?}");
    names.end().assert_good();
}

#[test]
fn a_name_counts_more_than_a_process_and_a_namespace_is_followed_once() {
    let test = "a_name_counts_more_than_a_process_and_a_namespace_is_followed_once";
    if !prepare(test) {
        return;
    }
    add_namespace("blue");
    let mut inside = Command::new("ip")
        .args(["netns", "exec", "blue", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip");
    let own = std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
    let of_process = format!("/proc/{}/ns/net", inside.id());
    await_that("the process is inside", || {
        std::fs::read_link(&of_process).is_ok_and(|link| link != own)
    });
    let last = Process::start(); // namespaces of processes come last, in the order of their IDs
    let follower = Follower::start("route --all-netns=processes");
    await_that("nlring listens to the last process", || last.is_heard());
    add_route(Some("blue"), 1);
    last.add_route(2);
    let of = |label: &str| {
        let start = format!("[netns {label}]");
        let lines = follower.lines().into_iter();
        lines.filter(|line| line.starts_with(&start)).count()
    };
    await_that("the last route", || of(&last.label()) > 0);
    await_that("that of blue", || of("blue") > 0);
    assert_eq!(of("blue"), 1);
    assert_eq!(of(&format!("pid:{}", inside.id())), 0);
    follower.end().assert_good();
    last.end();
    drop(inside.stdin.take());
    inside.wait().expect("its end");
}
