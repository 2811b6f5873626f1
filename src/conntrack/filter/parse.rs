//! Reads terms from text.

use std::ops::RangeInclusive;

use super::names::{protocol_number, status_bit};
use super::split::Share;
use super::term::{End, Kind, Side, Term};
use crate::conntrack::state::StateName;
use crate::event_kind::EventKind;
use crate::family::Family;
use crate::filter::{Expression, Numbers, ParseError, Prefix, Words, number};

const TERM: &str = "`not`, `(` or a term: event, proto, family, src, dst, host, sport, dport, \
    port, icmp-type, icmp-code, mark, zone, status, state, nat, snat, dnat, label, id, share, \
    or orig, reply or any before an address, port or zone";
const OF_A_SIDE: &str = "src, dst, host, sport, dport, port or zone";
const PREFIX: &str = "an address such as 10.0.0.1 or a prefix such as 10.0.0.0/8";

type Parsed<T> = Result<T, ParseError>;

/// Reads the term that a word begins.
type Read = fn(&mut Words<'_>) -> Parsed<Expression<Term>>;

/// Reads one term, or several combined as in `proto {tcp, udp}`.
pub(super) fn parse(words: &mut Words<'_>) -> Parsed<Expression<Term>> {
    let word = words.peek().unwrap_or_default();
    let side = match word {
        "orig" => Some(Side::Orig),
        "reply" => Some(Side::Reply),
        "any" => Some(Side::Any),
        _ => None,
    };
    if let Some(side) = side {
        words.skip();
        let read = of_a_side(words.peek().unwrap_or_default());
        let read = read.ok_or_else(|| words.error(OF_A_SIDE))?;
        words.skip();
        return Ok(of(read(words)?, side));
    }
    let read = of_a_side(word).or_else(|| of_a_flow(word));
    let read = read.ok_or_else(|| words.error(TERM))?;
    words.skip();
    read(words)
}

/// The terms that are about one tuple or both.
fn of_a_side(word: &str) -> Option<Read> {
    Some(match word {
        "src" => |words| addresses(words, Side::Orig, End::Src),
        "dst" => |words| addresses(words, Side::Orig, End::Dst),
        "host" => |words| addresses(words, Side::Any, End::Either),
        "sport" => |words| ports(words, Side::Orig, End::Src),
        "dport" => |words| ports(words, Side::Orig, End::Dst),
        "port" => |words| ports(words, Side::Any, End::Either),
        "zone" => |words| {
            let zones = words.values("a zone: a number from 0 to 65535", |word| {
                number(word).and_then(|id| u16::try_from(id).ok())
            })?;
            Ok(any_of(zones, |id| Kind::Zone(Side::Any, id)))
        },
        _ => return None,
    })
}

fn of_a_flow(word: &str) -> Option<Read> {
    Some(match word {
        "event" => |words| {
            Ok(any_of(
                words.values("new, update or destroy", event)?,
                Kind::Event,
            ))
        },
        "proto" => protocols,
        "family" => |words| Ok(any_of(words.values("ipv4 or ipv6", family)?, Kind::Family)),
        "icmp-type" => |words| Ok(one(Kind::IcmpType(Numbers::parse(words, BYTE)?))),
        "icmp-code" => |words| Ok(one(Kind::IcmpCode(Numbers::parse(words, BYTE)?))),
        "mark" => |words| {
            let marks = words.values("a mark such as 7, 0x10 or 0x10/0xf0", mark)?;
            Ok(any_of(marks, |(value, mask)| Kind::Mark { value, mask }))
        },
        "status" => |words| {
            let expected =
                "a bit of the status such as assured, seen-reply or offload, or a number above 0";
            Ok(any_of(words.values(expected, status)?, Kind::Status))
        },
        "state" => |words| {
            let expected = "a state of TCP, SCTP or DCCP such as ESTABLISHED";
            Ok(any_of(
                words.values(expected, StateName::find)?,
                Kind::State,
            ))
        },
        "nat" => |_| Ok(one(Kind::Nat)),
        "snat" => |words| Ok(one(Kind::SrcNat(optional_prefix(words)?))),
        "dnat" => |words| Ok(one(Kind::DstNat(optional_prefix(words)?))),
        "label" => labels,
        "share" => |words| {
            let expected = "a share such as 3/8, shares such as 0..25/100, or either with @SEED";
            Ok(any_of(words.values(expected, Share::parse)?, Kind::Share))
        },
        "id" => |words| Ok(any_of(words.values("an id: a number", number)?, Kind::Id)),
        _ => return None,
    })
}

const BYTE: RangeInclusive<u32> = 0..=0xff;
const PORT: RangeInclusive<u32> = 0..=0xffff;

fn one(kind: Kind) -> Expression<Term> {
    Expression::Term(Term(kind))
}

fn any_of<V>(values: Vec<V>, kind: impl Fn(V) -> Kind) -> Expression<Term> {
    Expression::any_of(values.into_iter().map(|value| one(kind(value))))
}

/// The same terms for another side.
fn of(terms: Expression<Term>, side: Side) -> Expression<Term> {
    match terms {
        Expression::Term(term) => Expression::Term(term.of(side)),
        Expression::Or(parts) => Expression::any_of(parts.into_iter().map(|part| of(part, side))),
        other => other,
    }
}

fn addresses(words: &mut Words<'_>, side: Side, end: End) -> Parsed<Expression<Term>> {
    let prefixes = words.values(PREFIX, |word| word.parse().ok())?;
    Ok(any_of(prefixes, |prefix| Kind::Address(side, end, prefix)))
}

fn ports(words: &mut Words<'_>, side: Side, end: End) -> Parsed<Expression<Term>> {
    Ok(one(Kind::Port(side, end, Numbers::parse(words, PORT)?)))
}

fn protocols(words: &mut Words<'_>) -> Parsed<Expression<Term>> {
    let names = words.names();
    let expected =
        "a protocol: tcp, udp, icmp, icmpv6, sctp, dccp, gre, udplite or a number from 0 to 255";
    let protocols = words.values(expected, |word| {
        protocol_number(word).or_else(|| {
            let number = number(word).or_else(|| names("proto", word))?;
            u8::try_from(number).ok()
        })
    })?;
    Ok(any_of(protocols, Kind::Protocol))
}

fn labels(words: &mut Words<'_>) -> Parsed<Expression<Term>> {
    let names = words.names();
    let labels = words.values("a label: a number from 0 to 127", |word| {
        let bit = number(word).or_else(|| names("label", word))?;
        u8::try_from(bit).ok().filter(|&bit| bit < 128)
    })?;
    Ok(any_of(labels, Kind::Label))
}

/// The optional address after `snat` or `dnat`: present if the next word is not an operator.
fn optional_prefix(words: &mut Words<'_>) -> Parsed<Option<Prefix>> {
    match words.peek() {
        Some(_) => {
            let expected =
                "and, or, the end, or an address such as 10.0.0.1 or a prefix such as 10.0.0.0/8";
            words.value(expected, |word| word.parse().ok()).map(Some)
        }
        None => Ok(None),
    }
}

fn event(word: &str) -> Option<EventKind> {
    Some(match word {
        "new" => EventKind::New,
        "update" => EventKind::Update,
        "destroy" => EventKind::Delete,
        _ => return None,
    })
}

fn family(word: &str) -> Option<Family> {
    [Family::INET, Family::INET6]
        .into_iter()
        .find(|family| family.to_string() == word)
}

/// A mark, with its mask if there is one.
fn mark(word: &str) -> Option<(u32, u32)> {
    match word.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(word)?, u32::MAX)),
    }
}

/// A named bit, or bits as a number.
fn status(word: &str) -> Option<u32> {
    status_bit(word).or_else(|| number(word).filter(|&bits| bits != 0))
}
