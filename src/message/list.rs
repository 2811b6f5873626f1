//! A list of messages, over one or more datagrams.

use std::iter::FusedIterator;
use std::slice;

use super::datagram::{Walk, walk};
use super::{Datagram, Malformed, Message, Messages};
use crate::timestamp::Timestamp;

/// The messages of one or more datagrams from one socket, in the order in which the kernel sent them.
///
/// A list borrows the bytes. The list that an engine lends to a callback lies in a receive buffer, which the kernel
/// reuses after the callback has returned.
///
/// ```
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// for sequence in [1, 2] {
///     MessageBuilder::new(&mut bytes, 20 /* RTM_NEWADDR */, 0).sequence(sequence).finish()?;
/// }
/// let list = MessageList::new(&bytes);
/// assert_eq!(list.message_count(), 2);
/// assert_eq!(list.iter().map(|message| message.sequence()).collect::<Vec<_>>(), [1, 2]);
/// assert!(list.malformed().is_none());
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MessageList<'a> {
    datagrams: Store<'a>,
    message_count: usize,
    malformed: Option<Malformed>,
    received_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
enum Store<'a> {
    One(Datagram<'a>),
    Many(&'a [Datagram<'a>]),
}

impl<'a> MessageList<'a> {
    /// The messages of the bytes of one datagram, from anywhere, such as a capture file. Messages after a bad length
    /// are left out, and [`malformed`](Self::malformed) reports this.
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

    /// The same list, with the time when an engine drained it.
    #[cfg(feature = "tokio")]
    pub(crate) fn received(self, received_at: Option<Timestamp>) -> Self {
        Self {
            received_at,
            ..self
        }
    }

    /// A list of datagrams whose lengths have been checked.
    pub(crate) fn from_walked(
        datagrams: &'a [Datagram<'a>],
        message_count: usize,
        received_at: Timestamp,
    ) -> Self {
        Self {
            datagrams: Store::Many(datagrams),
            message_count,
            malformed: None,
            received_at: Some(received_at),
        }
    }

    /// All messages of all datagrams, in order.
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

    /// The network namespace that all datagrams of the list came from, by the number that the namespace of the socket
    /// gave it (nsid). None if it is the namespace of the socket, and unless
    /// [`Socket::set_listen_all_nsid`](crate::Socket::set_listen_all_nsid) is on.
    ///
    /// On every backend, an engine starts a new list where the namespace changes.
    /// [`route::Requests::namespace_id`](crate::route::Requests::namespace_id) finds the number of a namespace.
    #[inline]
    pub fn nsid(&self) -> Option<i32> {
        self.datagrams().first()?.nsid
    }

    /// The number of messages.
    #[inline]
    pub fn message_count(&self) -> usize {
        self.message_count
    }

    /// Where the datagram stops being a sequence of messages. Always None in a list that an engine delivers, because
    /// the engine reports a bad length as [`Notice::Malformed`](crate::Notice::Malformed).
    pub fn malformed(&self) -> Option<Malformed> {
        self.malformed
    }

    /// When the engine received the datagrams from the kernel (`CLOCK_REALTIME`). None in a list that no engine
    /// delivered.
    #[inline]
    pub fn received_at(&self) -> Option<Timestamp> {
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

/// An iterator over the messages of a [`MessageList`], in order.
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
    use crate::message::MalformedReason;

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
