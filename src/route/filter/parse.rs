//! Reads terms from text.

use super::names::{Named, PROTOCOL, ROUTE_TYPE, SCOPE, TABLE};
use super::term::{Happened, Kind, Relation, Term};
use crate::family::Family;
use crate::filter::{Expression, Numbers, ParseError, Prefix, Words, number};

const TERM: &str = "`not`, `(` or a term: event, family, table, proto, type, scope, dst, gateway or via, oif or dev, \
    metric, portid";
const PREFIX: &str = "an address such as 10.0.0.1 or a prefix such as 10.0.0.0/8";

type Parsed<T> = Result<T, ParseError>;

/// Reads one term, or several combined as in `proto {bgp, ospf}`.
pub(super) fn parse(words: &mut Words<'_>) -> Parsed<Expression<Term>> {
    let read: fn(&mut Words<'_>) -> Parsed<Expression<Term>> = match words.peek() {
        Some("event") => |words| {
            let expected = "new, replace, append or delete";
            Ok(any_of(words.values(expected, happened)?, Kind::Event))
        },
        Some("family") => |words| {
            Ok(any_of(
                words.values("ipv4, ipv6 or mpls", family)?,
                Kind::Family,
            ))
        },
        Some("table") => |words| named(words, &TABLE, Kind::Table),
        Some("proto") => |words| named(words, &PROTOCOL, Kind::Protocol),
        Some("type") => |words| named(words, &ROUTE_TYPE, Kind::RouteType),
        Some("scope") => |words| named(words, &SCOPE, Kind::Scope),
        Some("dst") => destinations,
        Some("gateway" | "via") => |words| {
            Ok(any_of(
                words.values(PREFIX, |word| word.parse().ok())?,
                Kind::Gateway,
            ))
        },
        Some("oif" | "dev") => devices,
        Some("metric") => |words| {
            let metrics = Numbers::parse(words, 0..=u32::MAX)?;
            Ok(Expression::Term(Term(Kind::Metric(metrics))))
        },
        Some("portid") => |words| {
            Ok(any_of(
                words.values("a port ID: a number", number)?,
                Kind::PortId,
            ))
        },
        _ => return Err(words.error(TERM)),
    };
    words.skip();
    read(words)
}

fn any_of<V>(values: Vec<V>, kind: impl Fn(V) -> Kind) -> Expression<Term> {
    Expression::any_of(
        values
            .into_iter()
            .map(|value| Expression::Term(Term(kind(value)))),
    )
}

/// Numbers that have names.
fn named<N: TryFrom<u32>>(
    words: &mut Words<'_>,
    of: &Named,
    kind: impl Fn(N) -> Kind,
) -> Parsed<Expression<Term>> {
    let names = words.names();
    let numbers = words.values(of.expected, |word| {
        of.number(word, names)
            .and_then(|number| N::try_from(number).ok())
    })?;
    Ok(any_of(numbers, kind))
}

/// Prefixes, `default`, and a word that says how to compare all of them.
fn destinations(words: &mut Words<'_>) -> Parsed<Expression<Term>> {
    let expected = format!("default, {PREFIX}");
    let destinations: Vec<Option<Prefix>> = words.values(&expected, |word| match word {
        "default" => Some(None),
        word => word.parse().ok().map(Some),
    })?;
    let relation = match words.peek() {
        Some("or-longer") => Relation::OrLonger,
        Some("or-shorter") => Relation::OrShorter,
        _ => Relation::Equal,
    };
    if relation != Relation::Equal {
        if destinations.contains(&None) {
            return Err(words.error("and, or, or the end behind `default`"));
        }
        words.skip();
    }
    Ok(any_of(destinations, |dst| {
        dst.map_or(Kind::DefaultDst, |prefix| Kind::Dst(prefix, relation))
    }))
}

fn devices(words: &mut Words<'_>) -> Parsed<Expression<Term>> {
    let names = words.names();
    let indexes = words.values("a device: its index, a number above 0", |word| {
        let index = number(word).or_else(|| names("oif", word))?;
        (index > 0).then_some(index)
    })?;
    Ok(any_of(indexes, Kind::Oif))
}

fn happened(word: &str) -> Option<Happened> {
    let all = [
        Happened::New,
        Happened::Replace,
        Happened::Append,
        Happened::Delete,
    ];
    all.into_iter().find(|happened| happened.word() == word)
}

/// A family by its name, or by its number if it has no name.
fn family(word: &str) -> Option<Family> {
    let mut families = (0..=u8::MAX).map(Family::from);
    families.find(|family| family.to_string() == word)
}
