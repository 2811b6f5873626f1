//! Tests that cannot run on this host, visibly.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Reports that a test cannot run here. With `NLRING_STRICT=1` that is a failure.
///
/// # Panics
///
/// With `NLRING_STRICT=1`.
#[track_caller]
pub fn skip(name: &str, reason: &str) {
    let is_strict = std::env::var("NLRING_STRICT").is_ok_and(|value| value == "1");
    assert!(!is_strict, "{name} must run, and cannot: {reason}");
    // Not eprintln!: the test runner captures its text and shows it only if the test fails.
    _ = writeln!(std::io::stderr(), "SKIP {name}: {reason}");
}

/// Reports that a part of a test cannot run here, because the kernel was built without a feature. This is not a
/// failure, even with `NLRING_STRICT=1`.
pub fn leave_out(name: &str, part: &str) {
    _ = writeln!(std::io::stderr(), "LEFT OUT {name}: {part}");
}

/// What this host lacks.
struct Missing(String);

/// Ends a test that [`run_or_skip`] runs, because this host lacks something.
pub fn cannot_run(reason: String) -> ! {
    resume_unwind(Box::new(Missing(reason)))
}

/// Runs a test, and skips it if it calls [`cannot_run`].
pub fn run_or_skip(name: &str, test: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(test)) {
        match payload.downcast::<Missing>() {
            Ok(missing) => skip(name, &missing.0),
            Err(failure) => resume_unwind(failure),
        }
    }
}
