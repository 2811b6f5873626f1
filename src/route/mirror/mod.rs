//! A copy of the kernel's routing tables that stays right.

mod fib;
mod kept;
mod merge;
mod silent;
mod slots;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Group, Route};
use crate::Family;
use crate::engine::{Event, Loss, Missing, StopHandle};
use crate::error::Result;
use crate::message::Message;
#[cfg(doc)]
use crate::mirror::ResyncReason;
use crate::mirror::{
    Budget, INTERVAL, Intervals, Merged, MirrorHealth, Progress, Resync, Rounds, Slice,
};
use crate::socket::Socket;
use fib::Fib;
use kept::Place;
use silent::Devices;

/// The least time between the beginnings of two dumps after changes that no event reports.
const CHANGE_INTERVAL: Duration = Duration::from_secs(1);

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
            intervals: Intervals::new(INTERVAL, CHANGE_INTERVAL),
            memory_bytes: usize::MAX,
        }
    }

    /// The least time between the beginnings of two dumps after losses: 10 s, unless it is set. A dump takes time that the
    /// events then lack. It bounds the time after changes, too. While losses go on and rounds fail,
    /// it becomes twice as long each time, up to 8 times; after the last loss it is the interval again. With [`Duration::MAX`] a loss is never repaired.
    #[must_use]
    pub fn resync_interval(mut self, interval: Duration) -> Self {
        self.intervals.loss = interval;
        self.intervals.change = self.intervals.change.min(interval);
        self
    }

    /// The least time between the beginnings of two dumps after changes that no event reports: 1 s, unless it is set.
    #[must_use]
    pub fn change_interval(mut self, interval: Duration) -> Self {
        self.intervals.change = interval;
        self
    }

    /// How often the mirror compares itself with the kernel's tables when nothing is known to be wrong: the time between the
    /// beginnings of two such audits. [`Duration::MAX`] means never.
    ///
    /// Unless it is set, the mirror chooses a time by how long its last dump took, so that dumping takes at most 1 % of the
    /// time, and at least 15 s.
    #[must_use]
    pub fn audit_interval(mut self, interval: Duration) -> Self {
        self.intervals.audit = Some(interval);
        self
    }

    /// How much memory the routes may take: some 150 bytes for a simple one. While a dump is read, routes that end are kept beside
    /// it until it is merged.
    ///
    /// Unless it is set, there is no bound of the mirror's own: a smaller one than the kernel's tables need would leave routes
    /// out.
    ///
    /// Where it is reached, new routes are not kept. Their events are still handed out as the kernel sends them, and nothing is
    /// made up for them. [`Mirror::is_synced`] is false then, and [`Mirror::health`] says why. As soon as an eighth of the
    /// memory is free again, a round makes the table complete ([`ResyncReason::Room`]).
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

/// What a [`Mirror`] tells.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is lent to a callback, and nearly all are routes"
)]
#[non_exhaustive]
pub enum Change<'a> {
    /// A route is there, is another than before, or is gone.
    Route {
        /// The route.
        route: Route<'a>,
        /// No event of the kernel told of it: the mirror has found it out.
        is_resynced: bool,
    },
    /// The routes are the kernel's again.
    Resynced(Resync),
}

impl<'a> Change<'a> {
    fn of(route: &Route<'a>, is_resynced: bool) -> Self {
        Self::Route {
            route: *route,
            is_resynced,
        }
    }
}

/// The kernel's routes, IPv4, IPv6 and MPLS in all tables, kept from a dump and events, and put right by another dump where
/// events were lost or do not suffice.
///
/// Events of routes alone go wrong without any loss. A device that goes down takes its IPv4 routes along without a word; a
/// deleted address or nexthop object does the same, or changes them. So the mirror follows devices, addresses and nexthop
/// objects too ([`Mirror::GROUPS`], all of one socket, so that their order is kept), and asks for a dump when they may have
/// changed routes: 50 ms later, and at most once a second. After losses it asks at most every 10 s ([`MirrorOptions`]).
///
/// Other changes have no sign at all: a router advertisement changes the hop limit, the MTU and the preference of IPv6 routes,
/// static ones too. So when nothing is known to be wrong, the mirror audits its tables: it dumps and merges. A change without a
/// sign is therefore in the mirror within [`MirrorOptions::audit_interval`] and the time of a dump. (Where routes are deleted
/// while an audit's dump is read, it does not prove that others are gone: the next audit decides, and six in a row in any
/// case.) What an audit finds is handed out as after a loss, followed by a [`Change::Resynced`] with [`ResyncReason::Audit`]; an
/// audit that finds nothing hands out nothing, and is only counted ([`Mirror::health`]). [`Mirror::is_synced`] stays true during
/// an audit. A loss during an audit makes it a repair.
///
/// What it tells can be followed by whoever keeps a copy of their own: a `New` for each route when it comes, another when
/// something about it has changed, and a `Delete` when it goes. What the kernel says twice is told once, and what it does not
/// say is made up for, with `is_resynced`:
///
/// - the routes that were there before, when the first dump has been read: until then nothing is told, and what comes and
///   goes meanwhile is not told at all;
/// - a `Delete` of the route that another has replaced;
/// - an IPv6 route with gateways is one route, whose hops come and go: `New` again with those that are left;
/// - what was lost: only the last state of each route, at once with the others, and not in the order in which it happened.
///
/// All of these are counted, in the [`Resync`] that comes next: a `New` of a route that was there as an update.
///
/// What is the same route: one that differs in nothing but the states of its hops (such as
/// [`route_flags::LINKDOWN`](super::route_flags::LINKDOWN)), or, with a nexthop object, in nothing but its hops. An IPv6 route
/// with gateways is the same while it has its table, destination, source, metric and type (but those that were learned from a
/// router, by [`protocol`](Route::protocol), and have one gateway, are routes of their own); and one of MPLS while it has its
/// label. Age and expiry are left out of what is kept ([`Route::cache_info`]), the states of
/// hops are those of the last event or dump, and the hops of an IPv6 route are in an order of the mirror's own.
///
/// The dump of a table that changes may skip routes, and the kernel does not say so. The mirror notices where that can have
/// happened: [`Resync::is_interrupted`] then, and after one to ten seconds another dump decides; an IPv6 route that six dumps in
/// a row do not have is taken for gone in any case.
///
/// Since Linux 6.16 the kernel may tell of two changes of one IPv6 multipath route in the wrong order, when two processes make
/// them at once (what changes IPv6 routes no longer takes the lock of all network configuration). The mirror follows what is
/// told last, and asks for a dump where it sees that they do not fit.
///
/// While a dump is made, the kernel holds the lock of all network configuration for some 30 KiB of it at a time (Linux v6.18,
/// net/core/rtnetlink.c, `rtnl_dumpit`), and [`advance`](Self::advance) waits for who has it.
///
/// # Example
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use std::time::Instant;
/// use nlring::EventKind;
/// use nlring::route::{Change, Mirror, MirrorOptions};
/// use nlring::{Engine, Protocol, Socket};
///
/// let socket = Socket::builder(Protocol::ROUTE).groups(Mirror::GROUPS).recv_buffer_bytes(8 << 20).open()?;
/// let mut engine = Engine::builder().build()?;
/// let id = engine.add(socket)?;
/// let mut running = engine.start()?;
/// let mut mirror = Mirror::new(MirrorOptions::default());
/// let mut tell = |change: Change<'_>| match change {
///     Change::Route { route, .. } if route.kind == EventKind::New => println!("+ {:?}", route.dst),
///     Change::Route { route, .. } => println!("- {:?}", route.dst),
///     Change::Resynced(resync) => println!("{} routes", resync.entry_count),
///     _ => {}
/// };
/// loop {
///     let now = Instant::now();
///     let timeout = mirror.due(now).map(|due| due.saturating_duration_since(now));
///     let _ = running.poll(timeout, |event, _| {
///         mirror.feed(&event, &mut tell);
///         ControlFlow::<()>::Continue(())
///     })?;
///     if let Some(socket) = running.socket(id) {
///         mirror.advance(socket, &mut tell)?;
///     }
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
pub struct Mirror {
    fib: Fib,
    rounds: Rounds,
    devices: Devices,
}

impl Mirror {
    /// The groups that its socket must be in. None needs a capability.
    pub const GROUPS: [Group; 7] = [
        Group::Ipv4Route,
        Group::Ipv6Route,
        Group::MplsRoute,
        Group::Link,
        Group::Ipv4Address,
        Group::Ipv6Address,
        Group::Nexthop,
    ];

    /// An empty mirror, which asks for the first dump when it is advanced. The socket must be in its groups by then.
    pub fn new(options: MirrorOptions) -> Self {
        let mut fib = Fib::new();
        fib.budget = Budget::new(options.memory_bytes);
        Self {
            fib,
            rounds: Rounds::new(options.intervals, Instant::now()),
            devices: Devices::default(),
        }
    }

    /// Takes what an engine tells of the mirror's socket. Events of other sockets must not be given to it.
    pub fn feed(&mut self, event: &Event<'_>, mut f: impl FnMut(Change<'_>)) {
        match event {
            Event::Messages(_, list) => {
                for message in list {
                    self.feed_message(&message, &mut f);
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
            Missing::Delayed(loss) => self.note_loss(&Loss { count: 0, ..*loss }),
            Missing::Unreadable => self.note_unreadable(),
        }
    }

    /// Takes a message, for those who receive by themselves: each message of the socket, in order, also those that are no
    /// events.
    pub fn feed_message(&mut self, message: &Message<'_>, mut f: impl FnMut(Change<'_>)) {
        if self.rounds.feed_barrier(message) {
            return; // the next advance begins to merge
        }
        if self.fib.feed(message, &mut f) {
            // Where events are missing, it is expected that one does not fit, and a round will follow anyhow.
            if self.rounds.is_synced() || self.rounds.is_under_way() {
                self.note_change();
            }
        } else if self.devices.is_silent_change(message) {
            self.note_change();
        }
    }

    /// Events were lost, for those who receive by themselves.
    pub fn note_loss(&mut self, loss: &Loss) {
        self.rounds.note_loss(loss, &mut self.fib, Instant::now());
    }

    /// A datagram could not be read, for those who receive by themselves: it was truncated, or malformed.
    pub fn note_unreadable(&mut self) {
        self.rounds.note_unreadable(&mut self.fib, Instant::now());
    }

    /// Routes may have changed in a way that no event reports.
    fn note_change(&mut self) {
        self.rounds.note_change(&mut self.fib, Instant::now());
    }

    /// Does what is due: asks for a dump, reads it, and merges it, for about half a millisecond, so that the events do not
    /// wait. `events` is the socket that they come by. To be called after each turn, and at [`due`](Self::due).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): the socket is not in all of [`GROUPS`](Self::GROUPS), and the
    /// text names the missing ones. That is looked at once for each socket, when a round begins: it may leave them at its end.
    ///
    /// Any other: opening a socket, asking for a dump or reading it failed. The mirror follows the events all the same, and
    /// tries again after the interval. [`Mirror::health`] keeps the error until it works.
    pub fn advance(&mut self, events: &Socket, mut f: impl FnMut(Change<'_>)) -> Result<()> {
        let now = Instant::now();
        let slice = &mut Slice::new(now);
        if !self.fib.clear(slice) {
            return Ok(());
        }
        if self.rounds.is_idle()
            && let Some(since) = self.fib.short_since()
        {
            self.rounds.note_room(since, now);
        }
        let progress = self.rounds.advance(&mut self.fib, events, now)?;
        if progress == Progress::Merges {
            let start = Instant::now();
            self.fib.begin_merge();
            let is_merged = self.fib.merge(slice, &mut f);
            self.rounds.note_time(start);
            if is_merged {
                self.end_round(now, &mut f);
                self.fib.clear(slice);
            }
        }
        Ok(())
    }

    /// To be called when the socket has left its groups, and all that it had received was taken: where something is in
    /// doubt, dumps once more and merges that, all at once.
    ///
    /// # Errors
    ///
    /// As of [`advance`](Self::advance).
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
        if self.rounds.is_synced() && self.fib.short_since().is_none() {
            return Ok(());
        }
        self.rounds.dump_at_end(&mut self.fib, stop)?;
        self.fib.begin_merge();
        self.fib.merge(&mut Slice::endless(), &mut f);
        self.end_round(Instant::now(), &mut f);
        Ok(())
    }

    fn end_round(&mut self, now: Instant, f: &mut impl FnMut(Change<'_>)) {
        let (found_count, is_open) = self.fib.finish();
        let merged = Merged {
            entry_count: self.fib.len(),
            found_count,
            is_open,
        };
        if let Some(mut resync) = self.rounds.finish(merged, &mut self.fib, now) {
            let counts = self.fib.take_counts();
            resync.new_count = counts.new;
            resync.update_count = counts.update;
            resync.destroy_count = counts.delete;
            f(Change::Resynced(resync));
        }
    }

    /// When [`advance`](Self::advance) is to be called though no event comes; None: not at all.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let has_work = self.rounds.is_idle() && self.fib.short_since().is_some();
        if has_work || !self.fib.is_cleared() {
            Some(now)
        } else {
            self.rounds.due(now)
        }
    }

    /// How right the table is, and what stands in the way of repairing it.
    pub fn health(&self) -> MirrorHealth<'_> {
        self.rounds.health().with_budget(&self.fib.budget)
    }

    /// Whether the routes are the kernel's, as far as is known: no event is missing, and no dump is due.
    pub fn is_synced(&self) -> bool {
        self.rounds.is_synced() && !self.fib.budget.is_short()
    }

    /// Whether the first round is over: before, not all routes of the kernel's are there.
    pub fn is_complete(&self) -> bool {
        !self.rounds.is_first()
    }

    /// How many acknowledgements the mirror has asked for by the events' socket. Each is a datagram that the socket receives, or
    /// drops, beside the events.
    pub fn request_count(&self) -> u64 {
        self.rounds.request_count()
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.fib.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All routes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Route<'_>> {
        self.fib.iter()
    }

    /// The same, from a position on, so that it can be left off and gone on with later: going through a large table at once
    /// holds up the events. 0 is the first position; the number beside each route is that behind it. Between two calls the
    /// mirror may take what comes. A route that is there all the time is in one of the parts, once; one that comes, goes or
    /// changes meanwhile may be in either state, and one that has replaced another is a route of its own.
    pub fn iter_from(&self, position: usize) -> impl Iterator<Item = (usize, Route<'_>)> {
        self.fib.iter_from(position)
    }

    /// The routes to an IPv4 or IPv6 prefix in a table, of whatever metric; `0.0.0.0` or `::` with a length of 0 for the default
    /// ones. It is no longest match: that is the kernel's to say.
    pub fn find(&self, table: u32, dst: IpAddr, prefix_len: u8) -> impl Iterator<Item = Route<'_>> {
        let family = match dst {
            IpAddr::V4(_) => Family::INET,
            IpAddr::V6(_) => Family::INET6,
        };
        let place = Place::new(family, table, kept::ip_bytes(dst));
        self.fib
            .at(place)
            .filter(move |route| route.table == table && route.dst_prefix_len == prefix_len)
    }

    /// The route of an MPLS label.
    pub fn get_by_label(&self, label: u32) -> Option<Route<'_>> {
        let place = Place::new(Family::MPLS, super::table::MAIN, kept::label_bytes(label));
        self.fib.at(place).next()
    }
}
