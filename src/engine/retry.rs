//! System calls that fail temporarily. They are reported, and retried with pauses for up to 10 seconds.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;

/// A call is given up after this time without a success.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// The pause before retrying a call that has failed at least twice.
pub(super) const PAUSE: Duration = Duration::from_millis(10);
/// Failures of a receive that are further apart than this are independent.
const APART: Duration = Duration::from_secs(1);

/// Whether a system call's error may be temporary: a signal interrupted the call, or the kernel lacked memory or
/// another resource.
pub(super) fn may_pass(errno: Option<i32>) -> bool {
    matches!(
        errno,
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM | libc::ENOBUFS)
    )
}

/// The error that is reported when a call is given up.
pub(super) fn given_up(error: Error) -> Error {
    let is_resource = may_pass(error.raw_os_error());
    error.with_remedy(if is_resource {
        "it failed for 10 seconds without one success: free memory, or raise the memory limit of this \
         service (memory.max of its cgroup)"
    } else {
        "it failed for 10 seconds without one success"
    })
}

/// Makes up to 10 attempts while they fail temporarily. For calls that set something up.
pub(super) fn persist<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..10 {
        match attempt() {
            Err(error) if may_pass(error.raw_os_error()) => thread::sleep(PAUSE),
            result => return result,
        }
    }
    attempt()
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The first failure: try again at once.
    TryAgain,
    /// Pause before the next try.
    Pause,
    GiveUp,
}

/// The failures of a call since its last success.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failures {
    first_and_last: Option<(Instant, Instant)>,
}

impl Failures {
    pub(super) fn note_success(&mut self) {
        self.first_and_last = None;
    }

    /// Records that a call has failed.
    pub(super) fn note(&mut self, now: Instant) -> Verdict {
        let first = self.first_and_last.map_or(now, |(first, _)| first);
        let is_first = self.first_and_last.is_none();
        self.first_and_last = Some((first, now));
        if is_first {
            Verdict::TryAgain
        } else if now.saturating_duration_since(first) >= GIVE_UP_AFTER {
            Verdict::GiveUp
        } else {
            Verdict::Pause
        }
    }

    /// Records that a receive has failed. Without traffic a receive shows no success, so a failure long after the last
    /// one counts as the first.
    pub(super) fn note_of_receive(&mut self, now: Instant) -> Verdict {
        let last = self.first_and_last.map(|(_, last)| last);
        if last.is_some_and(|last| now.saturating_duration_since(last) > APART) {
            self.note_success();
        }
        self.note(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_given_up_after_its_time_without_a_success() {
        let start = Instant::now();
        let mut failures = Failures::default();
        assert_eq!(failures.note(start), Verdict::TryAgain);
        assert_eq!(failures.note(start + PAUSE), Verdict::Pause);
        let late = start + GIVE_UP_AFTER.saturating_sub(PAUSE);
        assert_eq!(failures.note(late), Verdict::Pause);
        failures.note_success();
        assert_eq!(failures.note(late), Verdict::TryAgain);
        assert_eq!(failures.note(start + GIVE_UP_AFTER), Verdict::Pause);
        assert_eq!(failures.note(late + GIVE_UP_AFTER), Verdict::GiveUp);
    }

    #[test]
    fn failures_of_a_receive_that_are_far_apart_are_not_added_up() {
        let mut now = Instant::now();
        let mut failures = Failures::default();
        for _ in 0..100 {
            assert_eq!(failures.note_of_receive(now), Verdict::TryAgain);
            now += APART + PAUSE;
        }
        for _ in 0..10 {
            assert_ne!(failures.note_of_receive(now), Verdict::GiveUp);
            now += APART;
        }
        assert_eq!(failures.note_of_receive(now), Verdict::GiveUp);
    }

    #[test]
    fn only_what_may_pass_is_attempted_again() {
        let attempts = |errno| {
            let mut count = 0;
            let result: io::Result<()> = persist(|| {
                count += 1;
                Err(io::Error::from_raw_os_error(errno))
            });
            assert_eq!(result.unwrap_err().raw_os_error(), Some(errno));
            count
        };
        assert_eq!(attempts(libc::EINTR), 10);
        assert_eq!(attempts(libc::ENOMEM), 10);
        assert_eq!(attempts(libc::EINVAL), 1);
        assert_eq!(attempts(libc::EPERM), 1);
    }
}
