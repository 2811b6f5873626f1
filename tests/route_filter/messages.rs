//! Random messages of routes, and what is in their bytes. Each field has few values, so that terms often match.

use std::net::IpAddr;

use nlring::MessageBuilder;
use nlring::message::flags;
use nlring_testing::Random;

pub const NETWORKS: [[&str; 5]; 2] = [
    ["10.0.0.0", "10.1.2.3", "10.255.0.1", "0.0.0.0", "192.0.2.1"],
    [
        "fd00::",
        "fd00:1:2:3::4",
        "2001:db8::1",
        "::",
        "2001:db8:0:1:ffff::1",
    ],
];
pub const LENGTHS: [[u8; 7]; 2] = [[0, 1, 8, 16, 24, 31, 32], [0, 7, 32, 48, 61, 64, 128]];
pub const TABLES: [u32; 6] = [0, 7, 254, 255, 256, 1000];
pub const PROTOCOLS: [u8; 5] = [0, 2, 4, 186, 200];
pub const TYPES: [u8; 4] = [1, 2, 6, 200];
pub const SCOPES: [u8; 4] = [0, 200, 253, 100];
pub const METRICS: [u32; 6] = [0, 1, 255, 256, 1024, u32::MAX];
pub const DEVICES: [u32; 4] = [1, 3, 0x0102_0304, 256];
const MPLS: u8 = 28;

pub fn octets(text: &str) -> Vec<u8> {
    match text.parse().expect("an address") {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn one<V: Copy, const N: usize>(random: &mut Random, values: [V; N]) -> V {
    values[random.index(N)]
}

fn address(random: &mut Random, is_v6: bool) -> Vec<u8> {
    octets(one(random, NETWORKS[usize::from(is_v6)]))
}

/// An event of a route. Its sequence number is `number`.
pub fn any(random: &mut Random, number: usize) -> Vec<u8> {
    let family = one(random, [2, 2, 10, 10, MPLS]);
    let (message_type, event_flags) = match random.below(6) {
        0 | 1 => (25, 0),
        2 => (24, flags::REPLACE),
        3 => (24, flags::CREATE | flags::APPEND),
        4 => (24, 0),
        _ => (24, flags::CREATE | flags::EXCL),
    };
    let is_v6 = family == 10;
    let length = one(random, LENGTHS[usize::from(is_v6)]);
    let table = one(random, TABLES);
    let fixed_table = if random.one_in(10) {
        7
    } else {
        u8::try_from(table).unwrap_or(252)
    };
    let (protocol, scope) = (one(random, PROTOCOLS), one(random, SCOPES));
    let route_type = one(random, TYPES);
    let fixed = [
        family,
        length,
        0,
        0,
        fixed_table,
        protocol,
        scope,
        route_type,
        0,
        0,
        0,
        0,
    ];
    let mut bytes = Vec::new();
    let builder = MessageBuilder::new(&mut bytes, message_type, event_flags)
        .sequence(u32::try_from(number).expect("few"))
        .port_id(random.below(3))
        .bytes(&fixed);
    attributes(random, builder, family, table)
        .finish()
        .expect("a short message");
    bytes
}

/// Appends attributes in any order.
fn attributes<'a>(
    random: &mut Random,
    mut builder: MessageBuilder<'a>,
    family: u8,
    table: u32,
) -> MessageBuilder<'a> {
    // Source, incoming device, preferred source, metrics, cache info, preference, nexthop object.
    let mut numbers = vec![2, 3, 7, 8, 12, 20, 30];
    numbers.extend([1, 1, 6, 15]); // destination, metric, table
    let mut left: Vec<u16> = Vec::new();
    for number in numbers {
        if random.percent(60) && !left.contains(&number) {
            left.push(number);
        }
    }
    match random.below(5) {
        0 => left.push(9), // several hops
        1 => {}
        2 => left.extend([4]),
        3 => left.extend([4, 18]), // a gateway of another family
        _ if family == MPLS => left.extend([4, 18]),
        _ => left.extend([4, 5]),
    }
    while !left.is_empty() {
        let number = left.swap_remove(random.index(left.len()));
        builder = match number {
            1 if family == MPLS => builder.attribute_be32(1, random.below(1 << 20) << 12 | 0x100),
            1 | 5 => builder.attribute(number, &address(random, family == 10)),
            6 => builder.attribute_u32(6, one(random, METRICS)),
            4 => builder.attribute_u32(4, one(random, DEVICES)),
            8 => builder.nested(8, |metrics| metrics.attribute_u32(4, 1).attribute_u32(5, 3)),
            9 => builder.attribute(9, &hops(random, family)),
            15 => builder.attribute_u32(15, table),
            18 => builder.attribute(18, &via(random, family)),
            20 => builder.attribute_u8(20, 1),
            number => builder.attribute_u32(number, random.below(5)),
        };
    }
    builder
}

/// `struct rtvia`.
fn via(random: &mut Random, family: u8) -> Vec<u8> {
    let is_v6 = family == 2 || (family == MPLS && random.one_in(2));
    let mut bytes = if is_v6 { 10_u16 } else { 2 }.to_ne_bytes().to_vec();
    bytes.extend(address(random, is_v6));
    bytes
}

/// One to three of `struct rtnexthop`, each with attributes.
fn hops(random: &mut Random, family: u8) -> Vec<u8> {
    let mut hops = Vec::new();
    for _ in 0..=random.below(3) {
        let mut attributes = Vec::new();
        let (number, value) = match random.below(3) {
            0 => (11, vec![0; 4]), // realms
            1 if family != MPLS => (5, address(random, family == 10)),
            _ => (18, via(random, family)),
        };
        let length = u16::try_from(4 + value.len()).expect("short");
        attributes.extend(length.to_ne_bytes());
        attributes.extend(u16::to_ne_bytes(number));
        attributes.extend(value);
        let length = u16::try_from(8 + attributes.len()).expect("short");
        hops.extend(length.to_ne_bytes());
        hops.extend([0, random.byte()]);
        hops.extend(one(random, DEVICES).to_ne_bytes());
        hops.extend(attributes);
        hops.resize(hops.len().next_multiple_of(4), 0);
    }
    hops
}

/// What a message says.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub message_type: u16,
    pub flags: u16,
    pub port_id: u32,
    pub family: u8,
    /// All zeros if it is missing. None if the family has no prefixes.
    pub dst: Option<Vec<u8>>,
    pub dst_length: usize,
    pub table: u32,
    pub protocol: u8,
    pub scope: u8,
    pub route_type: u8,
    pub metric: u32,
    pub gateways: Vec<Vec<u8>>,
    pub devices: Vec<u32>,
    pub has_several_hops: bool,
}

impl Decoded {
    pub fn read(bytes: &[u8]) -> Self {
        let half = |start: usize| u16::from_ne_bytes([bytes[start], bytes[start + 1]]);
        let family = bytes[16];
        let attributes = list(&bytes[28..]);
        let find = |number| {
            let mut attributes = attributes.iter();
            attributes.find_map(|&(found, value)| (found == number).then_some(value))
        };
        let size = match family {
            2 => Some(4),
            10 => Some(16),
            _ => None,
        };
        let mut decoded = Self {
            message_type: half(4),
            flags: half(6),
            port_id: word(&bytes[12..16]),
            family,
            dst: size.map(|size| find(1).map_or(vec![0; size], <[u8]>::to_vec)),
            dst_length: bytes[17].into(),
            table: find(15).map_or(bytes[20].into(), word),
            protocol: bytes[21],
            scope: bytes[22],
            route_type: bytes[23],
            metric: find(6).map_or(0, word),
            gateways: gateways(&attributes),
            devices: find(4).map(word).into_iter().collect(),
            has_several_hops: find(9).is_some(),
        };
        let mut hops = find(9).unwrap_or_default();
        while let [low, high, ..] = *hops {
            let length = usize::from(u16::from_ne_bytes([low, high]));
            decoded.devices.push(word(&hops[4..8]));
            decoded.gateways.extend(gateways(&list(&hops[8..length])));
            hops = &hops[length.next_multiple_of(4)..];
        }
        decoded
    }
}

fn gateways(attributes: &[(u16, &[u8])]) -> Vec<Vec<u8>> {
    let attributes = attributes.iter();
    let gateways = attributes.filter_map(|&(number, value)| match number {
        5 => Some(value.to_vec()),
        18 => Some(value[2..].to_vec()),
        _ => None,
    });
    gateways.collect()
}

fn list(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut attributes = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let number = u16::from_ne_bytes([bytes[2], bytes[3]]) & 0x3fff;
        attributes.push((number, &bytes[4..length]));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    attributes
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
}
