//! The two backends on io_uring.
//!
//! `Multishot` has one receive per socket, which takes a buffer from the socket's buffer ring for each datagram.
//! `Oneshot` has a chain of single receives per socket. Only the first of a chain is armed, so they complete in order.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::completion::Facts;
use super::options::AddOptions;
use super::receive::{Receive, Taken};
use super::retry::persist;
use super::sockets::Sockets;
use super::stop::StopHandle;
use super::wait::{Plan, SPIN_SLICE, WAKE_COST};
use crate::error::{Error, Result};
use crate::message::{ERROR, MessageBuilder, flags};
use crate::socket::{Protocol, Socket};
use crate::sys::event::{Pollable, Readable, wait_readable};
use crate::sys::ring::{Completion, Ring, SUBMISSION_ENTRIES};
use crate::sys::socket::Received;
use crate::sys::token::Token;

const _: () = assert!(
    Backend::MAX_DEPTH <= SUBMISSION_ENTRIES,
    "a chain fits the submission queue"
);

/// A turn has room for at least this many datagrams per socket, because packed buffers hold thousands. If they hold
/// more, the rest comes in the next turn.
const PACKED_ROOM: usize = 4096;

/// How many datagrams of a multishot receive one call returns at most, for each completion that it requests
/// (io_uring/poll.c, `io_poll_check_events`; io_uring/net.c, `MULTISHOT_MAX_RETRY`).
const MOST_PER_CALL: usize = 33;

/// How many completions a gathering wait requests.
const GATHER_WANT: usize = 32;

/// The longest sleep that the stop handle does not need to interrupt.
const UNSTOPPABLE: Duration = Duration::from_millis(20);

/// How long a trial waits for its datagram, which the kernel sends at once.
const TRIAL_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Multishot,
    /// The number of receives in a chain.
    Oneshot(u16),
}

pub(super) struct Uring {
    ring: Ring,
    mode: Mode,
    stop: Option<StopHandle>,
    is_alarm_set: bool,
    /// Readable when the ring is, when the kernel signals a completion, or after
    /// [`set_readable`](Receive::set_readable). The ring and the signal are both needed: a ring with deferred task work
    /// may not wake `poll` (seen on Linux 6.18), and Linux 6.12.114 and later 6.12 signal only once
    /// (io_uring/eventfd.c, `IO_EVENTFD_OP_SIGNAL_BIT`).
    pollable: Option<Pollable>,
}

impl Uring {
    pub(super) fn new(mode: Mode, completion_entries: u32, pollable: bool) -> io::Result<Self> {
        let depth = match mode {
            Mode::Multishot => 1,
            Mode::Oneshot(depth) => depth,
        };
        let mut ring = Ring::new(completion_entries, depth)?;
        let pollable = pollable.then(Pollable::new).transpose()?;
        if let Some(pollable) = &pollable {
            ring.register_event(pollable.event())?;
        }
        Ok(Self {
            ring,
            mode,
            stop: None,
            is_alarm_set: false,
            pollable,
        })
    }

    /// Receives one datagram from the kernel in this mode, on a separate ring. Only a trial shows whether the mode
    /// works here: a seccomp profile may forbid any of the calls, and neither the kernel's version nor a probe shows
    /// that.
    pub(super) fn trial(mode: Mode) -> io::Result<()> {
        // Opened before the ring, so that it is closed after it. When dropped, the ring submits what is queued, and the
        // descriptor's number must then still name this socket.
        let socket = Socket::open(Protocol::ROUTE)?;
        socket.bind(Socket::AUTOPID, 0)?;
        let mut this = Self::new(mode, 16, false)?;
        this.ring.enable()?;
        this.attach(0, AddOptions::new().buffer_count(2).buffer_bytes(512))?;
        this.arm(0, socket.as_fd())?;
        let mut request = Vec::new();
        // Each netlink protocol acknowledges an empty request (net/netlink/af_netlink.c, `netlink_rcv_skb`).
        MessageBuilder::new(
            &mut request,
            crate::message::NOOP,
            flags::REQUEST | flags::ACK,
        )
        .finish()?;
        socket.send(&request)?;
        let completion = this.ring.first_completion(TRIAL_PATIENCE)?;
        let result_bytes = usize::try_from(completion.result)
            .map_err(|_| io::Error::from_raw_os_error(completion.result.saturating_neg()))?;
        let answer = completion
            .place
            .and_then(|place| this.ring.datagram(0, place, result_bytes));
        let message = answer.and_then(|(_, bytes)| crate::message::Messages::new(bytes).next());
        match message {
            Some(message) if message.message_type() == ERROR => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn note(&mut self, completion: Completion, sockets: &mut Sockets, taken: &mut Vec<Taken>) {
        let slot = match completion.token {
            Token::Receive { receiver, .. } => receiver,
            Token::Cancel => {
                sockets.unsettled = true; // a chain may have more receives to cancel
                return;
            }
            Token::Watch => return, // the engine reads the stop handle itself
            Token::Alarm => {
                self.is_alarm_set = false;
                return;
            }
        };
        let is_armed = self.ring.in_flight_count(slot) > 0;
        let facts = Facts {
            result: completion.result,
            has_buffer: completion.place.is_some(),
            is_armed,
            lent_count: self.ring.lent_count(slot),
        };
        let outcome = facts.judge();
        if let Some(place) = completion.place {
            if outcome.datagram {
                taken.push(Taken {
                    slot,
                    place,
                    result_bytes: completion.result.unsigned_abs(),
                });
            } else {
                self.ring.give_back(slot, place.buffer);
            }
        }
        if let Some(end) = outcome.end {
            sockets.note_end(slot, end, is_armed);
        }
    }

    fn try_wait(&mut self, plan: Plan) -> io::Result<()> {
        if plan.timeout.is_some_and(|timeout| timeout.is_zero()) || self.ring.has_completions() {
            return self.ring.poll();
        }
        if plan.spin {
            return self.spin(plan.timeout_or_alarm());
        }
        if plan.is_near {
            // Polling can empty the socket's queue without a sleep.
            self.spin(Some(WAKE_COST))?;
            if self.ring.has_completions() {
                return Ok(());
            }
        }
        if plan.gather.is_zero() {
            self.set_alarm(plan.alarm)?;
            return self.ring.wait(1, Duration::ZERO, plan.timeout);
        }
        let timeout = plan.timeout_or_alarm();
        let in_kernel = self.mode == Mode::Multishot && self.ring.features().min_wait;
        if in_kernel && plan.gather <= UNSTOPPABLE {
            return self.ring.wait(GATHER_WANT, plan.gather, timeout);
        }
        self.gather(plan.gather, timeout)
    }

    fn spin(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let slice = timeout.map_or(SPIN_SLICE, |timeout| timeout.min(SPIN_SLICE));
        let start = Instant::now();
        loop {
            self.ring.poll()?;
            if self.ring.has_completions() || start.elapsed() >= slice || self.is_stopped() {
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }

    /// Sets the ring's timer, unless it is set, so that a wait ends in time for deferred work. A time-out for each wait
    /// would cost more at every wake-up: 3 % of a prompt receive.
    fn set_alarm(&mut self, alarm: Option<Duration>) -> io::Result<()> {
        if let Some(after) = alarm.filter(|_| !self.is_alarm_set) {
            self.ring.set_alarm(after)?;
            self.is_alarm_set = true;
        }
        Ok(())
    }

    /// Whether another call may return completions without a wait, after one that returned this many. Completions that
    /// did not fit into the queue wait in the kernel, and do not end a wait. Deferred task work runs only until a call
    /// has the completions that it requested (io_uring/io_uring.c, `io_run_local_work_continue`). With a chain that is
    /// one datagram, because the next receive is a separate item of task work. A multishot receive that returned fewer
    /// than [`MOST_PER_CALL`] has emptied its socket's queue.
    ///
    /// A socket without a reserve of buffers ends the turn, because its receive would end when they run out. They come
    /// back when the turn's datagrams have been delivered.
    fn may_bring_more(&mut self, brought_count: usize, sockets: &Sockets) -> bool {
        let most_count = match self.mode {
            Mode::Multishot => MOST_PER_CALL,
            Mode::Oneshot(_) => 0,
        };
        if self.ring.has_overflowed() {
            return true;
        }
        brought_count >= most_count
            && self.ring.may_have_task_work()
            && sockets
                .iter()
                .all(|entry| self.ring.has_reserve(entry.id.slot))
    }

    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(StopHandle::is_stopped)
    }

    /// Sleeps for `delay`, then takes what has arrived, or waits for the first completion.
    ///
    /// For waits in which the kernel cannot gather: before Linux 6.12, for longer than [`UNSTOPPABLE`], and for chains,
    /// where every completion ends a wait at once (io_uring/io_uring.c, `io_req_local_work_add`).
    fn gather(&mut self, delay: Duration, timeout: Option<Duration>) -> io::Result<()> {
        self.ring.poll()?;
        let start = Instant::now();
        if let Some(stop) = self.stop.as_ref().filter(|_| !self.ring.has_completions())
            && wait_readable(&mut [Readable::new(stop.as_fd())], Some(delay)).is_err()
        {
            // Sleeps instead. The stop handle cannot end this sleep, so it is short.
            thread::sleep(delay.min(UNSTOPPABLE));
        }
        match self.mode {
            Mode::Multishot => self.ring.poll()?, // without a timer
            Mode::Oneshot(depth) => {
                self.ring
                    .wait(depth.into(), Duration::ZERO, Some(Duration::ZERO))?;
            }
        }
        let timeout = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        if self.ring.has_completions() || timeout == Some(Duration::ZERO) {
            return Ok(());
        }
        self.ring.wait(1, Duration::ZERO, timeout)
    }
}

impl Receive for Uring {
    fn start(&mut self, stop: &StopHandle) -> io::Result<()> {
        persist(|| self.ring.enable())?;
        self.ring.watch(stop.as_fd())?;
        if let Some(pollable) = &self.pollable {
            persist(|| pollable.add(self.ring.as_fd()))?;
        }
        self.stop = Some(stop.clone());
        Ok(())
    }

    fn attach(&mut self, slot: u16, options: AddOptions) -> io::Result<usize> {
        match self.mode {
            Mode::Multishot => {
                self.ring
                    .add_buffers(slot, options.buffer_count, options.buffer_bytes)?;
                // One more, so that the turn that takes the last buffer notices that they have run out.
                Ok(usize::from(options.buffer_count).max(PACKED_ROOM) + 1)
            }
            Mode::Oneshot(depth) => {
                self.ring.add_slots(slot, depth, options.buffer_bytes)?;
                Ok(depth.into())
            }
        }
    }

    fn arm(&mut self, slot: u16, fd: BorrowedFd<'_>) -> Result<()> {
        let armed = match self.mode {
            Mode::Multishot => self.ring.arm_multishot(slot, fd),
            Mode::Oneshot(_) => self.ring.arm_chain(slot, fd),
        };
        armed.map_err(|error| Error::failed_call("arm a receive (io_uring_enter)", error))
    }

    fn cancel(&mut self, slot: u16, _fd: BorrowedFd<'_>) -> Result<()> {
        let cancelled = self.ring.cancel(slot);
        cancelled.map_err(|error| Error::failed_call("end a receive (io_uring_enter)", error))
    }

    fn is_quiet(&self, slot: u16) -> bool {
        self.ring.in_flight_count(slot) == 0
    }

    fn detach(&mut self, slot: u16) {
        let is_removed = self.ring.remove(slot);
        debug_assert!(is_removed, "a slot is freed only when it is quiet");
    }

    fn submit(&mut self) -> Result<()> {
        let submitted = self.ring.poll();
        submitted.map_err(|error| Error::failed_call("submit receives (io_uring_enter)", error))
    }

    fn wait(&mut self, plan: Plan) -> Result<()> {
        self.try_wait(plan).map_err(|error| {
            Error::failed_call("wait for netlink datagrams (io_uring_enter)", error)
        })
    }

    fn drain(&mut self, sockets: &mut Sockets, taken: &mut Vec<Taken>, room: usize) {
        loop {
            let mut brought_count = 0;
            while taken.len() < room {
                let Some(completion) = self.ring.next_completion() else {
                    break;
                };
                self.note(completion, sockets, taken);
                brought_count += 1;
            }
            if taken.len() >= room {
                return; // the rest comes in the next turn
            }
            let may_bring_more = self.may_bring_more(brought_count, sockets);
            if !may_bring_more || self.ring.poll().is_err() || !self.ring.has_completions() {
                return;
            }
        }
    }

    fn datagram(&self, taken: Taken) -> Option<(Received, &[u8])> {
        self.ring
            .datagram(taken.slot, taken.place, taken.result_bytes as usize)
    }

    fn recycle(&mut self, delivered: &[Taken]) {
        for taken in delivered {
            self.ring.give_back(taken.slot, taken.place.buffer);
        }
        for same_slot in delivered.chunk_by(|one, next| one.slot == next.slot) {
            self.ring.commit(same_slot[0].slot);
        }
    }

    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pollable.as_ref().map(Pollable::as_fd)
    }

    fn set_readable(&self, readable: bool) {
        if let Some(pollable) = &self.pollable {
            pollable.set_readable(readable);
        }
    }
}

#[cfg(test)]
mod tests {
    use nlring_testing::skip;

    use super::*;

    /// A receive can fail after it took a buffer.
    #[test]
    fn the_buffer_of_a_failed_receive_is_recycled() {
        let options = AddOptions::new().buffer_count(2).buffer_bytes(512);
        let mut sockets = Sockets::new();
        let socket = Socket::open(Protocol::ROUTE).unwrap();
        socket.bind(Socket::AUTOPID, 0).unwrap();
        let id = sockets.insert(socket, options).unwrap();
        let is_there = Uring::trial(Mode::Multishot).is_ok();
        if !is_there {
            return skip("the_buffer_of_a_failed_receive_is_recycled", "no io_uring");
        }
        let mut uring = Uring::new(Mode::Multishot, 16, false).unwrap();
        uring.ring.enable().unwrap();
        uring.attach(id.slot, options).unwrap();
        let socket = &sockets.get(id).unwrap().socket;
        uring.arm(id.slot, socket.as_fd()).unwrap();
        let mut request = Vec::new();
        let flags = flags::REQUEST | flags::ACK;
        let builder = MessageBuilder::new(&mut request, crate::message::NOOP, flags);
        builder.finish().unwrap();
        socket.send(&request).unwrap();
        let completion = uring.ring.first_completion(TRIAL_PATIENCE).unwrap();
        assert_eq!(uring.ring.lent_count(id.slot), 1);
        let failed = Completion {
            result: -libc::EFAULT,
            ..completion
        };
        let mut taken = Vec::new();
        uring.note(failed, &mut sockets, &mut taken);
        assert_eq!((uring.ring.lent_count(id.slot), taken.len()), (2, 0));
    }
}
