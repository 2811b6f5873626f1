//! Route and link messages of rtnetlink, decoded in one pass where they lie.
//!
//! Events come on [`Protocol::ROUTE`](crate::Protocol::ROUTE) in the groups of [`Group`]. The formats are those of
//! Linux v6.18, include/uapi/linux/rtnetlink.h; what the kernel puts into an event is decided in `net/ipv4/fib_semantics.c`
//! (`fib_dump_info`), net/ipv6/route.c (`rt6_fill_node`) and net/core/rtnetlink.c (`rtnl_fill_ifinfo`).
//!
//! A table kept from route events alone goes wrong without any loss: a device going down takes its IPv4 routes
//! along without a word. Whoever keeps one watches links too.

use std::iter::FusedIterator;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::attribute::{Attribute, Attributes};
use crate::message::Message;

/// `RTM_NEWLINK`, `RTM_DELLINK`, `RTM_NEWROUTE`, `RTM_DELROUTE`.
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;

/// Size of `struct rtmsg`.
const ROUTE_FIXED_BYTES: usize = 12;
/// Size of `struct ifinfomsg`.
const LINK_FIXED_BYTES: usize = 16;
/// Size of `struct rtnexthop`.
const NEXTHOP_FIXED_BYTES: usize = 8;
/// `IFLA_IFNAME` (`include/uapi/linux/if_link.h`).
const IFLA_IFNAME: u16 = 3;

/// `enum rtattr_type_t`.
mod rta {
    pub const DST: u16 = 1;
    pub const SRC: u16 = 2;
    pub const IIF: u16 = 3;
    pub const OIF: u16 = 4;
    pub const GATEWAY: u16 = 5;
    pub const PRIORITY: u16 = 6;
    pub const PREFSRC: u16 = 7;
    pub const METRICS: u16 = 8;
    pub const MULTIPATH: u16 = 9;
    pub const FLOW: u16 = 11;
    pub const CACHEINFO: u16 = 12;
    pub const TABLE: u16 = 15;
    pub const MARK: u16 = 16;
    pub const VIA: u16 = 18;
    pub const NEWDST: u16 = 19;
    pub const PREF: u16 = 20;
    pub const ENCAP_TYPE: u16 = 21;
    pub const ENCAP: u16 = 22;
    pub const UID: u16 = 25;
    pub const TTL_PROPAGATE: u16 = 26;
    pub const NH_ID: u16 = 30;
}

/// Address families (include/linux/socket.h), as far as routes use them.
pub mod family {
    /// `AF_UNSPEC`: in a [`Link`](super::Link), the device itself.
    pub const UNSPEC: u8 = 0;
    /// `AF_INET`.
    pub const INET: u8 = 2;
    /// `AF_BRIDGE`: in a [`Link`](super::Link), the device as a bridge's port.
    pub const BRIDGE: u8 = 7;
    /// `AF_INET6`.
    pub const INET6: u8 = 10;
    /// `AF_PACKET`: a link-layer address.
    pub const PACKET: u8 = 17;
    /// `AF_MPLS`.
    pub const MPLS: u8 = 28;
    /// `RTNL_FAMILY_IPMR`: an IPv4 multicast route (include/uapi/linux/rtnetlink.h).
    pub const IPMR: u8 = 128;
    /// `RTNL_FAMILY_IP6MR`: an IPv6 multicast route (include/uapi/linux/rtnetlink.h).
    pub const IP6MR: u8 = 129;
}

/// The multicast groups of rtnetlink that routing is about (`enum rtnetlink_groups`). None needs a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Group {
    /// Devices.
    Link = 1,
    /// Neighbours.
    Neighbour = 3,
    /// IPv4 addresses of devices.
    Ipv4Address = 5,
    /// IPv4 routes.
    Ipv4Route = 7,
    /// IPv4 policy rules.
    Ipv4Rule = 8,
    /// IPv6 addresses of devices.
    Ipv6Address = 9,
    /// IPv6 routes.
    Ipv6Route = 11,
    /// IPv6 policy rules.
    Ipv6Rule = 19,
    /// MPLS routes. Available since Linux 4.1.
    MplsRoute = 27,
    /// Nexthop objects. Available since Linux 5.3.
    Nexthop = 32,
}

impl Group {
    /// The group's number.
    #[inline]
    pub fn number(self) -> u32 {
        self as u32
    }
}

impl From<Group> for u32 {
    fn from(group: Group) -> u32 {
        group.number()
    }
}

/// What became of a route or link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It is there: added, changed, or an entry of a dump.
    New,
    /// It is gone.
    Delete,
}

/// Bits of [`Route::flags`] and [`Nexthop::flags`]: `RTNH_F_*`, and from `NOTIFY` on `RTM_F_*`, which stand in
/// a route only.
pub mod route_flags {
    /// The nexthop cannot be used.
    pub const DEAD: u32 = 1;
    /// The gateway is itself looked up.
    pub const PERVASIVE: u32 = 2;
    /// The gateway is taken to be on the link.
    pub const ONLINK: u32 = 4;
    /// The nexthop is handled by hardware.
    pub const OFFLOAD: u32 = 8;
    /// The nexthop's device has no carrier.
    pub const LINKDOWN: u32 = 16;
    /// The entry is unresolved (multicast).
    pub const UNRESOLVED: u32 = 32;
    /// Hardware sends the nexthop's packets to the kernel. Available since Linux 5.6.
    pub const TRAP: u32 = 64;
    /// The user is told of changes.
    pub const NOTIFY: u32 = 0x100;
    /// An entry of the route cache, not of a table.
    pub const CLONED: u32 = 0x200;
    /// Learned from a router's prefix information (IPv6).
    pub const PREFIX: u32 = 0x800;
    /// The route is handled by hardware. Available since Linux 5.6.
    pub const ROUTE_OFFLOAD: u32 = 0x4000;
    /// Hardware sends the route's packets to the kernel. Available since Linux 5.6.
    pub const ROUTE_TRAP: u32 = 0x8000;
    /// Hardware could not take the route. Available since Linux 5.12.
    pub const ROUTE_OFFLOAD_FAILED: u32 = 0x2000_0000;
}

/// Routing tables that every system has (`enum rt_class_t`).
pub mod table {
    /// For the user's own use.
    pub const DEFAULT: u32 = 253;
    /// Where routes are unless told otherwise.
    pub const MAIN: u32 = 254;
    /// The machine's own addresses, kept by the kernel.
    pub const LOCAL: u32 = 255;
}

/// [`Route::scope`]: how far the destination is (`enum rt_scope_t`).
pub mod scope {
    /// Everywhere.
    pub const UNIVERSE: u8 = 0;
    /// Within the site.
    pub const SITE: u8 = 200;
    /// On the link.
    pub const LINK: u8 = 253;
    /// In this machine.
    pub const HOST: u8 = 254;
    /// Does not exist.
    pub const NOWHERE: u8 = 255;
}

/// [`Route::route_type`]: what becomes of the packet.
pub mod route_type {
    /// Sent on, through a gateway or directly.
    pub const UNICAST: u8 = 1;
    /// Taken in.
    pub const LOCAL: u8 = 2;
    /// Taken in, and sent as broadcast.
    pub const BROADCAST: u8 = 3;
    /// Taken in as broadcast, sent as unicast.
    pub const ANYCAST: u8 = 4;
    /// Multicast.
    pub const MULTICAST: u8 = 5;
    /// Dropped silently.
    pub const BLACKHOLE: u8 = 6;
    /// Dropped, and answered with "host unreachable".
    pub const UNREACHABLE: u8 = 7;
    /// Dropped, and answered with "administratively prohibited".
    pub const PROHIBIT: u8 = 8;
    /// Not in this table.
    pub const THROW: u8 = 9;
}

/// [`Route::protocol`]: who made the route (`RTPROT_*`). Routing daemons have numbers of their own; see
/// [`protocol_name`].
pub mod protocol {
    /// Not said.
    pub const UNSPEC: u8 = 0;
    /// By an ICMP redirect.
    pub const REDIRECT: u8 = 1;
    /// By the kernel.
    pub const KERNEL: u8 = 2;
    /// During boot; what ip(8) says when it is told nothing.
    pub const BOOT: u8 = 3;
    /// By the administrator.
    pub const STATIC: u8 = 4;
}

/// Numbers of the metrics (`RTAX_*`).
pub mod metric {
    /// A mask of the locked metrics, `1 << number`; not a metric itself.
    pub const LOCK: u16 = 1;
    /// Path MTU, bytes.
    pub const MTU: u16 = 2;
    /// Largest TCP window, bytes.
    pub const WINDOW: u16 = 3;
    /// Round-trip time, 1/8 ms.
    pub const RTT: u16 = 4;
    /// Its variance, 1/4 ms.
    pub const RTTVAR: u16 = 5;
    /// Slow-start threshold, segments.
    pub const SSTHRESH: u16 = 6;
    /// Largest congestion window, segments.
    pub const CWND: u16 = 7;
    /// TCP segment size to advertise, bytes.
    pub const ADVMSS: u16 = 8;
    /// Reordering to expect, segments.
    pub const REORDERING: u16 = 9;
    /// Hop limit; `u32::MAX` is the system's default.
    pub const HOPLIMIT: u16 = 10;
    /// Initial congestion window, segments.
    pub const INITCWND: u16 = 11;
    /// Bits of TCP features; 1 is ECN.
    pub const FEATURES: u16 = 12;
    /// Smallest retransmission timeout, ms.
    pub const RTO_MIN: u16 = 13;
    /// Initial receive window, segments.
    pub const INITRWND: u16 = 14;
    /// 1: quick acknowledgements.
    pub const QUICKACK: u16 = 15;
    /// The congestion control algorithm, a name.
    pub const CC_ALGO: u16 = 16;
    /// 1: TCP fast open without a cookie.
    pub const FASTOPEN_NO_COOKIE: u16 = 17;
}

/// Encapsulations that a route can ask for (`enum lwtunnel_encap_types`, include/uapi/linux/lwtunnel.h).
pub mod encap {
    /// MPLS labels.
    pub const MPLS: u16 = 1;
    /// An IPv4 tunnel.
    pub const IP: u16 = 2;
    /// Identifier-locator addressing.
    pub const ILA: u16 = 3;
    /// An IPv6 tunnel.
    pub const IP6: u16 = 4;
    /// IPv6 segment routing.
    pub const SEG6: u16 = 5;
    /// A BPF program.
    pub const BPF: u16 = 6;
    /// A segment routing endpoint.
    pub const SEG6_LOCAL: u16 = 7;
    /// The RPL source routing header.
    pub const RPL: u16 = 8;
    /// In-situ OAM.
    pub const IOAM6: u16 = 9;
    /// An `xfrm` interface, for IP security.
    pub const XFRM: u16 = 10;
}

/// An address of whatever family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address<'a> {
    /// IPv4 or IPv6.
    Ip(IpAddr),
    /// MPLS labels, the outermost first.
    Mpls(Labels<'a>),
    /// Bytes of another family, or of a size that does not fit the family.
    Other(&'a [u8]),
}

impl<'a> Address<'a> {
    /// Reads an address of a family.
    #[inline]
    pub fn new(family: u8, bytes: &'a [u8]) -> Self {
        match family {
            family::MPLS => Self::Mpls(Labels { left: bytes }),
            _ => ip(family, bytes).map_or(Self::Other(bytes), Self::Ip),
        }
    }

    /// The address, when it is IPv4 or IPv6.
    #[inline]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            _ => None,
        }
    }
}

/// An IPv4 or IPv6 address, when the size fits.
#[inline]
fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        family::INET | family::IPMR => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(Ipv4Addr::from)
            .map(IpAddr::V4),
        family::INET6 | family::IP6MR => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(Ipv6Addr::from)
            .map(IpAddr::V6),
        _ => None,
    }
}

/// An iterator over a stack of MPLS labels (`struct mpls_label`, include/uapi/linux/mpls.h), the outermost first.
///
/// Ends at the label that is marked as the bottom of the stack, or with the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels<'a> {
    left: &'a [u8],
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

/// A gateway of another family than the route's (`struct rtvia`). Available since Linux 4.1, for IPv4 routes 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Via<'a> {
    /// The address's family, see [`family`]. Values beyond 255, which no family has, read as 0.
    pub family: u8,
    /// The address.
    pub address: Address<'a>,
}

impl<'a> Via<'a> {
    #[inline]
    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (family, address) = bytes.split_first_chunk()?;
        let family = u8::try_from(u16::from_ne_bytes(*family)).unwrap_or(family::UNSPEC);
        Some(Self {
            family,
            address: Address::new(family, address),
        })
    }
}

/// What the kernel says of a route's age (`struct rta_cacheinfo`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    fn decode(attribute: Attribute<'_>) -> Option<Self> {
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
    left: Attributes<'a>,
}

impl Default for Metrics<'_> {
    fn default() -> Self {
        let left = Attributes::new(&[]);
        Self { left }
    }
}

impl Metrics<'_> {
    /// The metrics that path MTU discovery and TCP may not change: bit `1 << number`.
    pub fn lock_mask(&self) -> u32 {
        let lock = self.left.find(metric::LOCK);
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

/// One metric of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Where a packet goes next, and how: what a route with one nexthop and each hop of a multipath route have in common.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Hop<'a> {
    /// The gateway, in the route's own family.
    pub gateway: Option<IpAddr>,
    /// The gateway, in another family.
    pub via: Option<Via<'a>>,
    /// The labels that replace an MPLS route's own.
    pub new_dst: Option<Address<'a>>,
    /// The encapsulation's type, see [`encap`].
    pub encap_type: Option<u16>,
    /// The encapsulation's own attributes.
    pub encap: Option<Attributes<'a>>,
    /// Realms: the upper 16 bits are the source's, the lower the destination's.
    pub realms: Option<u32>,
}

impl<'a> Hop<'a> {
    #[inline]
    fn set(&mut self, family: u8, attribute: Attribute<'a>) {
        match attribute.attribute_type() {
            rta::GATEWAY => self.gateway = ip(family, attribute.bytes()),
            rta::VIA => self.via = Via::decode(attribute.bytes()),
            rta::NEWDST => self.new_dst = Some(Address::new(family, attribute.bytes())),
            rta::ENCAP_TYPE => self.encap_type = attribute.as_u16(),
            rta::ENCAP => self.encap = Some(attribute.nested()),
            rta::FLOW => self.realms = attribute.as_u32(),
            _ => {}
        }
    }
}

/// One hop of a multipath route (`struct rtnexthop` and its attributes).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Nexthop<'a> {
    /// Index of the device.
    pub oif: u32,
    /// The share of packets it gets, 1 to 256.
    pub weight: u16,
    /// Bits of [`route_flags`].
    pub flags: u32,
    /// Gateway and encapsulation.
    pub hop: Hop<'a>,
}

/// An iterator over the hops of a multipath route, in order.
///
/// Ends at the first one whose length cannot be right (below 8, or beyond the end), as the kernel's `rtnh_ok` does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nexthops<'a> {
    family: u8,
    left: &'a [u8],
}

impl Nexthops<'_> {
    /// Whether there are none: the route is no multipath route.
    #[inline]
    pub fn is_empty(&self) -> bool {
        { *self }.next().is_none()
    }
}

#[allow(
    clippy::copy_iterator,
    reason = "a route is Copy, so are the views in it"
)]
impl<'a> Iterator for Nexthops<'a> {
    type Item = Nexthop<'a>;

    fn next(&mut self) -> Option<Nexthop<'a>> {
        let fixed = self.left.first_chunk::<NEXTHOP_FIXED_BYTES>()?;
        let (&[low, high, flags, hops], oif) = fixed.split_first_chunk()?;
        let oif = oif.first_chunk().copied().map(u32::from_ne_bytes)?;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let attributes = self.left.get(NEXTHOP_FIXED_BYTES..length)?;
        self.left = self
            .left
            .get(crate::attribute::align(length)..)
            .unwrap_or_default();
        let mut hop = Hop::default();
        for attribute in Attributes::new(attributes) {
            hop.set(self.family, attribute);
        }
        Some(Nexthop {
            oif,
            weight: u16::from(hops) + 1,
            flags: u32::from(flags),
            hop,
        })
    }
}

impl FusedIterator for Nexthops<'_> {}

/// A route, as one message tells of it.
///
/// # Example
///
/// ```
/// use nlring::route::{EventKind, Route, protocol, table};
/// use nlring::{MessageBuilder, MessageList};
///
/// // 10.0.0.0/8 via 192.0.2.1 dev 2, in table 1000: message type 24, struct rtmsg, then attributes.
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 24 /* RTM_NEWROUTE */, 0)
///     .bytes(&[2, 8, 0, 0, 252 /* RT_TABLE_COMPAT */, 4, 0, 1, 0, 0, 0, 0])
///     .attribute_u32(15 /* RTA_TABLE */, 1000)
///     .attribute(1 /* RTA_DST */, &[10, 0, 0, 0])
///     .attribute(5 /* RTA_GATEWAY */, &[192, 0, 2, 1])
///     .attribute_u32(4 /* RTA_OIF */, 2)
///     .finish()?;
///
/// let list = MessageList::new(&bytes);
/// let route = list.iter().find_map(|message| Route::decode(&message)).expect("it is a route");
/// assert_eq!(route.kind, EventKind::New);
/// assert_eq!(route.table, 1000);
/// assert_eq!(route.dst.and_then(|dst| dst.ip()), "10.0.0.0".parse().ok());
/// assert_eq!(route.dst_prefix_len, 8);
/// assert_eq!(route.hop.gateway, "192.0.2.1".parse().ok());
/// assert_eq!(route.protocol, protocol::STATIC);
/// assert!(route.nexthops.is_empty());
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Route<'a> {
    /// What became of it.
    pub kind: EventKind,
    /// The message's [`flags`](crate::flags). In an event `REPLACE` says that it took another's place, `APPEND` that it
    /// was put behind others with the same destination, `CREATE` that it was added.
    pub message_flags: u16,
    /// The port ID of the message: whose request caused it, 0 for the kernel itself.
    pub port_id: u32,
    /// Address family, see [`family`].
    pub family: u8,
    /// The routing table, beyond 255 too.
    pub table: u32,
    /// Who made it, see [`protocol`].
    pub protocol: u8,
    /// See [`scope`].
    pub scope: u8,
    /// See [`route_type`].
    pub route_type: u8,
    /// The type of service it holds for; 0: all.
    pub tos: u8,
    /// Bits of [`route_flags`].
    pub flags: u32,
    /// Destination; None with a prefix length of 0 is the default route.
    pub dst: Option<Address<'a>>,
    /// Leading bits of `dst` that count.
    pub dst_prefix_len: u8,
    /// Source it holds for (IPv6).
    pub src: Option<Address<'a>>,
    /// Leading bits of `src` that count.
    pub src_prefix_len: u8,
    /// The source address of packets that the machine itself sends by it.
    pub prefsrc: Option<IpAddr>,
    /// Gateway and encapsulation, for a route with one hop.
    pub hop: Hop<'a>,
    /// The hops of a multipath route.
    pub nexthops: Nexthops<'a>,
    /// Index of the outgoing device.
    pub oif: Option<u32>,
    /// Index of the incoming device (multicast and lookups).
    pub iif: Option<u32>,
    /// The metric that ip(8) shows: of several routes to a destination, the lowest is used.
    pub priority: Option<u32>,
    /// What TCP is to start from.
    pub metrics: Metrics<'a>,
    /// The nexthop object it uses. Available since Linux 5.3.
    pub nexthop_id: Option<u32>,
    /// The router's preference (RFC 4191): 0 medium, 1 high, 3 low. IPv6, available since Linux 4.1.
    pub pref: Option<u8>,
    /// Age and error.
    pub cache_info: Option<CacheInfo>,
    /// The mark a lookup was made with.
    pub mark: Option<u32>,
    /// The user a lookup was made for. Available since Linux 4.11.
    pub uid: Option<u32>,
    /// Whether the TTL is carried over into MPLS. Available since Linux 4.12.
    pub ttl_propagate: Option<bool>,
}

impl<'a> Route<'a> {
    /// Decodes a message in one pass. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None when the message is neither `RTM_NEWROUTE` nor `RTM_DELROUTE`, or too short for `struct rtmsg`.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = match message.message_type() {
            NEW_ROUTE => EventKind::New,
            DELETE_ROUTE => EventKind::Delete,
            _ => return None,
        };
        let mut route = Self::without_attributes(kind, message)?;
        for attribute in message.attributes(ROUTE_FIXED_BYTES) {
            route.set(attribute);
        }
        Some(route)
    }

    /// Whether it is an entry of the route cache, which `ip monitor` does not show.
    #[inline]
    pub fn is_cloned(&self) -> bool {
        self.flags & route_flags::CLONED != 0
    }

    /// Reads `struct rtmsg`.
    #[inline]
    fn without_attributes(kind: EventKind, message: &Message<'_>) -> Option<Self> {
        let &[
            family,
            dst_prefix_len,
            src_prefix_len,
            tos,
            table,
            protocol,
            scope,
            route_type,
            flags @ ..,
        ] = message.payload().first_chunk::<ROUTE_FIXED_BYTES>()?;
        Some(Self {
            kind,
            message_flags: message.flags(),
            port_id: message.port_id(),
            family,
            table: u32::from(table),
            protocol,
            scope,
            route_type,
            tos,
            flags: u32::from_ne_bytes(flags),
            dst: None,
            dst_prefix_len,
            src: None,
            src_prefix_len,
            prefsrc: None,
            hop: Hop::default(),
            nexthops: Nexthops::default(),
            oif: None,
            iif: None,
            priority: None,
            metrics: Metrics::default(),
            nexthop_id: None,
            pref: None,
            cache_info: None,
            mark: None,
            uid: None,
            ttl_propagate: None,
        })
    }

    /// Takes over an attribute.
    #[inline]
    fn set(&mut self, attribute: Attribute<'a>) {
        match attribute.attribute_type() {
            rta::DST => self.dst = Some(Address::new(self.family, attribute.bytes())),
            rta::SRC => self.src = Some(Address::new(self.family, attribute.bytes())),
            rta::IIF => self.iif = attribute.as_u32(),
            rta::OIF => self.oif = attribute.as_u32(),
            rta::PRIORITY => self.priority = attribute.as_u32(),
            rta::PREFSRC => self.prefsrc = ip(self.family, attribute.bytes()),
            rta::METRICS => self.metrics.left = attribute.nested(),
            rta::MULTIPATH => {
                self.nexthops = Nexthops {
                    family: self.family,
                    left: attribute.bytes(),
                };
            }
            rta::CACHEINFO => self.cache_info = CacheInfo::decode(attribute),
            rta::TABLE => self.table = attribute.as_u32().unwrap_or(self.table),
            rta::MARK => self.mark = attribute.as_u32(),
            rta::PREF => self.pref = attribute.as_u8(),
            rta::UID => self.uid = attribute.as_u32(),
            rta::TTL_PROPAGATE => self.ttl_propagate = attribute.as_u8().map(|byte| byte != 0),
            rta::NH_ID => self.nexthop_id = attribute.as_u32(),
            _ => self.hop.set(self.family, attribute),
        }
    }
}

/// A device, as one message tells of it: no more than its name needs.
///
/// ```
/// use nlring::route::{EventKind, Link};
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 16 /* RTM_NEWLINK */, 0)
///     .bytes(&[0, 0, 1, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]) // struct ifinfomsg, little-endian
///     .attribute_str_nul(3 /* IFLA_IFNAME */, "eth0")
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let link = list.iter().find_map(|message| Link::decode(&message)).expect("it is a link");
/// # if cfg!(target_endian = "little") {
/// assert_eq!((link.index, link.name), (7, Some(&b"eth0"[..])));
/// # }
/// assert_eq!(link.kind, EventKind::New);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link<'a> {
    /// What became of it.
    pub kind: EventKind,
    /// [`family::UNSPEC`] for the device itself. Others tell of its part in something else: a Delete with
    /// [`family::BRIDGE`] says that it left a bridge, not that it is gone.
    pub family: u8,
    /// Hardware type (`ARPHRD_*`, `include/uapi/linux/if_arp.h`).
    pub link_type: u16,
    /// Its index.
    pub index: u32,
    /// `IFF_*` (include/uapi/linux/if.h).
    pub flags: u32,
    /// Its name: any bytes but NUL, `/`, `:` and white space (Linux v6.18, net/core/dev.c, `dev_valid_name`).
    pub name: Option<&'a [u8]>,
}

impl<'a> Link<'a> {
    /// Decodes a message.
    ///
    /// None when the message is neither `RTM_NEWLINK` nor `RTM_DELLINK`, or too short for `struct ifinfomsg`.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = match message.message_type() {
            NEW_LINK => EventKind::New,
            DELETE_LINK => EventKind::Delete,
            _ => return None,
        };
        let fixed = message.payload().first_chunk::<LINK_FIXED_BYTES>()?;
        let (&[family, _, type_low, type_high], rest) = fixed.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (flags, _change_mask) = rest.split_first_chunk()?;
        let name = message.attributes(LINK_FIXED_BYTES).find(IFLA_IFNAME);
        Some(Self {
            kind,
            family,
            link_type: u16::from_ne_bytes([type_low, type_high]),
            index: u32::from_ne_bytes(*index),
            flags: u32::from_ne_bytes(*flags),
            name: name.map(|name| name.as_str_bytes()),
        })
    }

    /// Whether the device itself is gone.
    #[inline]
    pub fn is_deleted(&self) -> bool {
        self.kind == EventKind::Delete && self.family == family::UNSPEC
    }
}

/// The name of a [`protocol`] number, as ip(8) has it without its configuration.
///
/// ```
/// assert_eq!(nlring::route::protocol_name(12), Some("bird"));
/// assert_eq!(nlring::route::protocol_name(100), None);
/// ```
pub fn protocol_name(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        0 => "unspec",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        8 => "gated",
        9 => "ra",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        16 => "dhcp",
        18 => "keepalived",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        _ => return None,
    })
}

/// The name of a [`scope`], as ip(8) has it.
pub fn scope_name(scope: u8) -> Option<&'static str> {
    Some(match scope {
        scope::UNIVERSE => "global",
        scope::SITE => "site",
        scope::LINK => "link",
        scope::HOST => "host",
        scope::NOWHERE => "nowhere",
        _ => return None,
    })
}

/// The name of a [`table`], as ip(8) has it without its configuration.
pub fn table_name(table: u32) -> Option<&'static str> {
    Some(match table {
        table::DEFAULT => "default",
        table::MAIN => "main",
        table::LOCAL => "local",
        _ => return None,
    })
}

/// The name of a [`route_type`], as ip(8) has it.
pub fn route_type_name(route_type: u8) -> Option<&'static str> {
    let names = [
        "none",
        "unicast",
        "local",
        "broadcast",
        "anycast",
        "multicast",
        "blackhole",
        "unreachable",
        "prohibit",
        "throw",
        "nat",
        "xresolve",
    ];
    names.get(usize::from(route_type)).copied()
}

/// The name of an encapsulation in [`encap`], as ip(8) has it.
pub fn encap_name(encap_type: u16) -> Option<&'static str> {
    let names = [
        "none",
        "mpls",
        "ip",
        "ila",
        "ip6",
        "seg6",
        "bpf",
        "seg6local",
        "rpl",
        "ioam6",
        "xfrm",
    ];
    names.get(usize::from(encap_type)).copied()
}

/// The name of a [`metric`], as ip(8) has it.
pub fn metric_name(number: u16) -> Option<&'static str> {
    let names = [
        "mtu",
        "window",
        "rtt",
        "rttvar",
        "ssthresh",
        "cwnd",
        "advmss",
        "reordering",
        "hoplimit",
        "initcwnd",
        "features",
        "rto_min",
        "initrwnd",
        "quickack",
        "congctl",
        "fastopen_no_cookie",
    ];
    let index = usize::from(number.checked_sub(metric::MTU)?);
    names.get(index).copied()
}

/// On bytes as Linux 6.18 sent them to a little-endian machine; v0 is device 3, br0 device 4.
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;
    use crate::{HEADER_BYTES, MessageList};

    // 10.3.1.0/24 metric 7 nexthop via 10.0.0.2 dev v0 onlink nexthop dev br0.
    const MULTIPATH: &str = "\
        50000000180000068b48056bfd26000002180000fe0300010000000008000f00fe000000080001000a0301000800060007000000\
        1c0009001000040003000000080005000a0000020800000004000000";

    // 10.12.0.0/16 via inet6 fe80::5 dev v0.
    const VIA_INET6: &str = "\
        4c000000180000068b48056b0827000002100000fe0300010000000008000f00fe000000080001000a0c0000160012000a00fe80\
        000000000000000000000000000500000800040003000000";

    // 10.10.0.1 via 10.0.0.2 dev v0 mtu lock 1400 ... congctl cubic.
    const METRICS: &str = "\
        cc000000180000068b48056b0527000002200000fe0300010000000008000f00fe000000080001000a0a00019000080008000100\
        84200000080002007805000008000300f401000008000400e02e000008000500e02e000008000600070000000800070009000000\
        0800080014050000080009000400000008000a000900000008000b000a00000008000c000100000008000d00c800000008000e00\
        0b00000008000f00010000000a00100063756269630000000800110001000000080005000a0000020800040003000000";

    // fd01::/64 via fe80::2 dev v0 expires 300sec.
    const EXPIRES: &str = "\
        88000000180000068b48056b252700000a400000fe0300010000000008000f00fe00000014000100fd0100000000000000000000\
        00000000080006000004000014000500fe800000000000000000000000000002080004000300000024000c000000000000000000\
        3075000000000000000000000000000000000000000000000500140000000000";

    // 10.4.0.0/16 via 10.0.0.2 dev v0 table 1000.
    const TABLE: &str = "\
        3c000000180000068b48056bfe26000002100000fc0300010000000008000f00e8030000080001000a040000080005000a000002\
        0800040003000000";

    // 10.16.0.0/16 encap ip id 100 ... via 10.0.0.2 dev v0.
    const ENCAP: &str = "\
        7c000000180000068b48056b1127000002100000fe0300010000000008000f00fe000000080001000a100000080005000a000002\
        0800040003000000380016000c000100000000000000006408000200010101010800030002020202050005000400000005000400\
        0900000006000600000d00000600150002000000";

    /// A captured datagram's bytes.
    fn unhex(digits: &str) -> Vec<u8> {
        let digit = |byte: &u8| u8::try_from(char::from(*byte).to_digit(16).unwrap()).unwrap();
        let pairs = digits.as_bytes().chunks(2);
        pairs
            .map(|pair| digit(&pair[0]) << 4 | digit(&pair[1]))
            .collect()
    }

    /// Every way to cut it short, and every byte changed: whatever comes out, it must come out.
    fn for_each_spoiled(digits: &str, mut look: impl FnMut(&[u8])) {
        let bytes = unhex(digits);
        for length in HEADER_BYTES..bytes.len() {
            let mut cut = bytes[..length].to_vec();
            cut[..4].copy_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
            look(&cut);
        }
        for index in 4..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[index] ^= change;
                look(&changed);
            }
        }
    }

    /// Decodes the only message in the bytes.
    fn decode(bytes: &[u8]) -> Option<Route<'_>> {
        Route::decode(&MessageList::new(bytes).datagrams()[0].messages().next()?)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_table_beyond_255_is_its_attribute() {
        let bytes = unhex(TABLE);
        let route = decode(&bytes).unwrap();
        assert_eq!((route.kind, route.table), (EventKind::New, 1000));
        assert_eq!(route.dst, Some(Address::Ip(ip("10.4.0.0"))));
        assert_eq!((route.dst_prefix_len, route.oif), (16, Some(3)));
        assert_eq!(route.hop.gateway, Some(ip("10.0.0.2")));
        assert_eq!(route.protocol, protocol::BOOT);
        assert!(route.nexthops.is_empty() && route.port_id != 0);
    }

    #[test]
    fn each_hop_has_its_own_flags_and_weight() {
        let bytes = unhex(MULTIPATH);
        let route = decode(&bytes).unwrap();
        assert_eq!((route.priority, route.oif), (Some(7), None));
        let hops: Vec<_> = route.nexthops.collect();
        let gateways = [Some(ip("10.0.0.2")), None];
        assert_eq!(gateways, [hops[0].hop.gateway, hops[1].hop.gateway]);
        assert_eq!(hops[0].flags, route_flags::ONLINK);
        assert_eq!((hops[0].oif, hops[0].weight, hops.len()), (3, 1, 2));
    }

    #[test]
    fn a_gateway_may_be_of_another_family() {
        let bytes = unhex(VIA_INET6);
        let via = decode(&bytes).unwrap().hop.via.unwrap();
        assert_eq!(
            (via.family, via.address),
            (family::INET6, Address::Ip(ip("fe80::5")))
        );
    }

    #[test]
    fn metrics_come_by_number_and_tell_their_locks() {
        let bytes = unhex(METRICS);
        let metrics = decode(&bytes).unwrap().metrics;
        let lock = |number: u16| 1_u32 << number;
        let locked = lock(metric::MTU) | lock(metric::CWND) | lock(metric::RTO_MIN);
        assert_eq!(metrics.lock_mask(), locked);
        assert_eq!(
            metrics.map(|metric| metric.number).collect::<Vec<_>>(),
            (2..=17).collect::<Vec<_>>()
        );
        let value_of = |number| {
            { metrics }
                .find(|metric| metric.number == number)
                .unwrap()
                .value
        };
        assert_eq!(value_of(metric::MTU), MetricValue::Number(1400));
        assert_eq!(value_of(metric::CC_ALGO), MetricValue::Name(b"cubic"));
    }

    #[test]
    fn an_ipv6_route_has_age_and_preference() {
        let bytes = unhex(EXPIRES);
        let route = decode(&bytes).unwrap();
        assert_eq!(route.dst, Some(Address::Ip(ip("fd01::"))));
        assert_eq!(route.cache_info.unwrap().expires_seconds(), Some(300));
        assert_eq!((route.pref, route.priority), (Some(0), Some(1024)));
    }

    #[test]
    fn an_encapsulation_keeps_its_attributes() {
        let bytes = unhex(ENCAP);
        let hop = decode(&bytes).unwrap().hop;
        assert_eq!(hop.encap_type, Some(encap::IP));
        let id = hop.encap.unwrap().find(1).unwrap();
        assert_eq!(id.as_be64(), Some(100));
    }

    #[test]
    fn labels_end_at_the_bottom_of_the_stack() {
        let stack = [0, 0x06, 0x40, 0, 0, 0x0c, 0x81, 0, 0, 0x12, 0xc0, 0];
        let Address::Mpls(labels) = Address::new(family::MPLS, &stack) else {
            panic!("it is of the family")
        };
        assert_eq!(labels.collect::<Vec<_>>(), [100, 200]);
        assert_eq!(Labels { left: &stack[..7] }.count(), 1);
    }

    #[test]
    fn leaving_a_bridge_is_not_the_end_of_a_device() {
        let link_of = |family| {
            let mut bytes = unhex(TABLE);
            bytes[4] = 17;
            bytes[16] = family;
            let list = MessageList::new(&bytes);
            let link = list.iter().find_map(|message| Link::decode(&message));
            link.unwrap().is_deleted()
        };
        assert!(link_of(family::UNSPEC) && !link_of(family::BRIDGE));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut count = 0;
        for digits in [MULTIPATH, VIA_INET6, METRICS, EXPIRES, TABLE, ENCAP] {
            for_each_spoiled(digits, |bytes| {
                let message = MessageList::new(bytes).datagrams()[0].messages().next();
                count += usize::from(message.as_ref().and_then(Link::decode).is_some());
                if let Some(route) = message.as_ref().and_then(Route::decode) {
                    count += route.nexthops.count() + route.metrics.count();
                    count += route.hop.encap.map_or(0, Iterator::count);
                }
            });
        }
        assert!(count > 0);
    }
}
