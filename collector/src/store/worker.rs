//! Takes messages, writes files, and acknowledges.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::message::Acker;
use async_nats::jetstream::{AckKind, Message};
use futures_util::StreamExt as _;
use nlring::Timestamp;
use tracing::{debug, warn};

use super::file::{Completed, OpenFile, remove_abandoned};
use super::place::{Place, Stored, runs_by_hour};
use crate::config::Store;
use crate::failure::{Failure, Result};
use crate::metrics::{Fate, StoreMetrics};
use crate::nats::connection::Connection;
use crate::nats::message::Head;
use crate::nats::problem;
use crate::record::batch;
use crate::record::recording::Recording;
use crate::record::stretch::Stretch;

/// How many messages are asked for at a time, and how long is waited for the first.
const FETCH: (usize, Duration) = (64, Duration::from_millis(500));
/// How many messages all workers together may hold.
const MOST_HELD: i64 = 100_000;
/// How many a worker holds before it completes its files.
const MOST_HELD_BY_ONE: usize = 10_000;

/// A worker with its connection. It forgets all when the connection is lost.
pub struct Worker<'a> {
    config: &'a Store,
    metrics: &'a StoreMetrics,
    connection: Connection,
    consumer: PullConsumer,
    ack_wait: Duration,
    files: BTreeMap<Place, OpenFile>,
    /// The messages that the complete files of a place have, of the places that were looked at.
    stored: BTreeMap<Place, Stored>,
    /// What is recorded of each node, as its last message has said.
    recordings: BTreeMap<String, Recording>,
    /// When the server was last told that the messages are being worked on.
    progress_at: Instant,
    /// What is in the temporary names of this run's files only.
    run: String,
    file_count: u64,
}

impl<'a> Worker<'a> {
    /// Works until the end. `has_stored` says whether a file was completed.
    pub async fn run(
        config: &'a Store,
        metrics: &'a StoreMetrics,
        is_ending: &AtomicBool,
        has_stored: &mut bool,
    ) -> Result<()> {
        let connection = Connection::open(&config.servers, "nlringd store").await?;
        let consumer = open_consumer(&connection, config).await?;
        metrics.note_problem(None);
        let mut worker = Self {
            config,
            metrics,
            ack_wait: consumer.cached_info().config.ack_wait,
            connection,
            consumer,
            files: BTreeMap::new(),
            stored: BTreeMap::new(),
            recordings: BTreeMap::new(),
            progress_at: Instant::now(),
            run: format!("{}-{}", std::process::id(), Timestamp::now().as_ns()),
            file_count: 0,
        };
        while !is_ending.load(Ordering::Relaxed) {
            worker.connection.check()?;
            worker.fetch().await?;
            *has_stored |= worker.complete_due(false).await?;
            worker.tell_progress().await?;
        }
        worker.complete_due(true).await?;
        Ok(())
    }

    async fn fetch(&mut self) -> Result<()> {
        let (count, expires) = FETCH;
        let request = self.consumer.batch().max_messages(count).expires(expires);
        let doing = format!("ask for messages of the consumer {}", self.config.consumer);
        let mut messages = match self.connection.wait(request.messages()).await? {
            Ok(messages) => messages,
            Err(error) => return Err(problem::failure(&self.connection, &doing, &error)),
        };
        while let Some(message) = self.connection.wait(messages.next()).await? {
            match message {
                Ok(message) => self.take(message).await?,
                Err(error) => return Err(problem::failure(&self.connection, &doing, &*error)),
            }
        }
        Ok(())
    }

    /// Writes the records of a message, unless they are in complete files.
    async fn take(&mut self, message: Message) -> Result<()> {
        let head = message.headers.as_ref().and_then(Head::parse);
        let (message, acker) = message.split_with_info()?;
        self.metrics.note_waiting(message.waiting);
        let Some(head) = head else {
            warn!(
                "the message {} of {} is not one of nlringd, and is left out",
                message.sequence, message.subject
            );
            self.metrics.count_messages(Fate::Foreign, 1);
            return acknowledge(&self.connection, &acker, AckKind::Term).await;
        };
        let records = decode(&message)?;
        let is_again = message.delivered > 1;
        let recording = batch::recording(&records);
        if let Some(recording) = recording {
            self.note_recording(&head.node, recording).await?;
        }
        let mut runs = runs_by_hour(&records);
        if runs.is_empty() {
            let hour = Place::new(&head.node, head.complete_ns[1]).hour;
            runs.push((hour, 0..0));
        }
        let last = runs.len() - 1;
        for (number, (hour, rows)) in runs.into_iter().enumerate() {
            let place = Place {
                node: head.node.clone(),
                hour,
            };
            let run = records.slice(rows.start, rows.len());
            if number < last {
                self.write(&place, is_again, &head, &message, &run)?;
                // The file that says that the message is stored comes after those with its other records.
                self.complete(&place).await?;
            } else if self.write(&place, is_again, &head, &message, &run)? {
                let file = self.files.get_mut(&place);
                let file = file.ok_or_else(|| Failure::Other("the file is not open".to_owned()))?;
                let stretch = Stretch {
                    about: crate::record::about::About {
                        node: head.node.clone(),
                        ..head.about.clone()
                    },
                    parts: [head.part].into(),
                    part_count: head.part_count,
                };
                let until = Timestamp::from_ns(head.complete_ns[1]);
                file.note(message.sequence, stretch, until, acker);
                self.metrics.note_held(self.held_count());
                return Ok(());
            }
        }
        self.metrics.count_messages(Fate::Repeated, 1);
        acknowledge(&self.connection, &acker, AckKind::Ack).await
    }

    /// Writes records to the open file of a place. False: its files have them.
    fn write(
        &mut self,
        place: &Place,
        is_again: bool,
        head: &Head,
        message: &Taken,
        records: &RecordBatch,
    ) -> Result<bool> {
        let sequence = message.sequence;
        let is_known = self.stored.contains_key(place);
        let stored = self.stored.entry(place.clone()).or_default();
        if is_again || !is_known {
            stored.look(&place.directory(&self.config.directory))?;
        }
        let is_stored = stored.sequences.contains(&sequence);
        let is_held = self
            .files
            .get(place)
            .is_some_and(|file| file.sequences.contains(&sequence));
        if is_stored {
            return Ok(false);
        }
        if is_held {
            return Err(Failure::Other(format!(
                "the message {sequence} came again while it was held: the worker was too slow for the ack_wait of its \
                 consumer, {:?}; raise it, or lower rotate_interval",
                self.ack_wait
            )));
        }
        if !self.files.contains_key(place) {
            let file = self.begin(place, head, records)?;
            self.files.insert(place.clone(), file);
        }
        if let Some(file) = self.files.get_mut(place) {
            file.write(sequence, records)?;
        }
        Ok(true)
    }

    /// Notes what is recorded of a node, and how. All records of a file are recorded in the same way.
    async fn note_recording(&mut self, node: &str, recording: Recording) -> Result<()> {
        if self.recordings.get(node) == Some(&recording) {
            return Ok(());
        }
        let of_node = self.files.keys().filter(|place| place.node == node);
        for place in of_node.cloned().collect::<Vec<_>>() {
            self.complete(&place).await?;
        }
        self.recordings.insert(node.to_owned(), recording);
        Ok(())
    }

    /// Begins a file with these records.
    fn begin(&mut self, place: &Place, head: &Head, records: &RecordBatch) -> Result<OpenFile> {
        let base = &self.config.directory;
        remove_abandoned(&place.directory(base), self.config.rotate_interval.0);
        self.file_count += 1;
        let name = format!("{}.{}-{}", head.node, self.run, self.file_count);
        let first = batch::span(records).map(|(first, _)| first);
        let first = first.unwrap_or(Timestamp::from_ns(head.complete_ns[1]));
        let mut file = OpenFile::begin(base, place, first, &name)?;
        file.recording = self.recordings.get(&head.node).cloned();
        Ok(file)
    }

    /// How many messages wait for their files to be complete.
    fn held_count(&self) -> usize {
        self.files.values().map(|file| file.ackers.len()).sum()
    }

    /// Completes the files that are old or large enough, or all. Whether there were any.
    async fn complete_due(&mut self, all: bool) -> Result<bool> {
        let all = all || self.held_count() >= MOST_HELD_BY_ONE;
        let config = self.config;
        let is_due = |file: &OpenFile| {
            all || file.begun.elapsed() >= config.rotate_interval.0
                || file.bytes() >= config.rotate_bytes.0
        };
        let due = self.files.iter().filter(|(_, file)| is_due(file));
        let due: Vec<Place> = due.map(|(place, _)| place.clone()).collect();
        for place in &due {
            self.complete(place).await?;
        }
        Ok(!due.is_empty())
    }

    /// Completes a file, and acknowledges its messages.
    async fn complete(&mut self, place: &Place) -> Result<()> {
        let Some(file) = self.files.remove(place) else {
            return Ok(());
        };
        let count = file.sequences.len();
        let stored = self.stored.entry(place.clone()).or_default();
        let completed = file.complete(stored)?;
        stored.look(&place.directory(&self.config.directory))?;
        self.forget_places();
        for acker in &completed.ackers {
            acknowledge(&self.connection, acker, AckKind::Ack).await?;
        }
        self.connection.flush().await?;
        self.note_completed(place, &completed);
        debug!("a file of {} with {count} messages is complete", place.node);
        Ok(())
    }

    fn note_completed(&self, place: &Place, completed: &Completed) {
        let stored = completed.ackers.len();
        self.metrics.count_messages(Fate::Stored, stored);
        self.metrics
            .count_file(completed.record_count, completed.bytes);
        if stored > 0 {
            self.metrics.note_complete(&place.node, completed.until);
        }
        self.metrics.note_held(self.held_count());
    }

    /// Places without an open file are looked at again when they come again.
    fn forget_places(&mut self) {
        if self.stored.len() > 1000 {
            self.stored
                .retain(|place, _| self.files.contains_key(place));
        }
    }

    /// Tells the server that the messages that are held are worked on.
    async fn tell_progress(&mut self) -> Result<()> {
        if self.progress_at.elapsed() < self.ack_wait / 5 {
            return Ok(());
        }
        for acker in self.files.values().flat_map(|file| &file.ackers) {
            acknowledge(&self.connection, acker, AckKind::Progress).await?;
        }
        self.connection.flush().await?;
        self.progress_at = Instant::now();
        Ok(())
    }
}

/// A message whose acknowledgement is kept elsewhere.
struct Taken {
    subject: String,
    payload: bytes::Bytes,
    is_arrow: bool,
    sequence: u64,
    delivered: i64,
    /// How many messages no worker had taken when the server sent this one.
    waiting: u64,
}

/// Takes a message apart.
trait SplitWithInfo {
    fn split_with_info(self) -> Result<(Taken, Acker)>;
}

impl SplitWithInfo for Message {
    fn split_with_info(self) -> Result<(Taken, Acker)> {
        let info = self.info();
        let info = info.map_err(|error| Failure::Other(format!("read a message: {error}")))?;
        let (sequence, delivered, waiting) = (info.stream_sequence, info.delivered, info.pending);
        let (message, acker) = self.split();
        let headers = message.headers.as_ref();
        let content_type = headers.and_then(|headers| headers.get("Content-Type"));
        let is_arrow = content_type.is_some_and(|it| it.as_str().ends_with("arrow.stream"));
        let taken = Taken {
            subject: message.subject.to_string(),
            payload: message.payload,
            is_arrow,
            sequence,
            delivered,
            waiting,
        };
        Ok((taken, acker))
    }
}

/// The records of a message.
fn decode(message: &Taken) -> Result<RecordBatch> {
    let Taken {
        subject, sequence, ..
    } = message;
    if !message.is_arrow {
        return Err(Failure::Other(format!(
            "the message {sequence} of {subject} has JSON lines, which are not stored: set format = \"arrow\" in [[nats]] of \
             its node, and remove the message or let this consumer begin behind it"
        )));
    }
    let damaged = |error: String| {
        Failure::Other(format!(
            "the message {sequence} of {subject} cannot be read: {error}"
        ))
    };
    let mut body = Vec::new();
    zstd::stream::read::Decoder::new(&message.payload[..])
        .and_then(|mut decoder| decoder.read_to_end(&mut body))
        .map_err(|error| damaged(error.to_string()))?;
    let reader = StreamReader::try_new(&body[..], None);
    let mut reader = reader.map_err(|error| damaged(error.to_string()))?;
    let schema = reader.schema();
    let batch = reader.next().transpose();
    let batch = batch.map_err(|error| damaged(error.to_string()))?;
    Ok(batch.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

async fn acknowledge(connection: &Connection, acker: &Acker, kind: AckKind) -> Result<()> {
    let acknowledged = connection.wait(acker.ack_with(kind)).await?;
    acknowledged.map_err(|error| Failure::Other(format!("acknowledge a message: {error}")))
}

/// The durable consumer, which is created if it is not there.
async fn open_consumer(connection: &Connection, config: &Store) -> Result<PullConsumer> {
    let doing = format!("open the consumer {} of {}", config.consumer, config.stream);
    let stream = connection.context.get_stream(&config.stream).await;
    let stream = stream.map_err(|error| problem::failure(connection, &doing, &error))?;
    let wanted = pull::Config {
        durable_name: Some(config.consumer.clone()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: config.ack_wait.0,
        max_ack_pending: MOST_HELD,
        max_deliver: -1,
        ..pull::Config::default()
    };
    let consumer = stream
        .get_or_create_consumer(&config.consumer, wanted)
        .await;
    consumer.map_err(|error| problem::failure(connection, &doing, &error))
}
