//! Which live routes an event may have replaced if a place has several.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::mirror::{Slot, count_step};

/// The routes are in this many tables, because a table that grows moves everything that it holds.
const SHARDS: usize = 64;

/// What a route may have replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    None,
    One(Slot),
    /// One of several, and it is unknown which.
    Unsure,
}

impl Replaced {
    /// The same, if it is not sure that a route was replaced.
    pub(super) fn or_unsure(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::One(_) | Self::Unsure => Self::Unsure,
        }
    }
}

/// The routes that one event may replace.
#[derive(Clone, Copy, Debug)]
struct Group {
    hash: u64,
    count: u32,
    /// All their slots, combined by exclusive or. If there is one route, this is its slot.
    combined: Slot,
}

/// How many routes each event may replace, and which one if there is one. A key may have thousands of routes: each device
/// has its own `fe80::/64`. So a group has no list of them.
#[derive(Debug)]
pub(super) struct Replaceable {
    shards: Vec<HashTable<Group>>,
    group_count: usize,
}

impl Replaceable {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            group_count: 0,
        }
    }

    /// The most memory that the groups take: the table adds a byte to each, and may be half empty.
    pub(super) fn bytes(&self) -> usize {
        self.group_count * 2 * (size_of::<Group>() + 1)
    }

    pub(super) fn add(&mut self, hash: u64, slot: Slot) {
        let place = self.shards[shard(hash)].entry(hash, is(hash), |group| group.hash);
        if matches!(place, Entry::Vacant(_)) {
            self.group_count += 1;
        }
        let new = Group {
            hash,
            count: 0,
            combined: 0,
        };
        let mut found = place.or_insert(new);
        let group = found.get_mut();
        group.count += 1;
        group.combined ^= slot;
    }

    /// Removes a route that was added with this hash.
    pub(super) fn remove(&mut self, hash: u64, slot: Slot) {
        let Ok(mut found) = self.shards[shard(hash)].find_entry(hash, is(hash)) else {
            debug_assert!(false, "it was added");
            return;
        };
        let group = found.get_mut();
        group.count -= 1;
        group.combined ^= slot;
        if group.count == 0 {
            found.remove();
            self.group_count -= 1;
        }
    }

    /// The routes with this hash, apart from one of them.
    pub(super) fn apart_from(&self, hash: u64, one: Option<Slot>) -> Replaced {
        let Some(group) = self.shards[shard(hash)].find(hash, is(hash)) else {
            return Replaced::None;
        };
        match group.count - u32::from(one.is_some()) {
            0 => Replaced::None,
            1 => Replaced::One(group.combined ^ one.unwrap_or(0)),
            _ => Replaced::Unsure,
        }
    }
}

fn is(hash: u64) -> impl Fn(&Group) -> bool {
    move |group| {
        count_step();
        group.hash == hash
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
    fn the_last_one_of_a_group_is_known() {
        let mut routes = Replaceable::new();
        for slot in 0..5 {
            routes.add(7, slot);
        }
        routes.add(8, 9);
        assert_eq!(routes.apart_from(7, None), Replaced::Unsure);
        for slot in [0, 4, 2] {
            routes.remove(7, slot);
        }
        assert_eq!(routes.apart_from(7, None), Replaced::Unsure);
        assert_eq!(routes.apart_from(7, Some(3)), Replaced::One(1));
        routes.remove(7, 3);
        assert_eq!(routes.apart_from(7, None), Replaced::One(1));
        assert_eq!(routes.apart_from(7, Some(1)), Replaced::None);
        routes.remove(7, 1);
        assert_eq!(routes.apart_from(7, None), Replaced::None);
        assert_eq!(routes.bytes(), 2 * (size_of::<Group>() + 1));
    }
}
