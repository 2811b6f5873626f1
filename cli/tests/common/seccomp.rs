//! A filter that denies io_uring to a child, like the profiles of containers.
#![allow(unsafe_code)] // which std does not wrap

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes io_uring's system calls fail with this errno in the command and its children.
pub fn deny_io_uring(command: &mut Command, errno: i32) {
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
    unsafe { command.pre_exec(install) };
}

fn filter(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    let code = u16::try_from(code).expect("a code");
    libc::sock_filter { code, jt, jf, k }
}
