//! The io_uring instance, with the memory that its receives write into.
//!
//! The ring owns that memory, so that it outlives every receive. A receiver's memory is freed only when none of its
//! receives is in flight, and when the ring is dropped, it is closed before the rest is freed.
#![allow(unsafe_code)]
// The C libraries differ in the integer types of these structs.
#![allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]

mod completion;
mod submission;

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::IoUring;
use io_uring::types::Timespec;

pub(crate) use self::completion::Completion;
use crate::sys::buffer_ring::{BufferRing, Shape, buffer_group};
use crate::sys::event::EventFd;
use crate::sys::home::Home;
use crate::sys::mapping::Mapping;
use crate::sys::place::Place;
use crate::sys::receiver::{Memory, Receiver};
use crate::sys::slots::Slots;
use crate::sys::socket::{CONTROL_BYTES, NAME_BYTES, Received};

/// The most submissions that the queue holds, and so the longest chain.
pub(crate) const SUBMISSION_ENTRIES: u16 = 256;

/// Features that the kernel reported or accepted when the ring was set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    /// `IORING_SETUP_DEFER_TASKRUN`, Linux 6.1: the kernel runs task work only in our system calls.
    pub deferred: bool,
    /// `IORING_FEAT_MIN_TIMEOUT`, Linux 6.12: a wait may gather completions for a minimum time.
    pub min_wait: bool,
}

/// The ring, and all memory that its receives write into.
///
/// A forked child inherits neither the ring's queues (`MADV_DONTFORK`) nor its receives. In the child each call is an
/// error or finds nothing, and dropping the ring closes its descriptor and frees the copies of the receivers' memory.
pub(crate) struct Ring {
    /// Used only in the process that created it, through [`uring`](Self::uring). Drop closes it before `receivers` is
    /// freed.
    uring: ManuallyDrop<IoUring>,
    home: Home,
    receivers: Vec<Option<Receiver>>,
    features: Features,
    generation: u16,
    in_flight_count: usize,
    /// The time that the alarm's submission points to.
    alarm: Box<Timespec>,
    state: RingState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RingState {
    /// Set up without `IORING_SETUP_R_DISABLED`, and not yet used.
    New,
    Disabled,
    Enabled,
}

impl Ring {
    /// Sets up a ring with the best flags that this kernel accepts, for chains of up to `depth` receives. It is
    /// disabled until [`enable`](Self::enable), so that it may be built on one thread and used on another.
    pub(crate) fn new(completion_entries: u32, depth: u16) -> io::Result<Self> {
        // The kernel requires at least as many completions as submissions.
        let queued = u16::try_from(completion_entries)
            .unwrap_or(SUBMISSION_ENTRIES)
            .min(SUBMISSION_ENTRIES);
        let submissions = queued.max(depth).max(1);
        let (uring, deferred, disabled) =
            Self::set_up(submissions, completion_entries.max(submissions.into()))?;
        let home = Home::new()?;
        let features = Features {
            deferred,
            min_wait: uring.params().is_feature_min_timeout(),
        };
        Ok(Self {
            uring: ManuallyDrop::new(uring),
            home,
            receivers: Vec::new(),
            features,
            generation: 0,
            in_flight_count: 0,
            alarm: Box::default(),
            state: if disabled {
                RingState::Disabled
            } else {
                RingState::New
            },
        })
    }

    /// Returns the ring, whether its task work is deferred, and whether it must be enabled.
    fn set_up(submissions: u16, completions: u32) -> io::Result<(IoUring, bool, bool)> {
        let mut oldest = IoUring::builder(); // Linux 5.6
        oldest.setup_cqsize(completions).setup_clamp().dontfork();
        let mut older = oldest.clone(); // Linux 5.10
        older.setup_r_disabled();
        let mut best = older.clone(); // Linux 6.1
        best.setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag();
        match best.build(submissions.into()) {
            Err(error) if is_unknown(&error) => {}
            result => return Ok((result?, true, true)),
        }
        match older.build(submissions.into()) {
            Err(error) if is_unknown(&error) => {
                Ok((oldest.build(submissions.into())?, false, false))
            }
            result => Ok((result?, false, true)),
        }
    }

    pub(crate) fn features(&self) -> Features {
        self.features
    }

    /// The ring. An error in a fork, where its queues are not mapped.
    fn uring(&mut self) -> io::Result<&mut IoUring> {
        self.home.require_here()?;
        Ok(&mut self.uring)
    }

    /// Enables the ring. From now on only this thread may submit.
    pub(crate) fn enable(&mut self) -> io::Result<()> {
        if self.state == RingState::Disabled {
            self.uring()?.submitter().register_enable_rings()?;
        }
        self.state = RingState::Enabled;
        Ok(())
    }

    /// Makes the kernel signal `event` for each completion, and for deferred task work.
    pub(crate) fn register_event(&mut self, event: &EventFd) -> io::Result<()> {
        self.uring()?
            .submitter()
            .register_eventfd(event.as_fd().as_raw_fd())
    }

    fn place(&mut self, receiver: u16, memory: Memory) {
        let index = usize::from(receiver);
        if self.receivers.len() <= index {
            self.receivers.resize_with(index + 1, || None);
        }
        self.generation = self.generation.wrapping_add(1);
        self.receivers[index] = Some(Receiver::new(memory, self.generation));
    }

    fn require_free(&self, receiver: u16) -> io::Result<()> {
        match self.receivers.get(usize::from(receiver)) {
            Some(Some(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            _ => Ok(()),
        }
    }

    /// Gives a receiver a buffer ring for [`arm_multishot`](Self::arm_multishot). It has `count` buffers (a power of
    /// two), or packed ones in no more memory, if the kernel can pack.
    pub(crate) fn add_buffers(
        &mut self,
        receiver: u16,
        count: u16,
        payload_bytes: usize,
    ) -> io::Result<()> {
        self.require_free(receiver)?;
        let packed = Shape::packed(count, payload_bytes);
        // Made before the buffers are registered, because a later failure would leave their group registered.
        let header = template_header()?;
        let (mut ring, group) = match packed.map(|shape| self.register_buffers(receiver, shape)) {
            Some(Ok(ring)) => ring,
            Some(Err(error)) if !is_unknown(&error) => return Err(error),
            _ => self.register_buffers(receiver, Shape::plain(count, payload_bytes))?,
        };
        ring.lend_all();
        let memory = Memory::Buffers {
            ring,
            group,
            header,
        };
        self.place(receiver, memory);
        Ok(())
    }

    /// Registers buffers as the group of this receiver, and returns both. No buffer is lent yet. `EINVAL`: the kernel
    /// does not know this shape.
    fn register_buffers(&self, receiver: u16, shape: Shape) -> io::Result<(BufferRing, u16)> {
        self.home.require_here()?;
        let group = buffer_group(receiver, shape).ok_or_else(|| {
            io::Error::other("an engine of this backend receives from up to 32,736 sockets")
        })?;
        let ring = BufferRing::new(shape)?;
        // SAFETY: on success `add_buffers`, the only caller, moves the BufferRing into `receivers`, and no step in
        // between can fail. There it stays until `remove` has unregistered the group, or until Drop has ended its
        // receives and closed the ring.
        unsafe { ring.register(self.as_fd(), group) }?;
        Ok((ring, group))
    }

    /// Gives a receiver `count` slots for [`arm_chain`](Self::arm_chain).
    pub(crate) fn add_slots(
        &mut self,
        receiver: u16,
        count: u16,
        payload_bytes: usize,
    ) -> io::Result<()> {
        self.require_free(receiver)?;
        let slots = Slots::new(usize::from(count.min(SUBMISSION_ENTRIES)), payload_bytes)?;
        self.place(receiver, Memory::Slots(slots));
        Ok(())
    }

    fn receiver(&self, receiver: u16) -> Option<&Receiver> {
        self.receivers.get(usize::from(receiver))?.as_ref()
    }

    fn receiver_mut(&mut self, receiver: u16) -> Option<&mut Receiver> {
        self.receivers.get_mut(usize::from(receiver))?.as_mut()
    }

    /// How many receives of a receiver are in flight.
    pub(crate) fn in_flight_count(&self, receiver: u16) -> usize {
        self.receiver(receiver)
            .map_or(0, |receiver| receiver.in_flight_count)
    }

    /// How many buffers of a receiver the kernel may write into. All slots of a chain count.
    pub(crate) fn lent_count(&self, receiver: u16) -> usize {
        self.receiver(receiver).map_or(0, Receiver::lent_count)
    }

    /// Whether the kernel may write into more than a quarter of a receiver's buffers.
    pub(crate) fn has_reserve(&self, receiver: u16) -> bool {
        self.receiver(receiver).is_none_or(Receiver::has_reserve)
    }

    /// The datagram at the place of a completion, unless it was given back. `None`: the kernel wrote fewer bytes than
    /// it writes before each datagram.
    pub(crate) fn datagram(
        &self,
        receiver: u16,
        place: Place,
        result_bytes: usize,
    ) -> Option<(Received, &[u8])> {
        self.receiver(receiver)?.datagram(place, result_bytes)
    }

    /// Gives back a datagram. Its buffer is lent to the kernel again at the next [`commit`](Self::commit); a slot is
    /// lent again with the next chain.
    pub(crate) fn give_back(&mut self, receiver: u16, buffer: u16) {
        if let Some(receiver) = self.receiver_mut(receiver) {
            receiver.give_back(buffer);
        }
    }

    /// Publishes the buffers that are lent again to the kernel.
    pub(crate) fn commit(&mut self, receiver: u16) {
        if let Some(receiver) = self.receiver_mut(receiver) {
            receiver.commit();
        }
    }

    /// Frees a receiver's memory. False, and the memory stays, if a receive is in flight or the kernel does not
    /// unregister the buffers.
    pub(crate) fn remove(&mut self, receiver: u16) -> bool {
        let Some(state) = self.receiver(receiver) else {
            return true;
        };
        if state.in_flight_count != 0 {
            return false;
        }
        if let Memory::Buffers { group, .. } = state.memory {
            let unregistered = self
                .uring()
                .and_then(|uring| uring.submitter().unregister_buf_ring(group));
            if unregistered.is_err() {
                return false;
            }
        }
        self.receivers[usize::from(receiver)] = None;
        true
    }

    /// Ends all receives and waits for their last completions. Their datagrams are discarded.
    fn quiesce(&mut self) -> io::Result<()> {
        const ROUNDS: usize = 2 * SUBMISSION_ENTRIES as usize; // a chain needs one round for each of its receives
        for _ in 0..ROUNDS {
            for receiver in 0..u16::try_from(self.receivers.len()).unwrap_or(u16::MAX) {
                self.cancel(receiver)?;
            }
            self.wait(1, Duration::ZERO, Some(Duration::from_millis(100)))?;
            while self.next_completion().is_some() {}
            if self.in_flight_count == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// The `struct msghdr` of a multishot RECVMSG: how much room each buffer has for name and control data.
fn template_header() -> io::Result<Mapping> {
    let header = Mapping::new(size_of::<libc::msghdr>())?;
    // SAFETY: msghdr consists of integers and pointers, for which all zeroes is a valid value.
    let mut template: libc::msghdr = unsafe { std::mem::zeroed() };
    template.msg_namelen = NAME_BYTES as _;
    template.msg_controllen = CONTROL_BYTES as _;
    let place = header.at(0, size_of::<libc::msghdr>());
    // SAFETY: `at` has checked that the mapping has room for a msghdr. The mapping is page-aligned and new, so nothing
    // else accesses it.
    unsafe { place.cast::<libc::msghdr>().write(template) };
    Ok(header)
}

/// Whether the kernel lacks the requested flag or shape.
fn is_unknown(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

/// Converts the errors that only end a wait into success.
fn forgive(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            // A signal; the time-out; a full completion queue, which must be drained first.
            Some(libc::EINTR | libc::ETIME | libc::EBUSY) => Ok(()),
            _ => Err(error),
        },
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `uring` owns the descriptor, and only Drop closes it, so it stays open while self is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) }
    }
}

/// Cancels the receives, waits for their last completions, closes the ring and frees the memory, in this order. A
/// receive may write into its buffer until its last completion, and closing the ring does not wait for that.
impl Drop for Ring {
    fn drop(&mut self) {
        if !self.home.is_here() {
            let fd = self.uring.as_raw_fd();
            // `uring` is not dropped here: that would unmap its queues, and other memory may be at their addresses in a
            // fork. The memory of `receivers` may be freed, because receives in flight write into the parent's.
            // SAFETY: the descriptor belongs to `uring`, which is never dropped in a fork, so it is closed once.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            return;
        }
        if self.state == RingState::Enabled && self.in_flight_count > 0 {
            let _ = self.quiesce();
        }
        if self.in_flight_count > 0 {
            // Leaks the memory, because the kernel may still write into it.
            std::mem::forget(std::mem::take(&mut self.receivers));
        }
        // SAFETY: `uring` is dropped only here, and nothing uses it afterwards.
        unsafe { ManuallyDrop::drop(&mut self.uring) };
    }
}
