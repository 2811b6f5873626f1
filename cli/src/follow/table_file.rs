//! The file of --table. A mirror's table is written in slices between the turns, and replaces the former file when it
//! is whole.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nlring_print::text::shown;

use crate::follow::session::Session;
use crate::outcome::Failure;
use crate::write::console::Console;
use crate::write::place::{Kind, Place, Replacement};

/// How long a slice of writing may delay the events.
const SLICE: Duration = Duration::from_micros(500);
/// How many entries are written between two looks at the clock.
const LOOK_AT_CLOCK: u32 = 16;
const BUFFER_BYTES: usize = 64 << 10;
/// The last line of a table that lacks entries.
const INCOMPLETE: &[u8] = b"{\"event\":\"incomplete\"}\n";

pub struct TableFile {
    place: Rc<Place>,
    /// Whether the table was asked for and is not begun.
    is_wanted: bool,
    writing: Option<Writing>,
}

/// How far a mirror's table can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Nothing yet, because the kernel's table has not been read: there is nothing to write.
    Nothing,
    /// The table may be wrong, for this reason.
    Doubtful(&'static str),
    /// Entries are missing, because the mirror's memory had no room for them.
    Incomplete,
    /// The table equals the kernel's, as far as is known.
    Right,
}

impl TableFile {
    /// Makes sure that the file can be written, and is not that of another option, before any event is missed.
    pub fn open(path: &Path, session: &Session<'_>) -> Result<Self, Failure> {
        let fail =
            |error: io::Error| Failure::Other(format!("open {} for --table: {error}", shown(path)));
        let place = Rc::new(Place::find(path).map_err(fail)?);
        if place.kind().map_err(fail)? == Kind::Other {
            return Err(Failure::Usage(format!(
                "--table {}: that is no regular file, and the table replaces what is there; give the name of a file",
                shown(path)
            )));
        }
        if let Some(option) = session.option_of_file(&place) {
            return Err(Failure::Usage(format!(
                "--table {}: that is the same file as that of {option}; give each its own",
                shown(path)
            )));
        }
        place.begin_replacement().map_err(fail)?; // removed at once
        Ok(Self {
            place,
            is_wanted: false,
            writing: None,
        })
    }

    /// Asks for the table to be written as soon as there is one. If it is being written now, it is written once more.
    pub fn ask(&mut self) {
        self.is_wanted = true;
    }

    /// Whether there is something to write now.
    pub fn is_due(&self, worth: Worth) -> bool {
        self.writing.is_some() || self.is_wanted && worth != Worth::Nothing
    }

    /// Writes a slice, if that is due: a line of `format` for each of the `entries` from a position on.
    ///
    /// # Errors
    ///
    /// The table could not be written, or it was written and may be wrong. The run continues in both cases.
    pub fn advance<T, I: Iterator<Item = (usize, T)>>(
        &mut self,
        worth: Worth,
        entries: impl FnOnce(usize) -> I,
        format: impl FnMut(&mut Vec<u8>, T),
    ) -> Result<(), Failure> {
        if !self.is_due(worth) {
            return Ok(());
        }
        match self.write_slice(worth, entries, format) {
            Ok(None) => Ok(()),
            Ok(Some(doubt)) => Err(Failure::Other(format!(
                "the table in {} may be wrong: {doubt}, and the mirror is not repaired yet",
                shown(self.place.path())
            ))),
            Err(error) => Err(failure(&self.place, &error)),
        }
    }

    /// Returns the doubt about a table that is complete now.
    fn write_slice<T, I: Iterator<Item = (usize, T)>>(
        &mut self,
        worth: Worth,
        entries: impl FnOnce(usize) -> I,
        format: impl FnMut(&mut Vec<u8>, T),
    ) -> io::Result<Option<&'static str>> {
        let start = Instant::now();
        // Taken out, because a failure then drops it, which removes what was written.
        let mut writing = if let Some(writing) = self.writing.take() {
            writing
        } else {
            self.is_wanted = false;
            Writing::begin(&self.place)?
        };
        writing.note_worth(worth);
        let entries = entries(writing.position);
        if writing.write(entries, format, || start.elapsed() >= SLICE)? {
            let doubt = writing.doubt;
            writing.put_in_place()?;
            return Ok(doubt);
        }
        self.writing = Some(writing);
        Ok(None)
    }

    /// Writes the whole table at the end.
    pub fn end<T>(
        self,
        worth: Worth,
        entries: impl Iterator<Item = (usize, T)>,
        format: impl FnMut(&mut Vec<u8>, T),
        console: &mut Console,
    ) -> Result<(), Failure> {
        if worth == Worth::Nothing {
            console.warn(format_args!(
                "the table is not written, because the end came before the kernel's was read; {} is unchanged",
                shown(self.place.path())
            ));
            return Ok(());
        }
        let written = Writing::begin(&self.place).and_then(|mut writing| {
            writing.note_worth(worth);
            writing.write(entries, format, || false)?;
            writing.put_in_place()
        });
        written.map_err(|error| failure(&self.place, &error))
    }
}

fn failure(place: &Place, error: &io::Error) -> Failure {
    Failure::Other(format!("write --table to {}: {error}", shown(place.path())))
}

/// A table that is being written to a temporary file. Dropped before it is whole, it removes that file.
struct Writing {
    file: BufWriter<Replacement>,
    /// The position in the mirror of the next entry.
    position: usize,
    line: Vec<u8>,
    doubt: Option<&'static str>,
    is_incomplete: bool,
}

impl Writing {
    fn begin(place: &Rc<Place>) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, place.begin_replacement()?),
            position: 0,
            line: Vec::new(),
            doubt: None,
            is_incomplete: false,
        })
    }

    /// Writes entries until `is_over`. True: all are written.
    fn write<T>(
        &mut self,
        entries: impl Iterator<Item = (usize, T)>,
        mut format: impl FnMut(&mut Vec<u8>, T),
        is_over: impl Fn() -> bool,
    ) -> io::Result<bool> {
        let mut count = 0u32;
        for (next, entry) in entries {
            self.line.clear();
            format(&mut self.line, entry);
            self.file.write_all(&self.line)?;
            self.position = next;
            count = count.wrapping_add(1);
            if count.is_multiple_of(LOOK_AT_CLOCK) && is_over() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn note_worth(&mut self, worth: Worth) {
        match worth {
            Worth::Doubtful(doubt) => self.doubt = Some(doubt),
            Worth::Incomplete => {
                self.is_incomplete = true;
                self.doubt = Some("--mirror-memory had no room for all entries");
            }
            Worth::Nothing | Worth::Right => {}
        }
    }

    fn put_in_place(mut self) -> io::Result<()> {
        if self.is_incomplete {
            self.file.write_all(INCOMPLETE)?;
        }
        self.file.into_inner()?.put_in_place()
    }
}
