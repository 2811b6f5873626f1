//! Appends batches to a spool.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{RecordBatch, cast::AsArray as _, types::TimestampNanosecondType};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow_schema::ArrowError;
use nlring::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::reader::Segment;
use super::segment;
use super::tail::{Progress, Tail};
use crate::failure::{Failure, Result};
use crate::record::schema::SCHEMA;

/// Appends batches to a spool. There is one in each directory.
pub struct Writer {
    directory: PathBuf,
    /// Held as long as the writer lives, so that no second nlringd writes here.
    _lock: File,
    segment_bytes: u64,
    encoder: StreamEncoder,
    file: File,
    /// The last batch could not be written.
    has_failed: bool,
    progress: Progress,
    tail: Arc<Tail>,
}

/// What was in the spool before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// The time of the last record.
    pub last: Option<Timestamp>,
    /// How many bytes at the end were no whole batch, and are cut off.
    pub torn_bytes: u64,
}

impl Writer {
    /// Opens the spool in this directory, and begins a segment.
    pub fn open(directory: &Path, segment_bytes: u64) -> Result<(Self, Found)> {
        fs::create_dir_all(directory)
            .map_err(|error| Failure::of_file("create", directory, &error))?;
        let lock = lock(directory)?;
        let found = mend_last(directory)?;
        let last = segment::numbers(directory)?.last().copied();
        let number = last.map_or(1, |last| last + 1);
        let file = create(directory, number)?;
        let progress = Progress {
            segment: number,
            bytes: 0,
            is_closed: false,
        };
        let writer = Self {
            directory: directory.to_owned(),
            _lock: lock,
            segment_bytes,
            encoder: encoder(),
            file,
            has_failed: false,
            progress,
            tail: Arc::new(Tail::new(progress)),
        };
        Ok((writer, found))
    }

    /// What readers wait for.
    pub fn tail(&self) -> Arc<Tail> {
        self.tail.clone()
    }

    /// Appends a batch. If that fails, the spool is as before, and the batch can be appended again.
    pub fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        let is_full = self.progress.bytes >= self.segment_bytes;
        if is_full || self.has_failed && self.progress.bytes > 0 {
            self.begin_segment()?;
        }
        let number = self.progress.segment;
        let failed = |error: io::Error| {
            Failure::of_file("write", &segment::path(&self.directory, number), &error)
        };
        let encoded = self
            .encoder
            .encode(batch)
            .map_err(|error| failed(io_error(error)))?;
        let mut written = 0;
        for part in &encoded {
            if let Err(error) = self.file.write_all(part) {
                let _ = self.file.set_len(self.progress.bytes);
                // The encoder takes the dictionaries of this batch for written.
                self.encoder = encoder();
                self.has_failed = true;
                return Err(failed(error));
            }
            written += part.len() as u64;
        }
        self.has_failed = false;
        self.progress.bytes += written;
        self.tail.set(self.progress);
        Ok(())
    }

    /// Ends the spool: its readers end when they have read all.
    pub fn close(mut self) {
        self.progress.is_closed = true;
        self.tail.set(self.progress);
    }

    fn begin_segment(&mut self) -> Result<()> {
        self.file = create(&self.directory, self.progress.segment + 1)?;
        self.encoder = encoder();
        self.progress.segment += 1;
        self.progress.bytes = 0;
        self.tail.set(self.progress);
        Ok(())
    }
}

fn encoder() -> StreamEncoder {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD));
    let options = options.expect("the feature is on");
    StreamEncoder::try_new_with_options(&SCHEMA, options).expect("the schema can be written")
}

fn create(directory: &Path, number: u64) -> Result<File> {
    let path = segment::path(directory, number);
    let file = File::options().append(true).create_new(true).open(&path);
    file.map_err(|error| Failure::of_file("create", &path, &error))
}

/// Holds the directory for this process.
fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
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

/// Cuts off what is no whole batch at the end of the last segment: a crash came while it was written. A segment without
/// any whole batch is removed.
fn mend_last(directory: &Path) -> Result<Found> {
    let Some(&number) = segment::numbers(directory)?.last() else {
        return Ok(Found::default());
    };
    let path = segment::path(directory, number);
    let failed = |doing, error: io::Error| Failure::of_file(doing, &path, &error);
    let file = File::options().read(true).write(true).open(&path);
    let file = file.map_err(|error| failed("open", error))?;
    let bytes = file
        .metadata()
        .map_err(|error| failed("read", error))?
        .len();
    let reading = file.try_clone().map_err(|error| failed("open", error))?;
    let mut segment = Segment::open(reading);
    let mut last = None;
    // An error is the end of what is whole, too.
    while let Ok(Some(batch)) = segment.read(None) {
        last = last_time(&batch).or(last);
    }
    let torn_bytes = bytes - segment.whole_bytes();
    if segment.whole_bytes() == 0 {
        fs::remove_file(&path).map_err(|error| failed("remove", error))?;
    } else if torn_bytes > 0 {
        file.set_len(segment.whole_bytes())
            .map_err(|error| failed("cut", error))?;
    }
    Ok(Found { last, torn_bytes })
}

fn last_time(batch: &RecordBatch) -> Option<Timestamp> {
    let column = batch.column_by_name("time_ns")?;
    let times = column.as_primitive_opt::<TimestampNanosecondType>()?;
    let last = times.len().checked_sub(1)?;
    u64::try_from(times.value(last))
        .ok()
        .map(Timestamp::from_ns)
}

fn io_error(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, error) => error,
        error => io::Error::other(error),
    }
}
