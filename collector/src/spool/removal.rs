//! Removes segments: those that all outputs have read, and those that exceed the limits.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tracing::warn;

use super::{segment, summary};
use crate::config::{self, Live};
use crate::failure::{Failure, Result};

/// What remains in a spool.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub bytes: u64,
    /// When the oldest segment was last written. Without segments, the current time.
    pub oldest: SystemTime,
}

/// Removes segments.
#[derive(Debug)]
pub struct Removal {
    directory: PathBuf,
    config: Live<config::Spool>,
    /// The segment of each output's cursor.
    cursors: Vec<Arc<AtomicU64>>,
}

impl Removal {
    pub fn new(config: Live<config::Spool>, cursors: Vec<Arc<AtomicU64>>) -> Self {
        Self {
            directory: config.get().directory.clone(),
            config,
            cursors,
        }
    }

    /// Removes what it can of the segments before `current`, which a start needs.
    pub fn run(&self, current: u64) -> Result<Kept> {
        let cursors = self.cursors.iter();
        let lowest = cursors.map(|cursor| cursor.load(Ordering::Acquire)).min();
        let needed = lowest.unwrap_or(current).min(current);
        for number in summary::numbers(&self.directory)? {
            if number < needed {
                summary::remove(&self.directory, number)?;
            }
        }
        let numbers = segment::numbers(&self.directory)?;
        let mut kept = Vec::new();
        for number in numbers {
            if number < needed {
                self.remove(number)?;
            } else {
                kept.push((number, self.metadata(number)?));
            }
        }
        self.enforce_limits(current, &kept)
    }

    fn enforce_limits(&self, current: u64, kept: &[(u64, fs::Metadata)]) -> Result<Kept> {
        let config = self.config.get();
        let mut bytes: u64 = kept.iter().map(|(_, metadata)| metadata.len()).sum();
        let now = SystemTime::now();
        let mut oldest = now;
        for (number, metadata) in kept {
            let written = metadata.modified().unwrap_or(now);
            let age = now.duration_since(written).unwrap_or_default();
            let is_too_old = config.max_age.is_some_and(|most| age > most.0);
            let is_beyond = bytes > config.max_bytes.0 || is_too_old;
            if *number >= current || !is_beyond {
                oldest = written;
                break;
            }
            warn!(
                "the spool is beyond its limits: segment {number} is removed before all outputs have read it; \
                 what they miss becomes a loss record"
            );
            self.replace_by_summary(*number)?;
            bytes -= metadata.len();
        }
        Ok(Kept { bytes, oldest })
    }

    /// Removes a segment, and leaves a summary for those who miss it.
    fn replace_by_summary(&self, number: u64) -> Result<()> {
        let text = summary::of_segment(&self.directory, number)?;
        let is_written = summary::write(&self.directory, number, &text).is_ok();
        self.remove(number)?;
        if is_written {
            return Ok(());
        }
        // Removing has made room.
        summary::write(&self.directory, number, &text)
    }

    fn metadata(&self, number: u64) -> Result<fs::Metadata> {
        let path = segment::path(&self.directory, number);
        fs::metadata(&path).map_err(|error| Failure::of_file("read", &path, &error))
    }

    fn remove(&self, number: u64) -> Result<()> {
        let path = segment::path(&self.directory, number);
        fs::remove_file(&path).map_err(|error| Failure::of_file("remove", &path, &error))
    }
}
