//! Records as lines of text.

use std::io;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Int32Type, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Schema};
use serde::ser::{Serialize, SerializeMap as _, Serializer as _};
use serde_json::value::RawValue;

/// Appends an object of the columns that have a value, and the end of the line.
pub fn write_json<'a>(
    schema: &Schema,
    cells: impl Iterator<Item = Cell<'a>>,
    line: &mut Vec<u8>,
) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::new(&mut *line);
    let mut map = serializer.serialize_map(None)?;
    for (field, cell) in schema.fields().iter().zip(cells) {
        if !matches!(cell, Cell::Null) {
            map.serialize_entry(field.name(), &cell)?;
        }
    }
    map.end()?;
    line.push(b'\n');
    Ok(())
}

/// A value in a row.
pub enum Cell<'a> {
    Null,
    Text(&'a str),
    Number(u64),
    Flag(bool),
    /// A text that is JSON.
    Json(&'a str),
}

impl Cell<'_> {
    pub fn to_text(&self) -> String {
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
pub struct Column<'a> {
    array: &'a ArrayRef,
    read: fn(&'a ArrayRef, usize) -> Cell<'a>,
}

impl<'a> Column<'a> {
    pub fn of(array: &'a ArrayRef) -> Self {
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

    pub fn cell(&self, row: usize) -> Cell<'a> {
        if self.array.is_null(row) {
            Cell::Null
        } else {
            (self.read)(self.array, row)
        }
    }
}
