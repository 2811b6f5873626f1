//! Splitting any bytes accounts for every byte: as a message, as padding, or after the first bad length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nlring::{Attributes, MessageList};
use nlring::message::HEADER_BYTES;

fuzz_target!(|bytes: &[u8]| {
    let list = MessageList::new(bytes);
    let mut offset = 0;
    let mut count = 0;
    for message in &list {
        let length = message.header().length_bytes as usize;
        assert_eq!(message.bytes(), &bytes[offset..offset + length]);
        assert_eq!(message.payload().len(), length - HEADER_BYTES);
        let _ = message.content();
        for attribute in message.attributes(4) {
            let _ = (attribute.as_str(), attribute.as_u64(), attribute.nested().count());
        }
        offset = (offset + length).next_multiple_of(4).min(bytes.len());
        count += 1;
    }
    assert_eq!(count, list.message_count());
    assert_eq!(list.malformed().map_or(bytes.len(), |malformed| malformed.offset_bytes), offset);

    let mut attributes = Attributes::new(bytes);
    let taken: usize = attributes.by_ref().map(|attribute| attribute.bytes().len() + 4).sum();
    assert!(taken <= bytes.len());
});
