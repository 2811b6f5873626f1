//! Where io_uring is denied, as containers do, the command works without it, and says why.
#![allow(unsafe_code)] // a filter for a child, which std does not wrap

mod common;

use std::io;
use std::os::unix::process::CommandExt;

use common::{Run, make_flows, own_namespace};

/// Lets the command get this errno from io_uring's system calls.
fn deny_io_uring(run: &mut Run, errno: i32) {
    let load = |offset| filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let answer = |action| filter(libc::BPF_RET | libc::BPF_K, 0, 0, action);
    let first = u32::try_from(libc::SYS_io_uring_setup).expect("a number");
    let last = u32::try_from(libc::SYS_io_uring_register).expect("a number");
    let errno = u32::try_from(errno).expect("a number");
    let mut program = [
        load(0), // seccomp_data.nr
        filter(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 2, first),
        filter(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, 0, last),
        answer(libc::SECCOMP_RET_ERRNO | errno),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let filters = libc::sock_fprog {
            len: u16::try_from(program.len()).unwrap_or(0),
            filter: program.as_mut_ptr(),
        };
        // SAFETY: prctl(2) takes numbers here, and touches no memory.
        let private = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        let mode = libc::SECCOMP_MODE_FILTER;
        // SAFETY: the kernel reads `len` filters during the call; `program` has as many, and lives longer.
        let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filters) };
        match (private, filtered) {
            (0, 0) => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls; it neither allocates nor takes a lock.
    unsafe { run.command.pre_exec(install) };
}

fn filter(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    let code = u16::try_from(code).expect("a code");
    libc::sock_filter { code, jt, jf, k }
}

#[test]
fn it_falls_back_and_says_why() {
    own_namespace();
    for (errno, name) in [(libc::EPERM, "EPERM"), (libc::ENOSYS, "ENOSYS")] {
        let mut run = Run::new("conntrack --count 10");
        deny_io_uring(&mut run, errno);
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
        let told = format!("backend: recvmmsg ({reason})");
        assert!(
            ended.errors.lines().any(|line| line == told),
            "{}",
            ended.errors
        );
    }
}

#[test]
fn a_backend_that_needs_it_fails_with_the_reason() {
    own_namespace();
    for backend in ["multishot", "oneshot", "oneshot:8"] {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let mut run = Run::new(&format!("route --backend {backend}"));
            deny_io_uring(&mut run, errno);
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
fn the_demo_works_without_it() {
    let mut run = Run::new("demo");
    deny_io_uring(&mut run, libc::EPERM);
    let ended = run.run_to_end();
    ended.assert_good();
    assert_eq!(ended.stats["backend"], "recvmmsg");
    assert_eq!(
        ended.told("created"),
        ended.told("received") + ended.told("lost")
    );
}
