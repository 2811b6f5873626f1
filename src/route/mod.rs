//! Routes, and the other objects of rtnetlink: devices, addresses, neighbours, rules, nexthop objects.
//!
//! [`Route`], [`Link`], [`InterfaceAddress`], [`Neighbour`], [`Rule`], [`NexthopObject`], [`MulticastRoute`] and
//! [`Netconf`] decode one message each, in one pass, without a copy; [`Object`] decodes any of them. Their events
//! arrive on [`Protocol::ROUTE`](crate::Protocol::ROUTE) in the groups of [`Group`]. [`Requests`] asks the kernel for
//! routes and changes them. [`Mirror`] keeps a table of all routes that is repaired after a loss.
//!
//! Route events alone do not keep a table correct, even without a loss: a device that goes down removes its IPv4
//! routes, and no event reports this. A program that keeps a table must also watch links; [`Mirror`] does.
//!
//! The formats are those of Linux v6.18, include/uapi/linux/rtnetlink.h. The contents of an event are decided in
//! net/ipv4/fib_semantics.c (`fib_dump_info`), net/ipv6/route.c (`rt6_fill_node`) and net/core/rtnetlink.c
//! (`rtnl_fill_ifinfo`).

mod address;
mod filter;
mod hop;
mod interface_address;
mod kernel;
mod link;
mod metrics;
mod mirror;
mod multicast_route;
mod names;
mod namespace_id;
mod neighbour;
mod netconf;
mod new_route;
mod nexthop_bucket;
mod nexthop_object;
mod object;
mod owned_route;
mod request;
#[allow(
    clippy::module_inception,
    reason = "its subject is the type of that name"
)]
mod route;
mod rule;

/// What fuzzers drive.
#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub(crate) use super::mirror::tests::fuzz::{events, model};
}

pub use address::{Address, Labels, Via};
pub use filter::{Filter, Term};
pub use hop::{Hop, Nexthop, Nexthops};
pub use interface_address::InterfaceAddress;
pub use kernel::{
    address_flags, encap, link_flags, message_type, metric, neighbour_flags, nud, protocol,
    route_flags, route_type, rta, rule_action, rule_flags, scope, table,
};
pub use link::{AltNames, Link};
pub use metrics::{CacheInfo, Metric, MetricValue, Metrics};
pub use mirror::{Change, Mirror};
pub use multicast_route::{MulticastHop, MulticastHops, MulticastRoute, MulticastStatistics};
pub use names::{encap_name, metric_name, protocol_name, route_type_name, scope_name, table_name};
pub use neighbour::{Neighbour, NeighbourTimes};
pub use netconf::{Netconf, NetconfScope};
pub use new_route::{NewHop, NewRoute};
pub use nexthop_bucket::NexthopBucket;
pub use nexthop_object::{GroupMember, GroupMembers, NexthopObject, ResilientGroup};
pub use object::Object;
pub use owned_route::OwnedRoute;
pub use request::{DumpFilter, Requests};
pub use route::Route;
pub use rule::Rule;

use crate::event_kind::EventKind;
use crate::message::{Message, flags};

/// The multicast groups of rtnetlink that concern routing (`enum rtnetlink_groups`, include/uapi/linux/rtnetlink.h).
/// Joining them needs no capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Group {
    /// Devices.
    Link = 1,
    /// Neighbours.
    Neighbour = 3,
    /// IPv4 addresses of devices.
    Ipv4Address = 5,
    /// IPv4 multicast routes. Available since Linux 3.8.
    Ipv4MulticastRoute = 6,
    /// IPv4 routes.
    Ipv4Route = 7,
    /// IPv4 policy rules.
    Ipv4Rule = 8,
    /// IPv6 addresses of devices.
    Ipv6Address = 9,
    /// IPv6 multicast routes. Available since Linux 3.8.
    Ipv6MulticastRoute = 10,
    /// IPv6 routes.
    Ipv6Route = 11,
    /// IPv6 policy rules.
    Ipv6Rule = 19,
    /// Settings of devices for IPv4, such as forwarding. Available since Linux 3.8.
    Ipv4Netconf = 24,
    /// Settings of devices for IPv6. Available since Linux 3.8.
    Ipv6Netconf = 25,
    /// MPLS routes. Available since Linux 4.1.
    MplsRoute = 27,
    /// Ids that are assigned to other network namespaces. Available since Linux 4.0.
    NamespaceId = 28,
    /// Settings of devices for MPLS. Available since Linux 4.12.
    MplsNetconf = 29,
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

/// The kind of a message of one of two types; None for a message of another type. The kernel marks the entries of a
/// dump with `NLM_F_MULTI` (Linux v6.18, net/ipv4/fib_trie.c, `fn_trie_dump_leaf`; net/ipv6/route.c, `rt6_dump_route`;
/// net/core/rtnetlink.c, `rtnl_dump_ifinfo`).
#[inline]
fn kind_of(message: &Message<'_>, new: u16, delete: u16) -> Option<EventKind> {
    match message.message_type() {
        message_type if message_type == delete => Some(EventKind::Delete),
        message_type if message_type != new => None,
        _ if message.flags() & flags::MULTI != 0 => Some(EventKind::Entry),
        _ => Some(EventKind::New),
    }
}
