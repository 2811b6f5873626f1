//! The process to which a value belongs. fork(2) copies the value to the child, but not the kernel objects behind it,
//! such as the queues of a ring.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use super::mapping::Mapping;

/// The process that created this value. Comparing it with the running process costs one load.
#[derive(Debug)]
pub(crate) struct Home(Mark);

#[derive(Debug)]
enum Mark {
    /// Memory that holds [`HERE`], and zero in a forked child (`MADV_WIPEONFORK`, Linux 4.14).
    Page(Mapping),
    /// The process ID, for kernels without such memory. Wrong if a descendant gets the same ID.
    Id(u32),
}

const HERE: u32 = 1;

impl Home {
    pub(crate) fn new() -> io::Result<Self> {
        let page = Mapping::new(size_of::<AtomicU32>())?;
        if page.wipe_on_fork().is_err() {
            return Ok(Self(Mark::Id(std::process::id())));
        }
        mark_in(&page).store(HERE, Ordering::Relaxed);
        Ok(Self(Mark::Page(page)))
    }

    /// Whether the running process created this value. False in a fork of it. Safe in a signal handler.
    pub(crate) fn is_here(&self) -> bool {
        match &self.0 {
            Mark::Page(page) => mark_in(page).load(Ordering::Relaxed) == HERE,
            Mark::Id(id) => *id == std::process::id(),
        }
    }

    pub(crate) fn require_here(&self) -> io::Result<()> {
        if self.is_here() {
            Ok(())
        } else {
            Err(not_here())
        }
    }
}

#[cold]
fn not_here() -> io::Error {
    io::Error::other("it was made by a process that this one was forked from")
}

fn mark_in(page: &Mapping) -> &AtomicU32 {
    let mark = page.at(0, size_of::<AtomicU32>()).cast::<AtomicU32>();
    // SAFETY: `at` has checked that the mapping has room for an AtomicU32. The mapping is page-aligned, initialised,
    // and lives as long as the borrow of `page`. All accesses are atomic, because only this function gives access to
    // the mark. A fork has its own copy, which the kernel zeroes before the fork runs.
    unsafe { mark.as_ref() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_is_not_home() {
        let home = Home::new().unwrap();
        assert!(home.is_here());
        let answers_to_fork = || {
            // SAFETY: the child only loads from memory and calls _exit(2), which are both allowed after a fork of a
            // process with threads.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let code = i32::from(home.is_here());
                // SAFETY: _exit(2) takes a number and accesses no memory of this process.
                unsafe { libc::_exit(code) };
            }
            let mut status = 0;
            // SAFETY: the pointer is to `status`, a local that outlives the call.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(waited, child);
            libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
        };
        assert_eq!(answers_to_fork(), Some(0));
        assert!(home.is_here(), "the parent still is");
        assert!(matches!(home.0, Mark::Page(_)), "since Linux 4.14");
        assert!(Home(Mark::Id(std::process::id())).is_here());
        Home(Mark::Id(0)).require_here().unwrap_err();
    }
}
