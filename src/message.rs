//! Netlink messages: the pieces that datagrams are made of, read where they lie and built for sending.
//!
//! Nothing here does I/O or allocates while reading, and no input makes it panic: these types can be used on bytes
//! from anywhere, such as a capture file.

use std::iter::FusedIterator;
use std::slice;
use std::time::SystemTime;

use crate::attribute::{Attributes, align, put_attribute};
use crate::error::{Error, ErrorKind, Malformed, MalformedReason, Result};

/// Size of `struct nlmsghdr` (include/uapi/linux/netlink.h).
pub const HEADER_BYTES: usize = 16;

/// Message types below [`MIN_TYPE`] belong to netlink itself, in every protocol (include/uapi/linux/netlink.h).
pub const NOOP: u16 = 1;
/// The message is an error or an acknowledgement, see [`ErrorMessage`].
pub const ERROR: u16 = 2;
/// The last message of a multi-part answer.
pub const DONE: u16 = 3;
/// Data was lost; no kernel since 2.6 sends it.
pub const OVERRUN: u16 = 4;
/// The first message type that a protocol defines itself.
pub const MIN_TYPE: u16 = 16;

/// Bits of [`Header::flags`] (`NLM_F_*` in include/uapi/linux/netlink.h).
pub mod flags {
    /// Set on all requests.
    pub const REQUEST: u16 = 0x1;
    /// Part of a multi-part answer that ends with [`DONE`](super::DONE).
    pub const MULTI: u16 = 0x2;
    /// Asks for an acknowledgement.
    pub const ACK: u16 = 0x4;
    /// Asks that the resulting event be sent to the requester too.
    pub const ECHO: u16 = 0x8;
    /// The dump was interrupted by a change and may be inconsistent. Available since Linux 3.1.
    pub const DUMP_INTR: u16 = 0x10;
    /// The dump was filtered as asked. Available since Linux 4.20.
    pub const DUMP_FILTERED: u16 = 0x20;
    /// Get request: return the whole table.
    pub const ROOT: u16 = 0x100;
    /// Get request: return all that match.
    pub const MATCH: u16 = 0x200;
    /// Get request: atomic snapshot (not implemented by the kernel).
    pub const ATOMIC: u16 = 0x400;
    /// Get request: dump, that is `ROOT | MATCH`.
    pub const DUMP: u16 = ROOT | MATCH;
    /// New request or event: replaces an existing object.
    pub const REPLACE: u16 = 0x100;
    /// New request or event: only if it does not exist.
    pub const EXCL: u16 = 0x200;
    /// New request or event: create it when missing.
    pub const CREATE: u16 = 0x400;
    /// New request or event: add to the end of the list.
    pub const APPEND: u16 = 0x800;
    /// Acknowledgement: the request was not echoed beyond its header. Available since Linux 4.3.
    pub const CAPPED: u16 = 0x100;
    /// Acknowledgement: attributes follow (extended acknowledgement). Available since Linux 4.12.
    pub const ACK_TLVS: u16 = 0x200;
}

/// The fixed head of every message, `struct nlmsghdr`, in host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// Bytes of header and payload, without the padding that may follow.
    pub length_bytes: u32,
    /// What the message is; its meaning depends on the protocol, below [`MIN_TYPE`] it is netlink's own.
    pub message_type: u16,
    /// See [`flags`].
    pub flags: u16,
    /// The number given in the request that this answers; 0 in most events.
    pub sequence: u32,
    /// The netlink port ID of the socket that caused the message: in an event 0 when the kernel did it by itself.
    /// It is no process id, and it is not the sender's address: for that see [`Datagram::sender_port_id`].
    pub port_id: u32,
}

impl Header {
    /// Reads a header from the start of `bytes`. None when there are fewer than 16.
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (message_type, rest) = rest.split_first_chunk()?;
        let (flags, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        Some(Self {
            length_bytes: u32::from_ne_bytes(*length),
            message_type: u16::from_ne_bytes(*message_type),
            flags: u16::from_ne_bytes(*flags),
            sequence: u32::from_ne_bytes(*sequence),
            port_id: u32::from_ne_bytes(*rest.first_chunk()?),
        })
    }
}

/// One message: header and payload, borrowed from the datagram that held it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    header: Header,
    /// Header and payload, unpadded; at least 16 bytes.
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// The header.
    #[inline]
    pub fn header(&self) -> Header {
        self.header
    }

    /// What the message is, see [`Header::message_type`].
    #[inline]
    pub fn message_type(&self) -> u16 {
        self.header.message_type
    }

    /// The header's [`flags`].
    #[inline]
    pub fn flags(&self) -> u16 {
        self.header.flags
    }

    /// The header's sequence number.
    #[inline]
    pub fn sequence(&self) -> u32 {
        self.header.sequence
    }

    /// The header's port ID: who caused the message, 0 for the kernel itself.
    #[inline]
    pub fn port_id(&self) -> u32 {
        self.header.port_id
    }

    /// Header and payload, without the padding that may follow.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// The attributes that follow the protocol's own fixed header of `fixed_bytes` bytes (`struct rtmsg`: 12,
    /// `struct nfgenmsg`: 4). Empty when the payload is shorter than that.
    #[inline]
    pub fn attributes(&self, fixed_bytes: usize) -> Attributes<'a> {
        Attributes::new(self.payload().get(align(fixed_bytes)..).unwrap_or_default())
    }

    /// Whether the sequence number fits a request's: libmnl's `mnl_nlmsg_seq_ok`, where 0 on either side fits all.
    pub fn is_sequence(&self, sequence: u32) -> bool {
        self.header.sequence == 0 || sequence == 0 || self.header.sequence == sequence
    }

    /// Whether the port ID fits a socket's: libmnl's `mnl_nlmsg_portid_ok`, where 0 on either side fits all.
    pub fn is_port_id(&self, port_id: u32) -> bool {
        self.header.port_id == 0 || port_id == 0 || self.header.port_id == port_id
    }

    /// Tells netlink's own messages (errors, acknowledgements, ends of dumps) from the protocol's.
    #[inline]
    pub fn content(&self) -> Content<'a> {
        match self.header.message_type {
            NOOP => Content::Noop,
            ERROR => Content::Error(ErrorMessage { message: *self }),
            DONE => Content::Done {
                errno: self.leading_errno().unwrap_or(0),
            },
            OVERRUN => Content::Overrun,
            _ => Content::Data(self.payload()),
        }
    }

    /// `ERROR` and `DONE` begin with a negated errno.
    fn leading_errno(&self) -> Option<i32> {
        let value = i32::from_ne_bytes(*self.payload().first_chunk()?);
        Some(value.checked_neg().unwrap_or(i32::MAX))
    }
}

/// What a message holds, as netlink itself sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Content<'a> {
    /// Nothing; to be ignored.
    Noop,
    /// An error or, with errno 0, an acknowledgement.
    Error(ErrorMessage<'a>),
    /// The end of a multi-part answer.
    Done {
        /// 0, or what went wrong during the dump.
        errno: i32,
    },
    /// The sender lost data.
    Overrun,
    /// The protocol's own payload. Types below [`MIN_TYPE`] that have no meaning yet are here too.
    Data(&'a [u8]),
}

/// The kernel's answer to a request: `struct nlmsgerr` and the attributes of an extended acknowledgement.
#[derive(Clone, Copy, Debug)]
pub struct ErrorMessage<'a> {
    message: Message<'a>,
}

impl<'a> ErrorMessage<'a> {
    /// The positive error number; 0 is an acknowledgement. None when the message is too short to hold one.
    pub fn errno(&self) -> Option<i32> {
        self.message.leading_errno()
    }

    /// The header of the request that this answers.
    pub fn request(&self) -> Option<Header> {
        Header::read(self.message.payload().get(4..)?)
    }

    /// The kernel's explanation, when the socket has `NETLINK_EXT_ACK` on and the kernel gave one.
    /// Available since Linux 4.12.
    pub fn text(&self) -> Option<&'a str> {
        self.extended(1)?.as_str()
    }

    /// Offset in bytes, from the request's start, of the attribute that the kernel rejected. Available since Linux 4.12.
    pub fn offset_bytes(&self) -> Option<u32> {
        self.extended(2)?.as_u32()
    }

    /// One attribute of the extended acknowledgement (`NLMSGERR_ATTR_*`, include/uapi/linux/netlink.h).
    fn extended(&self, attribute_type: u16) -> Option<crate::Attribute<'a>> {
        if self.message.flags() & flags::ACK_TLVS == 0 {
            return None;
        }
        let request_bytes = if self.message.flags() & flags::CAPPED != 0 {
            HEADER_BYTES
        } else {
            align(usize::try_from(self.request()?.length_bytes).ok()?)
        };
        let start = request_bytes.checked_add(4)?;
        Attributes::new(self.message.payload().get(start..)?).find(attribute_type)
    }
}

/// The messages of one stretch of bytes, in order. Made by [`Datagram::messages`] and [`MessageList::iter`].
///
/// Ends at the first message whose length cannot be right, and then [`malformed`](Self::malformed) says where and why.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    left: &'a [u8],
    total_bytes: usize,
}

impl<'a> Messages<'a> {
    /// Splits `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            left: bytes,
            total_bytes: bytes.len(),
        }
    }

    /// Takes the next message off the front, by the rules of libmnl's `mnl_nlmsg_ok` and `mnl_nlmsg_next`
    /// (src/nlmsg.c): an unpadded last message is valid.
    #[inline]
    fn split_first(&self) -> Result<(Message<'a>, &'a [u8]), MalformedReason> {
        let left_bytes = self.left.len();
        let Some(header) = Header::read(self.left) else {
            return Err(MalformedReason::ShortHeader { left_bytes });
        };
        let length_bytes = header.length_bytes;
        let length = length_bytes as usize;
        if length < HEADER_BYTES {
            return Err(MalformedReason::LengthBelowHeader { length_bytes });
        }
        let Some(bytes) = self.left.get(..length) else {
            return Err(MalformedReason::LengthBeyondEnd {
                length_bytes,
                left_bytes,
            });
        };
        let rest = self.left.get(align(length)..).unwrap_or_default();
        Ok((Message { header, bytes }, rest))
    }

    /// Why the iteration has ended before the bytes did; None while good messages are left and after a clean end.
    pub fn malformed(&self) -> Option<Malformed> {
        if self.left.is_empty() {
            return None;
        }
        let reason = self.split_first().err()?;
        Some(Malformed {
            offset_bytes: self.total_bytes - self.left.len(),
            reason,
        })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    #[inline]
    fn next(&mut self) -> Option<Message<'a>> {
        if self.left.is_empty() {
            return None;
        }
        let (message, rest) = self.split_first().ok()?;
        self.left = rest;
        Some(message)
    }
}

impl FusedIterator for Messages<'_> {}

/// What one receive returned: raw bytes, and what the kernel said about where they came from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Datagram<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) sender_port_id: u32,
    pub(crate) group: Option<u32>,
    pub(crate) nsid: Option<i32>,
}

impl<'a> Datagram<'a> {
    /// The bytes as received.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The sender's address: 0 is the kernel.
    #[inline]
    pub fn sender_port_id(&self) -> u32 {
        self.sender_port_id
    }

    /// The multicast group the datagram was sent to, 0 when it was sent to this socket alone.
    /// None unless the socket has [`Socket::set_pktinfo`](crate::Socket::set_pktinfo) on.
    #[inline]
    pub fn group(&self) -> Option<u32> {
        self.group
    }

    /// The network namespace it came from, as this socket's namespace numbers its peers; None is the own namespace.
    /// Needs [`Socket::set_listen_all_nsid`](crate::Socket::set_listen_all_nsid).
    #[inline]
    pub fn nsid(&self) -> Option<i32> {
        self.nsid
    }

    /// Splits it into messages.
    #[inline]
    pub fn messages(&self) -> Messages<'a> {
        Messages::new(self.bytes)
    }
}

/// What walking the lengths of a datagram once tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    pub message_count: usize,
    /// The good messages end here.
    pub valid_bytes: usize,
    pub malformed: Option<Malformed>,
}

impl Walk {
    /// Of a datagram that holds no netlink messages.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self {
            message_count: 0,
            valid_bytes: bytes.len(),
            malformed: None,
        }
    }
}

/// Checks every length of a datagram.
#[inline]
pub(crate) fn walk(bytes: &[u8]) -> Walk {
    let mut messages = Messages::new(bytes);
    let message_count = messages.by_ref().count();
    Walk {
        message_count,
        valid_bytes: bytes.len() - messages.left.len(),
        malformed: messages.malformed(),
    }
}

/// The messages of one delivery of one socket, over one or more datagrams, in the order the kernel sent them.
///
/// It is lent: the bytes belong to a receive buffer that is used again as soon as the list is given back.
///
/// ```
/// use nlring::MessageList;
///
/// // Two messages without payload, as they would stand in a capture: length 16, type 3 (DONE), no flags.
/// let mut bytes = Vec::new();
/// for sequence in 1u32..=2 {
///     bytes.extend_from_slice(&16u32.to_ne_bytes());
///     bytes.extend_from_slice(&3u16.to_ne_bytes());
///     bytes.extend_from_slice(&[0; 2]);
///     bytes.extend_from_slice(&sequence.to_ne_bytes());
///     bytes.extend_from_slice(&[0; 4]);
/// }
/// let list = MessageList::new(&bytes);
/// assert_eq!(list.message_count(), 2);
/// assert_eq!(list.iter().map(|message| message.sequence()).collect::<Vec<_>>(), [1, 2]);
/// assert!(list.malformed().is_none());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MessageList<'a> {
    datagrams: Store<'a>,
    message_count: usize,
    malformed: Option<Malformed>,
    received_at: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug)]
enum Store<'a> {
    One(Datagram<'a>),
    Many(&'a [Datagram<'a>]),
}

impl<'a> MessageList<'a> {
    /// The messages of one datagram's bytes, from anywhere. What follows a bad length is left out, and
    /// [`malformed`](Self::malformed) tells of it.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::from_datagram(Datagram {
            bytes,
            ..Datagram::default()
        })
    }

    pub(crate) fn from_datagram(datagram: Datagram<'a>) -> Self {
        let Walk {
            message_count,
            malformed,
            ..
        } = walk(datagram.bytes);
        Self {
            datagrams: Store::One(datagram),
            message_count,
            malformed,
            received_at: None,
        }
    }

    /// Of datagrams that have been walked already.
    pub(crate) fn from_walked(
        datagrams: &'a [Datagram<'a>],
        message_count: usize,
        received_at: SystemTime,
    ) -> Self {
        Self {
            datagrams: Store::Many(datagrams),
            message_count,
            malformed: None,
            received_at: Some(received_at),
        }
    }

    /// All messages, in order, over all datagrams.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        let mut datagrams = self.datagrams().iter();
        let messages = datagrams
            .next()
            .map_or(Messages::new(&[]), Datagram::messages);
        Iter {
            messages,
            datagrams,
        }
    }

    /// The datagrams, each with its raw bytes, sender, namespace and group.
    #[inline]
    pub fn datagrams(&self) -> &[Datagram<'a>] {
        match &self.datagrams {
            Store::One(datagram) => slice::from_ref(datagram),
            Store::Many(datagrams) => datagrams,
        }
    }

    /// How many messages there are.
    #[inline]
    pub fn message_count(&self) -> usize {
        self.message_count
    }

    /// Where the datagram stopped making sense. Always None in a list that an engine delivers: it tells of bad lengths
    /// by [`Notice::Malformed`](crate::Notice::Malformed).
    pub fn malformed(&self) -> Option<Malformed> {
        self.malformed
    }

    /// When the engine drained the datagrams (`CLOCK_REALTIME`); None for a list that no engine delivered.
    #[inline]
    pub fn received_at(&self) -> Option<SystemTime> {
        self.received_at
    }
}

impl<'list> IntoIterator for &'list MessageList<'_> {
    type Item = Message<'list>;
    type IntoIter = Iter<'list>;

    #[inline]
    fn into_iter(self) -> Iter<'list> {
        self.iter()
    }
}

/// The messages of a [`MessageList`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    messages: Messages<'a>,
    datagrams: slice::Iter<'a, Datagram<'a>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Message<'a>;

    #[inline]
    fn next(&mut self) -> Option<Message<'a>> {
        loop {
            if let Some(message) = self.messages.next() {
                return Some(message);
            }
            self.messages = self.datagrams.next()?.messages();
        }
    }
}

impl FusedIterator for Iter<'_> {}

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
        let this = self.attribute(attribute_type | crate::attribute::NESTED, &[]);
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

    fn message(length: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn reason_of(bytes: &[u8]) -> Option<(usize, usize, MalformedReason)> {
        let list = MessageList::new(bytes);
        let malformed = list.malformed()?;
        assert_eq!(list.iter().count(), list.message_count());
        Some((
            list.message_count(),
            malformed.offset_bytes,
            malformed.reason,
        ))
    }

    #[test]
    fn a_length_of_zero_ends_the_datagram_and_does_not_loop() {
        let mut bytes = message(20, &[1, 2, 3, 4]);
        bytes.extend(message(0, &[]));
        assert_eq!(
            reason_of(&bytes),
            Some((
                1,
                20,
                MalformedReason::LengthBelowHeader { length_bytes: 0 }
            ))
        );
    }

    #[test]
    fn a_length_below_the_header_is_malformed() {
        assert_eq!(
            reason_of(&message(15, &[])),
            Some((
                0,
                0,
                MalformedReason::LengthBelowHeader { length_bytes: 15 }
            ))
        );
    }

    #[test]
    fn a_length_beyond_the_end_is_malformed_and_the_messages_before_it_are_kept() {
        let mut bytes = message(16, &[]);
        bytes.extend(message(24, &[1, 2, 3, 4]));
        let reason = MalformedReason::LengthBeyondEnd {
            length_bytes: 24,
            left_bytes: 20,
        };
        assert_eq!(reason_of(&bytes), Some((1, 16, reason)));
        let reason = MalformedReason::LengthBeyondEnd {
            length_bytes: u32::MAX,
            left_bytes: 16,
        };
        assert_eq!(reason_of(&message(u32::MAX, &[])), Some((0, 0, reason)));
    }

    #[test]
    fn a_trailing_fragment_is_malformed() {
        let mut bytes = message(16, &[]);
        bytes.extend([1, 2, 3]);
        assert_eq!(
            reason_of(&bytes),
            Some((1, 16, MalformedReason::ShortHeader { left_bytes: 3 }))
        );
    }

    #[test]
    fn an_unaligned_message_is_followed_by_the_next_at_the_padded_place() {
        let mut bytes = message(18, &[7, 8, 0, 0]);
        bytes.extend(message(17, &[9]));
        let list = MessageList::new(&bytes);
        assert_eq!(list.malformed(), None);
        let payloads: Vec<_> = list.iter().map(|message| message.payload()).collect();
        assert_eq!(payloads, [&[7, 8][..], &[9][..]]);
    }

    #[test]
    fn no_bytes_are_no_messages() {
        let list = MessageList::new(&[]);
        assert_eq!((list.message_count(), list.malformed()), (0, None));
    }

    #[test]
    fn high_bits_are_not_signs() {
        let mut bytes = 16u32.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&0x8001u16.to_ne_bytes());
        bytes.extend_from_slice(&0x8001u16.to_ne_bytes());
        bytes.extend_from_slice(&u32::MAX.to_ne_bytes());
        bytes.extend_from_slice(&0x8000_0001u32.to_ne_bytes());
        let message = Messages::new(&bytes).next().unwrap();
        assert_eq!((message.message_type(), message.flags()), (0x8001, 0x8001));
        assert_eq!(
            (message.sequence(), message.port_id()),
            (u32::MAX, 0x8000_0001)
        );
    }

    #[test]
    fn an_error_tells_errno_request_and_text() {
        let mut bytes = Vec::new();
        let mut request = Vec::new();
        MessageBuilder::new(&mut request, 24, flags::REQUEST)
            .sequence(9)
            .bytes(&[0; 12])
            .finish()
            .unwrap();
        let mut payload = (-libc::EEXIST).to_ne_bytes().to_vec();
        payload.extend_from_slice(&request);
        MessageBuilder::new(&mut bytes, ERROR, flags::ACK_TLVS)
            .bytes(&payload)
            .attribute_str_nul(1, "File exists already")
            .attribute_u32(2, 28)
            .finish()
            .unwrap();
        let message = Messages::new(&bytes).next().unwrap();
        let Content::Error(error) = message.content() else {
            panic!("{message:?}")
        };
        assert_eq!(error.errno(), Some(libc::EEXIST));
        assert_eq!(error.request().map(|request| request.sequence), Some(9));
        assert_eq!(
            (error.text(), error.offset_bytes()),
            (Some("File exists already"), Some(28))
        );
    }

    #[test]
    fn done_carries_its_errno_and_an_error_without_payload_has_none() {
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, DONE, flags::MULTI)
            .bytes(&(-libc::EINTR).to_ne_bytes())
            .finish()
            .unwrap();
        MessageBuilder::new(&mut bytes, DONE, flags::MULTI)
            .finish()
            .unwrap();
        MessageBuilder::new(&mut bytes, ERROR, 0).finish().unwrap();
        let contents: Vec<_> = Messages::new(&bytes)
            .map(|message| message.content())
            .collect();
        assert!(matches!(contents[0], Content::Done { errno: libc::EINTR }));
        assert!(matches!(contents[1], Content::Done { errno: 0 }));
        assert!(
            matches!(contents[2], Content::Error(error) if error.errno().is_none() && error.request().is_none())
        );
    }

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
