//! A script of datagrams, losses and failures that replaces the kernel, to test a callback.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use super::backend::{Backend, Choice};
use super::completion::ReceiveEnd;
use super::entry::State;
use super::loss::Loss;
use super::options::AddOptions;
use super::receive::{Receive, Taken};
use super::sockets::Sockets;
use super::stop::StopHandle;
use super::wait::Plan;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::place::Place;
use crate::sys::socket::Received;

#[cfg(doc)]
use super::{AddError, Control, Engine, EngineBuilder, Event, Notice, Running};

/// A script that an engine delivers instead of the kernel's events, to test a callback without traffic or privileges.
///
/// Pass it to [`EngineBuilder::replay`]. The engine delivers the steps in order, like datagrams from the kernel: it
/// checks lengths, drops datagrams from foreign senders, and counts statistics. [`Control`] works as usual. After the
/// last step the engine stops: [`Running::run`] returns `None`, and [`Running::poll`] returns
/// [`Turn::Stopped`](crate::Turn).
///
/// The sockets are real; opening one needs no privilege. The engine does not receive what the kernel sends to them.
/// Each step belongs to the socket with a number, which its [`SocketId`](crate::SocketId) displays: 1 is the first that
/// was added to the engine. The engine skips the steps of a removed socket. A step for a socket that was never added
/// makes [`Running::poll`] fail with [`ErrorKind::InvalidInput`].
///
/// ```
/// use std::ops::ControlFlow;
/// use nlring::{
///     Engine, Event, Loss, MessageBuilder, Notice, Protocol, Replay, Socket, Timestamp,
/// };
///
/// /// The code under test: counts messages and losses, and stops at other notices.
/// #[derive(Default)]
/// struct Counter { messages: usize, lost: u64 }
///
/// impl Counter {
///     fn take(&mut self, event: Event<'_>) -> ControlFlow<String> {
///         match event {
///             Event::Messages(_, list) => self.messages += list.message_count(),
///             Event::Lost(_, loss) => self.lost += loss.count,
///             Event::Notice(_, Notice::Starved) => {}
///             Event::Notice(_, notice) => return ControlFlow::Break(notice.to_string()),
///         }
///         ControlFlow::Continue(())
///     }
/// }
///
/// let mut datagram = Vec::new();
/// MessageBuilder::new(&mut datagram, 16 /* RTM_NEWLINK */, 0).bytes(&[0; 16]).finish()?;
/// let script = Replay::new()
///     .datagram(datagram.clone())
///     .lost(Loss::new(3, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH))
///     .starved()
///     .datagram(datagram)
///     .truncated(9000);
///
/// let mut engine = Engine::builder().replay(script).build()?;
/// engine.add(Socket::open(Protocol::ROUTE)?)?;
/// let mut counter = Counter::default();
/// let end = engine.start()?.run(|event, _control| counter.take(event))?;
/// assert_eq!((counter.messages, counter.lost), (2, 3));
/// assert_eq!(end.as_deref(), Some("a datagram of 9000 bytes was larger than the engine's buffers"));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Replay {
    steps: VecDeque<Step>,
    socket: u32,
}

#[derive(Clone, Debug)]
struct Step {
    socket: u32,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Datagram(Received, Vec<u8>),
    Lost(Loss),
    Starved,
    Failed(i32),
}

impl Default for Replay {
    fn default() -> Self {
        Self::new()
    }
}

impl Replay {
    /// An empty script, whose steps belong to socket 1.
    pub fn new() -> Self {
        Self {
            steps: VecDeque::new(),
            socket: 1,
        }
    }

    fn step(mut self, what: What) -> Self {
        let socket = self.socket;
        self.steps.push_back(Step { socket, what });
        self
    }

    /// The steps after this one belong to the socket with this number, counted from 1.
    #[must_use]
    pub fn socket(mut self, number: u32) -> Self {
        self.socket = number;
        self
    }

    /// The kernel sends a datagram of these bytes. A wrong length inside is reported as [`Notice::Malformed`].
    #[must_use]
    pub fn datagram(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.datagram_from(0, None, bytes)
    }

    /// The sender with this port ID (0 is the kernel) sends a datagram, to a multicast group unless `group` is `None`.
    #[must_use]
    pub fn datagram_from(
        self,
        sender_port_id: u32,
        group: Option<u32>,
        bytes: impl Into<Vec<u8>>,
    ) -> Self {
        let bytes = bytes.into();
        let received = Received {
            real_bytes: bytes.len(),
            sender_port_id,
            group,
            nsid: None,
        };
        self.step(What::Datagram(received, bytes))
    }

    /// The kernel sends a datagram of `real_bytes` (at least 1), larger than the engine's buffers:
    /// [`Notice::Truncated`].
    #[must_use]
    pub fn truncated(self, real_bytes: usize) -> Self {
        let received = Received {
            real_bytes: real_bytes.max(1),
            ..Received::default()
        };
        self.step(What::Datagram(received, Vec::new()))
    }

    /// The kernel drops datagrams: [`Event::Lost`], or [`Notice::Delayed`] on a socket with
    /// [`Socket::set_broadcast_error`](crate::Socket::set_broadcast_error).
    #[must_use]
    pub fn lost(self, loss: Loss) -> Self {
        self.step(What::Lost(loss))
    }

    /// The engine's buffers run out: [`Notice::Starved`].
    #[must_use]
    pub fn starved(self) -> Self {
        self.step(What::Starved)
    }

    /// A receive fails with this errno: [`Notice::Failed`] for `EBADF`, `EFAULT`, `EINVAL`, `ENOTSOCK` and
    /// `EOPNOTSUPP`, after which the socket may be reclaimed, and [`Notice::Retried`] for all others.
    #[must_use]
    pub fn failed(self, errno: i32) -> Self {
        self.step(What::Failed(errno))
    }

    pub(super) fn into_choice(self) -> Choice {
        Choice {
            receive: Box::new(Player {
                steps: self.steps,
                in_hand: Vec::new(),
                armed: Vec::new(),
                stop: None,
                error: None,
            }),
            backend: Backend::Auto,
            reason: "a replay receives nothing from the kernel".into(),
        }
    }
}

/// The backend that plays a script.
struct Player {
    steps: VecDeque<Step>,
    /// The datagrams of this turn.
    in_hand: Vec<(Received, Vec<u8>)>,
    /// The slots whose receive is armed.
    armed: Vec<u16>,
    stop: Option<StopHandle>,
    error: Option<Error>,
}

/// The most datagrams of a turn, as many as a list holds.
const TURN_DATAGRAMS: usize = 64;

impl Player {
    /// The slot of a step's socket. `None`: it was removed, or never added, which the next wait reports.
    fn slot(&mut self, socket: u32, sockets: &Sockets) -> Option<u16> {
        if socket == 0 || socket > sockets.added_count() {
            self.steps.clear();
            self.error = Some(
                Error::with_kind("replay", ErrorKind::InvalidInput)
                    .with_remedy("a step names a socket that was never added: the first one is 1"),
            );
            return None;
        }
        let is_it = |entry: &&super::entry::Entry| {
            entry.id.generation == socket && matches!(entry.state, State::Armed | State::Unarmed)
        };
        sockets.iter().find(is_it).map(|entry| entry.id.slot)
    }
}

impl Receive for Player {
    fn start(&mut self, stop: &StopHandle) -> io::Result<()> {
        self.stop = Some(stop.clone());
        Ok(())
    }

    fn attach(&mut self, _: u16, _: AddOptions) -> io::Result<usize> {
        Ok(TURN_DATAGRAMS)
    }

    fn arm(&mut self, slot: u16, _: BorrowedFd<'_>) -> Result<()> {
        self.armed.push(slot);
        Ok(())
    }

    fn cancel(&mut self, slot: u16, _: BorrowedFd<'_>) -> Result<()> {
        self.armed.retain(|armed| *armed != slot);
        Ok(())
    }

    fn is_quiet(&self, slot: u16) -> bool {
        !self.armed.contains(&slot)
    }

    fn detach(&mut self, _: u16) {}

    fn submit(&mut self) -> Result<()> {
        Ok(())
    }

    /// Returns at once. Stops the engine when the script has ended.
    fn wait(&mut self, _: Plan) -> Result<()> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if let Some(stop) = self.stop.as_ref().filter(|_| self.steps.is_empty()) {
            stop.stop();
        }
        Ok(())
    }

    /// Takes the next datagrams, or one step of another kind. An engine delivers the datagrams of a turn first, so
    /// mixing kinds of steps in one turn would change their order.
    fn drain(&mut self, sockets: &mut Sockets, taken: &mut Vec<Taken>, _room: usize) {
        self.in_hand.clear(); // the engine drains only after it has delivered everything
        while self.in_hand.len() < TURN_DATAGRAMS {
            let Some(socket) = self.steps.front().map(|step| step.socket) else {
                return;
            };
            let slot = self.slot(socket, sockets);
            let is_datagram = |step: &Step| matches!(step.what, What::Datagram(..));
            if !self.in_hand.is_empty() && !self.steps.front().is_some_and(is_datagram) {
                return;
            }
            let (Some(step), Some(slot)) = (self.steps.pop_front(), slot) else {
                continue; // the socket is gone
            };
            match step.what {
                What::Datagram(received, bytes) => {
                    let buffer = u16::try_from(self.in_hand.len()).unwrap_or(u16::MAX);
                    let result_bytes = u32::try_from(received.real_bytes).unwrap_or(u32::MAX);
                    self.in_hand.push((received, bytes));
                    taken.push(Taken {
                        slot,
                        place: Place { buffer, offset: 0 },
                        result_bytes,
                    });
                }
                What::Lost(loss) => {
                    if let Some(entry) = sockets.in_slot(slot) {
                        entry.note_loss(loss);
                    }
                    sockets.has_pending = true;
                    return;
                }
                What::Starved => return sockets.note_end(slot, ReceiveEnd::Starved, true),
                What::Failed(errno) => {
                    let end = ReceiveEnd::of_errno(errno);
                    return sockets.note_end(slot, end, true);
                }
            }
        }
    }

    fn datagram(&self, taken: Taken) -> Option<(Received, &[u8])> {
        let (received, bytes) = self.in_hand.get(usize::from(taken.place.buffer))?;
        Some((*received, bytes))
    }

    fn recycle(&mut self, _: &[Taken]) {}

    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn set_readable(&self, _: bool) {}
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::time::Duration;

    use super::super::{Engine, Event, Notice};
    use super::*;
    use crate::message::MessageBuilder;
    use crate::socket::{Protocol, Socket};
    use crate::timestamp::Timestamp;

    fn datagram(message_type: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, message_type, 0)
            .finish()
            .unwrap();
        bytes
    }

    fn socket() -> Socket {
        Socket::open(Protocol::ROUTE).unwrap()
    }

    fn text(event: &Event<'_>) -> String {
        match event {
            Event::Messages(id, list) => {
                let types = list.iter().map(|message| message.message_type());
                format!("{id}: {:?}", types.collect::<Vec<_>>())
            }
            Event::Lost(id, loss) => format!("{id}: lost {}", loss.count),
            Event::Notice(id, notice) => format!("{id}: {notice}"),
        }
    }

    fn loss(count: u64) -> Loss {
        let at = |seconds| Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
        Loss::new(count, at(1), at(2))
    }

    #[test]
    fn steps_come_in_their_order_and_are_counted() {
        let mut malformed = datagram(23);
        malformed.push(0);
        let script = Replay::new()
            .datagram(datagram(20))
            .datagram(datagram(21))
            .lost(loss(7))
            .socket(2)
            .datagram(datagram(22))
            .socket(1)
            .datagram(malformed)
            .datagram_from(99, None, datagram(24))
            .starved()
            .lost(loss(1))
            .failed(libc::EBADF);
        let mut engine = Engine::builder().replay(script).build().unwrap();
        engine.add(socket()).unwrap();
        engine.add(socket()).unwrap();
        let mut seen = Vec::new();
        let mut running = engine.start().unwrap();
        let end = running.run(|event, _| {
            seen.push(text(&event));
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(end.unwrap(), None);
        let starts = [
            "socket 1: [20, 21]",
            "socket 1: lost 7",
            "socket 2: [22]",
            "socket 1: [23]",
            "socket 1: a datagram is malformed",
            "socket 1: 1 datagrams from a sender",
            "socket 1: the engine's buffers ran out",
            "socket 1: lost 1",
            "socket 1: failed",
        ];
        assert_eq!(seen.len(), starts.len(), "{seen:#?}");
        for (seen, start) in seen.iter().zip(starts) {
            assert!(seen.starts_with(start), "{seen}");
        }
        let reclaimed = running.discard();
        let first = reclaimed[0].statistics;
        assert_eq!((first.received, first.dropped, first.starved), (4, 8, 1));
        assert_eq!((first.malformed, first.foreign, first.messages), (1, 1, 3));
    }

    #[test]
    fn a_callback_adds_removes_and_stops() {
        let script = Replay::new()
            .datagram(datagram(20))
            .starved() // a turn ends, so the engine acts on what the callback did
            .socket(2)
            .datagram(datagram(21))
            .socket(1)
            .datagram(datagram(22)); // it is gone
        let mut engine = Engine::builder().replay(script).build().unwrap();
        let first = engine.add(socket()).unwrap();
        let mut seen = Vec::new();
        let end = engine.start().unwrap().run(|event, control| {
            if seen.is_empty() {
                control.add(socket()).unwrap();
                control.remove(first).unwrap();
            }
            if matches!(event, Event::Notice(_, Notice::Removed)) {
                control.reclaim(first).unwrap();
            }
            seen.push(text(&event));
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(end.unwrap(), None);
        assert!(seen.contains(&"socket 2: [21]".into()), "{seen:?}");
        assert!(seen.contains(&"socket 1: removed".into()), "{seen:?}");
        assert!(!seen.contains(&"socket 1: [22]".into()), "{seen:?}");
    }

    #[test]
    fn a_step_of_a_socket_that_was_never_added_is_an_error() {
        let script = Replay::new().socket(2).datagram(datagram(20));
        let mut engine = Engine::builder().replay(script).build().unwrap();
        engine.add(socket()).unwrap();
        let result = engine
            .start()
            .unwrap()
            .run(|event, _| -> ControlFlow<()> { panic!("{event:?}") });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
