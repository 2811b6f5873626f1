//! If io_uring is denied, as in containers, the command works without it and reports why.

mod common;
#[path = "common/seccomp.rs"]
mod seccomp;

use common::{Run, make_flows, own_namespace};
use seccomp::deny_io_uring;

#[test]
fn the_command_falls_back_and_says_why() {
    own_namespace();
    for (errno, name) in [(libc::EPERM, "EPERM"), (libc::ENOSYS, "ENOSYS")] {
        let mut run = Run::new("conntrack --count 10");
        deny_io_uring(&mut run.command, errno);
        let follower = run.start();
        make_flows(0..10);
        let ended = follower.wait();
        common::remove_flows(0..10);
        ended.assert_good();
        assert_eq!(ended.event_count(), 10);
        assert_eq!(ended.stats["backend"], "recvmmsg");
        let reason = ended.stats["backend_reason"].as_str().expect("a reason");
        for part in ["multishot", "seccomp", name, "io_uring_setup"] {
            assert!(reason.contains(part), "{part} in: {reason}");
        }
        let reported = format!("backend: recvmmsg ({reason})");
        assert!(
            ended.errors.lines().any(|line| line == reported),
            "{}",
            ended.errors
        );
    }
}

#[test]
fn a_backend_that_needs_io_uring_fails_with_the_reason() {
    own_namespace();
    for backend in ["multishot", "oneshot", "oneshot:8"] {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let mut run = Run::new(&format!("route --backend {backend}"));
            deny_io_uring(&mut run.command, errno);
            let ended = run.run_to_end();
            assert_eq!(ended.code, Some(1), "{ended:#?}");
            let failures = ended.failures();
            assert_eq!(failures.len(), 1, "{ended:#?}");
            for part in [backend, "seccomp"] {
                assert!(failures[0].contains(part), "{part} in: {ended:#?}");
            }
            assert_eq!(ended.stat("received"), 0);
        }
    }
}

#[test]
fn the_demo_works_without_io_uring() {
    let mut run = Run::new("demo --events");
    deny_io_uring(&mut run.command, libc::EPERM);
    let ended = run.run_to_end();
    ended.assert_good();
    assert_eq!(ended.stats["backend"], "recvmmsg");
    assert_eq!(
        ended.summary("created"),
        ended.summary("received") + ended.summary("lost")
    );
}
