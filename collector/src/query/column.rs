//! Values of columns.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Int32Type, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_buffer::BooleanBuffer;
use arrow_schema::ArrowError;
use arrow_select::dictionary::garbage_collect_dictionary;

use super::prefix::Prefix;
use super::question::{Condition, Interval, Term, Value};
use crate::record::stored::UNIT_NS;

/// The value of a row in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell<'a> {
    Text(&'a str),
    Number(u64),
    /// The nanosecond since 1970.
    Instant(i64),
    Flag(bool),
}

/// The value of a row in the column of this name.
pub fn cell<'a>(batch: &'a RecordBatch, name: &str, row: usize) -> Option<Cell<'a>> {
    cell_of(batch.column_by_name(name)?, row)
}

/// The value of a row in a column. Columns of types that the schema lacks are empty.
pub fn cell_of(array: &ArrayRef, row: usize) -> Option<Cell<'_>> {
    if array.is_null(row) {
        return None;
    }
    if let Some((words, texts)) = words(array) {
        return Some(Cell::Text(texts.value(words.key(row)?)));
    }
    if let Some(texts) = array.as_string_opt::<i32>() {
        return Some(Cell::Text(texts.value(row)));
    }
    if let Some(flags) = array.as_boolean_opt() {
        return Some(Cell::Flag(flags.value(row)));
    }
    if let Some(instants) = array.as_primitive_opt::<TimestampMillisecondType>() {
        return Some(Cell::Instant(first_ns(instants.value(row))));
    }
    number(array, row).map(Cell::Number)
}

fn number(array: &ArrayRef, row: usize) -> Option<u64> {
    let small = array
        .as_primitive_opt::<UInt8Type>()
        .map(|array| array.value(row).into());
    let small = small.or_else(|| Some(array.as_primitive_opt::<UInt16Type>()?.value(row).into()));
    let small = small.or_else(|| Some(array.as_primitive_opt::<UInt32Type>()?.value(row).into()));
    small.or_else(|| Some(array.as_primitive_opt::<UInt64Type>()?.value(row)))
}

fn words(array: &ArrayRef) -> Option<(&arrow_array::DictionaryArray<Int32Type>, &StringArray)> {
    let words = array.as_dictionary_opt::<Int32Type>()?;
    Some((words, words.values().as_string_opt::<i32>()?))
}

/// The first nanosecond of a row's millisecond in a column.
pub fn instant(batch: &RecordBatch, name: &str, row: usize) -> Option<i64> {
    match cell(batch, name, row)? {
        Cell::Instant(ns) => Some(ns),
        _ => None,
    }
}

/// The first nanosecond of an instant in a file.
pub fn first_ns(instant: i64) -> i64 {
    instant.saturating_mul(UNIT_NS)
}

/// The last nanosecond of the unit that begins with this one. Something that lasted until an instant in a file may have
/// lasted until then.
pub fn last_ns(first_ns: i64) -> i64 {
    first_ns.saturating_add(UNIT_NS - 1)
}

/// The records with only the texts that they use. A file has the texts for all records of a row group, which take 2 MB.
pub fn without_unused_words(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| {
        let Some(words) = column.as_dictionary_opt::<Int32Type>() else {
            return Ok(column.clone());
        };
        Ok(Arc::new(garbage_collect_dictionary(words)?) as ArrayRef)
    });
    let columns = columns.collect::<Result<_, ArrowError>>()?;
    RecordBatch::try_new(batch.schema(), columns)
}

/// Which rows have this value.
pub fn rows_with(batch: &RecordBatch, condition: &Condition) -> BooleanBuffer {
    let none = || BooleanBuffer::new_unset(batch.num_rows());
    let Some(array) = batch.column_by_name(condition.column) else {
        return none();
    };
    let rows = match &condition.value {
        Value::Number(wanted) => array.as_primitive_opt::<UInt16Type>().map(|array| {
            let numbers = array.values();
            BooleanBuffer::collect_bool(array.len(), |row| numbers[row] == *wanted)
        }),
        Value::Text(wanted) => rows_with_word(array, |text| text == wanted),
        Value::Prefix(wanted) => rows_with_word(array, |text| {
            text.parse::<Prefix>()
                .is_ok_and(|prefix| prefix.overlaps(*wanted))
        }),
    };
    let Some(rows) = rows else { return none() };
    match array.nulls() {
        Some(nulls) => &rows & nulls.inner(),
        None => rows,
    }
}

/// Which rows have a wanted word. None: it is not a column of words.
fn rows_with_word(array: &ArrayRef, is_wanted: impl Fn(&str) -> bool) -> Option<BooleanBuffer> {
    let (words, texts) = words(array)?;
    // A dictionary may contain a text twice.
    let is_wanted: Vec<bool> = texts
        .iter()
        .map(|text| text.is_some_and(&is_wanted))
        .collect();
    let keys = words.keys().values();
    let has =
        |row: usize| usize::try_from(keys[row]).is_ok_and(|key| is_wanted.get(key) == Some(&true));
    Some(BooleanBuffer::collect_bool(words.len(), has))
}

/// The rows for which one of the alternatives holds.
pub fn rows_of_term(batch: &RecordBatch, term: &Term) -> BooleanBuffer {
    let mut rows = BooleanBuffer::new_unset(batch.num_rows());
    for conditions in &term.alternatives {
        let all = BooleanBuffer::new_set(batch.num_rows());
        let alternative = conditions
            .iter()
            .fold(all, |rows, condition| &rows & &rows_with(batch, condition));
        rows = &rows | &alternative;
    }
    rows
}

/// The columns that [`rows_within`] reads for this kind of record.
pub fn time_columns(record: &str) -> &'static [&'static str] {
    match record {
        "event" => &["record", "time"],
        "route" => &["record", "time", "since"],
        _ => &["record", "time", "start", "observed_start", "stop"],
    }
}

/// The rows of this kind of record that lasted into the interval; open flows are flows. An event has only its time, and
/// a route change that was found may have happened earlier. A flow whose start is unknown may have begun at any time.
pub fn rows_within(batch: &RecordBatch, record: &'static str, interval: Interval) -> BooleanBuffer {
    let kind = |name: &str| {
        let value = Value::Text(name.to_owned());
        rows_with(
            batch,
            &Condition {
                column: "record",
                value,
            },
        )
    };
    let kinds = match record {
        "flow" => &kind("flow") | &kind("open"),
        record => kind(record),
    };
    BooleanBuffer::collect_bool(batch.num_rows(), |row| {
        kinds.value(row) && lifetime(batch, row, record).overlaps(interval)
    })
}

fn lifetime(batch: &RecordBatch, row: usize, record: &str) -> Interval {
    let time = instant(batch, "time", row).unwrap_or(i64::MAX);
    if record != "flow" {
        let since = instant(batch, "since", row).filter(|_| record == "route");
        return Interval {
            from: since.unwrap_or(time),
            until: last_ns(time),
        };
    }
    let start = instant(batch, "start", row).or_else(|| instant(batch, "observed_start", row));
    Interval {
        from: start.unwrap_or(i64::MIN),
        until: last_ns(instant(batch, "stop", row).unwrap_or(time)),
    }
}

/// The rows that answer the question.
pub fn answers(batch: &RecordBatch, question: &super::question::Question) -> BooleanBuffer {
    let within = rows_within(batch, question.record, question.interval);
    question
        .terms
        .iter()
        .fold(within, |rows, term| &rows & &rows_of_term(batch, term))
}
