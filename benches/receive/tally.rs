//! Counts what a receiver gets, and how late.

use std::time::Instant;

use nlring::{Message, MessageList};

/// The type of the messages that are counted, with a time in the payload.
pub const DATA: u16 = 100;
/// The type of the message after the last.
pub const END: u16 = 101;

/// How many leading bits distinguish latencies: to 3 %.
const PRECISION_BITS: u32 = 5;
/// Longer than any latency (2^40 ns).
const BUCKET_COUNT: usize = (40 - PRECISION_BITS as usize) << PRECISION_BITS;

/// What one receiver got.
pub struct Tally {
    epoch: Instant,
    received: u64,
    has_ended: bool,
    latencies: Vec<u64>,
}

impl Tally {
    pub fn new() -> Self {
        Self {
            epoch: Instant::now(),
            received: 0,
            has_ended: false,
            latencies: vec![0; BUCKET_COUNT],
        }
    }

    /// The zero of the times in messages (`CLOCK_MONOTONIC`).
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Counts the messages of one delivery, all received now.
    pub fn note<'a>(&mut self, lists: impl IntoIterator<Item = &'a [u8]>) {
        let now_ns = self.now_ns();
        for bytes in lists {
            for message in &MessageList::new(bytes) {
                self.note_message(&message, now_ns);
            }
        }
    }

    pub fn now_ns(&self) -> u64 {
        nanoseconds_since(self.epoch)
    }

    pub fn note_message(&mut self, message: &Message<'_>, now_ns: u64) {
        self.received += 1;
        self.has_ended |= message.message_type() == END;
        if let Some(sent_ns) = message.payload().first_chunk() {
            let latency_ns = now_ns.saturating_sub(u64::from_ne_bytes(*sent_ns));
            self.latencies[bucket(latency_ns).min(BUCKET_COUNT - 1)] += 1;
        }
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The latency below which this part of the messages stayed.
    pub fn quantile_ns(&self, part: f64) -> f64 {
        let mut left = (self.received as f64 * part) as u64;
        let index = self.latencies.iter().position(|&count| {
            let is_here = left < count;
            left = left.saturating_sub(count);
            is_here
        });
        index.map_or(f64::NAN, lower_bound)
    }
}

pub fn nanoseconds_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Buckets grow with the number: the leading bits and their shift choose one.
fn bucket(number: u64) -> usize {
    let shift = (u64::BITS - number.leading_zeros()).saturating_sub(PRECISION_BITS + 1);
    ((shift as usize) << PRECISION_BITS) + (number >> shift) as usize
}

/// The smallest number in a bucket.
fn lower_bound(bucket: usize) -> f64 {
    let shift = (bucket >> PRECISION_BITS).saturating_sub(1);
    ((bucket - (shift << PRECISION_BITS)) << shift) as f64
}
