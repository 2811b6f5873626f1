//! A file that is written as a whole: a reader sees the old file or the new one, never a partial one.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::write::place::{Kind, Place};
use crate::write::sink::Sink;

/// Where a whole file goes. A name that cannot be written to fails when it is opened, before there is something to
/// write.
pub struct WholeFile {
    path: PathBuf,
    target: Target,
}

enum Target {
    /// A regular file, which each write replaces.
    File(Rc<Place>),
    /// Standard output, a device or a named pipe, which each write continues.
    Stream(Sink),
}

impl WholeFile {
    /// Makes sure that the name can be written to. A named pipe waits for its reader.
    pub fn open(path: &Path) -> io::Result<Self> {
        let place = Rc::new(Place::find(path)?);
        let target = if place.kind()? == Kind::Other || place.is_kernels() {
            Target::Stream(Sink::of_own_file(&place.append()?)?)
        } else {
            place.begin_replacement()?; // removed at once
            Target::File(place)
        };
        Ok(Self {
            path: path.to_owned(),
            target,
        })
    }

    /// Standard output, which the command line calls `-`.
    pub fn stdout() -> io::Result<Self> {
        Ok(Self {
            path: PathBuf::from("-"),
            target: Target::Stream(Sink::new(io::stdout().as_fd())?),
        })
    }

    /// The path as it was given, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The regular file that each write replaces, if it is one.
    pub fn place(&self) -> Option<&Place> {
        match &self.target {
            Target::File(place) => Some(place),
            Target::Stream(_) => None,
        }
    }

    /// Writes all bytes. A reader of a stream that does not read can delay this for `patience`.
    pub fn write(&self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        match &self.target {
            Target::File(place) => {
                let mut file = place.begin_replacement()?;
                file.write_all(bytes)?;
                file.put_in_place()
            }
            Target::Stream(sink) => sink.write_within(bytes, patience),
        }
    }
}
