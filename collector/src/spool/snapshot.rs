//! Reads the contents of a spool, without its writer.

use std::fs::File;
use std::io;
use std::path::Path;

use arrow_array::RecordBatch;

use super::reader::Segment;
use super::segment::{self, Position};
use crate::failure::{Failure, Result};

/// Hands out all whole batches after a position. False: what directly followed the position no longer exists.
pub fn read_behind(
    directory: &Path,
    position: Position,
    mut f: impl FnMut(RecordBatch),
) -> Result<bool> {
    let numbers = segment::numbers(directory)?;
    let mut behind = numbers.iter().filter(|&&number| number >= position.segment);
    let is_next_there = behind
        .clone()
        .next()
        .is_none_or(|&first| first <= position.segment + 1);
    behind.try_for_each(|&number| {
        let path = segment::path(directory, number);
        let failed = |error: io::Error| {
            Failure::Other(format!(
                "{}: {error}; what is behind the damage is not searched",
                path.display()
            ))
        };
        let file = match File::open(&path) {
            // It has been removed in the meantime, because it is in files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok::<(), Failure>(()),
            file => file.map_err(failed)?,
        };
        let is_first = number == position.segment;
        let mut passed = if is_first { position.batch } else { 0 };
        let mut segment = Segment::open(file);
        while let Some(batch) = segment.read(None).map_err(failed)? {
            if passed > 0 {
                passed -= 1;
            } else {
                f(batch);
            }
        }
        Ok(())
    })?;
    Ok(is_next_there)
}
