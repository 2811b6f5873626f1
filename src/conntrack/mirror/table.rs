//! Entries in slots that do not move, found by identity, by reply tuple and by id.

use std::hash::{BuildHasher as _, RandomState};
use std::hint::black_box;
use std::sync::OnceLock;

use super::details::{Beside, Details};
use super::entry::{Entry, Known};
use super::tombs::Tombs;
use crate::conntrack::identity::{Identity, hash_tuple};
use crate::conntrack::{Flow, Tuple, Zone};
use crate::event_kind::EventKind;
use crate::mirror::{Index, Kind, Marks, Slot, fold};

/// This many entries are allocated together. None is ever moved, because that would delay the events.
const CHUNK: usize = 1024;
/// The most memory that a flow takes: its entry, its mark, and its slot in three indexes.
pub(super) const FLOW_BYTES: usize = size_of::<Entry>() + Marks::SLOT_BYTES + 3 * Index::SLOT_BYTES;

/// The bits of a flow's mark. All but those of `LASTING` concern the dump under way.
pub(super) mod bits {
    /// An event reported the flow since the dump began, or the flow is merged: what the dump says is older.
    pub const TOUCHED: u8 = 1;
    /// An event reported the flow's protocol state since the dump began.
    pub const REPORTED_STATE: u8 = 1 << 1;
    /// The dump says the same.
    pub const SEEN: u8 = 1 << 2;
    /// The kernel was asked about the flow, and no event has reported the flow since.
    pub const ASKED: u8 = 1 << 3;
    /// The flow's own NEW event has arrived.
    pub const BEGUN: u8 = 1 << 4;
    /// An event reported the flow's labels since the dump began.
    pub const REPORTED_LABELS: u8 = 1 << 5;
    /// An event reported the flow's helper since the dump began.
    pub const REPORTED_HELPER: u8 = 1 << 6;
    /// The flow matches the mirror's filter, and was handed out. Without a filter this bit is not used.
    pub const SHOWN: u8 = 1 << 7;

    /// These bits stay when a dump is merged.
    pub const LASTING: u8 = BEGUN | SHOWN;
}

/// The entries of one identity: at most one of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub live: Option<Slot>,
    pub pending: Option<Slot>,
}

#[derive(Debug)]
pub(super) struct Flows {
    chunks: Vec<Vec<Entry>>,
    beside: Beside,
    marks: Marks,
    live_count: usize,
    shown_count: usize,
    /// With a random key, because outsiders choose the flows.
    hasher: RandomState,
    by_identity: Index,
    /// Live flows. No two flows of the kernel have the same reply tuple. If the table has several, only the last to
    /// begin still exists, and only that one is here. The index is built when it is first needed, because it makes each
    /// beginning and end of a flow slower.
    by_reply: OnceLock<Index>,
    /// Live flows. Several may have the same id. This index is also built when it is first needed.
    by_id: OnceLock<Index>,
    /// What events did since the dump under way began: the identities that they touched, and the identities with the
    /// ids that they ended.
    tombs: Tombs,
}

impl Flows {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            beside: Beside::default(),
            marks: Marks::default(),
            live_count: 0,
            shown_count: 0,
            hasher: RandomState::new(),
            by_identity: Index::new(),
            by_reply: OnceLock::new(),
            by_id: OnceLock::new(),
            tombs: Tombs::new(),
        }
    }

    pub(super) fn live_count(&self) -> usize {
        self.live_count
    }

    /// How many live flows are recorded as shown.
    pub(super) fn shown_count(&self) -> usize {
        self.shown_count
    }

    pub(super) fn is_shown(&self, slot: Slot) -> bool {
        self.has(slot, bits::SHOWN)
    }

    /// Records whether a live flow is shown.
    pub(super) fn set_shown(&mut self, slot: Slot, is_shown: bool) {
        if is_shown == self.is_shown(slot) {
            return;
        }
        if is_shown {
            self.set(slot, bits::SHOWN);
            self.shown_count += 1;
        } else {
            self.clear(slot, bits::SHOWN);
            self.shown_count -= 1;
        }
    }

    pub(super) fn slot_count(&self) -> Slot {
        self.marks.slot_count()
    }

    /// The memory of the flows, including what is recorded while a dump is read.
    pub(super) fn used_bytes(&self) -> usize {
        self.marks.used_count() * FLOW_BYTES + self.beside.bytes() + self.tombs.bytes()
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

    pub(super) fn clear(&mut self, slot: Slot, bits: u8) {
        self.marks.clear(slot, bits);
    }

    pub(super) fn entry(&self, slot: Slot) -> &Entry {
        entry(&self.chunks, slot)
    }

    /// Everything that is kept of a flow.
    pub(super) fn known(&self, slot: Slot) -> Known {
        Known {
            entry: *self.entry(slot),
            details: self.beside.get(slot),
        }
    }

    /// Whether both have the same values of everything that events report.
    pub(super) fn is_same(&self, slot: Slot, other: &Known) -> bool {
        self.entry(slot).is_same(&other.entry) && self.beside.is_same(slot, &other.details)
    }

    /// Copies what no event reports. Nothing else differs, so the flow is found as before.
    pub(super) fn absorb(&mut self, slot: Slot, dumped: &Known) {
        let place = slot as usize;
        self.chunks[place / CHUNK][place % CHUNK].absorb(&dumped.entry);
        self.beside.set_counters(slot, dumped.details.counters);
    }

    /// A flow as an event. The end of a flow has no counters, because those of the last dump are not the final ones.
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
                Kind::Free | Kind::Dead => {}
                Kind::Live => found.live = Some(slot),
                Kind::Pending => found.pending = Some(slot),
            }
        }
        found
    }

    /// Prefetches what is kept of these flows: the places in the index of all, then the entries of all.
    pub(super) fn load<const N: usize>(&self, identities: &[Option<Identity>; N]) {
        let hashes = identities.map(|identity| Some(fold(identity?.hash(&self.hasher))));
        let places = hashes.map(|hash| Some(self.by_identity.with_hash(hash?)));
        let slots = places.map(|place| place?.next());
        for slot in slots.into_iter().flatten() {
            let entry = self.entry(slot);
            black_box((entry.orig.src, entry.reply, entry.start, entry.status));
            black_box(self.kind(slot));
        }
    }

    /// Records that an event of such a flow is held.
    pub(super) fn note_touched(&mut self, identity: &Identity) {
        self.tombs.insert(identity.hash(&self.hasher));
    }

    pub(super) fn is_touched(&self, identity: &Identity) -> bool {
        self.tombs.count() > 0 && self.tombs.has(identity.hash(&self.hasher))
    }

    /// Records that such a flow has ended while a dump is read.
    pub(super) fn note_ended(&mut self, identity: &Identity, id: Option<u32>) {
        let hash = identity.hash_with_id(&self.hasher, id);
        self.tombs.insert(hash);
    }

    /// Whether the flow with this id has ended since the dump began. Without an id that is not known.
    pub(super) fn has_ended(&self, identity: &Identity, id: Option<u32>) -> bool {
        self.tombs.count() > 0
            && id.is_some()
            && self.tombs.has(identity.hash_with_id(&self.hasher, id))
    }

    /// Forgets what was recorded during an earlier dump.
    pub(super) fn clear_tombs(&mut self) {
        self.tombs.clear();
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn tomb_count(&self) -> usize {
        self.tombs.count()
    }

    pub(super) fn find_by_reply(&self, reply: &Tuple, zone: Option<Zone>) -> Option<Slot> {
        let hash = fold(hash_tuple(&self.hasher, reply, zone));
        let by_reply = self.by_reply.get_or_init(|| {
            let mut by_reply = Index::new();
            let mut slots: Vec<Slot> = self.live_from(0).collect();
            slots.sort_by_cached_key(|slot| self.entry(*slot).start.ns()); // the last to begin counts
            for slot in slots {
                index_reply(&mut by_reply, &self.chunks, &self.hasher, slot);
            }
            by_reply
        });
        by_reply.with_hash(hash).find(|slot| {
            let entry = self.entry(*slot);
            entry.reply == Some(*reply) && entry.zone == zone
        })
    }

    pub(super) fn find_by_id(&self, id: u32) -> impl Iterator<Item = Slot> {
        let by_id = self.by_id.get_or_init(|| {
            let mut by_id = Index::new();
            for slot in self.live_from(0) {
                if let Some(id) = self.entry(slot).id {
                    by_id.insert(hash_of_id(&self.hasher, id), slot);
                }
            }
            by_id
        });
        let slots = by_id.with_hash(hash_of_id(&self.hasher, id));
        slots.filter(move |slot| self.entry(*slot).id == Some(id))
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn live(&self) -> impl Iterator<Item = &Entry> {
        self.live_from(0).map(|slot| self.entry(slot))
    }

    /// The slots of the live entries, from this slot on.
    pub(super) fn live_from(&self, first: usize) -> impl Iterator<Item = Slot> {
        self.marks.live_from(first)
    }

    pub(super) fn insert(&mut self, known: &Known, kind: Kind, bits: u8) -> Slot {
        let Known { entry, details } = known;
        let slot = self.marks.occupy(kind, bits);
        self.put(slot, *entry);
        self.beside.set(slot, details);
        let hash = fold(entry.identity().hash(&self.hasher));
        self.by_identity.insert(hash, slot);
        if kind == Kind::Live {
            self.become_live(slot);
        }
        slot
    }

    /// Puts an entry into a slot that was free, or that is new.
    fn put(&mut self, slot: Slot, entry: Entry) {
        let place = slot as usize;
        if self.chunks.len() <= place / CHUNK {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = &mut self.chunks[place / CHUNK];
        match chunk.get_mut(place % CHUNK) {
            Some(before) => *before = entry,
            None => chunk.push(entry),
        }
    }

    /// A pending entry becomes live.
    pub(super) fn promote(&mut self, slot: Slot, bits: u8) {
        self.marks.set_kind(slot, Kind::Live, bits);
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
                self.set_shown(slot, false);
                self.unindex_details(slot);
            }
            Kind::Pending | Kind::Dead => {}
        }
        let hash = fold(self.entry(slot).identity().hash(&self.hasher));
        self.by_identity.remove(hash, slot);
        self.marks.release(slot);
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

    /// Removes an entry unless it is live, and clears the marks that concern one dump.
    pub(super) fn clear_marks(&mut self, slot: Slot) {
        match self.kind(slot) {
            Kind::Pending | Kind::Dead => self.remove(slot),
            Kind::Live | Kind::Free => self.marks.clear(slot, !bits::LASTING),
        }
    }

    fn index_details(&mut self, slot: Slot) {
        if let Some(by_reply) = self.by_reply.get_mut() {
            index_reply(by_reply, &self.chunks, &self.hasher, slot);
        }
        if let Some(by_id) = self.by_id.get_mut()
            && let Some(id) = entry(&self.chunks, slot).id
        {
            by_id.insert(hash_of_id(&self.hasher, id), slot);
        }
    }

    fn unindex_details(&mut self, slot: Slot) {
        let Entry {
            reply, zone, id, ..
        } = entry(&self.chunks, slot);
        if let Some(by_reply) = self.by_reply.get_mut()
            && let Some(reply) = reply
        {
            by_reply.remove(fold(hash_tuple(&self.hasher, reply, *zone)), slot);
        }
        if let Some(by_id) = self.by_id.get_mut()
            && let Some(id) = id
        {
            by_id.remove(hash_of_id(&self.hasher, *id), slot);
        }
    }
}

/// Puts a live flow into the index by reply tuple, instead of an earlier one with the same.
fn index_reply(by_reply: &mut Index, chunks: &[Vec<Entry>], hasher: &RandomState, slot: Slot) {
    let Entry { reply, zone, .. } = *entry(chunks, slot);
    let Some(reply) = reply else {
        return;
    };
    let hash = fold(hash_tuple(hasher, &reply, zone));
    let is_same = |other: &Slot| {
        let other = entry(chunks, *other);
        other.reply == Some(reply) && other.zone == zone
    };
    let earlier = by_reply.with_hash(hash).find(is_same);
    if let Some(earlier) = earlier {
        by_reply.remove(hash, earlier);
    }
    by_reply.insert(hash, slot);
}

fn entry(chunks: &[Vec<Entry>], slot: Slot) -> &Entry {
    let place = slot as usize;
    &chunks[place / CHUNK][place % CHUNK]
}

fn hash_of_id(hasher: &RandomState, id: u32) -> u32 {
    fold(hasher.hash_one(id))
}
