//! One network namespace whose flows are followed.

use std::time::Instant;

use nlring::conntrack::{Change, Filter, Flow, Group, Mirror};
use nlring::{
    Engine, Event, EventKind, MessageList, MirrorOptions, Namespace, Protocol, Running, Socket,
    SocketId, Timestamp,
};

use super::coverage::Coverage;
use super::opens::Opens;
use crate::config::{Config, Records};
use crate::failure::{Failure, Result};
use crate::metrics::Metrics;
use crate::record::{Body, FlowBody, LossBody, Record, Subject};

/// One network namespace.
pub struct Source {
    pub socket: SocketId,
    records: Records,
    /// Follows the flows, if their records are written.
    mirror: Option<Mirror>,
    opens: Opens,
    coverage: Coverage,
    recorder: Recorder,
}

/// Makes the records of one network namespace.
struct Recorder {
    namespace: u16,
    name: String,
    /// The time since when the mirror may be wrong.
    wrong_since: Option<Timestamp>,
    metrics: Metrics,
}

impl Source {
    /// Opens the namespace with this name. The empty name stands for this process's namespace.
    pub fn open(
        name: &str,
        place: u16,
        config: &Config,
        metrics: Metrics,
        engine: &mut Engine,
    ) -> Result<Self> {
        let filter = parse_filter(&config.filter)?;
        let mut builder = Socket::builder(Protocol::NETFILTER)
            .recv_buffer_bytes(usize::try_from(config.recv_buffer.0).unwrap_or(usize::MAX));
        if !name.is_empty() {
            builder = builder.namespace(&Namespace::from_name(name)?);
        }
        let mirror = if config.records.has_flows() {
            builder = builder.groups(Mirror::GROUPS);
            Some(match &filter {
                Some(filter) => {
                    builder = builder.filter(&filter.program_for_mirror()?);
                    Mirror::with_filter(MirrorOptions::new(), filter.clone())?
                }
                None => Mirror::new(MirrorOptions::new()),
            })
        } else {
            builder = builder.groups([Group::New, Group::Update, Group::Destroy]);
            if let Some(filter) = &filter {
                builder = builder.filter(&filter.program()?);
            }
            None
        };
        let socket = engine.add(builder.open()?).map_err(nlring::Error::from)?;
        Ok(Self {
            socket,
            records: config.records,
            mirror,
            opens: Opens::new(config.open_interval.0, Instant::now()),
            coverage: Coverage::default(),
            recorder: Recorder {
                namespace: place,
                name: name.to_owned(),
                wrong_since: None,
                metrics,
            },
        })
    }

    /// Takes an event of the socket.
    pub fn feed(&mut self, event: &Event<'_>, mut f: impl FnMut(Record)) {
        let recorder = &mut self.recorder;
        if let Some(missing) = event.missing() {
            let mut loss = LossBody::new(Subject::Flows, &missing);
            if self.mirror.is_some() {
                recorder.join_with_loss_before(&mut loss);
            }
            f(recorder.record(Timestamp::now(), Body::Loss(loss)));
        }
        if let Event::Messages(_, list) = event
            && self.records.has_events()
        {
            recorder.record_events(list, &mut f);
        }
        if let Event::Messages(_, list) = event {
            self.coverage.look_at(list);
        }
        if let Some(mirror) = &mut self.mirror {
            mirror.feed(event, |change| recorder.take_change(&change, &mut f));
        }
    }

    /// Notes the counts so far.
    pub fn note(&self, running: &Running) {
        let Recorder { name, metrics, .. } = &self.recorder;
        if let Some(statistics) = running.statistics(self.socket) {
            metrics.note_statistics(Subject::Flows, name, &statistics);
        }
        if let Some(mirror) = &self.mirror {
            let (count, health) = (mirror.len(), mirror.health());
            metrics.note_mirror(Subject::Flows, name, count, &health);
        }
    }

    /// Asks the kernel for an answer, which arrives after everything that it has sent so far.
    pub fn ask(&mut self, running: &Running) {
        if let Some(socket) = running.socket(self.socket) {
            // Without an answer there is no mark, and the kernel is asked again.
            let _ = self.coverage.ask(socket);
        }
    }

    /// Whether everything is recorded that the kernel had sent when it was last asked.
    pub fn has_all(&self) -> bool {
        self.coverage.is_reached() && self.is_complete()
    }

    /// Whether every existing flow is known, and every flow that has ended is recorded.
    pub fn has_all_flows(&self) -> bool {
        let mirror = self.mirror.as_ref();
        mirror.is_none_or(|mirror| mirror.is_complete() && mirror.health().wrong_since.is_none())
    }

    /// Whether no events are held. A mirror holds events during its first dump.
    pub fn is_complete(&self) -> bool {
        self.mirror.as_ref().is_none_or(Mirror::is_complete)
    }

    /// Records the existing flows, a few at a time, so that each is recorded about once per `open_interval`. The events
    /// that the mirror holds during its first dump are older, so they are recorded first.
    pub fn record_lasting_flows(&mut self, now: Instant, mut f: impl FnMut(Record)) {
        if let Some(mirror) = self.mirror.as_ref().filter(|mirror| mirror.is_complete()) {
            let (time, namespace) = (Timestamp::now(), self.recorder.namespace);
            self.opens
                .advance(mirror, now, |flow| f(open(flow, time, namespace)));
        }
    }

    /// Records all existing flows.
    pub fn record_open_flows(&self, mut f: impl FnMut(Record)) {
        let time = Timestamp::now();
        for flow in self.mirror.iter().flat_map(Mirror::iter) {
            f(open(&flow, time, self.recorder.namespace));
        }
    }

    /// Does what is due.
    pub fn advance(&mut self, running: &Running, mut f: impl FnMut(Record)) {
        let Some(socket) = running.socket(self.socket) else {
            return;
        };
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let recorder = &mut self.recorder;
        // After an error the mirror asks again. Its health shows the error.
        let _ = mirror.advance(socket, |change| recorder.take_change(&change, &mut f));
    }

    /// When [`advance`](Self::advance) is due.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.mirror.as_ref().and_then(|mirror| mirror.due(now))
    }

    /// Hands over the events that the mirror still holds.
    pub fn finish(&mut self, mut f: impl FnMut(Record)) -> Result<()> {
        let Some(mirror) = &mut self.mirror else {
            return Ok(());
        };
        let recorder = &mut self.recorder;
        let outcome = mirror.finish(|change| recorder.take_change(&change, &mut f));
        outcome.map_err(Failure::from)
    }
}

impl Recorder {
    fn record_events(&self, list: &MessageList<'_>, f: &mut impl FnMut(Record)) {
        let time = list.received_at().unwrap_or_else(Timestamp::now);
        for message in list {
            if let Some(flow) = Flow::decode(&message) {
                f(self.record(time, Body::Event(FlowBody::new(&flow))));
            }
        }
    }

    fn take_change(&mut self, change: &Change<'_>, f: &mut impl FnMut(Record)) {
        match change {
            &Change::Flow {
                ref flow,
                is_resynced,
                received_at: time,
                ..
            } if flow.kind == EventKind::Delete => {
                if let Some(stop) = flow.stop {
                    self.metrics.note_latency(stop, time);
                }
                let mut body = FlowBody::new(flow);
                body.ended_between = is_resynced.then(|| (self.missed_since(flow).min(time), time));
                f(self.record(time, Body::Flow(body)));
            }
            Change::Resynced(resync) => {
                self.wrong_since = None;
                self.metrics
                    .count_resync(Subject::Flows, &self.name, &resync.reason.to_string());
            }
            _ => {}
        }
    }

    /// A flow that began within a loss is unknown. If its end is lost too, before the mirror is repaired, it has no
    /// record, although it existed between the losses. So a loss that occurs before the repair begins where the
    /// previous one began.
    fn join_with_loss_before(&mut self, loss: &mut LossBody) {
        let since = self.wrong_since.unwrap_or(loss.since);
        loss.since = loss.since.min(since);
        self.wrong_since = Some(loss.since);
    }

    /// The time since when the end of this flow may have been missed.
    fn missed_since(&self, flow: &Flow<'_>) -> Timestamp {
        let start = flow.start.or(flow.observed_start);
        self.wrong_since.max(start).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn record(&self, time: Timestamp, body: Body) -> Record {
        Record {
            time,
            namespace: self.namespace,
            body,
        }
    }
}

fn open(flow: &Flow<'_>, time: Timestamp, namespace: u16) -> Record {
    Record {
        time,
        namespace,
        body: Body::Open(FlowBody::new(flow)),
    }
}

fn parse_filter(text: &str) -> Result<Option<Filter>> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let filter = text.parse::<Filter>();
    filter
        .map(Some)
        .map_err(|error| Failure::Usage(format!("filter: {error}")))
}
