//! What the kernel can tell about a term.
//!
//! Attributes that the kernel leaves out mean the same here as in `matches`; each function says what.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::{Range, RangeInclusive};

use super::dump::family_of;
use super::parse;
use super::term::{Happened, Kind, Relation, Term};
use crate::family::Family;
use crate::filter::{
    Change, Events, Expression, Field, Implementation, Kernel, Numbers, ParseError, Path, Prefix,
    Test, Words,
};
use crate::message::flags;
use crate::route::kernel::{ROUTE_FIXED_BYTES, message_type, rta};
use crate::route::table;

// The fields of `struct rtmsg`, which follows `struct nlmsghdr`.
const FAMILY: Field = Field::fixed(16, 1);
const DST_LENGTH: Field = Field::fixed(17, 1);
const FIXED_TABLE: Field = Field::fixed(20, 1);
const PROTOCOL: Field = Field::fixed(21, 1);
const SCOPE: Field = Field::fixed(22, 1);
const ROUTE_TYPE: Field = Field::fixed(23, 1);

const TABLE: Path = Path::new(&[rta::TABLE]);
const DST: Path = Path::new(&[rta::DST]);
const GATEWAY: Path = Path::new(&[rta::GATEWAY]);
const VIA: Path = Path::new(&[rta::VIA]);
const OIF: Field = Path::new(&[rta::OIF]).field(0, 4).host_order();
const PRIORITY: Path = Path::new(&[rta::PRIORITY]);
const MULTIPATH: Path = Path::new(&[rta::MULTIPATH]);

impl Implementation for Term {
    const EVENTS: Events = Events {
        message_types: &[message_type::NEW_ROUTE, message_type::DELETE_ROUTE],
        fixed_bytes: ROUTE_FIXED_BYTES,
    };

    fn parse(words: &mut Words<'_>) -> Result<Expression<Self>, ParseError> {
        parse::parse(words)
    }

    fn in_kernel(&self) -> Kernel {
        Kernel::exactly(match &self.0 {
            Kind::Event(happened) => event(*happened),
            Kind::Family(family) => FAMILY.is(family.number().into()),
            Kind::Table(number) => table(*number),
            Kind::Protocol(protocol) => PROTOCOL.is((*protocol).into()),
            Kind::RouteType(route_type) => ROUTE_TYPE.is((*route_type).into()),
            Kind::Scope(scope) => SCOPE.is((*scope).into()),
            Kind::Dst(prefix, relation) => dst(*prefix, *relation),
            Kind::DefaultDst => {
                let families = [Family::INET, Family::INET6];
                let families = families.map(|family| FAMILY.is(family.number().into()));
                DST_LENGTH.is(0).and(Expression::any_of(families))
            }
            Kind::Gateway(prefix) => return of_a_hop(gateway(*prefix)),
            Kind::Oif(index) => return of_a_hop(OIF.is(*index)),
            Kind::Metric(metrics) => metric(metrics),
            Kind::PortId(port_id) => Field::PORT_ID.is(*port_id),
        })
    }

    /// The values by which the kernel finds a route never change, and a route replaces only one with the same values.
    /// Everything else may differ between a route and its replacement, and only the replacement has an event.
    fn change(&self) -> Change {
        match self.0 {
            Kind::Event(_) | Kind::PortId(_) => Change::Event,
            Kind::Family(_)
            | Kind::Table(_)
            | Kind::Dst(..)
            | Kind::DefaultDst
            | Kind::Metric(_) => Change::Never,
            Kind::Protocol(_)
            | Kind::RouteType(_)
            | Kind::Scope(_)
            | Kind::Gateway(_)
            | Kind::Oif(_) => Change::Sometimes,
        }
    }

    /// A mirror must also see deletions of routes that do not match, because they can make a dump skip others.
    fn in_kernel_for_mirror(&self, is_negated: bool) -> Expression<Test> {
        match self.change() {
            Change::Never => {
                let may_match = self.in_kernel().can_be(is_negated);
                let is_deleted = Field::MESSAGE_TYPE.is(message_type::DELETE_ROUTE.into());
                may_match.or(is_deleted.and(self.shares_place(is_negated)))
            }
            Change::Sometimes | Change::Event => Expression::ALWAYS,
        }
    }
}

impl Term {
    /// True for each route whose deletion may make a dump skip a route that matches the term, or its negation, although
    /// the deleted route does not (`route/mirror/merge.rs`): an IPv6 route of the same table, or an IPv4 route to the
    /// same address, with any prefix length and metric, in the same table or in one that shares its trie.
    fn shares_place(&self, is_negated: bool) -> Expression<Test> {
        let is_of = |family: Family| FAMILY.is(family.number().into());
        match &self.0 {
            Kind::Table(table::MAIN | table::LOCAL) => {
                let tables = [table::MAIN, table::LOCAL].map(table);
                is_of(Family::INET).and(Expression::any_of(tables))
            }
            Kind::Dst(prefix, relation) if !is_negated && prefix.address().is_ipv4() => {
                is_of(Family::INET).and(is_address_of(*prefix, *relation))
            }
            Kind::Dst(prefix, _) => is_of(family_of(*prefix)),
            Kind::DefaultDst => {
                let zeros = Prefix::from(IpAddr::from(Ipv4Addr::UNSPECIFIED));
                let is_zeros = is_of(Family::INET).and(dst_begins_with(zeros, 0..32));
                let is_any = is_of(Family::INET);
                is_of(Family::INET6).or(if is_negated { is_any } else { is_zeros })
            }
            Kind::Metric(_) => Expression::ALWAYS,
            _ => Expression::NEVER,
        }
    }
}

/// Whether a route to the destination's address, with some prefix length, can have this relation to the prefix, which
/// is an IPv4 prefix.
fn is_address_of(prefix: Prefix, relation: Relation) -> Expression<Test> {
    match relation {
        Relation::Equal => dst_begins_with(prefix, 0..longest(prefix)),
        Relation::OrLonger => dst_begins_with(prefix, 0..prefix.length()),
        Relation::OrShorter => {
            let shorter = (0..=prefix.length()).filter_map(|length| {
                let shorter = Prefix::new(prefix.address(), length)?;
                Some(Prefix::from(shorter.address()))
            });
            let mut addresses: Vec<_> = shorter.collect();
            addresses.dedup();
            let addresses = addresses.into_iter();
            Expression::any_of(
                addresses.map(|address| dst_begins_with(address, 0..address.length())),
            )
        }
    }
}

/// What is true of a route with one hop. Hops of multipath routes are in a list, which BPF cannot iterate over.
fn of_a_hop(single: Expression<Test>) -> Kernel {
    Kernel {
        may: single.clone().or(MULTIPATH.is_present()),
        must: single,
    }
}

fn event(happened: Happened) -> Expression<Test> {
    let is = |message_type: u16| Field::MESSAGE_TYPE.is(message_type.into());
    let with = |flag: u16| {
        let has_flag = Field::MESSAGE_FLAGS.has_bits(flag.into(), flag.into());
        is(message_type::NEW_ROUTE).and(has_flag)
    };
    match happened {
        Happened::New => is(message_type::NEW_ROUTE),
        Happened::Replace => with(flags::REPLACE),
        Happened::Append => with(flags::APPEND),
        Happened::Delete => is(message_type::DELETE_ROUTE),
    }
}

/// The attribute counts, because the fixed header has room for only 8 bits. MPLS routes have no attribute (Linux v6.18,
/// net/mpls/af_mpls.c, `mpls_dump_route`).
fn table(number: u32) -> Expression<Test> {
    let in_header = TABLE.is_present().negated().and(FIXED_TABLE.is(number));
    TABLE.field(0, 4).host_order().is(number).or(in_header)
}

/// A missing metric is 0.
fn metric(metrics: &Numbers) -> Expression<Test> {
    let is_in = metrics.are_in(PRIORITY.field(0, 4).host_order());
    if metrics.contains(0) {
        is_in.or(PRIORITY.is_present().negated())
    } else {
        is_in
    }
}

/// The gateway of a route with one hop. A gateway whose family differs from the route's is in `struct rtvia`: 2 bytes
/// of family, then the address.
fn gateway(prefix: Prefix) -> Expression<Test> {
    let family = family_of(prefix).number().into();
    let bits = 0..prefix.length();
    let of_the_family = FAMILY.is(family).and(GATEWAY.is_present());
    let of_another = VIA.field(0, 2).host_order().is(family);
    let of_the_family = of_the_family.and(begins_with(GATEWAY, 0, prefix, bits.clone()));
    of_the_family.or(of_another.and(begins_with(VIA, 2, prefix, bits)))
}

/// A missing destination is all zeros.
fn dst(prefix: Prefix, relation: Relation) -> Expression<Test> {
    let (length, longest) = (prefix.length(), longest(prefix));
    let family = FAMILY.is(family_of(prefix).number().into());
    family.and(match relation {
        Relation::Equal => DST_LENGTH
            .is(length.into())
            .and(dst_begins_with(prefix, 0..length)),
        Relation::OrLonger => {
            let is_longer = DST_LENGTH.is_within(length.into(), longest.into());
            is_longer.and(dst_begins_with(prefix, 0..length))
        }
        Relation::OrShorter => {
            let is_shorter = DST_LENGTH.is_within(0, length.into());
            is_shorter.and(covers(prefix, 0, 0..=length))
        }
    })
}

/// The destination's length is one of `lengths`, and as many bits of it are those of the prefix. The first `tested`
/// bits are known to be. The lengths are bisected, so that a program makes few tests.
fn covers(prefix: Prefix, tested: u8, lengths: RangeInclusive<u8>) -> Expression<Test> {
    let (shortest, longest) = lengths.into_inner();
    let begins = dst_begins_with(prefix, tested..shortest);
    if shortest == longest {
        return begins;
    }
    let middle = shortest + (longest - shortest) / 2;
    let shorter = DST_LENGTH.is_within(0, middle.into());
    let lower = shorter
        .clone()
        .and(covers(prefix, shortest, shortest..=middle));
    let upper = shorter
        .negated()
        .and(covers(prefix, shortest, middle + 1..=longest));
    begins.and(lower.or(upper))
}

/// These bits of the destination are those of the prefix. A missing destination is all zeros.
fn dst_begins_with(prefix: Prefix, bits: Range<u8>) -> Expression<Test> {
    let is_zero = words(prefix, bits.clone()).all(|(_, value, _)| value == 0);
    let begins = begins_with(DST, 0, prefix, bits);
    if is_zero {
        begins.or(DST.is_present().negated())
    } else {
        begins
    }
}

/// These bits of the address at an offset in an attribute are those of the prefix.
fn begins_with(path: Path, offset: u32, prefix: Prefix, bits: Range<u8>) -> Expression<Test> {
    Expression::all_of(
        words(prefix, bits)
            .map(|(index, value, mask)| path.field(offset + 4 * index, 4).has_bits(value, mask)),
    )
}

/// The words of a prefix that have some of these bits: index, value and mask.
fn words(prefix: Prefix, bits: Range<u8>) -> impl Iterator<Item = (u32, u32, u32)> {
    let words = match prefix.address() {
        IpAddr::V4(address) => [address.to_bits(), 0, 0, 0],
        IpAddr::V6(address) => {
            let halves = address.segments();
            [0, 2, 4, 6].map(|first| u32::from(halves[first]) << 16 | u32::from(halves[first + 1]))
        }
    };
    let upper = |bit_count: u8, index: u32| {
        let in_word = u32::from(bit_count).saturating_sub(32 * index);
        !u32::MAX.checked_shr(in_word).unwrap_or(0)
    };
    (0..).zip(words).filter_map(move |(index, word)| {
        let mask = upper(bits.end, index) & !upper(bits.start, index);
        (mask != 0).then_some((index, word & mask, mask))
    })
}

/// How many bits an address of the prefix's family has.
fn longest(prefix: Prefix) -> u8 {
    if prefix.address().is_ipv4() { 32 } else { 128 }
}
