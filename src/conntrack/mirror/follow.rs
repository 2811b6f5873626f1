//! What events and dumps do to the table, and what of it is handed out.
//!
//! While a dump is read, and until it is merged, events touch the entries that they tell of: whatever the dump says of those
//! is left aside, but for a protocol's state that no event has told, since an event tells it only when it changes. What
//! ended meanwhile is noted, so that the dump does not bring it back. All others follow the dump.
//!
//! Before the first dump is merged nothing is handed out: events are held, and the flows that they touch are noted. Then come the untouched entries of the dump, as new; then the held events, by the same rules as
//! any others: what they tell of and was never told begins with them. That order is right whenever the dump met the flow:
//! an end that is held ends what began before it or, if that was not held, what begins with it; a flow that the dump met and
//! that ended then is touched, so its entry in the dump is dropped; and one that the dump met after its last event has that
//! event's state. A loss makes this wrong: so the held events are handed out then, ahead of any dump, a few at a time with new
//! ones behind them.
//!
//! What has ended is remembered, also where the mirror made up the end. By that an event is known that comes again or behind
//! the end of its flow. Where that may be wrong, the kernel is asked, as about flows whose time is over.

use std::mem;
use std::time::SystemTime;

use super::entry::Known;
use super::held::Held;
use super::index::Slot;
use super::table::{Flows, Found, Kind, bits};
use super::{Change, Mirror};
use crate::conntrack::identity::Identity;
use crate::conntrack::kernel::message_type;
use crate::conntrack::time::to_ns;
use crate::conntrack::{Flow, Group, Repeats, status};
use crate::error::Result;
use crate::event_kind::EventKind;
use crate::message::{Message, flags};
use crate::mirror::{Budget, Resync, Table};
use crate::request::{Exchange, Requester};
use crate::socket::Protocol;

/// Whoever changes are handed to.
pub(super) type Out<'a> = &'a mut dyn FnMut(Change<'_>);

/// How often a merge looks at the clock. In the tests, always: it can then be broken off anywhere.
const LOOK_AT_CLOCK: u32 = if cfg!(test) { 1 } else { 64 };

/// While those that were held are handed out, so many of them with each new one, which waits behind them.
const HELD_FOR_EACH: u32 = 4;
/// More flows than so many are not asked about for events that contradict: that is rare.
const MOST_DOUBTED: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No dump is under way.
    Idle,
    /// Events are noted beside a dump.
    Noting,
    Merging(Pass),
}

/// The steps of a merge. All but the last are the first dump's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// The dump's entries that no event touched, from this slot on.
    Untouched(Slot),
    /// The events that were held.
    Held,
    /// All that is left, from this slot on.
    Last(Slot),
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    new: u64,
    update: u64,
    destroy: u64,
}

impl Counts {
    fn sum(self) -> u64 {
        self.new + self.update + self.destroy
    }

    fn hand_out(&mut self, flow: &Flow<'_>, is_resynced: bool, f: Out<'_>) {
        if is_resynced {
            let count = match flow.kind {
                EventKind::New => &mut self.new,
                EventKind::Update | EventKind::Entry => &mut self.update,
                EventKind::Delete => &mut self.destroy,
            };
            *count += 1;
        }
        let flow = *flow;
        f(Change::Flow { flow, is_resynced });
    }
}

#[derive(Debug)]
pub(super) struct Follower {
    pub flows: Flows,
    /// The mirror's clock.
    pub now_seconds: u32,
    /// When what is taken now was received: `CLOCK_REALTIME`, nanoseconds since 1970.
    pub received_ns: u64,
    /// What has ended of late, whether an event told it or not.
    ended: Repeats,
    /// Flows whose events contradict that, and that the kernel is to be asked about.
    pub doubted: Vec<(Identity, Option<u32>)>,
    /// Ends that were told before.
    pub repeated_count: u64,
    /// Events that were overtaken by their flow's end.
    pub late_count: u64,
    phase: Phase,
    /// Marks, and entries that are not live, are left of the last dump, from this slot on.
    uncleared: Option<Slot>,
    pub held: Held,
    pub budget: Budget,
    /// Handed out in place of lost events, since a merge told of them last.
    counts: Counts,
    /// Of these, what the merge under way has found.
    found_count: u64,
}

impl Follower {
    pub(super) fn new() -> Self {
        Self {
            flows: Flows::new(),
            now_seconds: 0,
            received_ns: 0,
            ended: Repeats::default(),
            doubted: Vec::new(),
            repeated_count: 0,
            late_count: 0,
            phase: Phase::Idle,
            uncleared: None,
            held: Held::new(),
            budget: Budget::unlimited(),
            counts: Counts::default(),
            found_count: 0,
        }
    }

    /// Takes an event. `is_synced`: nothing is known to be missing.
    pub(super) fn take(&mut self, message: &Message<'_>, is_synced: bool, f: Out<'_>) {
        let Some(mut flow) = Flow::decode(message) else {
            return;
        };
        let has_room = || self.held.has_room_for(message) && self.has_room();
        if self.held.is_holding() && !has_room() {
            self.held.end();
        }
        if self.held.is_holding() {
            self.held.push(message, self.received_ns);
            self.note_held(&flow);
        } else if self.held.is_ending() {
            self.held.push(message, self.received_ns);
            let hands_out = |_| self.end_holding_step(f);
            let _ = (0..HELD_FOR_EACH).all(hands_out);
        } else {
            self.apply(&mut flow, is_synced, f);
        }
    }

    /// What the table takes, and what is held beside it.
    pub(super) fn used_bytes(&self) -> usize {
        self.flows.used_bytes() + self.held.bytes()
    }

    /// Since when flows are missing, of which a dump would find room for some. None: there are none.
    pub(super) fn short_since(&self) -> Option<SystemTime> {
        let since = self.budget.short_since?;
        self.budget
            .is_worth_a_dump(self.used_bytes())
            .then_some(since)
    }

    fn has_room(&self) -> bool {
        self.budget.has_room(self.used_bytes())
    }

    /// Events are missing: those that were held no longer have to wait, nor may they.
    pub(super) fn note_loss(&mut self) {
        self.held.end();
    }

    /// Hands out all that was held, if it is time.
    pub(super) fn end_holding(&mut self, f: Out<'_>) {
        self.end_holding_until(&|| false, f);
    }

    /// Hands out what was held, if it is time, until `is_over`. False: something is left, and nothing else may be begun.
    pub(super) fn end_holding_until(&mut self, is_over: &dyn Fn() -> bool, f: Out<'_>) -> bool {
        let mut count = 0u32;
        while self.end_holding_step(f) {
            count += 1;
            if count.is_multiple_of(LOOK_AT_CLOCK) && is_over() {
                break;
            }
        }
        !self.held.is_ending()
    }

    /// False: nothing is to be handed out any more.
    fn end_holding_step(&mut self, f: Out<'_>) -> bool {
        if !self.held.is_ending() || self.apply_held(f) {
            return self.held.is_ending();
        }
        self.held.end_now();
        match self.phase {
            Phase::Idle => self.flows.clear_tombs(), // of the held events
            Phase::Merging(_) => self.phase = Phase::Merging(Pass::Last(0)),
            Phase::Noting => {}
        }
        false
    }

    /// Applies the next of the events that were held. False: there is none.
    fn apply_held(&mut self, f: Out<'_>) -> bool {
        let Some(mut lent) = self.held.lend() else {
            return false;
        };
        if let Some((received_ns, message)) = lent.next_message()
            && let Some(mut flow) = Flow::decode(&message)
        {
            let now_ns = std::mem::replace(&mut self.received_ns, received_ns);
            self.apply(&mut flow, false, f);
            self.received_ns = now_ns;
        }
        self.held.put_back(lent);
        true
    }

    /// Notes the flow of an event that is held.
    fn note_held(&mut self, flow: &Flow<'_>) {
        self.flows.note_touched(&Identity::of(flow));
    }

    /// Applies an event and hands it out, so that each lifetime of a flow begins with one New and ends with one Destroy.
    fn apply(&mut self, flow: &mut Flow<'_>, is_synced: bool, f: Out<'_>) {
        let identity = &Identity::of(flow);
        let found = self.find(identity);
        let is_same = |slot: &Slot| self.flows.entry(*slot).is_id(flow.id);
        let is_dying = flow.status.unwrap_or(0) & status::DYING != 0;
        match (flow.kind, found.live.filter(is_same)) {
            (EventKind::New, Some(slot)) => self.apply_new_again(slot, flow, f),
            (EventKind::Update | EventKind::Entry, Some(slot)) => {
                self.update(slot, flow);
                self.counts.hand_out(flow, false, f);
            }
            (EventKind::Delete, Some(slot)) => {
                self.ended.note_end(identity, flow.id, flow.stop.map(to_ns));
                if flow.start.is_none() {
                    flow.observed_start = self.flows.entry(slot).start.observed();
                }
                self.end(slot);
                self.counts.hand_out(flow, false, f);
            }
            // Its Destroy has overtaken it, or tells of it soon.
            (EventKind::New | EventKind::Update | EventKind::Entry, None) if is_dying => {
                self.late_count += 1;
            }
            (EventKind::New | EventKind::Update | EventKind::Entry, None)
                if self.is_late(flow, identity, found, is_synced) =>
            {
                self.late_count += 1;
                self.doubt(identity, flow.id);
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

    /// The entries of an event's flow. What is left of an earlier dump does not count.
    fn find(&self, identity: &Identity) -> Found {
        let mut found = self.flows.find(identity);
        if self.phase == Phase::Idle {
            found.pending = None;
        }
        found
    }

    /// Whether the dump met the flow of an event, and no event has told its end since.
    fn is_dumped(&self, identity: &Identity, id: Option<u32>, found: Found) -> bool {
        let is_same = |slot| self.flows.entry(slot).is_id(id);
        found.pending.is_some_and(is_same) && !self.flows.has_ended(identity, id)
    }

    /// Whether its Destroy has overtaken an event: the kernel holds no lock from when it makes an event until that is sent
    /// (Linux v6.18, net/netfilter/nf_conntrack_netlink.c, `ctnetlink_conntrack_event`).
    fn is_late(&self, flow: &Flow<'_>, identity: &Identity, found: Found, is_synced: bool) -> bool {
        // Without an end of the flow that has the key, no other begins; if there is none, it may be another lifetime.
        let is_excluded = match flow.kind {
            EventKind::New => found
                .live
                .is_some_and(|other| is_synced || self.is_confirmed(other)),
            EventKind::Update | EventKind::Delete | EventKind::Entry => true,
        };
        // When nothing is missing, one of the same id that the dump met begins with a New that is still to come.
        let is_another = !is_synced && self.is_dumped(identity, flow.id, found);
        is_excluded && !is_another && self.ended.has_ended(identity, flow.id)
    }

    /// It may be another flow that was given the same memory, and therefore the id, and whose New was not told: or else it has
    /// ended. The kernel is asked, once however many events contradict.
    fn doubt(&mut self, identity: &Identity, id: Option<u32>) {
        let doubt = (*identity, id);
        if self.doubted.len() < MOST_DOUBTED && !self.doubted.contains(&doubt) {
            self.doubted.push(doubt);
        }
    }

    /// A New of a flow that there is. A dump showed it before its event was queued, or an Update overtook that. Or another
    /// program's reliable socket has missed it: then the kernel sends it to all again with each packet (Linux v6.18,
    /// net/netfilter/nf_conntrack_ecache.c, `__nf_conntrack_eventmask_report`). Or the end of that flow was lost, and another
    /// one has its id, which is taken for certain only where what it says excludes all else.
    fn apply_new_again(&mut self, slot: Slot, flow: &mut Flow<'_>, f: Out<'_>) {
        let told = Known::of(flow, self.now_seconds).entry;
        let known = self.flows.entry(slot);
        let is_another = told.has_other_reply_than(known)
            || (self.flows.has(slot, bits::BEGUN) && told.lacks_status_of(known));
        if is_another {
            self.destroy(slot, f);
            let found = self.find(&Identity::of(flow));
            self.begin_flow(flow, found, f);
            return;
        }
        let is_changed = self.update(slot, flow);
        if !self.flows.has(slot, bits::BEGUN) {
            self.flows.set(slot, bits::BEGUN);
            let received_ns = flow.event_time.map_or(self.received_ns, to_ns);
            self.flows
                .change(slot, |entry| entry.observe_start(received_ns));
        }
        if is_changed {
            flow.kind = EventKind::Update;
            self.counts.hand_out(flow, false, f);
        }
    }

    fn begin_flow(&mut self, flow: &Flow<'_>, found: Found, f: Out<'_>) {
        self.end_other(found, f);
        // Whether the dump met another one before or later: events tell what has become of that.
        let is_other = |slot: &Slot| !self.flows.entry(*slot).is_id(flow.id);
        if let Some(pending) = found.pending.filter(is_other) {
            self.flows.remove(pending);
        }
        let mut known = Known::of(flow, self.now_seconds);
        let received_ns = flow.event_time.map_or(self.received_ns, to_ns);
        known.entry.observe_start(received_ns);
        self.insert_live(&known, self.touch(flow) | bits::BEGUN);
        self.counts.hand_out(flow, false, f);
    }

    /// Its New was lost, or it was left out.
    fn apply_unknown_update(&mut self, flow: &Flow<'_>, found: Found, f: Out<'_>) {
        if self.may_be_left_out(found) {
            self.insert_live(&Known::of(flow, self.now_seconds), self.touch(flow));
            self.counts.hand_out(flow, false, f);
            return;
        }
        self.end_other(found, f);
        let mut known = Known::of(flow, self.now_seconds);
        let told = self.touch(flow);
        if let Some(pending) = found.pending {
            known.add_untold(&self.flows.known(pending), told);
        }
        self.insert_live(&known, told);
        let begun = Flow {
            secctx: flow.secctx,
            event_time: flow.event_time,
            port_id: flow.port_id,
            ..known.as_flow(EventKind::New, self.now_seconds)
        };
        self.counts.hand_out(&begun, true, f);
    }

    /// Whether an event may be that of a flow that found no room, so that its New was handed out.
    fn may_be_left_out(&self, found: Found) -> bool {
        self.budget.is_short() && found.live.is_none() && found.pending.is_none()
    }

    /// The Destroy of the flow that had this key was lost, or is late.
    fn end_other(&mut self, found: Found, f: Out<'_>) {
        if let Some(other) = found.live {
            self.destroy(other, f);
        }
    }

    /// The Destroy is told again, or its New was never told.
    fn apply_unknown_destroy(
        &mut self,
        flow: &Flow<'_>,
        identity: &Identity,
        found: Found,
        is_synced: bool,
        f: Out<'_>,
    ) {
        let is_dumped = self.is_dumped(identity, flow.id, found);
        if self.phase != Phase::Idle {
            // Should the dump have met it: it is over, or another one's New will come.
            self.flows.note_ended(identity, flow.id);
        }
        if !self.ended.note_end(identity, flow.id, flow.stop.map(to_ns)) {
            self.repeated_count += 1;
            return;
        }
        if self.may_be_left_out(found) {
            self.counts.hand_out(flow, false, f);
            return;
        }
        if let Some(other) = found.live {
            if !is_dumped && (is_synced || self.is_confirmed(other)) {
                self.repeated_count += 1; // it ended before that one began
                return;
            }
            self.make_up_end(other, f);
            if is_dumped {
                self.end(other);
            } else {
                self.flows.remove(other); // not from what the dump says, which may know better
            }
        }
        let mut begun = Known::of(flow, self.now_seconds).entry;
        begun.status &= !status::DYING;
        let begun = begun.to_flow(EventKind::New, self.now_seconds);
        self.counts.hand_out(&begun, true, f);
        self.counts.hand_out(flow, false, f);
    }

    /// Whether the dump under way, or an event since it began, has a live flow.
    fn is_confirmed(&self, live: Slot) -> bool {
        self.phase != Phase::Idle && self.flows.has(live, bits::TOUCHED | bits::SEEN)
    }

    fn insert_live(&mut self, known: &Known, bits: u8) {
        self.keep(known, Kind::Live, bits);
        let (identity, id) = (&known.entry.identity(), known.entry.id);
        if self.ended.forget(identity, id) {
            self.doubt(identity, id); // it may be the event that was late
        }
    }

    /// Keeps a flow, if there is room.
    fn keep(&mut self, known: &Known, kind: Kind, bits: u8) {
        if self.has_room() {
            self.flows.insert(known, kind, bits);
        } else {
            self.budget.note_left_out();
        }
    }

    /// What an event tells that a dump under way may tell otherwise.
    fn touch(&self, flow: &Flow<'_>) -> u8 {
        if self.phase == Phase::Idle {
            return 0;
        }
        let bit = |is_told, bit| if is_told { bit } else { 0 };
        bits::TOUCHED
            | bit(flow.state.is_some(), bits::TOLD_STATE)
            | bit(flow.labels.is_some(), bits::TOLD_LABELS)
            | bit(flow.helper.is_some(), bits::TOLD_HELPER)
    }

    /// Whether anything has changed but the time that is left.
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
        self.flows.clear(slot, bits::DOUBTFUL);
        self.flows.set(slot, self.touch(flow));
        let entry = *self.flows.entry(slot);
        !old.is_same(&Known { entry, details })
    }

    /// It has ended. A dump under way may have met it before.
    fn end(&mut self, slot: Slot) {
        if self.phase != Phase::Idle {
            let entry = self.flows.entry(slot);
            let (identity, id) = (entry.identity(), entry.id);
            self.flows.note_ended(&identity, id);
        }
        self.flows.remove(slot);
    }

    /// No Destroy was told of it.
    fn destroy(&mut self, slot: Slot, f: Out<'_>) {
        self.make_up_end(slot, f);
        self.end(slot);
    }

    /// Hands out the end of a live flow, which is still to be removed.
    fn make_up_end(&mut self, slot: Slot, f: Out<'_>) {
        let entry = self.flows.entry(slot);
        self.ended.note_made_up_end(&entry.identity(), entry.id);
        self.hand_out(slot, EventKind::Delete, f);
    }

    /// What the kernel says now of a live flow. It is of the same lifetime.
    fn correct(&mut self, slot: Slot, told: &Known, f: Out<'_>) {
        let is_same = self.flows.known(slot).is_same(told);
        self.flows.change(slot, |entry| entry.correct(&told.entry));
        self.flows.set_details(slot, &told.details);
        if !is_same {
            self.hand_out(slot, EventKind::Update, f);
        }
    }

    /// The kernel was asked about a live flow, and has it.
    pub(super) fn take_answer(&mut self, slot: Slot, told: &Known, f: Out<'_>) {
        let counts = self.counts;
        self.correct(slot, told, f);
        self.counts = counts; // no event was lost
    }

    /// The kernel was asked about a live flow, and has it no more, but perhaps another one of its identity.
    pub(super) fn take_end(&mut self, slot: Slot, successor: Option<&Known>, f: Out<'_>) {
        let counts = self.counts;
        self.destroy(slot, f);
        if let Some(known) = successor {
            self.take_found(known, f);
        }
        self.counts = counts;
    }

    /// The kernel was asked about a flow that had ended, and has it.
    pub(super) fn take_revived(&mut self, told: &Known, f: Out<'_>) {
        let counts = self.counts;
        self.take_found(told, f);
        self.counts = counts;
    }

    fn take_found(&mut self, known: &Known, f: Out<'_>) {
        self.keep(known, Kind::Live, 0);
        self.ended.forget(&known.entry.identity(), known.entry.id);
        let flow = known.as_flow(EventKind::New, self.now_seconds);
        self.counts.hand_out(&flow, true, f);
    }

    /// Hands out what is kept of a flow, in place of an event that was lost or never sent.
    fn hand_out(&mut self, slot: Slot, kind: EventKind, f: Out<'_>) {
        let flow = self.flows.flow(slot, kind, self.now_seconds);
        self.counts.hand_out(&flow, true, f);
    }

    pub(super) fn is_merging(&self) -> bool {
        matches!(self.phase, Phase::Merging(_))
    }

    /// All events that were made before the dump's end have been taken.
    pub(super) fn begin_merge(&mut self) {
        self.found_count = 0;
        self.phase = Phase::Merging(if self.held.is_holding() {
            Pass::Untouched(0)
        } else {
            Pass::Last(0)
        });
    }

    /// Merges until `is_over`. True: all is merged.
    pub(super) fn merge(&mut self, is_over: &dyn Fn() -> bool, f: Out<'_>) -> bool {
        if !self.end_holding_until(is_over, f) {
            return false;
        }
        let before = self.counts.sum();
        let is_merged = self.merge_steps(is_over, f);
        self.found_count += self.counts.sum() - before;
        is_merged
    }

    fn merge_steps(&mut self, is_over: &dyn Fn() -> bool, f: Out<'_>) -> bool {
        let mut count = 0u32;
        while self.merge_step(f) {
            count += 1;
            if count.is_multiple_of(LOOK_AT_CLOCK) && is_over() {
                return false;
            }
        }
        true
    }

    /// False: there is nothing to merge any more.
    fn merge_step(&mut self, f: Out<'_>) -> bool {
        let Phase::Merging(pass) = self.phase else {
            return false;
        };
        let next = match pass {
            Pass::Untouched(slot) if slot < self.flows.slot_count() => {
                self.take_untouched(slot, f);
                Pass::Untouched(slot + 1)
            }
            Pass::Untouched(_) => Pass::Held,
            Pass::Held if self.apply_held(f) => Pass::Held,
            Pass::Held => {
                self.held.end_now();
                Pass::Last(0)
            }
            Pass::Last(slot) if slot < self.flows.slot_count() => {
                self.settle_slot(slot, f);
                Pass::Last(slot + 1)
            }
            Pass::Last(_) => return false,
        };
        self.phase = Phase::Merging(next);
        true
    }

    fn take_untouched(&mut self, slot: Slot, f: Out<'_>) {
        if self.flows.kind(slot) != Kind::Pending {
            return;
        }
        if !self.flows.is_touched(&self.flows.entry(slot).identity()) {
            self.take_pending(slot, f);
        }
    }

    fn settle_slot(&mut self, slot: Slot, f: Out<'_>) {
        // A live one that was touched or seen stays, unless a pending one beside it says something else.
        let needs_look = match self.flows.kind(slot) {
            Kind::Free => false,
            Kind::Live => !self.flows.has(slot, bits::TOUCHED | bits::SEEN),
            Kind::Pending => true,
        };
        if needs_look {
            self.settle(&self.flows.entry(slot).identity(), f);
        }
    }

    /// Merges the entries of one identity. An event that comes before touches it, as it would have before the merge; one that
    /// comes later finds it merged.
    fn settle(&mut self, identity: &Identity, f: Out<'_>) {
        let mut found = self.flows.find(identity);
        let has_ended = |pending: &Slot| {
            let id = self.flows.entry(*pending).id;
            self.flows.has_ended(identity, id)
        };
        if let Some(ended) = found.pending.filter(has_ended) {
            self.flows.remove(ended);
            found.pending = None;
        }
        match (found.live, found.pending) {
            (Some(live), pending) if self.flows.has(live, bits::TOUCHED) => {
                if let Some(pending) = pending {
                    self.take_untold(live, pending, f);
                }
            }
            (Some(live), Some(pending)) => self.take_changed(live, pending, f),
            (Some(live), None) if self.flows.has(live, bits::SEEN) => {
                self.flows.set(live, bits::TOUCHED);
            }
            (Some(live), None) if identity.clash_reply.is_some() => {
                // No dump has the loser of a NAT race: the kernel is asked about it by its reply tuple.
                self.flows.set(live, bits::TOUCHED);
                self.doubt(identity, self.flows.entry(live).id);
            }
            (Some(live), None) => self.destroy(live, f),
            (None, Some(pending)) => self.take_pending(pending, f),
            (None, None) => {}
        }
    }

    fn take_pending(&mut self, pending: Slot, f: Out<'_>) {
        self.flows.promote(pending, bits::TOUCHED);
        let entry = self.flows.entry(pending);
        self.ended.forget(&entry.identity(), entry.id);
        self.hand_out(pending, EventKind::New, f);
    }

    /// No event touched it, and the dump says something else.
    fn take_changed(&mut self, live: Slot, pending: Slot, f: Out<'_>) {
        let dumped = self.flows.known(pending);
        if dumped.entry.may_follow(self.flows.entry(live)) {
            self.flows.remove(pending);
            self.correct(live, &dumped, f);
            self.flows.set(live, bits::TOUCHED);
        } else {
            self.destroy(live, f);
            self.take_pending(pending, f);
        }
    }

    /// Events told all of it that had changed, but not what they leave out because it had not.
    fn take_untold(&mut self, live: Slot, pending: Slot, f: Out<'_>) {
        let dumped = self.flows.known(pending);
        self.flows.remove(pending);
        let whole = self.with_untold(live, &dumped);
        self.correct(live, &whole, f);
    }

    /// A touched flow, with what no event has told of it since the dump began.
    fn with_untold(&self, live: Slot, dumped: &Known) -> Known {
        let mut known = self.flows.known(live);
        known.add_untold(dumped, self.flows.bits(live));
        known
    }

    /// The dump is merged. Gives how many differences from the table were found.
    pub(super) fn finish(&mut self) -> u64 {
        self.phase = Phase::Idle;
        self.uncleared = Some(0);
        self.flows.clear_tombs();
        self.budget.finish();
        mem::take(&mut self.found_count)
    }

    /// Adds what was handed out in place of lost events since this was called last.
    pub(super) fn count_in(&mut self, resync: &mut Resync) {
        resync.new_count = self.counts.new;
        resync.update_count = self.counts.update;
        resync.destroy_count = self.counts.destroy;
        self.counts = Counts::default();
    }

    pub(super) fn is_cleared(&self) -> bool {
        self.uncleared.is_none()
    }

    /// Clears what is left of the last dump until `is_over`. True: nothing is left, and another may begin.
    pub(super) fn clear(&mut self, is_over: &dyn Fn() -> bool) -> bool {
        let mut count = 0u32;
        while let Some(slot) = self.uncleared {
            self.uncleared = (slot < self.flows.slot_count()).then(|| {
                self.flows.clear_marks(slot);
                slot + 1
            });
            count += 1;
            if count.is_multiple_of(LOOK_AT_CLOCK) && is_over() {
                return self.is_cleared();
            }
        }
        true
    }

    fn note_dumped(&mut self, dumped: &Known) {
        let identity = &dumped.entry.identity();
        let found = self.flows.find(identity);
        if let Some(earlier) = found.pending {
            self.flows.remove(earlier); // the dump met it twice
        }
        let is_new = match found.live {
            None => !self.flows.has_ended(identity, dumped.entry.id),
            Some(live) if self.flows.has(live, bits::TOUCHED) => {
                let whole = self.with_untold(live, dumped);
                !self.absorb(live, &whole)
            }
            Some(live) => {
                let is_same =
                    dumped.entry.may_follow(self.flows.entry(live)) && self.absorb(live, dumped);
                if is_same || !self.has_room() {
                    // Without room for what the dump says, what was known before stays.
                    self.flows.set(live, bits::SEEN);
                }
                !is_same
            }
        };
        if is_new {
            self.keep(dumped, Kind::Pending, 0);
        }
    }

    /// Takes over what no event reports, if nothing else differs. False: something else differs.
    fn absorb(&mut self, live: Slot, told: &Known) -> bool {
        if !self.flows.is_same(live, told) {
            return false;
        }
        self.flows.absorb(live, told);
        true
    }
}

impl Table for Follower {
    type Group = Group;

    const PROTOCOL: Protocol = Protocol::NETFILTER;
    const GROUPS: &'static [Group] = &Mirror::GROUPS;

    fn request(&self, requester: &mut Requester) -> Result<Exchange> {
        requester.begin(message_type::CT_GET, flags::DUMP, |message| {
            message.bytes(&[0; 4])
        })
    }

    fn begin(&mut self) {
        // The flows of events that are held already stay noted: those events are told after the dump.
        self.clear(&|| false);
        self.budget.begin();
        self.phase = Phase::Noting;
    }

    fn take_dumped(&mut self, message: &Message<'_>) {
        // The end of a dying flow is reported before the flow leaves the table (Linux v6.18,
        // net/netfilter/nf_conntrack_core.c, `nf_ct_delete`).
        if let Some(flow) = Flow::decode(message)
            && flow.status.unwrap_or(0) & status::DYING == 0
        {
            self.note_dumped(&Known::of(&flow, self.now_seconds));
        }
    }

    fn abandon(&mut self) {
        self.uncleared = Some(0);
        self.flows.clear_tombs();
        self.held.end();
        self.phase = Phase::Idle;
    }
}

#[cfg(test)]
mod tests {
    use super::super::model_tests::{Facts, key_of, message_of};
    use super::super::step_count;
    use super::super::table::FLOW_BYTES;
    use super::*;
    use crate::conntrack::{Key, ProtocolState, Tuple, Zone, ZoneDirection};
    use crate::message::Messages;

    const NEW: EventKind = EventKind::New;
    const UPDATE: EventKind = EventKind::Update;
    const DESTROY: EventKind = EventKind::Delete;
    /// Whether it is made up.
    const RESYNCED: bool = true;

    fn facts(id: u32, status: u32) -> Facts {
        Facts {
            reply: key_of(0).orig.reversed().unwrap(),
            id,
            mark: 0,
            status: status::CONFIRMED | status,
            state: Some(ProtocolState::Tcp(1)),
        }
    }

    /// One key, of which flows come and go.
    struct Case {
        follower: Follower,
        is_synced: bool,
        told: Vec<(EventKind, u32, bool)>,
    }

    impl Case {
        /// As after a first dump that was empty.
        fn new() -> Self {
            let mut follower = Follower::new();
            follower.held.end();
            follower.end_holding(&mut |_| {});
            follower.clear(&|| false);
            Self {
                follower,
                is_synced: true,
                told: Vec::new(),
            }
        }

        fn take(&mut self, kind: EventKind, id: u32, status: u32) {
            let bytes = message_of(&key_of(0), kind, &facts(id, status), true);
            let message = Messages::new(&bytes).next().unwrap();
            let (told, is_synced) = (&mut self.told, self.is_synced);
            self.follower.take(&message, is_synced, &mut hear(told));
        }

        fn lose(&mut self) {
            self.follower.note_loss();
            self.is_synced = false;
        }

        /// A dump that has the flow of this id, or none.
        fn dump(&mut self, id: Option<u32>) {
            self.follower.clear(&|| false);
            self.follower.begin();
            if let Some(id) = id {
                let bytes = message_of(&key_of(0), UPDATE, &facts(id, 0), true);
                let message = Messages::new(&bytes).next().unwrap();
                self.follower.take_dumped(&message);
            }
            self.follower.begin_merge();
            let mut f = hear(&mut self.told);
            while !self.follower.merge(&|| false, &mut f) {}
            self.follower.phase = Phase::Idle;
            self.follower.uncleared = Some(0);
            self.follower.clear(&|| false);
            self.is_synced = true;
        }

        /// What was told since the last time, and how many events have been left out: repeated, and late ones.
        #[track_caller]
        fn assert_told(&mut self, told: &[(EventKind, u32, bool)], left_out: (u64, u64)) {
            assert_eq!(std::mem::take(&mut self.told), told);
            let follower = &self.follower;
            let counts = (follower.repeated_count, follower.late_count);
            assert_eq!(counts, left_out);
        }

        fn live_id(&self) -> Option<u32> {
            let live = self.follower.flows.live().next();
            live.and_then(|entry| entry.id)
        }
    }

    fn hear(told: &mut Vec<(EventKind, u32, bool)>) -> impl FnMut(Change<'_>) {
        |change| {
            if let Change::Flow { flow, is_resynced } = change {
                told.push((flow.kind, flow.id.unwrap(), is_resynced));
            }
        }
    }

    /// A flow's NEW, or another event of it.
    fn take(case: &mut Case, number: usize, kind: EventKind) {
        let bytes = message_of(&key_of(number), kind, &facts(7, 0), true);
        let message = Messages::new(&bytes).next().unwrap();
        let told = &mut case.told;
        case.follower.take(&message, true, &mut hear(told));
    }

    #[test]
    fn flows_that_find_no_room_are_told_and_not_kept() {
        let mut case = Case::new();
        case.follower.budget = Budget::new(2 * FLOW_BYTES);
        for number in 0..4 {
            take(&mut case, number, NEW);
        }
        case.assert_told(&[(NEW, 7, false); 4], (0, 0));
        assert_eq!(case.follower.flows.live_count(), 2);
        assert_eq!(case.follower.budget.left_out_count, 2);
        assert_eq!(case.follower.short_since(), None, "no room yet");
        take(&mut case, 3, UPDATE);
        take(&mut case, 3, DESTROY);
        take(&mut case, 3, DESTROY);
        case.assert_told(&[(UPDATE, 7, false), (DESTROY, 7, false)], (1, 0));
        // There is room for the other one, and a dump has it.
        take(&mut case, 0, DESTROY);
        assert!(case.follower.short_since().is_some());
        take(&mut case, 1, DESTROY);
        case.told.clear();
        let follower = &mut case.follower;
        follower.begin();
        let bytes = message_of(&key_of(2), UPDATE, &facts(7, 0), true);
        follower.take_dumped(&Messages::new(&bytes).next().unwrap());
        follower.begin_merge();
        assert!(follower.merge(&|| false, &mut hear(&mut case.told)));
        follower.finish();
        assert!(!follower.budget.is_short());
        case.assert_told(&[(NEW, 7, RESYNCED)], (1, 0));
    }

    #[test]
    fn a_dump_that_finds_no_room_ends_nothing() {
        let mut case = Case::new();
        case.follower.budget = Budget::new(2 * FLOW_BYTES);
        take(&mut case, 0, NEW);
        take(&mut case, 1, NEW);
        case.told.clear();
        let follower = &mut case.follower;
        follower.begin();
        for number in 0..4 {
            let told = Facts {
                mark: 5,
                ..facts(7, 0)
            };
            let bytes = message_of(&key_of(number), UPDATE, &told, true);
            follower.take_dumped(&Messages::new(&bytes).next().unwrap());
        }
        follower.begin_merge();
        assert!(follower.merge(&|| false, &mut hear(&mut case.told)));
        follower.finish();
        assert!(follower.budget.is_short());
        assert_eq!(follower.flows.live_count(), 2);
        case.assert_told(&[], (0, 0));
    }

    #[test]
    fn an_end_that_was_made_up_is_not_told_again() {
        let mut case = Case::new();
        case.take(NEW, 7, 0);
        case.lose();
        case.dump(None);
        case.assert_told(&[(NEW, 7, false), (DESTROY, 7, RESYNCED)], (0, 0));
        case.lose();
        case.take(DESTROY, 7, status::DYING);
        case.take(DESTROY, 7, status::DYING);
        case.assert_told(&[], (2, 0));
        // The same id again is another flow.
        case.take(NEW, 7, 0);
        case.take(DESTROY, 7, status::DYING);
        case.assert_told(&[(NEW, 7, false), (DESTROY, 7, false)], (2, 0));
    }

    #[test]
    fn the_end_of_an_unknown_flow_is_told_though_nothing_is_known_to_be_missing() {
        let mut case = Case::new();
        case.take(DESTROY, 7, status::DYING);
        case.take(DESTROY, 8, status::DYING);
        case.take(DESTROY, 7, status::DYING);
        let told = [
            (NEW, 7, RESYNCED),
            (DESTROY, 7, false),
            (NEW, 8, RESYNCED),
            (DESTROY, 8, false),
        ];
        case.assert_told(&told, (1, 0));
    }

    #[test]
    fn the_end_of_one_before_does_not_end_its_successor() {
        let mut case = Case::new();
        case.take(NEW, 8, 0);
        case.take(DESTROY, 7, status::DYING); // it ended before the mirror began, and is told again
        case.assert_told(&[(NEW, 8, false)], (1, 0));
        assert_eq!(case.live_id(), Some(8));
        // After a loss it may well be the later one; if not, the dump has it.
        case.lose();
        case.take(DESTROY, 6, status::DYING);
        case.dump(Some(8));
        let told = [
            (DESTROY, 8, RESYNCED),
            (NEW, 6, RESYNCED),
            (DESTROY, 6, false),
            (NEW, 8, RESYNCED),
        ];
        case.assert_told(&told, (1, 0));
    }

    #[test]
    fn an_update_behind_the_end_changes_nothing() {
        for late_status in [0, status::DYING] {
            let mut case = Case::new();
            case.take(NEW, 7, 0);
            case.take(DESTROY, 7, status::DYING);
            case.take(UPDATE, 7, late_status);
            case.assert_told(&[(NEW, 7, false), (DESTROY, 7, false)], (0, 1));
            case.take(NEW, 8, 0);
            case.take(UPDATE, 7, late_status);
            case.assert_told(&[(NEW, 8, false)], (0, 2));
            assert_eq!(case.live_id(), Some(8));
        }
    }

    #[test]
    fn one_that_is_dying_does_not_begin() {
        let mut case = Case::new();
        case.take(NEW, 8, 0);
        case.take(UPDATE, 7, status::DYING);
        case.take(NEW, 6, status::DYING);
        case.assert_told(&[(NEW, 8, false)], (0, 2));
        assert_eq!(case.live_id(), Some(8));
    }

    #[test]
    fn the_kernel_is_asked_about_what_comes_behind_an_end() {
        let identity = Identity::from(key_of(0));
        let mut case = Case::new();
        case.take(NEW, 7, 0);
        case.take(DESTROY, 7, status::DYING);
        assert_eq!(case.follower.doubted, []);
        case.take(UPDATE, 7, 0);
        assert_eq!(case.follower.doubted, [(identity, Some(7))]);
        case.take(NEW, 7, 0);
        case.take(DESTROY, 7, status::DYING);
        case.take(NEW, 8, 0);
        case.take(DESTROY, 8, status::DYING);
        case.take(UPDATE, 8, 0);
        // A lifetime is asked about once, however often it contradicts, and leaves room for others.
        let both = [7, 8].map(|id| (identity, Some(id)));
        assert_eq!(case.follower.doubted, both);
        for number in 1..=2 * MOST_DOUBTED {
            let zone = Zone::new(u16::try_from(number).unwrap(), ZoneDirection::Both);
            let key = Key {
                zone: Some(zone),
                ..key_of(0)
            };
            case.follower.doubt(&key.into(), Some(7));
        }
        assert_eq!(case.follower.doubted.len(), MOST_DOUBTED);
    }

    #[test]
    fn a_second_new_is_another_lifetime_if_it_takes_something_back() {
        let mut case = Case::new();
        case.take(NEW, 7, 0);
        // As another program's reliable socket, which missed it, has the kernel send it with each packet.
        case.take(NEW, 7, 0);
        case.take(NEW, 7, status::SEEN_REPLY);
        case.take(NEW, 7, status::SEEN_REPLY);
        case.assert_told(&[(NEW, 7, false), (UPDATE, 7, false)], (0, 0));
        let again = [(DESTROY, 7, RESYNCED), (NEW, 7, false)];
        case.take(NEW, 7, 0);
        case.assert_told(&again, (0, 0));
        // Also when a dump has been merged since.
        case.lose();
        case.dump(Some(7));
        case.told.clear();
        case.take(UPDATE, 7, status::ASSURED);
        case.take(NEW, 7, 0);
        case.assert_told(&[&[(UPDATE, 7, false)], &again[..]].concat(), (0, 0));
    }

    #[test]
    fn the_new_of_one_that_a_dump_or_an_update_has_shown_is_its_own() {
        let mut case = Case::new();
        case.lose();
        case.dump(Some(7));
        case.take(UPDATE, 7, status::SEEN_REPLY);
        case.told.clear();
        case.take(NEW, 7, 0);
        case.assert_told(&[(UPDATE, 7, false)], (0, 0));
        case.take(UPDATE, 8, status::SEEN_REPLY);
        case.take(NEW, 8, 0);
        let told = [
            (DESTROY, 7, RESYNCED),
            (NEW, 8, RESYNCED),
            (UPDATE, 8, false),
        ];
        case.assert_told(&told, (0, 0));
    }

    #[test]
    fn what_was_held_is_handed_out_a_little_at_a_time_and_in_order() {
        const HELD: u32 = 1000;

        let mut case = Case {
            follower: Follower::new(),
            is_synced: false,
            told: Vec::new(),
        };
        case.take(NEW, 7, 0);
        for _ in 1..HELD {
            case.take(UPDATE, 7, 0);
        }
        case.lose();
        case.assert_told(&[], (0, 0));
        case.take(DESTROY, 7, status::DYING);
        let few = HELD_FOR_EACH as usize;
        assert_eq!(case.told.len(), few);
        assert_eq!(case.told[..2], [(NEW, 7, false), (UPDATE, 7, false)]);
        let mut calls = 1;
        while !case
            .follower
            .end_holding_until(&|| true, &mut hear(&mut case.told))
        {
            calls += 1;
            assert!(case.told.len() <= few + calls);
        }
        assert!(calls > HELD as usize / 2, "{calls}");
        assert_eq!(case.told.len(), HELD as usize + 1);
        assert_eq!(case.told.last(), Some(&(DESTROY, 7, false)));
        case.take(NEW, 8, 0);
        assert_eq!(case.told.last(), Some(&(NEW, 8, false)), "at once");
    }

    /// Steps of the indexes for each lifetime, from when some have been there. `key` and `id` are of the lifetime of a number.
    fn steps_per_lifetime(case: &mut Case, key: fn(u16) -> Key, id: fn(u16) -> u32) -> u64 {
        let mut live = |number: u16| {
            let key = key(number);
            for kind in [NEW, UPDATE, DESTROY, DESTROY] {
                let bytes = message_of(&key, kind, &facts(id(number), 0), true);
                let message = Messages::new(&bytes).next().unwrap();
                let (told, is_synced) = (&mut case.told, case.is_synced);
                case.follower.take(&message, is_synced, &mut hear(told));
            }
        };
        (0..3000).for_each(&mut live);
        let before = step_count();
        (3000..3100).for_each(live);
        (step_count() - before) / 100
    }

    #[test]
    fn a_tuple_that_is_used_often_costs_no_more_than_many_tuples() {
        let one_key: fn(u16) -> Key = |_| key_of(0);
        let many_keys: fn(u16) -> Key = |number| Key {
            zone: Some(Zone::new(number, ZoneDirection::Both)),
            ..key_of(0)
        };
        let one_id: fn(u16) -> u32 = |_| 7;
        let many_ids: fn(u16) -> u32 = u32::from;
        let holding: fn() -> Case = || Case {
            follower: Follower::new(),
            is_synced: false,
            told: Vec::new(),
        };
        let dumping: fn() -> Case = || {
            let mut case = Case::new();
            case.lose();
            case.follower.begin();
            case
        };
        for case in [Case::new, holding, dumping] {
            let many = steps_per_lifetime(&mut case(), many_keys, many_ids);
            for ids in [one_id, many_ids] {
                let one = steps_per_lifetime(&mut case(), one_key, ids);
                assert!(one <= many + 8, "{one} and {many} steps");
            }
        }
        // Nor does it take memory for each of them.
        let mut case = dumping();
        steps_per_lifetime(&mut case, one_key, one_id);
        assert_eq!(case.follower.flows.tomb_count(), 1);
        assert!(case.follower.flows.slot_count() <= 2);
    }

    #[test]
    fn flows_that_ended_unheard_do_not_pile_up_under_one_reply_tuple() {
        let mut case = Case::new();
        let mut begin = |number: u16| {
            let zone = Zone::new(5, ZoneDirection::Both);
            let orig = Tuple {
                src: [10, 1, number.to_be_bytes()[0], number.to_be_bytes()[1]].into(),
                ..key_of(0).orig
            };
            let zone = Some(zone);
            let bytes = message_of(&Key { orig, zone }, NEW, &facts(u32::from(number), 0), true);
            let message = Messages::new(&bytes).next().unwrap();
            case.follower
                .take(&message, true, &mut hear(&mut case.told));
        };
        (0..3000).for_each(&mut begin);
        let before = step_count();
        (3000..3100).for_each(begin);
        assert!(step_count() - before < 100 * 8);
        let reply = &facts(0, 0).reply;
        let zone = Some(Zone::new(5, ZoneDirection::Both));
        let found = case.follower.flows.find_by_reply(reply, zone);
        let found = case.follower.flows.entry(found.unwrap());
        assert_eq!(found.id, Some(3099), "the last that began");
    }

    #[test]
    fn while_events_come_what_was_held_is_not_held_for_ever() {
        let mut case = Case {
            follower: Follower::new(),
            is_synced: false,
            told: Vec::new(),
        };
        for id in 0..300 {
            case.take(NEW, id, 0);
        }
        case.lose();
        for id in 300..410 {
            case.take(NEW, id, 0);
        }
        assert!(!case.follower.held.is_ending());
        let begun = case.told.iter().filter(|told| told.0 == NEW);
        assert!(begun.map(|told| told.1).eq(0..410));
    }
}
