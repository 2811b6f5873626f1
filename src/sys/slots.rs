//! Receive slots: one `struct msghdr` with its name, control and payload room for each datagram that may arrive.
//! Used by single-shot receives of the ring and by recvmmsg(2).
#![allow(unsafe_code)]
// The C libraries differ in the integer types of these structs.
#![allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use super::mapping::{Mapping, spread};
use super::socket::{CONTROL_BYTES, NAME_BYTES, Received};

const HEADER_BYTES: usize = size_of::<libc::mmsghdr>();
/// What follows the array of headers, for each slot: name, iovec, control; then, page-aligned, the payloads.
const NAME_OFFSET: usize = 0;
const IOVEC_OFFSET: usize = NAME_BYTES.next_multiple_of(16);
const CONTROL_OFFSET: usize = IOVEC_OFFSET + size_of::<libc::iovec>();
const SIDE_BYTES: usize = CONTROL_OFFSET + CONTROL_BYTES;

/// All memory of the slots is one mapping that is touched by pointers only while the kernel may write it.
///
/// A slot is ours until [`lend`](Self::lend), and again from the completion that names it.
#[derive(Debug)]
pub(crate) struct Slots {
    memory: Mapping,
    payload_bytes: usize,
    ours: Vec<bool>,
    /// Slots below this one have to be prepared before [`receive_many`](Self::receive_many) may fill them.
    used_count: usize,
}

impl Slots {
    pub(crate) fn new(count: usize, payload_bytes: usize) -> io::Result<Self> {
        let payload_bytes = spread(payload_bytes);
        let length = count
            .checked_mul(HEADER_BYTES + SIDE_BYTES + payload_bytes)
            .and_then(|length| length.checked_add(4096))
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let mut this = Self {
            memory: Mapping::new(length)?,
            payload_bytes,
            ours: vec![true; count],
            used_count: 0,
        };
        for index in 0..count {
            this.point(index);
        }
        Ok(this)
    }

    pub(crate) fn count(&self) -> usize {
        self.ours.len()
    }

    fn header(&self, index: usize) -> NonNull<libc::mmsghdr> {
        self.memory.at(index * HEADER_BYTES, HEADER_BYTES).cast()
    }

    fn side_offset(&self, index: usize) -> usize {
        self.count() * HEADER_BYTES + index * SIDE_BYTES
    }

    fn payload_offset(&self, index: usize) -> usize {
        let start = (self.count() * (HEADER_BYTES + SIDE_BYTES)).next_multiple_of(4096);
        start + index * self.payload_bytes
    }

    /// Points a slot's header to the room there is, once and for all.
    fn point(&mut self, index: usize) {
        let side = self.side_offset(index);
        let name = self.memory.at(side + NAME_OFFSET, NAME_BYTES);
        let iovec = self
            .memory
            .at(side + IOVEC_OFFSET, size_of::<libc::iovec>())
            .cast::<libc::iovec>();
        let control = self.memory.at(side + CONTROL_OFFSET, CONTROL_BYTES);
        let payload = self
            .memory
            .at(self.payload_offset(index), self.payload_bytes);
        let filled = libc::iovec {
            iov_base: payload.as_ptr().cast(),
            iov_len: self.payload_bytes,
        };
        // SAFETY: the place is inside the mapping and aligned (its offset is a multiple of 8), and the slot is ours.
        unsafe { iovec.write(filled) };
        // SAFETY: mmsghdr is integers and pointers, for which all zeroes (null) is a value.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_name = name.as_ptr().cast();
        header.msg_hdr.msg_namelen = NAME_BYTES as _;
        header.msg_hdr.msg_iov = iovec.as_ptr();
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = control.as_ptr().cast();
        header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        // SAFETY: the place is inside the mapping and aligned (its offset is a multiple of the size), the slot is ours.
        unsafe { self.header(index).write(header) };
    }

    /// States again how much room there is, where the kernel wrote how much it used.
    fn prepare(&mut self, index: usize) {
        // SAFETY: the slot is ours, so nobody else touches the header, which `point` has initialised: an mmsghdr inside
        // the mapping and aligned. The reference ends with this function.
        let header = unsafe { self.header(index).as_mut() };
        header.msg_hdr.msg_namelen = NAME_BYTES as _;
        header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
    }

    /// Prepares a slot for the kernel and returns what a RECVMSG submission points to; None when it is lent already.
    #[cfg(feature = "io-uring")]
    pub(super) fn lend(&mut self, index: usize) -> Option<*mut libc::msghdr> {
        if self.ours.get(index) != Some(&true) {
            return None;
        }
        self.prepare(index);
        self.ours[index] = false;
        Some(self.header(index).as_ptr().cast()) // msg_hdr is mmsghdr's first field
    }

    /// Notes that this slot is ours again.
    ///
    /// # Safety
    ///
    /// The completion of this slot's receive has been taken off the queue, so the kernel no longer writes to the slot.
    #[cfg(feature = "io-uring")]
    pub(super) unsafe fn take(&mut self, index: usize) {
        debug_assert_eq!(self.ours.get(index), Some(&false), "a slot completes once");
        if let Some(ours) = self.ours.get_mut(index) {
            *ours = true;
        }
    }

    /// The datagram in a slot that is ours, whose receive returned `real_bytes` under MSG_TRUNC.
    pub(crate) fn datagram(&self, index: usize, real_bytes: usize) -> Option<(Received, &[u8])> {
        if self.ours.get(index) != Some(&true) {
            return None;
        }
        // SAFETY: the slot is ours, so nobody writes the header, which `point` has initialised, while self is borrowed.
        let header = unsafe { &self.header(index).as_ref().msg_hdr };
        let side = self.side_offset(index);
        let name_bytes = (header.msg_namelen as usize).min(NAME_BYTES);
        // SAFETY: the slot is ours, so the kernel does not write it, and it stays so while self is borrowed: `lend` and
        // `receive_many` need it exclusively.
        let name = unsafe { self.memory.bytes(side + NAME_OFFSET, name_bytes) };
        let control_bytes = (header.msg_controllen as usize).min(CONTROL_BYTES);
        // SAFETY: as above.
        let control = unsafe { self.memory.bytes(side + CONTROL_OFFSET, control_bytes) };
        let stored_bytes = real_bytes.min(self.payload_bytes);
        // SAFETY: as above.
        let payload = unsafe { self.memory.bytes(self.payload_offset(index), stored_bytes) };
        Some((Received::new(real_bytes, name, control), payload))
    }

    /// One recvmmsg(2) without waiting, into the slots from the first on. Returns how many were filled.
    pub(crate) fn receive_many(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        if self.ours.contains(&false) {
            return Err(io::ErrorKind::ResourceBusy.into()); // slots of a chain are not for recvmmsg
        }
        for index in 0..self.used_count {
            self.prepare(index);
        }
        self.used_count = 0;
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: all headers are ours and prepared, now or earlier and not used since: each points to room in the
        // mapping of the size it states. The mapping outlives the call, the kernel writes nothing after it.
        let filled = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.header(0).as_ptr(),
                self.count() as _,
                flags as _,
                ptr::null_mut(),
            )
        };
        let filled = usize::try_from(filled).map_err(|_| io::Error::last_os_error())?;
        self.used_count = filled;
        Ok(filled)
    }

    /// What the last [`receive_many`](Self::receive_many) returned for this slot: the datagram's full length.
    pub(crate) fn real_bytes(&self, index: usize) -> usize {
        if self.ours.get(index) != Some(&true) {
            return 0;
        }
        // SAFETY: the slot is ours, so nobody writes the header, which `point` has initialised, while self is borrowed.
        unsafe { self.header(index).as_ref() }.msg_len as usize
    }
}
