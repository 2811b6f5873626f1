//! Gaps in the stream of events, as records in it.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use nlring::Loss;

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

/// Nanoseconds since 1970. A clock set before that reads as 1970, one beyond 2554 as that year.
pub fn since_1970_ns(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// In UTC, to the microsecond. A clock set beyond year 9999 is shown at the end of time.
fn rfc3339(time: SystemTime) -> String {
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
