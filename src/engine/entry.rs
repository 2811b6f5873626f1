//! One socket in an engine: the state of its receive, its statistics, and its pending events.

use std::io;
use std::time::Instant;

use super::completion::ReceiveEnd;
use super::event::{Notice, SocketId};
use super::loss::{DropCounter, Loss, Statistics};
use super::options::AddOptions;
use super::retry::{Failures, Verdict, given_up, may_pass};
use crate::error::Error;
use crate::socket::Socket;
use crate::timestamp::Timestamp;

/// The state of a socket's receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The socket has no buffers yet.
    New,
    /// The receive must be armed, for the first time or again.
    Unarmed,
    Armed,
    /// The receive is being cancelled.
    Leaving,
    /// No receive is in flight, and the buffers are freed.
    Gone,
}

/// The events of a socket that are reported at the end of a turn, after its messages.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub starved: bool,
    /// How many datagrams, and the port ID of the last sender.
    pub foreign: Option<(u64, u32)>,
    pub lost: Option<Loss>,
    pub delayed: Option<Loss>,
    pub retried: Option<Error>,
    pub stalled: Option<Error>,
    pub failed: Option<Error>,
    pub removed: bool,
}

/// A socket in the engine.
#[derive(Debug)]
pub(super) struct Entry {
    pub id: SocketId,
    pub socket: Socket,
    pub options: AddOptions,
    pub state: State,
    pub statistics: Statistics,
    pub pending: Pending,
    /// Its datagrams hold netlink messages, not text as those of uevents do.
    pub is_framed: bool,
    /// The drop counter must be read, because a datagram arrived or the socket overran after the last reading.
    pub drops_owed: bool,
    /// Receives, and attempts to arm them, that failed since the last datagram.
    pub failures: Failures,
    /// For how many datagrams of this socket a turn must have room.
    pub room: usize,
    pub granted_bytes: usize,
    pub drops: DropCounter,
    pub cookie: u64,
}

impl Entry {
    /// Whether datagrams from this sender are accepted.
    pub(super) fn accepts(&self, sender_port_id: u32) -> bool {
        sender_port_id == 0 || self.options.accept_any_sender
    }

    /// Reads the drop counter. True when there is something to report.
    ///
    /// A failed reading is reported as a failed receive, and the next reading includes its drops. No kernel is known to
    /// fail here, because the counter could be read when the socket was added.
    pub(super) fn read_drops(&mut self, now: Timestamp) -> bool {
        let reading = match self.socket.drops() {
            Ok(reading) => reading,
            Err(error) => {
                self.note_retried(error);
                return true;
            }
        };
        self.drops_owed = false;
        let loss = self.drops.update(reading, now);
        if let Some(loss) = loss {
            self.note_loss(loss);
        }
        loss.is_some()
    }

    /// Counts what the kernel dropped.
    pub(super) fn note_loss(&mut self, loss: Loss) {
        // If the option cannot be read, the worse case is reported: a loss.
        let pending = if self.socket.broadcast_error() {
            self.statistics.delivery_failures += loss.count;
            &mut self.pending.delayed
        } else {
            self.statistics.dropped += loss.count;
            &mut self.pending.lost
        };
        *pending = Some(pending.take().map_or(loss, |earlier| earlier.merge(loss)));
    }

    /// Allows receives outside an engine again, and leaves unreported drops to the socket's next engine.
    pub(super) fn release(&mut self) {
        let (count, until) = self.drops.last_reading();
        self.socket.set_reported_drops(count, until);
        self.socket.set_in_engine(false);
    }

    /// Records that a receive has failed and is being retried.
    pub(super) fn note_retried(&mut self, error: Error) {
        self.statistics.retried += 1;
        self.pending.retried = Some(error);
    }

    /// Records that the buffers could not be set up, or that the receive could not be armed. After a temporary error,
    /// arming is retried for 10 seconds; any other error fails the socket.
    pub(super) fn note_not_armed(&mut self, error: Error, now: Instant) {
        if self.state == State::New || !may_pass(error.raw_os_error()) {
            return self.fail(error);
        }
        match self.failures.note(now) {
            Verdict::GiveUp => self.fail(given_up(error)),
            verdict => {
                self.statistics.retried += 1;
                if verdict == Verdict::TryAgain {
                    self.pending.stalled = Some(error);
                }
            }
        }
    }

    /// Counts a datagram of which the kernel wrote too few bytes.
    pub(super) fn note_short(&mut self, written_bytes: u32) -> Notice {
        self.statistics.received += 1;
        self.statistics.short += 1;
        self.statistics.bytes += u64::from(written_bytes);
        Notice::Short {
            written_bytes: written_bytes as usize,
        }
    }

    /// Counts a datagram whose sender is not accepted.
    pub(super) fn note_foreign(&mut self, port_id: u32) {
        self.statistics.foreign += 1;
        let count = self.pending.foreign.map_or(0, |(count, _)| count);
        self.pending.foreign = Some((count + 1, port_id));
    }

    /// Whether the socket is gone, and its removal or failure is not yet reported.
    pub(super) fn has_farewell(&self) -> bool {
        self.state == State::Gone && (self.pending.failed.is_some() || self.pending.removed)
    }

    /// Gives up the socket. The failure is reported when no receive is in flight.
    pub(super) fn fail(&mut self, error: Error) {
        self.pending.failed.get_or_insert(error);
        self.state = State::Leaving;
    }

    /// Records how a receive has ended. True when the next wait must begin with a pause.
    pub(super) fn note_end(&mut self, end: ReceiveEnd, is_armed: bool) -> bool {
        let mut must_pause = false;
        let error = |errno| {
            Error::failed_call(
                "receive from a netlink socket",
                io::Error::from_raw_os_error(errno),
            )
        };
        match end {
            ReceiveEnd::Failed(errno) => self.fail(error(errno)),
            ReceiveEnd::Retry(errno) => match self.failures.note_of_receive(Instant::now()) {
                Verdict::GiveUp => self.fail(given_up(error(errno))),
                verdict => {
                    self.note_retried(error(errno));
                    must_pause = verdict == Verdict::Pause;
                }
            },
            ReceiveEnd::Starved => {
                self.statistics.starved += 1;
                self.pending.starved = true;
            }
            ReceiveEnd::Overrun => self.drops_owed = true,
            ReceiveEnd::Rearm | ReceiveEnd::Cancelled => {}
        }
        if self.state == State::Armed && !is_armed {
            self.state = State::Unarmed;
        }
        must_pause
    }

    /// The next event to report, losses first.
    pub(super) fn next_pending(&mut self) -> Option<PendingEvent> {
        let pending = &mut self.pending;
        if let Some(loss) = pending.lost.take() {
            return Some(PendingEvent::Lost(loss));
        }
        if let Some(loss) = pending.delayed.take() {
            return Some(PendingEvent::Notice(Notice::Delayed(loss)));
        }
        if let Some(error) = pending.retried.take() {
            return Some(PendingEvent::Notice(Notice::Retried(error)));
        }
        if let Some(error) = pending.stalled.take() {
            return Some(PendingEvent::Notice(Notice::Stalled(error)));
        }
        if let Some((count, port_id)) = pending.foreign.take() {
            return Some(PendingEvent::Notice(Notice::Foreign { count, port_id }));
        }
        if std::mem::take(&mut pending.starved) {
            return Some(PendingEvent::Notice(Notice::Starved));
        }
        if self.state == State::Gone {
            if let Some(error) = pending.failed.take() {
                pending.removed = false;
                return Some(PendingEvent::Notice(Notice::Failed(error)));
            }
            if std::mem::take(&mut pending.removed) {
                return Some(PendingEvent::Notice(Notice::Removed));
            }
        }
        None
    }
}

pub(super) enum PendingEvent {
    Lost(Loss),
    Notice(Notice),
}
