//! `--table` with `--all-netns`, and the warnings about what exists already.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::common::{Directory, Follower, Run, await_that, is_installed, must, skip};
use super::{add_namespace, add_route, has_event, objects_of, prepare};

fn add_flow(name: &str, number: u32) {
    must(&format!(
        "ip netns exec {name} conntrack -I -p udp -s 192.0.2.{number} -d 198.51.100.1 --sport 1 --dport 2 -t 100"
    ));
}

/// The flows of a table: their namespaces and sources.
fn flows(file: &str) -> BTreeSet<(Option<String>, String)> {
    let text = fs::read_to_string(file).expect("the table");
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let flows: BTreeSet<_> = objects_of(&lines)
        .into_iter()
        .map(|flow| {
            let netns = flow["netns"].as_str().map(str::to_owned);
            let source = flow["orig"]["src"].as_str().expect("a source");
            (netns, source.to_owned())
        })
        .collect();
    assert_eq!(flows.len(), lines.len(), "each flow once: {text}");
    flows
}

fn flow(name: &str, number: u32) -> (Option<String>, String) {
    (Some(name.to_owned()), format!("192.0.2.{number}"))
}

#[test]
fn the_table_has_the_flows_of_each_namespace() {
    let test = "the_table_has_the_flows_of_each_namespace";
    if !prepare(test) {
        return;
    }
    if !is_installed("conntrack") {
        return skip(test, "conntrack is not installed");
    }
    for name in ["blue", "red"] {
        add_namespace(name);
        add_flow(name, 1);
    }
    let directory = Directory::new();
    let file = directory.file("table");
    let arguments = format!("conntrack --all-netns --snapshot --json --table {file}");
    let follower = Follower::start(&arguments);
    add_flow("red", 2);
    add_namespace("green");
    add_flow("green", 3);
    let has = |source: &str| {
        let lines = follower.lines();
        lines.iter().any(|line| line.contains(source))
    };
    await_that("the last flow", || has("192.0.2.3") && has("192.0.2.2"));
    follower.signal(Signal::USR1);
    await_that("the table", || fs::exists(&file).expect("a look"));
    let expected = [
        flow("blue", 1),
        flow("red", 1),
        flow("red", 2),
        flow("green", 3),
    ];
    assert_eq!(flows(&file), BTreeSet::from(expected));
    must("ip netns delete red");
    await_that("the end of red", || {
        has_event(&follower, "red", "disappeared")
    });
    follower.end().assert_good();
    let left = BTreeSet::from([flow("blue", 1), flow("green", 3)]);
    assert_eq!(flows(&file), left, "a namespace that is gone has no flows");
}

#[test]
fn the_table_has_the_routes_of_each_namespace() {
    if !prepare("the_table_has_the_routes_of_each_namespace") {
        return;
    }
    let names: Vec<String> = (0..30).map(|number| format!("n{number}")).collect();
    for (number, name) in (0..).zip(&names) {
        add_namespace(name);
        add_route(Some(name), number);
    }
    let directory = Directory::new();
    let file = directory.file("table");
    let arguments = format!("route --all-netns --mirror --table {file}");
    let follower = Follower::start(&arguments);
    // Asked for before the mirrors have read anything: it is written when all have.
    follower.signal(Signal::USR1);
    await_that("the table", || fs::exists(&file).expect("a look"));
    let text = fs::read_to_string(&file).expect("the table");
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let objects = objects_of(&lines);
    for (number, name) in (0..30).zip(&names) {
        let is_its = |object: &&Value| {
            object["dst"] == json!(format!("10.{number}.0.0/16")) && object["netns"] == json!(name)
        };
        assert_eq!(objects.iter().filter(is_its).count(), 1, "{name}");
    }
    follower.end().assert_good();
}

#[test]
fn flows_that_make_no_events_are_named_with_their_namespaces() {
    let test = "flows_that_make_no_events_are_named_with_their_namespaces";
    if !prepare(test) {
        return;
    }
    if !is_installed("conntrack") {
        return skip(test, "conntrack is not installed");
    }
    for (name, flow_count) in [("blue", 2), ("green", 0), ("red", 3)] {
        add_namespace(name);
        (0..flow_count).for_each(|number| add_flow(name, number));
    }
    let warnings = || {
        let ended = Run::new("conntrack --all-netns --duration 1ms").run_to_end();
        ended.assert_good();
        let lines = ended.errors.lines().map(str::to_owned);
        let warnings = lines.filter(|line| line.starts_with("nlring: warning: "));
        warnings.collect::<Vec<_>>()
    };
    let found = warnings();
    assert_eq!(found.len(), 1, "{found:?}");
    let words = "5 flows exist already in the network namespaces blue, red: ";
    assert!(found[0].contains(words), "{found:?}");
    let off = "sysctl -q -w net.netfilter.nf_conntrack_events=0";
    must(&format!("ip netns exec green {off}"));
    let found = warnings();
    assert_eq!(found.len(), 2, "{found:?}");
    let words = "nf_conntrack_events is 0 in the network namespace green: ";
    assert!(found[0].contains(words), "{found:?}");
}
