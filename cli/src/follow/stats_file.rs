//! The file of --stats: the summary as JSON.

use std::io;
use std::path::Path;
use std::time::Duration;

use nlring_print::json;
use nlring_print::text::shown;

use super::summary::Summary;
use crate::outcome::Failure;
use crate::write::place::Place;
use crate::write::whole_file::WholeFile;

/// Where --stats goes.
pub struct StatsFile(WholeFile);

/// How long a reader that does not read can delay the events.
const PATIENCE: Duration = Duration::from_millis(200);

impl StatsFile {
    /// Makes sure that the file can be written before any event can be missed. `-` is standard output.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = if path == Path::new("-") {
            WholeFile::stdout()
        } else {
            WholeFile::open(path)
        };
        file.map(Self)
            .map_err(|error| Failure::Other(format!("open {} for --stats: {error}", shown(path))))
    }

    /// The file that is replaced. `None`: it is a stream.
    pub fn place(&self) -> Option<&Place> {
        self.0.place()
    }

    /// Writes the summary, and replaces the previous one.
    pub fn write(&self, summary: &Summary) -> Result<(), Failure> {
        self.try_write(summary).map_err(|error| {
            let path = shown(self.0.path());
            Failure::Other(format!("write --stats to {path}: {error}"))
        })
    }

    fn try_write(&self, summary: &Summary) -> io::Result<()> {
        let text = json::to_string_pretty(summary)? + "\n";
        self.0.write(text.as_bytes(), PATIENCE)
    }
}
