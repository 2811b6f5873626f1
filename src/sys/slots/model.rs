//! A model of the kernel that completes a chain of receives as the kernel does. It checks after each step that every slot
//! belongs to exactly one side: the kernel may write into it, a completion that the program has not seen names it, its
//! datagram is in the program's hands, or it is free.
#![allow(unsafe_code)]

use std::collections::{HashSet, VecDeque};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;

use super::Slots;
use crate::sys::place::Place;
use crate::sys::receiver::{Memory, Receiver};
use crate::sys::socket::{CONTROL_BYTES, NAME_BYTES};

const PAYLOAD_BYTES: usize = 64;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The program submits a chain of receives, one per slot.
    Arm,
    /// The kernel completes the first receive of its chain.
    Complete(Result),
    /// The program takes the oldest completion off the queue.
    See,
    /// The program returns the datagram in this slot.
    GiveBack(u16),
}

/// How a receive ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Result {
    Whole,
    /// Only the beginning of the datagram fits.
    Truncated,
    /// Nothing is written. The chain continues, because its links are hard.
    Failed,
}

/// The owner of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Kernel,
    /// A completion that the program has not seen names it.
    Queue(Result),
    InHand(Result),
    Free,
}

/// The receiver, and the kernel's side of it.
struct World {
    receiver: Receiver,
    owners: Vec<Owner>,
    /// For each slot the byte that fills its datagram, and what it says about the sender.
    fills: Vec<u8>,
    /// The slots of the completions that the program has not seen.
    queue: VecDeque<u16>,
    fill: u8,
}

impl World {
    fn new(count: usize) -> Self {
        let slots = Slots::new(count, PAYLOAD_BYTES).unwrap();
        let mut this = Self {
            receiver: Receiver::new(Memory::Slots(slots), 1),
            owners: vec![Owner::Free; count],
            fills: vec![0; count],
            queue: VecDeque::new(),
            fill: 0,
        };
        this.check();
        this
    }

    fn slots(&mut self) -> &mut Slots {
        match &mut self.receiver.memory {
            Memory::Slots(slots) => slots,
            Memory::Buffers { .. } => unreachable!("it has slots"),
        }
    }

    /// Takes a step. False: it is not possible now.
    fn take(&mut self, step: Step) -> bool {
        let is_possible = match step {
            Step::Arm => self.arm(),
            Step::Complete(result) => self.complete(result),
            Step::See => self.see(),
            Step::GiveBack(slot) => self.give_back(slot),
        };
        self.check();
        is_possible
    }

    /// Like `Ring::arm_chain`, which the engine calls when all datagrams have been given back.
    fn arm(&mut self) -> bool {
        if self.owners.iter().any(|owner| *owner != Owner::Free) {
            return false;
        }
        assert_eq!(self.receiver.in_flight_count, 0);
        self.receiver.head = 0;
        for index in 0..self.owners.len() {
            assert!(self.slots().lend(index).is_some());
            self.receiver.in_flight_count += 1;
            self.owners[index] = Owner::Kernel;
        }
        true
    }

    fn complete(&mut self, result: Result) -> bool {
        let is_kernels = |owner: &Owner| *owner == Owner::Kernel;
        let Some(index) = self.owners.iter().position(is_kernels) else {
            return false;
        };
        if result != Result::Failed {
            self.fill = self.fill.wrapping_add(1);
            self.fills[index] = self.fill;
            let fill = self.fill;
            write(self.slots(), index, fill);
        }
        self.owners[index] = Owner::Queue(result);
        self.queue.push_back(u16::try_from(index).unwrap());
        true
    }

    fn see(&mut self) -> bool {
        let Some(slot) = self.queue.pop_front() else {
            return false;
        };
        let Owner::Queue(result) = self.owners[usize::from(slot)] else {
            panic!("a completion names a slot of the queue");
        };
        // SAFETY: this model is the kernel, and has completed the receive into this slot.
        let place = unsafe { self.receiver.complete(slot, number(result), 0) };
        let is_datagram = result != Result::Failed;
        let expected = Place {
            buffer: slot,
            offset: 0,
        };
        assert_eq!(place, is_datagram.then_some(expected));
        self.owners[usize::from(slot)] = if is_datagram {
            Owner::InHand(result)
        } else {
            Owner::Free
        };
        true
    }

    fn give_back(&mut self, slot: u16) -> bool {
        let owner = self.owners[usize::from(slot)];
        if !matches!(owner, Owner::InHand(_)) {
            return false;
        }
        self.receiver.give_back(slot);
        self.owners[usize::from(slot)] = Owner::Free;
        true
    }

    fn check(&mut self) {
        let owners = self.owners.clone();
        let is_lent = |owner: &Owner| matches!(owner, Owner::Kernel | Owner::Queue(_));
        let lent_count = owners.iter().filter(|owner| is_lent(owner)).count();
        assert_eq!(self.receiver.in_flight_count, lent_count);
        if lent_count > 0 {
            assert_eq!(
                owners.iter().position(is_lent),
                Some(self.receiver.head.into())
            );
            let (_, socket) = UnixDatagram::pair().unwrap();
            let refused = self.slots().receive_many(socket.as_fd());
            assert_eq!(
                refused.unwrap_err().kind(),
                std::io::ErrorKind::ResourceBusy
            );
        }
        for (index, owner) in owners.iter().enumerate() {
            let fill = self.fills[index];
            for (offset, length) in self.slots().parts(index) {
                let is_forbidden = self.slots().memory.is_any_forbidden(offset, length);
                assert!(is_forbidden.is_none_or(|is| is == is_lent(owner)));
            }
            if is_lent(owner) {
                assert!(self.slots().lend(index).is_none(), "it is lent already");
                assert!(self.slots().datagram(index, 1).is_none(), "it is not ours");
            } else {
                assert!(self.slots().datagram(index, 1).is_some(), "it is ours");
            }
            if let Owner::InHand(result) = owner {
                let real_bytes = usize::try_from(number(*result)).unwrap();
                let (received, bytes) = self.slots().datagram(index, real_bytes).unwrap();
                assert_eq!(received.real_bytes, real_bytes);
                assert_eq!(received.sender_port_id, fill.into());
                assert_eq!(bytes.len(), real_bytes.min(PAYLOAD_BYTES));
                assert!(bytes.iter().all(|byte| *byte == fill), "not overwritten");
            }
        }
    }
}

/// The result of a receive with `MSG_TRUNC`.
fn number(result: Result) -> i32 {
    match result {
        Result::Whole => 20,
        Result::Truncated => 1000,
        Result::Failed => -libc::ENOMEM,
    }
}

/// Writes as the kernel does: into the memory that the slot's header names, whose lengths it changes.
fn write(slots: &mut Slots, index: usize, fill: u8) {
    allow(slots, index);
    // SAFETY: this model is the kernel, which has this slot, and `point` has initialised the header.
    let header = unsafe { &mut slots.header(index).as_mut().msg_hdr };
    assert_eq!(header.msg_namelen as usize, NAME_BYTES, "all the room");
    assert_eq!(
        header.msg_controllen as usize, CONTROL_BYTES,
        "all the room"
    );
    let mut name = [0; NAME_BYTES];
    name[4..8].copy_from_slice(&u32::from(fill).to_ne_bytes());
    // SAFETY: the header points to room for a name.
    unsafe { header.msg_name.cast::<[u8; NAME_BYTES]>().write(name) };
    header.msg_controllen = 0;
    // SAFETY: the header points to one initialised iovec.
    let iovec = unsafe { header.msg_iov.read() };
    assert_eq!(iovec.iov_len, slots.payload_bytes);
    // SAFETY: the iovec describes the slot's payload.
    unsafe { iovec.iov_base.cast::<u8>().write_bytes(fill, iovec.iov_len) };
    for (offset, length) in slots.parts(index) {
        slots.memory.forbid(offset, length);
    }
}

fn allow(slots: &Slots, index: usize) {
    for (offset, length) in slots.parts(index) {
        slots.memory.allow(offset, length);
    }
}

/// Visits every state that any schedule can reach, in each by the shortest one.
fn reachable_count(count: usize) -> usize {
    let after = |steps: &[Step]| {
        let mut world = World::new(count);
        for step in steps {
            world.take(*step);
        }
        world
    };
    let state = |world: &World| (world.owners.clone(), world.queue.clone());
    let kernel = [Result::Whole, Result::Truncated, Result::Failed].map(Step::Complete);
    let program = (0..u16::try_from(count).unwrap()).map(Step::GiveBack);
    let all: Vec<Step> = kernel
        .into_iter()
        .chain([Step::Arm, Step::See])
        .chain(program)
        .collect();
    let mut seen = HashSet::from([state(&World::new(count))]);
    let mut queue = VecDeque::from([Vec::new()]);
    while let Some(steps) = queue.pop_front() {
        for step in &all {
            let mut world = after(&steps);
            if world.take(*step) && seen.insert(state(&world)) {
                let mut steps: Vec<Step> = steps.clone();
                steps.push(*step);
                queue.push_back(steps);
            }
        }
    }
    seen.len()
}

#[test]
fn each_slot_has_one_owner_in_every_state_that_any_schedule_reaches() {
    let counts = [1, 2, 3, 4].map(reachable_count);
    assert_eq!(counts, [7, 34, 142, 547], "all of them, and no others");
}

/// After any three consecutive batches, a slot has only what the last one put there.
#[test]
fn each_batch_of_recvmmsg_replaces_the_one_before() {
    const COUNT: usize = 3;
    for waiting in 0..5_usize.pow(3) {
        let (sender, socket) = UnixDatagram::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut slots = Slots::new(COUNT, PAYLOAD_BYTES).unwrap();
        let mut queue = VecDeque::new();
        let mut fill = 0;
        for sent_count in [waiting % 5, waiting / 5 % 5, waiting / 25] {
            for _ in 0..sent_count {
                fill += 1;
                let bytes = [fill; 2 * PAYLOAD_BYTES];
                let length = if fill % 3 == 0 {
                    bytes.len()
                } else {
                    fill.into()
                };
                sender.send(&bytes[..length]).unwrap();
                queue.push_back((fill, length));
            }
            let filled_count = slots.receive_many(socket.as_fd()).unwrap_or(0);
            assert_eq!(filled_count, queue.len().min(COUNT));
            for (index, (fill, length)) in queue.drain(..filled_count).enumerate() {
                assert_eq!(slots.real_bytes(index), length);
                let (received, bytes) = slots.datagram(index, length).unwrap();
                assert_eq!((received.real_bytes, received.group), (length, None));
                assert_eq!(
                    bytes,
                    &[fill; 2 * PAYLOAD_BYTES][..length.min(PAYLOAD_BYTES)]
                );
            }
        }
    }
}
