//! What a mirror of flows hands out.

#[cfg(doc)]
use super::Mirror;
use crate::conntrack::Flow;
use crate::mirror::Resync;
use crate::timestamp::Timestamp;

/// What a [`Mirror`] hands out.
///
/// # Example
///
/// ```
/// use nlring::EventKind;
/// use nlring::conntrack::Change;
///
/// /// Counts the flows that exist.
/// fn count(change: &Change<'_>, flow_count: &mut usize) {
///     match change {
///         Change::Flow { flow, .. } if flow.kind == EventKind::New => *flow_count += 1,
///         Change::Flow { flow, .. } if flow.kind == EventKind::Delete => *flow_count -= 1,
///         Change::Resynced(resync) => assert_eq!(*flow_count, resync.entry_count),
///         _ => {}
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are of the large one, and none is kept"
)]
pub enum Change<'a> {
    /// A flow has begun, changed or ended.
    Flow {
        /// The flow. If the kernel sent the event, it has everything from the event.
        flow: Flow<'a>,
        /// The change stands for an event that was lost or that the kernel never sent. The flow has the values that the
        /// mirror keeps.
        is_resynced: bool,
        /// When the event was received, also if the mirror held it for its first dump. If no event was received: when
        /// the mirror hands the change out.
        received_at: Timestamp,
    },
    /// The table equals the kernel's, again or for the first time.
    Resynced(Resync),
}
