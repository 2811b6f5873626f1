//! What a fuzzer drives: a requester whose socket has received any bytes.

use std::cell::RefCell;
use std::time::Instant;

use super::exchange::{Exchange, Verdict};
use super::receive::Patience;
use super::{ErrorKind, MessageBuilder, Protocol, Requester};
use crate::fuzzing::{Random, ReplyEnd};
use crate::message::{DONE, ERROR, HEADER_BYTES, Messages, NOOP, OVERRUN, flags};

/// The requests have the sequence numbers from this one on.
const FIRST: u32 = 5;

thread_local! {
    static REQUESTER: RefCell<Requester> = {
        RefCell::new(Requester::open(Protocol::ROUTE).expect("a socket"))
    };
}

/// Reads the replies of several datagrams. Each step takes a message, and none reads beyond its datagram.
pub(crate) fn replies(mut random: Random) {
    REQUESTER.with_borrow_mut(|requester| {
        let request_count = 1 + random.below(3);
        let is_dump = random.one_in(2);
        let mut exchange = requester.expect(FIRST, FIRST + request_count - 1, is_dump);
        exchange.has_barrier = random.one_in(3);
        for _ in 0..=random.below(3) {
            let datagram = any_datagram(&mut random, requester.port_id);
            requester.replies[..datagram.len()].copy_from_slice(&datagram);
            requester.left = 0..datagram.len();
            let mut steps_left = datagram.len() / HEADER_BYTES + 2;
            loop {
                let look = Patience::Look(Instant::now());
                let was_done = exchange.is_done;
                match requester.step(&mut exchange, look) {
                    Ok(Some((index, reply))) => {
                        assert!(!was_done && index < request_count as usize);
                        match reply {
                            Ok(range) => {
                                assert!(range.end <= datagram.len());
                                assert!(requester.message_at(range).is_some());
                            }
                            Err(error) => assert!(!error.to_string().is_empty()),
                        }
                    }
                    Ok(None) => {
                        assert!(exchange.is_done);
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
                steps_left = steps_left
                    .checked_sub(1)
                    .expect("each step takes a message");
            }
        }
        requester.left = 0..0;
        requester.unfinished = None;
    });
}

/// Reads replies as a requester does, without one.
pub(crate) fn read_replies(datagram: &[u8], sequence: u32, port_id: u32) -> (usize, ReplyEnd) {
    let mut exchange = Exchange::new(sequence, sequence, false);
    let mut data_count = 0;
    for message in Messages::new(datagram) {
        match exchange.judge(&message, port_id) {
            Ok(Verdict::Data) => data_count += 1,
            Ok(Verdict::Refused(error)) => {
                return (
                    data_count,
                    ReplyEnd::Refused(error.raw_os_error().unwrap_or(0)),
                );
            }
            Ok(Verdict::Pass) => {}
            Err(_) => return (data_count, ReplyEnd::Unexpected),
        }
        if exchange.is_done {
            return (data_count, ReplyEnd::Done);
        }
    }
    (data_count, ReplyEnd::More)
}

/// Bytes that are nearly replies, so that they reach every part of the reader, or any bytes.
fn any_datagram(random: &mut Random, port_id: u32) -> Vec<u8> {
    let any_bytes = |random: &mut Random, limit: u32| -> Vec<u8> {
        (0..random.below(limit)).map(|_| random.byte()).collect()
    };
    if random.one_in(8) {
        return any_bytes(random, 200);
    }
    let mut bytes = Vec::new();
    for _ in 0..=random.below(4) {
        let message_type = [NOOP, ERROR, DONE, OVERRUN, 24, 0][random.index(6)];
        let all = [
            0,
            flags::MULTI,
            flags::DUMP_INTR,
            flags::CAPPED,
            flags::ACK_TLVS,
        ];
        let message_flags = (0..3).fold(0, |set, _| set | all[random.index(5)]);
        let payload = any_bytes(random, 60);
        let errno = i32::from(random.byte()) - 100;
        let is_wrong_port = random.one_in(10);
        MessageBuilder::new(&mut bytes, message_type, message_flags)
            .sequence([4, 5, 6, 7, 8, 0][random.index(6)])
            .port_id(if is_wrong_port { 1 } else { port_id })
            .bytes(&errno.to_ne_bytes())
            .bytes(&payload)
            .finish()
            .expect("a short message");
    }
    for _ in 0..random.below(3) {
        let place = random.index(bytes.len());
        bytes[place] = random.byte();
    }
    bytes.truncate(bytes.len() - random.index(8).min(bytes.len()));
    bytes
}
