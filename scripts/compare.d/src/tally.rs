//! Counts what a receiver gets.

use std::sync::atomic::{AtomicU64, Ordering};

/// The count of the only tally, for the thread that ends the process.
static RECEIVED: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
pub struct Tally {
    received: u64,
}

impl Tally {
    /// Counts the datagrams of one delivery; each is one event.
    pub fn note<'a>(&mut self, datagrams: impl IntoIterator<Item = &'a [u8]>) {
        self.add(datagrams.into_iter().count());
    }

    pub fn add(&mut self, count: usize) {
        self.received += count as u64;
        RECEIVED.store(self.received, Ordering::Relaxed);
    }
}

pub fn received() -> u64 {
    RECEIVED.load(Ordering::Relaxed)
}
