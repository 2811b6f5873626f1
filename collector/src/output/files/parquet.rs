//! A Parquet file that is written.
//!
//! It has the columns of [`SCHEMA`], and `nat_key`: the address and the port of the source after translation as one
//! number, the IPv4 address times 65,536 plus the port. Its bloom filter tells whether a row group can have a flow that
//! used both. The encodings are those that took the least bytes for the records of `nlringd generate`.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, UInt16Type};
use arrow_array::{Array as _, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::format::About;
use crate::record::schema::SCHEMA;

/// More rows take more memory while they are written; half as many take 2 % more bytes per row.
const ROW_GROUP_ROWS: usize = 256 << 10;
/// Level 9 takes 1 % less and twice the CPU.
const LEVEL: i32 = 1;
/// How often a bloom filter takes a value for one of its own.
const FALSE_POSITIVES: f64 = 0.03;
/// A dictionary of addresses that is larger than this ends.
const DICTIONARY_BYTES: usize = 8 << 20;
const KEY: &str = "nat_key";

/// Instants, of which neighbours are near to each other.
const INSTANTS: [&str; 6] = [
    "time_ns",
    "start_ns",
    "observed_start_ns",
    "stop_ns",
    "since_ns",
    "until_ns",
];
/// Numbers that are hardly ever the same twice.
const NUMBERS: [&str; 10] = [
    "orig_sport",
    "orig_id",
    "orig_packets",
    "orig_bytes",
    "reply_packets",
    "reply_bytes",
    "nat_sport",
    "nat_dport",
    "id",
    KEY,
];
/// What people look for.
const WITH_BLOOM_FILTER: [&str; 5] = ["orig_src", "orig_dst", "nat_src", "nat_dst", KEY];

static FILE_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let key = Field::new(KEY, DataType::UInt64, true);
    let fields = SCHEMA.fields().iter().cloned().chain([Arc::new(key)]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
});

/// A Parquet file that is written.
pub struct ParquetFile {
    writer: ArrowWriter<File>,
}

impl ParquetFile {
    pub fn new(file: File) -> io::Result<Self> {
        let writer = ArrowWriter::try_new(file, FILE_SCHEMA.clone(), Some(properties()));
        Ok(Self {
            writer: writer.map_err(io_error)?,
        })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(nat_keys(batch)));
        let batch = RecordBatch::try_new(FILE_SCHEMA.clone(), columns).map_err(io::Error::other)?;
        self.writer.write(&batch).map_err(io_error)
    }

    /// About how many bytes it will have.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Writes what is left, and the footer.
    pub fn finish(mut self, about: &About) -> io::Result<File> {
        let [first, last] = &about.positions;
        let [from, until] = about.complete_ns.map(|ns| ns.map(|ns| ns.to_string()));
        let entries = [
            ("nlring.version", Some(env!("CARGO_PKG_VERSION").to_owned())),
            ("nlring.node", Some(about.node.clone())),
            ("nlring.first_position", Some(first.clone())),
            ("nlring.last_position", Some(last.clone())),
            ("nlring.complete_from_ns", from),
            ("nlring.complete_until_ns", until),
        ];
        for (key, value) in entries {
            if let Some(value) = value {
                let entry = KeyValue::new(key.to_owned(), value);
                self.writer.append_key_value_metadata(entry);
            }
        }
        self.writer.into_inner().map_err(io_error)
    }
}

fn properties() -> WriterProperties {
    let level = ZstdLevel::try_new(LEVEL).expect("zstd has this level");
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    let instants = INSTANTS.map(|name| (name, Encoding::DELTA_BINARY_PACKED));
    let numbers = NUMBERS.map(|name| (name, Encoding::BYTE_STREAM_SPLIT));
    for (name, encoding) in instants.into_iter().chain(numbers) {
        builder = builder
            .set_column_dictionary_enabled(ColumnPath::from(name), false)
            .set_column_encoding(ColumnPath::from(name), encoding);
    }
    for name in WITH_BLOOM_FILTER {
        // The filter is made for this count, and folded to what the row group has.
        builder = builder
            .set_column_bloom_filter_fpp(ColumnPath::from(name), FALSE_POSITIVES)
            .set_column_bloom_filter_max_ndv(ColumnPath::from(name), ROW_GROUP_ROWS as u64);
    }
    builder.build()
}

/// The address and the port of each flow's source after translation, where both are there.
fn nat_keys(batch: &RecordBatch) -> UInt64Array {
    let sources = batch["nat_src"].as_dictionary::<Int32Type>();
    let texts = sources.values().as_string::<i32>();
    let addresses: Vec<Option<u64>> = texts
        .iter()
        .map(|text| text?.parse::<Ipv4Addr>().ok())
        .map(|address| address.map(|address| u64::from(address.to_bits())))
        .collect();
    let ports = batch["nat_sport"].as_primitive::<UInt16Type>();
    let key = |row| {
        let address = addresses[sources.key(row)?]?;
        let port = ports.is_valid(row).then(|| ports.value(row))?;
        Some(address << 16 | u64::from(port))
    };
    (0..batch.num_rows()).map(key).collect()
}

/// The error of the file below, if it is one.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}
