//! What events did to flows while a dump is read. Only hashes are kept.

use hashbrown::HashTable;

/// A set consists of this many tables, because a table that grows moves everything that it holds.
const SHARDS: usize = 64;

/// Hashes of flows that an event touched, or of lifetimes that ended. Each is kept once.
#[derive(Debug)]
pub(super) struct Tombs {
    shards: Vec<HashTable<u64>>,
    count: usize,
}

impl Tombs {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            count: 0,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The most memory that the hashes take: the table adds a byte to each, and may be half empty.
    pub(super) fn bytes(&self) -> usize {
        self.count * 2 * (size_of::<u64>() + 1)
    }

    pub(super) fn insert(&mut self, hash: u64) {
        let shard = &mut self.shards[shard(hash)];
        let entry = shard.entry(hash, |other| *other == hash, |other| *other);
        if let hashbrown::hash_table::Entry::Vacant(place) = entry {
            place.insert(hash);
            self.count += 1;
        }
    }

    pub(super) fn has(&self, hash: u64) -> bool {
        let is_it = |other: &u64| *other == hash;
        self.count > 0 && self.shards[shard(hash)].find(hash, is_it).is_some()
    }

    /// Forgets all hashes, and frees their memory.
    pub(super) fn clear(&mut self) {
        if self.count > 0 {
            *self = Self::new();
        }
    }
}

fn shard(hash: u64) -> usize {
    // These bits are not used by a table itself.
    usize::try_from(hash >> 48).unwrap_or(0) % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tomb_is_there_once() {
        let mut tombs = Tombs::new();
        assert!(!tombs.has(7));
        for _ in 0..10 {
            for number in 0..5000 {
                tombs.insert(number << 32 | number);
            }
        }
        assert_eq!(tombs.count(), 5000);
        assert!(tombs.has(7 << 32 | 7) && !tombs.has(7));
        tombs.clear();
        assert!(tombs.count() == 0 && !tombs.has(7 << 32 | 7));
    }
}
