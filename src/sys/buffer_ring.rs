//! A ring of provided buffers (`IORING_REGISTER_PBUF_RING`). The kernel takes a buffer from it for each datagram of a
//! multishot receive. A buffer is lent to the kernel again after its datagrams have been delivered. Available since
//! Linux 5.19.
//!
//! A plain ring holds one datagram per buffer. A packed ring holds datagrams back to back in larger buffers, so that a
//! burst touches less memory (`IOU_PBUF_RING_INC` of Linux 6.12, with `min_left`, in the stable kernels since 2026-04).
#![allow(unsafe_code)]

#[cfg(any(test, fuzzing))]
pub(super) mod model;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU16, Ordering};

use super::mapping::{Mapping, spread};
use super::place::Place;
use super::socket::{CONTROL_BYTES, NAME_BYTES, Received};

/// `struct io_uring_buf` (include/uapi/linux/io_uring.h) without its last field. Packed, so that it has no padding
/// instead of that field.
#[repr(C, packed)]
struct Entry {
    address: u64,
    length_bytes: u32,
    buffer: u16,
}

/// Size of `struct io_uring_buf`, with its last field, which is reserved. In the first entry that is the ring's tail.
const ENTRY_BYTES: usize = 16;
/// Offset of the tail in `struct io_uring_buf_ring`.
const TAIL_OFFSET: usize = 14;
const _: () = assert!(size_of::<Entry>() == TAIL_OFFSET);

/// Size of `struct io_uring_recvmsg_out`: name length, control length, payload length, flags.
const OUT_BYTES: usize = 16;
/// What the kernel writes before the payload of each datagram: that struct, name and control data.
const HEAD_BYTES: usize = OUT_BYTES + NAME_BYTES + CONTROL_BYTES;

/// The number and size of a ring's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub buffer_count: u16,
    pub buffer_bytes: usize,
    /// In a packed ring, a buffer with less room than this is full. Zero: a plain ring.
    pub min_left_bytes: u32,
}

/// The part of each packed buffer that short datagrams fill. It is followed by room for one datagram of the greatest
/// length, which is not touched until such a datagram arrives.
const PACKED_BYTES: usize = 48 << 10;
/// The smallest number of buffers in a packed ring, so that some are lent while others are in hand.
const FEWEST_PACKED: u16 = 4;
/// The largest number of buffers in a packed ring, so that the processor's cache holds the part that short datagrams
/// fill.
const MOST_PACKED: u16 = 8;

impl Shape {
    /// One datagram per buffer: `count` buffers (a power of two up to 32,768), each with room for `payload_bytes`.
    pub(super) fn plain(count: u16, payload_bytes: usize) -> Self {
        Self {
            buffer_count: count,
            buffer_bytes: spread(HEAD_BYTES + payload_bytes),
            min_left_bytes: 0,
        }
    }

    /// Fewer and larger buffers, with no more memory in total than the plain ones. `None`: there is too little memory,
    /// or a size overflows.
    pub(super) fn packed(count: u16, payload_bytes: usize) -> Option<Self> {
        let plain = Self::plain(count, payload_bytes);
        let min_left_bytes = u32::try_from(HEAD_BYTES + payload_bytes).ok()?;
        let buffer_bytes = (PACKED_BYTES + plain.buffer_bytes).next_multiple_of(4096); // a page
        let affordable = plain.buffer_bytes.checked_mul(count.into())? / buffer_bytes;
        let most = u16::try_from(affordable).map_or(MOST_PACKED, |most| most.min(MOST_PACKED));
        let buffer_count = 1 << most.checked_ilog2()?;
        (buffer_count >= FEWEST_PACKED).then_some(Self {
            buffer_count,
            buffer_bytes,
            min_left_bytes,
        })
    }
}

/// The state of a buffer that the program and the kernel share.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// The kernel may write after the datagrams that it has completed.
    is_lent: bool,
    /// How many bytes completed datagrams fill.
    filled_bytes: u32,
    /// How many of its datagrams have not been given back yet.
    in_hand_count: u32,
}

/// Buffers, and the ring that lends them to the kernel.
///
/// Only bytes that a completion has reported as written are read. They belong to the program until their buffer is lent
/// again, which happens after all its datagrams have been [given back](Self::give_back).
#[derive(Debug)]
pub(super) struct BufferRing {
    entries: Mapping,
    buffers: Mapping,
    shape: Shape,
    shares: Vec<Share>,
    lent_count: usize,
    /// The ring's tail, as of the next [`commit`](Self::commit).
    tail: u16,
}

impl BufferRing {
    /// Allocates buffers of this shape. None is lent yet.
    pub(super) fn new(shape: Shape) -> io::Result<Self> {
        let count = usize::from(shape.buffer_count);
        let length = count
            .checked_mul(shape.buffer_bytes)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let unused = Share {
            is_lent: false,
            filled_bytes: 0,
            in_hand_count: 0,
        };
        Ok(Self {
            entries: Mapping::new(count * ENTRY_BYTES)?,
            buffers: Mapping::new(length)?,
            shape,
            shares: vec![unused; count],
            lent_count: 0,
            tail: 0,
        })
    }

    /// How many buffers the kernel may write into.
    pub(super) fn lent_count(&self) -> usize {
        self.lent_count
    }

    /// Whether more than a quarter of the buffers are lent.
    pub(super) fn has_reserve(&self) -> bool {
        4 * self.lent_count > usize::from(self.shape.buffer_count)
    }

    /// Registers the ring with an io_uring as buffer group `group`. `EINVAL`: the kernel does not know this shape.
    ///
    /// # Safety
    ///
    /// After success the caller keeps this value until the group is unregistered, or until the io_uring is closed and
    /// none of its receives is in flight.
    pub(super) unsafe fn register(&self, uring: BorrowedFd<'_>, group: u16) -> io::Result<()> {
        let is_packed = self.shape.min_left_bytes > 0;
        let registration = Registration {
            address: self.entries.at(0, 0).as_ptr().expose_provenance() as u64,
            entry_count: self.shape.buffer_count.into(),
            group,
            flags: if is_packed { PBUF_RING_INC } else { 0 },
            min_left_bytes: self.shape.min_left_bytes,
            reserved: [0; 5],
        };
        // SAFETY: the call reads `registration`, a local that outlives it. The address in it is that of a page-aligned
        // mapping with room for `entry_count` entries. After success the kernel reads the entries and writes into the
        // buffers that they name. The caller keeps this value, which owns both, until the kernel no longer does.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                uring.as_raw_fd(),
                REGISTER_PBUF_RING,
                &raw const registration,
                1,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Lends all buffers to the kernel. To be called once.
    pub(super) fn lend_all(&mut self) {
        for id in 0..self.shape.buffer_count {
            self.lend(id);
        }
        self.commit();
    }

    /// Records a completion that names buffer `id` and reports `written_bytes` written, after those of earlier
    /// completions of this buffer. Returns where they are. `None`: there is no such buffer.
    ///
    /// # Safety
    ///
    /// The caller has such a completion, and passes each completion once, in the kernel's order. If `is_lent` is false,
    /// the kernel has finished with the whole buffer. Otherwise it may still write after those bytes, but not to them.
    pub(super) unsafe fn take(
        &mut self,
        id: u16,
        written_bytes: u32,
        is_lent: bool,
    ) -> Option<Place> {
        let share = self.shares.get_mut(usize::from(id));
        debug_assert!(share.is_some(), "the kernel names only buffers it was lent");
        let share = share?;
        let offset = share.filled_bytes;
        share.filled_bytes = offset.saturating_add(written_bytes);
        share.in_hand_count += 1;
        self.lent_count -= usize::from(share.is_lent && !is_lent);
        share.is_lent &= is_lent;
        let buffer_bytes = self.shape.buffer_bytes;
        let [start, end] = [offset, share.filled_bytes].map(|at| buffer_bytes.min(at as usize));
        let buffer_start = usize::from(id) * buffer_bytes;
        self.buffers.allow(buffer_start + start, end - start);
        Some(Place { buffer: id, offset })
    }

    /// Gives back a datagram of buffer `id`. When it was the last one, the buffer is lent to the kernel again, from the
    /// next [`commit`](Self::commit) on.
    pub(super) fn give_back(&mut self, id: u16) {
        let Some(share) = self.shares.get_mut(usize::from(id)) else {
            return;
        };
        if share.in_hand_count == 0 {
            return;
        }
        share.in_hand_count -= 1;
        if share.in_hand_count == 0 && !share.is_lent {
            self.lend(id);
        }
    }

    /// Puts a buffer into the ring. It must not be lent, and none of its datagrams in hand. `id` is below the buffer
    /// count.
    fn lend(&mut self, id: u16) {
        let index = usize::from(id);
        let (count, buffer_bytes) = (self.shares.len(), self.shape.buffer_bytes);
        self.shares[index] = Share {
            is_lent: true,
            filled_bytes: 0,
            in_hand_count: 0,
        };
        self.lent_count += 1;
        debug_assert!(self.lent_count <= count, "each buffer is lent once");
        let place = usize::from(self.tail) & (count - 1);
        let buffer = self.buffers.at(index * buffer_bytes, buffer_bytes);
        let entry = Entry {
            address: buffer.as_ptr().expose_provenance() as u64,
            // The kernel uses no more of a longer buffer.
            length_bytes: u32::try_from(buffer_bytes).unwrap_or(u32::MAX),
            buffer: id,
        };
        let at = self.entries.at(place * ENTRY_BYTES, size_of::<Entry>());
        // SAFETY: `at` has checked that the place is inside the mapping, and an Entry is packed, so it needs no
        // alignment. The kernel accesses only the entries between its head and the tail that `commit` has published.
        // This place is not among them: there are as many places as buffers, and this buffer was not lent until now. An
        // Entry ends before the tail, which the kernel may read at any time, and the write makes no reference.
        unsafe { at.cast::<Entry>().write(entry) };
        self.tail = self.tail.wrapping_add(1);
        self.buffers.forbid(index * buffer_bytes, buffer_bytes);
    }

    /// Publishes the lent buffers to the kernel.
    pub(super) fn commit(&mut self) {
        let tail = self.entries.at(TAIL_OFFSET, size_of::<AtomicU16>());
        // SAFETY: `at` has checked that the tail is inside the mapping, which lives as long as the borrow of self. The
        // tail is aligned (offset 14 of a page) and was initialised with zero. The kernel only reads it, with an
        // acquiring load, and this program accesses it only here, so all accesses are atomic.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast().as_ptr()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The datagram at a place that [`take`](Self::take) has returned for `written_bytes` bytes, and that was not given
    /// back. `None`: there is no such place, or the bytes are too few for a datagram.
    pub(super) fn datagram(&self, place: Place, written_bytes: usize) -> Option<(Received, &[u8])> {
        let index = usize::from(place.buffer);
        let share = self.shares.get(index)?;
        let offset = place.offset as usize;
        let end = offset.checked_add(written_bytes)?;
        let is_ours = share.in_hand_count > 0
            && end <= share.filled_bytes as usize
            && end <= self.shape.buffer_bytes;
        if !is_ours {
            return None;
        }
        // SAFETY: the bytes are inside `filled_bytes`, which `take` has counted since the buffer was lent, and the
        // caller of `take` guarantees that the kernel writes only after them. One of the buffer's datagrams is in hand,
        // so the buffer was not lent again. It cannot be while self is borrowed, because `lend` needs `&mut self`.
        let datagram = unsafe {
            self.buffers
                .bytes(index * self.shape.buffer_bytes + offset, written_bytes)
        };
        read_out(datagram)
    }
}

/// `struct io_uring_buf_reg` (include/uapi/linux/io_uring.h, 2026-04). In earlier kernels `min_left_bytes` is reserved:
/// they refuse any value but zero.
#[repr(C)]
struct Registration {
    address: u64,
    entry_count: u32,
    group: u16,
    flags: u16,
    min_left_bytes: u32,
    reserved: [u32; 5],
}

/// `IORING_REGISTER_PBUF_RING`.
const REGISTER_PBUF_RING: libc::c_uint = 22;
/// `IOU_PBUF_RING_INC`, Linux 6.12.
const PBUF_RING_INC: u16 = 2;

/// Some kernels that do not pack keep the groups below this one in a table (Linux 6.1, io_uring/kbuf.c, `BGID_ARRAY`).
const OLD_TABLE_GROUPS: u16 = 64;

/// The buffer group of a receiver. No two receivers have the same group, whatever their shapes. `None`: no group is
/// left.
///
/// In the table of an old kernel, a new ring inherits the `head` of the ring before it, and the kernel then writes into
/// buffers that it was not lent. So a plain ring never gets a group of the table. A packed ring may, because kernels
/// that pack have no table, and find the first group faster than any other. Above the table, packed rings have the even
/// groups and plain rings the odd ones.
pub(super) fn buffer_group(receiver: u16, shape: Shape) -> Option<u16> {
    let is_packed = shape.min_left_bytes > 0;
    match receiver.checked_sub(OLD_TABLE_GROUPS) {
        None if is_packed => Some(receiver),
        Some(above) if is_packed => above.checked_mul(2)?.checked_add(OLD_TABLE_GROUPS),
        _ => receiver.checked_mul(2)?.checked_add(OLD_TABLE_GROUPS + 1),
    }
}

/// Splits what a multishot RECVMSG wrote: `struct io_uring_recvmsg_out`, then name, control data and payload. Name and
/// control data have the sizes that the receive requested. `None`: there are too few bytes.
fn read_out(buffer: &[u8]) -> Option<(Received, &[u8])> {
    let (out, rest) = buffer.split_first_chunk::<OUT_BYTES>()?;
    let (name, rest) = rest.split_first_chunk::<NAME_BYTES>()?;
    let (control, payload) = rest.split_first_chunk::<CONTROL_BYTES>()?;
    let word = |index: usize| {
        out.get(4 * index..)?
            .first_chunk()
            .map(|word| u32::from_ne_bytes(*word) as usize)
    };
    let (name_bytes, control_bytes, real_bytes) = (word(0)?, word(1)?, word(2)?);
    let name = name.get(..name_bytes).unwrap_or(name);
    let control = control.get(..control_bytes).unwrap_or(control);
    Some((Received::new(real_bytes, name, control), payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(shape: Shape) -> BufferRing {
        let mut ring = BufferRing::new(shape).unwrap();
        assert_eq!(ring.lent_count(), 0);
        ring.lend_all();
        assert_eq!(ring.lent_count(), shape.buffer_count.into());
        ring
    }

    #[test]
    fn buffer_groups_are_distinct_and_plain_rings_in_none_of_an_old_kernels_table() {
        let plain = Shape::plain(4, 64);
        let packed = Shape::packed(256, 16 << 10).unwrap();
        let mut seen = std::collections::HashSet::new();
        let last = 32_735; // room for 32,736 receivers of either kind
        for receiver in 0..=last {
            let group = buffer_group(receiver, plain).unwrap();
            assert!(group >= OLD_TABLE_GROUPS && seen.insert(group));
            assert!(seen.insert(buffer_group(receiver, packed).unwrap()));
        }
        assert_eq!(buffer_group(last + 1, plain), None);
        assert_eq!(buffer_group(u16::MAX, plain), None);
        assert_eq!(buffer_group(u16::MAX, packed), None);
        assert_eq!(buffer_group(0, packed), Some(0));
    }

    #[test]
    fn a_buffer_is_readable_only_while_it_is_ours() {
        let mut ring = ring(Shape::plain(4, 64));
        let first = |buffer| Place { buffer, offset: 0 };
        ring.give_back(2); // no effect on a lent buffer
        assert_eq!((ring.lent_count(), ring.tail), (4, 4));
        assert!(ring.datagram(first(2), 128).is_none());
        // SAFETY: no ring was registered, so no kernel writes into the buffer.
        assert_eq!(unsafe { ring.take(2, 128, false) }, Some(first(2)));
        assert_eq!(ring.lent_count(), 3);
        assert!(ring.datagram(first(2), 128).is_some());
        assert!(ring.datagram(first(2), 129).is_none(), "not written");
        let too_short = HEAD_BYTES - 1;
        assert!(
            ring.datagram(first(2), too_short).is_none(),
            "too few bytes for the head"
        );
        assert!(ring.datagram(first(4), 128).is_none(), "no such buffer");
        ring.give_back(2);
        assert_eq!((ring.lent_count(), ring.tail), (4, 5));
        assert!(ring.datagram(first(2), 128).is_none());
    }

    #[test]
    fn a_packed_buffer_is_lent_again_with_its_last_datagram() {
        let shape = Shape::packed(256, 128 << 10).unwrap();
        let mut ring = ring(shape);
        let count = usize::from(shape.buffer_count);
        for (index, offset) in [0, 200, 400].into_iter().enumerate() {
            let place = Place { buffer: 1, offset };
            // SAFETY: no ring was registered, so no kernel writes into the buffer.
            assert_eq!(unsafe { ring.take(1, 200, index < 2) }, Some(place));
            assert!(ring.datagram(place, 200).is_some());
            let behind = Place {
                buffer: 1,
                offset: offset + 200,
            };
            assert!(
                ring.datagram(behind, 1).is_none(),
                "the kernel may write here"
            );
            assert_eq!(ring.lent_count(), count - usize::from(index == 2));
        }
        ring.give_back(1);
        ring.give_back(1);
        assert_eq!(ring.lent_count(), count - 1);
        ring.give_back(1);
        assert_eq!(ring.lent_count(), count);
    }

    #[test]
    fn a_packed_buffer_given_back_while_it_is_lent_goes_on() {
        let mut ring = ring(Shape::packed(256, 16 << 10).unwrap());
        let tail = ring.tail;
        for offset in [0, 200] {
            // SAFETY: no ring was registered, so no kernel writes into the buffer.
            let place = unsafe { ring.take(0, 200, true) };
            assert_eq!(place, Some(Place { buffer: 0, offset }));
            ring.give_back(0);
        }
        assert_eq!(ring.tail, tail);
    }

    #[test]
    fn packing_needs_memory_and_takes_no_more_than_was_asked_for() {
        assert_eq!(Shape::packed(4, 64), None);
        assert_eq!(Shape::packed(256, 512), None);
        for (count, payload_bytes) in [
            (256, 16 << 10),
            (256, 128 << 10),
            (1024, 1 << 10),
            (1 << 15, 32 << 10),
            (16, 256 << 10),
        ] {
            let (plain, packed) = (
                Shape::plain(count, payload_bytes),
                Shape::packed(count, payload_bytes).unwrap(),
            );
            let total = |shape: Shape| usize::from(shape.buffer_count) * shape.buffer_bytes;
            assert!(total(packed) <= total(plain), "{packed:?}");
            assert!(packed.buffer_count.is_power_of_two());
            let left_bytes = packed.min_left_bytes as usize;
            assert!(left_bytes >= HEAD_BYTES + payload_bytes);
            assert!(packed.buffer_bytes >= left_bytes + PACKED_BYTES);
        }
    }

    #[test]
    fn the_head_of_a_buffer_is_taken_apart() {
        let mut buffer = Vec::new();
        for word in [12u32, 24, 1000, 0] {
            buffer.extend_from_slice(&word.to_ne_bytes());
        }
        buffer.extend_from_slice(&[16, 0, 0, 0]);
        buffer.extend_from_slice(&77u32.to_ne_bytes());
        buffer.extend_from_slice(&[0; 4]);
        let mut control = 20usize.to_ne_bytes().to_vec();
        control.extend_from_slice(&270i32.to_ne_bytes());
        control.extend_from_slice(&3i32.to_ne_bytes());
        control.extend_from_slice(&7u32.to_ne_bytes());
        control.resize(CONTROL_BYTES, 0);
        buffer.extend(control);
        buffer.extend_from_slice(b"payload");
        let (received, payload) = read_out(&buffer).unwrap();
        assert_eq!(payload, b"payload");
        assert_eq!(
            (received.real_bytes, received.sender_port_id, received.group),
            (1000, 77, Some(7))
        );
    }
}
