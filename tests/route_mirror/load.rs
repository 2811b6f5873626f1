//! Changes of routes by requests.

use nlring::message::flags;
use nlring::{Family, MessageBuilder, Protocol, Requester, Socket};

use crate::{ROUTE_COUNT, STAYS};

/// Adds fd20:1::/64 with many gateways.
pub fn add_route_with_hops(device: u32, hop_count: u16) {
    let mut hops = Vec::new();
    for number in 0..hop_count {
        let [high, low] = (0x100 + number).to_be_bytes();
        hops.extend_from_slice(&multipath_hop(device, [high, low]));
    }
    let mut dst = [0; 16];
    dst[..4].copy_from_slice(&[0xfd, 0x20, 0, 1]);
    let mut requester = Requester::open(Protocol::ROUTE).expect("a requester");
    let added = requester.ask(24, flags::CREATE | flags::EXCL, |request| {
        let request = request.bytes(&[Family::INET6.into(), 64, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
        request.attribute(1, &dst).attribute(9, &hops)
    });
    added.expect("a route");
}

/// `struct rtnexthop` with a gateway in fd00::/64, by its last two bytes.
fn multipath_hop(device: u32, [high, low]: [u8; 2]) -> Vec<u8> {
    let mut hop = 28u16.to_ne_bytes().to_vec();
    hop.extend_from_slice(&[0, 0]);
    hop.extend_from_slice(&device.to_ne_bytes());
    hop.extend_from_slice(&20u16.to_ne_bytes());
    hop.extend_from_slice(&5u16.to_ne_bytes());
    hop.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low]);
    hop
}

/// Adds some routes, adds hops to them and deletes them, a few times each. The kernel sometimes sends the events in
/// the wrong order.
pub fn change_multipath_routes(message_types: [u16; 2], device: u32) {
    let socket = Socket::open(Protocol::ROUTE).expect("a socket");
    for number in 0..3000u16 {
        let message_type = message_types[usize::from(number % 2)];
        let more_flags = if message_type == 24 {
            flags::CREATE | flags::APPEND
        } else {
            0
        };
        let mut hops = Vec::new();
        for host in [number % 3, 3 + number % 4] {
            hops.extend(multipath_hop(device, (0x100 + host).to_be_bytes()));
        }
        let [high, low] = (number / 100).to_be_bytes();
        let mut dst = [0; 16];
        dst[..4].copy_from_slice(&[0xfd, 9, high, low]);
        let mut request = Vec::new();
        let mut builder =
            MessageBuilder::new(&mut request, message_type, flags::REQUEST | more_flags)
                .bytes(&[Family::INET6.into(), 64, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0])
                .attribute(1, &dst);
        if message_type == 24 {
            builder = builder.attribute(9, &hops);
        }
        builder.finish().expect("a request");
        socket.send(&request).expect("sent");
    }
}

/// Adds routes of both families in turn, and a little later deletes most of them.
pub fn flood(device: u32) {
    const LAG: u32 = 5000;
    let socket = Socket::open(Protocol::ROUTE).expect("a socket");
    let mut requests = Vec::new();
    for index in 0..ROUTE_COUNT + LAG {
        if index < ROUTE_COUNT {
            put(
                &mut requests,
                24,
                flags::CREATE | flags::EXCL,
                index,
                device,
            );
        }
        if let Some(old) = index.checked_sub(LAG).filter(|old| old % STAYS != 0) {
            put(&mut requests, 25, 0, old, device);
        }
        if requests.len() > 20_000 {
            socket.send(&requests).expect("sent");
            requests.clear();
        }
    }
    socket.send(&requests).expect("sent");
}

fn put(requests: &mut Vec<u8>, message_type: u16, more_flags: u16, index: u32, device: u32) {
    let [_, a, b, c] = index.to_be_bytes();
    let new = MessageBuilder::new(requests, message_type, flags::REQUEST | more_flags);
    new.bytes(&[Family::INET.into(), 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0])
        .attribute(1, &[16 + a, b, c, 0])
        .attribute(5, &[10, 0, 0, 2])
        .attribute_u32(4, device)
        .finish()
        .expect("a request");
    let ipv6 = |net: [u8; 4], host: u8| {
        let mut address = [0; 16];
        address[0] = 0xfd;
        address[1..5].copy_from_slice(&net);
        address[15] = host;
        address
    };
    let new = MessageBuilder::new(requests, message_type, flags::REQUEST | more_flags);
    new.bytes(&[Family::INET6.into(), 64, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0])
        .attribute(1, &ipv6([0x80, a, b, c], 0))
        .attribute(5, &ipv6([0, 0, 0, 0], 2))
        .attribute_u32(4, device)
        .finish()
        .expect("a request");
}
