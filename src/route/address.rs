//! Addresses of any family.

use crate::Family;
use std::fmt;
use std::iter::FusedIterator;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of any family.
///
/// ```
/// use nlring::Family;
/// use nlring::route::Address;
///
/// assert_eq!(Address::new(Family::INET, &[10, 0, 0, 1]).to_string(), "10.0.0.1");
/// // Labels 100 and 200; bit 0x100 marks the bottom of the stack.
/// let stack = [0, 0x06, 0x40, 0, 0, 0x0c, 0x81, 0];
/// assert_eq!(Address::new(Family::MPLS, &stack).to_string(), "100/200");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address<'a> {
    /// IPv4 or IPv6.
    Ip(IpAddr),
    /// MPLS labels, the outermost first.
    Mpls(Labels<'a>),
    /// The bytes of another family, or bytes whose number does not fit the family.
    Other(&'a [u8]),
}

impl<'a> Address<'a> {
    /// Reads the address of a family from its bytes.
    #[inline]
    pub fn new(family: Family, bytes: &'a [u8]) -> Self {
        match family {
            Family::MPLS => Self::Mpls(Labels { left: bytes }),
            _ => ip(family, bytes).map_or(Self::Other(bytes), Self::Ip),
        }
    }

    /// The address, if it is IPv4 or IPv6.
    #[inline]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            _ => None,
        }
    }
}

/// An IPv4 or IPv6 address. None if the number of bytes does not fit the family.
#[inline]
pub(super) fn ip(family: Family, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        Family::INET | Family::IPMR => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(Ipv4Addr::from)
            .map(IpAddr::V4),
        Family::INET6 | Family::IP6MR => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(Ipv6Addr::from)
            .map(IpAddr::V6),
        _ => None,
    }
}

/// An iterator over a stack of MPLS labels (`struct mpls_label`, include/uapi/linux/mpls.h), the outermost first.
///
/// It ends at the label that is marked as the bottom of the stack, or where the bytes end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels<'a> {
    pub(super) left: &'a [u8],
}

#[allow(
    clippy::copy_iterator,
    reason = "a route is Copy, so are the views in it"
)]
impl Iterator for Labels<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let (entry, rest) = self.left.split_first_chunk()?;
        let entry = u32::from_be_bytes(*entry);
        let is_bottom = entry & 0x100 != 0;
        self.left = if is_bottom { &[] } else { rest };
        Some(entry >> 12)
    }
}

impl FusedIterator for Labels<'_> {}

/// Whether the labels are the same, in the same order.
impl PartialEq for Labels<'_> {
    fn eq(&self, other: &Self) -> bool {
        Iterator::eq(*self, *other)
    }
}

impl Eq for Labels<'_> {}

/// The labels as ip(8) prints them, such as `100/200`.
impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, label) in self.enumerate() {
            let slash = if index == 0 { "" } else { "/" };
            write!(f, "{slash}{label}")?;
        }
        Ok(())
    }
}

/// The address, the labels as ip(8) prints them, or the bytes in hexadecimal.
impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => fmt::Display::fmt(ip, f),
            Self::Mpls(labels) => fmt::Display::fmt(labels, f),
            Self::Other(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// The text of its `Display`.
#[cfg(feature = "serde")]
impl serde::Serialize for Address<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A gateway whose family is not that of the route (`struct rtvia`). Available since Linux 4.1, for IPv4 routes since
/// Linux 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Via<'a> {
    /// The family of the address. Numbers beyond 255, which no family has, become [`Family::UNSPEC`].
    pub family: Family,
    /// The address.
    pub address: Address<'a>,
}

impl<'a> Via<'a> {
    #[inline]
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (family, address) = bytes.split_first_chunk()?;
        let family = u8::try_from(u16::from_ne_bytes(*family)).map_or(Family::UNSPEC, Family::from);
        Some(Self {
            family,
            address: Address::new(family, address),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_end_at_the_bottom_of_the_stack() {
        let stack = [0, 0x06, 0x40, 0, 0, 0x0c, 0x81, 0, 0, 0x12, 0xc0, 0];
        let Address::Mpls(labels) = Address::new(Family::MPLS, &stack) else {
            panic!("it is of the family")
        };
        assert_eq!(labels.collect::<Vec<_>>(), [100, 200]);
        assert_eq!(Labels { left: &stack[..7] }.count(), 1);
    }
}
