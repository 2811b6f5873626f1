//! What a message says about an entry of one of the kernel's tables.

use std::fmt;

/// What a message says about a flow, an expectation, a route, a device or a device's address.
///
/// The kernel sends events to multicast groups, and entries in answer to requests. Each decoded message has a kind,
/// so one callback can read both.
///
/// ```
/// use nlring::EventKind;
///
/// assert_eq!(EventKind::Delete.to_string(), "delete");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was added. For routes, devices and addresses it may also have changed: the kernel sends the same message for
    /// both.
    New,
    /// A flow changed.
    Update,
    /// It was deleted.
    Delete,
    /// Nothing happened to it: this is an entry of a dump, the answer to a request, or an entry of a mirror. In the
    /// kernel's messages the flag [`MULTI`](crate::message::flags::MULTI) marks entries. The answer to a request for
    /// one route lacks it, so only [`route::Requests::get`](crate::route::Requests::get) recognises it as an entry.
    Entry,
}

impl EventKind {
    /// The kind in lower case, such as `"new"`.
    #[inline]
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Entry => "entry",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
