//! Attributes: the typed values (`struct nlattr`, `struct rtattr`) that follow a message's fixed header.

use std::iter::FusedIterator;

/// The size of `struct nlattr` in bytes (include/uapi/linux/netlink.h).
pub const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// `NLA_F_NESTED`: the payload is attributes.
pub(crate) const NESTED: u16 = 0x8000;
/// `NLA_F_NET_BYTEORDER`: the payload is in network byte order.
const NET_BYTE_ORDER: u16 = 0x4000;
/// `NLA_TYPE_MASK`: the type without the two flags.
const TYPE_MASK: u16 = !(NESTED | NET_BYTE_ORDER);

/// Rounds up to netlink's alignment of 4 (`NLMSG_ALIGN`, `NLA_ALIGN`).
#[inline]
pub(crate) const fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// Appends an attribute with its padding. If the value is too long for a 16-bit length it appends nothing and returns
/// false.
pub(crate) fn put_attribute(buffer: &mut Vec<u8>, attribute_type: u16, value: &[u8]) -> bool {
    let Ok(length) = u16::try_from(ATTRIBUTE_HEADER_BYTES + value.len()) else {
        return false;
    };
    buffer.extend_from_slice(&length.to_ne_bytes());
    buffer.extend_from_slice(&attribute_type.to_ne_bytes());
    buffer.extend_from_slice(value);
    buffer.resize(align(buffer.len()), 0);
    true
}

/// One attribute, borrowed from its message.
///
/// The getters of numbers return None if the payload does not have the size of the number.
///
/// ```
/// use nlring::{MessageBuilder, Messages};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 256, 0)
///     .nested(1, |inner| inner.attribute_be16(3, 443))
///     .finish()?;
/// let message = Messages::new(&bytes).next().expect("one message");
/// let outer = message.attributes(0).get(1).expect("it is there");
/// let port = outer.nested().get(3).expect("it is there");
/// assert_eq!(port.as_be16(), Some(443));
/// assert_eq!(port.as_be32(), None);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    raw_type: u16,
    payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The type of the attribute, without the flags for nesting and byte order.
    #[inline]
    pub fn attribute_type(&self) -> u16 {
        self.raw_type & TYPE_MASK
    }

    /// Whether `NLA_F_NESTED` is set. Many kernel subsystems nest attributes without it.
    #[inline]
    pub fn is_nested(&self) -> bool {
        self.raw_type & NESTED != 0
    }

    /// Whether `NLA_F_NET_BYTEORDER` is set. Netfilter's numbers are in network order without it.
    #[inline]
    pub fn is_net_byte_order(&self) -> bool {
        self.raw_type & NET_BYTE_ORDER != 0
    }

    /// The payload, without padding.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.payload
    }

    /// The attributes that the payload holds.
    #[inline]
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.payload)
    }

    /// The payload as an array. None if its length differs.
    #[inline]
    pub fn as_array<const N: usize>(&self) -> Option<[u8; N]> {
        self.payload.try_into().ok()
    }

    /// A number of 8 bits.
    #[inline]
    pub fn as_u8(&self) -> Option<u8> {
        self.as_array::<1>().map(|[value]| value)
    }

    /// A number of 16 bits in host order.
    #[inline]
    pub fn as_u16(&self) -> Option<u16> {
        self.as_array().map(u16::from_ne_bytes)
    }

    /// A number of 32 bits in host order.
    #[inline]
    pub fn as_u32(&self) -> Option<u32> {
        self.as_array().map(u32::from_ne_bytes)
    }

    /// A number of 64 bits in host order, at any alignment.
    #[inline]
    pub fn as_u64(&self) -> Option<u64> {
        self.as_array().map(u64::from_ne_bytes)
    }

    /// A number of 16 bits in network order.
    #[inline]
    pub fn as_be16(&self) -> Option<u16> {
        self.as_array().map(u16::from_be_bytes)
    }

    /// A number of 32 bits in network order.
    #[inline]
    pub fn as_be32(&self) -> Option<u32> {
        self.as_array().map(u32::from_be_bytes)
    }

    /// A number of 64 bits in network order, at any alignment.
    #[inline]
    pub fn as_be64(&self) -> Option<u64> {
        self.as_array().map(u64::from_be_bytes)
    }

    /// The bytes of a string up to the first NUL, or all bytes if there is none.
    #[inline]
    pub fn as_str_bytes(&self) -> &'a [u8] {
        self.payload
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default()
    }

    /// A string up to the first NUL, or the whole payload if there is none. None if it is not UTF-8: a device's name,
    /// for example, can hold any bytes. [`as_str_bytes`](Self::as_str_bytes) returns these.
    #[inline]
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.as_str_bytes()).ok()
    }
}

/// An iterator over attributes, in order.
///
/// It ends at the first attribute with an invalid length: below 4, or beyond the end of the bytes
/// (include/net/netlink.h, `nla_ok`). [`is_malformed`](Self::is_malformed) then returns true.
///
/// ```
/// use nlring::Attributes;
///
/// // Length 5, type 1, one byte and its padding.
/// let mut bytes = 5u16.to_ne_bytes().to_vec();
/// bytes.extend_from_slice(&1u16.to_ne_bytes());
/// bytes.extend_from_slice(&[42, 0, 0, 0]);
/// let attribute = Attributes::new(&bytes).get(1).expect("it is there");
/// assert_eq!(attribute.as_u8(), Some(42));
/// assert_eq!(attribute.as_u16(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    left: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The attributes at the start of `bytes`. Any bytes are allowed.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// The remaining bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.left
    }

    /// The first remaining attribute of a type.
    pub fn get(mut self, attribute_type: u16) -> Option<Attribute<'a>> {
        Iterator::find(&mut self, |attribute| {
            attribute.attribute_type() == attribute_type
        })
    }

    /// Whether the next bytes are not an attribute although there are at least 4. Fewer than 4 are padding.
    pub fn is_malformed(&self) -> bool {
        self.left.len() >= ATTRIBUTE_HEADER_BYTES && { *self }.next().is_none()
    }
}

#[allow(clippy::copy_iterator)] // a view, which is often copied to iterate twice
impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Attribute<'a>> {
        let [a, b, c, d] = *self.left.first_chunk::<ATTRIBUTE_HEADER_BYTES>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let payload = self.left.get(ATTRIBUTE_HEADER_BYTES..length)?;
        self.left = self.left.get(align(length)..).unwrap_or_default();
        Some(Attribute {
            raw_type: u16::from_ne_bytes([c, d]),
            payload,
        })
    }
}

impl FusedIterator for Attributes<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(length: u16, attribute_type: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&attribute_type.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn bad_lengths_end_the_iteration() {
        for length in [0, 1, 3, 9, u16::MAX] {
            let bytes = raw(length, 1, &[0; 4]);
            let mut attributes = Attributes::new(&bytes);
            assert_eq!(attributes.next(), None, "length {length}");
            assert!(attributes.is_malformed(), "length {length}");
        }
    }

    #[test]
    fn the_last_attribute_needs_no_padding_and_a_header_alone_is_empty() {
        let mut bytes = raw(4, 9, &[]);
        bytes.extend(raw(5, 2, &[7]));
        let mut attributes = Attributes::new(&bytes);
        assert_eq!(
            attributes.next().map(|attribute| attribute.bytes().len()),
            Some(0)
        );
        assert_eq!(
            attributes.next().and_then(|attribute| attribute.as_u8()),
            Some(7)
        );
        assert!(!attributes.is_malformed());
    }

    #[test]
    fn flags_are_not_part_of_the_type() {
        let bytes = raw(8, 3 | NESTED | NET_BYTE_ORDER, &1u32.to_be_bytes());
        let attribute = Attributes::new(&bytes).get(3).unwrap();
        assert!(attribute.is_nested() && attribute.is_net_byte_order());
        assert_eq!(attribute.as_be32(), Some(1));
    }

    #[test]
    fn strings_end_at_the_first_nul_or_with_the_payload() {
        for (payload, want) in [
            (&b"eth0\0\0\0\0"[..], "eth0"),
            (b"eth0", "eth0"),
            (b"\0", ""),
            (b"", ""),
        ] {
            let attribute = Attribute {
                raw_type: 1,
                payload,
            };
            assert_eq!(attribute.as_str(), Some(want));
        }
        let attribute = Attribute {
            raw_type: 1,
            payload: b"a\xff\0b",
        };
        assert_eq!(
            (attribute.as_str(), attribute.as_str_bytes()),
            (None, &b"a\xff"[..])
        );
    }
}
