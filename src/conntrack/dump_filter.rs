//! The criteria by which the kernel selects flows, for a dump or a flush.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::flow::Flow;
use super::kernel::{cta, cta_filter};
#[cfg(doc)]
use super::request::Requests;
use super::tuple::{Layer4, Tuple};
use crate::Family;
use crate::message::{Message, MessageBuilder};

/// Which flows a dump returns or a flush removes: those that meet all criteria.
///
/// The kernel selects the flows. An older kernel may send more than was requested; [`Requests::dump`] leaves the others
/// out.
///
/// ```
/// use nlring::Family;
/// use nlring::conntrack::{DumpFilter, status};
///
/// let assured_ipv4_of_zone_5 = DumpFilter::new()
///     .family(Family::INET)
///     .zone(5)
///     .status(status::ASSURED, status::ASSURED);
/// let text = "family ipv4, zone 5, status 0x4/0x4";
/// assert_eq!(assured_ipv4_of_zone_5.to_string(), text);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct DumpFilter {
    family: Family,
    zone: Option<u16>,
    mark: Option<(u32, u32)>,
    status: Option<(u32, u32)>,
    orig: OrigFilter,
}

/// What the original tuple of a flow must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OrigFilter {
    protocol: Option<u8>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    src_port: Option<u16>,
    dst_port: Option<u16>,
}

impl OrigFilter {
    fn matches(&self, orig: &Tuple) -> bool {
        let is = |port: Option<u16>, wanted: Option<u16>| wanted.is_none() || port == wanted;
        let (src_port, dst_port) = orig.ports().unzip();
        self.protocol
            .is_none_or(|protocol| orig.protocol == protocol)
            && self.src.is_none_or(|src| orig.src == src)
            && self.dst.is_none_or(|dst| orig.dst == dst)
            && is(src_port, self.src_port)
            && is(dst_port, self.dst_port)
    }

    /// The part that the kernel decides correctly, with the bits of `CTA_FILTER_ORIG_FLAGS` for it.
    ///
    /// It needs a family. It inverts comparisons of IPv6 addresses, and compares ports only if the protocol is given
    /// and is TCP or UDP (Linux v6.18, net/netfilter/nf_conntrack_netlink.c, `ctnetlink_filter_match_tuple`).
    fn for_kernel(&self, family: Family) -> (Self, u32) {
        let is_v4 = |address: &IpAddr| family == Family::INET && address.is_ipv4();
        let protocol = self.protocol.filter(|_| family != Family::UNSPEC);
        let has_ports = matches!(protocol, Some(6 | 17));
        let part = Self {
            protocol,
            src: self.src.filter(is_v4),
            dst: self.dst.filter(is_v4),
            src_port: self.src_port.filter(|_| has_ports),
            dst_port: self.dst_port.filter(|_| has_ports),
        };
        let flags = [
            (part.src.is_some(), cta_filter::IP_SRC),
            (part.dst.is_some(), cta_filter::IP_DST),
            (part.protocol.is_some(), cta_filter::PROTO_NUM),
            (part.src_port.is_some(), cta_filter::PROTO_SRC_PORT),
            (part.dst_port.is_some(), cta_filter::PROTO_DST_PORT),
        ];
        let set = flags.iter().filter(|(is_set, _)| *is_set);
        (part, set.map(|(_, flag)| flag).sum())
    }

    /// Appends `CTA_TUPLE_ORIG` and `CTA_FILTER`, unless the kernel can decide nothing.
    fn put<'a>(&self, message: MessageBuilder<'a>, family: Family) -> MessageBuilder<'a> {
        let (part, flags) = self.for_kernel(family);
        if flags == 0 {
            return message;
        }
        let any = if family == Family::INET {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let ports = Layer4::Ports {
            src: part.src_port.unwrap_or(0),
            dst: part.dst_port.unwrap_or(0),
        };
        let (src, dst) = (part.src.unwrap_or(any), part.dst.unwrap_or(any));
        let orig = Tuple::new(src, dst, part.protocol.unwrap_or(0), ports);
        message
            .nested(cta::TUPLE_ORIG, |tuple| orig.put(tuple, None))
            .nested(cta::FILTER, |filter| {
                filter.attribute_u32(cta_filter::ORIG_FLAGS, flags)
            })
    }
}

impl DumpFilter {
    /// All flows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Flows of an address family: 2 (`AF_INET`) or 10 (`AF_INET6`).
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// Flows of a zone, in any direction that it applies to. 0 is the zone of flows without one. The kernel selects by
    /// zone since Linux 6.8.
    pub fn zone(mut self, zone: u16) -> Self {
        self.zone = Some(zone);
        self
    }

    /// Flows whose mark has `value` in the bits of `mask`. The kernel selects by mark since Linux 3.4.
    pub fn mark(mut self, value: u32, mask: u32) -> Self {
        self.mark = Some((value, mask));
        self
    }

    /// Flows whose [`status`](super::status) has `value` in the bits of `mask`. The kernel refuses a mask of 0. It
    /// selects by status since Linux 5.15.
    pub fn status(mut self, value: u32, mask: u32) -> Self {
        self.status = Some((value, mask));
        self
    }

    /// Flows of an IP protocol. The kernel selects by protocol since Linux 5.8, if a family is also given.
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.orig.protocol = Some(protocol);
        self
    }

    /// Flows whose original source has this address. The kernel selects by IPv4 addresses since Linux 5.8, if a family
    /// is also given.
    pub fn src(mut self, address: IpAddr) -> Self {
        self.orig.src = Some(address);
        self
    }

    /// Flows whose original destination has this address. The kernel selects by IPv4 addresses since Linux 5.8, if a
    /// family is also given.
    pub fn dst(mut self, address: IpAddr) -> Self {
        self.orig.dst = Some(address);
        self
    }

    /// Flows with this original source port. The kernel selects by port since Linux 5.8, if a family is also given and
    /// the protocol is TCP or UDP.
    pub fn sport(mut self, port: u16) -> Self {
        self.orig.src_port = Some(port);
        self
    }

    /// Flows with this original destination port. The kernel selects by port since Linux 5.8, if a family is also given
    /// and the protocol is TCP or UDP.
    pub fn dport(mut self, port: u16) -> Self {
        self.orig.dst_port = Some(port);
        self
    }

    /// Appends the criteria of a dump.
    pub(super) fn put_for_dump<'a>(&self, message: MessageBuilder<'a>) -> MessageBuilder<'a> {
        self.orig.put(self.put(message, 0), self.family)
    }

    /// Appends `struct nfgenmsg` and the criteria, except those for the original tuple. For a flush the kernel ignores
    /// the family unless the version is set.
    pub(super) fn put<'a>(&self, message: MessageBuilder<'a>, version: u8) -> MessageBuilder<'a> {
        let mut message = message.bytes(&[self.family.into(), version, 0, 0]);
        if let Some((mark, mask)) = self.mark {
            message = message
                .attribute_be32(cta::MARK, mark)
                .attribute_be32(cta::MARK_MASK, mask);
        }
        if let Some((status, mask)) = self.status {
            message = message
                .attribute_be32(cta::STATUS, status)
                .attribute_be32(cta::STATUS_MASK, mask);
        }
        match self.zone {
            Some(zone) => message.attribute_be16(cta::ZONE, zone),
            None => message,
        }
    }

    /// Whether it selects by the original tuple, which a flush cannot do.
    pub(super) fn picks_by_tuple(&self) -> bool {
        self.orig != OrigFilter::default()
    }

    /// Whether it has criteria that older kernels ignore.
    pub(super) fn picks_by_zone_or_status(&self) -> bool {
        self.zone.is_some() || self.status.is_some()
    }

    /// Whether the filter selects a flow. The kernel makes the same choice, as far as it can.
    #[must_use]
    pub fn matches(&self, flow: &Flow<'_>) -> bool {
        let is = |value: Option<u32>, wanted: Option<(u32, u32)>| {
            wanted.is_none_or(|(wanted, mask)| value.unwrap_or(0) & mask == wanted)
        };
        (self.family == Family::UNSPEC || self.family == flow.family)
            && (self.zone).is_none_or(|zone| flow.zone.map_or(0, |zone| zone.id) == zone)
            && is(flow.mark, self.mark)
            && is(flow.status, self.status)
            && self.orig.matches(&flow.orig)
    }

    pub(super) fn decode<'a>(&self, message: &Message<'a>) -> Option<Flow<'a>> {
        Flow::decode(message).filter(|flow| self.matches(flow))
    }
}

/// The criteria, such as `family ipv4, mark 0x10/0xf0`, or `all flows`.
impl fmt::Display for DumpFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = |name| move |(value, mask)| format!("{name} {value:#x}/{mask:#x}");
        let family = (self.family != Family::default()).then_some(self.family);
        let orig = &self.orig;
        let parts = [
            family.map(|family| format!("family {family}")),
            self.zone.map(|zone| format!("zone {zone}")),
            self.mark.map(bits("mark")),
            self.status.map(bits("status")),
            orig.protocol.map(|number| format!("protocol {number}")),
            orig.src.map(|address| format!("src {address}")),
            orig.dst.map(|address| format!("dst {address}")),
            orig.src_port.map(|port| format!("sport {port}")),
            orig.dst_port.map(|port| format!("dport {port}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        match &parts[..] {
            [] => f.write_str("all flows"),
            parts => f.write_str(&parts.join(", ")),
        }
    }
}
