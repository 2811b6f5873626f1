//! Moves batches from the spool to an output, until the spool is closed and the output has everything.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use nlring::Timestamp;
use tracing::{info, warn};

use super::{Ahead, Output};
use crate::failure::{Failure, Result};
use crate::metrics::{Metrics, Part};
use crate::record::columns::Columns;
use crate::record::{Body, LossBody, Record, batch};
use crate::retry::Retry;
use crate::spool::{Acknowledged, Cursor, Position, Read, Reader, Tail};

/// How long to wait for a batch before checking the cursor anyway.
const PATIENCE: Duration = Duration::from_secs(1);
/// If the output has not yet taken what was written this long ago, it takes the latest batches first.
const BACKLOG: Duration = Duration::from_secs(3);
/// How many of the latest batches it takes before one of the backlog.
const MOST_AHEAD: usize = 8;
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

/// Batches that are moved one behind the other.
struct Lane {
    reader: Reader,
    /// The time of the last mark that was read.
    covered: Option<Timestamp>,
}

enum Next {
    /// A batch, and the position behind it.
    Batch(Position, RecordBatch),
    /// Nothing was written in the meantime.
    Nothing,
    /// Everything has been read.
    End,
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
        let mut main = self.lane(saved.position, saved.covered);
        let mut ahead: Option<Lane> = None;
        loop {
            if let Some(lane) = &mut ahead {
                self.move_ahead(lane)?;
            }
            let patience = if ahead.is_some() {
                Duration::ZERO
            } else {
                PATIENCE
            };
            match self.next(&mut main, patience)? {
                Next::Batch(behind, batch) => {
                    self.output.take(behind, &batch)?;
                    // A receiver that takes nothing does not take the latest batches either.
                    if ahead.is_none() && self.output.acknowledged() != saved {
                        ahead = self.go_ahead(&mut main);
                    }
                }
                Next::Nothing => {}
                Next::End => match ahead.take() {
                    Some(lane) => {
                        self.join()?;
                        main = lane;
                    }
                    None => break,
                },
            }
            if let Some(covered) = main.covered {
                self.metrics.note_taken(self.output.name(), covered);
            }
            self.save(failing);
        }
        self.output.finish()?;
        self.save(failing);
        Ok(())
    }

    fn lane(&self, position: Position, covered: Option<Timestamp>) -> Lane {
        Lane {
            reader: Reader::new(self.directory.clone(), self.tail.clone(), position),
            covered,
        }
    }

    /// The next batch of a lane, or a loss if the spool has lost some for this output.
    fn next(&self, lane: &mut Lane, patience: Duration) -> Result<Next> {
        Ok(match lane.reader.next(patience)? {
            Read::Batch(behind, batch) => {
                lane.covered = batch::last_mark(&batch).or(lane.covered);
                Next::Batch(behind, batch)
            }
            Read::Missing(behind, mut loss) => {
                // The first records received had happened since the last mark.
                let covered = lane.covered;
                loss.since = covered.map_or(loss.since, |covered| covered.min(loss.since));
                lane.covered = Some(loss.until);
                self.metrics.count_output_loss(self.output.name(), &loss);
                Next::Batch(behind, batch_of_loss(loss))
            }
            Read::Nothing => Next::Nothing,
            Read::End => Next::End,
        })
    }

    /// If there is a backlog, the latest batches go ahead of it from now on.
    fn go_ahead(&mut self, main: &mut Lane) -> Option<Lane> {
        let end = self.tail.progress().end?;
        let is_behind = main.reader.position() < end.position;
        let is_backlog = is_behind && main.covered? + BACKLOG < end.covered;
        if !is_backlog || !self.output.ahead()?.begin(end) {
            return None;
        }
        main.reader.end_at(end.position);
        Some(self.lane(end.position, Some(end.covered)))
    }

    /// Hands over the latest batches.
    fn move_ahead(&mut self, lane: &mut Lane) -> Result<()> {
        for _ in 0..MOST_AHEAD {
            let Next::Batch(behind, batch) = self.next(lane, Duration::ZERO)? else {
                break;
            };
            if let Some(output) = self.output.ahead() {
                output.take(behind, &batch)?;
            }
        }
        Ok(())
    }

    /// The backlog has been handed over.
    fn join(&mut self) -> Result<()> {
        self.output.ahead().map_or(Ok(()), Ahead::join)
    }

    fn save(&mut self, failing: &mut Option<Acknowledged>) {
        let place = self.output.acknowledged();
        if let Some(covered) = place.covered {
            self.metrics.note_complete(self.output.name(), covered);
        }
        if let Some(latest) = self.output.latest() {
            self.metrics.note_latest(self.output.name(), latest);
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

#[cfg(test)]
mod tests;
