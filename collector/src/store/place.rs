//! Directories of the layout, and which messages their files have.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampNanosecondType;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use rustix::fs::{FlockOperation, flock};

use crate::failure::{Failure, Result};

const HOUR_NS: u64 = 3_600_000_000_000;

/// An hour of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub node: String,
    /// Hours since 1970.
    pub hour: u64,
}

impl Place {
    pub fn new(node: &str, time_ns: u64) -> Self {
        Self {
            node: node.to_owned(),
            hour: time_ns / HOUR_NS,
        }
    }

    /// `node=NODE/date=2026-11-29/hour=14`, below the directory of all.
    pub fn directory(&self, base: &Path) -> PathBuf {
        let begin = nlring::Timestamp::from_ns(self.hour.saturating_mul(HOUR_NS));
        let text = format!("{begin:.0}");
        let (date, time) = text.split_once('T').unwrap_or((&text, "00"));
        let hour = time.get(..2).unwrap_or("00");
        base.join(format!("node={}", self.node))
            .join(format!("date={date}"))
            .join(format!("hour={hour}"))
    }
}

/// Runs of rows of the same hour, in their order.
pub fn runs_by_hour(batch: &RecordBatch) -> Vec<(u64, Range<usize>)> {
    let times = batch.column_by_name("time_ns");
    let times = times.and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>());
    let mut runs: Vec<(u64, Range<usize>)> = Vec::new();
    for (row, ns) in times.iter().flat_map(|times| times.values()).enumerate() {
        let hour = u64::try_from(*ns).unwrap_or(0) / HOUR_NS;
        match runs.last_mut() {
            Some((last, rows)) if *last == hour => rows.end = row + 1,
            _ => runs.push((hour, row..row + 1)),
        }
    }
    runs
}

/// The metadata's key of the sequences of the messages that a file has.
pub const SEQUENCES: &str = "nlring.sequences";

/// `7 9-12`
pub fn format_sequences(sequences: &BTreeSet<u64>) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &sequence in sequences {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == sequence => *last = sequence,
            _ => runs.push((sequence, sequence)),
        }
    }
    let word = |(first, last): &(u64, u64)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    let words: Vec<String> = runs.iter().map(word).collect();
    words.join(" ")
}

/// The messages that the complete files of a place have.
#[derive(Default)]
pub struct Stored {
    pub sequences: BTreeSet<u64>,
    /// The names of the files that were read.
    names: BTreeSet<OsString>,
}

impl Stored {
    /// Reads the files that are new.
    pub fn look(&mut self, directory: &Path) -> Result<()> {
        let failed = |error| Failure::of_file("list", directory, &error);
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let text = name.to_string_lossy();
            let is_complete = !text.starts_with('.') && text.ends_with(".parquet");
            if is_complete && !self.names.contains(&name) {
                read_sequences(&directory.join(&name), &mut self.sequences)?;
                self.names.insert(name);
            }
        }
        Ok(())
    }
}

/// Lets no other worker complete a file of this directory until it is dropped.
pub fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(".lock");
    let opened = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(&path);
    let locked = opened.and_then(|file| {
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    });
    locked.map_err(|error| Failure::of_file("lock", &path, &error))
}

fn read_sequences(path: &Path, sequences: &mut BTreeSet<u64>) -> Result<()> {
    let file = File::open(path).map_err(|error| Failure::of_file("open", path, &error))?;
    let damaged = |error| {
        Failure::Other(format!(
            "{} is no Parquet file, or is damaged ({error}); remove it, or restore it from a copy",
            path.display()
        ))
    };
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(damaged)?;
    let entries = metadata.metadata().file_metadata().key_value_metadata();
    let entry = entries.and_then(|entries| entries.iter().find(|entry| entry.key == SEQUENCES));
    let words = entry.and_then(|entry| entry.value.as_deref()).unwrap_or("");
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        if let (Ok(first), Ok(last)) = (first.parse::<u64>(), last.parse::<u64>()) {
            sequences.extend(first..=last);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_shortened() {
        let sequences = BTreeSet::from([7, 9, 10, 11, 12, 20]);
        assert_eq!(format_sequences(&sequences), "7 9-12 20");
    }

    #[test]
    fn a_directory_has_an_hour_of_a_node() {
        let place = Place::new("gw.1", 1_795_950_754_880_101_602);
        let directory = place.directory(Path::new("s"));
        let wanted = "s/node=gw.1/date=2026-11-29/hour=11";
        assert_eq!(directory, Path::new(wanted));
    }
}
