//! Gaps in the stream of events, as records in it.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use nlring::{Loss, Resync, ResyncReason};

/// What the kernel could not deliver when it was due.
#[derive(Clone, Copy, Debug)]
pub enum Gap {
    /// These datagrams are gone.
    Lost(Loss),
    /// So many deliveries failed, and some of them the kernel tries again.
    Delayed(Loss),
}

/// Appends a gap as a line of its own among those of events.
pub fn write_text(out: &mut Vec<u8>, gap: Gap) {
    let (name, of, loss) = match gap {
        Gap::Lost(loss) => ("LOST", "datagrams", loss),
        Gap::Delayed(loss) => ("DELAYED", "deliveries", loss),
    };
    let (since, until) = (rfc3339(loss.since), rfc3339(loss.until));
    let count = loss.count;
    // Writing to memory does not fail.
    _ = writeln!(out, " [{name}] {count} {of} between {since} and {until}");
}

/// Appends a gap as a JSON object.
pub fn write_json(out: &mut Vec<u8>, gap: Gap) {
    let (name, loss) = match gap {
        Gap::Lost(loss) => ("lost", loss),
        Gap::Delayed(loss) => ("delayed", loss),
    };
    let (since, until) = (since_1970_ns(loss.since), since_1970_ns(loss.until));
    let count = loss.count;
    _ = writeln!(
        out,
        r#"{{"event":"{name}","count":{count},"since_ns":{since},"until_ns":{until}}}"#
    );
}

/// Appends that a mirror's table is right again as a line of its own.
pub fn write_resync_text(out: &mut Vec<u8>, resync: &Resync) {
    let (since, until) = (rfc3339(resync.since), rfc3339(resync.until));
    let Resync {
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

/// Appends that a mirror's table is right again as a JSON object.
pub fn write_resync_json(out: &mut Vec<u8>, resync: &Resync) {
    let reason = match resync.reason {
        ResyncReason::Snapshot => "snapshot",
        ResyncReason::Loss => "loss",
        ResyncReason::Audit => "audit",
        _ => "change",
    };
    let (since, until) = (since_1970_ns(resync.since), since_1970_ns(resync.until));
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

/// Marks the event's text that `out` ends in as one that stands for what was missed.
pub fn mark_resynced_text(out: &mut Vec<u8>) {
    out.pop(); // the newline
    out.extend_from_slice(b" [RESYNCED]\n");
}

/// The same of a JSON object.
pub fn mark_resynced_json(out: &mut Vec<u8>) {
    out.truncate(out.len().saturating_sub(2)); // the brace and the newline
    out.extend_from_slice(b",\"resynced\":true}\n");
}

/// Nanoseconds since 1970. A clock set before that reads as 1970, one beyond 2554 as that year.
pub fn since_1970_ns(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The same of now.
pub fn now_ns() -> u64 {
    since_1970_ns(SystemTime::now())
}

/// In UTC, to the microsecond. A clock set beyond year 9999 is shown at the end of time.
pub fn rfc3339(time: SystemTime) -> String {
    format!("{:.6}", Timestamp::try_from(time).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn instants_are_rfc_3339_in_utc() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5_000);
        assert_eq!(rfc3339(time), "2023-11-14T22:13:20.000005Z");
        let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(rfc3339(whole), "1970-01-01T00:00:01.000000Z");
    }
}
