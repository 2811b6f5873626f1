//! Makes and changes flows by number.

use std::net::{IpAddr, Ipv4Addr};

use nlring::conntrack::{Key, Layer4, NewFlow, Requests, Tuple, status, tcp_state};
use nlring::{Batch, MessageBuilder};

/// `IPCTNL_MSG_CT_NEW`, and numbers of `enum ctattr_type`.
const CT_NEW: u16 = 0x100;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_STATUS: u16 = 3;
const CTA_MARK: u16 = 8;

/// The flow with this number.
pub fn tuple_of(number: u32) -> Tuple {
    let [a, b, c, d] = number.to_be_bytes();
    let (src, dst) = (Ipv4Addr::new(198, 18, a, b), Ipv4Addr::new(198, 19, 0, 1));
    let layer4 = Layer4::Ports {
        src: u16::from_be_bytes([c, d]),
        dst: 443,
    };
    let protocol = if number.is_multiple_of(4) { 17 } else { 6 };
    Tuple::new(src.into(), dst.into(), protocol, layer4)
}

pub fn key_of(number: u32) -> Key {
    Key {
        orig: tuple_of(number),
        zone: None,
    }
}

fn put_tuple<'a>(message: MessageBuilder<'a>, kind: u16, tuple: &Tuple) -> MessageBuilder<'a> {
    let (src_port, dst_port) = tuple.ports().expect("ports");
    let octets = |address| match address {
        IpAddr::V4(address) => Ipv4Addr::octets(&address),
        IpAddr::V6(_) => panic!("IPv4 only"),
    };
    message.nested(kind, |inside| {
        inside
            .nested(1, |ip| {
                ip.attribute(1, &octets(tuple.src))
                    .attribute(2, &octets(tuple.dst))
            })
            .nested(2, |layer4| {
                layer4
                    .attribute_u8(1, tuple.protocol)
                    .attribute_be16(2, src_port)
                    .attribute_be16(3, dst_port)
            })
    })
}

/// Adds, changes and removes flows by number, many with one system call.
pub struct Maker {
    pub requests: Requests,
    pub batch: Batch,
}

impl Maker {
    pub fn new() -> Self {
        Self {
            requests: Requests::open().expect("requests; needs CAP_NET_ADMIN in its namespace"),
            batch: Batch::new(),
        }
    }

    pub fn make(&mut self, numbers: impl Iterator<Item = u32>) {
        for number in numbers {
            let mut flow = NewFlow::new(tuple_of(number), 600).mark(number % 3);
            if flow.key().orig.protocol == 6 {
                flow = flow.tcp_state(tcp_state::ESTABLISHED);
            }
            flow.add_in(&mut self.batch).expect("added");
        }
        self.send();
    }

    /// Sets the mark of each flow, and the status of every third.
    pub fn change(&mut self, numbers: impl Iterator<Item = u32>, mark: u32) {
        for number in numbers {
            let added = self.batch.add(CT_NEW, 0, |message| {
                let message = message.bytes(&[2, 0, 0, 0]);
                let message = put_tuple(message, CTA_TUPLE_ORIG, &tuple_of(number))
                    .attribute_be32(CTA_MARK, mark);
                if number.is_multiple_of(3) {
                    let status = status::SEEN_REPLY | status::ASSURED | status::CONFIRMED;
                    return message.attribute_be32(CTA_STATUS, status);
                }
                message
            });
            added.expect("added");
        }
        self.send();
    }

    pub fn remove(&mut self, numbers: impl Iterator<Item = u32>) {
        for number in numbers {
            let key = key_of(number);
            key.delete_in(&mut self.batch, None).expect("added");
        }
        self.send();
    }

    pub fn send(&mut self) {
        let requester = self.requests.requester();
        let sent = self.batch.send(requester, |index, reply| {
            if let Err(error) = reply {
                panic!("request {index}: {error}");
            }
        });
        sent.expect("sent");
    }
}
