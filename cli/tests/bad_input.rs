//! Wrong usage exits with code 2 and a failure with code 1, and each message says what to do.

mod common;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use common::{
    Directory, Ended, Follower, NLRING, Run, make_routes, own_namespace, run, skip, whole_lines,
};

#[test]
fn wrong_usage_names_the_remedy() {
    let directory = Directory::new();
    let log = directory.file("flows.log");
    for (arguments, remedies) in [
        (
            "",
            &["Usage: nlring <COMMAND>", "conntrack", "route", "demo"][..],
        ),
        ("watch", &["'watch'", "--help"]),
        ("contrack", &["'contrack'", "'conntrack'"]),
        ("conntrack extra", &["'extra'", "--help"]),
        ("conntrack --follow", &["'--follow'", "--help"]),
        ("conntrack --durations 1s", &["'--duration'"]),
        ("conntrack --recv-buffer", &["--recv-buffer <SIZE>"]),
        ("conntrack -e nwe", &["'nwe'", "new, update, destroy, all"]),
        ("conntrack -e new,", &["new, update, destroy, all"]),
        (
            "conntrack -e delete",
            &["'delete'", "new, update, destroy, all"],
        ),
        ("conntrack -o ids", &["'ids'", "id"]),
        ("route -e update", &["'update'", "new, delete"]),
        ("route -o id", &["'id'", "timestamp"]),
        ("demo --count 1", &["'--count'", "--help"]),
        (
            "conntrack --duration 10",
            &["'10'", "us, ms, s, m, h or d", "10s"],
        ),
        ("conntrack --duration 1w", &["us, ms, s, m, h or d"]),
        ("conntrack --duration 0.5us", &["finer than a microsecond"]),
        ("conntrack --duration 0s", &["1us"]),
        (
            "conntrack --duration -1s",
            &["'-1s'", "us, ms, s, m, h or d"],
        ),
        ("conntrack --duration 99999999999999999999s", &["too large"]),
        ("conntrack --duration 2000000m", &["a year"]),
        ("conntrack --recv-buffer 0", &["'0'", "1 byte to 1GiB"]),
        ("conntrack --recv-buffer 2GiB", &["1 byte to 1GiB"]),
        ("conntrack --recv-buffer 1073741825", &["1 byte to 1GiB"]),
        (
            "conntrack --recv-buffer 18446744073709551616",
            &["too large"],
        ),
        ("conntrack --recv-buffer -5", &["'-5'", "KiB, MiB or GiB"]),
        ("conntrack --recv-buffer 8MB", &["KiB, MiB or GiB"]),
        ("conntrack --recv-buffer 1.5MiB", &["KiB, MiB or GiB"]),
        (
            "conntrack --wait fast",
            &["auto, prompt, batch:DELAY or spin"],
        ),
        ("conntrack --wait batch", &["batch:1ms"]),
        ("conntrack --wait batch:5", &["us, ms, s, m, h or d"]),
        ("conntrack --wait spin:1ms", &["only batch"]),
        (
            "conntrack --backend epoll",
            &["auto, multishot, oneshot, oneshot:DEPTH or recvmmsg"],
        ),
        ("conntrack --backend oneshot:0", &["1 to 128"]),
        ("conntrack --backend oneshot:129", &["1 to 128"]),
        ("conntrack --backend recvmmsg:8", &["only oneshot"]),
        ("conntrack --count 0", &["from 1"]),
        ("conntrack --count -1", &["from 1"]),
        ("conntrack --count many", &["from 1"]),
        ("conntrack --count 1 --count 2", &["--count"]),
    ] {
        fs::write(&log, "kept\n").expect("a file");
        let mut words: Vec<&str> = arguments.split_whitespace().collect();
        if words.len() > 2 {
            words.extend(["--output", &log]);
        }
        let output = run(NLRING, &words).expect("nlring");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments}");
        for remedy in remedies {
            assert!(
                errors.contains(remedy),
                "{arguments}: {remedy} in: {errors}"
            );
        }
        assert_eq!(
            fs::read_to_string(&log).expect("the file"),
            "kept\n",
            "nothing begun"
        );
    }
}

/// Options of conntrack(8) and ip-monitor(8).
#[test]
fn an_option_of_another_program_is_refused_with_its_equivalent() {
    for (arguments, remedies) in [
        (
            "conntrack --icmp-id 5",
            &["'--icmp-id'", "tip: ", "select(.orig.id == 7)", "jq -c"][..],
        ),
        ("conntrack --secmark=x", &["select(.secctx)"]),
        (
            "conntrack ! -s 192.0.2.1",
            &["'!'", "in front of the value", "-s '!192.0.2.1'"],
        ),
        ("conntrack -E", &["'-E'", "leave it out"]),
        ("conntrack -E -e NEW", &["'-E'", "leave it out"]),
        ("-E", &["'-E'", "nlring conntrack"]),
        ("conntrack -L", &["--snapshot --once"]),
        ("conntrack -z", &["conntrack -L -z"]),
        ("conntrack -b 8388608", &["--recv-buffer 8MiB"]),
        ("conntrack -D -p tcp", &["conntrack(8)"]),
        (
            "conntrack -o xml",
            &["'xml'", "--json", "timestamp, extended"],
        ),
        (
            "conntrack -o timestamp,save",
            &["'save'", "conntrack -L -o save"],
        ),
        ("route -t", &["-o timestamp"]),
        ("route -6", &["--filter 'family ipv6'"]),
        ("route dev eth0", &["--dev NAME"]),
        ("route table 5", &["--in-table"]),
        ("monitor -6", &[r#"select(.family == "ipv6")"#]),
        ("route -j", &["--json"]),
    ] {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let output = run(NLRING, &words).expect("nlring");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {errors}");
        for remedy in remedies {
            assert!(
                errors.contains(remedy),
                "{arguments}: {remedy} in: {errors}"
            );
        }
    }
}

#[test]
fn help_and_version_are_not_errors() {
    for (arguments, parts) in [
        (
            &["--help"][..],
            &["conntrack", "route", "demo", "--version"][..],
        ),
        (
            &["conntrack", "--help"],
            &[
                "--recv-buffer",
                "--wait",
                "[LOST] N datagrams between T1 and T2",
                "8MiB",
            ],
        ),
        (
            &["route", "-h"],
            &["--events", "[default: new,delete]", "--stats"],
        ),
        (&["help", "demo"], &["--backend"]),
        (&["--version"], &["nlring ", env!("CARGO_PKG_VERSION")]),
    ] {
        let output = run(NLRING, arguments).expect("nlring");
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        let text = String::from_utf8_lossy(&output.stdout);
        for part in parts {
            assert!(text.contains(part), "{arguments:?}: {part} in: {text}");
        }
    }
}

/// Asserts that the command failed before it began, with one message, and wrote its statistics.
#[track_caller]
fn assert_failed(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:#?}");
    assert_eq!(ended.errors.lines().count(), 1, "{ended:#?}");
    let failures = ended.failures();
    for part in parts {
        assert!(failures[0].contains(part), "{part} in: {ended:#?}");
    }
    assert_eq!(ended.stat("received"), 0, "{ended:#?}");
    assert_eq!(ended.output, "");
}

#[test]
fn without_permission_the_message_names_the_capability() {
    const NAME: &str = "without_permission_the_message_names_the_capability";
    const WITHOUT: &str = "setpriv --bounding-set=-net_admin --inh-caps=-net_admin";
    let mut words: Vec<&str> = WITHOUT.split(' ').skip(1).collect();
    words.push("true");
    if !run("setpriv", &words).is_some_and(|output| output.status.success()) {
        return skip(NAME, "no setpriv, or it may not give capabilities up");
    }
    own_namespace();
    let ended = Run::under(WITHOUT, "conntrack").run_to_end();
    assert_failed(&ended, 1, &["CAP_NET_ADMIN", "run as root"]);
    // Following routes needs no capability.
    let ended = Run::under(WITHOUT, "route --duration 1ms").run_to_end();
    ended.assert_good();
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    own_namespace();
    for command in ["conntrack", "route", "demo --events"] {
        for (file, reason) in [
            ("/nonexistent/output", "No such file"),
            ("/proc", "Is a directory"),
        ] {
            let ended = Run::new(&format!("{command} --output {file}")).run_to_end();
            assert_failed(&ended, 1, &[file, reason]);

            let ended = Run::new(&format!("{command} --stats {file}")).run_to_end();
            assert_eq!(ended.code, Some(1), "{ended:#?}");
            let failures = ended.failures();
            assert!(
                failures.len() == 1 && failures[0].contains(file),
                "{ended:#?}"
            );
            assert!(
                failures[0].contains("--stats") && failures[0].contains(reason),
                "{ended:#?}"
            );
        }
    }
}

#[test]
fn one_file_cannot_serve_two_options() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("both");
    let other_name = format!("{}/./both", directory.file(""));
    for arguments in [
        format!("route --output {file} --stats {file}"),
        format!("conntrack --output {file} --stats {other_name}"),
    ] {
        let ended = Run::new(&arguments).run_to_end();
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        let failures = ended.failures();
        assert!(
            failures.len() == 1 && failures[0].contains("--output and --stats"),
            "{ended:#?}"
        );
    }
}

#[test]
fn a_full_device_is_reported() {
    for backend in ["multishot", "oneshot", "recvmmsg"] {
        own_namespace();
        let follower = Follower::start(&format!("route --output /dev/full --backend {backend}"));
        follower.freeze(); // so that all events are queued when the first write fails
        make_routes(0..100);
        follower.thaw();
        let ended = follower.wait();
        assert_eq!(ended.code, Some(1), "{ended:#?}");
        let failures = ended.failures();
        assert_eq!(failures.len(), 1, "{ended:#?}");
        for part in [
            "/dev/full",
            "No space left on device",
            "written: 0",
            "unread: ",
        ] {
            assert!(failures[0].contains(part), "{part} in: {ended:#?}");
        }
        assert_eq!(ended.stat("events"), 0);
        let (received, unread) = (ended.stat("received"), ended.stat("unread"));
        assert_eq!(received + unread, 100, "{ended:#?}");
        assert!(
            failures[0].ends_with(&format!("unread: {unread}")),
            "{ended:#?}"
        );
        assert!(
            failures[0].contains(&format!("not written: {received}")),
            "{ended:#?}"
        );
        assert_eq!(
            ended.summary("received"),
            received,
            "the summary is there too"
        );
    }
}

#[test]
fn a_disk_that_fills_up_is_reported() {
    const NAME: &str = "a_disk_that_fills_up_is_reported";
    own_namespace();
    let directory = Directory::new();
    let (disk, copy) = (directory.file("disk"), directory.file("copy"));
    fs::create_dir(&disk).expect("a directory");
    let mount = format!("mount -t tmpfs -o size=64k none {disk}");
    if !run("unshare", &["-m", "sh", "-c", &mount]).is_some_and(|output| output.status.success()) {
        return skip(NAME, "no file system of its own may be mounted");
    }
    let script =
        format!("{mount} || exit 99; \"$@\"; code=$?; cp {disk}/output {copy}; exit $code");
    let mut run = Run::new(&format!("route --output {disk}/output"));
    let arguments: Vec<_> = run.command.get_args().map(ToOwned::to_owned).collect();
    run.command = std::process::Command::new("unshare");
    run.command
        .args(["-m", "sh", "-c", &script, "sh", NLRING])
        .args(arguments);
    let follower = run.start();
    make_routes(0..4_000); // 160 KB of lines
    let ended = follower.wait();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let failures = ended.failures();
    assert_eq!(failures.len(), 1, "{ended:#?}");
    assert!(
        failures[0].contains("No space left on device"),
        "{ended:#?}"
    );
    let written = ended.stat("events");
    let unread = ended.stat("unread");
    assert!(
        failures[0].contains(&format!(", written: {written},")),
        "{ended:#?}"
    );
    assert!(
        failures[0].ends_with(&format!("unread: {unread}")),
        "{ended:#?}"
    );
    assert_eq!(ended.summary("events"), written);
    let text = fs::read_to_string(&copy).expect("what was written");
    assert!(written > 0 && text.len() <= 64 << 10);
    let (losses, events): (Vec<&str>, Vec<&str>) = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .partition(|line| line.starts_with(" [LOST] "));
    assert_eq!(events.len() as u64, written, "whole lines, and {losses:?}");
}

#[test]
fn statistics_that_cannot_be_written_are_reported() {
    own_namespace();
    let ended = Run::new("route --stats /dev/full --duration 1ms").run_to_end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let failures = ended.failures();
    assert!(
        failures.len() == 1 && failures[0].contains("--stats to /dev/full"),
        "{ended:#?}"
    );
    assert_eq!(
        ended.summary("events"),
        0,
        "the summary is there nevertheless"
    );
}

#[test]
fn statistics_may_go_to_standard_output_after_the_events() {
    own_namespace();
    let mut run = Run::new("route --count 2 --output - --stats -");
    run.command.stdout(Stdio::piped());
    let mut follower = run.start();
    make_routes(0..2);
    let mut text = String::new();
    let mut stdout = follower.child.stdout.take().expect("its output");
    stdout.read_to_string(&mut text).expect("the output");
    assert_eq!(follower.wait().code, Some(0));
    let (events, stats) = text.split_once('{').expect("statistics");
    assert_eq!(events.lines().count(), 2, "{text}");
    let stats: serde_json::Value = serde_json::from_str(&format!("{{{stats}")).expect("JSON");
    assert_eq!(stats["events"], 2);
}

#[test]
fn wrong_usage_leaves_the_files_alone() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("same");
    fs::write(&file, "precious\n").expect("a file");
    let ended = Run::new(&format!("route --output {file} --stats {file}")).run_to_end();
    assert_eq!(ended.code, Some(2));
    assert_eq!(fs::read_to_string(&file).expect("the file"), "precious\n");
}

/// At the file size limit the write fails. No signal kills the process.
#[test]
fn a_file_size_limit_is_reported_like_a_full_disk() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("routes.log");
    let run = Run::under("prlimit --fsize=1024", &format!("route --output {file}"));
    let follower = run.start();
    make_routes(0..100);
    let ended = follower.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    assert!(ended.errors.contains("File too large"), "{}", ended.errors);
    let lines = whole_lines(Path::new(&file)).len() as u64;
    assert_eq!(ended.stat("events"), lines);
}
