//! What batches of records say about their records.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, TimestampNanosecondType};
use arrow_array::{ArrayRef, BooleanArray, PrimitiveArray, RecordBatch, StringArray};
use nlring::Timestamp;

use super::columns::{END, REPAIR};
use super::recording::Recording;

/// Which rows are marks.
fn marks(batch: &RecordBatch) -> Option<BooleanArray> {
    rows_with(batch, "record", "mark")
}

/// Which rows have this word in the column.
fn rows_with(batch: &RecordBatch, column: &str, wanted: &str) -> Option<BooleanArray> {
    let column = batch
        .column_by_name(column)?
        .as_dictionary_opt::<Int32Type>()?;
    let words: &StringArray = column.values().as_string_opt()?;
    let is_wanted = |key: Option<usize>| key.is_some_and(|key| words.value(key) == wanted);
    Some(
        (0..column.len())
            .map(|row| Some(is_wanted(column.key(row))))
            .collect(),
    )
}

fn time_column(batch: &RecordBatch) -> Option<&ArrayRef> {
    batch.column_by_name("time_ns")
}

fn timestamp(ns: i64) -> Timestamp {
    Timestamp::from_ns(u64::try_from(ns).unwrap_or(0))
}

/// How many records there are, without the marks.
pub fn record_count(batch: &RecordBatch) -> u64 {
    let mark_count = marks(batch).map_or(0, |marks| marks.true_count());
    (batch.num_rows() - mark_count) as u64
}

/// The first and the last time of the records, without the marks.
pub fn times(batch: &RecordBatch) -> Option<(Timestamp, Timestamp)> {
    let marks = marks(batch)?;
    let times = time_column(batch)?.as_primitive_opt::<TimestampNanosecondType>()?;
    let is_record = |row: &usize| !marks.value(*row);
    let first = (0..times.len()).find(is_record)?;
    let last = (0..times.len()).rfind(is_record)?;
    Some((timestamp(times.value(first)), timestamp(times.value(last))))
}

/// The earliest and the latest time of all records, with the marks.
pub fn span(batch: &RecordBatch) -> Option<(Timestamp, Timestamp)> {
    let times = time_column(batch)?.as_primitive_opt::<TimestampNanosecondType>()?;
    let earliest = times.values().iter().min()?;
    let latest = times.values().iter().max()?;
    Some((timestamp(*earliest), timestamp(*latest)))
}

/// The earliest and the latest time that is missing if this batch is missing, including the times of the losses among
/// its records.
pub fn span_if_lost(batch: &RecordBatch) -> Option<(Timestamp, Timestamp)> {
    let (mut first, mut last) = span(batch)?;
    let instants = |name: &str| {
        let column = batch.column_by_name(name)?;
        column.as_primitive_opt::<TimestampNanosecondType>()
    };
    if let Some(losses) = rows_with(batch, "record", "loss")
        && let (Some(since), Some(until)) = (instants("since_ns"), instants("until_ns"))
    {
        for row in (0..batch.num_rows()).filter(|row| losses.value(*row)) {
            first = first.min(timestamp(since.value(row)));
            last = last.max(timestamp(until.value(row)));
        }
    }
    Some((first, last))
}

/// The time of the last mark.
pub fn last_mark(batch: &RecordBatch) -> Option<Timestamp> {
    let marks = marks(batch)?;
    let times = time_column(batch)?.as_primitive_opt::<TimestampNanosecondType>()?;
    let last = (0..times.len()).rfind(|row| marks.value(*row))?;
    Some(timestamp(times.value(last)))
}

/// The time of the first mark.
pub fn first_mark(batch: &RecordBatch) -> Option<Timestamp> {
    let marks = marks(batch)?;
    let times = time_column(batch)?.as_primitive_opt::<TimestampNanosecondType>()?;
    let first = (0..times.len()).find(|row| marks.value(*row))?;
    Some(timestamp(times.value(first)))
}

/// The time of the last mark before which each flow that had ended is recorded.
pub fn last_mark_of_flows(batch: &RecordBatch) -> Option<Timestamp> {
    let marks = marks(batch)?;
    let repairs = rows_with(batch, "event", REPAIR)?;
    let times = time_column(batch)?.as_primitive_opt::<TimestampNanosecondType>()?;
    let last = (0..times.len()).rfind(|row| marks.value(*row) && !repairs.value(*row))?;
    Some(timestamp(times.value(last)))
}

/// The times of the marks at the ends of runs.
pub fn ends(batch: &RecordBatch) -> Vec<Timestamp> {
    let ends = rows_with(batch, "event", END);
    let times = time_column(batch).and_then(|times| times.as_primitive_opt());
    let Some((ends, times)) = ends.zip::<&PrimitiveArray<TimestampNanosecondType>>(times) else {
        return Vec::new();
    };
    let rows = (0..times.len()).filter(|row| ends.value(*row));
    rows.map(|row| timestamp(times.value(row))).collect()
}

/// Whether the last record is the mark at the end of a run.
pub fn is_end(batch: &RecordBatch) -> bool {
    let rows = rows_with(batch, "event", END);
    rows.is_some_and(|rows| rows.iter().next_back() == Some(Some(true)))
}

/// What is recorded, and how. None: the batch does not say.
pub fn recording(batch: &RecordBatch) -> Option<Recording> {
    let schema = batch.schema_ref();
    Recording::from_metadata(|key| schema.metadata().get(key).map(String::as_str))
}

/// Runs of rows without marks, in order: where each begins, and how many rows it has.
pub fn runs_of_records(batch: &RecordBatch) -> Vec<(usize, usize)> {
    let Some(marks) = marks(batch) else {
        return vec![(0, batch.num_rows())];
    };
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for row in (0..batch.num_rows()).filter(|row| !marks.value(*row)) {
        match runs.last_mut() {
            Some((begin, length)) if *begin + *length == row => *length += 1,
            _ => runs.push((row, 1)),
        }
    }
    runs
}
