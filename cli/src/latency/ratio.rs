//! Compares one measurement with another, in pairs that were taken shortly after each other, because a machine's speed
//! drifts.

use serde::{Serialize, Serializer};

/// The least confidence of an interval.
const CONFIDENCE: f64 = 0.9;

/// A median, and an interval for the true median.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    #[serde(serialize_with = "in_short")]
    pub median: f64,
    #[serde(serialize_with = "in_short")]
    pub low: f64,
    #[serde(serialize_with = "in_short")]
    pub high: f64,
    /// How often such an interval contains the true median. Five pairs give 90 %, four cannot.
    #[serde(serialize_with = "in_short")]
    pub confidence: f64,
}

/// The median of the pairs' ratios, first divided by second, and its interval by order statistics: the narrowest
/// symmetric one of at least 90 % confidence, otherwise from the smallest to the largest ratio. It assumes nothing
/// about the distribution of the ratios. None: there is no pair, or a second value is 0.
pub fn ratio_interval(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Interval> {
    let mut ratios: Vec<f64> = pairs.into_iter().map(|(own, base)| own / base).collect();
    if ratios.is_empty() || !ratios.iter().all(|ratio| ratio.is_finite()) {
        return None;
    }
    ratios.sort_by(f64::total_cmp);
    let (cut, confidence) = cut(ratios.len());
    Some(Interval {
        median: median(ratios.iter().copied()),
        low: ratios[cut],
        high: ratios[ratios.len() - 1 - cut],
        confidence,
    })
}

/// How many of `count` sorted values an interval may leave out at each end, and the confidence that it then has. Each
/// value is below the true median with probability 1/2, so the number of values below it has a binomial distribution.
fn cut(count: usize) -> (usize, f64) {
    let confidence = |cut: usize| {
        let (mut term, mut tail) = (0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX)), 0.0);
        for below in 0..=cut {
            tail += term;
            term *= as_f64((count - below) as u64) / as_f64(below as u64 + 1);
        }
        1.0 - 2.0 * tail
    };
    let most = (count - 1) / 2;
    let cut = (1..=most)
        .take_while(|&cut| confidence(cut) >= CONFIDENCE)
        .last();
    let cut = cut.unwrap_or(0);
    (cut, confidence(cut))
}

/// The middle value, or the mean of the two middle ones; NaN if there is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[allow(clippy::cast_precision_loss)] // counts, rates and nanoseconds of a run: below 2^53
pub fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Rounds to four decimals, because JSON would show a quotient with 17 digits.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
pub fn in_short<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((number * 1e4).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ratios: &[f64]) -> Interval {
        let pairs = ratios.iter().map(|ratio| (2.0 * ratio, 2.0));
        ratio_interval(pairs).expect("an interval")
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert!(median([]).is_nan());
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    #[allow(clippy::float_cmp)] // they are copied, not computed
    fn few_pairs_give_their_range_and_its_confidence() {
        let three = of(&[0.5, 2.0, 1.0]);
        assert_eq!((three.low, three.median, three.high), (0.5, 1.0, 2.0));
        assert_eq!(three.confidence, 0.75);
        let one = of(&[0.5]);
        assert_eq!((one.low, one.high, one.confidence), (0.5, 0.5, 0.0));
        let five = of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!((five.low, five.high, five.confidence), (1.0, 5.0, 0.9375));
    }

    /// Ranks from the usual tables for a median's confidence interval.
    #[test]
    #[allow(clippy::float_cmp)] // they are copied, not computed
    fn many_pairs_leave_outliers_out() {
        for (count, low, confidence) in [
            (8, 2, 0.9297),
            (10, 2, 0.9785),
            (11, 3, 0.9346),
            (20, 6, 0.9586),
        ] {
            let ratios: Vec<f64> = (1..=count).map(f64::from).collect();
            let interval = of(&ratios);
            assert_eq!(interval.low, f64::from(low), "of {count}");
            assert_eq!(interval.high, f64::from(count + 1 - low), "of {count}");
            assert!(
                (interval.confidence - confidence).abs() < 1e-4,
                "{interval:?}"
            );
        }
    }

    #[test]
    fn no_pairs_or_no_reference_give_none() {
        assert_eq!(ratio_interval([]), None);
        assert_eq!(ratio_interval([(1.0, 0.0)]), None);
        assert_eq!(ratio_interval([(0.0, 0.0)]), None);
    }
}
