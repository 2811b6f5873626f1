//! Slots found by a hash of what they hold.

use hashbrown::HashTable;

/// The number of a place for an entry in a table.
pub(crate) type Slot = u32;

/// An index consists of this many tables, because a table that grows moves everything that it holds, which would delay
/// the events.
const SHARDS: usize = 64;

/// Slots by the hash of what they hold.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    shards: Vec<HashTable<Indexed>>,
}

/// The hash is kept beside the slot, so that a table grows without reading the entries, which are scattered in memory.
#[derive(Clone, Copy, Debug)]
struct Indexed {
    hash: u32,
    slot: Slot,
}

impl Index {
    /// The most memory that a slot takes in an index: the slot and one byte of the table, twice, because an index may
    /// be half empty.
    pub(crate) const SLOT_BYTES: usize = 2 * (size_of::<Indexed>() + 1);

    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
        }
    }

    /// The slots with this hash.
    pub(crate) fn with_hash(&self, hash: u32) -> impl Iterator<Item = Slot> {
        let found = self.shards[shard(hash)].iter_hash(wide(hash));
        let same = found.filter(move |indexed| {
            count_step();
            indexed.hash == hash
        });
        same.map(|indexed| indexed.slot)
    }

    pub(crate) fn insert(&mut self, hash: u32, slot: Slot) {
        let shard = &mut self.shards[shard(hash)];
        let indexed = Indexed { hash, slot };
        shard.insert_unique(wide(hash), indexed, |other| wide(other.hash));
    }

    pub(crate) fn remove(&mut self, hash: u32, slot: Slot) {
        let shard = &mut self.shards[shard(hash)];
        if let Ok(found) = shard.find_entry(wide(hash), |other| is_slot(*other, slot)) {
            found.remove();
        }
    }

    /// Puts another slot, whose entry has the same hash, in the place of one.
    pub(crate) fn replace(&mut self, hash: u32, slot: Slot, other: Slot) {
        let shard = &mut self.shards[shard(hash)];
        if let Some(found) = shard.find_mut(wide(hash), |other| is_slot(*other, slot)) {
            found.slot = other;
        }
    }
}

fn is_slot(indexed: Indexed, slot: Slot) -> bool {
    count_step();
    indexed.slot == slot
}

/// The half of a hash by which an index finds slots.
#[inline]
pub(crate) fn fold(hash: u64) -> u32 {
    let [.., a, b, c, d] = hash.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// A hash in the form that a table needs: it uses the lowest and the highest bits.
fn wide(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Chosen by bits that a table of a usual size does not use itself.
fn shard(hash: u32) -> usize {
    (hash >> 19) as usize % SHARDS
}

#[cfg(any(test, fuzzing))]
thread_local! {
    static STEP_COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts a slot or an entry that is visited. Tests measure work in these steps; other builds count nothing.
#[inline]
pub(crate) fn count_step() {
    #[cfg(any(test, fuzzing))]
    STEP_COUNT.set(STEP_COUNT.get() + 1);
}

/// How many slots and entries this thread has visited, in all tables.
#[cfg(any(test, fuzzing))]
pub(crate) fn step_count() -> u64 {
    STEP_COUNT.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_by_their_hash() {
        let mut index = Index::new();
        for slot in 0..5000 {
            index.insert(slot % 1000 * 0x0010_0007, slot);
        }
        let find = |index: &Index, hash: u32| {
            let mut slots: Vec<_> = index.with_hash(hash * 0x0010_0007).collect();
            slots.sort_unstable();
            slots
        };
        assert_eq!(find(&index, 7), [7, 1007, 2007, 3007, 4007]);
        index.remove(7 * 0x0010_0007, 2007);
        index.replace(7 * 0x0010_0007, 7, 9999);
        assert_eq!(find(&index, 7), [1007, 3007, 4007, 9999]);
        assert!(find(&index, 1000).is_empty());
    }
}
