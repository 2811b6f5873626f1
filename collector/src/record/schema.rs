//! The columns of records: the one schema of the spool and of all outputs. Parquet files have it in the form of
//! [`stored`](super::stored).

use std::sync::{Arc, LazyLock};

use arrow_array::{RecordBatch, new_null_array};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};

/// The schema. A column is null where the record has no value for it.
///
/// Addresses are texts in a dictionary: as 16 bytes they would save 1 byte per record in Parquet (of 23), but most
/// readers would not show them as addresses. For a route, only the destination has a column besides its JSON: each null
/// column costs CPU for every flow (8 more columns add 2 to 5 % to the cost of writing Parquet).
pub static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let word = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let instant = || DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("record", word(), false),
        Field::new("time_ns", instant(), false),
        field("netns", word()),
        field("event", word()),
        field("proto", word()),
        field("orig_src", word()),
        field("orig_dst", word()),
        field("orig_sport", DataType::UInt16),
        field("orig_dport", DataType::UInt16),
        field("orig_type", DataType::UInt8),
        field("orig_code", DataType::UInt8),
        field("orig_id", DataType::UInt16),
        field("orig_packets", DataType::UInt64),
        field("orig_bytes", DataType::UInt64),
        field("reply_packets", DataType::UInt64),
        field("reply_bytes", DataType::UInt64),
        field("nat_src", word()),
        field("nat_sport", DataType::UInt16),
        field("nat_dst", word()),
        field("nat_dport", DataType::UInt16),
        field("state", word()),
        field("status", DataType::UInt32),
        field("timeout_s", DataType::UInt32),
        field("mark", DataType::UInt32),
        field("zone", DataType::UInt16),
        field("zone_direction", word()),
        field("id", DataType::UInt32),
        field("start_ns", instant()),
        field("observed_start_ns", instant()),
        field("stop_ns", instant()),
        field("helper", word()),
        field("labels_hex", word()),
        field("resynced", DataType::Boolean),
        field("reason", word()),
        field("count", DataType::UInt64),
        field("since_ns", instant()),
        field("until_ns", instant()),
        field("subject", word()),
        field("route_dst", word()),
        field("route", DataType::Utf8),
    ]))
});

/// The batch with all columns of the schema, in its order: an older nlringd wrote fewer. Those that it lacks are null.
///
/// # Errors
///
/// The batch has a column that the schema does not have, or one of another type: a newer nlringd wrote it.
pub fn with_all_columns(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref().fields() == SCHEMA.fields() {
        return Ok(batch);
    }
    if let Some(unknown) = unknown_column(batch.schema_ref()) {
        return Err(ArrowError::SchemaError(format!(
            "a newer nlringd wrote it: the column {unknown:?} is unknown here"
        )));
    }
    let columns = SCHEMA.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name());
        column.map_or_else(
            || new_null_array(field.data_type(), batch.num_rows()),
            Arc::clone,
        )
    });
    let metadata = batch.schema_ref().metadata().clone();
    let schema = Schema::clone(&SCHEMA).with_metadata(metadata);
    RecordBatch::try_new(Arc::new(schema), columns.collect())
}

fn unknown_column(schema: &Schema) -> Option<&str> {
    let is_known = |field: &Field| {
        let known = SCHEMA.field_with_name(field.name());
        known.is_ok_and(|known| known.data_type() == field.data_type())
    };
    let mut unknown = schema.fields().iter().filter(|field| !is_known(field));
    unknown.next().map(|field| field.name().as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow_array::{RecordBatch, UInt8Array};

    use super::*;

    #[test]
    fn the_documentation_has_every_column() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/records.md");
        let text = std::fs::read_to_string(path).expect("the page is there");
        for field in SCHEMA.fields() {
            let name = format!("`{}`", field.name());
            assert!(text.contains(&name), "{name} is not in docs/records.md");
        }
    }

    #[test]
    fn columns_that_an_older_version_did_not_write_are_null() {
        let all: Vec<usize> = (0..SCHEMA.fields().len()).collect();
        let whole = RecordBatch::new_empty(Arc::clone(&SCHEMA));
        let metadata = HashMap::from([("key".to_owned(), "value".to_owned())]);
        let older = whole.project(&all[..37]).expect("fewer columns");
        let schema = Schema::clone(older.schema_ref()).with_metadata(metadata);
        let older = older.with_schema(Arc::new(schema)).expect("the same");
        let filled = with_all_columns(older).expect("only columns are missing");
        assert_eq!(filled.schema_ref().fields(), SCHEMA.fields());
        assert_eq!(filled.schema_ref().metadata()["key"], "value");
    }

    #[test]
    fn a_column_of_a_newer_version_is_an_error_that_names_it() {
        for name in ["shoe_size", "count"] {
            let column: arrow_array::ArrayRef = Arc::new(UInt8Array::from(vec![43]));
            let newer = RecordBatch::try_from_iter([(name, column)]).expect("a batch");
            let error = with_all_columns(newer).expect_err("unknown").to_string();
            assert!(
                error.contains(&format!("newer nlringd wrote it: the column {name:?}")),
                "{error}"
            );
        }
    }
}
