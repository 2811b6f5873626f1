//! The output to a syslog server (RFC 5424): a message per record, over UDP (RFC 5426), TCP with counted octets (RFC 6587) or
//! a unix socket.

mod message;

use std::io::Write as _;
use std::mem;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampNanosecondType;

use self::message::Message;
use super::line::{Cell, Column};
use super::{Output, link::Link};
use crate::config::{self, Kind, Transport};
use crate::failure::Result;
use crate::record::batch;
use crate::spool::{Acknowledged, Position};

/// How many bytes are written to a stream at once.
const STREAM_PIECE: usize = 64 << 10;

/// Sends records to a syslog server.
pub struct Syslog {
    name: String,
    kinds: Vec<Kind>,
    transport: Transport,
    link: Link,
    message: Message,
    /// The position and the coverage after the last batch taken.
    taken: Acknowledged,
    /// One message, and the bytes that are sent at once.
    text: Vec<u8>,
    piece: Vec<u8>,
}

impl Syslog {
    pub fn new(node: &str, config: &config::Syslog) -> Self {
        Self {
            name: config.name.clone(),
            kinds: config.records.clone(),
            transport: config.transport,
            link: Link::new(config.target(), config.acknowledge_interval.0),
            message: Message::new(node, config),
            taken: Acknowledged::default(),
            text: Vec::new(),
            piece: Vec::new(),
        }
    }

    /// Sends a message. Each datagram is one message. On TCP, its length precedes it. On a unix stream, a line break
    /// follows it, because only some receivers expect lengths there; messages contain no line breaks.
    fn send_text(&mut self) -> Result<()> {
        match self.transport {
            Transport::Udp | Transport::Unix => return self.link.send(&self.text),
            // Writing to a vector does not fail.
            Transport::Tcp => _ = write!(self.piece, "{} ", self.text.len()),
            Transport::UnixStream => {}
        }
        self.piece.extend_from_slice(&self.text);
        if self.transport == Transport::UnixStream {
            self.piece.push(b'\n');
        }
        if self.piece.len() >= STREAM_PIECE {
            return self.send_piece();
        }
        Ok(())
    }

    fn send_piece(&mut self) -> Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = mem::take(&mut self.piece);
        let sent = self.link.send(&piece);
        self.piece = piece;
        self.piece.clear();
        sent
    }

    fn send_batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns: Vec<Column<'_>> = batch.columns().iter().map(Column::of).collect();
        let (Some((kind_place, _)), Some(times)) = (
            batch.schema_ref().column_with_name("record"),
            batch
                .column_by_name("time_ns")
                .and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>()),
        ) else {
            return Ok(());
        };
        for row in 0..batch.num_rows() {
            let Cell::Text(kind) = columns[kind_place].cell(row) else {
                continue;
            };
            if !self.kinds.iter().any(|wanted| wanted.name() == kind) {
                continue;
            }
            self.link.open()?;
            let limit = self.link.limit().unwrap_or(usize::MAX);
            self.text.clear();
            self.message.write(
                batch.schema_ref(),
                kind,
                times.value(row),
                columns.iter().map(|column| column.cell(row)),
                limit,
                &mut self.text,
            );
            self.send_text()?;
        }
        self.send_piece()
    }
}

impl Output for Syslog {
    fn name(&self) -> &str {
        &self.name
    }

    fn resume(&mut self, saved: Acknowledged) -> Result<()> {
        self.taken = saved;
        self.piece.clear();
        self.link.resume(saved);
        Ok(())
    }

    fn take(&mut self, behind: Position, batch: &RecordBatch) -> Result<()> {
        self.link.check()?;
        self.send_batch(batch)?;
        self.taken = Acknowledged {
            position: behind,
            covered: batch::last_mark(batch).or(self.taken.covered),
            ..self.taken
        };
        self.link.note_sent(self.taken)
    }

    fn finish(&mut self) -> Result<()> {
        self.link.finish()
    }

    fn acknowledged(&self) -> Acknowledged {
        self.link.acknowledged()
    }
}
