//! What events do to the table, and what is handed out.
//!
//! The mirror remembers flows that have ended, even if it made up the end. So it recognises an event that is repeated,
//! or that arrives after the end of its flow. If the event may belong to another flow, the mirror asks the kernel, as
//! it does about flows whose timeout has expired.

use std::mem;

use super::answers::Answer;
use super::entry::Known;
use super::held::Held;
use super::merge::Pass;
use super::shown::{Counts, Out, Selection};
use super::table::{Flows, Found, bits};
use crate::conntrack::identity::Identity;
use crate::conntrack::{Flow, Repeats, status};
use crate::event_kind::EventKind;
use crate::message::Message;
use crate::mirror::{Budget, Kind, Resync, Slice, Slot};
use crate::timestamp::Timestamp;

/// While held events are being handed out, each new event, which waits behind them, triggers this many.
pub(super) const HELD_PER_EVENT: u32 = 4;
/// At most this many flows whose events contradict what is known are kept for a question to the kernel. Such flows are
/// rare.
pub(super) const MOST_CONTRADICTED: usize = 128;

/// The state of the dump under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dump {
    /// No dump is under way.
    None,
    /// The dump is being read, and the entries that events touch are recorded.
    Reading,
    Merging(Pass),
}

/// The table, as it follows the events and the dumps.
#[derive(Debug)]
pub(super) struct Follower {
    pub flows: Flows,
    /// `None`: all flows are kept and shown.
    pub selection: Option<Selection>,
    /// The mirror's clock.
    pub now_seconds: u32,
    /// When the event that is fed now was received.
    pub received_at: Timestamp,
    /// The last ends of flows, reported or made up.
    pub(super) ended: Repeats,
    /// Flows whose events contradict what is known. The next sweep asks the kernel about them.
    pub contradicted: Vec<Identity>,
    /// What the kernel said about flows. The events that were queued before may not have been read.
    pub(super) answers: Vec<Answer>,
    /// Ends that were handed out before.
    pub repeated_count: u64,
    /// Events that arrived after the end of their flow.
    pub late_count: u64,
    pub(super) dump: Dump,
    /// From this slot on there are marks, and entries that are not live, of the last dump.
    pub(super) uncleared: Option<Slot>,
    pub held: Held,
    pub budget: Budget,
    /// What was handed out instead of lost events since the last [`Resync`].
    pub(super) counts: Counts,
    /// What the merge under way has found.
    pub(super) found_count: u64,
}

impl Follower {
    pub(super) fn new() -> Self {
        Self {
            flows: Flows::new(),
            selection: None,
            now_seconds: 0,
            received_at: Timestamp::UNIX_EPOCH,
            ended: Repeats::default(),
            contradicted: Vec::new(),
            answers: Vec::new(),
            repeated_count: 0,
            late_count: 0,
            dump: Dump::None,
            uncleared: None,
            held: Held::new(),
            budget: Budget::unlimited(),
            counts: Counts::default(),
            found_count: 0,
        }
    }

    /// Takes a message. `is_synced`: nothing is known to be missing.
    #[cfg(any(test, fuzzing))]
    pub(super) fn feed(&mut self, message: &Message<'_>, is_synced: bool, f: Out<'_>) {
        if let Some(mut flow) = Flow::decode(message) {
            self.feed_flow(message, &mut flow, is_synced, f);
        }
    }

    /// Takes an event, and the flow in it.
    pub(super) fn feed_flow(
        &mut self,
        message: &Message<'_>,
        flow: &mut Flow<'_>,
        is_synced: bool,
        f: Out<'_>,
    ) {
        if !self.keeps(flow) {
            return;
        }
        let has_room = || self.held.has_room_for(message) && self.has_room();
        if self.held.is_holding() && !has_room() {
            self.held.end();
        }
        if self.held.is_holding() {
            self.held.push(message, self.received_at);
            self.flows.note_touched(&Identity::of(flow));
        } else if self.held.is_ending() {
            self.held.push(message, self.received_at);
            let hands_out = |_| self.end_holding_step(f);
            let _ = (0..HELD_PER_EVENT).all(hands_out);
        } else {
            self.apply(flow, is_synced, f);
        }
    }

    /// The memory of the table and the held events.
    pub(super) fn used_bytes(&self) -> usize {
        self.flows.used_bytes() + self.held.bytes()
    }

    /// Since when flows are missing, if there is now room for some of them. `None`: a dump would not help.
    pub(super) fn short_since(&self) -> Option<Timestamp> {
        let since = self.budget.short_since?;
        self.budget
            .is_worth_a_dump(self.used_bytes())
            .then_some(since)
    }

    pub(super) fn has_room(&self) -> bool {
        self.budget.has_room(self.used_bytes())
    }

    /// Events are missing: the held ones must no longer wait, and a dump replaces the answers.
    pub(super) fn note_loss(&mut self) {
        self.held.end();
        self.forget_answers();
    }

    /// If the held events must no longer wait, hands them out for a slice. False: some are left, and nothing else may
    /// begin.
    pub(super) fn end_holding(&mut self, slice: &mut Slice, f: Out<'_>) -> bool {
        while self.end_holding_step(f) {
            if slice.is_over() {
                break;
            }
        }
        !self.held.is_ending()
    }

    /// False: nothing is left to hand out.
    fn end_holding_step(&mut self, f: Out<'_>) -> bool {
        if !self.held.is_ending() || self.apply_held(f) {
            return self.held.is_ending();
        }
        self.held.end_now();
        match self.dump {
            Dump::None => self.flows.clear_tombs(), // of the held events
            Dump::Merging(_) => self.dump = Dump::Merging(Pass::Last(0)),
            Dump::Reading => {}
        }
        false
    }

    /// Applies the next held event. False: there is none.
    pub(super) fn apply_held(&mut self, f: Out<'_>) -> bool {
        let Some(mut lent) = self.held.lend() else {
            return false;
        };
        if let Some((received_at, message)) = lent.next_message()
            && let Some(mut flow) = Flow::decode(&message)
        {
            let now = mem::replace(&mut self.received_at, received_at);
            self.apply(&mut flow, false, f);
            self.received_at = now;
        }
        self.held.put_back(lent);
        true
    }

    /// Applies an event and hands it out, so that each lifetime of a flow begins with one New and ends with one
    /// Destroy.
    fn apply(&mut self, flow: &mut Flow<'_>, is_synced: bool, f: Out<'_>) {
        if flow.kind == EventKind::Entry {
            flow.kind = EventKind::Update; // somebody has asked through this socket, and it is the newest that is known
        }
        let identity = &Identity::of(flow);
        let found = self.find(identity);
        let is_same = |slot: &Slot| self.flows.entry(*slot).is_id(flow.id);
        let is_dying = flow.status.unwrap_or(0) & status::DYING != 0;
        match (flow.kind, found.live.filter(is_same)) {
            (EventKind::New, Some(slot)) => self.apply_new_again(slot, flow, f),
            (EventKind::Update | EventKind::Entry, Some(slot)) => {
                self.update(slot, flow);
                self.hand_out_changed(slot, flow, f);
            }
            (EventKind::Delete, Some(slot)) => {
                self.ended.note_end(identity, flow.id, flow.stop);
                if flow.start.is_none() {
                    flow.observed_start = self.flows.entry(slot).start.observed();
                }
                self.hand_out_ended(slot, flow, f);
                self.end(slot);
            }
            // Its DESTROY has overtaken it, or will report the end soon.
            (EventKind::New | EventKind::Update | EventKind::Entry, None) if is_dying => {
                self.late_count += 1;
            }
            (EventKind::New | EventKind::Update | EventKind::Entry, None)
                if self.is_late(flow, identity, found, is_synced) =>
            {
                self.late_count += 1;
                self.note_contradiction(identity);
            }
            (EventKind::New, None) => self.begin_flow(flow, found, f),
            (EventKind::Update | EventKind::Entry, None) => {
                self.apply_unknown_update(flow, found, f);
            }
            (EventKind::Delete, None) => {
                self.apply_unknown_destroy(flow, identity, found, is_synced, f);
            }
        }
    }

    /// The entries of an event's flow, without leftovers of an earlier dump.
    fn find(&self, identity: &Identity) -> Found {
        let mut found = self.flows.find(identity);
        if self.dump == Dump::None {
            found.pending = None;
        }
        found
    }

    /// Whether the dump contained the flow of an event, and no event has reported the flow's end since.
    fn is_dumped(&self, identity: &Identity, id: Option<u32>, found: Found) -> bool {
        let is_same = |slot| self.flows.entry(slot).is_id(id);
        found.pending.is_some_and(is_same) && !self.flows.has_ended(identity, id)
    }

    /// Whether an event arrives after its flow's DESTROY. The kernel holds no lock between building an event and
    /// sending it (Linux v6.18, net/netfilter/nf_conntrack_netlink.c, `ctnetlink_conntrack_event`).
    fn is_late(&self, flow: &Flow<'_>, identity: &Identity, found: Found, is_synced: bool) -> bool {
        // While a live flow has the key, no other flow begins. If there is none, this may be another lifetime.
        let is_excluded = match flow.kind {
            EventKind::New => found
                .live
                .is_some_and(|other| is_synced || self.is_confirmed(other)),
            EventKind::Update | EventKind::Delete | EventKind::Entry => true,
        };
        // If no event was lost, a dumped flow with this id will still report its own NEW, so this event belongs to an
        // earlier flow.
        let is_another = !is_synced && self.is_dumped(identity, flow.id, found);
        is_excluded && !is_another && self.ended.has_ended(identity, flow.id)
    }

    /// Records a flow whose event contradicts what is known, so that the kernel is asked about it. Either the flow has
    /// ended, or the event belongs to another flow that has the same memory, and therefore the same id, and whose NEW
    /// was not received. Each is recorded once, however often its events contradict.
    pub(super) fn note_contradiction(&mut self, identity: &Identity) {
        if self.contradicted.len() < MOST_CONTRADICTED && !self.contradicted.contains(identity) {
            self.contradicted.push(*identity);
        }
    }

    /// Applies a NEW of a flow that is already live. There are three causes:
    ///
    /// - A dump showed the flow before its event was queued, or an UPDATE overtook the event.
    /// - Another program's reliable socket missed the event. The kernel then sends it to all listeners again with each
    ///   packet (Linux v6.18, net/netfilter/nf_conntrack_ecache.c, `__nf_conntrack_eventmask_report`).
    /// - The end of the live flow was lost, and another flow has its id. Only facts that exclude the other causes prove
    ///   this.
    fn apply_new_again(&mut self, slot: Slot, flow: &mut Flow<'_>, f: Out<'_>) {
        let reported = Known::of(flow, self.now_seconds).entry;
        let known = self.flows.entry(slot);
        let is_another = reported.has_other_reply_than(known)
            || (self.flows.has(slot, bits::BEGUN) && reported.lacks_status_of(known));
        if is_another {
            self.destroy(slot, f);
            let found = self.find(&Identity::of(flow));
            self.begin_flow(flow, found, f);
            return;
        }
        let is_changed = self.update(slot, flow);
        if !self.flows.has(slot, bits::BEGUN) {
            self.flows.set(slot, bits::BEGUN);
            let began_at = flow.event_time.unwrap_or(self.received_at);
            self.flows
                .change(slot, |entry| entry.observe_start(began_at));
        }
        if is_changed {
            flow.kind = EventKind::Update;
            self.hand_out_changed(slot, flow, f);
        }
    }

    fn begin_flow(&mut self, flow: &Flow<'_>, found: Found, f: Out<'_>) {
        self.end_other(found, f);
        // Whether the dump contained another flow, before or later: events report what has become of that one.
        let is_other = |slot: &Slot| !self.flows.entry(*slot).is_id(flow.id);
        if let Some(pending) = found.pending.filter(is_other) {
            self.flows.remove(pending);
        }
        let mut known = Known::of(flow, self.now_seconds);
        let began_at = flow.event_time.unwrap_or(self.received_at);
        known.entry.observe_start(began_at);
        let slot = self.insert_live(&known, self.touch(flow) | bits::BEGUN);
        self.hand_out_begun(slot, flow, false, f);
    }

    /// Applies an UPDATE of a flow that is not live: its NEW was lost, or the flow was left out.
    fn apply_unknown_update(&mut self, flow: &Flow<'_>, found: Found, f: Out<'_>) {
        if self.may_be_left_out(found) {
            let slot = self.insert_live(&Known::of(flow, self.now_seconds), self.touch(flow));
            self.hand_out_begun(slot, flow, false, f);
            return;
        }
        self.end_other(found, f);
        let mut known = Known::of(flow, self.now_seconds);
        let reported = self.touch(flow);
        if let Some(pending) = found.pending {
            known.add_unreported(&self.flows.known(pending), reported);
        }
        let slot = self.insert_live(&known, reported);
        let begun = known.begun_with(flow, self.now_seconds);
        self.hand_out_begun(slot, &begun, true, f);
    }

    /// Whether an event's flow may have found no room. Then its beginning was handed out.
    fn may_be_left_out(&self, found: Found) -> bool {
        self.budget.is_short() && found.live.is_none() && found.pending.is_none()
    }

    /// Ends the live flow that has the key of another one: its DESTROY was lost, or is late.
    fn end_other(&mut self, found: Found, f: Out<'_>) {
        if let Some(other) = found.live {
            self.destroy(other, f);
        }
    }

    /// Applies a DESTROY of a flow that is not live: it is repeated, or the flow's NEW never arrived.
    fn apply_unknown_destroy(
        &mut self,
        flow: &Flow<'_>,
        identity: &Identity,
        found: Found,
        is_synced: bool,
        f: Out<'_>,
    ) {
        let is_dumped = self.is_dumped(identity, flow.id, found);
        if self.notes_ends() {
            // If the dump contained this flow, the flow is over, or another one's NEW will arrive.
            self.flows.note_ended(identity, flow.id);
        }
        if !self.ended.note_end(identity, flow.id, flow.stop) {
            self.repeated_count += 1;
            return;
        }
        if self.may_be_left_out(found) {
            self.hand_out_begun(None, flow, false, f);
            return;
        }
        if let Some(other) = found.live {
            if !is_dumped && (is_synced || self.is_confirmed(other)) {
                self.repeated_count += 1; // this flow ended before the live one began
                return;
            }
            self.make_up_end(other, f);
            if is_dumped {
                self.end(other);
            } else {
                self.flows.remove(other); // what the dump says stays, because it may be newer
            }
        }
        let mut last = Known::of(flow, self.now_seconds);
        last.entry.status &= !status::DYING;
        last.details.counters = None;
        self.hand_out_whole_life(&last, flow, f);
    }

    /// Whether the dump under way, or an event since it began, has a live flow.
    fn is_confirmed(&self, live: Slot) -> bool {
        self.dump != Dump::None && self.flows.has(live, bits::TOUCHED | bits::SEEN)
    }

    /// Keeps a flow that has begun. `None`: there is no room.
    fn insert_live(&mut self, known: &Known, bits: u8) -> Option<Slot> {
        let slot = self.keep(known, Kind::Live, bits);
        let (identity, id) = (&known.entry.identity(), known.entry.id);
        if self.ended.forget(identity, id) {
            self.note_contradiction(identity); // the event may have been late
        }
        slot
    }

    /// Keeps a flow. `None`: there is no room.
    pub(super) fn keep(&mut self, known: &Known, kind: Kind, bits: u8) -> Option<Slot> {
        if self.has_room() {
            return Some(self.flows.insert(known, kind, bits));
        }
        self.budget.note_left_out();
        None
    }

    /// The bits that mark what an event reports, in which the dump under way is older.
    fn touch(&self, flow: &Flow<'_>) -> u8 {
        if self.dump == Dump::None {
            return 0;
        }
        let bit = |is_reported, bit| if is_reported { bit } else { 0 };
        bits::TOUCHED
            | bit(flow.state.is_some(), bits::REPORTED_STATE)
            | bit(flow.labels.is_some(), bits::REPORTED_LABELS)
            | bit(flow.helper.is_some(), bits::REPORTED_HELPER)
    }

    /// Applies what an event reports. True: something other than the remaining time has changed.
    fn update(&mut self, slot: Slot, flow: &Flow<'_>) -> bool {
        let now_seconds = self.now_seconds;
        let old = self.flows.known(slot);
        let mut details = old.details;
        self.flows
            .change(slot, |entry| entry.update(flow, now_seconds));
        details.update(flow);
        if details != old.details {
            self.flows.set_details(slot, &details);
        }
        self.flows.clear(slot, bits::ASKED);
        self.flows.set(slot, self.touch(flow));
        let entry = *self.flows.entry(slot);
        !old.is_same(&Known { entry, details })
    }

    /// Whether a dump or an answer that is not merged yet may contain a flow that ends now.
    fn notes_ends(&self) -> bool {
        self.dump != Dump::None || !self.answers.is_empty()
    }

    /// Removes a flow that has ended. A dump under way may have contained it.
    fn end(&mut self, slot: Slot) {
        if self.notes_ends() {
            let entry = self.flows.entry(slot);
            let (identity, id) = (entry.identity(), entry.id);
            self.flows.note_ended(&identity, id);
        }
        self.flows.remove(slot);
    }

    /// Ends a live flow whose DESTROY was not received.
    pub(super) fn destroy(&mut self, slot: Slot, f: Out<'_>) {
        self.make_up_end(slot, f);
        self.end(slot);
    }

    /// Hands out the end of a live flow. The caller removes the flow.
    pub(super) fn make_up_end(&mut self, slot: Slot, f: Out<'_>) {
        let entry = self.flows.entry(slot);
        self.ended.note_made_up_end(&entry.identity(), entry.id);
        self.hand_out(slot, EventKind::Delete, f);
    }

    /// Applies what the kernel now says about the lifetime of a live flow.
    pub(super) fn correct(&mut self, slot: Slot, answer: &Known, f: Out<'_>) {
        let is_same = self.flows.is_same(slot, answer);
        self.flows
            .change(slot, |entry| entry.correct(&answer.entry));
        self.flows.set_details(slot, &answer.details);
        if !is_same {
            self.hand_out(slot, EventKind::Update, f);
        }
    }

    /// Begins a flow that the kernel has.
    pub(super) fn begin_found(&mut self, known: &Known, f: Out<'_>) {
        let flow = known.as_flow(EventKind::New, self.now_seconds);
        if !self.keeps(&flow) {
            return; // a successor may have the key of a flow that is kept, and another reply tuple
        }
        let slot = self.keep(known, Kind::Live, 0);
        self.ended.forget(&known.entry.identity(), known.entry.id);
        self.hand_out_begun(slot, &flow, true, f);
    }

    /// Fills in what was handed out instead of lost events since the last call.
    pub(super) fn count_in(&mut self, resync: &mut Resync) {
        mem::take(&mut self.counts).add_to(resync);
    }
}
