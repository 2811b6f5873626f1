//! A Parquet file that is being written.
//!
//! It has the columns of [`STORED`], and after each row group its [`NatFilter`]. The encodings are those that took the
//! fewest bytes for the records of `nlringd generate`.

use std::fs::File;
use std::io;

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::record::about::About;
use crate::record::nat_filter::{self, NatFilter, Place};
use crate::record::stored::{STORED, stored};

/// More rows take more memory during writing; half as many take 2 % more bytes per row.
const ROW_GROUP_ROWS: usize = 256 << 10;
/// Level 9 takes 1 % less and twice the CPU.
const LEVEL: i32 = 1;
/// The share of absent values that a bloom filter takes for present ones.
const FALSE_POSITIVES: f64 = 0.03;
/// The size at which a dictionary of addresses ends.
const DICTIONARY_BYTES: usize = 8 << 20;

/// Instants, whose neighbours are close to each other.
const INSTANTS: [&str; 4] = ["time", "stop", "since", "until"];
/// Numbers that rarely repeat.
const NUMBERS: [&str; 11] = [
    "orig_sport",
    "orig_id",
    "orig_packets",
    "orig_bytes",
    "reply_packets",
    "reply_bytes",
    "nat_sport",
    "nat_dport",
    "id",
    "start",
    "observed_start",
];
/// What people look for.
const WITH_BLOOM_FILTER: [&str; 4] = ["orig_src", "orig_dst", "nat_src", "nat_dst"];

/// A Parquet file that is being written.
pub struct ParquetFile {
    writer: ArrowWriter<File>,
    nat_filter: NatFilter,
    /// Where the filters of the row groups so far are.
    places: Vec<Place>,
}

impl ParquetFile {
    pub fn new(file: File) -> io::Result<Self> {
        let writer = ArrowWriter::try_new(file, STORED.clone(), Some(properties()));
        Ok(Self {
            writer: writer.map_err(io_error)?,
            nat_filter: NatFilter::default(),
            places: Vec::new(),
        })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let mut rest = stored(batch).map_err(io::Error::other)?;
        while rest.num_rows() > 0 {
            let room = ROW_GROUP_ROWS - self.writer.in_progress_rows();
            let count = rest.num_rows().min(room);
            let part = rest.slice(0, count);
            rest = rest.slice(count, rest.num_rows() - count);
            self.nat_filter.add(&part);
            self.writer.write(&part).map_err(io_error)?;
            if count == room {
                self.end_row_group()?;
            }
        }
        Ok(())
    }

    /// Writes the rows so far as a row group, and its filter.
    fn end_row_group(&mut self) -> io::Result<()> {
        self.writer.flush().map_err(io_error)?;
        let filter = self.nat_filter.take().map_err(io_error)?;
        self.places.push(Place {
            offset: self.writer.bytes_written() as u64,
            length: filter.len() as u64,
        });
        self.writer.write_all(&filter)
    }

    /// Its approximate final size.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Adds an entry to the metadata.
    pub fn add_entry(&mut self, key: &str, value: String) {
        self.writer
            .append_key_value_metadata(KeyValue::new(key.to_owned(), value));
    }

    /// Writes the remaining rows and the footer.
    pub fn finish(mut self, about: &About) -> io::Result<File> {
        if self.writer.in_progress_rows() > 0 {
            self.end_row_group()?;
        }
        let places: Vec<String> = self.places.iter().map(Place::to_string).collect();
        let filters = (nat_filter::PLACES.to_owned(), places.join(" "));
        for (key, value) in about.metadata().into_iter().chain([filters]) {
            self.writer
                .append_key_value_metadata(KeyValue::new(key, value));
        }
        self.writer.into_inner().map_err(io_error)
    }
}

fn properties() -> WriterProperties {
    let level = ZstdLevel::try_new(LEVEL).expect("zstd has this level");
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        // Row groups end in `write`.
        .set_max_row_group_row_count(None)
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
        // The filter is made for this count, and folded to what the row group needs.
        builder = builder
            .set_column_bloom_filter_fpp(ColumnPath::from(name), FALSE_POSITIVES)
            .set_column_bloom_filter_max_ndv(ColumnPath::from(name), ROW_GROUP_ROWS as u64);
    }
    builder.build()
}

/// The underlying file's error, if there is one.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}
