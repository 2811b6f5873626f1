//! Netlink messages: datagrams, messages and attributes, read without a copy, and a builder for messages to send.
//!
//! Reading makes no system calls, allocates nothing, and never panics, whatever the bytes are. So these types can read
//! bytes from anywhere, such as a capture file. The module also has netlink's own constants: [control
//! types](#constants) and [flags].

mod attribute;
mod builder;
mod datagram;
mod list;
mod malformed;

pub use attribute::{ATTRIBUTE_HEADER_BYTES, Attribute, Attributes};
pub(crate) use attribute::{NESTED, align, put_attribute};
pub use builder::MessageBuilder;
pub(crate) use builder::build;
pub use datagram::{Datagram, Messages};
pub(crate) use datagram::{Walk, walk};
pub use list::{Iter, MessageList};
pub use malformed::{Malformed, MalformedReason};

/// Size of `struct nlmsghdr` (include/uapi/linux/netlink.h).
pub const HEADER_BYTES: usize = 16;

/// `NLMSG_NOOP`: a message that does nothing (include/uapi/linux/netlink.h). It has this meaning in every protocol.
pub const NOOP: u16 = 1;
/// `NLMSG_ERROR`: an error or an acknowledgement, see [`Content::Error`] and [`Content::Ack`]. It has this meaning in
/// every protocol.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the last message of a multipart answer, if it also has [`flags::MULTI`].
pub const DONE: u16 = 3;
/// `NLMSG_OVERRUN`: data was lost. No kernel since 2.6 sends it.
pub const OVERRUN: u16 = 4;
/// `NLMSG_MIN_TYPE`: types from here on are those of the protocol. Lower ones are netlink's own, in every protocol.
pub const MIN_TYPE: u16 = 16;

/// Bits of [`Header::flags`] (`NLM_F_*` in include/uapi/linux/netlink.h).
pub mod flags {
    /// Every request has this flag.
    pub const REQUEST: u16 = 0x1;
    /// The message is part of an answer that ends with [`DONE`](super::DONE).
    pub const MULTI: u16 = 0x2;
    /// Asks for an acknowledgement.
    pub const ACK: u16 = 0x4;
    /// Asks the kernel to send the resulting event to the requester too.
    pub const ECHO: u16 = 0x8;
    /// A change interrupted the dump, so entries may be missing or duplicated. Available since Linux 3.1.
    pub const DUMP_INTR: u16 = 0x10;
    /// The dump was filtered as requested. Available since Linux 4.20.
    pub const DUMP_FILTERED: u16 = 0x20;
    /// In a get request: return the whole table.
    pub const ROOT: u16 = 0x100;
    /// In a get request: return all entries that match.
    pub const MATCH: u16 = 0x200;
    /// In a get request: return an atomic snapshot. The kernel does not implement it.
    pub const ATOMIC: u16 = 0x400;
    /// In a get request: dump, which is `ROOT | MATCH`.
    pub const DUMP: u16 = ROOT | MATCH;
    /// In a request or event that creates something: it replaces what exists.
    pub const REPLACE: u16 = 0x100;
    /// In a request or event that creates something: only if it does not exist yet.
    pub const EXCL: u16 = 0x200;
    /// In a request or event that creates something: create it if it does not exist.
    pub const CREATE: u16 = 0x400;
    /// In a request or event that creates something: add it to the end of the list.
    pub const APPEND: u16 = 0x800;
    /// In an acknowledgement: it repeats only the header of the request. Available since Linux 4.3.
    pub const CAPPED: u16 = 0x100;
    /// In an acknowledgement: attributes follow (extended acknowledgement). Available since Linux 4.12.
    pub const ACK_TLVS: u16 = 0x200;
}

/// The header of every message, `struct nlmsghdr`, in host byte order.
///
/// ```
/// use nlring::{Header, MessageBuilder};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 24 /* RTM_NEWROUTE */, 0).bytes(&[0; 12]).finish()?;
/// let header = Header::read(&bytes).expect("at least 16 bytes");
/// assert_eq!((header.message_type, header.length_bytes), (24, 28));
/// assert_eq!(Header::read(&bytes[..15]), None);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The length of header and payload in bytes, without the padding that may follow.
    pub length_bytes: u32,
    /// What the message is. Types below [`MIN_TYPE`] are netlink's own; the others depend on the protocol.
    pub message_type: u16,
    /// Bits of [`flags`], whose meaning depends on the kind of message.
    pub flags: u16,
    /// The sequence number of the request that this message answers. 0 in most events.
    pub sequence: u32,
    /// The port ID of the socket whose request caused the message. 0 in an event that no request caused.
    ///
    /// It is not a process ID, and it is not the sender of the message: that is
    /// [`Datagram::sender_port_id`](crate::Datagram::sender_port_id).
    pub port_id: u32,
}

impl Header {
    /// Reads the header at the start of `bytes`. None if there are fewer than 16 bytes.
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

/// One message: header and payload, borrowed from its datagram.
///
/// ```
/// use nlring::{MessageBuilder, Messages};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 16 /* RTM_NEWLINK */, 0)
///     .bytes(&[0; 16]) // struct ifinfomsg
///     .attribute_str_nul(3 /* IFLA_IFNAME */, "eth0")
///     .finish()?;
/// let message = Messages::new(&bytes).next().expect("one message");
/// assert_eq!(message.message_type(), 16);
/// let name = message.attributes(16).get(3).and_then(|name| name.as_str());
/// assert_eq!(name, Some("eth0"));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub(crate) header: Header,
    /// Header and payload, unpadded; at least 16 bytes.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// The header of the message.
    #[inline]
    pub fn header(&self) -> Header {
        self.header
    }

    /// What the message is, see [`Header::message_type`].
    #[inline]
    pub fn message_type(&self) -> u16 {
        self.header.message_type
    }

    /// The [`flags`] in the header.
    #[inline]
    pub fn flags(&self) -> u16 {
        self.header.flags
    }

    /// The sequence number in the header.
    #[inline]
    pub fn sequence(&self) -> u32 {
        self.header.sequence
    }

    /// The port ID in the header: whose request caused the message, see [`Header::port_id`].
    #[inline]
    pub fn port_id(&self) -> u32 {
        self.header.port_id
    }

    /// The bytes of header and payload, without the padding that may follow.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes that follow the header.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// The attributes that follow the fixed header of the protocol, which has `fixed_bytes` bytes: 12 for `struct
    /// rtmsg`, 4 for `struct nfgenmsg`. There are none if the payload is shorter.
    #[inline]
    pub fn attributes(&self, fixed_bytes: usize) -> Attributes<'a> {
        Attributes::new(self.payload().get(align(fixed_bytes)..).unwrap_or_default())
    }

    /// Whether the sequence number is that of a request, as libmnl's `mnl_nlmsg_seq_ok` decides it: 0 on either side
    /// matches any number.
    pub fn is_sequence(&self, sequence: u32) -> bool {
        self.header.sequence == 0 || sequence == 0 || self.header.sequence == sequence
    }

    /// Whether the port ID is that of a socket, as libmnl's `mnl_nlmsg_portid_ok` decides it: 0 on either side matches
    /// any.
    pub fn is_port_id(&self, port_id: u32) -> bool {
        self.header.port_id == 0 || port_id == 0 || self.header.port_id == port_id
    }

    /// What the message is to netlink: data of the protocol, or an error, an acknowledgement or the end of a dump.
    #[inline]
    pub fn content(&self) -> Content<'a> {
        match self.header.message_type {
            NOOP => Content::Noop,
            ERROR => {
                let answer = ErrorMessage { message: *self };
                match answer.errno() {
                    Some(0) => Content::Ack(answer),
                    _ => Content::Error(answer),
                }
            }
            // The connector sends its events as messages of this type, without the flag
            // (Linux v6.18, drivers/connector/connector.c, `cn_netlink_send_mult`).
            DONE if self.header.flags & flags::MULTI != 0 => Content::Done {
                errno: self.leading_errno().unwrap_or(0),
            },
            OVERRUN => Content::Overrun,
            _ => Content::Data(self.payload()),
        }
    }

    /// The error number that the payload of `ERROR` and `DONE` begins with, where it is negated.
    fn leading_errno(&self) -> Option<i32> {
        let value = i32::from_ne_bytes(*self.payload().first_chunk()?);
        Some(value.checked_neg().unwrap_or(i32::MAX))
    }
}

/// What a message is to netlink.
///
/// ```
/// use nlring::{Content, MessageList};
///
/// fn count_errors(list: &MessageList<'_>) -> usize {
///     let mut count = 0;
///     for message in list {
///         match message.content() {
///             Content::Data(_) => {} // decode the message
///             Content::Error(error) => {
///                 eprintln!("refused: error {:?}, {}", error.errno(), error.text().unwrap_or("no text"));
///                 count += 1;
///             }
///             Content::Done { .. } => break,
///             _ => {}
///         }
///     }
///     count
/// }
/// assert_eq!(count_errors(&MessageList::new(&[])), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content<'a> {
    /// A message without meaning. Ignore it.
    Noop,
    /// The kernel has carried out a request that asked for an acknowledgement ([`flags::ACK`]): type [`ERROR`] with
    /// error number 0. [`ErrorMessage::request`] says which request, and [`ErrorMessage::text`] may hold a warning.
    Ack(ErrorMessage<'a>),
    /// The kernel refused a request: type [`ERROR`] with a nonzero error number, or with none because the message is
    /// too short.
    Error(ErrorMessage<'a>),
    /// The end of a multipart answer, such as a dump: type [`DONE`] with [`flags::MULTI`].
    Done {
        /// The error number if the dump failed, otherwise 0.
        errno: i32,
    },
    /// The sender lost data: type [`OVERRUN`].
    Overrun,
    /// A payload of the protocol.
    ///
    /// This includes three kinds of messages with a type below [`MIN_TYPE`]: type 0, the types that have no meaning
    /// yet, and [`DONE`] without [`flags::MULTI`], because the connector sends its events with that type.
    Data(&'a [u8]),
}

/// An error or an acknowledgement of one request: `struct nlmsgerr`, and the attributes of an extended acknowledgement.
///
/// ```
/// use nlring::{Content, MessageBuilder, Protocol, Socket};
/// use nlring::message::flags;
///
/// let socket = Socket::open(Protocol::ROUTE)?;
/// socket.bind(Socket::AUTOPID, 0)?;
/// let mut request = Vec::new();
/// MessageBuilder::new(&mut request, 18 /* RTM_GETLINK */, flags::REQUEST)
///     .sequence(7)
///     .bytes(&[0; 16]) // struct ifinfomsg
///     .attribute_str_nul(3 /* IFLA_IFNAME */, "none")
///     .finish()?;
/// socket.send(&request)?;
/// let mut buffer = vec![0; Socket::buffer_size()];
/// let list = socket.recv(&mut buffer, Default::default())?;
/// match list.iter().next().expect("an answer").content() {
///     Content::Error(error) => {
///         assert_eq!(error.errno(), Some(19 /* ENODEV */));
///         assert_eq!(error.request().map(|request| request.sequence), Some(7));
///     }
///     other => panic!("there is no such device: {other:?}"),
/// }
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorMessage<'a> {
    message: Message<'a>,
}

impl<'a> ErrorMessage<'a> {
    /// The error number, which is positive, or 0 in an acknowledgement. None if the message is too short for one.
    pub fn errno(&self) -> Option<i32> {
        self.message.leading_errno()
    }

    /// The header of the request. None if the message is too short for it.
    pub fn request(&self) -> Option<Header> {
        Header::read(self.message.payload().get(4..)?)
    }

    /// The kernel's explanation, if it gave one and [`Socket::set_ext_ack`](crate::Socket::set_ext_ack) is on.
    /// Available since Linux 4.12.
    pub fn text(&self) -> Option<&'a str> {
        self.extended(1)?.as_str()
    }

    /// The offset, in bytes from the start of the request, of the attribute that the kernel refused, if it named one.
    /// Available since Linux 4.12.
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
        Attributes::new(self.message.payload().get(start..)?).get(attribute_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageBuilder, Messages};

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
    fn an_error_has_errno_request_and_text() {
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
    fn an_acknowledgement_is_no_error() {
        let mut bytes = Vec::new();
        let mut payload = 0i32.to_ne_bytes().to_vec();
        payload.extend_from_slice(&[16, 0, 0, 0, 1, 0, 5, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        MessageBuilder::new(&mut bytes, ERROR, flags::CAPPED)
            .bytes(&payload)
            .finish()
            .unwrap();
        let content = Messages::new(&bytes).next().unwrap().content();
        let Content::Ack(answer) = content else {
            panic!("{content:?}")
        };
        assert_eq!(answer.errno(), Some(0));
        assert!(answer.request().is_some());
    }

    /// A connector message: `struct cb_id` of process events, sequence, acknowledgement, length and flags, then
    /// `struct proc_event`, which begins with what happened (PROC_EVENT_FORK is 1).
    #[test]
    fn a_message_of_type_done_that_is_not_the_end_of_a_multi_part_answer_is_data() {
        let mut payload = Vec::new();
        for word in [1u32, 1, 7, 0, 40] {
            payload.extend_from_slice(&word.to_ne_bytes());
        }
        payload.extend_from_slice(&1u32.to_ne_bytes());
        payload.extend_from_slice(&[0; 36]);
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, DONE, 0)
            .bytes(&payload)
            .finish()
            .unwrap();
        let content = Messages::new(&bytes).next().unwrap().content();
        assert!(matches!(content, Content::Data(data) if data == payload));
    }
}
