//! `CLOCK_MONOTONIC`, and waiting for a time on it.

use std::hint::spin_loop;
use std::thread::sleep;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A sleeping thread wakes up tens of microseconds late, on a busy machine even later. So the last part of a wait
/// spins.
const SPIN: Duration = Duration::from_micros(200);
/// The longest sleep: the caller checks for a request to end between two sleeps.
const NAP: Duration = Duration::from_millis(20);

/// The time now.
pub fn monotonic_now_ns() -> u64 {
    let now: Duration = clock_gettime(ClockId::Monotonic)
        .try_into()
        .unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits until a time, and returns true. If the time is far away, waits a part of it and returns false.
pub fn wait_towards(until_ns: u64) -> bool {
    let left = Duration::from_nanos(until_ns.saturating_sub(monotonic_now_ns()));
    if let Some(sleeping) = left.checked_sub(SPIN) {
        sleep(sleeping.min(NAP));
        return false;
    }
    spin_until(until_ns);
    true
}

/// Waits without sleeping, and returns how long that took.
pub fn spin_until(until_ns: u64) -> Duration {
    let start_ns = monotonic_now_ns();
    let mut now_ns = start_ns;
    while now_ns < until_ns {
        spin_loop();
        now_ns = monotonic_now_ns();
    }
    Duration::from_nanos(now_ns - start_ns)
}
