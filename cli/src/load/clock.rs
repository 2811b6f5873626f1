//! The clock, and waiting for a time on it.

use std::hint::spin_loop;
use std::thread::sleep;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A sleeping thread wakes late by some ten microseconds, on a busy machine by more: so near it does not sleep.
const SPIN: Duration = Duration::from_micros(200);
/// A sleep is not longer, for the sake of who asks for an end.
const NAP: Duration = Duration::from_millis(20);

/// What the clock `CLOCK_MONOTONIC` shows now.
pub fn monotonic_now_ns() -> u64 {
    let now: Duration = clock_gettime(ClockId::Monotonic)
        .try_into()
        .unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits for a time, or only for a while when it is far; then it is false.
pub fn wait_towards(until_ns: u64) -> bool {
    let left = Duration::from_nanos(until_ns.saturating_sub(monotonic_now_ns()));
    if let Some(sleeping) = left.checked_sub(SPIN) {
        sleep(sleeping.min(NAP));
        return false;
    }
    spin_until(until_ns);
    true
}

/// Returns how long that took.
pub fn spin_until(until_ns: u64) -> Duration {
    let start_ns = monotonic_now_ns();
    let mut now_ns = start_ns;
    while now_ns < until_ns {
        spin_loop();
        now_ns = monotonic_now_ns();
    }
    Duration::from_nanos(now_ns - start_ns)
}
