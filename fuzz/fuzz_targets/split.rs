//! Splitting any bytes accounts for every byte: as a message, as padding, or after the first bad length. The same holds
//! for attributes at any depth.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nlring::message::{ATTRIBUTE_HEADER_BYTES, HEADER_BYTES};
use nlring::{Attributes, Content, MessageList};

fuzz_target!(|bytes: &[u8]| {
    let list = MessageList::new(bytes);
    let mut offset = 0;
    let mut count = 0;
    for message in &list {
        let length = message.header().length_bytes as usize;
        assert_eq!(message.bytes(), &bytes[offset..offset + length]);
        assert_eq!(message.payload().len(), length - HEADER_BYTES);
        if let Content::Ack(answer) | Content::Error(answer) = message.content() {
            let _ = (
                answer.errno(),
                answer.request(),
                answer.text(),
                answer.offset_bytes(),
            );
        }
        check_attributes(message.payload());
        for fixed_bytes in [0, 1, 4, 12, 16, 1 << 20] {
            let _ = message.attributes(fixed_bytes).count();
        }
        offset = (offset + length).next_multiple_of(4).min(bytes.len());
        count += 1;
    }
    assert_eq!(count, list.message_count());
    assert_eq!(
        list.malformed()
            .map_or(bytes.len(), |malformed| malformed.offset_bytes),
        offset
    );
    check_attributes(bytes);
});

/// The attributes of some bytes, and those in each of them, down to the last.
fn check_attributes(bytes: &[u8]) {
    let mut attributes = Attributes::new(bytes);
    let mut offset = 0;
    while let Some(attribute) = attributes.next() {
        let payload = attribute.bytes();
        let start = offset + ATTRIBUTE_HEADER_BYTES;
        assert_eq!(payload, &bytes[start..start + payload.len()]);
        let text = attribute.as_str_bytes();
        assert!(payload.starts_with(text) && !text.contains(&0));
        assert!(
            attribute
                .as_str()
                .is_none_or(|text| payload.starts_with(text.as_bytes()))
        );
        let sizes = [
            attribute.as_u8().is_some() || payload.len() != 1,
            attribute.as_u16().is_some() && attribute.as_be16().is_some() || payload.len() != 2,
            attribute.as_u32().is_some() && attribute.as_be32().is_some() || payload.len() != 4,
            attribute.as_u64().is_some() && attribute.as_be64().is_some() || payload.len() != 8,
        ];
        assert_eq!(sizes, [true; 4]);
        check_attributes(payload); // it is shorter by 4 bytes at least, so this ends
        offset = (start + payload.len()).next_multiple_of(4).min(bytes.len());
    }
    // What is left is too short for an attribute, or begins with a bad length.
    let left = &bytes[offset..];
    let length = left
        .first_chunk()
        .map(|length| usize::from(u16::from_ne_bytes(*length)));
    let is_bad =
        length.is_some_and(|length| length < ATTRIBUTE_HEADER_BYTES || length > left.len());
    assert_eq!(
        attributes.is_malformed(),
        left.len() >= ATTRIBUTE_HEADER_BYTES
    );
    assert!(left.len() < ATTRIBUTE_HEADER_BYTES || is_bad);
    assert_eq!(attributes.next(), None);
}
