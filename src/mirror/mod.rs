//! What keeps a mirror right: when to dump, and how a dump is merged with the events that go on meanwhile.
//!
//! A round goes like this. The events' own socket sends a request that does nothing. Its acknowledgement arrives behind all
//! events that the kernel made before it, those before the last loss among them. When it arrives, the table notes that a dump
//! begins. The dump is read a little at a time, between the turns of the program that receives the events. An entry that an
//! event touches from now on follows the events, because none of them is missing. At the dump's end such a request is sent
//! again, and when its acknowledgement arrives, the events are ahead of the dump. Then the two are merged, again a little at a
//! time. If an event is lost meanwhile, the round is worth nothing and another one begins.
//!
//! Rounds repair what is known to be wrong: events were lost, or something happened that no event reports. When nothing is
//! known to be wrong, rounds that are audits find what changed without any sign.

mod budget;
mod events_socket;
mod health;
mod schedule;

use std::time::{Duration, Instant, SystemTime};
use std::{fmt, mem};

pub(crate) use self::budget::Budget;
use self::events_socket::EventsSocket;
pub use self::health::MirrorHealth;
use self::schedule::Schedule;
pub(crate) use self::schedule::{INTERVAL, Intervals};
use crate::engine::{Loss, StopHandle};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Content, Message, NOOP};
use crate::request::{Exchange, Patience, Requester, send_noop};
use crate::socket::{Protocol, Socket};

/// How long nothing may be noted before a round begins: losses come in bursts, and a change is several messages.
const CALM: Duration = Duration::from_millis(50);
/// How long after the first of them a round begins though they go on.
const LONGEST_STORM: Duration = Duration::from_secs(1);
/// How long reading a dump, or merging it, may delay the events.
const SLICE: Duration = Duration::from_micros(500);
/// How often a round begins its dump again after changes interrupted it; then it takes what came.
const RETRIES: u32 = 5;
/// The pause before the first of these; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// How long the acknowledgement is waited for before the socket is asked again.
pub(crate) const BARRIER_PATIENCE: Duration = Duration::from_secs(1);

/// Why a mirror's table was brought together with the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResyncReason {
    /// It was empty: the mirror is new.
    Snapshot,
    /// Events were lost, or could not be read.
    Loss,
    /// Something happened that no event of the table reports.
    Change,
    /// Nothing was known to be wrong, and an audit found a difference.
    Audit,
    /// Entries had been left out because the mirror's memory is bounded, and there is room again.
    Room,
}

/// A mirror's table is the kernel's again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resync {
    /// Why.
    pub reason: ResyncReason,
    /// The datagrams that were lost, as far as they were counted: truncated and malformed ones are in it.
    pub lost_count: u64,
    /// From when on the table may have been wrong, `CLOCK_REALTIME`.
    pub since: SystemTime,
    /// Until when, `CLOCK_REALTIME`.
    pub until: SystemTime,
    /// Entries there are now.
    pub entry_count: usize,
    /// Beginnings that were handed out and that no event had reported.
    pub new_count: u64,
    /// Changes that were handed out and that no event had reported.
    pub update_count: u64,
    /// Ends that were handed out and that no event had reported.
    pub destroy_count: u64,
    /// Changes disturbed the dump: something may still be wrong, and another round will follow.
    pub is_interrupted: bool,
}

/// A table that rounds keep right.
pub(crate) trait Table {
    /// A multicast group of the events.
    type Group: Copy + fmt::Debug + Into<u32> + 'static;

    /// The protocol that it is asked on.
    const PROTOCOL: Protocol;

    /// The groups that the events' socket must be in.
    const GROUPS: &'static [Self::Group];

    /// Asks for a dump of it.
    fn request(&self, requester: &mut Requester) -> Result<Exchange>;

    /// A dump begins: nothing is touched by events, and nothing seen in the dump.
    fn begin(&mut self);

    /// Takes an entry of the dump.
    fn take_dumped(&mut self, message: &Message<'_>);

    /// The dump is worth nothing: forgets what it brought.
    fn abandon(&mut self);

    /// Something changed that no event reports: the dump under way proves nothing about what it does not have.
    fn shake(&mut self) {}
}

/// What a mirror is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing, until [`Rounds::due`].
    Waits,
    /// To merge for a slice of time, then to ask again; and to [`finish`](Rounds::finish) once all is merged.
    Merges,
}

#[derive(Debug)]
enum Phase {
    Idle,
    /// Waits for the acknowledgement behind the events of before.
    Opening(Barrier),
    /// It has come.
    Opened,
    Dumping {
        requester: Box<Requester>,
        exchange: Exchange,
    },
    /// Waits for the acknowledgement behind the events that came meanwhile.
    Closing(Barrier),
    /// It has come. Whether events were lost is still to be looked at.
    Acknowledged,
    Merging,
}

/// Acknowledgements that were asked for one after the other: each of them will do.
#[derive(Clone, Copy, Debug)]
struct Barrier {
    first: u32,
    last: u32,
    ask_again_at: Instant,
}

impl Barrier {
    fn is_met_by(&self, message: &Message<'_>) -> bool {
        let index = message.sequence().wrapping_sub(self.first);
        index <= self.last.wrapping_sub(self.first) && is_barrier(message, message.sequence())
    }
}

/// What a round is to repair.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    reason: ResyncReason,
    lost_count: u64,
    since: SystemTime,
    noted_at: Instant,
}

/// Rounds that came to nothing.
#[derive(Debug, Default)]
struct Failures {
    total_count: u64,
    /// Of those in a row until now, the first.
    since: Option<SystemTime>,
    /// Why the last one failed, unless it was a loss.
    error: Option<Box<str>>,
}

/// What a merge has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Merged {
    /// Entries of the table then.
    pub entry_count: usize,
    /// Differences that it found between the table and the kernel's.
    pub found_count: u64,
    /// Changes disturbed the dump, so that not all differences are found.
    pub is_open: bool,
}

/// The rounds of one mirror.
#[derive(Debug)]
pub(crate) struct Rounds {
    phase: Phase,
    schedule: Schedule,
    /// When the next round is to begin.
    due: Option<Instant>,
    /// None: nothing is known to be wrong, and a round is an audit.
    doubt: Option<Doubt>,
    /// Something has changed since the dump of this round began.
    is_change_held: bool,
    /// Dumps of this round that were interrupted.
    interrupted_count: u32,
    is_interrupted: bool,
    events: EventsSocket,
    /// The drop counter of the events' socket when this round began.
    drops: u32,
    /// When this round's dump began.
    dumped_since: SystemTime,
    /// When the dump of the last complete round began: the table was right then.
    right_at: SystemTime,
    sequence: u32,
    failures: Failures,
    audit_count: u64,
    audit_difference_count: u64,
    /// Acknowledgements that were asked for.
    pub request_count: u64,
}

impl Rounds {
    /// The first round is due at once.
    pub(crate) fn new(intervals: Intervals, now: Instant) -> Self {
        let since = SystemTime::now();
        Self {
            phase: Phase::Idle,
            schedule: Schedule::new(intervals),
            due: Some(now),
            doubt: Some(Doubt {
                reason: ResyncReason::Snapshot,
                lost_count: 0,
                since,
                noted_at: now,
            }),
            is_change_held: false,
            interrupted_count: 0,
            is_interrupted: false,
            events: EventsSocket::default(),
            drops: 0,
            dumped_since: since,
            right_at: since,
            sequence: 0,
            failures: Failures::default(),
            audit_count: 0,
            audit_difference_count: 0,
            request_count: 0,
        }
    }

    /// Whether nothing is known to be missing. It stays so during an audit.
    pub(crate) fn is_synced(&self) -> bool {
        self.doubt.is_none() && !self.is_change_held
    }

    /// Whether nothing is known to be wrong, and no dump is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_synced() && !self.is_under_way()
    }

    /// Whether no round has been complete yet.
    pub(crate) fn is_first(&self) -> bool {
        self.doubt
            .is_some_and(|doubt| doubt.reason == ResyncReason::Snapshot)
    }

    /// Whether events are being noted beside a dump, or merged with one.
    pub(crate) fn is_under_way(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Opening(_) | Phase::Opened)
    }

    /// Whether a dump is being merged.
    pub(crate) fn is_merging(&self) -> bool {
        matches!(self.phase, Phase::Merging)
    }

    pub(crate) fn health(&self) -> MirrorHealth<'_> {
        MirrorHealth {
            wrong_since: match self.doubt {
                Some(doubt) => Some(doubt.since),
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

    /// When [`advance`](Self::advance) is to be called next though no event comes.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        match &self.phase {
            Phase::Idle => self.due,
            Phase::Opened | Phase::Dumping { .. } | Phase::Acknowledged | Phase::Merging => {
                Some(now)
            }
            Phase::Opening(barrier) | Phase::Closing(barrier) => Some(barrier.ask_again_at),
        }
    }

    /// Events are missing: a round under way is abandoned, and another will begin.
    pub(crate) fn note_loss(&mut self, loss: &Loss, table: &mut impl Table, now: Instant) {
        self.note(ResyncReason::Loss, loss.count, loss.since, now);
        self.begin_again(table, now);
    }

    /// A datagram could not be read.
    pub(crate) fn note_unreadable(&mut self, table: &mut impl Table, now: Instant) {
        self.note(ResyncReason::Loss, 1, SystemTime::now(), now);
        self.begin_again(table, now);
    }

    /// The kernel's table may have changed in a way that no event reports.
    pub(crate) fn note_change(&mut self, table: &mut impl Table, now: Instant) {
        if self.is_under_way() {
            // To begin again at each change might never end.
            table.shake();
            self.is_change_held = true;
            return;
        }
        self.note(ResyncReason::Change, 0, SystemTime::now(), now);
        if matches!(self.phase, Phase::Idle) {
            self.schedule.ask_after_change(now);
            self.plan(now);
        } // else the dump that has not begun yet has it
    }

    /// There is room again for entries that were left out.
    pub(crate) fn note_room(&mut self, since: SystemTime, now: Instant) {
        self.note(ResyncReason::Room, 0, since, now);
        self.schedule.ask_for_room(now);
        self.plan(now);
    }

    fn note(&mut self, reason: ResyncReason, lost_count: u64, since: SystemTime, now: Instant) {
        let doubt = self.doubt.get_or_insert(Doubt {
            reason,
            lost_count: 0,
            since,
            noted_at: now,
        });
        doubt.lost_count = doubt.lost_count.saturating_add(lost_count);
        if matches!(doubt.reason, ResyncReason::Change | ResyncReason::Room) {
            doubt.reason = reason;
        }
    }

    /// Events are missing: the round under way is worth nothing, and another will begin.
    fn begin_again(&mut self, table: &mut impl Table, now: Instant) {
        if self.is_under_way() {
            self.note_failure(None);
        }
        self.abandon(table);
        self.take_held_change(now);
        self.schedule.ask_after_loss(self.is_first(), now);
        self.plan(now);
    }

    /// The round that was to follow this one takes its place.
    fn take_held_change(&mut self, now: Instant) {
        if mem::take(&mut self.is_change_held) {
            self.note(ResyncReason::Change, 0, self.dumped_since, now);
            self.schedule.ask_after_change(now);
        }
    }

    fn abandon(&mut self, table: &mut impl Table) {
        if self.is_under_way() {
            table.abandon();
        }
        self.phase = Phase::Idle;
        (self.interrupted_count, self.is_interrupted) = (0, false);
    }

    fn note_failure(&mut self, error: Option<&Error>) {
        self.schedule.note_failure();
        self.failures.total_count += 1;
        self.failures.since.get_or_insert_with(SystemTime::now);
        self.failures.error = error.map(|error| error.to_string().into());
    }

    /// Plans the next round.
    fn plan(&mut self, now: Instant) {
        self.due = match self.doubt {
            Some(doubt) => {
                let calm_at = (now + CALM).min(doubt.noted_at + LONGEST_STORM);
                self.schedule.due(calm_at, now)
            }
            None => self.schedule.audit_due(now),
        };
    }

    /// Does what is due, for a slice of time at most. `events` is the socket that the events come by.
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
                self.schedule.begin(self.doubt.is_none(), now); // a begin that failed counts as one
            }
            self.abandon(table);
            self.note_failure(Some(error));
            self.take_held_change(now);
            let reason = self.doubt.map(|doubt| doubt.reason);
            self.schedule.ask_after_failure(reason, now);
            self.plan(now);
        }
        if !matches!(self.phase, Phase::Idle | Phase::Opening(_)) {
            self.note_time(now);
        }
        result
    }

    /// Notes that the receiving thread has worked on the round under way since `start`.
    pub(crate) fn note_time(&mut self, start: Instant) {
        self.schedule.note_time(start.elapsed());
    }

    fn try_advance<T: Table>(
        &mut self,
        table: &mut T,
        events: &Socket,
        now: Instant,
    ) -> Result<Progress> {
        if let Phase::Idle = self.phase
            && self.due.is_some_and(|due| now >= due)
        {
            self.due = None;
            self.events.check(T::GROUPS, events)?;
            self.drops = events.drops()?;
            self.phase = Phase::Opening(self.ask(None, events, now)?);
        }
        if let Phase::Opening(barrier) = self.phase
            && now >= barrier.ask_again_at
        {
            self.phase = Phase::Opening(self.ask(Some(barrier), events, now)?);
        }
        if let Phase::Opened = self.phase {
            self.begin_dump(table, now)?;
        }
        if let Phase::Dumping {
            requester,
            exchange,
        } = &mut self.phase
            && read(requester, exchange, table, now)?
        {
            let is_interrupted = exchange.is_interrupted;
            self.end_dump(table, is_interrupted, events, now)?;
        }
        if let Phase::Closing(barrier) = self.phase
            && now >= barrier.ask_again_at
        {
            self.phase = Phase::Closing(self.ask(Some(barrier), events, now)?);
        }
        if let Phase::Acknowledged = self.phase {
            self.begin_merge(table, events, now)?;
        }
        Ok(if self.is_merging() {
            Progress::Merges
        } else {
            Progress::Waits
        })
    }

    fn begin_dump<T: Table>(&mut self, table: &mut T, now: Instant) -> Result<()> {
        self.schedule.begin(self.doubt.is_none(), now);
        self.is_change_held = false;
        self.dumped_since = SystemTime::now();
        // A socket of its own for each dump: that of one that was abandoned may still have a dump running.
        let mut requester = Box::new(Requester::open(T::PROTOCOL)?);
        let exchange = table.request(&mut requester)?;
        table.begin(); // no event is taken before it
        self.phase = Phase::Dumping {
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
            table.abandon();
            self.phase = Phase::Idle;
            self.interrupted_count += 1;
            self.due = Some(now + pause);
            return Ok(());
        }
        self.is_interrupted = is_interrupted;
        self.phase = Phase::Closing(self.ask(None, events, now)?);
        Ok(())
    }

    /// Merges, unless an event was lost meanwhile, which may be reported only later.
    fn begin_merge(&mut self, table: &mut impl Table, events: &Socket, now: Instant) -> Result<()> {
        if events.drops()? == self.drops {
            self.phase = Phase::Merging;
        } else {
            self.note(ResyncReason::Loss, 0, self.dumped_since, now);
            self.begin_again(table, now);
        }
        Ok(())
    }

    /// Asks for the acknowledgement, perhaps once more: should the events be long behind, an earlier one may come first.
    fn ask(&mut self, earlier: Option<Barrier>, events: &Socket, now: Instant) -> Result<Barrier> {
        // The highest bit is for the barriers of others.
        self.sequence = self.sequence.wrapping_add(1) & !BARRIER_OF_OTHERS;
        send_barrier(events, self.sequence)?;
        self.request_count += 1;
        Ok(Barrier {
            first: earlier.map_or(self.sequence, |earlier| earlier.first),
            last: self.sequence,
            ask_again_at: now + BARRIER_PATIENCE,
        })
    }

    /// Whether a message of the events' socket is the acknowledgement at the dump's end that is waited for: from the next
    /// [`advance`](Self::advance) on the dump is merged. The one before a dump is noted, and is no event either.
    pub(crate) fn take_barrier(&mut self, message: &Message<'_>) -> bool {
        match self.phase {
            Phase::Opening(barrier) => {
                if barrier.is_met_by(message) {
                    self.phase = Phase::Opened;
                }
                false
            }
            Phase::Closing(barrier) => {
                let is_it = barrier.is_met_by(message);
                if is_it {
                    self.phase = Phase::Acknowledged;
                }
                is_it
            }
            _ => false,
        }
    }

    /// Dumps without regard to events, of which no more will come, and leaves it to be merged. `stop` ends that.
    pub(crate) fn dump_at_end<T: Table>(
        &mut self,
        table: &mut T,
        stop: Option<&StopHandle>,
    ) -> Result<()> {
        self.abandon(table);
        self.begin_dump(table, Instant::now())?;
        let Phase::Dumping {
            requester,
            exchange,
        } = &mut self.phase
        else {
            return Ok(());
        };
        if let Some(stop) = stop {
            requester.set_stop(stop.clone());
        }
        while let Some(message) = requester.next(exchange, Patience::Wait)? {
            table.take_dumped(&message);
        }
        self.is_interrupted = exchange.is_interrupted;
        self.phase = Phase::Merging;
        Ok(())
    }

    /// All is merged. Gives what the round has repaired; the counts of events are the mirror's to fill in. None: it was an
    /// audit that found nothing.
    pub(crate) fn finish(
        &mut self,
        merged: Merged,
        table: &mut impl Table,
        now: Instant,
    ) -> Option<Resync> {
        self.phase = Phase::Idle;
        let doubt = self.doubt.take();
        let is_change_held = mem::take(&mut self.is_change_held);
        let is_open = self.is_interrupted || merged.is_open;
        (self.interrupted_count, self.is_interrupted) = (0, false);
        self.schedule.note_success(is_open);
        (self.failures.since, self.failures.error) = (None, None);
        let right_at = mem::replace(&mut self.right_at, self.dumped_since);
        if doubt.is_none() {
            self.audit_count += 1;
            self.audit_difference_count += merged.found_count;
        }
        let resync = Resync {
            reason: doubt.map_or(ResyncReason::Audit, |doubt| doubt.reason),
            lost_count: doubt.map_or(0, |doubt| doubt.lost_count),
            since: doubt.map_or(right_at, |doubt| doubt.since),
            until: SystemTime::now(),
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
        // What an audit leaves open, the next one looks at: nothing is known to be wrong.
        if is_open && doubt.is_some() {
            self.note(ResyncReason::Change, 0, resync.since, now);
            self.schedule.ask_again(now);
            self.plan(now);
        }
        (doubt.is_some() || merged.found_count > 0).then_some(resync)
    }
}

/// Reads a dump for a slice of time, also where nothing comes out of what is read. True at its end.
fn read(
    requester: &mut Requester,
    exchange: &mut Exchange,
    table: &mut impl Table,
    start: Instant,
) -> Result<bool> {
    const LOOK_AT_CLOCK: u32 = 64;
    let patience = Patience::Look(start + SLICE);
    let mut count = 0u32;
    loop {
        match requester.next(exchange, patience) {
            Ok(Some(message)) => table.take_dumped(&message),
            Ok(None) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        count += 1;
        if count.is_multiple_of(LOOK_AT_CLOCK) && start.elapsed() >= SLICE {
            return Ok(false);
        }
    }
}

/// In the sequence number of a barrier that is no round's.
pub(crate) const BARRIER_OF_OTHERS: u32 = 1 << 31;

/// Asks the socket that the events come by for an acknowledgement, which comes behind all events that the kernel made before.
pub(crate) fn send_barrier(events: &Socket, sequence: u32) -> Result<()> {
    send_noop(events, sequence)
}

/// Whether a message is the acknowledgement that was asked for with this sequence number.
pub(crate) fn is_barrier(message: &Message<'_>, sequence: u32) -> bool {
    let (Content::Ack(answer) | Content::Error(answer)) = message.content() else {
        return false;
    };
    message.sequence() == sequence
        && answer
            .request()
            .is_some_and(|request| request.message_type == NOOP)
}

/// Whether a slice of time is over.
pub(crate) fn slice_is_over(start: Instant) -> bool {
    start.elapsed() >= SLICE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::flags;
    use crate::socket::RecvFlags;

    /// The host's devices, counted.
    #[derive(Default)]
    struct Links {
        count: usize,
        abandoned_count: u32,
        shaken_count: u32,
    }

    impl Table for Links {
        type Group = u32;

        const PROTOCOL: Protocol = Protocol::ROUTE;
        const GROUPS: &'static [u32] = &[];

        fn request(&self, requester: &mut Requester) -> Result<Exchange> {
            requester.begin(18, flags::DUMP, |message| message.bytes(&[0; 16])) // RTM_GETLINK
        }

        fn begin(&mut self) {
            self.count = 0;
        }

        fn take_dumped(&mut self, _message: &Message<'_>) {
            self.count += 1;
        }

        fn abandon(&mut self) {
            self.abandoned_count += 1;
        }

        fn shake(&mut self) {
            self.shaken_count += 1;
        }
    }

    const CHANGE_INTERVAL: Duration = Duration::from_secs(1);

    struct Round {
        rounds: Rounds,
        links: Links,
        events: Socket,
        now: Instant,
    }

    impl Round {
        fn new(interval: Duration) -> Self {
            let now = Instant::now();
            let events = Socket::builder(Protocol::ROUTE).nonblocking(true).open();
            Self {
                rounds: Rounds::new(Intervals::new(interval, CHANGE_INTERVAL), now),
                links: Links::default(),
                events: events.unwrap(),
                now,
            }
        }

        fn advance(&mut self) -> Progress {
            let Self {
                rounds,
                links,
                events,
                now,
            } = self;
            rounds.advance(links, events, *now).unwrap()
        }

        /// Takes the next acknowledgement.
        fn acknowledge(&mut self) {
            let mut buffer = [0; 4096];
            let list = self.events.recv(&mut buffer, RecvFlags::NONE).unwrap();
            for message in &list {
                self.rounds.take_barrier(&message);
            }
        }

        fn lose(&mut self) {
            let since = SystemTime::now();
            let loss = Loss::new(3, since, since);
            self.rounds.note_loss(&loss, &mut self.links, self.now);
        }

        /// From the opening to the merge's end.
        fn complete(&mut self) -> Resync {
            self.merge(0).expect("it has repaired something")
        }

        /// The same; the merge finds so many differences.
        fn merge(&mut self, found_count: u64) -> Option<Resync> {
            self.advance();
            for _ in 0..2 {
                self.acknowledge();
                self.advance();
                assert!(
                    self.links.count > 0,
                    "the loopback device is there at least"
                );
            }
            assert!(self.rounds.is_merging());
            self.finish(found_count)
        }

        fn finish(&mut self, found_count: u64) -> Option<Resync> {
            let merged = Merged {
                entry_count: self.links.count,
                found_count,
                is_open: false,
            };
            self.rounds.finish(merged, &mut self.links, self.now)
        }

        fn change(&mut self) {
            self.rounds.note_change(&mut self.links, self.now);
        }
    }

    #[test]
    fn a_round_has_a_barrier_before_and_behind_its_dump() {
        let mut round = Round::new(INTERVAL);
        assert_eq!(round.advance(), Progress::Waits);
        assert!(!round.rounds.is_under_way(), "no dump before the first");
        round.acknowledge();
        assert_eq!(round.advance(), Progress::Waits);
        assert!(round.links.count > 0 && !round.rounds.is_merging());
        round.acknowledge();
        assert_eq!(round.advance(), Progress::Merges);
        let resync = round.finish(0).unwrap();
        assert_eq!(
            (resync.reason, resync.lost_count),
            (ResyncReason::Snapshot, 0)
        );
        assert!(round.rounds.is_synced());
        let audit = round.now + Duration::from_secs(15);
        assert_eq!(round.rounds.due(round.now), Some(audit));
    }

    #[test]
    fn an_acknowledgement_that_comes_late_will_do() {
        let mut round = Round::new(INTERVAL);
        round.advance();
        for _ in 0..3 {
            round.now += BARRIER_PATIENCE;
            round.advance();
        }
        assert_eq!(round.rounds.request_count, 4);
        round.acknowledge();
        round.advance();
        assert!(round.rounds.is_under_way(), "the first of four");
        // Those to the other three are none that the dump's end waits for.
        for _ in 0..3 {
            round.acknowledge();
            round.advance();
            assert!(!round.rounds.is_merging());
        }
        round.acknowledge();
        assert_eq!(round.advance(), Progress::Merges);
    }

    #[test]
    fn a_change_before_the_dump_begins_is_in_the_dump() {
        let mut round = Round::new(INTERVAL);
        round.complete();
        round.now += INTERVAL;
        round.lose();
        round.now += CALM;
        round.advance();
        round.change();
        round.acknowledge();
        round.advance();
        assert!(round.rounds.is_under_way());
        // One that comes later needs another round, and does not end this one.
        let begun_at = round.now;
        round.change();
        assert!(round.rounds.is_under_way() && !round.rounds.is_synced());
        assert_eq!(
            (round.links.abandoned_count, round.links.shaken_count),
            (0, 1)
        );
        round.acknowledge();
        assert_eq!(round.advance(), Progress::Merges);
        let resync = round.finish(0).unwrap();
        assert_eq!(
            (resync.reason, resync.is_interrupted),
            (ResyncReason::Loss, true)
        );
        assert!(!round.rounds.is_synced());
        assert_eq!(
            round.rounds.due(round.now),
            Some(begun_at + CHANGE_INTERVAL)
        );
    }

    #[test]
    fn an_audit_tells_only_what_it_finds() {
        let mut round = Round::new(INTERVAL);
        round.complete();
        for found_count in [0, 3] {
            round.now = round.rounds.due(round.now).unwrap();
            round.advance();
            assert!(round.rounds.is_synced(), "nothing is known to be wrong");
            let resync = round.merge(found_count);
            assert_eq!(
                resync.map(|resync| (resync.reason, resync.lost_count)),
                (found_count > 0).then_some((ResyncReason::Audit, 0))
            );
        }
        let health = round.rounds.health();
        assert_eq!((health.audit_count, health.audit_difference_count), (2, 3));
        assert_eq!(health.wrong_since, None);
    }

    #[test]
    fn an_audit_that_a_loss_disturbs_becomes_a_repair_at_once() {
        let mut round = Round::new(INTERVAL);
        round.complete();
        round.now = round.rounds.due(round.now).unwrap();
        round.advance();
        round.acknowledge();
        round.advance();
        assert!(round.rounds.is_under_way());
        round.lose();
        assert!(!round.rounds.is_under_way() && !round.rounds.is_synced());
        assert_eq!(round.links.abandoned_count, 1);
        assert_eq!(round.rounds.due(round.now), Some(round.now + CALM));
        // The acknowledgement at the dump's end is nobody's now.
        round.acknowledge();
        round.now += CALM;
        assert_eq!(round.complete().reason, ResyncReason::Loss);
    }

    #[test]
    fn losses_beyond_counting_stay_at_the_most_there_can_be() {
        let mut round = Round::new(INTERVAL);
        let since = SystemTime::now();
        for _ in 0..2 {
            let loss = Loss::new(u64::MAX, since, since);
            round.rounds.note_loss(&loss, &mut round.links, round.now);
            round.rounds.note_unreadable(&mut round.links, round.now);
        }
        round.now += LONGEST_STORM;
        assert_eq!(round.complete().lost_count, u64::MAX);
    }

    #[test]
    fn what_fails_is_tried_again_later_and_known_until_it_works() {
        let mut round = Round::new(INTERVAL);
        round.complete();
        round.now += INTERVAL;
        round.lose();
        for count in 1..=3 {
            round.now = round.rounds.due(round.now).unwrap();
            let Round {
                rounds, links, now, ..
            } = &mut round;
            let mute = Socket::open(Protocol::USERSOCK).unwrap(); // the kernel refuses what it is sent
            rounds.advance(links, &mute, *now).unwrap_err();
            let health = rounds.health();
            assert_eq!(health.failed_count, count);
            assert!(health.failing_since.is_some() && health.error.is_some());
            let wait = rounds.due(*now).unwrap() - *now;
            assert_eq!(wait, INTERVAL * 2u32.pow(count - 1));
        }
        round.now = round.rounds.due(round.now).unwrap();
        round.complete();
        let health = round.rounds.health();
        assert_eq!((health.failed_count, health.error), (0, None));
        assert_eq!((health.failing_since, health.failed_total_count), (None, 3));
    }

    #[test]
    fn a_round_waits_for_calm_but_not_for_ever() {
        let mut round = Round::new(INTERVAL);
        round.complete();
        round.now += INTERVAL;
        let storm_began_at = round.now;
        while round.now + CALM < storm_began_at + LONGEST_STORM {
            round.lose();
            assert_eq!(round.rounds.due(round.now), Some(round.now + CALM));
            round.now += CALM / 2;
        }
        // Less than the calm is left of the longest storm.
        round.lose();
        assert_eq!(
            round.rounds.due(round.now),
            Some(storm_began_at + LONGEST_STORM)
        );
    }

    #[test]
    fn rounds_keep_their_interval_once_a_dump_has_begun() {
        let mut round = Round::new(INTERVAL);
        round.complete();
        let begun_at = round.now;
        round.lose();
        assert_eq!(round.rounds.due(round.now), Some(begun_at + INTERVAL));
        round.now = begun_at + INTERVAL;
        let resync = round.complete();
        assert_eq!((resync.reason, resync.lost_count), (ResyncReason::Loss, 3));
    }

    #[test]
    fn an_interval_beyond_the_clock_means_never() {
        let mut round = Round::new(Duration::MAX);
        round.complete();
        round.lose();
        assert_eq!(round.rounds.due(round.now), None);
        assert!(!round.rounds.is_synced());
    }

    #[test]
    fn an_end_dumps_without_events() {
        let mut round = Round::new(INTERVAL);
        round.complete();
        round.lose();
        round.rounds.dump_at_end(&mut round.links, None).unwrap();
        assert!(round.links.count > 0 && round.rounds.is_merging());
    }
}
