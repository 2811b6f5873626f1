//! From when to when the records are complete, and what is missing among them.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use nlring::Timestamp;
use parquet::file::metadata::ParquetMetaData;

use super::column::{Cell, cell, instant, last_ns, rows_with};
use super::prune::range;
use super::question::{Condition, Interval, Value};
use crate::record::Subject;

/// Something is missing in the time of the question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    pub node: String,
    /// The interval in which it is missing. An end that is not known is that of the question.
    pub since: i64,
    pub until: i64,
    pub reason: String,
    /// How many events, if that is known.
    pub count: Option<u64>,
}

/// The times that records cover, of each node.
#[derive(Default)]
pub struct Coverage(BTreeMap<String, Vec<Interval>>);

/// The columns that [`rows`] reads.
pub const COLUMNS: [&str; 4] = ["record", "since", "until", "subject"];

/// The rows that are losses of this subject, or of all, in the interval.
pub fn rows(batch: &RecordBatch, subject: Subject, interval: Interval) -> BooleanBuffer {
    let rows_with = |column, text: &str| {
        let value = Value::Text(text.to_owned());
        rows_with(batch, &Condition { column, value })
    };
    let losses = rows_with("record", "loss");
    let others = rows_with("subject", subject.other().name());
    BooleanBuffer::collect_bool(batch.num_rows(), |row| {
        losses.value(row) && !others.value(row) && lasts(batch, row).overlaps(interval)
    })
}

fn lasts(batch: &RecordBatch, row: usize) -> Interval {
    Interval {
        from: instant(batch, "since", row).unwrap_or(i64::MIN),
        until: instant(batch, "until", row).map_or(i64::MAX, last_ns),
    }
}

/// What the loss in this row says.
pub fn loss(node: &str, batch: &RecordBatch, row: usize) -> Missing {
    let Interval { from, until } = lasts(batch, row);
    let reason = match cell(batch, "reason", row) {
        Some(Cell::Text(reason)) => reason,
        _ => "unknown",
    };
    Missing {
        node: node.to_owned(),
        since: from,
        until,
        reason: reason.to_owned(),
        count: match cell(batch, "count", row) {
            Some(Cell::Number(count)) => Some(count),
            _ => None,
        },
    }
}

/// The node that a file is of.
pub fn node_of(metadata: &ParquetMetaData) -> String {
    entry(metadata, "nlring.node")
        .unwrap_or_default()
        .to_owned()
}

/// The collector writes at least one mark in this time.
const MARK_DISTANCE_NS: i64 = 1_000_000_000;

/// The time that a file covers: what it says about itself, or from the last mark before its first record to its last one.
pub fn covered_by(metadata: &ParquetMetaData) -> Option<Interval> {
    let said = |key| entry(metadata, key)?.parse().ok();
    let (from, until) = (
        said("nlring.complete_from_ns"),
        said("nlring.complete_until_ns"),
    );
    if let (Some(from), Some(until)) = (from, until) {
        return Some(Interval { from, until });
    }
    let times = metadata
        .row_groups()
        .iter()
        .filter_map(|group| range(group, "time"));
    let whole = times.reduce(|whole, next| Interval {
        from: whole.from.min(next.from),
        until: whole.until.max(next.until),
    })?;
    Some(Interval {
        from: from.unwrap_or(whole.from.saturating_sub(MARK_DISTANCE_NS)),
        until: until.unwrap_or(whole.until),
    })
}

/// What the metadata of a file say under this key.
pub fn entry<'a>(metadata: &'a ParquetMetaData, key: &str) -> Option<&'a str> {
    let entries = metadata.file_metadata().key_value_metadata()?;
    entries
        .iter()
        .find(|entry| entry.key == key)?
        .value
        .as_deref()
}

impl Coverage {
    pub fn add(&mut self, node: &str, interval: Interval) {
        self.0.entry(node.to_owned()).or_default().push(interval);
    }

    /// Until when the records of this node go.
    pub fn last(&self, node: &str) -> Option<i64> {
        let covered = self.0.get(node)?;
        covered.iter().map(|interval| interval.until).max()
    }

    /// What no record covers in the question's time. Ends that the question leaves open are those of the records.
    pub fn missing(mut self, asked: Interval) -> Vec<Missing> {
        let mut missing = Vec::new();
        for (node, covered) in &mut self.0 {
            covered.sort_unstable_by_key(|interval| interval.from);
            let whole = Interval {
                from: covered.first().map_or(i64::MAX, |first| first.from),
                until: covered
                    .iter()
                    .map(|interval| interval.until)
                    .max()
                    .unwrap_or(i64::MIN),
            };
            let from = if asked.from == i64::MIN {
                whole.from
            } else {
                asked.from
            };
            let until = if asked.until == i64::MAX {
                whole.until
            } else {
                asked.until
            };
            let mut add = |since: i64, until: i64, reason: &str| {
                if since <= until {
                    missing.push(Missing {
                        node: node.clone(),
                        since,
                        until,
                        reason: reason.to_owned(),
                        count: None,
                    });
                }
            };
            add(from, until.min(whole.from.saturating_sub(1)), "begin");
            let mut behind = whole.from;
            for next in covered.iter() {
                // A file begins at the instant at which the one before it ends.
                add(
                    from.max(behind.saturating_add(1)),
                    until.min(next.from.saturating_sub(1)),
                    "gap",
                );
                behind = behind.max(next.until);
            }
            add(from.max(whole.until.saturating_add(1)), until, "end");
        }
        missing
    }
}

impl Missing {
    /// A sentence about it.
    pub fn sentence(&self) -> String {
        let time = |ns: i64| format!("{:.3}", Timestamp::from_ns(u64::try_from(ns).unwrap_or(0)));
        let (since, until) = (time(self.since), time(self.until));
        let events = self
            .count
            .map_or("events".to_owned(), |count| format!("{count} events"));
        let what = match self.reason.as_str() {
            "begin" => format!("no records from {since} to {until}: the first file begins later"),
            "end" => format!(
                "no records from {since} to {until}: the newest file ends before; --follow-spool DIR adds what no file \
                 has yet"
            ),
            "gap" => format!("no records from {since} to {until}: a file is missing"),
            "stopped" => format!("nlringd did not run from {since} to {until}"),
            "killed" => format!(
                "nlringd was killed: flows that were there from {since} on have no record if they ended before {until}"
            ),
            "kernel" => format!(
                "{events} were lost from {since} to {until}, because the receive buffer was full"
            ),
            "spool" => format!(
                "{events} were removed from the spool, from {since} to {until}, because it was full"
            ),
            reason => format!("{events} are missing from {since} to {until} ({reason})"),
        };
        match self.node.as_str() {
            "" => what,
            node => format!("{node}: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(covered: &[(i64, i64)], asked: (i64, i64)) -> Vec<(i64, i64, String)> {
        let mut coverage = Coverage::default();
        for &(from, until) in covered {
            coverage.add("gw", Interval { from, until });
        }
        let missing = coverage.missing(Interval {
            from: asked.0,
            until: asked.1,
        });
        missing
            .into_iter()
            .map(|missing| (missing.since, missing.until, missing.reason))
            .collect()
    }

    #[test]
    fn what_no_file_covers_is_missing() {
        let covered = [(200, 300), (100, 200), (400, 500)];
        let gap = |since, until, reason: &str| (since, until, reason.to_owned());
        assert_eq!(missing(&covered, (150, 250)), []);
        assert_eq!(missing(&covered, (150, 350)), [gap(301, 350, "gap")]);
        assert_eq!(missing(&covered, (320, 330)), [gap(320, 330, "gap")]);
        assert_eq!(missing(&covered, (10, 20)), [gap(10, 20, "begin")]);
        assert_eq!(missing(&covered, (600, 700)), [gap(600, 700, "end")]);
        assert_eq!(
            missing(&covered, (i64::MIN, i64::MAX)),
            [gap(301, 399, "gap")]
        );
        assert_eq!(
            missing(&covered, (0, 1000)),
            [
                gap(0, 99, "begin"),
                gap(301, 399, "gap"),
                gap(501, 1000, "end")
            ]
        );
    }
}
