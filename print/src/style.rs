//! The output formats, and the lines that are the same for all kinds of events: gaps, resyncs, changes of sampling and
//! marks.
//!
//! To add a format, add a variant to [`Style`] and to the two enums that write events,
//! [`FlowFormat`](crate::conntrack::FlowFormat) and [`RouteFormat`](crate::route::RouteFormat). The compiler then names
//! every `match` that needs it: those of this file and of the two `format.rs`.

use nlring::Resync;
use nlring::conntrack::Sampling;

use crate::gap::{self, Gap};
use crate::origin::{self, NamespaceChange, Origin};
use crate::resync;
use crate::sampling;

/// An output format.
///
/// ```
/// use std::time::Duration;
/// use nlring::{Loss, Timestamp};
/// use nlring_print::{Gap, Style};
///
/// let since = Timestamp::from_ns(1_700_000_000_000_000_000);
/// let gap = Gap::Lost(Loss::new(3, since, since + Duration::from_millis(20)));
///
/// let mut line = Vec::new();
/// Style::Text.write_gap(&mut line, &gap);
/// let between = "2023-11-14T22:13:20.000000Z and 2023-11-14T22:13:20.020000Z";
/// assert_eq!(String::from_utf8_lossy(&line), format!(" [LOST] 3 datagrams between {between}\n"));
///
/// line.clear();
/// Style::Json.write_gap(&mut line, &gap);
/// assert_eq!(
///     String::from_utf8_lossy(&line),
///     r#"{"event":"lost","count":3,"since_ns":1700000000000000000,"until_ns":1700000000020000000}"#.to_owned() + "\n"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// The lines of `conntrack -E` and `ip monitor route`.
    Text,
    /// JSON lines: one object per line. docs/json.md describes their fields.
    Json,
}

impl Style {
    /// Appends the line of a gap and a newline.
    pub fn write_gap(self, out: &mut Vec<u8>, gap: &Gap<'_>) {
        match self {
            Self::Text => gap::write_text(out, gap),
            Self::Json => gap::write_json(out, gap),
        }
    }

    /// Appends the line of a resync, which says that a mirror's table equals the kernel's again, and a newline.
    pub fn write_resync(self, out: &mut Vec<u8>, resync: &Resync) {
        match self {
            Self::Text => resync::write_text(out, resync),
            Self::Json => resync::write_json(out, resync),
        }
    }

    /// Appends the line of a change of the ratio at which flows are sampled, and a newline.
    pub fn write_sampling(self, out: &mut Vec<u8>, sampling: &Sampling) {
        match self {
            Self::Text => sampling::write_text(out, sampling),
            Self::Json => sampling::write_json(out, sampling),
        }
    }

    /// Marks the event at the end of `out` as one that a mirror found by comparing, because the kernel's own was lost.
    ///
    /// `out` must end in the line of an event in the same style, with its newline.
    pub fn mark_resynced(self, out: &mut Vec<u8>) {
        match self {
            Self::Text => resync::mark_text(out),
            Self::Json => resync::mark_json(out),
        }
    }

    /// Appends the line that says that a namespace appeared or disappeared, and a newline.
    /// [`mark_origin`](Self::mark_origin) adds which one it was.
    pub fn write_namespace(self, out: &mut Vec<u8>, change: NamespaceChange) {
        match self {
            Self::Text => origin::write_text(out, change),
            Self::Json => origin::write_json(out, change),
        }
    }

    /// Adds the namespace that the event or line at `from` in `out` comes from: `[netns NAME]` before a text, the
    /// fields `netns` and `nsid` in an object. A text of several lines has it once. Nothing is added if `out` ends at
    /// `from`.
    pub fn mark_origin(self, out: &mut Vec<u8>, from: usize, origin: &Origin) {
        match self {
            Self::Text => origin::mark_text(out, from, origin),
            Self::Json => origin::mark_json(out, from, origin),
        }
    }
}
