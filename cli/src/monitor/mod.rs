//! `nlring monitor`: all objects of rtnetlink on one socket, in the kernel's order.

mod namespace_names;
mod selection;

use std::time::Instant;

use nlring::route::{Group, NetconfScope, Object};
use nlring::{Missing, Namespace, Protocol, RecvBuffer, Running, Socket, SocketId};
use nlring_print::Style;
use nlring_print::monitor::MonitorFormat;
use nlring_print::route::RouteFormat;
use nlring_print::text::escaped;
use rustix::io::Errno;

use crate::args::{MonitorArguments, MonitorField, MonitorObject};
use crate::follow::collector::{self, Collector};
use crate::follow::handler::{Handler, Incoming};
use crate::follow::session;
use crate::follow::summary::Summary;
use crate::host::known_namespaces::Label;
use crate::host::namespace;
use crate::outcome::{Failure, Outcome};
use crate::route::devices::{Devices, Lookup};
use crate::route::filter::Selection as RouteSelection;
use crate::route::{text_format, timestamp_layout};
use crate::write::console::Console;
use crate::write::output::Output;
use namespace_names::NamespaceNames;
use selection::Selection;

pub fn run(arguments: &MonitorArguments, console: &mut Console) -> Outcome {
    let follow = &arguments.follow;
    namespace::move_to(follow.netns.netns.as_deref(), "monitor")?;
    let routes = selection::select_routes(arguments)?;
    collector::run(follow, None, console, |_| MonitorCollector {
        arguments,
        routes: &routes,
        has_warned: false,
    })
}

struct MonitorCollector<'a> {
    arguments: &'a MonitorArguments,
    routes: &'a RouteSelection,
    /// Whether the user was warned of what this kernel does not report.
    has_warned: bool,
}

impl Collector for MonitorCollector<'_> {
    type Handler = MonitorHandler;

    fn style(&self) -> Style {
        if self.arguments.follow.json {
            Style::Json
        } else {
            Style::Text
        }
    }

    /// Warns that --dev waits for its device, if no namespace has one of this name.
    fn look_around(&mut self, namespaces: &[(Label, Option<Namespace>)], console: &mut Console) {
        let Some(name) = self.arguments.dev.as_deref() else {
            return;
        };
        let has_device = |namespace: &Namespace| {
            Devices::load(Some(namespace)).is_ok_and(|devices| devices.index(name).is_ok())
        };
        // Without --all-netns a missing device is an error.
        let mut all = namespaces
            .iter()
            .filter_map(|(_, namespace)| namespace.as_ref())
            .peekable();
        if all.peek().is_some() && !all.any(has_device) {
            console.warn(format_args!(
                "no network namespace has a device {} now; the first one in each is followed when it appears",
                escaped(name.as_bytes())
            ));
        }
    }

    fn socket(
        &mut self,
        namespace: Option<&Namespace>,
        console: &mut Console,
    ) -> Result<(Socket, RecvBuffer), Failure> {
        let builder = Socket::builder(Protocol::ROUTE);
        let builder = self.routes.attach(builder, namespace, console)?;
        let no_groups: [Group; 0] = [];
        let bytes = self.arguments.follow.recv_buffer_bytes;
        let (socket, recv_buffer) = session::open(builder, namespace, bytes, no_groups)?;
        let unknown = join(&socket, self.arguments)?;
        if !std::mem::replace(&mut self.has_warned, true) {
            for group in unknown {
                console.warn(format_args!(
                    "this kernel is too old to report some objects (group {group:?})"
                ));
            }
        }
        Ok((socket, recv_buffer))
    }

    fn handler(
        &self,
        _socket: SocketId,
        namespace: Option<&Namespace>,
        _count: usize,
    ) -> Result<MonitorHandler, Failure> {
        MonitorHandler::new(self.arguments, self.routes, namespace)
    }
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

/// Joins the groups of the followed objects. Returns those that this kernel does not know: it refuses them as an
/// invalid argument.
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
        let has = |field| fields.contains(&field);
        text_format(timestamp_layout(
            has(MonitorField::Timestamp),
            has(MonitorField::LongTimestamp),
        ))
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
    namespace_names: NamespaceNames,
    /// Messages about devices that were received only for the devices' names.
    other_event_count: u64,
}

impl MonitorHandler {
    /// Handles the events of a namespace, or of this process's.
    fn new(
        arguments: &MonitorArguments,
        routes: &RouteSelection,
        namespace: Option<&Namespace>,
    ) -> Result<Self, Failure> {
        let devices = Devices::load(namespace)?;
        Ok(Self {
            format: format(arguments),
            selection: Selection::new(arguments, routes, &devices)?,
            devices,
            lookup: Lookup::default(),
            namespace_names: NamespaceNames::default(),
            other_event_count: 0,
        })
    }
}

impl Handler for MonitorHandler {
    fn handle(&mut self, incoming: &Incoming<'_>, output: &mut Output) {
        let message = &incoming.message;
        self.devices.feed(message);
        let object = Object::decode(message);
        let is_selected = self.selection.selects(object.as_ref());
        if !self.selection.follows_links && matches!(object, Some(Object::Link(_))) {
            self.other_event_count += 1;
            return;
        }
        if is_selected {
            if let Some(index) = object.as_ref().and_then(reported_early) {
                self.lookup.find(&mut self.devices, index);
            }
            if let Some(Object::Link(link)) = &object {
                let (names, namespace) = self.devices.parts();
                self.namespace_names.find(link, namespace, names);
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
