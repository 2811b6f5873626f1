//! Instants, in nanoseconds since 1970.

use std::fmt;
use std::ops::Add;
use std::time::{Duration, SystemTime};

/// An instant by `CLOCK_REALTIME` (clock_gettime(2)): the number of nanoseconds since 1970-01-01 00:00 UTC, without
/// leap seconds.
///
/// The number is the `u64` in which the kernel sends instants and which serde writes. The last instant,
/// [`MAX`](Self::MAX), is in the year 2554. It converts from and into [`SystemTime`].
///
/// Its `Display` is RFC 3339 in UTC with six decimals, or with as many as the precision says, at most nine. Further
/// decimals are truncated, not rounded.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use nlring::Timestamp;
///
/// let start = Timestamp::from_ns(1_700_000_000_000_005_000);
/// assert_eq!(start.to_string(), "2023-11-14T22:13:20.000005Z");
/// assert_eq!(format!("{start:.0}"), "2023-11-14T22:13:20Z");
///
/// let stop = start + Duration::from_millis(2);
/// assert_eq!(stop.duration_since(start), Duration::from_millis(2));
/// assert_eq!(SystemTime::from(start), SystemTime::UNIX_EPOCH + Duration::from_nanos(start.as_ns()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01 00:00 UTC: 0 nanoseconds. No instant is earlier.
    pub const UNIX_EPOCH: Self = Self(0);
    /// The last instant: `u64::MAX` nanoseconds after 1970, in July 2554.
    pub const MAX: Self = Self(u64::MAX);

    /// The current time.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The instant of a number of nanoseconds since 1970.
    #[inline]
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// The number of nanoseconds since 1970.
    #[inline]
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is. Zero if `earlier` is later, which happens if the clock is set back.
    #[inline]
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A later instant, at most [`Timestamp::MAX`].
impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, passed: Duration) -> Self {
        Self(self.0.saturating_add(whole_ns(passed)))
    }
}

impl From<Timestamp> for SystemTime {
    /// The same instant.
    fn from(timestamp: Timestamp) -> Self {
        Self::UNIX_EPOCH + Duration::from_nanos(timestamp.0)
    }
}

impl From<SystemTime> for Timestamp {
    /// The same instant. One before 1970 becomes [`UNIX_EPOCH`](Self::UNIX_EPOCH), and one after 2554 becomes
    /// [`MAX`](Self::MAX).
    fn from(time: SystemTime) -> Self {
        let passed = time.duration_since(SystemTime::UNIX_EPOCH);
        Self(whole_ns(passed.unwrap_or_default()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ns) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        let decimals = f.precision().unwrap_or(6).min(9);
        if decimals > 0 {
            let cut_off = (decimals..9).fold(ns, |ns, _| ns / 10);
            write!(f, ".{cut_off:0decimals$}")?;
        }
        f.write_str("Z")
    }
}

/// Like `Display`, with nine decimals.
impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:.9}")
    }
}

/// At most `u64::MAX`.
fn whole_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The year, month and day of the Gregorian calendar, a number of days after 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    let leap_days = |year: u64| {
        let period = if year.is_multiple_of(100) { 400 } else { 4 };
        u64::from(year.is_multiple_of(period))
    };
    let mut year = 1970;
    while days >= 365 + leap_days(year) {
        days -= 365 + leap_days(year);
        year += 1;
    }
    let february = 28 + leap_days(year);
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instant_comes_back_from_system_time() {
        for ns in [0, 1, 999_999_999, 1_000_000_000, u64::MAX] {
            let timestamp = Timestamp::from_ns(ns);
            assert_eq!(Timestamp::from(SystemTime::from(timestamp)), timestamp);
            assert_eq!(timestamp.as_ns(), ns);
        }
    }

    #[test]
    fn instants_out_of_range_become_the_nearest_one() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(Timestamp::from(before), Timestamp::UNIX_EPOCH);
        let after = SystemTime::from(Timestamp::MAX) + Duration::from_nanos(1);
        assert_eq!(Timestamp::from(after), Timestamp::MAX);
        assert_eq!(Timestamp::MAX + Duration::from_nanos(1), Timestamp::MAX);
        assert_eq!(Timestamp::UNIX_EPOCH + Duration::MAX, Timestamp::MAX);
        assert_eq!(
            Timestamp::UNIX_EPOCH.duration_since(Timestamp::MAX),
            Duration::ZERO
        );
    }

    #[test]
    fn now_is_what_the_system_clock_shows() {
        let before = SystemTime::now();
        let now = SystemTime::from(Timestamp::now());
        assert!(before <= now && now <= SystemTime::now());
    }

    /// The expected dates are those of `date --utc --date @SECONDS`.
    #[test]
    fn instants_are_rfc_3339_in_utc() {
        let text = |seconds: u64| format!("{:.0}", Timestamp::from_ns(seconds * 1_000_000_000));
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (68_169_599, "1972-02-28T23:59:59Z"),
            (68_169_600, "1972-02-29T00:00:00Z"),
            (68_256_000, "1972-03-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (978_307_199, "2000-12-31T23:59:59Z"),
            (978_307_200, "2001-01-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (18_446_744_073, "2554-07-21T23:34:33Z"),
        ] {
            assert_eq!(text(seconds), expected);
        }
    }

    #[test]
    fn decimals_are_cut_off() {
        let timestamp = Timestamp::from_ns(1_700_000_000_012_345_678);
        let texts = [
            format!("{timestamp}"),
            format!("{timestamp:.1}"),
            format!("{timestamp:.12}"),
            format!("{timestamp:?}"),
        ];
        let decimals = texts.each_ref().map(|text| &text[19..]);
        assert_eq!(decimals, [".012345Z", ".0Z", ".012345678Z", ".012345678Z"]);
    }
}
