//! A ring of provided buffers (`IORING_REGISTER_PBUF_RING`): the kernel takes one for each datagram of a multishot
//! receive, and gets it back when the datagram was delivered. Available since Linux 5.19.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::mapping::Mapping;
use super::socket::{CONTROL_BYTES, NAME_BYTES, Received};

/// Size of `struct io_uring_buf` (include/uapi/linux/io_uring.h), whose ring shares its first entry with the tail.
const ENTRY_BYTES: usize = size_of::<BufRingEntry>();
/// Size of `struct io_uring_recvmsg_out`: name length, control length, payload length, flags.
const OUT_BYTES: usize = 16;
/// What stands before the payload in each buffer.
pub(crate) const HEAD_BYTES: usize = OUT_BYTES + NAME_BYTES + CONTROL_BYTES;

/// Buffers and the ring that lends them to the kernel.
///
/// A buffer is ours from the completion that names it until [`give_back`](Self::give_back). Only those are ever read.
#[derive(Debug)]
pub(super) struct BufferRing {
    entries: Mapping,
    buffers: Mapping,
    buffer_bytes: usize,
    /// Whether the buffer of this id is ours.
    ours: Vec<bool>,
    ours_count: usize,
    /// The ring's tail, as of the next [`commit`](Self::commit).
    tail: u16,
}

impl BufferRing {
    /// `count` buffers, a power of two up to 32,768, each with room for `payload_bytes` of datagram. All are ours.
    pub(super) fn new(count: u16, payload_bytes: usize) -> io::Result<Self> {
        let buffer_bytes = (HEAD_BYTES + payload_bytes).next_multiple_of(64); // a cache line
        let length = usize::from(count)
            .checked_mul(buffer_bytes)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            entries: Mapping::new(usize::from(count) * ENTRY_BYTES)?,
            buffers: Mapping::new(length)?,
            buffer_bytes,
            ours: vec![true; usize::from(count)],
            ours_count: usize::from(count),
            tail: 0,
        })
    }

    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.ours.len()).unwrap_or(u16::MAX) // it was one
    }

    /// How many buffers the kernel has.
    pub(super) fn lent_count(&self) -> usize {
        self.ours.len() - self.ours_count
    }

    /// The address to register.
    pub(super) fn address(&self) -> u64 {
        self.entries.at(0, 0).as_ptr().expose_provenance() as u64
    }

    /// Notes that a completion has named this buffer.
    ///
    /// # Safety
    ///
    /// It has: the kernel is done with the buffer.
    pub(super) unsafe fn take(&mut self, id: u16) {
        if let Some(ours) = self.ours.get_mut(usize::from(id)) {
            self.ours_count += usize::from(!*ours);
            *ours = true;
        }
    }

    /// Lends a buffer to the kernel, from the next [`commit`](Self::commit) on. One that it has already is left alone.
    pub(super) fn give_back(&mut self, id: u16) {
        let index = usize::from(id);
        if self.ours.get(index) != Some(&true) {
            return;
        }
        self.ours[index] = false;
        self.ours_count -= 1;
        let place = usize::from(self.tail) & (self.ours.len() - 1);
        let buffer = self
            .buffers
            .at(index * self.buffer_bytes, self.buffer_bytes);
        let entry = self
            .entries
            .at(place * ENTRY_BYTES, ENTRY_BYTES)
            .cast::<BufRingEntry>();
        // SAFETY: `entry` is a place in the zeroed, page-aligned ring, and valid as any bytes are. The kernel reads only
        // entries below the tail it was told, and this one is not: with as many entries as buffers, the place is free
        // while its buffer is ours. The fields written leave the tail, which lies in the first entry, alone.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(buffer.as_ptr().expose_provenance() as u64);
        entry.set_len(u32::try_from(self.buffer_bytes).unwrap_or(u32::MAX));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Tells the kernel of the buffers given back.
    pub(super) fn commit(&mut self) {
        let first = self.entries.at(0, ENTRY_BYTES).cast::<BufRingEntry>();
        // SAFETY: `first` is the ring's first entry, initialised as it was zeroed, where the tail lies.
        let tail = unsafe { BufRingEntry::tail(first.as_ptr()) };
        // SAFETY: the pointer is into our mapping and aligned (offset 14 of a page); the kernel reads the tail
        // with an acquiring load, and nothing but this writes it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The datagram in a buffer that is ours, of which a completion said that `filled_bytes` were written.
    pub(super) fn datagram(&self, id: u16, filled_bytes: usize) -> Option<(Received, &[u8])> {
        let index = usize::from(id);
        if self.ours.get(index) != Some(&true) {
            return None;
        }
        // SAFETY: the buffer is ours, so the kernel does not write it, and it stays so while self is borrowed:
        // `give_back` needs it exclusively.
        let buffer = unsafe {
            self.buffers.bytes(
                index * self.buffer_bytes,
                filled_bytes.min(self.buffer_bytes),
            )
        };
        read_out(buffer)
    }
}

/// Takes a multishot RECVMSG's buffer apart: `struct io_uring_recvmsg_out`, then name, control and payload, the first
/// two in fields of the size that was asked for.
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

    #[test]
    fn a_buffer_is_readable_only_while_it_is_ours() {
        let mut ring = BufferRing::new(4, 64).unwrap();
        assert_eq!(ring.lent_count(), 0);
        for id in 0..4 {
            ring.give_back(id);
            ring.give_back(id); // a second time changes nothing
        }
        ring.commit();
        assert_eq!((ring.lent_count(), ring.tail), (4, 4));
        assert!(ring.datagram(2, 128).is_none());
        // SAFETY: no ring was registered, so no kernel writes into the buffer.
        unsafe { ring.take(2) };
        assert_eq!(ring.lent_count(), 3);
        assert!(ring.datagram(2, 128).is_some());
        assert!(
            ring.datagram(2, HEAD_BYTES - 1).is_none(),
            "too short for its head"
        );
        assert!(ring.datagram(4, 128).is_none(), "no such buffer");
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
