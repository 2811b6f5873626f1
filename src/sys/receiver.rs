//! The receives of one socket: the memory that they write into, and how many are in flight.
#![allow(unsafe_code)]

use io_uring::cqueue;

use super::buffer_ring::BufferRing;
use super::mapping::Mapping;
use super::place::Place;
use super::slots::Slots;
use super::socket::Received;

/// The memory that the receives of a socket write into.
#[derive(Debug)]
pub(super) enum Memory {
    /// For a multishot receive.
    Buffers {
        ring: BufferRing,
        /// The buffer group that `ring` is registered as.
        group: u16,
        /// The `struct msghdr` of the multishot RECVMSG, in memory that does not move.
        header: Mapping,
    },
    /// For a chain of single receives.
    Slots(Slots),
}

/// The receives of one socket, and their memory.
#[derive(Debug)]
pub(super) struct Receiver {
    pub memory: Memory,
    /// Distinguishes this receiver from earlier ones with the same number.
    pub generation: u16,
    pub in_flight_count: usize,
    /// The first slot of the chain whose receive has not completed.
    pub head: u16,
}

impl Receiver {
    pub(super) fn new(memory: Memory, generation: u16) -> Self {
        Self {
            memory,
            generation,
            in_flight_count: 0,
            head: 0,
        }
    }

    /// How many buffers the kernel may write into. All slots of a chain count, because each receive has its own.
    pub(super) fn lent_count(&self) -> usize {
        match &self.memory {
            Memory::Buffers { ring, .. } => ring.lent_count(),
            Memory::Slots(slots) => slots.count(),
        }
    }

    /// Whether more than a quarter of the buffers are lent. A chain has a slot for each of its receives.
    pub(super) fn has_reserve(&self) -> bool {
        match &self.memory {
            Memory::Buffers { ring, .. } => ring.has_reserve(),
            Memory::Slots(_) => true,
        }
    }

    /// Records a completion of the receive at `index`. Returns where its datagram is. `None`: it has no datagram.
    ///
    /// # Safety
    ///
    /// The kernel has completed the receive at `index` of this receiver with `result` and `flags`. The caller passes
    /// each completion once, in the kernel's order.
    pub(super) unsafe fn complete(&mut self, index: u16, result: i32, flags: u32) -> Option<Place> {
        let ended_count = usize::from(!cqueue::more(flags));
        debug_assert!(self.in_flight_count >= ended_count, "a receive ends once");
        self.in_flight_count = self.in_flight_count.saturating_sub(ended_count);
        match &mut self.memory {
            Memory::Buffers { ring, .. } => {
                let written_bytes = u32::try_from(result).unwrap_or(0);
                let buffer = cqueue::buffer_select(flags)?;
                // SAFETY: the caller guarantees that the kernel completed a receive with this result and these flags,
                // and passes each completion once and in order. They name `buffer`, report `written_bytes`, and state
                // in IORING_CQE_F_BUF_MORE whether the kernel continues to write to the buffer, as `take` requires.
                unsafe { ring.take(buffer, written_bytes, cqueue::buffer_more(flags)) }
            }
            Memory::Slots(slots) => {
                self.head = index + 1;
                // SAFETY: the caller guarantees that the receive into this slot has completed. Such a receive has only
                // one completion, after which the kernel does not write to the slot.
                unsafe { slots.take(usize::from(index)) };
                (result >= 0).then_some(Place {
                    buffer: index,
                    offset: 0,
                })
            }
        }
    }

    /// The datagram at a place that [`complete`](Self::complete) returned and that has not been given back. `None`: the
    /// kernel wrote fewer bytes than it writes before each datagram.
    pub(super) fn datagram(&self, place: Place, result_bytes: usize) -> Option<(Received, &[u8])> {
        match &self.memory {
            Memory::Buffers { ring, .. } => ring.datagram(place, result_bytes),
            Memory::Slots(slots) => slots.datagram(usize::from(place.buffer), result_bytes),
        }
    }

    /// Gives back a datagram. Its buffer is lent to the kernel again at the next [`commit`](Self::commit); a slot is
    /// lent again with the next chain.
    pub(super) fn give_back(&mut self, buffer: u16) {
        if let Memory::Buffers { ring, .. } = &mut self.memory {
            ring.give_back(buffer);
        }
    }

    /// Publishes the buffers that are lent again to the kernel.
    pub(super) fn commit(&mut self) {
        if let Memory::Buffers { ring, .. } = &mut self.memory {
            ring.commit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::buffer_ring::Shape;
    use super::*;

    /// `IORING_CQE_F_BUFFER`, with buffer 1.
    const BUFFER_1: u32 = 1 << 16 | 1;
    /// `IORING_CQE_F_MORE`.
    const MORE: u32 = 2;

    fn multishot() -> Receiver {
        let mut ring = BufferRing::new(Shape::plain(2, 64)).unwrap();
        ring.lend_all();
        let header = Mapping::new(1).unwrap();
        let memory = Memory::Buffers {
            ring,
            group: 0,
            header,
        };
        let mut receiver = Receiver::new(memory, 1);
        receiver.in_flight_count = 1;
        receiver
    }

    #[test]
    fn a_multishot_receive_goes_on_until_a_completion_without_more() {
        let mut receiver = multishot();
        // SAFETY: no ring was registered, so no kernel writes into the buffer.
        let place = unsafe { receiver.complete(0, 128, BUFFER_1 | MORE) };
        let first = Place {
            buffer: 1,
            offset: 0,
        };
        assert_eq!(place, Some(first));
        assert_eq!((receiver.in_flight_count, receiver.lent_count()), (1, 1));
        receiver.give_back(1);
        receiver.commit();
        assert_eq!(receiver.lent_count(), 2);
        // SAFETY: no ring was registered, so no kernel writes into the buffer.
        let place = unsafe { receiver.complete(0, -libc::ENOBUFS, 0) };
        assert_eq!(place, None);
        assert_eq!(receiver.in_flight_count, 0);
    }

    #[test]
    fn a_chains_head_moves_with_each_completion() {
        let mut slots = Slots::new(2, 64).unwrap();
        slots.lend(0).unwrap();
        slots.lend(1).unwrap();
        let mut receiver = Receiver::new(Memory::Slots(slots), 1);
        receiver.in_flight_count = 2;
        // SAFETY: the slot was not submitted to a ring, so no kernel writes into it.
        let place = unsafe { receiver.complete(0, 20, 0) };
        assert!(place.is_some());
        // SAFETY: the slot was not submitted to a ring, so no kernel writes into it.
        let place = unsafe { receiver.complete(1, -libc::ECANCELED, 0) };
        assert!(place.is_none());
        assert_eq!((receiver.head, receiver.in_flight_count), (2, 0));
        assert_eq!(receiver.lent_count(), 2);
    }
}
