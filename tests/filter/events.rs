//! Random events of flows. Each field has few values, so that terms often match.

use nlring::MessageBuilder;
use nlring::message::flags;
use nlring_testing::Random;

pub const ADDRESSES: [[&str; 5]; 2] = [
    [
        "10.0.0.1",
        "10.0.0.2",
        "10.1.2.3",
        "192.0.2.1",
        "203.0.113.9",
    ],
    [
        "fd00::1",
        "fd00::2",
        "fd00:1:2:3::4",
        "2001:db8::1",
        "2001:db8:0:1::1",
    ],
];
pub const PORTS: [u16; 7] = [0, 53, 80, 443, 1024, 1500, 65_535];
pub const PROTOCOLS: [u8; 7] = [1, 6, 17, 33, 47, 89, 132];
pub const ICMP_TYPES: [u8; 4] = [0, 8, 128, 129];
pub const MARKS: [u32; 6] = [0, 1, 7, 0x10, 0x17, u32::MAX];
pub const ZONES: [u16; 4] = [0, 3, 5, 65_535];
pub const IDS: [u32; 4] = [0, 1, 0x1234_5678, u32::MAX];
/// Of TCP, DCCP and SCTP, with the number of the protocol's attribute.
pub const STATES: [(u16, u8); 8] = [
    (1, 1),
    (1, 3),
    (1, 7),
    (2, 4),
    (2, 1),
    (3, 4),
    (3, 1),
    (3, 12), // has no name
];

#[derive(Clone, Copy)]
struct Tuple {
    is_v6: bool,
    src: usize,
    dst: usize,
    protocol: u8,
    ports: (u16, u16),
    icmp: (u8, u8, u16),
    zone: Option<u16>,
}

/// An event. Its sequence number is `number`.
pub fn any(random: &mut Random, number: usize) -> Vec<u8> {
    let orig = tuple(random);
    let reply = (!random.one_in(10)).then(|| reply_to(random, orig));
    let (message_type, event_flags) = match random.below(4) {
        0 => (0x100, flags::CREATE | flags::EXCL),
        1 | 2 => (0x100, 0),
        _ => (0x102, 0),
    };
    let mut bytes = Vec::new();
    let family = if orig.is_v6 { 10 } else { 2 };
    let builder = MessageBuilder::new(&mut bytes, message_type, event_flags)
        .sequence(u32::try_from(number).expect("few"))
        .port_id(random.below(3))
        .bytes(&[family, 0, 0, 0]);
    parts(random, builder, orig, reply)
        .finish()
        .expect("a short message");
    bytes
}

/// Appends the attributes in any order.
fn parts<'a>(
    random: &mut Random,
    mut builder: MessageBuilder<'a>,
    orig: Tuple,
    reply: Option<Tuple>,
) -> MessageBuilder<'a> {
    let mut numbers: Vec<u16> = vec![1, 3];
    numbers.extend(reply.map(|_| 2));
    // State, timeout, mark, counters, id, zone, start, labels, time of the event.
    let others = [4, 7, 8, 9, 12, 18, 20, 22, 27];
    numbers.extend(others.into_iter().filter(|_| random.percent(60)));
    if orig.zone.or(reply.and_then(|reply| reply.zone)).is_some() {
        numbers.retain(|&number| number != 18); // the kernel sends the zone at one place
    }
    while !numbers.is_empty() {
        let number = numbers.swap_remove(random.index(numbers.len()));
        builder = match number {
            1 => put_tuple(random, builder, 1, orig),
            2 => put_tuple(random, builder, 2, reply.expect("it is there")),
            3 => builder.attribute_be32(3, random.below(1 << 16)),
            4 => {
                let (protocol, state) = STATES[random.index(STATES.len())];
                builder.nested(4, |info| {
                    info.nested(protocol, |info| info.attribute_u8(1, state))
                })
            }
            8 => builder.attribute_be32(8, MARKS[random.index(MARKS.len())]),
            9 => builder.nested(9, |counters| {
                counters.attribute_be64(1, 8).attribute_be64(2, 18)
            }),
            12 => builder.attribute_be32(12, IDS[random.index(IDS.len())]),
            18 => builder.attribute_be16(18, ZONES[random.index(ZONES.len())]),
            20 => builder.nested(20, |times| times.attribute_be64(1, 3)),
            22 => builder.attribute(22, &std::array::from_fn::<_, 16, _>(|_| random.byte())),
            number => builder.attribute_be32(number, random.below(600)),
        };
    }
    builder
}

fn tuple(random: &mut Random) -> Tuple {
    let is_v6 = random.one_in(2);
    let protocol = PROTOCOLS[random.index(PROTOCOLS.len())];
    let port = |random: &mut Random| PORTS[random.index(PORTS.len())];
    Tuple {
        is_v6,
        src: random.index(5),
        dst: random.index(5),
        protocol: if protocol == 1 && is_v6 { 58 } else { protocol },
        ports: (port(random), port(random)),
        icmp: (
            ICMP_TYPES[random.index(ICMP_TYPES.len())],
            u8::from(random.one_in(3)),
            port(random),
        ),
        zone: random.one_in(20).then_some(3),
    }
}

/// The tuple of the answers, sometimes with other addresses, ports or identifiers.
fn reply_to(random: &mut Random, orig: Tuple) -> Tuple {
    let mut reply = Tuple {
        src: orig.dst,
        dst: orig.src,
        ports: (orig.ports.1, orig.ports.0),
        zone: (orig.zone.is_none() && random.one_in(20)).then_some(5),
        ..orig
    };
    match random.below(8) {
        0 => reply.src = random.index(5),
        1 => reply.dst = random.index(5),
        2 => reply.ports.0 = PORTS[random.index(PORTS.len())],
        3 => reply.ports.1 = PORTS[random.index(PORTS.len())],
        4 => reply.icmp.2 = PORTS[random.index(PORTS.len())],
        _ => {}
    }
    reply
}

fn put_tuple<'a>(
    random: &mut Random,
    builder: MessageBuilder<'a>,
    number: u16,
    tuple: Tuple,
) -> MessageBuilder<'a> {
    let protocol_is_first = random.one_in(4);
    let has_protocol = !random.one_in(30);
    builder.nested(number, |builder| {
        let builder = match tuple.zone {
            Some(zone) if protocol_is_first => builder.attribute_be16(3, zone),
            _ => builder,
        };
        let builder = if protocol_is_first {
            let builder = put_protocol(builder, tuple, has_protocol);
            put_addresses(builder, tuple)
        } else {
            let builder = put_addresses(builder, tuple);
            put_protocol(builder, tuple, has_protocol)
        };
        match tuple.zone {
            Some(zone) if !protocol_is_first => builder.attribute_be16(3, zone),
            _ => builder,
        }
    })
}

fn put_addresses(builder: MessageBuilder<'_>, tuple: Tuple) -> MessageBuilder<'_> {
    let texts = ADDRESSES[usize::from(tuple.is_v6)];
    let address = |index: usize| match texts[index].parse().expect("an address") {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    let first = if tuple.is_v6 { 3 } else { 1 };
    builder.nested(1, |ip| {
        ip.attribute(first, &address(tuple.src))
            .attribute(first + 1, &address(tuple.dst))
    })
}

fn put_protocol(
    builder: MessageBuilder<'_>,
    tuple: Tuple,
    has_protocol: bool,
) -> MessageBuilder<'_> {
    if !has_protocol {
        return builder;
    }
    builder.nested(2, |builder| {
        let builder = builder.attribute_u8(1, tuple.protocol);
        let (icmp_type, code, id) = tuple.icmp;
        match tuple.protocol {
            1 => builder
                .attribute_be16(4, id)
                .attribute_u8(5, icmp_type)
                .attribute_u8(6, code),
            58 => builder
                .attribute_be16(7, id)
                .attribute_u8(8, icmp_type)
                .attribute_u8(9, code),
            89 => builder,
            _ => builder
                .attribute_be16(2, tuple.ports.0)
                .attribute_be16(3, tuple.ports.1),
        }
    })
}
