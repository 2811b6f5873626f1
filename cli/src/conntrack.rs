//! `nlring conntrack`: one socket in conntrack's groups.

use std::process::ExitCode;

use nlring::conntrack::{Flow, Group};
use nlring::{Message, Protocol, SocketId};

use crate::args::{ConntrackArguments, ConntrackEvent, Field};
use crate::collect::{Limits, Lines};
use crate::conntrack_text::{TextOptions, write_line};
use crate::session;

pub fn run(arguments: &ConntrackArguments) -> ExitCode {
    let collector = &arguments.collector;
    session::run(&collector.common, |session| {
        let mut engine = session.engine()?;
        let socket = session.socket(
            Protocol::NETFILTER,
            collector.recv_buffer_bytes,
            groups(&arguments.events),
        )?;
        let flows = engine.add(socket)?;
        let mut lines = FlowLines {
            options: TextOptions {
                id: arguments.fields.contains(&Field::Id),
            },
        };
        let limits = Limits {
            count: collector.count,
            duration: collector.duration,
        };
        session.collect(engine, &[flows], limits, &mut lines)
    })
}

fn groups(events: &[ConntrackEvent]) -> impl Iterator<Item = Group> {
    let wanted = |event| events.contains(&event) || events.contains(&ConntrackEvent::All);
    [
        (ConntrackEvent::New, Group::New),
        (ConntrackEvent::Update, Group::Update),
        (ConntrackEvent::Destroy, Group::Destroy),
    ]
    .into_iter()
    .filter_map(move |(event, group)| wanted(event).then_some(group))
}

/// Flows, as lines.
#[derive(Default)]
pub struct FlowLines {
    pub options: TextOptions,
}

impl Lines for FlowLines {
    fn write(&mut self, _socket: SocketId, message: &Message<'_>, out: &mut Vec<u8>) -> bool {
        let flow = Flow::decode(message);
        if let Some(flow) = &flow {
            write_line(out, flow, self.options);
        }
        flow.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_name_groups_once() {
        use ConntrackEvent::{All, Destroy, New};
        assert_eq!(
            groups(&[Destroy, New, New]).collect::<Vec<_>>(),
            [Group::New, Group::Destroy]
        );
        assert_eq!(groups(&[New, All]).count(), 3);
    }
}
