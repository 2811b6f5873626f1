//! The receive thread: takes events from the kernel, makes records of them, and hands the records over in batches.

mod source;

use std::ops::ControlFlow;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use nlring::{Engine, Event, Running, StopHandle, Timestamp, Turn};

use self::source::Source;
use crate::config::Config;
use crate::failure::Result;
use crate::host::Heartbeat;
use crate::record::{Body, Record};

/// A batch that has so many records is handed over at once.
pub const BATCH_RECORDS: usize = 4096;
/// The longest wait for an event.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Receives events and makes records of them.
pub struct Receiver {
    running: Running,
    sources: Vec<Source>,
    batch: Batch,
}

/// The records that are not handed over yet.
struct Batch {
    records: Vec<Record>,
    flush_interval: Duration,
    flush_at: Instant,
    queue: SyncSender<Vec<Record>>,
}

impl Receiver {
    /// Opens the sockets of all namespaces. Records go to `queue`, which is full while the spool cannot be written.
    pub fn open(config: &Config, queue: SyncSender<Vec<Record>>) -> Result<Self> {
        let mut engine = Engine::builder().build()?;
        let names = &config.namespaces;
        let own = [String::new()];
        let names = if names.is_empty() { &own[..] } else { names };
        let mut sources = Vec::new();
        for (name, place) in names.iter().zip(0..) {
            sources.push(Source::open(name, place, config, &mut engine)?);
        }
        Ok(Self {
            running: engine.start()?,
            sources,
            batch: Batch {
                records: Vec::with_capacity(BATCH_RECORDS),
                flush_interval: config.flush_interval.0,
                flush_at: Instant::now(),
                queue,
            },
        })
    }

    /// What ends [`run`](Self::run).
    pub fn stop_handle(&self) -> StopHandle {
        self.running.stop_handle()
    }

    /// Receives until it is stopped. What is queued then is received too.
    pub fn run(mut self, heartbeat: &Heartbeat) -> Result<()> {
        while !self.take_turn()? {
            heartbeat.beat();
        }
        let Self {
            running,
            mut sources,
            mut batch,
        } = self;
        let finished = running.finish(|event, _| feed(&mut sources, &mut batch, &event));
        for source in &mut sources {
            source.finish(|record| batch.push(record))?;
        }
        batch.push(Record {
            time: Timestamp::now(),
            namespace: 0,
            body: Body::Mark,
        });
        batch.hand_over();
        finished.outcome?;
        Ok(())
    }

    /// Takes a turn. True: it was stopped.
    fn take_turn(&mut self) -> Result<bool> {
        let now = Instant::now();
        let dues = self.sources.iter().filter_map(|source| source.due(now));
        let next = dues.chain([self.batch.flush_at]).min();
        let timeout = next.map_or(LONGEST_WAIT, |next| next.saturating_duration_since(now));
        let (sources, batch) = (&mut self.sources, &mut self.batch);
        let turn = self
            .running
            .poll(Some(timeout.min(LONGEST_WAIT)), |event, _| {
                feed(sources, batch, &event)
            })?;
        for source in &mut self.sources {
            source.advance(&self.running, |record| self.batch.push(record));
        }
        self.batch.flush_if_due(Instant::now());
        Ok(turn == Turn::Stopped)
    }
}

fn feed(sources: &mut [Source], batch: &mut Batch, event: &Event<'_>) -> ControlFlow<()> {
    let (Event::Messages(socket, _) | Event::Lost(socket, _) | Event::Notice(socket, _)) = event;
    if let Some(source) = sources.iter_mut().find(|source| source.socket == *socket) {
        source.feed(event, |record| batch.push(record));
    }
    ControlFlow::Continue(())
}

impl Batch {
    fn push(&mut self, record: Record) {
        self.records.push(record);
        if self.records.len() >= BATCH_RECORDS {
            self.hand_over();
        }
    }

    /// Everything that was received before now is in the spool when this batch is.
    fn flush_if_due(&mut self, now: Instant) {
        if now < self.flush_at {
            return;
        }
        self.push(Record {
            time: Timestamp::now(),
            namespace: 0,
            body: Body::Mark,
        });
        self.hand_over();
    }

    /// Hands the records over. While the spool cannot be written, this waits: the kernel then drops events, and counts
    /// them.
    fn hand_over(&mut self) {
        self.flush_at = Instant::now() + self.flush_interval;
        let records = std::mem::replace(&mut self.records, Vec::with_capacity(BATCH_RECORDS));
        // The queue ends only with the process.
        let _ = self.queue.send(records);
    }
}
