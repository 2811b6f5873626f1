//! What a thread does, and how long it has worked.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, gettid};

use crate::await_that;

/// A thread of this process, for other threads to look at.
#[derive(Clone, Copy, Debug)]
pub struct ThreadId(i32);

impl ThreadId {
    /// The thread that calls.
    #[must_use]
    pub fn current() -> Self {
        Self(gettid().as_raw())
    }

    /// Waits until the thread sleeps in a system call. A test uses it to act on a wait that has begun.
    ///
    /// # Panics
    ///
    /// If the thread does not sleep within [`PATIENCE`](crate::PATIENCE).
    #[track_caller]
    pub fn await_sleep(self) {
        await_that("the thread sleeps", || self.state() == Some('S'));
    }

    /// The state in proc_pid_stat(5): R is running, S is sleeping. None: the thread has ended.
    #[must_use]
    pub fn state(self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/self/task/{}/stat", self.0)).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    }
}

/// The CPU time that the calling thread has used.
///
/// # Panics
///
/// If the kernel has no such clock.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the thread's clock");
    time.into()
}

/// The CPU time that all threads of a process have used. A process that has ended has it until its parent waits for it.
///
/// # Panics
///
/// If there is no such process.
#[must_use]
pub fn process_cpu_time(process_id: u32) -> Duration {
    let process_id = Pid::from_raw(process_id.cast_signed());
    let clock = clock_getcpuclockid(process_id).expect("a process");
    clock_gettime(clock).expect("the process's clock").into()
}
