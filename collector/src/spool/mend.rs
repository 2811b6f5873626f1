//! What an earlier run left in the spool.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use nlring::Timestamp;
use tracing::warn;

use super::reader::Segment;
use super::segment;
use crate::failure::{Failure, Result};
use crate::record::{LossBody, LossReason, Subject, batch};

/// What was in the spool before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// The time of the last mark: from then on, records may be missing.
    pub last_mark: Option<Timestamp>,
    /// The previous run recorded the flows that existed at its end.
    pub has_end: bool,
    /// How many bytes at the end were not a whole batch, and were cut off.
    pub torn_bytes: u64,
    /// The number of the last segment.
    pub last_segment: Option<u64>,
}

impl Found {
    /// What is missing between the previous run and now. While nlringd runs, an existing flow has a record at least
    /// once per `longest_silence`; None: flows are not recorded.
    pub fn missing(&self, longest_silence: Option<Duration>, now: Timestamp) -> Vec<LossBody> {
        let Some(last_mark) = self.last_mark else {
            return Vec::new();
        };
        let loss = |subject, reason, since: Timestamp| LossBody {
            subject,
            reason,
            count: None,
            // The clock may have been set back.
            since: since.min(now),
            until: now.max(since),
        };
        let mut losses = vec![loss(None, LossReason::Stopped, last_mark)];
        if let Some(silence) = longest_silence.filter(|_| !self.has_end) {
            let silence_ns = u64::try_from(silence.as_nanos()).unwrap_or(u64::MAX);
            let since = Timestamp::from_ns(last_mark.as_ns().saturating_sub(silence_ns));
            losses.push(loss(Some(Subject::Flows), LossReason::Killed, since));
        }
        losses
    }
}

/// Cuts off an incomplete batch at the end of the last segment, which a crash left. Removes a segment without any whole
/// batch.
pub fn mend(directory: &Path) -> Result<Found> {
    let numbers = segment::numbers(directory)?;
    let mut found = Found {
        last_segment: numbers.last().copied(),
        ..Found::default()
    };
    for (place, &number) in numbers.iter().rev().enumerate() {
        let path = segment::path(directory, number);
        let failed = |doing, error: io::Error| Failure::of_file(doing, &path, &error);
        let file = File::options().read(true).write(true).open(&path);
        let file = file.map_err(|error| failed("open", error))?;
        let reading = file.try_clone().map_err(|error| failed("open", error))?;
        let mut segment = Segment::open(reading);
        // An error also ends the whole batches.
        while let Ok(Some(read)) = segment.read(None) {
            found.last_mark = batch::last_mark(&read).or(found.last_mark);
            if place == 0 {
                found.has_end = batch::is_end(&read);
            }
        }
        if place == 0 {
            let bytes = file
                .metadata()
                .map_err(|error| failed("read", error))?
                .len();
            found.torn_bytes = bytes - segment.whole_bytes();
            if segment.whole_bytes() == 0 {
                fs::remove_file(&path).map_err(|error| failed("remove", error))?;
            } else if found.torn_bytes > 0 {
                file.set_len(segment.whole_bytes())
                    .map_err(|error| failed("cut", error))?;
            }
        }
        if found.last_mark.is_some() {
            break;
        }
    }
    if found.torn_bytes > 0 {
        let bytes = found.torn_bytes;
        warn!("the spool ended in the middle of a batch: {bytes} bytes are cut off");
    }
    Ok(found)
}
