//! Multicast routes: the devices to which the packets of a multicast group are forwarded.

use std::iter::FusedIterator;
use std::net::IpAddr;

use super::address::ip;
use super::kernel::{NEXTHOP_FIXED_BYTES, ROUTE_FIXED_BYTES, message_type, route_flags, rta};
use super::kind_of;
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Attribute, Message};

/// A multicast route, as one message describes it (Linux v6.18, net/ipv4/ipmr.c, `ipmr_fill_mroute`;
/// net/ipv6/ip6mr.c, `ip6mr_fill_mroute`; net/ipv4/ipmr_base.c, `mr_fill_mroute`). A multicast routing daemon adds it.
///
/// Its events are sent to the groups [`Ipv4MulticastRoute`](super::Group::Ipv4MulticastRoute) and
/// [`Ipv6MulticastRoute`](super::Group::Ipv6MulticastRoute).
///
/// ```
/// use nlring::route::MulticastRoute;
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 24 /* RTM_NEWROUTE */, 0)
///     .bytes(&[128 /* RTNL_FAMILY_IPMR */, 32, 32, 0, 253, 17, 0, 5 /* RTN_MULTICAST */, 0, 0, 0, 0])
///     .attribute(1 /* RTA_DST */, &[239, 1, 1, 1])
///     .attribute(2 /* RTA_SRC */, &[192, 0, 2, 1])
///     .attribute_u32(3 /* RTA_IIF */, 7)
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let route = list.iter().find_map(|message| MulticastRoute::decode(&message)).expect("a multicast route");
/// assert_eq!((route.src, route.dst), ("192.0.2.1".parse().ok(), "239.1.1.1".parse().ok()));
/// assert_eq!((route.iif, route.hops.count()), (Some(7), 0));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MulticastRoute<'a> {
    /// What the message says about the route.
    pub kind: EventKind,
    /// [`Family::IPMR`] or [`Family::IP6MR`].
    pub family: Family,
    /// The routing table.
    pub table: u32,
    /// Who added the route, one of [`protocol`](super::protocol).
    pub protocol: u8,
    /// What happens to the packets, one of [`route_type`](super::route_type).
    pub route_type: u8,
    /// Bits of [`route_flags`].
    pub flags: u32,
    /// The sender of the packets.
    pub src: Option<IpAddr>,
    /// The multicast group.
    pub dst: Option<IpAddr>,
    /// The index of the device on which the packets must arrive. None: the daemon has not decided yet.
    pub iif: Option<u32>,
    /// The devices to which the packets are forwarded.
    pub hops: MulticastHops<'a>,
    /// The forwarded packets and bytes.
    pub statistics: Option<MulticastStatistics>,
    /// How long ago a packet was last forwarded, in hundredths of a second. Available since Linux 4.3.
    pub idle: Option<u64>,
}

impl<'a> MulticastRoute<'a> {
    /// Decodes a message in one pass. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None if the message is neither of type [`NEW_ROUTE`](message_type::NEW_ROUTE) nor
    /// [`DELETE_ROUTE`](message_type::DELETE_ROUTE), of a family other than [`Family::IPMR`] and [`Family::IP6MR`], or
    /// too short for `struct rtmsg`.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = kind_of(message, message_type::NEW_ROUTE, message_type::DELETE_ROUTE)?;
        let &[family, _, _, _, table, protocol, _, route_type, flags @ ..] =
            message.payload().first_chunk::<ROUTE_FIXED_BYTES>()?;
        let family = Family::from(family);
        if !matches!(family, Family::IPMR | Family::IP6MR) {
            return None;
        }
        let mut route = Self {
            kind,
            family,
            table: u32::from(table),
            protocol,
            route_type,
            flags: u32::from_ne_bytes(flags),
            src: None,
            dst: None,
            iif: None,
            hops: MulticastHops::default(),
            statistics: None,
            idle: None,
        };
        for attribute in message.attributes(ROUTE_FIXED_BYTES) {
            route.set(attribute);
        }
        Some(route)
    }

    /// Whether the daemon has not decided yet where the packets go.
    #[inline]
    pub fn is_unresolved(&self) -> bool {
        self.flags & route_flags::UNRESOLVED != 0
    }

    /// Stores an attribute.
    fn set(&mut self, attribute: Attribute<'a>) {
        match attribute.attribute_type() {
            rta::DST => self.dst = ip(self.family, attribute.bytes()),
            rta::SRC => self.src = ip(self.family, attribute.bytes()),
            rta::IIF => self.iif = attribute.as_u32(),
            rta::MULTIPATH => {
                self.hops = MulticastHops {
                    left: attribute.bytes(),
                }
            }
            rta::TABLE => self.table = attribute.as_u32().unwrap_or(self.table),
            rta::MFC_STATS => self.statistics = MulticastStatistics::decode(attribute.bytes()),
            rta::EXPIRES => self.idle = attribute.as_u64(),
            _ => {}
        }
    }
}

/// An iterator over the devices to which a multicast route forwards packets (`struct rtnexthop`), in order. It ends at
/// the first one with an invalid length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MulticastHops<'a> {
    left: &'a [u8],
}

/// A device to which a multicast route forwards packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MulticastHop {
    /// The index of the device.
    pub oif: u32,
    /// Packets with at most this TTL are not forwarded.
    pub ttl: u8,
}

#[allow(
    clippy::copy_iterator,
    reason = "a multicast route is Copy, so are the views in it"
)]
impl Iterator for MulticastHops<'_> {
    type Item = MulticastHop;

    fn next(&mut self) -> Option<MulticastHop> {
        let &[low, high, _, ttl, oif @ ..] = self.left.first_chunk::<NEXTHOP_FIXED_BYTES>()?;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        if length < NEXTHOP_FIXED_BYTES || length > self.left.len() {
            return None;
        }
        let rest = self.left.get(crate::message::align(length)..);
        self.left = rest.unwrap_or_default();
        Some(MulticastHop {
            oif: u32::from_ne_bytes(oif),
            ttl,
        })
    }
}

impl FusedIterator for MulticastHops<'_> {}

/// A list of the devices.
#[cfg(feature = "serde")]
impl serde::Serialize for MulticastHops<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(*self)
    }
}

/// What a multicast route has forwarded (`struct rta_mfc_stats`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MulticastStatistics {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets that arrived on the wrong device.
    pub wrong_device: u64,
}

impl MulticastStatistics {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, _) = bytes.as_chunks();
        let &[packets, bytes, wrong_device] = words.first_chunk()?;
        Some(Self {
            packets: u64::from_ne_bytes(packets),
            bytes: u64::from_ne_bytes(bytes),
            wrong_device: u64::from_ne_bytes(wrong_device),
        })
    }
}
