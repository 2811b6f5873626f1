//! Flows that end without an event, found by asking the kernel about those whose time is over.
//!
//! Such flows are those that began before anybody listened (with `net.netfilter.nf_conntrack_events` = 2). And when packets
//! refresh a flow's timeout, there is no event: then the kernel's answer says when it will really end.

use std::time::{Duration, Instant};

use super::entry::Entry;
use super::follow::{Follower, Out};
use super::table::{Kind, Slot, bits};
use crate::conntrack::{Key, Requests};
use crate::error::Result;
use crate::message::Message;
use crate::mirror::{BARRIER_OF_OTHERS, BARRIER_PATIENCE, is_barrier, send_barrier};
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

/// A flow that the kernel did not have when it was asked, but perhaps another one of its key.
#[derive(Debug)]
struct Doubtful {
    slot: Slot,
    successor: Option<Entry>,
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
            request_count: 0,
        }
    }

    pub(super) fn due(&self, follower: &Follower) -> Option<Instant> {
        match self.barrier {
            Some(barrier) => Some(barrier.ask_again_at),
            None => (follower.flows.live_count() > 0).then_some(self.due),
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
                self.due = now + STEP; // also after a failure
                let overdue = self.next_overdue(follower);
                if overdue.len() == MOST_ASKED {
                    self.due = now + SHORT_STEP;
                }
                self.ask(&overdue, follower, f)?;
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

    fn ask(&mut self, slots: &[Slot], follower: &mut Follower, f: Out<'_>) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let flows = &follower.flows;
        let keys: Vec<Key> = slots.iter().map(|slot| flows.entry(*slot).key()).collect();
        let mut requests = match self.requests.take() {
            Some(requests) => requests,
            None => Requests::open()?,
        };
        requests.get_many(&keys, |index, flow| {
            let told = flow.map(|flow| Entry::of(flow, follower.now_seconds));
            self.take_answer(slots[index], told, follower, f);
        })?;
        self.requests = Some(requests); // after a failure, a new socket is better
        Ok(())
    }

    fn take_answer(
        &mut self,
        slot: Slot,
        told: Option<Entry>,
        follower: &mut Follower,
        f: Out<'_>,
    ) {
        let live = follower.flows.entry(slot);
        let told = told.filter(|told| told.zone == live.zone);
        match told {
            Some(told) if told.is_dying() => {} // its event comes; else it is asked about again
            Some(told) if live.is_id(told.id) => follower.take_answer(slot, told, f),
            successor => {
                follower.flows.set(slot, bits::DOUBTFUL);
                self.doubtful.push(Doubtful { slot, successor });
            }
        }
    }

    fn ask_for_barrier(&mut self, events: &Socket, now: Instant) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1) | BARRIER_OF_OTHERS;
        let sequence = self.sequence;
        send_barrier(events, sequence)?;
        self.request_count += 1;
        self.barrier = Some(Barrier {
            sequence,
            ask_again_at: now + BARRIER_PATIENCE,
        });
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
                follower.take_end(slot, successor, f);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Change;
    use super::super::model::{Facts, key_of, message_of};
    use super::*;
    use crate::conntrack::{EventKind, Flow, status};
    use crate::list::Messages;

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

    fn entry(id: u32, mark: u32) -> Entry {
        let bytes = message(EventKind::Update, id, mark);
        let message = Messages::new(&bytes).next().unwrap();
        Entry::of(&Flow::decode(&message).unwrap(), 100)
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

        fn answer(&mut self, answer: Option<Entry>) {
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
        assert_eq!(case.meet_barrier(), [(EventKind::Destroy, 7, true)]);
        assert_eq!(case.follower.flows.live_count(), 0);
    }

    #[test]
    fn another_flow_of_the_same_key_takes_its_place() {
        let mut case = Case::new(7);
        case.answer(Some(entry(8, 0)));
        let both = [(EventKind::Destroy, 7, true), (EventKind::New, 8, true)];
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
        case.take(EventKind::Destroy, 7);
        assert_eq!(case.meet_barrier(), [(EventKind::Destroy, 7, false)]);

        // The place is another flow's by then.
        let mut case = Case::new(7);
        case.answer(Some(entry(8, 0)));
        case.take(EventKind::Destroy, 7);
        case.take(EventKind::New, 8);
        let events = [(EventKind::Destroy, 7, false), (EventKind::New, 8, false)];
        assert_eq!(case.meet_barrier(), events);
    }

    #[test]
    fn what_the_kernel_has_goes_on_as_it_says() {
        let mut case = Case::new(7);
        let later = entry(7, 0);
        case.answer(Some(later));
        assert_eq!(case.meet_barrier(), []);
        let expires_seconds = case.follower.flows.entry(0).expires_seconds;
        assert_eq!(expires_seconds, later.expires_seconds);
        case.answer(Some(entry(7, 5)));
        assert_eq!(case.meet_barrier(), [(EventKind::Update, 7, true)]);
        let mut dying = entry(7, 5);
        dying.status |= status::DYING;
        case.answer(Some(dying));
        assert_eq!(case.meet_barrier().len(), 1);
    }
}
