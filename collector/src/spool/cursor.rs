//! How far an output has got, kept in a file beside the segments.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::segment::Position;
use crate::failure::{Failure, Result};

/// The saved position of an output. Its receiver has everything before it.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    saved: Option<Position>,
}

impl Cursor {
    /// Opens the cursor of an output.
    pub fn open(directory: &Path, output: &str) -> Result<Self> {
        let path = directory.join(format!("{output}.cursor"));
        let saved = match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim().parse().map_err(|()| {
                Failure::Other(format!(
                    "{} has no position of the spool; remove it, and the output begins with all that the spool has",
                    path.display()
                ))
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::of_file("read", &path, &error)),
        };
        Ok(Self { path, saved })
    }

    pub fn position(&self) -> Option<Position> {
        self.saved
    }

    /// Saves a position, so that it is there after a crash.
    pub fn save(&mut self, position: Position) -> Result<()> {
        if self.saved == Some(position) {
            return Ok(());
        }
        let temporary = self.path.with_extension("cursor.new");
        let written = fs::write(&temporary, format!("{position}\n"))
            .and_then(|()| fs::rename(&temporary, &self.path));
        written.map_err(|error| Failure::of_file("write", &self.path, &error))?;
        self.saved = Some(position);
        Ok(())
    }
}
