//! What a command does for a mirror of any table: it reports the mirror's state, and writes --table.

use std::path::Path;
use std::time::Instant;

use nlring::MirrorHealth;

use super::mirror_watch::MirrorWatch;
use super::session::Session;
use super::table_file::{TableFile, Worth};
use crate::outcome::Failure;
use crate::write::console::Console;

pub struct Keeper {
    table: Option<TableFile>,
    watch: MirrorWatch,
    /// The reason to give when the table may be wrong.
    doubt: &'static str,
    /// How far the table could be trusted after the last turn.
    worth: Worth,
}

impl Keeper {
    /// Opens the file of --table, if there is one.
    pub fn open(
        table: Option<&Path>,
        doubt: &'static str,
        session: &Session<'_>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            table: table
                .map(|path| TableFile::open(path, session))
                .transpose()?,
            ..Self::without_table(doubt)
        })
    }

    /// Keeps no file of a table.
    pub fn without_table(doubt: &'static str) -> Self {
        Self {
            table: None,
            watch: MirrorWatch::default(),
            doubt,
            worth: Worth::Nothing,
        }
    }

    /// Notes that a part of the stream is missing.
    pub fn note_missing(&mut self) {
        self.watch.note_loss(Instant::now());
    }

    /// When there is work, for the mirror or for the table, if no event comes before.
    pub fn due(&self, mirror_due: Option<Instant>) -> Option<Instant> {
        if self.is_writing_table() {
            Some(Instant::now())
        } else {
            mirror_due
        }
    }

    /// Asks for the table to be written, a slice after each turn.
    pub fn ask_for_table(&mut self) {
        if let Some(table) = &mut self.table {
            table.ask();
        }
    }

    /// Whether a table that was asked for is being written.
    pub fn is_writing_table(&self) -> bool {
        let table = self.table.as_ref();
        table.is_some_and(|table| table.is_due(self.worth))
    }

    /// Reports what is new about the mirror, and writes a slice of the table if it was asked for.
    ///
    /// `is_complete` and `health` are the mirror's. `entries` gives its entries from a position on, and `format`
    /// appends the line of one.
    pub fn after_turn<T, I: Iterator<Item = (usize, T)>>(
        &mut self,
        is_complete: bool,
        health: &MirrorHealth<'_>,
        entries: impl FnOnce(usize) -> I,
        format: impl FnMut(&mut Vec<u8>, T),
        console: &mut Console,
    ) {
        self.worth = self.worth_of(is_complete, health);
        self.watch.look(health, Instant::now(), console);
        if let Some(table) = &mut self.table
            && let Err(failure) = table.advance(self.worth, entries, format)
        {
            console.warn(failure);
        }
    }

    /// Writes the whole table at the end of the run, or warns that there is none.
    pub fn end<T>(
        self,
        is_complete: bool,
        health: &MirrorHealth<'_>,
        entries: impl Iterator<Item = (usize, T)>,
        format: impl FnMut(&mut Vec<u8>, T),
        console: &mut Console,
    ) -> Result<(), Failure> {
        let worth = self.worth_of(is_complete, health);
        match self.table {
            Some(table) => table.end(worth, entries, format, console),
            None => Ok(()),
        }
    }

    fn worth_of(&self, is_complete: bool, health: &MirrorHealth<'_>) -> Worth {
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
