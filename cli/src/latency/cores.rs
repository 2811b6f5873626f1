//! Which CPUs to measure on.

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::args::Cpus;
use crate::outcome::Failure;

/// The first and the last CPU that this process may run on, because neighbours may be two threads of one core.
pub fn choose() -> Result<Cpus, Failure> {
    let allowed = sched_getaffinity(None)
        .map_err(|error| Failure::Other(format!("ask for the allowed CPUs: {error}")))?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let receiver = cpus.next().unwrap_or(0);
    Ok(Cpus {
        receiver,
        generator: cpus.next_back().unwrap_or(receiver),
    })
}
