//! The columns of records: the one schema of the spool and of all outputs. Parquet files have it in the form of
//! [`stored`](super::stored).

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

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

#[cfg(test)]
mod tests {
    use super::SCHEMA;

    #[test]
    fn the_documentation_has_every_column() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/records.md");
        let text = std::fs::read_to_string(path).expect("the page is there");
        for field in SCHEMA.fields() {
            let name = format!("`{}`", field.name());
            assert!(text.contains(&name), "{name} is not in docs/records.md");
        }
    }
}
