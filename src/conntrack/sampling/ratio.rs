//! Which share of the flows is kept.

use std::fmt;

/// Which share of the flows is kept: one in 1, 2, 4, … 65,536, chosen by a hash of the flow.
///
/// Every larger ratio also keeps the flows of a smaller one. So a change of the ratio cuts only flows that one of the
/// two leaves out.
///
/// Ratios are ordered by what they keep:
///
/// ```
/// use nlring::conntrack::SamplingRatio;
///
/// let ratio = SamplingRatio::new(8).expect("a power of two");
/// assert!(SamplingRatio::ALL > ratio && ratio > SamplingRatio::LEAST);
/// assert_eq!(ratio.to_string(), "1 in 8");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SamplingRatio {
    /// One in 2 to the power of this.
    halvings: u8,
}

impl SamplingRatio {
    /// All flows.
    pub const ALL: Self = Self { halvings: 0 };
    /// One flow in 65,536.
    pub const LEAST: Self = Self { halvings: 16 };

    /// One flow in this number. None if it is not a power of two up to 65,536.
    pub fn new(one_in: u32) -> Option<Self> {
        let halvings = u8::try_from(one_in.trailing_zeros()).ok()?;
        let ratio = Self { halvings };
        (one_in.is_power_of_two() && ratio >= Self::LEAST).then_some(ratio)
    }

    /// The number of flows of which one is kept.
    pub fn one_in(self) -> u32 {
        1 << self.halvings
    }

    /// Whether all flows are kept.
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }

    /// The largest ratio at which at most `kept` of `count` events remain.
    pub(super) fn that_keeps(kept: u64, of: u64) -> Self {
        let fits = |ratio: &Self| of >> ratio.halvings <= kept;
        let mut ratios = (0..Self::LEAST.halvings).map(|halvings| Self { halvings });
        ratios.find(fits).unwrap_or(Self::LEAST)
    }
}

/// The one that keeps more is the greater one.
impl Ord for SamplingRatio {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.halvings.cmp(&self.halvings)
    }
}

impl PartialOrd for SamplingRatio {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// `1 in 8`.
impl fmt::Display for SamplingRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1 in {}", self.one_in())
    }
}
