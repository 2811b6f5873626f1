//! The metadata of a complete file.

use arrow_array::RecordBatch;
use nlring::Timestamp;

use super::batch;
use super::recording::{NODE, Recording};

/// The key of the version of nlringd that has written a file.
pub const VERSION: &str = "nlring.version";
const FORMAT_KEY: &str = "nlring.format";
const FIRST_POSITION: &str = "nlring.first_position";
const LAST_POSITION: &str = "nlring.last_position";
const COMPLETE_FROM: &str = "nlring.complete_from_ns";
const BEHIND: &str = "nlring.behind_ns";
const COMPLETE_UNTIL: &str = "nlring.complete_until_ns";
const FLOWS_UNTIL: &str = "nlring.flows_until_ns";
const ENDS: &str = "nlring.ends_ns";

/// The number of the format of files. It grows when records change in a way that makes readers wrong.
pub const FORMAT: u64 = 1;

/// What the metadata of a complete file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub format: u64,
    pub node: String,
    /// The positions in the spool before the first batch and after the last.
    pub positions: [String; 2],
    /// The time for which the records are complete, except for the losses among them. Records of its beginning may be
    /// at the end of the previous file.
    pub complete_ns: [Option<u64>; 2],
    /// Everything that was received after this time is in this file, and not in the previous one.
    pub behind_ns: Option<u64>,
    /// Each flow that had ended before this time is recorded. None: unknown.
    pub flows_until_ns: Option<u64>,
    /// When runs of nlringd ended with a record of each flow that still existed.
    pub ends_ns: Vec<u64>,
    /// What is recorded, and how.
    pub recording: Option<Recording>,
}

impl About {
    /// The keys and values of the metadata.
    pub fn metadata(&self) -> Vec<(String, String)> {
        let [first, last] = &self.positions;
        let [from, until] = self.complete_ns;
        let ends: Vec<String> = self.ends_ns.iter().map(u64::to_string).collect();
        let number = |ns: Option<u64>| ns.map(|ns| ns.to_string());
        let own = [
            (FORMAT_KEY, Some(self.format.to_string())),
            (VERSION, Some(env!("CARGO_PKG_VERSION").to_owned())),
            (NODE, Some(self.node.clone())),
            (FIRST_POSITION, Some(first.clone())),
            (LAST_POSITION, Some(last.clone())),
            (COMPLETE_FROM, number(from)),
            (COMPLETE_UNTIL, number(until)),
            (BEHIND, number(self.behind_ns)),
            (FLOWS_UNTIL, number(self.flows_until_ns)),
            (ENDS, (!ends.is_empty()).then(|| ends.join(" "))),
        ];
        let own = own.into_iter();
        let own = own.filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let recording = self.recording.iter().flat_map(Recording::metadata);
        own.chain(recording.filter(|(key, _)| key != NODE))
            .collect()
    }

    /// Reads metadata. `value` returns the value of a key.
    pub fn from_metadata<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Self {
        let number = |key| value(key)?.parse::<u64>().ok();
        let text = |key| value(key).unwrap_or_default().to_owned();
        let ends = value(ENDS).unwrap_or_default().split(' ');
        Self {
            format: number(FORMAT_KEY).unwrap_or_default(),
            node: text(NODE),
            positions: [FIRST_POSITION, LAST_POSITION].map(text),
            complete_ns: [COMPLETE_FROM, COMPLETE_UNTIL].map(number),
            behind_ns: number(BEHIND),
            flows_until_ns: number(FLOWS_UNTIL),
            ends_ns: ends.filter_map(|end| end.parse().ok()).collect(),
            recording: Recording::from_metadata(value),
        }
    }
}

/// What batches say in addition to their records.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    pub first_mark: Option<Timestamp>,
    pub last_mark: Option<Timestamp>,
    /// The last mark before which each flow that had ended is recorded.
    pub mark_of_flows: Option<Timestamp>,
    /// The marks at the ends of runs.
    pub ends: Vec<Timestamp>,
    pub recording: Option<Recording>,
}

impl Notes {
    /// Takes in the next batch.
    pub fn take(&mut self, batch: &RecordBatch) {
        self.first_mark = self.first_mark.or_else(|| batch::first_mark(batch));
        self.last_mark = batch::last_mark(batch).or(self.last_mark);
        self.mark_of_flows = batch::last_mark_of_flows(batch).or(self.mark_of_flows);
        self.ends.extend(batch::ends(batch));
        self.recording = self.recording.take().or_else(|| batch::recording(batch));
    }

    /// Whether the next batch has another `Recording`.
    pub fn differ_from(&self, batch: &RecordBatch) -> bool {
        let known = self.recording.as_ref().zip(batch::recording(batch));
        known.is_some_and(|(before, next)| *before != next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;
    use crate::config::Records;

    #[test]
    fn what_a_file_says_is_read_back() {
        let about = About {
            format: FORMAT,
            node: "gw".to_owned(),
            positions: ["000000000001-000000", "000000000002-000003"].map(str::to_owned),
            complete_ns: [Some(5), Some(9)],
            behind_ns: Some(6),
            flows_until_ns: Some(8),
            ends_ns: vec![6, 7],
            recording: Some(Recording {
                node: "gw".to_owned(),
                records: Records::Both,
                routes: true,
                open_interval: Duration::from_secs(900),
                clock_since_ns: 2,
            }),
        };
        for about in [about, About::default()] {
            let metadata: HashMap<String, String> = about.metadata().into_iter().collect();
            let value = |key: &str| metadata.get(key).map(String::as_str);
            assert_eq!(About::from_metadata(value), about);
        }
    }
}
