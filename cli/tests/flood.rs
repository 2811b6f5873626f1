//! `nlring flood` makes as many events as it says, when they are due, and leaves nothing behind.

mod common;
#[path = "common/terminal.rs"]
mod terminal;

use std::collections::HashSet;
use std::fs;
use std::process::{Child, Command, Output, Stdio};

use nlring::{Protocol, RecvFlags, Socket};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::UnshareFlags;
use serde_json::Value;

use common::{
    Ended, Follower, NLRING, await_that, field_names, is_installed, make_flows, make_routes, must,
    own_namespace, run, skip, unshare,
};
use terminal::Terminal;

const TRACK: &str = "nft add table inet t; add chain inet t c { type filter hook output priority 0; }; \
                     add rule inet t c ct state new";

/// Each source of events, and the command that receives them.
const SOURCES: [(&str, &str); 5] = [
    ("conntrack", "conntrack"),
    ("conntrack-flows", "conntrack"),
    ("conntrack-tcp", "conntrack"),
    ("conntrack-flush", "conntrack"),
    ("route", "route"),
];

/// Makes a namespace in which the source works. False: a program that it needs is not installed.
fn namespace_for(source: &str) -> bool {
    own_namespace();
    if ["conntrack-flows", "conntrack-tcp"].contains(&source) {
        if !is_installed("nft") {
            skip(source, "nft is not installed");
            return false;
        }
        must(TRACK);
    }
    true
}

fn start_flood(arguments: &str) -> Child {
    Command::new(NLRING)
        .args(["flood", "--json"])
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nlring runs")
}

#[track_caller]
fn report(flood: Child) -> Value {
    let output = flood.wait_with_output().expect("its output");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[track_caller]
fn flood(arguments: &str) -> Value {
    report(start_flood(arguments))
}

fn interrupt(flood: &Child, signal: Signal) {
    let id = i32::try_from(flood.id()).expect("a process ID");
    let id = Pid::from_raw(id).expect("a process ID");
    kill_process(id, signal).expect("a signal sent");
}

/// Runs a flood that must fail, and returns its messages.
#[track_caller]
fn failure(arguments: &str, code: i32) -> String {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let Output { status, stderr, .. } =
        run(NLRING, &[&["flood"], &words[..]].concat()).expect("nlring");
    let errors = String::from_utf8(stderr).expect("UTF-8");
    assert_eq!(status.code(), Some(code), "{arguments}: {errors}");
    errors
}

/// Conntrack entries and routes of this namespace.
fn left() -> (u64, usize) {
    let entries = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
    let entries = entries.map_or(0, |count| count.trim().parse().expect("a count"));
    let routes = fs::read_to_string("/proc/thread-self/net/route").expect("routes");
    (entries, routes.lines().skip(1).count())
}

/// Asserts that a collector received or lost each event that was made.
#[track_caller]
fn assert_received(ended: &Ended, made: u64) {
    ended.assert_good();
    let (received, dropped) = (ended.stat("received"), ended.stat("dropped"));
    assert_eq!(received + dropped, made, "{received} + {dropped}");
    if dropped == 0 {
        let is_update = |line: &&str| line.contains("[UPDATE]");
        let is_end = |line: &&str| line.contains("[DESTROY]") || line.starts_with("Deleted");
        let lines = || ended.output.lines().filter(|line| !is_update(line));
        let end_count = lines().filter(is_end).count();
        assert_eq!(
            lines().count(),
            2 * end_count,
            "each entry that began has ended"
        );
    }
}

#[test]
fn a_collector_receives_every_event_that_was_made() {
    for (source, command) in SOURCES {
        for options in [
            "--count 2000",
            "--count 2001",
            "--count 1",
            "--count 600 --rate 20000",
            "--count 630 --rate 20000 --burst 100",
            "--duration 20ms --rate 5000",
        ] {
            if !namespace_for(source) {
                continue;
            }
            let collector = Follower::start(command);
            let report = flood(&format!("{source} --here {options}"));
            let ended = collector.end();
            assert_received(&ended, report["events"].as_u64().expect("a count"));
            assert_eq!(left(), (0, 0), "{source} {options}");
        }
    }
}

#[test]
fn count_limits_the_events_or_the_entries_to_flush() {
    for (source, count, events, removed) in [
        ("usersock", 7, 7, 0),
        ("conntrack", 1000, 1000, 0),
        ("conntrack", 7, 8, 1),
        ("route", 7, 8, 1),
        ("conntrack-flows", 7, 8, 1),
        ("conntrack-tcp", 7, 10, 3),
        ("conntrack-tcp", 10, 10, 0),
        ("conntrack-flush", 1000, 2000, 1000),
    ] {
        if !namespace_for(source) {
            continue;
        }
        let report = flood(&format!("{source} --here --count {count}"));
        assert_eq!(report["source"], source);
        assert_eq!(report["events"], events, "{source}");
        assert_eq!(report["removed"], removed, "{source}");
    }
}

#[test]
fn datagrams_carry_their_index_and_the_time_they_were_due() {
    own_namespace();
    let listener = Socket::builder(Protocol::USERSOCK)
        .group(1_u32)
        .recv_buffer_bytes(8 << 20)
        .nonblocking(true)
        .open()
        .expect("a listener");
    let report = flood("usersock --here --count 500 --rate 50000 --size 332");
    assert_eq!(report["events"], 500);
    let mut buffer = vec![0; 64 << 10];
    let mut due_times = Vec::new();
    for number in 0..500_u64 {
        let list = listener.recv(&mut buffer, RecvFlags::NONE).expect("one");
        let message = list.iter().next().expect("a message");
        assert_eq!(message.message_type(), 16);
        assert_eq!(message.header().length_bytes, 332);
        let word =
            |at: usize| u64::from_ne_bytes(message.payload()[at..at + 8].try_into().unwrap());
        assert_eq!(word(0), number);
        due_times.push(word(8));
    }
    assert!(listener.recv(&mut buffer, RecvFlags::NONE).is_err());
    let gaps: HashSet<u64> = due_times.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(gaps, HashSet::from([20_000]), "nanoseconds");
}

#[test]
fn no_event_is_made_before_it_is_due() {
    own_namespace();
    for (options, seconds) in [
        ("--count 100 --rate 1000", 0.099),
        ("--count 101 --rate 1000 --burst 50", 0.1),
        ("--duration 150ms", 0.15),
        ("--duration 150ms --rate 10", 0.15),
    ] {
        for source in ["usersock", "route"] {
            let report = flood(&format!("{source} --here {options}"));
            let took = report["seconds"].as_f64().expect("seconds");
            assert!(took >= seconds, "{source} {options}: {report}");
        }
    }
    let report = flood("usersock --here --duration 150ms --rate 10");
    assert!(
        report["events"].as_u64() <= Some(2),
        "at 0 and 100 ms: {report}"
    );
}

#[test]
fn an_interrupt_removes_and_counts_what_was_made() {
    let signals = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];
    for ((source, command), signal) in SOURCES.into_iter().zip(signals.into_iter().cycle()) {
        if !namespace_for(source) {
            continue;
        }
        let collector = Follower::start(command);
        let flood = start_flood(&format!("{source} --here --rate 5000 --duration 1m"));
        collector.await_lines(200);
        interrupt(&flood, signal);
        let report = report(flood);
        let ended = collector.end();
        assert_received(&ended, report["events"].as_u64().expect("a count"));
        assert_eq!(left(), (0, 0), "{source}");
    }
}

#[test]
fn in_its_own_namespace_a_flood_changes_nothing_here() {
    for (source, command) in SOURCES {
        if !namespace_for(source) {
            continue;
        }
        make_flows(0..3);
        make_routes(0..4);
        let collector = Follower::start(command);
        let report = flood(&format!("{source} --count 1000"));
        assert!(report["events"].as_u64() >= Some(1000), "{report}");
        let ended = collector.end();
        assert_received(&ended, 0);
        assert_eq!(left(), (3, 4), "{source}");
    }
}

#[test]
fn entries_that_others_made_stay() {
    own_namespace();
    make_flows(0..5);
    flood("conntrack-flush --here --count 1000");
    flood("conntrack --here --count 1000");
    assert_eq!(left(), (5, 0));
    if !is_installed("ip") {
        return skip("others' routes", "ip is not installed");
    }
    must("ip route add 240.0.0.9/32 dev lo");
    let errors = failure("route --here --count 100", 1);
    assert!(
        errors.contains("File exists") && errors.contains("ip route flush proto 158"),
        "{errors}"
    );
    assert_eq!(left(), (5, 1));
}

#[test]
fn what_the_host_lacks_is_reported_with_its_remedy() {
    let devices_are_down = || unshare(UnshareFlags::NEWNET).expect("a network namespace");
    devices_are_down();
    for source in ["route", "conntrack-flows", "conntrack-tcp"] {
        let errors = failure(&format!("{source} --here --count 10"), 1);
        assert!(errors.contains("ip link set lo up"), "{errors}");
    }
    own_namespace();
    for source in ["conntrack-flows", "conntrack-tcp"] {
        let errors = failure(&format!("{source} --here --count 10"), 1);
        assert!(
            errors.contains("not tracked") && errors.contains("nft"),
            "{errors}"
        );
    }
    let errors = failure("conntrack-flush --here --count 100000000", 1);
    // What is full first depends on the host's settings: the table, or a chain of it.
    assert!(
        errors.contains("net.netfilter.nf_conntrack_max")
            || errors.contains("net.netfilter.nf_conntrack_buckets"),
        "{errors}"
    );
    assert_eq!(left(), (0, 0));
}

/// The kernel refuses the whole batch by one answer. A command that waited for an answer to each request would report a
/// time-out instead.
#[test]
fn without_the_capability_one_refusal_ends_the_flood() {
    const NAME: &str = "without_the_capability_one_refusal_ends_the_flood";
    const WITHOUT: &[&str] = &["--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    let with = |command: &[&str]| run("setpriv", &[WITHOUT, command].concat());
    if !with(&["true"]).is_some_and(|output| output.status.success()) {
        return skip(NAME, "no setpriv, or it may not give capabilities up");
    }
    own_namespace();
    for source in ["conntrack", "conntrack-flush", "route"] {
        let output = with(&[NLRING, "flood", "--here", source, "--count", "200"]);
        let output = output.expect("setpriv");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{source}: {errors}");
        for part in ["not permitted", "CAP_NET_ADMIN"] {
            assert!(errors.contains(part), "{source}: {part} in: {errors}");
        }
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(!errors.contains("did not reply"), "{source}: {errors}");
    }
}

#[test]
fn a_terminal_shows_the_progress() {
    own_namespace();
    let terminal = Terminal::with_columns(80);
    let flood = Command::new(NLRING)
        .args("flood usersock --here --rate 1000 --duration 1m".split(' '))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(terminal.slave())
        .spawn()
        .expect("nlring runs");
    await_that("a line of progress, renewed", || {
        let screen = terminal.screen();
        let count = terminal.text().matches(" made, ").count();
        count >= 2 && screen.len() == 1 && screen[0].contains(" events/s, ")
    });
    interrupt(&flood, Signal::INT);
    let output = flood.wait_with_output().expect("its end");
    assert!(output.status.success());
    await_that("it is erased", || terminal.screen() == [""]);
}

#[test]
fn bad_options_are_refused_with_the_remedy() {
    for (options, remedy) in [
        ("", "<SOURCE>"),
        ("flows", "conntrack-flows"),
        ("usersock --rate 0", "from 1"),
        ("usersock --rate -5", "from 1"),
        ("usersock --rate 4294967296", "4294967295"),
        ("usersock --burst 2", "--rate"),
        ("usersock --rate 5 --burst 0", "from 1"),
        ("usersock --count 0", "from 1"),
        ("usersock --duration 10", "10s"),
        ("usersock --size 31", "from 32"),
        ("usersock --size 33KiB", "32768"),
        ("usersock --size 333", "multiple of 4"),
        ("route --size 100", "usersock"),
        ("usersock --cpu first", "lscpu"),
        ("usersock --cpu 100000", "lscpu"),
    ] {
        let errors = failure(options, 2);
        assert!(errors.contains(remedy), "{options}: {errors}");
    }
}

#[test]
fn the_report_is_text_or_json() {
    let output = run(NLRING, &["flood", "conntrack-flush", "--count", "100"]).expect("nlring");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(": ").next())
        .collect();
    assert_eq!(
        names,
        ["events", "rate", "flush", "CPU per event"],
        "{text}"
    );
    assert!(text.starts_with("events: 200\n"), "{text}");
    let report = flood("usersock --count 10 --rate 1000");
    assert_eq!(
        field_names(&report),
        HashSet::from([
            "source",
            "events",
            "removed",
            "seconds",
            "events_per_second",
            "asked_events_per_second",
            "most_late_ns",
            "cpu_ns_per_event",
            "flush_seconds",
            "flush_events_per_second",
        ])
    );
    let text = include_str!("../../docs/json.md");
    let (_, section) = text
        .split_once("## The load: `nlring flood --json`")
        .expect("its section");
    for name in field_names(&report) {
        assert!(section.contains(&format!("`{name}`")), "{name}");
    }
    assert_eq!(report["flush_seconds"], Value::Null);
    assert_eq!(report["asked_events_per_second"], 1000);
}
