//! The kept routes in slots, found by place, and by which route it is.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::{iter, mem};

use hashbrown::HashTable;

use super::kept::{self, Place};

/// The number of a route's slot.
pub(super) type Slot = u32;

/// The index is so many tables: one that grows hashes all that it holds again, which would hold up the events.
const SHARDS: usize = 64;

/// What a route takes beside its message: where that is, its neighbours, its mark, its place among the free ones, and its places
/// in two indexes, of which each takes 5 bytes and is half empty at worst.
const SLOT_BYTES: usize =
    size_of::<Box<[u8]>>() + size_of::<Links>() + size_of::<Mark>() + size_of::<Slot>() + 20;

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Free,
    /// A route that there is.
    Live,
    /// What a dump tells of a route, not merged yet.
    Pending,
    /// A route that an event has ended while a dump is brought together with the events.
    Dead,
}

/// Bits of [`Mark::bits`]. All but `TOLD` are about the dump under way.
pub(super) mod bits {
    /// The user has been told of it.
    pub const TOLD: u8 = 1;
    /// The dump has it too.
    pub const SEEN: u8 = 1 << 1;
    /// An event told of it since the dump began: what the dump says may be older.
    pub const TOUCHED: u8 = 1 << 2;
    /// It has replaced another, or is taken for the one that was replaced.
    pub const REPLACED: u8 = 1 << 3;
    /// It was deleted: the dump may have skipped others in the same place.
    pub const SPARED: u8 = 1 << 4;
    /// It has been merged.
    pub const SETTLED: u8 = 1 << 5;
    /// It was there before.
    pub const OLD: u8 = 1 << 6;
    /// An event told something else of it.
    pub const CHANGED: u8 = 1 << 7;
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    kind: Kind,
    bits: u8,
    /// Dumps in a row that have not had it, and may have skipped it.
    miss_count: u8,
}

/// What a route is found by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashes {
    /// Of its place.
    pub place: u64,
    /// Of which route it is ([`kept::hash_identity`]).
    pub identity: u64,
}

/// The slots of a place are a ring, since there may be thousands: each device has its own `fe80::/64` and `ff00::/8`. Live ones
/// are put in behind the first, others before it: those that events end meanwhile are then not in the way of the live ones.
#[derive(Clone, Copy, Debug)]
struct Links {
    hashes: Hashes,
    previous: Slot,
    next: Slot,
}

/// Slots by a hash.
#[derive(Debug)]
struct Index {
    shards: Vec<HashTable<Slot>>,
}

impl Index {
    fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
        }
    }

    fn shard(&self, hash: u64) -> &HashTable<Slot> {
        &self.shards[shard(hash)]
    }

    fn insert(&mut self, hash: u64, slot: Slot, hash_of: impl Fn(Slot) -> u64) {
        self.shards[shard(hash)].insert_unique(hash, slot, |&slot| hash_of(slot));
    }

    /// Takes a slot out, and puts in another one with its hash, if there is one.
    fn exchange(&mut self, hash: u64, slot: Slot, other: Option<Slot>) {
        if let Ok(mut found) = self.shards[shard(hash)].find_entry(hash, |&found| found == slot) {
            match other {
                Some(other) => *found.get_mut() = other,
                None => drop(found.remove()),
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Slots {
    bytes: Vec<Box<[u8]>>,
    links: Vec<Links>,
    /// One for each slot, apart, so that going through all of them is quick.
    marks: Vec<Mark>,
    free: Vec<Slot>,
    /// Of all kept messages.
    bytes_count: usize,
    told_count: usize,
    /// Strangers may choose the routes (a peer of a routing daemon), so the hashes are keyed at random.
    hasher: RandomState,
    /// The first slot of each place.
    places: Index,
    /// All of them, by which route it is.
    identities: Index,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            links: Vec::new(),
            marks: Vec::new(),
            free: Vec::new(),
            bytes_count: 0,
            told_count: 0,
            hasher: RandomState::new(),
            places: Index::new(),
            identities: Index::new(),
        }
    }

    /// Routes that the user has been told of.
    pub(super) fn told_count(&self) -> usize {
        self.told_count
    }

    /// Slots there are, the free ones included.
    pub(super) fn slot_count(&self) -> Slot {
        Slot::try_from(self.marks.len()).unwrap_or(Slot::MAX)
    }

    /// What the routes take that there are.
    pub(super) fn used_bytes(&self) -> usize {
        self.bytes_count + (self.marks.len() - self.free.len()) * SLOT_BYTES
    }

    pub(super) fn place_hash(&self, place: &Place) -> u64 {
        self.hasher.hash_one(place)
    }

    /// The hash of which route the kept one is.
    pub(super) fn identity_hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        kept::hash_identity(bytes, &mut hasher);
        hasher.finish()
    }

    pub(super) fn hashes(&self, slot: Slot) -> Hashes {
        self.links[slot as usize].hashes
    }

    pub(super) fn kind(&self, slot: Slot) -> Kind {
        self.marks[slot as usize].kind
    }

    pub(super) fn has(&self, slot: Slot, bits: u8) -> bool {
        self.marks[slot as usize].bits & bits != 0
    }

    pub(super) fn bits(&self, slot: Slot) -> u8 {
        self.marks[slot as usize].bits
    }

    pub(super) fn set(&mut self, slot: Slot, bits: u8) {
        self.marks[slot as usize].bits |= bits;
    }

    pub(super) fn set_told(&mut self, slot: Slot) {
        if !self.has(slot, bits::TOLD) {
            self.set(slot, bits::TOLD);
            self.told_count += 1;
        }
    }

    pub(super) fn bytes(&self, slot: Slot) -> &[u8] {
        &self.bytes[slot as usize]
    }

    /// The route has changed. It may be found by something else then, in its place.
    pub(super) fn set_bytes(&mut self, slot: Slot, identity: u64, bytes: &[u8]) {
        self.bytes_count += bytes.len();
        self.bytes_count -= mem::replace(&mut self.bytes[slot as usize], bytes.into()).len();
        let before = mem::replace(&mut self.links[slot as usize].hashes.identity, identity);
        if before != identity {
            self.identities.exchange(before, slot, None);
            let links = &self.links;
            self.identities
                .insert(identity, slot, |slot| links[slot as usize].hashes.identity);
        }
    }

    /// What is in the first slot takes over the bytes of the second, which is free then.
    pub(super) fn take_over(&mut self, slot: Slot, from: Slot) {
        self.bytes.swap(slot as usize, from as usize);
        self.remove(from);
    }

    /// One more dump has not had it. How many that are in a row.
    pub(super) fn count_miss(&mut self, slot: Slot) -> u8 {
        let mark = &mut self.marks[slot as usize];
        mark.miss_count = mark.miss_count.saturating_add(1);
        mark.miss_count
    }

    pub(super) fn forget_misses(&mut self, slot: Slot) {
        self.marks[slot as usize].miss_count = 0;
    }

    /// The slots of a place. Rarely, there are some of others among them.
    pub(super) fn at(&self, place: u64) -> impl Iterator<Item = Slot> + '_ {
        let first = self.first_at(place);
        iter::successors(first, move |&slot| {
            kept::count_step();
            Some(self.links[slot as usize].next).filter(|next| Some(*next) != first)
        })
    }

    fn first_at(&self, place: u64) -> Option<Slot> {
        let is_it = |slot: &Slot| self.links[*slot as usize].hashes.place == place;
        self.places.shard(place).find(place, is_it).copied()
    }

    /// The slots of a route. Rarely, there are some of others among them.
    pub(super) fn same(&self, identity: u64) -> impl Iterator<Item = Slot> + '_ {
        let slots = self.identities.shard(identity).iter_hash(identity).copied();
        slots.filter(move |&slot| {
            kept::count_step();
            self.links[slot as usize].hashes.identity == identity
        })
    }

    pub(super) fn insert(&mut self, hashes: Hashes, kind: Kind, bits: u8, bytes: &[u8]) -> Slot {
        let mark = Mark {
            kind,
            bits,
            miss_count: 0,
        };
        self.bytes_count += bytes.len();
        let slot = (self.free.last().copied()).unwrap_or_else(|| self.slot_count());
        let first = self.first_at(hashes.place);
        let link = self.link(hashes, kind, slot, first);
        if self.free.pop().is_some() {
            let index = slot as usize;
            (self.bytes[index], self.links[index], self.marks[index]) = (bytes.into(), link, mark);
        } else {
            self.bytes.push(bytes.into());
            self.links.push(link);
            self.marks.push(mark);
        }
        self.links[link.previous as usize].next = slot;
        self.links[link.next as usize].previous = slot;
        self.told_count += usize::from(bits & bits::TOLD != 0);
        let links = &self.links;
        if first.is_none() {
            self.places
                .insert(hashes.place, slot, |slot| links[slot as usize].hashes.place);
        }
        self.identities.insert(hashes.identity, slot, |slot| {
            links[slot as usize].hashes.identity
        });
        slot
    }

    /// Where a slot belongs among those of its place.
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
        let mark = &mut self.marks[slot as usize];
        self.told_count -= usize::from(mark.bits & !bits & bits::TOLD != 0);
        (mark.kind, mark.bits) = (kind, bits);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let Links {
            hashes,
            previous,
            next,
        } = self.links[slot as usize];
        self.identities.exchange(hashes.identity, slot, None);
        if self.first_at(hashes.place) == Some(slot) {
            let other = Some(next).filter(|next| *next != slot);
            self.places.exchange(hashes.place, slot, other);
        }
        self.links[previous as usize].next = next;
        self.links[next as usize].previous = previous;
        self.set_kind(slot, Kind::Free, 0);
        self.bytes_count -= mem::take(&mut self.bytes[slot as usize]).len();
        self.free.push(slot);
    }

    /// Forgets what was noted about a dump in a slot, and what was never told.
    pub(super) fn forget_dump(&mut self, slot: Slot) {
        let Mark { kind, bits, .. } = self.marks[slot as usize];
        match kind {
            Kind::Free => {}
            Kind::Live if bits & bits::TOLD != 0 => {
                self.marks[slot as usize].bits = bits::TOLD | bits::OLD;
            }
            _ => self.remove(slot),
        }
    }
}

fn shard(hash: u64) -> usize {
    // Neither the bits that a table chooses a place by nor those that it keeps with one.
    usize::try_from(hash >> 48).unwrap_or(0) % SHARDS
}
