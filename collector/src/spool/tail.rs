//! How far the spool has been written, shared by its writer and its readers.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use nlring::Timestamp;

use super::segment::Position;

/// How far a spool has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The segment that is being written.
    pub segment: u64,
    /// The size of its whole batches in bytes.
    pub bytes: u64,
    /// Nothing more will be written.
    pub is_closed: bool,
    /// The end. None: this run has written no batch yet.
    pub end: Option<End>,
}

/// The place behind the last batch of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub position: Position,
    /// The time of the last mark before it.
    pub covered: Timestamp,
    /// The time of the last record before it.
    pub last: Option<Timestamp>,
}

/// The writer's progress, for readers that wait for it.
#[derive(Debug, Default)]
pub struct Tail {
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Tail {
    pub fn new(progress: Progress) -> Self {
        Self {
            progress: Mutex::new(progress),
            changed: Condvar::new(),
        }
    }

    pub fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
        self.changed.notify_all();
    }

    /// Waits until the progress changes, for at most this time.
    pub fn wait(&self, known: Progress, timeout: Duration) -> Progress {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(progress, timeout, |progress| *progress == known);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until the spool is closed, for at most this time.
    pub fn wait_for_end(&self, timeout: Duration) {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self
            .changed
            .wait_timeout_while(progress, timeout, |progress| !progress.is_closed);
    }
}
