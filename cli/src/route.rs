//! `nlring route`: one socket in the route groups, and one in the link group for the devices' names.

use std::process::ExitCode;
use std::time::Instant;

use nlring::route::{EventKind, Group, Route};
use nlring::{Protocol, SocketId};

use crate::args::{RouteArguments, RouteEvent, RouteField};
use crate::collect::{Incoming, Limits, Lines};
use crate::devices::Devices;
use crate::gap::{self, Gap};
use crate::outcome::Failure;
use crate::route_json::write_route;
use crate::route_text::{TextOptions, write_line};
use crate::session;

/// Those of `ip monitor route`.
const ROUTE_GROUPS: [Group; 3] = [Group::Ipv4Route, Group::Ipv6Route, Group::MplsRoute];

pub fn run(arguments: &RouteArguments) -> ExitCode {
    let collector = &arguments.collector;
    let recv_buffer_bytes = collector.recv_buffer_bytes;
    session::run(&collector.common, |session| {
        session.let_recv_buffer_grow(collector)?;
        let mut engine = session.engine()?;
        // The links first: what comes together is taken in this order, and a route names its device.
        let links = session.socket(Protocol::ROUTE, recv_buffer_bytes, [Group::Link])?;
        let link_socket = engine.add(links)?;
        let routes = session.socket(Protocol::ROUTE, recv_buffer_bytes, ROUTE_GROUPS)?;
        let route_socket = engine.add(routes)?;
        let format = if collector.json {
            RouteFormat::Json
        } else {
            RouteFormat::text(&arguments.fields)
        };
        let mut shown = RouteLines {
            formatter: RouteFormatter::load(format)?,
            link_socket,
            shows_new: arguments.events.contains(&RouteEvent::New),
            shows_delete: arguments.events.contains(&RouteEvent::Delete),
        };
        let limits = Limits {
            count: collector.count,
            duration: collector.duration,
        };
        session.collect(engine, &[route_socket], limits, &mut shown)
    })
}

/// How routes are shown.
pub enum RouteFormat {
    /// As ip prints them.
    Text(Box<TextOptions>),
    Json,
}

impl RouteFormat {
    pub fn text(fields: &[RouteField]) -> Self {
        Self::Text(Box::new(TextOptions::load(fields)))
    }
}

/// Routes as lines, with the names of their devices.
pub struct RouteFormatter {
    format: RouteFormat,
    devices: Devices,
}

impl RouteFormatter {
    pub fn load(format: RouteFormat) -> Result<Self, Failure> {
        let devices = Devices::load()?;
        Ok(Self { format, devices })
    }

    /// Appends a route's event. False: it has none, being an entry of the route cache.
    pub fn write(&self, route: &Route<'_>, received_ns: u64, out: &mut Vec<u8>) -> bool {
        if route.is_cloned() {
            return false;
        }
        let devices = self.devices.names();
        match &self.format {
            RouteFormat::Text(options) => write_line(out, route, devices, options, received_ns),
            RouteFormat::Json => write_route(out, route, devices, received_ns),
        }
        true
    }
}

struct RouteLines {
    formatter: RouteFormatter,
    link_socket: SocketId,
    shows_new: bool,
    shows_delete: bool,
}

impl Lines for RouteLines {
    fn write(&mut self, incoming: &Incoming<'_>, out: &mut Vec<u8>) -> bool {
        if incoming.socket == self.link_socket {
            self.formatter
                .devices
                .take(&incoming.message, Instant::now());
            return false;
        }
        let Some(route) = Route::decode(&incoming.message) else {
            return false;
        };
        let is_shown = match route.kind {
            EventKind::New => self.shows_new,
            EventKind::Delete => self.shows_delete,
        };
        is_shown && self.formatter.write(&route, incoming.received_ns, out)
    }

    fn write_gap(&mut self, gap: Gap, out: &mut Vec<u8>) {
        match self.formatter.format {
            RouteFormat::Text(_) => gap::write_text(out, gap),
            RouteFormat::Json => gap::write_json(out, gap),
        }
    }

    fn note_missed(&mut self, socket: SocketId) {
        if socket == self.link_socket {
            self.formatter.devices.note_missed();
        }
    }

    fn after_turn(&mut self) -> Result<(), Failure> {
        self.formatter.devices.catch_up(Instant::now())
    }

    fn due(&self) -> Option<Instant> {
        self.formatter.devices.due()
    }
}
