//! What an engine needs from a backend.

use std::io;
use std::os::fd::BorrowedFd;

use crate::error::Result;

use super::options::AddOptions;
use super::sockets::Sockets;
use super::stop::StopHandle;
use super::wait::Plan;
use crate::sys::place::Place;
use crate::sys::socket::Received;

/// A datagram in one of a backend's buffers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub slot: u16,
    pub place: Place,
    /// What the receive returned.
    pub result_bytes: u32,
}

/// A way to receive from many sockets, each in a slot. Only [`wait`](Self::wait) may block.
///
/// A failed call may be repeated. Errors after [`start`](Self::start) name the system call that failed.
pub(super) trait Receive: Send {
    /// Binds the backend to this thread, and its waits to the stop handle.
    fn start(&mut self, stop: &StopHandle) -> io::Result<()>;

    /// Sets up a slot's buffers. Returns the number of its datagrams for which a turn must have room.
    fn attach(&mut self, slot: u16, options: AddOptions) -> io::Result<usize>;

    /// Starts to receive. No receive of the slot may be in flight, and all its buffers must be recycled.
    fn arm(&mut self, slot: u16, fd: BorrowedFd<'_>) -> Result<()>;

    /// Starts to end a slot's receives. The caller repeats this until [`is_quiet`](Self::is_quiet).
    fn cancel(&mut self, slot: u16, fd: BorrowedFd<'_>) -> Result<()>;

    /// Whether no receive of a slot is in flight.
    fn is_quiet(&self, slot: u16) -> bool;

    /// Frees the buffers of a slot. It must be quiet and have no datagram in hand.
    fn detach(&mut self, slot: u16);

    /// Submits armed receives and cancellations to the kernel, without waiting.
    fn submit(&mut self) -> Result<()>;

    /// Waits for datagrams, the stop handle, the time-out or a signal.
    fn wait(&mut self, plan: Plan) -> Result<()>;

    /// Appends received datagrams to `taken`, in order, and records in `sockets` which receives have ended and why.
    /// Stops when `taken` has `room` elements; the next call continues. `room` is at least the sum of what
    /// [`attach`](Self::attach) returned.
    fn drain(&mut self, sockets: &mut Sockets, taken: &mut Vec<Taken>, room: usize);

    /// A datagram, with its sender and control data. `None`: the kernel wrote fewer bytes than it writes before each
    /// datagram.
    fn datagram(&self, taken: Taken) -> Option<(Received, &[u8])>;

    /// Makes the buffers of delivered datagrams available for new ones.
    fn recycle(&mut self, delivered: &[Taken]);

    /// A descriptor that becomes readable when there may be something to receive. `None`: the engine is not pollable.
    fn pollable_fd(&self) -> Option<BorrowedFd<'_>>;

    /// `true` makes [`pollable_fd`](Self::pollable_fd) readable. `false` makes it unreadable, unless there is more to
    /// receive.
    fn set_readable(&self, readable: bool);
}
