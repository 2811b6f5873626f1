//! Instants of the real-time clock, in nanoseconds since 1970 and as RFC 3339.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// An instant in nanoseconds since 1970.
///
/// An instant before 1970 gives 0, and one after 2554 gives [`u64::MAX`].
#[inline]
pub fn since_1970_ns(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanoseconds = u64::from(since.subsec_nanos());
    since
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

/// What the real-time clock (`CLOCK_REALTIME`, clock_gettime(2)) shows now, in nanoseconds since 1970.
pub fn realtime_now_ns() -> u64 {
    since_1970_ns(SystemTime::now())
}

/// An instant in UTC, to the microsecond, such as `2023-11-14T22:13:20.000005Z`.
///
/// An instant after the year 9999 gives that year's last one.
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
