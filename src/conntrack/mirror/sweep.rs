//! Flows that end without an event, found by asking the kernel about flows whose timeout has expired.
//!
//! Such flows began before anybody listened (with `net.netfilter.nf_conntrack_events` = 2). Packets also refresh a
//! flow's timeout without an event. The kernel's answer then says when the flow will really end. The kernel is asked in
//! the same way about flows whose events contradict what is known about them. The answers wait for a barrier
//! (`answers.rs`).

use std::time::{Duration, Instant};

use super::entry::Known;
use super::follow::Follower;
use super::shown::Out;
use crate::conntrack::identity::Identity;
use crate::conntrack::{Key, Requests};
use crate::error::Result;
use crate::message::Message;
use crate::mirror::{Barrier, INTERVAL, Kind, Slot};
use crate::socket::Socket;

/// The time between two steps over the table.
const STEP: Duration = Duration::from_millis(100);
/// This many steps cover the whole table, unless it is small.
const STEPS: u32 = 100;
const LEAST_STEP_SLOTS: u32 = 1024;
/// The time between two steps while each finds as many overdue flows as one question to the kernel may contain.
const SHORT_STEP: Duration = Duration::from_millis(10);
const MOST_ASKED: usize = 128;
/// The kernel is asked about a flow this long after its timeout expired, because its own event usually arrives first.
const GRACE_SECONDS: u32 = 2;

/// Scans the table in steps, and asks the kernel about the overdue flows.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Where the next step begins.
    hand: Slot,
    due: Instant,
    requests: Option<Requests>,
    /// Requested after the kernel's answers: earlier events of the flows may still be queued.
    barrier: Barrier,
    /// Why the last question failed. `None`: it did not.
    pub error: Option<Box<str>>,
}

impl Sweep {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            hand: 0,
            due: now,
            requests: None,
            barrier: Barrier::of_sweeps(),
            error: None,
        }
    }

    pub(super) fn due(&self, follower: &Follower) -> Option<Instant> {
        let is_any = follower.flows.live_count() > 0 || !follower.contradicted.is_empty();
        let next_step_at = is_any.then_some(self.due);
        self.barrier.ask_again_at().or(next_step_at)
    }

    /// How many acknowledgements were requested on the events' socket.
    pub(super) fn request_count(&self) -> u64 {
        self.barrier.request_count
    }

    /// Drops all waiting answers, because events were lost.
    pub(super) fn abandon(&mut self) {
        self.barrier.cancel();
    }

    /// Does what is due. `events` is the socket on which the events arrive.
    pub(super) fn advance(
        &mut self,
        follower: &mut Follower,
        events: &Socket,
        now: Instant,
    ) -> Result<()> {
        if self.barrier.is_overdue(now) {
            return self.barrier.ask(events, now);
        }
        if self.barrier.ask_again_at().is_some() || now < self.due {
            return Ok(());
        }
        let overdue = self.next_overdue(follower);
        self.due = now + pause_after(&overdue);
        if let Err(error) = self.ask(&overdue, follower, events) {
            self.error = Some(error.to_string().into());
            self.due = now + INTERVAL; // asking again at once would hardly help
            return Err(error);
        }
        if follower.answers.is_empty() {
            return Ok(());
        }
        self.barrier.ask(events, now)
    }

    /// Scans the table for one step, or until one question to the kernel is full.
    fn next_overdue(&mut self, follower: &Follower) -> Vec<Slot> {
        let flows = &follower.flows;
        let slot_count = flows.slot_count();
        let step = slot_count.div_ceil(STEPS).max(LEAST_STEP_SLOTS);
        let mut overdue = Vec::new();
        for _ in 0..step.min(slot_count) {
            if self.hand >= slot_count {
                self.hand = 0;
            }
            let slot = self.hand;
            self.hand += 1;
            let is_overdue = flows.kind(slot) == Kind::Live
                && flows
                    .entry(slot)
                    .is_overdue(follower.now_seconds, GRACE_SECONDS);
            if is_overdue {
                overdue.push(slot);
                if overdue.len() == MOST_ASKED {
                    break;
                }
            }
        }
        overdue
    }

    /// Asks about these flows, and about those whose events contradict what is known.
    fn ask(&mut self, overdue: &[Slot], follower: &mut Follower, events: &Socket) -> Result<()> {
        let overdue = overdue
            .iter()
            .map(|slot| follower.flows.entry(*slot).identity());
        let contradicted = follower.contradicted.iter().copied();
        let asked: Vec<Identity> = overdue.chain(contradicted).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = asked.iter().map(Identity::question).collect();
        let mut requests = match self.requests.take() {
            Some(requests) => requests,
            None => Requests::open_beside(events)?,
        };
        requests.ask_about(&keys, |index, flow| {
            let known = flow.map(|flow| Known::of(flow, follower.now_seconds));
            follower.note_answer(&asked[index], known);
        })?;
        follower.contradicted.clear();
        self.error = None;
        self.requests = Some(requests); // after a failure, a new socket is better
        Ok(())
    }

    /// Takes the acknowledgement that the barrier awaits, which settles the answers. False: it is a different message.
    pub(super) fn feed_barrier(
        &mut self,
        message: &Message<'_>,
        follower: &mut Follower,
        f: Out<'_>,
    ) -> bool {
        let is_met = self.barrier.is_met_by(message);
        if is_met {
            follower.settle_answers(f);
        }
        is_met
    }
}

fn pause_after(overdue: &[Slot]) -> Duration {
    if overdue.len() == MOST_ASKED {
        SHORT_STEP
    } else {
        STEP
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::kernel::{Facts, key_of, message_of};
    use super::*;
    use crate::conntrack::status;
    use crate::event_kind::EventKind;
    use crate::message::Messages;
    use crate::mirror::{BARRIER_PATIENCE, Slice};
    use crate::request::Requester;
    use crate::socket::Protocol;

    /// A table with one flow.
    fn table() -> Follower {
        let mut follower = Follower::new();
        follower.held.end(); // like a first dump does
        follower.end_holding(&mut Slice::endless(), &mut |_| {});
        let key = key_of(1);
        let facts = Facts {
            reply: key.orig.reversed().unwrap(),
            id: 7,
            mark: 0,
            status: status::CONFIRMED,
            state: None,
        };
        let bytes = message_of(&key, EventKind::New, &facts, false);
        let message = Messages::new(&bytes).next().unwrap();
        follower.feed(&message, true, &mut |_| {});
        follower
    }

    /// A socket that cannot send to the kernel, because nobody has port ID 0 on this protocol.
    fn broken_socket() -> Socket {
        Socket::open(Protocol::USERSOCK).unwrap()
    }

    #[test]
    fn a_barrier_that_cannot_be_sent_is_not_tried_again_at_once() {
        let (mut follower, events, now) = (table(), broken_socket(), Instant::now());
        let mut sweep = Sweep::new(now);
        let identity = follower.flows.entry(0).identity();
        follower.note_answer(&identity, None);
        let mut tried_at = now;
        for _ in 0..3 {
            sweep.barrier.ask(&events, tried_at).unwrap_err();
            assert_eq!(sweep.due(&follower), Some(tried_at + BARRIER_PATIENCE));
            let too_early = tried_at + BARRIER_PATIENCE / 2;
            tried_at += BARRIER_PATIENCE;
            let mut advance = |now| sweep.advance(&mut follower, &events, now);
            advance(too_early).unwrap();
            advance(tried_at).unwrap_err();
            assert_eq!(sweep.due(&follower), Some(tried_at + BARRIER_PATIENCE));
            tried_at += BARRIER_PATIENCE;
        }
        assert_eq!(sweep.request_count(), 0);
    }

    #[test]
    fn a_question_that_fails_is_not_asked_again_at_once() {
        let (mut follower, events, now) = (table(), broken_socket(), Instant::now());
        let mut sweep = Sweep::new(now);
        follower.now_seconds = 1000; // past its timeout
        // A route socket refuses these requests.
        let mut requests = Requests::open().unwrap();
        *requests.requester() = Requester::open(Protocol::ROUTE).unwrap();
        sweep.requests = Some(requests);
        sweep.advance(&mut follower, &events, now).unwrap_err();
        assert_eq!(sweep.due(&follower), Some(now + INTERVAL));
    }

    #[test]
    fn all_questions_are_asked_through_one_socket() {
        let (mut follower, mut now) = (table(), Instant::now());
        let events = Socket::open(Protocol::NETFILTER).unwrap();
        let mut sweep = Sweep::new(now);
        let mut port_ids = Vec::new();
        for _ in 0..3 {
            follower.now_seconds += 1000; // past its timeout
            sweep.advance(&mut follower, &events, now).unwrap();
            let requests = sweep.requests.as_mut().expect("it is kept");
            port_ids.push(requests.requester().socket().port_id().unwrap());
            sweep.abandon();
            now += STEP;
        }
        assert_eq!(port_ids, [port_ids[0]; 3]);
    }
}
