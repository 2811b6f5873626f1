//! Reads a spool, batch by batch.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;

use super::segment::{self, Position};
use super::tail::{Progress, Tail};
use crate::failure::{Failure, Result};

/// How many bytes are read at a time.
const CHUNK_BYTES: u64 = 1 << 20;

/// Reads a spool from a position, while it is written.
pub struct Reader {
    directory: PathBuf,
    tail: Arc<Tail>,
    position: Position,
    segment: Option<Segment>,
}

/// What a reader has found.
pub enum Read {
    /// A batch, and the position behind it.
    Batch(Position, RecordBatch),
    /// Nothing was written meanwhile.
    Nothing,
    /// The spool is closed, and all is read.
    End,
}

impl Reader {
    /// Begins behind a position. If its segment has been removed, the reader begins with the next one.
    pub fn new(directory: PathBuf, tail: Arc<Tail>, position: Position) -> Self {
        Self {
            directory,
            tail,
            position,
            segment: None,
        }
    }

    /// Reads the next batch. Waits for it for at most this time.
    pub fn next(&mut self, timeout: Duration) -> Result<Read> {
        let mut progress = self.tail.progress();
        loop {
            if let Some(batch) = self.read(progress)? {
                return Ok(Read::Batch(self.position, batch));
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

    /// The next batch that is written.
    fn read(&mut self, progress: Progress) -> Result<Option<RecordBatch>> {
        loop {
            if self.segment.is_none() && !self.open(progress)? {
                return Ok(None);
            }
            let Some(segment) = &mut self.segment else {
                return Ok(None);
            };
            let number = self.position.segment;
            let written = (number == progress.segment).then_some(progress.bytes);
            let path = segment::path(&self.directory, number);
            let read = segment.read(written);
            if let Some(batch) = read.map_err(|error| Failure::of_file("read", &path, &error))? {
                self.position.batch += 1;
                return Ok(Some(batch));
            }
            if number >= progress.segment {
                return Ok(None);
            }
            self.segment = None;
            self.position = Position {
                segment: number + 1,
                batch: 0,
            };
        }
    }

    /// Opens the segment of the position, or the first one behind it, and passes over the batches before the position.
    fn open(&mut self, progress: Progress) -> Result<bool> {
        let numbers = segment::numbers(&self.directory)?;
        let wanted = self.position.segment;
        let Some(&number) = numbers.iter().find(|&&number| number >= wanted) else {
            return Ok(false);
        };
        if number != wanted {
            self.position = Position {
                segment: number,
                batch: 0,
            };
        }
        let path = segment::path(&self.directory, number);
        let failed = |error: io::Error| Failure::of_file("read", &path, &error);
        let mut segment = Segment::open(File::open(&path).map_err(failed)?);
        let written = (number == progress.segment).then_some(progress.bytes);
        for _ in 0..self.position.batch {
            if segment.read(written).map_err(failed)?.is_none() {
                break;
            }
        }
        self.segment = Some(segment);
        Ok(true)
    }
}

/// A segment that is read.
pub struct Segment {
    file: File,
    decoder: StreamDecoder,
    /// What is read from the file and not decoded.
    pending: Buffer,
    /// How many bytes are read from the file.
    read_bytes: u64,
    /// How many bytes whole batches have.
    whole_bytes: u64,
}

impl Segment {
    pub fn open(file: File) -> Self {
        Self {
            file,
            decoder: StreamDecoder::new(),
            pending: Buffer::from(&[]),
            read_bytes: 0,
            whole_bytes: 0,
        }
    }

    /// How many bytes the whole batches have that were read so far.
    pub fn whole_bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// The next batch. None: the file ends here, or `written` bytes are read, behind which nothing is read.
    pub fn read(&mut self, written: Option<u64>) -> io::Result<Option<RecordBatch>> {
        loop {
            let decoded = self.decoder.decode(&mut self.pending);
            let decoded =
                decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if let Some(batch) = decoded {
                self.whole_bytes = self.read_bytes - self.pending.len() as u64;
                return Ok(Some(batch));
            }
            let most = written.map_or(CHUNK_BYTES, |written| {
                written.saturating_sub(self.read_bytes).min(CHUNK_BYTES)
            });
            let mut chunk = Vec::new();
            (&mut self.file).take(most).read_to_end(&mut chunk)?;
            if chunk.is_empty() {
                return Ok(None);
            }
            self.read_bytes += chunk.len() as u64;
            self.pending = Buffer::from_vec(chunk);
        }
    }
}
