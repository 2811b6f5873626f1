//! A model of the kernel that uses the ring as the kernel does, and checks after each step that every buffer belongs to
//! exactly one side: it is in the ring, where the kernel may write into it, or its datagrams are in the program's hands.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU16, Ordering};

use super::{BufferRing, ENTRY_BYTES, Entry, HEAD_BYTES, Shape, TAIL_OFFSET};
use crate::sys::place::Place;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The kernel writes a datagram of a short or a long length into the next buffer.
    Write { is_long: bool },
    /// The kernel takes a buffer and then fails, so it writes nothing.
    Fail,
    /// The program returns the datagram with this number among those in hand.
    GiveBack(usize),
    /// The program publishes the buffers that it lends again.
    Commit,
}

/// A datagram in the program's hands, with the byte that fills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct InHand {
    buffer: u16,
    offset: u32,
    length: usize,
    fill: u8,
}

/// The ring, and the kernel's side of it.
struct World {
    ring: BufferRing,
    /// The next entry that the kernel takes (`struct io_buffer_list::head`).
    head: u16,
    /// How many bytes the kernel has written into the buffer at `head`.
    written_bytes: usize,
    in_hand: Vec<InHand>,
    fill: u8,
}

impl World {
    fn new(shape: Shape) -> Self {
        let mut ring = BufferRing::new(shape).expect("memory");
        ring.lend_all();
        let this = Self {
            ring,
            head: 0,
            written_bytes: 0,
            in_hand: Vec::new(),
            fill: 0,
        };
        this.check();
        this
    }

    /// The tail that the kernel sees.
    fn published_tail(&self) -> u16 {
        let tail = self.ring.entries.at(TAIL_OFFSET, size_of::<AtomicU16>());
        // SAFETY: `at` has checked that the tail is inside the mapping. It is aligned, and only accessed atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast().as_ptr()) };
        tail.load(Ordering::Acquire)
    }

    /// The buffer of the ring's entry with this number.
    fn buffer_at(&self, number: u16) -> u16 {
        let count = self.ring.shape.buffer_count;
        let place = usize::from(number & (count - 1)) * ENTRY_BYTES;
        let entry = self.ring.entries.at(place, size_of::<Entry>());
        // SAFETY: `at` has checked that the entry is inside the mapping. No kernel has this ring, so nothing writes it.
        let entry = unsafe { entry.cast::<Entry>().read() };
        let (buffer, address, length) = (entry.buffer, entry.address, entry.length_bytes);
        let bytes = self.ring.shape.buffer_bytes;
        let expected = self.ring.buffers.at(usize::from(buffer) * bytes, bytes);
        assert_eq!(
            address,
            expected.as_ptr().addr() as u64,
            "the buffer's own memory"
        );
        assert_eq!(length as usize, bytes);
        buffer
    }

    /// Takes a step. False: it is not possible now.
    fn take(&mut self, step: Step) -> bool {
        let is_possible = match step {
            Step::Write { is_long } => self.write(is_long),
            Step::Fail => self.fail(),
            Step::GiveBack(number) if number < self.in_hand.len() => {
                let datagram = self.in_hand.remove(number);
                self.ring.give_back(datagram.buffer);
                true
            }
            Step::GiveBack(_) => false,
            Step::Commit => {
                let is_needed = self.published_tail() != self.ring.tail;
                self.ring.commit();
                is_needed
            }
        };
        self.check();
        is_possible
    }

    /// The kernel writes a datagram, as `io_recvmsg` does, and completes it.
    fn write(&mut self, is_long: bool) -> bool {
        if self.head == self.published_tail() {
            return false; // -ENOBUFS
        }
        let buffer = self.buffer_at(self.head);
        let Shape {
            buffer_bytes,
            min_left_bytes,
            ..
        } = self.ring.shape;
        let left_bytes = buffer_bytes - self.written_bytes;
        let length = if is_long { left_bytes } else { HEAD_BYTES + 8 };
        let offset = self.written_bytes;
        self.fill = self.fill.wrapping_add(1);
        let start = usize::from(buffer) * buffer_bytes + offset;
        let place = self.ring.buffers.at(start, length);
        self.ring.buffers.allow(start, length); // to this kernel
        // SAFETY: `at` has checked that the bytes are inside the mapping. They are behind those of the buffer's earlier
        // datagrams, and no slice of them lives, because each borrows the ring.
        unsafe { place.as_ptr().write_bytes(self.fill, length) };
        let is_lent = min_left_bytes > 0 && left_bytes - length >= min_left_bytes as usize;
        self.advance(is_lent, length);
        let length_bytes = u32::try_from(length).expect("a short datagram");
        // SAFETY: this model is the kernel, and has written these bytes behind those of the buffer's earlier datagrams.
        let place = unsafe { self.ring.take(buffer, length_bytes, is_lent) };
        let offset = u32::try_from(offset).expect("a short buffer");
        assert_eq!(place, Some(Place { buffer, offset }));
        self.in_hand.push(InHand {
            buffer,
            offset,
            length,
            fill: self.fill,
        });
        true
    }

    /// The kernel has taken a buffer, and completes with an error. The engine gives the buffer back at once.
    fn fail(&mut self) -> bool {
        if self.head == self.published_tail() || self.written_bytes > 0 {
            return false;
        }
        let buffer = self.buffer_at(self.head);
        self.advance(false, 0);
        // SAFETY: this model is the kernel, and has written nothing into the buffer.
        let place = unsafe { self.ring.take(buffer, 0, false) };
        assert!(place.is_some());
        self.ring.give_back(buffer);
        true
    }

    fn advance(&mut self, is_lent: bool, length: usize) {
        if is_lent {
            self.written_bytes += length;
        } else {
            (self.head, self.written_bytes) = (self.head.wrapping_add(1), 0);
        }
    }

    /// The buffers from the ring's head to its tail.
    fn in_ring(&self) -> Vec<u16> {
        let count = self.ring.tail.wrapping_sub(self.head);
        (0..count)
            .map(|index| self.buffer_at(self.head.wrapping_add(index)))
            .collect()
    }

    fn check(&self) {
        let in_ring = self.in_ring();
        assert_eq!(self.ring.lent_count(), in_ring.len());
        let published_count = self.published_tail().wrapping_sub(self.head);
        assert!(usize::from(published_count) <= in_ring.len());
        for buffer in 0..self.ring.shape.buffer_count {
            let ring_count = in_ring.iter().filter(|other| **other == buffer).count();
            let is_in_hand = self
                .in_hand
                .iter()
                .any(|datagram| datagram.buffer == buffer);
            // The kernel may still fill the first buffer of a packed ring while its first datagrams are in hand.
            let is_being_filled = self.written_bytes > 0 && in_ring.first() == Some(&buffer);
            let owner_count = ring_count + usize::from(is_in_hand && !is_being_filled);
            assert_eq!(owner_count, 1, "buffer {buffer} has one owner");
            #[cfg(test)]
            if ring_count > 0 {
                let Shape { buffer_bytes, .. } = self.ring.shape;
                // The end of a buffer is written last.
                let end = (usize::from(buffer) + 1) * buffer_bytes - 8;
                let is_forbidden = self.ring.buffers.is_any_forbidden(end, 8);
                assert_ne!(is_forbidden, Some(false), "the kernel may write into it");
            }
        }
        for datagram in &self.in_hand {
            let index = usize::from(datagram.buffer) * self.ring.shape.buffer_bytes;
            let start = index + datagram.offset as usize;
            // SAFETY: the datagram is in hand, and nothing writes while this slice lives.
            let bytes = unsafe { self.ring.buffers.bytes(start, datagram.length) };
            assert!(
                bytes.iter().all(|byte| *byte == datagram.fill),
                "not overwritten"
            );
            let place = Place {
                buffer: datagram.buffer,
                offset: datagram.offset,
            };
            assert!(self.ring.datagram(place, datagram.length).is_some());
            assert!(self.ring.datagram(place, 1 << 20).is_none());
        }
    }
}

/// The shapes that the model is run with: small enough to reach every state.
fn shapes() -> [Shape; 3] {
    let plain = |count| Shape::plain(count, 8);
    let packed = Shape {
        buffer_count: 2,
        buffer_bytes: 4 * (HEAD_BYTES + 8),
        min_left_bytes: u32::try_from(2 * (HEAD_BYTES + 8)).unwrap_or(u32::MAX),
    };
    [plain(2), plain(4), packed]
}

/// Runs the steps that a fuzzer chooses.
#[cfg(fuzzing)]
pub(crate) fn run(mut random: crate::fuzzing::Random) {
    let mut world = World::new(shapes()[random.index(3)]);
    while random.given_count() > 0 {
        world.take(match random.below(8) {
            0..3 => Step::Write {
                is_long: random.one_in(3),
            },
            3 => Step::Fail,
            4..7 => Step::GiveBack(random.index(6)),
            _ => Step::Commit,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashSet, VecDeque};

    use super::*;

    /// What distinguishes two states: the ring from its head to its tail, how much of it is published, how full the first
    /// buffer is, and what is in hand.
    type State = (Vec<u16>, usize, usize, Vec<(u16, u32, usize)>);

    impl World {
        /// The state without irrelevant parts: the contents, and how often the tail has wrapped.
        fn state(&self) -> State {
            let published_count = self.published_tail().wrapping_sub(self.head);
            let mut in_hand: Vec<_> = self
                .in_hand
                .iter()
                .map(|datagram| (datagram.buffer, datagram.offset, datagram.length))
                .collect();
            in_hand.sort_unstable();
            (
                self.in_ring(),
                published_count.into(),
                self.written_bytes,
                in_hand,
            )
        }
    }

    /// Visits every state that any schedule can reach, in each by the shortest one.
    fn reachable_count(shape: Shape) -> usize {
        let after = |steps: &[Step]| {
            let mut world = World::new(shape);
            for step in steps {
                world.take(*step);
            }
            world
        };
        let mut seen = HashSet::from([World::new(shape).state()]);
        let mut queue = VecDeque::from([Vec::new()]);
        while let Some(steps) = queue.pop_front() {
            let in_hand_count = after(&steps).in_hand.len();
            let kernel = [
                Step::Write { is_long: false },
                Step::Write { is_long: true },
                Step::Fail,
            ];
            let program = (0..in_hand_count).map(Step::GiveBack).chain([Step::Commit]);
            for step in kernel.into_iter().chain(program) {
                let mut world = after(&steps);
                if world.take(step) && seen.insert(world.state()) {
                    let mut steps: Vec<Step> = steps.clone();
                    steps.push(step);
                    queue.push_back(steps);
                }
            }
        }
        seen.len()
    }

    #[test]
    fn each_buffer_has_one_owner_in_every_state_that_any_schedule_reaches() {
        let counts = shapes().map(reachable_count);
        assert_eq!(counts, [18, 536, 450], "all of them, and no others");
    }

    #[test]
    fn the_tail_may_go_round() {
        let mut world = World::new(shapes()[1]);
        for _ in 0..70_000 {
            assert!(world.take(Step::Write { is_long: false }));
            assert!(world.take(Step::GiveBack(0)) && world.take(Step::Commit));
        }
    }
}
