//! What an output of NATS says about the batches that it sends one behind the other.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use nlring::Timestamp;
use std::time::Duration;

use crate::record::about::{About, FORMAT, Notes};
use crate::record::batch;
use crate::record::schema::SCHEMA;
use crate::spool::{Acknowledged, End, Position};

/// After this time without records, a message without records is sent.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);

/// Batches that are sent one behind the other.
pub struct Lane {
    /// The place behind the last batch taken.
    pub taken: Acknowledged,
    /// What was taken since the last message: marks only.
    pub unsaid: Option<Acknowledged>,
    /// The place behind the last message.
    pub said: Acknowledged,
    /// What the batches behind the last message say, with the schema of the last one.
    notes: Notes,
    pub schema: SchemaRef,
    /// The time of the last record in a message.
    last: Option<Timestamp>,
}

impl Lane {
    /// Batches behind this place.
    pub fn behind(place: Acknowledged) -> Self {
        Self {
            taken: place,
            unsaid: None,
            said: place,
            notes: Notes::default(),
            schema: SCHEMA.clone(),
            last: None,
        }
    }

    /// Batches that will be written behind this end of the spool.
    pub fn behind_end(end: End) -> Self {
        let place = Acknowledged {
            position: end.position,
            covered: Some(end.covered),
            ..Acknowledged::default()
        };
        Self {
            last: end.last,
            ..Self::behind(place)
        }
    }

    /// The place behind a batch that comes next.
    pub fn place(&mut self, position: Position, batch: &RecordBatch) -> Acknowledged {
        self.taken = Acknowledged {
            position,
            covered: batch::last_mark(batch).or(self.taken.covered),
            tally: self.taken.tally,
        };
        self.taken
    }

    /// Notes what a batch says that becomes part of the next message.
    pub fn note(&mut self, batch: &RecordBatch) {
        self.notes.take(batch);
        self.schema = batch.schema();
    }

    /// Everything up to a place was sent. `last` is the time of its last record, if it has any.
    pub fn note_said(&mut self, place: Acknowledged, last: Option<Timestamp>) {
        self.said = place;
        self.unsaid = None;
        self.notes = Notes::default();
        self.last = last.or(self.last);
    }

    /// What is said about the records between the last message and this place.
    pub fn about(&self, node: &str, place: Acknowledged) -> About {
        let until = place.covered;
        // The clock may have been set back.
        let marks = [self.said.covered, self.notes.first_mark, until];
        let from = marks.into_iter().flatten().min();
        let ns = |time: Option<Timestamp>| time.map(Timestamp::as_ns);
        About {
            format: FORMAT,
            node: node.to_owned(),
            positions: [self.said, place].map(|place| place.position.to_string()),
            complete_ns: [ns(from), ns(until)],
            behind_ns: ns(self.last.max(from)),
            flows_until_ns: ns(self.notes.mark_of_flows),
            ends_ns: self.notes.ends.iter().map(|end| end.as_ns()).collect(),
            recording: None,
        }
    }

    /// Whether the last message was sent so long ago that one without records is due.
    pub fn is_silence_too_long(&self, place: Acknowledged) -> bool {
        match (self.said.covered, place.covered) {
            (Some(said), Some(covered)) => covered.duration_since(said) >= LONGEST_SILENCE,
            _ => true,
        }
    }
}
