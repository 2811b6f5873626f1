//! A mirror of the conntrack table.

mod details;
mod entry;
mod follow;
mod held;
mod merge;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod tombs;

use std::time::{Duration, Instant, SystemTime};

use self::follow::{Follower, Out};
use self::sweep::Sweep;
use super::identity::Identity;
use super::time::to_ns;
use super::{Flow, Group, Key, Tuple, Zone};
use crate::engine::{Event, Loss, Missing, StopHandle};
use crate::error::Result;
use crate::event_kind::EventKind;
use crate::message::Message;
#[cfg(doc)]
use crate::mirror::ResyncReason;
use crate::mirror::{
    Budget, INTERVAL, Intervals, Merged, MirrorHealth, Progress, Resync, Rounds, Slice, Slot,
};
use crate::socket::Socket;

/// The conntrack table, kept from a dump and from the events that go on, and brought together with the kernel's again after
/// events were lost.
///
/// It takes the events of one socket that is in the groups of [`GROUPS`](Self::GROUPS), without a filter, and hands out
/// changes. By these alone a table can be kept too: a flow's lifetime begins with one [`EventKind::New`], nothing of it comes
/// before, and it ends with one [`EventKind::Delete`]. The changes are the kernel's events, and what stands in for those that
/// are missing ([`Change::Flow`], `is_resynced`). After a loss the table is the kernel's again when [`Change::Resynced`] comes.
///
/// - The first changes are the table as the kernel has it; events that came meanwhile are held, up to 64 MiB of them, and
///   follow. If there are more, or if some are lost, they are handed out first, and the flows of before come later.
/// - After losses a dump begins at most once in [`MirrorOptions::resync_interval`]. A dump delays the events by half a
///   millisecond at a time.
/// - Some changes make no event: a flow ends, or changes, that began before anybody listened (with
///   `net.netfilter.nf_conntrack_events` = 2, the default since Linux 5.19) or while that was 0; an nft flowtable takes a flow
///   or lets it go. So when nothing is known to be wrong, the mirror audits its table: it dumps and merges. A change without
///   an event is therefore in the mirror within [`MirrorOptions::audit_interval`] and the time of a dump. What an audit
///   finds is handed out as after a loss, followed by a [`Change::Resynced`] with [`ResyncReason::Audit`]; an audit that finds
///   nothing hands out nothing, and is only counted ([`Mirror::health`]). [`Mirror::is_synced`] stays true during an audit. A
///   loss during an audit makes it a repair.
/// - Repeats are left out: other programs' reliable sockets have the kernel send a DESTROY again to all. A DESTROY is a repeat
///   if the flow's end was handed out before, made up or not: the mirror remembers the last 262,144 ends as
///   [`Repeats`](super::Repeats) does, in up to 9 MiB. Any other DESTROY of a flow that is not there begins with an [`EventKind::New`]
///   that is made up: so it is where a rule has only the ends of flows told (nftables' `ct event set destroy`). Left out, too,
///   are events that come behind their flow's DESTROY, which the kernel does not rule out; where they do not say themselves
///   that the flow is over, the kernel is asked.
/// - No event reports that packets have refreshed a timeout, and some flows end without an event. So the kernel is asked about
///   flows whose time has been over for 2 s. It is asked about 128 of them each 10 ms, and each is found within some 10 s if they
///   are fewer than 100,000; a million that are over at the same time take 80 s. A [`EventKind::Delete`] is never made from
///   the clock alone.
/// - Of a flow it keeps what a dump has of it: tuples, zone, id, mark, status, protocol state, the time that is left, when it
///   began, its labels, helper and master, and what it has carried (packets and bytes). Not the security context. What a
///   flow has carried is as of the last dump that had the flow, because events report it only at the flow's end; an end
///   that is made up has none. A flow whose start the kernel does not say has
///   [`observed_start`](Flow::observed_start): when the mirror received its NEW event.
/// - A flow takes about 180 bytes, and 40 more where `net.netfilter.nf_conntrack_acct` is on. A label, a helper or a master
///   takes 17, 17 and 44 bytes for each of the 1024 flows that are kept together with one that has it.
/// - What an event costs does not depend on how often its tuple was used before. A flow that ends while a dump is read takes
///   some 10 to 20 bytes until the dump is merged, and a tuple that is used again and again takes them once for each id.
/// - Two flows can have the same original tuple and zone, after a NAT race ([`Flow::is_nat_clash`]). Both are kept and
///   handed out, each with its own id and reply tuple. [`get`](Self::get) finds the first of them,
///   [`get_by_reply`](Self::get_by_reply) both.
///
/// What remains:
///
/// - A flow that begins and ends within a loss is never reported.
/// - A loser of a NAT race has no NEW event and is in no dump (Linux v6.18). It begins with the first event that comes of it,
///   with an [`EventKind::New`] that is made up: that can be its DESTROY, a second later.
/// - The kernel reuses ids: a flow gets the id of an earlier flow of the same tuple when it gets the same memory. Timestamps
///   tell the two apart (`net.netfilter.nf_conntrack_timestamp`), and so does the NEW of the later one. Without timestamps:
///   - If the later flow's NEW was lost, or a rule has it not sent, its DESTROY is taken for a repeat of the earlier one's.
///   - If the earlier flow's DESTROY was lost, the mirror reports one flow in place of two, unless the later one has another
///     reply tuple or lacks a status bit that the earlier one had. (A NEW alone does not show that a flow is another one:
///     the kernel sends it again with each packet when another program's reliable socket has missed it.)
/// - After a loss, a DESTROY of an unknown flow ends a known flow of the same tuple that neither the dump under way nor an
///   event since it began has confirmed. If it was a repeat, of a flow that had ended earlier, the known flow begins again
///   with the dump. While nothing is known to be missing, such a DESTROY is left out.
/// - Where a rule chooses a flow's events (`ct event set`), the mirror learns the rest from the next dump. The same is true of
///   a flow that a dump misses because `net.netfilter.nf_conntrack_buckets` is changed during it.
///
/// # Example
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use std::time::Instant;
///
/// use nlring::conntrack::{Change, Mirror, MirrorOptions};
/// use nlring::{Engine, Protocol, Socket};
///
/// let mut engine = Engine::builder().build()?;
/// let builder = Socket::builder(Protocol::NETFILTER).groups(Mirror::GROUPS);
/// let id = engine.add(builder.recv_buffer_bytes(8 << 20).open()?)?;
/// let mut running = engine.start()?;
///
/// let mut mirror = Mirror::new(MirrorOptions::default());
/// let print = |change: Change<'_>| match change {
///     Change::Flow { flow, is_resynced } => {
///         println!("{:?} {} -> {}, resynced: {is_resynced}", flow.kind, flow.orig.src, flow.orig.dst);
///     }
///     Change::Resynced(resync) => println!("{} flows, {} lost", resync.entry_count, resync.lost_count),
///     _ => {}
/// };
/// loop {
///     let now = Instant::now();
///     let timeout = mirror.due(now).map(|due| due.saturating_duration_since(now));
///     let _ = running.poll(timeout, |event, _| {
///         mirror.feed(&event, print);
///         ControlFlow::<()>::Continue(())
///     })?;
///     mirror.advance(running.socket(id).expect("it is not removed"), print)?;
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
pub struct Mirror {
    rounds: Rounds,
    follower: Follower,
    sweep: Sweep,
    /// When its clock was 0.
    start: Instant,
    /// What `CLOCK_REALTIME` said at a moment of late, in nanoseconds: asking it for each event would cost more.
    noted_time: (Instant, u64),
}

/// How a [`Mirror`] is kept.
#[derive(Clone, Copy, Debug)]
pub struct MirrorOptions {
    intervals: Intervals,
    memory_bytes: usize,
}

impl MirrorOptions {
    /// The default ones.
    pub fn new() -> Self {
        Self {
            intervals: Intervals::new(INTERVAL, INTERVAL),
            memory_bytes: usize::MAX,
        }
    }

    /// The least time between the beginnings of two dumps after losses: 10 s, unless it is set. While losses go on and rounds fail,
    /// it becomes twice as long each time, up to 8 times; after the last loss it is the interval again. With [`Duration::MAX`] a loss is never repaired.
    #[must_use]
    pub fn resync_interval(mut self, interval: Duration) -> Self {
        (self.intervals.loss, self.intervals.change) = (interval, interval);
        self
    }

    /// How often the mirror compares itself with the kernel's table when nothing is known to be wrong: the time between the
    /// beginnings of two such audits. [`Duration::MAX`] means never.
    ///
    /// Unless it is set, the mirror chooses a time by how long its last dump took, so that dumping takes at most 1 % of the
    /// time, and at least 15 s: about four minutes with a million flows.
    #[must_use]
    pub fn audit_interval(mut self, interval: Duration) -> Self {
        self.intervals.audit = Some(interval);
        self
    }

    /// How much memory the flows may take, with the events that are held for the first dump: about 180 bytes a flow. Beside it
    /// come up to 9 MiB for the ends that the mirror remembers, and 18 bytes for each flow that ends while a dump is read.
    ///
    /// Unless it is set, there is no bound of the mirror's own: the kernel bounds the flows (`net.netfilter.nf_conntrack_max`),
    /// and a smaller bound would leave some out.
    ///
    /// Where it is reached, new flows are not kept. Their events are still handed out as the kernel sends them, and nothing is
    /// made up for them: so a flow whose NEW was lost may begin with an update. [`Mirror::is_synced`] is false then, and
    /// [`Mirror::health`] says why. As soon as an eighth of the memory is free again, a round makes the table complete
    /// ([`ResyncReason::Room`]).
    #[must_use]
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }
}

impl Default for MirrorOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What a [`Mirror`] hands out.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are of the large one, and none is kept"
)]
pub enum Change<'a> {
    /// Of one flow.
    Flow {
        /// What became of it. An event that the kernel sent has everything that was in it.
        flow: Flow<'a>,
        /// It stands in for an event that was lost, or that the kernel never sent. It has what the mirror keeps.
        is_resynced: bool,
    },
    /// The table is the kernel's again, or for the first time.
    Resynced(Resync),
}

impl Mirror {
    /// The groups that its socket must be in. They need `CAP_NET_ADMIN` in the network namespace's user namespace.
    pub const GROUPS: [Group; 3] = [Group::New, Group::Update, Group::Destroy];

    /// A mirror that is empty. The kernel is asked for the table when it is first [advanced](Self::advance).
    pub fn new(options: MirrorOptions) -> Self {
        let now = Instant::now();
        let mut follower = Follower::new();
        follower.budget = Budget::new(options.memory_bytes);
        Self {
            rounds: Rounds::new(options.intervals, now),
            follower,
            sweep: Sweep::new(now),
            start: now,
            noted_time: (now, realtime_ns()),
        }
    }

    /// Takes an event of the socket that is mirrored. Those of other sockets must not be passed in.
    pub fn feed(&mut self, event: &Event<'_>, mut f: impl FnMut(Change<'_>)) {
        match event {
            Event::Messages(_, list) => {
                self.set_clock(Instant::now());
                for message in list {
                    self.feed_one(&message, &mut f);
                }
            }
            Event::Lost(..) | Event::Notice(..) => {
                if let Some(missing) = event.missing() {
                    self.note_missing(&missing);
                }
            }
        }
    }

    /// Takes note of what is missing of the events, for those who take the messages apart: [`feed_message`](Self::feed_message).
    pub fn note_missing(&mut self, missing: &Missing) {
        match missing {
            Missing::Lost(loss) => self.note_loss(loss),
            Missing::Delayed(loss) => self.note_delay(loss),
            Missing::Unreadable => self.note_unreadable(),
        }
    }

    /// Takes a message of the socket that is mirrored: for those who receive without an [`Engine`](crate::Engine). The
    /// kernel's acknowledgements (`NLMSG_ERROR`) are to be passed in too.
    pub fn feed_message(&mut self, message: &Message<'_>, mut f: impl FnMut(Change<'_>)) {
        self.set_clock(Instant::now());
        self.feed_one(message, &mut f);
    }

    fn feed_one(&mut self, message: &Message<'_>, f: Out<'_>) {
        let is_barrier = self.rounds.feed_barrier(message)
            || self.sweep.feed_barrier(message, &mut self.follower, f);
        if !is_barrier {
            self.follower.feed(message, self.rounds.is_synced(), f);
        }
    }

    /// Deliveries failed of a reliable socket: NEW and UPDATE events may be missing. They are not counted as lost.
    pub fn note_delay(&mut self, loss: &Loss) {
        self.note_loss(&Loss { count: 0, ..*loss });
    }

    /// Events were lost.
    pub fn note_loss(&mut self, loss: &Loss) {
        self.prepare_for_loss();
        let now = Instant::now();
        self.rounds.note_loss(loss, &mut self.follower, now);
    }

    /// A datagram could not be read: it was truncated, or malformed.
    pub fn note_unreadable(&mut self) {
        self.prepare_for_loss();
        let now = Instant::now();
        self.rounds.note_unreadable(&mut self.follower, now);
    }

    fn prepare_for_loss(&mut self) {
        self.follower.note_loss();
        self.sweep.abandon();
    }

    /// Does what is due, for about half a millisecond at most. `events` is the socket that is mirrored.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): the socket is not in all of [`GROUPS`](Self::GROUPS), and the
    /// text names the missing ones. That is looked at once for each socket, when a round begins: it may leave them at its end.
    ///
    /// Any other: the kernel could not be asked, or refused. The mirror follows the events all the same, and asks again: for a
    /// dump after the interval, about flows whose time is over after 10 s, and for an acknowledgement by the events' socket
    /// after 1 s. [`Mirror::health`] keeps the error until it works.
    pub fn advance(&mut self, events: &Socket, mut f: impl FnMut(Change<'_>)) -> Result<()> {
        let now = Instant::now();
        self.noted_time = (now, realtime_ns());
        self.set_clock(now);
        let slice = &mut Slice::new(now);
        // A round that began now would take the events that are still held for younger than its dump.
        if !self.follower.end_holding(slice, &mut f) || !self.follower.clear(slice) {
            return Ok(());
        }
        if self.rounds.is_idle()
            && let Some(since) = self.follower.short_since()
        {
            self.rounds.note_room(since, now);
        }
        let progress = self.rounds.advance(&mut self.follower, events, now)?;
        if progress == Progress::Merges {
            self.merge(&mut Slice::new(Instant::now()), &mut f);
        }
        let is_at_rest = self.rounds.is_synced() && !self.rounds.is_under_way();
        if is_at_rest && self.follower.is_cleared() {
            let follower = &mut self.follower;
            self.sweep.advance(follower, events, now, &mut f)?;
        }
        Ok(())
    }

    /// To be called when the socket has left its groups, and all that it had received was taken: hands out what is still held
    /// back for the first dump and, where something is in doubt, dumps once more and merges that, all at once.
    ///
    /// # Errors
    ///
    /// As of [`advance`](Self::advance). What was held back is handed out all the same.
    pub fn finish(&mut self, f: impl FnMut(Change<'_>)) -> Result<()> {
        self.finish_with(None, f)
    }

    /// The same as [`finish`](Self::finish), but a stop ends the wait for the dump.
    ///
    /// # Errors
    ///
    /// As of [`finish`](Self::finish), and [`ErrorKind::Stopped`](crate::ErrorKind::Stopped).
    pub fn finish_until(&mut self, stop: &StopHandle, f: impl FnMut(Change<'_>)) -> Result<()> {
        self.finish_with(Some(stop), f)
    }

    fn finish_with(
        &mut self,
        stop: Option<&StopHandle>,
        mut f: impl FnMut(Change<'_>),
    ) -> Result<()> {
        self.set_clock(Instant::now());
        if self.follower.held.is_ending() {
            // Events of before a loss, and therefore of before the dump.
            self.follower.end_holding(&mut Slice::endless(), &mut f);
        }
        let dumped = if self.rounds.is_synced() && self.follower.short_since().is_none() {
            Ok(())
        } else {
            self.rounds.dump_at_end(&mut self.follower, stop)
        };
        if dumped.is_ok() && self.rounds.is_merging() {
            self.merge(&mut Slice::endless(), &mut f);
        }
        self.follower.note_loss();
        self.follower.end_holding(&mut Slice::endless(), &mut f);
        dumped
    }

    fn merge(&mut self, slice: &mut Slice, f: Out<'_>) {
        let start = Instant::now();
        if !self.follower.is_merging() {
            self.follower.begin_merge();
        }
        let is_merged = self.follower.merge(slice, f);
        self.rounds.note_time(start);
        if is_merged {
            self.sweep.abandon();
            let merged = Merged {
                entry_count: self.len(),
                found_count: self.follower.finish(),
                is_open: false,
            };
            if let Some(mut resync) = self.rounds.finish(merged, &mut self.follower, start) {
                self.follower.count_in(&mut resync);
                f(Change::Resynced(resync));
            }
        }
    }

    fn set_clock(&mut self, now: Instant) {
        self.follower.now_seconds = self.seconds(now);
        let (noted_at, noted_ns) = self.noted_time;
        let passed = now.saturating_duration_since(noted_at).as_nanos();
        self.follower.received_ns = noted_ns.saturating_add(u64::try_from(passed).unwrap_or(0));
    }

    fn seconds(&self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.start).as_secs();
        u32::try_from(passed).unwrap_or(u32::MAX)
    }

    /// When [`advance`](Self::advance) is to be called next, though no event may come: at once while a dump is under way.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if !self.follower.is_cleared() || self.follower.held.is_ending() {
            return Some(now);
        }
        if self.rounds.is_idle() && self.follower.short_since().is_some() {
            return Some(now);
        }
        let due = self.rounds.due(now);
        if !self.rounds.is_synced() || self.rounds.is_under_way() {
            return due; // no flow is asked about until then
        }
        let of_sweep = self.sweep.due(&self.follower);
        [due, of_sweep].into_iter().flatten().min()
    }

    /// How right the table is, and what stands in the way of repairing it.
    pub fn health(&self) -> MirrorHealth<'_> {
        let health = self.rounds.health();
        MirrorHealth {
            error: health.error.or(self.sweep.error.as_deref()),
            ..health.with_budget(&self.follower.budget)
        }
    }

    /// Whether nothing is known to be missing.
    pub fn is_synced(&self) -> bool {
        self.rounds.is_synced() && !self.follower.budget.is_short()
    }

    /// Whether the first round is over: before, not all flows of the kernel's are there.
    pub fn is_complete(&self) -> bool {
        !self.rounds.is_first()
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.follower.flows.live_count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The flow of a key, as an [`EventKind::Entry`].
    pub fn get(&self, key: &Key) -> Option<Flow<'_>> {
        let slot = self.follower.flows.find(&Identity::from(*key)).live?;
        Some(self.flow(slot, Instant::now()))
    }

    /// The flow with this reply tuple, in a zone.
    pub fn get_by_reply(&self, reply: &Tuple, zone: Option<Zone>) -> Option<Flow<'_>> {
        let slot = self.follower.flows.find_by_reply(reply, zone)?;
        Some(self.flow(slot, Instant::now()))
    }

    /// The flows with this id: nearly always one at most.
    pub fn find_by_id(&self, id: u32) -> impl Iterator<Item = Flow<'_>> {
        let (slots, now) = (self.follower.flows.find_by_id(id), Instant::now());
        slots.map(move |slot| self.flow(slot, now))
    }

    /// All flows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Flow<'_>> {
        self.iter_from(0).map(|(_, flow)| flow)
    }

    /// The same, from a position on, so that it can be left off and gone on with later: going through a large table at once
    /// holds up the events. 0 is the first position; the number beside each flow is that behind it. Between two calls the
    /// mirror may take what comes. A flow that is there all the time is in one of the parts, once; one that comes, goes or
    /// changes meanwhile may be in either state, and one whose key another flow takes over is a flow of its own.
    ///
    /// # Example
    ///
    /// ```
    /// use nlring::conntrack::{Mirror, MirrorOptions};
    ///
    /// let mirror = Mirror::new(MirrorOptions::default());
    /// let mut position = 0;
    /// loop {
    ///     let before = position;
    ///     for (next, flow) in mirror.iter_from(position).take(1000) {
    ///         println!("{} -> {}", flow.orig.src, flow.orig.dst);
    ///         position = next;
    ///     }
    ///     if position == before {
    ///         break; // there are no more
    ///     }
    ///     // Here events are taken, and the mirror advances.
    /// }
    /// ```
    pub fn iter_from(&self, position: usize) -> impl Iterator<Item = (usize, Flow<'_>)> {
        let (slots, now) = (self.follower.flows.live_from(position), Instant::now());
        slots.map(move |slot| (slot as usize + 1, self.flow(slot, now)))
    }

    fn flow(&self, slot: Slot, now: Instant) -> Flow<'_> {
        let flows = &self.follower.flows;
        flows.flow(slot, EventKind::Entry, self.seconds(now))
    }

    /// How many acknowledgements the mirror has asked for by the events' socket. Each is a datagram that the socket receives, or
    /// drops, beside the events.
    pub fn request_count(&self) -> u64 {
        self.rounds.request_count() + self.sweep.request_count()
    }

    /// How many DESTROY events were left out since the flow's end was handed out before, or since another flow of the same
    /// tuple had begun since: other programs' reliable sockets have the kernel send such an event again to all.
    pub fn repeated_count(&self) -> u64 {
        self.follower.repeated_count
    }

    /// How many NEW and UPDATE events were left out since they came behind their flow's DESTROY, or said that the flow is
    /// dying already.
    pub fn late_count(&self) -> u64 {
        self.follower.late_count
    }
}

/// `CLOCK_REALTIME`, nanoseconds since 1970.
fn realtime_ns() -> u64 {
    to_ns(SystemTime::now())
}
