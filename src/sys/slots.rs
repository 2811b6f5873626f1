//! Receive slots: for each datagram a `struct msghdr` with room for name, control data and payload. Single receives of
//! the ring use them, and recvmmsg(2).
#![allow(unsafe_code)]
// The C libraries differ in the integer types of these structs.
#![allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]

#[cfg(all(test, feature = "io-uring"))]
mod model;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use super::mapping::{Mapping, spread};
use super::socket::{CONTROL_BYTES, NAME_BYTES, Received};

const HEADER_BYTES: usize = size_of::<libc::mmsghdr>();
// The layout: the headers of all slots; then for each slot name, iovec and control data; then, page-aligned, the
// payloads.
const NAME_OFFSET: usize = 0;
const IOVEC_OFFSET: usize = NAME_BYTES.next_multiple_of(16);
const CONTROL_OFFSET: usize = IOVEC_OFFSET + size_of::<libc::iovec>();
const SIDE_BYTES: usize = CONTROL_OFFSET + CONTROL_BYTES;

/// The slots of one socket, in one mapping. No reference to a slot exists while the kernel may write to it.
///
/// A slot is ours, which means that the kernel does not write to it, until [`lend`](Self::lend), and again after the
/// completion of its receive.
#[derive(Debug)]
pub(crate) struct Slots {
    memory: Mapping,
    payload_bytes: usize,
    /// For each slot, whether it is ours.
    ours: Vec<bool>,
    /// How many slots the last [`receive_many`](Self::receive_many) filled. They must be prepared before the next.
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

    /// Offset and length of each part of a slot.
    #[cfg(feature = "io-uring")]
    fn parts(&self, index: usize) -> [(usize, usize); 3] {
        [
            (index * HEADER_BYTES, HEADER_BYTES),
            (self.side_offset(index), SIDE_BYTES),
            (self.payload_offset(index), self.payload_bytes),
        ]
    }

    /// Initialises a slot's header, with pointers to the slot's name, iovec and control data.
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
        // SAFETY: `at` has checked that the iovec is inside the mapping. It is aligned (its offset is a multiple of 8),
        // and the slot is ours.
        unsafe { iovec.write(filled) };
        // SAFETY: mmsghdr consists of integers and pointers, for which all zeroes is a valid value.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_name = name.as_ptr().cast();
        header.msg_hdr.msg_namelen = NAME_BYTES as _;
        header.msg_hdr.msg_iov = iovec.as_ptr();
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = control.as_ptr().cast();
        header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        // SAFETY: `at` has checked that the header is inside the mapping. It is aligned (its offset is a multiple of
        // its size), and the slot is ours.
        unsafe { self.header(index).write(header) };
    }

    /// Sets the lengths of name and control data to their room again, because a receive overwrites them.
    fn prepare(&mut self, index: usize) {
        // SAFETY: `point` has initialised the header, which is an aligned mmsghdr inside the mapping. The slot is ours,
        // and self is borrowed exclusively, so nothing else accesses the header while this reference lives.
        let header = unsafe { self.header(index).as_mut() };
        header.msg_hdr.msg_namelen = NAME_BYTES as _;
        header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
    }

    /// Prepares and lends a slot. Returns the header for a RECVMSG submission. `None`: the slot is already lent.
    #[cfg(feature = "io-uring")]
    pub(super) fn lend(&mut self, index: usize) -> Option<*mut libc::msghdr> {
        if self.ours.get(index) != Some(&true) {
            return None;
        }
        self.prepare(index);
        self.ours[index] = false;
        for (offset, length) in self.parts(index) {
            self.memory.forbid(offset, length);
        }
        Some(self.header(index).as_ptr().cast()) // msg_hdr is mmsghdr's first field
    }

    /// Records that a slot is ours again.
    ///
    /// # Safety
    ///
    /// The receive into this slot has completed, so the kernel no longer writes to the slot.
    #[cfg(feature = "io-uring")]
    pub(super) unsafe fn take(&mut self, index: usize) {
        debug_assert_eq!(self.ours.get(index), Some(&false), "a slot completes once");
        if let Some(ours) = self.ours.get_mut(index) {
            *ours = true;
            for (offset, length) in self.parts(index) {
                self.memory.allow(offset, length);
            }
        }
    }

    /// The datagram in a slot whose receive returned `real_bytes` with `MSG_TRUNC`. `None`: the slot is not ours.
    pub(crate) fn datagram(&self, index: usize, real_bytes: usize) -> Option<(Received, &[u8])> {
        if self.ours.get(index) != Some(&true) {
            return None;
        }
        // SAFETY: `point` has initialised the header. The slot is ours, so nothing writes the header while self is
        // borrowed.
        let header = unsafe { &self.header(index).as_ref().msg_hdr };
        let side = self.side_offset(index);
        let name_bytes = (header.msg_namelen as usize).min(NAME_BYTES);
        // SAFETY: the slot is ours, so the kernel does not write to it. It stays ours while self is borrowed, because
        // `lend` and `receive_many` need `&mut self`.
        let name = unsafe { self.memory.bytes(side + NAME_OFFSET, name_bytes) };
        let control_bytes = (header.msg_controllen as usize).min(CONTROL_BYTES);
        // SAFETY: the same holds for all bytes of the slot.
        let control = unsafe { self.memory.bytes(side + CONTROL_OFFSET, control_bytes) };
        let stored_bytes = real_bytes.min(self.payload_bytes);
        // SAFETY: the same holds for all bytes of the slot.
        let payload = unsafe { self.memory.bytes(self.payload_offset(index), stored_bytes) };
        Some((Received::new(real_bytes, name, control), payload))
    }

    /// One recvmmsg(2), without waiting, into the first slots. Returns how many it filled.
    pub(crate) fn receive_many(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        if self.ours.contains(&false) {
            return Err(io::ErrorKind::ResourceBusy.into()); // a chain may still write to them
        }
        for index in 0..self.used_count {
            self.prepare(index);
        }
        self.used_count = 0;
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: all slots are ours. Each header is initialised and prepared, so it points to memory of the mapping
        // and states its size. The mapping outlives the call, after which the kernel does not write.
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

    /// The full length of the datagram that the last [`receive_many`](Self::receive_many) put into this slot.
    pub(crate) fn real_bytes(&self, index: usize) -> usize {
        if self.ours.get(index) != Some(&true) {
            return 0;
        }
        // SAFETY: `point` has initialised the header. The slot is ours, so nothing writes the header while self is
        // borrowed.
        unsafe { self.header(index).as_ref() }.msg_len as usize
    }
}
