//! What the ring submits: receives, polls, alarms, and cancellations of receives.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::types::{Fd, Timespec};
use io_uring::{opcode, squeue};

use super::{Ring, SUBMISSION_ENTRIES, forgive};
use crate::sys::receiver::Memory;
use crate::sys::token::Token;

impl Ring {
    /// Starts a multishot receive, which stays armed after a datagram. An error if it is armed already.
    pub(crate) fn arm_multishot(&mut self, receiver: u16, fd: BorrowedFd<'_>) -> io::Result<()> {
        let Some(state) = self.receiver_mut(receiver) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let Memory::Buffers { group, header, .. } = &state.memory else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if state.in_flight_count != 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let header = header.at(0, size_of::<libc::msghdr>()).as_ptr().cast();
        let token = Token::Receive {
            receiver,
            generation: state.generation,
            index: 0,
        };
        let entry = opcode::RecvMsgMulti::new(Fd(fd.as_raw_fd()), header, *group)
            .flags(libc::MSG_TRUNC.unsigned_abs())
            .build()
            .user_data(token.to_bits());
        // SAFETY: the entry points to the receiver's header and names its buffer group. Both stay until the receive has
        // ended: `remove` refuses while it is in flight, and Drop frees no memory before.
        unsafe { self.push(&entry) }?;
        self.note_armed(receiver);
        Ok(())
    }

    /// Starts one receive per slot, as a chain: the kernel arms each receive when the one before it has ended, even
    /// with an error. An error if a receive of the last chain is in flight.
    pub(crate) fn arm_chain(&mut self, receiver: u16, fd: BorrowedFd<'_>) -> io::Result<()> {
        let Some(state) = self.receiver_mut(receiver) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let Memory::Slots(slots) = &state.memory else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if state.in_flight_count != 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let count = slots.count();
        state.head = 0;
        self.reserve(count)?;
        for index in 0..SUBMISSION_ENTRIES.min(u16::try_from(count).unwrap_or(u16::MAX)) {
            let is_last = usize::from(index) + 1 == count;
            let Some(entry) = self.link(receiver, index, fd, is_last) else {
                debug_assert!(false, "no slot is lent while no receive is in flight");
                break;
            };
            // SAFETY: the entry points to a lent slot. Its memory stays until the receive has ended: `remove` refuses
            // while it is in flight, and Drop frees no memory before.
            unsafe { self.push(&entry) }?;
            self.note_armed(receiver);
        }
        Ok(())
    }

    /// One receive of a chain. Lends its slot. `None`: the slot was lent already.
    fn link(
        &mut self,
        receiver: u16,
        index: u16,
        fd: BorrowedFd<'_>,
        is_last: bool,
    ) -> Option<squeue::Entry> {
        let state = self.receiver_mut(receiver)?;
        let generation = state.generation;
        let Memory::Slots(slots) = &mut state.memory else {
            return None;
        };
        let header = slots.lend(index.into())?;
        let flags = if is_last {
            squeue::Flags::empty()
        } else {
            squeue::Flags::IO_HARDLINK
        };
        let receive =
            opcode::RecvMsg::new(Fd(fd.as_raw_fd()), header).flags(libc::MSG_TRUNC.unsigned_abs());
        let token = Token::Receive {
            receiver,
            generation,
            index,
        };
        Some(receive.build().flags(flags).user_data(token.to_bits()))
    }

    fn note_armed(&mut self, receiver: u16) {
        self.in_flight_count += 1;
        if let Some(state) = self.receiver_mut(receiver) {
            state.in_flight_count += 1;
        }
    }

    /// Asks the kernel to end a receiver's receives. In a chain this ends only the first one, and arms the next: repeat
    /// it until no receive is in flight.
    pub(crate) fn cancel(&mut self, receiver: u16) -> io::Result<()> {
        let Some(state) = self.receiver(receiver) else {
            return Ok(());
        };
        if state.in_flight_count == 0 {
            return Ok(());
        }
        let token = Token::Receive {
            receiver,
            generation: state.generation,
            index: state.head,
        };
        let entry = opcode::AsyncCancel::new(token.to_bits())
            .build()
            .user_data(Token::Cancel.to_bits());
        // SAFETY: the entry of a cancellation points to no memory.
        unsafe { self.push(&entry) }
    }

    /// Brings one completion with [`Token::Watch`] when `fd` is readable.
    pub(crate) fn watch(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let entry =
            opcode::PollAdd::new(Fd(fd.as_raw_fd()), u32::from(libc::POLLIN.unsigned_abs()))
                .build();
        // SAFETY: the entry of a poll points to no memory.
        unsafe { self.push(&entry.user_data(Token::Watch.to_bits())) }
    }

    /// Brings one completion with [`Token::Alarm`] this long after the next submission. Only one alarm at a time.
    pub(crate) fn set_alarm(&mut self, after: Duration) -> io::Result<()> {
        *self.alarm = Timespec::from(after);
        let entry = opcode::Timeout::new(&raw const *self.alarm).build();
        // SAFETY: the entry points to the time, which is boxed, so it does not move, and lives as long as the ring. The
        // kernel reads it only while it takes the submission (`IORING_OP_TIMEOUT`, io_uring/timeout.c).
        unsafe { self.push(&entry.user_data(Token::Alarm.to_bits())) }
    }

    /// Makes room for `count` submissions, because a chain must be submitted as a whole.
    fn reserve(&mut self, count: usize) -> io::Result<()> {
        let queue = self.uring()?.submission();
        let free = queue.capacity() - queue.len();
        drop(queue);
        if free >= count {
            return Ok(());
        }
        self.submit()?;
        let queue = self.uring()?.submission();
        let has_room = queue.capacity() - queue.len() >= count;
        drop(queue);
        if has_room {
            Ok(())
        } else {
            // A signal came, or the full completion queue must be drained first.
            Err(io::Error::from_raw_os_error(libc::EBUSY))
        }
    }

    /// Queues a submission.
    ///
    /// # Safety
    ///
    /// The memory that the entry points to stays valid until the kernel no longer uses it: for a receive, until its
    /// last completion.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        self.reserve(1)?;
        // SAFETY: the caller guarantees that the entry's memory stays valid while the kernel uses it.
        unsafe { self.uring()?.submission().push(entry) }
            .map_err(|_| io::ErrorKind::ResourceBusy.into())
    }

    pub(super) fn submit(&mut self) -> io::Result<()> {
        forgive(self.uring()?.submitter().submit())
    }
}
