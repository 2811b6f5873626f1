//! What events and dumps do to the table, and what of it is handed out.
//!
//! While a dump is read, and until it is merged, events touch the entries that they tell of: whatever the dump says of those
//! is left aside, but for a protocol's state that no event has told, since an event tells it only when it changes. What
//! ended meanwhile stays as a dead entry. All others follow the dump.
//!
//! Before the first dump is merged nothing is handed out: events are held, and the keys that they touch are marked by dead
//! entries without an id. Then come the untouched entries of the dump, as new; then the held events, by the same rules as
//! any others: what they tell of and was never told begins with them. That order is right whenever the dump met the flow:
//! an end that is held ends what began before it or, if that was not held, what begins with it; a flow that the dump met and
//! that ended then is touched, so its entry in the dump is dropped; and one that the dump met after its last event has that
//! event's state. A loss makes this wrong: so the held events are handed out at once then, ahead of any dump.

use super::Change;
use super::entry::Entry;
use super::held::{Held, Lent};
use super::table::{Flows, Found, Kind, Slot, bits};
use crate::conntrack::{EventKind, Flow, Key, status};
use crate::error::Result;
use crate::message::{Message, flags};
use crate::mirror::{Resync, Table};
use crate::request::{Exchange, Requester};
use crate::socket::Protocol;

/// Whoever changes are handed to.
pub(super) type Out<'a> = &'a mut dyn FnMut(Change<'_>);

/// `NFNL_SUBSYS_CTNETLINK` in the upper byte, `IPCTNL_MSG_CT_GET`; `struct nfgenmsg` follows.
const GET: u16 = 0x101;
/// How often a merge looks at the clock. In the tests, always: it can then be broken off anywhere.
const LOOK_AT_CLOCK: u32 = if cfg!(test) { 1 } else { 64 };

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

#[derive(Debug)]
pub(super) struct Follower {
    pub flows: Flows,
    pub now_seconds: u32,
    /// Ends that were told before.
    pub repeated_count: u64,
    phase: Phase,
    /// Marks, and entries that are not live, are left of the last dump, from this slot on.
    uncleared: Option<Slot>,
    pub held: Held,
    /// Handed out in place of lost events, since the last merge ended.
    counts: Counts,
}

impl Follower {
    pub(super) fn new() -> Self {
        Self {
            flows: Flows::new(),
            now_seconds: 0,
            repeated_count: 0,
            phase: Phase::Idle,
            uncleared: None,
            held: Held::new(),
            counts: Counts::default(),
        }
    }

    /// Takes an event. `is_synced`: nothing is known to be missing.
    pub(super) fn take(&mut self, message: &Message<'_>, is_synced: bool, f: Out<'_>) {
        let Some(mut flow) = Flow::decode(message) else {
            return;
        };
        self.end_holding(f);
        if self.held.is_holding() {
            if self.held.push(message) {
                self.note_held(&flow);
                return;
            }
            self.held.end();
            self.end_holding(f);
        }
        self.apply(&mut flow, is_synced, f);
    }

    /// Events are missing: those that were held no longer have to wait, nor may they.
    pub(super) fn note_loss(&mut self) {
        self.held.end();
    }

    /// Hands out what was held, if it is time.
    pub(super) fn end_holding(&mut self, f: Out<'_>) {
        if !self.held.is_ending() {
            return;
        }
        let mut lent = self.held.lend();
        while self.apply_held(&mut lent, f) {}
        self.held.end_now();
        match self.phase {
            Phase::Idle => self.uncleared = Some(0), // of the keys that were marked
            Phase::Merging(_) => self.phase = Phase::Merging(Pass::Last(0)),
            Phase::Noting => {}
        }
    }

    fn apply_held(&mut self, lent: &mut Lent, f: Out<'_>) -> bool {
        let Some(message) = lent.next_message() else {
            return false;
        };
        if let Some(mut flow) = Flow::decode(&message) {
            self.apply(&mut flow, false, f);
        }
        true
    }

    /// Marks the flow of an event that is held.
    fn note_held(&mut self, flow: &Flow<'_>) {
        let found = self.flows.find(&flow.key(), None);
        if found.live.is_none() && !found.has_dead {
            let mut entry = Entry::of(flow, self.now_seconds);
            entry.id = None;
            self.flows.insert(entry, Kind::Dead, 0);
        }
    }

    /// Applies an event and hands it out, so that each lifetime of a flow begins with one New and ends with one Destroy.
    fn apply(&mut self, flow: &mut Flow<'_>, is_synced: bool, f: Out<'_>) {
        let found = self.flows.find(&flow.key(), flow.id);
        let is_repeat = is_synced || found.is_dead_id;
        let live = match found.live {
            Some(slot) if self.flows.entry(slot).is_id(flow.id) => Some(slot),
            Some(_) if flow.kind == EventKind::Destroy && is_repeat => {
                self.repeated_count += 1;
                return;
            }
            Some(other) => {
                self.destroy(other, f);
                None
            }
            None => None,
        };
        match (flow.kind, live) {
            (EventKind::New, Some(slot)) => {
                // A dump showed it before its event was queued.
                if self.update(slot, flow) {
                    flow.kind = EventKind::Update;
                    self.hand_out(flow, false, f);
                }
            }
            (EventKind::Update, Some(slot)) => {
                self.update(slot, flow);
                self.hand_out(flow, false, f);
            }
            (EventKind::Destroy, Some(slot)) => {
                self.end(slot);
                self.hand_out(flow, false, f);
            }
            (EventKind::New, None) => {
                self.begin_flow(flow);
                self.hand_out(flow, false, f);
            }
            (EventKind::Update, None) => self.apply_unknown_update(flow, found, f),
            (EventKind::Destroy, None) if is_repeat => self.repeated_count += 1,
            (EventKind::Destroy, None) => self.apply_unknown_destroy(flow, f),
        }
    }

    /// Its New was lost.
    fn apply_unknown_update(&mut self, flow: &mut Flow<'_>, found: Found, f: Out<'_>) {
        if flow.status.unwrap_or(0) & status::DYING != 0 {
            return; // it was overtaken by its Destroy
        }
        let pending = found.pending.filter(|_| self.phase != Phase::Idle);
        let dumped = pending.map(|slot| self.flows.entry(slot));
        if let Some(dumped) = dumped.filter(|dumped| dumped.is_id(flow.id)) {
            flow.state = flow.state.or(dumped.state);
        }
        flow.kind = EventKind::New;
        self.begin_flow(flow);
        self.hand_out(flow, true, f);
    }

    fn apply_unknown_destroy(&mut self, flow: &Flow<'_>, f: Out<'_>) {
        let mut entry = Entry::of(flow, self.now_seconds);
        entry.status &= !status::DYING;
        self.hand_out(&entry.to_flow(EventKind::New, self.now_seconds), true, f);
        if self.phase != Phase::Idle {
            self.flows.insert(entry, Kind::Dead, 0);
        }
        self.hand_out(flow, false, f);
    }

    fn begin_flow(&mut self, flow: &Flow<'_>) {
        let entry = Entry::of(flow, self.now_seconds);
        self.flows.insert(entry, Kind::Live, self.touch(flow));
    }

    fn touch(&self, flow: &Flow<'_>) -> u8 {
        match flow.state {
            _ if self.phase == Phase::Idle => 0,
            Some(_) => bits::TOUCHED | bits::TOLD_STATE,
            None => bits::TOUCHED,
        }
    }

    /// Whether anything has changed but the time that is left.
    fn update(&mut self, slot: Slot, flow: &Flow<'_>) -> bool {
        let now_seconds = self.now_seconds;
        let old = *self.flows.entry(slot);
        self.flows
            .change(slot, |entry| entry.update(flow, now_seconds));
        self.flows.clear(slot, bits::DOUBTFUL);
        self.flows.set(slot, self.touch(flow));
        !old.is_same(self.flows.entry(slot))
    }

    /// It has ended. A dump under way may have met it before.
    fn end(&mut self, slot: Slot) {
        match self.phase {
            Phase::Idle => self.flows.remove(slot),
            Phase::Noting | Phase::Merging(_) => self.flows.bury(slot),
        }
    }

    /// No Destroy was told of it.
    fn destroy(&mut self, slot: Slot, f: Out<'_>) {
        let flow = self
            .flows
            .entry(slot)
            .to_flow(EventKind::Destroy, self.now_seconds);
        self.end(slot);
        self.hand_out(&flow, true, f);
    }

    /// What the kernel says now of a live flow. It is of the same id.
    fn correct(&mut self, slot: Slot, told: Entry, f: Out<'_>) {
        let is_same = self.flows.entry(slot).is_same(&told);
        self.flows.change(slot, |entry| *entry = told);
        if !is_same {
            let flow = told.to_flow(EventKind::Update, self.now_seconds);
            self.hand_out(&flow, true, f);
        }
    }

    /// The kernel was asked about a live flow, and has it.
    pub(super) fn take_answer(&mut self, slot: Slot, told: Entry, f: Out<'_>) {
        let counts = self.counts;
        self.correct(slot, told, f);
        self.counts = counts; // no event was lost
    }

    /// The kernel was asked about a live flow, and has it no more, but perhaps another one of its key.
    pub(super) fn take_end(&mut self, slot: Slot, successor: Option<Entry>, f: Out<'_>) {
        let counts = self.counts;
        self.destroy(slot, f);
        if let Some(entry) = successor {
            self.flows.insert(entry, Kind::Live, 0);
            self.hand_out(&entry.to_flow(EventKind::New, self.now_seconds), true, f);
        }
        self.counts = counts;
    }

    fn hand_out(&mut self, flow: &Flow<'_>, is_resynced: bool, f: Out<'_>) {
        if is_resynced {
            let count = match flow.kind {
                EventKind::New => &mut self.counts.new,
                EventKind::Update => &mut self.counts.update,
                EventKind::Destroy => &mut self.counts.destroy,
            };
            *count += 1;
        }
        let flow = *flow;
        f(Change::Flow { flow, is_resynced });
    }

    pub(super) fn is_merging(&self) -> bool {
        matches!(self.phase, Phase::Merging(_))
    }

    /// All events that were made before the dump's end have been taken.
    pub(super) fn begin_merge(&mut self) {
        self.phase = Phase::Merging(if self.held.is_holding() {
            Pass::Untouched(0)
        } else {
            Pass::Last(0)
        });
    }

    /// Merges until `is_over`. True: all is merged.
    pub(super) fn merge(&mut self, is_over: &dyn Fn() -> bool, f: Out<'_>) -> bool {
        self.end_holding(f);
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
            Pass::Held => {
                let mut lent = self.held.lend();
                let is_any = self.apply_held(&mut lent, f);
                self.held.put_back(lent);
                if is_any {
                    Pass::Held
                } else {
                    self.held.end_now();
                    Pass::Last(0)
                }
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
        let is_touched = |flows: &Flows| flows.find(&flows.entry(slot).key(), None).has_dead;
        if self.flows.dead_count() == 0 || !is_touched(&self.flows) {
            self.take_pending(slot, f);
        }
    }

    fn settle_slot(&mut self, slot: Slot, f: Out<'_>) {
        // A live one that was touched or seen stays, unless a pending one beside it says something else.
        let needs_look = match self.flows.kind(slot) {
            Kind::Free | Kind::Dead => false,
            Kind::Live => !self.flows.has(slot, bits::TOUCHED | bits::SEEN),
            Kind::Pending => true,
        };
        if needs_look {
            self.settle(&self.flows.entry(slot).key(), f);
        }
    }

    /// Merges what there is of one key. An event that comes before touches it, as it would have before the merge; one that comes
    /// later finds it merged.
    fn settle(&mut self, key: &Key, f: Out<'_>) {
        let found = self.flows.find(key, None);
        match (found.live, found.pending) {
            (Some(live), pending) if self.flows.has(live, bits::TOUCHED) => {
                if let Some(pending) = pending {
                    self.take_state(live, pending, f);
                }
            }
            (Some(live), Some(pending)) => self.take_changed(live, pending, f),
            (Some(live), None) if self.flows.has(live, bits::SEEN) => {
                self.flows.set(live, bits::TOUCHED);
            }
            (Some(live), None) => self.destroy(live, f),
            (None, Some(pending)) if found.has_dead => self.flows.remove(pending),
            (None, Some(pending)) => self.take_pending(pending, f),
            (None, None) => {}
        }
    }

    fn take_pending(&mut self, pending: Slot, f: Out<'_>) {
        self.flows.promote(pending, bits::TOUCHED);
        let entry = self.flows.entry(pending);
        let flow = entry.to_flow(EventKind::New, self.now_seconds);
        self.hand_out(&flow, true, f);
    }

    /// No event touched it, and the dump says something else.
    fn take_changed(&mut self, live: Slot, pending: Slot, f: Out<'_>) {
        let dumped = *self.flows.entry(pending);
        if self.flows.entry(live).is_id(dumped.id) {
            self.flows.remove(pending);
            self.correct(live, dumped, f);
            self.flows.set(live, bits::TOUCHED);
        } else {
            self.destroy(live, f);
            self.take_pending(pending, f);
        }
    }

    /// The events told all but the state, which therefore has not changed.
    fn take_state(&mut self, live: Slot, pending: Slot, f: Out<'_>) {
        let dumped = *self.flows.entry(pending);
        self.flows.remove(pending);
        if self.lacks_state_of(live, &dumped) {
            let told = Entry {
                state: dumped.state,
                ..*self.flows.entry(live)
            };
            self.correct(live, told, f);
        }
    }

    fn lacks_state_of(&self, live: Slot, dumped: &Entry) -> bool {
        let entry = self.flows.entry(live);
        !self.flows.has(live, bits::TOLD_STATE)
            && entry.is_id(dumped.id)
            && dumped.state.is_some()
            && entry.state != dumped.state
    }

    /// The dump is merged.
    pub(super) fn finish(&mut self, resync: &mut Resync) {
        self.phase = Phase::Idle;
        self.uncleared = Some(0);
        resync.entry_count = self.flows.live_count();
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

    fn note_dumped(&mut self, dumped: Entry) {
        let found = self.flows.find(&dumped.key(), None);
        if let Some(earlier) = found.pending {
            self.flows.remove(earlier); // the dump met it twice
        }
        if let Some(live) = found.live {
            if self.flows.has(live, bits::TOUCHED) {
                if self.lacks_state_of(live, &dumped) {
                    self.flows.insert(dumped, Kind::Pending, 0);
                }
            } else if self.flows.entry(live).is_same(&dumped) {
                self.flows.set(live, bits::SEEN);
                self.flows.change(live, |entry| *entry = dumped);
            } else {
                self.flows.insert(dumped, Kind::Pending, 0);
            }
        } else if !found.has_dead || self.held.is_holding() {
            self.flows.insert(dumped, Kind::Pending, 0);
        }
    }
}

impl Table for Follower {
    const PROTOCOL: Protocol = Protocol::NETFILTER;

    fn request(&self, requester: &mut Requester) -> Result<Exchange> {
        requester.begin(GET, flags::DUMP, |message| message.bytes(&[0; 4]))
    }

    fn begin(&mut self) {
        // The keys of events that are held already stay marked: those events are told after the dump.
        self.clear(&|| false);
        self.phase = Phase::Noting;
    }

    fn take_dumped(&mut self, message: &Message<'_>) {
        let dumped = Flow::decode(message).map(|flow| Entry::of(&flow, self.now_seconds));
        // The end of one that is dying has been told before it leaves the table (Linux v6.18,
        // net/netfilter/nf_conntrack_core.c, `nf_ct_delete`).
        if let Some(dumped) = dumped.filter(|dumped| !dumped.is_dying()) {
            self.note_dumped(dumped);
        }
    }

    fn abandon(&mut self) {
        self.uncleared = Some(0);
        self.held.end();
        self.phase = Phase::Idle;
    }
}
