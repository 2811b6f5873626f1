//! Columns that are filled row by row. A row that sets nothing costs nothing: the gap is filled when a later row sets a
//! value, or at the end.

use std::sync::Arc;

use arrow_array::types::{ArrowPrimitiveType, UInt8Type};
use arrow_array::{Array, ArrayRef, DictionaryArray, PrimitiveArray, StringArray};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field};

/// A column of a table.
pub trait Column {
    /// The column's name and type.
    fn field(&self) -> Field;

    /// The values of this many rows. The column is empty again.
    fn take(&mut self, row_count: usize) -> Result<ArrayRef, ArrowError>;
}

/// Numbers, or instants.
pub struct Numbers<T: ArrowPrimitiveType> {
    name: &'static str,
    data_type: DataType,
    values: Vec<T::Native>,
    valid: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    pub fn new(name: &'static str) -> Self {
        Self::with_type(name, T::DATA_TYPE)
    }

    pub fn with_type(name: &'static str, data_type: DataType) -> Self {
        Self {
            name,
            data_type,
            values: Vec::new(),
            valid: NullBufferBuilder::new(0),
        }
    }

    #[inline]
    pub fn set(&mut self, row: usize, value: T::Native) {
        self.fill(row);
        self.values.push(value);
        self.valid.append_non_null();
    }

    #[inline]
    pub fn set_some(&mut self, row: usize, value: Option<T::Native>) {
        if let Some(value) = value {
            self.set(row, value);
        }
    }

    #[inline]
    fn fill(&mut self, row: usize) {
        let missing = row - self.values.len();
        if missing > 0 {
            self.values.resize(row, T::Native::default());
            self.valid.append_n_nulls(missing);
        }
    }

    fn take_array(&mut self, row_count: usize) -> PrimitiveArray<T> {
        self.fill(row_count);
        let values = std::mem::replace(&mut self.values, Vec::with_capacity(row_count));
        PrimitiveArray::new(values.into(), self.valid.finish())
            .with_data_type(self.data_type.clone())
    }
}

impl<T: ArrowPrimitiveType> Column for Numbers<T> {
    fn field(&self) -> Field {
        Field::new(self.name, self.data_type.clone(), true)
    }

    fn take(&mut self, row_count: usize) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(self.take_array(row_count)))
    }
}

/// Texts.
pub struct Texts {
    name: &'static str,
    bytes: Vec<u8>,
    ends: Vec<i32>,
    valid: NullBufferBuilder,
}

impl Texts {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            bytes: Vec::new(),
            ends: vec![0],
            valid: NullBufferBuilder::new(0),
        }
    }

    /// Sets a text that `write` appends. It must append UTF-8.
    #[inline]
    pub fn write(&mut self, row: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.fill(row);
        write(&mut self.bytes);
        self.ends.push(self.end());
        self.valid.append_non_null();
    }

    /// Where the last text ends. `take` reports texts of more than 2 GiB.
    #[inline]
    fn end(&self) -> i32 {
        i32::try_from(self.bytes.len()).unwrap_or(i32::MAX)
    }

    #[inline]
    fn fill(&mut self, row: usize) {
        let missing = row + 1 - self.ends.len();
        if missing > 0 {
            self.ends.resize(row + 1, self.end());
            self.valid.append_n_nulls(missing);
        }
    }
}

impl Column for Texts {
    fn field(&self) -> Field {
        Field::new(self.name, DataType::Utf8, true)
    }

    fn take(&mut self, row_count: usize) -> Result<ArrayRef, ArrowError> {
        self.fill(row_count);
        if i32::try_from(self.bytes.len()).is_err() {
            return Err(ArrowError::OffsetOverflowError(self.bytes.len()));
        }
        let mut next_ends = Vec::with_capacity(row_count + 1);
        next_ends.push(0);
        let ends = std::mem::replace(&mut self.ends, next_ends);
        let next_bytes = Vec::with_capacity(self.bytes.len());
        let bytes = std::mem::replace(&mut self.bytes, next_bytes);
        let texts = StringArray::try_new(
            OffsetBuffer::new(ends.into()),
            bytes.into(),
            self.valid.finish(),
        )?;
        Ok(Arc::new(texts))
    }
}

/// Words of a fixed list, of which each row has the index.
pub struct Words {
    indexes: Numbers<UInt8Type>,
    words: ArrayRef,
}

impl Words {
    /// A column whose rows are some of these words, at most 256.
    pub fn new<'a>(name: &'static str, words: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            indexes: Numbers::new(name),
            words: Arc::new(StringArray::from_iter_values(words)),
        }
    }

    /// Sets the word with this index. An index without a word sets nothing.
    #[inline]
    pub fn set(&mut self, row: usize, index: usize) {
        match u8::try_from(index) {
            Ok(number) if index < self.words.len() => self.indexes.set(row, number),
            _ => {}
        }
    }
}

impl Column for Words {
    fn field(&self) -> Field {
        let [index, word] = [DataType::UInt8, DataType::Utf8].map(Box::new);
        Field::new(self.indexes.name, DataType::Dictionary(index, word), true)
    }

    fn take(&mut self, row_count: usize) -> Result<ArrayRef, ArrowError> {
        let indexes = self.indexes.take_array(row_count);
        let words = DictionaryArray::try_new(indexes, Arc::clone(&self.words))?;
        Ok(Arc::new(words))
    }
}
