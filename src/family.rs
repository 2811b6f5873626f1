//! Address families, a type for `AF_*`.

use std::fmt;

/// An address family: `AF_*` of include/linux/socket.h, and `RTNL_FAMILY_*` of include/uapi/linux/rtnetlink.h.
///
/// Any number from 0 to 255 is a valid value: the kernel may know families that have no constant here.
///
/// ```
/// use nlring::Family;
///
/// let family = Family::from(10);
/// assert_eq!(family, Family::INET6);
/// assert_eq!(family.to_string(), "ipv6");
/// assert_eq!(u8::from(family), 10);
/// assert_eq!(Family::from(77).to_string(), "77");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Family(u8);

impl Family {
    /// `AF_UNSPEC`: no family, or all of them. In a [`Link`](crate::route::Link) it means the device itself.
    pub const UNSPEC: Self = Self(0);
    /// `AF_INET`: IPv4.
    pub const INET: Self = Self(2);
    /// `AF_BRIDGE`. In a [`Link`](crate::route::Link) it means the device as a port of a bridge.
    pub const BRIDGE: Self = Self(7);
    /// `AF_INET6`: IPv6.
    pub const INET6: Self = Self(10);
    /// `AF_PACKET`: a link-layer address.
    pub const PACKET: Self = Self(17);
    /// `AF_MPLS`: labels.
    pub const MPLS: Self = Self(28);
    /// `RTNL_FAMILY_IPMR`: an IPv4 multicast route.
    pub const IPMR: Self = Self(128);
    /// `RTNL_FAMILY_IP6MR`: an IPv6 multicast route.
    pub const IP6MR: Self = Self(129);

    /// The family with this number.
    pub const fn from_number(number: u8) -> Self {
        Self(number)
    }

    /// The family's number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The kernel's name of the family without its prefix, and the name for people.
    const fn names(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::UNSPEC => ("UNSPEC", "unspecified"),
            Self::INET => ("INET", "ipv4"),
            Self::BRIDGE => ("BRIDGE", "bridge"),
            Self::INET6 => ("INET6", "ipv6"),
            Self::PACKET => ("PACKET", "packet"),
            Self::MPLS => ("MPLS", "mpls"),
            Self::IPMR => ("IPMR", "ipv4-multicast"),
            Self::IP6MR => ("IP6MR", "ipv6-multicast"),
            _ => return None,
        })
    }
}

impl From<u8> for Family {
    fn from(number: u8) -> Self {
        Self(number)
    }
}

impl From<Family> for u8 {
    fn from(family: Family) -> Self {
        family.0
    }
}

/// The constant's name, such as `INET6`, or the number.
impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names() {
            Some((constant, _)) => f.write_str(constant),
            None => write!(f, "Family({})", self.0),
        }
    }
}

/// A name for people, such as `ipv6`, or the number.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names() {
            Some((_, name)) => f.pad(name),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}
