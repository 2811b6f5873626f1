//! The kept routes in slots, found by place.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use super::kept::Place;

/// The number of a route's slot.
pub(super) type Slot = u32;

/// The index is so many tables: one that grows hashes all that it holds again, which would hold up the events.
const SHARDS: usize = 64;

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
    /// One in the same place was deleted: the dump may have skipped it.
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

#[derive(Debug)]
pub(super) struct Slots {
    bytes: Vec<Box<[u8]>>,
    hashes: Vec<u64>,
    /// One for each slot, apart, so that going through all of them is quick.
    marks: Vec<Mark>,
    free: Vec<Slot>,
    told_count: usize,
    /// Strangers may choose the routes (a peer of a routing daemon), so the hashes are keyed at random.
    hasher: RandomState,
    shards: Vec<HashTable<Slot>>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            hashes: Vec::new(),
            marks: Vec::new(),
            free: Vec::new(),
            told_count: 0,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
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

    pub(super) fn hash(&self, place: &Place) -> u64 {
        self.hasher.hash_one(place)
    }

    pub(super) fn hash_of(&self, slot: Slot) -> u64 {
        self.hashes[slot as usize]
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

    pub(super) fn set_bytes(&mut self, slot: Slot, bytes: &[u8]) {
        self.bytes[slot as usize] = bytes.into();
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
    pub(super) fn at(&self, hash: u64) -> impl Iterator<Item = Slot> + '_ {
        self.shards[shard(hash)]
            .iter_hash(hash)
            .copied()
            .filter(move |&slot| self.hashes[slot as usize] == hash)
    }

    pub(super) fn insert(&mut self, hash: u64, kind: Kind, bits: u8, bytes: &[u8]) -> Slot {
        let mark = Mark {
            kind,
            bits,
            miss_count: 0,
        };
        let slot = if let Some(slot) = self.free.pop() {
            let index = slot as usize;
            (self.bytes[index], self.hashes[index], self.marks[index]) = (bytes.into(), hash, mark);
            slot
        } else {
            self.bytes.push(bytes.into());
            self.hashes.push(hash);
            self.marks.push(mark);
            self.slot_count() - 1
        };
        self.told_count += usize::from(bits & bits::TOLD != 0);
        let hashes = &self.hashes;
        self.shards[shard(hash)].insert_unique(hash, slot, |&slot| hashes[slot as usize]);
        slot
    }

    pub(super) fn set_kind(&mut self, slot: Slot, kind: Kind, bits: u8) {
        let mark = &mut self.marks[slot as usize];
        self.told_count -= usize::from(mark.bits & !bits & bits::TOLD != 0);
        (mark.kind, mark.bits) = (kind, bits);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let hash = self.hashes[slot as usize];
        if let Ok(found) = self.shards[shard(hash)].find_entry(hash, |&other| other == slot) {
            found.remove();
        }
        self.set_kind(slot, Kind::Free, 0);
        self.bytes[slot as usize] = Box::default();
        self.free.push(slot);
    }

    /// Forgets what was noted about a dump, and what was never told.
    pub(super) fn forget_dump(&mut self) {
        for slot in 0..self.slot_count() {
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
}

fn shard(hash: u64) -> usize {
    // Neither the bits that a table chooses a place by nor those that it keeps with one.
    usize::try_from(hash >> 48).unwrap_or(0) % SHARDS
}
