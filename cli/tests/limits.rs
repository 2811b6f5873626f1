//! Limits of memory and of descriptors: the command works within them, or says at its start what is missing.

mod common;

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use common::{
    Ended, Events, Follower, Groups, NLRING, Run, await_that, is_installed, is_real_root,
    make_routes, own_namespace, remove_routes, run, skip,
};
use rustix::process::Signal;

/// Runs the command under a launcher, with a few events if it comes to listen. Returns what it reported, and the signal
/// that ended it.
fn run_with_events(launcher: &str, arguments: &str) -> (Ended, Option<i32>) {
    let mut follower = Run::under(launcher, arguments).spawn();
    let groups = Groups::of(Events::Route);
    let mut has_ended = false;
    await_that("it listens or ends", || {
        has_ended = follower.child.try_wait().expect("its status").is_some();
        has_ended || groups.are_joined_by(follower.child.id())
    });
    if !has_ended {
        make_events(&mut follower);
    }
    let mut status = None;
    await_that("it ends", || {
        status = follower.child.try_wait().expect("its status");
        status.is_some()
    });
    let signal = status.and_then(|status| status.signal());
    (follower.wait(), signal)
}

const EVENTS: u32 = 20;

fn make_events(follower: &mut Follower) {
    make_routes(0..EVENTS / 2);
    remove_routes(0..EVENTS / 2);
    let deadline = Instant::now() + Duration::from_secs(10);
    let wanted = EVENTS as usize;
    while follower.lines().len() < wanted && Instant::now() < deadline {
        if follower.child.try_wait().expect("its status").is_some() {
            return;
        }
    }
    follower.signal(Signal::INT);
}

#[track_caller]
fn assert_exact(ended: &Ended, what: &str) {
    let sum: u64 = ["received", "dropped", "unread"]
        .iter()
        .map(|name| ended.stat(name))
        .sum();
    assert_eq!(sum, u64::from(EVENTS), "{what}: {ended:#?}");
    assert_eq!(ended.event_count(), u64::from(EVENTS), "{what}: {ended:#?}");
}

#[test]
fn too_few_descriptors_are_reported_at_the_start() {
    const NAME: &str = "too_few_descriptors_are_reported_at_the_start";
    if !is_installed("prlimit") {
        return skip(NAME, "prlimit is not installed");
    }
    own_namespace();
    for backend in ["multishot", "oneshot", "recvmmsg"] {
        let mut good_count = 0;
        for limit in 4..=20 {
            let what = format!("{backend}, {limit} descriptors");
            let launcher = format!("prlimit --nofile={limit}");
            let (ended, _) = run_with_events(&launcher, &format!("route --backend {backend}"));
            assert!(!ended.errors.contains("panicked"), "{what}: {ended:#?}");
            match ended.code {
                Some(0) => {
                    good_count += 1;
                    assert_exact(&ended, &what);
                }
                // 127: not even the loader found its libraries.
                Some(1 | 127) => assert!(
                    ended.errors.contains("Too many open files")
                        || ended
                            .errors
                            .contains("error while loading shared libraries"),
                    "{what}: {ended:#?}"
                ),
                code => panic!("{what}: {code:?}: {ended:#?}"),
            }
        }
        assert!(good_count >= 3, "{backend}: enough descriptors are enough");
    }
}

/// A list has no statistics, so its message has the counts.
#[test]
fn a_file_at_its_size_limit_ends_a_list_with_a_message() {
    const NAME: &str = "a_file_at_its_size_limit_ends_a_list_with_a_message";
    if !is_installed("prlimit") {
        return skip(NAME, "prlimit is not installed");
    }
    own_namespace();
    make_routes(0..100);
    let launcher = "prlimit --fsize=1000"; // the file with the message stays below it
    let ended = Run::under(launcher, "route --snapshot --once").run_to_end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let [failure] = ended.failures()[..] else {
        panic!("{ended:#?}");
    };
    let words = ["write the events to ", "File too large", "not written: "];
    assert!(words.iter().all(|word| failure.contains(word)), "{failure}");
}

/// What needs /proc says so.
#[test]
fn without_proc_the_message_names_it() {
    const NAME: &str = "without_proc_the_message_names_it";
    let hide = "mount -t tmpfs tmpfs /proc && exec \"$@\"";
    let run_hidden = |arguments: &str| {
        let words = ["--mount", "sh", "-c", hide, "sh", NLRING].into_iter();
        let words: Vec<&str> = words.chain(arguments.split(' ')).collect();
        run("unshare", &words)
    };
    own_namespace();
    if !run_hidden("--version").is_some_and(|output| output.status.success()) {
        return skip(NAME, "no mount namespace");
    }
    for arguments in ["route --all-netns --duration 1ms", "latency --duration 1ms"] {
        let output = run_hidden(arguments).expect("nlring");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {errors}");
        assert!(
            errors.contains("mount -t proc proc /proc"),
            "{arguments}: {errors}"
        );
    }
    let output = run_hidden("route --duration 1ms").expect("nlring");
    assert!(output.status.success(), "events need no /proc: {output:?}");
}

/// Without `CAP_IPC_LOCK` the memory of rings is limited. `auto` then works without them.
#[test]
fn without_memory_to_lock_there_is_another_backend() {
    const NAME: &str = "without_memory_to_lock_there_is_another_backend";
    if !is_installed("prlimit") || !is_real_root() {
        return skip(NAME, "no prlimit, or no root to give up capabilities");
    }
    own_namespace();
    let launcher = "setpriv --bounding-set=-all --inh-caps=-all prlimit --memlock=0";
    for backend in ["auto", "multishot", "recvmmsg"] {
        let (ended, _) = run_with_events(launcher, &format!("route --backend {backend}"));
        match ended.code {
            Some(0) => assert_exact(&ended, backend),
            _ => assert!(
                backend == "multishot" && ended.errors.contains("RLIMIT_MEMLOCK"),
                "{backend}: {ended:#?}"
            ),
        }
    }
}

/// An allocation that fails ends a Rust program. That must be at the start, with its message.
#[test]
fn too_little_memory_ends_with_a_message() {
    const NAME: &str = "too_little_memory_ends_with_a_message";
    if !is_installed("prlimit") {
        return skip(NAME, "prlimit is not installed");
    }
    own_namespace();
    let mut good_count = 0;
    for mib in [4, 6, 8, 10, 12, 16, 24, 32, 64, 128, 512] {
        for backend in ["multishot", "recvmmsg"] {
            let what = format!("{backend}, {mib} MiB");
            let launcher = format!("prlimit --as={}", mib << 20);
            let arguments = format!("route --backend {backend}");
            let (ended, signal) = run_with_events(&launcher, &arguments);
            match (ended.code, signal) {
                (Some(0), _) => {
                    good_count += 1;
                    assert_exact(&ended, &what);
                }
                (Some(1), _) => assert!(!ended.failures().is_empty(), "{what}: {ended:#?}"),
                // The loader, or an allocation of the runtime.
                (Some(127), _) => assert!(ended.errors.contains("error"), "{what}: {ended:#?}"),
                (None, Some(6)) => assert!(
                    ended.errors.contains("memory allocation") || ended.errors.is_empty(),
                    "{what}: {ended:#?}"
                ),
                // Not even the program itself could be mapped: the kernel ends it.
                (None, Some(9 | 11)) => assert!(ended.errors.is_empty(), "{what}: {ended:#?}"),
                end => panic!("{what}: {end:?}: {ended:#?}"),
            }
        }
    }
    assert!(good_count >= 4, "enough memory is enough");
}
