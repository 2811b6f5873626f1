//! The file of --stats: the summary as JSON.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nlring_print::json;
use nlring_print::text::shown;

use super::summary::Summary;
use crate::outcome::Failure;
use crate::write::place::{Kind, Place};
use crate::write::sink::Sink;

/// Where --stats goes.
pub enum StatsFile {
    /// A file, which is replaced as a whole each time, so that a reader never finds a part of it.
    File(Rc<Place>),
    /// Standard output, a device or a named pipe.
    Stream(Sink, PathBuf),
}

/// How long a reader that does not read can delay the events.
const PATIENCE: Duration = Duration::from_millis(200);

impl StatsFile {
    /// Makes sure that the file can be written before any event is missed. `-` is standard output.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Self::try_open(path)
            .map_err(|error| Failure::Other(format!("open {} for --stats: {error}", shown(path))))
    }

    fn try_open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stream(
                Sink::new(io::stdout().as_fd())?,
                path.to_owned(),
            ));
        }
        let place = Rc::new(Place::find(path)?);
        if place.kind()? == Kind::Other || place.is_kernels() {
            let sink = Sink::of_own_file(&place.append()?)?;
            return Ok(Self::Stream(sink, path.to_owned()));
        }
        place.begin_replacement()?; // removed at once
        Ok(Self::File(place))
    }

    /// The file that is replaced. `None`: it is a stream.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::File(place) => Some(place),
            Self::Stream(..) => None,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::File(place) => place.path(),
            Self::Stream(_, path) => path,
        }
    }

    /// Writes the summary, and replaces the former one.
    pub fn write(&self, summary: &Summary) -> Result<(), Failure> {
        self.try_write(summary).map_err(|error| {
            Failure::Other(format!("write --stats to {}: {error}", shown(self.path())))
        })
    }

    fn try_write(&self, summary: &Summary) -> io::Result<()> {
        let text = json::to_string_pretty(summary)? + "\n";
        match self {
            Self::File(place) => {
                let mut file = place.begin_replacement()?;
                file.write_all(text.as_bytes())?;
                file.put_in_place()
            }
            Self::Stream(sink, _) => sink.write_within(text.as_bytes(), PATIENCE),
        }
    }
}
