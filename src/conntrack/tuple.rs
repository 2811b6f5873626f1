//! Tuples: the addresses and ports that identify a flow, and the zone in which they are unique.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::kernel::{ICMPV6, cta, cta_ip, cta_proto, cta_tuple};
use super::nat::Endpoint;
use super::protocol_name;
use crate::Family;
use crate::message::{Attributes, MessageBuilder, NESTED};

/// One direction of a flow: who sends to whom.
///
/// ```
/// use nlring::conntrack::{Layer4, Tuple};
///
/// let (src, dst) = ("10.0.0.1".parse().unwrap(), "9.9.9.9".parse().unwrap());
/// let tuple = Tuple::new(src, dst, 17, Layer4::Ports { src: 40_000, dst: 53 });
/// assert_eq!(tuple.ports(), Some((40_000, 53)));
/// assert_eq!(tuple.to_string(), "udp 10.0.0.1:40000 -> 9.9.9.9:53");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number. [`protocol_name`] gives its name.
    pub protocol: u8,
    /// Ports, or what the protocol has instead.
    pub layer4: Layer4,
}

/// What distinguishes two flows between the same addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Layer4 {
    /// Nothing: the kernel tracks only the addresses of this protocol.
    #[default]
    None,
    /// The ports of TCP, UDP, UDP-Lite, SCTP and DCCP. For GRE (protocol 47) they are the call IDs of PPTP, which
    /// conntrack(8) calls keys.
    Ports {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
    },
    /// The query of ICMP or ICMPv6.
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
    /// A tuple with these parts.
    #[inline]
    pub fn new(src: IpAddr, dst: IpAddr, protocol: u8, layer4: Layer4) -> Self {
        Self {
            src,
            dst,
            protocol,
            layer4,
        }
    }

    /// The source and destination ports. None if the protocol has none.
    #[inline]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.layer4 {
            Layer4::Ports { src, dst } => Some((src, dst)),
            _ => None,
        }
    }

    /// The tuple of the answers if nothing is translated: addresses and ports are swapped, and an ICMP query becomes
    /// its reply. None for an ICMP type that is neither a query nor a reply, because the kernel tracks no others (Linux
    /// v6.18, net/netfilter/nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c, `invmap`).
    ///
    /// ```
    /// use nlring::conntrack::{Layer4, Tuple};
    ///
    /// let (client, server) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    /// let tuple = Tuple::new(client, server, 6, Layer4::Ports { src: 40_000, dst: 443 });
    /// let reversed = Tuple::new(server, client, 6, Layer4::Ports { src: 443, dst: 40_000 });
    /// assert_eq!(tuple.reversed(), Some(reversed));
    /// ```
    pub fn reversed(&self) -> Option<Self> {
        let layer4 = match self.layer4 {
            Layer4::None => Layer4::None,
            Layer4::Ports { src, dst } => Layer4::Ports { src: dst, dst: src },
            Layer4::Icmp {
                icmp_type,
                code,
                id,
            } => Layer4::Icmp {
                icmp_type: answering(self.protocol, icmp_type)?,
                code,
                id,
            },
        };
        Some(Self::new(self.dst, self.src, self.protocol, layer4))
    }

    /// The family of the addresses.
    pub(super) fn family(&self) -> Family {
        match self.src {
            IpAddr::V4(_) => Family::INET,
            IpAddr::V6(_) => Family::INET6,
        }
    }

    /// Appends the content of a `CTA_TUPLE_*`: `enum ctattr_tuple`.
    pub(super) fn put<'a>(
        &self,
        message: MessageBuilder<'a>,
        zone: Option<u16>,
    ) -> MessageBuilder<'a> {
        let message = message
            .nested(cta_tuple::IP, |ip| {
                let ip = put_address(ip, (cta_ip::V4_SRC, cta_ip::V6_SRC), self.src);
                put_address(ip, (cta_ip::V4_DST, cta_ip::V6_DST), self.dst)
            })
            .nested(cta_tuple::PROTO, |protocol| self.put_layer4(protocol));
        match zone {
            Some(zone) => message.attribute_be16(cta_tuple::ZONE, zone),
            None => message,
        }
    }

    /// Appends `enum ctattr_l4proto`.
    fn put_layer4<'a>(&self, message: MessageBuilder<'a>) -> MessageBuilder<'a> {
        let message = message.attribute_u8(cta_proto::NUM, self.protocol);
        match self.layer4 {
            Layer4::None => message,
            Layer4::Ports { src, dst } => message
                .attribute_be16(cta_proto::SRC_PORT, src)
                .attribute_be16(cta_proto::DST_PORT, dst),
            Layer4::Icmp {
                icmp_type,
                code,
                id,
            } => {
                let (id_at, type_at, code_at) = icmp_attributes(self.protocol);
                message
                    .attribute_be16(id_at, id)
                    .attribute_u8(type_at, icmp_type)
                    .attribute_u8(code_at, code)
            }
        }
    }

    /// Reads IPv4 addresses and ports in the layout that the kernel writes (`ctnetlink_dump_tuples`). Nearly all tuples
    /// have it, and this makes the decoding of a flow a quarter faster than reading them attribute by attribute.
    #[inline]
    fn decode_usual(bytes: &[u8]) -> Option<Self> {
        const IP: [u8; 4] = header(20, cta_tuple::IP | NESTED);
        const SRC: [u8; 4] = header(8, cta_ip::V4_SRC);
        const DST: [u8; 4] = header(8, cta_ip::V4_DST);
        const LAYER4: [u8; 4] = header(28, cta_tuple::PROTO | NESTED);
        const PROTOCOL: [u8; 4] = header(5, cta_proto::NUM);
        const SRC_PORT: [u8; 4] = header(6, cta_proto::SRC_PORT);
        const DST_PORT: [u8; 4] = header(6, cta_proto::DST_PORT);
        let &[
            IP,
            SRC,
            src,
            DST,
            dst,
            LAYER4,
            PROTOCOL,
            [protocol, ..],
            SRC_PORT,
            [src_high, src_low, ..],
            DST_PORT,
            [dst_high, dst_low, ..],
        ] = bytes.as_chunks::<4>().0
        else {
            return None;
        };
        Some(Self {
            src: IpAddr::V4(Ipv4Addr::from(src)),
            dst: IpAddr::V4(Ipv4Addr::from(dst)),
            protocol,
            layer4: Layer4::Ports {
                src: u16::from_be_bytes([src_high, src_low]),
                dst: u16::from_be_bytes([dst_high, dst_low]),
            },
        })
    }

    /// Reads `enum ctattr_tuple`: the tuple, if both addresses are present, and the zone in it.
    pub(super) fn decode(attributes: Attributes<'_>) -> (Option<Self>, Option<u16>) {
        match Self::decode_usual(attributes.bytes()) {
            Some(tuple) => (Some(tuple), None),
            None => Self::decode_any(attributes),
        }
    }

    #[inline]
    fn decode_any(attributes: Attributes<'_>) -> (Option<Self>, Option<u16>) {
        let (mut addresses, mut protocol, mut layer4) = (None, 0, Layer4::None);
        let mut zone = None;
        for attribute in attributes {
            match attribute.attribute_type() {
                cta_tuple::IP => addresses = decode_addresses(attribute.nested()),
                cta_tuple::PROTO => (protocol, layer4) = decode_layer4(attribute.nested()),
                cta_tuple::ZONE => zone = attribute.as_be16(),
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

/// The attributes of identifier, type and code.
fn icmp_attributes(protocol: u8) -> (u16, u16, u16) {
    use cta_proto::{ICMP_CODE, ICMP_ID, ICMP_TYPE, ICMPV6_CODE, ICMPV6_ID, ICMPV6_TYPE};
    match protocol {
        ICMPV6 => (ICMPV6_ID, ICMPV6_TYPE, ICMPV6_CODE),
        _ => (ICMP_ID, ICMP_TYPE, ICMP_CODE),
    }
}

/// The ICMP type that answers a query, or the query that an answer belongs to.
fn answering(protocol: u8, icmp_type: u8) -> Option<u8> {
    // Echo, timestamp, information and address mask; echo and node information.
    const QUERIES: [(u8, u8); 4] = [(8, 0), (13, 14), (15, 16), (17, 18)];
    const QUERIES_V6: [(u8, u8); 2] = [(128, 129), (139, 140)];
    let queries = match protocol {
        ICMPV6 => &QUERIES_V6[..],
        _ => &QUERIES[..],
    };
    queries.iter().find_map(|&(query, answer)| match icmp_type {
        of if of == query => Some(answer),
        of if of == answer => Some(query),
        _ => None,
    })
}

/// Appends an address as the first of two attributes if it is IPv4, and as the second if it is IPv6.
fn put_address(
    message: MessageBuilder<'_>,
    (v4, v6): (u16, u16),
    address: IpAddr,
) -> MessageBuilder<'_> {
    match address {
        IpAddr::V4(address) => message.attribute(v4, &address.octets()),
        IpAddr::V6(address) => message.attribute(v6, &address.octets()),
    }
}

/// The bytes of a `struct nlattr`.
pub(super) const fn header(length_bytes: u16, attribute_type: u16) -> [u8; 4] {
    let [a, b] = length_bytes.to_ne_bytes();
    let [c, d] = attribute_type.to_ne_bytes();
    [a, b, c, d]
}

/// Reads `enum ctattr_ip`. None unless both addresses are present and have the same family.
#[inline]
fn decode_addresses(attributes: Attributes<'_>) -> Option<(IpAddr, IpAddr)> {
    let (mut src, mut dst) = (None, None);
    for attribute in attributes {
        match attribute.attribute_type() {
            cta_ip::V4_SRC => src = attribute.as_array().map(Ipv4Addr::from).map(IpAddr::V4),
            cta_ip::V4_DST => dst = attribute.as_array().map(Ipv4Addr::from).map(IpAddr::V4),
            cta_ip::V6_SRC => src = attribute.as_array().map(Ipv6Addr::from).map(IpAddr::V6),
            cta_ip::V6_DST => dst = attribute.as_array().map(Ipv6Addr::from).map(IpAddr::V6),
            _ => {}
        }
    }
    let (src, dst) = (src?, dst?);
    (src.is_ipv4() == dst.is_ipv4()).then_some((src, dst))
}

/// Reads `enum ctattr_l4proto`: the protocol's number, and ports or what it has instead.
#[inline]
fn decode_layer4(attributes: Attributes<'_>) -> (u8, Layer4) {
    let mut protocol = 0;
    let (mut src, mut dst) = (None, None);
    let (mut icmp_type, mut code, mut id) = (None, None, None);
    for attribute in attributes {
        match attribute.attribute_type() {
            cta_proto::NUM => protocol = attribute.as_u8().unwrap_or(0),
            cta_proto::SRC_PORT => src = attribute.as_be16(),
            cta_proto::DST_PORT => dst = attribute.as_be16(),
            cta_proto::ICMP_ID | cta_proto::ICMPV6_ID => id = attribute.as_be16(),
            cta_proto::ICMP_TYPE | cta_proto::ICMPV6_TYPE => icmp_type = attribute.as_u8(),
            cta_proto::ICMP_CODE | cta_proto::ICMPV6_CODE => code = attribute.as_u8(),
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

/// The protocol and both ends, such as `udp 10.0.0.1:40000 -> 9.9.9.9:53`. For ICMP it has type, code and identifier,
/// such as `icmp 10.0.0.1 -> 9.9.9.9 type 8 code 0 id 77`.
impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (src_port, dst_port) = self.ports().unzip();
        match protocol_name(self.protocol) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "protocol {}", self.protocol)?,
        }
        let (src, dst) = (
            Endpoint::new(self.src, src_port),
            Endpoint::new(self.dst, dst_port),
        );
        write!(f, " {src} -> {dst}")?;
        match self.layer4 {
            Layer4::Icmp {
                icmp_type,
                code,
                id,
            } => write!(f, " type {icmp_type} code {code} id {id}"),
            Layer4::None | Layer4::Ports { .. } => Ok(()),
        }
    }
}

/// The tuple, and the zone if there is one, such as `udp 10.0.0.1:40000 -> 9.9.9.9:53 zone 5`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.orig, f)?;
        self.zone.map_or(Ok(()), |zone| write!(f, " zone {zone}"))
    }
}

/// The number, followed by the direction unless it is both, such as `5 orig`.
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.direction {
            ZoneDirection::Both => fmt::Display::fmt(&self.id, f),
            ZoneDirection::Orig => write!(f, "{} orig", self.id),
            ZoneDirection::Reply => write!(f, "{} reply", self.id),
        }
    }
}

/// What identifies a flow: its original tuple, and the zone in which the tuple is unique.
///
/// ```
/// use nlring::conntrack::{Key, Layer4, Tuple, Zone, ZoneDirection};
///
/// let (src, dst) = ("10.0.0.1".parse().unwrap(), "9.9.9.9".parse().unwrap());
/// let orig = Tuple::new(src, dst, 17, Layer4::Ports { src: 40_000, dst: 53 });
/// let key = Key { orig, zone: Some(Zone::new(5, ZoneDirection::Both)) };
/// assert_ne!(key, Key { orig, zone: None });
/// assert_eq!(key.to_string(), "udp 10.0.0.1:40000 -> 9.9.9.9:53 zone 5");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Key {
    /// The direction of the first packet.
    pub orig: Tuple,
    /// The zone. None means zone 0.
    pub zone: Option<Zone>,
}

impl Key {
    /// The zone that the tuple of a direction contains.
    pub(super) fn tuple_zone(&self, direction: ZoneDirection) -> Option<u16> {
        let zone = self.zone.filter(|zone| zone.direction == direction)?;
        Some(zone.id)
    }

    /// Appends `struct nfgenmsg` and what the kernel needs to find the flow: `CTA_TUPLE_ORIG`, and `CTA_ZONE` for a
    /// zone of both directions.
    pub(super) fn put<'a>(&self, message: MessageBuilder<'a>) -> MessageBuilder<'a> {
        let message = message
            .bytes(&[self.orig.family().number(), 0, 0, 0])
            .nested(cta::TUPLE_ORIG, |tuple| {
                self.orig.put(tuple, self.tuple_zone(ZoneDirection::Orig))
            });
        match self.tuple_zone(ZoneDirection::Both) {
            Some(zone) => message.attribute_be16(cta::ZONE, zone),
            None => message,
        }
    }
}

impl Zone {
    /// A zone with this number, for these directions.
    pub fn new(id: u16, direction: ZoneDirection) -> Self {
        Self { id, direction }
    }
}

/// The zone in which a flow's tuples are unique, and the directions to which it applies.
///
/// ```
/// use nlring::conntrack::{Zone, ZoneDirection};
///
/// assert_eq!(Zone::new(5, ZoneDirection::Both).to_string(), "5");
/// assert_eq!(Zone::new(5, ZoneDirection::Reply).to_string(), "5 reply");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Zone {
    /// The zone's number.
    pub id: u16,
    /// The directions to which it applies. The other direction is in zone 0.
    pub direction: ZoneDirection,
}

/// The directions that a [`Zone`] applies to. A zone of one direction is available since Linux 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum ZoneDirection {
    /// Both directions.
    Both,
    /// The original direction only.
    Orig,
    /// The reply direction only.
    Reply,
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    /// The content of a tuple of TCP over IPv4, as the kernel writes it.
    const USUAL: [u8; 48] = [
        20, 0, 1, 0x80, 8, 0, 1, 0, 10, 0, 0, 1, 8, 0, 2, 0, 10, 0, 0, 2, //
        28, 0, 2, 0x80, 5, 0, 1, 0, 6, 0, 0, 0, 6, 0, 2, 0, 0x12, 0x34, 0, 0, 6, 0, 3, 0, 0, 80, 0,
        0,
    ];

    #[test]
    fn the_usual_layout_is_read_as_any_other() {
        let read = Tuple::decode_usual(&USUAL).unwrap();
        assert_eq!((read.protocol, read.ports()), (6, Some((0x1234, 80))));
        assert_eq!(
            (read.src.to_string(), read.dst.to_string()),
            ("10.0.0.1".to_owned(), "10.0.0.2".to_owned())
        );
        let (mut usual_count, mut other_count) = (0, 0);
        for (index, change) in
            (0..USUAL.len()).flat_map(|index| (1..=255).map(move |change| (index, change)))
        {
            let mut bytes = USUAL;
            bytes[index] ^= change;
            let any = Tuple::decode_any(Attributes::new(&bytes));
            match Tuple::decode_usual(&bytes) {
                Some(usual) => {
                    usual_count += 1;
                    assert_eq!((Some(usual), None), any, "byte {index} ^ {change}");
                }
                None => other_count += 1,
            }
        }
        // Addresses, the protocol, ports, and padding may be anything.
        assert_eq!(
            (usual_count, other_count),
            ((8 + 4 + 4 + 4) * 255, 28 * 255)
        );
        for length in 0..USUAL.len() {
            assert_eq!(Tuple::decode_usual(&USUAL[..length]), None);
        }
        let with_zone = [&USUAL[..], &[6, 0, 3, 0, 0, 5, 0, 0]].concat();
        assert_eq!(Tuple::decode_usual(&with_zone), None);
        assert_eq!(
            Tuple::decode(Attributes::new(&with_zone)),
            (Some(read), Some(5))
        );
    }

    #[test]
    fn the_text_has_what_the_protocol_has() {
        let ends = ("10.0.0.1".parse().unwrap(), "9.9.9.9".parse().unwrap());
        let text = |protocol, layer4| Tuple::new(ends.0, ends.1, protocol, layer4).to_string();
        let echo = Layer4::Icmp {
            icmp_type: 8,
            code: 0,
            id: 77,
        };
        assert_eq!(
            text(1, echo),
            "icmp 10.0.0.1 -> 9.9.9.9 type 8 code 0 id 77"
        );
        assert_eq!(text(89, Layer4::None), "protocol 89 10.0.0.1 -> 9.9.9.9");
        assert_eq!(Zone::new(5, ZoneDirection::Orig).to_string(), "5 orig");
    }
}
