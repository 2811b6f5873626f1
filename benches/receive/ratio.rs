//! Compares one way with another, by pairs of neighbouring runs.

use std::fmt;

/// The median of the pairs' ratios, and its 90 % confidence interval.
pub struct Ratio {
    median: f64,
    /// The interval. None: there are too few pairs.
    interval: Option<(f64, f64)>,
}

impl Ratio {
    pub fn of_pairs(pairs: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut ratios: Vec<f64> = pairs.map(|(own, base)| own / base).collect();
        ratios.sort_by(f64::total_cmp);
        let interval =
            outliers(ratios.len()).map(|count| (ratios[count - 1], ratios[ratios.len() - count]));
        Self {
            median: median(ratios.into_iter()),
            interval,
        }
    }
}

/// The interval goes from the n-th least to the n-th greatest ratio. Each is below the true median as a tossed coin
/// falls, so that the chance of fewer than n below it is a sum of binomial coefficients: it may be a twentieth.
fn outliers(count: usize) -> Option<usize> {
    let mut chance = 0.5f64.powi(count as i32);
    let mut fewer = 0.0;
    for below in 0..count {
        fewer += chance;
        if fewer > 0.05 {
            return (below > 0).then_some(below);
        }
        chance *= (count - below) as f64 / (below + 1) as f64;
    }
    None
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.interval {
            Some((low, high)) => format!("{:.2} ({low:.2}-{high:.2})", self.median),
            None => format!("{:.2}", self.median),
        };
        f.pad(&text)
    }
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}
