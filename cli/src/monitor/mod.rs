//! `nlring monitor`: all objects of rtnetlink on one socket, in the kernel's order.

mod all_namespaces;
mod selection;

use std::time::Instant;

use nlring::route::{Group, NetconfScope, Object};
use nlring::{Missing, Namespace, Protocol, Running, Socket};
use nlring_print::Style;
use nlring_print::monitor::MonitorFormat;
use nlring_print::route::RouteFormat;
use rustix::io::Errno;

use crate::args::{MonitorArguments, MonitorField, MonitorObject};
use crate::follow::collect::Limits;
use crate::follow::handler::{Handler, Incoming};
use crate::follow::session;
use crate::follow::summary::Summary;
use crate::host::namespace;
use crate::outcome::{Failure, Outcome};
use crate::route::devices::{Devices, Lookup};
use crate::route::text_format;
use crate::write::console::Console;
use crate::write::output::Output;
use selection::Selection;

pub fn run(arguments: &MonitorArguments, console: &mut Console) -> Outcome {
    let follow = &arguments.follow;
    namespace::move_to(follow.netns.netns.as_deref(), "monitor")?;
    if let Some(which) = follow.netns.all_netns {
        return all_namespaces::run(arguments, which, console);
    }
    session::run(&follow.common, console, |session| {
        session.let_recv_buffer_grow(follow)?;
        let mut engine = session.engine()?;
        let no_groups: [Group; 0] = [];
        let socket = session.socket(Protocol::ROUTE, follow.recv_buffer_bytes, no_groups)?;
        for group in join(&socket, arguments)? {
            session.console.warn(format_args!(
                "this kernel is too old to report some objects (group {group:?})"
            ));
        }
        let socket = engine.add(socket)?;
        let mut handler = MonitorHandler::new(arguments, None)?;
        session.collect(engine, &[socket], Limits::of(follow), &mut handler)
    })
}

/// The groups of an object.
fn groups(object: MonitorObject) -> &'static [Group] {
    match object {
        MonitorObject::Link => &[Group::Link],
        MonitorObject::Address => &[Group::Ipv4Address, Group::Ipv6Address],
        MonitorObject::Route => &[Group::Ipv4Route, Group::Ipv6Route, Group::MplsRoute],
        MonitorObject::MulticastRoute => &[Group::Ipv4MulticastRoute, Group::Ipv6MulticastRoute],
        MonitorObject::Neighbour => &[Group::Neighbour],
        MonitorObject::Netconf => &[Group::Ipv4Netconf, Group::Ipv6Netconf, Group::MplsNetconf],
        MonitorObject::Rule => &[Group::Ipv4Rule, Group::Ipv6Rule],
        MonitorObject::Nexthop => &[Group::Nexthop],
    }
}

/// Joins the groups of what is followed. Returns those that this kernel does not know: it refuses them as an invalid
/// argument.
fn join(socket: &Socket, arguments: &MonitorArguments) -> Result<Vec<Group>, Failure> {
    let objects = MonitorObject::ALL.into_iter();
    let mut unknown = Vec::new();
    for &group in objects
        .filter(|&object| arguments.follows(object))
        .flat_map(groups)
    {
        match socket.add_membership(group) {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                unknown.push(group);
            }
            joined => joined?,
        }
    }
    socket.add_membership(Group::Link)?; // the names of devices come from their own events
    Ok(unknown)
}

fn format(arguments: &MonitorArguments) -> MonitorFormat {
    let fields = &arguments.fields;
    let route = if arguments.follow.json {
        RouteFormat::json()
    } else {
        text_format(fields.contains(&MonitorField::Timestamp))
    };
    MonitorFormat::new(route).labels(fields.contains(&MonitorField::Label))
}

/// The index of the device of an object that the kernel may report before the device itself: it announces the settings
/// and the forwarding entries of a new device first (Linux v6.18, net/core/dev.c, `register_netdevice`).
fn reported_early(object: &Object<'_>) -> Option<u32> {
    match object {
        Object::Neighbour(neighbour) => Some(neighbour.index),
        Object::Address(address) => Some(address.index),
        Object::Netconf(netconf) => match netconf.scope {
            Some(NetconfScope::Device(index)) => Some(index),
            _ => None,
        },
        _ => None,
    }
}

struct MonitorHandler {
    format: MonitorFormat,
    selection: Selection,
    devices: Devices,
    lookup: Lookup,
    /// Messages about devices that were received only for the devices' names.
    other_event_count: u64,
}

impl MonitorHandler {
    /// Handles the events of a namespace, or of this process's.
    fn new(arguments: &MonitorArguments, namespace: Option<&Namespace>) -> Result<Self, Failure> {
        let devices = Devices::load(namespace)?;
        Ok(Self {
            format: format(arguments),
            selection: Selection::new(arguments, &devices)?,
            devices,
            lookup: Lookup::default(),
            other_event_count: 0,
        })
    }
}

impl Handler for MonitorHandler {
    fn handle(&mut self, incoming: &Incoming<'_>, output: &mut Output) {
        let message = &incoming.message;
        self.devices.feed(message);
        let object = Object::decode(message);
        if !self.selection.follows_links && matches!(object, Some(Object::Link(_))) {
            self.other_event_count += 1;
            return;
        }
        if self.selection.selects(object.as_ref()) {
            if let Some(index) = object.as_ref().and_then(reported_early) {
                self.lookup.find(&mut self.devices, index);
            }
            let names = self.devices.names();
            output.event(|out| {
                let received_at = incoming.received_at;
                self.format.write_event(out, message, names, received_at)
            });
        }
    }

    fn style(&self) -> Style {
        self.format.style()
    }

    fn note_missing(&mut self, _missing: &Missing) {
        self.devices.note_missed();
    }

    fn after_turn(&mut self, _running: &Running, _output: &mut Output, console: &mut Console) {
        self.devices.catch_up(Instant::now(), console);
    }

    fn due(&self) -> Option<Instant> {
        self.devices.due()
    }

    fn add_to(&self, summary: &mut Summary) {
        summary.other_events += self.other_event_count;
    }
}
