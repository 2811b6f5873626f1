//! What a change of an entry means to someone who sees only the entries that match a filter.

use crate::event_kind::EventKind;

/// What a change of an entry means to someone who sees only the shown entries. `None`: nothing.
#[inline]
pub(crate) fn kind_if_shown(kind: EventKind, was_shown: bool, is_shown: bool) -> Option<EventKind> {
    match (was_shown, is_shown) {
        (false, false) => None,
        (false, true) => Some(EventKind::New),
        (true, true) => Some(kind),
        (true, false) => Some(EventKind::Delete),
    }
}
