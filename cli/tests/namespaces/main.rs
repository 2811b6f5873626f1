//! `--netns` and `--all-netns`: what happens inside is seen, what happens outside is not, and each line says where.

#[path = "../common/mod.rs"]
mod common;
mod doctor;
mod processes;
mod selected;
mod tables;

use std::fs;
use std::io::Read as _;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Events, Follower, Groups, Peer, Run, await_that, is_installed, json, make_routes, must,
    own_namespace, run, skip,
};
use nlring_testing::{bind_name, own_names, unbind_name};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A namespace of the test's own, with names of its own. False: a program is missing.
fn prepare(test: &str) -> bool {
    if !is_installed("ip") {
        skip(test, "ip is not installed");
        return false;
    }
    own_namespace();
    own_names();
    true
}

fn add_namespace(name: &str) {
    must(&format!("ip netns add {name}"));
    must(&format!("ip -n {name} link set lo up"));
}

/// Whether somebody listens to routes in a namespace.
fn is_heard(name: &str) -> bool {
    let arguments = ["netns", "exec", name, "cat", "/proc/net/netlink"];
    let table = run("ip", &arguments).expect("ip").stdout;
    follows_routes(&String::from_utf8(table).expect("text"))
}

/// Whether somebody listens to routes, by the text of /proc/net/netlink.
fn follows_routes(table: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let groups = u32::from_str_radix(words[3], 16).expect("groups");
        words[1] == "0" && groups & 1 << 6 != 0
    })
}

fn add_route(name: Option<&str>, number: u32) {
    let namespace = name.map_or(String::new(), |name| format!("-n {name} "));
    must(&format!(
        "ip {namespace}route add 10.{number}.0.0/16 dev lo"
    ));
}

/// A line of JSON for this route.
fn is_route(object: &Value, number: u32) -> bool {
    object["dst"] == json!(format!("10.{number}.0.0/16"))
}

#[test]
fn netns_follows_one_namespace_and_nothing_of_outside() {
    if !prepare("netns_follows_one_namespace_and_nothing_of_outside") {
        return;
    }
    add_namespace("blue");
    let follower = Run::new("route --netns blue").spawn();
    await_that("nlring listens inside", || is_heard("blue"));
    add_route(None, 1);
    add_route(Some("blue"), 2);
    follower.await_lines(1);
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.output, "10.2.0.0/16 dev lo scope link \n");
    let listed = run(
        common::NLRING,
        &words("route --netns blue --snapshot --once"),
    )
    .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("10.2.0.0/16") && !listed.contains("10.1.0.0/16"),
        "{listed}"
    );
}

fn objects_of(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| json::parse(line)).collect()
}

/// Whether a namespace has an object of this event.
fn has_event(follower: &Follower, name: &str, event: &str) -> bool {
    let objects = objects_of(&follower.lines());
    { objects.iter() }.any(|object| object["netns"] == name && object["event"] == event)
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn lines_are_those_of_ip_monitor_with_names_in_place_of_ids() {
    if !prepare("lines_are_those_of_ip_monitor_with_names_in_place_of_ids") {
        return;
    }
    for (name, nsid) in [("blue", 7), ("red", 8)] {
        add_namespace(name);
        must(&format!("ip netns set {name} {nsid}"));
    }
    let Some(peer) = Peer::start(Events::Route, "ip monitor all-nsid route") else {
        return skip("ip monitor", "not installed");
    };
    let follower = Follower::start("route --all-netns");
    for number in 1..=20 {
        for name in [None, Some("blue"), Some("red")] {
            add_route(name, number);
        }
        if number % 3 == 0 {
            must(&format!("ip -n red route del 10.{number}.0.0/16"));
        }
    }
    let count = 66;
    follower.await_lines(count);
    await_that("ip has all lines", || peer.lines().len() >= count);
    let of = |lines: &[String], start: &str| {
        let lines = lines.iter().filter_map(|line| line.strip_prefix(start));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let (ours, theirs) = (follower.lines(), peer.lines());
    assert_eq!((ours.len(), theirs.len()), (count, count));
    for (name, nsid) in [("current", "current"), ("blue", "7"), ("red", "8")] {
        let ours = of(&ours, &format!("[netns {name}]"));
        assert_eq!(ours, of(&theirs, &format!("[nsid {nsid}]")), "{name}");
        assert!(ours.len() >= 20, "{name}: {}", ours.len());
    }
    follower.end().assert_good();
}

#[test]
fn monitor_says_where_each_object_changed() {
    if !prepare("monitor_says_where_each_object_changed") {
        return;
    }
    add_namespace("blue");
    let groups = Groups::of(Events::Route);
    let before = groups.listeners();
    let follower = Run::new("monitor --all-netns --json").spawn();
    await_that("nlring listens", || groups.has_more_than(&before));
    must("ip link add a0 type veth peer name a1");
    must("ip -n blue link add b0 type veth peer name b1");
    must("ip -n blue link set b0 up");
    must("ip -n blue address add 10.1.0.1/24 dev b0");
    let has = |netns: Option<&str>, text: &str| {
        let of = |object: &Value| object.get("netns").and_then(Value::as_str) == netns;
        let lines = follower.lines().into_iter();
        { lines }.any(|line| of(&json::parse(&line)) && line.contains(text))
    };
    await_that("the device here", || has(None, "\"a0\""));
    await_that("the route inside", || has(Some("blue"), "10.1.0.0/24"));
    assert!(has(Some("blue"), "\"b0\"") && !has(Some("blue"), "\"a0\""));
    assert!(!has(None, "\"b0\""), "it is not here");
    follower.end().assert_good();
}

#[test]
fn the_same_tuple_in_two_namespaces_is_told_apart() {
    let test = "the_same_tuple_in_two_namespaces_is_told_apart";
    if !prepare(test) {
        return;
    }
    if !is_installed("conntrack") {
        return skip(test, "conntrack is not installed");
    }
    for name in ["blue", "red"] {
        add_namespace(name);
    }
    must("ip netns set red 5");
    let follower = Follower::start("conntrack --all-netns --mirror --json");
    let add = "conntrack -I -p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 -t 100";
    must(&format!("ip netns exec blue {add}"));
    must(&format!("ip netns exec red {add} -m 9"));
    let objects = || objects_of(&follower.lines());
    let of = |name: &str| {
        let is_of = |object: &&Value| object["netns"] == json!(name) && object["event"] == "new";
        objects().iter().filter(is_of).cloned().collect::<Vec<_>>()
    };
    await_that("both flows", || of("blue").len() + of("red").len() >= 2);
    let (blue, red) = (of("blue"), of("red"));
    assert_eq!((blue.len(), red.len()), (1, 1));
    assert_eq!(
        (&blue[0]["nsid"], &red[0]["nsid"]),
        (&json!(null), &json!(5))
    );
    assert_eq!(blue[0]["orig"], red[0]["orig"]);
    assert_eq!(red[0]["mark"], 9);
    follower.end().assert_good();
    let listed = run(
        common::NLRING,
        &words("conntrack --all-netns --snapshot --once"),
    )
    .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut starts: Vec<_> = listed.lines().map(|line| line.split(']').next()).collect();
    starts.sort_unstable();
    assert_eq!(
        starts,
        [Some("[netns blue"), Some("[netns red")],
        "{listed}"
    );
}

#[test]
fn namespaces_that_appear_and_disappear_are_followed_and_reported() {
    if !prepare("namespaces_that_appear_and_disappear_are_followed_and_reported") {
        return;
    }
    let follower = Follower::start("route --all-netns --snapshot --json");
    add_namespace("blue");
    must("ip netns set blue 7");
    add_route(Some("blue"), 1);
    let objects = || objects_of(&follower.lines());
    let has = |wanted: &dyn Fn(&Value) -> bool| {
        let of_blue = |object: &Value| object["netns"] == "blue";
        (objects().iter()).any(|object| of_blue(object) && wanted(object))
    };
    await_that("the route of blue", || has(&|object| is_route(object, 1)));
    assert!(has(&|object| object["event"] == "appeared"));
    await_that("the snapshot of blue", || {
        has(&|object| object["event"] == "resynced")
    });
    // The id was given when the namespace was followed already, and is noticed within a second.
    let mut number = 2;
    await_that("its id", || {
        add_route(Some("blue"), number);
        number += 1;
        has(&|object| object["nsid"] == 7)
    });
    must("ip netns delete blue");
    await_that("its end", || {
        has(&|object| object["event"] == "disappeared")
    });
    // The kernel frees the namespace only when the last socket in it is closed.
    await_that("the namespace is gone", || {
        run("ip", &["netns", "list-id"]).unwrap().stdout.is_empty()
    });
    add_namespace("blue");
    add_route(Some("blue"), 200);
    await_that("the next blue", || has(&|object| is_route(object, 200)));
    let ended = follower.end();
    ended.assert_good();
}

/// The reader of the output is slow, so most events of a namespace are still queued a second after its end.
#[test]
fn a_namespace_that_disappears_is_received_to_its_end_however_slow_the_reader_is() {
    const ROUTES: u32 = 12_000;
    if !prepare("a_namespace_that_disappears_is_received_to_its_end_however_slow_the_reader_is") {
        return;
    }
    let (order, orders) = mpsc::channel();
    let inside = thread::spawn(move || {
        own_namespace();
        bind_name("blue");
        orders.recv().expect("an order");
        make_routes(0..ROUTES);
    });
    let mut run = Run::new("route --all-netns --output -");
    run.command.stdout(Stdio::piped());
    let mut follower = run.spawn();
    await_that("nlring listens inside", || is_heard("blue"));
    order.send(()).expect("an order");
    inside.join().expect("the routes");
    unbind_name("blue");
    let mut output = follower.child.stdout.take().expect("the output");
    let (mut text, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    let has_ended = |text: &[u8]| text.windows(14).any(|part| part == b"[DISAPPEARED] ");
    for slow_count in 0.. {
        let count = output.read(&mut buffer).expect("lines");
        text.extend_from_slice(&buffer[..count]);
        if has_ended(&text[text.len().saturating_sub(buffer.len())..]) {
            break;
        }
        if slow_count < 10 {
            thread::sleep(Duration::from_millis(300)); // this is what a slow reader does
        }
    }
    follower.signal(Signal::INT);
    output.read_to_end(&mut text).expect("the rest");
    let ended = follower.wait();
    ended.assert_good();
    let text = String::from_utf8(text).expect("text");
    let is_route = |line: &&str| line.starts_with("[netns blue]10.");
    let line_count = text.lines().filter(is_route).count();
    assert_eq!(line_count, ROUTES as usize, "{}", ended.errors);
    assert_eq!(
        ended.stat("received") - ended.stat("other_events"),
        u64::from(ROUTES)
    );
    assert_eq!((ended.stat("dropped"), ended.stat("unread")), (0, 0));
}

#[test]
fn a_loss_is_reported_for_its_namespace() {
    let test = "a_loss_is_reported_for_its_namespace";
    if !prepare(test) {
        return;
    }
    for name in ["blue", "red"] {
        add_namespace(name);
    }
    let follower = Follower::start("route --all-netns --recv-buffer 4KiB --json");
    follower.freeze();
    let routes = (0..100).map(|number| format!("route add 10.1.{number}.0/24 dev lo\n"));
    let directory = common::Directory::new();
    let batch = directory.file("batch");
    fs::write(&batch, routes.collect::<String>()).unwrap();
    must(&format!("ip -n blue -batch {batch}"));
    add_route(Some("red"), 3);
    follower.thaw();
    let objects = || objects_of(&follower.lines());
    await_that("the loss", || {
        objects().iter().any(|object| object["event"] == "lost")
    });
    let lost: Vec<Value> = objects()
        .into_iter()
        .filter(|object| object["event"] == "lost")
        .collect();
    assert!(
        lost.iter().all(|object| object["netns"] == "blue"),
        "{lost:?}"
    );
    let ended = follower.end();
    let lines: Vec<String> = ended.output.lines().map(str::to_owned).collect();
    let lost = objects_of(&lines);
    let lost = lost.iter().filter(|object| object["event"] == "lost");
    let lost: u64 = lost.map(|object| object["count"].as_u64().unwrap()).sum();
    assert_eq!(lost, ended.stat("dropped"));
    assert_eq!(
        ended.stat("received") + lost,
        101,
        "all routes are accounted for"
    );
}

/// What a process holds.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    resident_kib: u64,
}

fn held(follower: &Follower) -> Held {
    let process = format!("/proc/{}", follower.child.id());
    let count = |folder: &str| fs::read_dir(format!("{process}/{folder}")).unwrap().count();
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.unwrap().trim().trim_end_matches(" kB");
    Held {
        descriptors: count("fd"),
        threads: count("task"),
        resident_kib: resident.parse().unwrap(),
    }
}

#[test]
fn a_hundred_namespaces_come_and_go_under_load_and_leave_nothing() {
    if !prepare("a_hundred_namespaces_come_and_go_under_load_and_leave_nothing") {
        return;
    }
    let follower = Follower::start("conntrack --all-netns --mirror --json");
    follower.await_lines(1); // the first round is over
    common::make_flows(0..1000);
    follower.await_lines(1001);
    let lines = |event: &str| {
        let event = format!("\"event\":\"{event}\"");
        let lines = follower.lines();
        lines.iter().filter(|line| line.contains(&event)).count()
    };
    let start = Instant::now();
    add_namespace("first");
    must("ip netns delete first");
    let for_one_name = start.elapsed(); // on this machine, as busy as it is
    await_that("it is left", || lines("appeared") == lines("disappeared"));
    let (start, first) = (Instant::now(), held(&follower));
    let rounds = [0..100, 100..200].map(|names| {
        for number in names {
            let name = format!("n{number}");
            must(&format!("ip netns add {name}"));
            common::make_flows(2000..2050);
            common::remove_flows(2000..2050);
            if number % 2 == 0 {
                must(&format!("ip netns delete {name}"));
            }
        }
        for name in fs::read_dir("/run/netns").unwrap() {
            let name = name.unwrap().file_name();
            must(&format!("ip netns delete {}", name.to_str().unwrap()));
        }
        await_that("all are left", || {
            // The mirror of this namespace may have up to two sockets for requests.
            let is_free = held(&follower).descriptors <= first.descriptors + 2;
            is_free && lines("appeared") == lines("disappeared")
        });
        held(&follower)
    });
    let (took, limit) = (start.elapsed(), for_one_name * 1000);
    assert!(took < limit, "{took:?} of {limit:?}");
    let [before, after] = rounds;
    assert!(after.threads <= before.threads, "{before:?} {after:?}");
    let growth_kib = after.resident_kib.saturating_sub(before.resident_kib);
    assert!(growth_kib < 4 << 10, "{before:?} {after:?}");
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("dropped"), 0);
    let count = |event: &str| {
        ended
            .output
            .matches(&format!("\"event\":\"{event}\""))
            .count()
    };
    // Those that are deleted at once may come and go between two looks. They are counted.
    let missed = ended.stats["missed_namespaces"].as_u64().unwrap_or(0);
    assert!(count("appeared") >= 101, "{}", count("appeared"));
    assert_eq!(count("appeared") as u64 + missed, 201);
    assert_eq!(count("new"), 1000 + 200 * 50);
}

#[test]
fn what_cannot_be_entered_is_an_error_with_a_remedy() {
    if !prepare("what_cannot_be_entered_is_an_error_with_a_remedy") {
        return;
    }
    fs::write("/run/netns/left", "").unwrap();
    for (netns, words) in [
        (
            "none",
            "none: No such file or directory (os error 2); `ip netns list`",
        ),
        (
            "left",
            "left is not a namespace; it is being added or deleted",
        ),
        ("/proc/self/ns/mnt", "not a network namespace"),
        ("4294967295", "has ended"),
    ] {
        let ended = Run::new(&format!("route --netns {netns}")).run_to_end();
        assert_eq!(ended.code, Some(1), "{netns}");
        assert!(ended.errors.contains(words), "{netns}: {}", ended.errors);
    }
    if !is_installed("setpriv") {
        return skip("--netns without CAP_SYS_ADMIN", "setpriv is not installed");
    }
    add_namespace("blue");
    let launcher = "setpriv --bounding-set -sys_admin --inh-caps -sys_admin";
    for arguments in ["route --netns blue", "route --all-netns"] {
        let ended = Run::under(launcher, arguments).run_to_end();
        assert_eq!(ended.code, Some(1), "{arguments}: {}", ended.errors);
        assert!(ended.errors.contains("CAP_SYS_ADMIN"), "{}", ended.errors);
    }
    let ended = Run::new("route --netns blue --all-netns").run_to_end();
    assert_eq!(ended.code, Some(2), "{}", ended.errors);
}
