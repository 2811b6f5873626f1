//! Conditions on a route.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::names::{PROTOCOL, ROUTE_TYPE, SCOPE, TABLE};
use crate::event_kind::EventKind;
use crate::family::Family;
use crate::filter::{self, Numbers, Prefix};
use crate::message::flags;
use crate::route::{Address, Hop, Route};

/// A condition on a route, which a [`Filter`](super::Filter) combines with others.
///
/// Each function shows the term as text.
///
/// ```
/// use nlring::route::{Filter, Term, protocol};
///
/// let lan = Term::dst_or_longer("192.168.0.0/16".parse().unwrap());
/// let filter = Filter::from(lan).and(!Filter::from(Term::protocol(protocol::KERNEL)));
/// assert_eq!(filter.to_string(), "dst 192.168.0.0/16 or-longer and not proto kernel");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term(pub(super) Kind);

/// What an event says about its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Happened {
    New,
    Replace,
    Append,
    Delete,
}

/// How a route's destination and a prefix compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Relation {
    Equal,
    /// The destination is within the prefix.
    OrLonger,
    /// The prefix is within the destination.
    OrShorter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Event(Happened),
    Family(Family),
    Table(u32),
    Protocol(u8),
    RouteType(u8),
    Scope(u8),
    Dst(Prefix, Relation),
    DefaultDst,
    Gateway(Prefix),
    Oif(u32),
    Metric(Numbers),
    PortId(u32),
}

impl Term {
    /// `event new`: events of a new or changed route, which are all that are not deletions. An entry of a dump or of a
    /// mirror is not an event.
    pub fn event_new() -> Self {
        Self(Kind::Event(Happened::New))
    }

    /// `event replace`: of the events that [`event_new`](Self::event_new) matches, those of a route that replaced
    /// another ([`REPLACE`](flags::REPLACE)).
    pub fn event_replace() -> Self {
        Self(Kind::Event(Happened::Replace))
    }

    /// `event append`: of the events that [`event_new`](Self::event_new) matches, those of a route that was appended to
    /// others with its destination ([`APPEND`](flags::APPEND)).
    pub fn event_append() -> Self {
        Self(Kind::Event(Happened::Append))
    }

    /// `event delete`: events of a deleted route. A device that goes down removes its IPv4 routes without an event.
    pub fn event_delete() -> Self {
        Self(Kind::Event(Happened::Delete))
    }

    /// `family ipv4`, `family ipv6`, `family mpls`: the address family.
    pub fn family(family: Family) -> Self {
        Self(Kind::Family(family))
    }

    /// `table main`, `table 1000`: the routing table.
    pub fn table(table: u32) -> Self {
        Self(Kind::Table(table))
    }

    /// `proto bgp`, `proto 200`: who added the route, one of [`protocol`](crate::route::protocol).
    pub fn protocol(protocol: u8) -> Self {
        Self(Kind::Protocol(protocol))
    }

    /// `type blackhole`: what happens to packets, one of [`route_type`](crate::route::route_type).
    pub fn route_type(route_type: u8) -> Self {
        Self(Kind::RouteType(route_type))
    }

    /// `scope link`: how far the destination is, one of [`scope`](crate::route::scope). All IPv6 routes have
    /// [`UNIVERSE`](crate::route::scope::UNIVERSE), which is `scope global`.
    pub fn scope(scope: u8) -> Self {
        Self(Kind::Scope(scope))
    }

    /// `dst 10.0.0.0/8`: routes to this destination.
    pub fn dst(prefix: Prefix) -> Self {
        Self(Kind::Dst(prefix, Relation::Equal))
    }

    /// `dst 10.0.0.0/8 or-longer`: routes to destinations within the prefix. The prefix itself is one of them.
    pub fn dst_or_longer(prefix: Prefix) -> Self {
        Self(Kind::Dst(prefix, Relation::OrLonger))
    }

    /// `dst 10.1.2.3 or-shorter`: routes to destinations that contain the prefix, down to the default route. The prefix
    /// itself is one of them.
    pub fn dst_or_shorter(prefix: Prefix) -> Self {
        Self(Kind::Dst(prefix, Relation::OrShorter))
    }

    /// `dst default`: the default routes of IPv4 and IPv6.
    pub fn dst_default() -> Self {
        Self(Kind::DefaultDst)
    }

    /// `gateway 192.0.2.1`, `via fe80::/10`: routes with such a gateway, whose family may differ from the route's. For
    /// a multipath route one hop is enough, and the kernel passes all multipath routes.
    pub fn gateway(prefix: Prefix) -> Self {
        Self(Kind::Gateway(prefix))
    }

    /// `oif 3`, `dev 3`: routes that leave by the device with this index. For a multipath route one hop is enough, and
    /// the kernel passes all multipath routes.
    pub fn oif(index: u32) -> Self {
        Self(Kind::Oif(index))
    }

    /// `metric 100-199`: the metric, [`Route::priority`]. A route without one has metric 0.
    pub fn metric(metrics: Numbers) -> Self {
        Self(Kind::Metric(metrics))
    }

    /// `portid 1234`: the port ID of the socket whose request caused the event. A routing daemon can exclude the events
    /// that it caused itself with `not portid` and its own [`port_id`](crate::Socket::port_id). 0 is the kernel.
    pub fn port_id(port_id: u32) -> Self {
        Self(Kind::PortId(port_id))
    }
}

impl filter::Term for Term {
    type Event<'a> = Route<'a>;

    fn matches(&self, route: &Route<'_>) -> bool {
        match &self.0 {
            Kind::Event(happened) => happened.is(route),
            Kind::Family(family) => route.family == *family,
            Kind::Table(table) => route.table == *table,
            Kind::Protocol(protocol) => route.protocol == *protocol,
            Kind::RouteType(route_type) => route.route_type == *route_type,
            Kind::Scope(scope) => route.scope == *scope,
            Kind::Dst(prefix, relation) => {
                dst_of(route).is_some_and(|dst| relation.holds(dst, *prefix))
            }
            Kind::DefaultDst => dst_of(route).is_some_and(|dst| dst.length() == 0),
            Kind::Gateway(prefix) => {
                let mut hops = route.nexthops;
                has_gateway(&route.hop, *prefix) || hops.any(|hop| has_gateway(&hop.hop, *prefix))
            }
            Kind::Oif(index) => {
                let mut hops = route.nexthops;
                route.oif == Some(*index) || hops.any(|hop| hop.oif == *index)
            }
            Kind::Metric(metrics) => metrics.contains(route.priority.unwrap_or(0)),
            Kind::PortId(port_id) => route.port_id == *port_id,
        }
    }
}

impl Happened {
    fn is(self, route: &Route<'_>) -> bool {
        let has = |flag| route.kind == EventKind::New && route.message_flags & flag != 0;
        match self {
            Self::New => route.kind == EventKind::New,
            Self::Replace => has(flags::REPLACE),
            Self::Append => has(flags::APPEND),
            Self::Delete => route.kind == EventKind::Delete,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Replace => "replace",
            Self::Append => "append",
            Self::Delete => "delete",
        }
    }
}

impl Relation {
    fn holds(self, dst: Prefix, prefix: Prefix) -> bool {
        match self {
            Self::Equal => dst == prefix,
            Self::OrLonger => dst.length() >= prefix.length() && prefix.contains(dst.address()),
            Self::OrShorter => dst.length() <= prefix.length() && dst.contains(prefix.address()),
        }
    }
}

/// The destination of an IPv4 or IPv6 route.
fn dst_of(route: &Route<'_>) -> Option<Prefix> {
    let zeros: IpAddr = match route.family {
        Family::INET => Ipv4Addr::UNSPECIFIED.into(),
        Family::INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let address = route.dst.map_or(Some(zeros), |dst| dst.ip())?;
    Prefix::new(address, route.dst_prefix_len)
}

fn has_gateway(hop: &Hop<'_>, prefix: Prefix) -> bool {
    let via = hop.via.as_ref().map(|via| via.address);
    let addresses = [hop.gateway, via.as_ref().and_then(Address::ip)];
    addresses
        .into_iter()
        .flatten()
        .any(|address| prefix.contains(address))
}

/// The text from which the term can be parsed.
impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Event(happened) => write!(f, "event {}", happened.word()),
            Kind::Family(family) => write!(f, "family {family}"),
            Kind::Table(table) => write!(f, "table {}", TABLE.word(*table)),
            Kind::Protocol(protocol) => write!(f, "proto {}", PROTOCOL.word((*protocol).into())),
            Kind::RouteType(number) => write!(f, "type {}", ROUTE_TYPE.word((*number).into())),
            Kind::Scope(scope) => write!(f, "scope {}", SCOPE.word((*scope).into())),
            Kind::Dst(prefix, Relation::Equal) => write!(f, "dst {prefix}"),
            Kind::Dst(prefix, Relation::OrLonger) => write!(f, "dst {prefix} or-longer"),
            Kind::Dst(prefix, Relation::OrShorter) => write!(f, "dst {prefix} or-shorter"),
            Kind::DefaultDst => f.write_str("dst default"),
            Kind::Gateway(prefix) => write!(f, "gateway {prefix}"),
            Kind::Oif(index) => write!(f, "oif {index}"),
            Kind::Metric(metrics) => write!(f, "metric {metrics}"),
            Kind::PortId(port_id) => write!(f, "portid {port_id}"),
        }
    }
}
