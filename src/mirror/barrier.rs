//! Proof that all earlier events have been read.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::message::{Content, Message, NOOP};
use crate::request::send_noop;
use crate::socket::Socket;

/// How long an acknowledgement may take before another one is requested.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// Set in the sequence numbers of sweeps, and clear in those of rounds.
const OF_SWEEPS: u32 = 1 << 31;

/// A barrier. The events' own socket sends a no-op request. Its acknowledgement arrives after all events that the
/// kernel made before the request.
#[derive(Debug)]
pub(crate) struct Barrier {
    owner: u32,
    /// The sequence number of the last request.
    sequence: u32,
    awaited: Option<Awaited>,
    /// How many requests were sent.
    pub request_count: u64,
}

/// The sequence numbers of consecutive requests. The acknowledgement of any of them is enough.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    first: u32,
    last: u32,
    ask_again_at: Instant,
}

impl Barrier {
    /// The barrier of a mirror's rounds.
    pub(crate) fn of_rounds() -> Self {
        Self::new(0)
    }

    /// The barrier of a mirror's sweeps.
    pub(crate) fn of_sweeps() -> Self {
        Self::new(OF_SWEEPS)
    }

    /// The barrier of a sampler, whose socket has no mirror.
    pub(crate) fn of_sampler() -> Self {
        Self::new(0)
    }

    fn new(owner: u32) -> Self {
        Self {
            owner,
            sequence: owner,
            awaited: None,
            request_count: 0,
        }
    }

    /// Requests an acknowledgement, and awaits it even if the request cannot be sent now. If one is already awaited,
    /// either is enough: when the reader is far behind the events, the earlier one arrives first.
    pub(crate) fn ask(&mut self, events: &Socket, now: Instant) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1) & !OF_SWEEPS | self.owner;
        self.awaited = Some(Awaited {
            first: self.awaited.map_or(self.sequence, |earlier| earlier.first),
            last: self.sequence,
            ask_again_at: now + PATIENCE,
        });
        send_noop(events, self.sequence)?;
        self.request_count += 1;
        Ok(())
    }

    /// Forgets the awaited acknowledgement.
    pub(crate) fn cancel(&mut self) {
        self.awaited = None;
    }

    /// When to request another acknowledgement. `None`: none is awaited.
    pub(crate) fn ask_again_at(&self) -> Option<Instant> {
        self.awaited.map(|awaited| awaited.ask_again_at)
    }

    /// Whether the awaited acknowledgement is overdue.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.ask_again_at().is_some_and(|at| now >= at)
    }

    /// Whether a message of the events' socket is the awaited acknowledgement. If so, none is awaited anymore.
    pub(crate) fn is_met_by(&mut self, message: &Message<'_>) -> bool {
        let is_met = self
            .awaited
            .is_some_and(|awaited| awaited.is_met_by(message));
        if is_met {
            self.awaited = None;
        }
        is_met
    }
}

impl Awaited {
    fn is_met_by(&self, message: &Message<'_>) -> bool {
        let index = message.sequence().wrapping_sub(self.first);
        index <= self.last.wrapping_sub(self.first) && acknowledges_noop(message)
    }
}

fn acknowledges_noop(message: &Message<'_>) -> bool {
    let (Content::Ack(answer) | Content::Error(answer)) = message.content() else {
        return false;
    };
    let request = answer.request();
    request.is_some_and(|request| request.message_type == NOOP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{Protocol, RecvFlags};

    fn receive(socket: &Socket, barrier: &mut Barrier) -> bool {
        let mut buffer = [0; 4096];
        let list = socket.recv(&mut buffer, RecvFlags::NONE).unwrap();
        list.iter().any(|message| barrier.is_met_by(&message))
    }

    #[test]
    fn any_later_acknowledgement_of_the_owner_meets_a_barrier() {
        let events = Socket::open(Protocol::ROUTE).unwrap();
        let (mut rounds, mut sweeps) = (Barrier::of_rounds(), Barrier::of_sweeps());
        let now = Instant::now();
        rounds.ask(&events, now).unwrap();
        rounds.ask(&events, now + PATIENCE).unwrap();
        assert!(rounds.is_overdue(now + 2 * PATIENCE) && !rounds.is_overdue(now + PATIENCE));
        sweeps.ask(&events, now).unwrap();
        assert!(
            !receive(&events, &mut sweeps),
            "the acknowledgement belongs to the rounds"
        );
        assert!(
            receive(&events, &mut rounds),
            "a later acknowledgement meets the barrier"
        );
        assert_eq!((rounds.request_count, rounds.ask_again_at()), (2, None));
        assert!(receive(&events, &mut sweeps));
    }

    #[test]
    fn a_canceled_barrier_is_not_met_by_what_was_sent_before() {
        let events = Socket::open(Protocol::ROUTE).unwrap();
        let mut barrier = Barrier::of_rounds();
        let now = Instant::now();
        barrier.ask(&events, now).unwrap();
        barrier.cancel();
        barrier.ask(&events, now).unwrap();
        assert!(!receive(&events, &mut barrier));
        assert!(receive(&events, &mut barrier));
    }
}
