//! Reads the contents of a spool, without its writer.

use std::fs::File;
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;

use super::reader::Segment;
use super::segment::{self, Position};
use crate::failure::{Failure, Result};
use crate::record::batch;

/// The segments that a spool has at one time. They can be read even if they are removed.
pub struct Snapshot {
    directory: PathBuf,
    segments: Vec<(u64, File)>,
}

impl Snapshot {
    pub fn open(directory: &Path) -> Result<Self> {
        let mut segments = Vec::new();
        for number in segment::numbers(directory)? {
            let path = segment::path(directory, number);
            match File::open(&path) {
                Ok(file) => segments.push((number, file)),
                // It was removed meanwhile, because it is in files.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::of_file("open", &path, &error)),
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            segments,
        })
    }

    /// The node whose records the newest segment has. None: no segment names it.
    pub fn node(&self) -> Option<String> {
        let mut segments = self.segments.iter().rev();
        segments.find_map(|(_, file)| {
            let mut file = file.try_clone().ok()?;
            file.rewind().ok()?;
            let first = Segment::open(file).read(None).ok()??;
            Some(batch::recording(&first)?.node)
        })
    }

    /// Where the batches after a position begin: at the position itself, or later if the batches that directly follow
    /// it are gone. None: nothing follows it.
    pub fn begin_behind(&self, position: Position) -> Option<Position> {
        let mut numbers = self.segments.iter().map(|(number, _)| *number);
        let first = numbers.find(|&number| number >= position.segment)?;
        let begin = Position::begin(first);
        Some(begin.max(position))
    }

    /// Hands out all whole batches after a position, each with the position after it. A damaged segment is a failure,
    /// and the next one follows.
    pub fn read_behind(
        &self,
        position: Position,
        mut f: impl FnMut(Result<(Position, RecordBatch)>),
    ) {
        let segments = self.segments.iter();
        for (number, file) in segments.filter(|(number, _)| *number >= position.segment) {
            let read = read(file, *number, |behind, batch| {
                if behind > position {
                    f(Ok((behind, batch)));
                }
            });
            if let Err(error) = read {
                let path = segment::path(&self.directory, *number);
                f(Err(Failure::Other(format!(
                    "{} cannot be read to its end ({error}): the records after that place are not in the answer; nlringd \
                     records it as a loss in the next file if it cannot read it either",
                    path.display()
                ))));
            }
        }
    }
}

fn read(file: &File, number: u64, mut f: impl FnMut(Position, RecordBatch)) -> io::Result<()> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    let mut segment = Segment::open(file);
    let mut behind = Position::begin(number);
    while let Some(batch) = segment.read_records(None)? {
        behind.batch += 1;
        f(behind, batch);
    }
    Ok(())
}
