//! Turns the engine's events into lines of the output: messages, and gaps at their place among them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use nlring::{Event, MessageList, Missing, Notice, Reclaimed, Running, SocketId, Timestamp};
use nlring_print::Gap;

use super::gaps::Gaps;
use super::growth::Growth;
use super::handler::{Handler, Incoming, SocketChanges};
use super::retries::Retries;
use crate::host::signals::StopRequests;
use crate::outcome::{End, Failure};
use crate::write::console::Console;
use crate::write::output::{Broken, Output};

/// Feeds the engine's events to a command's handler.
pub struct Intake<'a, H> {
    pub output: &'a mut Output,
    pub handler: &'a mut H,
    /// The sockets that the summary counts and whose gaps have lines.
    pub counted: BTreeSet<SocketId>,
    pub requests: StopRequests,
    pub growth: Growth,
    /// How many messages were not shown as events.
    pub not_shown_count: u64,
    pub retries: Retries,
    pub gaps: Gaps,
}

impl<H: Handler> Intake<'_, H> {
    /// Handles an event completely, even if the run ends in the middle: the engine counts the whole list as received,
    /// so each of its messages must be counted as written, as not written or as not shown.
    pub fn feed(&mut self, event: Event<'_>) -> ControlFlow<Result<End, Failure>> {
        let (Event::Messages(socket, _) | Event::Lost(socket, _) | Event::Notice(socket, _)) =
            event;
        self.handler.select(socket, self.output);
        self.growth.note(&event);
        self.retries.note(&event);
        self.write_gap(socket, &event);
        match event {
            Event::Messages(socket, list) => self.handle(socket, &list),
            Event::Notice(_, Notice::Failed(error)) => {
                return ControlFlow::Break(Err(error.into()));
            }
            Event::Lost(..) | Event::Notice(..) => {} // the statistics count them
        }
        if self.requests.stop_at_once() {
            return ControlFlow::Break(Ok(End::AtOnce));
        }
        if self.output.is_over() {
            return ControlFlow::Break(self.output_is_over());
        }
        ControlFlow::Continue(())
    }

    fn handle(&mut self, socket: SocketId, list: &MessageList<'_>) {
        let received_at = list.received_at().unwrap_or(Timestamp::UNIX_EPOCH);
        let is_counted = self.counted.contains(&socket);
        for message in list {
            let before = self.output.event_count();
            let incoming = Incoming {
                socket,
                message,
                received_at,
            };
            self.handler.handle(&incoming, self.output);
            if is_counted && self.output.event_count() == before {
                self.not_shown_count += 1;
            }
        }
    }

    /// Writes the line of a gap, if the event reports one.
    fn write_gap(&mut self, socket: SocketId, event: &Event<'_>) {
        let (Some(missing), Some(gap)) = (event.missing(), Gap::of(event)) else {
            return;
        };
        self.gaps.note(socket, &gap);
        self.handler.note_missing(&missing);
        let style = self.handler.style();
        self.output.record(|out| style.write_gap(out, &gap));
    }

    /// Writes the gaps of sockets at their end that have no line yet.
    pub fn write_gaps_left(&mut self, sockets: &[Reclaimed]) {
        let style = self.handler.style();
        for ended in sockets {
            if !self.counted.contains(&ended.id) {
                continue;
            }
            self.handler.select(ended.id, self.output);
            for gap in self.gaps.left(ended.id, &ended.statistics) {
                self.handler.note_missing(&Missing::Unreadable);
                self.output.record_at_end(|out| style.write_gap(out, &gap));
            }
        }
    }

    /// Lets the handler change which sockets there are.
    pub fn update_sockets(&mut self, running: &mut Running, console: &mut Console) {
        let SocketChanges { added, ended } =
            self.handler.update_sockets(running, self.output, console);
        self.counted.extend(added);
        self.write_gaps_left(&ended);
        for ended in ended {
            self.counted.remove(&ended.id);
        }
    }

    /// What ends the run when the output accepts no more events.
    pub fn output_is_over(&mut self) -> Result<End, Failure> {
        match self.output.write_out() {
            Err(broken) => end_of_output(self.output, &broken),
            Ok(()) => Ok(End::Counted),
        }
    }
}

/// What ends the run when a write has failed.
pub fn end_of_output(output: &Output, broken: &Broken) -> Result<End, Failure> {
    match broken {
        Broken::AtOnce => Ok(End::AtOnce),
        broken if output.is_good_end(broken) => Ok(End::Closed),
        broken => Err(output.failure(broken)),
    }
}
