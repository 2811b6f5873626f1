//! What an engine reports to its callback.

use std::fmt;

use super::loss::Loss;
use crate::error::Error;
use crate::message::{Malformed, MessageList};

/// Names a socket of an engine. An engine never uses an id again.
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

/// What happened on a socket. Deliberately exhaustive, because to ignore a loss must be a decision.
///
/// ```
/// use nlring::Event;
///
/// /// Says what a collector writes to its log.
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
    /// Anything else worth knowing.
    Notice(SocketId, Notice),
}

/// What of a socket's stream is missing. [`Event::missing`] returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// The kernel dropped these datagrams.
    Lost(Loss),
    /// These deliveries failed, on a socket with
    /// [`Socket::set_broadcast_error`](crate::Socket::set_broadcast_error). The kernel may try some of them again; the
    /// others are lost, and no counter tells how many.
    Delayed(Loss),
    /// A datagram, or the end of one, cannot be read; or something is missing that no counter has. The event says more.
    Unreadable,
}

impl Event<'_> {
    /// What of the socket's stream is missing, if this event reports that. `None` for messages, and for notices by
    /// which nothing is lost.
    ///
    /// This is the one place that decides which events mean missing data. A copy of the kernel's state that is kept
    /// from events must be compared with the kernel again after each of them, as the mirrors do.
    pub fn missing(&self) -> Option<Missing> {
        match self {
            Self::Messages(..) => None,
            Self::Lost(_, loss) => Some(Missing::Lost(*loss)),
            Self::Notice(_, notice) => notice.missing(),
        }
    }
}

impl Notice {
    /// Without a wildcard: whoever adds a notice has to decide.
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

/// What else can happen to a socket. Its `Display` is a sentence for a log.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A datagram was larger than the engine's buffers, and is not delivered: its rest is gone.
    /// Give [`AddOptions::buffer_bytes`](crate::AddOptions::buffer_bytes) at least `real_bytes`.
    Truncated {
        /// The datagram's length.
        real_bytes: usize,
        /// Its group, when the socket has [`Socket::set_pktinfo`](crate::Socket::set_pktinfo) on.
        group: Option<u32>,
    },
    /// A datagram had a bad length inside. The messages before it have just been delivered.
    Malformed(Malformed),
    /// A receive brought fewer bytes than what the kernel puts before each datagram (`struct io_uring_recvmsg_out`,
    /// sender and control data). The datagram is gone, and something may be missing. No kernel is known to do this.
    Short {
        /// How many bytes there are.
        written_bytes: usize,
    },
    /// The engine's buffers ran out since the last turn. Nothing is lost: datagrams wait in the socket's queue. More
    /// of them ([`AddOptions::buffer_count`](crate::AddOptions::buffer_count)) cost less time.
    Starved,
    /// Datagrams from another sender than the kernel were dropped since the last turn.
    Foreign {
        /// How many.
        count: u64,
        /// The sender of the last of them.
        port_id: u32,
    },
    /// Deliveries failed that the kernel may try again, on a socket with
    /// [`Socket::set_broadcast_error`](crate::Socket::set_broadcast_error). NEW and UPDATE events of conntrack are not
    /// tried again: their content comes with the flow's next event.
    Delayed(Loss),
    /// A receive failed in a way that may pass, and is tried again. The kernel reports errors of its own to a socket
    /// this way, for instance that an event could not be built (net/netlink/af_netlink.c, `netlink_set_err`):
    /// something may be missing then that no counter of the kernel's has. A receive that fails for 10 seconds without
    /// one success is given up: [`Failed`](Self::Failed).
    Retried(Error),
    /// A system call by which the engine waits for all its sockets, or arms receives, failed in a way that may pass, as
    /// `EAGAIN` and `ENOMEM` do. It is tried again with a pause of 10 ms. Nothing is lost by it while the sockets'
    /// receive buffers have room.
    ///
    /// It is reported once for failures that follow one another, under one of the engine's sockets, and each of them is
    /// counted in [`Statistics::retried`](crate::Statistics::retried). After 10 seconds without one success
    /// [`Running::poll`](crate::Running::poll) returns the error.
    Stalled(Error),
    /// The socket was removed: nothing of it comes any more, and it may be reclaimed.
    Removed,
    /// The socket cannot be received from any more. It may be reclaimed.
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
                "a receive brought {written_bytes} bytes, too few for a datagram, which is gone"
            ),
            Self::Starved => f.write_str("the engine's buffers ran out; nothing is lost by it"),
            Self::Foreign { count, port_id } => {
                write!(
                    f,
                    "{count} datagrams from a sender that is not the kernel were dropped (port ID {port_id})"
                )
            }
            Self::Delayed(loss) => write!(
                f,
                "{} deliveries failed, and may be tried again",
                loss.count
            ),
            Self::Retried(error) => write!(f, "tried again after: {error}"),
            Self::Stalled(error) => write!(f, "stalled, and tried again after: {error}"),
            Self::Removed => f.write_str("removed"),
            Self::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

/// How a turn of [`Running::poll`](crate::Running::poll) ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it reports a break and a stop"]
pub enum Turn<B> {
    /// The callback was not called: nothing came before the time-out, or the wait ended early, by a signal or to read
    /// drop counters. Take the next turn.
    Idle,
    /// The callback was called.
    Delivered,
    /// The stop handle was used. Call [`Running::finish`](crate::Running::finish) to deliver what is queued.
    Stopped,
    /// The callback broke off with this value. What was not handed over comes in the next turn.
    Break(B),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MalformedReason;
    use std::time::SystemTime;

    #[test]
    fn each_event_says_whether_something_is_missing() {
        let socket = SocketId {
            slot: 0,
            generation: 1,
        };
        let loss = Loss::new(3, SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
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
