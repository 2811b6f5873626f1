//! Reproducible random numbers, in the distributions of real traffic.

use std::f64::consts::TAU;

/// A generator: the same seed yields the same numbers (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number less than `limit`, which is not 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        let product = (self.bits() >> 32) * u64::from(limit);
        (product >> 32) as u32
    }

    /// True once in `count` times on average.
    pub fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }

    /// A number from 0 up to, but not including, 1.
    pub fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The time to the next of many independent events, which occur at this mean distance.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }

    /// A value that is usually near the median, and occasionally far larger: with `spread` 1, one in 6 is more than e
    /// times as large.
    pub fn log_normal(&mut self, median: f64, spread: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.share()).ln()).sqrt();
        median * (spread * radius * (TAU * self.share()).cos()).exp()
    }

    /// A rank less than `count`: each has a share that falls with its rank (Zipf).
    pub fn rank(&mut self, count: u32) -> u32 {
        let rank = f64::from(count).powf(self.share()) - 1.0;
        rank as u32
    }
}

/// A number that looks random, and is always the same for the same input.
pub fn mix(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
