//! Conntrack entries, made and removed by requests.

use std::net::{IpAddr, Ipv4Addr};

use nlring::conntrack::{EventKind, Flow};
use nlring::route::family;
use nlring::{Message, MessageBuilder, Protocol, flags};
use rustix::io::Errno;

use super::batch::{Batch, Remedies};
use super::cycles::Cycle;
use crate::outcome::Failure;

/// For longer than anybody's test of it takes.
const LIFE_SECONDS: u32 = 600;

pub const REMEDIES: Remedies = &[
    (Errno::PERM, "it needs CAP_NET_ADMIN: run as root"),
    (Errno::NOENT, "another program has removed it"),
    (
        Errno::EXIST,
        "another program has made the same one: end it first",
    ),
    (
        Errno::NOMEM,
        "the conntrack table is full: raise net.netfilter.nf_conntrack_max in the initial namespace",
    ),
];

/// One direction of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Tuple {
    pub protocol: u8,
    pub src: End,
    pub dst: End,
}

#[derive(Clone, Copy, Debug)]
pub struct End {
    pub address: [u8; 4],
    pub port: u16,
}

impl Tuple {
    fn reversed(self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            ..self
        }
    }

    fn put(self, tuple: MessageBuilder<'_>) -> MessageBuilder<'_> {
        tuple
            .nested(kernel::CTA_TUPLE_IP, |ip| {
                ip.attribute(kernel::CTA_IP_V4_SRC, &self.src.address)
                    .attribute(kernel::CTA_IP_V4_DST, &self.dst.address)
            })
            .nested(kernel::CTA_TUPLE_PROTO, |protocol| {
                protocol
                    .attribute_u8(kernel::CTA_PROTO_NUM, self.protocol)
                    .attribute_be16(kernel::CTA_PROTO_SRC_PORT, self.src.port)
                    .attribute_be16(kernel::CTA_PROTO_DST_PORT, self.dst.port)
            })
    }
}

/// The request for an entry: an established TCP connection.
pub fn make(buffer: &mut Vec<u8>, tuple: Tuple, more_flags: u16) -> MessageBuilder<'_> {
    let flags = flags::REQUEST | flags::CREATE | flags::EXCL | more_flags;
    start(buffer, kernel::CTNL_NEW, flags)
        .nested(kernel::CTA_TUPLE_ORIG, |orig| tuple.put(orig))
        .nested(kernel::CTA_TUPLE_REPLY, |reply| tuple.reversed().put(reply))
        .attribute_be32(kernel::CTA_TIMEOUT, LIFE_SECONDS)
        .nested(kernel::CTA_PROTOINFO, |info| {
            info.nested(kernel::CTA_PROTOINFO_TCP, |tcp| {
                tcp.attribute_u8(
                    kernel::CTA_PROTOINFO_TCP_STATE,
                    kernel::TCP_CONNTRACK_ESTABLISHED,
                )
            })
        })
}

/// The request to remove an entry.
pub fn remove(buffer: &mut Vec<u8>, tuple: Tuple, more_flags: u16) -> MessageBuilder<'_> {
    start(buffer, kernel::CTNL_DELETE, flags::REQUEST | more_flags)
        .nested(kernel::CTA_TUPLE_ORIG, |orig| tuple.put(orig))
}

/// The request to be told of an entry.
pub fn get(buffer: &mut Vec<u8>, tuple: Tuple) -> MessageBuilder<'_> {
    start(buffer, kernel::CTNL_GET, flags::REQUEST | flags::ACK)
        .nested(kernel::CTA_TUPLE_ORIG, |orig| tuple.put(orig))
}

/// A request to conntrack: its header, and `struct nfgenmsg`.
pub fn start(buffer: &mut Vec<u8>, message_type: u16, flags: u16) -> MessageBuilder<'_> {
    MessageBuilder::new(buffer, message_type, flags).bytes(&[family::INET, 0, 0, 0])
}

/// Entries by number. The destination tells programs that run at once apart.
#[derive(Clone, Copy)]
pub struct Numbered {
    dst: End,
}

impl Numbered {
    pub fn new() -> Self {
        let [.., a, b] = std::process::id().to_be_bytes();
        Self {
            dst: End {
                address: [198, 19, a, b],
                port: 443,
            },
        }
    }

    /// The entry of a number, whose lower 32 bits are in the source.
    pub fn tuple(self, number: u64) -> Tuple {
        let [.., a, b, c, d] = number.to_be_bytes();
        // 198.18.0.0/15 is nobody's: it is for the tests of network devices (RFC 2544).
        Tuple {
            protocol: kernel::IPPROTO_TCP,
            src: End {
                address: [198, 18, a, b],
                port: u16::from_be_bytes([c, d]),
            },
            dst: self.dst,
        }
    }
}

/// The number of an entry, and what became of it.
pub fn number_of(message: &Message<'_>) -> Option<(EventKind, u64)> {
    let flow = Flow::decode(message)?;
    let (port, 443) = flow.orig.ports()? else {
        return None;
    };
    match (flow.orig.src, flow.orig.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) if is_of(dst, [198, 19]) && is_of(src, [198, 18]) => {
            let [.., a, b] = src.octets();
            let [c, d] = port.to_be_bytes();
            Some((flow.kind, u32::from_be_bytes([a, b, c, d]).into()))
        }
        _ => None,
    }
}

fn is_of(address: Ipv4Addr, network: [u8; 2]) -> bool {
    address.octets().starts_with(&network)
}

pub fn index_of(message: &Message<'_>) -> Option<u64> {
    match number_of(message)? {
        (EventKind::New, number) => Some(Entries::EVENTS * number),
        (EventKind::Destroy, number) => Some(Entries::EVENTS * number + 1),
        (EventKind::Update, _) => None,
    }
}

pub struct Entries {
    batch: Batch,
    numbered: Numbered,
}

impl Entries {
    pub fn open() -> Result<Self, Failure> {
        let operation = "make and remove conntrack entries";
        Ok(Self {
            batch: Batch::open(Protocol::NETFILTER, operation, REMEDIES)?,
            numbered: Numbered::new(),
        })
    }
}

impl Cycle for Entries {
    const EVENTS: u64 = 2;

    fn step(&mut self, number: u64, step: u64) -> Result<(), Failure> {
        let tuple = self.numbered.tuple(number);
        self.batch.add(|buffer| match step {
            0 => make(buffer, tuple, 0),
            _ => remove(buffer, tuple, 0),
        })
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.batch.send()
    }
}

/// Numbers from include/uapi/linux: `netfilter/nfnetlink_conntrack.h`, `netfilter/nf_conntrack_tcp.h`, `in.h`.
pub mod kernel {
    /// Subsystem 1 (`NFNL_SUBSYS_CTNETLINK`), messages `IPCTNL_MSG_CT_NEW`, `IPCTNL_MSG_CT_GET` and
    /// `IPCTNL_MSG_CT_DELETE`.
    pub const CTNL_NEW: u16 = 0x100;
    pub const CTNL_GET: u16 = 0x101;
    pub const CTNL_DELETE: u16 = 0x102;
    pub const CTA_TUPLE_ORIG: u16 = 1;
    pub const CTA_TUPLE_REPLY: u16 = 2;
    pub const CTA_PROTOINFO: u16 = 4;
    pub const CTA_TIMEOUT: u16 = 7;
    pub const CTA_MARK: u16 = 8;
    pub const CTA_MARK_MASK: u16 = 21;
    pub const CTA_TUPLE_IP: u16 = 1;
    pub const CTA_TUPLE_PROTO: u16 = 2;
    pub const CTA_IP_V4_SRC: u16 = 1;
    pub const CTA_IP_V4_DST: u16 = 2;
    pub const CTA_PROTO_NUM: u16 = 1;
    pub const CTA_PROTO_SRC_PORT: u16 = 2;
    pub const CTA_PROTO_DST_PORT: u16 = 3;
    pub const CTA_PROTOINFO_TCP: u16 = 1;
    pub const CTA_PROTOINFO_TCP_STATE: u16 = 1;
    pub const TCP_CONNTRACK_ESTABLISHED: u8 = 3;
    pub const TCP_CONNTRACK_CLOSE: u8 = 8;
    pub const IPPROTO_TCP: u8 = 6;
    pub const IPPROTO_UDP: u8 = 17;
}

#[cfg(test)]
mod tests {
    use super::*;
    use nlring::MessageList;

    #[test]
    fn the_index_is_read_back_from_each_message() {
        let numbered = Numbered::new();
        for number in [0, 1, 65_535, 65_536, u64::from(u32::MAX)] {
            let mut bytes = Vec::new();
            let tuple = numbered.tuple(number);
            make(&mut bytes, tuple, 0).finish().unwrap();
            remove(&mut bytes, tuple, 0).finish().unwrap();
            let list = MessageList::new(&bytes);
            let indexes: Vec<_> = list.iter().map(|message| index_of(&message)).collect();
            assert_eq!(indexes, [Some(2 * number), Some(2 * number + 1)]);
        }
    }

    #[test]
    fn others_flows_have_no_index() {
        let mut tuple = Numbered::new().tuple(7);
        tuple.dst.address = [192, 0, 2, 1];
        let mut bytes = Vec::new();
        make(&mut bytes, tuple, 0).finish().unwrap();
        let list = MessageList::new(&bytes);
        assert_eq!(list.iter().find_map(|message| index_of(&message)), None);
    }
}
