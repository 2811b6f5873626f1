//! When and how much to sample, decided by counted events and the time alone.

use std::time::{Duration, Instant};

use super::SamplingRatio;

/// The parts of a second in which events are counted.
const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_SECOND: usize = 10;
/// The least time from a change to a lowering, so that the rate is measured for at least this long.
const LOWER_INTERVAL: Duration = Duration::from_millis(250);
/// How long it must stay quiet before the ratio is raised.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same if raising was repeatedly undone soon.
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);
/// A ratio that is lowered again within this time was raised too early.
const SOON: Duration = Duration::from_secs(60);
/// By then, the busiest second before the quiet time is over.
const SECOND: Duration = Duration::from_secs(1);

/// Chooses the ratio at which at most `max_rate` events are delivered per second.
///
/// - It lowers the ratio when more than `max_rate` events were delivered within a second: to the largest one at which
///   80 % of `max_rate` would have arrived at the rate of the busier of the last two tenths of a second.
/// - It raises the ratio when no second of a quiet period had more events than 40 % of `max_rate`: to the largest one
///   at which 80 % of `max_rate` would have arrived in the busiest of these seconds. The period is 5 s. It doubles, up
///   to 60 s, each time that raising is undone within a minute, and is 5 s again once raising has lasted longer.
///
/// The rate of all events is estimated as the rate of the delivered ones, times the number of flows of which one is
/// kept.
#[derive(Debug)]
pub(super) struct RateLimit {
    max_rate: u64,
    ratio: SamplingRatio,
    window: Window,
    /// When the measurement of the rate began.
    measured_since: Instant,
    /// When a second last had more delivered events than 40 % of `max_rate`.
    busy_at: Instant,
    /// The events of the busiest second since then.
    busiest: u64,
    patience: Duration,
    raised_at: Option<Instant>,
}

/// A ratio that should be in effect from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub ratio: SamplingRatio,
    /// The estimated rate of all events, in events per second.
    pub rate: u64,
}

impl RateLimit {
    /// All flows are kept at first.
    pub fn new(max_rate: u32, now: Instant) -> Self {
        Self {
            max_rate: max_rate.into(),
            ratio: SamplingRatio::ALL,
            window: Window::new(now),
            measured_since: now,
            busy_at: now,
            busiest: 0,
            patience: PATIENCE,
            raised_at: None,
        }
    }

    pub fn ratio(&self) -> SamplingRatio {
        self.ratio
    }

    /// Records events that were delivered, or dropped by the kernel, since the last decision.
    #[inline]
    pub fn note(&mut self, count: u64) {
        self.window.noted += count;
    }

    /// Decides at this time. A decision is in effect when [`begin`](Self::begin) says so.
    pub fn decide(&mut self, now: Instant) -> Option<Decision> {
        self.advance(now);
        if self.window.second() > self.max_rate {
            self.lowered(now)
        } else if !self.ratio.is_all() && now >= self.raise_at() {
            self.raised(now)
        } else {
            None
        }
    }

    /// When the ratio may have to be raised, if no event arrives earlier. None: all flows are kept.
    pub fn due(&self) -> Option<Instant> {
        (!self.ratio.is_all()).then(|| self.raise_at())
    }

    /// From now on only events of flows of this ratio arrive.
    pub fn begin(&mut self, ratio: SamplingRatio, now: Instant) {
        if ratio > self.ratio {
            self.raised_at = Some(now);
        } else if let Some(raised_at) = self.raised_at.take() {
            let has_lasted = now.saturating_duration_since(raised_at) >= SOON;
            self.patience = if has_lasted {
                PATIENCE
            } else {
                (2 * self.patience).min(LONGEST_PATIENCE)
            };
        }
        self.ratio = ratio;
        self.measure_again(now);
    }

    /// Forgets what was measured.
    pub fn measure_again(&mut self, now: Instant) {
        self.window = Window::new(now);
        self.measured_since = now;
        self.note_busy(now);
    }

    fn lowered(&self, now: Instant) -> Option<Decision> {
        let rate = self.of_all(self.window.busy_rate());
        let ratio = SamplingRatio::that_keeps(self.aim(), rate);
        let is_time = self.ratio.is_all() || now >= self.measured_since + LOWER_INTERVAL;
        (is_time && ratio < self.ratio).then_some(Decision { ratio, rate })
    }

    fn raised(&mut self, now: Instant) -> Option<Decision> {
        // One more than arrived, because zero events do not show how few there are.
        let at_most = self.of_all(self.busiest + 1);
        let (ratio, rate) = (
            SamplingRatio::that_keeps(self.aim(), at_most),
            self.of_all(self.busiest),
        );
        self.note_busy(now); // if the ratio stays, the quiet time begins again
        (ratio > self.ratio).then_some(Decision { ratio, rate })
    }

    /// The aim for the number of events per second after a change.
    fn aim(&self) -> u64 {
        self.max_rate * 4 / 5
    }

    /// The number of events of all flows if the kept ones have `count`.
    fn of_all(&self, count: u64) -> u64 {
        count * u64::from(self.ratio.one_in())
    }

    fn raise_at(&self) -> Instant {
        self.busy_at + SECOND + self.patience
    }

    fn note_busy(&mut self, at: Instant) {
        (self.busy_at, self.busiest) = (at, 0);
    }

    /// Ends the ticks that are over, and adds what was recorded to the current one.
    fn advance(&mut self, now: Instant) {
        while let Some(tick_end) = self.window.end_tick(now) {
            let second = self.window.second();
            if 2 * second > self.aim() {
                self.note_busy(tick_end);
            } else if tick_end >= self.busy_at + SECOND {
                self.busiest = self.busiest.max(second);
            }
            self.window.begin_tick(now);
        }
        self.window.count_noted();
    }
}

/// The events of the last second, by tenths.
#[derive(Debug)]
struct Window {
    ticks: [u64; TICKS_PER_SECOND],
    /// The index of the current tick.
    present: usize,
    /// When it ends.
    tick_end: Instant,
    /// Events that are not in a tick yet.
    noted: u64,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self {
            ticks: [0; TICKS_PER_SECOND],
            present: 0,
            tick_end: now + TICK,
            noted: 0,
        }
    }

    /// When the current tick ended, if it is over.
    fn end_tick(&self, now: Instant) -> Option<Instant> {
        (now >= self.tick_end).then_some(self.tick_end)
    }

    /// Begins the next tick. After a second without a call all ticks are reset.
    fn begin_tick(&mut self, now: Instant) {
        if now >= self.tick_end + 2 * SECOND {
            let noted = self.noted;
            *self = Self::new(now);
            self.noted = noted;
            return;
        }
        self.present = (self.present + 1) % TICKS_PER_SECOND;
        self.ticks[self.present] = 0;
        self.tick_end += TICK;
    }

    fn count_noted(&mut self) {
        self.ticks[self.present] += std::mem::take(&mut self.noted);
    }

    /// The events of the last second. The current tick is one of the ten.
    fn second(&self) -> u64 {
        self.ticks.iter().sum()
    }

    /// The events per second, by the busier of the last two ticks.
    fn busy_rate(&self) -> u64 {
        let before = self.ticks[(self.present + TICKS_PER_SECOND - 1) % TICKS_PER_SECOND];
        let busiest = before.max(self.ticks[self.present]);
        self.second().max(busiest * TICKS_PER_SECOND as u64)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
