//! The rounds of a mirror: when they begin, how far they have come, and what they repaired.

mod notes;

use std::mem;
use std::time::{Duration, Instant};

use crate::engine::StopHandle;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::mirror::barrier::Barrier;
use crate::mirror::events_socket::EventsSocket;
use crate::mirror::health::MirrorHealth;
use crate::mirror::schedule::{Intervals, Schedule};
use crate::mirror::slice::Slice;
use crate::mirror::{Resync, ResyncReason, Table};
use crate::request::{Exchange, Patience, Requester};
use crate::socket::Socket;
use crate::timestamp::Timestamp;

/// How often a round repeats its dump because changes interrupted it. After that, even an interrupted dump is merged.
const RETRIES: u32 = 5;
/// The pause before the first repetition. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// What a mirror must do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing, until [`Rounds::due`].
    Waits,
    /// Merge for a slice of time, then advance again. When everything is merged, call [`Rounds::finish`].
    Merges,
}

/// How far a round has come.
#[derive(Debug)]
enum Stage {
    /// No round is under way.
    Idle,
    /// Awaits the barrier before the dump.
    Opening,
    /// The barrier before the dump is met.
    Opened,
    Dumping {
        requester: Box<Requester>,
        exchange: Exchange,
    },
    /// Awaits the barrier after the dump, which arrives after the events that arrived during the dump.
    Closing,
    /// The barrier after the dump is met. Next, the drop counter shows whether events were lost.
    Closed,
    Merging,
}

/// What a round repairs.
#[derive(Clone, Copy, Debug)]
struct Repair {
    reason: ResyncReason,
    lost_count: u64,
    since: Timestamp,
    noted_at: Instant,
}

/// The rounds that failed.
#[derive(Debug, Default)]
struct Failures {
    total_count: u64,
    /// When the current series of failures began. `None`: the last round was complete.
    since: Option<Timestamp>,
    /// Why the last round failed. `None`: it did not, or events were lost.
    error: Option<Box<str>>,
}

/// The result of a merge.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Merged {
    /// Entries in the table now.
    pub entry_count: usize,
    /// Differences between the table and the kernel's.
    pub found_count: u64,
    /// Changes disturbed the dump, so some differences may not have been found.
    pub is_open: bool,
}

/// The rounds of one mirror.
#[derive(Debug)]
pub(crate) struct Rounds {
    stage: Stage,
    schedule: Schedule,
    /// When the next round begins. `None`: never.
    due: Option<Instant>,
    /// What the next round, or the one under way, repairs. `None`: nothing is known to be wrong, and the round is an
    /// audit.
    repair: Option<Repair>,
    /// Something has changed since the dump of this round began.
    is_change_held: bool,
    /// How many dumps of this round were interrupted.
    interrupted_count: u32,
    /// The last dump of this round was interrupted, but is merged nevertheless.
    is_interrupted: bool,
    barrier: Barrier,
    events: EventsSocket,
    /// The drop counter of the events' socket when this round began.
    drops: u32,
    /// When this round's dump began.
    dumped_since: Timestamp,
    /// When the dump of the last complete round began. The table was correct then.
    right_at: Timestamp,
    failures: Failures,
    audit_count: u64,
    audit_difference_count: u64,
}

impl Rounds {
    /// The first round is due at once.
    pub(crate) fn new(intervals: Intervals, now: Instant) -> Self {
        let since = Timestamp::now();
        Self {
            stage: Stage::Idle,
            schedule: Schedule::new(intervals),
            due: Some(now),
            repair: Some(Repair {
                reason: ResyncReason::Snapshot,
                lost_count: 0,
                since,
                noted_at: now,
            }),
            is_change_held: false,
            interrupted_count: 0,
            is_interrupted: false,
            barrier: Barrier::of_rounds(),
            events: EventsSocket::default(),
            drops: 0,
            dumped_since: since,
            right_at: since,
            failures: Failures::default(),
            audit_count: 0,
            audit_difference_count: 0,
        }
    }

    /// Whether nothing is known to be missing. An audit does not change this.
    pub(crate) fn is_synced(&self) -> bool {
        self.repair.is_none() && !self.is_change_held
    }

    /// Whether nothing is known to be wrong, and no dump is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_synced() && !self.is_under_way()
    }

    /// Whether no round has been complete yet.
    pub(crate) fn is_first(&self) -> bool {
        self.repair
            .is_some_and(|repair| repair.reason == ResyncReason::Snapshot)
    }

    /// Whether a dump is being read, or merged.
    pub(crate) fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Idle | Stage::Opening | Stage::Opened)
    }

    /// Whether a dump is being merged.
    pub(crate) fn is_merging(&self) -> bool {
        matches!(self.stage, Stage::Merging)
    }

    /// How many acknowledgements were requested on the events' socket.
    pub(crate) fn request_count(&self) -> u64 {
        self.barrier.request_count
    }

    pub(crate) fn health(&self) -> MirrorHealth<'_> {
        MirrorHealth {
            wrong_since: match self.repair {
                Some(repair) => Some(repair.since),
                None => self.is_change_held.then_some(self.dumped_since),
            },
            failed_count: self.schedule.failed_count,
            failing_since: self.failures.since,
            error: self.failures.error.as_deref(),
            failed_total_count: self.failures.total_count,
            audit_count: self.audit_count,
            audit_difference_count: self.audit_difference_count,
            left_out_count: 0,
            is_full: false,
        }
    }

    /// When to call [`advance`](Self::advance) next even if no event arrives. `None`: never.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        match &self.stage {
            Stage::Idle => self.due,
            Stage::Opened | Stage::Dumping { .. } | Stage::Closed | Stage::Merging => Some(now),
            Stage::Opening | Stage::Closing => self.barrier.ask_again_at(),
        }
    }

    fn abandon(&mut self, table: &mut impl Table) {
        if self.is_under_way() {
            table.abandon_dump();
        }
        self.barrier.cancel();
        self.stage = Stage::Idle;
        (self.interrupted_count, self.is_interrupted) = (0, false);
    }

    fn note_failure(&mut self, error: Option<&Error>) {
        self.schedule.note_failure();
        self.failures.total_count += 1;
        self.failures.since.get_or_insert_with(Timestamp::now);
        self.failures.error = error.map(|error| error.to_string().into());
    }

    /// Does what is due, for at most a slice of time. `events` is the socket on which the events arrive.
    pub(crate) fn advance(
        &mut self,
        table: &mut impl Table,
        events: &Socket,
        now: Instant,
    ) -> Result<Progress> {
        let is_begun = self.is_under_way();
        let result = self.try_advance(table, events, now);
        if let Err(error) = &result {
            if !is_begun {
                self.schedule.begin(self.repair.is_none(), now); // a round that could not begin counts as one
            }
            self.abandon(table);
            self.note_failure(Some(error));
            self.take_held_change(now);
            let reason = self.repair.map(|repair| repair.reason);
            self.schedule.ask_after_failure(reason, now);
            self.plan(now);
        }
        if !matches!(self.stage, Stage::Idle | Stage::Opening) {
            self.note_time(now);
        }
        result
    }

    /// Records that the receiving thread has worked on the round under way since `start`.
    pub(crate) fn note_time(&mut self, start: Instant) {
        self.schedule.note_time(start.elapsed());
    }

    fn try_advance<T: Table>(
        &mut self,
        table: &mut T,
        events: &Socket,
        now: Instant,
    ) -> Result<Progress> {
        if let Stage::Idle = self.stage
            && self.due.is_some_and(|due| now >= due)
        {
            self.due = None;
            self.events.check(T::GROUPS, events)?;
            self.drops = events.drops()?;
            self.barrier.ask(events, now)?;
            self.stage = Stage::Opening;
        }
        if self.barrier.is_overdue(now) {
            self.barrier.ask(events, now)?;
        }
        if let Stage::Opened = self.stage {
            self.begin_dump(table, now)?;
        }
        if let Stage::Dumping {
            requester,
            exchange,
        } = &mut self.stage
            && read(requester, exchange, table, &mut Slice::new(now))?
        {
            let is_interrupted = exchange.is_interrupted;
            self.end_dump(table, is_interrupted, events, now)?;
        }
        if let Stage::Closed = self.stage {
            self.begin_merge(table, events, now)?;
        }
        Ok(if self.is_merging() {
            Progress::Merges
        } else {
            Progress::Waits
        })
    }

    fn begin_dump<T: Table>(&mut self, table: &mut T, now: Instant) -> Result<()> {
        self.schedule.begin(self.repair.is_none(), now);
        self.is_change_held = false;
        self.dumped_since = Timestamp::now();
        // Each dump has its own socket, because the socket of an abandoned dump may still have a dump running.
        let mut requester = Box::new(Requester::open_where(T::PROTOCOL, self.events.namespace())?);
        let exchange = table.request_dump(&mut requester)?;
        table.begin_dump(); // no event is fed before it
        self.stage = Stage::Dumping {
            requester,
            exchange,
        };
        Ok(())
    }

    fn end_dump(
        &mut self,
        table: &mut impl Table,
        is_interrupted: bool,
        events: &Socket,
        now: Instant,
    ) -> Result<()> {
        if is_interrupted && self.interrupted_count < RETRIES {
            let pause = FIRST_PAUSE * 2u32.pow(self.interrupted_count);
            table.abandon_dump();
            self.stage = Stage::Idle;
            self.interrupted_count += 1;
            self.due = Some(now + pause);
            return Ok(());
        }
        self.is_interrupted = is_interrupted;
        self.barrier.ask(events, now)?;
        self.stage = Stage::Closing;
        Ok(())
    }

    /// Begins to merge, unless the drop counter shows that an event was lost during the dump. The engine may report
    /// such a loss only later.
    fn begin_merge(&mut self, table: &mut impl Table, events: &Socket, now: Instant) -> Result<()> {
        if events.drops()? == self.drops {
            self.stage = Stage::Merging;
        } else {
            self.note(ResyncReason::Loss, 0, self.dumped_since, now);
            self.begin_again(table, now);
        }
        Ok(())
    }

    /// Takes the acknowledgement that a barrier awaits. True: it was the one after a dump, and the next
    /// [`advance`](Self::advance) begins to merge.
    pub(crate) fn feed_barrier(&mut self, message: &Message<'_>) -> bool {
        match self.stage {
            Stage::Opening => {
                if self.barrier.is_met_by(message) {
                    self.stage = Stage::Opened;
                }
                false
            }
            Stage::Closing => {
                let is_met = self.barrier.is_met_by(message);
                if is_met {
                    self.stage = Stage::Closed;
                }
                is_met
            }
            _ => false,
        }
    }

    /// Reads a whole dump, for the caller to merge. No more events will arrive. `stop` ends the wait for the kernel.
    pub(crate) fn dump_at_end<T: Table>(
        &mut self,
        table: &mut T,
        stop: Option<&StopHandle>,
    ) -> Result<()> {
        self.abandon(table);
        self.begin_dump(table, Instant::now())?;
        let Stage::Dumping {
            requester,
            exchange,
        } = &mut self.stage
        else {
            return Ok(());
        };
        if let Some(stop) = stop {
            requester.set_stop(stop.clone());
        }
        while let Some(message) = requester.next(exchange, Patience::Wait)? {
            table.feed_dumped(&message);
        }
        self.is_interrupted = exchange.is_interrupted;
        self.stage = Stage::Merging;
        Ok(())
    }

    /// Ends a round after everything is merged. Returns what the round has repaired; the mirror fills in the counts of
    /// events. `None`: it was an audit that found nothing.
    pub(crate) fn finish(
        &mut self,
        merged: Merged,
        table: &mut impl Table,
        now: Instant,
    ) -> Option<Resync> {
        self.stage = Stage::Idle;
        let repair = self.repair.take();
        let is_change_held = mem::take(&mut self.is_change_held);
        let is_open = self.is_interrupted || merged.is_open;
        (self.interrupted_count, self.is_interrupted) = (0, false);
        self.schedule.note_success(is_open);
        (self.failures.since, self.failures.error) = (None, None);
        let right_at = mem::replace(&mut self.right_at, self.dumped_since);
        if repair.is_none() {
            self.audit_count += 1;
            self.audit_difference_count += merged.found_count;
        }
        let until = Timestamp::now();
        let since = repair.map_or(right_at, |repair| repair.since);
        let resync = Resync {
            reason: repair.map_or(ResyncReason::Audit, |repair| repair.reason),
            lost_count: repair.map_or(0, |repair| repair.lost_count),
            since: since.min(until), // the clock may have been set back
            until,
            entry_count: merged.entry_count,
            new_count: 0,
            update_count: 0,
            destroy_count: 0,
            is_interrupted: is_open || is_change_held,
        };
        self.due = self.schedule.audit_due(now);
        if is_change_held {
            self.note_change(table, now);
        }
        // If an audit leaves something open, the next audit decides, because nothing is known to be wrong.
        if is_open && repair.is_some() {
            self.note(ResyncReason::Change, 0, resync.since, now);
            self.schedule.ask_to_settle(now);
            self.plan(now);
        }
        (repair.is_some() || merged.found_count > 0).then_some(resync)
    }
}

/// Reads a dump for a slice of time. True: it has ended.
fn read(
    requester: &mut Requester,
    exchange: &mut Exchange,
    table: &mut impl Table,
    slice: &mut Slice,
) -> Result<bool> {
    let patience = slice.patience();
    loop {
        match requester.next(exchange, patience) {
            Ok(Some(message)) => table.feed_dumped(&message),
            Ok(None) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        if slice.is_over() {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests;
