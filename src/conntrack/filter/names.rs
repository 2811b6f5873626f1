//! The words of protocols and status bits in a filter's text.

use std::borrow::Cow;

use crate::conntrack::{protocol_name, status};

/// The number of a protocol that conntrack has a name for.
pub(super) fn protocol_number(word: &str) -> Option<u8> {
    (0..=u8::MAX)
        .find(|&number| protocol_name(number).is_some_and(|name| name.eq_ignore_ascii_case(word)))
}

pub(super) fn protocol_word(number: u8) -> Cow<'static, str> {
    protocol_name(number).map_or_else(|| number.to_string().into(), Cow::from)
}

const STATUS: [(&str, u32); 16] = [
    ("expected", status::EXPECTED),
    ("seen-reply", status::SEEN_REPLY),
    ("assured", status::ASSURED),
    ("confirmed", status::CONFIRMED),
    ("src-nat", status::SRC_NAT),
    ("dst-nat", status::DST_NAT),
    ("seq-adjust", status::SEQ_ADJUST),
    ("src-nat-done", status::SRC_NAT_DONE),
    ("dst-nat-done", status::DST_NAT_DONE),
    ("dying", status::DYING),
    ("fixed-timeout", status::FIXED_TIMEOUT),
    ("template", status::TEMPLATE),
    ("nat-clash", status::NAT_CLASH),
    ("helper", status::HELPER),
    ("offload", status::OFFLOAD),
    ("hw-offload", status::HW_OFFLOAD),
];

/// The bit with a name such as `seen-reply`, in lower or upper case, with `-` or `_`.
pub(super) fn status_bit(word: &str) -> Option<u32> {
    let word = word.replace('_', "-");
    let mut names = STATUS.iter();
    names.find_map(|&(name, bit)| name.eq_ignore_ascii_case(&word).then_some(bit))
}

/// The name of a single bit, or the bits as a number.
pub(super) fn status_word(bits: u32) -> Cow<'static, str> {
    let name = STATUS.iter().find(|(_, bit)| *bit == bits);
    name.map_or_else(|| format!("{bits:#x}").into(), |&(name, _)| name.into())
}
