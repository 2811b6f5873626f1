//! What is known about each slot of a table, apart from the entry in it.

use super::index::Slot;

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Free,
    /// An entry of the mirror.
    Live,
    /// An entry of a dump that is not merged yet.
    Pending,
    /// An entry that an event ended during a dump. It is kept so that the dump does not restore the entry.
    Dead,
}

/// What is known about a slot: what is in it, and 8 bits of the table's own.
#[derive(Clone, Copy, Debug)]
struct Mark {
    kind: Kind,
    bits: u8,
}

/// The marks of all slots. They are kept apart from the entries, so that all of them can be read quickly.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    marks: Vec<Mark>,
    free: Vec<Slot>,
}

impl Marks {
    /// What a slot takes: its mark, and its place among the free ones.
    pub(crate) const SLOT_BYTES: usize = size_of::<Mark>() + size_of::<Slot>();

    /// How many slots there are, free ones included.
    pub(crate) fn slot_count(&self) -> Slot {
        Slot::try_from(self.marks.len()).unwrap_or(Slot::MAX)
    }

    /// How many slots are not free.
    pub(crate) fn used_count(&self) -> usize {
        self.marks.len() - self.free.len()
    }

    /// Takes a free slot, or a new one behind the last.
    pub(crate) fn occupy(&mut self, kind: Kind, bits: u8) -> Slot {
        let mark = Mark { kind, bits };
        if let Some(slot) = self.free.pop() {
            self.marks[slot as usize] = mark;
            return slot;
        }
        let slot = self.slot_count();
        self.marks.push(mark);
        slot
    }

    /// Frees a slot that is not free.
    pub(crate) fn release(&mut self, slot: Slot) {
        self.set_kind(slot, Kind::Free, 0);
        self.free.push(slot);
    }

    pub(crate) fn kind(&self, slot: Slot) -> Kind {
        self.marks[slot as usize].kind
    }

    pub(crate) fn set_kind(&mut self, slot: Slot, kind: Kind, bits: u8) {
        self.marks[slot as usize] = Mark { kind, bits };
    }

    pub(crate) fn bits(&self, slot: Slot) -> u8 {
        self.marks[slot as usize].bits
    }

    /// Whether any of these bits is set.
    pub(crate) fn has(&self, slot: Slot, bits: u8) -> bool {
        self.bits(slot) & bits != 0
    }

    pub(crate) fn set(&mut self, slot: Slot, bits: u8) {
        self.marks[slot as usize].bits |= bits;
    }

    pub(crate) fn clear(&mut self, slot: Slot, bits: u8) {
        self.marks[slot as usize].bits &= !bits;
    }

    /// The slots with live entries, from this one on.
    pub(crate) fn live_from(&self, first: usize) -> impl Iterator<Item = Slot> {
        let marks = self.marks.get(first..).unwrap_or_default();
        let slots = (first..self.marks.len()).zip(marks);
        let live = slots.filter(|(_, mark)| mark.kind == Kind::Live);
        live.map(|(place, _)| Slot::try_from(place).unwrap_or(Slot::MAX)) // there are no more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_slot_is_taken_before_a_new_one() {
        let mut marks = Marks::default();
        for slot in 0..3 {
            assert_eq!(marks.occupy(Kind::Live, 1), slot);
        }
        marks.release(1);
        assert_eq!((marks.slot_count(), marks.used_count()), (3, 2));
        assert_eq!((marks.kind(1), marks.bits(1)), (Kind::Free, 0));
        assert!(marks.live_from(0).eq([0, 2]) && marks.live_from(9).next().is_none());
        assert_eq!(marks.occupy(Kind::Pending, 6), 1);
        marks.set(1, 8);
        marks.clear(1, 2);
        assert!(marks.has(1, 4 | 2) && !marks.has(1, 2) && marks.bits(1) == 12);
    }
}
