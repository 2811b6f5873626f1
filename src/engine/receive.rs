//! What the turn of an engine needs of a backend.

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

/// A way to receive from many sockets, each in a slot. All calls are quick but [`wait`](Self::wait).
///
/// After a failure a call may be made again. The errors of a running engine name the system call that failed.
pub(super) trait Receive: Send {
    /// Binds the backend to this thread, and its waits to the stop handle.
    fn start(&mut self, stop: &StopHandle) -> io::Result<()>;

    /// Sets a slot's memory up. Returns how many datagrams it can hold.
    fn attach(&mut self, slot: u16, options: AddOptions) -> io::Result<usize>;

    /// Starts to receive. Only when nothing of the slot is in flight, and all its buffers were recycled.
    fn arm(&mut self, slot: u16, fd: BorrowedFd<'_>) -> Result<()>;

    /// Begins to end a slot's receives; to be repeated until [`is_quiet`](Self::is_quiet).
    fn cancel(&mut self, slot: u16, fd: BorrowedFd<'_>) -> Result<()>;

    /// Whether nothing of a slot is in flight.
    fn is_quiet(&self, slot: u16) -> bool;

    /// Frees the memory of a slot that is quiet and has no datagram in hand.
    fn detach(&mut self, slot: u16);

    /// Hands what was armed or cancelled to the kernel, without waiting.
    fn submit(&mut self) -> Result<()>;

    /// Waits for datagrams, the stop handle, the time-out or a signal.
    fn wait(&mut self, plan: Plan) -> Result<()>;

    /// Appends what has come to `taken`, in order, and notes in `sockets` which receives have ended and why. Stops when
    /// `taken` has `room` entries, which is at least what all slots together hold; the rest comes at the next call.
    fn drain(&mut self, sockets: &mut Sockets, taken: &mut Vec<Taken>, room: usize);

    /// The bytes of a datagram, and what came with them. None: the kernel left fewer bytes in the buffer than what
    /// stands before a datagram.
    fn datagram(&self, taken: Taken) -> Option<(Received, &[u8])>;

    /// Takes the buffers of delivered datagrams back into use.
    fn recycle(&mut self, delivered: &[Taken]);

    /// Readable when there may be something to receive; only of a pollable engine.
    fn pollable_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Makes that descriptor readable, or unreadable unless there is more.
    fn set_readable(&self, readable: bool);
}
