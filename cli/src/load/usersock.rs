//! Datagrams that this program multicasts itself. Each holds its index and the time when it was due.

use std::ops::Range;

use nlring::message::{HEADER_BYTES, MIN_TYPE};
use nlring::{Message, MessageBuilder, Protocol, Socket};
use rustix::io::Errno;

use super::{Schedule, Source, clock};
use crate::args::DATAGRAM_BYTES;
use crate::outcome::Failure;

/// The group that receives them.
pub const GROUP: u32 = 1;
const GROUPS_MASK: u32 = 1 << (GROUP - 1);

/// The message type: the first one that netlink itself does not use.
const DATA: u16 = MIN_TYPE;

const INDEX: Range<usize> = HEADER_BYTES..HEADER_BYTES + 8;
const DUE: Range<usize> = INDEX.end..INDEX.end + 8;

const _: () = assert!(
    *DATAGRAM_BYTES.start() == DUE.end,
    "the smallest datagram holds both"
);
/// The size of a conntrack event.
pub const DEFAULT_DATAGRAM_BYTES: usize = 200;

pub struct Usersock {
    socket: Socket,
    datagram: Vec<u8>,
}

impl Usersock {
    pub fn open(datagram_bytes: usize) -> Result<Self, Failure> {
        let (least, most) = (*DATAGRAM_BYTES.start(), *DATAGRAM_BYTES.end());
        let payload = vec![0; datagram_bytes.clamp(least, most) - HEADER_BYTES];
        let mut datagram = Vec::new();
        MessageBuilder::new(&mut datagram, DATA, 0)
            .bytes(&payload)
            .finish()?;
        Ok(Self {
            socket: Socket::builder(Protocol::USERSOCK).open()?,
            datagram,
        })
    }

    fn send(&mut self, index: u64, due_ns: u64) -> Result<(), Failure> {
        self.datagram[INDEX].copy_from_slice(&index.to_ne_bytes());
        self.datagram[DUE].copy_from_slice(&due_ns.to_ne_bytes());
        match self.socket.send_to(&self.datagram, 0, GROUPS_MASK) {
            // After the multicast, the kernel tries port ID 0, itself, which does not listen on this protocol.
            Err(error) if error.raw_os_error() == Some(Errno::CONNREFUSED.raw_os_error()) => Ok(()),
            sent => Ok(sent.map(drop)?),
        }
    }
}

impl Source for Usersock {
    fn make(&mut self, indexes: Range<u64>, schedule: &Schedule) -> Result<(), Failure> {
        for index in indexes {
            let due_ns = schedule
                .due_ns(index)
                .unwrap_or_else(clock::monotonic_now_ns);
            self.send(index, due_ns)?;
        }
        Ok(())
    }

    fn clean(&mut self) -> Result<u64, Failure> {
        Ok(0)
    }
}

pub fn index_of(message: &Message<'_>) -> Option<u64> {
    number_at(message, INDEX)
}

pub fn due_ns(message: &Message<'_>) -> Option<u64> {
    number_at(message, DUE)
}

fn number_at(message: &Message<'_>, place: Range<usize>) -> Option<u64> {
    if message.message_type() != DATA {
        return None;
    }
    let bytes = message.bytes().get(place)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}
