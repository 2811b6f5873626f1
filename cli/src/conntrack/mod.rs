//! `nlring conntrack`: one socket in conntrack's groups.

mod list;
mod mirror;
mod unheard;

use std::time::Instant;

use nlring::conntrack::{Expectation, Flow, Group, Repeats};
use nlring::{Missing, Protocol, Running, Socket, StopHandle};
use nlring_print::conntrack::{FlowFormat, LabelNames, TextOptions};
use nlring_print::{Gap, LocalTime};

use crate::args::{AuditInterval, ConntrackArguments, ConntrackEvent, ConntrackField};
use crate::follow::collect::{Incoming, Limits, Lines};
use crate::follow::session;
use crate::follow::summary::Summary;
use crate::host::listeners::NetlinkSockets;
use crate::outcome::{Failure, Outcome};
use crate::write::console::Console;
use crate::write::output::Output;
use mirror::FlowMirror;

pub fn run(arguments: &ConntrackArguments, console: &mut Console) -> Outcome {
    let collector = &arguments.collector;
    if collector.table.once {
        return list::run(arguments, console);
    }
    session::run(&collector.common, console, |session| {
        session.let_recv_buffer_grow(collector)?;
        let mut engine = session.engine()?;
        let unheard = unheard_warning(arguments);
        let socket = session.listen(
            &Socket::builder(Protocol::NETFILTER).reliable(arguments.reliable),
            collector.recv_buffer_bytes,
            groups(&heard(arguments)),
        )?;
        if let Some(warning) = unheard {
            session.console.warn(warning);
        }
        let flows = engine.add(socket)?;
        let mut lines = FlowLines {
            format: format(arguments, session.console),
            twice: (arguments.reliable && !collector.table.has_mirror())
                .then(|| Twice::of(&arguments.events)),
            mirror: (collector
                .table
                .has_mirror()
                .then(|| FlowMirror::open(arguments, flows, session)))
            .transpose()?,
        };
        let limits = Limits {
            count: collector.count,
            duration: collector.duration,
        };
        let end = session.collect(engine, &[flows], limits, &mut lines);
        if session.summary.dropped > 0 {
            let listeners = NetlinkSockets::read();
            session.summary.reliable_others = listeners.reliable_conntrack_listeners();
        }
        if let Some(mirror) = lines.mirror {
            let table = mirror.end(session);
            session.further_failures.extend(table.err());
        }
        end
    })
}

/// What flows will not report, if flows are to be shown.
fn unheard_warning(arguments: &ConntrackArguments) -> Option<String> {
    let shows_flows = |event: &ConntrackEvent| *event != ConntrackEvent::Expect;
    let table = &arguments.collector.table;
    let audits = table.has_mirror() && table.audit_interval != AuditInterval::Off;
    let mut shown = heard(arguments).into_iter();
    shown
        .any(|event| shows_flows(&event))
        .then(|| unheard::warning(audits))?
}

fn format(arguments: &ConntrackArguments, console: &mut Console) -> FlowFormat {
    if arguments.collector.json {
        // Without the file, which is the rule, labels have numbers.
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

/// The labels' names have to be given beside.
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

/// A mirror needs all events of flows, whichever are shown.
fn heard(arguments: &ConntrackArguments) -> Vec<ConntrackEvent> {
    let mut events = arguments.events.clone();
    if arguments.collector.table.has_mirror() {
        events.push(ConntrackEvent::All);
    }
    events
}

/// `all` is all of flows, as conntrack has it.
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

/// Flows and expectations, as lines.
#[derive(Default)]
pub struct FlowLines {
    format: FlowFormat,
    /// With --reliable, and no mirror, which knows by itself.
    twice: Option<Twice>,
    mirror: Option<FlowMirror>,
}

/// Ends that the kernel tells twice or more, since another reliable socket missed them.
struct Twice {
    repeats: Repeats,
    /// The beginning of flows is followed.
    hears_new: bool,
    left_out_count: u64,
}

impl Twice {
    fn of(events: &[ConntrackEvent]) -> Self {
        Self {
            repeats: Repeats::default(),
            hears_new: groups(events).any(|group| group == Group::New),
            left_out_count: 0,
        }
    }

    fn leaves_out(&mut self, flow: &Flow<'_>) -> bool {
        // Otherwise the end of another flow, between the same ends, could look the same.
        let can_tell = self.hears_new || flow.stop.is_some();
        let is_repeated = can_tell && self.repeats.is_repeated(flow);
        self.left_out_count += u64::from(is_repeated);
        is_repeated
    }
}

impl Lines for FlowLines {
    fn write(&mut self, incoming: &Incoming<'_>, output: &mut Output) {
        let received_ns = incoming.received_ns;
        if let Some(mirror) = &mut self.mirror {
            mirror.take(&incoming.message, received_ns, &self.format, output);
        } else if let Some(flow) = &Flow::decode(&incoming.message) {
            let is_repeated = match &mut self.twice {
                Some(twice) => twice.leaves_out(flow),
                None => false,
            };
            if !is_repeated {
                output.event(|out| {
                    self.format.write_event(out, flow, received_ns);
                    true
                });
            }
        }
        if let Some(expectation) = &Expectation::decode(&incoming.message) {
            output.event(|out| {
                self.format.write_expectation(out, expectation, received_ns);
                true
            });
        }
    }

    fn write_gap(&mut self, gap: &Gap<'_>, out: &mut Vec<u8>) {
        self.format.style().write_gap(out, gap);
    }

    fn note_missing(&mut self, missing: &Missing) {
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
        if let Some(mirror) = &mut self.mirror {
            mirror.after_turn(running, &self.format, output, console);
        }
        Ok(())
    }

    fn finish(&mut self, stop: &StopHandle, output: &mut Output, console: &mut Console) {
        if let Some(mirror) = &mut self.mirror {
            mirror.finish(stop, &self.format, output, console);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.mirror.as_ref()?.due()
    }

    fn report(&mut self, console: &mut Console) {
        let written = self.mirror.as_mut().map_or(Ok(()), FlowMirror::write_table);
        if let Err(failure) = written {
            console.warn(failure);
        }
    }

    fn is_reporting(&self) -> bool {
        let mirror = self.mirror.as_ref();
        mirror.is_some_and(FlowMirror::is_writing_table)
    }

    fn add_to(&self, summary: &mut Summary) {
        if let Some(twice) = &self.twice {
            summary.repeated += twice.left_out_count;
        }
        if let Some(mirror) = &self.mirror {
            mirror.add_to(summary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_name_groups_once() {
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
