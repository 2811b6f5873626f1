//! A copy of the kernel's routing tables that is repaired after losses.

mod doubt;
mod fib;
mod kept;
mod merge;
mod replaceable;
mod shown;
mod silent;
mod slots;
#[cfg(any(test, fuzzing))]
pub(super) mod tests;

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use super::{DumpFilter, Filter, Group, Route};
use crate::Family;
use crate::engine::{Event, Loss, Missing, StopHandle};
use crate::error::Result;
#[cfg(doc)]
use crate::event_kind::EventKind;
use crate::message::Message;
#[cfg(doc)]
use crate::mirror::ResyncReason;
use crate::mirror::{Budget, Merged, MirrorHealth, MirrorOptions, Progress, Resync, Rounds, Slice};
use crate::socket::Socket;
use fib::Fib;
use kept::Place;
use shown::Selection;
use silent::Devices;

/// What a [`Mirror`] hands out.
///
/// # Example
///
/// ```
/// use nlring::EventKind;
/// use nlring::route::Change;
///
/// fn line(change: &Change<'_>) -> Option<String> {
///     match change {
///         Change::Route { route, is_resynced } => {
///             let sign = if route.kind == EventKind::Delete { '-' } else { '+' };
///             Some(format!("{sign} {:?}/{} resynced: {is_resynced}", route.dst, route.dst_prefix_len))
///         }
///         Change::Resynced(resync) => Some(resync.to_string()),
///         _ => None,
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is lent to a callback, and nearly all are routes"
)]
#[non_exhaustive]
pub enum Change<'a> {
    /// A route is new, has changed, or is gone.
    Route {
        /// The route.
        route: Route<'a>,
        /// No event reported the change; the mirror found it. The route has the values that the mirror keeps.
        is_resynced: bool,
    },
    /// The table equals the kernel's, again or for the first time.
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

/// A copy of the kernel's routing tables that is repaired after losses: IPv4, IPv6 and MPLS routes of all tables.
///
/// A mirror begins with a dump and follows the events. When events were lost or are not sufficient, another dump makes
/// it equal to the kernel's tables again. It takes the events of one socket that is in all of [`GROUPS`](Self::GROUPS),
/// and hands out changes.
///
/// # How it follows the kernel
///
/// - Route events alone are not enough, even without a loss. A device that goes down removes its IPv4 routes without an
///   event. A deleted address or nexthop object also removes or changes routes without an event. So the mirror also
///   follows devices, addresses and nexthop objects, all through one socket so that their order is kept. It requests a
///   dump when they may have changed routes: 50 ms later, and at most once a second. After losses it requests one at
///   most every 10 s ([`MirrorOptions`]).
/// - Other changes show no sign at all: a router advertisement changes the hop limit, the MTU and the preference of
///   IPv6 routes, including static ones. So the mirror audits its tables while nothing is known to be wrong: it dumps
///   and merges. A change without a sign reaches the mirror after [`MirrorOptions::audit_interval`] plus the time of a
///   dump. Differences that an audit finds are handed out as after a loss, and a [`Change::Resynced`] with
///   [`ResyncReason::Audit`] follows. An audit that finds nothing hands out nothing and is only counted
///   ([`Mirror::health`]). [`Mirror::is_synced`] stays true during an audit. A loss during an audit turns it into a
///   repair.
/// - A dump of a changing table may skip routes, and the kernel does not report this. The mirror knows when it can have
///   happened. It then sets [`Resync::is_interrupted`], and another dump decides after 1 to 10 s. (After an audit, the
///   next audit decides.) An IPv6 route that is missing from six dumps in a row is considered gone.
/// - Since Linux 6.16 the kernel may report two changes of one IPv6 multipath route in the wrong order, if two
///   processes make them at once (changes of IPv6 routes no longer take the lock of all network configuration). The
///   mirror follows the last event, and requests a dump if the two are inconsistent.
/// - While it builds a dump, the kernel holds the lock of all network configuration for about 30 KiB of it at a time
///   (Linux v6.18, net/core/rtnetlink.c, `rtnl_dumpit`), and [`advance`](Self::advance) waits until that lock is free.
///
/// # What it hands out
///
/// The changes alone are enough to keep a table: there is an [`EventKind::New`] for each new route, another one when
/// something about the route has changed, and an [`EventKind::Delete`] when it is deleted. What the kernel reports
/// twice is handed out once. What the kernel does not report is made up, with `is_resynced`:
///
/// - The routes of the first dump. Before that dump is merged, nothing is handed out.
/// - The deletion of a route that another one has replaced.
/// - The rest of an IPv6 route with gateways after one of its hops was deleted: it is one route, whose hops change.
/// - Lost changes: the last state of each route, not in the order in which the changes happened.
///
/// All of these are counted in the next [`Resync`]. A `New` of a route that already existed counts as an update.
///
/// # With a filter
///
/// [`with_filter`](Self::with_filter) creates a mirror that contains and hands out only routes that match a filter. All
/// counts are of these routes. The socket must have no program other than [`Filter::program_for_mirror`].
///
/// - A route is handed out as [`EventKind::New`] when it starts to match, and as [`EventKind::Delete`] when it stops.
///   This happens to IPv6 routes with gateways, whose hops and protocol can change while they are the same route, and
///   to routes of nexthop objects. `is_resynced` is false if an event has reported the change. The `Delete` then has
///   the values of the event: the route as it is now, which no longer matches.
/// - The mirror keeps all routes that match by their family, table, destination and metric, because an event that
///   replaces a route names only the new one. These take memory. A filter for a protocol alone keeps all tables.
/// - If all matching routes are in one table, the kernel leaves routes of other tables out of dumps (Linux 4.20).
/// - The program passes deletions of routes that do not match if they can make a dump skip routes that do: for IPv6 all
///   in the table, for IPv4 those to the same address.
/// - While [`MirrorOptions::memory_bytes`] leaves no room for a route, its events are handed out if the events
///   themselves match. Such a route may never be deleted.
///
/// # What it keeps
///
/// - Two messages report the same route if they differ in nothing but the states of its hops (such as
///   [`route_flags::LINKDOWN`](super::route_flags::LINKDOWN)) or, with a nexthop object, in nothing but its hops. An
///   IPv6 route with gateways is the same while it has the same table, destination, source, metric and type. (Routes
///   that were learned from a router, by [`protocol`](Route::protocol), and have one gateway are separate routes.) An
///   MPLS route is the same while it has the same label.
/// - Age and expiry ([`Route::cache_info`]) are not kept. The states of hops are those of the last event or dump. The
///   hops of an IPv6 route are in the mirror's own order.
///
/// # Example
///
/// ```
/// use std::ops::ControlFlow;
/// use std::time::Instant;
///
/// use nlring::EventKind;
/// use nlring::route::{Change, Mirror};
/// use nlring::{Engine, MirrorOptions, Protocol, Socket};
///
/// let socket = Socket::builder(Protocol::ROUTE).groups(Mirror::GROUPS).recv_buffer_bytes(8 << 20).open()?;
/// let mut engine = Engine::builder().build()?;
/// let id = engine.add(socket)?;
/// let mut running = engine.start()?;
///
/// let mut mirror = Mirror::new(MirrorOptions::new());
/// let print = |change: Change<'_>| match change {
///     Change::Route { route, .. } if route.kind == EventKind::New => println!("+ {:?}", route.dst),
///     Change::Route { route, .. } => println!("- {:?}", route.dst),
///     Change::Resynced(resync) => println!("{} routes", resync.entry_count),
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
    fib: Fib,
    rounds: Rounds,
    devices: Devices,
}

impl Mirror {
    /// The groups that the events' socket must be in. Joining them needs no capability.
    pub const GROUPS: [Group; 7] = [
        Group::Ipv4Route,
        Group::Ipv6Route,
        Group::MplsRoute,
        Group::Link,
        Group::Ipv4Address,
        Group::Ipv6Address,
        Group::Nexthop,
    ];

    /// Creates an empty mirror. It requests the routes from the kernel when it first [advances](Self::advance).
    pub fn new(options: MirrorOptions) -> Self {
        Self::with_selection(options, None)
    }

    /// Creates an empty mirror of the routes that match a filter. [With a filter](Self#with-a-filter) says what it
    /// shows and what it keeps.
    ///
    /// Give its socket the filter's [program](Filter::program_for_mirror), so that the kernel rejects the events of
    /// routes that can never match. The mirror is also correct without it. The socket must not have a different one.
    ///
    /// ```
    /// use nlring::route::{Filter, Mirror};
    /// use nlring::{ErrorKind, MirrorOptions, Protocol, Socket};
    ///
    /// let filter: Filter = "table main and dst 10.0.0.0/8 or-longer and not proto kernel".parse()?;
    /// let socket = Socket::builder(Protocol::ROUTE)
    ///     .filter(&filter.program_for_mirror()?)
    ///     .groups(Mirror::GROUPS)
    ///     .open()?;
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
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): a term asks about an event, such as `event new` or
    /// `portid 0`.
    pub fn with_filter(options: MirrorOptions, filter: Filter) -> Result<Self> {
        Ok(Self::with_selection(options, Selection::of(filter)?))
    }

    fn with_selection(options: MirrorOptions, selection: Option<Selection>) -> Self {
        let mut fib = Fib::new();
        fib.selection = selection;
        fib.budget = Budget::new(options.memory_bytes);
        Self {
            fib,
            rounds: Rounds::new(options.intervals_with_changes(), Instant::now()),
            devices: Devices::default(),
        }
    }

    /// Feeds an event of the mirrored socket. Events of other sockets must not be fed. Changes are handed to `f`.
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

    /// Records that events are missing ([`Event::missing`]), for a caller that feeds each message with
    /// [`feed_message`](Self::feed_message).
    pub fn note_missing(&mut self, missing: &Missing) {
        match missing {
            Missing::Lost(loss) => self.note_loss(loss),
            Missing::Delayed(loss) => self.note_loss(&Loss { count: 0, ..*loss }),
            Missing::Unreadable => self.note_unreadable(),
        }
    }

    /// Feeds a message of the mirrored socket, for a caller that receives without an [`Engine`](crate::Engine). All
    /// messages of the socket must be fed in order, including the kernel's acknowledgements (`NLMSG_ERROR`). Changes
    /// are handed to `f`.
    pub fn feed_message(&mut self, message: &Message<'_>, mut f: impl FnMut(Change<'_>)) {
        if self.rounds.feed_barrier(message) {
            return; // the next advance begins to merge
        }
        if self.fib.feed(message, &mut f) {
            // While events are missing, some events do not fit, and a round will follow anyway.
            if self.rounds.is_synced() || self.rounds.is_under_way() {
                self.note_change();
            }
        } else if self.devices.is_silent_change(message) {
            self.note_change();
        }
    }

    /// Records that events were lost.
    pub fn note_loss(&mut self, loss: &Loss) {
        self.rounds.note_loss(loss, &mut self.fib, Instant::now());
    }

    /// Records that a datagram could not be read, because it was truncated or malformed.
    pub fn note_unreadable(&mut self) {
        self.rounds.note_unreadable(&mut self.fib, Instant::now());
    }

    /// Records that routes may have changed in a way that no event reports.
    fn note_change(&mut self) {
        self.rounds.note_change(&mut self.fib, Instant::now());
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
    /// Any other kind: opening a socket, requesting a dump or reading it failed. The mirror still follows the events,
    /// and tries again after the interval. [`Mirror::health`] keeps the error until this succeeds.
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

    /// Ends the mirror's work. Call it after the socket has left its groups and all its events have been fed. If the
    /// table may be wrong, it reads another dump and merges it, all at once.
    ///
    /// # Errors
    ///
    /// Those of [`advance`](Self::advance).
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

    /// When to call [`advance`](Self::advance) next even if no event arrives: at once while a dump is being read or
    /// merged. `None`: not until an event arrives.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let has_work = self.rounds.is_idle() && self.fib.short_since().is_some();
        if has_work || !self.fib.is_cleared() {
            Some(now)
        } else {
            self.rounds.due(now)
        }
    }

    /// How far the table can be trusted, and what prevents its repair.
    pub fn health(&self) -> MirrorHealth<'_> {
        self.rounds.health().with_budget(&self.fib.budget)
    }

    /// Whether nothing is known to be missing.
    pub fn is_synced(&self) -> bool {
        self.rounds.is_synced() && !self.fib.budget.is_short()
    }

    /// Whether the first round is over. Before that, routes of the kernel's tables are missing.
    pub fn is_complete(&self) -> bool {
        !self.rounds.is_first()
    }

    /// How many acknowledgements the mirror has requested through the events' socket. Each is a datagram that the
    /// socket receives or drops in addition to the events.
    pub fn request_count(&self) -> u64 {
        self.rounds.request_count()
    }

    /// How many routes the mirror has, not counting those that do not match its filter.
    pub fn len(&self) -> usize {
        self.fib.len()
    }

    /// Whether the mirror has no route.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the mirror requests from the kernel to compare itself with it: all routes, or with a filter those of one
    /// table, if all that match are in that table.
    pub fn dump_filter(&self) -> DumpFilter {
        self.fib.dump_filter()
    }

    /// All routes, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Route<'_>> {
        self.fib.iter()
    }

    /// All routes from a position on, each with the position after it. 0 is the first position.
    ///
    /// Going through a large table at once would delay the events. With positions it can be done in parts, and the
    /// mirror can be fed between two parts. A route that exists all the time is in exactly one part. A route that is
    /// added, deleted or changed between two parts appears as it was before or as it is after. A route that has
    /// replaced another is a separate route.
    pub fn iter_from(&self, position: usize) -> impl Iterator<Item = (usize, Route<'_>)> {
        self.fib.iter_from(position)
    }

    /// The routes to this IPv4 or IPv6 prefix in a table, whatever their metrics. Default routes have `0.0.0.0` or `::`
    /// and a length of 0. This is not a longest-prefix match: only the kernel knows which route it takes. A
    /// `prefix_len` above 32 or 128 finds nothing.
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

    /// The route of this MPLS label. A label has 20 bits; a larger number finds nothing.
    pub fn get_by_label(&self, label: u32) -> Option<Route<'_>> {
        let place = Place::new(Family::MPLS, super::table::MAIN, kept::label_bytes(label));
        self.fib.at(place).next()
    }
}

/// A mirror's size and state, without its routes.
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
