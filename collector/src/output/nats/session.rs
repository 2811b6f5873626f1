//! Sends messages over a connection, and waits for what the server acknowledges.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, IntoFuture as _, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use nlring::Timestamp;

use super::encode::Encoded;
use super::stored::Stored;
use super::stream::{self, Stream};
use crate::config;
use crate::failure::{Failure, Result};
use crate::nats::connection::Connection;
use crate::nats::message::{Head, Kind, Subjects, Writer};
use crate::nats::problem;
use crate::record::about::About;
use crate::spool::{Acknowledged, Position};

type Answer = Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>;

/// A connection, and what is in flight.
pub struct Session {
    connection: Connection,
    pub stored: Stored,
    node: String,
    subjects: Subjects,
    writer: Writer,
    body: config::Body,
    window: usize,
    /// The largest body.
    pub largest: usize,
    /// Batches that were sent but not acknowledged, oldest first.
    pending: VecDeque<Pending>,
    /// The sequence of the last message of each kind that the stream has.
    sequences: HashMap<Kind, u64>,
    acknowledged: Acknowledged,
    /// If batches are sent ahead of older ones.
    ahead: Option<Ahead>,
    /// The stream has taken a message.
    pub has_sent: bool,
}

/// Which batches were sent ahead of older ones.
struct Ahead {
    begin: Position,
    /// The place behind those that the stream has. None: it has none of them yet.
    acknowledged: Option<Acknowledged>,
}

/// A batch whose messages are in flight. It has none if the stream had them all.
struct Pending {
    after: Position,
    place: Acknowledged,
    /// Those of its messages that the stream has.
    sequences: Vec<u64>,
    answers: VecDeque<(Kind, Answer)>,
}

impl Session {
    /// Connects, checks the stream, and asks what it has of this node.
    pub async fn open(
        config: &config::Nats,
        node: &str,
        writer: Writer,
        saved: Acknowledged,
    ) -> Result<Self> {
        let connection = Connection::open(&config.servers, &format!("nlringd {node}")).await?;
        let subjects = Subjects::new(&config.prefix, node);
        let stream = stream::open(&connection, config, &subjects.all()).await?;
        let stored = Stored::ask(&connection, &stream, &subjects, &writer.spool, saved).await?;
        Ok(Self {
            largest: largest_body(&connection, &stream),
            node: node.to_owned(),
            subjects,
            writer,
            body: config.format,
            window: config.window as usize,
            pending: VecDeque::new(),
            sequences: stored.sequences.clone(),
            acknowledged: saved,
            ahead: None,
            has_sent: false,
            connection,
            stored,
        })
    }

    /// The place before which the stream has everything.
    pub fn acknowledged(&self) -> Acknowledged {
        self.acknowledged
    }

    /// The time of the last mark that the stream has, even if it lacks older records.
    pub fn latest(&self) -> Option<Timestamp> {
        let ahead = self.ahead.as_ref().and_then(|ahead| ahead.acknowledged);
        let ahead = ahead.and_then(|place| place.covered);
        ahead.max(self.acknowledged.covered)
    }

    /// Batches behind this place may now be sent before older ones. False: there is too much already that was sent ahead,
    /// or answers for the last such batches are still missing.
    pub fn go_ahead(&mut self, place: Acknowledged) -> bool {
        let can = self.ahead.is_none() && self.stored.go_ahead(place);
        if can {
            self.ahead = Some(Ahead {
                begin: place.position,
                acknowledged: None,
            });
        }
        can
    }

    /// Notes a batch that the stream has.
    pub fn pass(&mut self, after: Position, place: Acknowledged) {
        self.pending.push_back(Pending {
            after,
            place,
            sequences: self.stored.sequences_of(place.position),
            answers: VecDeque::new(),
        });
    }

    /// Sends the messages of a batch, except those that the stream has. `after` is the position behind the batch before.
    pub async fn send(
        &mut self,
        after: Position,
        place: Acknowledged,
        about: &About,
        messages: Vec<Encoded>,
    ) -> Result<()> {
        self.settle().await?;
        self.connection.check()?;
        if self.pending.len() >= self.window {
            // All, so that the next message can say which one must be before it.
            self.settle_all().await?;
        }
        let part_count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        let there = self.stored.parts(place, part_count).unwrap_or_default();
        let is_idle = self.pending.is_empty();
        let mut answers: VecDeque<(Kind, Answer)> = VecDeque::new();
        for (part, message) in (1..).zip(messages) {
            if there.contains(&part) {
                continue;
            }
            let head = Head {
                node: self.node.clone(),
                writer: self.writer.clone(),
                after,
                position: place.position,
                part,
                part_count,
                complete_ns: about.complete_ns.map(|ns| ns.unwrap_or(0)),
                known: self.stored.known.clone(),
                record_count: message.record_count,
                about: about.clone(),
            };
            let Encoded { kind, body, .. } = message;
            let mut publish = PublishMessage::build()
                .headers(head.headers(self.body))
                .payload(body);
            // Nothing of this kind is in flight, so the message before it is known: if another nlringd publishes as
            // this node, the server refuses this one.
            if is_idle && answers.iter().all(|(sent, _)| *sent != kind) {
                let last = self.sequences.get(&kind).copied().unwrap_or(0);
                publish = publish.expected_last_subject_sequence(last);
            }
            let subject = self.subjects.of(kind);
            let sent = self.connection.context.send_publish(subject, publish);
            let sent = self.connection.wait(sent).await?;
            let answer = sent.map_err(|error| self.refused(&error))?;
            answers.push_back((kind, answer.into_future()));
        }
        self.pending.push_back(Pending {
            after,
            place,
            sequences: self.stored.sequences_of(place.position),
            answers,
        });
        self.connection.flush().await
    }

    /// Takes the answers that have arrived.
    pub async fn settle(&mut self) -> Result<()> {
        if self.pending.iter().any(|batch| !batch.answers.is_empty()) {
            // Lets the connection read.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        while let Some(batch) = self.pending.front_mut() {
            if let Some((kind, answer)) = batch.answers.front_mut() {
                let kind = *kind;
                let ready = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
                let Poll::Ready(answer) = ready else {
                    return Ok(());
                };
                self.take(kind, answer)?;
            } else {
                self.end_batch();
            }
        }
        Ok(())
    }

    /// Waits for all answers.
    pub async fn settle_all(&mut self) -> Result<()> {
        while let Some(batch) = self.pending.front_mut() {
            if let Some((kind, answer)) = batch.answers.front_mut() {
                let kind = *kind;
                let answer = self.connection.wait(answer).await?;
                self.take(kind, answer)?;
            } else {
                self.end_batch();
            }
        }
        Ok(())
    }

    /// Takes the first answer that was awaited.
    fn take(&mut self, kind: Kind, answer: Result<PublishAck, PublishError>) -> Result<()> {
        let acknowledged = answer.map_err(|error| self.refused(&error))?;
        self.has_sent |= !acknowledged.duplicate;
        self.sequences.insert(kind, acknowledged.sequence);
        if let Some(batch) = self.pending.front_mut() {
            batch.answers.pop_front();
            batch.sequences.push(acknowledged.sequence);
        }
        Ok(())
    }

    /// The stream has the batch that was sent first.
    fn end_batch(&mut self) {
        let Some(Pending {
            after,
            place,
            sequences,
            ..
        }) = self.pending.pop_front()
        else {
            return;
        };
        match &mut self.ahead {
            Some(ahead) if after >= ahead.begin => {
                ahead.acknowledged = Some(place);
                self.stored.note_ahead(after, place, &sequences);
            }
            _ => {
                self.acknowledged = place;
                let last = sequences.into_iter().max();
                self.stored.note_all_before(place, last.unwrap_or(0));
            }
        }
        // Nothing is missing any more before those that were sent ahead.
        let is_gap_closed = |ahead: &mut Ahead| self.acknowledged.position >= ahead.begin;
        let joined = self.ahead.take_if(is_gap_closed);
        if let Some(place) = joined.and_then(|ahead| ahead.acknowledged) {
            self.acknowledged = place;
            self.stored.note_all_before(place, 0);
        }
    }

    fn refused(&self, error: &PublishError) -> Failure {
        let addresses = &self.connection.addresses;
        match error.kind() {
            PublishErrorKind::WrongLastSequence => Failure::Other(format!(
                "NATS at {addresses}: the stream has a message of the node {} that was not expected; it is asked again \
                 what it has",
                self.node
            )),
            PublishErrorKind::StreamNotFound => Failure::Other(format!(
                "NATS at {addresses}: no stream takes the subject {}; it has no leader now, was removed, or its subjects were \
                 changed",
                self.subjects.all()
            )),
            _ => {
                let doing = format!("publish to {}", self.subjects.all());
                problem::failure(&self.connection, &doing, error)
            }
        }
    }
}

/// The largest body that the server and the stream allow.
fn largest_body(connection: &Connection, stream: &Stream) -> usize {
    let of_server = connection.largest_body();
    let of_stream = usize::try_from(stream.cached_info().config.max_message_size);
    match of_stream {
        Ok(most) if most > 0 => {
            of_server.min(most.saturating_sub(crate::nats::connection::HEADER_BYTES))
        }
        _ => of_server,
    }
}
