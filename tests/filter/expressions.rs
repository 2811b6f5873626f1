//! Random expressions, and what they mean.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use nlring_testing::Random;

use super::decoded::{Decoded, Tuple};
use super::events::{ADDRESSES, ICMP_TYPES, IDS, MARKS, PORTS, PROTOCOLS, STATES, ZONES};

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
    /// Its answer can change while a flow lives.
    can_change: bool,
}

impl Expression {
    pub fn is_true(&self, event: &Decoded) -> bool {
        match self {
            Self::Term(term) => (term.is_true)(event),
            Self::Not(part) => !part.is_true(event),
            Self::And(parts) => parts.iter().all(|part| part.is_true(event)),
            Self::Or(parts) => parts.iter().any(|part| part.is_true(event)),
        }
    }

    /// Whether it is true for this event if all that can change in it is ever so favourable, each time it is asked.
    pub fn can_be_true(&self, event: &Decoded) -> bool {
        self.can_be(true, event)
    }

    fn can_be(&self, wanted: bool, event: &Decoded) -> bool {
        match (self, wanted) {
            (Self::Term(term), _) => term.can_change || (term.is_true)(event) == wanted,
            (Self::Not(part), _) => part.can_be(!wanted, event),
            (Self::And(parts), true) | (Self::Or(parts), false) => {
                parts.iter().all(|part| part.can_be(wanted, event))
            }
            (Self::And(parts), false) | (Self::Or(parts), true) => {
                parts.iter().any(|part| part.can_be(wanted, event))
            }
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
            Self::Or(parts) => list(f, parts, " || "),
        }
    }
}

/// An expression of up to this depth, often combined with a share of all flows.
pub fn any(random: &mut Random, depth: u32) -> Expression {
    let others = expression(random, depth, 0);
    with_share(random, others)
}

/// The same without a term about the kind of event.
pub fn of_an_entry(random: &mut Random, depth: u32) -> Expression {
    let others = expression(random, depth, 1);
    with_share(random, others)
}

/// Adds at most one share, because its program is long.
fn with_share(random: &mut Random, others: Expression) -> Expression {
    let (text, is_true) = share(random);
    let share = Expression::Term(Term {
        text,
        is_true,
        can_change: false,
    });
    match random.below(5) {
        0 => Expression::And(vec![share, others]),
        1 => Expression::Or(vec![others, share]),
        2 => Expression::And(vec![others, Expression::Not(Box::new(share))]),
        3 => share,
        _ => others,
    }
}

fn expression(random: &mut Random, depth: u32, first_term: u32) -> Expression {
    let parts = |random: &mut Random| -> Vec<_> {
        let count = 2 + random.below(3);
        (0..count)
            .map(|_| expression(random, depth - 1, first_term))
            .collect()
    };
    match random.below(6) {
        _ if depth == 0 => Expression::Term(term(random, first_term)),
        0 => Expression::Term(term(random, first_term)),
        1 => Expression::Not(Box::new(expression(random, depth - 1, first_term))),
        2 | 3 => Expression::And(parts(random)),
        _ => Expression::Or(parts(random)),
    }
}

fn term(random: &mut Random, first_term: u32) -> Term {
    let choice = first_term + random.below(15 - first_term);
    let can_change = matches!(choice, 7 | 9 | 10 | 11);
    let (text, is_true) = match choice {
        0 => event(random),
        1 => protocol(random),
        2 => family(random),
        3 | 4 => address(random),
        5 | 6 => port(random),
        7 => mark(random),
        8 => zone(random),
        9 => status(random),
        10 => state(random),
        11 => label(random),
        12 => id(random),
        13 => icmp(random),
        _ => nat(random),
    };
    Term {
        text,
        is_true,
        can_change,
    }
}

type Meaning = (String, Box<dyn Fn(&Decoded) -> bool>);

fn event(random: &mut Random) -> Meaning {
    let kind = ["new", "update", "destroy"][random.index(3)];
    (
        format!("event {kind}"),
        Box::new(move |event| event.kind == kind),
    )
}

fn protocol(random: &mut Random) -> Meaning {
    let (text, number) = match random.below(9) {
        0 => ("tcp".into(), 6),
        1 => ("UDP".into(), 17),
        2 => ("0".into(), 0),
        3 => ("icmpv6".into(), 58),
        _ => {
            let number = PROTOCOLS[random.index(7)];
            (number.to_string(), number)
        }
    };
    (
        format!("proto {text}"),
        Box::new(move |event| event.orig.protocol == number),
    )
}

fn family(random: &mut Random) -> Meaning {
    let (text, number) = [("ipv4", 2), ("ipv6", 10)][random.index(2)];
    (
        format!("family {text}"),
        Box::new(move |event| event.family == number),
    )
}

/// A word before a term, and the tuples that it is about.
fn side(random: &mut Random, usual: &'static str) -> (&'static str, &'static str) {
    [
        ("", usual),
        ("orig ", "orig"),
        ("reply ", "reply"),
        ("any ", "any"),
    ][random.index(4)]
}

fn tuples<'a>(event: &'a Decoded, side: &str) -> Vec<&'a Tuple> {
    match side {
        "orig" => vec![&event.orig],
        "reply" => event.reply.iter().collect(),
        _ => event.tuples().collect(),
    }
}

fn prefix(random: &mut Random) -> (String, Vec<u8>, usize) {
    let is_v6 = random.one_in(2);
    let text = ADDRESSES[usize::from(is_v6)][random.index(5)];
    let bytes = match text.parse().expect("an address") {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let lengths = if is_v6 {
        [0, 7, 32, 61, 64, 127]
    } else {
        [0, 1, 8, 15, 24, 31]
    };
    let length = lengths[random.index(6)];
    if random.one_in(2) {
        let all = 8 * bytes.len();
        (text.into(), bytes, all)
    } else {
        (format!("{text}/{length}"), bytes, length)
    }
}

fn begins_with(address: &[u8], bytes: &[u8], length: usize) -> bool {
    let bit = |bytes: &[u8], index: usize| bytes[index / 8] >> (7 - index % 8) & 1;
    address.len() == bytes.len()
        && (0..length).all(|index| bit(address, index) == bit(bytes, index))
}

fn address(random: &mut Random) -> Meaning {
    let (word, usual) = [("src", "orig"), ("dst", "orig"), ("host", "any")][random.index(3)];
    let (before, side) = side(random, usual);
    let (text, bytes, length) = prefix(random);
    let meaning = move |event: &Decoded| {
        tuples(event, side).into_iter().any(|tuple| {
            (word != "dst" && begins_with(&tuple.src, &bytes, length))
                || (word != "src" && begins_with(&tuple.dst, &bytes, length))
        })
    };
    (format!("{before}{word} {text}"), Box::new(meaning))
}

fn numbers(random: &mut Random, of: &[u16]) -> (String, Vec<RangeInclusive<u16>>) {
    let range = |random: &mut Random| {
        let [a, b] = [(); 2].map(|()| of[random.index(of.len())]);
        if random.one_in(2) {
            (a.to_string(), a..=a)
        } else {
            (format!("{}-{}", a.min(b), a.max(b)), a.min(b)..=a.max(b))
        }
    };
    if random.one_in(2) {
        let (text, range) = range(random);
        return (text, vec![range]);
    }
    let count = 1 + random.index(4);
    let (texts, ranges): (Vec<_>, Vec<_>) = (0..count).map(|_| range(random)).unzip();
    (format!("{{{}}}", texts.join(", ")), ranges)
}

fn port(random: &mut Random) -> Meaning {
    let (word, usual) = [("sport", "orig"), ("dport", "orig"), ("port", "any")][random.index(3)];
    let (before, side) = side(random, usual);
    let (text, ranges) = numbers(random, &PORTS);
    let meaning = move |event: &Decoded| {
        let is_in = |port: u16| ranges.iter().any(|range| range.contains(&port));
        tuples(event, side).into_iter().any(|tuple| {
            tuple.ports.is_some_and(|(src, dst)| {
                (word != "dport" && is_in(src)) || (word != "sport" && is_in(dst))
            })
        })
    };
    (format!("{before}{word} {text}"), Box::new(meaning))
}

fn mark(random: &mut Random) -> Meaning {
    let value = MARKS[random.index(6)];
    if random.one_in(2) {
        return (
            format!("mark {value}"),
            Box::new(move |event| event.mark == value),
        );
    }
    let mask = [0, 1, 0x10, 0xf0, 0xffff, u32::MAX][random.index(6)];
    let value = if random.one_in(8) {
        value
    } else {
        value & mask
    };
    (
        format!("mark {value:#x}/{mask:#x}"),
        Box::new(move |event| event.mark & mask == value),
    )
}

fn zone(random: &mut Random) -> Meaning {
    let id = ZONES[random.index(4)];
    let (before, side) = side(random, "any");
    let meaning = move |event: &Decoded| {
        let orig = event.orig.zone.filter(|_| side != "reply");
        let reply = event.reply.as_ref().and_then(|reply| reply.zone);
        let reply = reply.filter(|_| side != "orig");
        event.zone.or(orig).or(reply).unwrap_or(0) == id
    };
    (format!("{before}zone {id}"), Box::new(meaning))
}

fn status(random: &mut Random) -> Meaning {
    let (text, bits) = [
        ("expected", 1),
        ("seen-reply", 2),
        ("ASSURED", 4),
        ("SEEN_REPLY", 2),
        ("confirmed", 8),
        ("hw-offload", 1 << 15),
        ("0x6", 6),
        ("48", 48),
    ][random.index(8)];
    (
        format!("status {text}"),
        Box::new(move |event| event.status & bits == bits),
    )
}

fn state(random: &mut Random) -> Meaning {
    // The names of the states that the events have, and of some others.
    let names: [(&str, &[(u16, u8)]); 7] = [
        ("SYN_SENT", &[(1, 1)]),
        ("established", &[(1, 3), (3, 4)]),
        ("TIME_WAIT", &[(1, 7)]),
        ("open", &[(2, 4)]),
        ("REQUEST", &[(2, 1)]),
        ("CLOSED", &[(3, 1)]),
        ("none", &[(1, 0), (2, 0), (3, 0)]),
    ];
    debug_assert!(STATES.contains(&names[0].1[0]));
    let (name, numbers) = names[random.index(7)];
    (
        format!("state {name}"),
        Box::new(move |event| event.state.is_some_and(|state| numbers.contains(&state))),
    )
}

fn label(random: &mut Random) -> Meaning {
    let bit = random.below(128);
    let meaning = move |event: &Decoded| {
        let words = event
            .labels
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes(word.try_into().expect("four bytes")));
        let word = { words }.nth(bit as usize / 32);
        word.is_some_and(|word| word >> (bit % 32) & 1 == 1)
    };
    (format!("label {bit}"), Box::new(meaning))
}

fn id(random: &mut Random) -> Meaning {
    let id = IDS[random.index(4)];
    (
        format!("id {id}"),
        Box::new(move |event| event.id == Some(id)),
    )
}

fn share(random: &mut Random) -> Meaning {
    let count = [1, 2, 3, 8, 100, u32::MAX][random.index(6)];
    let [a, b] = [(); 2].map(|()| random.below(count.min(100) + 1));
    let kept = match random.below(3) {
        0 => a.min(b)..a.max(b),
        1 => count - a..count,
        _ => a.min(count - 1)..a.min(count - 1) + 1,
    };
    let seed = [0, 1, 0xdead_beef, u32::MAX][random.index(4)];
    let text = match random.below(2) {
        0 if seed == 0 => format!("share {}..{}/{count}", kept.start, kept.end),
        0 if kept.len() == 1 => format!("share {}/{count}@{seed}", kept.start),
        _ => format!("share {}..{}/{count}@{seed:#x}", kept.start, kept.end),
    };
    let meaning = move |event: &Decoded| {
        let share = (u64::from(hash(seed, &event.orig)) * u64::from(count)) >> 32;
        (u64::from(kept.start)..u64::from(kept.end)).contains(&share)
    };
    (text, Box::new(meaning))
}

fn hash(seed: u32, tuple: &Tuple) -> u32 {
    let words = [&tuple.src, &tuple.dst].into_iter().flat_map(|address| {
        let words = address.chunks(4);
        words.map(|word| u32::from_be_bytes(word.try_into().expect("four bytes")))
    });
    let layer4 = match (tuple.ports, tuple.icmp) {
        (Some((src, dst)), _) => vec![src, dst],
        (None, Some((_, _, id))) => vec![id],
        (None, None) => vec![0],
    };
    let rest = layer4.into_iter().chain([tuple.protocol.into()]);
    let rest = rest.map(u32::from);
    let numbers = [seed].into_iter().chain(words).chain(rest);
    let sum = numbers.fold(0, |sum: u32, number| {
        let sum = (sum ^ number).wrapping_mul(0x85eb_ca6b);
        sum ^ (sum >> 15)
    });
    sum.wrapping_mul(0xc2b2_ae35)
}

fn icmp(random: &mut Random) -> Meaning {
    if random.one_in(2) {
        let types = ICMP_TYPES.map(u16::from);
        let (text, ranges) = numbers(random, &types);
        let meaning = move |event: &Decoded| {
            let found = event.orig.icmp.map(|(icmp_type, ..)| u16::from(icmp_type));
            found.is_some_and(|found| ranges.iter().any(|range| range.contains(&found)))
        };
        return (format!("icmp-type {text}"), Box::new(meaning));
    }
    let code = u8::from(random.one_in(2));
    (
        format!("icmp-code {code}"),
        Box::new(move |event| event.orig.icmp.is_some_and(|(_, found, _)| found == code)),
    )
}

fn nat(random: &mut Random) -> Meaning {
    let word = ["nat", "snat", "dnat"][random.index(3)];
    let to = (word != "nat" && random.one_in(2)).then(|| prefix(random));
    let text = match &to {
        Some((text, ..)) => format!("{word} {text}"),
        None => word.into(),
    };
    let meaning = move |event: &Decoded| {
        let Some(reply) = &event.reply else {
            return false;
        };
        let (orig, ports) = (&event.orig, |tuple: &Tuple| tuple.ports.unzip());
        let ((src, dst), (reply_src, reply_dst)) = (ports(orig), ports(reply));
        let id = |tuple: &Tuple| tuple.icmp.map(|(_, _, id)| id);
        let snat = orig.src != reply.dst || src != reply_dst || id(orig) != id(reply);
        let dnat = orig.dst != reply.src || dst != reply_src;
        let is_in = |address: &[u8]| {
            to.as_ref()
                .is_none_or(|(_, bytes, length)| begins_with(address, bytes, *length))
        };
        (word != "dnat" && snat && is_in(&reply.dst))
            || (word != "snat" && dnat && is_in(&reply.src))
    };
    (text, Box::new(meaning))
}
