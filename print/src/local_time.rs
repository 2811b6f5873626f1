//! Instants in the local time zone, in the layouts of other commands.

use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use nlring::Timestamp;

use crate::text::{write_decimal, write_padded};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// The local time zone, in which instants are written.
#[derive(Debug)]
pub struct LocalTime {
    zone: TimeZone,
}

impl LocalTime {
    /// The zone of the environment variable `TZ`, otherwise of /etc/localtime. If neither can be read, it is UTC.
    ///
    /// This reads files: call it once, not for each line.
    pub fn system() -> Self {
        Self {
            zone: TimeZone::system(),
        }
    }

    /// Appends an instant in the layout of ctime(3): `Tue Nov 24 08:12:31 2026`.
    pub fn write_ctime(&self, out: &mut Vec<u8>, time: Timestamp) {
        let time = self.at(time);
        out.extend_from_slice(weekday_name(time.weekday()).as_bytes());
        out.push(b' ');
        let month = usize::from(time.month().unsigned_abs()) - 1;
        out.extend_from_slice(MONTHS[month].as_bytes());
        out.extend_from_slice(if time.day() < 10 { b"  " } else { b" " });
        write_decimal(out, time.day());
        out.push(b' ');
        write_clock(out, time);
        out.push(b' ');
        write_decimal(out, time.year());
    }

    /// Appends an instant in the layout of `ip -ts`: `2026-11-24T08:12:31.274061`.
    pub fn write_iso(&self, out: &mut Vec<u8>, time: Timestamp) {
        let ns = time.as_ns() % 1_000_000_000;
        let time = self.at(time);
        write_padded(out, u64::from(time.year().unsigned_abs()), 4);
        for part in [time.month(), time.day()] {
            out.push(b'-');
            write_padded(out, u64::from(part.unsigned_abs()), 2);
        }
        out.push(b'T');
        write_clock(out, time);
        out.push(b'.');
        write_padded(out, ns / 1000, 6);
    }

    /// The local time of an instant, to the second.
    fn at(&self, time: Timestamp) -> DateTime {
        let seconds = i64::try_from(time.as_ns() / 1_000_000_000).unwrap_or(i64::MAX);
        // jiff's instants end in the year 9999, these in 2554.
        let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
        self.zone.to_datetime(time)
    }
}

fn write_clock(out: &mut Vec<u8>, time: DateTime) {
    let parts = [time.hour(), time.minute(), time.second()];
    for (index, part) in parts.into_iter().enumerate() {
        if index != 0 {
            out.push(b':');
        }
        write_padded(out, u64::from(part.unsigned_abs()), 2);
    }
}

fn weekday_name(weekday: Weekday) -> &'static str {
    match weekday {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(posix: &str) -> LocalTime {
        LocalTime {
            zone: TimeZone::posix(posix).unwrap(),
        }
    }

    #[test]
    fn both_layouts_are_right_in_summer_and_winter() {
        let zone = zone("CET-1CEST,M3.5.0,M10.5.0/3");
        // The last second before summer time and its first, then the end of the second hour called 02 on its last day.
        let times = [
            (
                1_774_745_999,
                "Sun Mar 29 01:59:59 2026",
                "2026-03-29T01:59:59.000000",
            ),
            (
                1_774_746_000,
                "Sun Mar 29 03:00:00 2026",
                "2026-03-29T03:00:00.000000",
            ),
            (
                1_792_889_999,
                "Sun Oct 25 02:59:59 2026",
                "2026-10-25T02:59:59.000000",
            ),
            (
                1_792_890_000,
                "Sun Oct 25 02:00:00 2026",
                "2026-10-25T02:00:00.000000",
            ),
            (0, "Thu Jan  1 01:00:00 1970", "1970-01-01T01:00:00.000000"),
            (
                18_446_744_073,
                "Mon Jul 22 01:34:33 2554",
                "2554-07-22T01:34:33.000000",
            ),
        ];
        for (seconds, ctime, iso) in times {
            let (mut as_ctime, mut as_iso) = (Vec::new(), Vec::new());
            let time = Timestamp::from_ns(seconds * 1_000_000_000);
            zone.write_ctime(&mut as_ctime, time);
            zone.write_iso(&mut as_iso, time);
            assert_eq!(String::from_utf8(as_ctime).unwrap(), ctime);
            assert_eq!(String::from_utf8(as_iso).unwrap(), iso);
        }
    }

    #[test]
    fn microseconds_are_padded_and_the_rest_is_cut_off() {
        let zone = zone("UTC0");
        let mut out = Vec::new();
        zone.write_iso(&mut out, Timestamp::from_ns(1_000_042_999));
        assert_eq!(out, b"1970-01-01T00:00:01.000042");
    }
}
