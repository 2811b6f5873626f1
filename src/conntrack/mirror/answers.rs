//! The kernel's answers about single flows, kept until all events that were queued earlier have been read.
//!
//! The kernel answers with what is true now. The reader of the events may still be far behind: flows of the same
//! identity may have ended and begun in between. So an answer waits for a barrier, like a dump of this one flow. The
//! events that are read in the meantime are newer than the answer or led to it, so they take precedence.

use std::mem;

use super::entry::Known;
use super::follow::Follower;
use super::shown::Out;
use super::table::bits;
use crate::conntrack::identity::Identity;
use crate::mirror::Slot;

/// What the kernel said about an identity. `None`: it has no such flow.
#[derive(Debug)]
pub(super) struct Answer {
    identity: Identity,
    known: Option<Known>,
}

impl Follower {
    /// Takes the kernel's answer to a question about a flow. It waits for [`settle_answers`](Self::settle_answers). No
    /// dump is under way.
    pub(super) fn note_answer(&mut self, identity: &Identity, known: Option<Known>) {
        // The kernel finds flows by either tuple, so its answer may be about another flow.
        let known = known.filter(|known| known.entry.has_identity(identity));
        if let Some(live) = self.flows.find(identity).live {
            self.flows.set(live, bits::ASKED);
        }
        let identity = *identity;
        self.answers.push(Answer { identity, known });
    }

    /// Forgets the waiting answers, because a dump settles them instead.
    pub(super) fn forget_answers(&mut self) {
        if !self.answers.is_empty() {
            self.answers.clear();
            self.flows.clear_tombs();
        }
    }

    /// Merges the answers into the table. All events that were queued before the answers have been fed.
    pub(super) fn settle_answers(&mut self, f: Out<'_>) {
        if self.answers.is_empty() {
            return;
        }
        let counts = self.counts;
        for Answer { identity, known } in mem::take(&mut self.answers) {
            self.settle_answer(&identity, known.as_ref(), f);
        }
        self.counts = counts; // no event was lost
        self.flows.clear_tombs();
    }

    fn settle_answer(&mut self, identity: &Identity, known: Option<&Known>, f: Out<'_>) {
        match self.flows.find(identity).live {
            Some(live) if self.flows.has(live, bits::ASKED) => {
                self.flows.clear(live, bits::ASKED);
                self.settle_untouched(live, known, f);
            }
            Some(live) => {
                let entry = self.flows.entry(live);
                // A dying flow confirms nothing: its end may have been reported before an event that was late.
                let is_it = known.is_some_and(|known| {
                    !known.entry.is_dying() && known.entry.is_lifetime_of(entry)
                });
                if !is_it {
                    self.note_contradiction(identity); // by now the kernel may say the same as the events
                }
            }
            // If there is no room, the flow may have begun without being kept.
            None if self.budget.is_short() => {}
            None => self.begin_answered(known, f),
        }
    }

    /// No event has reported the flow since the kernel was asked about it.
    fn settle_untouched(&mut self, live: Slot, known: Option<&Known>, f: Out<'_>) {
        match known {
            // Its event is still to come, or came before an event that was late.
            Some(known) if known.entry.is_dying() => {
                let identity = known.entry.identity();
                self.note_contradiction(&identity);
            }
            Some(known) if known.entry.may_follow(self.flows.entry(live)) => {
                self.correct(live, known, f);
            }
            successor => {
                self.destroy(live, f);
                self.begin_answered(successor, f);
            }
        }
    }

    /// Begins the flow that the kernel had, unless it is dying, or an event has reported its end since.
    fn begin_answered(&mut self, known: Option<&Known>, f: Out<'_>) {
        let Some(known) = known else {
            return;
        };
        let entry = &known.entry;
        if !entry.is_dying() && !self.flows.has_ended(&entry.identity(), entry.id) {
            self.begin_found(known, f);
        }
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
    use crate::mirror::Slice;

    const NEW: EventKind = EventKind::New;
    const UPDATE: EventKind = EventKind::Update;
    const DESTROY: EventKind = EventKind::Delete;
    /// No event reported the change.
    const RESYNCED: bool = true;

    /// A mirror after its first dump, and the flows of one key.
    struct Case {
        follower: Follower,
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

    fn known(id: u32, mark: u32) -> Known {
        let bytes = message(UPDATE, id, mark);
        let message = Messages::new(&bytes).next().unwrap();
        Known::of(&Flow::decode(&message).unwrap(), 100)
    }

    fn dying(id: u32) -> Known {
        let mut known = known(id, 0);
        known.entry.status |= status::DYING;
        known
    }

    impl Case {
        fn new() -> Self {
            let mut follower = Follower::new();
            follower.held.end(); // like a first dump does
            follower.end_holding(&mut Slice::endless(), &mut |_| {});
            let reported = Vec::new();
            Self { follower, reported }
        }

        /// A mirror with a flow.
        fn with(id: u32) -> Self {
            let mut this = Self::new();
            this.feed(NEW, id);
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

        fn answer(&mut self, known: Option<Known>) {
            self.follower.note_answer(&Identity::from(key_of(1)), known);
        }

        #[track_caller]
        fn assert_settled(&mut self, reports: &[(EventKind, u32, bool)]) {
            let reported = &mut self.reported;
            let mut f = |change: Change<'_>| reported.extend(report_of(&change));
            self.follower.settle_answers(&mut f);
            assert_eq!(mem::take(&mut self.reported), reports);
            assert_eq!(self.follower.flows.tomb_count(), 0);
        }

        fn live_id(&self) -> Option<u32> {
            self.follower.flows.live().next()?.id
        }
    }

    fn report_of(change: &Change<'_>) -> Option<(EventKind, u32, bool)> {
        match change {
            Change::Flow {
                flow, is_resynced, ..
            } => Some((flow.kind, flow.id?, *is_resynced)),
            Change::Resynced(_) => None,
        }
    }

    #[test]
    fn nothing_changes_before_the_answers_are_settled() {
        for answer in [None, Some(known(8, 0)), Some(known(7, 5))] {
            let mut case = Case::with(7);
            case.answer(answer);
            assert_eq!((case.reported.len(), case.live_id()), (0, Some(7)));
            assert_eq!(case.follower.flows.entry(0).mark, 0);
        }
        let mut case = Case::new();
        case.answer(Some(known(7, 0)));
        assert_eq!((case.reported.len(), case.live_id()), (0, None));
    }

    #[test]
    fn a_live_flow_becomes_what_the_kernel_says() {
        let mut case = Case::with(7);
        let later = known(7, 0);
        case.answer(Some(later));
        case.assert_settled(&[]);
        let expires_seconds = case.follower.flows.entry(0).expires_seconds;
        assert_eq!(expires_seconds, later.entry.expires_seconds);
        case.answer(Some(known(7, 5)));
        case.assert_settled(&[(UPDATE, 7, RESYNCED)]);
        case.answer(Some(known(8, 0)));
        case.assert_settled(&[(DESTROY, 7, RESYNCED), (NEW, 8, RESYNCED)]);
        case.answer(None);
        case.assert_settled(&[(DESTROY, 8, RESYNCED)]);
        assert_eq!(case.live_id(), None);
    }

    #[test]
    fn the_kernel_is_asked_again_about_a_dying_flow() {
        let mut case = Case::with(7);
        case.answer(Some(dying(7)));
        case.assert_settled(&[]);
        assert_eq!(case.follower.contradicted, [Identity::from(key_of(1))]);
        case.answer(Some(dying(7)));
        case.feed(DESTROY, 7);
        case.assert_settled(&[(DESTROY, 7, false)]);
    }

    #[test]
    fn a_flow_that_had_ended_begins_if_the_kernel_has_it() {
        let mut case = Case::new();
        case.answer(None);
        case.answer(Some(dying(7)));
        case.assert_settled(&[]);
        case.answer(Some(known(7, 0)));
        case.assert_settled(&[(NEW, 7, RESYNCED)]);
        // Its NEW was sent after the flow could be found, and does not begin it again.
        case.feed(NEW, 7);
        case.feed(DESTROY, 7);
        case.assert_settled(&[(DESTROY, 7, false)]);
    }

    #[test]
    fn the_events_that_were_queued_count_more_than_an_answer() {
        for answer in [None, Some(known(7, 5)), Some(known(8, 5))] {
            let mut case = Case::with(7);
            case.answer(answer);
            case.feed(UPDATE, 7);
            case.assert_settled(&[(UPDATE, 7, false)]);
            assert_eq!(case.follower.flows.entry(0).mark, 0);

            let mut case = Case::with(7);
            case.answer(answer);
            case.feed(DESTROY, 7);
            case.feed(NEW, 8);
            case.assert_settled(&[(DESTROY, 7, false), (NEW, 8, false)]);
            assert_eq!(case.live_id(), Some(8));
            assert_eq!(case.follower.flows.entry(0).mark, 0);
        }
    }

    #[test]
    fn each_flow_between_the_last_event_and_the_answer_is_reported() {
        let between = [(NEW, 8), (DESTROY, 8), (NEW, 7), (DESTROY, 7)];
        let reports = between.map(|(kind, id)| (kind, id, false));
        let feed_all = |case: &mut Case| {
            for (kind, id) in between {
                case.feed(kind, id);
            }
        };
        for id in [7, 8] {
            // The NEW of the flow that the kernel had also arrives.
            let mut case = Case::new();
            case.answer(Some(known(id, 0)));
            feed_all(&mut case);
            case.feed(NEW, id);
            case.assert_settled(&[&reports[..], &[(NEW, id, false)]].concat());
            // It has ended before the barrier was met.
            let mut case = Case::new();
            case.answer(Some(known(id, 0)));
            feed_all(&mut case);
            case.assert_settled(&reports);
            // It arrives only later.
            let mut case = Case::new();
            case.answer(Some(known(9, 0)));
            feed_all(&mut case);
            case.assert_settled(&[&reports[..], &[(NEW, 9, RESYNCED)]].concat());
            case.feed(NEW, 9);
            case.assert_settled(&[]);
        }
    }

    #[test]
    fn a_successor_that_has_ended_does_not_begin() {
        let mut case = Case::with(7);
        case.answer(Some(known(8, 0)));
        case.feed(DESTROY, 8); // a rule suppresses its NEW and the end of its predecessor
        case.assert_settled(&[(DESTROY, 7, RESYNCED)]);
    }

    #[test]
    fn the_kernel_is_asked_again_if_the_events_contradict_its_answer() {
        let identity = Identity::from(key_of(1));
        for (answer, asks) in [
            (None, true),
            (Some(known(8, 0)), true),
            (Some(known(7, 5)), false),
            (Some(dying(7)), true),
        ] {
            let mut case = Case::with(7);
            case.answer(answer);
            case.feed(UPDATE, 7);
            case.assert_settled(&[(UPDATE, 7, false)]);
            assert_eq!(case.follower.contradicted == [identity], asks, "{answer:?}");
        }
    }

    #[test]
    fn a_dump_or_a_loss_takes_the_place_of_answers() {
        let take: [fn(&mut Follower); 2] = [Follower::note_loss, |follower| {
            crate::mirror::Table::begin_dump(follower);
        }];
        for take in take {
            let mut case = Case::with(7);
            case.answer(None);
            case.feed(DESTROY, 7);
            case.feed(NEW, 7);
            take(&mut case.follower);
            assert_eq!(case.follower.flows.tomb_count(), 0);
            case.assert_settled(&[(DESTROY, 7, false), (NEW, 7, false)]);
        }
    }
}
