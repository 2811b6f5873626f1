//! If io_uring is denied, the engine receives without it, and reports why. A process cannot remove a seccomp filter,
//! so each test runs this test binary again, in a process that has the filter.
#![allow(unsafe_code)] // seccomp(2)
#![allow(clippy::cast_possible_truncation)] // BPF's fields are small

mod common;

use std::os::unix::process::CommandExt;
use std::process::Command;

use common::{
    BACKENDS, Source, Tally, any_sender, assert_all_in_order, listener, own_namespace, start,
    turn_until,
};
use nlring::{Backend, Engine, ErrorKind};

/// The variable's value is the errno with which io_uring is denied.
const VARIABLE: &str = "NLRING_TEST_DENIED_WITH";

const IO_URING_SETUP: u32 = 425;
const IO_URING_ENTER: u32 = 426;
const IO_URING_REGISTER: u32 = 427;

/// A classic BPF program that answers `errno` to these system calls and allows the others. It ignores the
/// architecture, because it protects nothing.
fn filter(calls: &[u32], errno: i32) -> Vec<libc::sock_filter> {
    const RETURN_ALLOW: u32 = 0x7fff_0000;
    const RETURN_ERRNO: u32 = 0x0005_0000;
    let instruction = |code: u32, k, jump_if_true| libc::sock_filter {
        code: code as u16,
        jt: jump_if_true,
        jf: 0,
        k,
    };
    let load_number = instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0);
    let mut program = vec![load_number];
    for (index, &call) in calls.iter().enumerate() {
        let to_deny = (calls.len() - index) as u8; // over the other comparisons and the allowing return
        program.push(instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            call,
            to_deny,
        ));
    }
    program.push(instruction(libc::BPF_RET | libc::BPF_K, RETURN_ALLOW, 0));
    program.push(instruction(
        libc::BPF_RET | libc::BPF_K,
        RETURN_ERRNO | errno.cast_unsigned(),
        0,
    ));
    program
}

/// Runs one test of this binary in a process in which these calls are denied.
fn run_denied(test: &str, calls: &[u32], errno: i32) {
    let program = filter(calls, errno);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(VARIABLE, errno.to_string());
    let set_filter = move || {
        let filter = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_ptr().cast_mut(),
        };
        // SAFETY: prctl(2) takes numbers here and touches no memory.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let filter = &raw const filter;
        // SAFETY: `filter` describes `program`, and both outlive the call, which only reads them.
        match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, filter) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(set_filter) };
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_engine_works_if_io_uring_is_denied_with_eperm() {
    let calls = [IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER];
    run_denied(
        "where_io_uring_is_denied_the_engine_uses_recvmmsg",
        &calls,
        libc::EPERM,
    );
}

#[test]
fn the_engine_works_if_io_uring_is_denied_with_enosys() {
    let calls = [IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER];
    run_denied(
        "where_io_uring_is_denied_the_engine_uses_recvmmsg",
        &calls,
        libc::ENOSYS,
    );
}

#[test]
fn the_engine_works_if_only_the_set_up_is_denied() {
    run_denied(
        "where_io_uring_is_denied_the_engine_uses_recvmmsg",
        &[IO_URING_SETUP],
        libc::EPERM,
    );
}

/// The ring can be created but not used. A check of the version or a probe would find nothing wrong.
#[test]
fn the_engine_works_if_only_entering_is_denied() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        run_denied(
            "where_io_uring_is_denied_the_engine_uses_recvmmsg",
            &[IO_URING_ENTER],
            errno,
        );
    }
}

#[test]
fn the_engine_works_if_only_registering_is_denied() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        run_denied(
            "where_io_uring_is_denied_the_engine_uses_recvmmsg",
            &[IO_URING_REGISTER],
            errno,
        );
    }
}

fn receives(backend: Backend) -> String {
    let (mut running, id) = start(
        &Engine::builder().backend(backend),
        listener(1 << 20),
        any_sender(),
    );
    let sender = std::thread::spawn(|| Source::new(64).send_many(2000, Some(20_000)));
    let mut tally = Tally::default();
    turn_until(&mut running, &mut tally, |_, tally| {
        tally.messages.len() == 2000
    });
    sender.join().unwrap();
    assert_all_in_order(&tally.sequences(id), 2000);
    running.backend_reason().to_owned()
}

/// The tests above run this one in a process with the filter. Without the filter it does nothing.
#[test]
fn where_io_uring_is_denied_the_engine_uses_recvmmsg() {
    let Ok(errno) = std::env::var(VARIABLE) else {
        return;
    };
    let errno: i32 = errno.parse().unwrap();
    let (kind, name) = match errno {
        libc::EPERM => (ErrorKind::PermissionDenied, "EPERM"),
        _ => (ErrorKind::Unsupported, "ENOSYS"),
    };
    own_namespace();
    let engine = Engine::builder().build().unwrap();
    assert_eq!(engine.backend(), Backend::Recvmmsg);
    let reason = engine.backend_reason().to_owned();
    for part in ["io_uring", "seccomp", name, "io_uring_setup"] {
        assert!(reason.contains(part), "{part} is not in: {reason}");
    }
    assert_eq!(
        reason.matches("seccomp").count(),
        1,
        "once is enough: {reason}"
    );
    assert_eq!(receives(Backend::Auto), reason);
    receives(Backend::Recvmmsg);
    for backend in [Backend::Multishot, common::ONESHOT] {
        let error = Engine::builder().backend(backend).build().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        for part in ["seccomp", name, &backend.to_string()] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}

#[test]
fn auto_takes_the_best_backend_that_is_allowed() {
    own_namespace();
    match Engine::builder().backend(Backend::Multishot).build() {
        Ok(engine) => assert_eq!(engine.backend(), Backend::Multishot),
        Err(error) => {
            return common::skip(
                "auto_takes_the_best_backend_that_is_allowed",
                &error.to_string(),
            );
        }
    }
    let engine = Engine::builder().build().unwrap();
    assert_eq!(engine.backend(), Backend::Multishot);
    assert!(
        engine.backend_reason().contains("works here"),
        "{}",
        engine.backend_reason()
    );
}

#[test]
fn each_backend_can_be_forced_and_says_so() {
    own_namespace();
    for backend in BACKENDS {
        let engine = Engine::builder().backend(backend).build().unwrap();
        assert_eq!(engine.backend(), backend);
        let running = engine.start().unwrap();
        assert_eq!(running.backend(), backend);
        assert_eq!(running.backend_reason(), "asked for");
        receives(backend);
    }
}

#[test]
fn the_depth_of_a_chain_is_checked() {
    own_namespace();
    for depth in [0, 129, u16::MAX] {
        let builder = Engine::builder().backend(Backend::Oneshot { depth });
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("1 to 128"), "{error}");
    }
    for depth in [1, 2, 3, 100, 128] {
        receives(Backend::Oneshot { depth });
    }
}

/// No size of the completion queue makes the engine report a backend as unavailable.
#[test]
fn any_size_of_the_completion_queue_works() {
    own_namespace();
    for entries in [0, 1, 3, 4096, 65_536, u32::MAX] {
        let builder = Engine::builder()
            .backend(Backend::Multishot)
            .completion_entries(entries);
        match builder.build() {
            Ok(engine) => drop(engine.start().unwrap()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput, "{entries}: {error}"),
        }
    }
}
