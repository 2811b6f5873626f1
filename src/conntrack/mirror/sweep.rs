//! Flows that end without an event, found by asking the kernel about flows whose time is over.
//!
//! Such flows began before anybody listened (with `net.netfilter.nf_conntrack_events` = 2). Packets also refresh a
//! flow's timeout without an event. The kernel's answer then says when the flow will really end. The kernel is asked in
//! the same way about flows whose events contradict what is known about them.

use std::time::{Duration, Instant};

use super::entry::Known;
use super::follow::Follower;
use super::shown::Out;
use super::table::bits;
use crate::conntrack::identity::Identity;
use crate::conntrack::{Key, Requests};
use crate::error::Result;
use crate::message::Message;
use crate::mirror::{Barrier, INTERVAL, Kind, Slot};
use crate::socket::Socket;

/// The time between two steps over the table.
const STEP: Duration = Duration::from_millis(100);
/// This many steps go over the whole table, unless it is small.
const STEPS: u32 = 100;
const LEAST_STEP_SLOTS: u32 = 1024;
/// The time between two steps while each finds as many overdue flows as the kernel is asked about at a time.
const SHORT_STEP: Duration = Duration::from_millis(10);
const MOST_ASKED: usize = 128;
/// The kernel is asked about a flow this long after its time was over, because its own event usually comes first.
const GRACE_SECONDS: u32 = 2;

/// A flow that the kernel did not have when it was asked, and the flow of the same identity that it had instead.
#[derive(Debug)]
struct Absent {
    slot: Slot,
    successor: Option<Known>,
}

/// Goes over the table in steps, and asks the kernel about the overdue flows.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Where the next step begins.
    hand: Slot,
    due: Instant,
    requests: Option<Requests>,
    absent: Vec<Absent>,
    /// Asked for when the kernel did not have a flow: the flow's own events may still be queued.
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
            absent: Vec::new(),
            barrier: Barrier::of_sweeps(),
            error: None,
        }
    }

    pub(super) fn due(&self, follower: &Follower) -> Option<Instant> {
        let is_any = follower.flows.live_count() > 0 || !follower.contradicted.is_empty();
        let next_step_at = is_any.then_some(self.due);
        self.barrier.ask_again_at().or(next_step_at)
    }

    /// How many acknowledgements the events' socket was asked for.
    pub(super) fn request_count(&self) -> u64 {
        self.barrier.request_count
    }

    /// Forgets the absent flows, because a dump settles them instead.
    pub(super) fn abandon(&mut self) {
        self.absent.clear();
        self.barrier.cancel();
    }

    /// Does what is due. `events` is the socket that the events come through.
    pub(super) fn advance(
        &mut self,
        follower: &mut Follower,
        events: &Socket,
        now: Instant,
        f: Out<'_>,
    ) -> Result<()> {
        if self.barrier.is_overdue(now) {
            return self.barrier.ask(events, now);
        }
        if self.barrier.ask_again_at().is_some() || now < self.due {
            return Ok(());
        }
        let overdue = self.next_overdue(follower);
        self.due = now + pause_after(&overdue);
        if let Err(error) = self.ask(&overdue, follower, events, f) {
            self.error = Some(error.to_string().into());
            self.due = now + INTERVAL; // asking again at once would hardly help
            return Err(error);
        }
        if self.absent.is_empty() {
            return Ok(());
        }
        self.barrier.ask(events, now)
    }

    /// Goes over the table by a step, or until the kernel can be asked about no more flows at a time.
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
    fn ask(
        &mut self,
        overdue: &[Slot],
        follower: &mut Follower,
        events: &Socket,
        f: Out<'_>,
    ) -> Result<()> {
        let contradicted = follower.contradicted.clone();
        if overdue.is_empty() && contradicted.is_empty() {
            return Ok(());
        }
        let flows = &follower.flows;
        let overdue_flows = overdue.iter().map(|slot| flows.entry(*slot).identity());
        let contradicted_flows = contradicted.iter().map(|(identity, _)| *identity);
        let flows = overdue_flows.chain(contradicted_flows);
        let keys: Vec<Key> = flows.map(|identity| identity.question()).collect();
        let mut requests = match self.requests.take() {
            Some(requests) => requests,
            None => Requests::open_beside(events)?,
        };
        requests.ask_about(&keys, |index, flow| {
            let answer = flow.map(|flow| Known::of(flow, follower.now_seconds));
            if let Some(slot) = overdue.get(index) {
                self.feed_answer(*slot, answer, follower, f);
            } else {
                let lifetime = contradicted[index - overdue.len()];
                self.feed_resolution(lifetime, answer, follower, f);
            }
        })?;
        follower.contradicted.clear();
        self.error = None;
        self.requests = Some(requests); // after a failure, a new socket is better
        Ok(())
    }

    /// Takes the kernel's answer about a flow whose events contradict what is known.
    fn feed_resolution(
        &mut self,
        (identity, id): (Identity, Option<u32>),
        answer: Option<Known>,
        follower: &mut Follower,
        f: Out<'_>,
    ) {
        let is_it = |answer: &Known| {
            let answer = &answer.entry;
            answer.has_identity(&identity) && answer.is_id(id) && !answer.is_dying()
        };
        if let Some(slot) = follower.flows.find(&identity).live {
            self.feed_answer(slot, answer, follower, f);
        } else if let Some(answer) = answer.filter(is_it) {
            follower.revive(&answer, f);
        }
    }

    /// Takes the kernel's answer about a live flow.
    fn feed_answer(
        &mut self,
        slot: Slot,
        answer: Option<Known>,
        follower: &mut Follower,
        f: Out<'_>,
    ) {
        let live = follower.flows.entry(slot);
        // The kernel finds flows by either tuple, so its answer may be about another flow.
        let identity = live.identity();
        let answer = answer.filter(|answer| answer.entry.has_identity(&identity));
        match answer {
            Some(answer) if answer.entry.is_dying() => {} // its event comes, or the next sweep asks again
            Some(answer) if answer.entry.may_follow(live) => {
                follower.confirm(slot, &answer, f);
            }
            successor => {
                follower.flows.set(slot, bits::ABSENT);
                self.absent.push(Absent { slot, successor });
            }
        }
    }

    /// Takes the acknowledgement that the barrier awaits. The absent flows that no event has reported before it have
    /// ended. False: the message is another one.
    pub(super) fn feed_barrier(
        &mut self,
        message: &Message<'_>,
        follower: &mut Follower,
        f: Out<'_>,
    ) -> bool {
        let is_met = self.barrier.is_met_by(message);
        if is_met {
            self.end_absent(follower, f);
        }
        is_met
    }

    fn end_absent(&mut self, follower: &mut Follower, f: Out<'_>) {
        for Absent { slot, successor } in self.absent.drain(..) {
            // An event that ended the flow has freed its slot, and any other event took the bit away.
            if follower.flows.has(slot, bits::ABSENT) {
                follower.end_absent(slot, successor.as_ref(), f);
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
    use super::super::tests::kernel::{Facts, key_of, message_of};
    use super::*;
    use crate::conntrack::{Flow, status};
    use crate::event_kind::EventKind;
    use crate::message::Messages;
    use crate::mirror::{BARRIER_PATIENCE, Slice};
    use crate::request::Requester;
    use crate::socket::Protocol;

    /// A mirror with one flow.
    struct Case {
        follower: Follower,
        sweep: Sweep,
        reported: Vec<(EventKind, u32, bool)>,
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
                reported: Vec::new(),
            };
            this.follower.held.end(); // like a first dump does
            this.follower
                .end_holding(&mut Slice::endless(), &mut |_| {});
            this.feed(EventKind::New, id);
            this.reported.clear();
            this
        }

        fn feed(&mut self, kind: EventKind, id: u32) {
            let bytes = message(kind, id, 0);
            let message = Messages::new(&bytes).next().unwrap();
            let reported = &mut self.reported;
            self.follower.feed(&message, true, &mut |change| {
                reported.extend(report_of(&change));
            });
        }

        fn answer(&mut self, answer: Option<Known>) {
            let (sweep, reported) = (&mut self.sweep, &mut self.reported);
            let mut f = |change: Change<'_>| reported.extend(report_of(&change));
            sweep.feed_answer(0, answer, &mut self.follower, &mut f);
        }

        fn meet_barrier(&mut self) -> &[(EventKind, u32, bool)] {
            let (sweep, reported) = (&mut self.sweep, &mut self.reported);
            let mut f = |change: Change<'_>| reported.extend(report_of(&change));
            sweep.end_absent(&mut self.follower, &mut f);
            reported
        }
    }

    fn report_of(change: &Change<'_>) -> Option<(EventKind, u32, bool)> {
        match change {
            Change::Flow { flow, is_resynced } => Some((flow.kind, flow.id?, *is_resynced)),
            Change::Resynced(_) => None,
        }
    }

    #[test]
    fn a_flow_that_the_kernel_does_not_have_ends_once_the_barrier_is_met() {
        let mut case = Case::new(7);
        case.answer(None);
        assert_eq!(
            (case.reported.len(), case.follower.flows.live_count()),
            (0, 1)
        );
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
    fn a_queued_event_counts_more_than_the_kernels_answer() {
        let mut case = Case::new(7);
        case.answer(None);
        case.feed(EventKind::Update, 7);
        assert_eq!(case.meet_barrier(), [(EventKind::Update, 7, false)]);

        let mut case = Case::new(7);
        case.answer(None);
        case.feed(EventKind::Delete, 7);
        assert_eq!(case.meet_barrier(), [(EventKind::Delete, 7, false)]);

        // By now another flow has the slot.
        let mut case = Case::new(7);
        case.answer(Some(entry(8, 0)));
        case.feed(EventKind::Delete, 7);
        case.feed(EventKind::New, 8);
        let events = [(EventKind::Delete, 7, false), (EventKind::New, 8, false)];
        assert_eq!(case.meet_barrier(), events);
    }

    #[test]
    fn a_flow_that_the_kernel_has_continues_as_the_kernel_says() {
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

    /// A socket that cannot send to the kernel, because nobody has port ID 0 on this protocol.
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
            case.sweep.barrier.ask(&events, tried_at).unwrap_err();
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
        assert_eq!(case.sweep.request_count(), 0);
    }

    #[test]
    fn a_question_that_fails_is_not_asked_again_at_once() {
        let mut case = Case::new(7);
        let (now, events) = (Instant::now(), broken_socket());
        case.follower.now_seconds = 1000; // past its timeout
        // A route socket refuses these requests.
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
    fn a_flow_whose_events_contradict_is_as_the_kernel_says() {
        let identity = Identity::from(key_of(1));
        let resolve = |case: &mut Case, answer: Option<Known>| {
            let (sweep, reported) = (&mut case.sweep, &mut case.reported);
            let mut f = |change: Change<'_>| reported.extend(report_of(&change));
            sweep.feed_resolution((identity, Some(7)), answer, &mut case.follower, &mut f);
        };
        // The mirror has the flow. It continues, or it does not.
        let mut case = Case::new(7);
        resolve(&mut case, Some(entry(7, 0)));
        assert_eq!(case.meet_barrier(), []);
        resolve(&mut case, None);
        assert_eq!(case.meet_barrier(), [(EventKind::Delete, 7, true)]);
        // The mirror lacks the flow. It is there again, or it is not, or another one is there, which events report.
        resolve(&mut case, None);
        resolve(&mut case, Some(entry(8, 0)));
        let mut dying = entry(7, 0);
        dying.entry.status |= status::DYING;
        resolve(&mut case, Some(dying));
        assert_eq!(case.meet_barrier().len(), 1);
        resolve(&mut case, Some(entry(7, 0)));
        assert_eq!(case.meet_barrier()[1..], [(EventKind::New, 7, true)]);
        // The mirror has another flow, which has ended.
        resolve(&mut case, Some(entry(9, 0)));
        let last = [(EventKind::Delete, 7, true), (EventKind::New, 9, true)];
        assert_eq!(case.meet_barrier()[2..], last);
    }
}
