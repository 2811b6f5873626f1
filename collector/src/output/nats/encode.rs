//! Makes the bodies of messages from a batch of the spool.

use std::io;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::dictionary::garbage_collect_any_dictionary;
use arrow_select::filter::filter_record_batch;
use bytes::Bytes;
use zstd::bulk::Compressor;

use crate::config::Body;
use crate::nats::message::Kind;
use crate::output::line::{Column, write_json};
use crate::record::batch;

/// The level of zstd, as in the spool.
const LEVEL: i32 = 2;

/// A message without its headers.
pub struct Encoded {
    pub kind: Kind,
    pub body: Bytes,
    pub record_count: u64,
}

/// Makes bodies of messages.
pub struct Encoder {
    format: Body,
    compressor: Compressor<'static>,
    content: Vec<u8>,
}

impl Encoder {
    pub fn new(format: Body) -> Self {
        let mut compressor = Compressor::new(LEVEL).expect("zstd has memory");
        compressor
            .include_checksum(true)
            .expect("zstd has checksums");
        Self {
            format,
            compressor,
            content: Vec::new(),
        }
    }

    /// The messages of a batch, in the order of the kinds. No body is larger than `largest`. The same batch always
    /// yields the same messages.
    pub fn encode(&mut self, batch: &RecordBatch, largest: usize) -> io::Result<Vec<Encoded>> {
        let mut messages = Vec::new();
        for (kind, records) in by_kind(batch).map_err(io::Error::other)? {
            self.encode_kind(kind, &records, largest, &mut messages)?;
        }
        Ok(messages)
    }

    /// A message without records.
    pub fn empty(&mut self, schema: &SchemaRef) -> io::Result<Encoded> {
        Ok(Encoded {
            kind: Kind::Flows,
            body: self.body(&RecordBatch::new_empty(schema.clone()))?,
            record_count: 0,
        })
    }

    fn encode_kind(
        &mut self,
        kind: Kind,
        records: &RecordBatch,
        largest: usize,
        messages: &mut Vec<Encoded>,
    ) -> io::Result<()> {
        let body = self.body(records)?;
        let count = records.num_rows();
        if body.len() <= largest {
            messages.push(Encoded {
                kind,
                body,
                record_count: count as u64,
            });
            return Ok(());
        }
        if count == 1 {
            let size = body.len();
            return Err(io::Error::other(format!(
                "a record takes {size} bytes, and the server allows {largest}; raise max_payload of the server and \
                 max_msg_size of the stream"
            )));
        }
        let half = count / 2;
        for (begin, length) in [(0, half), (half, count - half)] {
            let part = compact(&records.slice(begin, length)).map_err(io::Error::other)?;
            self.encode_kind(kind, &part, largest, messages)?;
        }
        Ok(())
    }

    fn body(&mut self, records: &RecordBatch) -> io::Result<Bytes> {
        self.content.clear();
        match self.format {
            Body::Arrow => self.write_arrow(records).map_err(io::Error::other)?,
            Body::Json => self.write_json(records)?,
        }
        Ok(self.compressor.compress(&self.content)?.into())
    }

    fn write_arrow(&mut self, records: &RecordBatch) -> Result<(), ArrowError> {
        let mut writer = StreamWriter::try_new(&mut self.content, records.schema_ref())?;
        writer.write(records)?;
        writer.finish()
    }

    fn write_json(&mut self, records: &RecordBatch) -> io::Result<()> {
        let columns: Vec<Column<'_>> = records.columns().iter().map(Column::of).collect();
        for row in 0..records.num_rows() {
            let cells = columns.iter().map(|column| column.cell(row));
            write_json(records.schema_ref(), cells, &mut self.content)?;
        }
        Ok(())
    }
}

/// The records of each kind that a batch has, without marks.
fn by_kind(batch: &RecordBatch) -> Result<Vec<(Kind, RecordBatch)>, ArrowError> {
    let words = batch["record"].as_dictionary::<Int32Type>();
    let texts = words.values().as_string::<i32>();
    let kinds: Vec<Option<Kind>> = texts
        .iter()
        .map(|text| text.and_then(Kind::of_record))
        .collect();
    let places = words.keys().values();
    let kind_of = |row: usize| usize::try_from(places[row]).map_or(None, |place| kinds[place]);
    let mut parts = Vec::new();
    for kind in Kind::ALL {
        if !kinds.contains(&Some(kind)) {
            continue;
        }
        let count = (0..batch.num_rows())
            .filter(|&row| kind_of(row) == Some(kind))
            .count();
        if count == 0 {
            continue;
        }
        let runs = batch::runs_of_records(batch);
        let records = match runs.as_slice() {
            [(begin, length)] if *length == count => batch.slice(*begin, *length),
            _ => {
                let rows = (0..batch.num_rows()).map(|row| Some(kind_of(row) == Some(kind)));
                filter_record_batch(batch, &rows.collect::<BooleanArray>())?
            }
        };
        // Dictionaries have the words of all records.
        let is_most = count * 2 >= batch.num_rows();
        parts.push((kind, if is_most { records } else { compact(&records)? }));
    }
    Ok(parts)
}

/// The same records, with dictionaries that have only their words.
fn compact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| {
        let Some(words) = column.as_any_dictionary_opt() else {
            return Ok(column.clone());
        };
        Ok(garbage_collect_any_dictionary(words)? as ArrayRef)
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    RecordBatch::try_new(Arc::clone(batch.schema_ref()), columns)
}
