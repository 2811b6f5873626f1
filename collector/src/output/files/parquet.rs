//! A Parquet file that is written.

use std::fs::File;
use std::io;

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::format::About;
use crate::record::schema::SCHEMA;

/// A Parquet file that is written.
pub struct ParquetFile {
    writer: ArrowWriter<File>,
}

impl ParquetFile {
    pub fn new(file: File) -> io::Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let writer = ArrowWriter::try_new(file, SCHEMA.clone(), Some(properties));
        Ok(Self {
            writer: writer.map_err(io_error)?,
        })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        self.writer.write(batch).map_err(io_error)
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
