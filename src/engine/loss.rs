//! What an engine counts: received datagrams, and losses with their times.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use crate::timestamp::Timestamp;

/// What became of one socket's datagrams while it was in an engine. All counts are exact.
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
/// `received + dropped + unread` is the number of datagrams that were queued when the engine got the socket, plus all
/// that the kernel tried to deliver until the engine ended. If `unread_is_incomplete`, the sum may be too small.
///
/// Drops before the socket's first engine, or between two engines, are included in `dropped` of the next engine, which
/// reports them as [`Event::Lost`](crate::Event::Lost).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Datagrams received, including the truncated, malformed, short and foreign ones.
    pub received: u64,
    /// Datagrams that the kernel dropped because the receive queue was full.
    pub dropped: u64,
    /// Deliveries that failed on a socket with [`Socket::set_broadcast_error`](crate::Socket::set_broadcast_error).
    /// They are not in `dropped`, because the kernel may retry each of them, even several times.
    pub delivery_failures: u64,
    /// Datagrams larger than the engine's buffers. They are reported but not delivered.
    pub truncated: u64,
    /// Datagrams with a wrong length inside. The messages before it were delivered.
    pub malformed: u64,
    /// Receives that returned fewer bytes than the kernel writes before each datagram, so that not even the sender is
    /// known. They are reported but not delivered. No kernel is known to do this.
    pub short: u64,
    /// Datagrams that the engine dropped because their sender is not the kernel. None with
    /// [`AddOptions::accept_any_sender`](crate::AddOptions::accept_any_sender).
    pub foreign: u64,
    /// How often the engine's buffers ran out. No datagram was lost, but more buffers would have saved time.
    pub starved: u64,
    /// Calls that failed and were retried: see [`Notice::Retried`](crate::Notice::Retried) and
    /// [`Notice::Stalled`](crate::Notice::Stalled). A wait for all sockets is counted for one of them.
    pub retried: u64,
    /// Datagrams that were still queued when the engine ended. They were counted but not delivered.
    pub unread: u64,
    /// `unread` may be too small: counting failed, or took longer than half a second, which is enough for several
    /// hundred thousand datagrams.
    pub unread_is_incomplete: bool,
    /// Messages delivered.
    pub messages: u64,
    /// Bytes of the received datagrams. A truncated one counts with its full length.
    pub bytes: u64,
}

/// Adds each count to the same count of another socket.
impl AddAssign for Statistics {
    fn add_assign(&mut self, other: Self) {
        // No `..`, so that the compiler demands each new field.
        let Self {
            received,
            dropped,
            delivery_failures,
            truncated,
            malformed,
            short,
            foreign,
            starved,
            retried,
            unread,
            unread_is_incomplete,
            messages,
            bytes,
        } = other;
        self.received += received;
        self.dropped += dropped;
        self.delivery_failures += delivery_failures;
        self.truncated += truncated;
        self.malformed += malformed;
        self.short += short;
        self.foreign += foreign;
        self.starved += starved;
        self.retried += retried;
        self.unread += unread;
        self.unread_is_incomplete |= unread_is_incomplete;
        self.messages += messages;
        self.bytes += bytes;
    }
}

/// The sum of the counts of two sockets.
impl Add for Statistics {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

/// The sum of the counts of several sockets.
impl Sum for Statistics {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

/// Datagrams that the kernel dropped between two readings of its counter. Its `Display` is their number.
///
/// ```
/// use std::time::Duration;
/// use nlring::{Loss, Timestamp};
///
/// let since = Timestamp::now();
/// let loss = Loss::new(3, since, since + Duration::from_millis(1));
/// assert_eq!(loss.to_string(), "3 datagrams");
/// ```
///
/// Older datagrams may still be queued when a loss is noticed, so events that are delivered after it may be older than
/// the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// How many datagrams.
    pub count: u64,
    /// When the counter was last read without this loss (`CLOCK_REALTIME`). Never later than `until`: it is `until` if
    /// the clock was set back in between.
    pub since: Timestamp,
    /// When the counter was read with this loss (`CLOCK_REALTIME`).
    pub until: Timestamp,
}

/// A socket's drop counter (`SK_MEMINFO_DROPS`, 32 bits, wrapping) turned into losses.
#[derive(Clone, Copy, Debug)]
pub(super) struct DropCounter {
    last: u32,
    read_at: Timestamp,
}

impl DropCounter {
    /// Continues from a reading of `reported` drops at `since`.
    pub(super) fn new(reported: u32, since: Timestamp) -> Self {
        Self {
            last: reported,
            read_at: since,
        }
    }

    /// The last reading and its time.
    pub(super) fn last_reading(&self) -> (u32, Timestamp) {
        (self.last, self.read_at)
    }

    /// Records a reading. `Some`: the counter has changed.
    pub(super) fn update(&mut self, reading: u32, now: Timestamp) -> Option<Loss> {
        let count = reading.wrapping_sub(self.last);
        let since = self.read_at.min(now); // the clock may have been set back
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
    /// A loss that a program noticed without an [`Engine`](crate::Engine), by
    /// [`ErrorKind::Overrun`](crate::ErrorKind::Overrun) (`ENOBUFS`) or [`Socket::drops`](crate::Socket::drops).
    pub fn new(count: u64, since: Timestamp, until: Timestamp) -> Self {
        Self {
            count,
            since,
            until,
        }
    }

    /// This loss and a later one as one loss.
    pub(crate) fn merge(self, later: Loss) -> Loss {
        Loss {
            count: self.count + later.count,
            since: self.since.min(later.until), // the clock may have been set back
            until: later.until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_gap_does_not_end_before_it_begins_when_the_clock_is_set_back() {
        let at = |seconds| Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut counter = DropCounter::new(0, at(100));
        let loss = counter.update(1, at(50)).unwrap();
        assert_eq!((loss.since, loss.until), (at(50), at(50)));
        let later = counter.update(2, at(60)).unwrap();
        assert_eq!((later.since, later.until), (at(50), at(60)));
        let merged = Loss::new(1, at(90), at(100)).merge(later);
        assert_eq!((merged.since, merged.until), (at(60), at(60)));
    }

    #[test]
    fn differences_wrap_and_gaps_lie_between_readings() {
        let at = |seconds| Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
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
        let at = |seconds| Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
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
