//! Tuples: the addresses and ports that a flow is known by, and the zone they are unique in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::attribute::Attributes;

/// One direction of a flow: who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number; see [`protocol_name`].
    pub protocol: u8,
    /// What the protocol adds to the addresses.
    pub layer4: Layer4,
}

/// What tells flows between the same two addresses apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layer4 {
    /// Nothing: the kernel tracks this protocol by its addresses alone.
    #[default]
    None,
    /// TCP, UDP, UDP-Lite, SCTP and DCCP ports. For GRE (protocol 47) these are the call IDs of PPTP, which
    /// conntrack(8) calls keys.
    Ports {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
    },
    /// ICMP and `ICMPv6`.
    Icmp {
        /// Message type.
        icmp_type: u8,
        /// Message code.
        code: u8,
        /// Identifier of an echo or another query.
        id: u16,
    },
}

impl Tuple {
    /// The source and destination ports, where the protocol has some.
    #[inline]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.layer4 {
            Layer4::Ports { src, dst } => Some((src, dst)),
            _ => None,
        }
    }

    /// Reads `enum ctattr_tuple`: the tuple, when both addresses are there, and the zone given with it.
    #[inline]
    pub(super) fn decode(attributes: Attributes<'_>) -> (Option<Self>, Option<u16>) {
        let (mut addresses, mut protocol, mut layer4) = (None, 0, Layer4::None);
        let mut zone = None;
        for attribute in attributes {
            match attribute.attribute_type() {
                1 => addresses = decode_addresses(attribute.nested()),
                2 => (protocol, layer4) = decode_layer4(attribute.nested()),
                3 => zone = attribute.as_be16(),
                _ => {}
            }
        }
        let tuple = addresses.map(|(src, dst)| Self {
            src,
            dst,
            protocol,
            layer4,
        });
        (tuple, zone)
    }
}

/// Reads `enum ctattr_ip`. None unless both addresses are there and of one family.
#[inline]
fn decode_addresses(attributes: Attributes<'_>) -> Option<(IpAddr, IpAddr)> {
    let (mut src, mut dst) = (None, None);
    for attribute in attributes {
        match attribute.attribute_type() {
            1 => src = attribute.as_array().map(Ipv4Addr::from).map(IpAddr::V4),
            2 => dst = attribute.as_array().map(Ipv4Addr::from).map(IpAddr::V4),
            3 => src = attribute.as_array().map(Ipv6Addr::from).map(IpAddr::V6),
            4 => dst = attribute.as_array().map(Ipv6Addr::from).map(IpAddr::V6),
            _ => {}
        }
    }
    let (src, dst) = (src?, dst?);
    (src.is_ipv4() == dst.is_ipv4()).then_some((src, dst))
}

/// Reads `enum ctattr_l4proto`: the protocol's number and what it adds.
#[inline]
fn decode_layer4(attributes: Attributes<'_>) -> (u8, Layer4) {
    let mut protocol = 0;
    let (mut src, mut dst) = (None, None);
    let (mut icmp_type, mut code, mut id) = (None, None, None);
    for attribute in attributes {
        match attribute.attribute_type() {
            1 => protocol = attribute.as_u8().unwrap_or(0),
            2 => src = attribute.as_be16(),
            3 => dst = attribute.as_be16(),
            4 | 7 => id = attribute.as_be16(),
            5 | 8 => icmp_type = attribute.as_u8(),
            6 | 9 => code = attribute.as_u8(),
            _ => {}
        }
    }
    let layer4 = match (src, dst, icmp_type) {
        (Some(src), Some(dst), _) => Layer4::Ports { src, dst },
        (_, _, Some(icmp_type)) => Layer4::Icmp {
            icmp_type,
            code: code.unwrap_or(0),
            id: id.unwrap_or(0),
        },
        _ => Layer4::None,
    };
    (protocol, layer4)
}

/// The zone that a flow's tuples are unique in, and the directions it holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Zone {
    /// The zone's number.
    pub id: u16,
    /// The directions that it holds for; the other one is in zone 0.
    pub direction: ZoneDirection,
}

/// The directions a [`Zone`] holds for. Other than both since Linux 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZoneDirection {
    /// Both.
    Both,
    /// The original direction.
    Orig,
    /// The reply direction.
    Reply,
}
