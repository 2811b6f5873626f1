//! Counting: what came, what the kernel dropped, and between which moments.

use std::fmt;
use std::time::SystemTime;

/// What became of one socket's datagrams while an engine had it. All are exact counts.
///
/// ```
/// use nlring::{Engine, Protocol, Socket};
///
/// let mut engine = Engine::builder().build()?;
/// let id = engine.add(Socket::open(Protocol::ROUTE)?)?;
/// let running = engine.start()?;
/// let statistics = running.statistics(id).expect("the socket");
/// assert_eq!(statistics.received + statistics.dropped + statistics.unread, 0);
/// # Ok::<(), nlring::Error>(())
/// ```
///
/// `received + dropped + unread` is what the kernel tried to deliver from the moment the engine got the socket until it
/// ended, together with what was queued at the beginning. (At least, where `unread_is_incomplete`.) Drops that no
/// engine has reported yet, from before the socket's first engine or between two engines, are in `dropped` of the next
/// one, and it reports them by
/// [`Event::Lost`](crate::Event::Lost).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Datagrams handed over, the truncated, malformed, short and foreign ones included.
    pub received: u64,
    /// Datagrams that the kernel dropped because the receive queue was full.
    pub dropped: u64,
    /// Deliveries that failed on a socket with [`Socket::set_broadcast_error`](crate::Socket::set_broadcast_error): the
    /// kernel may try each again, and again, so they are not losses, and not in `dropped`.
    pub delivery_failures: u64,
    /// Datagrams larger than the engine's buffers: reported, never parsed.
    pub truncated: u64,
    /// Datagrams with a bad length inside; the messages before it were delivered.
    pub malformed: u64,
    /// Datagrams of which the kernel left fewer bytes than what stands before a datagram, so that not even the sender
    /// is known: reported, never parsed. No kernel is known to do this.
    pub short: u64,
    /// Datagrams from another sender than the kernel: dropped, unless they were asked for.
    pub foreign: u64,
    /// How often the engine's buffers ran out. Nothing was lost, but more buffers would have cost less time.
    pub starved: u64,
    /// Receives, and waits of the engine, that failed and were tried again: see
    /// [`Notice::Retried`](crate::Notice::Retried) and [`Notice::Stalled`](crate::Notice::Stalled). Those of waits are
    /// counted at one of the engine's sockets.
    pub retried: u64,
    /// Datagrams that were still queued when the engine ended, counted and not delivered.
    pub unread: u64,
    /// `unread` was not counted to the end: more may have been queued. The counting goes on for half a second at most,
    /// in which it gets through some hundred thousand datagrams; or it failed.
    pub unread_is_incomplete: bool,
    /// Messages delivered.
    pub messages: u64,
    /// Bytes of the received datagrams, by their real lengths.
    pub bytes: u64,
}

/// Datagrams that the kernel dropped between two readings of its counter. Its `Display` is their number.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use nlring::Loss;
///
/// let since = SystemTime::now();
/// let loss = Loss::new(3, since, since + Duration::from_millis(1));
/// assert_eq!(loss.to_string(), "3 datagrams");
/// ```
///
/// It is noticed while older datagrams may still be queued: events delivered after it may be older than the gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// How many datagrams.
    pub count: u64,
    /// The reading before, `CLOCK_REALTIME`: the loss is after this.
    pub since: SystemTime,
    /// The reading that showed it, `CLOCK_REALTIME`.
    pub until: SystemTime,
}

/// A socket's drop counter (`SK_MEMINFO_DROPS`, 32 bits, wrapping) turned into losses.
#[derive(Clone, Copy, Debug)]
pub(super) struct DropCounter {
    last: u32,
    read_at: SystemTime,
}

impl DropCounter {
    /// Goes on after the `reported` drops, which were read at `since`.
    pub(super) fn new(reported: u32, since: SystemTime) -> Self {
        Self {
            last: reported,
            read_at: since,
        }
    }

    /// The last reading, and when it was.
    pub(super) fn last_reading(&self) -> (u32, SystemTime) {
        (self.last, self.read_at)
    }

    /// Notes a reading. `Some` when the counter has moved.
    pub(super) fn update(&mut self, reading: u32, now: SystemTime) -> Option<Loss> {
        let count = reading.wrapping_sub(self.last);
        let since = self.read_at;
        (self.last, self.read_at) = (reading, now);
        (count > 0).then_some(Loss {
            count: count.into(),
            since,
            until: now,
        })
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} datagram{plural}", self.count)
    }
}

impl Loss {
    /// A loss that a program counted without an [`Engine`](crate::Engine): by `ENOBUFS`
    /// ([`ErrorKind::Overrun`](crate::ErrorKind::Overrun)) or [`Socket::drops`](crate::Socket::drops).
    pub fn new(count: u64, since: SystemTime, until: SystemTime) -> Self {
        Self {
            count,
            since,
            until,
        }
    }

    /// This loss and a later one that was not delivered apart.
    pub(crate) fn merge(self, later: Loss) -> Loss {
        Loss {
            count: self.count + later.count,
            since: self.since,
            until: later.until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn differences_wrap_and_gaps_lie_between_readings() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut counter = DropCounter::new(0, at(1));
        assert_eq!(counter.update(0, at(2)), None);
        let loss = Loss {
            count: u64::from(u32::MAX),
            since: at(2),
            until: at(3),
        };
        assert_eq!(counter.update(u32::MAX, at(3)), Some(loss));
        assert_eq!(
            counter.update(1, at(4)),
            Some(Loss {
                count: 2,
                since: at(3),
                until: at(4)
            })
        );
        assert_eq!(counter.update(1, at(5)), None);
        assert_eq!(
            counter.update(2, at(6)),
            Some(Loss {
                count: 1,
                since: at(5),
                until: at(6)
            })
        );
    }

    #[test]
    fn losses_not_yet_delivered_are_added_up() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let first = Loss {
            count: 3,
            since: at(1),
            until: at(2),
        };
        let later = Loss {
            count: 4,
            since: at(5),
            until: at(6),
        };
        assert_eq!(
            first.merge(later),
            Loss {
                count: 7,
                since: at(1),
                until: at(6)
            }
        );
    }
}
