//! The spool's thread: writes the batches that it is given, and removes those that all outputs have read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver as Queue;
use std::thread;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use nlring::Timestamp;
use tracing::{info, warn};

use super::{Removal, Writer};
use crate::failure::{Failure, Result};
use crate::host::Pulse;
use crate::metrics::{Metrics, Part};
use crate::record::columns::Columns;
use crate::record::{Body, LossBody, Record, batch};

/// The pause before retrying a batch that could not be written.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a spool that cannot be written may delay the end.
const DELAY_OF_END: Duration = Duration::from_secs(10);
/// A write that takes longer than this is reported.
const REPORTED_WRITE: Duration = Duration::from_secs(5);
/// How often segments are removed.
const REMOVAL_INTERVAL: Duration = Duration::from_secs(1);

/// Writes the batches that it is given to the spool.
pub struct Keeper {
    pub writer: Writer,
    pub removal: Removal,
    pub namespaces: Vec<String>,
    /// Set when nlringd is to end.
    pub is_ending: Arc<AtomicBool>,
    pub pulse: Pulse,
    pub metrics: Metrics,
}

impl Keeper {
    /// Records what is missing since the previous run, and that nlringd is running now.
    pub fn begin(&mut self, missing: impl IntoIterator<Item = LossBody>) -> Result<()> {
        let now = Timestamp::now();
        let mut columns = Columns::default();
        let mut push = |body| {
            let record = Record {
                time: now,
                namespace: u16::MAX,
                body,
            };
            columns.push(&record, &self.namespaces);
        };
        for loss in missing {
            push(Body::Loss(loss));
        }
        push(Body::Mark);
        self.append(&columns.take())
    }

    /// Writes the queue's batches to the spool until the queue ends.
    ///
    /// # Errors
    ///
    /// nlringd is to end, and the spool cannot be written for 10 s. The next run then records that records are missing.
    pub fn run(mut self, queue: &Queue<Vec<Record>>) -> Result<()> {
        let mut columns = Columns::default();
        let mut removed_at: Option<Instant> = None;
        let mut outcome = Ok(());
        for records in queue {
            for record in &records {
                columns.push(record, &self.namespaces);
            }
            outcome = self.insist(&columns.take());
            if outcome.is_err() {
                break;
            }
            if removed_at.is_none_or(|at| at.elapsed() >= REMOVAL_INTERVAL) {
                self.remove();
                removed_at = Some(Instant::now());
            }
        }
        self.writer.close();
        outcome
    }

    /// Appends a batch, and retries until this succeeds. Meanwhile the queue is full, and events wait in the kernel.
    fn insist(&mut self, batch: &RecordBatch) -> Result<()> {
        let begun = Instant::now();
        let mut ending_since = None;
        let mut report_after = Duration::ZERO;
        while let Err(failure) = self.append(batch) {
            self.metrics.count_spool_error();
            self.metrics
                .note_health(&Part::Spool, Some(failure.to_string()));
            if begun.elapsed() >= report_after {
                warn!("{failure}; it is tried again, and events wait in the kernel meanwhile");
                report_after = (report_after * 2).max(Duration::from_secs(1));
            }
            if self.is_ending.load(Ordering::Relaxed) {
                let since = *ending_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= DELAY_OF_END {
                    return Err(Failure::Other(format!(
                        "{failure}; what could not be written is missing, and the next start records that"
                    )));
                }
            }
            self.remove();
            thread::sleep(PAUSE);
        }
        if !report_after.is_zero() {
            info!("the spool is written again after {:.1?}", begun.elapsed());
            self.metrics.note_health(&Part::Spool, None);
        }
        Ok(())
    }

    /// Appends a batch, and records how long that took.
    fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        let begun = Instant::now();
        let appended = self.pulse.wait_for(|| self.writer.append(batch));
        let took = begun.elapsed();
        if took >= REPORTED_WRITE {
            warn!("a write to the spool has taken {took:.1?}: its disk is too slow");
        }
        if appended.is_ok() {
            let mark = batch::last_mark(batch);
            self.metrics.note_spool_write(took, mark);
        }
        appended
    }

    fn remove(&self) {
        let removed = self
            .pulse
            .wait_for(|| self.removal.run(self.writer.needed()));
        match removed {
            Ok(kept) => self.metrics.note_spool(kept.bytes, kept.oldest),
            Err(failure) => warn!("{failure}"),
        }
    }
}
