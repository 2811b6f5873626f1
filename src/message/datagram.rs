//! One datagram: its bytes, and the messages that it is split into.

use std::iter::FusedIterator;

use super::{HEADER_BYTES, Header, Malformed, MalformedReason, Message, align};

/// An iterator over the messages of some bytes, in order.
///
/// It ends at the first message with an invalid length. [`malformed`](Self::malformed) then says where and why.
///
/// ```
/// use nlring::{MessageBuilder, Messages};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 24 /* RTM_NEWROUTE */, 0).finish()?;
/// bytes.extend_from_slice(&[7; 3]); // what follows is too short for a message
///
/// let mut messages = Messages::new(&bytes);
/// assert_eq!(messages.next().map(|message| message.message_type()), Some(24));
/// assert!(messages.next().is_none());
/// assert_eq!(messages.malformed().map(|malformed| malformed.offset_bytes), Some(16));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    left: &'a [u8],
    total_bytes: usize,
}

impl<'a> Messages<'a> {
    /// The messages at the start of `bytes`. Any bytes are allowed.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            left: bytes,
            total_bytes: bytes.len(),
        }
    }

    /// Splits the first message off, by the rules of libmnl's `mnl_nlmsg_ok` and `mnl_nlmsg_next` (src/nlmsg.c): the
    /// last message needs no padding.
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

    /// Why the iteration ended before the end of the bytes. None while good messages are left, and if the last message
    /// ended with the bytes.
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

/// One datagram as received: its bytes, and who sent it to whom.
///
/// ```
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 24 /* RTM_NEWROUTE */, 0).finish()?;
/// let list = MessageList::new(&bytes);
/// for datagram in list.datagrams() {
///     assert_eq!(datagram.sender_port_id(), 0, "the kernel");
///     assert_eq!(datagram.bytes().len(), 16);
///     assert_eq!(datagram.messages().count(), 1);
/// }
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

    /// The port ID of the sender. 0 is the kernel.
    #[inline]
    pub fn sender_port_id(&self) -> u32 {
        self.sender_port_id
    }

    /// The multicast group that the datagram was sent to, or 0 if it was sent to this socket alone. None unless
    /// [`Socket::set_pktinfo`](crate::Socket::set_pktinfo) is on.
    #[inline]
    pub fn group(&self) -> Option<u32> {
        self.group
    }

    /// The network namespace that the datagram came from, by the number that the namespace of this socket gave it
    /// (nsid). None if it is the same namespace, and unless
    /// [`Socket::set_listen_all_nsid`](crate::Socket::set_listen_all_nsid) is on.
    #[inline]
    pub fn nsid(&self) -> Option<i32> {
        self.nsid
    }

    /// Splits the datagram into messages.
    #[inline]
    pub fn messages(&self) -> Messages<'a> {
        Messages::new(self.bytes)
    }
}

/// The result of checking every length of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    pub message_count: usize,
    /// Where the good messages end.
    pub valid_bytes: usize,
    pub malformed: Option<Malformed>,
}

impl Walk {
    /// The result for a datagram that holds no netlink messages.
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
