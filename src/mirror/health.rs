//! How far a mirror can be trusted.

use super::budget::Budget;
use crate::timestamp::Timestamp;

/// How far a mirror's table can be trusted, and what prevents its repair.
///
/// All counts except `failed_count` start when the mirror is created.
///
/// # Example
///
/// ```
/// use nlring::MirrorOptions;
/// use nlring::conntrack::Mirror;
///
/// let mirror = Mirror::new(MirrorOptions::new());
/// let health = mirror.health();
/// assert!(health.wrong_since.is_some(), "there was no dump yet");
/// assert_eq!((health.failed_count, health.error), (0, None));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MirrorHealth<'a> {
    /// Since when the table may differ from the kernel's, `CLOCK_REALTIME`. `None`: nothing is known to be missing.
    pub wrong_since: Option<Timestamp>,
    /// How many rounds in a row have failed: the kernel could not be asked, its answer could not be read, or events
    /// were lost during the round. 0: the last round was complete. The count saturates.
    pub failed_count: u32,
    /// When the first of these rounds failed, `CLOCK_REALTIME`. `None`: the last round was complete.
    pub failing_since: Option<Timestamp>,
    /// Why the last attempt to ask the kernel failed, in words for a person. `None`: it did not fail, or it failed
    /// because events were lost.
    pub error: Option<&'a str>,
    /// How many rounds have failed.
    pub failed_total_count: u64,
    /// How many audits were complete.
    pub audit_count: u64,
    /// In how many entries the audits found the table different from the kernel's.
    pub audit_difference_count: u64,
    /// Entries are missing because the table's memory is limited
    /// ([`MirrorOptions::memory_bytes`](super::MirrorOptions::memory_bytes)).
    pub is_full: bool,
    /// How often an entry was left out because the memory is limited: once for its event, and once for each dump that
    /// contained it.
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
