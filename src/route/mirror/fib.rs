//! The table of a mirror of routes: how events change it, and how routes are found in it.

use std::mem;

use super::Change;
use super::doubt::Doubt;
use super::kept::{self, Key, Left, ReplaceKey};
use super::replaceable::Replaced;
use super::shown::Selection;
use super::slots::{Hashes, Slots, bits};
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Message, flags};
use crate::mirror::{Budget, Kind, Slot};
use crate::route::Route;
use crate::timestamp::Timestamp;

/// The state of the dump under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dump {
    /// No dump is under way.
    None,
    /// The dump is being read, and the entries that events touch are recorded.
    Reading,
    Merging,
}

/// How many changes were handed out that no event reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub new: u64,
    pub update: u64,
    pub delete: u64,
}

impl Counts {
    pub(super) fn sum(self) -> u64 {
        self.new + self.update + self.delete
    }
}

/// The table, as it follows the events and the dumps.
#[derive(Debug)]
pub(super) struct Fib {
    pub(super) slots: Slots,
    pub budget: Budget,
    /// Which routes are kept and shown. `None`: all.
    pub(super) selection: Option<Selection>,
    pub(super) dump: Dump,
    /// The first dump has been merged, or is being merged: from then on changes are handed out.
    pub(super) hands_out: bool,
    /// The dump under way may have skipped IPv6 routes.
    pub(super) may_have_skipped_ipv6: bool,
    /// The dump under way may have skipped any route, because something changed that no event reports.
    pub(super) may_have_skipped_any: bool,
    pub(super) doubt: Doubt,
    /// The merge leaves something open: another dump is needed.
    pub(super) is_open: bool,
    /// The slot that is merged next.
    pub(super) cursor: Slot,
    /// From this slot on there are marks, and entries that were never handed out, of the last dump.
    pub(super) uncleared: Option<Slot>,
    pub(super) counts: Counts,
    /// What the merge under way has found.
    pub(super) found_count: u64,
    /// Kept between calls for their memory: a message, the rest of a route, and the slots of a place.
    scratch: Vec<u8>,
    rest: Vec<u8>,
    pub(super) place: Vec<Slot>,
}

/// A route of an event or a dump, ready to be compared.
pub(super) struct Candidate<'a> {
    route: &'a Route<'a>,
    pub(super) kept: &'a [u8],
    key: Key,
    pub(super) hashes: Hashes,
}

impl Fib {
    pub(super) fn new() -> Self {
        Self {
            slots: Slots::new(),
            budget: Budget::unlimited(),
            selection: None,
            dump: Dump::None,
            hands_out: false,
            may_have_skipped_ipv6: false,
            may_have_skipped_any: false,
            doubt: Doubt::default(),
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

    pub(super) fn has_room(&self) -> bool {
        self.budget.has_room(self.slots.used_bytes())
    }

    /// Since when routes are missing, if there is now room for some of them. `None`: a dump would not help.
    pub(super) fn short_since(&self) -> Option<Timestamp> {
        let since = self.budget.short_since?;
        let used_bytes = self.slots.used_bytes();
        self.budget.is_worth_a_dump(used_bytes).then_some(since)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Route<'_>> {
        self.iter_from(0).map(|(_, route)| route)
    }

    /// The shown routes in the slots from this one on, each with the number of the next slot.
    pub(super) fn iter_from(&self, first: usize) -> impl Iterator<Item = (usize, Route<'_>)> {
        let slots = Slot::try_from(first).map(|first| first..self.slots.slot_count());
        let slots = slots.into_iter().flatten();
        slots.filter_map(|slot| Some((slot as usize + 1, self.handed_out(slot)?)))
    }

    /// The shown routes at a place.
    pub(super) fn at(&self, place: kept::Place) -> impl Iterator<Item = Route<'_>> {
        self.slots
            .at(self.slots.place_hash(&place))
            .filter_map(|slot| self.handed_out(slot))
            .filter(move |route| Key::of(route).place == place)
    }

    fn handed_out(&self, slot: Slot) -> Option<Route<'_>> {
        let is_handed_out =
            self.slots.kind(slot) == Kind::Live && self.slots.has(slot, bits::HANDED_OUT);
        (is_handed_out && self.is_shown(slot))
            .then(|| kept::route(self.slots.bytes(slot), EventKind::Entry))?
    }

    /// Takes an event. True: the event leaves something open, and a dump is needed.
    pub(super) fn feed(&mut self, message: &Message<'_>, f: &mut impl FnMut(Change<'_>)) -> bool {
        let Some(mut route) = Route::decode(message).filter(kept::is_kept) else {
            return false;
        };
        if route.kind == EventKind::Entry {
            route.kind = EventKind::New; // somebody has asked through this socket, and it is the newest that is known
        }
        if self.dump == Dump::None && !self.hands_out {
            return false; // the first dump will have the route
        }
        if !self.keeps(&route) {
            self.feed_other(message, &route);
            return false;
        }
        self.with_candidate(message, &route, |fib, candidate| {
            if fib.dump == Dump::Merging && !fib.is_settled(candidate.hashes.place) {
                fib.settle(candidate.hashes.place, f);
            }
            let needs_dump = match route.kind {
                EventKind::New | EventKind::Update | EventKind::Entry => fib.add(candidate, f),
                EventKind::Delete => fib.delete(candidate, f),
            };
            let needs_dump = needs_dump || kept::is_unclear(&route);
            if needs_dump {
                fib.doubt.everywhere();
            }
            needs_dump
        })
    }

    pub(super) fn with_candidate<T>(
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

    /// Applies the event of a new or changed route. True: a dump is needed.
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
            if is_news {
                self.hand_out_event(slot, event.route, f);
            }
            // If there is another route, it is unknown which one was replaced. (For a key there is only one IPv6 route
            // with gateways.)
            return replaced != Replaced::None || is_overtaken;
        }
        if let Replaced::One(slot) = replaced {
            self.end_replaced(slot, f);
        }
        let bits = match (self.hands_out, self.dump) {
            (false, _) => 0,
            (true, Dump::None) => bits::HANDED_OUT | bits::OLD,
            (true, _) => bits::HANDED_OUT,
        };
        if self.has_room() {
            let slot = self
                .slots
                .insert(event.hashes, Kind::Live, bits, event.kept);
            self.touch(slot, is_replace, false);
            self.hand_out_event(slot, event.route, f);
        } else {
            self.budget.note_left_out();
            self.hand_out_left_out(event.route, f);
        }
        replaced == Replaced::Unsure
    }

    /// Whether another event should have come before this one, which reports an IPv6 route with gateways that is
    /// already in the table. If the event replaces no route, the route has gained a hop, or it had been deleted before.
    /// Since Linux 6.16 nothing keeps the order of events that the kernel sends after it has released the table's lock:
    /// the end of a whole multipath route, and a new route or new hops (net/ipv6/route.c, `__ip6_del_rt_siblings`,
    /// `ip6_route_multipath_add`; "ipv6: Get rid of RTNL for SIOCDELRT and RTM_DELROUTE" and the commits after it).
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

    /// Whether a route follows the events up to now.
    fn is_current(&self, slot: Slot) -> bool {
        self.dump != Dump::Reading || self.slots.has(slot, bits::TOUCHED)
    }

    /// What an event's route may have replaced. An IPv4 route replaces the first one with its key (net/ipv4/fib_trie.c,
    /// `fib_table_insert`). An IPv6 route with gateways replaces the first one with gateways, one without gateways the
    /// first one without; if there is none, each replaces the first one (net/ipv6/ip6_fib.c, `fib6_add_rt2node`).
    fn replaceable(&self, event: &Candidate<'_>, same: Option<Slot>) -> Replaced {
        let has_gateways = kept::has_gateways(event.kept);
        let alike = if has_gateways && same.is_some() {
            Replaced::None // for a key there is only one
        } else {
            self.others(event, has_gateways, same)
        };
        if alike != Replaced::None {
            return alike;
        }
        match same {
            Some(same) if self.is_current(same) => Replaced::None, // but itself
            // If the event of its end is missing, it has begun again, and has replaced another one.
            Some(_) => self.others(event, !has_gateways, None).or_unsure(),
            None => self.others(event, !has_gateways, None),
        }
    }

    /// The live routes with the key of an event's, apart from one of them.
    fn others(&self, event: &Candidate<'_>, has_gateways: bool, one: Option<Slot>) -> Replaced {
        let key = ReplaceKey {
            key: event.key,
            has_gateways,
        };
        match self.slots.replaceable(event.hashes.place, key, one) {
            Replaced::One(slot) if !self.is_there(slot) => Replaced::None,
            found => found,
        }
    }

    /// Ends the route that another has replaced.
    fn end_replaced(&mut self, slot: Slot, f: &mut impl FnMut(Change<'_>)) {
        self.hand_out_delete(slot, f);
        match self.dump {
            Dump::Reading => {
                let bits = self.slots.bits(slot) & !bits::HANDED_OUT | bits::REPLACED;
                let Hashes { identity, .. } = self.slots.hashes(slot);
                // One dead entry for each route is enough, even if it is replaced often while a dump is read.
                match self.find_same(identity, self.slots.bytes(slot), Kind::Dead) {
                    Some(dead) => {
                        self.slots.take_over(dead, slot);
                        self.slots.set(dead, bits);
                    }
                    None => self.slots.set_kind(slot, Kind::Dead, bits),
                }
            }
            Dump::None | Dump::Merging => self.slots.remove(slot),
        }
    }

    /// Applies the event of a deleted route. True: a dump is needed.
    fn delete(&mut self, event: &Candidate<'_>, f: &mut impl FnMut(Change<'_>)) -> bool {
        let has_gateways = kept::has_gateways(event.kept);
        // An IPv4 route that a dump may skip is in the same place as the deleted one.
        self.may_have_skipped_ipv6 |=
            self.dump == Dump::Reading && event.route.family == Family::INET6;
        let Some(slot) = self.find_live(event) else {
            if self.dump == Dump::Reading {
                self.bury(event, 0);
            }
            if self.budget.is_short() {
                // The route may have found no room.
                self.hand_out_left_out(event.route, f);
                return false;
            }
            // If a dump is being read, it settles this.
            return self.dump != Dump::Reading;
        };
        if has_gateways && event.route.nexthops.is_empty() {
            return self.delete_hop(slot, event, f);
        }
        let held = kept::route(self.slots.bytes(slot), EventKind::New);
        let is_all_of_it = held.is_some_and(|held| {
            kept::has_hops_of(event.route, &held) && kept::has_hops_of(&held, event.route)
        });
        // This is the late end of an earlier route, or the end of a route whose other hops are reported late
        // (`is_overtaken`).
        let needs_dump = has_gateways && !is_all_of_it && self.dump != Dump::Reading;
        self.end(slot, event, f);
        needs_dump
    }

    /// Applies the event of a deleted IPv6 route or of one of its hops. True: a dump is needed.
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
                self.hand_out_update(slot, f);
            }
            Left::Nothing => self.end(slot, event, f),
        }
        self.rest = rest;
        left == Left::All
    }

    fn end(&mut self, slot: Slot, event: &Candidate<'_>, f: &mut impl FnMut(Change<'_>)) {
        self.hand_out_event(slot, event.route, f);
        if self.dump == Dump::Reading {
            self.bury(event, self.slots.bits(slot));
        }
        self.slots.remove(slot);
    }

    /// Records that a route was deleted, so that the dump does not restore it.
    pub(super) fn bury(&mut self, event: &Candidate<'_>, bits_before: u8) {
        let bits = bits_before & !bits::HANDED_OUT | bits::TOUCHED | bits::DELETED_DURING_DUMP;
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
        let bits = match self.dump {
            Dump::None => 0,
            Dump::Reading => bits::TOUCHED | replaced | changed,
            Dump::Merging => bits::SETTLED,
        };
        self.slots.set(slot, bits);
    }

    // ---- The dump ----

    /// The slot of this kind that has the same route.
    pub(super) fn find_same(&self, identity: u32, kept: &[u8], kind: Kind) -> Option<Slot> {
        self.slots.same(identity).find(|&slot| {
            self.slots.kind(slot) == kind && kept::is_same(self.slots.bytes(slot), kept)
        })
    }

    /// The live entry of an event's route.
    fn find_live(&self, event: &Candidate<'_>) -> Option<Slot> {
        self.slots.same(event.hashes.identity).find(|&slot| {
            self.slots.kind(slot) == Kind::Live
                && self.is_there(slot) // a remainder of an abandoned dump may be in front of it
                && kept::is_same(self.slots.bytes(slot), event.kept)
        })
    }

    /// Whether a live entry counts. One that was never handed out is a leftover of an abandoned dump, unless a dump is
    /// under way.
    fn is_there(&self, slot: Slot) -> bool {
        self.dump != Dump::None || self.slots.has(slot, bits::HANDED_OUT)
    }

    pub(super) fn key_of(&self, slot: Slot) -> Option<Key> {
        kept::key(self.slots.bytes(slot))
    }
}
