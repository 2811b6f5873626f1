//! When a mirror's rounds begin. It neither reads a clock nor talks to the kernel.

use std::time::{Duration, Instant};

use super::ResyncReason;

/// The least time between the beginnings of two rounds after losses, by default.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// The least time between the beginnings of two rounds before the first one is complete: until then there is no table.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// A failed round is retried after the interval. Each further failure doubles the wait, up to this many intervals.
const MOST_BACKOFF: u32 = 8;
/// The least time between the beginnings of two audits, by default.
const SHORTEST_AUDIT: Duration = Duration::from_secs(15);
/// An audit begins at the earliest this many times later than the last round took, by default: audits take 1 % of the
/// time at most.
const AUDIT_SHARE: u32 = 100;

/// The least time between the beginnings of two rounds, by their reason. An interval beyond the range of the clock,
/// such as [`Duration::MAX`], means never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intervals {
    /// After losses.
    pub loss: Duration,
    /// After changes that no event reports.
    pub change: Duration,
    /// Between audits. `None`: it depends on how long rounds take.
    pub audit: Option<Duration>,
}

impl Intervals {
    #[cfg(test)]
    pub(crate) const fn new(loss: Duration, change: Duration) -> Self {
        Self {
            loss,
            change,
            audit: None,
        }
    }
}

/// When the next round may begin.
#[derive(Debug)]
pub(super) struct Schedule {
    intervals: Intervals,
    /// When the last round that was not an audit began.
    begun_at: Option<Instant>,
    /// When the last round of any kind began.
    dumped_at: Option<Instant>,
    /// How long the receiving thread has worked on that round.
    spent: Duration,
    /// The earliest start of a round after a loss or a failure since the last dump began; the last of them counts.
    /// `None`: never.
    repair_at: Option<Instant>,
    /// The earliest start of a round that was requested, since the last dump began, for another reason. `None`: never.
    other_at: Option<Instant>,
    /// How many rounds in a row have failed.
    pub failed_count: u32,
    /// How many rounds in a row were complete and left something open.
    open_count: u32,
}

impl Schedule {
    pub(super) fn new(intervals: Intervals) -> Self {
        Self {
            intervals,
            begun_at: None,
            dumped_at: None,
            spent: Duration::ZERO,
            repair_at: None,
            other_at: None,
            failed_count: 0,
            open_count: 0,
        }
    }

    /// Requests a round after a loss. It begins an interval after the last round, or later if rounds have failed, but
    /// no later than an interval after the last loss.
    pub(super) fn ask_after_loss(&mut self, is_first: bool, now: Instant) {
        let interval = self.repair_interval(is_first);
        let (base_at, backoff_at) = (
            self.after(interval, now),
            self.after(self.backoff(interval), now),
        );
        // Not before the base. If the base is never, this is never too.
        self.repair_at = base_at.and_then(|base_at| {
            let calm_at = now.checked_add(interval).map(|at| at.max(base_at));
            sooner(backoff_at, calm_at)
        });
    }

    /// Requests a round after one that failed by itself. Each further failure lengthens the wait.
    pub(super) fn ask_after_failure(&mut self, reason: Option<ResyncReason>, now: Instant) {
        let interval = match reason {
            Some(ResyncReason::Change) => self.intervals.change,
            reason => self.repair_interval(reason == Some(ResyncReason::Snapshot)),
        };
        self.repair_at = self.after(self.backoff(interval), now);
    }

    /// Requests a round because something changed.
    pub(super) fn ask_after_change(&mut self, now: Instant) {
        self.other_at = sooner(self.other_at, self.after(self.intervals.change, now));
    }

    /// Requests a round because there is room for missing entries. A table that is too large for its memory may do so
    /// repeatedly, so such rounds take no more of the time than audits.
    pub(super) fn ask_for_room(&mut self, now: Instant) {
        let interval = self
            .intervals
            .loss
            .max(self.spent.saturating_mul(AUDIT_SHARE));
        self.other_at = sooner(self.other_at, self.after(interval, now));
    }

    /// Requests a round because the last one left something open. The wait grows each time, up to the interval of
    /// losses.
    pub(super) fn ask_to_settle(&mut self, now: Instant) {
        let Intervals { loss, change, .. } = self.intervals;
        let interval = change.saturating_mul(1 << self.open_count.min(8));
        self.open_count = self.open_count.saturating_add(1);
        let interval = interval.min(loss.max(change));
        self.other_at = sooner(self.other_at, self.after(interval, now));
    }

    fn repair_interval(&self, is_first: bool) -> Duration {
        if is_first {
            self.intervals.loss.min(FIRST_INTERVAL)
        } else {
            self.intervals.loss
        }
    }

    fn backoff(&self, interval: Duration) -> Duration {
        let factor = match self.failed_count {
            0 => 1,
            failed => (1 << (failed - 1).min(16)).min(MOST_BACKOFF),
        };
        interval.saturating_mul(factor)
    }

    /// The time this long after the last round began. `None`: never.
    fn after(&self, interval: Duration, now: Instant) -> Option<Instant> {
        match self.begun_at {
            Some(at) => at.checked_add(interval),
            None => Some(now),
        }
    }

    /// When the requested round begins, but not before events are calm. `None`: never.
    pub(super) fn due(&self, calm_at: Instant, now: Instant) -> Option<Instant> {
        let earliest = sooner(self.repair_at, self.other_at)?;
        Some(earliest.max(calm_at).max(now))
    }

    /// When the next audit begins. `None`: never.
    pub(super) fn audit_due(&self, now: Instant) -> Option<Instant> {
        let of_time = self.spent.saturating_mul(AUDIT_SHARE).max(SHORTEST_AUDIT);
        let interval = self.intervals.audit.unwrap_or(of_time);
        let due = self.dumped_at.unwrap_or(now).checked_add(interval)?;
        Some(due.max(now))
    }

    /// A dump begins. The dump of an audit does not delay repairs.
    pub(super) fn begin(&mut self, is_audit: bool, now: Instant) {
        if !is_audit {
            self.begun_at = Some(now);
        }
        self.dumped_at = Some(now);
        (self.repair_at, self.other_at) = (None, None);
        self.spent = Duration::ZERO;
    }

    pub(super) fn note_time(&mut self, spent: Duration) {
        self.spent = self.spent.saturating_add(spent);
    }

    pub(super) fn note_failure(&mut self) {
        self.failed_count = self.failed_count.saturating_add(1);
    }

    /// A round is complete.
    pub(super) fn note_success(&mut self, is_open: bool) {
        self.failed_count = 0;
        if !is_open {
            self.open_count = 0;
        }
    }
}

/// The earlier of two times. `None` means never.
fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn schedule(audit: Option<Duration>) -> Schedule {
        Schedule::new(Intervals {
            audit,
            ..Intervals::new(10 * SECOND, SECOND)
        })
    }

    #[test]
    fn audits_take_a_hundredth_of_the_time_at_most() {
        let (mut schedule, now) = (schedule(None), Instant::now());
        schedule.begin(false, now);
        schedule.note_time(Duration::from_millis(3));
        assert_eq!(schedule.audit_due(now), Some(now + 15 * SECOND));
        schedule.begin(true, now);
        schedule.note_time(SECOND);
        schedule.note_time(2 * SECOND);
        assert_eq!(schedule.audit_due(now), Some(now + 300 * SECOND));
        let later = now + 400 * SECOND;
        assert_eq!(
            schedule.audit_due(later),
            Some(later),
            "late, not in the past"
        );
    }

    #[test]
    fn an_interval_for_audits_is_kept() {
        let now = Instant::now();
        for (interval, due) in [(SECOND, Some(now + SECOND)), (Duration::MAX, None)] {
            let mut schedule = schedule(Some(interval));
            schedule.begin(true, now);
            schedule.note_time(30 * SECOND);
            assert_eq!(schedule.audit_due(now), due);
        }
    }

    #[test]
    fn an_audit_does_not_delay_a_repair() {
        let (mut schedule, now) = (schedule(None), Instant::now());
        schedule.begin(false, now);
        let later = now + 20 * SECOND;
        schedule.begin(true, later);
        schedule.ask_after_loss(false, later);
        assert_eq!(schedule.due(later, later), Some(later));
    }

    #[test]
    fn each_failed_round_waits_longer_up_to_a_bound() {
        let (mut schedule, now) = (schedule(None), Instant::now());
        let mut interval_after = |failed_count| {
            schedule.failed_count = failed_count;
            schedule.begin(false, now);
            schedule.ask_after_failure(Some(ResyncReason::Loss), now);
            let by_failure = schedule.due(now, now).unwrap() - now;
            // Further losses do not shorten the wait.
            for second in 0..100 {
                schedule.ask_after_loss(false, now + second * SECOND);
            }
            assert_eq!(schedule.due(now, now).unwrap() - now, by_failure);
            by_failure
        };
        let intervals = [0, 1, 2, 3, 4, 5, u32::MAX].map(&mut interval_after);
        assert_eq!(
            intervals,
            [10, 10, 20, 40, 80, 80, 80].map(Duration::from_secs)
        );
        schedule.note_success(false);
        schedule.begin(false, now);
        schedule.ask_after_loss(false, now);
        assert_eq!(schedule.due(now, now), Some(now + 10 * SECOND));
    }

    #[test]
    fn the_end_of_losses_ends_the_wait() {
        let (mut schedule, now) = (schedule(None), Instant::now());
        schedule.failed_count = 4;
        schedule.begin(false, now);
        for (lost_after, begins_after) in [(0, 10), (7, 17), (15, 25), (75, 80)] {
            schedule.ask_after_loss(false, now + lost_after * SECOND);
            assert_eq!(schedule.due(now, now), Some(now + begins_after * SECOND));
        }
    }

    #[test]
    fn the_most_urgent_reason_counts() {
        let (mut schedule, now) = (schedule(None), Instant::now());
        schedule.begin(false, now);
        schedule.ask_after_loss(false, now);
        schedule.ask_after_change(now);
        schedule.ask_after_loss(false, now);
        assert_eq!(schedule.due(now, now), Some(now + SECOND));
        let calm_at = now + 3 * SECOND;
        assert_eq!(schedule.due(calm_at, now), Some(calm_at));
    }

    #[test]
    fn rounds_for_room_take_a_hundredth_of_the_time_at_most() {
        let (mut schedule, now) = (schedule(None), Instant::now());
        for (spent, interval) in [(Duration::ZERO, 10), (SECOND, 100)] {
            schedule.begin(false, now);
            schedule.note_time(spent);
            schedule.ask_for_room(now);
            assert_eq!(schedule.due(now, now), Some(now + interval * SECOND));
        }
    }

    #[test]
    fn a_round_that_settles_what_is_open_waits_longer_each_time() {
        let (mut schedule, now) = (schedule(None), Instant::now());
        let intervals = [1, 2, 4, 8, 10, 10].map(|expected| {
            schedule.begin(false, now);
            schedule.note_success(true);
            schedule.ask_to_settle(now);
            (schedule.due(now, now).unwrap() - now, expected * SECOND)
        });
        for (interval, expected) in intervals {
            assert_eq!(interval, expected);
        }
    }

    #[test]
    fn intervals_of_never_are_never_due() {
        let now = Instant::now();
        let mut schedule = Schedule::new(Intervals::new(Duration::MAX, Duration::MAX));
        schedule.ask_after_loss(true, now);
        schedule.ask_after_loss(false, now);
        assert_eq!(schedule.due(now, now), Some(now), "the first is due");
        schedule.begin(false, now);
        schedule.ask_after_loss(false, now);
        schedule.ask_after_failure(None, now);
        schedule.ask_to_settle(now);
        assert_eq!(schedule.due(now, now), None);
    }
}
