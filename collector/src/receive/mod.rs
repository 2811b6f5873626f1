//! The receive thread: takes events from the kernel, makes records of them, and hands the records over in batches.

mod clock;
mod coverage;
mod devices;
mod opens;
mod routes;
mod source;

use std::ops::ControlFlow;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use nlring::{Engine, Event, Running, StopHandle, Timestamp, Turn, Wait};

use self::clock::Clock;
use self::routes::Routes;
use self::source::Source;
use crate::config::{Config, Live, Span};
use crate::failure::Result;
use crate::host::Pulse;
use crate::metrics::Metrics;
use crate::record::{Body, CLOCK_STEP, LossBody, LossReason, Record};

/// A batch that has this many records is handed over at once. Half as many take 6 % more bytes in the spool.
pub const BATCH_RECORDS: usize = 8192;
/// How long events are gathered before they are taken. They are written twice a second anyway, and each wake-up costs as
/// much as ten events.
const GATHER: Duration = Duration::from_millis(10);
/// The longest wait for an event.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Receives events and makes records of them.
pub struct Receiver {
    running: Running,
    sources: Vec<Source>,
    routes: Vec<Routes>,
    batch: Batch,
    live_interval: Live<Span>,
    flush_interval: Duration,
    /// When to ask the kernel next, so that a mark can be written and the records handed over.
    flush_at: Instant,
    /// When the kernel was asked.
    asked: Option<Timestamp>,
    clock: Clock,
}

/// The records that have not been handed over yet.
struct Batch {
    records: Vec<Record>,
    /// The time of the last record.
    last: Timestamp,
    /// The time of the last mark.
    marked: Timestamp,
    queue: SyncSender<Vec<Record>>,
    pulse: Pulse,
    metrics: Metrics,
}

impl Receiver {
    /// Opens the sockets of all namespaces. Records go to `queue`, which is full while the spool cannot be written.
    pub fn open(
        config: &Config,
        live_interval: Live<Span>,
        queue: SyncSender<Vec<Record>>,
        pulse: Pulse,
        metrics: Metrics,
    ) -> Result<Self> {
        let mut engine = Engine::builder().wait(Wait::Batch(GATHER)).build()?;
        let names = &config.namespaces;
        let own = [String::new()];
        let names = if names.is_empty() { &own[..] } else { names };
        let mut sources = Vec::new();
        let mut routes = Vec::new();
        for (name, place) in names.iter().zip(0..) {
            let source = Source::open(name, place, config, metrics.clone(), &mut engine)?;
            sources.push(source);
            if config.routes {
                let source = Routes::open(name, place, config, metrics.clone(), &mut engine)?;
                routes.push(source);
            }
        }
        Ok(Self {
            running: engine.start()?,
            sources,
            routes,
            batch: Batch {
                records: Vec::with_capacity(BATCH_RECORDS),
                last: Timestamp::from_ns(0),
                marked: Timestamp::now(),
                queue,
                pulse,
                metrics,
            },
            flush_interval: live_interval.get().0,
            live_interval,
            flush_at: Instant::now(),
            asked: None,
            clock: Clock::new(Instant::now(), Timestamp::now()),
        })
    }

    /// What ends [`run`](Self::run).
    pub fn stop_handle(&self) -> StopHandle {
        self.running.stop_handle()
    }

    /// Receives until it is stopped, and then whatever is still queued.
    pub fn run(mut self) -> Result<()> {
        while !self.take_turn()? {
            self.batch.pulse.beat();
        }
        let Self {
            running,
            mut sources,
            mut routes,
            mut batch,
            ..
        } = self;
        // Everything that the kernel sends before the socket leaves the groups is received.
        let end = Timestamp::now();
        let finished =
            running.finish(|event, _| feed(&mut sources, &mut routes, &mut batch, &event));
        for source in &mut sources {
            source.finish(|record| batch.push(record))?;
        }
        for source in &mut routes {
            source.finish(|record| batch.push(record))?;
        }
        finished.outcome?;
        // Before the first dump is complete, it is unknown which flows exist.
        if sources.iter().all(Source::has_all_flows) {
            for source in &sources {
                source.record_open_flows(|record| batch.push(record));
            }
            batch.mark(Body::End, end);
        } else {
            batch.mark(Body::Mark, end);
        }
        Ok(())
    }

    /// Takes a turn. Returns true if the receiver was stopped.
    fn take_turn(&mut self) -> Result<bool> {
        let now = Instant::now();
        let dues = self.sources.iter().filter_map(|source| source.due(now));
        let dues = dues.chain(self.routes.iter().filter_map(|source| source.due(now)));
        let flush_at = match self.asked {
            Some(_) => self.flush_at + self.flush_interval,
            None => self.flush_at,
        };
        let next = dues.chain([flush_at]).min();
        let timeout = next.map_or(LONGEST_WAIT, |next| next.saturating_duration_since(now));
        let (sources, routes, batch) = (&mut self.sources, &mut self.routes, &mut self.batch);
        let turn = self
            .running
            .poll(Some(timeout.min(LONGEST_WAIT)), |event, _| {
                feed(sources, routes, batch, &event)
            })?;
        for source in &mut self.sources {
            source.advance(&self.running, |record| self.batch.push(record));
        }
        for source in &mut self.routes {
            source.advance(&self.running, |record| self.batch.push(record));
        }
        self.flush_if_due(Instant::now());
        Ok(turn == Turn::Stopped)
    }

    /// Whether everything is recorded that the kernel had sent when it was last asked.
    fn has_all(&self) -> bool {
        self.sources.iter().all(Source::has_all) && self.routes.iter().all(Routes::has_all)
    }

    /// Asks the kernel once per interval. When everything that it had sent by then is recorded, a mark says so, and the
    /// records are handed over. If the answer takes longer than an interval, they are handed over without a mark.
    fn flush_if_due(&mut self, now: Instant) {
        let interval = self.live_interval.get().0;
        if interval != self.flush_interval {
            self.flush_interval = interval;
            self.flush_at = self.flush_at.min(now + interval);
        }
        let is_due = now >= self.flush_at;
        match self.asked {
            None if is_due => {
                let time = Timestamp::now();
                self.asked = Some(time);
                if let Some(loss) = self.clock.look(now, time) {
                    self.batch.push_loss(time, loss);
                }
                for source in &mut self.sources {
                    source.ask(&self.running);
                    source.record_lasting_flows(now, |record| self.batch.push(record));
                }
                self.flush_at = now;
                for source in &self.sources {
                    source.note(&self.running);
                }
                for source in &mut self.routes {
                    source.ask(&self.running);
                    source.note(&self.running);
                }
            }
            Some(time) if self.has_all() => {
                let body = if self.sources.iter().all(Source::has_all_flows) {
                    Body::Mark
                } else {
                    Body::MarkBeforeRepair
                };
                self.batch.mark(body, time);
                self.asked = None;
                self.flush_at += self.flush_interval;
            }
            Some(_) if now >= self.flush_at + self.flush_interval => {
                self.batch.hand_over();
                self.asked = None;
                self.flush_at = now;
            }
            _ => {}
        }
    }
}

fn feed(
    sources: &mut [Source],
    routes: &mut [Routes],
    batch: &mut Batch,
    event: &Event<'_>,
) -> ControlFlow<()> {
    let (Event::Messages(socket, _) | Event::Lost(socket, _) | Event::Notice(socket, _)) = event;
    if let Some(source) = sources.iter_mut().find(|source| source.socket == *socket) {
        source.feed(event, |record| batch.push(record));
    } else if let Some(source) = routes.iter_mut().find(|source| source.socket == *socket) {
        source.feed(event, |record| batch.push(record));
    }
    ControlFlow::Continue(())
}

impl Batch {
    /// The times of a batch never decrease. An event that a mirror has held keeps its time, unless the record of another
    /// socket or of a loss was made meanwhile.
    fn push(&mut self, mut record: Record) {
        if self.is_before_last(record.time) && self.is_before_last(Timestamp::now()) {
            self.hand_over(); // the clock was set back
        } else {
            record.time = record.time.max(self.last);
        }
        if let Body::Loss(loss) = &mut record.body
            && loss.reason == LossReason::Unreadable
        {
            // Whatever could not be read had happened since the last mark.
            loss.since = self.marked.min(loss.since);
        }
        self.last = record.time;
        self.metrics.count_record(&record.body);
        self.records.push(record);
        if self.records.len() >= BATCH_RECORDS {
            self.hand_over();
        }
    }

    /// Whether a time is before that of the last record, and not only because of the order of the sockets.
    fn is_before_last(&self, time: Timestamp) -> bool {
        let step_ns = self.last.as_ns().saturating_sub(time.as_ns());
        u128::from(step_ns) > CLOCK_STEP.as_nanos()
    }

    /// Adds a loss that concerns all namespaces.
    fn push_loss(&mut self, time: Timestamp, loss: LossBody) {
        self.push(Record {
            time,
            namespace: u16::MAX,
            body: Body::Loss(loss),
        });
    }

    /// Adds a mark: once this batch is in the spool, so is everything that was received before this time.
    fn mark(&mut self, body: Body, time: Timestamp) {
        self.marked = time;
        self.records.push(Record {
            time,
            namespace: u16::MAX,
            body,
        });
        self.hand_over();
    }

    /// Hands the records over. While the spool cannot be written, this waits: the kernel then drops events, and counts
    /// them.
    fn hand_over(&mut self) {
        if self.records.is_empty() {
            return;
        }
        let records = std::mem::replace(&mut self.records, Vec::with_capacity(BATCH_RECORDS));
        // The queue ends only with the process.
        let _ = self.pulse.wait_for(|| self.queue.send(records));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver as Queue, sync_channel};

    use super::*;
    use crate::host::Pulses;

    fn batch() -> (Batch, Queue<Vec<Record>>) {
        let (sender, queue) = sync_channel(4);
        let batch = Batch {
            records: Vec::new(),
            last: Timestamp::from_ns(0),
            marked: Timestamp::from_ns(0),
            queue: sender,
            pulse: Pulse::default(),
            metrics: Metrics::new(Pulses::default()),
        };
        (batch, queue)
    }

    fn record(time: Timestamp) -> Record {
        Record {
            time,
            namespace: 0,
            body: Body::Mark,
        }
    }

    #[test]
    fn an_event_that_was_held_keeps_its_time_unless_another_record_was_made_meanwhile() {
        let (mut batch, queue) = batch();
        let now = Timestamp::now();
        let before = |seconds: u64| Timestamp::from_ns(now.as_ns() - seconds * 1_000_000_000);
        for time in [before(9), before(7), now, before(5)] {
            batch.push(record(time));
        }
        batch.hand_over();
        let records = queue.recv().expect("one batch");
        let times: Vec<_> = records.iter().map(|record| record.time).collect();
        assert_eq!(times, [before(9), before(7), now, now]);
    }

    #[test]
    fn a_batch_ends_when_the_clock_was_set_back() {
        let (mut batch, queue) = batch();
        let now = Timestamp::now();
        for time in [now + Duration::from_secs(60), now] {
            batch.push(record(time));
        }
        assert_eq!(queue.recv().expect("the first batch").len(), 1);
        assert_eq!(batch.records[0].time, now);
    }
}
