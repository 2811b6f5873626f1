//! Which process a value belongs to. fork(2) gives the child a copy of the value, but not of what the kernel does for
//! it.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use super::mapping::Mapping;

/// The process that made this value. To ask whether it is the running one costs a load.
#[derive(Debug)]
pub(crate) struct Home(Mark);

#[derive(Debug)]
enum Mark {
    /// Memory that holds [`HERE`], and that fork(2) gives to the child zeroed (`MADV_WIPEONFORK`, Linux 4.14).
    Page(Mapping),
    /// The process ID, where the kernel has no such memory. It can be wrong when IDs are used again.
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

    /// Whether the running process made this, and is not a fork of the one that did. Safe in a signal handler.
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
    // SAFETY: `at` has checked that the mapping has room for it. The mapping is page-aligned, its bytes are zeroes or
    // HERE, both values of an AtomicU32, and it lives as long as the borrow of `page`. Threads of one process only use
    // it by such references, so atomically; a fork has a copy of its own, zeroed before it runs.
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
            // SAFETY: the child only loads from memory and leaves by _exit(2), both allowed after a fork of many
            // threads.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let code = i32::from(home.is_here());
                // SAFETY: _exit(2) takes a number and does not return.
                unsafe { libc::_exit(code) };
            }
            let mut status = 0;
            // SAFETY: the pointer is to a local that outlives the call.
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
