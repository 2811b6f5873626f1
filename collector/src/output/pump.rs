//! Moves batches from the spool to an output, until the spool is closed and the output has everything.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use nlring::Timestamp;
use tracing::{info, warn};

use super::Output;
use crate::failure::{Failure, Result};
use crate::metrics::{Metrics, Part};
use crate::record::columns::Columns;
use crate::record::{Body, LossBody, Record, batch};
use crate::retry::Retry;
use crate::spool::{Acknowledged, Cursor, Position, Read, Reader, Tail};

/// How long to wait for a batch before checking the cursor anyway.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a failing output may delay the end.
const DELAY_OF_END: Duration = Duration::from_secs(10);

/// Moves batches from the spool to an output.
pub struct Pump {
    output: Box<dyn Output>,
    cursor: Cursor,
    directory: PathBuf,
    tail: Arc<Tail>,
    /// It was reported that the cursor cannot be saved.
    has_reported_cursor: bool,
    metrics: Metrics,
}

/// What the spool has lost for an output, as a record. A mark says that it is all that was received until then.
pub(crate) fn batch_of_loss(loss: LossBody) -> RecordBatch {
    let until = loss.until;
    let mut columns = Columns::default();
    for body in [Body::Loss(loss), Body::MarkBeforeRepair] {
        let record = Record {
            time: until,
            namespace: u16::MAX,
            body,
        };
        columns.push(&record, &[]);
    }
    columns.take()
}

impl Pump {
    pub fn new(
        output: Box<dyn Output>,
        cursor: Cursor,
        directory: PathBuf,
        tail: Arc<Tail>,
        metrics: Metrics,
    ) -> Self {
        let saved = cursor.saved().and_then(|saved| saved.covered);
        metrics.add_output(output.name(), saved.unwrap_or_else(Timestamp::now));
        Self {
            output,
            cursor,
            directory,
            tail,
            has_reported_cursor: false,
            metrics,
        }
    }

    /// Runs until the spool is closed and the output has everything. After a failure it goes back to what the receiver
    /// certainly has, and tries again after a pause. The pauses grow until the receiver has more.
    ///
    /// # Errors
    ///
    /// The spool is closed, and the output still fails after 10 s.
    pub fn run(mut self) -> Result<()> {
        let mut retry = Retry::new(self.output.longest_pause());
        let mut failing: Option<Acknowledged> = None;
        let mut ending_since: Option<Instant> = None;
        loop {
            let before = self.cursor.saved();
            let Err(failure) = self.attempt(&mut failing) else {
                return Ok(());
            };
            if before != self.cursor.saved() {
                retry.reset();
            }
            let mut pause = retry.pause();
            if self.tail.progress().is_closed {
                let since = *ending_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= DELAY_OF_END {
                    return Err(self.given_up(&failure));
                }
                pause = pause.min(PATIENCE);
            }
            let name = self.output.name();
            if retry.is_news(&failure.to_string()) {
                warn!(
                    output = name,
                    "{failure}; the spool keeps the records, and it is tried again in {pause:?}"
                );
            }
            self.metrics.count_output_error(name);
            let part = Part::Output(name.to_owned());
            self.metrics.note_health(&part, Some(failure.to_string()));
            failing = Some(self.cursor.saved().unwrap_or_default());
            self.rest(pause);
        }
    }

    fn given_up(&self, failure: &Failure) -> Failure {
        let name = self.output.name();
        Failure::Other(format!(
            "{failure}; the spool keeps what the output {name:?} has not received until the next start"
        ))
    }

    /// Waits. The end of the spool ends the pause.
    fn rest(&self, pause: Duration) {
        if self.tail.progress().is_closed {
            std::thread::sleep(pause);
        } else {
            self.tail.wait_for_end(pause);
        }
    }

    /// Begins after the cursor, and runs until the end or a failure.
    fn attempt(&mut self, failing: &mut Option<Acknowledged>) -> Result<()> {
        let saved = self.cursor.saved().unwrap_or_default();
        self.output.resume(saved)?;
        let mut covered = saved.covered;
        if let Some(covered) = covered {
            self.metrics.note_taken(self.output.name(), covered);
        }
        let mut reader = Reader::new(self.directory.clone(), self.tail.clone(), saved.position);
        loop {
            match reader.next(PATIENCE)? {
                Read::Batch(behind, batch) => {
                    covered = batch::last_mark(&batch).or(covered);
                    self.output.take(behind, &batch)?;
                }
                Read::Missing(behind, mut loss) => {
                    // The first records received had happened since the last mark.
                    loss.since = covered.map_or(loss.since, |covered| covered.min(loss.since));
                    covered = Some(loss.until);
                    self.metrics.count_output_loss(self.output.name(), &loss);
                    self.take_loss(behind, loss)?;
                }
                Read::Nothing => {}
                Read::End => break,
            }
            if let Some(covered) = covered {
                self.metrics.note_taken(self.output.name(), covered);
            }
            self.save(failing);
        }
        self.output.finish()?;
        self.save(failing);
        Ok(())
    }

    /// Hands over what the spool has lost for this output.
    fn take_loss(&mut self, behind: Position, loss: LossBody) -> Result<()> {
        self.output.take(behind, &batch_of_loss(loss))
    }

    fn save(&mut self, failing: &mut Option<Acknowledged>) {
        let place = self.output.acknowledged();
        if let Some(covered) = place.covered {
            self.metrics.note_complete(self.output.name(), covered);
        }
        match self.cursor.save(place) {
            Ok(()) => self.has_reported_cursor = false,
            Err(failure) if !self.has_reported_cursor => {
                warn!("{failure}; after a crash, the output gets records again");
                self.has_reported_cursor = true;
            }
            Err(_) => {}
        }
        if failing.is_some_and(|failed_at| failed_at != place) {
            *failing = None;
            let name = self.output.name();
            info!(output = name, "the output goes on");
            let part = Part::Output(name.to_owned());
            self.metrics.note_health(&part, None);
        }
    }
}
