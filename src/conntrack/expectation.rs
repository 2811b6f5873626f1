//! Expectations, decoded from their messages.

use super::kernel::{FIXED_BYTES, cta_expect as cta, message_type};
use super::kind_of;
use super::tuple::Tuple;
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Attribute, Message};

/// A connection that a helper expects because of what it read in another one, for example an FTP data connection.
///
/// Its events are sent to the groups [`ExpectNew`](super::Group::ExpectNew) and
/// [`ExpectDestroy`](super::Group::ExpectDestroy).
///
/// # Example
///
/// ```
/// use nlring::EventKind;
/// use nlring::conntrack::Expectation;
/// use nlring::{MessageBuilder, MessageList};
/// use nlring::message::flags;
///
/// // A TCP connection to 192.0.2.1 is expected: message type 0x200, struct nfgenmsg, then attributes.
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 0x200, flags::CREATE | flags::EXCL)
///     .bytes(&[2 /* AF_INET */, 0, 0, 0])
///     .nested(2 /* CTA_EXPECT_TUPLE */, |tuple| {
///         tuple
///             .nested(1 /* CTA_TUPLE_IP */, |ip| {
///                 ip.attribute(1, &[10, 0, 0, 1]).attribute(2, &[192, 0, 2, 1])
///             })
///             .nested(2 /* CTA_TUPLE_PROTO */, |proto| {
///                 proto.attribute_u8(1, 6).attribute_be16(2, 0).attribute_be16(3, 40_000)
///             })
///     })
///     .attribute_str_nul(6 /* CTA_EXPECT_HELP_NAME */, "ftp")
///     .finish()?;
///
/// let list = MessageList::new(&bytes);
/// let expected = list.iter().find_map(|message| Expectation::decode(&message)).expect("an expectation");
/// assert_eq!(expected.kind, EventKind::New);
/// assert_eq!(expected.tuple.ports(), Some((0, 40_000)));
/// assert_eq!(expected.helper, Some(&b"ftp"[..]));
/// assert_eq!(expected.class, None);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Expectation<'a> {
    /// What the message says about the expectation. Delete means that it was met, removed, or timed out.
    pub kind: EventKind,
    /// The port ID of the message: that of the socket whose request caused it, or 0 if the kernel caused it.
    pub port_id: u32,
    /// Address family: 2 (`AF_INET`) or 10 (`AF_INET6`).
    pub family: Family,
    /// The original tuple of the expected connection. Only the bits that are set in `mask` count.
    pub tuple: Tuple,
    /// Which bits of `tuple` the connection must match. A source port of 0 here means any source port.
    pub mask: Option<Tuple>,
    /// The original tuple of the flow that the expectation belongs to.
    pub master: Option<Tuple>,
    /// How the connection is going to be translated.
    pub nat: Option<ExpectedNat>,
    /// Seconds until the kernel drops the expectation.
    pub timeout_seconds: Option<u32>,
    /// A hash of the expectation's address in memory and its tuple.
    pub id: Option<u32>,
    /// The name of the master's helper, such as `ftp`.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub helper: Option<&'a [u8]>,
    /// The zone. Dumps have it, events do not.
    pub zone: Option<u16>,
    /// Bits of [`expectation_flags`](super::expectation_flags).
    pub flags: Option<u32>,
    /// The number that the helper assigns to this kind of expectation.
    pub class: Option<u32>,
    /// The name of the function that the kernel calls when the connection arrives, such as `nat-follow-master`.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub function: Option<&'a [u8]>,
}

/// How an expected connection is going to be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ExpectedNat {
    /// Whether the connection comes from the reply direction of the master.
    pub is_reply: bool,
    /// The source address and port before the translation.
    pub tuple: Tuple,
}

impl ExpectedNat {
    fn decode(attribute: Attribute<'_>) -> Option<Self> {
        let nested = attribute.nested();
        Some(Self {
            is_reply: nested.get(cta::NAT_DIR)?.as_be32()? != 0,
            tuple: tuple_in(nested.get(cta::NAT_TUPLE)?)?,
        })
    }
}

fn tuple_in(attribute: Attribute<'_>) -> Option<Tuple> {
    Tuple::decode(attribute.nested()).0
}

impl<'a> Expectation<'a> {
    /// Decodes a message in one pass. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None if the message is neither of type [`EXP_NEW`](message_type::EXP_NEW) nor
    /// [`EXP_DELETE`](message_type::EXP_DELETE), or if it has no tuple with both addresses, because then it does not
    /// say what is expected.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = kind_of(message, message_type::EXP_NEW, message_type::EXP_DELETE)?;
        let attributes = message.attributes(FIXED_BYTES);
        let mut expectation = Self {
            kind,
            port_id: message.port_id(),
            family: (message.payload().first()).map_or(Family::UNSPEC, |&number| number.into()),
            tuple: tuple_in(attributes.get(cta::TUPLE)?)?,
            mask: None,
            master: None,
            nat: None,
            timeout_seconds: None,
            id: None,
            helper: None,
            zone: None,
            flags: None,
            class: None,
            function: None,
        };
        for attribute in attributes {
            expectation.set(attribute);
        }
        Some(expectation)
    }

    fn set(&mut self, attribute: Attribute<'a>) {
        match attribute.attribute_type() {
            cta::MASTER => self.master = tuple_in(attribute),
            cta::MASK => self.mask = tuple_in(attribute),
            cta::TIMEOUT => self.timeout_seconds = attribute.as_be32(),
            cta::ID => self.id = attribute.as_be32(),
            cta::HELP_NAME => self.helper = Some(attribute.as_str_bytes()),
            cta::ZONE => self.zone = attribute.as_be16(),
            cta::FLAGS => self.flags = attribute.as_be32(),
            cta::CLASS => self.class = attribute.as_be32(),
            cta::NAT => self.nat = ExpectedNat::decode(attribute),
            cta::FN => self.function = Some(attribute.as_str_bytes()),
            _ => {}
        }
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use nlring_testing::datagrams::conntrack::{EXPECT_NEW, UDP_NEW};
    use nlring_testing::datagrams::for_each_damaged;

    use super::super::expectation_flags;
    use super::*;
    use crate::{MessageBuilder, MessageList};

    /// Decodes the only message in the bytes.
    fn decode(bytes: &[u8]) -> Option<Expectation<'_>> {
        Expectation::decode(&MessageList::new(bytes).datagrams()[0].messages().next()?)
    }

    #[test]
    fn an_ftp_data_connection_is_decoded_whole() {
        let expected = decode(EXPECT_NEW).unwrap();
        assert_eq!(
            (expected.kind, expected.family),
            (EventKind::New, Family::INET)
        );
        assert_eq!(expected.tuple.dst.to_string(), "127.0.0.1");
        assert_eq!(expected.tuple.ports(), Some((0, 40001)));
        assert_eq!(expected.mask.unwrap().ports(), Some((0, 0xffff)));
        let master = expected.master.unwrap();
        assert_eq!((master.protocol, master.ports()), (6, Some((41632, 2121))));
        assert_eq!(
            (expected.timeout_seconds, expected.class),
            (Some(300), Some(0))
        );
        assert_eq!((expected.id, expected.flags), (Some(0x914f_1c5d), Some(0)));
        assert_eq!(expected.helper, Some(&b"ftp"[..]));
        assert_eq!((expected.nat, expected.function), (None, None));
    }

    fn tuple(builder: MessageBuilder<'_>, number: u16, port: u16) -> MessageBuilder<'_> {
        builder.nested(number, |tuple| {
            let tuple = tuple.nested(1, |ip| ip.attribute(1, &[1; 4]).attribute(2, &[2; 4]));
            tuple.nested(2, |protocol| {
                let protocol = protocol.attribute_u8(1, 6);
                protocol.attribute_be16(2, port).attribute_be16(3, 0)
            })
        })
    }

    #[test]
    fn a_translation_and_the_rest_are_read() {
        let mut bytes = Vec::new();
        let message = MessageBuilder::new(&mut bytes, 0x202, 0).bytes(&[2, 0, 0, 0]);
        tuple(message, cta::TUPLE, 7)
            .nested(cta::NAT, |nat| {
                tuple(nat.attribute_be32(cta::NAT_DIR, 1), cta::NAT_TUPLE, 9)
            })
            .attribute_be32(cta::FLAGS, expectation_flags::PERMANENT)
            .attribute_be16(cta::ZONE, 5)
            .attribute_str_nul(cta::FN, "nat-follow-master")
            .finish()
            .unwrap();
        let expected = decode(&bytes).unwrap();
        let nat = expected.nat.unwrap();
        assert_eq!((expected.kind, nat.is_reply), (EventKind::Delete, true));
        assert_eq!(
            (expected.tuple.ports(), nat.tuple.ports()),
            (Some((7, 0)), Some((9, 0)))
        );
        assert_eq!(
            (expected.zone, expected.flags),
            (Some(5), Some(expectation_flags::PERMANENT))
        );
        assert_eq!(expected.function, Some(&b"nat-follow-master"[..]));
    }

    #[test]
    fn flows_are_not_decoded_as_expectations() {
        assert_eq!(decode(UDP_NEW), None);
    }

    #[test]
    fn no_bytes_cause_a_panic() {
        let mut count = 0;
        for_each_damaged(EXPECT_NEW, |bytes| {
            count += usize::from(decode(bytes).is_some());
        });
        assert!(count > 0);
    }
}
