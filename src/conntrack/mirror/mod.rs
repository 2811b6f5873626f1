//! A mirror of the conntrack table.

use crate::timestamp::Timestamp;

mod ahead;
mod answers;
mod change;
mod details;
mod entry;
mod follow;
mod held;
mod merge;
mod read;
mod shown;
mod sweep;
mod table;
#[cfg(any(test, fuzzing))]
pub(super) mod tests;
mod tombs;

use std::fmt;
use std::time::Instant;

use self::ahead::Ahead;
pub use self::change::Change;
use self::follow::Follower;
use self::shown::{Out, Selection};
use self::sweep::Sweep;
use super::{Filter, Flow, Group};
use crate::engine::{Event, Loss, Missing, StopHandle};
use crate::error::Result;
#[cfg(doc)]
use crate::event_kind::EventKind;
use crate::message::{Message, MessageList};
#[cfg(doc)]
use crate::mirror::ResyncReason;
use crate::mirror::{Budget, Merged, MirrorHealth, MirrorOptions, Progress, Rounds, Slice};
use crate::socket::Socket;

/// A copy of the kernel's conntrack table that is repaired after losses.
///
/// A mirror begins with a dump and follows the events. After events were lost, another dump makes it equal to the
/// kernel's table again. It takes the events of one socket that is in all of [`GROUPS`](Self::GROUPS), and hands out
/// changes: the kernel's events, and replacements for missing ones ([`Change::Flow`], `is_resynced`). The changes alone
/// are enough to keep a table: each flow begins with one [`EventKind::New`], no change of the flow comes before it, and
/// the flow ends with one [`EventKind::Delete`]. After a loss, [`Change::Resynced`] says that the table equals the
/// kernel's again.
///
/// # How it follows the kernel
///
/// - The first changes are the flows of the first dump. Events that arrive during that dump are held, up to 64 MiB of
///   them, and handed out after it. If there are more, or if some are lost, the held events are handed out first and
///   the dump's flows later.
/// - After losses a dump begins at most once per [`MirrorOptions::resync_interval`]. A dump delays the events by half a
///   millisecond at a time.
/// - Some changes have no event. A flow that began before anybody listened ends or changes without one (with
///   `net.netfilter.nf_conntrack_events` = 2, the default since Linux 5.19), and so does a flow that began while that
///   sysctl was 0. An nft flowtable takes and releases flows without one. So the mirror audits its table while nothing
///   is known to be wrong: it dumps and merges. A change without an event reaches the mirror after
///   [`MirrorOptions::audit_interval`] plus the time of a dump. Differences that an audit finds are handed out as after
///   a loss, and a [`Change::Resynced`] with [`ResyncReason::Audit`] follows. An audit that finds nothing hands out
///   nothing and is only counted ([`Mirror::health`]). [`Mirror::is_synced`] stays true during an audit. A loss during
///   an audit turns it into a repair.
/// - The mirror asks the kernel about flows whose timeout expired more than 2 s ago, because no event reports that
///   packets have refreshed a timeout, and some flows end without an event. It asks about up to 128 flows every 10 ms.
///   Each is found within about 10 s if there are fewer than 100,000; a million flows that expire at the same time take
///   80 s. An answer waits until the events that were queued before it have been read, and these take precedence. The
///   mirror never makes up an [`EventKind::Delete`] from the clock alone.
///
/// # With a filter
///
/// [`with_filter`](Self::with_filter) creates a mirror that contains and hands out only flows that match a filter. All
/// counts are of these flows. The socket must have no program other than [`Filter::program_for_mirror`].
///
/// - A mark, the status, the state or a label can change while a flow lives, so a flow can start and stop matching.
///   When it starts, it is handed out as an [`EventKind::New`] with everything that the mirror keeps of it. When it
///   stops, it is handed out as an [`EventKind::Delete`] with what the event contains. `is_resynced` is false in both
///   cases if an event has reported the change. The flow itself has ended only if its status has
///   [`DYING`](super::status::DYING), or if `is_resynced` is true.
/// - Events leave out what has not changed, so the filter is evaluated on the flow as the mirror keeps it. A DESTROY has
///   no labels, but it is handed out if the flow was. If a flow matches only when it ends, a made-up
///   [`EventKind::New`] comes before its DESTROY.
/// - The mirror keeps all flows that match the terms that cannot change, such as protocol, addresses and zone. These
///   take memory, and dumps contain them. A filter for a mark alone keeps the whole table.
/// - While [`MirrorOptions::memory_bytes`] leaves no room for a flow, its events are handed out if the events
///   themselves match. Such a flow may never end.
///
/// # What it leaves out
///
/// - Repeated ends: if another program's reliable socket missed a DESTROY, the kernel sends that event to all listeners
///   again. A DESTROY is a repeat if the flow's end was handed out before, made up or not. The mirror remembers the
///   last 262,144 ends as [`Repeats`](super::Repeats) does, in up to 9 MiB. Any other DESTROY of an unknown flow is
///   handed out after a made-up [`EventKind::New`]. This is how flows appear if only their ends have events (nftables'
///   `ct event set destroy`).
/// - Late events: the kernel may send an event after its flow's DESTROY. If the event does not say that the flow is
///   dying, the kernel is asked about the flow.
///
/// # What it keeps
///
/// - Everything that a dump has of a flow, except the security context: tuples, zone, id, mark, status, protocol state,
///   remaining time, start, labels, helper, master and counters. The counters are those of the last dump that had the
///   flow, because events report counters only at a flow's end. A made-up end has no counters. If the kernel does not
///   report a flow's start, [`observed_start`](Flow::observed_start) is when the mirror received its NEW event.
/// - A flow takes about 145 bytes, and 40 more if `net.netfilter.nf_conntrack_acct` is on. Once
///   [`get_by_reply`](Self::get_by_reply) or [`find_by_id`](Self::find_by_id) has been called, it takes 20 more for
///   each of the two; [`MirrorOptions::memory_bytes`] counts these from the start. A label, a helper or a master takes
///   17, 17 and 44 bytes for each of the 1024 flows that are allocated together with one that has it.
/// - The cost of an event does not depend on how often its tuple was used before. A flow that ends while a dump is read
///   takes 10 to 20 bytes until the dump is merged. A tuple that is reused takes them once for each id.
/// - Two flows have the same original tuple and zone after a NAT race ([`Flow::is_nat_clash`]). Both are kept and
///   handed out, each with its own id and reply tuple. [`get`](Self::get) finds the first one,
///   [`get_by_reply`](Self::get_by_reply) both.
///
/// # What it cannot know
///
/// - A flow that begins and ends within a loss is never reported.
/// - The loser of a NAT race has no NEW event and is in no dump (Linux v6.18). It begins with its first event, after a
///   made-up [`EventKind::New`]. That event may be its DESTROY, a second later.
/// - The kernel reuses ids: a flow has the id of an earlier flow of the same tuple if it gets the same memory. The
///   start timestamps (`net.netfilter.nf_conntrack_timestamp`) distinguish the two, and so does the NEW of the later
///   flow. Without timestamps:
///   - If the later flow's NEW was lost, or a rule suppresses it, its DESTROY counts as a repeat of the earlier one's.
///   - If the earlier flow's DESTROY was lost, the mirror reports one flow, unless the later flow has a different reply
///     tuple or lacks a status bit that the earlier one had. (A NEW alone does not prove another flow, because the
///     kernel sends it again with each packet if another program's reliable socket missed it.)
///   - If a tuple is reused while events of its earlier flows are queued, and the mirror asks the kernel about it at
///     that moment, the answer is about the latest flow. The flows in between are not reported.
/// - After a loss, the DESTROY of an unknown flow ends a known flow of the same tuple, unless the dump under way, or an
///   event since it began, has confirmed that flow. If the DESTROY was a repeat, the known flow begins again with the
///   dump. While nothing is known to be missing, such a DESTROY is left out.
/// - If a rule chooses a flow's events (`ct event set`), the mirror learns the rest from the next dump. The same is
///   true for a flow that a dump misses because `net.netfilter.nf_conntrack_buckets` changes during the dump.
///
/// # Example
///
/// ```
/// use std::ops::ControlFlow;
/// use std::time::Instant;
///
/// use nlring::conntrack::{Change, Mirror};
/// use nlring::{Engine, ErrorKind, MirrorOptions, Protocol, Socket};
///
/// let builder = Socket::builder(Protocol::NETFILTER).groups(Mirror::GROUPS);
/// let socket = match builder.recv_buffer_bytes(8 << 20).open() {
///     Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()), // without CAP_NET_ADMIN
///     opened => opened?,
/// };
/// let mut engine = Engine::builder().build()?;
/// let id = engine.add(socket)?;
/// let mut running = engine.start()?;
///
/// let mut mirror = Mirror::new(MirrorOptions::new());
/// let print = |change: Change<'_>| match change {
///     Change::Flow { flow, is_resynced, .. } => {
///         println!("{:?} {} -> {}, resynced: {is_resynced}", flow.kind, flow.orig.src, flow.orig.dst);
///     }
///     Change::Resynced(resync) => println!("{} flows, {} lost", resync.entry_count, resync.lost_count),
///     _ => {}
/// };
/// // This ends with the first dump. A collector goes on.
/// while !mirror.is_complete() {
///     let now = Instant::now();
///     let timeout = mirror.due(now).map(|due| due.saturating_duration_since(now));
///     let _ = running.poll(timeout, |event, _| {
///         mirror.feed(&event, print);
///         ControlFlow::<()>::Continue(())
///     })?;
///     mirror.advance(running.socket(id).expect("it is not removed"), print)?;
/// }
/// assert_eq!(mirror.iter().count(), mirror.len());
/// # Ok::<(), nlring::Error>(())
/// ```
pub struct Mirror {
    rounds: Rounds,
    follower: Follower,
    sweep: Sweep,
    /// When the mirror's clock was 0.
    start: Instant,
    /// A recent reading of `CLOCK_REALTIME`, because reading it for each event would cost more.
    noted_time: (Instant, Timestamp),
}

impl Mirror {
    /// The groups that the events' socket must be in. Joining them needs `CAP_NET_ADMIN` in the network namespace's
    /// user namespace.
    pub const GROUPS: [Group; 3] = [Group::New, Group::Update, Group::Destroy];

    /// Creates an empty mirror. It requests the table from the kernel when it first [advances](Self::advance).
    pub fn new(options: MirrorOptions) -> Self {
        Self::with_selection(options, None)
    }

    /// Creates an empty mirror of the flows that match a filter. [With a filter](Self#with-a-filter) says what it shows
    /// and what it keeps.
    ///
    /// Give its socket the filter's [program](Filter::program_for_mirror), so that the kernel rejects the events of
    /// flows that can never match. The mirror is also correct without it. The socket must not have a different one.
    ///
    /// ```
    /// use nlring::conntrack::{Filter, Mirror};
    /// use nlring::{ErrorKind, MirrorOptions, Protocol, Socket};
    ///
    /// let filter: Filter = "proto tcp and dport 443 and mark 7".parse()?;
    /// let builder = Socket::builder(Protocol::NETFILTER)
    ///     .filter(&filter.program_for_mirror()?)
    ///     .groups(Mirror::GROUPS);
    /// let mirror = Mirror::with_filter(MirrorOptions::new(), filter)?;
    /// assert!(mirror.is_empty());
    ///
    /// let of_events: Filter = "event new".parse()?;
    /// let refused = Mirror::with_filter(MirrorOptions::new(), of_events).unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): a term asks about an event, such as `event new`.
    pub fn with_filter(options: MirrorOptions, filter: Filter) -> Result<Self> {
        Ok(Self::with_selection(options, Selection::of(filter)?))
    }

    fn with_selection(options: MirrorOptions, selection: Option<Selection>) -> Self {
        let now = Instant::now();
        let mut follower = Follower::new();
        follower.selection = selection;
        follower.budget = Budget::new(options.memory_bytes);
        Self {
            rounds: Rounds::new(options.intervals(), now),
            follower,
            sweep: Sweep::new(now),
            start: now,
            noted_time: (now, Timestamp::now()),
        }
    }

    /// Feeds an event of the mirrored socket. Events of other sockets must not be fed. Changes are handed to `f`.
    pub fn feed(&mut self, event: &Event<'_>, mut f: impl FnMut(Change<'_>)) {
        match event {
            Event::Messages(_, list) => {
                self.set_clock(Instant::now());
                if let Some(received_at) = list.received_at() {
                    self.follower.received_at = received_at;
                }
                if list.message_count() > 1 && self.follower.is_large() {
                    return self.feed_ahead(list, &mut f);
                }
                for message in list {
                    let mut flow = Flow::decode(&message);
                    self.feed_one(&message, flow.as_mut(), &mut f);
                }
            }
            Event::Lost(..) | Event::Notice(..) => {
                if let Some(missing) = event.missing() {
                    self.note_missing(&missing);
                }
            }
        }
    }

    /// Feeds the messages, a few at a time.
    fn feed_ahead(&mut self, list: &MessageList<'_>, f: Out<'_>) {
        let (mut messages, mut ahead) = (list.iter(), Ahead::NONE);
        while ahead.decode(&mut messages) {
            self.follower.load(&ahead);
            for (message, flow) in ahead.iter_mut() {
                self.feed_one(message, flow.as_mut(), f);
            }
        }
    }

    /// Records that events are missing ([`Event::missing`]), for a caller that feeds each message with
    /// [`feed_message`](Self::feed_message).
    pub fn note_missing(&mut self, missing: &Missing) {
        match missing {
            Missing::Lost(loss) => self.note_loss(loss),
            Missing::Delayed(loss) => self.note_delay(loss),
            Missing::Unreadable => self.note_unreadable(),
        }
    }

    /// Feeds a message of the mirrored socket, for a caller that receives without an [`Engine`](crate::Engine). All
    /// messages of the socket must be fed in order, including the kernel's acknowledgements (`NLMSG_ERROR`). Changes
    /// are handed to `f`.
    pub fn feed_message(&mut self, message: &Message<'_>, mut f: impl FnMut(Change<'_>)) {
        self.set_clock(Instant::now());
        let mut flow = Flow::decode(message);
        self.feed_one(message, flow.as_mut(), &mut f);
    }

    fn feed_one(&mut self, message: &Message<'_>, flow: Option<&mut Flow<'_>>, f: Out<'_>) {
        let is_barrier = self.rounds.feed_barrier(message)
            || self.sweep.feed_barrier(message, &mut self.follower, f);
        if let Some(flow) = flow
            && !is_barrier
        {
            let is_synced = self.rounds.is_synced();
            self.follower.feed_flow(message, flow, is_synced, f);
        }
    }

    /// Records that deliveries of a reliable socket failed: NEW and UPDATE events may be missing. They do not count as
    /// lost.
    pub fn note_delay(&mut self, loss: &Loss) {
        self.note_loss(&Loss { count: 0, ..*loss });
    }

    /// Records that events were lost.
    pub fn note_loss(&mut self, loss: &Loss) {
        self.prepare_for_loss();
        let now = Instant::now();
        self.rounds.note_loss(loss, &mut self.follower, now);
    }

    /// Records that a datagram could not be read, because it was truncated or malformed.
    pub fn note_unreadable(&mut self) {
        self.prepare_for_loss();
        let now = Instant::now();
        self.rounds.note_unreadable(&mut self.follower, now);
    }

    fn prepare_for_loss(&mut self) {
        self.follower.note_loss();
        self.sweep.abandon();
    }

    /// Does what is due, for about half a millisecond at most. Call it after each turn, and at [`due`](Self::due).
    /// `events` is the mirrored socket. Changes are handed to `f`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): the socket is not in all of
    /// [`GROUPS`](Self::GROUPS), and the text names the missing ones. Each socket is checked once, when a round begins.
    /// It may leave its groups at its end.
    ///
    /// Any other kind: the kernel could not be asked, or it refused. The mirror still follows the events, and asks
    /// again: for a dump after the interval, about expired flows after 10 s, and for an acknowledgement through the
    /// events' socket after 1 s. [`Mirror::health`] keeps the error until asking succeeds.
    pub fn advance(&mut self, events: &Socket, mut f: impl FnMut(Change<'_>)) -> Result<()> {
        let now = Instant::now();
        self.noted_time = (now, Timestamp::now());
        self.set_clock(now);
        let slice = &mut Slice::new(now);
        // A round that began now would treat the events that are still held as younger than its dump.
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
            self.sweep.advance(follower, events, now)?;
        }
        Ok(())
    }

    /// Ends the mirror's work. Call it after the socket has left its groups and all its events have been fed. It hands
    /// out the events that are still held for the first dump. If the table may be wrong, it reads another dump and
    /// merges it, all at once.
    ///
    /// # Errors
    ///
    /// Those of [`advance`](Self::advance). Held events are handed out in any case.
    pub fn finish(&mut self, f: impl FnMut(Change<'_>)) -> Result<()> {
        self.finish_with(None, f)
    }

    /// Ends the mirror's work like [`finish`](Self::finish). A stop ends the wait for the dump.
    ///
    /// # Errors
    ///
    /// Those of [`finish`](Self::finish), and [`ErrorKind::Stopped`](crate::ErrorKind::Stopped).
    pub fn finish_until(&mut self, stop: &StopHandle, f: impl FnMut(Change<'_>)) -> Result<()> {
        self.finish_with(Some(stop), f)
    }

    fn finish_with(
        &mut self,
        stop: Option<&StopHandle>,
        mut f: impl FnMut(Change<'_>),
    ) -> Result<()> {
        self.set_clock(Instant::now());
        self.follower.settle_answers(&mut f); // all events have been fed
        if self.follower.held.is_ending() {
            // Events from before a loss, and therefore from before the dump.
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
        let (noted_at, noted) = self.noted_time;
        self.follower.received_at = noted + now.saturating_duration_since(noted_at);
    }

    fn seconds(&self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.start).as_secs();
        u32::try_from(passed).unwrap_or(u32::MAX)
    }

    /// When to call [`advance`](Self::advance) next even if no event arrives: at once while a dump is being read or
    /// merged. `None`: not until an event arrives.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if !self.follower.is_cleared() || self.follower.held.is_ending() {
            return Some(now);
        }
        if self.rounds.is_idle() && self.follower.short_since().is_some() {
            return Some(now);
        }
        let due = self.rounds.due(now);
        if !self.rounds.is_synced() || self.rounds.is_under_way() {
            return due; // the kernel is asked about no flow until then
        }
        let of_sweep = self.sweep.due(&self.follower);
        [due, of_sweep].into_iter().flatten().min()
    }

    /// How far the table can be trusted, and what prevents its repair.
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

    /// Whether the first round is over. Before that, flows of the kernel's table are missing.
    pub fn is_complete(&self) -> bool {
        !self.rounds.is_first()
    }
}

/// A mirror's size and state, without its flows.
impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror")
            .field("len", &self.len())
            .field("is_synced", &self.is_synced())
            .field("is_complete", &self.is_complete())
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
