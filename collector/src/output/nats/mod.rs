//! The output to a stream of NATS JetStream. docs/nats.md describes the messages.

pub mod encode;
mod session;
mod stored;
mod stream;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use nlring::Timestamp;
use tokio::runtime::{self, Runtime};

use self::encode::{Encoded, Encoder};
use self::session::Session;
use super::Output;
use crate::config;
use crate::failure::{Failure, Result};
use crate::nats::message::Writer;
use crate::record::about::{About, FORMAT, Notes};
use crate::record::batch;
use crate::record::schema::SCHEMA;
use crate::spool::{Acknowledged, Position, identity};

/// After this time without records, a message without records is sent.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// A spool that has published nothing for this time is gone, because a running nlringd publishes at least every few
/// seconds.
const OTHER_IS_GONE: Duration = Duration::from_secs(30);
/// The longest pause between two attempts, which cost a connection and a few questions. All that the kernel reports
/// meanwhile is late.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Publishes records to a stream.
pub struct Nats {
    node: String,
    config: config::Nats,
    spool: PathBuf,
    /// Distinguishes the runs of nlringd.
    run: u64,
    /// Runs the connection while this output waits for it.
    runtime: Runtime,
    encoder: Encoder,
    session: Option<Session>,
    /// The stream has taken a message of this run.
    has_sent: bool,
    /// If the last message is from another spool: its sequence, and the time since when it has been the last.
    other: Option<(u64, Instant)>,
    acknowledged: Acknowledged,
    /// The position and the coverage after the last batch taken.
    taken: Acknowledged,
    /// What was taken since the last message: marks only.
    unsaid: Option<Acknowledged>,
    /// The position after the last message, and the time until which the messages are complete.
    said: Acknowledged,
    /// What the batches behind the last message say, with the schema of the last one.
    notes: Notes,
    schema: SchemaRef,
    /// The time of the last record in a message.
    last: Option<Timestamp>,
}

impl Nats {
    /// An output of the spool in this directory.
    pub fn new(node: &str, config: config::Nats, spool: PathBuf) -> Result<Self> {
        Ok(Self {
            node: node.to_owned(),
            encoder: Encoder::new(config.format),
            config,
            spool,
            run: Timestamp::now().as_ns(),
            runtime: new_runtime()?,
            session: None,
            has_sent: false,
            other: None,
            acknowledged: Acknowledged::default(),
            taken: Acknowledged::default(),
            unsaid: None,
            said: Acknowledged::default(),
            notes: Notes::default(),
            schema: SCHEMA.clone(),
            last: None,
        })
    }

    /// Whether another nlringd publishes as this node.
    fn check_writer(&mut self, session: &Session, own: &Writer) -> Result<()> {
        let Some((sequence, last)) = session.stored.last_writer() else {
            return Ok(());
        };
        let is_other_spool = last.spool != own.spool;
        let is_other_run = last.run != own.run;
        if self.has_sent && is_other_run {
            return Err(Failure::Other(format!(
                "another nlringd publishes as the node {0:?} to the stream {1}: give each host a `node` of its own, and \
                 restart this one when the other one has ended",
                self.node, self.config.stream.name
            )));
        }
        if !is_other_spool || self.has_sent {
            self.other = None;
            return Ok(());
        }
        let (known, since) = *self.other.get_or_insert((sequence, Instant::now()));
        if known != sequence {
            self.other = Some((sequence, Instant::now()));
        } else if since.elapsed() >= OTHER_IS_GONE {
            return Ok(());
        }
        Err(Failure::Other(format!(
            "the last message of the node {0:?} in the stream {1} is of another spool: if another nlringd has this name, \
             give each host a `node` of its own; if this spool is new, it goes on when nothing of the other came for {2} s",
            self.node,
            self.config.stream.name,
            OTHER_IS_GONE.as_secs()
        )))
    }

    /// The stream has the batch at this place.
    fn pass(&mut self, place: Acknowledged) -> Result<()> {
        self.note_said(place);
        let session = connected(&mut self.session)?;
        session.pass(place);
        self.runtime.block_on(session.settle())
    }

    fn send(&mut self, place: Acknowledged, messages: Vec<Encoded>) -> Result<()> {
        let about = self.about(place);
        let session = connected(&mut self.session)?;
        let sending = session.send(self.said.position, place, &about, messages);
        let sent = self.runtime.block_on(sending);
        self.has_sent |= session.has_sent;
        self.note_said(place);
        sent
    }

    fn note_said(&mut self, place: Acknowledged) {
        self.said = place;
        self.unsaid = None;
        self.notes = Notes::default();
    }

    /// What is said about the records between the last message and this place.
    fn about(&self, place: Acknowledged) -> About {
        let until = place.covered;
        // The clock may have been set back.
        let marks = [self.said.covered, self.notes.first_mark, until];
        let from = marks.into_iter().flatten().min();
        let ns = |time: Option<Timestamp>| time.map(Timestamp::as_ns);
        About {
            format: FORMAT,
            node: self.node.clone(),
            positions: [self.said, place].map(|place| place.position.to_string()),
            complete_ns: [ns(from), ns(until)],
            behind_ns: ns(self.last.max(from)),
            flows_until_ns: ns(self.notes.mark_of_flows),
            ends_ns: self.notes.ends.iter().map(|end| end.as_ns()).collect(),
            recording: None,
        }
    }

    /// Whether nothing was sent for so long that the receiver should be told that there was nothing.
    fn is_silence_too_long(&self, place: Acknowledged) -> bool {
        match (self.said.covered, place.covered) {
            (Some(said), Some(covered)) => covered.duration_since(said) >= LONGEST_SILENCE,
            _ => true,
        }
    }

    fn unencodable(&self, error: &std::io::Error) -> Failure {
        Failure::Other(format!(
            "make a message for {}: {error}",
            self.config.stream.name
        ))
    }
}

fn new_runtime() -> Result<Runtime> {
    let built = runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::Other(format!("start a runtime: {error}")))
}

fn connected(session: &mut Option<Session>) -> Result<&mut Session> {
    session
        .as_mut()
        .ok_or_else(|| Failure::Other("there is no connection to NATS".to_owned()))
}

impl Output for Nats {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn longest_pause(&self) -> Duration {
        LONGEST_PAUSE
    }

    /// Connects anew, and asks the stream what it has.
    fn resume(&mut self, saved: Acknowledged) -> Result<()> {
        self.has_sent |= self.session.take().is_some_and(|session| session.has_sent);
        // This also ends what is left of the previous connection.
        self.runtime = new_runtime()?;
        self.acknowledged = saved;
        self.taken = saved;
        self.note_said(saved);
        let writer = Writer {
            spool: identity(&self.spool)?,
            run: self.run,
        };
        let opened = Session::open(&self.config, &self.node, writer.clone(), saved);
        let session = self.runtime.block_on(opened)?;
        self.check_writer(&session, &writer)?;
        self.session = Some(session);
        Ok(())
    }

    fn take(&mut self, behind: Position, batch: &RecordBatch) -> Result<()> {
        let place = Acknowledged {
            position: behind,
            covered: batch::last_mark(batch).or(self.taken.covered),
            tally: self.taken.tally,
        };
        self.taken = place;
        let session = connected(&mut self.session)?;
        if session.stored.has(place) {
            return self.pass(place);
        }
        let largest = session.largest;
        self.notes.take(batch);
        self.schema = batch.schema();
        let encoded = self.encoder.encode(batch, largest);
        let mut messages = encoded.map_err(|error| self.unencodable(&error))?;
        if messages.is_empty() {
            if !self.is_silence_too_long(place) {
                self.unsaid = Some(place);
                return self
                    .runtime
                    .block_on(connected(&mut self.session)?.settle());
            }
            let empty = self.encoder.empty(&self.schema);
            messages.push(empty.map_err(|error| self.unencodable(&error))?);
        }
        self.send(place, messages)?;
        self.last = batch::times(batch).map(|(_, last)| last).or(self.last);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if let Some(place) = self.unsaid {
            let empty = self.encoder.empty(&self.schema);
            let empty = empty.map_err(|error| self.unencodable(&error))?;
            self.send(place, vec![empty])?;
        }
        let session = connected(&mut self.session)?;
        let settled = self.runtime.block_on(session.settle_all());
        self.has_sent |= session.has_sent;
        settled
    }

    fn acknowledged(&self) -> Acknowledged {
        self.session
            .as_ref()
            .map_or(self.acknowledged, Session::acknowledged)
    }
}
