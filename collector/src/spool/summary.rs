//! The contents of a segment that was removed before all outputs had read it: `NUMBER.removed`, one line per batch.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nlring::Timestamp;

use super::reader::Segment;
use super::segment::{self, Position};
use crate::failure::{Failure, Result};
use crate::record::batch;
use crate::record::{LossBody, LossReason};

const SUFFIX: &str = ".removed";

/// The contents of a batch.
struct Line {
    record_count: u64,
    times: Option<(u64, u64)>,
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:012}{SUFFIX}"))
}

/// The numbers of the segments that have a summary, lowest first.
pub fn numbers(directory: &Path) -> Result<Vec<u64>> {
    segment::numbers_with(directory, SUFFIX)
}

/// The summary of a segment.
pub fn of_segment(directory: &Path, number: u64) -> Result<String> {
    let path = segment::path(directory, number);
    let file = File::open(&path).map_err(|error| Failure::of_file("open", &path, &error))?;
    let mut segment = Segment::open(file);
    let mut text = String::new();
    // Damaged batches cannot be counted.
    while let Ok(Some(read)) = segment.read(None) {
        let (first, last) = batch::span_if_lost(&read).unzip();
        let ns = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_ns);
        let count = batch::record_count(&read);
        _ = writeln!(text, "{count} {} {}", ns(first), ns(last));
    }
    Ok(text)
}

/// Writes a summary.
pub fn write(directory: &Path, number: u64, text: &str) -> Result<()> {
    let path = path(directory, number);
    fs::write(&path, text).map_err(|error| Failure::of_file("write", &path, &error))
}

/// Removes a summary.
pub fn remove(directory: &Path, number: u64) -> Result<()> {
    let path = path(directory, number);
    fs::remove_file(&path).map_err(|error| Failure::of_file("remove", &path, &error))
}

/// What was removed from a position to the end of its segment, or to `end`. None: nothing, or there is no summary.
pub fn removed_behind(
    directory: &Path,
    position: Position,
    end: Option<Position>,
) -> Result<Option<LossBody>> {
    let path = path(directory, position.segment);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::of_file("read", &path, &error)),
    };
    let count = |batches: u32| usize::try_from(batches).unwrap_or(usize::MAX);
    let is_in_segment = |end: &Position| end.segment == position.segment;
    let end = end.filter(is_in_segment);
    let lines = text
        .lines()
        .take(end.map_or(usize::MAX, |end| count(end.batch)));
    let lines = lines.skip(count(position.batch)).filter_map(parse);
    let mut loss: Option<LossBody> = None;
    for line in lines {
        let Some((first, last)) = line.times else {
            continue;
        };
        let loss = loss.get_or_insert(LossBody {
            subject: None,
            reason: LossReason::Spool,
            count: Some(0),
            since: Timestamp::from_ns(first),
            until: Timestamp::from_ns(last),
        });
        loss.count = loss.count.map(|count| count + line.record_count);
        loss.since = loss.since.min(Timestamp::from_ns(first));
        loss.until = loss.until.max(Timestamp::from_ns(last));
    }
    Ok(loss.filter(|loss| loss.count != Some(0)))
}

fn parse(line: &str) -> Option<Line> {
    let mut numbers = line.split(' ').map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (record_count, first, last) = (next()?, next()?, next()?);
    Some(Line {
        record_count,
        times: (last > 0).then_some((first, last)),
    })
}
