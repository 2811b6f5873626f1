//! A disk fills up during a burst. Each event counts as written, not written or not shown. The file has whole lines,
//! in the number that the command reports.

mod common;

use std::fs::{self, File};
use std::path::Path;

use rustix::thread::UnshareFlags;

use nlring_testing::Random;

use common::{
    Directory, Ended, Events, Load, Run, flush_flows, json, make_flows, make_routes, mark_flows,
    own_namespace, remove_flows, remove_routes, run, skip, unshare,
};

/// Mounts a small disk for this test. None: this process may not mount.
fn small_disk() -> Option<Directory> {
    let disk = Directory::new();
    unshare(UnshareFlags::NEWNS).ok()?;
    let path = disk.file("");
    for arguments in [
        "--make-rprivate /".to_owned(),
        format!("-t tmpfs -o size=1m none {path}"),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        run("mount", &arguments).filter(|output| output.status.success())?;
    }
    Some(disk)
}

/// Fills a disk of 1 MiB until about `free_bytes` are free. The disk counts in pages.
fn fill(disk: &Directory, free_bytes: u64) {
    let file = File::create(disk.file("filler")).expect("a file");
    let room = (1 << 20) - free_bytes;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, room).expect("room");
}

/// Counts the lines of events. Other lines report gaps.
fn count_events(text: &str) -> u64 {
    let is_event = |line: &&str| {
        if line.starts_with('{') {
            let event = json::parse(line)["event"].clone();
            return ["new", "update", "destroy", "delete"]
                .iter()
                .any(|name| event == *name);
        }
        let gaps = ["[LOST]", "[UNREAD]", "[TRUNCATED]", "[MALFORMED]"];
        !line.is_empty() && !gaps.iter().any(|gap| line.contains(gap))
    };
    text.lines().filter(is_event).count() as u64
}

/// The lines after those that the file had before. They are whole.
fn events_in(file: &str, before: &str) -> u64 {
    let text = fs::read_to_string(file).expect("a text");
    let text = text.strip_prefix(before).expect("the lines before stay");
    assert!(text.is_empty() || text.ends_with('\n'), "a part of a line");
    count_events(text)
}

/// Asserts that each received event has an outcome.
#[track_caller]
fn assert_accounted(ended: &Ended, what: &str) {
    let parts = [
        "events",
        "not_written",
        "not_shown",
        "other_events",
        "truncated",
        "malformed",
        "foreign",
    ];
    let sum: u64 = parts.iter().map(|part| ended.stat(part)).sum();
    assert_eq!(sum, ended.stat("received"), "{what}: {}", ended.errors);
}

#[track_caller]
fn assert_disk_full(ended: &Ended, what: &str) {
    assert_eq!(ended.code, Some(1), "{what}: {}", ended.errors);
    let failures = ended.failures();
    assert_eq!(failures.len(), 1, "{what}: {}", ended.errors);
    let counts = format!(
        "No space left on device (os error 28); events received but not written: {}, written: {}, datagrams left unread: {}",
        ended.stat("not_written"),
        ended.stat("events"),
        ended.stat("unread"),
    );
    assert!(failures[0].ends_with(&counts), "{what}: {}", ended.errors);
    assert!(ended.stat("not_written") > 0, "{what}: {}", ended.errors);
    assert_accounted(ended, what);
}

const BURST: u32 = 4_000;

fn make_burst(command: &str) {
    if command.starts_with("route") {
        make_routes(0..BURST / 2);
        remove_routes(0..BURST / 2);
    } else {
        make_flows(0..BURST / 2);
        mark_flows(0..BURST / 4, 7);
        remove_flows(0..BURST / 4);
    }
}

/// How many events of the burst a command receives.
fn sent_to(command: &str) -> u64 {
    if command.contains("-e new,destroy") {
        (BURST - BURST / 4).into()
    } else {
        BURST.into()
    }
}

#[test]
fn every_event_of_a_burst_is_accounted_for() {
    const NAME: &str = "every_event_of_a_burst_is_accounted_for";
    let mut random = Random::new(0x5eed);
    let Some(disk) = small_disk() else {
        return skip(NAME, "no file system of its own may be mounted");
    };
    let stats = Directory::new();
    for command in [
        "conntrack",
        "conntrack --json",
        "conntrack --json -e new,destroy",
        "conntrack --recv-buffer 300KiB",
        "route",
        "route --json",
        "route -e delete",
    ] {
        for backend in ["multishot", "oneshot", "recvmmsg"] {
            own_namespace();
            let file = disk.file("output");
            let before = "x".repeat(random.index(5_000)) + "\n";
            fs::write(&file, &before).expect("a file");
            fill(&disk, 8_192 + u64::from(random.below(50_000)));
            let what = format!("{command} {backend}");
            let follower = Run::new(&format!(
                "{command} --backend {backend} --output {file} --stats {}",
                stats.file("stats")
            ))
            .start();
            follower.freeze(); // so that all events are queued when the first write fails
            make_burst(command);
            follower.thaw();
            let ended = follower.wait();
            assert_disk_full(&ended, &what);
            let sent = ended.stat("received") + ended.stat("dropped") + ended.stat("unread");
            assert_eq!(
                sent - ended.stat("other_events"),
                sent_to(command),
                "{what}: {}",
                ended.errors
            );
            assert_eq!(events_in(&file, &before), ended.stat("events"), "{what}");
            fs::remove_file(&file).expect("removed");
            fs::remove_file(disk.file("filler")).expect("removed");
        }
    }
}

/// Events go on during the failure, and the process is not frozen.
#[test]
fn every_event_of_a_stream_is_accounted_for() {
    const NAME: &str = "every_event_of_a_stream_is_accounted_for";
    let mut random = Random::new(0xd15c);
    let Some(disk) = small_disk() else {
        return skip(NAME, "no file system of its own may be mounted");
    };
    let stats = Directory::new();
    own_namespace();
    for (events, command) in [(Events::Conntrack, "conntrack"), (Events::Route, "route")] {
        let load = Load::start(events);
        for options in ["", "--json", "--wait prompt", "--wait batch:1ms --json"] {
            for backend in ["multishot", "oneshot", "recvmmsg"] {
                let file = disk.file("output");
                fill(&disk, 8_192 + u64::from(random.below(200_000)));
                let what = format!("{command} {options} {backend}");
                let ended = Run::new(&format!(
                    "{command} {options} --backend {backend} --output {file} --stats {}",
                    stats.file("stats")
                ))
                .run_to_end();
                assert_disk_full(&ended, &what);
                assert_eq!(events_in(&file, ""), ended.stat("events"), "{what}");
                fs::remove_file(&file).expect("removed");
                fs::remove_file(disk.file("filler")).expect("removed");
            }
        }
        drop(load);
        flush_flows();
    }
}

/// The other ends are a count, a second signal, and an end without failure.
#[test]
fn every_event_is_accounted_for_at_other_ends() {
    own_namespace();
    for backend in ["multishot", "oneshot", "recvmmsg"] {
        for command in [
            "conntrack -e new",
            "route -e delete",
            "conntrack",
            "route --json",
        ] {
            for count in ["", "--count 10"] {
                let what = format!("{command} {count} {backend}");
                let follower = Run::new(&format!("{command} {count} --backend {backend}")).start();
                follower.freeze();
                make_burst(command);
                if count.is_empty() {
                    follower.signal(rustix::process::Signal::INT);
                }
                follower.thaw();
                let ended = follower.wait();
                ended.assert_good();
                assert_accounted(&ended, &what);
                assert_eq!(count_events(&ended.output), ended.stat("events"), "{what}");
                flush_flows();
            }
        }
    }
}

/// With no room for a byte, the file does not change.
#[test]
fn a_disk_without_room_leaves_the_lines_before() {
    const NAME: &str = "a_disk_without_room_leaves_the_lines_before";
    let Some(disk) = small_disk() else {
        return skip(NAME, "no file system of its own may be mounted");
    };
    own_namespace();
    let file = disk.file("output");
    let before = "y".repeat(4_095) + "\n"; // a page
    fs::write(&file, &before).expect("a file");
    fill(&disk, 4_096);
    let elsewhere = Directory::new();
    let follower = Run::new(&format!(
        "route --output {file} --stats {} --stats-interval 1h",
        elsewhere.file("stats")
    ))
    .start();
    make_routes(0..10);
    let ended = follower.wait();
    assert_disk_full(&ended, "no room");
    assert_eq!(ended.stat("events"), 0);
    assert_eq!(fs::read_to_string(Path::new(&file)).expect("it"), before);
}
