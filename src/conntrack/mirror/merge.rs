//! How a dump is merged with what events did while it was read.
//!
//! While a dump is read, and until it is merged, events touch the entries that they report. What the dump says about a
//! touched entry is ignored, except for values that events report only when they change (the protocol's state, labels,
//! the helper) and that no event has reported. A flow that ends while the dump is read is recorded, so that the dump
//! does not restore it. All other entries follow the dump.
//!
//! Before the first dump is merged nothing is handed out: events are held, and the flows that they touch are recorded.
//! The merge hands out the dump's untouched entries as new, and then the held events by the same rules as any others: a
//! flow that was never handed out begins with its first event. This order is right, whenever the dump saw a flow:
//!
//! - A held DESTROY ends a flow that was handed out earlier or, if there is none, one that begins with this event.
//! - A flow that the dump saw and that ended afterwards is touched, so its entry in the dump is dropped.
//! - A flow that the dump saw after its last event has the state of that event.
//!
//! A loss makes this order wrong. The held events are then handed out ahead of any dump, a few at a time, and new ones
//! after them.

use std::mem;

use super::Mirror;
use super::entry::Known;
use super::follow::{Dump, Follower};
use super::shown::Out;
use super::table::bits;
use crate::conntrack::identity::Identity;
use crate::conntrack::kernel::message_type;
use crate::conntrack::{Flow, Group, status};
use crate::error::Result;
use crate::event_kind::EventKind;
use crate::message::{Message, flags};
use crate::mirror::{Kind, Slice, Slot, Table};
use crate::request::{Exchange, Requester};
use crate::socket::Protocol;

/// The passes of a merge. All but the last are made for the first dump only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// The dump's entries that no event touched, from this slot on.
    Untouched(Slot),
    /// The events that were held.
    Held,
    /// All other entries, from this slot on.
    Last(Slot),
}

impl Table for Follower {
    type Group = Group;

    const PROTOCOL: Protocol = Protocol::NETFILTER;
    const GROUPS: &'static [Group] = &Mirror::GROUPS;

    fn request_dump(&self, requester: &mut Requester) -> Result<Exchange> {
        let filter = self.dump_filter();
        requester.begin(message_type::CT_GET, flags::DUMP, |message| {
            filter.put_for_dump(message)
        })
    }

    fn begin_dump(&mut self) {
        // The flows of held events stay recorded, because these events are handed out after the dump.
        self.clear(&mut Slice::endless());
        self.forget_answers();
        self.budget.begin();
        self.dump = Dump::Reading;
    }

    fn feed_dumped(&mut self, message: &Message<'_>) {
        // The end of a dying flow is reported before the flow leaves the table (Linux v6.18,
        // net/netfilter/nf_conntrack_core.c, `nf_ct_delete`).
        if let Some(flow) = Flow::decode(message)
            && flow.status.unwrap_or(0) & status::DYING == 0
            && self.keeps(&flow)
        {
            self.note_dumped(&Known::of(&flow, self.now_seconds));
        }
    }

    fn abandon_dump(&mut self) {
        self.uncleared = Some(0);
        self.flows.clear_tombs();
        self.held.end();
        self.dump = Dump::None;
    }
}

impl Follower {
    fn note_dumped(&mut self, dumped: &Known) {
        let identity = &dumped.entry.identity();
        let found = self.flows.find(identity);
        if let Some(earlier) = found.pending {
            self.flows.remove(earlier); // the dump met it twice
        }
        let is_new = match found.live {
            None => !self.flows.has_ended(identity, dumped.entry.id),
            Some(live) if self.flows.has(live, bits::TOUCHED) => {
                let whole = self.with_unreported(live, dumped);
                !self.absorb(live, &whole)
            }
            Some(live) => {
                let is_same =
                    dumped.entry.may_follow(self.flows.entry(live)) && self.absorb(live, dumped);
                if is_same || !self.has_room() {
                    // Without room for the dump's values, the entry stays unchanged.
                    self.flows.set(live, bits::SEEN);
                }
                !is_same
            }
        };
        if is_new {
            self.keep(dumped, Kind::Pending, 0);
        }
    }

    /// Copies what no event reports, if nothing else differs. False: something else differs.
    fn absorb(&mut self, live: Slot, dumped: &Known) -> bool {
        let is_same = self.flows.is_same(live, dumped);
        if is_same {
            self.flows.absorb(live, dumped);
        }
        is_same
    }

    pub(super) fn is_merging(&self) -> bool {
        matches!(self.dump, Dump::Merging(_))
    }

    /// All events that were made before the dump's end have been fed.
    pub(super) fn begin_merge(&mut self) {
        self.found_count = 0;
        self.dump = Dump::Merging(if self.held.is_holding() {
            Pass::Untouched(0)
        } else {
            Pass::Last(0)
        });
    }

    /// Merges for a slice. True: all is merged.
    pub(super) fn merge(&mut self, slice: &mut Slice, f: Out<'_>) -> bool {
        if !self.end_holding(slice, f) {
            return false;
        }
        let before = self.counts.sum();
        let is_merged = self.merge_steps(slice, f);
        self.found_count += self.counts.sum() - before;
        is_merged
    }

    fn merge_steps(&mut self, slice: &mut Slice, f: Out<'_>) -> bool {
        while self.merge_step(f) {
            if slice.is_over() {
                return false;
            }
        }
        true
    }

    /// False: nothing is left to merge.
    fn merge_step(&mut self, f: Out<'_>) -> bool {
        let Dump::Merging(pass) = self.dump else {
            return false;
        };
        let next = match pass {
            Pass::Untouched(slot) if slot < self.flows.slot_count() => {
                self.begin_untouched(slot, f);
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
        self.dump = Dump::Merging(next);
        true
    }

    fn begin_untouched(&mut self, slot: Slot, f: Out<'_>) {
        if self.flows.kind(slot) != Kind::Pending {
            return;
        }
        if !self.flows.is_touched(&self.flows.entry(slot).identity()) {
            self.begin_pending(slot, f);
        }
    }

    fn settle_slot(&mut self, slot: Slot, f: Out<'_>) {
        // A live entry that was touched or seen stays, unless a pending one for it says something else.
        let needs_settling = match self.flows.kind(slot) {
            Kind::Free | Kind::Dead => false,
            Kind::Live => !self.flows.has(slot, bits::TOUCHED | bits::SEEN),
            Kind::Pending => true,
        };
        if needs_settling {
            self.settle(&self.flows.entry(slot).identity(), f);
        }
    }

    /// Merges the entries of one identity. An earlier event touches them, as it would have before the merge. A later
    /// event finds them merged.
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
                    self.merge_unreported(live, pending, f);
                }
            }
            (Some(live), Some(pending)) => self.merge_changed(live, pending, f),
            (Some(live), None) if self.flows.has(live, bits::SEEN) => {
                self.flows.set(live, bits::TOUCHED);
            }
            (Some(live), None) if identity.clash_reply.is_some() => {
                // No dump has the loser of a NAT race: the kernel is asked about it by its reply tuple.
                self.flows.set(live, bits::TOUCHED);
                self.note_contradiction(identity);
            }
            (Some(live), None) => self.end_settled(live, f),
            (None, Some(pending)) => self.begin_pending(pending, f),
            (None, None) => {}
        }
    }

    fn begin_pending(&mut self, pending: Slot, f: Out<'_>) {
        self.flows.promote(pending, bits::TOUCHED);
        let entry = self.flows.entry(pending);
        self.ended.forget(&entry.identity(), entry.id);
        self.hand_out(pending, EventKind::New, f);
    }

    /// No event touched the flow, and the dump says something else about it.
    fn merge_changed(&mut self, live: Slot, pending: Slot, f: Out<'_>) {
        let dumped = self.flows.known(pending);
        if dumped.entry.may_follow(self.flows.entry(live)) {
            self.flows.remove(pending);
            self.correct(live, &dumped, f);
            self.flows.set(live, bits::TOUCHED);
        } else {
            self.end_settled(live, f);
            self.begin_pending(pending, f);
        }
    }

    /// Ends a live flow that the dump does not have. Its end need not be recorded, because the dump has been read
    /// completely.
    fn end_settled(&mut self, live: Slot, f: Out<'_>) {
        self.make_up_end(live, f);
        self.flows.remove(live);
    }

    /// Events reported all changes of the flow, but not unchanged values. The dump has those.
    fn merge_unreported(&mut self, live: Slot, pending: Slot, f: Out<'_>) {
        let dumped = self.flows.known(pending);
        self.flows.remove(pending);
        let whole = self.with_unreported(live, &dumped);
        self.correct(live, &whole, f);
    }

    /// A touched flow, with what no event has reported about it since the dump began.
    fn with_unreported(&self, live: Slot, dumped: &Known) -> Known {
        let mut known = self.flows.known(live);
        known.add_unreported(dumped, self.flows.bits(live));
        known
    }

    /// Ends the merge. Returns how many differences from the table it found.
    pub(super) fn finish(&mut self) -> u64 {
        self.dump = Dump::None;
        self.uncleared = Some(0);
        self.flows.clear_tombs();
        self.budget.finish();
        mem::take(&mut self.found_count)
    }

    pub(super) fn is_cleared(&self) -> bool {
        self.uncleared.is_none()
    }

    /// Clears leftovers of the last dump, for a slice. True: nothing is left, and another dump may begin.
    pub(super) fn clear(&mut self, slice: &mut Slice) -> bool {
        while let Some(slot) = self.uncleared {
            self.uncleared = (slot < self.flows.slot_count()).then(|| {
                self.flows.clear_marks(slot);
                slot + 1
            });
            if slice.is_over() {
                break;
            }
        }
        self.is_cleared()
    }
}
