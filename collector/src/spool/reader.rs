//! Reads a spool, batch by batch.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use nlring::Timestamp;
use tracing::warn;
use zstd::bulk::Decompressor;

use super::segment::{self, Position};
use super::tail::{Progress, Tail};
use super::{frame, summary};
use crate::failure::{Failure, Result};
use crate::record::schema::with_all_columns;
use crate::record::{LossBody, LossReason, batch};

/// How many bytes are read at a time.
const CHUNK_BYTES: u64 = 256 << 10;

/// Reads a spool from a position, while it is being written.
pub struct Reader {
    directory: PathBuf,
    tail: Arc<Tail>,
    position: Position,
    /// Where to end. None: at the end of the spool.
    end: Option<Position>,
    segment: Option<Segment>,
    /// The time of the last record that was read.
    last: Option<Timestamp>,
}

/// What a reader has found.
pub enum Read {
    /// A batch, and the position after it.
    Batch(Position, RecordBatch),
    /// Records are missing here: they were removed, or cannot be read. The position is after them.
    Missing(Position, LossBody),
    /// Nothing was written in the meantime.
    Nothing,
    /// Everything has been read: the spool is closed, or the reader was to end here.
    End,
}

impl Reader {
    /// Starts at a position. If its segment has been removed, the reader starts with the next one.
    pub fn new(directory: PathBuf, tail: Arc<Tail>, position: Position) -> Self {
        Self {
            directory,
            tail,
            position,
            end: None,
            segment: None,
            last: None,
        }
    }

    /// The place behind what has been read.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Ends at this position.
    pub fn end_at(&mut self, end: Position) {
        self.end = Some(end);
    }

    /// Reads the next batch, for which it waits at most this long. After an error, the same batch is read again.
    pub fn next(&mut self, timeout: Duration) -> Result<Read> {
        let mut progress = self.tail.progress();
        loop {
            if self.is_at_end() {
                return Ok(Read::End);
            }
            let read = self.read(progress).inspect_err(|_| self.segment = None)?;
            if let Some(read) = read {
                return Ok(read);
            }
            if progress.is_closed {
                return Ok(Read::End);
            }
            let waited = self.tail.wait(progress, timeout);
            if waited == progress {
                return Ok(Read::Nothing);
            }
            progress = waited;
        }
    }

    /// The next batch that is written, or what is missing before it.
    fn read(&mut self, progress: Progress) -> Result<Option<Read>> {
        loop {
            let Some(segment) = &mut self.segment else {
                match self.open(progress)? {
                    Opened::Segment => continue,
                    Opened::Missing(loss) => return Ok(Some(Read::Missing(self.position, loss))),
                    Opened::Nothing => return Ok(None),
                }
            };
            let number = self.position.segment;
            let is_written = number >= progress.segment;
            let written = is_written.then_some(progress.bytes);
            match segment.read_records(written) {
                Ok(Some(batch)) => {
                    self.position.batch += 1;
                    self.last = batch::times(&batch).map(|(_, last)| last).or(self.last);
                    return Ok(Some(Read::Batch(self.position, batch)));
                }
                Ok(None) if is_written => return Ok(None),
                Ok(None) if !segment.is_torn() => self.go_to_segment(number + 1),
                Err(error) if is_written || error.kind() != io::ErrorKind::InvalidData => {
                    let path = segment::path(&self.directory, number);
                    return Err(Failure::of_file("read", &path, &error));
                }
                Ok(None) | Err(_) => return Ok(Some(self.pass_over_damage())),
            }
        }
    }

    /// Goes to the beginning of a segment, or to the end if that comes first.
    fn go_to_segment(&mut self, number: u64) {
        self.segment = None;
        let begin = Position::begin(number);
        self.position = self.end.map_or(begin, |end| end.min(begin));
    }

    fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| self.position >= end)
    }

    /// The rest of this segment cannot be read.
    fn pass_over_damage(&mut self) -> Read {
        let path = segment::path(&self.directory, self.position.segment);
        warn!(
            "{} is damaged after batch {}: the rest of it is missing",
            path.display(),
            self.position.batch
        );
        let until = modified(&path).unwrap_or_else(Timestamp::now);
        let since = self.last.unwrap_or(until).min(until);
        self.go_to_segment(self.position.segment + 1);
        let loss = LossBody {
            subject: None,
            reason: LossReason::Spool,
            count: None,
            since,
            until,
        };
        Read::Missing(self.position, loss)
    }

    /// Opens the segment of the position, or the first one after it, and skips the batches before the position.
    fn open(&mut self, progress: Progress) -> Result<Opened> {
        let path = segment::path(&self.directory, self.position.segment);
        let failed = |error: io::Error| Failure::of_file("read", &path, &error);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.pass_over(),
            Err(error) => return Err(failed(error)),
        };
        let mut segment = Segment::open(file);
        let is_written = self.position.segment >= progress.segment;
        let written = is_written.then_some(progress.bytes);
        for _ in 0..self.position.batch {
            match segment.read(written) {
                Ok(Some(_)) => {}
                // The segment was cut off before this position, or is damaged: the next read says so.
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => break,
                Err(error) => return Err(failed(error)),
            }
        }
        self.segment = Some(segment);
        Ok(Opened::Segment)
    }

    /// The position's segment is missing: goes to the next one that exists or existed.
    fn pass_over(&mut self) -> Result<Opened> {
        let removed = summary::removed_behind(&self.directory, self.position, self.end)?;
        let numbers = segment::numbers(&self.directory)?;
        let summaries = summary::numbers(&self.directory)?;
        let later = |number: &&u64| **number > self.position.segment;
        let next = numbers.iter().chain(&summaries).filter(later).min();
        let Some(&next) = next else {
            return Ok(Opened::Nothing);
        };
        self.go_to_segment(next);
        match removed {
            Some(loss) => Ok(Opened::Missing(loss)),
            None if self.is_at_end() => Ok(Opened::Nothing),
            None => self.open(self.tail.progress()),
        }
    }
}

enum Opened {
    Segment,
    Missing(LossBody),
    Nothing,
}

fn modified(path: &Path) -> Option<Timestamp> {
    let modified = path.metadata().ok()?.modified().ok()?;
    let since = modified.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok().map(Timestamp::from_ns)
}

/// A segment that is being read.
pub struct Segment {
    file: File,
    decoder: StreamDecoder,
    decompressor: Decompressor<'static>,
    /// Bytes that were read from the file but not decoded yet.
    pending: Vec<u8>,
    /// How many bytes have been read from the file.
    read_bytes: u64,
    /// The size of the whole batches in bytes.
    whole_bytes: u64,
}

impl Segment {
    pub fn open(file: File) -> Self {
        Self {
            file,
            decoder: StreamDecoder::new(),
            decompressor: Decompressor::new().expect("zstd has memory"),
            pending: Vec::new(),
            read_bytes: 0,
            whole_bytes: 0,
        }
    }

    /// The size in bytes of the whole batches that have been read so far.
    pub fn whole_bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// Whether a part of a batch was read.
    pub fn is_torn(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The next batch. None: the file ends here, or `written` bytes have been read, after which nothing is read.
    pub fn read(&mut self, written: Option<u64>) -> io::Result<Option<RecordBatch>> {
        loop {
            if let Some(length) = frame::length(&self.pending)? {
                return self.decode(length).map(Some);
            }
            let most = written.map_or(CHUNK_BYTES, |written| {
                written.saturating_sub(self.read_bytes).min(CHUNK_BYTES)
            });
            let count = (&mut self.file).take(most).read_to_end(&mut self.pending)?;
            if count == 0 {
                return Ok(None);
            }
            self.read_bytes += count as u64;
        }
    }

    /// Like [`read`](Self::read), with all columns of this version's schema. A batch of a newer version is an error, but
    /// not damaged: it waits for a version that can read it.
    pub fn read_records(&mut self, written: Option<u64>) -> io::Result<Option<RecordBatch>> {
        let batch = self.read(written)?.map(with_all_columns).transpose();
        batch.map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))
    }

    /// The batch in the frame of this length.
    fn decode(&mut self, length: usize) -> io::Result<RecordBatch> {
        let content = frame::content(&mut self.decompressor, &self.pending[..length])?;
        let mut content = Buffer::from_vec(content);
        let decoded = self.decoder.decode(&mut content);
        let damaged = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let batch = decoded.map_err(|error| damaged(error.to_string()))?;
        let batch = batch.ok_or_else(|| damaged("a frame has no batch".to_owned()))?;
        self.pending.drain(..length);
        self.whole_bytes += length as u64;
        Ok(batch)
    }
}
