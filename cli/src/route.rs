//! `nlring route`: one socket in the route groups, and one in the link group for the devices' names.

use std::process::ExitCode;
use std::time::Instant;

use nlring::route::{EventKind, Group, Route};
use nlring::{Message, Protocol, SocketId};

use crate::args::{RouteArguments, RouteEvent};
use crate::collect::{Limits, Lines};
use crate::devices::Devices;
use crate::outcome::Failure;
use crate::route_text::{Names, write_line};
use crate::session;

/// Those of `ip monitor route`.
const ROUTE_GROUPS: [Group; 3] = [Group::Ipv4Route, Group::Ipv6Route, Group::MplsRoute];

pub fn run(arguments: &RouteArguments) -> ExitCode {
    let collector = &arguments.collector;
    let recv_buffer_bytes = collector.recv_buffer_bytes;
    session::run(&collector.common, |session| {
        let mut engine = session.engine()?;
        // The links first: what comes together is taken in this order, and a route names its device.
        let links = session.socket(Protocol::ROUTE, recv_buffer_bytes, [Group::Link])?;
        let link_socket = engine.add(links)?;
        let routes = session.socket(Protocol::ROUTE, recv_buffer_bytes, ROUTE_GROUPS)?;
        let route_socket = engine.add(routes)?;
        let mut shown = RouteLines {
            text: RouteText::load()?,
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

/// Routes as text.
pub struct RouteText {
    devices: Devices,
    names: Names,
}

impl RouteText {
    pub fn load() -> Result<Self, Failure> {
        Ok(Self {
            devices: Devices::load()?,
            names: Names::load(),
        })
    }

    /// Appends the text of a route's event. False: there is none.
    pub fn write(&self, route: &Route<'_>, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        write_line(out, route, self.devices.names(), &self.names);
        out.len() > before
    }
}

struct RouteLines {
    text: RouteText,
    link_socket: SocketId,
    shows_new: bool,
    shows_delete: bool,
}

impl Lines for RouteLines {
    fn write(&mut self, socket: SocketId, message: &Message<'_>, out: &mut Vec<u8>) -> bool {
        if socket == self.link_socket {
            self.text.devices.take(message, Instant::now());
            return false;
        }
        let Some(route) = Route::decode(message) else {
            return false;
        };
        let is_shown = match route.kind {
            EventKind::New => self.shows_new,
            EventKind::Delete => self.shows_delete,
        };
        is_shown && self.text.write(&route, out)
    }

    fn note_missed(&mut self, socket: SocketId) {
        if socket == self.link_socket {
            self.text.devices.note_missed();
        }
    }

    fn after_turn(&mut self) -> Result<(), Failure> {
        self.text.devices.catch_up(Instant::now())
    }

    fn due(&self) -> Option<Instant> {
        self.text.devices.due()
    }
}
