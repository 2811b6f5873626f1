//! Conditions on a flow.

use std::fmt;
use std::ops::Range;

use super::names::{protocol_word, status_bit, status_word};
use super::split::{Share, Split};
use crate::conntrack::state::StateName;
#[cfg(doc)]
use crate::conntrack::status;
use crate::conntrack::{Endpoint, Flow, Layer4, Nat, Tuple, ZoneDirection};
use crate::event_kind::EventKind;
use crate::family::Family;
use crate::filter::{self, Numbers, Prefix};

/// A condition on a flow, which a [`Filter`](super::Filter) combines with others.
///
/// Each function shows the term as text. `src`, `dst`, `sport` and `dport` test the original tuple, as in conntrack(8);
/// [`of`](Self::of) makes them test the reply tuple, or either.
///
/// ```
/// use nlring::conntrack::{Filter, Side, Term};
///
/// let server = Term::src("192.0.2.0/24".parse().unwrap()).of(Side::Reply);
/// let filter = Filter::from(Term::protocol(6)).and(server).and(Term::dport(443.into()));
/// assert_eq!(filter.to_string(), "proto tcp and reply src 192.0.2.0/24 and dport 443");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term(pub(super) Kind);

/// The tuples of a flow that a term tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The original tuple, whose source sent the first packet.
    Orig,
    /// The tuple of the answers.
    Reply,
    /// Either: one of them is enough.
    Any,
}

/// The end of a tuple that a term tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    Src,
    Dst,
    /// One of them is enough.
    Either,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Event(EventKind),
    Protocol(u8),
    Family(Family),
    Address(Side, End, Prefix),
    Port(Side, End, Numbers),
    IcmpType(Numbers),
    IcmpCode(Numbers),
    Mark { value: u32, mask: u32 },
    Zone(Side, u16),
    Status(u32),
    State(StateName),
    Nat,
    SrcNat(Option<Prefix>),
    DstNat(Option<Prefix>),
    Label(u8),
    Id(u32),
    Share(Share),
}

impl Term {
    /// `event new`, `event update`, `event destroy`: what the message reports. An entry of a dump or of a mirror is not
    /// an event, so it matches none of them.
    pub fn event(kind: EventKind) -> Self {
        Self(Kind::Event(kind))
    }

    /// `proto tcp`, `proto 89`: the IP protocol. A message without one has protocol 0.
    pub fn protocol(number: u8) -> Self {
        Self(Kind::Protocol(number))
    }

    /// `family ipv4`, `family ipv6`: the address family.
    pub fn family(family: Family) -> Self {
        Self(Kind::Family(family))
    }

    /// `src 10.0.0.0/8`: the source address.
    pub fn src(prefix: Prefix) -> Self {
        Self(Kind::Address(Side::Orig, End::Src, prefix))
    }

    /// `dst 10.0.0.0/8`: the destination address.
    pub fn dst(prefix: Prefix) -> Self {
        Self(Kind::Address(Side::Orig, End::Dst, prefix))
    }

    /// `host 10.0.0.1`: any of the four addresses. [`of`](Self::of) restricts it to one tuple.
    pub fn host(prefix: Prefix) -> Self {
        Self(Kind::Address(Side::Any, End::Either, prefix))
    }

    /// `sport 1024-2047`: the source port. A protocol without ports matches no port; for GRE these are its keys.
    pub fn sport(ports: Numbers) -> Self {
        Self(Kind::Port(Side::Orig, End::Src, ports))
    }

    /// `dport {80,443}`: the destination port. A protocol without ports matches no port.
    pub fn dport(ports: Numbers) -> Self {
        Self(Kind::Port(Side::Orig, End::Dst, ports))
    }

    /// `port 53`: any of the four ports. [`of`](Self::of) restricts it to one tuple.
    pub fn port(ports: Numbers) -> Self {
        Self(Kind::Port(Side::Any, End::Either, ports))
    }

    /// `icmp-type 8`: the message type of ICMP or ICMPv6 in the original tuple. Other protocols match none.
    pub fn icmp_type(types: Numbers) -> Self {
        Self(Kind::IcmpType(types))
    }

    /// `icmp-code 0`: the message code of ICMP or ICMPv6 in the original tuple. Other protocols match none.
    pub fn icmp_code(codes: Numbers) -> Self {
        Self(Kind::IcmpCode(codes))
    }

    /// `mark 0x10/0xf0`: the mark has `value` in the bits of `mask`. The kernel sends a mark if it is not 0 or has
    /// changed; a message without one has mark 0.
    pub fn mark(value: u32, mask: u32) -> Self {
        Self(Kind::Mark { value, mask })
    }

    /// `zone 3`: the zone's number, in any direction that it applies to. A message without a zone has zone 0.
    ///
    /// With [`of`](Self::of), `orig zone 3` and `reply zone 3`: the zone of one direction, which is 0 if the flow's
    /// zone does not apply to it.
    pub fn zone(id: u16) -> Self {
        Self(Kind::Zone(Side::Any, id))
    }

    /// `status assured`, `status 0x6`: all of these bits of [`status`] are set. The kernel sends the status in every
    /// message.
    pub fn status(bits: u32) -> Self {
        Self(Kind::Status(bits))
    }

    /// `status assured`: the bit with this name, such as `assured` or `SEEN_REPLY`. Case is ignored, and `-` and `_`
    /// are the same. None if no bit has this name. The [`Filter`](super::Filter) lists the names.
    pub fn status_bit(name: &str) -> Option<Self> {
        status_bit(name).map(Self::status)
    }

    /// `state ESTABLISHED`: the name of the state of TCP, SCTP or DCCP, as conntrack(8) prints it. Case is ignored.
    /// None if no state has this name. Messages without a state match none: those of other protocols, events that do
    /// not report it, and DESTROY events before Linux 5.11.
    pub fn state(name: &str) -> Option<Self> {
        StateName::find(name).map(|name| Self(Kind::State(name)))
    }

    /// `nat`: an address or port is translated, according to [`Flow::nat`].
    pub fn nat() -> Self {
        Self(Kind::Nat)
    }

    /// `snat`, `snat 203.0.113.0/24`: the source address or port is translated; with a prefix, to an address in it.
    pub fn snat(to: Option<Prefix>) -> Self {
        Self(Kind::SrcNat(to))
    }

    /// `dnat`, `dnat 10.0.0.5`: the destination address or port is translated; with a prefix, to an address in it.
    pub fn dnat(to: Option<Prefix>) -> Self {
        Self(Kind::DstNat(to))
    }

    /// `label 5`: the label with this number is set, from 0 to 127. The kernel sends labels when they change; a message
    /// without labels has none.
    pub fn label(bit: u8) -> Self {
        Self(Kind::Label(bit))
    }

    /// `id 1234`: the flow's id.
    pub fn id(id: u32) -> Self {
        Self(Kind::Id(id))
    }

    /// `share 3/8`, `share 0..25/100`: the original tuple is in one of these shares of all flows. Shares that do not
    /// exist are left out.
    pub fn share(split: Split, kept: Range<u32>) -> Self {
        Self(Kind::Share(Share::new(split, kept)))
    }

    /// `reply dport 80`, `any src 10.0.0.1`, `orig zone 3`: the same term for other tuples. Only terms for addresses,
    /// ports and zones change.
    #[must_use]
    pub fn of(self, side: Side) -> Self {
        Self(match self.0 {
            Kind::Address(_, end, prefix) => Kind::Address(side, end, prefix),
            Kind::Port(_, end, ports) => Kind::Port(side, end, ports),
            Kind::Zone(_, id) => Kind::Zone(side, id),
            other => other,
        })
    }
}

impl filter::Term for Term {
    type Event<'a> = Flow<'a>;

    fn matches(&self, flow: &Flow<'_>) -> bool {
        match &self.0 {
            Kind::Event(kind) => flow.kind == *kind && *kind != EventKind::Entry,
            Kind::Protocol(number) => flow.protocol() == *number,
            Kind::Family(family) => flow.family == *family,
            Kind::Address(side, end, prefix) => side.any_of(flow, |tuple| {
                end.any_of((tuple.src, tuple.dst), |address| prefix.contains(address))
            }),
            Kind::Port(side, end, ports) => side.any_of(flow, |tuple| {
                let found = tuple.ports();
                found.is_some_and(|found| end.any_of(found, |port| ports.contains(port.into())))
            }),
            Kind::IcmpType(types) => {
                icmp(&flow.orig).is_some_and(|(icmp_type, _)| types.contains(icmp_type.into()))
            }
            Kind::IcmpCode(codes) => {
                icmp(&flow.orig).is_some_and(|(_, code)| codes.contains(code.into()))
            }
            Kind::Mark { value, mask } => flow.mark.unwrap_or(0) & mask == *value,
            Kind::Zone(side, id) => zone_of(flow, *side) == *id,
            Kind::Status(bits) => flow.status.unwrap_or(0) & bits == *bits,
            Kind::State(name) => flow.state.is_some_and(|state| name.is_of(state)),
            Kind::Nat => flow.nat().is_some(),
            Kind::SrcNat(to) => translated(flow, *to, |nat| nat.src),
            Kind::DstNat(to) => translated(flow, *to, |nat| nat.dst),
            Kind::Label(bit) => flow.label_bits().any(|set| set == u32::from(*bit)),
            Kind::Id(id) => flow.id == Some(*id),
            Kind::Share(share) => share.contains(&flow.orig),
        }
    }
}

impl Side {
    fn any_of(self, flow: &Flow<'_>, f: impl Fn(&Tuple) -> bool) -> bool {
        let (orig, reply) = (Some(&flow.orig), flow.reply.as_ref());
        match self {
            Self::Orig => orig.is_some_and(f),
            Self::Reply => reply.is_some_and(f),
            Self::Any => orig.is_some_and(&f) || reply.is_some_and(&f),
        }
    }

    /// The word before a term whose usual side is `usual`.
    fn word(self, usual: Self) -> &'static str {
        match self {
            side if side == usual => "",
            Self::Orig => "orig ",
            Self::Reply => "reply ",
            Self::Any => "any ",
        }
    }
}

impl End {
    fn any_of<V>(self, (src, dst): (V, V), f: impl Fn(V) -> bool) -> bool {
        match self {
            Self::Src => f(src),
            Self::Dst => f(dst),
            Self::Either => f(src) || f(dst),
        }
    }
}

fn icmp(tuple: &Tuple) -> Option<(u8, u8)> {
    match tuple.layer4 {
        Layer4::Icmp {
            icmp_type, code, ..
        } => Some((icmp_type, code)),
        _ => None,
    }
}

fn zone_of(flow: &Flow<'_>, side: Side) -> u16 {
    let applies = |direction| match side {
        Side::Orig => direction != ZoneDirection::Reply,
        Side::Reply => direction != ZoneDirection::Orig,
        Side::Any => true,
    };
    let zone = flow.zone.filter(|zone| applies(zone.direction));
    zone.map_or(0, |zone| zone.id)
}

fn translated(flow: &Flow<'_>, to: Option<Prefix>, end: impl Fn(Nat) -> Option<Endpoint>) -> bool {
    let endpoint = flow.nat().and_then(end);
    endpoint.is_some_and(|endpoint| to.is_none_or(|to| to.contains(endpoint.address)))
}

/// The text from which the term can be parsed.
impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Event(EventKind::Delete) => f.write_str("event destroy"),
            Kind::Event(kind) => write!(f, "event {kind}"),
            Kind::Protocol(number) => write!(f, "proto {}", protocol_word(*number)),
            Kind::Family(family) => write!(f, "family {family}"),
            Kind::Address(side, end, prefix) => {
                let (word, usual) = match end {
                    End::Src => ("src", Side::Orig),
                    End::Dst => ("dst", Side::Orig),
                    End::Either => ("host", Side::Any),
                };
                write!(f, "{}{word} {prefix}", side.word(usual))
            }
            Kind::Port(side, end, ports) => {
                let (word, usual) = match end {
                    End::Src => ("sport", Side::Orig),
                    End::Dst => ("dport", Side::Orig),
                    End::Either => ("port", Side::Any),
                };
                write!(f, "{}{word} {ports}", side.word(usual))
            }
            Kind::IcmpType(types) => write!(f, "icmp-type {types}"),
            Kind::IcmpCode(codes) => write!(f, "icmp-code {codes}"),
            Kind::Mark {
                value,
                mask: u32::MAX,
            } => write!(f, "mark {value:#x}"),
            Kind::Mark { value, mask } => write!(f, "mark {value:#x}/{mask:#x}"),
            Kind::Zone(side, id) => write!(f, "{}zone {id}", side.word(Side::Any)),
            Kind::Status(bits) => write!(f, "status {}", status_word(*bits)),
            Kind::State(name) => write!(f, "state {name}"),
            Kind::Nat => f.write_str("nat"),
            Kind::SrcNat(None) => f.write_str("snat"),
            Kind::SrcNat(Some(to)) => write!(f, "snat {to}"),
            Kind::DstNat(None) => f.write_str("dnat"),
            Kind::DstNat(Some(to)) => write!(f, "dnat {to}"),
            Kind::Label(bit) => write!(f, "label {bit}"),
            Kind::Id(id) => write!(f, "id {id}"),
            Kind::Share(share) => write!(f, "share {share}"),
        }
    }
}
