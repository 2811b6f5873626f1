//! What TCP is to start from, and what the kernel says of a route's age.

use std::fmt;
use std::iter::FusedIterator;

use super::kernel::metric;
use crate::message::{Attribute, Attributes};

/// What the kernel says of a route's age (`struct rta_cacheinfo`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CacheInfo {
    /// References.
    pub reference_count: u32,
    /// Since the last use, in ticks of 1/100 s (`USER_HZ`).
    pub last_use_ticks: u32,
    /// Until it expires, in ticks of 1/100 s; 0: never.
    pub expires_ticks: i32,
    /// What a packet is answered with, a negated errno as 32 bits; 0: nothing.
    pub error: u32,
    /// How often it was used.
    pub used_count: u32,
    /// An IP identifier; no longer used by the kernel.
    pub id: u32,
    /// A TCP timestamp; no longer used by the kernel.
    pub ts: u32,
    /// That timestamp's age in seconds.
    pub ts_age_seconds: u32,
}

impl CacheInfo {
    #[inline]
    pub(super) fn decode(attribute: Attribute<'_>) -> Option<Self> {
        let (words, _) = attribute.bytes().first_chunk::<32>()?.as_chunks::<4>();
        let word = |index: usize| words.get(index).map_or(0, |word| u32::from_ne_bytes(*word));
        Some(Self {
            reference_count: word(0),
            last_use_ticks: word(1),
            expires_ticks: word(2).cast_signed(),
            error: word(3),
            used_count: word(4),
            id: word(5),
            ts: word(6),
            ts_age_seconds: word(7),
        })
    }

    /// Whole seconds until it expires; None: never.
    #[inline]
    pub fn expires_seconds(&self) -> Option<i32> {
        (self.expires_ticks != 0).then_some(self.expires_ticks / 100)
    }
}

/// An iterator over a route's metrics, in the kernel's order, which is that of their numbers.
#[derive(Clone, Copy, Debug)]
pub struct Metrics<'a> {
    pub(super) left: Attributes<'a>,
}

impl Default for Metrics<'_> {
    fn default() -> Self {
        Self::new(Attributes::new(&[]))
    }
}

impl<'a> Metrics<'a> {
    /// Of the attributes in `RTA_METRICS`.
    #[inline]
    pub(super) fn new(left: Attributes<'a>) -> Self {
        Self { left }
    }

    /// The metrics that path MTU discovery and TCP may not change: bit `1 << number`.
    pub fn lock_mask(&self) -> u32 {
        let lock = self.left.get(metric::LOCK);
        lock.and_then(|lock| lock.as_u32()).unwrap_or(0)
    }
}

#[allow(
    clippy::copy_iterator,
    reason = "a route is Copy, so are the views in it"
)]
impl<'a> Iterator for Metrics<'a> {
    type Item = Metric<'a>;

    fn next(&mut self) -> Option<Metric<'a>> {
        for attribute in self.left.by_ref() {
            let value = match attribute.attribute_type() {
                metric::LOCK => continue,
                metric::CC_ALGO => MetricValue::Name(attribute.as_str_bytes()),
                _ => match attribute.as_u32() {
                    Some(number) => MetricValue::Number(number),
                    None => continue,
                },
            };
            let number = attribute.attribute_type();
            return Some(Metric { number, value });
        }
        None
    }
}

impl FusedIterator for Metrics<'_> {}

/// Whether the values and the locks are the same.
impl PartialEq for Metrics<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.lock_mask() == other.lock_mask() && Iterator::eq(*self, *other)
    }
}

impl Eq for Metrics<'_> {}

/// A list of the metrics.
#[cfg(feature = "serde")]
impl serde::Serialize for Metrics<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(*self)
    }
}

/// One metric of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Metric<'a> {
    /// Which, see [`metric`].
    pub number: u16,
    /// Its value; the unit is said in [`metric`].
    pub value: MetricValue<'a>,
}

/// The value of a [`Metric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricValue<'a> {
    /// All but one are numbers.
    Number(u32),
    /// The name of a congestion control algorithm.
    Name(&'a [u8]),
}

/// The number, or the name. Bytes that are no UTF-8 become U+FFFD.
impl fmt::Display for MetricValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => fmt::Display::fmt(number, f),
            Self::Name(name) => f.pad(&String::from_utf8_lossy(name)),
        }
    }
}

/// A number, or the name as text.
#[cfg(feature = "serde")]
impl serde::Serialize for MetricValue<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u32(*number),
            Self::Name(name) => serializer.serialize_str(&String::from_utf8_lossy(name)),
        }
    }
}
