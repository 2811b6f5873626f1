//! The output to a stream of NATS JetStream. docs/nats.md describes the messages.

pub mod encode;
mod lane;
mod session;
mod stored;
mod stream;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use nlring::Timestamp;
use tokio::runtime::{self, Runtime};

use self::encode::{Encoded, Encoder};
use self::lane::Lane;
use self::session::Session;
use super::{Ahead, Output};
use crate::config;
use crate::failure::{Failure, Result};
use crate::nats::message::Writer;
use crate::record::batch;
use crate::spool::{Acknowledged, End, Position, identity};

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
    lanes: Lanes,
}

/// What is sent in the order of the spool, and what is sent ahead of that.
struct Lanes {
    main: Lane,
    ahead: Option<Lane>,
    /// Where the batches begin that are sent ahead.
    begin: Acknowledged,
}

#[derive(Clone, Copy)]
enum Which {
    Main,
    Ahead,
}

impl Lanes {
    fn behind(place: Acknowledged) -> Self {
        Self {
            main: Lane::behind(place),
            ahead: None,
            begin: place,
        }
    }

    fn lane(&mut self, which: Which) -> &mut Lane {
        match (which, &mut self.ahead) {
            (Which::Ahead, Some(ahead)) => ahead,
            _ => &mut self.main,
        }
    }
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
            lanes: Lanes::behind(Acknowledged::default()),
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

    /// Sends the messages of a batch on a lane, except those that the stream has.
    fn take_on(&mut self, which: Which, behind: Position, batch: &RecordBatch) -> Result<()> {
        let session = connected(&mut self.session)?;
        let lane = self.lanes.lane(which);
        let before = lane.taken.position;
        let place = lane.place(behind, batch);
        let last = batch::times(batch).map(|(_, last)| last);
        // What the spool has lost may end within what the stream has.
        if session.stored.has(place) && session.stored.has_between(before, place) {
            return self.pass(which, place, last);
        }
        lane.note(batch);
        let encoded = self.encoder.encode(batch, session.largest);
        let messages = encoded.map_err(|error| unencodable(&self.config, &error))?;
        if messages.is_empty() {
            let is_boundary = session.stored.is_begin_of_stretch(place);
            if is_boundary || lane.is_silence_too_long(place) {
                return self.send_empty(which, place);
            }
            lane.unsaid = Some(place);
            return self.runtime.block_on(session.settle());
        }
        self.send(which, place, messages, last)
    }

    /// The stream has the batch at this place.
    fn pass(&mut self, which: Which, place: Acknowledged, last: Option<Timestamp>) -> Result<()> {
        let said = self.lanes.lane(which).said;
        let stored = &connected(&mut self.session)?.stored;
        if !stored.has_between(said.position, place) {
            self.end_lane(which)?;
        }
        let session = connected(&mut self.session)?;
        let lane = self.lanes.lane(which);
        session.pass(lane.said.position, place);
        lane.note_said(place, last);
        self.runtime.block_on(session.settle())
    }

    /// Sends a message without records, which covers what was taken on a lane up to this place.
    fn send_empty(&mut self, which: Which, place: Acknowledged) -> Result<()> {
        let empty = self.encoder.empty(&self.lanes.lane(which).schema);
        let empty = empty.map_err(|error| unencodable(&self.config, &error))?;
        self.send(which, place, vec![empty], None)
    }

    fn send(
        &mut self,
        which: Which,
        place: Acknowledged,
        messages: Vec<Encoded>,
        last: Option<Timestamp>,
    ) -> Result<()> {
        let session = connected(&mut self.session)?;
        let lane = self.lanes.lane(which);
        let about = lane.about(&self.node, place);
        let sending = session.send(lane.said.position, place, &about, messages);
        let sent = self.runtime.block_on(sending);
        self.has_sent |= session.has_sent;
        lane.note_said(place, last);
        sent
    }

    /// Sends what a lane has not said.
    fn end_lane(&mut self, which: Which) -> Result<()> {
        match self.lanes.lane(which).unsaid {
            Some(place) => self.send_empty(which, place),
            None => Ok(()),
        }
    }
}

fn new_runtime() -> Result<Runtime> {
    let built = runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::Other(format!("start a runtime: {error}")))
}

fn unencodable(config: &config::Nats, error: &std::io::Error) -> Failure {
    let stream = &config.stream.name;
    Failure::Other(format!("make a message for {stream}: {error}"))
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
        self.lanes = Lanes::behind(saved);
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
        self.take_on(Which::Main, behind, batch)
    }

    fn finish(&mut self) -> Result<()> {
        self.end_lane(Which::Main)?;
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

    fn latest(&self) -> Option<Timestamp> {
        let session = self.session.as_ref();
        session.map_or(self.acknowledged.covered, Session::latest)
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        Some(self)
    }
}

impl Ahead for Nats {
    fn begin(&mut self, end: End) -> bool {
        let lane = Lane::behind_end(end);
        let can = (self.session.as_mut()).is_some_and(|session| session.go_ahead(lane.said));
        if can {
            self.lanes.begin = lane.said;
            self.lanes.ahead = Some(lane);
        }
        can
    }

    fn take(&mut self, behind: Position, batch: &RecordBatch) -> Result<()> {
        self.take_on(Which::Ahead, behind, batch)
    }

    fn join(&mut self) -> Result<()> {
        self.end_lane(Which::Main)?;
        if self.lanes.main.said.position < self.lanes.begin.position {
            self.send_empty(Which::Main, self.lanes.begin)?;
        }
        if let Some(ahead) = self.lanes.ahead.take() {
            self.lanes.main = ahead;
        }
        Ok(())
    }
}
