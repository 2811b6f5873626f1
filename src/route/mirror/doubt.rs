//! Where the kernel may have routes that the mirror does not know.

use std::collections::HashSet;
use std::mem;

/// The places where the kernel may have routes that the mirror does not know, because their events are missing and no
/// dump since then has shown everything there.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// The hashes of the places. `None`: every place.
    places: Option<HashSet<u32>>,
    /// Those that the merge under way leaves in doubt.
    left: HashSet<u32>,
}

impl Doubt {
    /// Events are missing, and nothing says where.
    pub(super) fn everywhere(&mut self) {
        *self = Self::default();
    }

    /// The dump under way may have skipped routes at this place. True: that leaves the place in doubt.
    pub(super) fn note_maybe_skipped(&mut self, place_hash: u32) -> bool {
        let was_in_doubt = match &self.places {
            Some(places) => places.contains(&place_hash),
            None => true,
        };
        if was_in_doubt {
            self.left.insert(place_hash);
        }
        was_in_doubt
    }

    /// A merge begins.
    pub(super) fn begin_merge(&mut self) {
        self.left.clear();
    }

    /// Everything is merged.
    pub(super) fn finish_merge(&mut self) {
        self.places = Some(mem::take(&mut self.left));
    }
}
