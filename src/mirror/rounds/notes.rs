//! The reasons for a round that a mirror records: losses, changes without an event, and room for entries that were left
//! out.

use std::mem;
use std::time::{Duration, Instant};

use super::{Repair, Rounds, Stage};
use crate::engine::Loss;
use crate::mirror::{ResyncReason, Table};
use crate::timestamp::Timestamp;

/// A round begins when nothing was recorded for this long: losses come in bursts, and one change causes several
/// messages.
pub(super) const CALM: Duration = Duration::from_millis(50);
/// A round begins at most this long after the first loss or change, even if more of them follow.
pub(super) const LONGEST_STORM: Duration = Duration::from_secs(1);

impl Rounds {
    /// Events are missing: a round under way is abandoned, and another will begin.
    pub(crate) fn note_loss(&mut self, loss: &Loss, table: &mut impl Table, now: Instant) {
        self.note(ResyncReason::Loss, loss.count, loss.since, now);
        self.begin_again(table, now);
    }

    /// A datagram could not be read.
    pub(crate) fn note_unreadable(&mut self, table: &mut impl Table, now: Instant) {
        self.note(ResyncReason::Loss, 1, Timestamp::now(), now);
        self.begin_again(table, now);
    }

    /// The kernel's table may have changed in a way that no event reports.
    pub(crate) fn note_change(&mut self, table: &mut impl Table, now: Instant) {
        if self.is_under_way() {
            // Starting over at each change might never end.
            table.note_silent_change();
            self.is_change_held = true;
            return;
        }
        self.note(ResyncReason::Change, 0, Timestamp::now(), now);
        if matches!(self.stage, Stage::Idle) {
            self.schedule.ask_after_change(now);
            self.plan(now);
        } // else the dump has not begun yet, and will have the change
    }

    /// There is room again for entries that were left out.
    pub(crate) fn note_room(&mut self, since: Timestamp, now: Instant) {
        self.note(ResyncReason::Room, 0, since, now);
        self.schedule.ask_for_room(now);
        self.plan(now);
    }

    pub(super) fn note(
        &mut self,
        reason: ResyncReason,
        lost_count: u64,
        since: Timestamp,
        now: Instant,
    ) {
        let repair = self.repair.get_or_insert(Repair {
            reason,
            lost_count: 0,
            since,
            noted_at: now,
        });
        repair.lost_count = repair.lost_count.saturating_add(lost_count);
        if matches!(repair.reason, ResyncReason::Change | ResyncReason::Room) {
            repair.reason = reason;
        }
    }

    /// Abandons the round under way because events are missing, and plans another one.
    pub(super) fn begin_again(&mut self, table: &mut impl Table, now: Instant) {
        if self.is_under_way() {
            self.note_failure(None);
        }
        self.abandon(table);
        table.note_missing_events();
        self.take_held_change(now);
        self.schedule.ask_after_loss(self.is_first(), now);
        self.plan(now);
    }

    /// Lets the next round also repair the change that happened during this one.
    pub(super) fn take_held_change(&mut self, now: Instant) {
        if mem::take(&mut self.is_change_held) {
            self.note(ResyncReason::Change, 0, self.dumped_since, now);
            self.schedule.ask_after_change(now);
        }
    }

    /// Plans the next round.
    pub(super) fn plan(&mut self, now: Instant) {
        self.due = match self.repair {
            Some(repair) => {
                let calm_at = (now + CALM).min(repair.noted_at + LONGEST_STORM);
                self.schedule.due(calm_at, now)
            }
            None => self.schedule.audit_due(now),
        };
    }
}
