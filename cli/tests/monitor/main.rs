//! `nlring monitor` and `ip monitor` print the same events, and its JSON says what `ip -j` says.

mod changes;
#[path = "../common/mod.rs"]
mod common;
mod filter;
mod ip_json;
mod random_changes;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Stdio};

use nlring_testing::own_names;
use serde_json::{Value, json};

use common::json::{has_all, objects};
use common::{
    Directory, Events, Follower, Groups, Peer, Run, assert_same_lines, await_that, is_installed,
    leave_out, lines_until, make_routes, must, own_namespace, run, skip,
};
use random_changes::RandomChanges;

/// What nlring can follow, in ip's words.
const OBJECTS: &str = "link address route mroute neigh rule nexthop netconf";

/// A route that only marks the end of the events.
const LAST: &str = "203.0.113.255";

/// Adds the last route.
fn mark_the_end() {
    must(&format!("ip route add {LAST} dev lo proto 250"));
}

/// Makes all changes, and returns those that this kernel refuses, and what keeps the multicast routes alive. Before
/// devices are renamed and deleted, it lets `await_all` wait until both programs have printed all events so far, because
/// they may ask the kernel for the names of devices.
fn make_changes(await_all: impl Fn(&str)) -> (Vec<&'static str>, Option<Child>) {
    let (mut refused, mut daemon) = (Vec::new(), None);
    for line in changes::CHANGES.lines().filter(|line| !line.is_empty()) {
        let is_done = if line == "AWAIT ALL" {
            let mark = "203.0.113.254";
            must(&format!("ip route add {mark} dev lo proto 250"));
            await_all(mark);
            true
        } else if line == "MULTICAST" {
            daemon = add_multicast_routes();
            daemon.is_some()
        } else {
            let words: Vec<&str> = line.split(' ').collect();
            let output = run(words[0], &words[1..]);
            output.is_some_and(|output| output.status.success())
        };
        if !is_done {
            refused.push(line);
        }
    }
    (refused, daemon)
}

/// Starts a program that adds multicast routes, and keeps them until its input ends. None: it cannot.
fn add_multicast_routes() -> Option<Child> {
    const PROGRAM: &str = include_str!("multicast_routes.py");
    let mut daemon = Command::new("python3")
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut line = String::new();
    let output = daemon.stdout.as_mut().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("a line");
    if line != "added\n" {
        let _ = daemon.wait();
        return None;
    }
    Some(daemon)
}

/// Ends the program, whose multicast routes are deleted.
fn end(daemon: Option<Child>) {
    if let Some(mut daemon) = daemon {
        let mut input = daemon.stdin.take().expect("its input");
        input.write_all(b"\n").expect("a line");
        daemon.wait().expect("its end");
    }
}

/// Takes away what is better in nlring (docs/command.md): ip keeps the former name of a renamed device.
fn without_new_names(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .map(|line| line.replace("renamed", "v1"))
        .collect()
}

/// Asserts that two programs wrote the same events with labels. Those of neighbours may have another place: a bridge that
/// learns an address holds no lock, so the kernel may send its event to one program before another event, and to the
/// other one after it.
#[track_caller]
fn assert_same_events(ours: &[String], theirs: &[String]) {
    let split = |lines: &[String]| -> (Vec<String>, Vec<String>) {
        let is_neighbour = |line: &String| line.starts_with("[NEIGH]");
        let (mut neighbours, lines): (Vec<_>, Vec<_>) =
            lines.iter().cloned().partition(is_neighbour);
        neighbours.sort_unstable();
        (neighbours, lines)
    };
    let (our_neighbours, ours) = split(ours);
    let (their_neighbours, theirs) = split(theirs);
    assert_same_lines(&ours, &theirs);
    assert_same_lines(&our_neighbours, &their_neighbours);
}

#[test]
fn a_long_list_of_changes_is_printed_as_by_ip() {
    let name = "a_long_list_of_changes_is_printed_as_by_ip";
    if !is_installed("ip") {
        return skip(name, "no ip");
    }
    own_namespace();
    let theirs = format!("ip monitor label {OBJECTS}");
    let peer = Peer::start_in(Groups::NEXTHOP, &theirs).expect("ip");
    let follower = Follower::start("monitor -o label");
    let (refused, daemon) = make_changes(|mark| {
        lines_until(mark, || peer.lines());
        lines_until(mark, || follower.lines());
    });
    for change in refused {
        leave_out(name, &format!("not in this kernel: {change}"));
    }
    end(daemon);
    mark_the_end();
    let theirs = lines_until(LAST, || peer.lines());
    let ours = lines_until(LAST, || follower.lines());
    assert_same_events(&without_new_names(&ours), &without_new_names(&theirs));
    let labels = [
        "[LINK]",
        "[ADDR]",
        "[ROUTE]",
        "[NEIGH]",
        "[RULE]",
        "[NETCONF]",
    ];
    for label in labels {
        assert!(
            ours.iter().any(|line| line.starts_with(label)),
            "{label} is there"
        );
    }
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("dropped"), 0);
}

/// Several hundred changes. The seed is in the failure.
#[test]
fn random_changes_are_printed_as_by_ip() {
    const ROUNDS: u32 = 8;
    const PER_ROUND: usize = 100;
    let name = "random_changes_are_printed_as_by_ip";
    if !is_installed("ip") {
        return skip(name, "no ip");
    }
    own_namespace();
    let seed = u64::from(std::process::id());
    let mut changes = RandomChanges::new(seed);
    let theirs = format!("ip monitor label {OBJECTS}");
    let peer = Peer::start_in(Groups::NEXTHOP, &theirs).expect("ip");
    let follower = Follower::start("monitor -o label");
    let directory = Directory::new();
    let make = |lines: &[String]| {
        let file = directory.file("changes");
        std::fs::write(&file, lines.join("\n") + "\n").expect("a file");
        run("ip", &["-force", "-batch", &file]).expect("ip");
    };
    make(&RandomChanges::devices());
    let mut lines = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let some: Vec<String> = (0..PER_ROUND).map(|_| changes.next()).collect();
        make(&some);
        // ip asks the kernel for names when it prints, so both must have printed all before a device is deleted.
        for line in changes.next_deletion() {
            let mark = format!("203.0.113.{}", 2 * round + u32::from(line.contains("add")));
            must(&format!("ip route add {mark} dev lo proto 250"));
            lines = [
                lines_until(&mark, || follower.lines()),
                lines_until(&mark, || peer.lines()),
            ];
            make(&[line.to_owned()]);
        }
    }
    let [ours, theirs] = lines;
    eprintln!("seed {seed}: {} lines", ours.len());
    assert_same_events(&ours, &theirs);
    assert!(ours.len() > 200, "{} lines", ours.len());
    for label in [
        "LINK", "ADDR", "ROUTE", "NEIGH", "RULE", "NEXTHOP", "NETCONF",
    ] {
        let label = format!("[{label}]");
        assert!(ours.iter().any(|line| line.starts_with(&label)), "{label}");
    }
    follower.end().assert_good();
}

/// The kernel moves a bucket that is in use some time after the group has changed, at the latest after the time for
/// which the group may be unbalanced.
#[test]
fn buckets_that_move_are_printed_as_by_ip() {
    let name = "buckets_that_move_are_printed_as_by_ip";
    if !is_installed("ip") {
        return skip(name, "no ip");
    }
    own_namespace();
    must("ip link add v0 type veth peer name v1");
    must("ip link set v0 up");
    must("ip link set v1 up");
    must("ip address add 10.1.0.1/24 dev v0");
    must("ip nexthop add id 5 via 10.1.0.2 dev v0");
    must("ip nexthop add id 6 via 10.1.0.3 dev v0");
    must("ip nexthop add id 12 group 5/6 type resilient buckets 8 idle_timer 60");
    must("ip route add 192.0.2.0/24 nhid 12");
    let peer = Peer::start_in(Groups::NEXTHOP, "ip monitor label nexthop").expect("ip");
    let follower = Follower::start("monitor -o label nexthop");
    let json = Follower::start("monitor --json nexthop");
    // A bucket that is in use does not move at once.
    let socket = UdpSocket::bind("10.1.0.1:0").expect("a socket");
    for number in 1..=60 {
        socket
            .send_to(b"x", (Ipv4Addr::new(192, 0, 2, number), 9))
            .expect("a datagram sent");
    }
    must(
        "ip nexthop replace id 12 group 5,3/6 type resilient buckets 8 idle_timer 60 unbalanced_timer 1",
    );
    let has_two = |lines: &[String]| {
        let is_bucket = |line: &&String| line.contains("BUCKET]") || line.contains("hop-bucket");
        lines.iter().filter(is_bucket).count() >= 2
    };
    await_that("ip has printed the buckets", || has_two(&peer.lines()));
    await_that("nlring has", || {
        has_two(&follower.lines()) && has_two(&json.lines())
    });
    must("ip nexthop add id 9 blackhole");
    let theirs = lines_until("id 9 ", || peer.lines());
    let ours = lines_until("id 9 ", || follower.lines());
    assert_same_lines(&ours, &theirs);
    let objects = objects(Events::Route, &json.lines());
    let buckets: Vec<&Value> = { objects.iter() }
        .filter(|object| object["object"] == "nexthop-bucket")
        .collect();
    assert!(buckets.len() >= 2, "{objects:?}");
    for bucket in buckets {
        assert_eq!((&bucket["id"], &bucket["nhid"]), (&json!(12), &json!(5)));
        assert!(bucket["index"].as_u64().expect("an index") < 8);
        assert!(bucket["idle_ms"].is_u64(), "{bucket}");
    }
    follower.end().assert_good();
    json.end().assert_good();
}

#[test]
fn the_other_end_of_a_device_is_in_a_namespace_with_a_name() {
    let name = "the_other_end_of_a_device_is_in_a_namespace_with_a_name";
    if !is_installed("ip") {
        return skip(name, "no ip");
    }
    own_namespace();
    own_names();
    must("ip netns add blue");
    must("ip netns set blue 7"); // ip reads names at its start, and only those of namespaces with ids
    let peer = Peer::start_in(Groups::LINK, "ip monitor label link").expect("ip");
    let follower = Follower::start("monitor -o label link");
    let json = Follower::start("monitor --json link");
    must("ip link add v0 type veth peer name w0 netns blue");
    must("ip link add v1 type veth peer name w1");
    must("ip link set v1 netns blue");
    must("ip link add last type veth peer name end");
    let ours = lines_until(" last", || follower.lines());
    assert_same_lines(&ours, &lines_until(" last", || peer.lines()));
    assert!(
        ours.iter().any(|line| line.ends_with(" link-netns blue")),
        "{ours:#?}"
    );
    assert!(
        ours.iter().any(|line| line.contains(" new-netns blue ")),
        "{ours:#?}"
    );
    await_that("the object", || {
        let objects = objects(Events::Route, &json.lines());
        { objects.iter() }.any(|object| object["name"] == "v0" && object["link_netns"] == "blue")
    });
    // nlring also finds those that are added later.
    must("ip netns add red");
    must("ip link add v2 type veth peer name w2 netns red");
    await_that("the later name", || {
        follower
            .lines()
            .iter()
            .any(|line| line.ends_with(" link-netns red"))
    });
    follower.end().assert_good();
    json.end().assert_good();
}

#[test]
fn selected_objects_and_devices_are_shown_and_no_others() {
    let name = "selected_objects_and_devices_are_shown_and_no_others";
    if !is_installed("ip") {
        return skip(name, "no ip");
    }
    own_namespace();
    must("ip link set lo up");
    must("ip link add v0 type veth peer name v1");
    let rules = Follower::start("monitor ru nex -e new");
    let device = Follower::start("monitor --dev v0 -o label");
    let neighbours = Follower::start("monitor n link");
    must("ip rule add priority 77 lookup 3");
    must("ip rule del priority 77");
    must("ip addr add 10.0.0.1/24 dev v0");
    must("ip addr add 10.0.1.1/24 dev v1");
    must("ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:01 dev v0");
    must("ip neigh add 10.0.1.9 lladdr 02:00:00:00:00:01 dev v1");
    must("ip rule add priority 78 lookup 3");
    rules.await_lines(2);
    let ended = rules.end();
    ended.assert_good();
    assert_eq!(
        ended.output,
        "77:\tfrom all lookup 3\n78:\tfrom all lookup 3\n"
    );
    let wanted = [
        "[RULE]77:\tfrom all lookup 3",
        "[RULE]Deleted 77:\tfrom all lookup 3",
        "    inet 10.0.0.1/24 scope global v0",
        "       valid_lft forever preferred_lft forever",
        "[ROUTE]local 10.0.0.1 dev v0 table local proto kernel scope host src 10.0.0.1 ",
        "[NEIGH]10.0.0.9 dev v0 lladdr 02:00:00:00:00:01 PERMANENT ",
        "[RULE]78:\tfrom all lookup 3",
    ];
    device.await_lines(wanted.len());
    let ended = device.end();
    ended.assert_good();
    let lines: Vec<&str> = ended.output.lines().collect();
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.ends_with(wanted), "{line:?} {wanted:?}");
    }
    neighbours.await_lines(2);
    let ended = neighbours.end();
    ended.assert_good();
    assert!(
        ended
            .output
            .lines()
            .all(|line| line.contains(" lladdr 02:00:00:00:00:01 PERMANENT ")),
        "{}",
        ended.output
    );
}

#[test]
fn bad_objects_and_devices_are_refused_with_the_remedy() {
    own_namespace();
    for (arguments, reason) in [
        ("monitor tables", "give link, address, route"),
        ("monitor label", "-o label adds the labels"),
        ("monitor prefix", "ip monitor prefix does"),
        ("monitor --dev nosuch", "there is no device nosuch here"),
        ("monitor --dev a/b", "has 1 to 15 bytes, without '/'"),
        ("monitor --dev=", "has 1 to 15 bytes"),
        ("route --dev=", "has 1 to 15 bytes"),
        ("monitor --json -o label", "cannot be used with"),
    ] {
        let ended = Run::new(arguments).run_to_end();
        assert_eq!(ended.code, Some(2), "{arguments}");
        assert!(
            ended.errors.contains(reason),
            "{arguments}: {}",
            ended.errors
        );
    }
}

#[test]
fn lost_events_are_counted() {
    own_namespace();
    let follower = Follower::start("monitor --recv-buffer 8KiB --json");
    follower.freeze();
    make_routes(0..3000);
    follower.thaw();
    await_that("the loss", || {
        let lines = follower.lines();
        lines.iter().any(|line| line.contains(r#""event":"lost""#))
    });
    let ended = follower.end();
    ended.assert_good();
    let (received, dropped) = (ended.stat("received"), ended.stat("dropped"));
    assert!(dropped > 0);
    assert_eq!(received + dropped, 3000);
}

#[test]
fn the_json_of_each_object_says_what_ip_says() {
    let name = "the_json_of_each_object_says_what_ip_says";
    if !is_installed("ip") {
        return skip(name, "no ip");
    }
    own_namespace();
    let follower = Follower::start("monitor --json");
    for line in ip_json::CHANGES.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        let output = run(words[0], &words[1..]);
        if !output.is_some_and(|output| output.status.success()) {
            leave_out(name, &format!("not in this kernel: {line}"));
        }
    }
    let daemon = add_multicast_routes();
    if daemon.is_none() {
        leave_out(name, "multicast routes");
    }
    ip_json::await_devices();
    let shown = ip_json::shown();
    mark_the_end();
    let lines = lines_until(LAST, || follower.lines());
    let events = objects(Events::Route, &lines);
    for wanted in &shown {
        let is_said = events.iter().any(|event| has_all(event, wanted));
        let kind = &wanted["object"];
        let same: Vec<&Value> = events.iter().filter(|e| e["object"] == *kind).collect();
        assert!(is_said, "{wanted}: {same:#?}");
    }
    for kind in OBJECTS
        .split(' ')
        .filter(|kind| *kind != "mroute" || daemon.is_some())
    {
        let kind = if kind == "neigh" { "neighbour" } else { kind };
        let is_there = events.iter().any(|event| event["object"] == kind);
        assert!(is_there, "{kind}");
        let is_compared = shown.iter().any(|object| object["object"] == kind);
        assert!(is_compared || kind == "route", "{kind} is compared");
    }
    assert!(
        events
            .iter()
            .all(|event| event["object"] != json!("unknown")),
        "all can be read"
    );
    end(daemon);
    follower.end().assert_good();
}

/// `ip -ts` writes the time in the same layout before the label.
#[test]
fn the_time_comes_before_the_label_and_once_per_event() {
    let name = "the_time_comes_before_the_label_and_once_per_event";
    if !is_installed("ip") {
        return skip(name, "no ip");
    }
    own_namespace();
    let theirs = "ip -ts monitor label address rule nexthop";
    let peer = Peer::start_in(Groups::NEXTHOP, theirs).expect("ip");
    let long_peer =
        Peer::start_in(Groups::NEXTHOP, "ip -t monitor label address rule nexthop").expect("ip");
    let follower = Follower::start("monitor -o label,timestamp address rule nexthop");
    let long = Follower::start("monitor -o label,long-timestamp address rule nexthop");
    must("ip addr add 10.0.0.1/24 dev lo");
    must("ip rule add priority 77 lookup 3");
    let theirs = lines_until("77:", || peer.lines());
    let ours = lines_until("77:", || follower.lines());
    let split = |line: &String| match line.strip_prefix('[') {
        Some(rest) => {
            let (time, rest) = rest.split_once("] ").expect("a time");
            assert_eq!(time.len(), "2026-11-24T08:12:31.274061".len(), "{time}");
            rest.to_owned()
        }
        None => line.clone(),
    };
    let [ours, theirs] = [ours, theirs].map(|lines| lines.iter().map(split).collect::<Vec<_>>());
    assert_same_lines(&ours, &theirs);
    assert_eq!(ours.len(), 3, "{ours:#?}");
    follower.end().assert_good();
    let theirs = lines_until("77:", || long_peer.lines());
    let ours = lines_until("77:", || long.lines());
    // The two print a time of their own: `Timestamp: Tue Nov 24 08:12:31 2026 274061 usec`.
    let without_clock = |line: &String| match line.strip_prefix("Timestamp: ") {
        Some(time) => {
            let words: Vec<&str> = time.split_whitespace().collect();
            let &[_, _, day, clock, year, us, "usec"] = words.as_slice() else {
                panic!("{line}");
            };
            assert_eq!((clock.len(), year.len()), (8, 4), "{line}");
            assert!(us.parse::<u32>().is_ok_and(|us| us < 1_000_000), "{line}");
            let end = format!(" {clock} {year} {us} usec");
            let date = line.strip_suffix(&end).expect("single blanks");
            assert!(date.ends_with(&format!("{day:>3}")), "{line}");
            "Timestamp:".to_owned()
        }
        None => line.clone(),
    };
    let [ours, theirs] =
        [ours, theirs].map(|lines| lines.iter().map(without_clock).collect::<Vec<_>>());
    assert_same_lines(&ours, &theirs);
    assert_eq!(ours.len(), 5, "{ours:#?}");
    long.end().assert_good();
}

#[test]
fn another_namespace_is_followed_and_not_this_one() {
    let name = "another_namespace_is_followed_and_not_this_one";
    if !is_installed("ip") {
        return skip(name, "no ip");
    }
    own_namespace();
    let mut other = Command::new("unshare")
        .args([
            "--net",
            "sh",
            "-c",
            "echo there; read line; ip rule add priority 78 lookup 3; read line",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare");
    let mut line = String::new();
    let output = other.stdout.as_mut().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("a line");
    let id = other.id();
    let follower = Run::new(&format!("monitor --netns {id} --count 1 rule")).spawn();
    let groups = format!("/proc/{id}/net/netlink");
    await_that("nlring listens there", || {
        let table = std::fs::read_to_string(&groups).expect("netlink sockets");
        let listens = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[1] == "0" && words[3].ends_with('1') // the group of devices, which it joins last
        };
        table.lines().skip(1).any(listens)
    });
    must("ip rule add priority 77 lookup 3");
    let mut input = other.stdin.take().expect("its input");
    input.write_all(b"\n").expect("a line");
    let ended = follower.wait();
    assert_eq!(ended.output, "78:\tfrom all lookup 3\n", "{}", ended.errors);
    input.write_all(b"\n").expect("a line");
    other.wait().expect("its end");
}
