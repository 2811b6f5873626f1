//! Each option does what it says.

mod common;

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nlring_testing::cpu_time;
use serde_json::Value;

use common::{
    Directory, Ended, Events, Follower, Groups, Load, NLRING, Run, await_that, best_of_3,
    field_names, is_real_root, make_flows, make_routes, own_namespace, remove_flows, remove_routes,
    run, skip,
};

/// Follows 100 events with these options.
fn follow_100(command: &str, options: &str) -> Ended {
    let follower = Follower::start(&format!("{command} {options}"));
    match command {
        "route" => make_routes(0..100),
        _ => make_flows(0..100),
    }
    follower.await_lines(100);
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("events"), 100);
    assert_eq!(ended.stat("dropped"), 0);
    ended
}

#[test]
fn each_backend_can_be_chosen() {
    for (asked, got) in [
        ("auto", None),
        ("multishot", Some("multishot")),
        ("oneshot", Some("oneshot:32")),
        ("oneshot:1", Some("oneshot:1")),
        ("oneshot:128", Some("oneshot:128")),
        ("recvmmsg", Some("recvmmsg")),
    ] {
        own_namespace();
        for command in ["conntrack", "route"] {
            let ended = follow_100(command, &format!("--backend {asked}"));
            let (backend, reason) = (&ended.stats["backend"], &ended.stats["backend_reason"]);
            let (backend, reason) = (backend.as_str().unwrap(), reason.as_str().unwrap());
            match got {
                Some(got) => assert_eq!((backend, reason), (got, "asked for")),
                None => assert!(!reason.is_empty() && reason != "asked for", "{reason}"),
            }
            let reported = format!("backend: {backend} ({reason})");
            assert!(
                ended.errors.lines().any(|line| line == reported),
                "{reported}: {}",
                ended.errors
            );
        }
    }
}

#[test]
fn each_wait_works_on_each_backend() {
    for wait in ["auto", "prompt", "batch:100us", "batch:1ms", "spin"] {
        for backend in ["multishot", "oneshot", "recvmmsg"] {
            own_namespace();
            let ended = follow_100("route", &format!("--wait {wait} --backend {backend}"));
            assert!(!ended.errors.contains("--wait"), "{}", ended.errors);
        }
    }
}

#[test]
fn a_wait_that_the_buffer_cannot_absorb_is_cut_and_reported() {
    own_namespace();
    let ended = follow_100("conntrack", "--wait batch:10m --recv-buffer 256KiB");
    let warning = ended
        .errors
        .lines()
        .find(|line| line.starts_with("nlring: warning: "));
    let warning = warning.unwrap_or_else(|| panic!("a warning: {}", ended.errors));
    assert!(
        warning.contains("--wait batch:") && warning.contains("--recv-buffer"),
        "{warning}"
    );
}

/// The kernel grants twice the requested size, up to this.
const MOST_GRANTED: u64 = 2_147_483_646;

#[test]
fn the_receive_buffer_has_the_requested_size() {
    own_namespace();
    for (asked, bytes) in [
        ("", 8 << 20),
        ("--recv-buffer 65536", 65_536),
        ("--recv-buffer 64KiB", 64 << 10),
        ("--recv-buffer 3mib", 3 << 20),
        ("--recv-buffer 1GiB", 1 << 30),
    ] {
        for command in ["conntrack", "route"] {
            let ended = Run::new(&format!("{command} {asked} --duration 1ms")).run_to_end();
            ended.assert_good();
            assert_eq!(ended.stat("recv_buffer_requested_bytes"), bytes);
            let granted = ended.stat("recv_buffer_granted_bytes");
            let is_clamped = granted < (2 * bytes).min(MOST_GRANTED);
            assert_eq!(
                ended.errors.contains("net.core.rmem_max"),
                is_clamped,
                "{}",
                ended.errors
            );
            if is_real_root() {
                assert_eq!(granted, (2 * bytes).min(MOST_GRANTED), "{asked}");
            }
        }
    }
}

#[test]
fn a_receive_buffer_that_the_kernel_clamps_is_reported_once() {
    const NAME: &str = "a_receive_buffer_that_the_kernel_clamps_is_reported_once";
    let limit = fs::read_to_string("/proc/sys/net/core/rmem_max").ok();
    let limit = limit.and_then(|limit| limit.trim().parse::<u64>().ok());
    let Some(limit) = limit.filter(|limit| *limit < 1 << 30) else {
        return skip(
            NAME,
            "net.core.rmem_max is not known, or as large as a buffer may be",
        );
    };
    if !run("unshare", &["-Urn", "true"]).is_some_and(|output| output.status.success()) {
        return skip(NAME, "user namespaces are forbidden here");
    }
    for command in ["conntrack", "route"] {
        let arguments = format!("{command} --recv-buffer 1GiB --duration 1ms");
        let ended = Run::under("unshare -Urn", &arguments).run_to_end();
        ended.assert_good();
        let lines = ended.errors.lines();
        let warnings: Vec<&str> = lines
            .filter(|line| line.starts_with("nlring: warning: "))
            .collect();
        assert_eq!(warnings.len(), 1, "{}", ended.errors);
        assert!(warnings[0].contains("net.core.rmem_max"), "{warnings:?}");
        assert!(
            warnings[0].contains("1073741824") && warnings[0].contains(&limit.to_string()),
            "{warnings:?}"
        );
        assert_eq!(ended.stat("recv_buffer_requested_bytes"), 1 << 30);
        assert_eq!(ended.stat("recv_buffer_granted_bytes"), 2 * limit);
    }
}

#[test]
fn count_ends_the_command_after_exactly_this_many_events() {
    for backend in ["multishot", "oneshot", "recvmmsg"] {
        own_namespace();
        let follower = Follower::start(&format!("conntrack --count 7 --backend {backend}"));
        make_flows(0..3);
        follower.await_lines(3);
        follower.freeze(); // so that all other events are queued when the seventh is received
        make_flows(3..1_000);
        follower.thaw();
        let ended = follower.wait();
        ended.assert_good();
        assert_eq!(ended.event_count(), 7, "{backend}");
        assert_eq!(ended.stat("events"), 7);
        let seventh = ended.output.lines().nth(6).expect("a line");
        assert!(seventh.contains(" src=10.0.0.6 "), "{ended:#?}");
        let (received, unread) = (ended.stat("received"), ended.stat("unread"));
        assert_eq!(
            received + ended.stat("dropped") + unread,
            1_000,
            "{}",
            ended.errors
        );
        assert!(received >= 7);
        assert!(unread > 0, "{backend}");
        assert_eq!(ended.summary("unread"), unread);
        assert_eq!(ended.reported_unread(), unread, "the stream reports it too");
        let lost: u64 = ended.losses().iter().map(|loss| loss.count).sum();
        assert_eq!(lost, ended.stat("dropped"), "each loss is in the stream");
    }
}

#[test]
fn one_event_is_enough_for_a_count_of_one() {
    own_namespace();
    let follower = Follower::start("route --count 1");
    make_routes(0..1);
    let ended = follower.wait();
    ended.assert_good();
    assert_eq!(ended.output, "10.0.0.0 dev lo proto static scope link \n");
    assert_eq!(ended.stat("unread"), 0);
}

#[test]
fn duration_ends_the_command_after_this_time() {
    own_namespace();
    best_of_3(|| {
        let follower = Follower::start("conntrack --duration 700ms");
        make_flows(0..5);
        let ended = follower.wait();
        remove_flows(0..5);
        ended.assert_good();
        assert!(ended.took >= Duration::from_millis(700), "{:?}", ended.took);
        let seconds = ended.stats["seconds"].as_f64().expect("seconds");
        let is_whole = (0.7..=ended.took.as_secs_f64()).contains(&seconds);
        assert!(is_whole, "{seconds} of {:?}", ended.took);
        if ended.stat("events") != 5 {
            return Err(format!("it ended before the events: {}", ended.errors));
        }
        Ok(())
    });
}

#[test]
fn count_or_duration_ends_it_whichever_is_first() {
    own_namespace();
    let ended = Run::new("route --count 5 --duration 100ms").run_to_end();
    ended.assert_good();
    assert_eq!(ended.stat("events"), 0);
    let follower = Follower::start("route --count 5 --duration 60m");
    make_routes(0..5);
    let ended = follower.wait();
    ended.assert_good();
    assert_eq!(ended.stat("events"), 5);
}

#[test]
fn output_is_appended_to() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("flows.log");
    let mut whole = 0;
    for round in 1..=3 {
        let follower = Follower::start(&format!("route --output {file}"));
        make_routes(0..10);
        follower.await_lines(round * 10);
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(ended.stat("events"), 10);
        remove_routes(0..10);
        whole = ended.event_count();
    }
    assert_eq!(whole, 30, "a restart keeps what is there");
}

#[test]
fn output_is_truncated_when_that_is_asked_for() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("flows.log");
    fs::write(&file, "old\n".repeat(10_000)).expect("a file");
    let follower = Follower::start(&format!("conntrack --truncate --output {file}"));
    await_that("the file is emptied", || {
        fs::metadata(&file).expect("the file").len() == 0
    });
    make_flows(0..2);
    follower.await_lines(2);
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.event_count(), 2);
    assert!(!ended.output.contains("old"));
}

#[test]
fn output_may_be_emptied_meanwhile_as_by_a_log_rotation() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("flows.log");
    let follower = Follower::start(&format!("conntrack --output {file}"));
    let text = || fs::read_to_string(&file).expect("the file");
    make_flows(0..2);
    await_that("two lines", || text().lines().count() == 2);
    fs::write(&file, "").expect("emptied");
    make_flows(2..5);
    await_that("three lines", || text().lines().count() == 3);
    assert!(!text().contains('\0'), "no hole where the old lines were");
    assert_eq!(follower.end().stat("events"), 5);
}

#[test]
fn output_is_standard_output_by_a_dash_and_by_default() {
    own_namespace();
    for options in [&["--output", "-"][..], &[]] {
        let directory = Directory::new();
        let file = directory.0.join("output");
        let mut command = Command::new(NLRING);
        command
            .args(["route", "--count", "1"])
            .args(options)
            .stdout(fs::File::create(&file).expect("a file"))
            .stderr(Stdio::null());
        let before = Groups::of(Events::Route).listeners();
        let mut child = command.spawn().expect("nlring");
        await_that("nlring listens", || {
            Groups::of(Events::Route).has_more_than(&before)
        });
        make_routes(0..1);
        assert!(child.wait().expect("its end").success());
        remove_routes(0..1); // not before: its event could be unread at the end
        let output = fs::read_to_string(&file).expect("the output");
        assert_eq!(output, "10.0.0.0 dev lo proto static scope link \n");
    }
}

/// Asserts that the statistics have exactly the names and types of docs/json.md.
#[track_caller]
fn assert_is_documented(stats: &Value) {
    let manual = include_str!("../../docs/json.md");
    let rows = manual
        .lines()
        .skip_while(|line| !line.starts_with("## The summary of a run"))
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `"));
    let mut documented = HashSet::new();
    for row in rows {
        let columns: Vec<&str> = row.split(" | ").collect();
        for name in columns[0].split('`').skip(1).step_by(2) {
            let value = &stats[name];
            let is_as_said = match columns[1] {
                "number" => value.is_number(),
                "number or null" => value.is_number() || value.is_null(),
                "string or null" => value.is_string() || value.is_null(),
                "boolean" => value.is_boolean(),
                "list of strings" | "list of objects" => value.is_array(),
                other => panic!("{name}: {other}"),
            };
            let is_left_out = row.contains("left out when it is 0") && value.is_null();
            assert!(is_as_said || is_left_out, "{name}: {}: {stats}", columns[1]);
            if !is_left_out {
                documented.insert(name);
            }
        }
    }
    assert_eq!(field_names(stats), documented);
}

#[test]
fn stats_has_every_field() {
    own_namespace();
    let ended = follow_100("conntrack", "");
    assert_is_documented(&ended.stats);
    assert!(ended.stats["seconds"].as_f64().expect("seconds") > 0.0);
    assert!(ended.stat("cpu_ns_per_event") > 0);
    assert!(ended.stats["backend"].is_string() && ended.stats["backend_reason"].is_string());
    for name in [
        "truncated",
        "malformed",
        "foreign",
        "unread",
        "not_written",
        "not_shown",
    ] {
        assert_eq!(ended.stat(name), 0, "{name}");
    }
    // A [NEW] of a TCP flow over IPv4 is more than its tuples, and less than a page.
    assert!(
        (100 * 100..100 * 400).contains(&ended.stat("bytes")),
        "{}",
        ended.stats
    );

    let ended = Run::new("conntrack --duration 1ms").run_to_end();
    assert_is_documented(&ended.stats);
    assert!(
        ended.stats["cpu_ns_per_event"].is_null(),
        "there was no event"
    );

    let ended = Run::new("conntrack --output /").run_to_end();
    assert_eq!(ended.code, Some(1));
    assert_is_documented(&ended.stats); // also when it fails
    assert!(ended.stats["backend"].is_null() && ended.stats["backend_reason"].is_null());
}

/// The groups are joined without any event, and each event after that is shown.
#[test]
fn the_first_event_after_the_groups_are_joined_is_shown() {
    own_namespace();
    for (command, events) in [("conntrack", Events::Conntrack), ("route", Events::Route)] {
        let groups = Groups::of(events);
        let before = groups.listeners();
        let follower = Run::new(command).spawn();
        await_that("the groups are joined", || groups.has_more_than(&before));
        match events {
            Events::Conntrack => make_flows(0..1),
            Events::Route => make_routes(0..1),
        }
        follower.await_lines(1);
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(ended.stat("events"), 1, "{command}");
    }
}

/// Events before the groups are joined are not received, so the command does little until then: less than a hundred
/// times what it costs to make 1,000 flows. CPU time shows that on a busy machine too.
#[test]
fn the_groups_are_joined_soon() {
    own_namespace();
    let start = cpu_time();
    make_flows(0..1000); // a table that is worth a look, and is not looked at
    let limit = cpu_time().saturating_sub(start) * 100;
    for command in ["conntrack", "route"] {
        let follower = Run::new(command).start();
        let took = follower.cpu_time();
        assert!(took > Duration::ZERO, "the kernel counts it");
        assert!(took < limit, "{command}: {took:?} of {limit:?}");
        follower.end().assert_good();
    }
}

/// Under load, and with `--wait spin`, which never sleeps, the command looks at the clock.
#[test]
fn duration_ends_it_under_load() {
    own_namespace();
    let load = Load::start(Events::Route);
    for options in ["", "--wait spin", "--wait batch:1ms --backend recvmmsg"] {
        let ended = Follower::start(&format!("route --duration 300ms {options}")).wait();
        ended.assert_good();
        assert!(ended.stat("events") > 0, "{options}");
        let seconds = ended.stats["seconds"].as_f64().expect("seconds");
        assert!(seconds >= 0.3, "{options}: {seconds}");
    }
    drop(load);
}
