//! What this thread has used so far.

use std::fs;
use std::io;
use std::time::Duration;

use crate::host::cpu::thread_cpu;

#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Context switches, voluntary and involuntary.
    pub switch_count: u64,
}

impl Usage {
    pub fn of_this_thread() -> io::Result<Self> {
        let switch_count = count_switches(&fs::read_to_string("/proc/thread-self/status")?)
            .ok_or_else(|| io::Error::other("the file has no count of context switches"))?;
        Ok(Self {
            cpu: thread_cpu(),
            switch_count,
        })
    }

    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            switch_count: self.switch_count.saturating_sub(earlier.switch_count),
        }
    }
}

/// The sum of both kinds in proc_pid_status(5).
fn count_switches(status: &str) -> Option<u64> {
    let field = |name| {
        let mut values = status.lines().filter_map(|line| line.strip_prefix(name));
        values.next()?.trim().parse::<u64>().ok()
    };
    Some(field("voluntary_ctxt_switches:")? + field("nonvoluntary_ctxt_switches:")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_switches_count() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(count_switches(status), Some(157));
        assert_eq!(count_switches("voluntary_ctxt_switches:\t150\n"), None);
        assert!(Usage::of_this_thread().is_ok(), "this kernel counts both");
    }
}
