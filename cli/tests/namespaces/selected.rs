//! Filters and devices with `--all-netns`: each namespace is filtered by itself.

use serde_json::{Value, json};

use super::common::{Follower, NLRING, await_that, is_installed, must, run, skip};
use super::{add_namespace, objects_of, prepare, words};

/// Adds a flow of UDP and one of TCP, which have the same addresses in each namespace.
fn add_flows(name: &str) {
    for flow in [
        "-p udp -s 192.0.2.1 -d 198.51.100.1 --sport 1 --dport 53",
        "-p tcp -s 192.0.2.1 -d 198.51.100.1 --sport 1 --dport 443 --state ESTABLISHED",
        "-p udp -s 192.0.2.2 -d 198.51.100.1 --sport 1 --dport 53 -m 7",
    ] {
        must(&format!("ip netns exec {name} conntrack -I {flow} -t 100"));
    }
}

/// The new flows: their namespaces, protocols, sources and marks, sorted.
fn new_flows(lines: &[String]) -> Vec<Value> {
    let objects = objects_of(lines).into_iter();
    let new = objects.filter(|object| object["event"] == "new");
    let fields = |object: Value| {
        json!([
            object["netns"],
            object["proto"],
            object["orig"]["src"],
            object["mark"],
        ])
    };
    let mut flows: Vec<Value> = new.map(fields).collect();
    flows.sort_by_key(Value::to_string);
    flows
}

#[test]
fn flows_are_filtered_in_each_namespace() {
    let test = "flows_are_filtered_in_each_namespace";
    if !prepare(test) {
        return;
    }
    if !is_installed("conntrack") {
        return skip(test, "conntrack is not installed");
    }
    add_namespace("blue");
    let options = [
        "-p tcp",
        "-p udp -s !192.0.2.1",
        "-m 7",
        "-p udp --mirror",
        "--snapshot --filter=mark==7",
    ];
    let options = options.map(|options| options.replace("--filter=mark==7", "-m 7"));
    let followers = options
        .each_ref()
        .map(|options| Follower::start(&format!("conntrack --all-netns --json {options}")));
    let all = Follower::start("conntrack --all-netns --json");
    add_namespace("red");
    await_that("red is followed by all", || {
        let followers = followers.iter().chain([&all]);
        { followers }.all(|follower| super::has_event(follower, "red", "appeared"))
    });
    for name in ["blue", "red"] {
        add_flows(name);
    }
    let has_all = |follower: &Follower, count: usize| new_flows(&follower.lines()).len() >= count;
    await_that("all flows", || has_all(&all, 6));
    let expected = |wanted: &[(&str, &str, u32)]| {
        let of = |name: &str| {
            let name = name.to_owned();
            let flows = wanted.iter();
            flows.map(move |(protocol, src, mark)| json!([name, protocol, src, mark]))
        };
        let mut flows: Vec<Value> = of("blue").chain(of("red")).collect();
        flows.sort_by_key(Value::to_string);
        flows
    };
    let (tcp, marked) = (("tcp", "192.0.2.1", 0), ("udp", "192.0.2.2", 7));
    let plain = ("udp", "192.0.2.1", 0);
    let wanted = [
        vec![tcp],
        vec![marked],
        vec![marked],
        vec![plain, marked],
        vec![marked],
    ];
    for ((follower, wanted), options) in followers.into_iter().zip(wanted).zip(&options) {
        let wanted = expected(&wanted);
        await_that(options, || has_all(&follower, wanted.len()));
        let ended = follower.end();
        ended.assert_good();
        let lines: Vec<String> = ended.output.lines().map(str::to_owned).collect();
        assert_eq!(new_flows(&lines), wanted, "{options}");
    }
    all.end().assert_good();
    let list = "conntrack --all-netns --snapshot --once -p tcp --json";
    let listed = run(NLRING, &words(list)).expect("nlring").stdout;
    let listed = String::from_utf8(listed).expect("text");
    let names = listed.lines().map(|line| {
        let object = super::common::json::parse(line);
        (object["netns"].clone(), object["proto"].clone())
    });
    let names: Vec<_> = names.collect();
    assert_eq!(
        names,
        [(json!("blue"), json!("tcp")), (json!("red"), json!("tcp"))]
    );
}

#[test]
fn a_device_is_followed_by_its_name_in_each_namespace() {
    if !prepare("a_device_is_followed_by_its_name_in_each_namespace") {
        return;
    }
    for name in ["blue", "red"] {
        add_namespace(name);
        must(&format!("ip -n {name} link add d0 type veth peer name d1"));
    }
    let follower = Follower::start("monitor --all-netns --dev d0 --json address link");
    add_namespace("green"); // it has no such device at first
    must("ip -n green link add d2 type veth peer name d3");
    must("ip -n green link add d0 type veth peer name d1");
    for (name, number) in [("blue", 1), ("red", 2), ("green", 3)] {
        for device in ["d1", "d0"] {
            let address = format!("10.{number}.0.{}/24", &device[1..]);
            must(&format!("ip -n {name} address add {address} dev {device}"));
        }
    }
    let lines = || objects_of(&follower.lines());
    let has = |name: &str, address: &str| {
        let is_its = |object: &Value| object["netns"] == name && object["address"] == address;
        lines().iter().any(is_its)
    };
    await_that("each address", || {
        has("blue", "10.1.0.0") && has("red", "10.2.0.0") && has("green", "10.3.0.0")
    });
    must("ip -n green link delete d0");
    must("ip -n green link add d0 type veth peer name d1"); // with another index
    must("ip -n green address add 10.4.0.0/24 dev d0");
    await_that("the next device of this name", || has("green", "10.4.0.0"));
    let others: Vec<Value> = lines()
        .into_iter()
        .filter(|object| {
            let device = object.get("dev").or_else(|| object.get("name"));
            device.is_some_and(|device| device != "d0")
        })
        .collect();
    assert!(others.is_empty(), "{others:?}");
    let ended = follower.end();
    ended.assert_good();
    assert!(
        !ended.errors.contains("no network namespace"),
        "{}",
        ended.errors
    );
}

#[test]
fn a_device_that_no_namespace_has_is_awaited_and_that_is_said() {
    if !prepare("a_device_that_no_namespace_has_is_awaited_and_that_is_said") {
        return;
    }
    add_namespace("blue");
    let follower = Follower::start("monitor --all-netns --dev later --json link");
    must("ip -n blue link add later type veth peer name other");
    follower.await_lines(1);
    let ended = follower.end();
    ended.assert_good();
    let note = "no network namespace has a device later now; the first one in each is followed";
    assert!(ended.errors.contains(note), "{}", ended.errors);
}
