//! Resyncs of a mirror as lines, and the mark of the events that a mirror found by comparing.

use std::io::Write as _;

use nlring::{Resync, ResyncReason};

/// Appends a resync as a line that begins with ` [RESYNCED]`.
pub(crate) fn write_text(out: &mut Vec<u8>, resync: &Resync) {
    let Resync {
        since,
        until,
        entry_count,
        new_count,
        update_count,
        destroy_count,
        ..
    } = resync;
    _ = write!(
        out,
        " [RESYNCED] {entry_count} entries: {new_count} new, {update_count} changed, {destroy_count} gone, between \
         {since} and {until}"
    );
    out.extend_from_slice(if resync.is_interrupted {
        b"; the dump was interrupted, another follows\n"
    } else {
        b"\n"
    });
}

/// Appends a resync as a JSON object.
pub(crate) fn write_json(out: &mut Vec<u8>, resync: &Resync) {
    let reason = match resync.reason {
        ResyncReason::Snapshot => "snapshot",
        ResyncReason::Loss => "loss",
        ResyncReason::Audit => "audit",
        ResyncReason::Room => "room",
        _ => "change",
    };
    let (since, until) = (resync.since.as_ns(), resync.until.as_ns());
    let Resync {
        lost_count,
        entry_count,
        new_count,
        update_count,
        destroy_count,
        ..
    } = resync;
    let interrupted = if resync.is_interrupted {
        r#","interrupted":true"#
    } else {
        ""
    };
    _ = writeln!(
        out,
        r#"{{"event":"resynced","reason":"{reason}","lost":{lost_count},"entries":{entry_count},"new":{new_count},"update":{update_count},"destroy":{destroy_count}{interrupted},"since_ns":{since},"until_ns":{until}}}"#
    );
}

/// Marks the event's text at the end of `out` with ` [RESYNCED]`.
pub(crate) fn mark_text(out: &mut Vec<u8>) {
    out.pop(); // the newline
    out.extend_from_slice(b" [RESYNCED]\n");
}

/// Marks the JSON object at the end of `out` with `"resynced":true`.
pub(crate) fn mark_json(out: &mut Vec<u8>) {
    out.truncate(out.len().saturating_sub(2)); // the brace and the newline
    out.extend_from_slice(b",\"resynced\":true}\n");
}
