//! `nlringd generate`: writes files of records like those of a gateway with NAT, for tests and measurements.

// The numbers are made up, so truncating conversions do not matter.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

mod random;
mod traffic;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use nlring::Timestamp;

use self::traffic::Traffic;
use crate::args::GenerateArguments;
use crate::config::{self, Live, Records};
use crate::failure::{Failure, Result};
use crate::output::Output as _;
use crate::output::files::Files;
use crate::record::columns::Columns;
use crate::record::recording::Recording;
use crate::record::schema::SCHEMA;
use crate::record::{Body, LossBody, LossReason, Record, Subject};
use crate::spool::Position;

const BATCH_RECORDS: usize = 4096;
const SECOND_NS: u64 = 1_000_000_000;
/// A file has the records of a period of this length, like the collector's files by default.
const FILE_NS: u64 = 15 * 60 * SECOND_NS;

/// What is sent to the thread that writes.
enum Step {
    Batch(RecordBatch),
    FileEnd,
}

/// Writes as many records as asked for.
pub fn generate(arguments: &GenerateArguments) -> Result<()> {
    let config = config::Files {
        directory: arguments.output.clone(),
        ..config::Files::default()
    };
    let files = Files::new(&arguments.node, Live::new(config));
    files.create_directory()?;
    if files.newest()?.is_some() {
        return Err(Failure::Usage(format!(
            "{} already has files of the node {}; give --output another directory",
            arguments.output.display(),
            arguments.node
        )));
    }
    let (sender, steps) = mpsc::sync_channel(8);
    let writing = thread::Builder::new()
        .name("write".to_owned())
        .spawn(move || write(files, &steps))
        .map_err(|error| Failure::Other(format!("start a thread: {error}")))?;
    Generator::new(arguments, sender).run();
    let panicked = |_| Failure::Other("the writing thread has panicked".to_owned());
    writing.join().map_err(panicked)?
}

fn write(mut files: Files, steps: &Receiver<Step>) -> Result<()> {
    let mut behind = Position {
        segment: 1,
        batch: 0,
    };
    for step in steps {
        match step {
            Step::Batch(batch) => {
                behind.batch += 1;
                files.take(behind, &batch)?;
            }
            Step::FileEnd => {
                files.finish()?;
                behind = Position {
                    segment: behind.segment + 1,
                    batch: 0,
                };
            }
        }
    }
    files.finish()
}

/// Makes records, with marks and losses among them.
struct Generator {
    traffic: Traffic,
    records: u64,
    /// After each run of this many records, some are lost.
    loss_every: Option<u64>,
    last: Timestamp,
    next_mark: u64,
    columns: Columns,
    schema: SchemaRef,
    pending: usize,
    steps: SyncSender<Step>,
    /// The steps are no longer taken, because a file could not be written.
    is_stopped: bool,
}

impl Generator {
    fn new(arguments: &GenerateArguments, steps: SyncSender<Step>) -> Self {
        let recording = Recording {
            node: arguments.node.clone(),
            records: Records::Flows,
            routes: false,
            // There are no records of open flows, so each flow has its record when it ends.
            open_interval: traffic::LONGEST_FLOW / 2,
            clock_since_ns: arguments.begin.as_ns(),
        };
        let loss_every = arguments.records.checked_div(arguments.losses + 1);
        Self {
            traffic: Traffic::new(arguments.seed, arguments.begin, arguments.rate.into()),
            records: arguments.records,
            loss_every: loss_every.filter(|&every| arguments.losses > 0 && every > 0),
            last: arguments.begin,
            next_mark: arguments.begin.as_ns(),
            columns: Columns::default(),
            schema: Arc::new(Schema::clone(&SCHEMA).with_metadata(recording.metadata())),
            pending: 0,
            steps,
            is_stopped: false,
        }
    }

    fn run(mut self) {
        for number in 1..=self.records {
            let record = self.traffic.next_flow();
            self.mark_until(record.time);
            if self
                .loss_every
                .is_some_and(|every| number % every == 0 && number < self.records)
            {
                self.push(&loss(self.last, record.time));
            }
            self.last = record.time;
            self.push(&record);
            if self.is_stopped {
                return;
            }
        }
        self.mark_until(self.last + Duration::from_secs(1));
        // No flow exists any more.
        self.push(&record(self.last + Duration::from_secs(1), Body::End));
        self.send();
    }

    /// Writes the marks that are due, one for each second, and ends the file when its time is over.
    fn mark_until(&mut self, time: Timestamp) {
        while self.next_mark <= time.as_ns() {
            let mark = Timestamp::from_ns(self.next_mark);
            self.push(&record(mark, Body::Mark));
            if self.next_mark % FILE_NS < SECOND_NS && self.last < mark {
                self.send();
                self.is_stopped |= self.steps.send(Step::FileEnd).is_err();
            }
            self.next_mark += SECOND_NS;
        }
    }

    fn push(&mut self, record: &Record) {
        self.columns.push(record, &[]);
        self.pending += 1;
        if self.pending >= BATCH_RECORDS {
            self.send();
        }
    }

    fn send(&mut self) {
        self.pending = 0;
        let batch = self.columns.take().with_schema(self.schema.clone());
        let batch = Step::Batch(batch.expect("the same columns"));
        self.is_stopped |= self.steps.send(batch).is_err();
    }
}

/// A loss between two records.
fn loss(since: Timestamp, until: Timestamp) -> Record {
    let body = LossBody {
        subject: Some(Subject::Flows),
        reason: LossReason::Kernel,
        count: Some(1 + until.as_ns() % 1000),
        since,
        until,
    };
    record(until, Body::Loss(body))
}

fn record(time: Timestamp, body: Body) -> Record {
    Record {
        time,
        namespace: 0,
        body,
    }
}

#[cfg(test)]
mod tests;
