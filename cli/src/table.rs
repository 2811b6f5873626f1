//! The file of --table: a mirror's table, written whole and then put in the place of what was there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::outcome::Failure;

pub struct TableFile {
    path: PathBuf,
    /// Beside it, so that one can take the other's place.
    temporary: PathBuf,
}

impl TableFile {
    /// Makes sure that the file can be written, before any event is missed.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let fail = |error: io::Error| {
            Failure::Other(format!("open {} for --table: {error}", path.display()))
        };
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => {
                return Err(Failure::Usage(format!(
                    "--table {}: that is no regular file, and the table takes the place of what is there",
                    path.display()
                )));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let name = path
            .file_name()
            .ok_or_else(|| fail(ErrorKind::IsADirectory.into()))?;
        let mut temporary = name.to_owned();
        temporary.push(format!(".{}.tmp", std::process::id()));
        let this = Self {
            temporary: path.with_file_name(temporary),
            path: path.to_owned(),
        };
        this.create()
            .and_then(|_| fs::remove_file(&this.temporary))
            .map_err(fail)?;
        Ok(this)
    }

    /// Writes a line for each entry, as `format` makes it.
    pub fn write<T>(
        &self,
        entries: impl Iterator<Item = T>,
        format: impl FnMut(&mut Vec<u8>, T),
    ) -> Result<(), Failure> {
        let written = self.write_temporary(entries, format);
        let replaced = written.and_then(|()| fs::rename(&self.temporary, &self.path));
        replaced.map_err(|error| {
            _ = fs::remove_file(&self.temporary);
            Failure::Other(format!("write --table to {}: {error}", self.path.display()))
        })
    }

    fn write_temporary<T>(
        &self,
        entries: impl Iterator<Item = T>,
        mut format: impl FnMut(&mut Vec<u8>, T),
    ) -> io::Result<()> {
        let mut file = BufWriter::with_capacity(256 << 10, self.create()?);
        let mut line = Vec::new();
        for entry in entries {
            line.clear();
            format(&mut line, entry);
            file.write_all(&line)?;
        }
        file.flush()
    }

    fn create(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        options.open(&self.temporary)
    }
}
