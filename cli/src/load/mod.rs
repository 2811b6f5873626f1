//! Events made at a known rate: what `nlring flood` sends, and what `nlring latency` measures by.
//!
//! A [`Schedule`] says when each event is due, by its index; a [`Load`] makes the events of one source, each when it is
//! due; and who hears them reads the index from the message ([`index_of`]), and so knows how late it came.

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

/// So many events at most are made between two looks at the clock.
const MOST_AT_ONCE: u64 = 64;
/// To read the thread's own clock takes less.
const READING_NS: u64 = 1_000;

/// Where events are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A network namespace of this program's own, in which it sets up what the source needs.
    Own,
    /// One that others use: nothing is set up.
    Shared,
}

/// One way of making events.
trait Source: Send {
    /// Makes the events of these indexes, all of which are due.
    fn make(&mut self, indexes: Range<u64>, schedule: &Schedule) -> Result<(), Failure>;

    /// Removes what is left of what it made. Returns how many events that made.
    fn clean(&mut self) -> Result<u64, Failure>;
}

/// Makes the events of a source, and removes what it made: at the end of a run, or when dropped.
pub struct Load {
    source: Box<dyn Source>,
    made_count: Arc<AtomicU64>,
}

/// What a run has made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// The events of the schedule: those of the indexes below this.
    pub event_count: u64,
    /// From the schedule's start to the last of them.
    pub time: Duration,
    /// User and system time of the calling thread, without its waiting for the next event to be due.
    pub cpu: Duration,
    /// How long after it was due the most belated event was begun.
    pub most_late: Duration,
    /// The events of removing what was left, after the schedule's.
    pub removed_count: u64,
    /// How long that took.
    pub removal: Duration,
}

impl Made {
    /// All that somebody who listened has heard, or lost.
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
    pub fn open(kind: SourceKind, datagram_bytes: usize, place: Place) -> Result<Self, Failure> {
        let source: Box<dyn Source> = match kind {
            SourceKind::Usersock => Box::new(Usersock::open(datagram_bytes)?),
            SourceKind::Conntrack => Box::new(Cycles::new(Entries::open()?)),
            SourceKind::ConntrackFlows => Box::new(Cycles::new(Flows::open(place)?)),
            SourceKind::ConntrackTcp => Box::new(Cycles::new(Connections::open(place)?)),
            SourceKind::ConntrackFlush => Box::new(Flush::open()?),
            SourceKind::Route => Box::new(Cycles::new(Routes::open(place)?)),
        };
        Ok(Self {
            source,
            made_count: Arc::default(),
        })
    }

    /// How many events of the schedule a run has made so far, for other threads to look at.
    pub fn made_count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.made_count)
    }

    /// Makes the events, each when it is due, until the schedule's end or until `is_over`; then removes what is left.
    /// When it falls behind, it makes at once what is due.
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

/// Waits, at least for a while, without counting that. The meter is read shortly before the time, or the reading would make
/// the next event late.
fn wait_towards(until_ns: u64, cpu: &mut CpuMeter) {
    cpu.pause();
    let is_near = clock::wait_towards(until_ns.saturating_sub(READING_NS));
    cpu.resume();
    if is_near {
        let rest = clock::spin_until(until_ns);
        cpu.leave_out(rest.min(Duration::from_nanos(READING_NS))); // it may have been off its processor
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.source.clean(); // after a run that ended well there is nothing left; else its failure is told
    }
}

/// Which event a message is, by its index in the schedule. None: it is none of this source's.
///
/// A route's is known modulo 2^28, that of a flow over the loopback device modulo 33 million (TCP: 82 million).
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

/// When the event of a message was due, on `CLOCK_MONOTONIC`. Of datagrams that are sent as fast as it goes it is the time
/// of sending; the other sources do not know it then.
pub fn due_ns(kind: SourceKind, schedule: &Schedule, message: &Message<'_>) -> Option<u64> {
    match kind {
        SourceKind::Usersock => usersock::due_ns(message),
        _ => schedule.due_ns(index_of(kind, message)?),
    }
}
