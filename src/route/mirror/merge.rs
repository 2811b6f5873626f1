//! How a dump of routes is merged with the events that arrived while it was read.
//!
//! # What a dump may skip
//!
//! The kernel builds a dump piece by piece, and changes between two pieces may shift the place where it continues.
//! Dumps of routes never set `NLM_F_DUMP_INTR`, so nothing reports such a shift.
//!
//! - IPv6: if the tree has changed, the kernel restarts at its root and skips as many nodes as it has passed
//!   (net/ipv6/ip6_fib.c, `fib6_dump_table`). If one of those was deleted since, one node too many is skipped,
//!   anywhere.
//! - IPv4: the kernel continues at an address, and there at an index (net/ipv4/fib_trie.c, `fib_table_dump`,
//!   `fn_trie_dump_leaf`). If a route that it has passed was deleted since, another one with that address may be
//!   skipped.
//! - MPLS: the kernel continues at a label. None is skipped.
//!
//! So a dump may skip routes only if a route was deleted while it was read. In that case the absence of any IPv6 route,
//! or of an IPv4 route in the same place, proves nothing, and another dump is needed. Another dump is also needed if
//! this one may have skipped a route that the mirror does not know ([`Doubt`](super::doubt::Doubt)).
//!
//! # What an event does not say
//!
//! An event that replaces a route does not say which one. This is clear only if just one route of the mirror's table
//! qualifies. But while events are missing, that table may lack the route that was really replaced. So if the dump has
//! another one there, that proves nothing either. The same is true for an IPv6 route from which single hops were
//! deleted, which counts as a deletion.

use std::collections::HashMap;
use std::mem;

use super::fib::{Candidate, Counts, Dump, Fib};
use super::kept::{self, Key};
use super::slots::{Hashes, bits};
use super::{Change, Mirror};
use crate::Family;
use crate::error::Result;
use crate::event_kind::EventKind;
use crate::message::{Message, flags};
use crate::mirror::{Kind, Slice, Slot, Table};
use crate::request::{Exchange, Requester};
use crate::route::kernel::message_type;
use crate::route::{Group, Route};
use crate::socket::Protocol;

/// A route that is missing from this many dumps in a row is gone, even if each of them may have skipped it. A dump
/// skips a few percent of the routes at worst.
const MAX_MISSES: u8 = 6;

/// The slots of each key with which an event has replaced a route.
type ReplacedKeys = HashMap<Key, Vec<Slot>>;

impl Table for Fib {
    type Group = Group;

    const PROTOCOL: Protocol = Protocol::ROUTE;
    const GROUPS: &'static [Group] = &Mirror::GROUPS;

    /// Requests all families at once. The kernel then builds each piece of the dump under the lock that route and link
    /// changes hold (net/core/rtnetlink.c, `rtnl_dump_all`, `rtnl_dumpit`), and the IPv6 part also under the table's
    /// lock, which is the only one that changes of IPv6 routes hold since Linux 6.16 (net/ipv6/ip6_fib.c,
    /// `fib6_dump_table`). So the dump has every change whose event came before it.
    fn request_dump(&self, requester: &mut Requester) -> Result<Exchange> {
        let filter = self.dump_filter();
        requester.begin(message_type::GET_ROUTE, flags::DUMP, |request| {
            filter.put(request)
        })
    }

    fn begin_dump(&mut self) {
        self.clear(&mut Slice::endless());
        self.budget.begin();
        self.dump = Dump::Reading;
        (
            self.may_have_skipped_ipv6,
            self.may_have_skipped_any,
            self.is_open,
        ) = (false, false, false);
    }

    fn feed_dumped(&mut self, message: &Message<'_>) {
        let Some(route) = Route::decode(message).filter(kept::is_kept) else {
            return;
        };
        if route.kind != EventKind::Delete && self.keeps(&route) {
            self.with_candidate(message, &route, Self::note_dumped);
        }
    }

    fn abandon_dump(&mut self) {
        if self.dump != Dump::None {
            self.uncleared = Some(0);
            self.dump = Dump::None;
        }
    }

    fn note_missing_events(&mut self) {
        self.doubt.everywhere();
    }

    fn note_silent_change(&mut self) {
        self.may_have_skipped_any |= self.dump == Dump::Reading;
    }
}

impl Fib {
    fn note_dumped(&mut self, dumped: &Candidate<'_>) {
        let Hashes { identity, .. } = dumped.hashes;
        if let Some(earlier) = self.find_same(identity, dumped.kept, Kind::Pending) {
            self.slots.remove(earlier); // the dump has begun again, and this is newer
        }
        let is_pending = match self.find_same(identity, dumped.kept, Kind::Live) {
            Some(live) => {
                self.slots.set(live, bits::SEEN);
                self.slots.bytes(live) != dumped.kept
            }
            None => true, // even if an event deleted the route: the merge decides whether that counts
        };
        if is_pending && !self.has_room() {
            self.budget.note_left_out();
        } else if is_pending {
            self.slots
                .insert(dumped.hashes, Kind::Pending, 0, dumped.kept);
        }
    }

    /// The events are ahead of the dump: begins to merge it, unless that has already begun.
    pub(super) fn begin_merge(&mut self) {
        if self.dump == Dump::Merging {
            return;
        }
        self.dump = Dump::Merging;
        self.doubt.begin_merge();
        self.hands_out = true;
        // The dump may have skipped a route that the mirror does not know, and nothing else would show that.
        self.is_open |= self.may_have_skipped_ipv6;
        self.cursor = 0;
        self.found_count = 0;
    }

    /// Merges for a slice. True: everything is merged.
    pub(super) fn merge(&mut self, slice: &mut Slice, f: &mut impl FnMut(Change<'_>)) -> bool {
        while self.cursor < self.slots.slot_count() {
            let slot = self.cursor;
            self.cursor += 1;
            if self.slots.kind(slot) != Kind::Free && !self.slots.has(slot, bits::SETTLED) {
                self.settle(self.slots.hashes(slot).place, f);
            }
            if slice.is_over() {
                return false;
            }
        }
        true
    }

    /// Ends the merge. Returns how many differences it found, and whether it leaves something open.
    pub(super) fn finish(&mut self) -> (u64, bool) {
        self.dump = Dump::None;
        self.uncleared = Some(0);
        self.budget.finish();
        self.doubt.finish_merge();
        if self.budget.is_short() {
            self.doubt.everywhere(); // routes were left out
        }
        (mem::take(&mut self.found_count), self.is_open)
    }

    /// How many changes were handed out since the last call that no event reported.
    pub(super) fn take_counts(&mut self) -> Counts {
        mem::take(&mut self.counts)
    }

    pub(super) fn is_cleared(&self) -> bool {
        self.uncleared.is_none()
    }

    /// Clears leftovers of the last dump, for a slice. True: nothing is left, and another dump may begin.
    pub(super) fn clear(&mut self, slice: &mut Slice) -> bool {
        while let Some(slot) = self.uncleared {
            self.uncleared = (slot < self.slots.slot_count()).then(|| {
                self.slots.forget_dump(slot);
                slot + 1
            });
            if slice.is_over() {
                break;
            }
        }
        self.is_cleared()
    }

    /// Whether the routes at a place are settled. Either all of them are, or none.
    pub(super) fn is_settled(&self, place_hash: u32) -> bool {
        let first = self.slots.first_at(place_hash);
        first.is_none_or(|first| self.slots.has(first, bits::SETTLED))
    }

    /// Settles all routes at a place. There may be thousands, so each is visited only a few times, no matter how many
    /// there are.
    pub(super) fn settle(&mut self, place_hash: u32, f: &mut impl FnMut(Change<'_>)) {
        let before = self.counts.sum();
        let mut place = mem::take(&mut self.place);
        place.clear();
        place.extend(self.slots.at(place_hash));
        let replaced = self.replaced_keys(&place);
        self.is_open |= replaced
            .values()
            .any(|slots| self.is_replacement_unclear(slots));
        for &slot in &place {
            if self.slots.kind(slot) == Kind::Pending {
                self.settle_pending(slot, &replaced, f);
            }
        }
        // If one was deleted, the dump may have skipped another one.
        let is_any_deleted = place
            .iter()
            .any(|slot| self.slots.has(*slot, bits::DELETED_DURING_DUMP));
        self.is_open |= is_any_deleted && self.doubt.note_maybe_skipped(place_hash);
        for &slot in &place {
            match self.slots.kind(slot) {
                Kind::Live => self.settle_live(slot, is_any_deleted, f),
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
            self.hand_out_update(live, f);
            return;
        }
        let was_ended = self.find_same(identity, bytes, Kind::Dead).is_some();
        // If an event has replaced a route with the same key, it may have been this one. Another dump decides.
        let may_be_replaced = !replaced.is_empty()
            && (self.key_of(pending)).is_some_and(|key| replaced.contains_key(&key));
        if was_ended || may_be_replaced {
            self.slots.remove(pending);
            return;
        }
        self.slots.set_kind(pending, Kind::Live, bits::SEEN);
    }

    /// Whether it is unclear which of the routes with a key was replaced. It is clear if the mirror had the same routes
    /// with that key as the dump, before the events or after them, because then it has removed the right one. After the
    /// events, their hops must be the same too, and none may have begun and ended during the dump: otherwise the dump may
    /// be from before those events.
    fn is_replacement_unclear(&self, with_key: &[Slot]) -> bool {
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
            let live = same(*slot).find(|slot| self.slots.kind(*slot) == Kind::Live);
            let Some(live) = live else {
                return !is_dumped(*slot)
                    && !same(*slot).any(|slot| self.has_begun_and_ended(slot));
            };
            let is_dumped_otherwise = same(*slot).any(|slot| {
                self.slots.kind(slot) == Kind::Pending
                    && self.slots.bytes(slot) != self.slots.bytes(live)
            });
            is_dumped(*slot) && !is_dumped_otherwise
        };
        !with_key.iter().all(is_old) && !with_key.iter().all(is_new)
    }

    /// Whether a route has begun since the dump began, and is assumed to have been replaced.
    fn has_begun_and_ended(&self, slot: Slot) -> bool {
        self.slots.kind(slot) == Kind::Dead
            && self.slots.has(slot, bits::REPLACED)
            && self.slots.has(slot, bits::TOUCHED)
    }

    fn settle_live(&mut self, slot: Slot, is_any_deleted: bool, f: &mut impl FnMut(Change<'_>)) {
        if self.slots.has(slot, bits::SETTLED) {
            return;
        }
        if self.slots.has(slot, bits::SEEN | bits::TOUCHED) {
            self.slots.forget_misses(slot);
        } else if (is_any_deleted || self.may_be_skipped(slot))
            && self.slots.count_miss(slot) < MAX_MISSES
        {
            self.is_open = true;
        } else {
            self.hand_out_delete(slot, f);
            self.slots.remove(slot);
            return;
        }
        if !self.slots.has(slot, bits::HANDED_OUT) {
            self.slots.set_handed_out(slot);
            self.hand_out_new(slot, f);
        }
        self.slots.set(slot, bits::SETTLED);
    }

    fn may_be_skipped(&self, slot: Slot) -> bool {
        let is_ipv6 = || {
            let message = kept::message(self.slots.bytes(slot));
            message
                .is_some_and(|message| message.payload().first() == Some(&Family::INET6.number()))
        };
        self.may_have_skipped_any || self.may_have_skipped_ipv6 && is_ipv6()
    }
}
