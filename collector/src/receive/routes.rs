//! Follows the routes of one network namespace.

use std::time::Instant;

use nlring::route::{Address, Change, Mirror, Route};
use nlring::{
    Engine, Event, EventKind, Family, MessageList, MirrorOptions, Namespace, Protocol, Running,
    Socket, SocketId, Timestamp,
};
use nlring_print::route::RouteFormat;

use super::coverage::Coverage;
use super::devices::Devices;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::metrics::Metrics;
use crate::record::{Body, LossBody, Record, RouteBody, Subject};

/// Follows the routes of one network namespace. It makes a record for each event of the kernel, for each route that
/// exists at the start, and for each change that the kernel did not report.
pub struct Routes {
    pub socket: SocketId,
    mirror: Mirror,
    coverage: Coverage,
    recorder: Recorder,
}

/// Makes the records.
struct Recorder {
    namespace: u16,
    name: String,
    devices: Devices,
    format: RouteFormat,
    metrics: Metrics,
}

impl Routes {
    /// Opens the namespace with this name. The empty name stands for this process's namespace.
    pub fn open(
        name: &str,
        place: u16,
        config: &Config,
        metrics: Metrics,
        engine: &mut Engine,
    ) -> Result<Self> {
        let mut builder = Socket::builder(Protocol::ROUTE)
            .recv_buffer_bytes(usize::try_from(config.recv_buffer.0).unwrap_or(usize::MAX))
            .groups(Mirror::GROUPS);
        let namespace = match name {
            "" => None,
            name => Some(Namespace::from_name(name)?),
        };
        if let Some(namespace) = &namespace {
            builder = builder.namespace(namespace);
        }
        let socket = engine.add(builder.open()?).map_err(nlring::Error::from)?;
        Ok(Self {
            socket,
            mirror: Mirror::new(MirrorOptions::new()),
            coverage: Coverage::default(),
            recorder: Recorder {
                namespace: place,
                name: name.to_owned(),
                devices: Devices::load(namespace.as_ref())?,
                format: RouteFormat::json(),
                metrics,
            },
        })
    }

    /// Takes an event of the socket.
    pub fn feed(&mut self, event: &Event<'_>, mut f: impl FnMut(Record)) {
        if let Event::Messages(_, list) = event {
            self.coverage.look_at(list);
            self.feed_messages(list, f);
        } else if let Some(missing) = event.missing() {
            let loss = LossBody::new(Subject::Routes, &missing);
            f(self.recorder.record(Timestamp::now(), Body::Loss(loss)));
            self.recorder.devices.note_missing();
            self.mirror.note_missing(&missing);
        }
    }

    /// Records each event, followed by what the mirror concludes from it.
    fn feed_messages(&mut self, list: &MessageList<'_>, mut f: impl FnMut(Record)) {
        let time = list.received_at().unwrap_or_else(Timestamp::now);
        let since = self.mirror.health().wrong_since;
        let concluded = Found {
            time,
            since: Some(since.map_or(time, |since| since.min(time))),
            is_first: !self.mirror.is_complete(),
        };
        let recorder = &mut self.recorder;
        for message in list {
            recorder.devices.feed(&message);
            if let Some(route) = Route::decode(&message)
                && !route.is_cloned()
            {
                let body = recorder.body(&route, time, false);
                f(recorder.record(time, Body::Route(Box::new(body))));
            }
            self.mirror.feed_message(&message, |change| {
                recorder.take_change(&change, concluded, &mut f);
            });
        }
    }

    /// Notes the counts so far.
    pub fn note(&self, running: &Running) {
        let Recorder { name, metrics, .. } = &self.recorder;
        if let Some(statistics) = running.statistics(self.socket) {
            metrics.note_statistics(Subject::Routes, name, &statistics);
        }
        let (count, health) = (self.mirror.len(), self.mirror.health());
        metrics.note_mirror(Subject::Routes, name, count, &health);
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
        self.coverage.is_reached() && self.mirror.is_complete()
    }

    /// Does what is due.
    pub fn advance(&mut self, running: &Running, mut f: impl FnMut(Record)) {
        self.recorder.devices.catch_up(Instant::now());
        let Some(socket) = running.socket(self.socket) else {
            return;
        };
        let (found, recorder) = (found_now(&self.mirror), &self.recorder);
        // After an error the mirror asks again. Its health shows the error.
        let _ = self.mirror.advance(socket, |change| {
            recorder.take_change(&change, found, &mut f);
        });
    }

    /// When [`advance`](Self::advance) is due.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let dues = [self.mirror.due(now), self.recorder.devices.due()];
        dues.into_iter().flatten().min()
    }

    /// Hands over the events that the mirror still holds.
    pub fn finish(&mut self, mut f: impl FnMut(Record)) -> Result<()> {
        let (found, recorder) = (found_now(&self.mirror), &self.recorder);
        let outcome = self.mirror.finish(|change| {
            recorder.take_change(&change, found, &mut f);
        });
        outcome.map_err(Failure::from)
    }
}

/// When an unreported change was found.
#[derive(Clone, Copy)]
struct Found {
    time: Timestamp,
    /// The earliest time at which it may have happened, if known.
    since: Option<Timestamp>,
    /// The mirror is comparing itself with the kernel's tables for the first time.
    is_first: bool,
}

/// What to record about a change that is found now.
fn found_now(mirror: &Mirror) -> Found {
    Found {
        time: Timestamp::now(),
        since: mirror.health().wrong_since,
        is_first: !mirror.is_complete(),
    }
}

impl Recorder {
    /// Takes a change of the mirror. Changes that an event reported are already recorded.
    fn take_change(&self, change: &Change<'_>, found: Found, f: &mut impl FnMut(Record)) {
        match change {
            Change::Route {
                route, is_resynced, ..
            } if *is_resynced => f(self.record_found(route, found)),
            Change::Resynced(resync) => {
                let reason = resync.reason.to_string();
                self.metrics
                    .count_resync(Subject::Routes, &self.name, &reason);
            }
            _ => {}
        }
    }

    fn record_found(&self, route: &Route<'_>, found: Found) -> Record {
        let mut route = *route;
        if found.is_first {
            route.kind = EventKind::Entry;
        }
        let mut body = self.body(&route, found.time, !found.is_first);
        body.since = found.since;
        self.record(found.time, Body::Route(Box::new(body)))
    }

    fn body(&self, route: &Route<'_>, time: Timestamp, is_resynced: bool) -> RouteBody {
        let names = self.devices.names();
        let mut json = Vec::new();
        self.format.write_event(&mut json, route, names, time);
        if is_resynced {
            self.format.style().mark_resynced(&mut json);
        }
        let json = String::from_utf8_lossy(json.trim_ascii_end());
        RouteBody {
            kind: route.kind,
            dst: prefix(route),
            is_resynced,
            since: None,
            json: json.into_owned(),
        }
    }

    fn record(&self, time: Timestamp, body: Body) -> Record {
        Record {
            time,
            namespace: self.namespace,
            body,
        }
    }
}

/// The destination with its length, as in the JSON.
fn prefix(route: &Route<'_>) -> String {
    let length = route.dst_prefix_len;
    match route.dst {
        Some(labels @ Address::Mpls(_)) => labels.to_string(),
        Some(address) => format!("{address}/{length}"),
        None if route.family == Family::INET6 => format!("::/{length}"),
        None => format!("0.0.0.0/{length}"),
    }
}
