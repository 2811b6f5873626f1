//! Segments: their names, and positions in them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::failure::{Failure, Result};

const SUFFIX: &str = ".arrows.zst";

/// A place between two batches of a spool: after `batch` batches of this segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub segment: u64,
    pub batch: u32,
}

impl Position {
    /// The place before the first batch of a segment.
    pub fn begin(segment: u64) -> Self {
        Self { segment, batch: 0 }
    }
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
    directory.join(format!("{number:012}{SUFFIX}"))
}

/// The numbers of the segments in a directory, lowest first. Other files are ignored.
pub fn numbers(directory: &Path) -> Result<Vec<u64>> {
    numbers_with(directory, SUFFIX)
}

/// The numbers of the files with this suffix, lowest first.
pub fn numbers_with(directory: &Path, suffix: &str) -> Result<Vec<u64>> {
    let failed = |error| Failure::of_file("list", directory, &error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(suffix));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
