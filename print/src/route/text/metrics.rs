//! The metrics of a route, as ip (iproute2 6.1) prints them.

use std::cmp::Ordering;
use std::io::Write as _;

use nlring::route::{MetricValue, Metrics, metric, metric_name};

use super::Line;
use crate::text::{write_decimal, write_escaped};

impl Line<'_> {
    /// Appends the metrics by number, each once. A locked metric is shown even without a value.
    pub(super) fn metrics(&mut self, metrics: Metrics<'_>) {
        let mut values = [None; metric::FASTOPEN_NO_COOKIE as usize + 1];
        for metric in metrics {
            if let Some(value) = values.get_mut(usize::from(metric.number)) {
                *value = value.or(Some(metric.value));
            }
        }
        let locks = metrics.lock_mask();
        for number in metric::MTU..=metric::FASTOPEN_NO_COOKIE {
            let value = values[usize::from(number)];
            let is_locked = locks & (1 << number) != 0;
            if value.is_some() || is_locked {
                self.metric(number, value.unwrap_or(MetricValue::Number(0)), is_locked);
            }
        }
    }

    fn metric(&mut self, number: u16, value: MetricValue<'_>, is_locked: bool) {
        if number == metric::HOPLIMIT && value == MetricValue::Number(u32::MAX) {
            return; // it means the system's default
        }
        self.text(metric_name(number).unwrap_or("metric"));
        self.text(if is_locked { " lock " } else { " " });
        match (number, value) {
            (_, MetricValue::Name(name)) => {
                write_escaped(self.out, name);
                self.text(" ");
            }
            (metric::FEATURES, MetricValue::Number(bits)) => self.features(bits),
            (metric::RTT, MetricValue::Number(value)) => self.milliseconds(value / 8),
            (metric::RTTVAR, MetricValue::Number(value)) => self.milliseconds(value / 4),
            (metric::RTO_MIN, MetricValue::Number(value)) => self.milliseconds(value),
            (_, MetricValue::Number(value)) => self.number("", value),
            _ => {}
        }
    }

    /// Appends the one bit that ip knows by name, and all bits in hexadecimal if there are others.
    fn features(&mut self, bits: u32) {
        if bits & 1 != 0 {
            self.text("ecn ");
        }
        if bits & !1 != 0 {
            self.hex("0x", u64::from(bits));
        }
    }

    /// Appends a time. From one second on it has the layout of C's `%g`: six significant digits, no zeros at the end,
    /// and an exponent from a million seconds on.
    fn milliseconds(&mut self, milliseconds: u32) {
        if milliseconds < 1000 {
            write_decimal(self.out, milliseconds);
            self.text("ms ");
            return;
        }
        let is_large = milliseconds >= 999_999_500; // rounds to a million seconds
        let (value, decimals) = if is_large {
            (f64::from(divide_evenly(milliseconds, 10_000)) / 1e5, 5)
        } else {
            let whole_digits = (milliseconds / 1000).ilog10() as usize;
            (f64::from(milliseconds) / 1e3, 5 - whole_digits)
        };
        let _ = write!(self.out, "{value:.decimals$}"); // writing to a Vec cannot fail
        while decimals > 0 && self.out.last() == Some(&b'0') {
            self.out.pop();
        }
        if self.out.last() == Some(&b'.') {
            self.out.pop();
        }
        self.text(if is_large { "e+06s " } else { "s " });
    }
}

/// A rounded quotient. A half is rounded to the even neighbour.
fn divide_evenly(value: u32, divisor: u32) -> u32 {
    let (quotient, doubled) = (value / divisor, u64::from(value % divisor) * 2);
    let is_up = match doubled.cmp(&u64::from(divisor)) {
        Ordering::Less => false,
        Ordering::Equal => quotient % 2 == 1,
        Ordering::Greater => true,
    };
    quotient + u32::from(is_up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{DeviceNames, IprouteNames};

    #[test]
    fn seconds_have_six_digits_that_count() {
        let times = [
            (999, "999ms "),
            (1000, "1s "),
            (1500, "1.5s "),
            (1_234_567, "1234.57s "),
            (100_000, "100s "),
            (120_030, "120.03s "),
            (999_999_499, "999999s "),
            (999_999_500, "1e+06s "),
            (1_234_565_000, "1.23456e+06s "),
            (1_234_575_000, "1.23458e+06s "),
            (u32::MAX, "4.29497e+06s "),
        ];
        for (milliseconds, want) in times {
            let mut out = Vec::new();
            Line {
                out: &mut out,
                devices: &DeviceNames::default(),
                names: &IprouteNames::built_in(),
            }
            .milliseconds(milliseconds);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
