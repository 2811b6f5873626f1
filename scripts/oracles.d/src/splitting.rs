//! Messages and attributes, as libmnl splits them.

use std::ffi::c_void;

use nlring::{Attributes, MessageList};

use crate::Comparison;
use crate::mnl::{self, aligned};

/// What libmnl takes for a negative length, and therefore for one that fits.
const FIRST_NEGATIVE: u32 = 1 << 31;

pub fn compare(bytes: &[u8]) -> Comparison {
    let list = MessageList::new(bytes);
    let malformed = list.malformed().map(|malformed| malformed.offset_bytes);
    if let Some(length) = malformed.and_then(|offset| bytes.get(offset..)?.first_chunk::<4>())
        && u32::from_ne_bytes(*length) >= FIRST_NEGATIVE
    {
        return Comparison::Intended("libmnl accepts message lengths of 2^31 and more as negative");
    }
    let ours: Vec<_> = list
        .iter()
        .map(|message| {
            let offset = message.bytes().as_ptr() as usize - bytes.as_ptr() as usize;
            (offset, message.bytes().len(), attributes(message.payload()))
        })
        .collect();
    let theirs = messages_of_libmnl(bytes);
    if ours == theirs {
        Comparison::Equal
    } else {
        Comparison::Different(format!("{ours:?}\n{theirs:?}"))
    }
}

type Attribute = (usize, u16, usize);

/// Offset, type and length of each attribute.
fn attributes(payload: &[u8]) -> Vec<Attribute> {
    Attributes::new(payload)
        .map(|attribute| {
            let offset = attribute.bytes().as_ptr() as usize - payload.as_ptr() as usize - 4;
            (offset, attribute.attribute_type(), attribute.bytes().len())
        })
        .collect()
}

fn messages_of_libmnl(bytes: &[u8]) -> Vec<(usize, usize, Vec<Attribute>)> {
    let words = aligned(bytes);
    let start = words.as_ptr().cast::<c_void>();
    let mut left = i32::try_from(bytes.len()).expect("a short capture");
    let mut message = start;
    let mut messages = Vec::new();
    // SAFETY: `words` holds the bytes and 64 more. A message that is accepted lies in the bytes, because lengths that
    // libmnl takes for negative were ruled out, and the next one begins at most 3 bytes behind them.
    while unsafe { mnl::mnl_nlmsg_ok(message, left) } {
        let offset = message as usize - start as usize;
        let length = u32::from_ne_bytes(*bytes[offset..].first_chunk().expect("a header")) as usize;
        let attributes = attributes_of_libmnl(&bytes[offset + 16..offset + length]);
        messages.push((offset, length, attributes));
        // SAFETY: as above.
        message = unsafe { mnl::mnl_nlmsg_next(message, &raw mut left) };
    }
    messages
}

fn attributes_of_libmnl(payload: &[u8]) -> Vec<Attribute> {
    let words = aligned(payload);
    let start = words.as_ptr().cast::<c_void>();
    let mut attribute = start;
    let mut attributes = Vec::new();
    loop {
        let offset = attribute as usize - start as usize;
        let left = payload.len() as i32 - offset as i32;
        // SAFETY: `words` holds the payload and 64 more bytes. An attribute that is accepted lies in the payload, and the
        // next one begins at most 3 bytes behind it.
        unsafe {
            if !mnl::mnl_attr_ok(attribute, left) {
                return attributes;
            }
            let length = mnl::mnl_attr_get_payload_len(attribute);
            attributes.push((offset, mnl::mnl_attr_get_type(attribute), length.into()));
            attribute = mnl::mnl_attr_next(attribute);
        }
    }
}
