//! Random and mutated captures: what Linux sent, what is built like it, and both with damage.

use nlring_testing::{Random, datagrams, events};

/// Datagrams of one or more messages.
pub fn any(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(3) {
        bytes.extend(message(random));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    damage(random, &mut bytes);
    bytes
}

/// Answers to a request, and data among them. The lengths of most fit.
pub fn replies(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(3) {
        let mut message = match random.below(16) {
            0 => message(random),
            1..4 => answer(random),
            _ => data(random),
        };
        if random.one_in(20) {
            let at = 4 + random.index(12); // anything in the header but the length
            message[at] = random.byte();
        }
        bytes.extend(message);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    if random.one_in(20) {
        damage(random, &mut bytes);
    }
    bytes
}

/// An event as a dump or an answer brings it.
fn data(random: &mut Random) -> Vec<u8> {
    let mut bytes = match random.below(3) {
        0 => event_of_a_flow(random),
        1 => events::route(u8::try_from(1 + random.below(4)).expect("few")),
        _ => datagrams::route::ALL[random.index(12)].to_vec(),
    };
    address(random, &mut bytes);
    let place = 16 + random.index(bytes.len() - 16);
    bytes[place] = random.byte();
    bytes
}

/// An end or an acknowledgement, as the kernel sends it.
fn answer(random: &mut Random) -> Vec<u8> {
    let (message_type, flags, payload) = match random.below(4) {
        0 => (3_u16, 2_u16, 4), // NLMSG_DONE of a dump
        1 => (1, 0, 0),         // NLMSG_NOOP
        _ => (2, [0, 0x100][random.index(2)], 20),
    };
    let mut bytes = (16_u32 + payload).to_ne_bytes().to_vec();
    bytes.extend(message_type.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.resize(bytes.len() + payload as usize, 0);
    if message_type == 2 {
        let errno = [0_i32, -1, -17, -100][random.index(4)];
        bytes[16..20].copy_from_slice(&errno.to_ne_bytes());
    }
    address(random, &mut bytes);
    bytes
}

/// Makes it a reply to the request, with few exceptions.
fn address(random: &mut Random, bytes: &mut [u8]) {
    let sequence = [5_u32, 6][usize::from(random.one_in(30))];
    let port_id = [77_u32, 1][usize::from(random.one_in(30))];
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    bytes[12..16].copy_from_slice(&port_id.to_ne_bytes());
}

pub fn event_of_a_flow(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => events::flow_begins(),
        1 => events::flow_ends(),
        _ => datagrams::conntrack::ALL[random.index(5)].to_vec(),
    }
}

fn message(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => event_of_a_flow(random),
        1 => events::route(u8::try_from(1 + random.below(4)).expect("few")),
        2 => datagrams::route::ALL[random.index(12)].to_vec(),
        _ => control(random),
    }
}

/// An answer: an error, an acknowledgement, the end of a dump and the like.
fn control(random: &mut Random) -> Vec<u8> {
    let payload_length = [0, 4, 16, 20, 20, 20, 40][random.index(7)];
    let message_type = [1_u16, 2, 2, 2, 3, 4, 5, 15, 16][random.index(9)];
    let flags = [0_u16, 2, 2, 0x10, 0x100, 0x200][random.index(6)];
    let sequence = [0_u32, 4, 5, 5, 5, 6][random.index(6)];
    let port_id = [0_u32, 77, 77, 77, 1][random.index(5)];
    let length = 16 + u32::try_from(payload_length).expect("short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(message_type.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(port_id.to_ne_bytes());
    bytes.resize(16 + payload_length, 0);
    if payload_length >= 4 {
        let errno = [0_i32, 0, -1, -17, -100, 5][random.index(6)];
        bytes[16..20].copy_from_slice(&errno.to_ne_bytes());
    }
    bytes
}

pub fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let place = random.index(bytes.len());
        match random.below(6) {
            0 => bytes[place] = random.byte(),
            1 => bytes[place] ^= 1 << random.below(8),
            2 => bytes.truncate(place),
            3 => _ = bytes.drain(place..bytes.len().min(place + 4)),
            4 => {
                // A part again, so that an attribute may be there twice.
                let start = place & !3;
                let part = bytes[start..bytes.len().min(start + 8)].to_vec();
                let at = (random.index(bytes.len()) & !3).min(bytes.len());
                bytes.splice(at..at, part);
            }
            _ => bytes[place] = [0, 1, 4, 5, 8, 0x7f, 0x80, 0xff][random.index(8)],
        }
    }
}
