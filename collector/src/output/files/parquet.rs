//! A Parquet file that is written.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::failure::{Failure, Result};
use crate::record::schema::SCHEMA;

/// A Parquet file that is written.
pub struct ParquetFile {
    path: PathBuf,
    writer: ArrowWriter<File>,
}

impl ParquetFile {
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|error| Failure::of_file("create", path, &error))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let writer = ArrowWriter::try_new(file, SCHEMA.clone(), Some(properties));
        Ok(Self {
            path: path.to_owned(),
            writer: writer.map_err(|error| failed(path, &error))?,
        })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer
            .write(batch)
            .map_err(|error| failed(&self.path, &error))
    }

    /// About how many bytes it will have.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Writes what is left, and the footer.
    pub fn finish(self) -> Result<()> {
        let file = self
            .writer
            .into_inner()
            .map_err(|error| failed(&self.path, &error))?;
        file.sync_all()
            .map_err(|error| Failure::of_file("write", &self.path, &error))
    }
}

fn failed(path: &Path, error: &ParquetError) -> Failure {
    Failure::Other(format!("write {}: {error}", path.display()))
}
