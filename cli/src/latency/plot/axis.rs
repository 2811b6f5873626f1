//! Logarithmic axes of times in µs.

use std::ops::Range;

use crate::latency::ratio::as_f64;

/// An axis with fewer decades than this has ticks between them.
const FEW_DECADES: f64 = 2.2;
/// The smallest room at an end, as a factor on the outermost value.
const LEAST_ROOM: f64 = 1.5;

/// An axis for all values. The room at each end is this part of the values' span.
pub fn of(values: impl Iterator<Item = f64> + Clone, room: f64) -> (Range<f64>, Vec<f64>) {
    let least = values.clone().fold(f64::INFINITY, f64::min);
    let most = values.fold(0.0, f64::max);
    let factor = (most / least).powf(room).max(LEAST_ROOM);
    let (from, to) = (least / factor, most * factor);
    let steps: &[f64] = if (to / from).log10() < FEW_DECADES {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let decades = (-4..=10).map(|exponent| 10_f64.powi(exponent));
    let ticks = decades.flat_map(|decade| steps.iter().map(move |step| step * decade));
    (
        from..to,
        ticks.filter(|tick| (from..=to).contains(tick)).collect(),
    )
}

/// A time in µs, with the unit that suits its size.
pub fn name(micros: f64) -> String {
    match micros {
        1e6.. => format!("{} s", micros / 1e6),
        1e3.. => format!("{} ms", micros / 1e3),
        _ => format!("{} µs", (micros * 1e4).round() / 1e4),
    }
}

/// Latencies of 0 have no place on these axes.
pub fn micros(nanoseconds: u64) -> f64 {
    as_f64(nanoseconds.max(1)) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_decades_or_finer_where_these_are_few() {
        let (range, ticks) = of([2.0, 4000.0].into_iter(), 0.0);
        assert!(range.contains(&2.0) && range.contains(&4000.0));
        assert_eq!(ticks, [10.0, 100.0, 1000.0]);
        let (_, ticks) = of([0.7, 6.0].into_iter(), 0.1);
        assert_eq!(ticks, [0.5, 1.0, 2.0, 5.0]);
    }

    #[test]
    fn times_have_their_unit() {
        let names = [0.05, 2.0, 500.0, 1000.0, 20_000.0, 1e6].map(name);
        assert_eq!(names, ["0.05 µs", "2 µs", "500 µs", "1 ms", "20 ms", "1 s"]);
    }
}
