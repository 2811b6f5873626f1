//! Routes, decoded from their messages.

use std::net::IpAddr;

use super::address::{Address, ip};
use super::hop::{Hop, Nexthops};
use super::kernel::{ROUTE_FIXED_BYTES, message_type, route_flags, rta};
use super::kind_of;
use super::metrics::{CacheInfo, Metrics};
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Attribute, Message};

/// A route, as one message describes it.
///
/// Two routes are equal if all their fields are equal.
///
/// # Example
///
/// ```
/// use nlring::EventKind;
/// use nlring::route::{Route, protocol, table};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Route<'a> {
    /// What the message says about the route.
    pub kind: EventKind,
    /// The message's [`flags`](crate::message::flags). In an event `CREATE` says that the route was added, `REPLACE`
    /// that it replaced another, and `APPEND` that it was added after others with the same destination.
    pub message_flags: u16,
    /// The port ID of the message: that of the socket whose request caused it, or 0 if the kernel caused it.
    pub port_id: u32,
    /// The address family.
    pub family: Family,
    /// The routing table. Numbers beyond 255 are possible.
    pub table: u32,
    /// Who added the route, one of [`protocol`](super::protocol).
    pub protocol: u8,
    /// How far the destination is, one of [`scope`](super::scope).
    pub scope: u8,
    /// What happens to the packets, one of [`route_type`](super::route_type).
    pub route_type: u8,
    /// The type of service that the route is for. 0 means all.
    pub tos: u8,
    /// Bits of [`route_flags`].
    pub flags: u32,
    /// The destination. None with a prefix length of 0 is the default route.
    pub dst: Option<Address<'a>>,
    /// The number of leading bits of `dst` that count.
    pub dst_prefix_len: u8,
    /// The source that the route is for (IPv6).
    pub src: Option<Address<'a>>,
    /// The number of leading bits of `src` that count.
    pub src_prefix_len: u8,
    /// The source address of packets that the machine itself sends over the route.
    pub prefsrc: Option<IpAddr>,
    /// The gateway and encapsulation of a route with one hop.
    pub hop: Hop<'a>,
    /// The hops of a multipath route.
    pub nexthops: Nexthops<'a>,
    /// The index of the outgoing device.
    pub oif: Option<u32>,
    /// The index of the incoming device (multicast and lookups).
    pub iif: Option<u32>,
    /// The metric that ip(8) shows. Of several routes to a destination, the kernel uses the one with the lowest.
    pub priority: Option<u32>,
    /// The initial parameters of TCP.
    pub metrics: Metrics<'a>,
    /// The nexthop object that the route uses. Available since Linux 5.3.
    pub nexthop_id: Option<u32>,
    /// The router's preference (RFC 4191): 0 is medium, 1 high, 3 low. IPv6 only. Available since Linux 4.1.
    pub pref: Option<u8>,
    /// The age of the route, and the error with which it answers packets.
    pub cache_info: Option<CacheInfo>,
    /// The mark that a lookup was made with.
    pub mark: Option<u32>,
    /// The user that a lookup was made for. Available since Linux 4.11.
    pub uid: Option<u32>,
    /// Whether MPLS carries over the TTL. Available since Linux 4.12.
    pub ttl_propagate: Option<bool>,
}

impl<'a> Route<'a> {
    /// Decodes a message in one pass. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None if the message is neither of type [`NEW_ROUTE`](message_type::NEW_ROUTE) nor
    /// [`DELETE_ROUTE`](message_type::DELETE_ROUTE), or too short for `struct rtmsg`.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = kind_of(message, message_type::NEW_ROUTE, message_type::DELETE_ROUTE)?;
        let mut route = Self::without_attributes(kind, message)?;
        for attribute in message.attributes(ROUTE_FIXED_BYTES) {
            route.set(attribute);
        }
        Some(route)
    }

    /// Whether this is an entry of the route cache, which `ip monitor` does not show.
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
            family: family.into(),
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

    /// Stores an attribute.
    #[inline]
    fn set(&mut self, attribute: Attribute<'a>) {
        match attribute.attribute_type() {
            rta::DST => self.dst = Some(Address::new(self.family, attribute.bytes())),
            rta::SRC => self.src = Some(Address::new(self.family, attribute.bytes())),
            rta::IIF => self.iif = attribute.as_u32(),
            rta::OIF => self.oif = attribute.as_u32(),
            rta::PRIORITY => self.priority = attribute.as_u32(),
            rta::PREFSRC => self.prefsrc = ip(self.family, attribute.bytes()),
            rta::METRICS => self.metrics = Metrics::new(attribute.nested()),
            rta::MULTIPATH => {
                self.nexthops = Nexthops::new(self.family, attribute.bytes());
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

/// On bytes as Linux 6.18 sent them to a little-endian machine; v0 is device 3, br0 device 4.
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use nlring_testing::datagrams::for_each_damaged;
    use nlring_testing::datagrams::route::{
        ENCAP_IP, EXPIRES, METRICS, MULTIPATH, TABLE_1000, VIA_INET6,
    };

    use super::*;
    use crate::MessageList;
    use crate::route::{Link, MetricValue, encap, metric, protocol};

    /// Decodes the only message in the bytes.
    fn decode(bytes: &[u8]) -> Option<Route<'_>> {
        Route::decode(&MessageList::new(bytes).datagrams()[0].messages().next()?)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_table_beyond_255_is_read_from_its_attribute() {
        let route = decode(TABLE_1000).unwrap();
        assert_eq!((route.kind, route.table), (EventKind::New, 1000));
        assert_eq!(route.dst, Some(Address::Ip(ip("10.4.0.0"))));
        assert_eq!((route.dst_prefix_len, route.oif), (16, Some(3)));
        assert_eq!(route.hop.gateway, Some(ip("10.0.0.2")));
        assert_eq!(route.protocol, protocol::BOOT);
        assert!(route.nexthops.is_empty() && route.port_id != 0);
    }

    #[test]
    fn each_hop_has_its_own_flags_and_weight() {
        let route = decode(MULTIPATH).unwrap();
        assert_eq!((route.priority, route.oif), (Some(7), None));
        let hops: Vec<_> = route.nexthops.collect();
        let gateways = [Some(ip("10.0.0.2")), None];
        assert_eq!(gateways, [hops[0].hop.gateway, hops[1].hop.gateway]);
        assert_eq!(hops[0].flags, route_flags::ONLINK);
        assert_eq!((hops[0].oif, hops[0].weight, hops.len()), (3, 1, 2));
    }

    #[test]
    fn a_gateway_may_be_of_another_family() {
        let via = decode(VIA_INET6).unwrap().hop.via.unwrap();
        assert_eq!(
            (via.family, via.address),
            (Family::INET6, Address::Ip(ip("fe80::5")))
        );
    }

    #[test]
    fn metrics_have_their_numbers_and_locks() {
        let metrics = decode(METRICS).unwrap().metrics;
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
        let route = decode(EXPIRES).unwrap();
        assert_eq!(route.dst, Some(Address::Ip(ip("fd01::"))));
        assert_eq!(route.cache_info.unwrap().expires_seconds(), Some(300));
        assert_eq!((route.pref, route.priority), (Some(0), Some(1024)));
    }

    #[test]
    fn an_encapsulation_keeps_its_attributes() {
        let hop = decode(ENCAP_IP).unwrap().hop;
        assert_eq!(hop.encap_type, Some(encap::IP));
        let id = hop.encap.unwrap().get(1).unwrap();
        assert_eq!(id.as_be64(), Some(100));
    }

    #[test]
    fn leaving_a_bridge_is_not_the_end_of_a_device() {
        let link_of = |family: Family| {
            let mut bytes = TABLE_1000.to_vec();
            bytes[4] = 17;
            bytes[16] = family.into();
            let list = MessageList::new(&bytes);
            let link = list.iter().find_map(|message| Link::decode(&message));
            link.unwrap().is_deleted()
        };
        assert!(link_of(Family::UNSPEC) && !link_of(Family::BRIDGE));
    }

    #[test]
    fn no_bytes_cause_a_panic() {
        let mut count = 0;
        for datagram in [MULTIPATH, VIA_INET6, METRICS, EXPIRES, TABLE_1000, ENCAP_IP] {
            for_each_damaged(datagram, |bytes| {
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
