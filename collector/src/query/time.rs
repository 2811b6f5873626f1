//! Times as people write them. A time covers everything that it leaves open: `14:03:07` means that whole second.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};

const SECOND_NS: i64 = 1_000_000_000;

/// From the first to the last nanosecond that a text covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub first_ns: i64,
    pub last_ns: i64,
}

impl Moment {
    /// Reads RFC 3339, a local time without a zone, a local day, or a time before now: `-2h`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(ago) = text.strip_prefix('-') {
            return before_now(ago).ok_or_else(|| wrong(text));
        }
        if let Ok(date) = text.parse::<Date>()
            && !text.contains(['T', ' '])
        {
            return Self::of_local(date.into(), 1.day()).ok_or_else(|| wrong(text));
        }
        let precision = precision_ns(text);
        if let Ok(instant) = text.parse::<Timestamp>() {
            let first = i64::try_from(instant.as_nanosecond()).ok();
            let moment = first.and_then(|first| Self::of_length(first, precision));
            return moment.ok_or_else(|| wrong(text));
        }
        let local = text.parse::<DateTime>().ok();
        local
            .and_then(|local| Self::of_local(local, precision.nanoseconds()))
            .ok_or_else(|| wrong(text))
    }

    fn of_length(first_ns: i64, length_ns: i64) -> Option<Self> {
        let last_ns = first_ns.checked_add(length_ns - 1)?;
        Some(Self { first_ns, last_ns })
    }

    fn of_local(first: DateTime, length: Span) -> Option<Self> {
        let instant = |local: DateTime| {
            let instant = TimeZone::system().to_timestamp(local).ok()?;
            i64::try_from(instant.as_nanosecond()).ok()
        };
        Some(Self {
            first_ns: instant(first)?,
            last_ns: instant(first.checked_add(length).ok()?)? - 1,
        })
    }
}

/// `2h`, `90s`, `3d`.
fn before_now(text: &str) -> Option<Moment> {
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit())?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let ago = number.parse::<i64>().ok()?.checked_mul(seconds)?;
    let first = Timestamp::now().as_second().checked_sub(ago)?;
    Moment::of_length(first.checked_mul(SECOND_NS)?, SECOND_NS)
}

/// The length of the time that the text covers: a minute, a second, or a part of one.
fn precision_ns(text: &str) -> i64 {
    let time = text.split(['T', 't', ' ']).nth(1).unwrap_or_default();
    let time = time
        .split(['Z', 'z', '+', '-', '['])
        .next()
        .unwrap_or_default();
    if time.matches(':').count() == 1 {
        return 60 * SECOND_NS;
    }
    let decimals = time
        .split_once(['.', ','])
        .map_or(0, |(_, part)| part.len());
    (0..decimals.min(9)).fold(SECOND_NS, |ns, _| ns / 10)
}

fn wrong(text: &str) -> String {
    format!(
        "{text:?} is not a time; use 2026-11-28T14:03:07Z, 2026-11-28T14:03 (local time), 2026-11-28 or -2h"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(text: &str) -> i64 {
        let moment = Moment::parse(text).unwrap_or_else(|error| panic!("{error}"));
        moment.last_ns - moment.first_ns + 1
    }

    #[test]
    fn a_time_stands_for_all_of_what_it_leaves_out() {
        let second = Moment::parse("2026-11-28T14:03:07Z").expect("a time");
        assert_eq!(second.first_ns, 1_795_874_587 * SECOND_NS);
        assert_eq!(length("2026-11-28T14:03:07Z"), SECOND_NS);
        assert_eq!(length("2026-11-28T14:03:07.5Z"), SECOND_NS / 10);
        assert_eq!(length("2026-11-28T14:03:07.123456789+02:00"), 1);
        assert_eq!(length("2026-11-28 14:03"), 60 * SECOND_NS);
        assert_eq!(length("2026-11-20"), 86_400 * SECOND_NS);
        assert_eq!(length("-2h"), SECOND_NS);
    }

    #[test]
    fn what_is_no_time_is_an_error_that_shows_one() {
        for text in ["", "yesterday", "-2", "-2y", "2026-13-01", "14:03"] {
            let error = Moment::parse(text).expect_err(text);
            assert!(error.contains("2026-11-28T14:03:07Z"), "{error}");
        }
    }
}
