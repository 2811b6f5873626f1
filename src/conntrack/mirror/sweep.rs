//! Flows that end without an event, found by asking the kernel about those whose time is over.
//!
//! Such flows are those that began before anybody listened (with `net.netfilter.nf_conntrack_events` = 2). And when packets
//! refresh a flow's timeout, there is no event: then the kernel's answer says when it will really end. The kernel is asked in
//! the same way about flows whose events contradict what is known of them.

use std::time::{Duration, Instant};

use super::entry::Known;
use super::follow::{Follower, Out};
use super::index::Slot;
use super::table::{Kind, bits};
use crate::conntrack::identity::Identity;
use crate::conntrack::{Key, Requests};
use crate::error::Result;
use crate::message::Message;
use crate::mirror::{BARRIER_OF_OTHERS, BARRIER_PATIENCE, INTERVAL, is_barrier, send_barrier};
use crate::socket::Socket;

/// The table is gone over in steps.
const STEP: Duration = Duration::from_millis(100);
/// So many of them are all of it, unless it is small.
const STEPS: u32 = 100;
const LEAST_STEP_SLOTS: u32 = 1024;
/// The pause when the kernel was asked about as many flows as may be asked for at a time: there may be more.
const SHORT_STEP: Duration = Duration::from_millis(10);
const MOST_ASKED: usize = 128;
/// A flow is over for so long before the kernel is asked about it: its own event is usually first.
const GRACE_SECONDS: u32 = 2;

/// Asked for behind the events, since those of the doubtful flows may still be queued.
#[derive(Clone, Copy, Debug)]
struct Barrier {
    sequence: u32,
    ask_again_at: Instant,
}

/// A flow that the kernel did not have when it was asked, but perhaps another one of its identity.
#[derive(Debug)]
struct Doubtful {
    slot: Slot,
    successor: Option<Known>,
}

#[derive(Debug)]
pub(super) struct Sweep {
    /// Where the next step begins.
    hand: Slot,
    due: Instant,
    requests: Option<Requests>,
    doubtful: Vec<Doubtful>,
    barrier: Option<Barrier>,
    sequence: u32,
    /// Why the kernel could not be asked last time. None: it could.
    pub error: Option<Box<str>>,
    /// Acknowledgements that were asked for.
    pub request_count: u64,
}

impl Sweep {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            hand: 0,
            due: now,
            requests: None,
            doubtful: Vec::new(),
            barrier: None,
            sequence: 0,
            error: None,
            request_count: 0,
        }
    }

    pub(super) fn due(&self, follower: &Follower) -> Option<Instant> {
        let is_any = follower.flows.live_count() > 0 || !follower.doubted.is_empty();
        match self.barrier {
            Some(barrier) => Some(barrier.ask_again_at),
            None => is_any.then_some(self.due),
        }
    }

    /// A dump is to be merged: that tells of the doubtful ones too.
    pub(super) fn abandon(&mut self) {
        self.doubtful.clear();
        self.barrier = None;
    }

    /// Takes the step that is due. `events` is the socket that the events come by.
    pub(super) fn advance(
        &mut self,
        follower: &mut Follower,
        events: &Socket,
        now: Instant,
        f: Out<'_>,
    ) -> Result<()> {
        match self.barrier {
            Some(barrier) if now >= barrier.ask_again_at => self.ask_for_barrier(events, now),
            None if now >= self.due => {
                let overdue = self.next_overdue(follower);
                self.due = now + pause_after(&overdue);
                if let Err(error) = self.ask(&overdue, follower, f) {
                    self.error = Some(error.to_string().into());
                    self.due = now + INTERVAL; // it will hardly be different at once
                    return Err(error);
                }
                if self.doubtful.is_empty() {
                    return Ok(());
                }
                self.ask_for_barrier(events, now)
            }
            _ => Ok(()),
        }
    }

    /// Goes on over the table, by a step or until there are enough.
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

    /// Asks about these, and about those whose events contradict what is known.
    fn ask(&mut self, overdue: &[Slot], follower: &mut Follower, f: Out<'_>) -> Result<()> {
        let doubted = follower.doubted.clone();
        if overdue.is_empty() && doubted.is_empty() {
            return Ok(());
        }
        let flows = &follower.flows;
        let overdue_flows = overdue.iter().map(|slot| flows.entry(*slot).identity());
        let doubted_flows = doubted.iter().map(|(identity, _)| *identity);
        let flows = overdue_flows.chain(doubted_flows);
        let keys: Vec<Key> = flows.map(|identity| identity.question()).collect();
        let mut requests = match self.requests.take() {
            Some(requests) => requests,
            None => Requests::open()?,
        };
        requests.ask_about(&keys, |index, flow| {
            let told = flow.map(|flow| Known::of(flow, follower.now_seconds));
            match overdue.get(index) {
                Some(slot) => self.take_answer(*slot, told, follower, f),
                None => self.take_resolution(doubted[index - overdue.len()], told, follower, f),
            }
        })?;
        follower.doubted.clear();
        self.error = None;
        self.requests = Some(requests); // after a failure, a new socket is better
        Ok(())
    }

    /// What the kernel says of a flow whose events contradict what is known.
    fn take_resolution(
        &mut self,
        (identity, id): (Identity, Option<u32>),
        told: Option<Known>,
        follower: &mut Follower,
        f: Out<'_>,
    ) {
        let is_it = |told: &Known| {
            let told = &told.entry;
            told.has_identity(&identity) && told.is_id(id) && !told.is_dying()
        };
        if let Some(slot) = follower.flows.find(&identity).live {
            self.take_answer(slot, told, follower, f);
        } else if let Some(told) = told.filter(is_it) {
            follower.take_revived(&told, f);
        }
    }

    fn take_answer(
        &mut self,
        slot: Slot,
        told: Option<Known>,
        follower: &mut Follower,
        f: Out<'_>,
    ) {
        let live = follower.flows.entry(slot);
        // The kernel finds flows by either tuple, so this may be another one than was asked about.
        let identity = live.identity();
        let told = told.filter(|told| told.entry.has_identity(&identity));
        match told {
            Some(told) if told.entry.is_dying() => {} // its event comes; else it is asked about again
            Some(told) if told.entry.may_follow(live) => {
                follower.take_answer(slot, &told, f);
            }
            successor => {
                follower.flows.set(slot, bits::DOUBTFUL);
                self.doubtful.push(Doubtful { slot, successor });
            }
        }
    }

    fn ask_for_barrier(&mut self, events: &Socket, now: Instant) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1) | BARRIER_OF_OTHERS;
        // Also if it cannot be sent: then it is sent later.
        self.barrier = Some(Barrier {
            sequence: self.sequence,
            ask_again_at: now + BARRIER_PATIENCE,
        });
        send_barrier(events, self.sequence)?;
        self.request_count += 1;
        Ok(())
    }

    /// Whether a message of the events' socket is the acknowledgement that is waited for. The flows that no event has
    /// told of until it are over.
    pub(super) fn take_barrier(
        &mut self,
        message: &Message<'_>,
        follower: &mut Follower,
        f: Out<'_>,
    ) -> bool {
        let is_it = self
            .barrier
            .is_some_and(|barrier| is_barrier(message, barrier.sequence));
        if is_it {
            self.barrier = None;
            self.end_doubtful(follower, f);
        }
        is_it
    }

    fn end_doubtful(&mut self, follower: &mut Follower, f: Out<'_>) {
        for Doubtful { slot, successor } in self.doubtful.drain(..) {
            // An event that ended it has freed its place, and any other took the mark away.
            if follower.flows.has(slot, bits::DOUBTFUL) {
                follower.take_end(slot, successor.as_ref(), f);
            }
        }
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
    use super::super::Change;
    use super::super::model_tests::{Facts, key_of, message_of};
    use super::*;
    use crate::conntrack::{Flow, status};
    use crate::event_kind::EventKind;
    use crate::message::Messages;
    use crate::request::Requester;
    use crate::socket::Protocol;

    /// A mirror with one flow, of this id.
    struct Case {
        follower: Follower,
        sweep: Sweep,
        told: Vec<(EventKind, u32, bool)>,
    }

    fn message(kind: EventKind, id: u32, mark: u32) -> Vec<u8> {
        let key = key_of(1);
        let facts = Facts {
            reply: key.orig.reversed().unwrap(),
            id,
            mark,
            status: status::CONFIRMED,
            state: None,
        };
        message_of(&key, kind, &facts, false)
    }

    fn entry(id: u32, mark: u32) -> Known {
        let bytes = message(EventKind::Update, id, mark);
        let message = Messages::new(&bytes).next().unwrap();
        Known::of(&Flow::decode(&message).unwrap(), 100)
    }

    impl Case {
        fn new(id: u32) -> Self {
            let mut this = Self {
                follower: Follower::new(),
                sweep: Sweep::new(Instant::now()),
                told: Vec::new(),
            };
            this.follower.held.end(); // as after a first dump
            this.follower.end_holding(&mut |_| {});
            this.take(EventKind::New, id);
            this.told.clear();
            this
        }

        fn take(&mut self, kind: EventKind, id: u32) {
            let bytes = message(kind, id, 0);
            let message = Messages::new(&bytes).next().unwrap();
            let told = &mut self.told;
            self.follower
                .take(&message, true, &mut |change| told.extend(heard(&change)));
        }

        fn answer(&mut self, answer: Option<Known>) {
            let (sweep, told) = (&mut self.sweep, &mut self.told);
            let mut f = |change: Change<'_>| told.extend(heard(&change));
            sweep.take_answer(0, answer, &mut self.follower, &mut f);
        }

        fn meet_barrier(&mut self) -> &[(EventKind, u32, bool)] {
            let (sweep, told) = (&mut self.sweep, &mut self.told);
            let mut f = |change: Change<'_>| told.extend(heard(&change));
            sweep.end_doubtful(&mut self.follower, &mut f);
            told
        }
    }

    fn heard(change: &Change<'_>) -> Option<(EventKind, u32, bool)> {
        match change {
            Change::Flow { flow, is_resynced } => Some((flow.kind, flow.id?, *is_resynced)),
            Change::Resynced(_) => None,
        }
    }

    #[test]
    fn what_the_kernel_does_not_have_is_over_once_the_events_are_ahead() {
        let mut case = Case::new(7);
        case.answer(None);
        assert_eq!((case.told.len(), case.follower.flows.live_count()), (0, 1));
        assert_eq!(case.meet_barrier(), [(EventKind::Delete, 7, true)]);
        assert_eq!(case.follower.flows.live_count(), 0);
    }

    #[test]
    fn another_flow_of_the_same_key_takes_its_place() {
        let mut case = Case::new(7);
        case.answer(Some(entry(8, 0)));
        let both = [(EventKind::Delete, 7, true), (EventKind::New, 8, true)];
        assert_eq!(case.meet_barrier(), both);
        assert_eq!(case.follower.flows.entry(0).id, Some(8));
    }

    #[test]
    fn an_event_that_was_queued_is_believed_instead() {
        let mut case = Case::new(7);
        case.answer(None);
        case.take(EventKind::Update, 7);
        assert_eq!(case.meet_barrier(), [(EventKind::Update, 7, false)]);

        let mut case = Case::new(7);
        case.answer(None);
        case.take(EventKind::Delete, 7);
        assert_eq!(case.meet_barrier(), [(EventKind::Delete, 7, false)]);

        // The place is another flow's by then.
        let mut case = Case::new(7);
        case.answer(Some(entry(8, 0)));
        case.take(EventKind::Delete, 7);
        case.take(EventKind::New, 8);
        let events = [(EventKind::Delete, 7, false), (EventKind::New, 8, false)];
        assert_eq!(case.meet_barrier(), events);
    }

    #[test]
    fn what_the_kernel_has_goes_on_as_it_says() {
        let mut case = Case::new(7);
        let later = entry(7, 0);
        case.answer(Some(later));
        assert_eq!(case.meet_barrier(), []);
        let expires_seconds = case.follower.flows.entry(0).expires_seconds;
        assert_eq!(expires_seconds, later.entry.expires_seconds);
        case.answer(Some(entry(7, 5)));
        assert_eq!(case.meet_barrier(), [(EventKind::Update, 7, true)]);
        let mut dying = entry(7, 5);
        dying.entry.status |= status::DYING;
        case.answer(Some(dying));
        assert_eq!(case.meet_barrier().len(), 1);
    }

    /// A socket that cannot send to the kernel: on this protocol there is nobody with port ID 0.
    fn broken_socket() -> Socket {
        Socket::open(Protocol::USERSOCK).unwrap()
    }

    #[test]
    fn a_barrier_that_cannot_be_sent_is_not_tried_again_at_once() {
        let mut case = Case::new(7);
        let (now, events) = (Instant::now(), broken_socket());
        case.answer(None);
        let mut tried_at = now;
        for _ in 0..3 {
            case.sweep.ask_for_barrier(&events, tried_at).unwrap_err();
            let due = case.sweep.due(&case.follower);
            assert_eq!(due, Some(tried_at + BARRIER_PATIENCE));
            let too_early = tried_at + BARRIER_PATIENCE / 2;
            tried_at += BARRIER_PATIENCE;
            let mut advance = |now| {
                case.sweep
                    .advance(&mut case.follower, &events, now, &mut |_| ())
            };
            advance(too_early).unwrap();
            advance(tried_at).unwrap_err();
            let due = case.sweep.due(&case.follower);
            assert_eq!(due, Some(tried_at + BARRIER_PATIENCE));
            tried_at += BARRIER_PATIENCE;
        }
        assert_eq!(case.sweep.request_count, 0);
    }

    #[test]
    fn a_question_that_fails_is_not_asked_again_at_once() {
        let mut case = Case::new(7);
        let (now, events) = (Instant::now(), broken_socket());
        case.follower.now_seconds = 1000; // its time is over
        // A route socket knows no such requests.
        let mut requests = Requests::open().unwrap();
        *requests.requester() = Requester::open(Protocol::ROUTE).unwrap();
        case.sweep.requests = Some(requests);
        let result = case
            .sweep
            .advance(&mut case.follower, &events, now, &mut |_| ());
        result.unwrap_err();
        assert_eq!(case.sweep.due(&case.follower), Some(now + INTERVAL));
    }

    #[test]
    fn what_events_contradict_is_as_the_kernel_says() {
        let identity = Identity::from(key_of(1));
        let resolve = |case: &mut Case, told: Option<Known>| {
            let (sweep, heard_of) = (&mut case.sweep, &mut case.told);
            let mut f = |change: Change<'_>| heard_of.extend(heard(&change));
            sweep.take_resolution((identity, Some(7)), told, &mut case.follower, &mut f);
        };
        // It goes on, or it does not.
        let mut case = Case::new(7);
        resolve(&mut case, Some(entry(7, 0)));
        assert_eq!(case.meet_barrier(), []);
        resolve(&mut case, None);
        assert_eq!(case.meet_barrier(), [(EventKind::Delete, 7, true)]);
        // It is there again, or it is not, or another one is, of which events tell.
        resolve(&mut case, None);
        resolve(&mut case, Some(entry(8, 0)));
        let mut dying = entry(7, 0);
        dying.entry.status |= status::DYING;
        resolve(&mut case, Some(dying));
        assert_eq!(case.meet_barrier().len(), 1);
        resolve(&mut case, Some(entry(7, 0)));
        assert_eq!(case.meet_barrier()[1..], [(EventKind::New, 7, true)]);
        // What the mirror has instead has ended.
        resolve(&mut case, Some(entry(9, 0)));
        let last = [(EventKind::Delete, 7, true), (EventKind::New, 9, true)];
        assert_eq!(case.meet_barrier()[2..], last);
    }
}
