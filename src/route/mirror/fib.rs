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

use std::mem;
use std::time::Instant;

use super::Change;
use super::kept::{self, Key, Left};
use super::slots::{Kind, Slot, Slots, bits};
use crate::error::Result;
use crate::message::{Message, flags};
use crate::mirror::{Table, slice_is_over};
use crate::request::{Exchange, Requester};
use crate::route::{EventKind, ROUTE_FIXED_BYTES, Route, family};
use crate::socket::Protocol;

/// `RTM_GETROUTE`.
const GET_ROUTE: u16 = 26;
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

/// What a merge has handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub new: u64,
    pub update: u64,
    pub delete: u64,
}

#[derive(Debug)]
pub(super) struct Fib {
    slots: Slots,
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
    counts: Counts,
    scratch: Vec<u8>,
    rest: Vec<u8>,
    place: Vec<Slot>,
}

/// A route of an event or a dump, ready to be compared.
struct Candidate<'a> {
    route: &'a Route<'a>,
    kept: &'a [u8],
    key: Key,
    hash: u64,
}

impl Table for Fib {
    const PROTOCOL: Protocol = Protocol::ROUTE;

    /// All families at once. The kernel then makes each piece of the dump under the lock that route and link changes hold
    /// (net/core/rtnetlink.c, `rtnl_dump_all`, `rtnl_dumpit`): a change whose event is told first is done when the dump is.
    fn request(&self, requester: &mut Requester) -> Result<Exchange> {
        requester.begin(GET_ROUTE, flags::DUMP, |request| {
            request.bytes(&[0; ROUTE_FIXED_BYTES])
        })
    }

    fn begin(&mut self) {
        self.slots.forget_dump();
        self.phase = Phase::Noting;
        (self.is_holed, self.is_shaken, self.is_open) = (false, false, false);
    }

    fn take_dumped(&mut self, message: &Message<'_>) {
        let Some(route) = Route::decode(message).filter(kept::is_kept) else {
            return;
        };
        if route.kind == EventKind::New {
            self.with_candidate(message, &route, Self::note_dumped);
        }
    }

    fn abandon(&mut self) {
        self.slots.forget_dump();
        self.phase = Phase::Idle;
    }
}

impl Fib {
    pub(super) fn new() -> Self {
        Self {
            slots: Slots::new(),
            phase: Phase::Idle,
            tells: false,
            is_holed: false,
            is_shaken: false,
            is_open: false,
            cursor: 0,
            counts: Counts::default(),
            scratch: Vec::new(),
            rest: Vec::new(),
            place: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.told_count()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Route<'_>> {
        (0..self.slots.slot_count()).filter_map(|slot| self.told(slot))
    }

    /// The routes at a place.
    pub(super) fn at(&self, place: kept::Place) -> impl Iterator<Item = Route<'_>> {
        self.slots
            .at(self.slots.hash(&place))
            .filter_map(|slot| self.told(slot))
            .filter(move |route| Key::of(route).place == place)
    }

    fn told(&self, slot: Slot) -> Option<Route<'_>> {
        let is_told = self.slots.kind(slot) == Kind::Live && self.slots.has(slot, bits::TOLD);
        is_told.then(|| kept::route(self.slots.bytes(slot), EventKind::New))?
    }

    /// Something changed that no event tells of: the dump under way proves nothing about what it does not have.
    pub(super) fn shake(&mut self) {
        self.is_shaken |= self.phase == Phase::Noting;
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
        (self.cursor, self.counts) = (0, Counts::default());
    }

    /// Merges for a slice of time. True when all is merged.
    pub(super) fn merge(&mut self, start: Instant, f: &mut impl FnMut(Change<'_>)) -> bool {
        let mut count = 0u32;
        while self.cursor < self.slots.slot_count() {
            let slot = self.cursor;
            self.cursor += 1;
            if self.slots.kind(slot) != Kind::Free && !self.slots.has(slot, bits::SETTLED) {
                self.settle(self.slots.hash_of(slot), f);
            }
            count += 1;
            if count.is_multiple_of(LOOK_AT_CLOCK) && slice_is_over(start) {
                return false;
            }
        }
        true
    }

    /// After the merge: what it has handed out, and whether it leaves something open.
    pub(super) fn finish(&mut self) -> (Counts, bool) {
        self.phase = Phase::Idle;
        (self.counts, self.is_open)
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
                fib.settle(candidate.hash, f);
            }
            let is_doubtful = match route.kind {
                EventKind::New => fib.add(candidate, f),
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
            hash: self.slots.hash(&key.place),
        };
        let result = f(self, &candidate);
        self.scratch = scratch;
        result
    }

    // ---- Events ----

    /// A route is there.
    fn add(&mut self, event: &Candidate<'_>, f: &mut impl FnMut(Change<'_>)) -> bool {
        let replaces = event.route.message_flags & flags::REPLACE != 0;
        let same = self.find_same(event.hash, event.kept, Kind::Live);
        let others: Vec<Slot> = if replaces {
            self.replaceable(event, same)
        } else {
            Vec::new()
        };
        if let Some(slot) = same {
            let is_news = self.slots.bytes(slot) != event.kept;
            if is_news {
                self.slots.set_bytes(slot, event.kept);
                self.slots.set(slot, bits::CHANGED);
            }
            self.touch(slot, replaces);
            if is_news && self.tells {
                f(Change::of(event.route, false));
            }
            // Which one was replaced, if another could have been? (Of the IPv6 routes with gateways there is only one.)
            return !others.is_empty();
        }
        let is_doubtful = match *others {
            [] => false,
            [slot] => {
                self.end_replaced(slot, f);
                false
            }
            _ => true,
        };
        let told = if self.tells { bits::TOLD } else { 0 };
        let slot = self.slots.insert(event.hash, Kind::Live, told, event.kept);
        self.touch(slot, replaces);
        if self.tells {
            f(Change::of(event.route, false));
        }
        is_doubtful
    }

    /// The routes one of which this one may have replaced. With IPv4 it is the first with its key (net/ipv4/fib_trie.c,
    /// `fib_table_insert`); with IPv6 the first that has gateways if it has, and has none if it has none, else the first
    /// (net/ipv6/ip6_fib.c, `fib6_add_rt2node`).
    fn replaceable(&self, event: &Candidate<'_>, same: Option<Slot>) -> Vec<Slot> {
        let with_key = self.with_key(event.hash, &event.key);
        let mut others: Vec<Slot> = with_key.filter(|slot| Some(*slot) != same).collect();
        if event.route.family == family::INET6 {
            let has_gateways = kept::has_gateways(event.kept);
            if has_gateways && same.is_some() {
                return Vec::new();
            }
            let is_alike =
                |slot: &Slot| kept::has_gateways(self.slots.bytes(*slot)) == has_gateways;
            if same.is_some() || others.iter().any(is_alike) {
                others.retain(is_alike);
            }
        }
        others
    }

    /// Ends the route that another has replaced.
    fn end_replaced(&mut self, slot: Slot, f: &mut impl FnMut(Change<'_>)) {
        self.tell(slot, EventKind::Delete, f);
        match self.phase {
            Phase::Noting => {
                let bits = self.slots.bits(slot) & !bits::TOLD | bits::TOUCHED | bits::REPLACED;
                self.slots.set_kind(slot, Kind::Dead, bits);
            }
            Phase::Idle | Phase::Merging => self.slots.remove(slot),
        }
    }

    /// A route is gone.
    fn delete(&mut self, event: &Candidate<'_>, f: &mut impl FnMut(Change<'_>)) -> bool {
        let is_part = kept::has_gateways(event.kept) && event.route.nexthops.is_empty();
        if self.phase == Phase::Noting {
            self.note_hole(event);
        }
        let live = self.find_same(event.hash, event.kept, Kind::Live);
        let Some(slot) = live else {
            if self.phase == Phase::Noting {
                self.bury(event, 0);
            }
            // While a dump is under way that says enough; and once it is merged, it had none such either.
            return self.phase == Phase::Idle;
        };
        let mut rest = mem::take(&mut self.rest);
        let left = if is_part {
            kept::without_hop(self.slots.bytes(slot), event.route, &mut rest)
        } else {
            Left::Nothing
        };
        match left {
            Left::All => {}
            Left::Rest => {
                self.slots.set_bytes(slot, &rest);
                self.touch(slot, false);
                self.tell(slot, EventKind::New, f);
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
        match self.find_same(event.hash, event.kept, Kind::Dead) {
            Some(slot) => {
                self.slots.set_bytes(slot, event.kept);
                self.slots.set(slot, bits);
            }
            None => {
                self.slots.insert(event.hash, Kind::Dead, bits, event.kept);
            }
        }
    }

    /// A route was deleted while a dump goes on.
    fn note_hole(&mut self, event: &Candidate<'_>) {
        match event.route.family {
            family::INET6 => self.is_holed = true,
            family::INET => {
                let place: Vec<Slot> = self.slots.at(event.hash).collect();
                for slot in place {
                    self.slots.set(slot, bits::SPARED);
                }
            }
            _ => {}
        }
    }

    fn touch(&mut self, slot: Slot, replaces: bool) {
        let bits = match self.phase {
            Phase::Idle => 0,
            Phase::Noting if replaces => bits::TOUCHED | bits::REPLACED,
            Phase::Noting => bits::TOUCHED,
            Phase::Merging => bits::SETTLED,
        };
        self.slots.set(slot, bits);
    }

    // ---- The dump ----

    fn note_dumped(&mut self, dumped: &Candidate<'_>) {
        if let Some(earlier) = self.find_same(dumped.hash, dumped.kept, Kind::Pending) {
            self.slots.remove(earlier); // the dump has begun again; this is newer
        }
        let is_pending = match self.find_same(dumped.hash, dumped.kept, Kind::Live) {
            Some(live) => {
                self.slots.set(live, bits::SEEN);
                self.slots.bytes(live) != dumped.kept
            }
            None => true, // also one that was ended: whether that counts is seen in the merge
        };
        if is_pending {
            self.slots
                .insert(dumped.hash, Kind::Pending, 0, dumped.kept);
        }
    }

    /// Settles all that is at a place.
    fn settle(&mut self, hash: u64, f: &mut impl FnMut(Change<'_>)) {
        let mut place = mem::take(&mut self.place);
        place.clear();
        place.extend(self.slots.at(hash));
        self.is_open |= place.iter().any(|slot| self.is_in_doubt(*slot, &place));
        for &slot in &place {
            if self.slots.kind(slot) == Kind::Pending {
                self.settle_pending(slot, hash, f);
            }
        }
        // Where one of several was deleted, the dump may have skipped another that is not known here. (Also where the only one
        // known was deleted; but that is another's event lost, and a piece of the dump that ended just between these two.)
        let is_any = |slot: &&Slot| matches!(self.slots.kind(**slot), Kind::Live | Kind::Dead);
        self.is_open |= place.iter().any(|slot| self.slots.has(*slot, bits::SPARED))
            && place.iter().filter(is_any).count() > 1;
        for &slot in &place {
            match self.slots.kind(slot) {
                Kind::Live => self.settle_live(slot, f),
                Kind::Dead => self.slots.remove(slot),
                Kind::Pending | Kind::Free => {}
            }
        }
        self.place = place;
    }

    fn settle_pending(&mut self, pending: Slot, hash: u64, f: &mut impl FnMut(Change<'_>)) {
        let bytes = self.slots.bytes(pending);
        if let Some(live) = self.find_same(hash, bytes, Kind::Live) {
            if self.slots.has(live, bits::TOUCHED) {
                self.slots.remove(pending);
                return;
            }
            self.slots.take_over(live, pending);
            if self.slots.has(live, bits::TOLD) {
                self.counts.update += 1;
                self.tell(live, EventKind::New, f);
            }
            return;
        }
        if self.find_same(hash, bytes, Kind::Dead).is_some() {
            self.slots.remove(pending);
            return;
        }
        if self.is_one_replaced_beside(pending, hash) {
            self.slots.remove(pending); // another dump decides: it is in doubt
            return;
        }
        self.slots.set_kind(pending, Kind::Live, bits::SEEN);
    }

    /// Whether it is unsure which route with a key was replaced. It is not if this table had just those with that key that the
    /// dump has, before the events or after them: then it took the right one for replaced.
    fn is_in_doubt(&self, slot: Slot, place: &[Slot]) -> bool {
        if !self.slots.has(slot, bits::REPLACED) {
            return false;
        }
        let key = self.key_of(slot);
        let with_key = || {
            place
                .iter()
                .copied()
                .filter(|slot| self.key_of(*slot) == key)
        };
        let same = |slot: Slot| {
            let bytes = self.slots.bytes(slot);
            with_key().filter(move |other| kept::is_same(self.slots.bytes(*other), bytes))
        };
        let is_dumped = |slot: Slot| {
            same(slot).any(|slot| {
                self.slots.has(slot, bits::SEEN) || self.slots.kind(slot) == Kind::Pending
            })
        };
        let is_old = |slot: Slot| {
            let was_there = same(slot).any(|slot| self.slots.has(slot, bits::OLD));
            let is_changed = same(slot).any(|slot| self.slots.has(slot, bits::CHANGED));
            is_dumped(slot) == was_there && !(was_there && is_changed)
        };
        let is_new = |slot: Slot| {
            let is_there = same(slot).any(|slot| self.slots.kind(slot) == Kind::Live);
            is_dumped(slot) == is_there
        };
        !with_key().all(is_old) && !with_key().all(is_new)
    }

    /// Whether an event has replaced a route with the same key: that may have been this one.
    fn is_one_replaced_beside(&self, pending: Slot, hash: u64) -> bool {
        let key = self.key_of(pending);
        self.slots
            .at(hash)
            .any(|slot| self.slots.has(slot, bits::REPLACED) && self.key_of(slot) == key)
    }

    fn settle_live(&mut self, slot: Slot, f: &mut impl FnMut(Change<'_>)) {
        if self.slots.has(slot, bits::SETTLED) {
            return;
        }
        if self.slots.has(slot, bits::SEEN | bits::TOUCHED) {
            self.slots.forget_misses(slot);
        } else if self.may_be_skipped(slot) && self.slots.count_miss(slot) < MAX_MISSES {
            self.is_open = true;
        } else {
            self.counts.delete += 1;
            self.tell(slot, EventKind::Delete, f);
            self.slots.remove(slot);
            return;
        }
        if !self.slots.has(slot, bits::TOLD) {
            self.counts.new += 1;
            self.slots.set_told(slot);
            self.tell(slot, EventKind::New, f);
        }
        self.slots.set(slot, bits::SETTLED);
    }

    fn may_be_skipped(&self, slot: Slot) -> bool {
        let is_ipv6 = || {
            let message = kept::message(self.slots.bytes(slot));
            message.is_some_and(|message| message.payload().first() == Some(&family::INET6))
        };
        self.is_shaken || self.slots.has(slot, bits::SPARED) || self.is_holed && is_ipv6()
    }

    // ---- Looking ----

    /// The same route, of a kind.
    fn find_same(&self, hash: u64, kept: &[u8], kind: Kind) -> Option<Slot> {
        let key = key_of(kept)?;
        self.slots.at(hash).find(|&slot| {
            self.slots.kind(slot) == kind
                && self.key_of(slot) == Some(key)
                && kept::is_same(self.slots.bytes(slot), kept)
        })
    }

    /// The live routes with a key.
    fn with_key(&self, hash: u64, key: &Key) -> impl Iterator<Item = Slot> {
        self.slots
            .at(hash)
            .filter(|&slot| self.slots.kind(slot) == Kind::Live && self.key_of(slot) == Some(*key))
    }

    fn key_of(&self, slot: Slot) -> Option<Key> {
        key_of(self.slots.bytes(slot))
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

fn key_of(kept: &[u8]) -> Option<Key> {
    kept::route(kept, EventKind::New).map(|route| Key::of(&route))
}
