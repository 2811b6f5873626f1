//! Started engines. The kernel binds an engine's ring to the thread that starts it, so each thread keeps its own
//! engines, and Python's objects hold only their numbers. Nothing here touches Python: the interpreter lock is released.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow_schema::ArrowError;
use nlring::{Engine, Event, Notice, Running, SocketId, Statistics, Turn};

use super::gap::Gap;
use super::rows::{Batch, Rows};

thread_local! {
    static ENGINES: RefCell<HashMap<u64, Box<Live>>> = RefCell::default();
}

/// What all threads know of a started engine.
#[derive(Default)]
pub struct Shared {
    counts: Mutex<Counts>,
    /// Python has dropped the receiver on another thread.
    pub is_abandoned: AtomicBool,
}

/// What a receiver counts.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub statistics: Statistics,
    /// Messages that are not of the kind that the batches hold.
    pub undecoded: u64,
}

impl Shared {
    /// The counts as of the last batch.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a batch is handed out: when it has this many rows, or its first row is this old.
#[derive(Clone, Copy)]
pub struct Limits {
    pub rows: usize,
    pub age: Duration,
}

/// Something for Python.
pub enum Item {
    Batch(Batch),
    Gap(Gap),
}

/// What a step has brought.
pub enum Step {
    Item(Item),
    /// Nothing came within the given time.
    Nothing,
    /// The receiver was stopped, and all that was queued has been delivered.
    End,
}

/// Why a step failed.
pub enum Failure {
    Engine(nlring::Error),
    Columns(ArrowError),
}

impl From<nlring::Error> for Failure {
    fn from(error: nlring::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Self {
        Self::Columns(error)
    }
}

/// A started engine with one socket, and what it has collected.
pub struct Live {
    /// None: it has ended.
    running: Option<Running>,
    socket: SocketId,
    collected: Collected,
    shared: Arc<Shared>,
}

struct Collected {
    rows: Rows,
    limits: Limits,
    /// When the first row of the current batch came.
    began: Option<Instant>,
    items: VecDeque<Item>,
    /// Why the socket no longer receives anything. This is reported once.
    failure: Option<Failure>,
    undecoded: u64,
}

/// Starts an engine on this thread. Returns its number.
pub fn start(
    engine: Engine,
    socket: SocketId,
    rows: Rows,
    limits: Limits,
    shared: Arc<Shared>,
) -> Result<u64, Failure> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let live = Live {
        running: Some(engine.start()?),
        socket,
        collected: Collected {
            rows,
            limits,
            began: None,
            items: VecDeque::new(),
            failure: None,
            undecoded: 0,
        },
        shared,
    };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    ENGINES.with_borrow_mut(|engines| {
        engines.retain(|_, live| !live.shared.is_abandoned.load(Ordering::Relaxed));
        engines.insert(number, Box::new(live));
    });
    Ok(number)
}

/// Calls `f` with an engine of this thread.
pub fn with<R>(number: u64, f: impl FnOnce(&mut Live) -> R) -> Option<R> {
    let mut live = remove(number)?;
    let result = f(&mut live);
    ENGINES.with_borrow_mut(|engines| engines.insert(number, live));
    Some(result)
}

/// Takes an engine from this thread. To drop it closes its socket.
pub fn remove(number: u64) -> Option<Box<Live>> {
    // While a thread ends, its engines are gone already.
    ENGINES
        .try_with(|engines| engines.borrow_mut().remove(&number))
        .ok()?
}

impl Live {
    /// The next item, if one comes within this time.
    pub fn step(&mut self, patience: Duration) -> Result<Step, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(item) = self.collected.items.pop_front() {
                return Ok(Step::Item(item));
            }
            if let Some(failure) = self.collected.failure.take() {
                self.discard();
                return Err(failure);
            }
            let Some(running) = &mut self.running else {
                return Ok(Step::End);
            };
            let now = Instant::now();
            let until_deadline = deadline.saturating_duration_since(now);
            let collected = &mut self.collected;
            let timeout = collected
                .time_left(now)
                .map_or(until_deadline, |left| left.min(until_deadline));
            let turn = running.poll(Some(timeout), |event, _| {
                collected.take(event);
                ControlFlow::<()>::Continue(())
            })?;
            let now = Instant::now();
            if turn == Turn::Stopped {
                self.finish()?;
                continue;
            }
            collected.close_batch_if_due(now);
            self.note_counts();
            if self.collected.items.is_empty() && now >= deadline {
                return Ok(Step::Nothing);
            }
        }
    }

    /// Ends the engine with delivery of all that is queued.
    fn finish(&mut self) -> Result<(), Failure> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        let collected = &mut self.collected;
        let finished = running.finish(|event, _| {
            collected.take(event);
            ControlFlow::<()>::Continue(())
        });
        if let Some(reclaimed) = finished.sockets.first() {
            self.note(reclaimed.statistics);
        }
        self.collected.close_batch();
        finished.outcome?;
        Ok(())
    }

    /// Ends the engine, and counts what is queued as unread.
    pub fn discard(&mut self) {
        if let Some(running) = self.running.take() {
            for reclaimed in running.discard() {
                self.note(reclaimed.statistics);
            }
        }
    }

    /// The descriptor for an event loop.
    pub fn fileno(&self) -> Option<RawFd> {
        let fd = self.running.as_ref()?.pollable_fd()?;
        Some(fd.as_raw_fd())
    }

    /// How long the engine gathers datagrams under load.
    pub fn longest_delay(&self) -> Option<Duration> {
        self.running.as_ref()?.longest_delay()
    }

    /// How long the batch that is being collected may still grow.
    pub fn batch_left(&self) -> Option<Duration> {
        self.collected.time_left(Instant::now())
    }

    /// How the engine receives, and why so.
    pub fn backend(&self) -> Option<(String, String)> {
        let running = self.running.as_ref()?;
        Some((
            running.backend().to_string(),
            running.backend_reason().to_owned(),
        ))
    }

    fn note_counts(&self) {
        if let Some(statistics) = self
            .running
            .as_ref()
            .and_then(|it| it.statistics(self.socket))
        {
            self.note(statistics);
        }
    }

    fn note(&self, statistics: Statistics) {
        let undecoded = self.collected.undecoded;
        let mut counts = self
            .shared
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *counts = Counts {
            statistics,
            undecoded,
        };
    }
}

impl Collected {
    fn take(&mut self, event: Event<'_>) {
        if let Some(gap) = Gap::of(&event) {
            self.close_batch();
            self.items.push_back(Item::Gap(gap));
        }
        match event {
            Event::Messages(_, list) => self.undecoded += self.rows.add(&list),
            Event::Notice(_, Notice::Failed(error)) => self.failure = Some(error.into()),
            _ => {}
        }
    }

    /// Closes the batch if it is large or old enough.
    fn close_batch_if_due(&mut self, now: Instant) {
        if self.rows.len() == 0 {
            return;
        }
        let began = *self.began.get_or_insert(now);
        let is_old = now.saturating_duration_since(began) >= self.limits.age;
        if is_old || self.rows.len() >= self.limits.rows {
            self.close_batch();
        }
    }

    fn close_batch(&mut self) {
        self.began = None;
        if self.rows.len() == 0 {
            return;
        }
        match self.rows.take() {
            Ok(batch) => self.items.push_back(Item::Batch(batch)),
            Err(error) => self.failure = Some(error.into()),
        }
    }

    /// How long the current batch may still grow. None: there is no batch yet.
    fn time_left(&self, now: Instant) -> Option<Duration> {
        let began = self.began?;
        Some((began + self.limits.age).saturating_duration_since(now))
    }
}
