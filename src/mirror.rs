//! What keeps a mirror right: when to dump, and how a dump is brought together with the events that go on meanwhile.
//!
//! A round goes so. A request that does nothing is sent by the events' own socket: its acknowledgement comes behind all events
//! that the kernel made before, those before the last loss among them. Once it is met the table notes that a dump begins. The
//! dump is read, a little at a time, between the turns of whoever receives the events: an entry that an event touches from now
//! on follows the events, since none of them is missing. At the dump's end such a request is sent again, and once its
//! acknowledgement is met, the events are ahead of the dump. Then the two are merged, again a little at a time. Should an event
//! be lost meanwhile, the round is worth nothing and another takes its place.

use std::time::{Duration, Instant, SystemTime};

use crate::builder::MessageBuilder;
use crate::engine::Loss;
use crate::error::{ErrorKind, Result};
use crate::message::{Content, Message, NOOP, flags};
use crate::request::{Exchange, Requester};
use crate::socket::{Protocol, RecvFlags, Socket};

/// The least time between the beginnings of two rounds, unless another is set.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// The same before the first has come to its end: until then there is no table at all.
pub(crate) const FIRST_INTERVAL: Duration = Duration::from_secs(1);
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
    Opening {
        sequence: u32,
        ask_again_at: Instant,
    },
    /// It has come.
    Opened,
    Dumping {
        requester: Box<Requester>,
        exchange: Exchange,
    },
    /// Waits for the acknowledgement behind the events that came meanwhile.
    Barrier {
        sequence: u32,
        ask_again_at: Instant,
    },
    /// It has come. Whether events were lost is still to be looked at.
    Acknowledged,
    Merging,
}

/// What a round is to mend.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    reason: ResyncReason,
    lost_count: u64,
    since: SystemTime,
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
        !matches!(
            self.phase,
            Phase::Idle | Phase::Opening { .. } | Phase::Opened
        )
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
            Phase::Opening { ask_again_at, .. } | Phase::Barrier { ask_again_at, .. } => {
                Some(*ask_again_at)
            }
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
        });
        doubt.lost_count += lost_count;
        if doubt.reason == ResyncReason::Change {
            doubt.reason = reason;
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
        let earliest = self.begun_at.map_or(now, |at| at + interval);
        self.due = Some(earliest.max(now));
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
            self.begun_at = Some(now);
            self.drops = events.drops()?;
            self.open(events, now)?;
        }
        if let Phase::Opening { ask_again_at, .. } = self.phase
            && now >= ask_again_at
        {
            self.open(events, now)?;
        }
        if let Phase::Opened = self.phase {
            self.begin_dump(table)?;
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
        if let Phase::Barrier { ask_again_at, .. } = self.phase
            && now >= ask_again_at
        {
            self.ask_for_barrier(events, now)?;
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

    fn begin_dump<T: Table>(&mut self, table: &mut T) -> Result<()> {
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
        self.ask_for_barrier(events, now)
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

    fn open(&mut self, events: &Socket, now: Instant) -> Result<()> {
        self.phase = Phase::Opening {
            sequence: self.send_barrier(events)?,
            ask_again_at: now + BARRIER_PATIENCE,
        };
        Ok(())
    }

    fn ask_for_barrier(&mut self, events: &Socket, now: Instant) -> Result<()> {
        self.phase = Phase::Barrier {
            sequence: self.send_barrier(events)?,
            ask_again_at: now + BARRIER_PATIENCE,
        };
        Ok(())
    }

    /// Gives the sequence number of its acknowledgement.
    fn send_barrier(&mut self, events: &Socket) -> Result<u32> {
        // The highest bit is for the barriers of others.
        self.sequence = self.sequence.wrapping_add(1) & !BARRIER_OF_OTHERS;
        send_barrier(events, self.sequence)?;
        self.request_count += 1;
        Ok(self.sequence)
    }

    /// Whether a message of the events' socket is the acknowledgement at the dump's end that is waited for: from the next
    /// [`advance`](Self::advance) on the dump is merged. The one before a dump is noted, and is no event either.
    pub(crate) fn take_barrier(&mut self, message: &Message<'_>) -> bool {
        match self.phase {
            Phase::Opening { sequence, .. } => {
                if is_barrier(message, sequence) {
                    self.phase = Phase::Opened;
                }
                false
            }
            Phase::Barrier { sequence, .. } => {
                let is_it = is_barrier(message, sequence);
                if is_it {
                    self.phase = Phase::Acknowledged;
                }
                is_it
            }
            _ => false,
        }
    }

    /// Dumps without regard to events, of which no more will come, and leaves it to be merged.
    pub(crate) fn dump_at_end<T: Table>(&mut self, table: &mut T) -> Result<()> {
        self.abandon(table);
        self.begin_dump(table)?;
        let Phase::Dumping {
            requester,
            exchange,
        } = &mut self.phase
        else {
            return Ok(());
        };
        while let Some(message) = requester.next(exchange, RecvFlags::NONE)? {
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

/// Reads a dump for a slice of time. True at its end.
fn read(
    requester: &mut Requester,
    exchange: &mut Exchange,
    table: &mut impl Table,
    start: Instant,
) -> Result<bool> {
    const LOOK_AT_CLOCK: u32 = 64;
    let mut count = 0u32;
    loop {
        match requester.next(exchange, RecvFlags::DONT_WAIT) {
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
    let mut request = Vec::new();
    // Any netlink protocol answers it: with an error, where it allows no request without a capability, which is as good
    // (net/netlink/af_netlink.c, `netlink_rcv_skb`; net/netfilter/nfnetlink.c, `nfnetlink_rcv`).
    MessageBuilder::new(&mut request, NOOP, flags::REQUEST | flags::ACK)
        .sequence(sequence)
        .finish()?;
    events.send(&request)?;
    Ok(())
}

/// Whether a message is the acknowledgement that was asked for with this sequence number.
pub(crate) fn is_barrier(message: &Message<'_>, sequence: u32) -> bool {
    let Content::Error(answer) = message.content() else {
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
