//! What a command does for any mirror: it reports the mirror's state.

use std::time::Instant;

use nlring::MirrorHealth;

use super::mirror_watch::MirrorWatch;
use super::table_file::Worth;
use crate::write::console::Console;

pub struct Keeper {
    watch: MirrorWatch,
    /// The reason to give when the table may be wrong.
    doubt: &'static str,
}

impl Keeper {
    pub fn new(doubt: &'static str) -> Self {
        Self {
            watch: MirrorWatch::default(),
            doubt,
        }
    }

    /// Records that a part of the stream is missing.
    pub fn note_missing(&mut self) {
        self.watch.note_loss(Instant::now());
    }

    /// Reports what is new about the mirror.
    pub fn look(&mut self, health: &MirrorHealth<'_>, console: &mut Console) {
        self.watch.look(health, Instant::now(), console);
    }

    /// How far the table can be trusted. `is_complete` and `health` are the mirror's.
    pub fn worth(&self, is_complete: bool, health: &MirrorHealth<'_>) -> Worth {
        if !is_complete {
            Worth::Nothing
        } else if health.wrong_since.is_none() {
            Worth::Right
        } else if health.is_full {
            Worth::Incomplete
        } else {
            Worth::Doubtful(self.doubt)
        }
    }
}

/// Warns if the last comparison with the kernel's table failed.
pub fn warn_of_last_round(finished: nlring::Result<()>, console: &mut Console) {
    if let Err(error) = finished {
        console.warn(format_args!(
            "could not compare the mirror with the kernel's table at the end: {error}"
        ));
    }
}
