//! Appends batches to a spool.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamEncoder;
use arrow_schema::Schema;
use nlring::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::mend::{Found, mend};
use super::segment::{self, Position};
use super::syncs::Syncs;
use super::tail::{End, Progress, Tail};
use crate::config::{self, Live, Sync};
use crate::failure::{Failure, Result};
use crate::record::recording::Recording;
use crate::record::schema::SCHEMA;
use crate::record::{CLOCK_STEP, batch};

/// The level of zstd. Level 1 takes 4 % more bytes and a tenth less CPU, level 3 takes 2 % fewer bytes and half as much
/// CPU again.
const LEVEL: i32 = 2;

/// Appends batches to a spool. Each directory has one.
pub struct Writer {
    directory: PathBuf,
    /// Held as long as the writer lives, so that no second nlringd writes here.
    _lock: File,
    config: Live<config::Spool>,
    synced_at: Instant,
    encoder: StreamEncoder,
    compressor: Compressor<'static>,
    content: Vec<u8>,
    frame: Vec<u8>,
    file: Arc<File>,
    syncs: Syncs,
    /// The next batch begins another segment.
    is_over: bool,
    /// The segment with the last mark.
    marked: Option<u64>,
    /// The segment's metadata.
    recording: Recording,
    /// The times of the last record and of the last mark.
    last: Option<Timestamp>,
    last_mark: Option<Timestamp>,
    /// The place behind the last batch.
    position: Position,
    progress: Progress,
    tail: Arc<Tail>,
}

impl Writer {
    /// Opens the spool, and begins a segment. Its number is above those of all segments, and above `taken`: a power
    /// loss may have removed segments that an output has read.
    pub fn open(
        config: Live<config::Spool>,
        recording: Recording,
        taken: u64,
        syncs: Syncs,
    ) -> Result<(Self, Found)> {
        let directory = &config.get().directory;
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(directory)
            .map_err(|error| Failure::of_file("create", directory, &error))?;
        let lock = lock(directory)?;
        let found = mend(directory)?;
        let number = found.last_segment.unwrap_or(0).max(taken) + 1;
        let file = create(directory, number)?;
        let progress = Progress {
            segment: number,
            bytes: 0,
            is_closed: false,
            end: None,
        };
        let before = found.recording.as_ref();
        let recording = Recording {
            clock_since_ns: before.map_or(recording.clock_since_ns, |before| before.clock_since_ns),
            ..recording
        };
        let writer = Self {
            directory: directory.to_owned(),
            _lock: lock,
            config,
            synced_at: Instant::now(),
            encoder: encoder(&recording),
            compressor: compressor(),
            content: Vec::new(),
            frame: Vec::new(),
            file: Arc::new(file),
            syncs,
            is_over: false,
            marked: found.marked,
            recording,
            last: None,
            last_mark: found.last_mark,
            position: Position::begin(number),
            progress,
            tail: Arc::new(Tail::new(progress)),
        };
        Ok((writer, found))
    }

    /// What readers wait for.
    pub fn tail(&self) -> Arc<Tail> {
        self.tail.clone()
    }

    /// The lowest segment that the next start needs: the one with the last mark.
    pub fn needed(&self) -> u64 {
        self.marked.unwrap_or(self.progress.segment)
    }

    /// Appends a batch. If this fails, the spool is unchanged, and the batch can be appended again.
    pub fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        let goes_back = self.goes_back(batch);
        if goes_back && let Some((first, _)) = batch::span(batch) {
            self.recording.clock_since_ns = first.as_ns();
            self.encoder = encoder(&self.recording);
            self.is_over = true;
            // Earlier times can no longer be compared.
            (self.last, self.last_mark) = (None, None);
        }
        let is_full = self.progress.bytes >= self.config.get().segment.0;
        if is_full || self.is_over && self.progress.bytes > 0 {
            self.begin_segment()?;
        }
        if let Err(error) = self.write(batch) {
            let _ = self.file.set_len(self.progress.bytes);
            // The encoder takes the schema and the dictionaries of this batch for written.
            self.encoder = encoder(&self.recording);
            self.is_over = true;
            let path = segment::path(&self.directory, self.progress.segment);
            return Err(Failure::of_file("write", &path, &error));
        }
        self.is_over = false;
        if let Some(mark) = batch::last_mark(batch) {
            self.last_mark = Some(mark);
            self.marked = Some(self.progress.segment);
        }
        self.last = batch::times(batch).map(|(_, last)| last).or(self.last);
        self.position.batch += 1;
        self.progress.bytes += self.frame.len() as u64;
        self.progress.end = self.last_mark.map(|covered| End {
            position: self.position,
            covered,
            last: self.last,
        });
        self.tail.set(self.progress);
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let encoded = self.encoder.encode(batch).map_err(io::Error::other)?;
        self.content.clear();
        for part in &encoded {
            self.content.extend_from_slice(part);
        }
        self.frame.clear();
        self.frame
            .reserve(zstd::zstd_safe::compress_bound(self.content.len()));
        self.compressor
            .compress_to_buffer(&self.content, &mut self.frame)?;
        (&*self.file).write_all(&self.frame)?;
        let is_due = match self.config.get().sync {
            Sync::Never => false,
            // This happens before an output gets the batch.
            Sync::Batch => return self.file.sync_data(),
            Sync::Every(interval) => self.synced_at.elapsed() >= interval,
        };
        if is_due {
            self.request_sync();
        }
        Ok(())
    }

    /// Requests a sync of what has been written so far.
    fn request_sync(&mut self) {
        let path = segment::path(&self.directory, self.progress.segment);
        self.syncs.request(&path, &self.file);
        self.synced_at = Instant::now();
    }

    /// Ends the spool: its readers end once they have read everything. This waits until the spool is synced.
    pub fn close(mut self) {
        self.progress.is_closed = true;
        self.tail.set(self.progress);
        if self.config.get().sync != Sync::Never {
            self.request_sync();
        }
    }

    /// Whether the clock was set back before this batch. Marks and records are compared separately, because a mark may
    /// be older than the records before it, which arrived while the kernel was being asked.
    fn goes_back(&self, batch: &RecordBatch) -> bool {
        let goes_back = |before: Option<Timestamp>, next: Option<Timestamp>| {
            before
                .zip(next)
                .is_some_and(|(before, next)| next + CLOCK_STEP < before)
        };
        let first = batch::times(batch).map(|(first, _)| first);
        goes_back(self.last, first) || goes_back(self.last_mark, batch::first_mark(batch))
    }

    fn begin_segment(&mut self) -> Result<()> {
        if matches!(self.config.get().sync, Sync::Every(_)) {
            self.request_sync();
        }
        self.file = Arc::new(create(&self.directory, self.progress.segment + 1)?);
        self.encoder = encoder(&self.recording);
        self.progress.segment += 1;
        self.progress.bytes = 0;
        self.position = Position::begin(self.progress.segment);
        self.tail.set(self.progress);
        Ok(())
    }
}

/// The encoder of a segment, with the recording in the metadata of its schema.
fn encoder(recording: &Recording) -> StreamEncoder {
    let schema = Schema::clone(&SCHEMA).with_metadata(recording.metadata());
    StreamEncoder::try_new(&schema).expect("the schema can be written")
}

fn compressor() -> Compressor<'static> {
    let mut compressor = Compressor::new(LEVEL).expect("zstd has memory");
    compressor
        .set_parameter(CParameter::ChecksumFlag(true))
        .expect("zstd has checksums");
    compressor
}

fn create(directory: &Path, number: u64) -> Result<File> {
    let path = segment::path(directory, number);
    let file = File::options()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    file.map_err(|error| Failure::of_file("create", &path, &error))
}

/// Holds the directory for this process.
fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| Failure::of_file("open", &path, &error))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(Failure::Other(format!(
            "{} is used by another nlringd; give this one a spool of its own",
            directory.display()
        ))),
        Err(error) => Err(Failure::of_file("lock", &path, &error.into())),
    }
}
