//! Events that are built, not captured: in this machine's byte order, and of any length that a bench needs.

use nlring::MessageBuilder;
use nlring::message::{HEADER_BYTES, flags};

/// A datagram of `count` messages with consecutive sequence numbers and a payload of zeros.
///
/// # Panics
///
/// If `message_bytes` is less than a header's.
#[must_use]
pub fn messages(count: u32, message_bytes: usize) -> Vec<u8> {
    let mut datagram = Vec::new();
    for sequence in 0..count {
        MessageBuilder::new(&mut datagram, 100, 0)
            .sequence(sequence)
            .bytes(&vec![0; message_bytes - HEADER_BYTES])
            .finish()
            .expect("a short message");
    }
    datagram
}

/// A NEW event of a TCP connection, as ctnetlink sends it.
#[must_use]
#[allow(clippy::missing_panics_doc)] // the message is short
pub fn flow_begins() -> Vec<u8> {
    let mut buffer = Vec::new();
    let builder = MessageBuilder::new(&mut buffer, 0x100, flags::CREATE | flags::EXCL);
    flow(builder, 1)
        .attribute_be64(27, 1_763_971_200_000_000_000) // time of the event
        .finish()
        .expect("a short message");
    buffer
}

/// The DESTROY event of the same connection, with everything that the kernel adds if it is configured to.
#[must_use]
#[allow(clippy::missing_panics_doc)] // the message is short
pub fn flow_ends() -> Vec<u8> {
    let mut buffer = Vec::new();
    let builder = flow(MessageBuilder::new(&mut buffer, 0x102, 0), 7);
    let builder = counters(builder, 9, 12);
    counters(builder, 10, 10)
        .nested(20, |times| {
            times
                .attribute_be64(1, 1_763_971_100_000_000_000)
                .attribute_be64(2, 1_763_971_200_000_000_000)
        })
        .attribute_be32(8, 7) // mark
        .attribute_be16(18, 5) // zone
        .attribute_be64(27, 1_763_971_200_000_000_000) // time of the event
        .finish()
        .expect("a short message");
    buffer
}

fn counters(builder: MessageBuilder<'_>, number: u16, packets: u64) -> MessageBuilder<'_> {
    builder.nested(number, |counters| {
        counters
            .attribute_be64(1, packets)
            .attribute_be64(2, 1000 * packets)
    })
}

/// The attributes that all events of a TCP connection have.
fn flow(builder: MessageBuilder<'_>, state: u8) -> MessageBuilder<'_> {
    let (client, server) = ([10, 0, 0, 2], [192, 0, 2, 1]);
    builder
        .bytes(&[2, 0, 0, 0]) // struct nfgenmsg
        .nested(1, |orig| tuple(orig, [client, server], [47_152, 443]))
        .nested(2, |reply| tuple(reply, [server, client], [443, 47_152]))
        .attribute_be32(12, 0xfeb9_5b55) // id
        .attribute_be32(3, 0x18e) // status
        .attribute_be32(7, 120) // timeout
        .nested(4, |info| {
            info.nested(1, |tcp| {
                tcp.attribute_u8(1, state)
                    .attribute_u8(2, 10)
                    .attribute_u8(3, 0)
                    .attribute(4, &[3, 0])
                    .attribute(5, &[0, 0])
            })
        })
}

/// The content of a tuple's attribute.
fn tuple(
    builder: MessageBuilder<'_>,
    addresses: [[u8; 4]; 2],
    ports: [u16; 2],
) -> MessageBuilder<'_> {
    builder
        .nested(1, |ip| {
            ip.attribute(1, &addresses[0]).attribute(2, &addresses[1])
        })
        .nested(2, |protocol| {
            protocol
                .attribute_u8(1, 6)
                .attribute_be16(2, ports[0])
                .attribute_be16(3, ports[1])
        })
}

/// A NEW event of a route through `hop_count` gateways, as rtnetlink sends it.
#[must_use]
#[allow(clippy::missing_panics_doc)] // the message is short
pub fn route(hop_count: u8) -> Vec<u8> {
    let mut buffer = Vec::new();
    let builder = MessageBuilder::new(&mut buffer, 24, flags::CREATE)
        .bytes(&[2, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]) // struct rtmsg
        .attribute_u32(15, 254) // table
        .attribute(1, &[10, 3, 1, 0]) // destination
        .attribute_u32(6, 7); // priority
    let builder = if hop_count == 1 {
        builder.attribute(5, &[10, 0, 0, 2]).attribute_u32(4, 3)
    } else {
        let mut hops = Vec::new();
        for hop in 1..=hop_count {
            hops.extend_from_slice(&16u16.to_ne_bytes()); // struct rtnexthop
            hops.extend_from_slice(&[0, 0, 3, 0, 0, 0]);
            hops.extend_from_slice(&8u16.to_ne_bytes()); // gateway
            hops.extend_from_slice(&5u16.to_ne_bytes());
            hops.extend_from_slice(&[10, 0, 0, hop]);
        }
        builder.attribute(9, &hops)
    };
    builder.finish().expect("a short message");
    buffer
}
