//! What is recorded, and how. Segments of the spool and files say this about their records.

use std::collections::HashMap;
use std::time::Duration;

use nlring::Timestamp;

use crate::config::{Config, Records};

/// The metadata's key of the node.
pub const NODE: &str = "nlring.node";
const RECORDS: &str = "nlring.records";
const ROUTES: &str = "nlring.routes";
const OPEN_INTERVAL: &str = "nlring.open_interval_ns";
const CLOCK_SINCE: &str = "nlring.clock_since_ns";

/// What is recorded, and how. It is the metadata of the Arrow schema of a segment, and of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    pub node: String,
    pub records: Records,
    pub routes: bool,
    /// A flow that lasts is recorded at least once in any period of twice this length.
    pub open_interval: Duration,
    /// The time since when the clock has not been set back. Times of records that differ in this cannot be compared.
    pub clock_since_ns: u64,
}

impl Recording {
    pub fn new(config: &Config) -> Self {
        Self {
            node: config.node.clone(),
            records: config.records,
            routes: config.routes,
            // Flows are checked only when records are handed over.
            open_interval: config.open_interval.0.max(config.flush_interval.0),
            clock_since_ns: Timestamp::now().as_ns(),
        }
    }

    /// Whether records of this kind are written.
    pub fn has(&self, record: &str) -> bool {
        match record {
            "event" => self.records.has_events(),
            "route" => self.routes,
            _ => self.records.has_flows(),
        }
    }

    /// The longest time for which an existing flow has no record. None: flows are not recorded.
    pub fn longest_silence(&self) -> Option<Duration> {
        let silence = self.open_interval.saturating_mul(2);
        self.records.has_flows().then_some(silence)
    }

    pub fn metadata(&self) -> HashMap<String, String> {
        let entries = [
            (NODE, self.node.clone()),
            (RECORDS, self.records.name().to_owned()),
            (ROUTES, self.routes.to_string()),
            (OPEN_INTERVAL, self.open_interval.as_nanos().to_string()),
            (CLOCK_SINCE, self.clock_since_ns.to_string()),
        ];
        let entries = entries.into_iter();
        entries
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    /// Reads metadata. `value` returns the value of a key. None: the metadata does not say what is recorded.
    pub fn from_metadata<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let number = |key| value(key)?.parse::<u64>().ok();
        Some(Self {
            node: value(NODE)?.to_owned(),
            records: Records::from_name(value(RECORDS)?)?,
            routes: value(ROUTES)?.parse().ok()?,
            open_interval: Duration::from_nanos(number(OPEN_INTERVAL)?),
            clock_since_ns: number(CLOCK_SINCE)?,
        })
    }
}
