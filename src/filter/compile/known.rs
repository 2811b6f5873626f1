//! What is known at a place in a program, so that nothing is looked up twice.

use std::collections::BTreeMap;

use crate::filter::test::{Field, Path};

/// What a register holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Value(Field),
    OffsetOf(Path),
}

/// What holds at a place of the program.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub a: Option<Content>,
    pub x: Option<Path>,
    /// Whether attributes are there.
    pub presence: BTreeMap<Path, bool>,
    /// The attributes whose offsets are stored.
    pub stored: Vec<Path>,
}

impl Known {
    /// What holds in both.
    pub fn common(mut self, other: &Self) -> Self {
        self.a = self.a.filter(|_| self.a == other.a);
        self.x = self.x.filter(|_| self.x == other.x);
        self.presence
            .retain(|path, is_present| other.presence.get(path) == Some(is_present));
        self.stored.retain(|path| other.stored.contains(path));
        self
    }

    pub fn is_present(&self, path: Path) -> Option<bool> {
        let is_outer_missing = || {
            let mut outer = path.and_outer();
            outer.any(|outer| self.presence.get(&outer) == Some(&false))
        };
        let known = self.presence.get(&path).copied();
        known.or_else(|| is_outer_missing().then_some(false))
    }

    pub fn note_presence(&mut self, path: Path, is_present: bool) {
        self.presence.insert(path, is_present);
    }
}
