//! What can be asked about how right a mirror is.

use std::time::SystemTime;

use super::budget::Budget;

/// How right a mirror's table is, and what stands in the way of repairing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MirrorHealth<'a> {
    /// Since when the table may differ from the kernel's, `CLOCK_REALTIME`. `None`: nothing is known to be missing.
    pub wrong_since: Option<SystemTime>,
    /// Rounds in a row that failed: the kernel could not be asked, its answer could not be read, or events were lost while it
    /// was read. 0 when the last round was complete.
    pub failed_count: u32,
    /// When the first of these failed, `CLOCK_REALTIME`.
    pub failing_since: Option<SystemTime>,
    /// Why the last attempt to ask the kernel failed, in words for a person. `None`: it did not fail, or it failed because
    /// events were lost.
    pub error: Option<&'a str>,
    /// Rounds that failed, since the beginning.
    pub failed_total_count: u64,
    /// Audits that were complete, since the beginning.
    pub audit_count: u64,
    /// Entries in which these found the table different from the kernel's.
    pub audit_difference_count: u64,
    /// Entries are missing because the table's memory is bounded (`MirrorOptions::memory_bytes`).
    pub is_full: bool,
    /// How often an entry was not kept for that reason, since the beginning: by its event, and by each dump that had it.
    pub left_out_count: u64,
}

impl MirrorHealth<'_> {
    /// Adds what is known about the table's memory.
    pub(crate) fn with_budget(mut self, budget: &Budget) -> Self {
        self.wrong_since = self.wrong_since.or(budget.short_since);
        (self.is_full, self.left_out_count) = (budget.is_short(), budget.left_out_count);
        self
    }
}
