//! A histogram of latencies: the time from an event to its arrival in the program.

use std::fmt;
use std::io::{self, Write};

use hdrhistogram::Histogram;

/// The number of significant digits that the histogram keeps.
const DIGITS: u8 = 3;
/// The number of steps in each half of the distance to 100 %, as in HdrHistogram's own tools.
const STEPS_PER_HALF_DISTANCE: u32 = 5;

/// Records latencies of up to an hour in nanoseconds, accurate to 0.1 %. It takes about 300 KiB, however many it
/// records.
///
/// Recording allocates nothing and never fails. A latency of more than an hour counts as an hour. A negative latency,
/// for example because the clock was set, is counted but not recorded. With several threads, give each its own recorder
/// and [`merge`](Self::merge) them.
///
/// # Example
///
/// ```
/// use nlring::latency::Recorder;
///
/// let mut recorder = Recorder::new();
/// for latency_ns in 1..=1000 {
///     recorder.record_ns(latency_ns * 1000);
/// }
/// recorder.record_between(1_795_507_684_000_000_000, 1_795_507_683_000_000_000); // the clock was set
///
/// assert_eq!(recorder.count(), 1000);
/// assert_eq!(recorder.negative_count(), 1);
/// assert_eq!(recorder.percentile_ns(50.0) / 1000, 500);
/// assert!(recorder.percentile_ns(99.9) <= recorder.max_ns());
/// ```
///
/// `examples/latency.rs` records what a conntrack collector sees.
#[derive(Clone)]
pub struct Recorder {
    histogram: Histogram<u64>,
    negative_count: u64,
    too_long_count: u64,
}

impl Recorder {
    /// The longest latency that is recorded unchanged: one hour.
    pub const MAX_NS: u64 = 3_600_000_000_000;

    /// An empty recorder. It allocates all its memory here.
    pub fn new() -> Self {
        let Ok(histogram) = Histogram::new_with_bounds(1, Self::MAX_NS, DIGITS) else {
            unreachable!("a histogram accepts these bounds and digits")
        };
        Self {
            histogram,
            negative_count: 0,
            too_long_count: 0,
        }
    }

    /// Records a latency. One above [`MAX_NS`](Self::MAX_NS) is recorded as `MAX_NS`, and counted as too long.
    #[inline]
    pub fn record_ns(&mut self, latency_ns: u64) {
        self.too_long_count += u64::from(latency_ns > Self::MAX_NS);
        self.histogram
            .saturating_record(latency_ns.min(Self::MAX_NS));
    }

    /// Records the time between two readings of one clock. A negative time is counted but not recorded.
    #[inline]
    pub fn record_between(&mut self, from_ns: u64, until_ns: u64) {
        match until_ns.checked_sub(from_ns) {
            Some(latency_ns) => self.record_ns(latency_ns),
            None => self.negative_count += 1,
        }
    }

    /// Adds the latencies of another recorder.
    pub fn merge(&mut self, other: &Self) {
        self.histogram += &other.histogram; // both have the same bounds, so nothing is left out
        self.negative_count += other.negative_count;
        self.too_long_count += other.too_long_count;
    }

    /// How many latencies were recorded, including those that were too long.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// How many latencies were negative, and therefore not recorded.
    pub fn negative_count(&self) -> u64 {
        self.negative_count
    }

    /// How many latencies were longer than [`MAX_NS`](Self::MAX_NS).
    pub fn too_long_count(&self) -> u64 {
        self.too_long_count
    }

    /// The latency that this percentage of the recorded ones, from 0 to 100, did not exceed. 0 if there are none.
    pub fn percentile_ns(&self, percentile: f64) -> u64 {
        self.histogram.value_at_quantile(percentile / 100.0)
    }

    /// The longest latency. 0 if nothing was recorded.
    pub fn max_ns(&self) -> u64 {
        self.histogram.max()
    }

    /// The arithmetic mean, which says less than percentiles. 0 if nothing was recorded.
    pub fn mean_ns(&self) -> f64 {
        self.histogram.mean()
    }

    /// Writes the distribution in the format of HdrHistogram's `outputPercentileDistribution`, in microseconds, which
    /// its plotters read.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn write_percentiles(&self, mut to: impl Write) -> io::Result<()> {
        writeln!(
            to,
            "{:>12} {:>14} {:>10} {:>14}\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        )?;
        let mut count = 0;
        for step in self.histogram.iter_quantiles(STEPS_PER_HALF_DISTANCE) {
            count += step.count_since_last_iteration();
            let (value, quantile) = (
                micros(step.value_iterated_to()),
                step.quantile_iterated_to(),
            );
            write!(to, "{value:12.3} {quantile:2.12} {count:10}")?;
            match 1.0 - quantile {
                0.0 => writeln!(to)?, // the last one
                left => writeln!(to, " {:14.2}", 1.0 / left)?,
            }
        }
        self.write_footer(to)
    }

    fn write_footer(&self, mut to: impl Write) -> io::Result<()> {
        let histogram = &self.histogram;
        writeln!(
            to,
            "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
            histogram.mean() / 1000.0,
            histogram.stdev() / 1000.0
        )?;
        writeln!(
            to,
            "#[Max     = {:12.3}, Total count    = {:12}]",
            micros(histogram.max()),
            histogram.len()
        )?;
        // Twice 10^digits, as a power of two.
        let sub_bucket_count = (2 * 10_u32.pow(DIGITS.into())).next_power_of_two();
        writeln!(
            to,
            "#[Buckets = {:12}, SubBuckets     = {sub_bucket_count:12}]",
            histogram.buckets()
        )
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("count", &self.count())
            .field("p50_ns", &self.percentile_ns(50.0))
            .field("p99_ns", &self.percentile_ns(99.0))
            .field("max_ns", &self.max_ns())
            .field("negative_count", &self.negative_count)
            .field("too_long_count", &self.too_long_count)
            .finish_non_exhaustive()
    }
}

#[allow(clippy::cast_precision_loss)] // an hour has 2^42 nanoseconds
fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(recorder: &Recorder) -> String {
        let mut text = Vec::new();
        recorder
            .write_percentiles(&mut text)
            .expect("a write to memory succeeds");
        String::from_utf8(text).expect("a text")
    }

    #[test]
    fn an_empty_histogram_is_zero_everywhere() {
        let recorder = Recorder::new();
        assert_eq!((recorder.count(), recorder.max_ns()), (0, 0));
        assert_eq!(recorder.percentile_ns(99.9), 0);
        assert!(text(&recorder).contains("Total count    =            0]"));
    }

    #[test]
    fn values_out_of_range_are_counted_and_never_fatal() {
        let mut recorder = Recorder::new();
        recorder.record_ns(0);
        recorder.record_ns(Recorder::MAX_NS);
        assert_eq!(recorder.too_long_count(), 0);
        recorder.record_ns(Recorder::MAX_NS + 1);
        recorder.record_between(0, u64::MAX);
        recorder.record_between(u64::MAX, 0);
        recorder.record_between(5, 5);
        assert_eq!((recorder.count(), recorder.negative_count()), (5, 1));
        assert_eq!(recorder.too_long_count(), 2);
        assert!(recorder.max_ns() >= Recorder::MAX_NS);
    }

    #[test]
    fn values_are_kept_to_a_thousandth() {
        let mut recorder = Recorder::new();
        for latency_ns in [1, 999, 1001, 123_456, 98_765_432, 3_500_000_000_001] {
            recorder = Recorder::new();
            recorder.record_ns(latency_ns);
            let kept_ns = recorder.percentile_ns(50.0);
            assert!(kept_ns >= latency_ns && kept_ns - latency_ns <= latency_ns / 1000);
        }
        assert_eq!(recorder.count(), 1);
    }

    #[test]
    fn merged_histograms_equal_one_that_recorded_everything() {
        let (mut both, mut even, mut odd) = (Recorder::new(), Recorder::new(), Recorder::new());
        for number in 0..10_000 {
            let one = if number % 2 == 0 { &mut even } else { &mut odd };
            for recorder in [&mut both, one] {
                recorder.record_between(5000, number * number);
            }
        }
        even.merge(&odd);
        assert_eq!(text(&even), text(&both));
        assert_eq!(even.negative_count(), both.negative_count());
        assert!(even.negative_count() > 0);
    }

    /// The layout is that of the Java class. A recorded value stands for the highest value that it cannot be
    /// distinguished from.
    #[test]
    fn percentiles_are_written_as_hdrhistogram_does() {
        let mut recorder = Recorder::new();
        for latency_ns in [1000, 2000, 3000, 4000] {
            recorder.record_ns(latency_ns);
        }
        let text = text(&recorder);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "       Value     Percentile TotalCount 1/(1-Percentile)"
        );
        assert_eq!(lines[1], "");
        assert_eq!(
            lines[2],
            "       1.000 0.000000000000          1           1.00"
        );
        let last = lines.iter().rfind(|line| !line.starts_with('#'));
        assert_eq!(last, Some(&"       4.001 1.000000000000          4"));
        assert!(
            lines.contains(&"#[Max     =        4.001, Total count    =            4]"),
            "{text}"
        );
        assert!(
            text.ends_with(", SubBuckets     =         2048]\n"),
            "{text}"
        );
    }
}
