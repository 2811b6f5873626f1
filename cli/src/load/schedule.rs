//! When each event is due. The times do not depend on the events before (an open loop), so an event that waits for a
//! slow one counts as late.

use std::time::Duration;

const NS_PER_SECOND: u128 = 1_000_000_000;

/// How many events, and how fast.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Events per second. None: as fast as possible.
    pub rate: Option<u32>,
    /// How many events are due at once. The rate stays the same. 0 means 1.
    pub burst: u32,
    /// How many events to make. None: no limit.
    pub count: Option<u64>,
    /// How long to make events. None: no limit.
    pub duration: Option<Duration>,
}

/// A pace that starts at a fixed time. All times are on `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start_ns: u64,
    end_ns: u64,
    rate: Option<u32>,
    burst: u64,
    count: u64,
}

impl Schedule {
    pub fn new(pace: Pace, start_ns: u64) -> Self {
        let duration_ns = pace.duration.map_or(u64::MAX, |duration| {
            u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
        });
        Self {
            start_ns,
            end_ns: start_ns.saturating_add(duration_ns),
            rate: pace.rate.filter(|rate| *rate > 0),
            burst: u64::from(pace.burst.max(1)),
            count: pace.count.unwrap_or(u64::MAX),
        }
    }

    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// When the event of this index is due. None: as soon as it can be made.
    pub fn due_ns(&self, index: u64) -> Option<u64> {
        let rate = u128::from(self.rate?);
        let first_of_burst = u128::from(index / self.burst * self.burst);
        let after_ns = (first_of_burst * NS_PER_SECOND).div_ceil(rate);
        let after_ns = u64::try_from(after_ns).unwrap_or(u64::MAX);
        Some(self.start_ns.saturating_add(after_ns))
    }

    /// How many events are due by now, from the first one on.
    pub fn due_count(&self, now_ns: u64) -> u64 {
        let Some(after_ns) = now_ns.checked_sub(self.start_ns) else {
            return 0;
        };
        let Some(rate) = self.rate else {
            return self.count;
        };
        let burst = u128::from(self.burst);
        let burst_count = u128::from(after_ns) * u128::from(rate) / (NS_PER_SECOND * burst) + 1;
        u64::try_from(burst_count * burst).map_or(self.count, |due_count| due_count.min(self.count))
    }

    /// Whether the schedule is over, after this many events and at this time.
    pub fn is_over(&self, made_count: u64, now_ns: u64) -> bool {
        made_count >= self.count || now_ns >= self.end_ns
    }

    /// When to look again: the event `next` is due then, or the schedule is over.
    pub fn wake_ns(&self, next: u64) -> u64 {
        self.due_ns(next).unwrap_or(self.start_ns).min(self.end_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_NS: u64 = 5_000;

    fn schedule(rate: u32, burst: u32) -> Schedule {
        let pace = Pace {
            rate: Some(rate),
            burst,
            ..Pace::default()
        };
        Schedule::new(pace, START_NS)
    }

    #[test]
    fn events_are_due_evenly_from_the_start_on() {
        let schedule = schedule(4, 1);
        let due: Vec<_> = (0..4).map(|index| schedule.due_ns(index)).collect();
        let after = |ns| Some(START_NS + ns);
        assert_eq!(
            due,
            [
                after(0),
                after(250_000_000),
                after(500_000_000),
                after(750_000_000)
            ]
        );
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let schedule = schedule(3, 1);
        assert_eq!(
            schedule.due_ns(3_000_000),
            Some(START_NS + 1_000_000 * 1_000_000_000)
        );
    }

    #[test]
    fn a_burst_is_due_at_once_and_the_rate_stays() {
        let schedule = schedule(1_000, 10);
        assert_eq!(schedule.due_ns(9), schedule.due_ns(0));
        assert_eq!(schedule.due_ns(10), Some(START_NS + 10_000_000));
        assert_eq!(schedule.due_count(START_NS), 10);
        assert_eq!(schedule.due_count(START_NS + 9_999_999), 10);
        assert_eq!(schedule.due_count(START_NS + 10_000_000), 20);
    }

    #[test]
    fn the_count_of_due_events_agrees_with_their_times() {
        for (rate, burst) in [(1, 1), (3, 1), (7, 3), (50_000, 1), (999_983, 64)] {
            let schedule = schedule(rate, burst);
            for index in [0, 1, 2, 63, 64, 65, 1_000, 999_999] {
                let due_ns = schedule.due_ns(index).unwrap();
                assert!(schedule.due_count(due_ns) > index, "{rate} {burst} {index}");
                assert!(
                    schedule.due_count(due_ns - 1) <= index,
                    "{rate} {burst} {index}"
                );
            }
        }
    }

    #[test]
    fn nothing_is_due_before_the_start() {
        assert_eq!(schedule(1_000_000, 8).due_count(START_NS - 1), 0);
        assert_eq!(
            Schedule::new(Pace::default(), START_NS).due_count(START_NS - 1),
            0
        );
    }

    #[test]
    fn without_a_rate_every_event_is_due_and_none_has_a_time() {
        let pace = Pace {
            count: Some(7),
            ..Pace::default()
        };
        let schedule = Schedule::new(pace, START_NS);
        assert_eq!(schedule.due_count(START_NS), 7);
        assert_eq!(schedule.due_ns(3), None);
    }

    #[test]
    fn a_schedule_ends_by_count_or_by_time() {
        let pace = Pace {
            rate: Some(1_000),
            count: Some(5),
            duration: Some(Duration::from_millis(3)),
            ..Pace::default()
        };
        let schedule = Schedule::new(pace, START_NS);
        assert_eq!(schedule.due_count(START_NS + 1_000_000_000), 5);
        assert!(schedule.is_over(5, START_NS));
        assert!(!schedule.is_over(4, START_NS + 2_999_999));
        assert!(schedule.is_over(4, START_NS + 3_000_000));
        assert_eq!(
            schedule.wake_ns(4),
            START_NS + 3_000_000,
            "the end comes first"
        );
    }

    #[test]
    fn a_long_run_at_a_high_rate_does_not_overflow() {
        let schedule = schedule(u32::MAX, 1);
        let year_ns = 365 * 24 * 3_600 * 1_000_000_000_u64;
        assert!(schedule.due_count(START_NS + year_ns) > u64::from(u32::MAX));
        assert!(schedule.due_ns(u64::MAX).is_some());
    }
}
