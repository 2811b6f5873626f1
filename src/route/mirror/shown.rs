//! Which routes a mirror shows, and how it hands out what happens to them.
//!
//! A mirror with a filter keeps all routes whose place and metric match, because an event that replaces a route names
//! only the new one. It shows those that match the whole filter. Each kept route has a bit that says whether it is
//! shown. When the bit changes, the route begins or ends for the receiver of the changes.

use super::Change;
use super::fib::{Dump, Fib};
use super::kept;
use super::slots::bits;
use crate::Family;
use crate::error::Result;
use crate::event_kind::EventKind;
use crate::message::Message;
use crate::mirror::{Slot, kind_if_shown};
use crate::route::{DumpFilter, Filter, Route};

/// Which routes a mirror keeps, and which of them it shows.
#[derive(Debug)]
pub(super) struct Selection {
    kept: Filter,
    shown: Filter,
}

impl Selection {
    /// `None`: all routes are kept and shown.
    pub(super) fn of(filter: Filter) -> Result<Option<Self>> {
        let kept = filter.constant_part()?;
        let shown = filter;
        Ok((!shown.is_all()).then_some(Self { kept, shown }))
    }

    /// What the kernel can leave out of a dump: routes of other tables. The dump has all families, because the kernel
    /// builds a dump of one family without the lock of all network configuration (Linux v6.18, `inet_dump_fib` and
    /// `inet6_dump_fib` are registered with `RTNL_FLAG_DUMP_UNLOCKED`). It reports the end of an IPv4 route before it
    /// removes the route, so such a dump could restore the route.
    pub(super) fn dump_filter(&self) -> DumpFilter {
        self.kept.dump_filter().family(Family::UNSPEC)
    }
}

impl Fib {
    /// What the kernel can leave out of a dump.
    pub(super) fn dump_filter(&self) -> DumpFilter {
        let selection = self.selection.as_ref();
        selection.map_or_else(DumpFilter::new, Selection::dump_filter)
    }

    /// Whether routes like this one are kept. This is the same for all routes with a key.
    pub(super) fn keeps(&self, route: &Route<'_>) -> bool {
        let selection = self.selection.as_ref();
        selection.is_none_or(|selection| selection.kept.matches(route))
    }

    /// Whether a route is shown, if it is kept.
    fn shows(&self, route: &Route<'_>) -> bool {
        let selection = self.selection.as_ref();
        selection.is_none_or(|selection| selection.shown.matches(route))
    }

    /// Whether a kept route that was handed out is shown.
    pub(super) fn is_shown(&self, slot: Slot) -> bool {
        self.selection.is_none() || self.slots.is_shown(slot)
    }

    /// How many routes are shown.
    pub(super) fn len(&self) -> usize {
        match self.selection {
            None => self.slots.handed_out_count(),
            Some(_) => self.slots.shown_count(),
        }
    }

    /// Takes the event of a route that is not kept. Its deletion may make a dump skip routes that are.
    pub(super) fn feed_other(&mut self, message: &Message<'_>, route: &Route<'_>) {
        if self.dump != Dump::Reading || route.kind != EventKind::Delete {
            return;
        }
        match route.family {
            Family::INET6 => self.may_have_skipped_ipv6 = true,
            Family::INET => {
                self.with_candidate(message, route, |fib, candidate| fib.bury(candidate, 0));
            }
            _ => {}
        }
    }

    /// Records whether a kept route is shown after it was added, has changed or is about to be deleted. Returns what
    /// this means to someone who sees only the shown routes. `None`: nothing.
    fn note_shown(&mut self, slot: Slot, kind: EventKind) -> Option<EventKind> {
        let Some(selection) = &self.selection else {
            return Some(kind);
        };
        let was_shown = self.slots.is_shown(slot);
        let is_shown = kind != EventKind::Delete
            && kept::route(self.slots.bytes(slot), kind)
                .is_some_and(|route| selection.shown.matches(&route));
        self.slots.set_shown(slot, is_shown);
        kind_if_shown(kind, was_shown, is_shown)
    }

    /// Hands out the event of a route that found no room, if the event itself matches.
    pub(super) fn hand_out_left_out(&self, route: &Route<'_>, f: &mut impl FnMut(Change<'_>)) {
        if self.hands_out && self.shows(route) {
            f(Change::of(route, false));
        }
    }

    /// Hands out the event of a route that was handed out before or begins now, after its slot has been updated from
    /// the event.
    pub(super) fn hand_out_event(
        &mut self,
        slot: Slot,
        route: &Route<'_>,
        f: &mut impl FnMut(Change<'_>),
    ) {
        if self.slots.has(slot, bits::HANDED_OUT)
            && let Some(kind) = self.note_shown(slot, route.kind)
        {
            f(Change::of(&Route { kind, ..*route }, false));
        }
    }

    pub(super) fn hand_out_new(&mut self, slot: Slot, f: &mut impl FnMut(Change<'_>)) {
        self.hand_out(slot, EventKind::New, f);
    }

    pub(super) fn hand_out_update(&mut self, slot: Slot, f: &mut impl FnMut(Change<'_>)) {
        self.hand_out(slot, EventKind::Update, f);
    }

    pub(super) fn hand_out_delete(&mut self, slot: Slot, f: &mut impl FnMut(Change<'_>)) {
        self.hand_out(slot, EventKind::Delete, f);
    }

    /// Hands out and counts a change that no event reported.
    fn hand_out(&mut self, slot: Slot, kind: EventKind, f: &mut impl FnMut(Change<'_>)) {
        if !self.slots.has(slot, bits::HANDED_OUT) {
            return;
        }
        let Some(kind) = self.note_shown(slot, kind) else {
            return;
        };
        let (count, kind) = match kind {
            EventKind::New => (&mut self.counts.new, kind),
            EventKind::Update | EventKind::Entry => (&mut self.counts.update, EventKind::New),
            EventKind::Delete => (&mut self.counts.delete, kind),
        };
        *count += 1;
        if let Some(route) = kept::route(self.slots.bytes(slot), kind) {
            f(Change::of(&route, true));
        }
    }
}
