//! The end of an engine: with delivery or without, everything is counted.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::event::{Event, Turn};
use super::running::Running;
use super::sockets::{Control, Ended, Entry, State};
use super::wait::Plan;
use crate::error::Result;
use crate::sys::socket as sys;

/// How long an ending may go on delivering what is queued.
const FINISH_DEADLINE: Duration = Duration::from_secs(1);
/// How long an ending may wait for its receives to end. They do at once.
const QUIESCE_DEADLINE: Duration = Duration::from_secs(1);
/// How long an ending may go on counting what is not delivered.
const DISCARD_DEADLINE: Duration = Duration::from_millis(500);

/// What is left of an engine that [`finish`](Running::finish)ed.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "its outcome may be an error"]
pub struct Finished<B> {
    /// Some: the callback broke off with this value, and what was left is counted as unread. An error: the backend failed.
    pub outcome: Result<Option<B>>,
    /// All sockets, out of their groups.
    pub sockets: Vec<Ended>,
}

impl Running {
    /// Ends with delivery: leaves all groups, delivers what is queued, for at most a second, and reads the drop counters
    /// last. What is left then, or after a break, is counted as unread. Gives the sockets back.
    ///
    /// In a fork of the process that built the engine the outcome is an error, and the sockets are as
    /// [`discard`](Self::discard) gives them back there.
    pub fn finish<B>(
        mut self,
        mut f: impl FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
    ) -> Finished<B> {
        let outcome = self.end(&mut f);
        Finished {
            outcome,
            sockets: self.discard(),
        }
    }

    /// Ends without delivery: leaves all groups, and counts what is queued as unread. Gives the sockets back.
    ///
    /// In a fork of the process that built the engine it only gives the sockets back, in their groups and with what is
    /// queued. The parent's engine goes on receiving from them: take them over only if it does not.
    pub fn discard(mut self) -> Vec<Ended> {
        if self.stop.require_home("end the engine").is_ok() {
            self.leave_and_count();
        }
        drop(self.receive); // before the sockets
        self.sockets.into_entries().map(Ended::from).collect()
    }

    /// Leaves all groups, ends the receives and counts what is queued.
    fn leave_and_count(&mut self) {
        self.leave_groups();
        self.quiesce();
        let deadline = Instant::now() + DISCARD_DEADLINE;
        for entry in self.sockets.iter_mut() {
            entry.statistics.unread += discard_queue(entry, deadline);
        }
        self.sockets.read_drops(|_| true);
    }

    /// Delivers until the queues are empty or the deadline has passed.
    pub(super) fn end<B, F>(&mut self, f: &mut F) -> Result<Option<B>>
    where
        F: FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
    {
        self.stop.require_home("end the engine")?;
        self.leave_groups();
        let deadline = Instant::now() + FINISH_DEADLINE;
        let mut until_deadline =
            |event: Event<'_>, control: &mut Control<'_>| match f(event, control) {
                ControlFlow::Break(value) => ControlFlow::Break(Some(value)),
                ControlFlow::Continue(()) if Instant::now() >= deadline => ControlFlow::Break(None),
                ControlFlow::Continue(()) => ControlFlow::Continue(()),
            };
        while Instant::now() < deadline {
            match self.turn(Some(Duration::ZERO), &mut until_deadline)? {
                Turn::Break(None) => break,
                Turn::Break(value) => return Ok(value),
                Turn::Idle if !self.is_queued() => break,
                Turn::Idle | Turn::Delivered | Turn::Stopped => {}
            }
        }
        self.delivery.discard(&mut self.sockets); // nothing, unless the deadline has passed
        self.sockets.read_drops(|_| true);
        match self.deliver(f) {
            Turn::Break(value) => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    /// From here on nothing is multicast into the sockets.
    fn leave_groups(&self) {
        for entry in self.sockets.iter() {
            for group in entry.socket.groups().unwrap_or_default() {
                let _ = entry.socket.drop_membership(group); // it is in the group, so this cannot fail
            }
        }
    }

    /// Whether a socket that is received from has datagrams in its queue.
    fn is_queued(&self) -> bool {
        let is_receiving = |entry: &&Entry| matches!(entry.state, State::Armed | State::Unarmed);
        self.sockets
            .iter()
            .filter(is_receiving)
            .any(|entry| sys::has_queued(entry.socket.as_fd()))
    }

    /// Ends all receives without delivery; what they bring is unread.
    fn quiesce(&mut self) {
        const PLAN: Plan = Plan {
            gather: Duration::ZERO,
            timeout: Some(Duration::from_millis(10)),
            alarm: None,
            spin: false,
            is_near: false,
        };
        let deadline = Instant::now() + QUIESCE_DEADLINE;
        self.delivery.recycle(self.receive.as_mut());
        loop {
            self.delivery.discard(&mut self.sockets);
            self.delivery.recycle(self.receive.as_mut());
            let is_quiet = |entry: &Entry| self.receive.is_quiet(entry.id.slot);
            if self.sockets.iter().all(is_quiet) || Instant::now() >= deadline {
                return;
            }
            for entry in self.sockets.iter() {
                let _ = self.receive.cancel(entry.id.slot, entry.socket.as_fd()); // tried again until the deadline
            }
            let _ = self.receive.wait(PLAN);
            self.receive
                .drain(&mut self.sockets, &mut self.delivery.taken);
        }
    }
}

/// Empties a socket's queue. Returns how many datagrams were in it.
fn discard_queue(entry: &Entry, deadline: Instant) -> u64 {
    let mut count = 0;
    while Instant::now() < deadline {
        match sys::discard(entry.socket.as_fd()) {
            Ok(taken) => count += taken as u64,
            // A signal, or an overrun that is told of once.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(_) => break, // EAGAIN: it is empty
        }
    }
    count
}
