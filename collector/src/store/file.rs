//! A file that a worker writes.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use async_nats::jetstream::message::Acker;
use nlring::Timestamp;

use super::place::{Place, SEQUENCES, Stored, format_sequences, lock};
use crate::failure::{Failure, Result};
use crate::output::files::parquet::ParquetFile;
use crate::output::files::publish;
use crate::record::about::{About, FORMAT};
use crate::record::recording::Recording;
use crate::record::stretch::{self, STRETCHES, Stretch};

/// A file that is not complete. Dropped, it is removed.
pub struct OpenFile {
    parquet: Option<ParquetFile>,
    temporary: PathBuf,
    directory: PathBuf,
    node: String,
    pub begun: Instant,
    /// The time of its first record.
    first: Timestamp,
    pub sequences: BTreeSet<u64>,
    stretches: Vec<Stretch>,
    pub recording: Option<Recording>,
    /// What is acknowledged when the file is complete.
    pub ackers: Vec<Acker>,
    record_count: u64,
    /// Until when its messages have records.
    until: Timestamp,
}

/// What is said about a file that is complete.
pub struct Completed {
    /// What is acknowledged now.
    pub ackers: Vec<Acker>,
    pub record_count: u64,
    pub bytes: u64,
    pub until: Timestamp,
}

impl OpenFile {
    /// Begins a file. `name` is that of no other file of any worker.
    pub fn begin(base: &Path, place: &Place, first: Timestamp, name: &str) -> Result<Self> {
        let directory = place.directory(base);
        create_directory(&directory)?;
        let temporary = directory.join(format!(".{name}.part"));
        let created = File::options()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&temporary);
        let failed = |error| Failure::of_file("create", &temporary, &error);
        let parquet = created.and_then(ParquetFile::new).map_err(failed)?;
        Ok(Self {
            parquet: Some(parquet),
            directory,
            node: place.node.clone(),
            begun: Instant::now(),
            first,
            sequences: BTreeSet::new(),
            stretches: Vec::new(),
            recording: None,
            ackers: Vec::new(),
            record_count: 0,
            until: Timestamp::from_ns(0),
            temporary,
        })
    }

    /// Writes records of a message.
    pub fn write(&mut self, sequence: u64, batch: &RecordBatch) -> Result<()> {
        let failed = |error| Failure::of_file("write", &self.temporary, &error);
        if let Some(parquet) = &mut self.parquet {
            parquet.write(batch).map_err(failed)?;
        }
        self.sequences.insert(sequence);
        self.record_count += batch.num_rows() as u64;
        Ok(())
    }

    /// Notes what a message with records until this time says. This file has its end.
    pub fn note(&mut self, sequence: u64, stretch: Stretch, until: Timestamp, acker: Acker) {
        self.sequences.insert(sequence);
        self.until = self.until.max(until);
        self.stretches.push(stretch);
        if self.stretches.len() > 64 {
            self.stretches = stretch::joined(std::mem::take(&mut self.stretches));
        }
        self.ackers.push(acker);
    }

    pub fn bytes(&self) -> u64 {
        self.parquet.as_ref().map_or(0, ParquetFile::bytes)
    }

    /// Completes the file: it is on the disk with its final name. `stored` is what other files have.
    ///
    /// # Errors
    ///
    /// Another worker has stored one of the messages meanwhile.
    pub fn complete(mut self, stored: &mut Stored) -> Result<Completed> {
        let failed = |error| Failure::of_file("write", &self.temporary, &error);
        let parquet = self.parquet.take();
        let mut parquet =
            parquet.ok_or_else(|| Failure::Other("the file was completed before".to_owned()))?;
        let stretches = stretch::joined(std::mem::take(&mut self.stretches));
        parquet.add_entry(STRETCHES, stretch::format(&stretches));
        parquet.add_entry(SEQUENCES, format_sequences(&self.sequences));
        let about = About {
            format: FORMAT,
            node: self.node.clone(),
            recording: self.recording.clone(),
            ..About::default()
        };
        let bytes = parquet
            .finish(&about)
            .and_then(|file| {
                file.sync_all()?;
                Ok(file.metadata()?.len())
            })
            .map_err(failed)?;
        let begun = format!("{:.0}", self.first).replace(['-', ':'], "");
        let first = self.sequences.first().copied().unwrap_or(0);
        let last = self.sequences.last().copied().unwrap_or(0);
        let name = format!("{}.{begun}.{first}_{last}.parquet", self.node);
        let _lock = lock(&self.directory)?;
        stored.look(&self.directory)?;
        if let Some(sequence) = self.sequences.intersection(&stored.sequences).next() {
            return Err(Failure::Other(format!(
                "another worker has stored the message {sequence} meanwhile, so the file that has it too is given up; if \
                 this happens often, raise ack_wait of the consumer"
            )));
        }
        publish(&self.temporary, &self.directory.join(name))?;
        Ok(Completed {
            ackers: std::mem::take(&mut self.ackers),
            record_count: self.record_count,
            bytes,
            until: self.until,
        })
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // After it was completed there is no such file.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// After this time beside `rotate_interval`, a temporary file is one of a worker that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Removes the temporary files in a directory whose workers were killed.
pub fn remove_abandoned(directory: &Path, rotate_interval: Duration) {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| modified.elapsed().ok());
        let is_old = age.is_some_and(|age| age > rotate_interval + ABANDONED);
        if is_old && name.starts_with('.') && name.ends_with(".part") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Creates a directory, and syncs those in which something is new.
fn create_directory(directory: &Path) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory)
        .map_err(|error| Failure::of_file("create", directory, &error))?;
    for parent in directory.ancestors().skip(1).take(4) {
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let synced = File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|error| Failure::of_file("sync", parent, &error))?;
    }
    Ok(())
}
