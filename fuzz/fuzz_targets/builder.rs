//! What a builder is given is what a reader finds, at any depth, in any order of calls. What does not fit is an error, and
//! the buffer is then as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nlring::{Attribute, Attributes, MessageBuilder, Messages};
use nlring_testing::Random;

/// An attribute as it was asked for.
#[derive(Debug)]
enum Asked {
    Bytes(u16, Vec<u8>),
    Nested(u16, Vec<Self>),
}

const DEEPEST: u32 = 6;

fuzz_target!(|bytes: &[u8]| {
    let mut random = Random::of_bytes(bytes);
    let mut buffer = Vec::new();
    let mut messages = Vec::new();
    for _ in 0..=random.below(4) {
        let before = buffer.clone();
        let fixed: Vec<u8> = (0..random.below(20)).map(|_| random.byte()).collect();
        let asked = some(&mut random, 0);
        let (message_type, flags) = (random.below(1 << 16) as u16, random.below(1 << 16) as u16);
        let (sequence, port_id) = (random.below(u32::MAX), random.below(u32::MAX));
        let builder = MessageBuilder::new(&mut buffer, message_type, flags)
            .sequence(sequence)
            .port_id(port_id)
            .bytes(&fixed);
        let builder = put_all(builder, &asked);
        if random.one_in(8) {
            drop(builder);
            assert_eq!(buffer, before);
            continue;
        }
        let fits = asked.iter().all(|attribute| length(attribute).is_some());
        assert_eq!(builder.finish().is_ok(), fits);
        if fits {
            messages.push((message_type, flags, sequence, port_id, fixed, asked));
        } else {
            assert_eq!(buffer, before);
        }
    }
    let mut read = Messages::new(&buffer);
    for (message_type, flags, sequence, port_id, fixed, asked) in messages {
        let message = read.next().expect("it was built");
        assert_eq!(
            (message.message_type(), message.flags()),
            (message_type, flags)
        );
        assert_eq!((message.sequence(), message.port_id()), (sequence, port_id));
        assert!(message.payload().starts_with(&fixed));
        check(message.attributes(fixed.len()), &asked);
    }
    assert!(read.next().is_none());
});

fn some(random: &mut Random, depth: u32) -> Vec<Asked> {
    let one = |random: &mut Random| {
        let attribute_type = random.below(1 << 14) as u16; // without the flags
        if depth < DEEPEST && random.one_in(3) {
            return Asked::Nested(attribute_type, some(random, depth + 1));
        }
        let length = match random.below(20) {
            0 => 65_525 + random.below(14), // about as much as fits
            1 => 30_000,
            length => length - 2,
        };
        let fill = random.byte();
        Asked::Bytes(
            attribute_type,
            (0..length).map(|index| fill ^ index as u8).collect(),
        )
    };
    (0..random.below(4)).map(|_| one(random)).collect()
}

/// The length of an attribute without padding. `None`: it does not fit.
fn length(attribute: &Asked) -> Option<usize> {
    let payload = match attribute {
        Asked::Bytes(_, bytes) => bytes.len(),
        Asked::Nested(_, inner) => {
            let padded = |attribute| length(attribute).map(|length| length.next_multiple_of(4));
            inner.iter().map(padded).sum::<Option<usize>>()?
        }
    };
    Some(payload + 4).filter(|&length| length <= u16::MAX.into())
}

fn put_all<'a>(builder: MessageBuilder<'a>, asked: &[Asked]) -> MessageBuilder<'a> {
    asked
        .iter()
        .fold(builder, |builder, attribute| match attribute {
            Asked::Bytes(attribute_type, bytes) => put(builder, *attribute_type, bytes),
            Asked::Nested(attribute_type, inner) => {
                builder.nested(*attribute_type, |builder| put_all(builder, inner))
            }
        })
}

/// Puts bytes by the call that is made for as many, if there is one.
fn put<'a>(builder: MessageBuilder<'a>, attribute_type: u16, bytes: &[u8]) -> MessageBuilder<'a> {
    match *bytes {
        [a] => builder.attribute_u8(attribute_type, a),
        [a, b] => builder.attribute_be16(attribute_type, u16::from_be_bytes([a, b])),
        [a, b, c, d] => builder.attribute_u32(attribute_type, u32::from_ne_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => {
            builder.attribute_be64(attribute_type, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
        }
        _ => match str::from_utf8(bytes) {
            Ok(text) => match text.strip_suffix('\0') {
                Some(text) => builder.attribute_str_nul(attribute_type, text),
                None => builder.attribute_str(attribute_type, text),
            },
            Err(_) => builder.attribute(attribute_type, bytes),
        },
    }
}

fn check(mut read: Attributes<'_>, asked: &[Asked]) {
    for asked in asked {
        let attribute = read.next().expect("it was put");
        let is_type = |attribute: &Attribute<'_>, attribute_type: u16| {
            assert_eq!(attribute.attribute_type(), attribute_type);
        };
        match asked {
            Asked::Bytes(attribute_type, bytes) => {
                is_type(&attribute, *attribute_type);
                assert_eq!(attribute.bytes(), bytes);
            }
            Asked::Nested(attribute_type, inner) => {
                is_type(&attribute, *attribute_type);
                assert!(attribute.is_nested());
                check(attribute.nested(), inner);
            }
        }
    }
    assert!(read.next().is_none() && !read.is_malformed());
}
