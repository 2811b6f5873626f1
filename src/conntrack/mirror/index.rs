//! Numbers of places, found by hash.

use hashbrown::HashTable;

/// The number of a place.
pub(in crate::conntrack) type Slot = u32;

/// An index is so many tables, since one that grows moves all that it holds.
const SHARDS: usize = 64;

/// Slots by the hash of what they hold.
#[derive(Clone, Debug)]
pub(in crate::conntrack) struct Index {
    shards: Vec<HashTable<Indexed>>,
}

/// The hash is kept, so that a table grows without a look at the entries, which are all over the memory.
#[derive(Clone, Copy, Debug)]
struct Indexed {
    hash: u32,
    slot: Slot,
}

impl Indexed {
    /// As a table wants it: it uses the lowest and the highest bits.
    fn wide_hash(self) -> u64 {
        wide(self.hash)
    }
}

fn wide(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Index {
    pub(in crate::conntrack) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
        }
    }

    /// By bits that a table of a usual size does not use itself.
    fn shard(hash: u32) -> usize {
        (hash >> 19) as usize % SHARDS
    }

    pub(in crate::conntrack) fn with_hash(&self, hash: u32) -> impl Iterator<Item = Slot> {
        let found = self.shards[Self::shard(hash)].iter_hash(wide(hash));
        let same = found.filter(move |indexed| {
            count_step();
            indexed.hash == hash
        });
        same.map(|indexed| indexed.slot)
    }

    pub(in crate::conntrack) fn insert(&mut self, slot: Slot, hash: u32) {
        let shard = &mut self.shards[Self::shard(hash)];
        let indexed = Indexed { hash, slot };
        shard.insert_unique(wide(hash), indexed, |other| other.wide_hash());
    }

    pub(in crate::conntrack) fn remove(&mut self, hash: u32, slot: Slot) {
        let shard = &mut self.shards[Self::shard(hash)];
        let is_it = |other: &Indexed| {
            count_step();
            other.slot == slot
        };
        if let Ok(found) = shard.find_entry(wide(hash), is_it) {
            found.remove();
        }
    }
}

#[cfg(test)]
thread_local! {
    static STEP_COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// In the tests, counts a number that is looked at.
fn count_step() {
    #[cfg(test)]
    STEP_COUNT.set(STEP_COUNT.get() + 1);
}

/// How many numbers were looked at by this thread, in all indexes.
#[cfg(test)]
pub(in crate::conntrack) fn step_count() -> u64 {
    STEP_COUNT.get()
}
