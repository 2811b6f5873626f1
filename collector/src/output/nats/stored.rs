//! What the stream has of this node. This is asked each time nlringd connects, and followed from then on.
//!
//! Batches are sent without waiting for earlier ones, and the latest ahead of a backlog. So the stream may have a batch
//! but lack an earlier one, and the last message does not tell what the stream has. But it says what its sender knew to
//! be there, and up to which sequence; after that sequence every message of the node is checked.

use std::collections::{BTreeMap, HashMap};

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    LastRawMessageErrorKind, RawMessageError, RawMessageErrorKind,
};

use super::stream::Stream;
use crate::failure::{Failure, Result};
use crate::nats::connection::Connection;
use crate::nats::known::{Known, Stretch};
use crate::nats::message::{Head, Kind, Subjects, Writer};
use crate::nats::problem;
use crate::spool::{Acknowledged, Position};

/// What the stream has of this node.
#[derive(Debug, Default)]
pub struct Stored {
    /// The last message, if nlringd wrote it.
    pub last: Option<(u64, Head)>,
    /// The sequence of the last message of each kind.
    pub sequences: HashMap<Kind, u64>,
    pub known: Known,
    /// Batches of this spool that are not `known`.
    batches: BTreeMap<Position, Batch>,
}

/// The messages of a batch that are there.
#[derive(Debug, Default)]
struct Batch {
    after: Position,
    until_ns: u64,
    part_count: u32,
    /// The sequence of each part that is there.
    parts: BTreeMap<u32, u64>,
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
                stored.known = head.known.clone();
                stored.read_loose(connection, stream, spool).await?;
                stored.walk(connection, stream, subjects, spool).await?;
            }
            // What follows is sent after the last message.
            Some((sequence, _)) => stored.known.sequence = *sequence,
            None => {}
        }
        stored.take_cursor(saved);
        stored.note_whole_batches();
        Ok(stored)
    }

    /// Reads the messages that the last one names singly.
    async fn read_loose(
        &mut self,
        connection: &Connection,
        stream: &Stream,
        spool: &str,
    ) -> Result<()> {
        for sequence in self.known.loose.clone() {
            match stream.get_raw_message(sequence).await {
                Ok(message) => self.note(&message, spool),
                Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {}
                Err(error) => return Err(unread(connection, &error)),
            }
        }
        Ok(())
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
                Err(error) => return Err(unread(connection, &error)),
            };
            sequence = message.sequence;
            self.note(&message, spool);
        }
    }

    fn note(&mut self, message: &StreamMessage, spool: &str) {
        let head = Head::parse(&message.headers);
        let Some(head) = head.filter(|head| head.writer.spool == spool) else {
            return;
        };
        let until_ns = head.complete_ns[1];
        if self.known.has(head.position, until_ns) {
            return;
        }
        let batch = self.batches.entry(head.position).or_default();
        if batch.until_ns != until_ns || batch.part_count != head.part_count {
            *batch = Batch {
                after: head.after,
                until_ns,
                part_count: head.part_count,
                parts: BTreeMap::new(),
            };
        }
        batch.parts.insert(head.part, message.sequence);
    }

    /// The cursor was saved after the stream had acknowledged everything before it.
    fn take_cursor(&mut self, saved: Acknowledged) {
        let until_ns = until_ns(saved);
        if self.known.has_all_before(saved.position, until_ns) {
            return;
        }
        let behind = self.batches.split_off(&saved.position);
        let before = std::mem::replace(&mut self.batches, behind);
        let of_saved = self.batches.remove(&saved.position);
        let known = before.values().chain(&of_saved);
        let last = known.map(Batch::last_sequence).max();
        self.known.add_all_before(saved.position, until_ns);
        self.raise_sequence(last.unwrap_or(0));
    }

    /// Notes the whole batches that are there although earlier ones are not.
    fn note_whole_batches(&mut self) {
        let whole = self.batches.iter().filter(|(_, batch)| batch.is_whole());
        let whole = whole.map(|(&position, batch)| {
            let stretch = Stretch {
                after: batch.after,
                position,
                until_ns: batch.until_ns,
            };
            (stretch, batch.last_sequence())
        });
        for (stretch, sequence) in whole.collect::<Vec<_>>() {
            if self.known.add(stretch) {
                self.batches.remove(&stretch.position);
                self.raise_sequence(sequence);
            }
        }
    }

    /// The stream has everything before this place, with messages up to this sequence.
    pub fn note_all_before(&mut self, place: Acknowledged, sequence: u64) {
        if !self.known.has_all_before(place.position, until_ns(place)) {
            self.known.add_all_before(place.position, until_ns(place));
            self.forget_known(sequence);
        }
    }

    /// Batches behind this place may now be sent before older ones. False: too many stretches are known already.
    pub fn go_ahead(&mut self, place: Acknowledged) -> bool {
        self.known.begin(place.position, until_ns(place))
    }

    /// The stream has a batch that was sent ahead of older ones, in messages with these sequences.
    pub fn note_ahead(&mut self, after: Position, place: Acknowledged, sequences: &[u64]) {
        let stretch = Stretch {
            after,
            position: place.position,
            until_ns: until_ns(place),
        };
        if !self.known.add(stretch) {
            let parts = (1..).zip(sequences.iter().copied());
            let batch = Batch {
                after,
                until_ns: stretch.until_ns,
                part_count: u32::try_from(sequences.len()).unwrap_or(u32::MAX),
                parts: parts.collect(),
            };
            self.batches.insert(place.position, batch);
        }
        self.forget_known(sequences.iter().copied().max().unwrap_or(0));
    }

    fn forget_known(&mut self, sequence: u64) {
        let known = &self.known;
        self.batches
            .retain(|position, batch| !known.has(*position, batch.until_ns));
        self.raise_sequence(sequence);
    }

    fn raise_sequence(&mut self, sequence: u64) {
        let batches = self.batches.values();
        let others = batches.flat_map(|batch| batch.parts.values().copied());
        self.known.raise_sequence(sequence, others);
    }

    /// Which messages of a batch with this many messages are in the stream. None: all are.
    pub fn parts(&self, place: Acknowledged, part_count: u32) -> Option<Vec<u32>> {
        if self.known.has(place.position, until_ns(place)) {
            return None;
        }
        let batch = self.batches.get(&place.position);
        match batch.filter(|batch| batch.until_ns == until_ns(place)) {
            Some(batch) if batch.is_whole() => None,
            Some(batch) if batch.part_count == part_count => {
                Some(batch.parts.keys().copied().collect())
            }
            _ => Some(Vec::new()),
        }
    }

    /// Whether the whole batch is in the stream, so that its messages need not be made.
    pub fn has(&self, place: Acknowledged) -> bool {
        self.parts(place, 0).is_none()
    }

    /// Whether everything between a position and a place is in the stream.
    pub fn has_between(&self, after: Position, place: Acknowledged) -> bool {
        let until_ns = until_ns(place);
        let batch = self.batches.get(&place.position);
        self.known.has_between(after, place.position, until_ns)
            || batch.is_some_and(|batch| batch.after <= after)
    }

    /// Whether the batches behind this place were sent ahead of older ones.
    pub fn is_begin_of_stretch(&self, place: Acknowledged) -> bool {
        self.known.begins_at(place.position)
    }

    /// The sequences of the messages of a batch that are not known to be all of it.
    pub fn sequences_of(&self, position: Position) -> Vec<u64> {
        let batch = self.batches.get(&position);
        batch.map_or(Vec::new(), |batch| batch.parts.values().copied().collect())
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
        (1..=self.part_count).all(|part| self.parts.contains_key(&part))
    }

    fn last_sequence(&self) -> u64 {
        self.parts.values().copied().max().unwrap_or(0)
    }
}

fn unread(connection: &Connection, error: &RawMessageError) -> Failure {
    problem::failure(connection, "read what the stream has of this node", error)
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
