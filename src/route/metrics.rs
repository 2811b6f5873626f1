//! The metrics of a route, and its age.

use std::fmt;
use std::iter::FusedIterator;

use super::kernel::metric;
use crate::message::{Attribute, Attributes};

/// The age of a route, and the error with which it answers packets (`struct rta_cacheinfo`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CacheInfo {
    /// The number of references.
    pub reference_count: u32,
    /// The time since the last use, in ticks of 1/100 s (`USER_HZ`).
    pub last_use_ticks: u32,
    /// The time until the route expires, in ticks of 1/100 s. 0 means never.
    pub expires_ticks: i32,
    /// The error that packets meet, a negated errno as 32 bits. 0 means none.
    pub error: u32,
    /// How often the route was used.
    pub used_count: u32,
    /// An IP identifier, which the kernel no longer uses.
    pub id: u32,
    /// A TCP timestamp, which the kernel no longer uses.
    pub ts: u32,
    /// The age of the TCP timestamp in seconds.
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

    /// Whole seconds until the route expires. None means never.
    #[inline]
    pub fn expires_seconds(&self) -> Option<i32> {
        (self.expires_ticks != 0).then_some(self.expires_ticks / 100)
    }
}

/// An iterator over the metrics of a route, the initial parameters of TCP. The kernel orders them by number.
///
/// ```
/// use nlring::route::{MetricValue, Route, message_type, metric, rta};
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, message_type::NEW_ROUTE, 0)
///     .bytes(&[2 /* AF_INET */, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]) // struct rtmsg
///     .nested(rta::METRICS, |metrics| metrics.attribute_u32(metric::MTU.into(), 1400))
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let mut route = list.iter().find_map(|message| Route::decode(&message)).expect("it is a route");
/// let mtu = route.metrics.find(|metric| metric.number == metric::MTU).expect("an MTU");
/// assert_eq!(mtu.value, MetricValue::Number(1400));
/// assert_eq!(route.metrics.lock_mask(), 0);
/// # Ok::<(), nlring::Error>(())
/// ```
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
    /// An iterator over the attributes of an `RTA_METRICS`.
    #[inline]
    pub(super) fn new(left: Attributes<'a>) -> Self {
        Self { left }
    }

    /// The metrics that path MTU discovery and TCP may not change: the bit `1 << number` for each.
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
    /// The number, one of [`metric`].
    pub number: u16,
    /// The value. [`metric`] names the unit.
    pub value: MetricValue<'a>,
}

/// The value of a [`Metric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricValue<'a> {
    /// The value of every other metric is a number.
    Number(u32),
    /// The value of [`metric::CC_ALGO`] is the name of a congestion control algorithm.
    Name(&'a [u8]),
}

/// The number, or the name. Bytes that are not UTF-8 become U+FFFD.
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
