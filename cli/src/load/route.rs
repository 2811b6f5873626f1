//! IPv4 routes over the loopback device, added and deleted.

use std::net::IpAddr;

use nlring::route::{EventKind, Route, family, route_type, scope, table};
use nlring::{Message, MessageBuilder, Protocol, flags};
use rustix::io::Errno;

use super::Place;
use super::batch::{Batch, Remedies};
use super::cycles::Cycle;
use crate::outcome::Failure;
use crate::request::Requester;

/// A namespace's first device.
const LOOPBACK_INDEX: u32 = 1;

/// Who made the routes, as ip(8) shows it (`proto 158`): a number that nobody has, so that no other route is ever taken
/// for one of these.
const PROTOCOL: u8 = 158;

/// 240.0.0.0/5: nobody's (RFC 1112, class E).
const NETWORK: u32 = 240 << 24;
const NUMBERS: u32 = 1 << 27;

const REMEDIES: Remedies = &[
    (Errno::PERM, "it needs CAP_NET_ADMIN: run as root"),
    (Errno::SRCH, "another program has deleted it"),
    (
        Errno::EXIST,
        "another program has added the same one: end it first; or ip route flush proto 158",
    ),
    (
        Errno::NETDOWN,
        "the loopback device is down: ip link set lo up",
    ),
];

/// A destination in the main table.
#[derive(Clone, Copy, Debug)]
pub struct Destination {
    pub address: [u8; 4],
    pub prefix_len: u8,
    pub protocol: u8,
}

/// The request to add a route.
pub fn make(buffer: &mut Vec<u8>, to: Destination, more_flags: u16) -> MessageBuilder<'_> {
    let flags = flags::CREATE | flags::EXCL | more_flags;
    start(buffer, kernel::RTM_NEWROUTE, to, flags)
}

/// The request to delete a route.
pub fn remove(buffer: &mut Vec<u8>, to: Destination, more_flags: u16) -> MessageBuilder<'_> {
    start(buffer, kernel::RTM_DELROUTE, to, more_flags)
}

fn start(
    buffer: &mut Vec<u8>,
    message_type: u16,
    to: Destination,
    more_flags: u16,
) -> MessageBuilder<'_> {
    let [.., main_table] = table::MAIN.to_be_bytes();
    // struct rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type, flags
    let fixed = [
        family::INET,
        to.prefix_len,
        0,
        0,
        main_table,
        to.protocol,
        scope::LINK,
        route_type::UNICAST,
        0,
        0,
        0,
        0,
    ];
    MessageBuilder::new(buffer, message_type, flags::REQUEST | more_flags)
        .bytes(&fixed)
        .attribute(kernel::RTA_DST, &to.address)
        .attribute_u32(kernel::RTA_OIF, LOOPBACK_INDEX)
}

/// Brings the loopback device up, to have routes over it.
pub fn loopback_up(requester: &mut Requester) -> Result<(), Failure> {
    // struct ifinfomsg: family and type, index, flags, mask of the flags to change
    let fixed = [0, LOOPBACK_INDEX, kernel::IFF_UP, kernel::IFF_UP].map(u32::to_ne_bytes);
    requester.ask("bring the loopback device up", |buffer| {
        MessageBuilder::new(buffer, kernel::RTM_NEWLINK, flags::REQUEST | flags::ACK)
            .bytes(fixed.as_flattened())
    })
}

/// The route of a number, modulo [`NUMBERS`].
#[allow(clippy::cast_possible_truncation)] // it is less than NUMBERS
fn numbered(number: u64) -> Destination {
    Destination {
        address: (NETWORK + (number % u64::from(NUMBERS)) as u32).to_be_bytes(),
        prefix_len: 32,
        protocol: PROTOCOL,
    }
}

pub fn index_of(message: &Message<'_>) -> Option<u64> {
    let route = Route::decode(message)?;
    let dst = route.dst.and_then(|dst| dst.ip())?;
    let IpAddr::V4(address) = dst else {
        return None;
    };
    if route.protocol != PROTOCOL {
        return None;
    }
    let number = u64::from(address.to_bits() % NUMBERS);
    Some(match route.kind {
        EventKind::New => Routes::EVENTS * number,
        EventKind::Delete => Routes::EVENTS * number + 1,
    })
}

/// Routes by number.
pub struct Routes {
    batch: Batch,
}

impl Routes {
    pub fn open(place: Place) -> Result<Self, Failure> {
        if place == Place::Own {
            loopback_up(&mut Requester::open(Protocol::ROUTE)?)?;
        }
        let batch = Batch::open(Protocol::ROUTE, "add and delete routes", REMEDIES)?;
        Ok(Self { batch })
    }
}

impl Cycle for Routes {
    const EVENTS: u64 = 2;

    fn step(&mut self, number: u64, step: u64) -> Result<(), Failure> {
        let to = numbered(number);
        self.batch.add(|buffer| match step {
            0 => make(buffer, to, 0),
            _ => remove(buffer, to, 0),
        })
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.batch.send()
    }
}

/// Numbers from include/uapi/linux: `rtnetlink.h`, `if.h`.
mod kernel {
    pub const RTM_NEWLINK: u16 = 16;
    pub const RTM_NEWROUTE: u16 = 24;
    pub const RTM_DELROUTE: u16 = 25;
    pub const RTA_DST: u16 = 1;
    pub const RTA_OIF: u16 = 4;
    pub const IFF_UP: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use nlring::MessageList;

    #[test]
    fn the_index_is_read_back_from_each_message() {
        for number in [0, 1, 256, u64::from(NUMBERS) - 1] {
            let mut bytes = Vec::new();
            make(&mut bytes, numbered(number), 0).finish().unwrap();
            remove(&mut bytes, numbered(number), 0).finish().unwrap();
            let list = MessageList::new(&bytes);
            let indexes: Vec<_> = list.iter().map(|message| index_of(&message)).collect();
            assert_eq!(indexes, [Some(2 * number), Some(2 * number + 1)]);
        }
    }

    #[test]
    fn others_routes_have_no_index() {
        let to = Destination {
            protocol: 4,
            ..numbered(7)
        };
        let mut bytes = Vec::new();
        make(&mut bytes, to, 0).finish().unwrap();
        let list = MessageList::new(&bytes);
        assert_eq!(list.iter().find_map(|message| index_of(&message)), None);
    }
}
