//! The kept routes in slots, found by place and by identity.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::{iter, mem};

use super::kept::{self, Place, ReplaceKey};
use super::replaceable::{Replaceable, Replaced};
use crate::mirror::{Index, Kind, Marks, Slot, count_step, fold};

/// The memory that a route takes in addition to its message: the pointer to the message, its neighbours, its mark, and
/// its slot in two indexes.
const SLOT_BYTES: usize = size_of::<Box<[u8]>>()
    + size_of::<Links>()
    + size_of::<u8>()
    + Marks::SLOT_BYTES
    + 2 * Index::SLOT_BYTES;

/// The bits of a route's mark. All but `HANDED_OUT` concern the dump under way.
pub(super) mod bits {
    /// The route was handed out to the user.
    pub const HANDED_OUT: u8 = 1;
    /// The dump also has the route.
    pub const SEEN: u8 = 1 << 1;
    /// An event reported the route since the dump began: what the dump says may be older.
    pub const TOUCHED: u8 = 1 << 2;
    /// The route has replaced another one, or is assumed to be the one that was replaced.
    pub const REPLACED: u8 = 1 << 3;
    /// An event deleted the route while the dump was read. The dump may have skipped routes in the same place.
    pub const DELETED_DURING_DUMP: u8 = 1 << 4;
    /// The route is merged.
    pub const SETTLED: u8 = 1 << 5;
    /// The route existed before the dump.
    pub const OLD: u8 = 1 << 6;
    /// An event changed the route.
    pub const CHANGED: u8 = 1 << 7;
}

/// The bit beside a route's count of misses that says whether the route matches the mirror's filter and was handed out.
const SHOWN: u8 = 1 << 7;

/// The hashes by which a route is found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashes {
    /// The hash of its place.
    pub place: u32,
    /// The hash of its identity ([`kept::hash_identity`]).
    pub identity: u32,
}

/// The slots of a place are a ring, because there may be thousands: each device has its own `fe80::/64` and `ff00::/8`.
/// Live entries are inserted after the first slot and others before it, so entries that events end during a dump are
/// not in the way of the live ones.
#[derive(Clone, Copy, Debug)]
struct Links {
    hashes: Hashes,
    previous: Slot,
    next: Slot,
}

#[derive(Debug)]
pub(super) struct Slots {
    bytes: Vec<Box<[u8]>>,
    links: Vec<Links>,
    marks: Marks,
    /// From how many dumps in a row each route was missing, each of which may have skipped it; and the bit [`SHOWN`].
    miss_counts: Vec<u8>,
    /// The length of all kept messages.
    bytes_count: usize,
    handed_out_count: usize,
    shown_count: usize,
    /// With a random key, because outsiders may choose the routes (a peer of a routing daemon).
    hasher: RandomState,
    /// The first slot of each place.
    places: Index,
    /// All slots, by the identity of their routes.
    identities: Index,
    /// The live routes of places with several slots.
    replaceable: Replaceable,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            links: Vec::new(),
            marks: Marks::default(),
            miss_counts: Vec::new(),
            bytes_count: 0,
            handed_out_count: 0,
            shown_count: 0,
            hasher: RandomState::new(),
            places: Index::new(),
            identities: Index::new(),
            replaceable: Replaceable::new(),
        }
    }

    /// How many routes were handed out to the user and not deleted.
    pub(super) fn handed_out_count(&self) -> usize {
        self.handed_out_count
    }

    pub(super) fn slot_count(&self) -> Slot {
        self.marks.slot_count()
    }

    /// The memory that the routes take.
    pub(super) fn used_bytes(&self) -> usize {
        self.bytes_count + self.marks.used_count() * SLOT_BYTES + self.replaceable.bytes()
    }

    pub(super) fn place_hash(&self, place: &Place) -> u32 {
        fold(self.hasher.hash_one(place))
    }

    /// The hash of a kept route's identity.
    pub(super) fn identity_hash(&self, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        kept::hash_identity(bytes, &mut hasher);
        fold(hasher.finish())
    }

    pub(super) fn hashes(&self, slot: Slot) -> Hashes {
        self.links[slot as usize].hashes
    }

    pub(super) fn kind(&self, slot: Slot) -> Kind {
        self.marks.kind(slot)
    }

    pub(super) fn has(&self, slot: Slot, bits: u8) -> bool {
        self.marks.has(slot, bits)
    }

    pub(super) fn bits(&self, slot: Slot) -> u8 {
        self.marks.bits(slot)
    }

    pub(super) fn set(&mut self, slot: Slot, bits: u8) {
        self.marks.set(slot, bits);
    }

    pub(super) fn set_handed_out(&mut self, slot: Slot) {
        if !self.has(slot, bits::HANDED_OUT) {
            self.set(slot, bits::HANDED_OUT);
            self.handed_out_count += 1;
        }
    }

    /// How many routes are recorded as shown.
    pub(super) fn shown_count(&self) -> usize {
        self.shown_count
    }

    pub(super) fn is_shown(&self, slot: Slot) -> bool {
        self.miss_counts[slot as usize] & SHOWN != 0
    }

    /// Records whether a route is shown. Call it with `false` before the route is removed.
    pub(super) fn set_shown(&mut self, slot: Slot, is_shown: bool) {
        self.shown_count -= usize::from(self.is_shown(slot));
        self.shown_count += usize::from(is_shown);
        let miss_count = &mut self.miss_counts[slot as usize];
        *miss_count = *miss_count & !SHOWN | if is_shown { SHOWN } else { 0 };
    }

    pub(super) fn bytes(&self, slot: Slot) -> &[u8] {
        &self.bytes[slot as usize]
    }

    /// Replaces the message of a route with the changed one. The hash of the identity may also change.
    pub(super) fn set_bytes(&mut self, slot: Slot, identity: u32, bytes: &[u8]) {
        self.note_not_replaceable(slot);
        self.bytes_count += bytes.len();
        self.bytes_count -= mem::replace(&mut self.bytes[slot as usize], bytes.into()).len();
        let before = mem::replace(&mut self.links[slot as usize].hashes.identity, identity);
        if before != identity {
            self.identities.remove(before, slot);
            self.identities.insert(identity, slot);
        }
        self.note_replaceable(slot);
    }

    /// Moves the bytes of a slot to another one, and frees the first.
    pub(super) fn take_over(&mut self, slot: Slot, from: Slot) {
        self.bytes.swap(slot as usize, from as usize);
        self.remove(from);
    }

    /// Counts a dump from which the route was missing. Returns from how many in a row it was missing.
    pub(super) fn count_miss(&mut self, slot: Slot) -> u8 {
        let miss_count = &mut self.miss_counts[slot as usize];
        let is_most = *miss_count | SHOWN == u8::MAX;
        *miss_count += u8::from(!is_most);
        *miss_count & !SHOWN
    }

    pub(super) fn forget_misses(&mut self, slot: Slot) {
        self.miss_counts[slot as usize] &= SHOWN;
    }

    /// The slots of a place. Rarely, there are some of other places among them.
    pub(super) fn at(&self, place: u32) -> impl Iterator<Item = Slot> + '_ {
        let first = self.first_at(place);
        iter::successors(first, move |&slot| {
            count_step();
            Some(self.links[slot as usize].next).filter(|next| Some(*next) != first)
        })
    }

    /// One of the slots of a place.
    pub(super) fn first_at(&self, place: u32) -> Option<Slot> {
        self.places.with_hash(place).next()
    }

    fn is_alone(&self, slot: Slot) -> bool {
        self.links[slot as usize].next == slot
    }

    /// Which live routes of a place an event with this key may replace, apart from one of them.
    pub(super) fn replaceable(&self, place: u32, key: ReplaceKey, one: Option<Slot>) -> Replaced {
        let found = match self.first_at(place) {
            Some(first) if !self.is_alone(first) => {
                let hash = self.hasher.hash_one(Some(key));
                self.replaceable.apart_from(hash, one)
            }
            Some(first) if self.kind(first) == Kind::Live && one.is_none() => Replaced::One(first),
            Some(_) | None => Replaced::None,
        };
        match found {
            Replaced::One(slot) if kept::replace_key(self.bytes(slot)) != Some(key) => {
                Replaced::None
            }
            found => found,
        }
    }

    /// Records that events may replace a route, which is the case while it is live. A route alone at its place is found
    /// without this.
    fn note_replaceable(&mut self, slot: Slot) {
        if self.kind(slot) == Kind::Live && !self.is_alone(slot) {
            let hash = self.hasher.hash_one(kept::replace_key(self.bytes(slot)));
            self.replaceable.add(hash, slot);
        }
    }

    /// Undoes [`note_replaceable`](Self::note_replaceable). Call it before anything about the route changes.
    fn note_not_replaceable(&mut self, slot: Slot) {
        if self.kind(slot) == Kind::Live && !self.is_alone(slot) {
            let hash = self.hasher.hash_one(kept::replace_key(self.bytes(slot)));
            self.replaceable.remove(hash, slot);
        }
    }

    /// The slots of a route. Rarely, there are some of other routes among them.
    pub(super) fn same(&self, identity: u32) -> impl Iterator<Item = Slot> + '_ {
        self.identities.with_hash(identity)
    }

    pub(super) fn insert(&mut self, hashes: Hashes, kind: Kind, bits: u8, bytes: &[u8]) -> Slot {
        self.bytes_count += bytes.len();
        self.handed_out_count += usize::from(bits & bits::HANDED_OUT != 0);
        let slot = self.marks.occupy(kind, bits);
        let first = self.first_at(hashes.place);
        let links = self.link(hashes, kind, slot, first);
        let place = slot as usize;
        if place < self.bytes.len() {
            (self.bytes[place], self.links[place]) = (bytes.into(), links);
            self.miss_counts[place] = 0;
        } else {
            self.bytes.push(bytes.into());
            self.links.push(links);
            self.miss_counts.push(0);
        }
        let is_second = first.is_some_and(|first| self.is_alone(first));
        self.links[links.previous as usize].next = slot;
        self.links[links.next as usize].previous = slot;
        match first {
            None => self.places.insert(hashes.place, slot),
            Some(first) if is_second => self.note_replaceable(first),
            Some(_) => {}
        }
        self.note_replaceable(slot);
        self.identities.insert(hashes.identity, slot);
        slot
    }

    /// Where a slot belongs in the ring of its place.
    fn link(&self, hashes: Hashes, kind: Kind, slot: Slot, first: Option<Slot>) -> Links {
        let links = |slot: Slot| self.links[slot as usize];
        let (previous, next) = match first {
            None => (slot, slot),
            Some(first) if kind == Kind::Live => (first, links(first).next),
            Some(first) => (links(first).previous, first),
        };
        Links {
            hashes,
            previous,
            next,
        }
    }

    pub(super) fn set_kind(&mut self, slot: Slot, kind: Kind, bits: u8) {
        self.count_out(slot, bits);
        self.note_not_replaceable(slot);
        self.marks.set_kind(slot, kind, bits);
        self.note_replaceable(slot);
    }

    /// Stops counting a route as handed out, if it will not be with these new bits. Call it before they are set.
    fn count_out(&mut self, slot: Slot, bits: u8) {
        let is_taken_back = self.bits(slot) & !bits & bits::HANDED_OUT != 0;
        self.handed_out_count -= usize::from(is_taken_back);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let Links {
            hashes,
            previous,
            next,
        } = self.links[slot as usize];
        self.note_not_replaceable(slot);
        if next == previous && next != slot {
            self.note_not_replaceable(next); // it will be alone
        }
        self.identities.remove(hashes.identity, slot);
        if self.first_at(hashes.place) == Some(slot) {
            if next == slot {
                self.places.remove(hashes.place, slot);
            } else {
                self.places.replace(hashes.place, slot, next);
            }
        }
        self.links[previous as usize].next = next;
        self.links[next as usize].previous = previous;
        self.count_out(slot, 0);
        debug_assert!(!self.is_shown(slot), "its end was handed out");
        self.bytes_count -= mem::take(&mut self.bytes[slot as usize]).len();
        self.marks.release(slot);
    }

    /// Forgets what was recorded about a dump in a slot, and an entry that was never handed out.
    pub(super) fn forget_dump(&mut self, slot: Slot) {
        match self.kind(slot) {
            Kind::Free => {}
            Kind::Live if self.has(slot, bits::HANDED_OUT) => {
                self.marks
                    .set_kind(slot, Kind::Live, bits::HANDED_OUT | bits::OLD);
            }
            _ => self.remove(slot),
        }
    }
}
