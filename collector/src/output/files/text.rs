//! A file of JSON lines or CSV that is written: a line per record, with the names of the columns.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Int32Type, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use serde::ser::{Serialize, SerializeMap as _, Serializer as _};
use serde_json::value::RawValue;

use crate::config::{Compression, Format};
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
                self.json_line(batch, cells)?;
            }
            self.write_line()?;
        }
        Ok(())
    }

    /// An object of the columns that have a value.
    fn json_line<'a>(
        &mut self,
        batch: &RecordBatch,
        cells: impl Iterator<Item = Cell<'a>>,
    ) -> io::Result<()> {
        let schema = batch.schema_ref();
        let mut serializer = serde_json::Serializer::new(&mut self.line);
        let mut map = serializer.serialize_map(None)?;
        for (field, cell) in schema.fields().iter().zip(cells) {
            if !matches!(cell, Cell::Null) {
                map.serialize_entry(field.name(), &cell)?;
            }
        }
        map.end()?;
        self.line.push(b'\n');
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

    /// Writes what is left.
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

/// A value in a row.
enum Cell<'a> {
    Null,
    Text(&'a str),
    Number(u64),
    Flag(bool),
    /// A text that is JSON.
    Json(&'a str),
}

impl Cell<'_> {
    fn to_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Text(text) | Self::Json(text) => (*text).to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

impl Serialize for Cell<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Json(text) => match serde_json::from_str::<&RawValue>(text) {
                Ok(value) => value.serialize(serializer),
                Err(_) => serializer.serialize_str(text),
            },
        }
    }
}

/// A column of a batch, with the function that reads its values.
struct Column<'a> {
    array: &'a ArrayRef,
    read: fn(&'a ArrayRef, usize) -> Cell<'a>,
}

impl<'a> Column<'a> {
    fn of(array: &'a ArrayRef) -> Self {
        let read: fn(&'a ArrayRef, usize) -> Cell<'a> = match array.data_type() {
            DataType::Dictionary(..) => |array, row| {
                let words = array.as_dictionary::<Int32Type>();
                let texts = words.values().as_string::<i32>();
                words
                    .key(row)
                    .map_or(Cell::Null, |key| Cell::Text(texts.value(key)))
            },
            // Of the schema's columns, only `route` is of this type.
            DataType::Utf8 => |array, row| Cell::Json(array.as_string::<i32>().value(row)),
            DataType::Boolean => |array, row| Cell::Flag(array.as_boolean().value(row)),
            DataType::Timestamp(..) => |array, row| {
                let ns = array.as_primitive::<TimestampNanosecondType>().value(row);
                Cell::Number(u64::try_from(ns).unwrap_or(0))
            },
            DataType::UInt8 => {
                |array, row| Cell::Number(array.as_primitive::<UInt8Type>().value(row).into())
            }
            DataType::UInt16 => {
                |array, row| Cell::Number(array.as_primitive::<UInt16Type>().value(row).into())
            }
            DataType::UInt32 => {
                |array, row| Cell::Number(array.as_primitive::<UInt32Type>().value(row).into())
            }
            DataType::UInt64 => {
                |array, row| Cell::Number(array.as_primitive::<UInt64Type>().value(row))
            }
            // The schema has no other types.
            _ => |_, _| Cell::Null,
        };
        Self { array, read }
    }

    fn cell(&self, row: usize) -> Cell<'a> {
        if self.array.is_null(row) {
            Cell::Null
        } else {
            (self.read)(self.array, row)
        }
    }
}
