//! What the stream has of this node. This is asked each time nlringd connects.
//!
//! Batches are sent without waiting for earlier ones, so the stream may have a batch but lack an earlier one, because
//! the server was full or lost its leader. So the last message does not tell what the stream has. But it says what its
//! sender knew to be there, and up to which sequence; after that sequence every message of the node is checked.

use std::collections::{BTreeMap, HashMap};

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, RawMessageErrorKind};

use super::stream::Stream;
use crate::failure::Result;
use crate::nats::connection::Connection;
use crate::nats::message::{Head, Kind, Known, Subjects, Writer};
use crate::nats::problem;
use crate::spool::{Acknowledged, Position};

/// What the stream has of this node.
#[derive(Debug, Default)]
pub struct Stored {
    /// The last message, if nlringd wrote it.
    pub last: Option<(u64, Head)>,
    /// The sequence of the last message of each kind.
    pub sequences: HashMap<Kind, u64>,
    /// Batches of this spool that are not `known`.
    batches: BTreeMap<Position, Batch>,
    known: Known,
}

/// The messages of a batch that are there.
#[derive(Debug, Default)]
struct Batch {
    until_ns: u64,
    part_count: u32,
    parts: Vec<u32>,
    first_sequence: u64,
    last_sequence: u64,
}

impl Stored {
    /// Asks the stream. `saved` is what the cursor says.
    pub async fn ask(
        connection: &Connection,
        stream: &Stream,
        subjects: &Subjects,
        spool: &str,
        saved: Acknowledged,
    ) -> Result<Self> {
        let mut stored = Self::default();
        for kind in Kind::ALL {
            let Some(message) = last_message(connection, stream, &subjects.of(kind)).await? else {
                continue;
            };
            stored.sequences.insert(kind, message.sequence);
            let last = stored.last.as_ref().map_or(0, |(sequence, _)| *sequence);
            if message.sequence > last {
                let head = Head::parse(&message.headers);
                stored.last = head.map(|head| (message.sequence, head)).or(stored.last);
            }
        }
        match &stored.last {
            Some((_, head)) if head.writer.spool == spool => {
                stored.known = head.known;
                stored.walk(connection, stream, subjects, spool).await?;
            }
            // What follows is sent after the last message.
            Some((sequence, _)) => stored.known.sequence = *sequence,
            None => {}
        }
        stored.take_cursor(saved);
        Ok(stored)
    }

    /// Checks the messages after what is known.
    async fn walk(
        &mut self,
        connection: &Connection,
        stream: &Stream,
        subjects: &Subjects,
        spool: &str,
    ) -> Result<()> {
        let mut sequence = self.known.sequence;
        loop {
            let next = stream
                .raw_message_builder()
                .next_by_subject(subjects.all())
                .sequence(sequence + 1)
                .send();
            let message = match next.await {
                Ok(message) => message,
                Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {
                    return Ok(());
                }
                Err(error) => {
                    let doing = "read what the stream has of this node";
                    return Err(problem::failure(connection, doing, &error));
                }
            };
            sequence = message.sequence;
            let head = Head::parse(&message.headers);
            if let Some(head) = head.filter(|head| head.writer.spool == spool) {
                self.note(sequence, &head);
            }
        }
    }

    fn note(&mut self, sequence: u64, head: &Head) {
        if self.is_known(head.position, head.complete_ns[1]) {
            return;
        }
        let batch = self.batches.entry(head.position).or_default();
        if batch.until_ns != head.complete_ns[1] || batch.part_count != head.part_count {
            *batch = Batch {
                until_ns: head.complete_ns[1],
                part_count: head.part_count,
                first_sequence: sequence,
                ..Batch::default()
            };
        }
        batch.parts.push(head.part);
        batch.last_sequence = sequence;
    }

    /// The cursor was saved after the stream had acknowledged everything before it.
    fn take_cursor(&mut self, saved: Acknowledged) {
        let until_ns = until_ns(saved);
        if self.is_known(saved.position, until_ns) {
            return;
        }
        let behind = self.batches.split_off(&saved.position);
        let before = std::mem::replace(&mut self.batches, behind);
        let of_saved = self.batches.remove(&saved.position);
        let last = before
            .values()
            .chain(&of_saved)
            .map(|batch| batch.last_sequence);
        let first = self.batches.values().map(|batch| batch.first_sequence - 1);
        let sequence = last.max().unwrap_or(0).max(self.known.sequence);
        self.known = Known {
            position: saved.position,
            until_ns,
            sequence: first.min().map_or(sequence, |first| first.min(sequence)),
        };
    }

    /// Whether the records up to this place are in the stream. Positions may occur again after a power loss, with a
    /// later time.
    pub fn is_known(&self, position: Position, until_ns: u64) -> bool {
        position <= self.known.position && until_ns <= self.known.until_ns
    }

    pub fn known(&self) -> Known {
        self.known
    }

    /// Which messages of a batch with this many messages are in the stream, and the largest sequence. None: all are.
    pub fn parts(&self, place: Acknowledged, part_count: u32) -> Option<&[u32]> {
        if self.is_known(place.position, until_ns(place)) {
            return None;
        }
        let batch = self.batches.get(&place.position);
        match batch.filter(|batch| batch.until_ns == until_ns(place)) {
            Some(batch) if batch.is_whole() => None,
            Some(batch) if batch.part_count == part_count => Some(&batch.parts),
            _ => Some(&[]),
        }
    }

    /// Whether the whole batch is in the stream, so that its messages need not be made.
    pub fn has(&self, place: Acknowledged) -> bool {
        self.parts(place, 0).is_none()
    }

    /// The largest sequence of the messages of a batch.
    pub fn sequence(&self, position: Position) -> u64 {
        let batch = self.batches.get(&position);
        batch.map_or(0, |batch| batch.last_sequence)
    }

    /// Who sent the last message.
    pub fn last_writer(&self) -> Option<(u64, &Writer)> {
        self.last
            .as_ref()
            .map(|(sequence, head)| (*sequence, &head.writer))
    }
}

impl Batch {
    fn is_whole(&self) -> bool {
        (1..=self.part_count).all(|part| self.parts.contains(&part))
    }
}

/// The time until which the records up to a place are complete.
pub fn until_ns(place: Acknowledged) -> u64 {
    place.covered.map_or(0, nlring::Timestamp::as_ns)
}

async fn last_message(
    connection: &Connection,
    stream: &Stream,
    subject: &str,
) -> Result<Option<StreamMessage>> {
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
        Err(error) => {
            let doing = format!("read the last message of {subject}");
            Err(problem::failure(connection, &doing, &error))
        }
    }
}
