//! What is missing among the records.

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use nlring::Timestamp;

use super::column::{Cell, cell, instant, last_ns, rows_with};
use super::question::{Condition, Interval, Value};
use crate::record::Subject;

/// Something is missing in the time of the question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    pub node: String,
    /// The interval in which it is missing. An unknown end is that of the question.
    pub since: i64,
    pub until: i64,
    pub reason: String,
    /// How many events are missing, if known.
    pub count: Option<u64>,
}

/// The columns that [`rows`] reads.
pub const COLUMNS: [&str; 4] = ["record", "since", "until", "subject"];

/// The rows with losses in the interval that concern this subject or all subjects.
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

impl Missing {
    /// Whether this makes an answer about a time incomplete. Removed records may be of flows that existed earlier.
    pub fn matters_in(&self, asked: Interval, silence_ns: i64) -> bool {
        let lasts = Interval {
            from: self.since,
            until: self.until,
        };
        let mut asked = asked;
        if ["spool", "clock"].contains(&self.reason.as_str()) {
            asked.until = asked.until.saturating_add(silence_ns);
        }
        lasts.overlaps(asked)
    }

    /// A sentence about it.
    pub fn sentence(&self, asked: Interval) -> String {
        let time = |ns: i64| format!("{:.3}", Timestamp::from_ns(u64::try_from(ns).unwrap_or(0)));
        let (since, until) = (time(self.since), time(self.until));
        let events = self
            .count
            .map_or("events".to_owned(), |count| format!("{count} events"));
        let what = match self.reason.as_str() {
            "begin" => format!("no records from {since} to {until}: the first file begins later"),
            "end" => format!(
                "no records from {since} to {until}: the newest file ends earlier; --follow-spool DIR adds records \
                 that are in no file yet"
            ),
            "open" => format!(
                "flows that existed may have their first record as late as {until}, and the records end at {since}; \
                 --follow-spool DIR adds records that are in no file yet"
            ),
            "gap" if self.since == i64::MIN || self.until == i64::MAX => {
                "files are missing, and the clock was set back meanwhile, so they may have records of any time".to_owned()
            }
            "gap" if self.since > asked.until => format!(
                "a file is missing, from {since} to {until}: it may have the first record of flows that existed before"
            ),
            "gap" => format!("no records from {since} to {until}: a file is missing"),
            "no_flows" => {
                format!("no records of flows were written from {since} to {until}; --events looks at those of events")
            }
            "no_routes" => {
                format!("no records of routes were written from {since} to {until}, because of `routes` in the configuration")
            }
            "no_events" => {
                format!("no records of events were written from {since} to {until}, only those of flows")
            }
            "clock" => format!(
                "the clock was set, between {since} and {until}: the times of flows that existed then may be wrong"
            ),
            "stopped" => format!("nlringd did not run from {since} to {until}"),
            "killed" => format!(
                "nlringd was killed: flows that existed from {since} on have no record if they ended before {until}"
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
