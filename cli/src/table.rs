//! The file of --table: a mirror's table, written a little at a time between the turns, and put in the place of what was
//! there once it is whole.

use std::fmt;
use std::fs::{self, Metadata, Permissions};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use tempfile::NamedTempFile;

use crate::args::CommonArguments;
use crate::console::Console;
use crate::outcome::Failure;
use crate::text::shown;

/// How long writing may hold up the events.
const SLICE: Duration = Duration::from_micros(500);
/// Writing looks at the clock after so many entries.
const LOOK_AT_CLOCK: u32 = 16;
const BUFFER_BYTES: usize = 64 << 10;
/// Of a new file: a table tells who speaks with whom.
const MODE: u32 = 0o600;
/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: u32 = 40;

pub struct TableFile {
    path: PathBuf,
    /// Asked for, and not begun.
    is_wanted: bool,
    writing: Option<Writing>,
}

/// What a mirror's table is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// The kernel's has not been read yet: there is nothing to write.
    Nothing,
    /// It may be wrong, for this reason.
    Doubtful(&'static str),
    Right,
}

impl TableFile {
    /// Makes sure that the file can be written, and is no other one of the command's, before any event is missed.
    pub fn open(path: &Path, others: &CommonArguments) -> Result<Self, Failure> {
        let fail =
            |error: io::Error| Failure::Other(format!("open {} for --table: {error}", shown(path)));
        match fs::metadata(path) {
            Ok(metadata) => check(path, &metadata, others)?,
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
            Err(_) => {}
        }
        Writing::begin(path).map_err(fail)?; // removed at once
        Ok(Self {
            path: path.to_owned(),
            is_wanted: false,
            writing: None,
        })
    }

    /// Has the table written, as soon as there is one; once more if it is being written now.
    pub fn ask(&mut self) {
        self.is_wanted = true;
    }

    /// Whether there is something to write now.
    pub fn is_due(&self, worth: Worth) -> bool {
        self.writing.is_some() || self.is_wanted && worth != Worth::Nothing
    }

    /// Writes for a slice of time, if that is due: a line for each of the `entries` from a position on, as `format` makes it.
    ///
    /// # Errors
    ///
    /// It was not written, or is in its place now, and may be wrong. Both are to be told, and neither ends anything.
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
                "the table in {} may be wrong: {doubt}, and the table is not made right yet",
                shown(&self.path)
            ))),
            Err(error) => Err(failure(&self.path, &error)),
        }
    }

    /// Gives the doubt about a table that is in its place now.
    fn write_slice<T, I: Iterator<Item = (usize, T)>>(
        &mut self,
        worth: Worth,
        entries: impl FnOnce(usize) -> I,
        format: impl FnMut(&mut Vec<u8>, T),
    ) -> io::Result<Option<&'static str>> {
        let start = Instant::now();
        // Taken out, so that a failure ends it, which removes what was written.
        let mut writing = if let Some(writing) = self.writing.take() {
            writing
        } else {
            self.is_wanted = false;
            Writing::begin(&self.path)?
        };
        if let Worth::Doubtful(doubt) = worth {
            writing.doubt = Some(doubt);
        }
        let entries = entries(writing.position);
        if writing.write(entries, format, || start.elapsed() >= SLICE)? {
            let doubt = writing.doubt;
            writing.put_in_place()?;
            return Ok(doubt);
        }
        self.writing = Some(writing);
        Ok(None)
    }

    /// Writes the table at the end, at once.
    pub fn end<T>(
        self,
        worth: Worth,
        entries: impl Iterator<Item = (usize, T)>,
        format: impl FnMut(&mut Vec<u8>, T),
        console: &mut Console,
    ) -> Result<(), Failure> {
        if worth == Worth::Nothing {
            console.warn(format_args!(
                "the table is not written: the end came before the kernel's was read; {} is as it was",
                shown(&self.path)
            ));
            return Ok(());
        }
        let written = Writing::begin(&self.path).and_then(|mut writing| {
            writing.write(entries, format, || false)?;
            writing.put_in_place()
        });
        written.map_err(|error| failure(&self.path, &error))
    }
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!("write --table to {}: {error}", shown(path)))
}

/// Refuses what cannot be replaced, or is not to be.
fn check(path: &Path, metadata: &Metadata, others: &CommonArguments) -> Result<(), Failure> {
    let refuse = |reason: fmt::Arguments<'_>| {
        Err(Failure::Usage(format!("--table {}: {reason}", shown(path))))
    };
    if !metadata.is_file() {
        return refuse(format_args!(
            "that is no regular file, and the table takes the place of what is there; give the name of a file"
        ));
    }
    let output = ("--output", Some(&others.output));
    for (option, other) in [output, ("--stats", others.stats.as_ref())] {
        if other.is_some_and(|other| is_file(other, metadata)) {
            return refuse(format_args!(
                "that is the same file as that of {option}; give each its own"
            ));
        }
    }
    Ok(())
}

/// Whether an option names this file, under whatever name. (All those of the options are open by now, so they exist.)
fn is_file(option: &Path, metadata: &Metadata) -> bool {
    let identity = if option == Path::new("-") {
        fstat(io::stdout())
            .ok()
            .map(|stat| (stat.st_dev, stat.st_ino))
    } else {
        let metadata = fs::metadata(option).ok();
        metadata.map(|metadata| (metadata.dev(), metadata.ino()))
    };
    identity == Some((metadata.dev(), metadata.ino()))
}

/// Why a path cannot be that of a table, whatever is there.
pub fn check_path(path: PathBuf) -> Result<PathBuf, String> {
    let bytes = path.as_os_str().as_bytes();
    if bytes == b"-" {
        return Err(
            "the table takes the place of a file, so it cannot go to standard output; \
             give the name of a file (./- for one of that name)"
                .to_owned(),
        );
    }
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") || path.file_name().is_none() {
        return Err(
            "that is a directory, and the table is a file; give the name of one in it".to_owned(),
        );
    }
    Ok(path)
}

/// A table that is being written, to a file of its own until it is whole. Dropped, it leaves nothing behind.
struct Writing {
    file: BufWriter<NamedTempFile>,
    /// What it takes the place of.
    target: PathBuf,
    /// Where in the mirror it goes on.
    position: usize,
    line: Vec<u8>,
    doubt: Option<&'static str>,
}

impl Writing {
    fn begin(path: &Path) -> io::Result<Self> {
        let target = target_of(path)?;
        let directory = match target.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // Beside it, so that one can take the other's place.
        let file = tempfile::Builder::new()
            .prefix(".nlring-table-")
            .suffix(".tmp")
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(directory)?;
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            target,
            position: 0,
            line: Vec::new(),
            doubt: None,
        })
    }

    /// Writes entries until `is_over`. True: it has all.
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

    fn put_in_place(self) -> io::Result<()> {
        let file = self.file.into_inner()?;
        match fs::metadata(&self.target) {
            Ok(former) if former.is_file() => be_like(file.as_file(), &former)?,
            Ok(_) => return Err(io::Error::other("what is there now is no regular file")),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        file.persist(&self.target)?;
        Ok(())
    }
}

/// Gives a file the mode of the former one, and its owner and group where that is allowed: those who read it go on reading.
fn be_like(file: &fs::File, former: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (former.uid(), former.gid()) {
        _ = fchown(file, Some(former.uid()), Some(former.gid()));
    }
    file.set_permissions(Permissions::from_mode(former.mode() & 0o777))
}

/// What a chain of symbolic links leads to, be it there or not.
fn target_of(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(link) => target = target.with_file_name(link),
            Err(error)
                if [ErrorKind::InvalidInput, ErrorKind::NotFound].contains(&error.kind()) =>
            {
                return Ok(target); // no link, or nothing
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}
