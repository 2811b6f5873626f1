//! System calls that fail for a while, by strace's fault injection. No failure ends the command, changes its backend,
//! or makes a count wrong.

mod common;

use common::{Follower, Run, await_that, make_routes, own_namespace, remove_routes, run, skip};
use rustix::process::Signal;

const BACKENDS: [(&str, &str); 3] = [
    ("multishot", "io_uring_enter"),
    ("oneshot", "io_uring_enter"),
    ("recvmmsg", "ppoll"),
];

fn can_trace(name: &str) -> bool {
    let can = run("strace", &["-D", "-f", "--seccomp-bpf", "true"])
        .is_some_and(|output| output.status.success());
    if !can {
        skip(name, "no strace, or it may not trace here");
    }
    can
}

/// The command, with system calls that fail as in `call:error=NAME:when=WHICH` (strace(1)).
fn with_failures(failures: &str, arguments: &str) -> Run {
    let (call, _) = failures.split_once(':').expect("a call and its failure");
    Run::under(
        // -D: the command is our child, not strace's.
        &format!(
            "strace -D -f --seccomp-bpf -qq -e trace={call} -e inject={failures} -o /dev/null"
        ),
        arguments,
    )
}

/// Makes events one by one, so that the command waits for each.
fn make_50_events(follower: &Follower) {
    for number in 0..25 {
        make_routes(number..number + 1);
        remove_routes(number..number + 1);
        let count = 2 * (number as usize + 1);
        follower.await_lines(count);
    }
}

#[test]
fn a_wait_that_fails_is_made_again_and_reported() {
    if !can_trace("a_wait_that_fails_is_made_again_and_reported") {
        return;
    }
    own_namespace();
    for (backend, call) in BACKENDS {
        for error in ["EAGAIN", "ENOMEM"] {
            let failures = format!("{call}:error={error}:when=2+3");
            let follower = with_failures(&failures, &format!("route --backend {backend}")).start();
            make_50_events(&follower);
            let ended = follower.end();
            ended.assert_good();
            assert_eq!(ended.event_count(), 50, "{failures}: {ended:#?}");
            assert!(ended.stat("retried") > 0, "{failures}: {ended:#?}");
            assert!(ended.errors.contains(call), "{failures}: {ended:#?}");
            assert_eq!(ended.stat("dropped") + ended.stat("unread"), 0);
            assert_eq!(ended.stats["unread_is_incomplete"], false);
        }
    }
}

#[test]
fn a_receive_that_fails_is_made_again_and_reported() {
    if !can_trace("a_receive_that_fails_is_made_again_and_reported") {
        return;
    }
    own_namespace();
    for error in ["ENOMEM", "EMSGSIZE", "EINTR"] {
        let failures = format!("recvmmsg:error={error}:when=2+3");
        let follower = with_failures(&failures, "route --backend recvmmsg").start();
        make_50_events(&follower);
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(ended.event_count(), 50, "{failures}: {ended:#?}");
        assert_eq!(ended.stat("retried") > 0, error != "EINTR", "{ended:#?}");
    }
}

/// A signal or a short lack of memory interrupts the trial of a backend.
#[test]
fn a_passing_failure_does_not_choose_the_backend() {
    if !can_trace("a_passing_failure_does_not_choose_the_backend") {
        return;
    }
    own_namespace();
    let backend = |ended: common::Ended| {
        ended.assert_good();
        ended.stats["backend"].as_str().map(str::to_owned)
    };
    let chosen = backend(Run::new("route --duration 1ms").run_to_end());
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        for error in ["EINTR", "EAGAIN", "ENOMEM"] {
            let failures = format!("{call}:error={error}:when=1");
            let ended = with_failures(&failures, "route --duration 1ms").run_to_end();
            assert_eq!(backend(ended), chosen, "{failures}");
        }
    }
}

/// How many routes are added and removed, with two events each. Even an emulated machine counts these within the half
/// second that the engine has.
const ROUTES: u32 = 500;

/// The command ends after ten events, all others are in the queue, and a receive that counts them fails.
fn end_after_10(failures: &str, backend: &str, route_count: u32) -> common::Ended {
    let arguments = format!("route --count 10 --backend {backend}");
    let follower = with_failures(failures, &arguments).start();
    follower.signal(Signal::STOP);
    await_that("it stops", || matches!(follower.state(), Some('T' | 't')));
    make_routes(0..route_count);
    remove_routes(0..route_count);
    follower.thaw();
    let ended = follower.wait();
    ended.assert_good();
    assert_eq!(ended.event_count(), 10, "{ended:#?}");
    ended
}

#[test]
fn a_count_of_the_unread_goes_on_after_a_failure() {
    if !can_trace("a_count_of_the_unread_goes_on_after_a_failure") {
        return;
    }
    own_namespace();
    for (backend, error) in [
        ("multishot", "EMSGSIZE"),
        ("multishot", "ENOBUFS"),
        ("oneshot", "EINTR"),
        ("recvmmsg", "ENOMEM"),
    ] {
        let failures = format!("recvmmsg:error={error}:when=2");
        let ended = end_after_10(&failures, backend, ROUTES);
        let (received, unread) = (ended.stat("received"), ended.stat("unread"));
        let counted = received + unread + ended.stat("dropped");
        assert_eq!(
            counted,
            u64::from(2 * ROUTES),
            "{backend}, {failures}: {ended:#?}"
        );
        assert!(unread > 300, "{backend}, {failures}: {ended:#?}");
        assert_eq!(ended.stats["unread_is_incomplete"], false, "{ended:#?}");
    }
}

#[test]
fn a_count_of_the_unread_that_cannot_be_finished_is_reported() {
    if !can_trace("a_count_of_the_unread_that_cannot_be_finished_is_reported") {
        return;
    }
    own_namespace();
    let many = 4 * ROUTES; // more than one turn takes
    let ended = end_after_10("recvmmsg:error=ENOMEM:when=2+1", "multishot", many);
    assert!(ended.stat("received") + ended.stat("unread") < u64::from(2 * many));
    assert_eq!(ended.stats["unread_is_incomplete"], true, "{ended:#?}");
    assert!(
        ended.errors.contains("(not counted to the end)"),
        "{ended:#?}"
    );
}
