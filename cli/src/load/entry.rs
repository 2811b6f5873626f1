//! Conntrack entries, made and removed by requests.

use std::net::{IpAddr, Ipv4Addr};

use nlring::EventKind;
use nlring::conntrack::{Flow, Key, Layer4, NewFlow, Tuple};
use nlring::{Message, Protocol};
use rustix::io::Errno;

use super::batch::{Batch, Remedies};
use super::cycles::Cycle;
use crate::outcome::Failure;

/// Longer than any run takes.
const LIFE_SECONDS: u32 = 600;

pub const REMEDIES: Remedies = &[
    (Errno::NOENT, "another program has removed it"),
    (
        Errno::EXIST,
        "another program has made the same one: end it first",
    ),
    (
        // Linux v6.18, net/netfilter/nf_conntrack_core.c, `nf_conntrack_hash_check_insert`.
        Errno::NOSPC,
        "a chain of the conntrack table is full: raise net.netfilter.nf_conntrack_buckets in the initial namespace",
    ),
    (
        Errno::NOMEM,
        "the conntrack table is full: raise net.netfilter.nf_conntrack_max in the initial namespace",
    ),
];

/// The key of a flow of a protocol with ports.
pub fn key(protocol: u8, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Key {
    let ports = Layer4::Ports {
        src: src.1,
        dst: dst.1,
    };
    let orig = Tuple::new(src.0.into(), dst.0.into(), protocol, ports);
    Key { orig, zone: None }
}

/// The entry of an established TCP connection.
pub fn connection(key: &Key) -> NewFlow<'static> {
    NewFlow::new(key.orig, LIFE_SECONDS).tcp_state(kernel::TCP_CONNTRACK_ESTABLISHED)
}

/// The keys of entries, by number. The destination differs between programs that run at the same time.
#[derive(Clone, Copy)]
pub struct Numbered {
    dst: (Ipv4Addr, u16),
}

impl Numbered {
    pub fn new() -> Self {
        let [.., a, b] = std::process::id().to_be_bytes();
        Self {
            dst: (Ipv4Addr::new(198, 19, a, b), 443),
        }
    }

    /// The key of an entry. Its source holds the lower 32 bits of the number.
    pub fn key(self, number: u64) -> Key {
        let [.., a, b, c, d] = number.to_be_bytes();
        // 198.18.0.0/15 is reserved for tests of network devices (RFC 2544).
        let src = (Ipv4Addr::new(198, 18, a, b), u16::from_be_bytes([c, d]));
        key(kernel::IPPROTO_TCP, src, self.dst)
    }
}

/// The number of an entry, and what happened to it.
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
        (EventKind::Delete, number) => Some(Entries::EVENTS * number + 1),
        (EventKind::Update | EventKind::Entry, _) => None,
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
        let key = self.numbered.key(number);
        let requests = self.batch.requests();
        match step {
            0 => connection(&key).add_in(requests)?,
            _ => key.delete_in(requests, None)?,
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.batch.send()
    }
}

/// Numbers from include/uapi/linux: `netfilter/nf_conntrack_tcp.h`, `in.h`.
pub mod kernel {
    pub const TCP_CONNTRACK_ESTABLISHED: u8 = 3;
    pub const TCP_CONNTRACK_CLOSE: u8 = 8;
    pub const IPPROTO_TCP: u8 = 6;
    pub const IPPROTO_UDP: u8 = 17;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_read_back_from_each_message() {
        let numbered = Numbered::new();
        for number in [0, 1, 65_535, 65_536, u64::from(u32::MAX)] {
            let mut batch = nlring::Batch::new();
            let key = numbered.key(number);
            connection(&key).add_in(&mut batch).unwrap();
            key.delete_in(&mut batch, None).unwrap();
            let indexes: Vec<_> = batch.requests().map(|message| index_of(&message)).collect();
            assert_eq!(indexes, [Some(2 * number), Some(2 * number + 1)]);
        }
    }

    #[test]
    fn others_flows_have_no_index() {
        let mut key = Numbered::new().key(7);
        key.orig.dst = Ipv4Addr::new(192, 0, 2, 1).into();
        let mut batch = nlring::Batch::new();
        connection(&key).add_in(&mut batch).unwrap();
        let mut requests = batch.requests();
        assert_eq!(requests.find_map(|message| index_of(&message)), None);
    }
}
