//! The table of a mirror of routes, and how a dump is brought together with the events.
//!
//! # What a dump may skip
//!
//! The kernel makes a dump piece by piece, and what changes between two pieces may shift the place where it goes on. No
//! `NLM_F_DUMP_INTR` tells of it: the dumps of routes never set it.
//!
//! - IPv6: when the tree has changed, the kernel begins again at its root and skips as many nodes as it has passed
//!   (net/ipv6/ip6_fib.c, `fib6_dump_table`). If one of those has been deleted meanwhile, a node too many is skipped,
//!   anywhere.
//! - IPv4: it goes on at an address, and there at an index (net/ipv4/fib_trie.c, `fib_table_dump`, `fn_trie_dump_leaf`). If
//!   a route that it has passed has been deleted meanwhile, another with that address may be skipped.
//! - MPLS: it goes on at a label. None is skipped.
//!
//! So a dump may have a hole only if a route was deleted while it went on. Then what the dump does not have is no proof: with
//! IPv6 of anything, with IPv4 of nothing in the same place, and another is needed.
//!
//! # What an event does not say
//!
//! An event that replaces a route does not say which. It is known where there is just one that it can be, in this table; but
//! this table may lack the one that it really was, while events are missing. So where the dump has another one there, again
//! nothing is proved. The same goes for an IPv6 route from which single hops were deleted, and that is what a hole is taken for.

use std::collections::HashMap;
use std::mem;
use std::time::SystemTime;

use super::kept::{self, Key, Left};
use super::slots::{Hashes, Kind, Slot, Slots, bits};
use super::{Change, Mirror};
use crate::Family;
use crate::error::Result;
use crate::event_kind::EventKind;
use crate::message::{Message, flags};
use crate::mirror::{Budget, Table};
use crate::request::{Exchange, Requester};
use crate::route::kernel::{ROUTE_FIXED_BYTES, message_type};
use crate::route::{Group, Route};
use crate::socket::Protocol;

/// So many dumps in a row that may all have skipped a route are believed after all. One skips some percent at worst.
const MAX_MISSES: u8 = 6;
/// Merging looks at the clock after so many slots.
const LOOK_AT_CLOCK: u32 = if cfg!(test) { 1 } else { 64 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// A dump is under way: what events touch is noted.
    Noting,
    Merging,
}

/// What was handed out that no event reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub new: u64,
    pub update: u64,
    pub delete: u64,
}

impl Counts {
    fn sum(self) -> u64 {
        self.new + self.update + self.delete
    }
}

#[derive(Debug)]
pub(super) struct Fib {
    pub(super) slots: Slots,
    pub budget: Budget,
    phase: Phase,
    /// The first dump is being merged, or has been: from then on the user is told.
    tells: bool,
    /// The dump under way may have skipped IPv6 routes.
    is_holed: bool,
    /// Something changed meanwhile that no event tells of: it may have skipped any.
    is_shaken: bool,
    /// The merge leaves something open: another dump is needed.
    is_open: bool,
    cursor: Slot,
    /// Marks, and routes that were never told, are left of the last dump, from this slot on.
    uncleared: Option<Slot>,
    counts: Counts,
    /// Of these, what the merge under way has found.
    found_count: u64,
    scratch: Vec<u8>,
    rest: Vec<u8>,
    place: Vec<Slot>,
}

/// A route of an event or a dump, ready to be compared.
struct Candidate<'a> {
    route: &'a Route<'a>,
    kept: &'a [u8],
    key: Key,
    hashes: Hashes,
}

/// What a route may have replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replaced {
    None,
    One(Slot),
    /// One of several.
    Unsure,
}

impl Replaced {
    fn or(self, slot: Slot) -> Self {
        match self {
            Self::None => Self::One(slot),
            Self::One(_) | Self::Unsure => Self::Unsure,
        }
    }
}

/// The slots with each key of which one was replaced.
type ReplacedKeys = HashMap<Key, Vec<Slot>>;

impl Table for Fib {
    type Group = Group;

    const PROTOCOL: Protocol = Protocol::ROUTE;
    const GROUPS: &'static [Group] = &Mirror::GROUPS;

    /// All families at once. The kernel then makes each piece of the dump under the lock that route and link changes hold
    /// (net/core/rtnetlink.c, `rtnl_dump_all`, `rtnl_dumpit`), and the IPv6 part also under the table's, which is all that
    /// changes of IPv6 routes hold since Linux 6.16 (net/ipv6/ip6_fib.c, `fib6_dump_table`): a change whose event is told first
    /// is done when the dump is.
    fn request(&self, requester: &mut Requester) -> Result<Exchange> {
        requester.begin(message_type::GET_ROUTE, flags::DUMP, |request| {
            request.bytes(&[0; ROUTE_FIXED_BYTES])
        })
    }

    fn begin(&mut self) {
        self.clear(&|| false);
        self.budget.begin();
        self.phase = Phase::Noting;
        (self.is_holed, self.is_shaken, self.is_open) = (false, false, false);
    }

    fn take_dumped(&mut self, message: &Message<'_>) {
        let Some(route) = Route::decode(message).filter(kept::is_kept) else {
            return;
        };
        if route.kind != EventKind::Delete {
            self.with_candidate(message, &route, Self::note_dumped);
        }
    }

    fn abandon(&mut self) {
        if self.phase != Phase::Idle {
            self.uncleared = Some(0);
            self.phase = Phase::Idle;
        }
    }

    fn shake(&mut self) {
        self.is_shaken |= self.phase == Phase::Noting;
    }
}

impl Fib {
    pub(super) fn new() -> Self {
        Self {
            slots: Slots::new(),
            budget: Budget::unlimited(),
            phase: Phase::Idle,
            tells: false,
            is_holed: false,
            is_shaken: false,
            is_open: false,
            cursor: 0,
            uncleared: None,
            counts: Counts::default(),
            found_count: 0,
            scratch: Vec::new(),
            rest: Vec::new(),
            place: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.told_count()
    }

    fn has_room(&self) -> bool {
        self.budget.has_room(self.slots.used_bytes())
    }

    /// Since when routes are missing, of which a dump would find room for some. None: there are none.
    pub(super) fn short_since(&self) -> Option<SystemTime> {
        let since = self.budget.short_since?;
        let used_bytes = self.slots.used_bytes();
        self.budget.is_worth_a_dump(used_bytes).then_some(since)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Route<'_>> {
        self.iter_from(0).map(|(_, route)| route)
    }

    /// The routes in the slots from this one on, each with the number of the slot behind it.
    pub(super) fn iter_from(&self, first: usize) -> impl Iterator<Item = (usize, Route<'_>)> {
        let slots = Slot::try_from(first).map(|first| first..self.slots.slot_count());
        let told = slots.into_iter().flatten();
        told.filter_map(|slot| Some((slot as usize + 1, self.told(slot)?)))
    }

    /// The routes at a place.
    pub(super) fn at(&self, place: kept::Place) -> impl Iterator<Item = Route<'_>> {
        self.slots
            .at(self.slots.place_hash(&place))
            .filter_map(|slot| self.told(slot))
            .filter(move |route| Key::of(route).place == place)
    }

    fn told(&self, slot: Slot) -> Option<Route<'_>> {
        let is_told = self.slots.kind(slot) == Kind::Live && self.slots.has(slot, bits::TOLD);
        is_told.then(|| kept::route(self.slots.bytes(slot), EventKind::Entry))?
    }

    /// The events are ahead of the dump: from here on it is merged.
    pub(super) fn start_merge(&mut self) {
        if self.phase == Phase::Merging {
            return;
        }
        self.phase = Phase::Merging;
        self.tells = true;
        // A route that the dump has skipped and that is not known here cannot be waited for by itself.
        self.is_open |= self.is_holed;
        self.cursor = 0;
        self.found_count = 0;
    }

    /// Merges until `is_over`. True when all is merged.
    pub(super) fn merge(
        &mut self,
        is_over: &dyn Fn() -> bool,
        f: &mut impl FnMut(Change<'_>),
    ) -> bool {
        let mut count = 0u32;
        while self.cursor < self.slots.slot_count() {
            let slot = self.cursor;
            self.cursor += 1;
            if self.slots.kind(slot) != Kind::Free && !self.slots.has(slot, bits::SETTLED) {
                self.settle(self.slots.hashes(slot).place, f);
            }
            count += 1;
            if count.is_multiple_of(LOOK_AT_CLOCK) && is_over() {
                return false;
            }
        }
        true
    }

    /// After the merge: how many differences it found, and whether it leaves something open.
    pub(super) fn finish(&mut self) -> (u64, bool) {
        self.phase = Phase::Idle;
        self.uncleared = Some(0);
        self.budget.finish();
        (mem::take(&mut self.found_count), self.is_open)
    }

    /// What was handed out that no event reported, since this was asked last.
    pub(super) fn take_counts(&mut self) -> Counts {
        mem::take(&mut self.counts)
    }

    pub(super) fn is_cleared(&self) -> bool {
        self.uncleared.is_none()
    }

    /// Clears what is left of the last dump until `is_over`. True: nothing is left, and another may begin.
    pub(super) fn clear(&mut self, is_over: &dyn Fn() -> bool) -> bool {
        let mut count = 0u32;
        while let Some(slot) = self.uncleared {
            self.uncleared = (slot < self.slots.slot_count()).then(|| {
                self.slots.forget_dump(slot);
                slot + 1
            });
            count += 1;
            if count.is_multiple_of(LOOK_AT_CLOCK) && is_over() {
                break;
            }
        }
        self.is_cleared()
    }

    /// Takes an event. True: it does not suffice, a dump is needed.
    pub(super) fn take_event(
        &mut self,
        message: &Message<'_>,
        f: &mut impl FnMut(Change<'_>),
    ) -> bool {
        let Some(route) = Route::decode(message).filter(kept::is_kept) else {
            return false;
        };
        if self.phase == Phase::Idle && !self.tells {
            return false; // the first dump will have it
        }
        self.with_candidate(message, &route, |fib, candidate| {
            if fib.phase == Phase::Merging {
                fib.settle(candidate.hashes.place, f);
            }
            let is_doubtful = match route.kind {
                EventKind::New | EventKind::Update | EventKind::Entry => fib.add(candidate, f),
                EventKind::Delete => fib.delete(candidate, f),
            };
            is_doubtful || kept::is_unclear(&route)
        })
    }

    fn with_candidate<T>(
        &mut self,
        message: &Message<'_>,
        route: &Route<'_>,
        f: impl FnOnce(&mut Self, &Candidate<'_>) -> T,
    ) -> T {
        let mut scratch = mem::take(&mut self.scratch);
        kept::keep(message, &mut scratch);
        let key = Key::of(route);
        let candidate = Candidate {
            route,
            kept: &scratch,
            key,
            hashes: Hashes {
                place: self.slots.place_hash(&key.place),
                identity: self.slots.identity_hash(&scratch),
            },
        };
        let result = f(self, &candidate);
        self.scratch = scratch;
        result
    }

    // ---- Events ----

    /// A route is there.
    fn add(&mut self, event: &Candidate<'_>, f: &mut impl FnMut(Change<'_>)) -> bool {
        let is_replace = event.route.message_flags & flags::REPLACE != 0;
        let same = self.find_live(event);
        let replaced = if is_replace {
            self.replaceable(event, same)
        } else {
            Replaced::None
        };
        if let Some(slot) = same {
            let is_overtaken = self.is_overtaken(slot, event);
            let is_news = self.slots.bytes(slot) != event.kept;
            if is_news {
                self.slots
                    .set_bytes(slot, event.hashes.identity, event.kept);
            }
            self.touch(slot, is_replace, is_news);
            if is_news && self.tells {
                f(Change::of(event.route, false));
            }
            // Which one was replaced, if another could have been? (Of the IPv6 routes with gateways there is only one.)
            return replaced != Replaced::None || is_overtaken;
        }
        if let Replaced::One(slot) = replaced {
            self.end_replaced(slot, f);
        }
        let bits = match (self.tells, self.phase) {
            (false, _) => 0,
            (true, Phase::Idle) => bits::TOLD | bits::OLD,
            (true, _) => bits::TOLD,
        };
        if self.has_room() {
            let slot = self
                .slots
                .insert(event.hashes, Kind::Live, bits, event.kept);
            self.touch(slot, is_replace, false);
        } else {
            self.budget.note_left_out();
        }
        if self.tells {
            f(Change::of(event.route, false));
        }
        replaced == Replaced::Unsure
    }

    /// Whether another event should have come before this one, which tells of an IPv6 route with gateways that is there already.
    /// If it replaces none, there is a hop more now, or the route had gone. Since Linux 6.16 nothing keeps the order of what the
    /// kernel tells only after it has let go of the table: of the end of a whole multipath route, and of a new one or hops for
    /// one (net/ipv6/route.c, `__ip6_del_rt_siblings`, `ip6_route_multipath_add`; "ipv6: Get rid of RTNL for SIOCDELRT and
    /// RTM_DELROUTE" and the commits after it).
    fn is_overtaken(&self, slot: Slot, event: &Candidate<'_>) -> bool {
        let is_another = event.route.message_flags & (flags::CREATE | flags::REPLACE);
        if is_another != flags::CREATE || !self.is_current(slot) {
            return false;
        }
        let bytes = self.slots.bytes(slot);
        let adds_hops = || {
            kept::route(bytes, EventKind::New).is_some_and(|held| {
                kept::has_hops_of(event.route, &held) && !kept::has_hops_of(&held, event.route)
            })
        };
        kept::has_gateways(event.kept) && !adds_hops()
    }

    /// Whether what is kept of a route is known to follow the events up to now.
    fn is_current(&self, slot: Slot) -> bool {
        self.phase != Phase::Noting || self.slots.has(slot, bits::TOUCHED)
    }

    /// What this one may have replaced. With IPv4 it is the first route with its key (net/ipv4/fib_trie.c, `fib_table_insert`);
    /// with IPv6 the first that has gateways if it has, and has none if it has none, else the first (net/ipv6/ip6_fib.c,
    /// `fib6_add_rt2node`).
    fn replaceable(&self, event: &Candidate<'_>, same: Option<Slot>) -> Replaced {
        let is_ipv6 = event.route.family == Family::INET6;
        let has_gateways = is_ipv6 && kept::has_gateways(event.kept);
        if has_gateways && same.is_some() {
            return Replaced::None;
        }
        let (mut alike, mut other) = (Replaced::None, Replaced::None);
        for slot in self.with_key(event).filter(|slot| Some(*slot) != same) {
            if !is_ipv6 || kept::has_gateways(self.slots.bytes(slot)) == has_gateways {
                alike = alike.or(slot);
            } else {
                other = other.or(slot);
            }
            if alike == Replaced::Unsure {
                break;
            }
        }
        if alike == Replaced::None && same.is_none() {
            other
        } else {
            alike
        }
    }

    /// Ends the route that another has replaced.
    fn end_replaced(&mut self, slot: Slot, f: &mut impl FnMut(Change<'_>)) {
        self.tell_delete(slot, f);
        match self.phase {
            Phase::Noting => {
                let bits = self.slots.bits(slot) & !bits::TOLD | bits::TOUCHED | bits::REPLACED;
                let Hashes { identity, .. } = self.slots.hashes(slot);
                // One dead entry for each route, however often it is replaced while a dump is read.
                match self.find_same(identity, self.slots.bytes(slot), Kind::Dead) {
                    Some(dead) => {
                        self.slots.take_over(dead, slot);
                        self.slots.set(dead, bits);
                    }
                    None => self.slots.set_kind(slot, Kind::Dead, bits),
                }
            }
            Phase::Idle | Phase::Merging => self.slots.remove(slot),
        }
    }

    /// A route is gone.
    fn delete(&mut self, event: &Candidate<'_>, f: &mut impl FnMut(Change<'_>)) -> bool {
        let has_gateways = kept::has_gateways(event.kept);
        // With IPv4, one that a dump may skip has the ended one beside it.
        self.is_holed |= self.phase == Phase::Noting && event.route.family == Family::INET6;
        let Some(slot) = self.find_live(event) else {
            if self.phase == Phase::Noting {
                self.bury(event, 0);
            }
            if self.budget.is_short() {
                // It may have found no room.
                if self.tells {
                    f(Change::of(event.route, false));
                }
                return false;
            }
            // While a dump is under way that says enough.
            return self.phase != Phase::Noting;
        };
        if has_gateways && event.route.nexthops.is_empty() {
            return self.delete_hop(slot, event, f);
        }
        let held = kept::route(self.slots.bytes(slot), EventKind::New);
        let is_all_of_it = held.is_some_and(|held| {
            kept::has_hops_of(event.route, &held) && kept::has_hops_of(&held, event.route)
        });
        // The end of an earlier one, which comes late, or that of one that has hops more, of which it is told late
        // (`is_overtaken`).
        let is_doubtful = has_gateways && !is_all_of_it && self.phase != Phase::Noting;
        self.end(slot, event, f);
        is_doubtful
    }

    /// An IPv6 route is gone, or one of its hops.
    fn delete_hop(
        &mut self,
        slot: Slot,
        event: &Candidate<'_>,
        f: &mut impl FnMut(Change<'_>),
    ) -> bool {
        let mut rest = mem::take(&mut self.rest);
        let left = kept::without_hop(self.slots.bytes(slot), event.route, &mut rest);
        match left {
            Left::All => {}
            Left::Rest => {
                let identity = self.slots.identity_hash(&rest);
                self.slots.set_bytes(slot, identity, &rest);
                self.touch(slot, false, false);
                self.tell_update(slot, f);
            }
            Left::Nothing => self.end(slot, event, f),
        }
        self.rest = rest;
        left == Left::All
    }

    fn end(&mut self, slot: Slot, event: &Candidate<'_>, f: &mut impl FnMut(Change<'_>)) {
        if self.slots.has(slot, bits::TOLD) {
            f(Change::of(event.route, false));
        }
        if self.phase == Phase::Noting {
            self.bury(event, self.slots.bits(slot));
        }
        self.slots.remove(slot);
    }

    /// Notes that a route was ended, so that a dump does not bring it back.
    fn bury(&mut self, event: &Candidate<'_>, bits_before: u8) {
        let bits = bits_before & !bits::TOLD | bits::TOUCHED | bits::SPARED;
        let Hashes { identity, .. } = event.hashes;
        match self.find_same(identity, event.kept, Kind::Dead) {
            Some(slot) => {
                self.slots.set_bytes(slot, identity, event.kept);
                self.slots.set(slot, bits);
            }
            None => {
                self.slots
                    .insert(event.hashes, Kind::Dead, bits, event.kept);
            }
        }
    }

    fn touch(&mut self, slot: Slot, is_replace: bool, is_news: bool) {
        let replaced = if is_replace { bits::REPLACED } else { 0 };
        let changed = if is_news { bits::CHANGED } else { 0 };
        let bits = match self.phase {
            Phase::Idle => 0,
            Phase::Noting => bits::TOUCHED | replaced | changed,
            Phase::Merging => bits::SETTLED,
        };
        self.slots.set(slot, bits);
    }

    // ---- The dump ----

    fn note_dumped(&mut self, dumped: &Candidate<'_>) {
        let Hashes { identity, .. } = dumped.hashes;
        if let Some(earlier) = self.find_same(identity, dumped.kept, Kind::Pending) {
            self.slots.remove(earlier); // the dump has begun again; this is newer
        }
        let is_pending = match self.find_same(identity, dumped.kept, Kind::Live) {
            Some(live) => {
                self.slots.set(live, bits::SEEN);
                self.slots.bytes(live) != dumped.kept
            }
            None => true, // also one that was ended: whether that counts is seen in the merge
        };
        if is_pending && !self.has_room() {
            self.budget.note_left_out();
        } else if is_pending {
            self.slots
                .insert(dumped.hashes, Kind::Pending, 0, dumped.kept);
        }
    }

    /// Settles all that is at a place. That may be thousands of routes, so each is looked at a few times, whatever is beside it.
    fn settle(&mut self, place_hash: u64, f: &mut impl FnMut(Change<'_>)) {
        let before = self.counts.sum();
        let mut place = mem::take(&mut self.place);
        place.clear();
        place.extend(self.slots.at(place_hash));
        let replaced = self.replaced_keys(&place);
        self.is_open |= replaced.values().any(|slots| self.is_in_doubt(slots));
        for &slot in &place {
            if self.slots.kind(slot) == Kind::Pending {
                self.settle_pending(slot, &replaced, f);
            }
        }
        // Where one of several was deleted, the dump may have skipped another that is not known here. (Also where the only one
        // known was deleted; but that is another's event lost, and a piece of the dump that ended just between these two.)
        let is_any = |slot: &&Slot| matches!(self.slots.kind(**slot), Kind::Live | Kind::Dead);
        let is_spared = place.iter().any(|slot| self.slots.has(*slot, bits::SPARED));
        self.is_open |= is_spared && place.iter().filter(is_any).count() > 1;
        for &slot in &place {
            match self.slots.kind(slot) {
                Kind::Live => self.settle_live(slot, is_spared, f),
                Kind::Dead => self.slots.remove(slot),
                Kind::Pending | Kind::Free => {}
            }
        }
        self.place = place;
        self.found_count += self.counts.sum() - before;
    }

    fn replaced_keys(&self, place: &[Slot]) -> ReplacedKeys {
        let is_replaced = |slot: &&Slot| self.slots.has(**slot, bits::REPLACED);
        let mut keys = ReplacedKeys::default();
        for &slot in place.iter().filter(is_replaced) {
            keys.extend(self.key_of(slot).map(|key| (key, Vec::new())));
        }
        if !keys.is_empty() {
            for &slot in place {
                if let Some(slots) = self.key_of(slot).and_then(|key| keys.get_mut(&key)) {
                    slots.push(slot);
                }
            }
        }
        keys
    }

    fn settle_pending(
        &mut self,
        pending: Slot,
        replaced: &ReplacedKeys,
        f: &mut impl FnMut(Change<'_>),
    ) {
        let Hashes { identity, .. } = self.slots.hashes(pending);
        let bytes = self.slots.bytes(pending);
        if let Some(live) = self.find_same(identity, bytes, Kind::Live) {
            if self.slots.has(live, bits::TOUCHED) {
                self.slots.remove(pending);
                return;
            }
            self.slots.take_over(live, pending);
            self.tell_update(live, f);
            return;
        }
        let was_ended = self.find_same(identity, bytes, Kind::Dead).is_some();
        // Whether an event has replaced a route with the same key: that may have been this one. Another dump decides.
        let may_be_replaced = !replaced.is_empty()
            && (self.key_of(pending)).is_some_and(|key| replaced.contains_key(&key));
        if was_ended || may_be_replaced {
            self.slots.remove(pending);
            return;
        }
        self.slots.set_kind(pending, Kind::Live, bits::SEEN);
    }

    /// Whether it is unsure which of the routes with a key was replaced. It is not if this table had just those with that key that
    /// the dump has, before the events or after them: then it took the right one for replaced.
    fn is_in_doubt(&self, with_key: &[Slot]) -> bool {
        let same = |slot: Slot| {
            let bytes = self.slots.bytes(slot);
            let slots = self.slots.same(self.slots.hashes(slot).identity);
            slots.filter(move |other| kept::is_same(self.slots.bytes(*other), bytes))
        };
        let is_dumped = |slot: Slot| {
            same(slot).any(|slot| {
                self.slots.has(slot, bits::SEEN) || self.slots.kind(slot) == Kind::Pending
            })
        };
        let is_old = |slot: &Slot| {
            let was_there = same(*slot).any(|slot| self.slots.has(slot, bits::OLD));
            let is_changed = same(*slot).any(|slot| self.slots.has(slot, bits::CHANGED));
            is_dumped(*slot) == was_there && !(was_there && is_changed)
        };
        let is_new = |slot: &Slot| {
            let is_there = same(*slot).any(|slot| self.slots.kind(slot) == Kind::Live);
            is_dumped(*slot) == is_there
        };
        !with_key.iter().all(is_old) && !with_key.iter().all(is_new)
    }

    fn settle_live(&mut self, slot: Slot, is_spared: bool, f: &mut impl FnMut(Change<'_>)) {
        if self.slots.has(slot, bits::SETTLED) {
            return;
        }
        if self.slots.has(slot, bits::SEEN | bits::TOUCHED) {
            self.slots.forget_misses(slot);
        } else if (is_spared || self.may_be_skipped(slot))
            && self.slots.count_miss(slot) < MAX_MISSES
        {
            self.is_open = true;
        } else {
            self.tell_delete(slot, f);
            self.slots.remove(slot);
            return;
        }
        if !self.slots.has(slot, bits::TOLD) {
            self.slots.set_told(slot);
            self.counts.new += 1;
            self.tell(slot, EventKind::New, f);
        }
        self.slots.set(slot, bits::SETTLED);
    }

    fn may_be_skipped(&self, slot: Slot) -> bool {
        let is_ipv6 = || {
            let message = kept::message(self.slots.bytes(slot));
            message
                .is_some_and(|message| message.payload().first() == Some(&Family::INET6.number()))
        };
        self.is_shaken || self.is_holed && is_ipv6()
    }

    // ---- Looking ----

    /// The same route, of a kind.
    fn find_same(&self, identity: u64, kept: &[u8], kind: Kind) -> Option<Slot> {
        self.slots.same(identity).find(|&slot| {
            self.slots.kind(slot) == kind && kept::is_same(self.slots.bytes(slot), kept)
        })
    }

    /// The route of an event, if it is there.
    fn find_live(&self, event: &Candidate<'_>) -> Option<Slot> {
        let live = self.find_same(event.hashes.identity, event.kept, Kind::Live);
        live.filter(|slot| self.is_there(*slot))
    }

    /// The live routes with the key of an event's.
    fn with_key(&self, event: &Candidate<'_>) -> impl Iterator<Item = Slot> {
        let live = self
            .slots
            .at(event.hashes.place)
            .filter(|&slot| self.slots.kind(slot) == Kind::Live && self.is_there(slot));
        live.filter(|&slot| self.key_of(slot) == Some(event.key))
    }

    /// Whether a live route counts: one that was never told is only left of a dump that was abandoned.
    fn is_there(&self, slot: Slot) -> bool {
        self.phase != Phase::Idle || self.slots.has(slot, bits::TOLD)
    }

    fn key_of(&self, slot: Slot) -> Option<Key> {
        kept::key(self.slots.bytes(slot))
    }

    fn tell_update(&mut self, slot: Slot, f: &mut impl FnMut(Change<'_>)) {
        self.counts.update += u64::from(self.slots.has(slot, bits::TOLD));
        self.tell(slot, EventKind::New, f);
    }

    fn tell_delete(&mut self, slot: Slot, f: &mut impl FnMut(Change<'_>)) {
        self.counts.delete += u64::from(self.slots.has(slot, bits::TOLD));
        self.tell(slot, EventKind::Delete, f);
    }

    /// Hands out what the kernel has sent no event of.
    fn tell(&self, slot: Slot, kind: EventKind, f: &mut impl FnMut(Change<'_>)) {
        if self.slots.has(slot, bits::TOLD)
            && let Some(route) = kept::route(self.slots.bytes(slot), kind)
        {
            f(Change::of(&route, true));
        }
    }
}
