//! Ends an engine, with or without delivery. Either way every datagram is counted.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use super::control::Control;
use super::delivery::Delivery;
use super::entry::{Entry, State};
use super::event::{Event, Turn};
use super::loss::Statistics;
use super::reclaimed::Reclaimed;
use super::retry::PAUSE;
use super::running::Running;
use super::wait::Plan;
use crate::error::{Error, ErrorKind, Result};
use crate::socket::Socket;
use crate::sys::socket as sys;

/// How long [`Running::finish`] may deliver queued datagrams.
const FINISH_DEADLINE: Duration = Duration::from_secs(1);
/// How long to wait for cancelled receives to end. Normally they end at once.
const QUIESCE_DEADLINE: Duration = Duration::from_secs(1);
/// How long to count datagrams that are not delivered.
const DISCARD_DEADLINE: Duration = Duration::from_millis(500);

/// The pause after a failed attempt to count.
const COUNT_PAUSE: Duration = Duration::from_millis(1);

/// What [`Running::finish`] returns: how the engine ended, and its sockets.
///
/// ```
/// use std::ops::ControlFlow;
/// use nlring::{Engine, Protocol, Socket};
///
/// let mut engine = Engine::builder().build()?;
/// engine.add(Socket::open(Protocol::USERSOCK)?)?;
/// let finished = engine.start()?.finish(|_event, _control| ControlFlow::<()>::Continue(()));
/// assert_eq!(finished.outcome?, None, "the callback did not break off");
/// assert!(finished.failure.is_none());
/// assert_eq!(finished.sockets.len(), 1);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "its outcome may be an error"]
pub struct Finished<B> {
    /// `Some`: the callback broke with this value; the remaining datagrams are counted as unread. `None`: it did not
    /// break. An error: the backend failed.
    pub outcome: Result<Option<B>>,
    /// The backend's failure, if the callback also broke. The outcome is then the callback's value.
    pub failure: Option<Error>,
    /// All sockets, which have left their groups.
    pub sockets: Vec<Reclaimed>,
}

impl<B> Finished<B> {
    /// What became of the datagrams of all sockets together.
    pub fn statistics(&self) -> Statistics {
        let sockets = self.sockets.iter();
        sockets.map(|socket| socket.statistics).sum()
    }
}

impl Running {
    /// Ends the engine with delivery: leaves all groups, delivers what is queued for at most a second, then reads the
    /// drop counters. Datagrams that are left after that, or after a break, are counted as unread. Returns the sockets.
    ///
    /// In a fork of the process that built the engine the outcome is an error, and the sockets are returned as by
    /// [`discard`](Self::discard).
    pub fn finish<B>(
        mut self,
        mut f: impl FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
    ) -> Finished<B> {
        let outcome = self.end(&mut f);
        let late_failure = self.late_failure.take();
        let (outcome, failure) = match outcome {
            // The backend failed. What was received and counted before is still reported.
            Err(error) if error.kind() != ErrorKind::Forked => match self.deliver_rest(&mut f) {
                Some(value) => (Ok(Some(value)), Some(error)),
                None => (Err(error), late_failure),
            },
            outcome => (outcome, late_failure),
        };
        Finished {
            outcome,
            failure,
            sockets: self.discard(),
        }
    }

    /// Ends the engine without delivery: leaves all groups, and counts what is queued as unread. Returns the sockets.
    ///
    /// In a fork of the process that built the engine this only returns the sockets, still in their groups and with
    /// their queues. Use them only if the parent no longer does, because the parent's engine still receives from them.
    pub fn discard(mut self) -> Vec<Reclaimed> {
        if self.stop.require_home("end the engine").is_ok() {
            self.leave_and_count();
        }
        drop(self.receive); // its receives end before the sockets are closed
        self.sockets.into_entries().map(Reclaimed::from).collect()
    }

    /// Leaves all groups, ends the receives and counts what is queued as unread.
    fn leave_and_count(&mut self) {
        self.leave_groups();
        self.quiesce();
        let deadline = Instant::now() + DISCARD_DEADLINE;
        for entry in self.sockets.iter_mut() {
            entry.statistics.unread_is_incomplete |= !self.receive.is_quiet(entry.id.slot);
            count_unread(entry, deadline);
        }
        self.sockets.read_drops(|_| true);
    }

    /// Leaves all groups, and delivers until the queues are empty or the deadline has passed.
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
            let timeout = if self.sockets.pause_owed {
                PAUSE
            } else {
                Duration::ZERO
            };
            match self.turn(Some(timeout), &mut until_deadline)? {
                Turn::Break(None) => break,
                Turn::Break(value) => return Ok(value),
                Turn::Idle if !self.is_queued() => break,
                Turn::Idle | Turn::Delivered | Turn::Stopped => {}
            }
        }
        self.delivery.discard(&mut self.sockets); // nothing, unless the deadline has passed
        Ok(self.deliver_rest(f))
    }

    /// Delivers the datagrams in hand, the last readings of the drop counters, and other pending events.
    fn deliver_rest<B, F>(&mut self, f: &mut F) -> Option<B>
    where
        F: FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
    {
        self.sockets.read_drops(|_| true);
        match self.deliver(f) {
            Turn::Break(value) => Some(value),
            _ => None,
        }
    }

    /// Takes all sockets out of their groups: from here on nothing is multicast to them.
    fn leave_groups(&mut self) {
        for entry in self.sockets.iter_mut() {
            if let Err(error) = leave_groups(&entry.socket) {
                // Datagrams may arrive while the queue is being counted, and later.
                entry.statistics.unread_is_incomplete = true;
                entry.pending.failed.get_or_insert(error);
            }
        }
    }

    /// Whether a socket with a receive has queued datagrams. Records an error of the socket, because the kernel reports
    /// it only once, here or to a receive.
    fn is_queued(&mut self) -> bool {
        let is_receiving =
            |entry: &&mut Entry| matches!(entry.state, State::Armed | State::Unarmed);
        let mut is_queued = false;
        for entry in self.sockets.iter_mut().filter(is_receiving) {
            match sys::has_queued(entry.socket.as_fd()) {
                Ok(has_queued) => is_queued |= has_queued,
                Err(error) => {
                    is_queued = true;
                    note_error(entry, error);
                }
            }
        }
        self.sockets.has_pending |= is_queued;
        is_queued
    }

    /// Ends all receives. Datagrams that they still return are counted as unread.
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
            if self.receive.wait(PLAN).is_err() {
                thread::sleep(PAUSE);
            }
            let Delivery { taken, room, .. } = &mut self.delivery;
            self.receive.drain(&mut self.sockets, taken, *room);
        }
    }
}

fn leave_groups(socket: &Socket) -> Result<()> {
    for group in socket.groups()? {
        socket.drop_membership(group)?;
    }
    Ok(())
}

/// Empties a socket's queue and counts the datagrams as unread. The queue is empty at `EAGAIN`; any other error may
/// occur earlier.
fn count_unread(entry: &mut Entry, deadline: Instant) {
    loop {
        match sys::discard(entry.socket.as_fd()) {
            Ok(taken_count) => entry.statistics.unread += taken_count as u64,
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return,
            Err(error) => {
                note_error(entry, error);
                thread::sleep(COUNT_PAUSE);
            }
        }
        if Instant::now() >= deadline {
            entry.statistics.unread_is_incomplete = true;
            return;
        }
    }
}

/// Records an error of a receive that only looked or counted. Ignores a signal, and an overrun, which the drop counter
/// includes.
fn note_error(entry: &mut Entry, error: io::Error) {
    if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOBUFS)) {
        entry.note_retried(Error::failed_call("receive from a netlink socket", error));
    }
}
