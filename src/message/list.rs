//! Lists of messages: datagrams split by the lengths their messages state, with every bad length told.
//!
//! As pure as `message.rs`: no I/O, no allocation, no panic from any bytes.

use std::iter::FusedIterator;
use std::slice;
use std::time::SystemTime;

use super::{HEADER_BYTES, Header, Message, align};
use crate::error::{Malformed, MalformedReason};

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
/// // Two messages without payload, as they would stand in a capture: length 16, type 20, no flags.
/// let mut bytes = Vec::new();
/// for sequence in 1u32..=2 {
///     bytes.extend_from_slice(&16u32.to_ne_bytes());
///     bytes.extend_from_slice(&20u16.to_ne_bytes());
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
}
