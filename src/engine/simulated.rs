//! An engine on a simulated kernel, which completes receives in any order and with any result. It checks that each
//! buffer belongs to one side, and that each datagram is handed over once, in order, or counted.

#[cfg(test)]
mod failing;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::backend::{Backend, Choice};
use super::completion::Facts;
use super::control::Control;
use super::event::{Event, Notice, SocketId, Turn};
use super::loss::Statistics;
use super::options::AddOptions;
use super::receive::{Receive, Taken};
use super::running::Running;
use super::sockets::Sockets;
use super::stop::StopHandle;
use super::wait::{Plan, Wait};
use crate::error::{Error, Result};
#[cfg(not(test))]
use crate::fuzzing::Random;
use crate::message::MessageBuilder;
use crate::socket::{Protocol, Socket};
use crate::sys::place::Place;
use crate::sys::socket::Received;
#[cfg(test)]
use nlring_testing::Random;

#[cfg(test)]
use self::failing::{Scripted, follow};

/// Buffers of each socket.
const BUFFER_COUNT: u16 = 4;
const MOST_SOCKETS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Kernel,
    /// A completion that the engine has not seen names it.
    Queue,
    Engine,
}

#[derive(Debug)]
struct Buffer {
    owner: Owner,
    /// `None`: the kernel wrote fewer bytes than it writes before each datagram.
    received: Option<Received>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Completed {
    result: i32,
    buffer: Option<u16>,
    /// The receive is still armed.
    has_more: bool,
}

/// The kernel's side of a socket.
#[derive(Debug)]
struct Member {
    buffers: Vec<Buffer>,
    is_armed: bool,
    /// A receive whose last completion the engine has not seen.
    is_in_flight: bool,
    is_cancelled: bool,
    queue: VecDeque<Completed>,
    sent: Sent,
}

/// What a socket was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sent {
    datagram_count: u64,
}

struct Kernel {
    random: Random,
    members: BTreeMap<u16, Member>,
    /// What sockets were sent that have left, by the slot.
    left: BTreeMap<u16, Sent>,
    /// The number of the next message.
    sequence: u32,
    is_ending: bool,
    /// Some calls that arm a receive fail.
    refuses_some: bool,
    /// How the next receives complete. `None`: in any way.
    #[cfg(test)]
    script: Option<VecDeque<Scripted>>,
}

impl Kernel {
    fn new(random: Random) -> Self {
        Self {
            random,
            members: BTreeMap::new(),
            left: BTreeMap::new(),
            sequence: 0,
            is_ending: false,
            refuses_some: true,
            #[cfg(test)]
            script: None,
        }
    }

    fn act(&mut self) {
        #[cfg(test)]
        if let Some(script) = &mut self.script {
            return follow(script, &mut self.members, &mut self.sequence);
        }
        let slots: Vec<u16> = self.members.keys().copied().collect();
        for slot in slots {
            for _ in 0..self.random.below(7) {
                self.complete(slot);
            }
        }
    }

    /// Completes a receive, if one is armed.
    fn complete(&mut self, slot: u16) {
        let Self {
            random,
            members,
            sequence,
            is_ending,
            ..
        } = self;
        let Some(member) = members.get_mut(&slot).filter(|member| member.is_armed) else {
            return;
        };
        let is_free = |buffer: &Buffer| buffer.owner == Owner::Kernel;
        let free = member.buffers.iter().position(is_free);
        let failure = |result: i32| Completed {
            result: -result,
            buffer: None,
            has_more: false,
        };
        let completed = match free {
            _ if member.is_cancelled && random.one_in(2) => failure(libc::ECANCELED),
            _ if *is_ending && !member.is_cancelled => return,
            None => failure(libc::ENOBUFS),
            Some(_) if random.one_in(10) => {
                // ENOMEM and the like make the engine pause, so they are rare.
                let errors = [libc::EINTR, libc::EAGAIN, libc::ENOBUFS];
                failure(if random.one_in(200) {
                    [libc::EBADF, libc::ENOMEM, libc::EMSGSIZE][random.index(3)]
                } else {
                    errors[random.index(3)]
                })
            }
            Some(index) => {
                let buffer = &mut member.buffers[index];
                buffer.owner = Owner::Queue;
                let number = u16::try_from(index).expect("few buffers");
                if random.one_in(60) {
                    Completed {
                        buffer: Some(number),
                        ..failure(libc::EFAULT)
                    }
                } else {
                    *buffer = any_datagram(random, sequence);
                    member.sent.datagram_count += 1;
                    Completed {
                        result: i32::try_from(buffer.bytes.len()).expect("a short datagram"),
                        buffer: Some(number),
                        has_more: !random.one_in(8),
                    }
                }
            }
        };
        member.is_armed = completed.has_more;
        member.queue.push_back(completed);
    }

    fn member(&mut self, slot: u16) -> &mut Member {
        self.members.get_mut(&slot).expect("an attached slot")
    }
}

/// A datagram of zero to three messages with consecutive numbers, which may be foreign, malformed, truncated or short.
fn any_datagram(random: &mut Random, sequence: &mut u32) -> Buffer {
    let mut bytes = Vec::new();
    for _ in 0..random.below(4) {
        *sequence += 1;
        let message = MessageBuilder::new(&mut bytes, 20, 0).sequence(*sequence);
        message.finish().expect("a short message");
    }
    if random.one_in(8) {
        bytes.push(0); // malformed
    }
    let mut received = Received {
        real_bytes: bytes.len(),
        nsid: random.one_in(8).then_some(1),
        ..Received::default()
    };
    if random.one_in(10) {
        received.sender_port_id = 99;
    }
    if random.one_in(10) {
        received.real_bytes += 1;
    }
    Buffer {
        owner: Owner::Queue,
        received: (!random.one_in(12)).then_some(received),
        bytes,
    }
}

/// The backend: the engine's side of the simulated kernel.
struct Simulated {
    kernel: Arc<Mutex<Kernel>>,
    /// Copies of the datagrams in hand, which a reference can be lent to.
    in_hand: BTreeMap<(u16, u16), (Option<Received>, Vec<u8>)>,
}

fn lock(kernel: &Arc<Mutex<Kernel>>) -> MutexGuard<'_, Kernel> {
    kernel.lock().expect("no panic before")
}

impl Simulated {
    /// Decides what a completion means, as the backends of io_uring do.
    fn note(&mut self, slot: u16, sockets: &mut Sockets, taken: &mut Vec<Taken>) {
        let mut kernel = lock(&self.kernel);
        let member = kernel.member(slot);
        let completed = member.queue.pop_front().expect("a completion");
        member.is_in_flight = completed.has_more;
        let lent = member
            .buffers
            .iter()
            .filter(|buffer| buffer.owner != Owner::Engine);
        let facts = Facts {
            result: completed.result,
            has_buffer: completed.buffer.is_some(),
            is_armed: completed.has_more,
            // The buffers of later completions were also taken from the ring.
            lent_count: lent.filter(|buffer| buffer.owner == Owner::Kernel).count(),
        };
        let outcome = facts.judge();
        if let Some(number) = completed.buffer {
            let buffer = &mut member.buffers[usize::from(number)];
            assert_eq!(buffer.owner, Owner::Queue);
            if outcome.datagram {
                buffer.owner = Owner::Engine;
                let copy = (buffer.received, buffer.bytes.clone());
                self.in_hand.insert((slot, number), copy);
                taken.push(Taken {
                    slot,
                    place: Place {
                        buffer: number,
                        offset: 0,
                    },
                    result_bytes: completed.result.unsigned_abs(),
                });
            } else {
                buffer.owner = Owner::Kernel;
            }
        }
        drop(kernel);
        if let Some(end) = outcome.end {
            sockets.note_end(slot, end, completed.has_more);
        }
    }
}

impl Receive for Simulated {
    fn start(&mut self, _: &StopHandle) -> io::Result<()> {
        Ok(())
    }

    fn attach(&mut self, slot: u16, options: AddOptions) -> io::Result<usize> {
        let new = || Buffer {
            owner: Owner::Kernel,
            received: None,
            bytes: Vec::new(),
        };
        let member = Member {
            buffers: (0..options.buffer_count).map(|_| new()).collect(),
            is_armed: false,
            is_in_flight: false,
            is_cancelled: false,
            queue: VecDeque::new(),
            sent: Sent::default(),
        };
        let earlier = lock(&self.kernel).members.insert(slot, member);
        assert!(earlier.is_none(), "a slot is attached once");
        Ok(usize::from(options.buffer_count) + 1)
    }

    fn arm(&mut self, slot: u16, _: BorrowedFd<'_>) -> Result<()> {
        let mut kernel = lock(&self.kernel);
        if kernel.refuses_some && kernel.random.one_in(100) {
            let error = io::Error::from_raw_os_error(libc::EAGAIN);
            return Err(Error::failed_call("arm a receive", error));
        }
        let member = kernel.member(slot);
        assert!(!member.is_in_flight && !member.is_cancelled, "armed once");
        let is_lent = |buffer: &Buffer| buffer.owner == Owner::Kernel;
        assert!(
            member.buffers.iter().all(is_lent),
            "all buffers are recycled"
        );
        (member.is_armed, member.is_in_flight) = (true, true);
        Ok(())
    }

    fn cancel(&mut self, slot: u16, _: BorrowedFd<'_>) -> Result<()> {
        if let Some(member) = lock(&self.kernel).members.get_mut(&slot) {
            member.is_cancelled = true;
        }
        Ok(())
    }

    fn is_quiet(&self, slot: u16) -> bool {
        let kernel = lock(&self.kernel);
        let member = kernel.members.get(&slot);
        member.is_none_or(|member| !member.is_in_flight)
    }

    fn detach(&mut self, slot: u16) {
        let mut kernel = lock(&self.kernel);
        let member = kernel.members.remove(&slot).expect("an attached slot");
        let is_lent = |buffer: &Buffer| buffer.owner == Owner::Kernel;
        assert!(!member.is_in_flight && member.buffers.iter().all(is_lent));
        kernel.left.insert(slot, member.sent);
    }

    fn submit(&mut self) -> Result<()> {
        Ok(())
    }

    fn wait(&mut self, _: Plan) -> Result<()> {
        lock(&self.kernel).act();
        Ok(())
    }

    fn drain(&mut self, sockets: &mut Sockets, taken: &mut Vec<Taken>, room: usize) {
        while taken.len() < room {
            let mut kernel = lock(&self.kernel);
            let members = kernel.members.iter();
            let ready: Vec<u16> = members
                .filter(|(_, member)| !member.queue.is_empty())
                .map(|(slot, _)| *slot)
                .collect();
            if ready.is_empty() {
                return;
            }
            let slot = ready[kernel.random.index(ready.len())];
            drop(kernel);
            self.note(slot, sockets, taken);
        }
    }

    fn datagram(&self, taken: Taken) -> Option<(Received, &[u8])> {
        let key = (taken.slot, taken.place.buffer);
        let (received, bytes) = self.in_hand.get(&key).expect("a datagram in hand");
        received.map(|received| (received, &bytes[..]))
    }

    fn recycle(&mut self, delivered: &[Taken]) {
        for taken in delivered {
            let number = taken.place.buffer;
            self.in_hand
                .remove(&(taken.slot, number))
                .expect("given back once");
            let mut kernel = lock(&self.kernel);
            let buffer = &mut kernel.member(taken.slot).buffers[usize::from(number)];
            assert_eq!(buffer.owner, Owner::Engine);
            buffer.owner = Owner::Kernel;
        }
    }

    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn set_readable(&self, _: bool) {}
}

/// What the callback has seen, per socket.
#[derive(Default)]
struct Seen {
    last_sequence: BTreeMap<SocketId, u32>,
    message_counts: BTreeMap<SocketId, u64>,
    notice_counts: BTreeMap<SocketId, u64>,
    gone: Vec<SocketId>,
}

impl Seen {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Messages(id, list) => {
                let latest = self.last_sequence.entry(*id).or_default();
                for message in list {
                    assert!(message.sequence() > *latest, "in order, and each once");
                    *latest = message.sequence();
                }
                let count = list.message_count() as u64;
                *self.message_counts.entry(*id).or_default() += count;
            }
            Event::Lost(_, loss) => panic!("{} lost", loss.count),
            Event::Notice(id, notice) => match notice {
                Notice::Truncated { .. } | Notice::Malformed(_) | Notice::Short { .. } => {
                    *self.notice_counts.entry(*id).or_default() += 1;
                }
                Notice::Foreign { count, .. } => {
                    *self.notice_counts.entry(*id).or_default() += count;
                }
                Notice::Removed | Notice::Failed(_) => self.gone.push(*id),
                _ => {}
            },
        }
    }

    /// Compares what a socket's statistics say with what was sent and what the callback saw. `is_all_seen`: nothing was
    /// left when the socket ended.
    fn check(&self, id: SocketId, statistics: &Statistics, sent: Sent, is_all_seen: bool) {
        assert_eq!(
            statistics.received + statistics.unread,
            sent.datagram_count,
            "{statistics:?}"
        );
        let of = |counts: &BTreeMap<SocketId, u64>| counts.get(&id).copied().unwrap_or(0);
        let (messages, notices) = (of(&self.message_counts), of(&self.notice_counts));
        assert_eq!(messages, statistics.messages);
        let Statistics {
            truncated,
            malformed,
            short,
            foreign,
            ..
        } = *statistics;
        let reported = truncated + malformed + short + foreign;
        assert!(notices <= reported && (notices == reported || !is_all_seen));
    }
}

/// Runs an engine for some turns, with a callback that breaks, adds, removes and stops.
pub(crate) fn run(random: Random) {
    let kernel = Arc::new(Mutex::new(Kernel::new(random)));
    let mut running = start(&kernel);
    let mut seen = Seen::default();
    while lock(&kernel).random.given_count() > 0 {
        if lock(&kernel).members.is_empty() {
            running.add_with(socket(), options()).expect("a socket");
        }
        let turn: Turn<()> = running
            .poll(Some(Duration::ZERO), |event, control| {
                seen.take(&event);
                interfere(&mut lock(&kernel).random, &event, control)
            })
            .expect("the backend works");
        assert_ne!(turn, Turn::Stopped);
        for id in std::mem::take(&mut seen.gone) {
            let reclaimed = running.reclaim(id).expect("it is gone");
            let sent = lock(&kernel).left.remove(&id.slot).expect("it has left");
            seen.check(id, &reclaimed.statistics, sent, true);
        }
    }
    end(running, &kernel, &mut seen);
}

/// An engine with one socket.
fn start(kernel: &Arc<Mutex<Kernel>>) -> Running {
    let choice = Choice {
        receive: Box::new(Simulated {
            kernel: Arc::clone(kernel),
            in_hand: BTreeMap::new(),
        }),
        backend: Backend::Recvmmsg,
        reason: "simulated".into(),
    };
    let mut sockets = Sockets::new();
    sockets.insert(socket(), options()).expect("a socket");
    let stop = StopHandle::new().expect("a handle");
    Running::start(choice, sockets, stop, Wait::Prompt).expect("it starts")
}

fn end(running: Running, kernel: &Arc<Mutex<Kernel>>, seen: &mut Seen) {
    let is_finished = lock(kernel).random.one_in(2);
    lock(kernel).is_ending = true;
    let ended = if is_finished {
        let finished = running.finish(|event, _| {
            seen.take(&event);
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(finished.outcome.expect("the backend works"), None);
        finished.sockets
    } else {
        running.discard()
    };
    for socket in ended {
        let slot = socket.id.slot;
        let sent = {
            let kernel = lock(kernel);
            let member = kernel.members.get(&slot).map(|member| member.sent);
            // A socket that was added last may never have been attached.
            member
                .or(kernel.left.get(&slot).copied())
                .unwrap_or_default()
        };
        assert!(!socket.statistics.unread_is_incomplete);
        seen.check(socket.id, &socket.statistics, sent, is_finished);
    }
}

fn interfere(random: &mut Random, event: &Event<'_>, control: &mut Control<'_>) -> ControlFlow<()> {
    let (Event::Messages(id, _) | Event::Notice(id, _) | Event::Lost(id, _)) = event;
    if random.one_in(20) && control.sockets.iter().count() < MOST_SOCKETS {
        control.add_with(socket(), options()).expect("a socket");
    }
    if random.one_in(30) {
        let _ = control.remove(*id);
    }
    if random.one_in(10) {
        return ControlFlow::Break(());
    }
    ControlFlow::Continue(())
}

fn socket() -> Socket {
    Socket::open(Protocol::USERSOCK).expect("a socket")
}

fn options() -> AddOptions {
    AddOptions::new()
        .buffer_count(BUFFER_COUNT)
        .buffer_bytes(512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_datagram_is_handed_over_once_or_counted() {
        let mut random = Random::new(9);
        for _ in 0..200 {
            let bytes: Vec<u8> = (0..2000).map(|_| random.byte()).collect();
            run(Random::of_bytes(&bytes));
        }
    }
}
