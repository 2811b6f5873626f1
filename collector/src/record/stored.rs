//! The form of records in Parquet files.
//!
//! It has the columns of [`SCHEMA`]. Instants are in milliseconds, and their columns have no `_ns` at the end of their
//! names: the type says the unit. The clocks of two hosts rarely agree to within a millisecond, so more digits would
//! not help to tell who used an address. In nanoseconds the three times of a flow took 10.8 of 33.5 bytes.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{TimestampMillisecondType, TimestampNanosecondType};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};

use super::schema::SCHEMA;

/// The end of the names of instants in [`SCHEMA`].
pub const NS: &str = "_ns";
/// Nanoseconds in the unit of instants.
pub const UNIT_NS: i64 = 1_000_000;

/// The schema of files.
pub static STORED: LazyLock<SchemaRef> = LazyLock::new(|| {
    let fields = SCHEMA.fields().iter().map(|field| {
        if !matches!(field.data_type(), DataType::Timestamp(..)) {
            return field.clone();
        }
        let name = field.name().trim_end_matches(NS);
        let instant = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        Arc::new(Field::new(name, instant, field.is_nullable()))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
});

/// The records in the form of files. Instants are truncated to milliseconds.
///
/// # Errors
///
/// The records do not have the columns of [`SCHEMA`].
pub fn stored(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| {
        match column.as_primitive_opt::<TimestampNanosecondType>() {
            Some(instants) => {
                let cut =
                    instants.unary::<_, TimestampMillisecondType>(|ns| ns.div_euclid(UNIT_NS));
                Arc::new(cut.with_timezone("UTC")) as ArrayRef
            }
            None => column.clone(),
        }
    });
    RecordBatch::try_new(STORED.clone(), columns.collect())
}
