//! What may happen to a collector in its life: it is stopped for long, the clock is set, devices flap.

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant, SystemTime};

use common::{
    Directory, Events, Load, Run, add_device, await_that, make_routes, must, own_namespace,
    remove_routes, run, skip,
};
use rustix::process::Signal;

/// Stops the collector for a time, under load, and checks that each event is counted.
fn stop_for(time: Duration) {
    own_namespace();
    for (events, arguments) in [
        (Events::Conntrack, "conntrack --recv-buffer 64KiB"),
        (
            Events::Route,
            "route --recv-buffer 64KiB --backend recvmmsg",
        ),
    ] {
        let follower = Run::new(arguments).start();
        let load = Load::start(events);
        await_that("events come", || !follower.lines().is_empty());
        follower.freeze();
        std::thread::sleep(time);
        drop(load);
        follower.thaw();
        let load = Load::start(events);
        await_that("it goes on", || follower.lines().last().is_some());
        drop(load);
        let ended = follower.end();
        ended.assert_good();
        let counted = ended.stat("received") + ended.stat("dropped") + ended.stat("unread");
        assert!(ended.stat("dropped") > 0, "{arguments}: {ended:#?}");
        // The load makes and removes 512 entries at a time, to the end.
        assert_eq!(counted % 1024, 0, "{arguments}: {counted}");
        let lost: u64 = ended.losses().iter().map(|loss| loss.count).sum();
        assert_eq!(lost, ended.stat("dropped"), "{arguments}");
    }
}

#[test]
fn a_collector_that_is_stopped_for_seconds_counts_what_it_missed() {
    stop_for(Duration::from_secs(4));
}

#[test]
#[ignore = "takes a minute: scripts/faults"]
fn a_collector_that_is_stopped_for_a_minute_counts_what_it_missed() {
    stop_for(Duration::from_secs(60));
}

/// A device with routes goes down and up again, `count` times.
fn flap(count: usize) {
    const NAME: &str = "flapping";
    own_namespace();
    if !add_device("flap0", &["192.0.2.1/24"]) {
        return skip(NAME, "no suitable kind of device");
    }
    let directory = Directory::new();
    let (batch, table) = (directory.file("batch"), directory.file("table"));
    let mut run = Run::new("route --mirror --recv-buffer 256KiB");
    run.command.args(["--table", &table]);
    let follower = run.start();
    let mut lines = String::new();
    for number in 0..count {
        let place = number % 250;
        lines += "link set flap0 up\n";
        _ = writeln!(lines, "route replace 198.51.100.{place}/32 via 192.0.2.9");
        _ = writeln!(lines, "route replace 203.0.113.{place}/32 dev flap0");
        if number + 1 < count {
            lines += "link set flap0 down\n"; // its IPv4 routes go without an event
        }
    }
    fs::write(&batch, lines).expect("a file");
    must(&format!("ip -batch {batch}"));
    let mut differences = String::new();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(30) {
        let _ = fs::remove_file(&table);
        follower.signal(Signal::USR1);
        await_that("the table is written", || fs::metadata(&table).is_ok());
        let (ours, theirs) = (mirrored(&table), listed());
        if ours == theirs {
            follower.end().assert_good();
            return;
        }
        differences = format!(
            "missing: {:?}, left over: {:?}",
            theirs.difference(&ours).take(5).collect::<Vec<_>>(),
            ours.difference(&theirs).take(5).collect::<Vec<_>>()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("the mirror does not become the kernel's table: {differences}");
}

/// The IPv4 destinations of the main table, as the mirror has them.
fn mirrored(table: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(table).expect("the table");
    let objects = text.lines().map(common::json::parse);
    let wanted = objects.filter(|route| route["table"] == 254 && route["family"] == "ipv4");
    wanted
        .filter_map(|route| {
            route["dst"]
                .as_str()
                .map(|dst| dst.trim_end_matches("/32").to_owned())
        })
        .collect()
}

/// The same as ip lists them.
fn listed() -> BTreeSet<String> {
    let output = run("ip", &["-4", "route", "show", "table", "main"]).expect("ip");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let first = |line: &str| line.split(' ').next().map(str::to_owned);
    text.lines().filter_map(first).collect()
}

#[test]
fn a_mirror_is_right_after_a_device_has_flapped() {
    flap(100);
}

#[test]
#[ignore = "takes a minute: scripts/faults"]
fn a_mirror_is_right_after_a_device_has_flapped_a_thousand_times() {
    flap(1000);
}

/// The day on which an event came, since 1970. None for the report of a loss, which has an interval.
fn day_of(line: &str) -> Option<i64> {
    let time_ns = common::json::parse(line)["time_ns"].as_i64()?;
    Some(time_ns / 86_400_000_000_000)
}

/// The clock of the wall is set back and forward. Durations, waits and the end do not depend on it, and losses have an
/// interval that does not end before it begins.
#[test]
fn a_clock_that_is_set_disturbs_nothing() {
    const NAME: &str = "a_clock_that_is_set_disturbs_nothing";
    let library = ["x86_64", "aarch64"]
        .map(|cpu| format!("/usr/lib/{cpu}-linux-gnu/faketime/libfaketimeMT.so.1"));
    let Some(library) = library.iter().find(|path| fs::metadata(path).is_ok()) else {
        return skip(
            NAME,
            "libfaketime is not installed, and the clock must not be set here",
        );
    };
    own_namespace();
    let directory = Directory::new();
    let time = directory.file("time");
    fs::write(&time, "+0").expect("a file");
    let since_1970 = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    let today = i64::try_from(since_1970.as_secs() / 86_400).expect("a day");
    for backend in ["multishot", "oneshot", "recvmmsg"] {
        let arguments = format!("route --json --backend {backend} --recv-buffer 16KiB");
        let mut run = Run::new(&arguments);
        run.command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &time)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let follower = run.start();
        let losses = || {
            let lost = |line: &String| line.contains("\"lost\"");
            follower.lines().iter().filter(|line| lost(line)).count()
        };
        let mut offered = 0;
        for (step, days) in [("+0", 0), ("-3650d", -3650), ("+3650d", 3650), ("-1h", 0)] {
            fs::write(&time, step).expect("a file");
            let before = follower.lines().len();
            make_routes(0..5);
            remove_routes(0..5);
            offered += 10;
            await_that(&format!("an event has the time {step}"), || {
                let lines = follower.lines();
                let mut seen = lines[before..].iter().filter_map(|line| day_of(line));
                seen.any(|day| day.abs_diff(today + days) <= 1)
            });
            let reported = losses();
            follower.freeze();
            fs::write(&time, "-1d").expect("a file");
            make_routes(0..500);
            remove_routes(0..500);
            offered += 1000;
            follower.thaw();
            make_routes(0..1);
            offered += 1;
            await_that("the loss is reported", || losses() > reported);
            remove_routes(0..1);
            offered += 1;
        }
        let ended = follower.end();
        ended.assert_good();
        let counted = ended.stat("received") + ended.stat("dropped") + ended.stat("unread");
        assert_eq!(counted, offered, "{backend}: {ended:#?}");
        assert!(
            ended.took < Duration::from_secs(10),
            "{backend}: {:?}",
            ended.took
        );
        let seconds = ended.stats["seconds"].as_f64().expect("seconds");
        assert!((0.0..600.0).contains(&seconds), "{backend}: {seconds}");
        for line in ended.output.lines().map(common::json::parse) {
            if line["event"] == "lost" {
                let time = |name: &str| line[name].as_u64().unwrap_or(0);
                assert!(time("since_ns") <= time("until_ns"), "{backend}: {line}");
            }
        }
    }
}
