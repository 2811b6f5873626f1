//! What an engine reports to its callback.

use std::fmt;

use super::loss::Loss;
use crate::error::Error;
use crate::message::{Malformed, MessageList};

/// Identifies a socket of an engine. An engine never reuses an id.
///
/// ```
/// use nlring::{Engine, Protocol, Socket};
///
/// let mut engine = Engine::builder().build()?;
/// let id = engine.add(Socket::open(Protocol::ROUTE)?)?;
/// assert_eq!(id.to_string(), "socket 1");
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    pub(super) slot: u16,
    pub(super) generation: u32,
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}", self.generation)
    }
}

/// What happened on a socket.
///
/// The enum is exhaustive, so that a program ignores losses only on purpose.
///
/// ```
/// use nlring::Event;
///
/// /// The line that a collector writes to its log.
/// fn log(event: &Event<'_>) -> Option<String> {
///     match event {
///         Event::Messages(..) => None,
///         Event::Lost(socket, loss) => Some(format!("{socket}: lost {loss}")),
///         Event::Notice(socket, notice) => Some(format!("{socket}: {notice}")),
///     }
/// }
/// ```
#[derive(Debug)]
pub enum Event<'a> {
    /// Messages of one socket, in the kernel's order, lent until the callback returns.
    Messages(SocketId, MessageList<'a>),
    /// The kernel dropped datagrams.
    Lost(SocketId, Loss),
    /// Anything else that happened to the socket.
    Notice(SocketId, Notice),
}

/// What is missing from a socket's events. [`Event::missing`] returns it.
///
/// ```
/// use std::ops::ControlFlow;
/// use nlring::{Engine, Missing, Protocol, Replay, Socket};
///
/// let script = Replay::new().starved().truncated(9000);
/// let mut engine = Engine::builder().replay(script).build()?;
/// engine.add(Socket::open(Protocol::ROUTE)?)?;
/// let mut missing = Vec::new();
/// engine.start()?.run(|event, _control| {
///     missing.extend(event.missing());
///     ControlFlow::<()>::Continue(())
/// })?;
/// assert_eq!(missing, [Missing::Unreadable], "a starved engine loses nothing");
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// The kernel dropped these datagrams.
    Lost(Loss),
    /// These deliveries failed, on a socket with [`Socket::set_broadcast_error`](crate::Socket::set_broadcast_error).
    /// The kernel may retry some of them; the others are lost, and no counter tells them apart.
    Delayed(Loss),
    /// A datagram or a part of it cannot be read, or the kernel may have lost something that no counter includes. The
    /// event says which.
    Unreadable,
}

impl Event<'_> {
    /// What is missing from the socket's events, if this event reports that. `None` for messages, and for notices that
    /// report no loss.
    ///
    /// A program that copies the kernel's state from events must compare it with the kernel after each `Some`, as the
    /// mirrors do.
    pub fn missing(&self) -> Option<Missing> {
        match self {
            Self::Messages(..) => None,
            Self::Lost(_, loss) => Some(Missing::Lost(*loss)),
            Self::Notice(_, notice) => notice.missing(),
        }
    }
}

impl Notice {
    // No wildcard, so that the compiler demands a decision about each new notice.
    fn missing(&self) -> Option<Missing> {
        match self {
            Self::Delayed(loss) => Some(Missing::Delayed(*loss)),
            Self::Truncated { .. }
            | Self::Malformed(_)
            | Self::Short { .. }
            | Self::Retried(_)
            | Self::Failed(_) => Some(Missing::Unreadable),
            Self::Starved | Self::Foreign { .. } | Self::Stalled(_) | Self::Removed => None,
        }
    }
}

/// What can happen to a socket besides messages and losses. Its `Display` is a sentence for a log.
///
/// ```
/// use std::ops::ControlFlow;
/// use nlring::{Engine, Event, Notice, Protocol, Replay, Socket};
///
/// let script = Replay::new().starved().truncated(9000);
/// let mut engine = Engine::builder().replay(script).build()?;
/// engine.add(Socket::open(Protocol::ROUTE)?)?;
/// let needed_bytes = engine.start()?.run(|event, _control| match event {
///     Event::Notice(_, Notice::Truncated { real_bytes, .. }) => ControlFlow::Break(real_bytes),
///     Event::Notice(socket, notice) => {
///         eprintln!("{socket}: {notice}");
///         ControlFlow::Continue(())
///     }
///     event => panic!("{event:?}"),
/// })?;
/// assert_eq!(needed_bytes, Some(9000));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A datagram was larger than the engine's buffers. It is not delivered, because it is incomplete. Set
    /// [`AddOptions::buffer_bytes`](crate::AddOptions::buffer_bytes) to at least `real_bytes`.
    Truncated {
        /// The datagram's length.
        real_bytes: usize,
        /// The datagram's group, if [`Socket::set_pktinfo`](crate::Socket::set_pktinfo) is on.
        group: Option<u32>,
    },
    /// A length inside a datagram was wrong. The messages before it have just been delivered.
    Malformed(Malformed),
    /// A receive returned fewer bytes than the kernel writes before each datagram (`struct io_uring_recvmsg_out`,
    /// sender and control data). The datagram is lost. No kernel is known to do this.
    Short {
        /// How many bytes the receive returned.
        written_bytes: usize,
    },
    /// The engine's buffers ran out. No datagram is lost: they wait in the socket's receive queue. More buffers
    /// ([`AddOptions::buffer_count`](crate::AddOptions::buffer_count)) avoid the delay.
    Starved,
    /// The engine dropped datagrams whose sender is not the kernel.
    /// [`AddOptions::accept_any_sender`](crate::AddOptions::accept_any_sender) delivers them instead.
    Foreign {
        /// How many since the last such notice.
        count: u64,
        /// The port ID of the last sender.
        port_id: u32,
    },
    /// Deliveries failed that the kernel may retry, on a socket with
    /// [`Socket::set_broadcast_error`](crate::Socket::set_broadcast_error). NEW and UPDATE events of conntrack are not
    /// retried: their content comes with the flow's next event.
    Delayed(Loss),
    /// A receive failed temporarily and is being retried. The kernel also reports its own errors to a socket this way,
    /// for example that it could not build an event (net/netlink/af_netlink.c, `netlink_set_err`). An event may then be
    /// missing that no counter of the kernel includes. After 10 seconds without a success, [`Failed`](Self::Failed)
    /// follows.
    Retried(Error),
    /// A system call that waits for all sockets or arms receives failed temporarily (`EAGAIN`, `ENOMEM`). It is
    /// retried, with pauses of at most 10 ms. No datagram is lost while the sockets' receive buffers have room.
    ///
    /// Consecutive failures are reported once, for one of the engine's sockets, and each is counted in
    /// [`Statistics::retried`](crate::Statistics::retried). After 10 seconds without a success
    /// [`Running::poll`](crate::Running::poll) returns the error of a wait, and [`Failed`](Self::Failed) reports a
    /// receive that cannot be armed.
    Stalled(Error),
    /// The socket was removed. This is its last event, and it may be reclaimed.
    Removed,
    /// The engine can no longer receive from the socket. The socket may be reclaimed.
    Failed(Error),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { real_bytes, group } => {
                write!(
                    f,
                    "a datagram of {real_bytes} bytes was larger than the engine's buffers"
                )?;
                group.map_or(Ok(()), |group| write!(f, " (group {group})"))
            }
            Self::Malformed(malformed) => write!(f, "a datagram is malformed {malformed}"),
            Self::Short { written_bytes } => write!(
                f,
                "a receive returned {written_bytes} bytes, too few for a datagram; that datagram is lost"
            ),
            Self::Starved => f.write_str("the engine's buffers ran out; no datagram is lost"),
            Self::Foreign { count, port_id } => {
                write!(
                    f,
                    "{count} datagrams from a sender that is not the kernel were dropped (port ID {port_id})"
                )
            }
            Self::Delayed(loss) => write!(
                f,
                "{} deliveries failed; the kernel may retry them",
                loss.count
            ),
            Self::Retried(error) => write!(f, "retried after: {error}"),
            Self::Stalled(error) => write!(f, "stalled; retried after: {error}"),
            Self::Removed => f.write_str("removed"),
            Self::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

/// How a turn of [`Running::poll`](crate::Running::poll) ended.
///
/// ```
/// use std::ops::ControlFlow;
/// use std::time::Duration;
/// use nlring::{Engine, Protocol, Replay, Socket, Turn};
///
/// let mut engine = Engine::builder().replay(Replay::new().starved()).build()?;
/// engine.add(Socket::open(Protocol::ROUTE)?)?;
/// let mut running = engine.start()?;
/// let mut event_count = 0;
/// loop {
///     let turn = running.poll(Some(Duration::from_millis(100)), |_event, _control| {
///         event_count += 1;
///         ControlFlow::<()>::Continue(())
///     })?;
///     match turn {
///         Turn::Idle | Turn::Delivered => {} // the program's other work
///         Turn::Stopped | Turn::Break(()) => break,
///     }
/// }
/// assert_eq!(event_count, 1);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it reports a break and a stop"]
pub enum Turn<B> {
    /// The callback was not called. Either nothing arrived before the time-out, or the wait ended early because of a
    /// signal or to read drop counters. Take the next turn.
    Idle,
    /// The callback was called.
    Delivered,
    /// The stop handle was used. Call [`Running::finish`](crate::Running::finish) to deliver what is queued.
    Stopped,
    /// The callback broke with this value. The next turn delivers the events that it has not seen.
    Break(B),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MalformedReason;
    use crate::timestamp::Timestamp;

    #[test]
    fn each_event_says_whether_something_is_missing() {
        let socket = SocketId {
            slot: 0,
            generation: 1,
        };
        let loss = Loss::new(3, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let error = || Error::system("receive", std::io::Error::from_raw_os_error(libc::ENOMEM));
        let malformed = Malformed {
            offset_bytes: 0,
            reason: MalformedReason::ShortHeader { left_bytes: 4 },
        };
        let truncated = Notice::Truncated {
            real_bytes: 9000,
            group: None,
        };
        let foreign = Notice::Foreign {
            count: 1,
            port_id: 1,
        };
        let event = Event::Lost(socket, loss);
        assert_eq!(event.missing(), Some(Missing::Lost(loss)));
        let event = Event::Messages(socket, MessageList::new(&[]));
        assert_eq!(event.missing(), None);
        for (notice, want) in [
            (Notice::Delayed(loss), Some(Missing::Delayed(loss))),
            (truncated, Some(Missing::Unreadable)),
            (Notice::Malformed(malformed), Some(Missing::Unreadable)),
            (
                Notice::Short { written_bytes: 3 },
                Some(Missing::Unreadable),
            ),
            (Notice::Retried(error()), Some(Missing::Unreadable)),
            (Notice::Failed(error()), Some(Missing::Unreadable)),
            (Notice::Starved, None),
            (Notice::Stalled(error()), None),
            (foreign, None),
            (Notice::Removed, None),
        ] {
            let event = Event::Notice(socket, notice);
            assert_eq!(event.missing(), want, "{event:?}");
        }
    }
}
