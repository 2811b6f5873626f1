//! The formats of files.

use std::fs::File;
use std::io;

use arrow_array::RecordBatch;

use super::parquet::ParquetFile;
use super::text::TextFile;
use crate::config::{Compression, Format};
use crate::record::about::About;

/// A file that is being written.
pub enum Encoder {
    Parquet(Box<ParquetFile>),
    Text(Box<TextFile>),
}

impl Encoder {
    pub fn new(file: File, format: Format, compression: Compression) -> io::Result<Self> {
        Ok(match format {
            Format::Parquet => Self::Parquet(Box::new(ParquetFile::new(file)?)),
            Format::Json | Format::Csv => {
                Self::Text(Box::new(TextFile::new(file, format, compression)?))
            }
        })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        match self {
            Self::Parquet(file) => file.write(batch),
            Self::Text(file) => file.write(batch),
        }
    }

    /// The approximate size of the file.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Parquet(file) => file.bytes(),
            Self::Text(file) => file.bytes(),
        }
    }

    /// Writes the end of the file.
    pub fn finish(self, about: &About) -> io::Result<File> {
        match self {
            Self::Parquet(file) => file.finish(about),
            Self::Text(file) => file.finish(),
        }
    }
}

/// The end of the names of such files.
pub fn extension(format: Format, compression: Compression) -> &'static str {
    match (format, compression) {
        (Format::Parquet, _) => ".parquet",
        (Format::Json, Compression::None) => ".jsonl",
        (Format::Json, Compression::Zstd) => ".jsonl.zst",
        (Format::Csv, Compression::None) => ".csv",
        (Format::Csv, Compression::Zstd) => ".csv.zst",
    }
}
