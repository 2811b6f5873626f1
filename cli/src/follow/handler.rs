//! The interface between the loop that all commands share and what each command does with its messages.

use std::io;
use std::time::Instant;

use nlring::{Message, Missing, Reclaimed, Running, SocketId, StopHandle, Timestamp};
use nlring_print::Style;

use super::summary::Summary;
use super::table_file::Writing;
use crate::write::console::Console;
use crate::write::output::Output;

/// What a command does with the messages of its sockets. Only the first two methods are needed.
pub trait Handler {
    /// Passes the events of a message to the output: usually one, or none if it is not shown.
    fn handle(&mut self, incoming: &Incoming<'_>, output: &mut Output);

    /// The style of the lines, in which gaps are written among them.
    fn style(&self) -> Style;

    /// Everything handled and written from now on belongs to this socket.
    fn select(&mut self, _socket: SocketId, _output: &mut Output) {}

    /// Adds and removes sockets. It is called after each turn.
    fn update_sockets(
        &mut self,
        _running: &mut Running,
        _output: &mut Output,
        _console: &mut Console,
    ) -> SocketChanges {
        SocketChanges::default()
    }

    /// Records that a part of the stream is missing.
    fn note_missing(&mut self, _missing: &Missing) {}

    /// Does work that is too slow to be done for each event. It is called after each turn, when the turn's lines are
    /// written.
    fn after_turn(&mut self, _running: &Running, _output: &mut Output, _console: &mut Console) {}

    /// When that work is due if no event arrives earlier.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Whether there is a table of each mirror.
    fn has_table(&self) -> bool {
        false
    }

    /// Writes entries of the mirrors' tables, from where it ended until the slice is over. True: all are written.
    fn write_table(&self, _table: &mut Writing) -> io::Result<bool> {
        Ok(true)
    }

    /// Passes what is held back after the last event to the output. `stop` ends every wait for the kernel.
    fn finish(&mut self, _stop: &StopHandle, _output: &mut Output, _console: &mut Console) {}

    /// Adds the counts that only the handler knows.
    fn add_to(&self, _summary: &mut Summary) {}
}

/// Sockets that a handler has added, and sockets that it has removed and reclaimed.
#[derive(Debug, Default)]
pub struct SocketChanges {
    pub added: Vec<SocketId>,
    pub ended: Vec<Reclaimed>,
}

/// A message, the socket that received it, and when.
pub struct Incoming<'a> {
    pub socket: SocketId,
    pub message: Message<'a>,
    /// When the engine read it from the socket: `CLOCK_REALTIME`, nanoseconds since 1970.
    pub received_at: Timestamp,
}
