//! What keeps a mirror right: when to dump, and how a dump is brought together with the events that go on meanwhile.
//!
//! A round goes so. A request that does nothing is sent by the events' own socket: its acknowledgement comes behind all events
//! that the kernel made before, those before the last loss among them. Once it is met the table notes that a dump begins. The
//! dump is read, a little at a time, between the turns of whoever receives the events: an entry that an event touches from now
//! on follows the events, since none of them is missing. At the dump's end such a request is sent again, and once its
//! acknowledgement is met, the events are ahead of the dump. Then the two are merged, again a little at a time. Should an event
//! be lost meanwhile, the round is worth nothing and another takes its place.

use std::time::{Duration, Instant, SystemTime};

use crate::engine::{Loss, StopHandle};
use crate::error::{ErrorKind, Result};
use crate::message::{Content, Message, NOOP};
use crate::request::{Exchange, Patience, Requester, send_noop};
use crate::socket::{Protocol, Socket};

/// The least time between the beginnings of two rounds, unless another is set.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// The same before the first has come to its end: until then there is no table at all.
pub(crate) const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// Losses come in bursts: a round begins when for so long there was none,
const CALM: Duration = Duration::from_millis(50);
/// or so long after the first of them.
const LONGEST_STORM: Duration = Duration::from_secs(1);
/// How long reading a dump, or merging it, may hold up the events.
const SLICE: Duration = Duration::from_micros(500);
/// How often a round begins its dump again that changes have interrupted; then it takes what came.
const RETRIES: u32 = 5;
/// The pause before the first of these; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// After this time without the acknowledgement the socket is asked again.
pub(crate) const BARRIER_PATIENCE: Duration = Duration::from_secs(1);

/// Why a mirror's table was brought together with the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResyncReason {
    /// It was empty: the mirror is new.
    Snapshot,
    /// Events were lost, or could not be read.
    Loss,
    /// Something happened that no event of the table tells of.
    Change,
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
    /// Events that were handed out in place of the lost ones.
    pub new_count: u64,
    /// Likewise.
    pub update_count: u64,
    /// Likewise.
    pub destroy_count: u64,
    /// Changes interrupted the dump again and again: something may still be wrong, and another round will follow.
    pub is_interrupted: bool,
}

/// A table that rounds keep right.
pub(crate) trait Table {
    /// The protocol that it is asked on.
    const PROTOCOL: Protocol;

    /// Asks for a dump of it.
    fn request(&self, requester: &mut Requester) -> Result<Exchange>;

    /// A dump begins: nothing is touched by events, and nothing seen in the dump.
    fn begin(&mut self);

    /// Takes an entry of the dump.
    fn take_dumped(&mut self, message: &Message<'_>);

    /// The dump is worth nothing: forgets what it brought.
    fn abandon(&mut self);
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

/// What a round is to mend.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    reason: ResyncReason,
    lost_count: u64,
    since: SystemTime,
    noted_at: Instant,
}

/// The rounds of one mirror.
#[derive(Debug)]
pub(crate) struct Rounds {
    phase: Phase,
    interval: Duration,
    begun_at: Option<Instant>,
    /// When the next is to begin.
    due: Option<Instant>,
    doubt: Option<Doubt>,
    /// Dumps of this round that were interrupted.
    interrupted_count: u32,
    is_interrupted: bool,
    /// The drop counter of the events' socket when this round began.
    drops: u32,
    sequence: u32,
    /// Acknowledgements that were asked for.
    pub request_count: u64,
}

impl Rounds {
    /// The first round is due at once.
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            phase: Phase::Idle,
            interval,
            begun_at: None,
            due: Some(now),
            doubt: Some(Doubt {
                reason: ResyncReason::Snapshot,
                lost_count: 0,
                since: SystemTime::now(),
                noted_at: now,
            }),
            interrupted_count: 0,
            is_interrupted: false,
            drops: 0,
            sequence: 0,
            request_count: 0,
        }
    }

    /// Whether nothing is known to be missing.
    pub(crate) fn is_synced(&self) -> bool {
        self.doubt.is_none()
    }

    /// Whether the table has never been the kernel's yet.
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
        self.note(ResyncReason::Loss, loss.count, loss.since, table, now);
    }

    /// A datagram could not be read.
    pub(crate) fn note_unreadable(&mut self, table: &mut impl Table, now: Instant) {
        self.note(ResyncReason::Loss, 1, SystemTime::now(), table, now);
    }

    /// The kernel's table may have changed in a way that no event tells of.
    pub(crate) fn note_change(&mut self, table: &mut impl Table, now: Instant) {
        self.note(ResyncReason::Change, 0, SystemTime::now(), table, now);
    }

    fn note(
        &mut self,
        reason: ResyncReason,
        lost_count: u64,
        since: SystemTime,
        table: &mut impl Table,
        now: Instant,
    ) {
        let doubt = self.doubt.get_or_insert(Doubt {
            reason,
            lost_count: 0,
            since,
            noted_at: now,
        });
        doubt.lost_count += lost_count;
        if doubt.reason == ResyncReason::Change {
            doubt.reason = reason;
        }
        if reason == ResyncReason::Change && matches!(self.phase, Phase::Opening(_) | Phase::Opened)
        {
            return; // the dump that has not begun yet has it
        }
        self.abandon(table);
        self.schedule(now);
    }

    fn abandon(&mut self, table: &mut impl Table) {
        if self.is_under_way() {
            table.abandon();
        }
        self.phase = Phase::Idle;
        (self.interrupted_count, self.is_interrupted) = (0, false);
    }

    /// Not before the interval has passed, and in any case then.
    fn schedule(&mut self, now: Instant) {
        let interval = if self.is_first() {
            self.interval.min(FIRST_INTERVAL)
        } else {
            self.interval
        };
        // An interval that the clock does not reach means never.
        let earliest = self
            .begun_at
            .map_or(Some(now), |at| at.checked_add(interval));
        let calm = match self.doubt {
            Some(doubt) => (now + CALM).min(doubt.noted_at + LONGEST_STORM),
            None => now,
        };
        self.due = earliest.map(|earliest| earliest.max(calm).max(now));
    }

    /// Does what is due, for a slice of time at most. `events` is the socket that the events come by.
    pub(crate) fn advance(
        &mut self,
        table: &mut impl Table,
        events: &Socket,
        now: Instant,
    ) -> Result<Progress> {
        let result = self.try_advance(table, events, now);
        if result.is_err() {
            self.abandon(table);
            self.schedule(now);
        }
        result
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
        self.begun_at = Some(now);
        // A socket of its own for each dump: that of one that was abandoned may still have a dump running.
        let mut requester = Box::new(Requester::open(T::PROTOCOL)?);
        table.begin();
        let exchange = table.request(&mut requester)?;
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

    /// Merges, unless an event was lost meanwhile: of that, whoever receives may hear only later.
    fn begin_merge(&mut self, table: &mut impl Table, events: &Socket, now: Instant) -> Result<()> {
        if events.drops()? == self.drops {
            self.phase = Phase::Merging;
        } else {
            self.abandon(table);
            self.schedule(now);
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

    /// All is merged. Tells what the round has mended; the counts of events are the mirror's to fill in.
    pub(crate) fn finish(&mut self, entry_count: usize, now: Instant) -> Resync {
        self.phase = Phase::Idle;
        let doubt = self.doubt.take();
        let until = SystemTime::now();
        let is_interrupted = self.is_interrupted;
        (self.interrupted_count, self.is_interrupted) = (0, false);
        if is_interrupted {
            self.doubt = Some(Doubt {
                reason: ResyncReason::Change,
                lost_count: 0,
                since: doubt.map_or(until, |doubt| doubt.since),
                noted_at: now,
            });
            self.schedule(now);
        }
        Resync {
            reason: doubt.map_or(ResyncReason::Change, |doubt| doubt.reason),
            lost_count: doubt.map_or(0, |doubt| doubt.lost_count),
            since: doubt.map_or(until, |doubt| doubt.since),
            until,
            entry_count,
            new_count: 0,
            update_count: 0,
            destroy_count: 0,
            is_interrupted,
        }
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
    }

    impl Table for Links {
        const PROTOCOL: Protocol = Protocol::ROUTE;

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
    }

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
                rounds: Rounds::new(interval, now),
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
            self.rounds.finish(self.links.count, self.now)
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
        let resync = round.rounds.finish(1, round.now);
        assert_eq!(
            (resync.reason, resync.lost_count),
            (ResyncReason::Snapshot, 0)
        );
        assert!(round.rounds.is_synced());
        assert_eq!(round.rounds.due(round.now), None);
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
        round.rounds.note_change(&mut round.links, round.now);
        round.acknowledge();
        round.advance();
        assert!(round.rounds.is_under_way());
        round.rounds.note_change(&mut round.links, round.now);
        assert!(!round.rounds.is_under_way(), "but not one that comes later");
        assert_eq!(round.links.abandoned_count, 1);
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
