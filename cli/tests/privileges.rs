//! Each command gives up the capabilities that it does not need after its start.

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Directory, Follower, NLRING, PATIENCE, Run, await_that, is_real_root, make_flows, make_routes,
    must, own_namespace, remove_routes, run, skip,
};
use rustix::process::Signal;

/// Waits until all threads of a process have exactly these capabilities, and may get no new ones.
#[track_caller]
fn await_kept(process_id: u32, wanted: &[u32], what: &str) {
    let wanted: u64 = wanted.iter().map(|number| 1 << number).sum();
    let mut differences = Vec::new();
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        differences = differences_of(process_id, wanted);
        if differences.is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("{what}: not {wanted:x}: {differences:#?}");
}

/// What the threads of a process have too much or too little.
fn differences_of(process_id: u32, wanted: u64) -> Vec<String> {
    let mut differences = Vec::new();
    let threads = fs::read_dir(format!("/proc/{process_id}/task"));
    let threads = threads.map(|threads| threads.flatten().collect::<Vec<_>>());
    for thread in threads.expect("its threads") {
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else {
            continue; // it has ended
        };
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_whitespace().nth(1));
            value.unwrap_or_default().to_owned()
        };
        let name = field("Name:");
        // The thread that waits for names of namespaces needs nothing at all.
        let wanted = if name == "namespaces" { 0 } else { wanted };
        for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
            let is_passed_on = matches!(set, "CapInh" | "CapAmb");
            let wanted = if is_passed_on { 0 } else { wanted };
            if u64::from_str_radix(&field(set), 16) != Ok(wanted) {
                differences.push(format!("thread {name}: {set} {}", field(set)));
            }
        }
        if field("NoNewPrivs:") != "1" {
            differences.push(format!("thread {name}: no no_new_privs"));
        }
    }
    differences
}

const CHOWN: u32 = 0;
const DAC_OVERRIDE: u32 = 1;
const FOWNER: u32 = 3;
const NET_ADMIN: u32 = 12;
const IPC_LOCK: u32 = 14;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const FILES: [u32; 3] = [CHOWN, DAC_OVERRIDE, FOWNER];

#[test]
fn each_collector_keeps_what_it_needs() {
    const NAME: &str = "each_collector_keeps_what_it_needs";
    if !is_real_root() {
        return skip(NAME, "only root has capabilities to give up");
    }
    own_namespace();
    let directory = Directory::new();
    let table = format!("--table {}", directory.file("table"));
    let stdout = "--output - --stats -";
    for (arguments, kept) in [
        (format!("route {stdout}"), vec![]),
        (format!("monitor {stdout}"), vec![]),
        (format!("route {stdout} --snapshot"), vec![]),
        (
            format!("route {stdout} --recv-buffer-max 32MiB"),
            vec![NET_ADMIN],
        ),
        (
            format!("route {stdout} --all-netns"),
            vec![NET_ADMIN, SYS_ADMIN],
        ),
        (
            format!("route {stdout} --all-netns=processes"),
            vec![NET_ADMIN, SYS_PTRACE, SYS_ADMIN],
        ),
        (format!("conntrack {stdout}"), vec![NET_ADMIN]),
        (format!("conntrack {stdout} --snapshot"), vec![NET_ADMIN]),
        ("route --stats -".to_owned(), FILES.to_vec()),
        ("route --output -".to_owned(), FILES.to_vec()),
        (
            format!("conntrack {stdout} --mirror {table}"),
            [&FILES[..], &[NET_ADMIN]].concat(),
        ),
    ] {
        let mut run = Run::new(&arguments);
        run.command.stdout(Stdio::null());
        let follower = run.start();
        let process_id = follower.child.id();
        await_kept(process_id, &kept, &arguments);
        let ended = follower.end();
        assert_eq!(ended.code, Some(0), "{arguments}: {ended:#?}");
    }
}

#[test]
fn the_commands_that_make_events_keep_what_they_need() {
    const NAME: &str = "the_commands_that_make_events_keep_what_they_need";
    if !is_real_root() {
        return skip(NAME, "only root has capabilities to give up");
    }
    for (arguments, kept) in [
        ("flood route --rate 100 --duration 20s", vec![NET_ADMIN]),
        ("flood conntrack --rate 100 --duration 20s", vec![NET_ADMIN]),
        (
            "latency --duration 20s --rate 100",
            vec![NET_ADMIN, IPC_LOCK],
        ),
        ("demo", vec![NET_ADMIN, IPC_LOCK]),
        ("demo --events", vec![NET_ADMIN]),
    ] {
        let mut command = Command::new(NLRING);
        command.args(arguments.split(' '));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped()) // full soon, so that it does not end
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("nlring runs");
        await_kept(child.id(), &kept, arguments);
        child.kill().expect("killed");
        child.wait().expect("its end");
    }
}

#[test]
fn the_statistics_name_what_was_kept() {
    own_namespace();
    let ended = Run::new("route --duration 1ms").run_to_end();
    ended.assert_good();
    let kept = ended.stats["capabilities"].as_array().expect("a list");
    let files = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"];
    assert!(
        kept.iter()
            .all(|name| files.iter().any(|file| name == file)),
        "{kept:?}"
    );
    assert_eq!(kept.len(), if is_real_root() { 3 } else { kept.len() });
}

/// What comes later than the start: a rotation, a growing buffer, a table, in a directory of another user.
#[test]
fn a_log_of_another_user_is_opened_again() {
    const NAME: &str = "a_log_of_another_user_is_opened_again";
    if !is_real_root() {
        return skip(NAME, "only root may write to the files of others");
    }
    own_namespace();
    let directory = Directory::new();
    let path = directory.file("");
    must(&format!("chmod 0755 {path}"));
    must(&format!("chown 1234 {path}"));
    let (output, table) = (directory.file("output"), directory.file("table"));
    let follower = Follower::start(&format!(
        "route --output {output} --mirror --table {table} --stats {}",
        directory.file("stats")
    ));
    make_routes(0..1);
    follower.await_lines(1);
    fs::rename(&output, directory.file("output.1")).expect("the rotation");
    fs::write(&output, "").expect("a new log");
    must(&format!("chown 1234 {output}"));
    must(&format!("chmod 0600 {output}"));
    follower.signal(Signal::HUP);
    follower.signal(Signal::USR1);
    await_that("the table is written", || fs::metadata(&table).is_ok());
    remove_routes(0..1);
    await_that("the new log has the event", || {
        fs::read_to_string(&output).is_ok_and(|text| text.contains("Deleted"))
    });
    let ended = follower.end();
    ended.assert_good();
    assert!(!ended.errors.contains("warning"), "{ended:#?}");
}

/// A namespace that appears later is followed, although most capabilities are given up.
#[test]
fn a_later_namespace_is_followed() {
    const NAME: &str = "a_later_namespace_is_followed";
    if !is_real_root() {
        return skip(NAME, "only root may enter namespaces");
    }
    own_namespace();
    nlring_testing::own_names();
    let follower = Follower::start("conntrack --all-netns -e new");
    must("ip netns add later");
    await_that("the namespace appears", || {
        follower
            .lines()
            .iter()
            .any(|line| line.contains("[APPEARED]"))
    });
    let add = "conntrack -I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 -t 100";
    let words = ["netns", "exec", "later"].into_iter().chain(add.split(' '));
    let words: Vec<&str> = words.collect();
    if run("ip", &words).is_some_and(|output| output.status.success()) {
        await_that("its event comes", || {
            follower
                .lines()
                .iter()
                .any(|line| line.contains("src=10.0.0.1"))
        });
    }
    make_flows(0..1);
    follower.end().assert_good();
}
