//! The calling thread's CPU time, and the CPU it runs on.

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

/// Measures the CPU time that this thread spends on a task, without what it spends during pauses.
pub struct CpuMeter {
    spent: Duration,
    since: Duration,
    /// The CPU time that one reading takes.
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

    /// Excludes CPU time that the thread has spent on something else since `resume`.
    pub fn leave_out(&mut self, other: Duration) {
        self.since += other;
    }

    /// The CPU time until the last pause.
    pub fn spent(&self) -> Duration {
        self.spent
    }
}

/// Binds this thread to one CPU.
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
        "this process cannot run on CPU {cpu}: lscpu -e lists the CPUs, counted from 0, and taskset -p $$ shows which \
         of them are allowed"
    ))
}
