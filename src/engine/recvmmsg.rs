//! The backend without io_uring: ppoll(2), then one recvmmsg(2) for each readable socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::completion::{Facts, ReceiveEnd};
use super::options::AddOptions;
use super::receive::{Receive, Taken};
use super::retry::persist;
use super::sockets::Sockets;
use super::stop::StopHandle;
use super::wait::{Plan, SPIN_SLICE};
use crate::error::{Error, Result};
use crate::sys::event::{Pollable, Readable, wait_readable};
use crate::sys::place::Place;
use crate::sys::slots::Slots;
use crate::sys::socket::Received;

/// The most datagrams that one recvmmsg(2) returns (`UIO_MAXIOV`).
const MAX_SLOTS: u16 = 1024;

#[derive(Default)]
pub(super) struct Recvmmsg {
    /// The buffers of each socket, by its slot in the engine.
    members: Vec<Option<Slots>>,
    /// The descriptors to wait for: first the stop handle, then the armed sockets.
    descriptors: Vec<Readable>,
    /// The slots of the armed sockets, in the order of `descriptors[1..]`.
    armed: Vec<u16>,
    stop: Option<StopHandle>,
    /// Readable when a socket or the stop handle is, or after [`set_readable`](Receive::set_readable).
    pollable: Option<Pollable>,
    /// The last drain may have left datagrams in a socket's queue, so the next wait must not sleep.
    has_more: bool,
}

impl Recvmmsg {
    pub(super) fn new(pollable: bool) -> io::Result<Self> {
        Ok(Self {
            pollable: pollable.then(Pollable::new).transpose()?,
            ..Self::default()
        })
    }

    /// Receives from one socket into its buffers. False: the socket may have more.
    fn drain_socket(&mut self, slot: u16, sockets: &mut Sockets, taken: &mut Vec<Taken>) -> bool {
        let Some(Some(slots)) = self.members.get_mut(usize::from(slot)) else {
            debug_assert!(false, "an armed slot has memory");
            return true;
        };
        let Some(entry) = sockets.in_slot(slot) else {
            return true;
        };
        match slots.receive_many(entry.socket.as_fd()) {
            Ok(count) => {
                taken.extend((0..MAX_SLOTS).take(count).map(|buffer| Taken {
                    slot,
                    place: Place { buffer, offset: 0 },
                    result_bytes:
                        u32::try_from(slots.real_bytes(buffer.into())).unwrap_or(u32::MAX),
                }));
                count < slots.count()
            }
            Err(error) => {
                let result = -error.raw_os_error().unwrap_or(libc::EIO);
                // `lent_count` is not 0, because ENOBUFS can only mean an overrun here.
                let facts = Facts {
                    result,
                    has_buffer: false,
                    is_armed: true,
                    lent_count: slots.count(),
                };
                let end = facts.judge().end;
                if let Some(end) = end.filter(|end| *end != ReceiveEnd::Rearm) {
                    sockets.note_end(slot, end, true);
                }
                end != Some(ReceiveEnd::Overrun) // after this error the datagrams are still queued
            }
        }
    }

    fn try_wait(&mut self, plan: Plan) -> io::Result<()> {
        if plan.spin {
            return self.spin(plan.timeout_or_alarm());
        }
        let mut timeout = plan.timeout_or_alarm();
        if self.has_more {
            timeout = Some(Duration::ZERO);
        } else if !plan.gather.is_zero() {
            let start = Instant::now();
            wait_readable(&mut self.descriptors[..1], Some(plan.gather))?;
            timeout = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        }
        wait_readable(&mut self.descriptors, timeout)
    }

    fn spin(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let slice = timeout.map_or(SPIN_SLICE, |timeout| timeout.min(SPIN_SLICE));
        let start = Instant::now();
        loop {
            wait_readable(&mut self.descriptors, Some(Duration::ZERO))?;
            if self
                .descriptors
                .iter()
                .any(|descriptor| descriptor.is_ready())
                || start.elapsed() >= slice
            {
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }
}

impl Receive for Recvmmsg {
    fn start(&mut self, stop: &StopHandle) -> io::Result<()> {
        self.descriptors.insert(0, Readable::new(stop.as_fd()));
        if let Some(pollable) = &self.pollable {
            persist(|| pollable.add(stop.as_fd()))?;
        }
        self.stop = Some(stop.clone()); // keeps the descriptor open
        Ok(())
    }

    fn attach(&mut self, slot: u16, options: AddOptions) -> io::Result<usize> {
        let count = options.buffer_count.min(MAX_SLOTS).into();
        let index = usize::from(slot);
        if self.members.len() <= index {
            self.members.resize_with(index + 1, || None);
        }
        self.members[index] = Some(Slots::new(count, options.buffer_bytes)?);
        Ok(count)
    }

    fn arm(&mut self, slot: u16, fd: BorrowedFd<'_>) -> Result<()> {
        if let Some(pollable) = &self.pollable {
            let added = pollable.add(fd);
            added.map_err(|error| Error::failed_call("arm a receive (epoll_ctl)", error))?;
        }
        self.armed.push(slot);
        self.descriptors.push(Readable::new(fd));
        Ok(())
    }

    fn cancel(&mut self, slot: u16, fd: BorrowedFd<'_>) -> Result<()> {
        if let Some(index) = self.armed.iter().position(|&armed| armed == slot) {
            self.armed.remove(index);
            self.descriptors.remove(index + 1);
            if let Some(pollable) = &self.pollable {
                let removed = pollable.remove(fd);
                removed.map_err(|error| Error::failed_call("end a receive (epoll_ctl)", error))?;
            }
        }
        Ok(())
    }

    fn is_quiet(&self, slot: u16) -> bool {
        !self.armed.contains(&slot)
    }

    fn detach(&mut self, slot: u16) {
        if let Some(member) = self.members.get_mut(usize::from(slot)) {
            *member = None;
        }
    }

    fn submit(&mut self) -> Result<()> {
        Ok(())
    }

    fn wait(&mut self, plan: Plan) -> Result<()> {
        self.try_wait(plan)
            .map_err(|error| Error::failed_call("wait for netlink datagrams (ppoll)", error))
    }

    fn drain(&mut self, sockets: &mut Sockets, taken: &mut Vec<Taken>, _room: usize) {
        self.has_more = false;
        for index in 0..self.armed.len() {
            if self.descriptors[index + 1].is_ready() {
                let emptied = self.drain_socket(self.armed[index], sockets, taken);
                self.has_more |= !emptied;
            }
        }
    }

    fn datagram(&self, taken: Taken) -> Option<(Received, &[u8])> {
        let slots = self.members.get(usize::from(taken.slot))?.as_ref()?;
        slots.datagram(usize::from(taken.place.buffer), taken.result_bytes as usize)
    }

    /// Does nothing: the next receive prepares the buffers.
    fn recycle(&mut self, _delivered: &[Taken]) {}

    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pollable.as_ref().map(Pollable::as_fd)
    }

    fn set_readable(&self, readable: bool) {
        if let Some(pollable) = &self.pollable {
            pollable.set_readable(readable);
        }
    }
}
