//! Records of long-lived flows: each is recorded repeatedly until it ends.

use std::time::{Duration, Instant};

use nlring::conntrack::{Flow, Mirror};

/// Goes through the flows of a mirror, a few at a time, and starts over after each interval.
///
/// A flow that lasts for two intervals is visited at least once in that time.
#[derive(Debug)]
pub struct Opens {
    interval_ns: u128,
    position: usize,
    advanced_at: Instant,
    /// The part of a visit that was due but has not been made.
    rest: u128,
}

impl Opens {
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval_ns: interval.as_nanos().max(1),
            position: 0,
            advanced_at: now,
            rest: 0,
        }
    }

    /// Visits the flows whose turn it is, so that all are visited within an interval.
    pub fn advance(&mut self, mirror: &Mirror, now: Instant, mut visit: impl FnMut(&Flow<'_>)) {
        let elapsed_ns = now.duration_since(self.advanced_at).as_nanos();
        self.advanced_at = now;
        let due = self.rest + mirror.len() as u128 * elapsed_ns.min(self.interval_ns);
        self.rest = due % self.interval_ns;
        let count = usize::try_from(due / self.interval_ns).unwrap_or(usize::MAX);
        let mut left = count;
        for (next, flow) in mirror.iter_from(self.position).take(count) {
            visit(&flow);
            self.position = next;
            left -= 1;
        }
        if left > 0 {
            self.position = 0;
        }
    }
}
