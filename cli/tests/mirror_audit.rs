//! Audits correct a mirror after changes that no event reports.

mod common;

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use common::{
    Directory, Follower, await_that, flush_flows, json, make_flows, mark_flows, must,
    own_namespace, run, skip,
};

const AUDITS: &str = "--audit-interval 1s";

fn objects(follower: &Follower) -> Vec<Value> {
    let lines = follower.lines();
    lines.iter().map(|line| json::parse(line)).collect()
}

/// The mirrored table at this moment.
fn table_now(follower: &Follower, file: &str) -> Vec<Value> {
    let _ = fs::remove_file(file);
    follower.signal(Signal::USR1);
    await_that("the table is written", || fs::exists(file).unwrap_or(false));
    let text = fs::read_to_string(file).expect("the table");
    text.lines().map(json::parse).collect()
}

/// Whether flows that begin from now on make events.
fn set_events(setting: &str) {
    fs::write("/proc/sys/net/netfilter/nf_conntrack_events", setting).expect("the sysctl");
}

fn await_snapshot(follower: &Follower) {
    await_that("the table is read", || {
        objects(follower)
            .iter()
            .any(|object| object["event"] == "resynced")
    });
}

#[test]
fn flows_that_make_no_events_are_followed_too() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("table");
    set_events("0");
    make_flows(0..3);
    set_events("2");
    let follower = Follower::start(&format!(
        "conntrack --snapshot --json {AUDITS} --table {file}"
    ));
    await_snapshot(&follower);
    assert_eq!(table_now(&follower, &file).len(), 3);
    mark_flows(1..2, 7);
    await_that("the mark is seen", || {
        table_now(&follower, &file)
            .iter()
            .any(|flow| flow["mark"] == 7)
    });
    set_events("0");
    make_flows(3..4);
    await_that("the new one is seen", || {
        table_now(&follower, &file).len() == 4
    });
    flush_flows();
    await_that("the table is empty", || {
        table_now(&follower, &file).is_empty()
    });
    let ended = follower.end();
    ended.assert_good();
    let objects: Vec<Value> = ended.output.lines().map(json::parse).collect();
    let made_up = |event: &str| {
        let is_it = |object: &&Value| object["event"] == event && object["resynced"] == true;
        objects.iter().filter(is_it).count()
    };
    assert_eq!(
        (made_up("new"), made_up("update"), made_up("destroy")),
        (4, 1, 4)
    );
    let resyncs = objects
        .iter()
        .filter(|object| object["event"] == "resynced");
    let by_audits = resyncs.skip(1).map(|resync| {
        assert_eq!(
            (&resync["reason"], &resync["lost"]),
            (&"audit".into(), &0.into())
        );
        ["new", "update", "destroy"].map(|name| resync[name].as_u64().expect("a count"))
    });
    let found: u64 = by_audits.flatten().sum();
    assert_eq!((found, ended.stat("audit_differences")), (6, 6));
    assert!(ended.stat("audits") >= 3, "{}", ended.errors);
}

#[test]
fn audits_that_find_nothing_report_nothing() {
    for command in ["conntrack", "route"] {
        own_namespace();
        make_flows(0..100);
        let directory = Directory::new();
        let stats = directory.file("stats");
        let audits = || {
            let text = fs::read_to_string(&stats).unwrap_or_default();
            serde_json::from_str(&text).map_or(0, |stats: Value| stats["audits"].as_u64().unwrap())
        };
        let arguments = "--mirror --json --audit-interval 1ms";
        let follower = Follower::start(&format!("{command} {arguments} --stats {stats}"));
        await_snapshot(&follower);
        await_that("some audits are done", || {
            follower.signal(Signal::USR1);
            audits() >= 5
        });
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(ended.stat("audit_differences"), 0);
        let resyncs = ended
            .output
            .lines()
            .filter(|line| line.contains("resynced"));
        assert_eq!(resyncs.count(), 1, "{}", ended.output);
    }
}

#[test]
fn audits_can_be_turned_off() {
    own_namespace();
    let follower = Follower::start("conntrack --mirror --json --audit-interval off");
    await_snapshot(&follower);
    set_events("0");
    make_flows(0..1);
    set_events("2");
    flush_flows();
    make_flows(1..2); // when its event comes, an audit would have been due long ago
    follower.await_lines(2);
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("audits"), 0);
}

/// Destination, MTU and hop limit of the IPv6 routes of a device.
type Row = (String, Option<u64>, Option<u64>);

fn row(dst: &str, metric: impl Fn(&str) -> Option<u64>) -> Row {
    (dst.to_owned(), metric("mtu"), metric("hoplimit"))
}

/// What `ip -6 route` prints about this route.
fn kernel_routes(device: &str) -> BTreeSet<Row> {
    let arguments = ["-6", "-json", "-details", "route", "show", "dev", device];
    let output = run("ip", &arguments).expect("ip");
    let routes: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let routes = routes.as_array().expect("routes").iter();
    routes
        .map(|route| {
            let metrics = &route["metrics"][0];
            let dst = match route["dst"].as_str().expect("a destination") {
                "default" => "::/0",
                dst => dst,
            };
            row(dst, |name| metrics[name].as_u64())
        })
        .collect()
}

fn mirrored_routes(table: &[Value], device: &str) -> BTreeSet<Row> {
    let of_device = table.iter().filter(|route| {
        route["dev"] == device && route["table"] == 254 && route["family"] == "ipv6"
    });
    of_device
        .map(|route| {
            let dst = route["dst"].as_str().expect("a destination");
            row(dst, |name| route["metrics"][name].as_u64())
        })
        .collect()
}

#[test]
fn routes_show_what_a_router_advertises() {
    own_namespace();
    if run(
        "ip",
        &["link", "add", "v0", "type", "veth", "peer", "name", "v1"],
    )
    .is_none_or(|output| !output.status.success())
        || run("python3", &["--version"]).is_none()
    {
        return skip("router advertisements", "no ip, veth or python3");
    }
    for setting in ["accept_dad", "addr_gen_mode"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/default/{setting}"), "0");
    }
    fs::write("/proc/sys/net/ipv6/conf/v0/accept_ra", "2").expect("the sysctl");
    for device in ["v0", "v1"] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{device}/accept_dad"), "0").expect("the sysctl");
        must(&format!("ip link set {device} up"));
    }
    must("ip address add fd00::1/64 dev v0 nodad");
    must("ip route add fd77::/64 via fd00::2 dev v0 mtu 1500");
    let directory = Directory::new();
    let file = directory.file("table");
    let follower = Follower::start(&format!("route --snapshot --json {AUDITS} --table {file}"));
    await_snapshot(&follower);
    let advertise = |arguments: [&str; 4]| {
        let script = include_str!("common/router_advertisement.py");
        let [device, mtu, hop_limit, preference] = arguments;
        let words = ["-c", script, device, mtu, hop_limit, preference];
        let output = run("python3", &words).expect("python3");
        assert!(output.status.success(), "{output:?}");
    };
    for (mtu, hop_limit) in [("1400", "64"), ("1300", "33")] {
        let [mtu_number, hop_limit_number] = [mtu, hop_limit].map(|text| text.parse().ok());
        let expected = ("fd77::/64".to_owned(), mtu_number, hop_limit_number);
        await_that("the kernel has taken the advertisement", || {
            advertise(["v1", mtu, hop_limit, "0"]);
            kernel_routes("v0")
                .iter()
                .any(|(dst, mtu, _)| *dst == expected.0 && *mtu == expected.1)
        });
        await_that("the table is the kernel's", || {
            mirrored_routes(&table_now(&follower, &file), "v0") == kernel_routes("v0")
        });
    }
    follower.end().assert_good();
}
