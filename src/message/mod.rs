//! Netlink messages: the pieces that datagrams are made of, read where they lie.
//!
//! Nothing here does I/O or allocates while reading, and no input makes it panic: these types can be used on bytes
//! from anywhere, such as a capture file.

mod attribute;
mod builder;
mod list;

pub use attribute::{ATTRIBUTE_HEADER_BYTES, Attribute, Attributes};
pub(crate) use attribute::{NESTED, align, put_attribute};
pub use builder::MessageBuilder;
pub(crate) use builder::build;
pub use list::{Datagram, Iter, MessageList, Messages};
pub(crate) use list::{Walk, walk};

/// Size of `struct nlmsghdr` (include/uapi/linux/netlink.h).
pub const HEADER_BYTES: usize = 16;

/// Message types below [`MIN_TYPE`] belong to netlink itself, in every protocol (include/uapi/linux/netlink.h).
pub const NOOP: u16 = 1;
/// The message is an error or an acknowledgement, see [`Content::Error`] and [`Content::Ack`].
pub const ERROR: u16 = 2;
/// The last message of a multi-part answer, if it has [`flags::MULTI`] too.
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
    /// It is no process id, and it is not the sender's address: for that see
    /// [`Datagram::sender_port_id`](crate::Datagram::sender_port_id).
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
    pub(crate) header: Header,
    /// Header and payload, unpadded; at least 16 bytes.
    pub(crate) bytes: &'a [u8],
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
    /// The kernel has carried out the request that asked for an acknowledgement ([`flags::ACK`]): type [`ERROR`], errno 0.
    /// [`ErrorMessage::request`] says which request, and [`ErrorMessage::text`] may hold a warning.
    Ack(ErrorMessage<'a>),
    /// The kernel refused a request: type [`ERROR`], any other errno, or none because the message is too short.
    Error(ErrorMessage<'a>),
    /// The end of a multi-part answer: type [`DONE`] with [`flags::MULTI`].
    Done {
        /// 0, or what went wrong during the dump.
        errno: i32,
    },
    /// The sender lost data.
    Overrun,
    /// The protocol's own payload. Three kinds of messages with a type below [`MIN_TYPE`] are here too: type 0, the types that
    /// have no meaning yet, and [`DONE`] without [`flags::MULTI`], as which the connector sends its events.
    Data(&'a [u8]),
}

/// The kernel's answer to one request, an error or an acknowledgement: `struct nlmsgerr` and the attributes of an extended
/// acknowledgement.
#[derive(Clone, Copy, Debug)]
pub struct ErrorMessage<'a> {
    message: Message<'a>,
}

impl<'a> ErrorMessage<'a> {
    /// The positive error number; 0 in an acknowledgement ([`Content::Ack`]). None when the message is too short to hold one.
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
