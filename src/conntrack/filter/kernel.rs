//! What the kernel can tell about a term.
//!
//! Attributes that the kernel leaves out mean the same here as in `matches`; each function says what.

use super::parse;
use super::term::{End, Kind, Side, Term};
use crate::conntrack::kernel::{
    FIXED_BYTES, cta, cta_ip, cta_proto, cta_protoinfo, cta_tuple, message_type,
};
use crate::conntrack::state::StateName;
use crate::event_kind::EventKind;
use crate::family::Family;
use crate::filter::{
    Change, Events, Expression, Field, Implementation, Kernel, ParseError, Path, Prefix, Test,
    Words,
};
use crate::message::flags;

/// `nfgen_family` of `struct nfgenmsg`, which follows `struct nlmsghdr`.
const FAMILY: Field = Field::fixed(16, 1);
const STATUS: Field = Path::new(&[cta::STATUS]).field(0, 4);
const MARK: Path = Path::new(&[cta::MARK]);
const ID: Field = Path::new(&[cta::ID]).field(0, 4);

impl Implementation for Term {
    const EVENTS: Events = Events {
        message_types: &[message_type::CT_NEW, message_type::CT_DELETE],
        fixed_bytes: FIXED_BYTES,
    };

    fn parse(words: &mut Words<'_>) -> Result<Expression<Self>, ParseError> {
        parse::parse(words)
    }

    fn in_kernel(&self) -> Kernel {
        Kernel::exactly(match &self.0 {
            Kind::Event(kind) => event(*kind),
            Kind::Protocol(number) => protocol(*number),
            Kind::Family(family) => FAMILY.is(family.number().into()),
            Kind::Address(side, end, prefix) => side.any_of_tests(|tuple| {
                end.any_of_tests(|is_src| prefix.is_in(address_paths(tuple, is_src)))
            }),
            Kind::Port(side, end, ports) => side
                .any_of_tests(|tuple| end.any_of_tests(|is_src| ports.are_in(port(tuple, is_src)))),
            Kind::IcmpType(types) => {
                let [v4, v6] = [cta_proto::ICMP_TYPE, cta_proto::ICMPV6_TYPE].map(icmp);
                types.are_in(v4).or(types.are_in(v6))
            }
            Kind::IcmpCode(codes) => {
                let [v4, v6] = [cta_proto::ICMP_CODE, cta_proto::ICMPV6_CODE].map(icmp);
                codes.are_in(v4).or(codes.are_in(v6))
            }
            Kind::Mark { value, mask } => mark(*value, *mask),
            Kind::Zone(side, id) => zone(*side, *id),
            Kind::Status(0) => Expression::ALWAYS,
            Kind::Status(bits) => STATUS.has_bits(*bits, *bits),
            Kind::State(name) => state(*name),
            Kind::Nat => src_nat(None).or(dst_nat(None)),
            Kind::SrcNat(to) => src_nat(*to),
            Kind::DstNat(to) => dst_nat(*to),
            Kind::Label(bit) => label(*bit),
            Kind::Id(id) => ID.is(*id),
            Kind::Share(share) => share.test(),
        })
    }

    fn change(&self) -> Change {
        match self.0 {
            Kind::Event(_) => Change::Event,
            Kind::Mark { .. } | Kind::Status(_) | Kind::State(_) | Kind::Label(_) => {
                Change::Sometimes
            }
            _ => Change::Never,
        }
    }
}

impl Side {
    fn any_of_tests(self, f: impl Fn(u16) -> Expression<Test>) -> Expression<Test> {
        match self {
            Self::Orig => f(cta::TUPLE_ORIG),
            Self::Reply => f(cta::TUPLE_REPLY),
            Self::Any => f(cta::TUPLE_ORIG).or(f(cta::TUPLE_REPLY)),
        }
    }
}

impl End {
    /// `f` is told whether it is for the source.
    fn any_of_tests(self, f: impl Fn(bool) -> Expression<Test>) -> Expression<Test> {
        match self {
            Self::Src => f(true),
            Self::Dst => f(false),
            Self::Either => f(true).or(f(false)),
        }
    }
}

fn event(kind: EventKind) -> Expression<Test> {
    let is_new = Field::MESSAGE_FLAGS
        .has_bits(0, u32::from(flags::CREATE | flags::EXCL))
        .negated();
    let is = |message_type: u16| Field::MESSAGE_TYPE.is(message_type.into());
    match kind {
        EventKind::New => is(message_type::CT_NEW).and(is_new),
        EventKind::Update => is(message_type::CT_NEW).and(is_new.negated()),
        EventKind::Delete => is(message_type::CT_DELETE),
        EventKind::Entry => Expression::NEVER,
    }
}

/// A missing number is 0.
fn protocol(number: u8) -> Expression<Test> {
    let path = Path::new(&[cta::TUPLE_ORIG, cta_tuple::PROTO, cta_proto::NUM]);
    let is = path.field(0, 1).is(number.into());
    if number == 0 {
        is.or(path.is_present().negated())
    } else {
        is
    }
}

/// The attributes for IPv4 and IPv6.
fn address_paths(tuple: u16, is_src: bool) -> [Path; 2] {
    let types = if is_src {
        [cta_ip::V4_SRC, cta_ip::V6_SRC]
    } else {
        [cta_ip::V4_DST, cta_ip::V6_DST]
    };
    types.map(|attribute_type| Path::new(&[tuple, cta_tuple::IP, attribute_type]))
}

fn port(tuple: u16, is_src: bool) -> Field {
    let attribute_type = if is_src {
        cta_proto::SRC_PORT
    } else {
        cta_proto::DST_PORT
    };
    Path::new(&[tuple, cta_tuple::PROTO, attribute_type]).field(0, 2)
}

fn icmp(attribute_type: u16) -> Field {
    Path::new(&[cta::TUPLE_ORIG, cta_tuple::PROTO, attribute_type]).field(0, 1)
}

/// A missing mark is 0.
fn mark(value: u32, mask: u32) -> Expression<Test> {
    let is = MARK.field(0, 4).has_bits(value, mask);
    if value == 0 {
        is.or(MARK.is_present().negated())
    } else {
        is
    }
}

/// The kernel puts the zone of both directions into the message, and that of one direction into its tuple (Linux
/// v6.18, net/netfilter/nf_conntrack_netlink.c, `ctnetlink_dump_zone_id`). A missing zone is 0.
fn zone(side: Side, id: u16) -> Expression<Test> {
    const BOTH: Path = Path::new(&[cta::ZONE]);
    const ORIG: Path = Path::new(&[cta::TUPLE_ORIG, cta_tuple::ZONE]);
    const REPLY: Path = Path::new(&[cta::TUPLE_REPLY, cta_tuple::ZONE]);
    let paths: &[Path] = match side {
        Side::Orig => &[BOTH, ORIG],
        Side::Reply => &[BOTH, REPLY],
        Side::Any => &[BOTH, ORIG, REPLY],
    };
    if id == 0 {
        // No other number is present.
        let others = paths
            .iter()
            .map(|path| path.field(0, 2).is_within(1, 0xffff));
        Expression::any_of(others).negated()
    } else {
        Expression::any_of(paths.iter().map(|path| path.field(0, 2).is(id.into())))
    }
}

/// A message without a state matches no name.
fn state(name: StateName) -> Expression<Test> {
    let protocols = [cta_protoinfo::TCP, cta_protoinfo::SCTP, cta_protoinfo::DCCP];
    let numbers = name.numbers().into_iter().zip(protocols);
    Expression::any_of(numbers.filter_map(|(number, protocol)| {
        let path = Path::new(&[cta::PROTOINFO, protocol, cta_protoinfo::STATE]);
        Some(path.field(0, 1).is(number?.into()))
    }))
}

fn src_nat(to: Option<Prefix>) -> Expression<Test> {
    let identifiers = [cta_proto::ICMP_ID, cta_proto::ICMPV6_ID].map(|attribute_type| {
        let [orig, reply] = [cta::TUPLE_ORIG, cta::TUPLE_REPLY]
            .map(|tuple| Path::new(&[tuple, cta_tuple::PROTO, attribute_type]).field(0, 2));
        orig.differs_from(reply)
    });
    translated(true, to, Expression::any_of(identifiers))
}

fn dst_nat(to: Option<Prefix>) -> Expression<Test> {
    translated(false, to, Expression::NEVER)
}

/// An end of the original tuple differs from the other end of the reply tuple, which must be present; and the latter
/// has an address in the prefix. `others` is what else may differ besides addresses and ports.
fn translated(is_src: bool, to: Option<Prefix>, others: Expression<Test>) -> Expression<Test> {
    let [orig_v4, orig_v6] = address_paths(cta::TUPLE_ORIG, is_src);
    let [reply_v4, reply_v6] = address_paths(cta::TUPLE_REPLY, !is_src);
    let differs = |word: u32| {
        orig_v6
            .field(4 * word, 4)
            .differs_from(reply_v6.field(4 * word, 4))
    };
    let v4 = FAMILY.is(Family::INET.number().into());
    let v6 = v4
        .clone()
        .negated()
        .and(Expression::any_of((0..4).map(differs)));
    let v4 = v4.and(orig_v4.field(0, 4).differs_from(reply_v4.field(0, 4)));
    let ports = port(cta::TUPLE_ORIG, is_src).differs_from(port(cta::TUPLE_REPLY, !is_src));
    let is_translated = v4.or(v6).or(ports).or(others);
    let has_reply = Path::new(&[cta::TUPLE_REPLY]).is_present();
    let is_in = to.map_or(Expression::ALWAYS, |to| to.is_in([reply_v4, reply_v6]));
    has_reply.and(is_in).and(is_translated)
}

/// The labels are a bitmap of longs in the machine's order. Without labels none is set.
fn label(bit: u8) -> Expression<Test> {
    let (word, bit) = (u32::from(bit) / 32, u32::from(bit) % 32);
    let labels = Path::new(&[cta::LABELS]).field(4 * word, 4).host_order();
    labels.has_bits(1 << bit, 1 << bit)
}
