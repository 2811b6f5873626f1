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

/// A conntrack event, damaged or not, whose length in the header fits.
pub fn flow(random: &mut Random) -> Vec<u8> {
    let mut bytes = event_of_a_flow(random);
    let whole = bytes.len();
    damage(random, &mut bytes);
    bytes.truncate(whole);
    bytes.resize(bytes.len().max(20), 0);
    let length = u32::try_from(bytes.len()).expect("short");
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..8].copy_from_slice(&[[0, 1, 0, 6], [0, 1, 0, 0], [2, 1, 0, 0]][random.index(3)]);
    bytes
}

fn event_of_a_flow(random: &mut Random) -> Vec<u8> {
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

fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
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
