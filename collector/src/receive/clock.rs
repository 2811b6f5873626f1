//! Detects that the clock was set. The times of records then do not tell when their flows existed.

use std::time::{Duration, Instant};

use nlring::Timestamp;

use crate::record::{CLOCK_STEP, LossBody, LossReason};

/// Compares the clock with one that cannot be set.
#[derive(Debug)]
pub struct Clock {
    seen: (Instant, Timestamp),
}

impl Clock {
    pub fn new(now: Instant, time: Timestamp) -> Self {
        Self { seen: (now, time) }
    }

    /// Checks the clock. If it was set since the last check, this returns the interval of times that occurred twice or
    /// never.
    pub fn look(&mut self, now: Instant, time: Timestamp) -> Option<LossBody> {
        let (instant, before) = std::mem::replace(&mut self.seen, (now, time));
        let elapsed = now.duration_since(instant);
        let expected = before + elapsed;
        // A clock that is being adjusted may run faster or slower by 1/2000.
        let tolerance = CLOCK_STEP + elapsed / 1000;
        let (since, until) = if time + tolerance < expected {
            let back = Duration::from_nanos(expected.as_ns() - time.as_ns());
            let since = u128::from(before.as_ns()).saturating_sub(back.as_nanos());
            (
                Timestamp::from_ns(u64::try_from(since).unwrap_or(0)),
                expected,
            )
        } else if expected + tolerance < time {
            (before, time)
        } else {
            return None;
        };
        Some(LossBody {
            subject: None,
            reason: LossReason::Clock,
            count: None,
            since,
            until,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_found() {
        let start = Instant::now();
        let mut clock = Clock::new(start, Timestamp::from_ns(10_000_000_000));
        let mut look = |after_ms: u64, time_ms: u64| {
            let time = Timestamp::from_ns(time_ms * 1_000_000);
            let loss = clock.look(start + Duration::from_millis(after_ms), time);
            loss.map(|loss| [loss.since, loss.until].map(|time| time.as_ns() / 1_000_000))
        };
        assert_eq!(look(500, 10_501), None, "it is adjusted");
        assert_eq!(
            look(1000, 8001),
            Some([7501, 11_001]),
            "it was set back by 3 s: at 7501 at the earliest, at 11,001 at the latest"
        );
        assert_eq!(look(1500, 8501), None);
        assert_eq!(
            look(2000, 60_000),
            Some([8501, 60_000]),
            "it was set forward"
        );
    }
}
