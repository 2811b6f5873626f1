//! Routes to add, replace or delete.

use std::net::IpAddr;

use super::kernel::{TABLE_COMPAT, protocol, route_flags, route_type, rta, scope, table};
use crate::Family;
use crate::message::{MessageBuilder, put_attribute};

/// A route to [add](super::Requests::add), [replace](super::Requests::replace) or [delete](super::Requests::delete).
///
/// The defaults are those of ip(8). A route that is added is unicast, in the main table, its scope follows from its
/// type and gateway, and its protocol is [`protocol::STATIC`]. For a deletion, a part that is not set matches any
/// route.
///
/// ```
/// use nlring::route::NewRoute;
///
/// let route = NewRoute::new("198.51.100.0".parse().unwrap(), 24)
///     .gateway("192.0.2.1".parse().unwrap())
///     .table(1000)
///     .priority(50);
/// assert_ne!(route, NewRoute::new("198.51.100.0".parse().unwrap(), 24));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct NewRoute<'a> {
    dst: IpAddr,
    prefix_len: u8,
    table: u32,
    hop: NewHop,
    hops: &'a [NewHop],
    priority: Option<u32>,
    route_type: Option<u8>,
    scope: Option<u8>,
    protocol: Option<u8>,
    tos: u8,
    prefsrc: Option<IpAddr>,
    nexthop_id: Option<u32>,
}

impl<'a> NewRoute<'a> {
    /// A route to the addresses that share the leading `prefix_len` bits of `dst`. With 0 bits it is the default route
    /// of the address's family.
    pub fn new(dst: IpAddr, prefix_len: u8) -> Self {
        Self {
            dst,
            prefix_len,
            table: table::MAIN,
            hop: NewHop::new(),
            hops: &[],
            priority: None,
            route_type: None,
            scope: None,
            protocol: None,
            tos: 0,
            prefsrc: None,
            nexthop_id: None,
        }
    }

    /// The table. Numbers beyond 255 are possible.
    pub fn table(mut self, table: u32) -> Self {
        self.table = table;
        self
    }

    /// The gateway. Since Linux 5.2 an IPv4 route may have an IPv6 gateway.
    pub fn gateway(mut self, gateway: IpAddr) -> Self {
        self.hop = self.hop.gateway(gateway);
        self
    }

    /// The index of the outgoing device.
    pub fn oif(mut self, index: u32) -> Self {
        self.hop = self.hop.oif(index);
        self
    }

    /// The hops of a multipath route.
    pub fn hops(mut self, hops: &'a [NewHop]) -> Self {
        self.hops = hops;
        self
    }

    /// The nexthop object that the route uses instead of its own hops. Available since Linux 5.3.
    pub fn nexthop_id(mut self, id: u32) -> Self {
        self.nexthop_id = Some(id);
        self
    }

    /// The metric that ip(8) shows. Of several routes to a destination, the kernel uses the one with the lowest.
    pub fn priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// What happens to the packets, one of [`route_type`].
    pub fn route_type(mut self, route_type: u8) -> Self {
        self.route_type = Some(route_type);
        self
    }

    /// How far the destination is, one of [`scope`].
    pub fn scope(mut self, scope: u8) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Who adds the route, one of [`protocol`].
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// The type of service that the route is for (IPv4).
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// The source address of packets that the machine itself sends over the route.
    pub fn prefsrc(mut self, prefsrc: IpAddr) -> Self {
        self.prefsrc = Some(prefsrc);
        self
    }

    /// Appends `struct rtmsg` and the attributes of a route to add.
    pub(super) fn put_new<'b>(&self, message: MessageBuilder<'b>) -> MessageBuilder<'b> {
        let route_type = self.route_type.unwrap_or(route_type::UNICAST);
        let scope = self.scope.unwrap_or(self.usual_scope(route_type));
        let protocol = self.protocol.unwrap_or(protocol::STATIC);
        self.put(message, protocol, scope, route_type)
    }

    /// Appends `struct rtmsg` and the attributes of a route to delete. A part that is not set matches any.
    pub(super) fn put_old<'b>(&self, message: MessageBuilder<'b>) -> MessageBuilder<'b> {
        let scope = self.scope.unwrap_or(scope::NOWHERE);
        let protocol = self.protocol.unwrap_or(protocol::UNSPEC);
        self.put(message, protocol, scope, self.route_type.unwrap_or(0))
    }

    fn family(&self) -> Family {
        family_of(self.dst)
    }

    /// The scope that ip(8) chooses (ip/iproute.c, `iproute_modify`).
    fn usual_scope(&self, route_type: u8) -> u8 {
        let is_direct =
            self.hop.gateway.is_none() && self.hops.is_empty() && self.nexthop_id.is_none();
        match route_type {
            _ if self.dst.is_ipv6() => scope::UNIVERSE,
            route_type::LOCAL => scope::HOST,
            route_type::BROADCAST | route_type::MULTICAST | route_type::ANYCAST => scope::LINK,
            route_type::UNICAST if is_direct => scope::LINK,
            _ => scope::UNIVERSE,
        }
    }

    fn put<'b>(
        &self,
        message: MessageBuilder<'b>,
        protocol: u8,
        scope: u8,
        route_type: u8,
    ) -> MessageBuilder<'b> {
        let (family, prefix_len, tos) = (self.family(), self.prefix_len, self.tos);
        let table = u8::try_from(self.table).unwrap_or(TABLE_COMPAT);
        let fixed = [
            family.into(),
            prefix_len,
            0,
            tos,
            table,
            protocol,
            scope,
            route_type,
        ];
        let message = message.bytes(&fixed).bytes(&[0; 4]);
        let mut message = message.attribute_u32(rta::TABLE, self.table);
        if self.prefix_len > 0 {
            message = put_ip(message, rta::DST, self.dst);
        }
        if let Some(gateway) = self.hop.gateway {
            let (attribute, value) = gateway_attribute(family, gateway);
            message = message.attribute(attribute, &value);
        }
        for (attribute, value) in [
            (rta::OIF, self.hop.oif),
            (rta::PRIORITY, self.priority),
            (rta::NH_ID, self.nexthop_id),
        ] {
            if let Some(value) = value {
                message = message.attribute_u32(attribute, value);
            }
        }
        if let Some(prefsrc) = self.prefsrc {
            message = put_ip(message, rta::PREFSRC, prefsrc);
        }
        self.put_hops(message)
    }

    fn put_hops<'b>(&self, message: MessageBuilder<'b>) -> MessageBuilder<'b> {
        if self.hops.is_empty() {
            return message;
        }
        let mut hops = Vec::new();
        for hop in self.hops {
            hop.put(self.family(), &mut hops);
        }
        message.attribute(rta::MULTIPATH, &hops)
    }
}

/// A hop of a multipath route to add.
///
/// ```
/// use nlring::route::{NewHop, NewRoute};
///
/// let hops = [
///     NewHop::new().gateway("192.0.2.1".parse().unwrap()).weight(2),
///     NewHop::new().gateway("192.0.2.2".parse().unwrap()),
/// ];
/// let route = NewRoute::new("198.51.100.0".parse().unwrap(), 24).hops(&hops);
/// assert_ne!(route, NewRoute::new("198.51.100.0".parse().unwrap(), 24));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct NewHop {
    gateway: Option<IpAddr>,
    oif: Option<u32>,
    weight: u16,
    flags: u8,
}

impl Default for NewHop {
    fn default() -> Self {
        Self::new()
    }
}

impl NewHop {
    /// A hop of weight 1. It needs a gateway or a device.
    pub fn new() -> Self {
        Self {
            gateway: None,
            oif: None,
            weight: 1,
            flags: 0,
        }
    }

    /// The gateway.
    pub fn gateway(mut self, gateway: IpAddr) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// The outgoing device's index.
    pub fn oif(mut self, index: u32) -> Self {
        self.oif = Some(index);
        self
    }

    /// The share of the packets that the hop gets, 1 to 256. Other values are clamped to this range.
    pub fn weight(mut self, weight: u16) -> Self {
        self.weight = weight.clamp(1, 256);
        self
    }

    /// The kernel assumes that the gateway is on the link ([`route_flags::ONLINK`]).
    pub fn onlink(mut self) -> Self {
        self.flags |= route_flags::ONLINK.to_le_bytes()[0];
        self
    }

    /// Appends `struct rtnexthop` and its attributes.
    fn put(&self, family: Family, hops: &mut Vec<u8>) {
        let start = hops.len();
        let hop_count = u8::try_from(self.weight - 1).unwrap_or(u8::MAX);
        hops.extend_from_slice(&[0, 0, self.flags, hop_count]);
        hops.extend_from_slice(&self.oif.unwrap_or(0).to_ne_bytes());
        if let Some(gateway) = self.gateway {
            let (attribute, value) = gateway_attribute(family, gateway);
            put_attribute(hops, attribute, &value);
        }
        // A header of 8 bytes and a gateway of at most 24.
        let length_bytes = u16::try_from(hops.len() - start).unwrap_or(u16::MAX);
        hops[start..start + 2].copy_from_slice(&length_bytes.to_ne_bytes());
    }
}

pub(super) fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::INET,
        IpAddr::V6(_) => Family::INET6,
    }
}

pub(super) fn put_ip(
    message: MessageBuilder<'_>,
    attribute: u16,
    address: IpAddr,
) -> MessageBuilder<'_> {
    match address {
        IpAddr::V4(address) => message.attribute(attribute, &address.octets()),
        IpAddr::V6(address) => message.attribute(attribute, &address.octets()),
    }
}

/// `RTA_GATEWAY`, or for a gateway of another family `RTA_VIA` with `struct rtvia`.
fn gateway_attribute(family: Family, gateway: IpAddr) -> (u16, Vec<u8>) {
    let octets = match gateway {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    if family_of(gateway) == family {
        (rta::GATEWAY, octets)
    } else {
        let family = u16::from(family_of(gateway).number()).to_ne_bytes();
        (rta::VIA, [&family[..], &octets].concat())
    }
}
