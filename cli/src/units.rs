//! Sizes, times and rates: parsed from the command line, and formatted for people.

use std::fmt;
use std::time::Duration;

/// The largest SIZE: 1 GiB, because the kernel doubles it and counts in an i32.
const MOST_BYTES: u64 = 1 << 30;
/// The longest TIME: 365 days.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const SIZE_UNITS: [(&str, u64); 4] = [
    ("", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];
const TIME_UNITS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];
const TIME_REMEDY: &str =
    "give a number and its unit, us, ms, s, m, h or d, such as 100us, 1ms, 0.5s, 10s, 5m, 1h or 2d";

/// Reads a SIZE: bytes, or a whole number of KiB, MiB or GiB.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let (number, unit) = split_number(text);
    let factor = SIZE_UNITS
        .iter()
        .find_map(|(name, factor)| name.eq_ignore_ascii_case(unit).then_some(factor));
    let (Ok(number), Some(factor)) = (number.parse::<u64>(), factor) else {
        return Err(not_a_number_with_unit(
            number,
            "give bytes, or a whole number of KiB, MiB or GiB, such as 8MiB",
        ));
    };
    number
        .checked_mul(*factor)
        .filter(|bytes| (1..=MOST_BYTES).contains(bytes))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| "give from 1 byte to 1GiB".to_owned())
}

/// Reads a TIME: a number, which may have decimals, and its unit. It must be whole microseconds.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, rest) = split_number(text);
    let (decimals, unit) = match rest.strip_prefix('.') {
        Some(rest) => split_number(rest),
        None => ("0", rest),
    };
    let factor = TIME_UNITS
        .iter()
        .find_map(|(name, factor)| (*name == unit).then_some(*factor));
    let (Ok(whole), false, Some(factor)) = (number.parse::<u64>(), decimals.is_empty(), factor)
    else {
        return Err(not_a_number_with_unit(number, TIME_REMEDY));
    };
    let part = fraction_of(factor, decimals)
        .ok_or_else(|| "that is finer than a microsecond; give whole microseconds".to_owned())?;
    whole
        .checked_mul(factor)
        .and_then(|whole| whole.checked_add(part))
        .map(Duration::from_micros)
        .filter(|time| (Duration::from_micros(1)..=LONGEST).contains(time))
        .ok_or_else(|| "give from 1us to a year (365d)".to_owned())
}

/// Reads a rate, in events per second: a whole number, also with k (thousand) or M (million).
pub fn parse_rate(text: &str) -> Result<u32, String> {
    const REMEDY: &str = "give a whole number of events per second, such as 800, 50k or 1M";
    let (number, unit) = split_number(text);
    let factor = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        _ => return Err(REMEDY.to_owned()),
    };
    let number: u32 = number
        .parse()
        .map_err(|_| not_a_number_with_unit(number, REMEDY))?;
    let rate = number.checked_mul(factor);
    rate.ok_or_else(|| format!("the number is too large; {REMEDY}"))
}

/// `0.decimals` times `factor`. None: that is not a whole number.
fn fraction_of(factor: u64, decimals: &str) -> Option<u64> {
    let decimals = decimals.trim_end_matches('0');
    let scale = 10_u64.checked_pow(u32::try_from(decimals.len()).ok()?)?;
    let product = match decimals {
        "" => 0,
        decimals => decimals.parse::<u64>().ok()?.checked_mul(factor)?,
    };
    product.is_multiple_of(scale).then(|| product / scale)
}

/// The leading digits, and what follows them.
fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// The remedy, and the reason if the number needs more than 64 bits.
fn not_a_number_with_unit(number: &str, remedy: &str) -> String {
    if number.parse::<u64>().is_err() && !number.is_empty() {
        format!("the number is too large; {remedy}")
    } else {
        remedy.to_owned()
    }
}

/// Bytes for people: `8 MiB`, `204.3 KiB`, `17 bytes`.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((name, factor)) = SIZE_UNITS
            .iter()
            .rev()
            .find(|(_, factor)| *factor > 1 && self.0 >= *factor)
        else {
            return write!(f, "{} bytes", self.0);
        };
        if self.0.is_multiple_of(*factor) {
            write!(f, "{} {name}", self.0 / factor)
        } else {
            write!(f, "{:.1} {name}", ratio(self.0, *factor))
        }
    }
}

/// A time to the second or minute: `11 s`, `3 min`.
pub struct Rough(pub Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..120 => write!(f, "{} s", seconds + 1),
            seconds => write!(f, "{} min", seconds.div_ceil(60)),
        }
    }
}

/// The quotient of two counts, for people; 0 if `by` is 0.
#[allow(clippy::cast_precision_loss)] // beyond 2^53 the error is invisible
pub fn ratio(count: u64, by: u64) -> f64 {
    if by == 0 {
        0.0
    } else {
        count as f64 / by as f64
    }
}

/// Events per second, rounded; 0 if the time is 0.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // a figure for people, which saturates
pub fn rate(count: u64, time: Duration) -> u64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        (count as f64 / seconds).round() as u64
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_have_a_binary_unit() {
        for (text, want) in [
            ("1", 1),
            ("4096", 4096),
            ("8MiB", 8 << 20),
            ("8mib", 8 << 20),
            ("64KiB", 64 << 10),
            ("1GiB", 1 << 30),
            ("1073741824", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn bad_sizes_are_refused_with_the_remedy() {
        for text in [
            "", "MiB", "8M", "8MB", "8k", "-1", "1.5MiB", "8 MiB", " 8", "0x10", "8MiBs", "٣",
        ] {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains("KiB, MiB or GiB"), "{text}: {error}");
        }
        for text in ["0", "0MiB", "2GiB", "1073741825", "18446744073709551615GiB"] {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains("1GiB"), "{text}: {error}");
        }
        let error = parse_size("18446744073709551616").unwrap_err();
        assert!(error.contains("too large"), "{error}");
    }

    #[test]
    fn times_need_their_unit() {
        for (text, want) in [
            ("100us", Duration::from_micros(100)),
            ("1ms", Duration::from_millis(1)),
            ("10s", Duration::from_secs(10)),
            ("5m", Duration::from_secs(300)),
            ("525600m", LONGEST),
            ("0.5s", Duration::from_millis(500)),
            ("1.25ms", Duration::from_micros(1250)),
            ("1.50m", Duration::from_secs(90)),
            ("0.000001s", Duration::from_micros(1)),
            ("10.0us", Duration::from_micros(10)),
            ("1h", Duration::from_secs(3600)),
            ("2d", Duration::from_secs(2 * 86_400)),
            ("0.5d", Duration::from_secs(43_200)),
            ("365d", LONGEST),
        ] {
            assert_eq!(parse_time(text), Ok(want), "{text}");
        }
        for text in [
            "10", "", "s", "10S", "10 s", "1.s", ".5s", "1..5s", "1,5s", "-1s", "10min", "1w",
            "1.5",
        ] {
            let error = parse_time(text).unwrap_err();
            assert!(error.contains("us, ms, s, m, h or d"), "{text}: {error}");
        }
    }

    #[test]
    fn times_outside_the_range_are_refused() {
        for text in [
            "0s",
            "0us",
            "0.0s",
            "525601m",
            "366d",
            "18446744073709551615m",
        ] {
            let error = parse_time(text).unwrap_err();
            assert!(error.contains("1us to a year"), "{text}: {error}");
        }
        for text in ["0.5us", "1.0000001s", "0.00000000000000000000000000001d"] {
            let error = parse_time(text).unwrap_err();
            assert!(
                error.contains("finer than a microsecond"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn rates_may_be_in_thousands_and_millions() {
        for (text, want) in [("800", 800), ("50k", 50_000), ("2M", 2_000_000)] {
            assert_eq!(parse_rate(text), Ok(want), "{text}");
        }
        for text in [
            "",
            "k",
            "50K",
            "0.5k",
            "50 k",
            "-1",
            "50k/s",
            "4295M",
            "4294967296",
        ] {
            let error = parse_rate(text).unwrap_err();
            assert!(error.contains("800, 50k or 1M"), "{text}: {error}");
        }
        assert!(parse_rate("4295M").unwrap_err().contains("too large"));
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        for (bytes, want) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (16 << 20, "16 MiB"),
            (3 << 30, "3 GiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), want);
        }
    }

    #[test]
    fn a_rate_over_no_time_is_zero() {
        assert_eq!(rate(10, Duration::ZERO), 0);
        assert_eq!(rate(10, Duration::from_millis(500)), 20);
    }
}
