//! What an earlier run left in the spool.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nlring::Timestamp;
use tracing::warn;

use super::reader::Segment;
use super::segment;
use crate::failure::{Failure, Result};
use crate::record::recording::Recording;
use crate::record::{LossBody, LossReason, Subject, batch};

/// What was in the spool before.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The time of the last mark: from then on, records may be missing.
    pub last_mark: Option<Timestamp>,
    /// The segment that has it.
    pub marked: Option<u64>,
    /// What was recorded, and how.
    pub recording: Option<Recording>,
    /// The previous run recorded the flows that existed at its end.
    pub has_end: bool,
    /// How many bytes at the end were not a whole batch, and were cut off.
    pub torn_bytes: u64,
    /// The number of the last segment.
    pub last_segment: Option<u64>,
}

impl Found {
    /// If the spool has no mark, a power loss destroyed it. All outputs have the records before `covered`.
    pub fn or_of_outputs(self, covered: Option<Timestamp>, recording: &Recording) -> Self {
        match self.last_mark {
            Some(_) => self,
            None => Self {
                last_mark: covered,
                recording: Some(recording.clone()),
                ..self
            },
        }
    }

    /// What is missing between the previous run and now.
    pub fn missing(&self, now: Timestamp) -> Vec<LossBody> {
        let Some(last_mark) = self.last_mark else {
            return Vec::new();
        };
        let loss = |subject, reason, since: Timestamp, until| LossBody {
            subject,
            reason,
            count: None,
            // The clock may have been set back.
            since: since.min(now),
            until: now.max(until),
        };
        let silence = self.recording.as_ref().and_then(Recording::longest_silence);
        // If the clock was set back, it is unknown until when it went on after the last mark.
        let until = if now < last_mark {
            last_mark + silence.unwrap_or_default()
        } else {
            now
        };
        let mut losses = vec![loss(None, LossReason::Stopped, last_mark, until)];
        if let Some(silence) = silence.filter(|_| !self.has_end) {
            let silence_ns = u64::try_from(silence.as_nanos()).unwrap_or(u64::MAX);
            let since = Timestamp::from_ns(last_mark.as_ns().saturating_sub(silence_ns));
            losses.push(loss(Some(Subject::Flows), LossReason::Killed, since, until));
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
            let recording = batch::recording(&read);
            found.recording = found.recording.or(recording);
            if let Some(mark) = batch::last_mark(&read) {
                (found.last_mark, found.marked) = (Some(mark), Some(number));
            }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Records;

    #[test]
    fn if_the_clock_was_set_back_it_is_unknown_how_long_nlringd_did_not_run() {
        let recording = Recording {
            node: "gw".to_owned(),
            records: Records::Flows,
            routes: false,
            open_interval: Duration::from_secs(900),
            clock_since_ns: 0,
        };
        let at = |second: u64| Timestamp::from_ns(second * 1_000_000_000);
        let found = Found {
            last_mark: Some(at(10_000)),
            recording: Some(recording),
            has_end: true,
            ..Found::default()
        };
        let stopped = |now: Timestamp| {
            let losses = found.missing(now);
            let [loss] = &losses[..] else {
                panic!("one loss: {losses:?}")
            };
            assert_eq!(loss.reason, LossReason::Stopped);
            [loss.since, loss.until]
        };
        assert_eq!(stopped(at(10_500)), [at(10_000), at(10_500)]);
        assert_eq!(stopped(at(9_000)), [at(9_000), at(11_800)]);
    }
}
