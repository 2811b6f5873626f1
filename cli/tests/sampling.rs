//! `--max-rate`: above it whole flows are left out, the stream says so, and nothing is lost.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nlring::conntrack::{Filter, Flow, Group};
use nlring::{Protocol, RecvFlags, Socket};
use nlring_testing::own_names;
use nlring_testing::sampled::{FlowEvent, Segment, assert_sampled, assert_whole};
use serde_json::{Value, json};

use common::{
    Ended, Events, Follower, NLRING, await_that, is_installed, must, own_namespace, run, skip,
};

const TRACK: &str = "nft add table inet t; add chain inet t c { type filter hook output priority 0; }; \
                     add rule inet t c ct state new";

/// Receives all events of flows beside the command.
struct Reference {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(FlowEvent, Vec<u8>)>>,
}

impl Reference {
    fn start() -> Self {
        let socket = Socket::builder(Protocol::NETFILTER)
            .groups([Group::New, Group::Update, Group::Destroy])
            .recv_buffer_bytes(64 << 20)
            .nonblocking(true)
            .open()
            .expect("a socket");
        let is_over = Arc::new(AtomicBool::new(false));
        let is_over_there = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut all = Vec::new();
            let mut buffer = vec![0; 32 << 10];
            loop {
                let was_over = is_over_there.load(Ordering::Relaxed);
                while let Ok(list) = socket.recv(&mut buffer, RecvFlags::NONE) {
                    for message in &list {
                        let flow = Flow::decode(&message).expect("a flow");
                        all.push((FlowEvent::of(&flow), message.bytes().to_vec()));
                    }
                }
                if was_over {
                    break;
                }
                thread::yield_now();
            }
            assert_eq!(socket.drops().expect("a count"), 0);
            all
        });
        Self { is_over, thread }
    }

    fn end(self) -> Vec<(FlowEvent, Vec<u8>)> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("its events")
    }
}

/// Makes real events at a rate.
fn flood(source: &str, rate: u32, count: u32) {
    let arguments = format!("flood --here {source} --rate {rate} --count {count}");
    let output = run(NLRING, &arguments.split(' ').collect::<Vec<_>>()).expect("nlring");
    assert!(output.status.success(), "{output:?}");
}

fn is_sampling(object: &Value) -> bool {
    object["event"] == "sampling"
}

fn ends(line: &str) -> bool {
    line.contains(r#""event":"sampling","one_in":1,"#)
}

fn event_of(object: &Value) -> FlowEvent {
    let orig = &object["orig"];
    let end = |address: &str, port: &str| {
        let address = orig[address].as_str().expect("an address");
        let port = orig[port].as_u64().expect("a port");
        (
            address.parse().expect("an address"),
            u16::try_from(port).expect("a port"),
        )
    };
    FlowEvent {
        flow: [end("src", "sport"), end("dst", "dport")],
        kind: object["event"].as_str().expect("a kind").to_owned(),
    }
}

/// The events between changes. `filter` is the command's own filter.
fn segments(objects: &[Value], filter: &Filter) -> Vec<Segment> {
    let mut segments = vec![Segment {
        filter: filter.clone(),
        events: Vec::new(),
    }];
    for object in objects {
        if is_sampling(object) {
            let kept = object["filter"].as_str().unwrap_or("all");
            let kept: Filter = kept.parse().expect("a filter");
            segments.push(Segment {
                filter: filter.clone().and(kept),
                events: Vec::new(),
            });
        } else {
            let segment = segments.last_mut().expect("the first one");
            segment.events.push(event_of(object));
        }
    }
    segments
}

/// The most events in a second, from a second after the first event on.
fn busiest_second(objects: &[Value]) -> usize {
    const SECOND_NS: u64 = 1_000_000_000;
    let times = objects
        .iter()
        .filter_map(|object| object["time_ns"].as_u64());
    let times: Vec<u64> = times.collect();
    let first = times.partition_point(|&at| at < times[0] + SECOND_NS);
    let times = &times[first..];
    let in_second = |(index, &at): (usize, &u64)| {
        times.partition_point(|&other| other < at + SECOND_NS) - index
    };
    times.iter().enumerate().map(in_second).max().unwrap_or(0)
}

fn assert_nothing_is_lost(ended: &Ended) {
    ended.assert_good();
    for count in [
        "dropped",
        "delivery_failures",
        "truncated",
        "malformed",
        "foreign",
        "unread",
        "not_written",
    ] {
        assert_eq!(ended.stat(count), 0, "{count}");
    }
    let requests = ended.stat("requests");
    assert_eq!(ended.stat("received"), ended.stat("events") + requests);
    assert_eq!(ended.stat("not_shown"), requests);
}

/// A flood of UDP flows over loopback, then few events until sampling has ended.
fn flood_then_rest(options: &str, filter: &str) {
    own_namespace();
    must(TRACK);
    let reference = Reference::start();
    let follower = Follower::start(&format!("conntrack --json --max-rate 2k {options}"));
    flood("conntrack-flows", 20_000, 60_000);
    let mut rests = 0;
    while !follower.lines().iter().any(|line| ends(line)) {
        flood("conntrack", 100, 100);
        rests += 1;
        assert!(rests < 30, "sampling ends");
    }
    let ended = follower.end();
    let all = reference.end();
    assert_nothing_is_lost(&ended);
    let lines: Vec<String> = ended.output.lines().map(str::to_owned).collect();
    let objects = common::json::objects(Events::Conntrack, &lines);
    let filter: Filter = filter.parse().expect("a filter");
    let segments = segments(&objects, &filter);
    assert_sampled(&all, &segments);
    let _ = assert_whole(&all, &segments);

    let samplings: Vec<&Value> = objects
        .iter()
        .filter(|object| is_sampling(object))
        .collect();
    assert_eq!(samplings[0]["before_one_in"], 1);
    assert_eq!(samplings[samplings.len() - 1]["one_in"], 1);
    for pair in samplings.windows(2) {
        assert_eq!(pair[0]["one_in"], pair[1]["before_one_in"]);
    }
    let most = samplings
        .iter()
        .filter_map(|object| object["one_in"].as_u64());
    let sampled = ended.stats["sampled"].as_array().expect("a list");
    let ratios = sampled.iter().filter_map(|at| at["one_in"].as_u64());
    assert_eq!(most.max(), ratios.max());
    assert!(sampled.iter().all(|at| at["seconds"].as_f64() > Some(0.0)));
    let summary = "\nsampled, so that flows are left out: ";
    assert!(ended.errors.contains(summary), "{}", ended.errors);
    let busiest = busiest_second(&objects);
    assert!(busiest <= 2500, "{busiest}");
}

#[test]
fn a_flood_is_sampled_exactly_until_it_is_over() {
    if !is_installed("nft") {
        return skip("a_flood_is_sampled_exactly", "nft is not installed");
    }
    flood_then_rest("", "all");
}

#[test]
fn sampling_combines_with_filters() {
    if !is_installed("nft") {
        return skip("sampling_combines_with_filters", "nft is not installed");
    }
    flood_then_rest("-p udp --dport !7", "proto udp and not dport 7");
}

/// The lines of text of a run with a flood above or below the limit.
fn text_of_flood(max_rate: &str) -> Ended {
    own_namespace();
    let follower = Follower::start(&format!("conntrack --max-rate {max_rate}"));
    flood("conntrack", 4000, 6000);
    let ended = follower.end();
    assert_nothing_is_lost(&ended);
    ended
}

#[test]
fn a_rate_below_the_limit_is_not_sampled_and_nothing_is_said() {
    let ended = text_of_flood("20k");
    assert_eq!(ended.stat("events"), 6000);
    assert_eq!(
        ended
            .output
            .lines()
            .filter(|line| line.contains("SAMPL"))
            .count(),
        0
    );
    assert!(!ended.errors.contains("sampl"), "{}", ended.errors);
    assert_eq!(ended.stats["sampled"], json!([]));
}

#[test]
fn text_says_that_flows_are_left_out_on_purpose() {
    let ended = text_of_flood("1k");
    let lines = ended.output.lines();
    let changes: Vec<&str> = lines
        .filter(|line| line.starts_with(" [SAMPLING] "))
        .collect();
    for part in [
        " flows since 2",
        "Z and leaving out the others on purpose: about ",
        ", the limit is 1000",
    ] {
        assert!(changes[0].contains(part), "{changes:?}");
    }
    assert_eq!(ended.event_count(), ended.stat("events"));
}

#[test]
fn what_needs_all_flows_is_refused() {
    for (options, reason) in [
        (
            "--mirror",
            "--mirror keeps the whole table, which needs all events",
        ),
        (
            "--snapshot",
            "--snapshot shows all flows, and keeps them in a mirror, which needs all events",
        ),
        (
            "--snapshot --once",
            "--once lists each flow once, at no rate",
        ),
        (
            "-e new,expect",
            "it samples flows, and -e expect follows expectations",
        ),
    ] {
        let line = format!("conntrack --max-rate 50k {options}");
        let words: Vec<&str> = line.split(' ').collect();
        let output = run(NLRING, &words).expect("nlring");
        let errors = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{errors}");
        let error = format!("--max-rate cannot be used here: {reason}");
        assert!(errors.contains(&error), "{errors}");
    }
    for (value, reason) in [("9", "at least 10"), ("5x", "such as 800, 50k or 1M")] {
        let output = run(NLRING, &["conntrack", "--max-rate", value]).expect("nlring");
        let errors = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(reason), "{errors}");
    }
}

/// Whether somebody listens to ends of flows, the last group that nlring joins, in a namespace.
fn is_heard(name: &str) -> bool {
    let arguments = ["netns", "exec", name, "cat", "/proc/net/netlink"];
    let table = run("ip", &arguments).expect("ip").stdout;
    let table = String::from_utf8(table).expect("text");
    table.lines().skip(1).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let groups = u32::from_str_radix(words[3], 16).expect("groups");
        words[1] == "12" && groups & 0b100 != 0
    })
}

/// With --all-netns each namespace has the limit for itself.
#[test]
fn each_namespace_is_sampled_by_itself() {
    if !is_installed("ip") {
        return skip("each_namespace_is_sampled_by_itself", "ip is not installed");
    }
    own_namespace();
    own_names();
    must("ip netns add blue");
    let follower = Follower::start("conntrack --json --all-netns --max-rate 2k");
    await_that("nlring listens in blue", || is_heard("blue"));
    let flood_in_blue =
        format!("ip netns exec blue {NLRING} flood --here conntrack --rate 8000 --count 12000");
    let quiet = thread::spawn(|| flood("conntrack", 400, 600));
    must(&flood_in_blue);
    quiet.join().expect("a flood");
    let ended = follower.end();
    assert_nothing_is_lost(&ended);
    let objects: Vec<Value> = ended.output.lines().map(common::json::parse).collect();
    let samplings: Vec<&Value> = objects
        .iter()
        .filter(|object| is_sampling(object))
        .collect();
    assert!(
        samplings.iter().all(|object| object["netns"] == "blue"),
        "{samplings:?}"
    );
    assert!(!samplings.is_empty());
    let outside = objects.iter().filter(|object| object["netns"].is_null());
    assert_eq!(outside.count(), 600);
}
