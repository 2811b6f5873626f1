//! A builder for messages to send.

use super::{NESTED, align, put_attribute};
use crate::error::{Error, ErrorKind, Result};

/// Builds one message at the end of a buffer: the header, the fixed header of the protocol, and attributes.
///
/// A buffer can hold several messages, one after the other, and be sent as one datagram. If a builder is dropped before
/// [`finish`](Self::finish), or `finish` fails, the buffer is left as it was before this message.
///
/// ```
/// use nlring::{MessageBuilder, MessageList};
/// use nlring::message::flags;
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
/// let name = link.attributes(16).get(3).expect("IFLA_IFNAME");
/// assert_eq!(name.as_str(), Some("lo"));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder that is dropped before `finish` writes nothing"]
pub struct MessageBuilder<'a> {
    buffer: &'a mut Vec<u8>,
    /// The length of the buffer before this message and the padding in front of it.
    length_before: usize,
    /// Where the message begins in the buffer.
    start: usize,
    fault: Option<Fault>,
    is_finished: bool,
}

/// Why a message cannot be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// An attribute or the message is too long for its length field.
    TooLong,
    /// A callback returned a different builder from the one it was given.
    OtherBuilder,
}

/// The message that a builder builds: its buffer and its place there. No two builders have the same identity, because
/// only one builder at a time can borrow a buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    buffer: *const Vec<u8>,
    start: usize,
}

/// Builds one message at the end of `buffer`, which the callback `fill` completes.
///
/// # Errors
///
/// Those of [`MessageBuilder::finish`], or the callback returned a different builder. The buffer is then unchanged.
pub(crate) fn build(
    buffer: &mut Vec<u8>,
    message_type: u16,
    flags: u16,
    sequence: u32,
    fill: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
) -> Result<()> {
    let length_before = buffer.len();
    let message = MessageBuilder::new(buffer, message_type, flags).sequence(sequence);
    let identity = message.identity();
    let mut filled = fill(message);
    filled.check(identity);
    let built = filled.sequence(sequence).finish();
    if built.is_err() {
        // If `fill` finished or forgot this builder and returned another, nobody else removes what it wrote.
        buffer.truncate(length_before);
    }
    built
}

impl<'a> MessageBuilder<'a> {
    /// Starts a message at the end of `buffer`, at the next multiple of 4 bytes.
    pub fn new(buffer: &'a mut Vec<u8>, message_type: u16, flags: u16) -> Self {
        let length_before = buffer.len();
        buffer.resize(align(length_before), 0);
        let start = buffer.len();
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&message_type.to_ne_bytes());
        buffer.extend_from_slice(&flags.to_ne_bytes());
        buffer.extend_from_slice(&[0; 8]);
        Self {
            buffer,
            length_before,
            start,
            fault: None,
            is_finished: false,
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            buffer: &raw const *self.buffer,
            start: self.start,
        }
    }

    /// Records a fault unless this is the builder with that identity.
    fn check(&mut self, identity: Identity) {
        if self.identity() != identity {
            self.fault = Some(Fault::OtherBuilder);
        }
    }

    /// Sets the sequence number. Answers to the message have the same number.
    pub fn sequence(self, sequence: u32) -> Self {
        self.buffer[self.start + 8..self.start + 12].copy_from_slice(&sequence.to_ne_bytes());
        self
    }

    /// Sets the port ID. A message to the kernel needs none.
    pub fn port_id(self, port_id: u32) -> Self {
        self.buffer[self.start + 12..self.start + 16].copy_from_slice(&port_id.to_ne_bytes());
        self
    }

    /// Appends bytes, and padding up to a multiple of 4: the fixed header of the protocol.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.buffer.extend_from_slice(bytes);
        self.buffer.resize(align(self.buffer.len()), 0);
        self
    }

    /// Appends an attribute of up to 65,531 bytes, and padding up to a multiple of 4. With a longer value
    /// [`finish`](Self::finish) fails.
    pub fn attribute(mut self, attribute_type: u16, value: &[u8]) -> Self {
        if !put_attribute(self.buffer, attribute_type, value) {
            self.fault = self.fault.or(Some(Fault::TooLong));
        }
        self
    }

    /// Appends an attribute that is a number of 8 bits.
    pub fn attribute_u8(self, attribute_type: u16, value: u8) -> Self {
        self.attribute(attribute_type, &[value])
    }

    /// Appends an attribute that is a number of 16 bits in host order.
    pub fn attribute_u16(self, attribute_type: u16, value: u16) -> Self {
        self.attribute(attribute_type, &value.to_ne_bytes())
    }

    /// Appends an attribute that is a number of 32 bits in host order.
    pub fn attribute_u32(self, attribute_type: u16, value: u32) -> Self {
        self.attribute(attribute_type, &value.to_ne_bytes())
    }

    /// Appends an attribute that is a number of 64 bits in host order.
    pub fn attribute_u64(self, attribute_type: u16, value: u64) -> Self {
        self.attribute(attribute_type, &value.to_ne_bytes())
    }

    /// Appends an attribute that is a number of 16 bits in network order.
    pub fn attribute_be16(self, attribute_type: u16, value: u16) -> Self {
        self.attribute(attribute_type, &value.to_be_bytes())
    }

    /// Appends an attribute that is a number of 32 bits in network order.
    pub fn attribute_be32(self, attribute_type: u16, value: u32) -> Self {
        self.attribute(attribute_type, &value.to_be_bytes())
    }

    /// Appends an attribute that is a number of 64 bits in network order.
    pub fn attribute_be64(self, attribute_type: u16, value: u64) -> Self {
        self.attribute(attribute_type, &value.to_be_bytes())
    }

    /// Appends an attribute that is a string, without a NUL at its end.
    pub fn attribute_str(self, attribute_type: u16, value: &str) -> Self {
        self.attribute(attribute_type, value.as_bytes())
    }

    /// Appends an attribute that is a string, with a NUL at its end.
    pub fn attribute_str_nul(self, attribute_type: u16, value: &str) -> Self {
        let mut with_nul = Vec::with_capacity(value.len() + 1);
        with_nul.extend_from_slice(value.as_bytes());
        with_nul.push(0);
        self.attribute(attribute_type, &with_nul)
    }

    /// Appends an attribute with the flag `NLA_F_NESTED` that holds the attributes that `fill` appends. `fill` must
    /// return the builder that it is given; otherwise [`finish`](Self::finish) fails.
    pub fn nested(self, attribute_type: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.buffer.len();
        let identity = self.identity();
        let mut filled = fill(self.attribute(attribute_type | NESTED, &[]));
        filled.check(identity);
        if filled.fault.is_some() {
            return filled;
        }
        match u16::try_from(filled.buffer.len() - start) {
            Ok(length) => filled.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => filled.fault = Some(Fault::TooLong),
        }
        filled
    }

    /// Completes the message by writing its length.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`], and the buffer is left as it was before this message:
    ///
    /// - An attribute is longer than 65,535 bytes with its header, or the message is longer than 4 GiB.
    /// - A callback of [`nested`](Self::nested) returned a different builder from the one it was given.
    pub fn finish(mut self) -> Result<()> {
        const OPERATION: &str = "build a message";
        let length = u32::try_from(self.buffer.len() - self.start);
        let fault = self.fault.or(length.is_err().then_some(Fault::TooLong));
        let remedy = match (fault, length) {
            (None, Ok(length)) => {
                self.buffer[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
                self.is_finished = true;
                return Ok(());
            }
            (Some(Fault::OtherBuilder), _) => {
                "a callback returned another builder; return the one that it is given"
            }
            _ => "an attribute is longer than 65,535 bytes; split it",
        };
        Err(Error::with_kind(OPERATION, ErrorKind::InvalidInput).with_remedy(remedy))
    }
}

/// Removes a message that was not finished from the buffer.
impl Drop for MessageBuilder<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.buffer.truncate(self.length_before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Messages;
    use crate::message::flags;

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
        let nested = message.attributes(4).get(2).unwrap();
        assert!(nested.is_nested());
        assert_eq!(nested.nested().get(1).unwrap().as_be16(), Some(443));
        assert_eq!(nested.nested().get(2).unwrap().as_str(), Some("abc"));
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

    #[test]
    fn what_is_not_finished_leaves_the_buffer_as_it_was() {
        let mut bytes = vec![1, 2, 3]; // padding comes before the message
        drop(MessageBuilder::new(&mut bytes, 20, 0).attribute_u32(1, 7));
        assert_eq!(bytes, [1, 2, 3]);
        let too_long = MessageBuilder::new(&mut bytes, 20, 0).attribute(1, &vec![0; 65_532]);
        too_long.finish().unwrap_err();
        assert_eq!(bytes, [1, 2, 3]);
        MessageBuilder::new(&mut bytes, 20, 0).finish().unwrap();
        assert_eq!(bytes.len(), 4 + 16);
    }

    fn assert_is_other_builder(result: Result<()>) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("another builder"), "{error}");
    }

    fn other() -> MessageBuilder<'static> {
        MessageBuilder::new(Box::leak(Box::default()), 30, 0)
    }

    #[test]
    fn a_nested_callback_that_returns_another_builder_is_an_error() {
        let mut bytes = vec![0; 8];
        let nested = |fill: fn(MessageBuilder<'static>) -> MessageBuilder<'static>| {
            let bytes = Box::leak(Box::new(vec![0; 8]));
            MessageBuilder::new(bytes, 20, 0)
                .nested(1, fill)
                .attribute_u8(2, 2)
                .finish()
        };
        assert_is_other_builder(nested(|_| other()));
        assert_is_other_builder(nested(|_| other().bytes(&[0; 100])));
        assert_is_other_builder(nested(|inner| inner.nested(2, |_| other())));
        assert_is_other_builder(nested(|mut inner| {
            let mut other = other();
            std::mem::swap(&mut inner, &mut other);
            inner
        }));
        assert_is_other_builder(nested(|inner| {
            inner.finish().unwrap();
            other()
        }));
        // Of the same buffer, but another message.
        let of_same = |bytes| {
            MessageBuilder::new(bytes, 20, 0).nested(1, |inner| {
                std::mem::forget(inner);
                other()
            })
        };
        assert_is_other_builder(of_same(&mut bytes).finish());
    }

    #[test]
    fn a_request_is_only_built_by_the_builder_that_its_callback_was_given() {
        type Fill = fn(MessageBuilder<'_>) -> MessageBuilder<'_>;
        let fills: [Fill; 5] = [
            |_| other(),
            |given| {
                std::mem::forget(given);
                other()
            },
            |given| {
                given.finish().unwrap();
                other()
            },
            |mut given| {
                let mut other = other();
                std::mem::swap(&mut given, &mut other);
                given
            },
            |given| given.nested(1, |_| other()),
        ];
        for fill in fills {
            let mut bytes = vec![7; 5];
            assert_is_other_builder(build(&mut bytes, 20, 0, 1, fill));
            assert_eq!(bytes, [7; 5]);
        }
        let mut bytes = Vec::new();
        build(&mut bytes, 20, 0, 9, |given| {
            given.sequence(3).attribute_u8(1, 1)
        })
        .unwrap();
        assert_eq!(Messages::new(&bytes).next().unwrap().sequence(), 9);
    }
}
