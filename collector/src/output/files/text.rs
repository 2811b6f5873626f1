//! A file of JSON lines or CSV that is written: a line per record, with the names of the columns.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use arrow_array::RecordBatch;

use crate::config::{Compression, Format};
use crate::output::line::{Column, write_json};
use crate::record::schema::SCHEMA;

/// The level of zstd: text that is read again and again.
const LEVEL: i32 = 3;

/// A file of lines that is written.
pub struct TextFile {
    format: Format,
    sink: Sink,
    line: Vec<u8>,
}

/// Where the lines go.
enum Sink {
    Plain(BufWriter<Counting>),
    Zstd(zstd::stream::write::Encoder<'static, Counting>),
}

/// A file, and how many bytes were written to it.
struct Counting {
    file: File,
    bytes: u64,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl TextFile {
    pub fn new(file: File, format: Format, compression: Compression) -> io::Result<Self> {
        let counting = Counting { file, bytes: 0 };
        let sink = match compression {
            Compression::None => Sink::Plain(BufWriter::with_capacity(64 << 10, counting)),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(counting, LEVEL)?;
                encoder.include_checksum(true)?;
                Sink::Zstd(encoder)
            }
        };
        let mut text = Self {
            format,
            sink,
            line: Vec::new(),
        };
        if format == Format::Csv {
            let names = SCHEMA.fields().iter().map(|field| field.name());
            text.line = csv_line(names)?;
            text.write_line()?;
        }
        Ok(text)
    }

    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let columns: Vec<Column<'_>> = batch.columns().iter().map(Column::of).collect();
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|column| column.cell(row));
            self.line.clear();
            if self.format == Format::Csv {
                self.line = csv_line(cells.map(|cell| cell.to_text()))?;
            } else {
                write_json(batch.schema_ref(), cells, &mut self.line)?;
            }
            self.write_line()?;
        }
        Ok(())
    }

    fn write_line(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Plain(file) => file.write_all(&self.line),
            Sink::Zstd(file) => file.write_all(&self.line),
        }
    }

    /// How many bytes were written to the file.
    pub fn bytes(&self) -> u64 {
        match &self.sink {
            Sink::Plain(file) => file.get_ref().bytes,
            Sink::Zstd(file) => file.get_ref().bytes,
        }
    }

    /// Writes the rest.
    pub fn finish(self) -> io::Result<File> {
        let counting = match self.sink {
            Sink::Plain(file) => file.into_inner().map_err(io::IntoInnerError::into_error)?,
            Sink::Zstd(file) => file.finish()?,
        };
        Ok(counting.file)
    }
}

fn csv_line(fields: impl Iterator<Item = impl AsRef<[u8]>>) -> io::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::with_capacity(256));
    writer.write_record(fields).map_err(io::Error::other)?;
    writer
        .into_inner()
        .map_err(|error| io::Error::other(error.to_string()))
}
