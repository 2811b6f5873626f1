//! Which flows a mirror shows, and how it hands out what happens to them.
//!
//! An event contains only what has changed, so the filter is evaluated on the flow as it is kept. A mirror with a
//! filter therefore keeps all flows that match the terms that cannot change, and shows those that match the whole
//! filter. Each kept flow has a bit that says whether it is shown. When the bit changes, the flow begins or ends for
//! the receiver of the changes.

use super::Change;
use super::entry::Known;
use super::follow::Follower;
use crate::conntrack::{DumpFilter, Filter, Flow, status};
use crate::error::Result;
use crate::event_kind::EventKind;
use crate::mirror::{Resync, Slot, kind_if_shown};
use crate::timestamp::Timestamp;

/// The callback that takes the changes.
pub(super) type Out<'a> = &'a mut dyn FnMut(Change<'_>);

/// Which flows a mirror keeps, and which of them it shows.
#[derive(Debug)]
pub(super) struct Selection {
    kept: Filter,
    shown: Filter,
}

impl Selection {
    /// `None`: all flows are kept and shown.
    pub(super) fn of(filter: Filter) -> Result<Option<Self>> {
        let kept = filter.constant_part()?;
        let shown = filter;
        Ok((!shown.is_all()).then_some(Self { kept, shown }))
    }

    /// What the kernel can leave out of a dump: flows that are not kept.
    pub(super) fn dump_filter(&self) -> DumpFilter {
        self.kept.dump_filter()
    }
}

/// What was handed out instead of lost events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    new: u64,
    update: u64,
    destroy: u64,
}

impl Counts {
    pub(super) fn sum(self) -> u64 {
        self.new + self.update + self.destroy
    }

    pub(super) fn add_to(self, resync: &mut Resync) {
        resync.new_count = self.new;
        resync.update_count = self.update;
        resync.destroy_count = self.destroy;
    }

    fn hand_out(&mut self, flow: &Flow<'_>, is_resynced: bool, received_at: Timestamp, f: Out<'_>) {
        if is_resynced {
            let count = match flow.kind {
                EventKind::New => &mut self.new,
                EventKind::Update | EventKind::Entry => &mut self.update,
                EventKind::Delete => &mut self.destroy,
            };
            *count += 1;
        }
        let flow = *flow;
        f(Change::Flow {
            flow,
            is_resynced,
            received_at,
        });
    }
}

impl Follower {
    /// What the kernel can leave out of a dump.
    pub(super) fn dump_filter(&self) -> DumpFilter {
        let selection = self.selection.as_ref();
        selection.map_or_else(DumpFilter::new, Selection::dump_filter)
    }

    /// Whether flows like this one are kept. This stays the same while a flow lives.
    #[inline]
    pub(super) fn keeps(&self, flow: &Flow<'_>) -> bool {
        let selection = self.selection.as_ref();
        selection.is_none_or(|selection| selection.kept.matches(flow))
    }

    /// Whether a flow of which everything is known is shown.
    fn shows(&self, flow: &Flow<'_>) -> bool {
        let selection = self.selection.as_ref();
        selection.is_none_or(|selection| selection.shown.matches(flow))
    }

    /// Whether a kept flow is shown.
    pub(super) fn is_shown(&self, slot: Slot) -> bool {
        self.selection.is_none() || self.flows.is_shown(slot)
    }

    /// How many flows are shown.
    pub(super) fn shown_count(&self) -> usize {
        match self.selection {
            None => self.flows.live_count(),
            Some(_) => self.flows.shown_count(),
        }
    }

    /// Records whether a kept flow is shown after it has begun, changed or is about to end. Returns what this means to
    /// someone who sees only the shown flows. `None`: nothing.
    #[inline]
    fn note_shown(&mut self, slot: Slot, kind: EventKind) -> Option<EventKind> {
        let Some(selection) = &self.selection else {
            return Some(kind);
        };
        let was_shown = self.flows.is_shown(slot);
        let is_shown = kind != EventKind::Delete && {
            let flow = self.flows.flow(slot, kind, self.now_seconds);
            selection.shown.matches(&flow)
        };
        self.flows.set_shown(slot, is_shown);
        kind_if_shown(kind, was_shown, is_shown)
    }

    /// Hands out what is kept of a flow, instead of an event that was lost or never sent.
    pub(super) fn hand_out(&mut self, slot: Slot, kind: EventKind, f: Out<'_>) {
        if let Some(kind) = self.note_shown(slot, kind) {
            let flow = self.flows.flow(slot, kind, self.now_seconds);
            self.counts.hand_out(&flow, true, self.received_at, f);
        }
    }

    /// Hands out a flow that begins, which is kept in this slot if there was room.
    pub(super) fn hand_out_begun(
        &mut self,
        slot: Option<Slot>,
        flow: &Flow<'_>,
        is_resynced: bool,
        f: Out<'_>,
    ) {
        let is_shown = match slot {
            Some(slot) => self.note_shown(slot, flow.kind).is_some(),
            None => self.shows(flow),
        };
        if is_shown {
            self.counts.hand_out(flow, is_resynced, self.received_at, f);
        }
    }

    /// Hands out an event that has changed a kept flow.
    pub(super) fn hand_out_changed(&mut self, slot: Slot, flow: &Flow<'_>, f: Out<'_>) {
        match self.note_shown(slot, flow.kind) {
            None => {}
            Some(EventKind::New) => {
                let known = self.flows.known(slot);
                let begun = known.begun_with(flow, self.now_seconds);
                self.counts.hand_out(&begun, false, self.received_at, f);
            }
            Some(EventKind::Delete) => {
                let ended = Flow {
                    kind: EventKind::Delete,
                    observed_start: self.flows.entry(slot).start.observed(),
                    ..*flow
                };
                self.counts.hand_out(&ended, false, self.received_at, f);
            }
            Some(_) => self.counts.hand_out(flow, false, self.received_at, f),
        }
    }

    /// Hands out the event with which a kept flow ends. A flow that only matches now begins right before.
    pub(super) fn hand_out_ended(&mut self, slot: Slot, flow: &Flow<'_>, f: Out<'_>) {
        if self.note_shown(slot, EventKind::Delete).is_some() {
            return self.counts.hand_out(flow, false, self.received_at, f);
        }
        let mut last = self.flows.known(slot);
        last.entry.update(flow, self.now_seconds);
        last.entry.status &= !status::DYING;
        last.details.update(flow);
        self.hand_out_whole_life(&last, flow, f);
    }

    /// Hands out the beginning and the end of a flow of which only the end is known.
    pub(super) fn hand_out_whole_life(&mut self, last: &Known, end: &Flow<'_>, f: Out<'_>) {
        let begun = last.as_flow(EventKind::New, self.now_seconds);
        if self.shows(&begun) {
            self.counts.hand_out(&begun, true, self.received_at, f);
            self.counts.hand_out(end, false, self.received_at, f);
        }
    }
}
