//! Segments: their names, and what a position is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::failure::{Failure, Result};

/// A place between two batches of a spool: behind `batch` batches of this segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub segment: u64,
    pub batch: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}-{:06}", self.segment, self.batch)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (segment, batch) = text.split_once('-').ok_or(())?;
        Ok(Self {
            segment: segment.parse().map_err(drop)?,
            batch: batch.parse().map_err(drop)?,
        })
    }
}

/// The file of a segment.
pub fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:012}.arrows"))
}

/// The numbers of the segments in a directory, lowest first. Other files are passed over.
pub fn numbers(directory: &Path) -> Result<Vec<u64>> {
    let failed = |error| Failure::of_file("list", directory, &error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".arrows"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
