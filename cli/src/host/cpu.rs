//! The calling thread's processor: how long it had one, and which.

use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::outcome::Failure;

/// User and system time of this thread.
pub fn thread_cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime)
        .try_into()
        .unwrap_or_default()
}

/// How much of its processor this thread spends on something, with pauses for what is not part of it.
pub struct CpuMeter {
    spent: Duration,
    since: Duration,
    /// What one reading adds by itself.
    reading: Duration,
}

impl CpuMeter {
    pub fn start() -> Self {
        let readings = [(); 8].map(|()| thread_cpu());
        let gaps = readings.windows(2).map(|two| two[1].saturating_sub(two[0]));
        Self {
            spent: Duration::ZERO,
            reading: gaps.min().unwrap_or_default(),
            since: thread_cpu(),
        }
    }

    pub fn pause(&mut self) {
        self.spent += thread_cpu().saturating_sub(self.since + self.reading);
    }

    pub fn resume(&mut self) {
        self.since = thread_cpu();
    }

    /// Leaves out what this thread has spent otherwise since it was resumed.
    pub fn leave_out(&mut self, other: Duration) {
        self.since += other;
    }

    /// What was spent up to the last pause.
    pub fn spent(&self) -> Duration {
        self.spent
    }
}

/// Lets this thread run on this processor only.
pub fn pin_to_cpu(cpu: usize) -> Result<(), Failure> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(no_such_cpu(cpu));
    }
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).map_err(|_| no_such_cpu(cpu))
}

fn no_such_cpu(cpu: usize) -> Failure {
    Failure::Usage(format!(
        "this process cannot run on CPU {cpu}: nproc and lscpu -e tell which there are, counted from 0, and \
         taskset -p $$ which of them are allowed"
    ))
}
