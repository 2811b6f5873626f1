//! How a [`Requester`] receives replies: by the rules of libmnl's `mnl_cb_run`, and within its time limit.

use std::ops::Range;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::exchange::{Exchange, Verdict, entry_too_large, unexpected};
use super::{Requester, TIMEOUT};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, Messages, align};
use crate::socket::{RecvFlags, Socket, truncated};
use crate::sys::event::{Readable, wait_readable};

/// A dump fails after this many empty datagrams in a row. A single one can occur when the kernel is short of memory: it
/// tries a smaller buffer, and a larger one the next time.
const EMPTY_DATAGRAMS: u32 = 16;
const WAIT: &str = "wait for the kernel's reply";

/// How to wait for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Wait until it arrives, the time-out has passed, or a stop is requested.
    Wait,
    /// Do not wait. Look through the datagrams in the receive queue until this time, but at least through one.
    Look(Instant),
}

/// The result of one receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Messages from the kernel, in [`Requester::left`].
    Replies,
    /// An empty datagram from the kernel.
    Empty,
    /// A datagram to skip, or a signal.
    Other,
    /// The receive queue was empty.
    Nothing,
}

/// A [`Patience`] that has started.
#[derive(Clone, Copy, Debug)]
enum Deadline {
    /// None means no limit.
    Wait(Option<Instant>),
    Look(Instant),
}

impl Deadline {
    fn of(patience: Patience, timeout: Duration) -> Self {
        match patience {
            Patience::Wait => Self::Wait(Instant::now().checked_add(timeout)),
            Patience::Look(until) => Self::Look(until),
        }
    }
}

impl Requester {
    /// Skips the unread replies to the last request. While a dump runs, the kernel refuses another one on the same
    /// socket (`EBUSY`, net/netlink/af_netlink.c, `__netlink_dump_start`).
    ///
    /// The kernel answers and continues a dump before a system call of this socket returns, so there is no need to
    /// wait.
    pub(super) fn finish_last(&mut self) {
        let Some(mut exchange) = self.unfinished.take() else {
            return;
        };
        while !exchange.is_done && !self.is_stuck && self.check_stop().is_ok() {
            match self.step(&mut exchange, Patience::Look(Instant::now() + TIMEOUT)) {
                Ok(_) => {}
                Err(error) if is_about_replies(&error) => {}
                // There are no more replies, or the next request reports the error.
                Err(_) => break,
            }
        }
    }

    /// The next data message of an exchange. None at its end. A refusal is an error.
    pub(crate) fn next(
        &mut self,
        exchange: &mut Exchange,
        patience: Patience,
    ) -> Result<Option<Message<'_>>> {
        match self.step(exchange, patience)? {
            Some((_, reply)) => Ok(self.message_at(reply?)),
            None => Ok(None),
        }
    }

    pub(super) fn message_at(&self, range: Range<usize>) -> Option<Message<'_>> {
        Messages::new(self.replies.get(range)?).next()
    }

    /// The next reply: the place of a data message, or a refusal, and the index of its request. None at the end.
    pub(super) fn step(
        &mut self,
        exchange: &mut Exchange,
        patience: Patience,
    ) -> Result<Option<(usize, Result<Range<usize>>)>> {
        let mut deadline = None;
        while !exchange.is_done {
            let left = self.left.clone();
            if left.is_empty() {
                self.receive_for(exchange, patience, &mut deadline)?;
                continue;
            }
            let Some(message) = Messages::new(&self.replies[left.clone()]).next() else {
                self.left = 0..0;
                return Err(unexpected("a reply is malformed"));
            };
            let end = left.end.min(left.start + align(message.bytes().len()));
            self.left.start = end;
            let index = exchange.index_of(message.sequence()).unwrap_or(0);
            let verdict = exchange.judge(&message, self.port_id)?;
            if exchange.is_done {
                self.unfinished = None;
            }
            match verdict {
                Verdict::Data => return Ok(Some((index, Ok(left.start..end)))),
                Verdict::Refused(error) => return Ok(Some((index, Err(error)))),
                Verdict::Pass => {}
            }
        }
        Ok(None)
    }

    /// Receives the kernel's next datagram for an exchange. `deadline` is None at the first of several calls.
    ///
    /// The deadline is checked after each datagram without a reply, so a stream of such datagrams does not prolong the
    /// wait. A stop is checked before each datagram, so it ends a long dump too.
    fn receive_for(
        &mut self,
        exchange: &mut Exchange,
        patience: Patience,
        deadline: &mut Option<Deadline>,
    ) -> Result<()> {
        self.check_stop()?;
        let deadline = match *deadline {
            Some(deadline) => {
                self.check(deadline)?;
                deadline
            }
            None => *deadline.insert(Deadline::of(patience, self.timeout)),
        };
        loop {
            match self.receive()? {
                Arrival::Replies => {
                    exchange.empty_count = 0;
                    return Ok(());
                }
                Arrival::Empty if exchange.is_dump => {
                    exchange.empty_count += 1;
                    if exchange.empty_count >= EMPTY_DATAGRAMS {
                        self.is_stuck = true;
                        return Err(entry_too_large());
                    }
                }
                Arrival::Empty | Arrival::Other => {}
                Arrival::Nothing => {
                    self.check(deadline)?;
                    self.wait(deadline)?;
                    continue;
                }
            }
            self.check(deadline)?;
        }
    }

    /// Receives a datagram, if one is in the queue.
    pub(super) fn receive(&mut self) -> Result<Arrival> {
        self.left = 0..0;
        let received = self.socket.receive(&mut self.replies, RecvFlags::DONT_WAIT);
        let received = match received {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Arrival::Nothing),
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => return Ok(Arrival::Other),
            Err(error) => return Err(error),
        };
        self.has_received = true;
        if received.sender_port_id != 0 {
            return Ok(Arrival::Other);
        }
        if received.real_bytes > self.replies.len() {
            // The datagram is gone. If the caller repeats the request, the reply fits.
            self.replies.resize(received.real_bytes, 0);
            return Err(truncated(&received));
        }
        self.left = 0..received.real_bytes;
        Ok(match received.real_bytes {
            0 => Arrival::Empty,
            _ => Arrival::Replies,
        })
    }

    /// Fails if a stop is requested or the deadline has passed.
    fn check(&self, deadline: Deadline) -> Result<()> {
        self.check_stop()?;
        match deadline {
            Deadline::Look(until) if Instant::now() >= until => Err(nothing_there()),
            Deadline::Wait(Some(until)) if Instant::now() >= until => {
                Err(Error::with_kind(WAIT, ErrorKind::TimedOut))
            }
            Deadline::Look(_) | Deadline::Wait(_) => Ok(()),
        }
    }

    pub(super) fn check_stop(&self) -> Result<()> {
        match &self.stop {
            Some(stop) if stop.is_stopped() => Err(Error::with_kind(WAIT, ErrorKind::Stopped)),
            _ => Ok(()),
        }
    }

    /// Waits for a datagram until the deadline or a stop. Fails at once if the caller only looks.
    fn wait(&self, deadline: Deadline) -> Result<()> {
        match deadline {
            Deadline::Look(_) => Err(nothing_there()),
            Deadline::Wait(until) => {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                self.wait_for(Some(&self.socket), left)
            }
        }
    }

    pub(super) fn pause(&self, pause: Duration) -> Result<()> {
        self.wait_for(None, Some(pause))?;
        self.check_stop()
    }

    /// Waits until the socket (if one is given) is readable, a stop is requested, the time has passed, or a signal
    /// arrives.
    fn wait_for(&self, socket: Option<&Socket>, timeout: Option<Duration>) -> Result<()> {
        let stop = self.stop.as_ref().map(|stop| Readable::new(stop.as_fd()));
        let socket = socket.map(|socket| Readable::new(socket.as_fd()));
        let mut descriptors: Vec<_> = socket.into_iter().chain(stop).collect();
        wait_readable(&mut descriptors, timeout).map_err(|error| Error::system(WAIT, error))
    }
}

fn nothing_there() -> Error {
    Error::with_kind(WAIT, ErrorKind::WouldBlock)
}

/// Whether an error concerns a single reply, so that more replies may come.
fn is_about_replies(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Overrun | ErrorKind::UnexpectedReply | ErrorKind::Truncated { .. }
    )
}
