//! Random expressions, and what they mean.

use std::fmt;

use nlring_testing::Random;

use super::messages::{
    DEVICES, Decoded, LENGTHS, METRICS, NETWORKS, PROTOCOLS, SCOPES, TABLES, TYPES, octets,
};

/// An expression: its text, and its meaning.
pub enum Expression {
    Term(Term),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

pub struct Term {
    text: String,
    is_true: Box<dyn Fn(&Decoded) -> bool>,
    /// The kernel cannot tell if there are several hops.
    is_about_hops: bool,
}

impl Expression {
    pub fn is_true(&self, route: &Decoded) -> bool {
        self.can_be(true, route, false)
    }

    /// Whether it can be true if the kernel cannot look at several hops.
    pub fn can_be_true(&self, route: &Decoded) -> bool {
        self.can_be(true, route, true)
    }

    fn can_be(&self, wanted: bool, route: &Decoded, is_blind: bool) -> bool {
        let can_be = |part: &Self| part.can_be(wanted, route, is_blind);
        match (self, wanted) {
            (Self::Term(term), _) => {
                let is_open = is_blind && term.is_about_hops && route.has_several_hops;
                is_open || (term.is_true)(route) == wanted
            }
            (Self::Not(part), _) => part.can_be(!wanted, route, is_blind),
            (Self::And(parts), true) | (Self::Or(parts), false) => parts.iter().all(can_be),
            (Self::And(parts), false) | (Self::Or(parts), true) => parts.iter().any(can_be),
        }
    }

    pub fn is_about_hops(&self) -> bool {
        match self {
            Self::Term(term) => term.is_about_hops,
            Self::Not(part) => part.is_about_hops(),
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::is_about_hops),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, parts: &[Self], operator| {
            let texts: Vec<_> = parts.iter().map(Self::to_string).collect();
            write!(f, "({})", texts.join(operator))
        };
        match self {
            Self::Term(term) => f.write_str(&term.text),
            Self::Not(part) => write!(f, "not {part}"),
            Self::And(parts) => list(f, parts, " and "),
            Self::Or(parts) => list(f, parts, " or "),
        }
    }
}

/// An expression of up to this depth.
pub fn any(random: &mut Random, depth: u32) -> Expression {
    let parts = |random: &mut Random| -> Vec<_> {
        let count = 2 + random.below(3);
        (0..count).map(|_| any(random, depth - 1)).collect()
    };
    match random.below(6) {
        _ if depth == 0 => Expression::Term(term(random)),
        0 => Expression::Term(term(random)),
        1 => Expression::Not(Box::new(any(random, depth - 1))),
        2 | 3 => Expression::And(parts(random)),
        _ => Expression::Or(parts(random)),
    }
}

type Meaning = (String, Box<dyn Fn(&Decoded) -> bool>);

fn term(random: &mut Random) -> Term {
    let choice = random.below(14);
    let (text, is_true) = match choice {
        0 => event(random),
        1 => family(random),
        2 | 3 => table(random),
        4 => number(random, "proto", &PROTOCOLS, |route| route.protocol),
        5 => number(random, "type", &TYPES, |route| route.route_type),
        6 => number(random, "scope", &SCOPES, |route| route.scope),
        7..=9 => dst(random),
        10 => gateway(random),
        11 => oif(random),
        12 => metric(random),
        _ => port_id(random),
    };
    Term {
        text,
        is_true,
        is_about_hops: matches!(choice, 10 | 11),
    }
}

fn event(random: &mut Random) -> Meaning {
    let word = ["new", "replace", "append", "delete"][random.index(4)];
    let meaning = move |route: &Decoded| match word {
        "new" => route.message_type == 24,
        "replace" => route.message_type == 24 && route.flags & 0x100 != 0,
        "append" => route.message_type == 24 && route.flags & 0x800 != 0,
        _ => route.message_type == 25,
    };
    (format!("event {word}"), Box::new(meaning))
}

fn family(random: &mut Random) -> Meaning {
    let (word, number) = [("ipv4", 2), ("ipv6", 10), ("mpls", 28)][random.index(3)];
    (
        format!("family {word}"),
        Box::new(move |route| route.family == number),
    )
}

fn table(random: &mut Random) -> Meaning {
    let table = TABLES[random.index(TABLES.len())];
    let text = match table {
        254 => "main".into(),
        255 => "local".into(),
        _ => table.to_string(),
    };
    (
        format!("table {text}"),
        Box::new(move |route| route.table == table),
    )
}

fn number(
    random: &mut Random,
    word: &str,
    values: &[u8],
    of: impl Fn(&Decoded) -> u8 + 'static,
) -> Meaning {
    let value = values[random.index(values.len())];
    (
        format!("{word} {value}"),
        Box::new(move |route| of(route) == value),
    )
}

/// A prefix: its text, its address and its length.
fn prefix(random: &mut Random) -> (String, Vec<u8>, usize) {
    let is_v6 = usize::from(random.one_in(2));
    let text = NETWORKS[is_v6][random.index(5)];
    let length = LENGTHS[is_v6][random.index(7)];
    (format!("{text}/{length}"), octets(text), length.into())
}

fn begins_with(address: &[u8], bytes: &[u8], length: usize) -> bool {
    let bit = |bytes: &[u8], index: usize| bytes[index / 8] >> (7 - index % 8) & 1;
    address.len() == bytes.len()
        && (0..length).all(|index| bit(address, index) == bit(bytes, index))
}

fn dst(random: &mut Random) -> Meaning {
    if random.one_in(10) {
        let is_default = |route: &Decoded| route.dst.is_some() && route.dst_length == 0;
        return ("dst default".into(), Box::new(is_default));
    }
    let relation = ["", " or-longer", " or-shorter"][random.index(3)];
    let (text, bytes, length) = prefix(random);
    let meaning = move |route: &Decoded| {
        let common = length.min(route.dst_length);
        let fits = match relation {
            "" => route.dst_length == length,
            " or-longer" => route.dst_length >= length,
            _ => route.dst_length <= length,
        };
        let dst = route.dst.as_ref();
        fits && dst.is_some_and(|dst| begins_with(dst, &bytes, common))
    };
    (format!("dst {text}{relation}"), Box::new(meaning))
}

fn gateway(random: &mut Random) -> Meaning {
    let word = ["gateway", "via"][random.index(2)];
    let (text, bytes, length) = prefix(random);
    let meaning = move |route: &Decoded| {
        let mut gateways = route.gateways.iter();
        gateways.any(|gateway| begins_with(gateway, &bytes, length))
    };
    (format!("{word} {text}"), Box::new(meaning))
}

fn oif(random: &mut Random) -> Meaning {
    let word = ["oif", "dev"][random.index(2)];
    let device = DEVICES[random.index(DEVICES.len())];
    (
        format!("{word} {device}"),
        Box::new(move |route| route.devices.contains(&device)),
    )
}

fn metric(random: &mut Random) -> Meaning {
    let [one, other] = [(); 2].map(|()| METRICS[random.index(METRICS.len())]);
    let range = one.min(other)..=one.max(other);
    let text = if one == other {
        one.to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    };
    (
        format!("metric {text}"),
        Box::new(move |route| range.contains(&route.metric)),
    )
}

fn port_id(random: &mut Random) -> Meaning {
    let port_id = random.below(3);
    (
        format!("portid {port_id}"),
        Box::new(move |route| route.port_id == port_id),
    )
}
