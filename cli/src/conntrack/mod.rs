//! `nlring conntrack`: one socket in conntrack's groups.

mod filter;
mod flows_without_events;
mod list;
mod mirror;
mod repeated_ends;
mod sampling;

use std::io;
use std::rc::Rc;
use std::time::Instant;

use nlring::conntrack::{DumpFilter, Expectation, Filter, Flow, Group, Mirror};
use nlring::{
    Missing, Namespace, Protocol, RecvBuffer, Running, Socket, SocketBuilder, SocketId, StopHandle,
};
use nlring_print::conntrack::{FlowFormat, LabelNames, TextOptions};
use nlring_print::{LocalTime, Style};

use crate::args::{AuditInterval, ConntrackArguments, ConntrackEvent, ConntrackField};
use crate::follow::collector::{self, Collector};
use crate::follow::handler::{Handler, Incoming};
use crate::follow::session;
use crate::follow::summary::Summary;
use crate::follow::table_file::Writing;
use crate::host::kept::Kept;
use crate::host::known_namespaces::Label;
use crate::host::listeners::NetlinkSockets;
use crate::host::namespace;
use crate::outcome::{Failure, Outcome};
use crate::write::console::Console;
use crate::write::output::Output;
use filter::Selection;
use mirror::FlowMirror;
use repeated_ends::RepeatedEnds;
use sampling::FlowSampling;

pub fn run(arguments: &ConntrackArguments, console: &mut Console) -> Outcome {
    let collector = &arguments.collector;
    let selection = filter::select(arguments)?;
    sampling::check(arguments)?;
    namespace::move_to(collector.follow.netns.netns.as_deref(), "conntrack")?;
    if arguments.filter.explain {
        let of_dumps = of_dumps(arguments, &selection.filter)?;
        return selection.explain(builder(arguments), of_dumps);
    }
    if collector.table.once {
        return list::run(arguments, &selection.filter, console);
    }
    collector::run(
        &collector.follow,
        collector.table.table.as_deref(),
        console,
        |console| FlowCollector {
            arguments,
            selection: &selection,
            format: Rc::new(format(arguments, console)),
            warnings: Vec::new(),
        },
    )
}

struct FlowCollector<'a> {
    arguments: &'a ConntrackArguments,
    selection: &'a Selection,
    format: Rc<FlowFormat>,
    /// The warnings about flows that will cause no events. They are for users who may listen.
    warnings: Vec<String>,
}

impl Collector for FlowCollector<'_> {
    type Handler = FlowHandler;

    fn style(&self) -> Style {
        self.format.style()
    }

    fn kept(&self) -> Kept {
        Kept::CONNTRACK
    }

    fn look_around(&mut self, namespaces: &[(Label, Option<Namespace>)], _console: &mut Console) {
        let shows_flows = |event: &ConntrackEvent| *event != ConntrackEvent::Expect;
        let table = &self.arguments.collector.table;
        let audits = table.has_mirror() && table.audit_interval != AuditInterval::Off;
        if received_events(self.arguments).iter().any(shows_flows) {
            self.warnings = flows_without_events::warnings(namespaces, audits);
        }
    }

    fn socket(
        &mut self,
        namespace: Option<&Namespace>,
        console: &mut Console,
    ) -> Result<(Socket, RecvBuffer), Failure> {
        let builder = builder(self.arguments);
        let builder = self.selection.attach(builder, namespace, console)?;
        let bytes = self.arguments.collector.follow.recv_buffer_bytes;
        let groups = groups(&received_events(self.arguments)).collect::<Vec<_>>();
        let opened = session::open(builder, namespace, bytes, groups)?;
        for warning in self.warnings.drain(..) {
            console.warn(warning);
        }
        Ok(opened)
    }

    fn handler(
        &self,
        socket: SocketId,
        _namespace: Option<&Namespace>,
        count: usize,
    ) -> Result<FlowHandler, Failure> {
        let format = Rc::clone(&self.format);
        FlowHandler::new(self.arguments, self.selection, format, socket, count)
    }

    fn complete(&self, summary: &mut Summary) {
        if summary.dropped > 0 {
            let listeners = NetlinkSockets::read();
            summary.reliable_others = listeners.reliable_conntrack_listeners();
        }
    }
}

/// A socket for the events.
fn builder(arguments: &ConntrackArguments) -> SocketBuilder {
    Socket::builder(Protocol::NETFILTER).reliable(arguments.reliable)
}

/// What the kernel evaluates of a dump.
fn of_dumps(arguments: &ConntrackArguments, filter: &Filter) -> Result<DumpFilter, Failure> {
    let table = &arguments.collector.table;
    if table.once || !table.has_mirror() {
        return Ok(filter.dump_filter());
    }
    let mirror = Mirror::with_filter(table.mirror_options(1), filter.clone())?;
    Ok(mirror.dump_filter())
}

fn format(arguments: &ConntrackArguments, console: &mut Console) -> FlowFormat {
    if arguments.collector.follow.json {
        // Most hosts have no such file. Labels are then shown as numbers.
        return FlowFormat::Json(LabelNames::load().unwrap_or_default());
    }
    let mut options = text_options(&arguments.fields);
    if arguments.fields.contains(&ConntrackField::Labels) {
        match LabelNames::load() {
            Ok(names) => options.labels = Some(names),
            Err(reason) => console.warn(format_args!("labels are not shown: {reason}")),
        }
    }
    FlowFormat::Text(options)
}

/// The options of text, without the names of labels.
fn text_options(fields: &[ConntrackField]) -> TextOptions {
    let has = |field| fields.contains(&field);
    TextOptions {
        timestamp: has(ConntrackField::Timestamp),
        extended: has(ConntrackField::Extended),
        id: has(ConntrackField::Id),
        ktimestamp: has(ConntrackField::Ktimestamp).then(LocalTime::system),
        labels: None,
    }
}

/// The events to receive. A mirror needs all events of flows, even if only some are shown.
fn received_events(arguments: &ConntrackArguments) -> Vec<ConntrackEvent> {
    let mut events = arguments.events.clone();
    if arguments.collector.table.has_mirror() {
        events.push(ConntrackEvent::All);
    }
    events
}

/// The groups of these events. As in conntrack, `all` does not include expectations.
fn groups(events: &[ConntrackEvent]) -> impl Iterator<Item = Group> {
    use ConntrackEvent::{All, Destroy, Expect, New, Update};
    [
        (Group::New, [New, All]),
        (Group::Update, [Update, All]),
        (Group::Destroy, [Destroy, All]),
        (Group::ExpectNew, [Expect; 2]),
        (Group::ExpectDestroy, [Expect; 2]),
    ]
    .into_iter()
    .filter(|(_, wanted)| wanted.iter().any(|event| events.contains(event)))
    .map(|(group, _)| group)
}

/// Whether the events say when a flow begins.
fn receives_new(events: &[ConntrackEvent]) -> bool {
    groups(events).any(|group| group == Group::New)
}

/// Writes flows and expectations.
#[derive(Default)]
pub struct FlowHandler {
    format: Rc<FlowFormat>,
    /// What the kernel cannot evaluate. A mirror has the whole filter.
    filter: Option<Filter>,
    /// With --reliable. A mirror leaves out repeated ends itself.
    repeated_ends: Option<RepeatedEnds>,
    mirror: Option<FlowMirror>,
    sampling: Option<FlowSampling>,
}

impl FlowHandler {
    /// Handles one of `count` sockets.
    fn new(
        arguments: &ConntrackArguments,
        selection: &Selection,
        format: Rc<FlowFormat>,
        socket: SocketId,
        count: usize,
    ) -> Result<Self, Failure> {
        let has_mirror = arguments.collector.table.has_mirror();
        let sampling = FlowSampling::new(arguments, selection, socket, format.style())?;
        let mirror = || {
            let filter = selection.filter.clone();
            FlowMirror::new(arguments, filter, socket, count)
        };
        Ok(Self {
            format,
            filter: selection.left().cloned(),
            repeated_ends: (arguments.reliable && !has_mirror)
                .then(|| RepeatedEnds::new(receives_new(&arguments.events))),
            mirror: has_mirror.then(mirror).transpose()?,
            sampling,
        })
    }
}

impl Handler for FlowHandler {
    fn handle(&mut self, incoming: &Incoming<'_>, output: &mut Output) {
        let received_at = incoming.received_at;
        if let Some(sampling) = &mut self.sampling {
            sampling.feed(&incoming.message, output);
        }
        if let Some(mirror) = &mut self.mirror {
            mirror.feed(&incoming.message, &self.format, output);
        } else if let Some(flow) = &Flow::decode(&incoming.message)
            && self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.matches(flow))
        {
            let is_repeated = match &mut self.repeated_ends {
                Some(repeated_ends) => repeated_ends.leaves_out(flow),
                None => false,
            };
            if !is_repeated {
                output.event(|out| {
                    self.format.write_event(out, flow, received_at);
                    true
                });
            }
        }
        if let Some(expectation) = &Expectation::decode(&incoming.message) {
            output.event(|out| {
                self.format.write_expectation(out, expectation, received_at);
                true
            });
        }
    }

    fn style(&self) -> Style {
        self.format.style()
    }

    fn note_missing(&mut self, missing: &Missing) {
        if let Some(mirror) = &mut self.mirror {
            mirror.note_missing(missing);
        }
        if let Some(sampling) = &mut self.sampling {
            sampling.note_missing(missing);
        }
    }

    fn after_turn(&mut self, running: &Running, output: &mut Output, console: &mut Console) {
        if let Some(mirror) = &mut self.mirror {
            mirror.after_turn(running, &self.format, output, console);
        }
        if let Some(sampling) = &mut self.sampling {
            sampling.after_turn(running, output, console);
        }
    }

    fn finish(&mut self, stop: &StopHandle, output: &mut Output, console: &mut Console) {
        if let Some(mirror) = &mut self.mirror {
            mirror.finish(stop, &self.format, output, console);
        }
        if let Some(sampling) = &mut self.sampling {
            sampling.finish(output);
        }
    }

    fn due(&self) -> Option<Instant> {
        let of_mirror = self.mirror.as_ref().and_then(FlowMirror::due);
        let of_sampling = self.sampling.as_ref().and_then(FlowSampling::due);
        [of_mirror, of_sampling].into_iter().flatten().min()
    }

    fn has_table(&self) -> bool {
        self.mirror.as_ref().is_some_and(FlowMirror::is_complete)
    }

    fn write_table(&self, table: &mut Writing) -> io::Result<bool> {
        match &self.mirror {
            Some(mirror) => mirror.write_table(table),
            None => Ok(true),
        }
    }

    fn add_to(&self, summary: &mut Summary) {
        if let Some(repeated_ends) = &self.repeated_ends {
            summary.repeated += repeated_ends.left_out_count();
        }
        if let Some(mirror) = &self.mirror {
            mirror.add_to(summary);
        }
        if let Some(sampling) = &self.sampling {
            sampling.add_to(summary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_is_joined_once() {
        use ConntrackEvent::{All, Destroy, Expect, New};
        assert_eq!(
            groups(&[Destroy, New, New]).collect::<Vec<_>>(),
            [Group::New, Group::Destroy]
        );
        assert_eq!(groups(&[New, All]).count(), 3);
        assert_eq!(
            groups(&[Expect]).collect::<Vec<_>>(),
            [Group::ExpectNew, Group::ExpectDestroy]
        );
    }
}
