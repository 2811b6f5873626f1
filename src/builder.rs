//! Messages built for sending: requests, and what tests need.

use crate::attribute::{NESTED, align, put_attribute};
use crate::error::{Error, ErrorKind, Result};

/// Writes one message to the end of a buffer: header, the protocol's own fixed header, attributes.
///
/// Several messages may be written one after the other into one buffer and sent as one datagram.
///
/// ```
/// use nlring::{MessageBuilder, MessageList, flags};
///
/// let mut request = Vec::new();
/// MessageBuilder::new(&mut request, 18 /* RTM_GETLINK */, flags::REQUEST)
///     .sequence(1)
///     .bytes(&[0; 16]) // struct ifinfomsg
///     .attribute_str_nul(3 /* IFLA_IFNAME */, "lo")
///     .finish()?;
///
/// let list = MessageList::new(&request);
/// let link = list.iter().next().expect("one message");
/// let name = link.attributes(16).find(3).expect("IFLA_IFNAME");
/// assert_eq!(name.as_str(), Some("lo"));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the message's length is written by `finish`"]
pub struct MessageBuilder<'a> {
    buffer: &'a mut Vec<u8>,
    start: usize,
    too_long: bool,
}

impl<'a> MessageBuilder<'a> {
    /// Starts a message at the end of `buffer`.
    pub fn new(buffer: &'a mut Vec<u8>, message_type: u16, flags: u16) -> Self {
        buffer.resize(align(buffer.len()), 0);
        let start = buffer.len();
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&message_type.to_ne_bytes());
        buffer.extend_from_slice(&flags.to_ne_bytes());
        buffer.extend_from_slice(&[0; 8]);
        Self {
            buffer,
            start,
            too_long: false,
        }
    }

    /// Sets the sequence number, by which the answer is known again.
    pub fn sequence(self, sequence: u32) -> Self {
        self.buffer[self.start + 8..self.start + 12].copy_from_slice(&sequence.to_ne_bytes());
        self
    }

    /// Sets the port ID. The kernel needs none.
    pub fn port_id(self, port_id: u32) -> Self {
        self.buffer[self.start + 12..self.start + 16].copy_from_slice(&port_id.to_ne_bytes());
        self
    }

    /// Appends raw bytes, padded to 4: the protocol's own fixed header.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.buffer.extend_from_slice(bytes);
        self.buffer.resize(align(self.buffer.len()), 0);
        self
    }

    /// Appends an attribute. Its length does not count the padding.
    pub fn attribute(mut self, attribute_type: u16, value: &[u8]) -> Self {
        self.too_long |= !put_attribute(self.buffer, attribute_type, value);
        self
    }

    /// Appends one byte.
    pub fn attribute_u8(self, attribute_type: u16, value: u8) -> Self {
        self.attribute(attribute_type, &[value])
    }

    /// Appends 16 bits in host order.
    pub fn attribute_u16(self, attribute_type: u16, value: u16) -> Self {
        self.attribute(attribute_type, &value.to_ne_bytes())
    }

    /// Appends 32 bits in host order.
    pub fn attribute_u32(self, attribute_type: u16, value: u32) -> Self {
        self.attribute(attribute_type, &value.to_ne_bytes())
    }

    /// Appends 64 bits in host order.
    pub fn attribute_u64(self, attribute_type: u16, value: u64) -> Self {
        self.attribute(attribute_type, &value.to_ne_bytes())
    }

    /// Appends 16 bits in network order.
    pub fn attribute_be16(self, attribute_type: u16, value: u16) -> Self {
        self.attribute(attribute_type, &value.to_be_bytes())
    }

    /// Appends 32 bits in network order.
    pub fn attribute_be32(self, attribute_type: u16, value: u32) -> Self {
        self.attribute(attribute_type, &value.to_be_bytes())
    }

    /// Appends 64 bits in network order.
    pub fn attribute_be64(self, attribute_type: u16, value: u64) -> Self {
        self.attribute(attribute_type, &value.to_be_bytes())
    }

    /// Appends a string without a terminating NUL.
    pub fn attribute_str(self, attribute_type: u16, value: &str) -> Self {
        self.attribute(attribute_type, value.as_bytes())
    }

    /// Appends a string with a terminating NUL.
    pub fn attribute_str_nul(self, attribute_type: u16, value: &str) -> Self {
        let mut with_nul = Vec::with_capacity(value.len() + 1);
        with_nul.extend_from_slice(value.as_bytes());
        with_nul.push(0);
        self.attribute(attribute_type, &with_nul)
    }

    /// Appends an attribute that holds what `fill` appends, marked `NLA_F_NESTED`.
    pub fn nested(self, attribute_type: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.buffer.len();
        let this = self.attribute(attribute_type | NESTED, &[]);
        let mut this = fill(this);
        match u16::try_from(this.buffer.len() - start) {
            Ok(length) => this.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => this.too_long = true,
        }
        this
    }

    /// Writes the message's length.
    ///
    /// # Errors
    ///
    /// An attribute was longer than its 16-bit length can say (65,535 bytes), or the message longer than 32 bits can:
    /// the buffer is then as it was before this message.
    pub fn finish(self) -> Result<()> {
        match u32::try_from(self.buffer.len() - self.start) {
            Ok(length) if !self.too_long => {
                self.buffer[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
                Ok(())
            }
            _ => {
                self.buffer.truncate(self.start);
                Err(Error::with_kind(
                    "build a message: an attribute is longer than 65,535 bytes",
                    ErrorKind::InvalidInput,
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Messages, flags};

    #[test]
    fn what_is_built_is_read_back_and_lengths_do_not_count_padding() {
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, 256, flags::REQUEST | flags::ACK)
            .sequence(u32::MAX)
            .port_id(7)
            .bytes(&[2, 0, 0, 0])
            .attribute_u8(1, 255)
            .nested(2, |inner| {
                inner.attribute_be16(1, 443).attribute_str(2, "abc")
            })
            .finish()
            .unwrap();
        assert_eq!(
            bytes[20..22],
            5u16.to_ne_bytes(),
            "u8: 4 + 1, as the kernel wants it"
        );
        let message = Messages::new(&bytes).next().unwrap();
        assert_eq!(message.header().length_bytes as usize, bytes.len());
        let nested = message.attributes(4).find(2).unwrap();
        assert!(nested.is_nested());
        assert_eq!(nested.nested().find(1).unwrap().as_be16(), Some(443));
        assert_eq!(nested.nested().find(2).unwrap().as_str(), Some("abc"));
    }

    #[test]
    fn an_attribute_too_long_for_its_length_is_refused_and_the_buffer_restored() {
        let mut bytes = vec![1, 2, 3, 4];
        let result = MessageBuilder::new(&mut bytes, 20, 0)
            .attribute(1, &vec![0; 65_532])
            .finish();
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(bytes, [1, 2, 3, 4]);
        let long = vec![0; 40_000];
        let result = MessageBuilder::new(&mut bytes, 20, 0)
            .nested(1, |inner| inner.attribute(1, &long).attribute(2, &long))
            .finish();
        assert!(result.is_err());
        assert_eq!(bytes, [1, 2, 3, 4]);
    }
}
