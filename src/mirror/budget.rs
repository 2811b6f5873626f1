//! The memory that a table may take.

use crate::timestamp::Timestamp;

/// The memory that a table may take, and the entries that found no room in it.
#[derive(Debug)]
pub(crate) struct Budget {
    most_bytes: usize,
    /// Since when entries are missing because there was no room. `None`: no entry is missing for that reason.
    pub short_since: Option<Timestamp>,
    /// An entry was left out since the last dump began, so that dump does not make the table complete.
    is_short_again: bool,
    /// How often an entry was left out.
    pub left_out_count: u64,
}

impl Budget {
    pub(crate) const fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    pub(crate) const fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            short_since: None,
            is_short_again: false,
            left_out_count: 0,
        }
    }

    /// Whether there is room for another entry.
    pub(crate) fn has_room(&self, used_bytes: usize) -> bool {
        used_bytes < self.most_bytes
    }

    /// Records that an entry was left out.
    pub(crate) fn note_left_out(&mut self) {
        self.left_out_count += 1;
        self.is_short_again = true;
        self.short_since.get_or_insert_with(Timestamp::now);
    }

    /// Whether entries are missing because there was no room.
    pub(crate) fn is_short(&self) -> bool {
        self.short_since.is_some()
    }

    /// Whether an eighth of the memory is free again, which makes a dump worth its time.
    pub(crate) fn is_worth_a_dump(&self, used_bytes: usize) -> bool {
        self.is_short() && used_bytes <= self.most_bytes - self.most_bytes / 8
    }

    /// A dump begins. It contains everything that was left out so far.
    pub(crate) fn begin(&mut self) {
        self.is_short_again = false;
    }

    /// The dump has been merged.
    pub(crate) fn finish(&mut self) {
        if !self.is_short_again {
            self.short_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_short_until_a_dump_finds_room_for_all_entries() {
        let mut budget = Budget::new(800);
        assert!(budget.has_room(799) && !budget.has_room(800));
        budget.note_left_out();
        assert!(budget.is_short() && !budget.is_worth_a_dump(701) && budget.is_worth_a_dump(700));
        budget.begin();
        budget.note_left_out();
        budget.finish();
        assert!(budget.is_short());
        budget.begin();
        budget.finish();
        assert!(!budget.is_short() && !budget.is_worth_a_dump(0));
        assert_eq!(budget.left_out_count, 2);
        assert!(Budget::unlimited().has_room(usize::MAX - 1));
    }
}
