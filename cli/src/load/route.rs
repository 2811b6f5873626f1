//! IPv4 routes over the loopback device, added and deleted.

use std::net::{IpAddr, Ipv4Addr};

use nlring::EventKind;
use nlring::route::{NewRoute, Route};
use nlring::{Message, Protocol, Requester};
use rustix::io::Errno;

use super::Namespace;
use super::batch::{Batch, Remedies};
use super::cycles::Cycle;
use crate::outcome::Failure;

/// The index of a namespace's loopback device.
const LOOPBACK_INDEX: u32 = 1;

/// The protocol of the routes, which ip(8) shows as `proto 158`. No other program is known to use this number, so
/// these routes can be recognised.
const PROTOCOL: u8 = 158;

/// 240.0.0.0/5, which is reserved (RFC 1112, class E).
const NETWORK: u32 = 240 << 24;
const NUMBERS: u32 = 1 << 27;

const REMEDIES: Remedies = &[
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

/// A route over the loopback device.
pub fn over_loopback(dst: Ipv4Addr, prefix_len: u8, protocol: u8) -> NewRoute<'static> {
    NewRoute::new(dst.into(), prefix_len)
        .oif(LOOPBACK_INDEX)
        .protocol(protocol)
}

/// Brings the loopback device up, so that routes can lead over it.
pub fn loopback_up(requester: &mut Requester) -> Result<(), Failure> {
    // struct ifinfomsg: family and type, index, flags, mask of the flags to change
    let fixed = [0, LOOPBACK_INDEX, kernel::IFF_UP, kernel::IFF_UP].map(u32::to_ne_bytes);
    let asked = requester.ask(kernel::RTM_NEWLINK, 0, |message| {
        message.bytes(fixed.as_flattened())
    });
    Ok(asked.map_err(|error| error.during("bring the loopback device up"))?)
}

/// The route of a number, which counts modulo [`NUMBERS`].
#[allow(clippy::cast_possible_truncation)] // it is less than NUMBERS
fn numbered(number: u64) -> NewRoute<'static> {
    let dst = NETWORK + (number % u64::from(NUMBERS)) as u32;
    over_loopback(Ipv4Addr::from_bits(dst), 32, PROTOCOL)
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
        EventKind::New | EventKind::Update | EventKind::Entry => Routes::EVENTS * number,
        EventKind::Delete => Routes::EVENTS * number + 1,
    })
}

/// Routes by number.
pub struct Routes {
    batch: Batch,
}

impl Routes {
    pub fn open(namespace: Namespace) -> Result<Self, Failure> {
        if namespace == Namespace::Private {
            loopback_up(&mut Requester::open(Protocol::ROUTE)?)?;
        }
        let batch = Batch::open(Protocol::ROUTE, "add and delete routes", REMEDIES)?;
        Ok(Self { batch })
    }
}

impl Cycle for Routes {
    const EVENTS: u64 = 2;

    fn step(&mut self, number: u64, step: u64) -> Result<(), Failure> {
        let (route, requests) = (numbered(number), self.batch.requests());
        match step {
            0 => route.add_in(requests)?,
            _ => route.delete_in(requests)?,
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.batch.send()
    }
}

/// Numbers from include/uapi/linux: `rtnetlink.h`, `if.h`.
mod kernel {
    pub const RTM_NEWLINK: u16 = 16;
    pub const IFF_UP: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_read_back_from_each_message() {
        for number in [0, 1, 256, u64::from(NUMBERS) - 1] {
            let mut batch = nlring::Batch::new();
            numbered(number).add_in(&mut batch).unwrap();
            numbered(number).delete_in(&mut batch).unwrap();
            let indexes: Vec<_> = batch.requests().map(|message| index_of(&message)).collect();
            assert_eq!(indexes, [Some(2 * number), Some(2 * number + 1)]);
        }
    }

    #[test]
    fn others_routes_have_no_index() {
        let mut batch = nlring::Batch::new();
        let route = numbered(7).protocol(4);
        route.add_in(&mut batch).unwrap();
        let mut requests = batch.requests();
        assert_eq!(requests.find_map(|message| index_of(&message)), None);
    }
}
