//! What is kept of a route: a whole `RTM_NEWROUTE` message, which can be decoded again, and its identity, which
//! distinguishes it from other routes.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Attribute, Message, MessageBuilder, Messages, align};
use crate::mirror::count_step;
use crate::route::kernel::{NEXTHOP_FIXED_BYTES, ROUTE_FIXED_BYTES, message_type};
use crate::route::{Address, Nexthops, Route, protocol, route_flags, rta, table};

/// `RTPROT_RA`: learned from a router's advertisement.
const PROTOCOL_RA: u8 = 9;
/// The state of a hop, which changes by itself: these bits of a route or a hop do not distinguish it from others.
const STATES: u32 = route_flags::DEAD
    | route_flags::OFFLOAD
    | route_flags::LINKDOWN
    | route_flags::UNRESOLVED
    | route_flags::TRAP
    | route_flags::ROUTE_OFFLOAD
    | route_flags::ROUTE_TRAP
    | route_flags::ROUTE_OFFLOAD_FAILED;

/// The values by which the kernel finds a route when it adds, replaces or deletes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub place: Place,
    dst_prefix_len: u8,
    src: [u8; 16],
    src_prefix_len: u8,
    tos: u8,
    priority: u32,
}

/// The values by which the kernel finds the route that another one replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ReplaceKey {
    pub key: Key,
    /// IPv6 routes with gateways replace each other, and so do those without.
    pub has_gateways: bool,
}

/// A table and a destination. An event changes only routes of one place. When an IPv4 route is deleted, a dump may skip
/// only routes of the same place, which is a leaf of the kernel's trie. The tables local and main may share such a
/// leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    family: Family,
    table: u32,
    dst: [u8; 16],
}

/// What distinguishes a route from others with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// Everything except the states of its hops. The kernel keeps two IPv4 routes that differ in any way
    /// (net/ipv4/fib_semantics.c, `fib_find_info`), and never changes one. It may keep two IPv6 routes that differ in
    /// nothing but their protocol, after one has replaced another.
    Whole,
    /// A nexthop object. IPv4: everything except the hops, which belong to the object and change with it. IPv6: the
    /// object's id.
    Object,
    /// IPv6 with gateways: the type. A key has one such route of each type, and its hops come and go
    /// (net/ipv6/ip6_fib.c, `fib6_add_rt2node`; include/net/ip6_route.h, `rt6_qualify_for_ecmp`).
    Gateways,
    /// MPLS: nothing, because a label has one route.
    Label,
}

/// What is left of a route after one of its hops was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The whole route: it had no such hop.
    All,
    /// Nothing: it had no other hop.
    Nothing,
    /// Other hops. The route with these was written.
    Rest,
}

impl Place {
    pub(super) fn new(family: Family, table: u32, dst: [u8; 16]) -> Self {
        let shares_trie = family == Family::INET && table == table::LOCAL;
        Self {
            family,
            table: if shares_trie { table::MAIN } else { table },
            dst,
        }
    }
}

impl Key {
    pub(super) fn of(route: &Route<'_>) -> Self {
        Self {
            place: Place::new(route.family, route.table, address_bytes(route.dst)),
            dst_prefix_len: route.dst_prefix_len,
            src: address_bytes(route.src),
            src_prefix_len: route.src_prefix_len,
            tos: route.tos,
            priority: route.priority.unwrap_or(0),
        }
    }
}

/// An address in the form of a key: padded with zeros. A missing address is all zeros.
pub(super) fn address_bytes(address: Option<Address<'_>>) -> [u8; 16] {
    match address {
        Some(Address::Ip(ip)) => ip_bytes(ip),
        Some(Address::Mpls(mut labels)) => label_bytes(labels.next().unwrap_or(0)),
        Some(Address::Other(_)) | None => [0; 16],
    }
}

pub(super) fn ip_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => first_four(ip.octets()),
        IpAddr::V6(ip) => ip.octets(),
    }
}

pub(super) fn label_bytes(label: u32) -> [u8; 16] {
    first_four(label.to_be_bytes())
}

fn first_four([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Whether a mirror keeps the route. It keeps neither multicast routes nor those of the cache, which are in other
/// tables.
pub(super) fn is_kept(route: &Route<'_>) -> bool {
    matches!(route.family, Family::INET | Family::INET6 | Family::MPLS) && !route.is_cloned()
}

/// The message in the bytes of a kept route.
pub(super) fn message(bytes: &[u8]) -> Option<Message<'_>> {
    count_step();
    Messages::new(bytes).next()
}

/// The route in the bytes of a kept route.
pub(super) fn route(bytes: &[u8], kind: EventKind) -> Option<Route<'_>> {
    let route = Route::decode(&message(bytes)?)?;
    Some(Route { kind, ..route })
}

/// Writes what is kept of a route. This leaves out what changes although the route does not: its age, and who requested
/// it. IPv6 hops are sorted, because they have no order: a dump and an event begin with different hops.
pub(super) fn keep(message: &Message<'_>, kept: &mut Vec<u8>) {
    kept.clear();
    let Some(fixed) = message.payload().first_chunk::<ROUTE_FIXED_BYTES>() else {
        return;
    };
    let (mut fixed, is_ipv6) = (*fixed, fixed[0] == Family::INET6.number());
    let flags = flags_of(&fixed) & !(route_flags::NOTIFY | route_flags::CLONED);
    set_flags(&mut fixed, flags);
    let mut builder = MessageBuilder::new(kept, message_type::NEW_ROUTE, 0).bytes(&fixed);
    for attribute in message.attributes(ROUTE_FIXED_BYTES) {
        builder = match attribute.attribute_type() {
            rta::CACHEINFO | rta::MARK | rta::UID => builder,
            rta::MULTIPATH if is_ipv6 => {
                let mut hops: Vec<_> = Hops(attribute.bytes()).collect();
                hops.sort_unstable_by_key(|hop| hop.get(4..));
                builder.attribute(rta::MULTIPATH, &join(hops.into_iter()))
            }
            attribute_type => builder.attribute(attribute_type, attribute.bytes()),
        };
    }
    if builder.finish().is_err() {
        kept.clear(); // it was read from a message, so it fits one
    }
}

/// The key of a kept route.
pub(super) fn key(bytes: &[u8]) -> Option<Key> {
    route(bytes, EventKind::New).map(|route| Key::of(&route))
}

/// The values by which the kernel finds a kept route when another one replaces it.
pub(super) fn replace_key(bytes: &[u8]) -> Option<ReplaceKey> {
    let route = route(bytes, EventKind::New)?;
    Some(ReplaceKey {
        key: Key::of(&route),
        has_gateways: kind_of_route(&route) == Kind::Gateways,
    })
}

/// Whether two kept routes are the same route, even if its content has changed.
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    one == other || key(one) == key(other) && is_same_with_key(one, other)
}

fn is_same_with_key(one: &[u8], other: &[u8]) -> bool {
    let (Some(one), Some(other)) = (message(one), message(other)) else {
        return false;
    };
    let Some(kind) = kind_of(&one).filter(|kind| Some(*kind) == kind_of(&other)) else {
        return false;
    };
    match kind {
        Kind::Label => true,
        Kind::Gateways => route_type(&one) == route_type(&other),
        Kind::Object if family(&one) == Some(Family::INET6) => is_eq(&one, &other, |attribute| {
            attribute.attribute_type() == rta::NH_ID
        }),
        // The route's type and flags also belong to the object.
        Kind::Object => {
            protocol_and_scope(&one) == protocol_and_scope(&other)
                && is_eq(&one, &other, |attribute| !is_hop(attribute))
        }
        Kind::Whole => is_whole_eq(&one, &other),
    }
}

/// Hashes the identity of a kept route: everything that [`is_same`] compares.
pub(super) fn hash_identity(bytes: &[u8], state: &mut impl Hasher) {
    let Some(message) = message(bytes) else {
        return;
    };
    let Some(route) = Route::decode(&message) else {
        return;
    };
    let kind = kind_of_route(&route);
    (Key::of(&route), kind).hash(state);
    match kind {
        Kind::Label => {}
        Kind::Gateways => route.route_type.hash(state),
        Kind::Object if route.family == Family::INET6 => route.nexthop_id.hash(state),
        Kind::Object => {
            protocol_and_scope(&message).hash(state);
            hash_attributes(&message, |attribute| !is_hop(attribute), state);
        }
        Kind::Whole => {
            fixed_without_state(&message).hash(state);
            hash_attributes(&message, |_| true, state);
        }
    }
}

/// Hashes everything that [`is_eq`] compares.
fn hash_attributes(
    message: &Message<'_>,
    counts: impl Fn(&Attribute<'_>) -> bool,
    state: &mut impl Hasher,
) {
    for attribute in message.attributes(ROUTE_FIXED_BYTES).filter(counts) {
        attribute.attribute_type().hash(state);
        if attribute.attribute_type() == rta::MULTIPATH {
            for hop in Hops(attribute.bytes()) {
                (hop_without_state(hop), hop.get(4..)).hash(state);
            }
        } else {
            attribute.bytes().hash(state);
        }
    }
}

/// Whether the route is an IPv6 route whose events may report single hops.
pub(super) fn has_gateways(bytes: &[u8]) -> bool {
    message(bytes).and_then(|message| kind_of(&message)) == Some(Kind::Gateways)
}

/// Whether the route may be one of several that a router has advertised, or one with several hops: the two look alike.
pub(super) fn is_unclear(route: &Route<'_>) -> bool {
    route.family == Family::INET6
        && route.protocol == PROTOCOL_RA
        && route.nexthop_id.is_none()
        && !route.nexthops.is_empty()
}

/// Whether an IPv6 route with gateways has all the hops that another has.
pub(super) fn has_hops_of(one: &Route<'_>, other: &Route<'_>) -> bool {
    let mut have: Vec<_> = hops(one).collect();
    have.sort_unstable();
    hops(other).all(|hop| have.binary_search(&hop).is_ok())
}

/// Each hop's device and gateway.
fn hops(route: &Route<'_>) -> impl Iterator<Item = (u32, Option<IpAddr>)> {
    let single = (route.nexthops.is_empty()).then(|| (route.oif.unwrap_or(0), route.hop.gateway));
    let several = route.nexthops.map(|hop| (hop.oif, hop.hop.gateway));
    single.into_iter().chain(several)
}

/// Writes an IPv6 route without one of its hops, as the kernel would report it.
pub(super) fn without_hop(bytes: &[u8], gone: &Route<'_>, rest: &mut Vec<u8>) -> Left {
    let Some((message, route)) =
        message(bytes).and_then(|message| Some((message, Route::decode(&message)?)))
    else {
        return Left::All;
    };
    if route.nexthops.is_empty() {
        let is_it = route.oif == gone.oif && route.hop.gateway == gone.hop.gateway;
        return if is_it { Left::Nothing } else { Left::All };
    }
    let Some(multipath) = message.attributes(ROUTE_FIXED_BYTES).get(rta::MULTIPATH) else {
        return Left::All;
    };
    let is_gone = |hop: &&[u8]| {
        Nexthops::new(Family::INET6, hop)
            .next()
            .is_some_and(|hop| Some(hop.oif) == gone.oif && hop.hop.gateway == gone.hop.gateway)
    };
    let hops: Vec<_> = Hops(multipath.bytes()).collect();
    let left: Vec<_> = hops.iter().copied().filter(|hop| !is_gone(hop)).collect();
    match left.len() {
        0 => Left::Nothing,
        length if length == hops.len() => Left::All,
        _ => {
            with_hops(&message, &left, rest);
            Left::Rest
        }
    }
}

/// Writes an IPv6 route with these hops instead of its own. With a single hop it is no longer a multipath route
/// (net/ipv6/route.c, `rt6_fill_node`).
fn with_hops(message: &Message<'_>, hops: &[&[u8]], kept: &mut Vec<u8>) {
    kept.clear();
    let Some(fixed) = message.payload().first_chunk::<ROUTE_FIXED_BYTES>() else {
        return;
    };
    let mut fixed = *fixed;
    if let &[hop] = hops {
        let flags = flags_of(&fixed) | u32::from(hop.get(2).copied().unwrap_or(0));
        set_flags(&mut fixed, flags);
    }
    let mut builder = MessageBuilder::new(kept, message_type::NEW_ROUTE, 0).bytes(&fixed);
    for attribute in message.attributes(ROUTE_FIXED_BYTES) {
        builder = match (attribute.attribute_type(), hops) {
            (rta::MULTIPATH, &[hop]) => put_single(builder, hop),
            (rta::MULTIPATH, hops) => {
                builder.attribute(rta::MULTIPATH, &join(hops.iter().copied()))
            }
            (attribute_type, _) => builder.attribute(attribute_type, attribute.bytes()),
        };
    }
    if builder.finish().is_err() {
        kept.clear();
    }
}

/// The attributes of a single hop, in the order of `fib_nexthop_info` (net/ipv4/fib_semantics.c).
fn put_single<'a>(mut builder: MessageBuilder<'a>, hop: &[u8]) -> MessageBuilder<'a> {
    let oif = hop.get(4..NEXTHOP_FIXED_BYTES).unwrap_or_default();
    let attributes = crate::Attributes::new(hop.get(NEXTHOP_FIXED_BYTES..).unwrap_or_default());
    let is_gateway =
        |attribute: &Attribute<'_>| matches!(attribute.attribute_type(), rta::GATEWAY | rta::VIA);
    for attribute in attributes.filter(|attribute| is_gateway(attribute)) {
        builder = builder.attribute(attribute.attribute_type(), attribute.bytes());
    }
    builder = builder.attribute(rta::OIF, oif);
    for attribute in attributes.filter(|attribute| !is_gateway(attribute)) {
        builder = builder.attribute(attribute.attribute_type(), attribute.bytes());
    }
    builder
}

fn kind_of(message: &Message<'_>) -> Option<Kind> {
    Route::decode(message).map(|route| kind_of_route(&route))
}

fn kind_of_route(route: &Route<'_>) -> Kind {
    match route.family {
        Family::MPLS => Kind::Label,
        _ if route.nexthop_id.is_some() => Kind::Object,
        Family::INET6 if !route.nexthops.is_empty() => Kind::Gateways,
        Family::INET6 => {
            // Routes that a router has advertised, or redirected to, stay separate.
            let is_learned = matches!(route.protocol, PROTOCOL_RA | protocol::REDIRECT);
            match route.hop.gateway {
                Some(_) if !is_learned => Kind::Gateways,
                _ => Kind::Whole,
            }
        }
        _ => Kind::Whole,
    }
}

fn is_whole_eq(one: &Message<'_>, other: &Message<'_>) -> bool {
    fixed_without_state(one) == fixed_without_state(other) && is_eq(one, other, |_| true)
}

fn fixed_without_state(message: &Message<'_>) -> Option<[u8; ROUTE_FIXED_BYTES]> {
    let mut fixed = *message.payload().first_chunk()?;
    let flags = flags_of(&fixed) & !STATES;
    set_flags(&mut fixed, flags);
    Some(fixed)
}

/// Whether the attributes that `counts` are equal and in the same order: the kernel's order is always the same.
fn is_eq(one: &Message<'_>, other: &Message<'_>, counts: impl Fn(&Attribute<'_>) -> bool) -> bool {
    let one = one.attributes(ROUTE_FIXED_BYTES).filter(&counts);
    let mut other = other.attributes(ROUTE_FIXED_BYTES).filter(&counts);
    for attribute in one {
        let is_eq = other.next().is_some_and(|other| {
            attribute.attribute_type() == other.attribute_type()
                && match attribute.attribute_type() {
                    rta::MULTIPATH => is_hops_eq(attribute.bytes(), other.bytes()),
                    _ => attribute.bytes() == other.bytes(),
                }
        });
        if !is_eq {
            return false;
        }
    }
    other.next().is_none()
}

/// Whether two lists of hops are equal, except for the states of the hops.
fn is_hops_eq(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && Hops(one).zip(Hops(other)).all(|(one, other)| {
            hop_without_state(one) == hop_without_state(other) && one.get(4..) == other.get(4..)
        })
}

/// The flags of a hop that distinguish it from others, and its weight.
fn hop_without_state(hop: &[u8]) -> (Option<u32>, Option<u8>) {
    let flags = hop.get(2).map(|flags| u32::from(*flags) & !STATES);
    (flags, hop.get(3).copied())
}

fn is_hop(attribute: &Attribute<'_>) -> bool {
    matches!(
        attribute.attribute_type(),
        rta::OIF
            | rta::GATEWAY
            | rta::VIA
            | rta::MULTIPATH
            | rta::ENCAP
            | rta::ENCAP_TYPE
            | rta::FLOW
    )
}

fn family(message: &Message<'_>) -> Option<Family> {
    message.payload().first().map(|&number| number.into())
}

fn protocol_and_scope<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    message.payload().get(5..7)
}

fn route_type(message: &Message<'_>) -> Option<u8> {
    message.payload().get(7).copied()
}

fn flags_of(fixed: &[u8; ROUTE_FIXED_BYTES]) -> u32 {
    let [.., a, b, c, d] = *fixed;
    u32::from_ne_bytes([a, b, c, d])
}

fn set_flags(fixed: &mut [u8; ROUTE_FIXED_BYTES], flags: u32) {
    fixed[ROUTE_FIXED_BYTES - 4..].copy_from_slice(&flags.to_ne_bytes());
}

/// The hops of an `RTA_MULTIPATH`, as bytes.
struct Hops<'a>(&'a [u8]);

impl<'a> Iterator for Hops<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let hop = self.0.get(..length)?;
        hop.first_chunk::<NEXTHOP_FIXED_BYTES>()?;
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some(hop)
    }
}

fn join<'a>(hops: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut joined = Vec::new();
    for hop in hops {
        joined.extend_from_slice(hop);
        joined.resize(align(joined.len()), 0);
    }
    joined
}
