//! Sets of numbers.

use std::fmt;
use std::ops::RangeInclusive;

use super::expression::Expression;
use super::test::{Field, Test};
use super::text::{ParseError, Words, number};

/// A set of numbers, such as ports: `443`, `1024-2047` or `{80, 443, 1024-2047}`.
///
/// ```
/// use nlring::filter::Numbers;
///
/// let ports = Numbers::from([80..=80, 443..=443, 1024..=2047]);
/// assert!(ports.contains(1500) && !ports.contains(81));
/// assert_eq!(ports.to_string(), "{80,443,1024-2047}");
/// assert_eq!(Numbers::from(53).to_string(), "53");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Numbers {
    ranges: Vec<RangeInclusive<u32>>,
}

impl Numbers {
    /// Whether the number is in the set.
    #[inline]
    pub fn contains(&self, number: u32) -> bool {
        self.ranges.iter().any(|range| range.contains(&number))
    }

    /// The number, if there is only one.
    pub(crate) fn single(&self) -> Option<u32> {
        match &self.ranges[..] {
            [range] if range.start() == range.end() => Some(*range.start()),
            _ => None,
        }
    }

    /// The field is there, and its number is in the set.
    pub fn are_in(&self, field: Field) -> Expression<Test> {
        let ranges = self.ranges.iter();
        Expression::any_of(ranges.map(|range| field.is_within(*range.start(), *range.end())))
    }

    /// Reads a number, a range or a set in braces. All numbers must be within `limits`.
    pub(crate) fn parse(
        words: &mut Words<'_>,
        limits: RangeInclusive<u32>,
    ) -> Result<Self, ParseError> {
        let (least, most) = limits.into_inner();
        let expected = format!("a number from {least} to {most}, or a range such as 10-20");
        let ranges = words.values(&expected, |word| {
            let (low, high) = match word.split_once('-') {
                Some((low, high)) => (number(low)?, number(high)?),
                None => (number(word)?, number(word)?),
            };
            (least <= low && low <= high && high <= most).then_some(low..=high)
        })?;
        Ok(Self { ranges })
    }
}

impl From<u32> for Numbers {
    fn from(number: u32) -> Self {
        Self {
            ranges: vec![number..=number],
        }
    }
}

impl From<RangeInclusive<u32>> for Numbers {
    fn from(range: RangeInclusive<u32>) -> Self {
        Self {
            ranges: vec![range],
        }
    }
}

impl<const N: usize> From<[RangeInclusive<u32>; N]> for Numbers {
    fn from(ranges: [RangeInclusive<u32>; N]) -> Self {
        Self {
            ranges: ranges.into(),
        }
    }
}

impl FromIterator<RangeInclusive<u32>> for Numbers {
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u32>>>(ranges: I) -> Self {
        Self {
            ranges: ranges.into_iter().collect(),
        }
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = |f: &mut fmt::Formatter<'_>, range: &RangeInclusive<u32>| {
            fmt::Display::fmt(range.start(), f)?;
            match (range.start(), range.end()) {
                (start, end) if start == end => Ok(()),
                (_, end) => write!(f, "-{end}"),
            }
        };
        if let [range] = &self.ranges[..] {
            return write(f, range);
        }
        f.write_str("{")?;
        for (index, range) in self.ranges.iter().enumerate() {
            f.write_str(if index > 0 { "," } else { "" })?;
            write(f, range)?;
        }
        f.write_str("}")
    }
}
