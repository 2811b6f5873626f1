//! How fast bytes become messages, attributes, flows and routes, from cache.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use nlring::conntrack::Flow;
use nlring::route::Route;
use nlring::{MessageBuilder, MessageList, flags};

/// Few enough to stay in the first-level cache.
const DATAGRAM_COUNT: usize = 64;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    split(&mut criterion);
    attributes(&mut criterion);
    decode(&mut criterion);
    criterion.final_summary();
}

/// From datagrams to messages: the lengths checked, every header read.
fn split(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split");
    let single = vec![messages(1, 200); DATAGRAM_COUNT];
    let dump = vec![messages(160, 200)];
    for (name, datagrams, count) in [
        ("1 message of 200 bytes a datagram", single, DATAGRAM_COUNT),
        ("160 messages of 200 bytes a datagram", dump, 160),
    ] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut sum = 0;
                for datagram in black_box(&datagrams) {
                    for message in &MessageList::new(datagram) {
                        sum += u64::from(message.sequence());
                    }
                }
                sum
            });
        });
    }
}

/// From a message to its attributes, the nested ones not opened.
fn attributes(criterion: &mut Criterion) {
    let event = flow();
    let list = MessageList::new(&event);
    let message = list.iter().next().expect("one message");
    let mut group = criterion.benchmark_group("attributes");
    group.throughput(Throughput::Elements(message.attributes(4).count() as u64));
    group.bench_function("of a conntrack event", |bencher| {
        bencher.iter(|| {
            let attributes = black_box(&message).attributes(4);
            attributes.fold(0, |sum, attribute| {
                sum + usize::from(attribute.attribute_type()) + attribute.bytes().len()
            })
        });
    });
}

/// From a datagram's bytes to what it tells.
fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    let event = flow();
    group.bench_function("Flow", |bencher| {
        bencher.iter(|| {
            let list = MessageList::new(black_box(&event));
            let flow = list.iter().find_map(|message| Flow::decode(&message));
            black_box(&flow);
        });
    });
    for (name, event) in [("Route", route(1)), ("Route with 8 nexthops", route(8))] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let list = MessageList::new(black_box(&event));
                let route = list.iter().find_map(|message| Route::decode(&message));
                black_box(&route);
                route.map_or(0, |route| route.nexthops.count())
            });
        });
    }
}

/// A datagram of equal messages without meaning.
fn messages(count: u32, message_bytes: usize) -> Vec<u8> {
    let mut datagram = Vec::new();
    for sequence in 0..count {
        MessageBuilder::new(&mut datagram, 100, 0)
            .sequence(sequence)
            .bytes(&vec![0; message_bytes - nlring::HEADER_BYTES])
            .finish()
            .expect("a short message");
    }
    datagram
}

/// The start of a TCP connection, as ctnetlink tells of it.
fn flow() -> Vec<u8> {
    let (client, server) = ([10, 0, 0, 2], [192, 0, 2, 1]);
    let mut buffer = Vec::new();
    MessageBuilder::new(&mut buffer, 0x100, flags::CREATE | flags::EXCL)
        .bytes(&[2, 0, 0, 0]) // struct nfgenmsg
        .nested(1, |orig| tuple(orig, [client, server], [47_152, 443]))
        .nested(2, |reply| tuple(reply, [server, client], [443, 47_152]))
        .attribute_be32(12, 0xfeb9_5b55) // id
        .attribute_be32(3, 0x188) // status
        .attribute_be32(7, 120) // timeout
        .nested(4, |info| {
            info.nested(1, |tcp| {
                tcp.attribute_u8(1, 1)
                    .attribute_u8(2, 10)
                    .attribute_u8(3, 0)
                    .attribute(4, &[3, 0])
                    .attribute(5, &[0, 0])
            })
        })
        .attribute_be64(27, 1_763_971_200_000_000_000) // time of the event
        .finish()
        .expect("a short message");
    buffer
}

/// The inside of one direction's attribute.
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

/// A route through so many gateways, as rtnetlink tells of it.
fn route(hop_count: u8) -> Vec<u8> {
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
