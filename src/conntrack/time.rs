//! Instants, which the kernel gives as nanoseconds since 1970.

use std::time::{Duration, SystemTime};

/// The instant of a number of nanoseconds since 1970. Any number fits: they end in 2554.
#[inline]
pub(super) fn from_ns(ns: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(ns)
}

/// The number of nanoseconds since 1970, at least 0 and at most `u64::MAX`.
#[inline]
pub(super) fn to_ns(time: SystemTime) -> u64 {
    let passed = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_comes_back() {
        for ns in [0, 1, 999_999_999, 1_000_000_000, u64::MAX] {
            assert_eq!(to_ns(from_ns(ns)), ns);
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(to_ns(before), 0);
        assert_eq!(to_ns(from_ns(u64::MAX) + Duration::from_secs(1)), u64::MAX);
    }
}
