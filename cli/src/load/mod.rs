//! Makes events at a known rate, for `nlring flood` and `nlring latency`.
//!
//! A [`Schedule`] says when each event is due, by its index. A [`Load`] makes the events of one source when they are
//! due. A receiver reads the index from the message ([`index_of`]), and so knows how late the event arrived.

mod batch;
mod clock;
mod connections;
mod cycles;
pub mod entry;
mod flows;
mod flush;
mod loopback;
pub mod route;
mod schedule;
mod usersock;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nlring::Message;

use crate::args::SourceKind;
use crate::host::cpu::CpuMeter;
use crate::outcome::Failure;
use connections::Connections;
use cycles::Cycles;
use entry::Entries;
use flows::Flows;
use flush::Flush;
use route::Routes;
use usersock::Usersock;

pub use clock::monotonic_now_ns;
pub use schedule::{Pace, Schedule};
pub use usersock::{DEFAULT_DATAGRAM_BYTES, GROUP as USERSOCK_GROUP};

/// At most this many events are made between two readings of the clock.
const MOST_AT_ONCE: u64 = 64;
/// Reading the thread's CPU clock takes less than this.
const READING_NS: u64 = 1_000;

/// The kind of network namespace in which events are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// A network namespace of this program only: it sets up what the source needs.
    Private,
    /// A network namespace that other programs use: nothing is set up.
    Shared,
}

/// One way of making events.
trait Source: Send {
    /// Makes the events of these indexes. All of them are due.
    fn make(&mut self, indexes: Range<u64>, schedule: &Schedule) -> Result<(), Failure>;

    /// Removes what it made and has not removed yet. Returns how many events this caused.
    fn clean(&mut self) -> Result<u64, Failure>;
}

/// Makes the events of a source. At the end of a run, or when dropped, it removes what it made.
pub struct Load {
    source: Box<dyn Source>,
    made_count: Arc<AtomicU64>,
}

/// What a run has made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// How many events of the schedule were made: those with an index below this number.
    pub event_count: u64,
    /// The time from the schedule's start to the last event.
    pub time: Duration,
    /// User and system time of the calling thread, without the waits until the next event was due.
    pub cpu: Duration,
    /// How long after its due time the latest event was begun.
    pub most_late: Duration,
    /// How many events the removal at the end caused.
    pub removed_count: u64,
    /// How long the removal took.
    pub removal: Duration,
}

impl Made {
    /// All events that a listener has received or lost.
    pub fn total(&self) -> u64 {
        self.event_count + self.removed_count
    }

    fn note_lateness(&mut self, schedule: &Schedule, now_ns: u64) {
        if let Some(due_ns) = schedule.due_ns(self.event_count) {
            let late = Duration::from_nanos(now_ns.saturating_sub(due_ns));
            self.most_late = self.most_late.max(late);
        }
    }
}

impl Load {
    /// Opens a source in the current network namespace. `datagram_bytes` is the size of what `usersock` sends.
    pub fn open(
        kind: SourceKind,
        datagram_bytes: usize,
        namespace: Namespace,
    ) -> Result<Self, Failure> {
        let source: Box<dyn Source> = match kind {
            SourceKind::Usersock => Box::new(Usersock::open(datagram_bytes)?),
            SourceKind::Conntrack => Box::new(Cycles::new(Entries::open()?)),
            SourceKind::ConntrackFlows => Box::new(Cycles::new(Flows::open(namespace)?)),
            SourceKind::ConntrackTcp => Box::new(Cycles::new(Connections::open(namespace)?)),
            SourceKind::ConntrackFlush => Box::new(Flush::open()?),
            SourceKind::Route => Box::new(Cycles::new(Routes::open(namespace)?)),
        };
        Ok(Self {
            source,
            made_count: Arc::default(),
        })
    }

    /// How many events of the schedule a run has made so far. Other threads may read it.
    pub fn made_count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.made_count)
    }

    /// Makes each event when it is due, until the schedule's end or until `is_over`; then removes what is left. If it
    /// falls behind, it makes all due events at once.
    pub fn run(
        &mut self,
        schedule: &Schedule,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Made, Failure> {
        let mut made = Made::default();
        let mut cpu = CpuMeter::start();
        let mut now_ns = clock::monotonic_now_ns();
        while !is_over() && !schedule.is_over(made.event_count, now_ns) {
            let next = made.event_count;
            let due_count = schedule.due_count(now_ns);
            if due_count > next {
                let end = due_count.min(next + MOST_AT_ONCE);
                made.note_lateness(schedule, now_ns);
                self.source.make(next..end, schedule)?;
                made.event_count = end;
                self.made_count.store(end, Ordering::Relaxed);
            } else {
                wait_towards(schedule.wake_ns(next), &mut cpu);
            }
            now_ns = clock::monotonic_now_ns();
        }
        cpu.pause();
        made.cpu = cpu.spent();
        made.time = Duration::from_nanos(now_ns.saturating_sub(schedule.start_ns()));
        made.removed_count = self.source.clean()?;
        made.removal = Duration::from_nanos(clock::monotonic_now_ns() - now_ns);
        Ok(made)
    }
}

/// Waits until a time, or a part of it, and does not count the wait. The meter is read shortly before that time,
/// because reading it later would make the next event late.
fn wait_towards(until_ns: u64, cpu: &mut CpuMeter) {
    cpu.pause();
    let is_near = clock::wait_towards(until_ns.saturating_sub(READING_NS));
    cpu.resume();
    if is_near {
        let rest = clock::spin_until(until_ns);
        cpu.leave_out(rest.min(Duration::from_nanos(READING_NS))); // another thread may have run during it
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.source.clean(); // a run that succeeded left nothing, one that failed reports its failure
    }
}

/// The index of a message's event in the schedule. None: another program caused the event.
///
/// The index of a route is known modulo 2^28, that of a flow over the loopback device modulo 33 million (TCP: 82
/// million).
pub fn index_of(kind: SourceKind, message: &Message<'_>) -> Option<u64> {
    match kind {
        SourceKind::Usersock => usersock::index_of(message),
        SourceKind::Conntrack => entry::index_of(message),
        SourceKind::ConntrackFlows => flows::index_of(message),
        SourceKind::ConntrackTcp => connections::index_of(message),
        SourceKind::ConntrackFlush => flush::index_of(message),
        SourceKind::Route => route::index_of(message),
    }
}

/// When the event of a message was due, on `CLOCK_MONOTONIC`. Without a rate, `usersock` gives the time of sending and
/// the other sources give None.
pub fn due_ns(kind: SourceKind, schedule: &Schedule, message: &Message<'_>) -> Option<u64> {
    match kind {
        SourceKind::Usersock => usersock::due_ns(message),
        _ => schedule.due_ns(index_of(kind, message)?),
    }
}
