//! `nlring conntrack`: one socket in conntrack's groups.

use std::process::ExitCode;

use nlring::conntrack::{Expectation, Flow, Group, Repeats};
use nlring::{Protocol, Socket};

use crate::args::{ConntrackArguments, ConntrackEvent, Field};
use crate::collect::{Incoming, Limits, Lines};
use crate::conntrack_json::{write_expectation, write_flow};
use crate::conntrack_text::{TextOptions, write_line};
use crate::console::Console;
use crate::expectation_text;
use crate::gap::{self, Gap};
use crate::label_names::LabelNames;
use crate::session;

pub fn run(arguments: &ConntrackArguments) -> ExitCode {
    let collector = &arguments.collector;
    session::run(&collector.common, |session| {
        session.let_recv_buffer_grow(collector)?;
        let mut engine = session.engine()?;
        let socket = session.listen(
            &Socket::builder(Protocol::NETFILTER).reliable(arguments.reliable),
            collector.recv_buffer_bytes,
            groups(&arguments.events),
        )?;
        let flows = engine.add(socket)?;
        let mut lines = FlowLines {
            format: format(arguments, session.console),
            twice: arguments.reliable.then(|| Twice::of(&arguments.events)),
        };
        let limits = Limits {
            count: collector.count,
            duration: collector.duration,
        };
        let end = session.collect(engine, &[flows], limits, &mut lines);
        session.summary.repeated = lines.twice.map_or(0, |twice| twice.left_out_count);
        end
    })
}

fn format(arguments: &ConntrackArguments, console: &mut Console) -> FlowFormat {
    if arguments.collector.json {
        // Without the file, which is the rule, labels have numbers.
        return FlowFormat::Json(LabelNames::load().unwrap_or_default());
    }
    let mut options = TextOptions::of(&arguments.fields);
    if arguments.fields.contains(&Field::Labels) {
        match LabelNames::load() {
            Ok(names) => options.labels = Some(names),
            Err(reason) => console.warn(format_args!("labels are not shown: {reason}")),
        }
    }
    FlowFormat::Text(options)
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
    /// With --reliable.
    twice: Option<Twice>,
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
        let can_tell = self.hears_new || flow.stop_ns.is_some();
        let is_repeated = can_tell && self.repeats.is_repeated(flow);
        self.left_out_count += u64::from(is_repeated);
        is_repeated
    }
}

enum FlowFormat {
    /// As conntrack prints them.
    Text(TextOptions),
    /// With these names of labels.
    Json(LabelNames),
}

impl Default for FlowFormat {
    fn default() -> Self {
        Self::Text(TextOptions::default())
    }
}

impl Lines for FlowLines {
    fn write(&mut self, incoming: &Incoming<'_>, out: &mut Vec<u8>) -> bool {
        let received_ns = incoming.received_ns;
        if let Some(flow) = &Flow::decode(&incoming.message) {
            if self
                .twice
                .as_mut()
                .is_some_and(|twice| twice.leaves_out(flow))
            {
                return false;
            }
            match &self.format {
                FlowFormat::Text(options) => write_line(out, flow, options, received_ns),
                FlowFormat::Json(labels) => write_flow(out, flow, labels, received_ns),
            }
        } else if let Some(expectation) = &Expectation::decode(&incoming.message) {
            match &self.format {
                FlowFormat::Text(options) => {
                    expectation_text::write_line(out, expectation, options, received_ns);
                }
                FlowFormat::Json(_) => write_expectation(out, expectation, received_ns),
            }
        } else {
            return false;
        }
        true
    }

    fn write_gap(&mut self, gap: Gap, out: &mut Vec<u8>) {
        match self.format {
            FlowFormat::Text(_) => gap::write_text(out, gap),
            FlowFormat::Json(_) => gap::write_json(out, gap),
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
