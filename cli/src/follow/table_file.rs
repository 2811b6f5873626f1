//! The file of --table. The tables of mirrors are written in slices between the turns, and replace the previous file
//! when they are complete.

#[cfg(any(test, fuzzing))]
pub(crate) mod model;

use std::collections::HashSet;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nlring::SocketId;
use nlring_print::text::shown;
use nlring_print::{Origin, Style};

use super::handler::Handler;
use super::session::Session;
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
    /// Whether the table was requested but has not been begun.
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
    /// Makes sure that the file can be written, and is not that of another option, before any event can be missed.
    pub fn open(path: &Path, session: &Session<'_>) -> Result<Self, Failure> {
        let fail =
            |error: io::Error| Failure::Other(format!("open {} for --table: {error}", shown(path)));
        let place = Rc::new(Place::find(path).map_err(fail)?);
        if place.kind().map_err(fail)? == Kind::Other {
            return Err(Failure::Usage(format!(
                "--table {}: that is not a regular file, and the table replaces what is there; give the name of a file",
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

    /// Requests that the table be written as soon as there is one. If it is being written now, it is written once more.
    pub fn ask(&mut self) {
        self.is_wanted = true;
    }

    /// Whether there is something to write now.
    pub fn is_due(&self, handler: &impl Handler) -> bool {
        self.writing.is_some() || self.is_wanted && handler.has_table()
    }

    /// Writes a slice, if that is due.
    ///
    /// # Errors
    ///
    /// The table could not be written, or it was written and may be wrong. The run continues in both cases.
    pub fn advance(&mut self, handler: &impl Handler) -> Result<(), Failure> {
        if !self.is_due(handler) {
            return Ok(());
        }
        match self.write_slice(handler) {
            Ok(None) => Ok(()),
            Ok(Some(doubt)) => Err(Failure::Other(format!(
                "the table in {} may be wrong: {doubt}, and the mirror is not repaired yet",
                shown(self.place.path())
            ))),
            Err(error) => Err(failure(&self.place, &error)),
        }
    }

    /// Returns the doubt about a table that is complete now.
    fn write_slice(&mut self, handler: &impl Handler) -> io::Result<Option<&'static str>> {
        let until = Instant::now() + SLICE;
        // Taken out, because a failure then drops it, which removes what was written.
        let mut writing = if let Some(writing) = self.writing.take() {
            writing
        } else {
            self.is_wanted = false;
            Writing::begin(&self.place)?
        };
        writing.until = Some(until);
        if handler.write_table(&mut writing)? {
            let doubt = writing.doubt;
            writing.put_in_place()?;
            return Ok(doubt);
        }
        self.writing = Some(writing);
        Ok(None)
    }

    /// Writes the whole table at the end.
    pub fn end(self, handler: &impl Handler, console: &mut Console) -> Result<(), Failure> {
        let path = shown(self.place.path());
        let written = Writing::begin(&self.place).and_then(|mut writing| {
            handler.write_table(&mut writing)?;
            match (writing.read_count, writing.unread_count) {
                (0, _) => {
                    console.warn(format_args!(
                        "the table is not written, because the end came before the kernel's was read; {path} is \
                         unchanged"
                    ));
                    return Ok(());
                }
                (_, 0) => {}
                (_, count) => console.warn(format_args!(
                    "{path} lacks the tables of {count} namespaces, because the end came before the kernel's were read"
                )),
            }
            writing.put_in_place()
        });
        written.map_err(|error| failure(&self.place, &error))
    }
}

fn failure(place: &Place, error: &io::Error) -> Failure {
    Failure::Other(format!("write --table to {}: {error}", shown(place.path())))
}

/// A table that is being written to a temporary file. If it is dropped before it is complete, it removes that file.
pub struct Writing {
    file: BufWriter<Replacement>,
    line: Vec<u8>,
    /// When the slice is over. None: everything is written at once.
    until: Option<Instant>,
    /// The position in the mirror of the next entry.
    position: usize,
    /// The mirror whose entries are being written, if there is one in each namespace.
    selected: Option<(SocketId, Rc<Origin>)>,
    /// The mirrors whose entries have been written.
    written: HashSet<SocketId>,
    /// How many entries and mirrors have been written.
    count: u32,
    /// Whether the current mirror lacks entries.
    is_incomplete: bool,
    doubt: Option<&'static str>,
    /// How many mirrors have read the kernel's table, and how many have not.
    read_count: usize,
    unread_count: usize,
}

impl Writing {
    fn begin(place: &Rc<Place>) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, place.begin_replacement()?),
            line: Vec::new(),
            until: None,
            position: 0,
            selected: None,
            written: HashSet::new(),
            count: 0,
            is_incomplete: false,
            doubt: None,
            read_count: 0,
            unread_count: 0,
        })
    }

    /// Chooses the mirror of a socket among those of many namespaces. False: its entries have already been written.
    pub fn select(&mut self, socket: SocketId, origin: &Rc<Origin>) -> bool {
        if self.written.contains(&socket) {
            return false;
        }
        if self.selected.as_ref().is_none_or(|(id, _)| *id != socket) {
            self.position = 0;
        }
        self.selected = Some((socket, Rc::clone(origin)));
        true
    }

    /// Writes a line of `format` for each of a mirror's `entries` from a position on, until the slice is over. True: all
    /// are written.
    pub fn write<T, I: Iterator<Item = (usize, T)>>(
        &mut self,
        worth: Worth,
        entries: impl FnOnce(usize) -> I,
        mut format: impl FnMut(&mut Vec<u8>, T),
    ) -> io::Result<bool> {
        self.note(worth);
        if worth != Worth::Nothing {
            for (next, entry) in entries(self.position) {
                self.write_line(|line| format(line, entry))?;
                self.position = next;
                if self.is_over() {
                    return Ok(false);
                }
            }
        }
        self.end_of_mirror(worth)?;
        Ok(true)
    }

    fn note(&mut self, worth: Worth) {
        match worth {
            Worth::Nothing => self.is_incomplete = true,
            Worth::Doubtful(doubt) => self.doubt = Some(doubt),
            Worth::Incomplete => {
                self.is_incomplete = true;
                self.doubt = Some("--mirror-memory had no room for all entries");
            }
            Worth::Right => {}
        }
    }

    /// Whether the slice is over, judged by an occasional look at the clock.
    fn is_over(&mut self) -> bool {
        self.count = self.count.wrapping_add(1);
        self.count.is_multiple_of(LOOK_AT_CLOCK)
            && self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn write_line(&mut self, format: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.line.clear();
        format(&mut self.line);
        if let Some((_, origin)) = &self.selected {
            Style::Json.mark_origin(&mut self.line, 0, origin);
        }
        self.file.write_all(&self.line)
    }

    fn end_of_mirror(&mut self, worth: Worth) -> io::Result<()> {
        if worth == Worth::Nothing {
            self.unread_count += 1;
        } else {
            self.read_count += 1;
        }
        if self.is_incomplete {
            self.write_line(|line| line.extend_from_slice(INCOMPLETE))?;
        }
        (self.position, self.is_incomplete) = (0, false);
        let selected = self.selected.as_ref();
        self.written.extend(selected.map(|(socket, _)| *socket));
        Ok(())
    }

    fn put_in_place(self) -> io::Result<()> {
        self.file.into_inner()?.put_in_place()
    }
}
