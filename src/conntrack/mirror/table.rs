//! Entries in slots that do not move, found by key, by reply tuple and by id.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::net::IpAddr;

use super::entry::Entry;
use super::index::{Index, Slot};
use crate::conntrack::{Key, Layer4, Tuple, Zone};

/// So many entries are allocated at a time. None is ever moved: that would hold up the events.
const CHUNK: usize = 1024;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: its place is free.
    Free,
    /// A flow that there is.
    Live,
    /// What a dump says of a flow, not merged yet.
    Pending,
    /// A flow that has ended, or that an event is held of, while a dump is brought together with the events.
    Dead,
}

/// Bits of [`Mark::bits`].
pub(super) mod bits {
    /// An event told of it since the dump began, or it is merged: what the dump says is older.
    pub const TOUCHED: u8 = 1;
    /// Such an event told its protocol's state too.
    pub const TOLD_STATE: u8 = 1 << 1;
    /// The dump says the same.
    pub const SEEN: u8 = 1 << 2;
    /// The kernel does not know it, and its end may still be told by an event.
    pub const DOUBTFUL: u8 = 1 << 3;
    /// Its own NEW event has come. This one stays when a dump is merged.
    pub const BEGUN: u8 = 1 << 4;
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    kind: Kind,
    bits: u8,
}

/// The entries of one key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub live: Option<Slot>,
    pub pending: Option<Slot>,
    pub has_dead: bool,
    /// One of the dead has the id that was asked for.
    pub is_dead_id: bool,
}

#[derive(Debug)]
pub(super) struct Flows {
    chunks: Vec<Vec<Entry>>,
    /// One for each entry, apart, so that going through all of them is quick.
    marks: Vec<Mark>,
    free: Vec<Slot>,
    live_count: usize,
    dead_count: usize,
    /// Strangers choose the flows, so the hashes are keyed at random.
    hasher: RandomState,
    by_key: Index,
    /// The live ones.
    by_reply: Index,
    /// The live ones; an id may be that of several.
    by_id: Index,
}

impl Flows {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            marks: Vec::new(),
            free: Vec::new(),
            live_count: 0,
            dead_count: 0,
            hasher: RandomState::new(),
            by_key: Index::new(),
            by_reply: Index::new(),
            by_id: Index::new(),
        }
    }

    pub(super) fn live_count(&self) -> usize {
        self.live_count
    }

    pub(super) fn dead_count(&self) -> usize {
        self.dead_count
    }

    /// Slots there are, the free ones included.
    pub(super) fn slot_count(&self) -> Slot {
        Slot::try_from(self.marks.len()).unwrap_or(Slot::MAX)
    }

    pub(super) fn kind(&self, slot: Slot) -> Kind {
        self.marks[slot as usize].kind
    }

    pub(super) fn has(&self, slot: Slot, bits: u8) -> bool {
        self.marks[slot as usize].bits & bits != 0
    }

    pub(super) fn set(&mut self, slot: Slot, bits: u8) {
        self.marks[slot as usize].bits |= bits;
    }

    pub(super) fn clear(&mut self, slot: Slot, bits: u8) {
        self.marks[slot as usize].bits &= !bits;
    }

    pub(super) fn entry(&self, slot: Slot) -> &Entry {
        entry(&self.chunks, slot)
    }

    /// The entries of a key; `id` is that of the dead one that is looked for.
    pub(super) fn find(&self, key: &Key, id: Option<u32>) -> Found {
        let mut found = Found::default();
        for slot in self.by_key.with_hash(hash_of_key(&self.hasher, key)) {
            let entry = self.entry(slot);
            if entry.key() != *key {
                continue;
            }
            match self.kind(slot) {
                Kind::Free => {}
                Kind::Live => found.live = Some(slot),
                Kind::Pending => found.pending = Some(slot),
                Kind::Dead => {
                    found.has_dead = true;
                    found.is_dead_id |= id.is_some() && entry.id == id;
                }
            }
        }
        found
    }

    pub(super) fn find_by_reply(&self, reply: &Tuple, zone: Option<Zone>) -> Option<&Entry> {
        let hash = hash_of(&self.hasher, reply, zone);
        let mut entries = self.by_reply.with_hash(hash).map(|slot| self.entry(slot));
        entries.find(|entry| entry.reply == Some(*reply) && entry.zone == zone)
    }

    pub(super) fn find_by_id(&self, id: u32) -> impl Iterator<Item = &Entry> {
        let slots = self.by_id.with_hash(hash_of_id(&self.hasher, id));
        let entries = slots.map(|slot| self.entry(slot));
        entries.filter(move |entry| entry.id == Some(id))
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Entry> {
        self.live_from(0).map(|(_, entry)| entry)
    }

    /// The live entries in the slots from this one on, each with the number of the slot behind it.
    pub(super) fn live_from(&self, first: usize) -> impl Iterator<Item = (usize, &Entry)> {
        let marks = self.marks.get(first..).unwrap_or_default();
        let slots = (first..).zip(marks);
        let live = slots.filter(|(_, mark)| mark.kind == Kind::Live);
        live.map(|(place, _)| (place + 1, &self.chunks[place / CHUNK][place % CHUNK]))
    }

    pub(super) fn insert(&mut self, entry: Entry, kind: Kind, bits: u8) -> Slot {
        let slot = self.put(entry, Mark { kind, bits });
        let hash = hash_of_key(&self.hasher, &entry.key());
        self.by_key.insert(slot, hash);
        match kind {
            Kind::Live => self.become_live(slot),
            Kind::Dead => self.dead_count += 1,
            Kind::Pending | Kind::Free => {}
        }
        slot
    }

    fn put(&mut self, entry: Entry, mark: Mark) -> Slot {
        if let Some(slot) = self.free.pop() {
            let place = slot as usize;
            self.chunks[place / CHUNK][place % CHUNK] = entry;
            self.marks[place] = mark;
            return slot;
        }
        let slot = self.slot_count();
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(entry),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(entry);
                self.chunks.push(chunk);
            }
        }
        self.marks.push(mark);
        slot
    }

    /// A pending one becomes live.
    pub(super) fn promote(&mut self, slot: Slot, bits: u8) {
        self.marks[slot as usize] = Mark {
            kind: Kind::Live,
            bits,
        };
        self.become_live(slot);
    }

    fn become_live(&mut self, slot: Slot) {
        self.live_count += 1;
        self.index_details(slot);
    }

    /// A live one becomes dead.
    pub(super) fn bury(&mut self, slot: Slot) {
        self.live_count -= 1;
        self.dead_count += 1;
        self.unindex_details(slot);
        self.marks[slot as usize] = Mark {
            kind: Kind::Dead,
            bits: 0,
        };
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        if self.kind(slot) == Kind::Live {
            self.bury(slot);
        }
        match self.kind(slot) {
            Kind::Free => return,
            Kind::Dead => self.dead_count -= 1,
            Kind::Live | Kind::Pending => {}
        }
        let hash = hash_of_key(&self.hasher, &self.entry(slot).key());
        self.by_key.remove(hash, slot);
        self.marks[slot as usize] = Mark {
            kind: Kind::Free,
            bits: 0,
        };
        self.free.push(slot);
    }

    /// Changes an entry, but for its key.
    pub(super) fn change(&mut self, slot: Slot, f: impl FnOnce(&mut Entry)) {
        let mut changed = *self.entry(slot);
        f(&mut changed);
        let old = self.entry(slot);
        let is_indexed = self.kind(slot) == Kind::Live
            && (old.reply, old.id, old.zone) != (changed.reply, changed.id, changed.zone);
        if is_indexed {
            self.unindex_details(slot);
        }
        let place = slot as usize;
        self.chunks[place / CHUNK][place % CHUNK] = changed;
        if is_indexed {
            self.index_details(slot);
        }
    }

    /// Removes an entry unless it is live, and clears the marks that are of one dump.
    pub(super) fn clear_marks(&mut self, slot: Slot) {
        match self.kind(slot) {
            Kind::Pending | Kind::Dead => self.remove(slot),
            Kind::Live | Kind::Free => self.marks[slot as usize].bits &= bits::BEGUN,
        }
    }

    fn index_details(&mut self, slot: Slot) {
        let entry = self::entry(&self.chunks, slot);
        if let Some(hash) = hash_of_reply(&self.hasher, entry) {
            self.by_reply.insert(slot, hash);
        }
        if let Some(id) = entry.id {
            self.by_id.insert(slot, hash_of_id(&self.hasher, id));
        }
    }

    fn unindex_details(&mut self, slot: Slot) {
        let entry = self::entry(&self.chunks, slot);
        if let Some(hash) = hash_of_reply(&self.hasher, entry) {
            self.by_reply.remove(hash, slot);
        }
        if let Some(id) = entry.id {
            self.by_id.remove(hash_of_id(&self.hasher, id), slot);
        }
    }
}

fn entry(chunks: &[Vec<Entry>], slot: Slot) -> &Entry {
    let place = slot as usize;
    &chunks[place / CHUNK][place % CHUNK]
}

/// The hash of a tuple in a zone. Only 32 bits of it are kept.
fn hash_of(hasher: &RandomState, tuple: &Tuple, zone: Option<Zone>) -> u32 {
    let mut state = hasher.build_hasher();
    match (tuple.src, tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            state.write_u64(u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits()));
        }
        (src, dst) => (src, dst).hash(&mut state),
    }
    let layer4 = match tuple.layer4 {
        Layer4::None => 0,
        Layer4::Ports { src, dst } => u32::from(src) << 16 | u32::from(dst),
        Layer4::Icmp {
            icmp_type,
            code,
            id,
        } => u32::from_be_bytes([icmp_type, code, 0, 0]) | u32::from(id),
    };
    let [a, b] = zone.map_or(0, |zone| zone.id).to_be_bytes();
    state.write_u64(
        u64::from(layer4) << 32 | u64::from(u32::from_be_bytes([tuple.protocol, 0, a, b])),
    );
    fold(state.finish())
}

fn fold(hash: u64) -> u32 {
    let [.., a, b, c, d] = hash.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn hash_of_key(hasher: &RandomState, key: &Key) -> u32 {
    hash_of(hasher, &key.orig, key.zone)
}

fn hash_of_reply(hasher: &RandomState, entry: &Entry) -> Option<u32> {
    Some(hash_of(hasher, entry.reply.as_ref()?, entry.zone))
}

fn hash_of_id(hasher: &RandomState, id: u32) -> u32 {
    fold(hasher.hash_one(id))
}
