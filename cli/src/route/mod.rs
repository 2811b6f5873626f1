//! `nlring route`: one socket in the route groups and, for the devices' names, in the link group.
//!
//! One socket keeps the kernel's order: the message of a device comes before those of its routes. With two sockets, a
//! route could be read before its device.

pub mod devices;
pub mod filter;
mod list;
mod mirror;

use std::cell::OnceCell;
use std::io;
use std::time::Instant;

use nlring::message::ERROR;
use nlring::route::{DumpFilter, Filter, Group, Mirror, Route};
use nlring::{
    EventKind, Missing, Namespace, Protocol, RecvBuffer, Running, Socket, SocketBuilder, SocketId,
    StopHandle, Timestamp,
};
use nlring_print::Style;
use nlring_print::route::{RouteFormat, TextOptions, TimestampLayout};

use crate::args::{RouteArguments, RouteEvent, RouteField};
use crate::follow::collector::{self, Collector};
use crate::follow::handler::{Handler, Incoming};
use crate::follow::session;
use crate::follow::summary::Summary;
use crate::follow::table_file::Writing;
use crate::host::namespace;
use crate::outcome::{Failure, Outcome};
use crate::route::devices::Devices;
use crate::write::console::Console;
use crate::write::output::Output;
use filter::Selection;
use mirror::RouteMirror;

/// The groups of `ip monitor route`, and that of the devices, for their names. [`Mirror::GROUPS`] contains them too.
const GROUPS: [Group; 4] = [
    Group::Ipv4Route,
    Group::Ipv6Route,
    Group::MplsRoute,
    Group::Link,
];
/// `RTM_NEWROUTE`, `RTM_DELROUTE` (include/uapi/linux/rtnetlink.h).
const ROUTE_MESSAGES: [u16; 2] = [24, 25];

pub fn run(arguments: &RouteArguments, console: &mut Console) -> Outcome {
    let collector = &arguments.collector;
    namespace::move_to(collector.follow.netns.netns.as_deref(), "route")?;
    let selection = filter::select(arguments)?;
    if arguments.filter.explain {
        return selection.explain(builder(), of_dumps(arguments, &selection.filter)?);
    }
    if collector.table.once {
        return list::run(arguments, &selection.filter, console);
    }
    collector::run(
        &collector.follow,
        collector.table.table.as_deref(),
        console,
        |_| RouteCollector {
            arguments,
            selection: &selection,
        },
    )
}

struct RouteCollector<'a> {
    arguments: &'a RouteArguments,
    selection: &'a Selection,
}

impl Collector for RouteCollector<'_> {
    type Handler = RouteHandler;

    fn style(&self) -> Style {
        style(self.arguments)
    }

    fn socket(
        &mut self,
        namespace: Option<&Namespace>,
        console: &mut Console,
    ) -> Result<(Socket, RecvBuffer), Failure> {
        let builder = self.selection.attach(builder(), namespace, console)?;
        let bytes = self.arguments.collector.follow.recv_buffer_bytes;
        let groups = groups(self.arguments).iter().copied();
        session::open(builder, namespace, bytes, groups)
    }

    fn handler(
        &self,
        socket: SocketId,
        namespace: Option<&Namespace>,
        count: usize,
    ) -> Result<RouteHandler, Failure> {
        let formatter = RouteFormatter::load(format(self.arguments), namespace)?;
        RouteHandler::new(self.arguments, self.selection, formatter, socket, count)
    }
}

/// A socket for the events. A filter's program decides only about routes: it accepts the messages about devices, which
/// have the names.
fn builder() -> SocketBuilder {
    Socket::builder(Protocol::ROUTE)
}

/// What the kernel evaluates of a dump.
fn of_dumps(arguments: &RouteArguments, filter: &Filter) -> Result<DumpFilter, Failure> {
    let table = &arguments.collector.table;
    if table.once || !table.has_mirror() {
        return Ok(filter.dump_filter());
    }
    let mirror = Mirror::with_filter(table.mirror_options(1), filter.clone())?;
    Ok(mirror.dump_filter())
}

/// The groups whose events are received. A mirror needs more than lines do.
fn groups(arguments: &RouteArguments) -> &'static [Group] {
    if arguments.collector.table.has_mirror() {
        &Mirror::GROUPS
    } else {
        &GROUPS
    }
}

fn style(arguments: &RouteArguments) -> Style {
    if arguments.collector.follow.json {
        Style::Json
    } else {
        Style::Text
    }
}

fn format(arguments: &RouteArguments) -> RouteFormat {
    if arguments.collector.follow.json {
        RouteFormat::json()
    } else {
        let has = |field| arguments.fields.contains(&field);
        text_format(timestamp_layout(
            has(RouteField::Timestamp),
            has(RouteField::LongTimestamp),
        ))
    }
}

/// The lines of ip, with the names of its configuration.
pub fn text_format(timestamp: Option<TimestampLayout>) -> RouteFormat {
    RouteFormat::Text(Box::new(TextOptions::load(timestamp)))
}

/// The layout of the fields that are chosen. As in ip, the short one goes before the long one.
pub fn timestamp_layout(has_short: bool, has_long: bool) -> Option<TimestampLayout> {
    if has_short {
        Some(TimestampLayout::Short)
    } else {
        has_long.then_some(TimestampLayout::Long)
    }
}

/// Writes routes with the names of their devices.
pub struct RouteFormatter {
    format: RouteFormat,
    /// The format of --table, whatever that of the lines.
    table_format: OnceCell<RouteFormat>,
    devices: Devices,
}

impl RouteFormatter {
    /// Dumps the devices. Call it when the socket of the events is in the group of links.
    pub fn load(format: RouteFormat, namespace: Option<&Namespace>) -> Result<Self, Failure> {
        let devices = Devices::load(namespace)?;
        Ok(Self {
            format,
            table_format: OnceCell::new(),
            devices,
        })
    }

    /// Appends a route's event. False: it has no line.
    pub fn write_event(
        &self,
        out: &mut Vec<u8>,
        route: &Route<'_>,
        received_at: Timestamp,
    ) -> bool {
        self.format
            .write_event(out, route, self.devices.names(), received_at)
    }

    /// Appends an entry of the table. False: it has no line.
    fn write_entry(&self, out: &mut Vec<u8>, route: &Route<'_>) -> bool {
        self.format
            .write_entry(out, route, self.devices.names(), Timestamp::now())
    }

    /// Appends a line of --table.
    fn write_table_entry(&self, out: &mut Vec<u8>, route: &Route<'_>) {
        let format = self.table_format.get_or_init(RouteFormat::json);
        format.write_entry(out, route, self.devices.names(), Timestamp::UNIX_EPOCH);
    }

    /// Makes sure that the names of the route's devices are known, if the kernel has them.
    fn look_for_devices(&mut self, route: &Route<'_>) {
        self.devices.look_for(route);
    }

    fn style(&self) -> Style {
        self.format.style()
    }
}

struct RouteHandler {
    formatter: RouteFormatter,
    /// What the kernel cannot evaluate. A mirror has the whole filter.
    filter: Option<Filter>,
    mirror: Option<RouteMirror>,
    /// Messages about devices, addresses and nexthops, which have no lines.
    other_event_count: u64,
    shows_new: bool,
    shows_delete: bool,
}

impl RouteHandler {
    /// Handles one of `count` sockets.
    fn new(
        arguments: &RouteArguments,
        selection: &Selection,
        formatter: RouteFormatter,
        socket: SocketId,
        count: usize,
    ) -> Result<Self, Failure> {
        let has_mirror = arguments.collector.table.has_mirror();
        let mirror = || {
            let filter = selection.filter.clone();
            RouteMirror::new(arguments, filter, socket, count)
        };
        Ok(Self {
            formatter,
            filter: selection.left().cloned(),
            mirror: has_mirror.then(mirror).transpose()?,
            other_event_count: 0,
            shows_new: arguments.events.contains(&RouteEvent::New),
            shows_delete: arguments.events.contains(&RouteEvent::Delete),
        })
    }

    fn shows(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::New | EventKind::Update | EventKind::Entry => self.shows_new,
            EventKind::Delete => self.shows_delete,
        }
    }
}

impl Handler for RouteHandler {
    fn handle(&mut self, incoming: &Incoming<'_>, output: &mut Output) {
        let message_type = incoming.message.message_type();
        if !ROUTE_MESSAGES.contains(&message_type) {
            // An ERROR message answers a request of the mirror.
            self.other_event_count += u64::from(message_type != ERROR);
            self.formatter.devices.feed(&incoming.message);
        }
        if let Some(mirror) = &mut self.mirror {
            let received_at = incoming.received_at;
            mirror.feed(&incoming.message, received_at, &self.formatter, output);
        } else if let Some(route) = &Route::decode(&incoming.message)
            && self.shows(route.kind)
            && self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.matches(route))
        {
            output.event(|out| self.formatter.write_event(out, route, incoming.received_at));
        }
    }

    fn style(&self) -> Style {
        self.formatter.style()
    }

    fn note_missing(&mut self, missing: &Missing) {
        self.formatter.devices.note_missed();
        if let Some(mirror) = &mut self.mirror {
            mirror.note_missing(missing);
        }
    }

    fn after_turn(&mut self, running: &Running, output: &mut Output, console: &mut Console) {
        self.formatter.devices.catch_up(Instant::now(), console);
        if let Some(mirror) = &mut self.mirror {
            mirror.after_turn(running, &self.formatter, output, console);
        }
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

    fn has_table(&self) -> bool {
        self.mirror.as_ref().is_some_and(RouteMirror::is_complete)
    }

    fn write_table(&self, table: &mut Writing) -> io::Result<bool> {
        match &self.mirror {
            Some(mirror) => mirror.write_table(&self.formatter, table),
            None => Ok(true),
        }
    }

    fn add_to(&self, summary: &mut Summary) {
        summary.other_events += self.other_event_count;
        if let Some(mirror) = &self.mirror {
            mirror.add_to(summary);
        }
    }
}
