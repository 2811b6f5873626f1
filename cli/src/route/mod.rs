//! `nlring route`: one socket in the route groups and, for the devices' names, in the link group.
//!
//! It is one socket because of the order: on it a device's message comes before those of its routes, as the kernel sent
//! them. On two sockets a route could be read before its device.

pub mod devices;
mod list;
mod mirror;

use std::time::Instant;

use nlring::route::{Group, Mirror, Route};
use nlring::{EventKind, Missing, Protocol, Running, StopHandle};
use nlring_print::route::{RouteFormat, TextOptions};
use nlring_print::{Gap, Style, realtime_now_ns};

use crate::args::{RouteArguments, RouteEvent, RouteField};
use crate::follow::collect::{Incoming, Limits, Lines};
use crate::follow::session;
use crate::follow::summary::Summary;
use crate::outcome::{Failure, Outcome};
use crate::route::devices::Devices;
use crate::write::console::Console;
use crate::write::output::Output;
use mirror::RouteMirror;

/// Those of `ip monitor route`, and the devices' for their names. [`Mirror::GROUPS`] has them all too.
const GROUPS: [Group; 4] = [
    Group::Ipv4Route,
    Group::Ipv6Route,
    Group::MplsRoute,
    Group::Link,
];
/// `RTM_NEWROUTE`, `RTM_DELROUTE` (include/uapi/linux/rtnetlink.h).
const ROUTE_MESSAGES: [u16; 2] = [24, 25];
/// `NLMSG_ERROR` (include/uapi/linux/netlink.h): an answer to the mirror.
const ANSWER: u16 = 2;

pub fn run(arguments: &RouteArguments, console: &mut Console) -> Outcome {
    let collector = &arguments.collector;
    if collector.table.once {
        return list::run(arguments, console);
    }
    let recv_buffer_bytes = collector.recv_buffer_bytes;
    session::run(&collector.common, console, |session| {
        session.let_recv_buffer_grow(collector)?;
        let mut engine = session.engine()?;
        let groups: &[Group] = if collector.table.has_mirror() {
            &Mirror::GROUPS
        } else {
            &GROUPS
        };
        let socket = session.socket(Protocol::ROUTE, recv_buffer_bytes, groups.iter().copied())?;
        let socket = engine.add(socket)?;
        let mut shown = RouteLines {
            formatter: RouteFormatter::load(format(arguments))?,
            mirror: (collector.table.has_mirror())
                .then(|| RouteMirror::open(arguments, socket, session))
                .transpose()?,
            other_event_count: 0,
            shows_new: arguments.events.contains(&RouteEvent::New),
            shows_delete: arguments.events.contains(&RouteEvent::Delete),
        };
        let limits = Limits {
            count: collector.count,
            duration: collector.duration,
        };
        let end = session.collect(engine, &[socket], limits, &mut shown);
        if let Some(mirror) = shown.mirror {
            let table = mirror.end(&shown.formatter, session);
            session.further_failures.extend(table.err());
        }
        end
    })
}

fn format(arguments: &RouteArguments) -> RouteFormat {
    if arguments.collector.json {
        RouteFormat::Json
    } else {
        text_format(arguments.fields.contains(&RouteField::Timestamp))
    }
}

/// The lines of ip, with the names of its configuration.
pub fn text_format(has_timestamp: bool) -> RouteFormat {
    RouteFormat::Text(Box::new(TextOptions::load(has_timestamp)))
}

/// Writes routes with the names of their devices.
pub struct RouteFormatter {
    format: RouteFormat,
    devices: Devices,
}

impl RouteFormatter {
    /// Dumps the devices. Call it when the socket of the events is in the group of links.
    pub fn load(format: RouteFormat) -> Result<Self, Failure> {
        let devices = Devices::load()?;
        Ok(Self { format, devices })
    }

    /// Appends a route's event. False: it has no line.
    pub fn write_event(&self, out: &mut Vec<u8>, route: &Route<'_>, received_ns: u64) -> bool {
        self.format
            .write_event(out, route, self.devices.names(), received_ns)
    }

    /// Appends an entry of the table. False: it has no line.
    fn write_entry(&self, out: &mut Vec<u8>, route: &Route<'_>) -> bool {
        self.format
            .write_entry(out, route, self.devices.names(), realtime_now_ns())
    }

    /// Appends a line of --table.
    fn write_table_entry(&self, out: &mut Vec<u8>, route: &Route<'_>) {
        RouteFormat::Json.write_entry(out, route, self.devices.names(), 0);
    }

    /// Makes sure that the names of the route's devices are known, if the kernel has them.
    fn look_for_devices(&mut self, route: &Route<'_>) {
        self.devices.look_for(route);
    }

    fn style(&self) -> Style {
        self.format.style()
    }
}

struct RouteLines {
    formatter: RouteFormatter,
    mirror: Option<RouteMirror>,
    /// Messages about devices and the like, which have no lines.
    other_event_count: u64,
    shows_new: bool,
    shows_delete: bool,
}

impl RouteLines {
    fn shows(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::New | EventKind::Update | EventKind::Entry => self.shows_new,
            EventKind::Delete => self.shows_delete,
        }
    }
}

impl Lines for RouteLines {
    fn write(&mut self, incoming: &Incoming<'_>, output: &mut Output) {
        let message_type = incoming.message.message_type();
        if !ROUTE_MESSAGES.contains(&message_type) {
            self.other_event_count += u64::from(message_type != ANSWER);
            self.formatter.devices.take(&incoming.message);
        }
        if let Some(mirror) = &mut self.mirror {
            let received_ns = incoming.received_ns;
            mirror.take(&incoming.message, received_ns, &self.formatter, output);
        } else if let Some(route) = &Route::decode(&incoming.message)
            && self.shows(route.kind)
        {
            output.event(|out| self.formatter.write_event(out, route, incoming.received_ns));
        }
    }

    fn write_gap(&mut self, gap: &Gap<'_>, out: &mut Vec<u8>) {
        self.formatter.style().write_gap(out, gap);
    }

    fn note_missing(&mut self, missing: &Missing) {
        self.formatter.devices.note_missed();
        if let Some(mirror) = &mut self.mirror {
            mirror.note_missing(missing);
        }
    }

    fn after_turn(
        &mut self,
        running: &Running,
        output: &mut Output,
        console: &mut Console,
    ) -> Result<(), Failure> {
        self.formatter.devices.catch_up(Instant::now(), console);
        if let Some(mirror) = &mut self.mirror {
            mirror.after_turn(running, &self.formatter, output, console);
        }
        Ok(())
    }

    fn finish(&mut self, stop: &StopHandle, output: &mut Output, console: &mut Console) {
        if let Some(mirror) = &mut self.mirror {
            mirror.finish(stop, &self.formatter, output, console);
        }
    }

    fn due(&self) -> Option<Instant> {
        let mirror_due = self.mirror.as_ref().and_then(RouteMirror::due);
        [self.formatter.devices.due(), mirror_due]
            .into_iter()
            .flatten()
            .min()
    }

    fn report(&mut self, console: &mut Console) {
        let written = match &mut self.mirror {
            Some(mirror) => mirror.write_table(&self.formatter),
            None => Ok(()),
        };
        if let Err(failure) = written {
            console.warn(failure);
        }
    }

    fn is_reporting(&self) -> bool {
        let mirror = self.mirror.as_ref();
        mirror.is_some_and(RouteMirror::is_writing_table)
    }

    fn add_to(&self, summary: &mut Summary) {
        summary.other_events += self.other_event_count;
        if let Some(mirror) = &self.mirror {
            mirror.add_to(summary);
        }
    }
}
