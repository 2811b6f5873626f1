//! Events of flows that the kernel might have sent: captured ones with other values, in another order, with attributes
//! less, more or twice. One in 10 is damaged at random as well.

use nlring_testing::Random;

use crate::captures::{damage, event_of_a_flow};
use crate::kinds::Kind::{Any, Name, Nest, Size};
use crate::kinds::{Attributes, Kind, ROOT};

const HEADER_BYTES: usize = 20; // struct nlmsghdr and struct nfgenmsg
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_F_NET_BYTEORDER`.
const NET_BYTE_ORDER: u16 = 0x4000;

struct Attribute {
    /// The type, with its two flags.
    number: u16,
    value: Value,
}

enum Value {
    Bytes(Vec<u8>),
    Nest(Vec<Attribute>, &'static Attributes),
}

/// A message of a flow, whose length in the header fits.
pub fn any(random: &mut Random) -> Vec<u8> {
    let mut bytes = event_of_a_flow(random);
    let mut attributes = parse(&bytes[HEADER_BYTES..], &ROOT);
    for _ in 0..random.below(8) {
        mutate(random, &mut attributes, &ROOT);
    }
    bytes.truncate(HEADER_BYTES);
    write(&attributes, &mut bytes);
    if random.one_in(10) {
        let whole = bytes.len();
        damage(random, &mut bytes);
        bytes.truncate(whole);
        bytes.resize(bytes.len().max(HEADER_BYTES), 0);
    }
    let length = u32::try_from(bytes.len()).expect("short");
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..8].copy_from_slice(&[[0, 1, 0, 6], [0, 1, 0, 0], [2, 1, 0, 0]][random.index(3)]);
    bytes
}

fn kind_of(known: &'static Attributes, number: u16) -> Option<&'static Kind> {
    known.kind(number & !(NESTED | NET_BYTE_ORDER))
}

/// The attributes of a captured message, which is whole.
fn parse(mut bytes: &[u8], known: &'static Attributes) -> Vec<Attribute> {
    let mut attributes = Vec::new();
    while let [l0, l1, n0, n1, ..] = *bytes {
        let (length, number) = (
            u16::from_ne_bytes([l0, l1]).into(),
            u16::from_ne_bytes([n0, n1]),
        );
        let value = &bytes[4..length];
        let value = match kind_of(known, number) {
            Some(Nest(inner)) => Value::Nest(parse(value, inner), inner),
            _ => Value::Bytes(value.to_vec()),
        };
        attributes.push(Attribute { number, value });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    attributes
}

fn write(attributes: &[Attribute], bytes: &mut Vec<u8>) {
    for attribute in attributes {
        let start = bytes.len();
        bytes.extend([0, 0]);
        bytes.extend(attribute.number.to_ne_bytes());
        match &attribute.value {
            Value::Bytes(value) => bytes.extend(value),
            Value::Nest(inner, _) => write(inner, bytes),
        }
        let length = u16::try_from(bytes.len() - start).expect("short");
        bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
}

/// Changes these attributes, or those of a nest among them.
fn mutate(random: &mut Random, attributes: &mut Vec<Attribute>, known: &'static Attributes) {
    let is_any = known.sets.is_empty();
    if attributes.is_empty() || is_any && random.one_in(8) {
        let (number, kind) = &known.kinds[random.index(known.kinds.len())];
        let at = random.index(attributes.len() + 1);
        if attributes
            .iter()
            .all(|attribute| attribute.number & !(NESTED | NET_BYTE_ORDER) != *number)
        {
            attributes.insert(at, fresh(random, *number, kind));
        }
        return;
    }
    let (one, other) = (
        random.index(attributes.len()),
        random.index(attributes.len()),
    );
    match random.below(16) {
        0..2 => attributes.swap(one, other),
        2 if is_any || random.one_in(8) => _ = attributes.remove(one),
        3 => attributes[one].number ^= [NESTED, NET_BYTE_ORDER][random.index(2)],
        4 => {
            // Twice: the whole again, at another place.
            let mut bytes = Vec::new();
            write(&attributes[one..=one], &mut bytes);
            attributes.splice(other..other, parse(&bytes, known));
        }
        _ => {
            let Attribute { number, value } = &mut attributes[one];
            match value {
                Value::Nest(inner, known) => mutate(random, inner, known),
                Value::Bytes(value) => {
                    let is_name = matches!(kind_of(known, *number), Some(Name));
                    change(random, value, is_name);
                }
            }
        }
    }
}

fn change(random: &mut Random, value: &mut [u8], is_name: bool) {
    let changed = value.len() - usize::from(is_name); // a name ends with a zero
    match random.below(3) {
        0 if changed > 0 => value[random.index(changed)] ^= 1 << random.below(8),
        1 => value[..changed].fill([0, 1, 0x7f, 0xff][random.index(4)]),
        _ => value[..changed].fill_with(|| random.byte()),
    }
}

/// An attribute of this kind, with any value. A nest has one of the sets that the kernel sends.
fn fresh(random: &mut Random, number: u16, kind: &'static Kind) -> Attribute {
    let value = match kind {
        Size(size) => Value::Bytes((0..*size).map(|_| random.byte()).collect()),
        Name => Value::Bytes(b"ftp\0".to_vec()),
        Any => Value::Bytes((0..16).map(|_| random.byte()).collect()),
        Nest(inner) => {
            let sets = inner.sets;
            let set = (!sets.is_empty()).then(|| sets[random.index(sets.len())]);
            let wanted = inner.kinds.iter();
            let wanted = wanted.filter(|(number, _)| set.is_none_or(|set| set.contains(number)));
            let fresh = wanted.map(|(number, kind)| fresh(random, *number, kind));
            Value::Nest(fresh.collect(), inner)
        }
    };
    Attribute { number, value }
}
