//! Waiting for conditions, and measurements that a busy machine may spoil.

use std::thread;
use std::time::{Duration, Instant};

/// No test waits longer for one condition. It is enough for a busy emulated machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the condition holds. `what` says which, for the failure.
///
/// # Panics
///
/// If it does not hold within [`PATIENCE`].
#[track_caller]
pub fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Tries a measurement up to three times. A busy machine may spoil one or two of them.
///
/// # Panics
///
/// If all three attempts fail.
#[track_caller]
pub fn best_of_3(attempt: impl Fn() -> Result<(), String>) {
    let mut failures = Vec::new();
    for _ in 0..3 {
        match attempt() {
            Ok(()) => return,
            Err(failure) => failures.push(failure),
        }
    }
    panic!("three attempts failed: {failures:#?}");
}
