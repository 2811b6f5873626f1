//! Messages that own their bytes.

use std::fmt;

use crate::message::{Datagram, Message, MessageList};
use crate::timestamp::Timestamp;

/// The messages of one delivery of one socket, like a [`MessageList`], but owning its bytes in a single allocation.
///
/// ```
/// use nlring::{MessageList, conntrack};
/// use nlring::stream::OwnedList;
///
/// fn flows(list: &OwnedList) -> impl Iterator<Item = conntrack::Flow<'_>> {
///     list.iter().filter_map(|message| conntrack::Flow::decode(&message))
/// }
/// ```
pub struct OwnedList {
    /// The datagrams, each behind a head of [`HEAD_BYTES`].
    bytes: Vec<u8>,
    datagram_count: usize,
    message_count: usize,
    received_at: Option<Timestamp>,
}

/// The head before each datagram's bytes: length, sender, flags, group, nsid, 4 bytes each.
const HEAD_BYTES: usize = 20;
const HAS_GROUP: u32 = 1;
const HAS_NSID: u32 = 2;

impl OwnedList {
    /// Copies a list.
    pub fn new(list: &MessageList<'_>) -> Self {
        let datagrams = list.datagrams();
        let length = datagrams
            .iter()
            .map(|datagram| HEAD_BYTES + datagram.bytes().len());
        let mut bytes = Vec::with_capacity(length.sum());
        for datagram in datagrams {
            put(&mut bytes, datagram);
        }
        Self {
            bytes,
            datagram_count: datagrams.len(),
            message_count: list.message_count(),
            received_at: list.received_at(),
        }
    }

    /// All messages, in order, over all datagrams.
    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        self.datagrams().flat_map(|datagram| datagram.messages())
    }

    /// The datagrams, each with its raw bytes, sender, namespace and group.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let mut left = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (datagram, rest) = split_first(left)?;
            left = rest;
            Some(datagram)
        })
    }

    /// The network namespace that all datagrams came from, see [`MessageList::nsid`].
    pub fn nsid(&self) -> Option<i32> {
        self.datagrams().next()?.nsid()
    }

    /// A [`MessageList`] for each datagram. In an [`Event`](crate::Event), such a list can be fed to a mirror.
    pub fn lists(&self) -> impl Iterator<Item = MessageList<'_>> {
        self.datagrams()
            .map(|datagram| MessageList::from_datagram(datagram).received(self.received_at))
    }

    /// How many datagrams there are.
    pub fn datagram_count(&self) -> usize {
        self.datagram_count
    }

    /// How many messages there are.
    pub fn message_count(&self) -> usize {
        self.message_count
    }

    /// When the engine drained the datagrams (`CLOCK_REALTIME`).
    pub fn received_at(&self) -> Option<Timestamp> {
        self.received_at
    }
}

fn put(bytes: &mut Vec<u8>, datagram: &Datagram<'_>) {
    let (group, nsid) = (datagram.group(), datagram.nsid());
    let flags = group.map_or(0, |_| HAS_GROUP) | nsid.map_or(0, |_| HAS_NSID);
    // The engine's buffers hold up to 1 GiB.
    let length = u32::try_from(datagram.bytes().len()).unwrap_or(u32::MAX);
    for word in [
        length,
        datagram.sender_port_id(),
        flags,
        group.unwrap_or_default(),
        nsid.unwrap_or_default().cast_unsigned(),
    ] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(datagram.bytes());
}

fn split_first(bytes: &[u8]) -> Option<(Datagram<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let mut words = head
        .chunks_exact(4)
        .filter_map(|word| word.first_chunk().map(|word| u32::from_ne_bytes(*word)));
    let mut word = || words.next().unwrap_or_default();
    let (length, sender_port_id, flags, group, nsid) = (word(), word(), word(), word(), word());
    let (bytes, rest) = rest.split_at_checked(length as usize)?;
    let datagram = Datagram {
        bytes,
        sender_port_id,
        group: (flags & HAS_GROUP != 0).then_some(group),
        nsid: (flags & HAS_NSID != 0).then_some(nsid.cast_signed()),
    };
    Some((datagram, rest))
}

impl fmt::Debug for OwnedList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedList")
            .field("datagram_count", &self.datagram_count)
            .field("message_count", &self.message_count)
            .field("received_at", &self.received_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_list_has_the_same_datagrams() {
        let message = [16u32.to_ne_bytes(), 20u32.to_ne_bytes(), [0; 4], [0; 4]].concat();
        let datagram = |bytes, group, nsid| Datagram {
            bytes,
            sender_port_id: 7,
            group,
            nsid,
        };
        let two = [&message[..], &message[..]].concat();
        let datagrams = [
            datagram(&two, Some(3), None),
            datagram(&[], None, Some(-1)),
            datagram(&message, None, None),
        ];
        let now = Timestamp::now();
        let owned = OwnedList::new(&MessageList::from_walked(&datagrams, 3, now));
        assert_eq!((owned.datagram_count(), owned.message_count()), (3, 3));
        assert_eq!(owned.iter().count(), 3);
        let fields = |datagram: Datagram<'_>| {
            let (group, nsid) = (datagram.group(), datagram.nsid());
            (
                datagram.bytes().to_vec(),
                datagram.sender_port_id(),
                group,
                nsid,
            )
        };
        let copies = owned.datagrams().map(fields).collect::<Vec<_>>();
        assert_eq!(copies, datagrams.map(fields));
        assert!(owned.lists().all(|list| list.received_at() == Some(now)));
    }
}
