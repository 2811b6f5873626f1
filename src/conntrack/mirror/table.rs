//! Entries in slots that do not move, found by identity, by reply tuple and by id.

use std::hash::{BuildHasher as _, RandomState};

use super::details::{Beside, Details};
use super::entry::{Entry, Known};
use super::index::{Index, Slot};
use super::tombs::Tombs;
use crate::conntrack::identity::{Identity, fold, hash_tuple};
use crate::conntrack::{Flow, Tuple, Zone};
use crate::event_kind::EventKind;

/// So many entries are allocated at a time. None is ever moved: that would hold up the events.
const CHUNK: usize = 1024;
/// What a flow takes: the entry, its mark, its place among the free ones, and its places in three indexes, of which each takes
/// 9 bytes and is half empty at worst.
pub(super) const FLOW_BYTES: usize =
    size_of::<Entry>() + size_of::<Mark>() + size_of::<Slot>() + 54;
/// What a hash takes that is noted while a dump is read, likewise.
const TOMB_BYTES: usize = 18;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: its place is free.
    Free,
    /// A flow that there is.
    Live,
    /// What a dump says of a flow, not merged yet.
    Pending,
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
    /// Such an event told its labels too.
    pub const TOLD_LABELS: u8 = 1 << 5;
    /// Such an event told its helper too.
    pub const TOLD_HELPER: u8 = 1 << 6;
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    kind: Kind,
    bits: u8,
}

/// The entries of one identity: one of each kind at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub live: Option<Slot>,
    pub pending: Option<Slot>,
}

#[derive(Debug)]
pub(super) struct Flows {
    chunks: Vec<Vec<Entry>>,
    beside: Beside,
    /// One for each entry, apart, so that going through all of them is quick.
    marks: Vec<Mark>,
    free: Vec<Slot>,
    live_count: usize,
    /// With a random key, because strangers choose the flows.
    hasher: RandomState,
    by_identity: Index,
    /// The live ones. No two flows have the same reply tuple, so of several the last to begin is the one that still exists:
    /// only that one is here.
    by_reply: Index,
    /// The live ones; an id may be that of several.
    by_id: Index,
    /// Since the dump under way began: identities that an event touched, and identities with the ids that ended.
    tombs: Tombs,
}

impl Flows {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            beside: Beside::default(),
            marks: Vec::new(),
            free: Vec::new(),
            live_count: 0,
            hasher: RandomState::new(),
            by_identity: Index::new(),
            by_reply: Index::new(),
            by_id: Index::new(),
            tombs: Tombs::new(),
        }
    }

    pub(super) fn live_count(&self) -> usize {
        self.live_count
    }

    /// Slots there are, the free ones included.
    pub(super) fn slot_count(&self) -> Slot {
        Slot::try_from(self.marks.len()).unwrap_or(Slot::MAX)
    }

    /// What the flows take that there are, and what is noted while a dump is read.
    pub(super) fn used_bytes(&self) -> usize {
        (self.marks.len() - self.free.len()) * FLOW_BYTES
            + self.beside.bytes()
            + self.tombs.count() * TOMB_BYTES
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

    pub(super) fn clear(&mut self, slot: Slot, bits: u8) {
        self.marks[slot as usize].bits &= !bits;
    }

    pub(super) fn entry(&self, slot: Slot) -> &Entry {
        entry(&self.chunks, slot)
    }

    /// All that is kept of a flow.
    pub(super) fn known(&self, slot: Slot) -> Known {
        Known {
            entry: *self.entry(slot),
            details: self.beside.get(slot),
        }
    }

    /// Whether nothing differs that events report.
    pub(super) fn is_same(&self, slot: Slot, other: &Known) -> bool {
        self.entry(slot).is_same(&other.entry) && self.beside.is_same(slot, &other.details)
    }

    /// Takes over what no event reports. Nothing else differs, so the flow is found as before.
    pub(super) fn absorb(&mut self, slot: Slot, told: &Known) {
        let place = slot as usize;
        self.chunks[place / CHUNK][place % CHUNK].absorb(&told.entry);
        self.beside.set_counters(slot, told.details.counters);
    }

    /// The same, as an event. The end of a flow has no counters: what they were at the last dump is not what they became.
    pub(super) fn flow(&self, slot: Slot, kind: EventKind, now_seconds: u32) -> Flow<'_> {
        let mut flow = self.entry(slot).to_flow(kind, now_seconds);
        self.beside.add_to(slot, &mut flow);
        if kind == EventKind::Delete {
            (flow.counters_orig, flow.counters_reply) = (None, None);
        }
        flow
    }

    pub(super) fn set_details(&mut self, slot: Slot, details: &Details) {
        self.beside.set(slot, details);
    }

    pub(super) fn find(&self, identity: &Identity) -> Found {
        let mut found = Found::default();
        let hash = fold(identity.hash(&self.hasher));
        for slot in self.by_identity.with_hash(hash) {
            if !self.entry(slot).has_identity(identity) {
                continue;
            }
            match self.kind(slot) {
                Kind::Free => {}
                Kind::Live => found.live = Some(slot),
                Kind::Pending => found.pending = Some(slot),
            }
        }
        found
    }

    /// An event of such a flow is held.
    pub(super) fn note_touched(&mut self, identity: &Identity) {
        self.tombs.insert(identity.hash(&self.hasher));
    }

    pub(super) fn is_touched(&self, identity: &Identity) -> bool {
        self.tombs.count() > 0 && self.tombs.has(identity.hash(&self.hasher))
    }

    /// Such a flow has ended while a dump is read.
    pub(super) fn note_ended(&mut self, identity: &Identity, id: Option<u32>) {
        let hash = identity.hash_with_id(&self.hasher, id);
        self.tombs.insert(hash);
    }

    /// Whether the flow with this id has ended since the dump began. Without an id it is not known.
    pub(super) fn has_ended(&self, identity: &Identity, id: Option<u32>) -> bool {
        self.tombs.count() > 0
            && id.is_some()
            && self.tombs.has(identity.hash_with_id(&self.hasher, id))
    }

    /// What was touched, and what ended, is of an earlier dump.
    pub(super) fn clear_tombs(&mut self) {
        self.tombs.clear();
    }

    #[cfg(test)]
    pub(super) fn tomb_count(&self) -> usize {
        self.tombs.count()
    }

    pub(super) fn find_by_reply(&self, reply: &Tuple, zone: Option<Zone>) -> Option<Slot> {
        let hash = fold(hash_tuple(&self.hasher, reply, zone));
        self.by_reply.with_hash(hash).find(|slot| {
            let entry = self.entry(*slot);
            entry.reply == Some(*reply) && entry.zone == zone
        })
    }

    pub(super) fn find_by_id(&self, id: u32) -> impl Iterator<Item = Slot> {
        let slots = self.by_id.with_hash(hash_of_id(&self.hasher, id));
        slots.filter(move |slot| self.entry(*slot).id == Some(id))
    }

    #[cfg(test)]
    pub(super) fn live(&self) -> impl Iterator<Item = &Entry> {
        self.live_from(0).map(|slot| self.entry(slot))
    }

    /// The slots of the live entries, from this slot on.
    pub(super) fn live_from(&self, first: usize) -> impl Iterator<Item = Slot> {
        let marks = self.marks.get(first..).unwrap_or_default();
        let slots = (first..self.marks.len()).zip(marks);
        let live = slots.filter(|(_, mark)| mark.kind == Kind::Live);
        live.map(|(place, _)| Slot::try_from(place).unwrap_or(Slot::MAX)) // there are no more
    }

    pub(super) fn insert(&mut self, known: &Known, kind: Kind, bits: u8) -> Slot {
        let Known { entry, details } = known;
        let slot = self.put(*entry, Mark { kind, bits });
        self.beside.set(slot, details);
        let hash = fold(entry.identity().hash(&self.hasher));
        self.by_identity.insert(slot, hash);
        if kind == Kind::Live {
            self.become_live(slot);
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

    pub(super) fn remove(&mut self, slot: Slot) {
        match self.kind(slot) {
            Kind::Free => return,
            Kind::Live => {
                self.live_count -= 1;
                self.unindex_details(slot);
            }
            Kind::Pending => {}
        }
        let hash = fold(self.entry(slot).identity().hash(&self.hasher));
        self.by_identity.remove(hash, slot);
        self.marks[slot as usize] = Mark {
            kind: Kind::Free,
            bits: 0,
        };
        self.free.push(slot);
    }

    /// Changes an entry, but not its identity.
    pub(super) fn change(&mut self, slot: Slot, f: impl FnOnce(&mut Entry)) {
        let mut changed = *self.entry(slot);
        f(&mut changed);
        let old = self.entry(slot);
        let is_indexed = self.kind(slot) == Kind::Live
            && (old.reply, old.id, old.zone) != (changed.reply, changed.id, changed.zone);
        debug_assert_eq!(old.identity(), changed.identity());
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
            Kind::Pending => self.remove(slot),
            Kind::Live | Kind::Free => self.marks[slot as usize].bits &= bits::BEGUN,
        }
    }

    fn index_details(&mut self, slot: Slot) {
        let Entry {
            reply, zone, id, ..
        } = *entry(&self.chunks, slot);
        if let Some(reply) = reply {
            let hash = fold(hash_tuple(&self.hasher, &reply, zone));
            let is_same = |other: &Slot| {
                let other = entry(&self.chunks, *other);
                other.reply == Some(reply) && other.zone == zone
            };
            let earlier = self.by_reply.with_hash(hash).find(is_same);
            if let Some(earlier) = earlier {
                self.by_reply.remove(hash, earlier);
            }
            self.by_reply.insert(slot, hash);
        }
        if let Some(id) = id {
            self.by_id.insert(slot, hash_of_id(&self.hasher, id));
        }
    }

    fn unindex_details(&mut self, slot: Slot) {
        let Entry {
            reply, zone, id, ..
        } = *entry(&self.chunks, slot);
        if let Some(reply) = reply {
            let hash = fold(hash_tuple(&self.hasher, &reply, zone));
            self.by_reply.remove(hash, slot);
        }
        if let Some(id) = id {
            self.by_id.remove(hash_of_id(&self.hasher, id), slot);
        }
    }
}

fn entry(chunks: &[Vec<Entry>], slot: Slot) -> &Entry {
    let place = slot as usize;
    &chunks[place / CHUNK][place % CHUNK]
}

fn hash_of_id(hasher: &RandomState, id: u32) -> u32 {
    fold(hasher.hash_one(id))
}
