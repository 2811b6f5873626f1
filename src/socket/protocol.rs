//! Netlink protocols, by name and number.

use std::fmt;

/// A netlink protocol: `NETLINK_*` in include/uapi/linux/netlink.h.
///
/// ```
/// use nlring::Protocol;
///
/// assert_eq!(Protocol::NETFILTER.number(), 12);
/// assert_eq!(Protocol::from_number(12), Protocol::NETFILTER);
/// assert_eq!(Protocol::NETFILTER.to_string(), "NETLINK_NETFILTER");
/// assert_eq!(Protocol::from_number(77).to_string(), "netlink protocol 77");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(i32);

impl Protocol {
    /// Links, addresses, routes and neighbours: rtnetlink(7).
    pub const ROUTE: Self = Self(0);
    /// For user space: any process can send to a group.
    pub const USERSOCK: Self = Self(2);
    /// Sockets: sock_diag(7).
    pub const SOCK_DIAG: Self = Self(4);
    /// IPsec: states and policies.
    pub const XFRM: Self = Self(6);
    /// Events of SELinux.
    pub const SELINUX: Self = Self(7);
    /// Auditing.
    pub const AUDIT: Self = Self(9);
    /// Process events, and other users of the kernel's connector.
    pub const CONNECTOR: Self = Self(11);
    /// Netfilter: connection tracking, nftables, logging, queues.
    pub const NETFILTER: Self = Self(12);
    /// Device events. Their datagrams hold text instead of messages.
    pub const KOBJECT_UEVENT: Self = Self(15);
    /// Generic netlink, see [`generic`](crate::generic).
    pub const GENERIC: Self = Self(16);
    /// Remote direct memory access.
    pub const RDMA: Self = Self(20);
    /// Algorithms of the crypto layer.
    pub const CRYPTO: Self = Self(21);

    /// The protocol with this number. The kernel knows 0 to 31.
    pub const fn from_number(number: i32) -> Self {
        Self(number)
    }

    /// The number of the protocol.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The name in include/uapi/linux/netlink.h, if this protocol has a constant here.
    const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::ROUTE => "NETLINK_ROUTE",
            Self::USERSOCK => "NETLINK_USERSOCK",
            Self::SOCK_DIAG => "NETLINK_SOCK_DIAG",
            Self::XFRM => "NETLINK_XFRM",
            Self::SELINUX => "NETLINK_SELINUX",
            Self::AUDIT => "NETLINK_AUDIT",
            Self::CONNECTOR => "NETLINK_CONNECTOR",
            Self::NETFILTER => "NETLINK_NETFILTER",
            Self::KOBJECT_UEVENT => "NETLINK_KOBJECT_UEVENT",
            Self::GENERIC => "NETLINK_GENERIC",
            Self::RDMA => "NETLINK_RDMA",
            Self::CRYPTO => "NETLINK_CRYPTO",
            _ => return None,
        })
    }
}

/// The kernel's name of the protocol, or its number.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "netlink protocol {}", self.0),
        }
    }
}

/// The kernel's name of the protocol, or `Protocol(77)`.
impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Protocol({})", self.0),
        }
    }
}
