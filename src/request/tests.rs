//! Tests how the requester reads datagrams, without a kernel that sends them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;
use crate::message::{DONE, ERROR, OVERRUN};

const PORT_ID: u32 = 77;
const DATA: u16 = 24;
const LOOK: fn() -> Patience = || Patience::Look(Instant::now() + TIMEOUT);

/// A message of a type, with flags, a sequence number and a payload.
fn message(message_type: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    MessageBuilder::new(&mut bytes, message_type, flags)
        .sequence(sequence)
        .port_id(PORT_ID)
        .bytes(payload)
        .finish()
        .unwrap();
    bytes
}

/// `struct nlmsgerr` with the request's header, or the whole of it.
fn refusal(errno: i32, request: &[u8]) -> Vec<u8> {
    [&(-errno).to_ne_bytes()[..], request].concat()
}

fn request(sequence: u32) -> Vec<u8> {
    message(DATA, flags::REQUEST, sequence, &[9; 12])
}

#[test]
fn sequence_numbers_are_never_0_and_start_again_before_they_wrap() {
    let mut requester = Requester::open(Protocol::ROUTE).unwrap();
    assert_eq!((requester.next_sequence(1), requester.sequence), (1, 0));
    requester.sequence = u32::MAX - 3;
    assert_eq!(requester.next_sequence(3), u32::MAX - 2);
    assert_eq!(requester.next_sequence(4), 1);
    // Replies to requests with the old numbers are skipped. They are not errors.
    let exchange = requester.expect(1, 4, false);
    assert_eq!(
        (exchange.index_of(1), exchange.index_of(4)),
        (Some(0), Some(3))
    );
    assert_eq!(
        (exchange.index_of(0), exchange.index_of(u32::MAX)),
        (None, None)
    );
}

/// Makes the requester look as if it had received a datagram, and waits for the replies to 5 and 6.
fn received(requester: &mut Requester, datagram: &[u8]) -> Exchange {
    requester.port_id = PORT_ID;
    requester.replies[..datagram.len()].copy_from_slice(datagram);
    let exchange = requester.expect(5, 6, false);
    requester.left = 0..datagram.len();
    exchange
}

#[test]
fn one_datagram_may_hold_several_replies() {
    let mut requester = Requester::open(Protocol::ROUTE).unwrap();
    let datagram = [
        message(DATA, 0, 5, b"abcde"),
        message(ERROR, 0, 5, &refusal(libc::EEXIST, &request(5))),
        message(DATA, 0, 6, &[]),
        message(ERROR, 0, 6, &refusal(0, &request(6))),
    ]
    .concat();
    let mut exchange = received(&mut requester, &datagram);
    let mut step = || {
        let step = requester.step(&mut exchange, LOOK());
        step.unwrap()
            .map(|(index, reply)| (index, reply.map_err(|error| error.raw_os_error())))
    };
    assert_eq!(step(), Some((0, Ok(0..24))));
    assert_eq!(step(), Some((0, Err(Some(libc::EEXIST)))));
    assert_eq!(
        step().map(|(index, reply)| (index, reply.is_ok())),
        Some((1, true))
    );
    assert_eq!(step(), None);
    assert_eq!(step(), None);
    assert!(requester.unfinished.is_none());
}

#[test]
fn a_malformed_rest_is_an_error_and_the_next_receive_goes_on() {
    let mut requester = Requester::open(Protocol::ROUTE).unwrap();
    let mut datagram = message(DATA, 0, 5, &[]);
    datagram.extend_from_slice(&[200, 0, 0, 0, 0, 0, 0]);
    let mut exchange = received(&mut requester, &datagram);
    let first = requester.next(&mut exchange, LOOK());
    assert!(first.unwrap().is_some());
    let rest = requester.next(&mut exchange, LOOK());
    assert_eq!(rest.unwrap_err().kind(), ErrorKind::UnexpectedReply);
    let more = requester.next(&mut exchange, LOOK());
    assert_eq!(more.unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_receive_ends_in_time_while_strangers_send() {
    const GROUP: u32 = 23;
    let mut requester = Requester::open(Protocol::USERSOCK).unwrap();
    requester.socket.add_membership(GROUP).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let stranger = Socket::open(Protocol::USERSOCK).unwrap();
            let start = Instant::now();
            while !is_over.load(Ordering::Relaxed) && start.elapsed() < 4 * TIMEOUT {
                // It is also sent to the kernel, which does not listen on this protocol.
                let _ = stranger.send_to(&message(DATA, 0, 5, &[]), 0, 1 << (GROUP - 1));
            }
        });
        let mut exchange = requester.expect(5, 5, true);
        for _ in 0..3 {
            let look = Patience::Look(Instant::now() + Duration::from_millis(1));
            let looked = requester.next(&mut exchange, look).unwrap_err();
            assert_eq!(looked.kind(), ErrorKind::WouldBlock, "{looked}");
        }
        let was_over = is_over.swap(true, Ordering::Relaxed);
        assert!(!was_over, "the receive ends while the stranger sends");
    });
}

/// The bytes are nearly replies, so that they reach every part of the parser.
fn nearly_replies(random: &mut nlring_testing::Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=random.index(4) {
        let payload: Vec<u8> = (0..random.index(60)).map(|_| random.byte()).collect();
        let message_type = [NOOP, ERROR, DONE, OVERRUN, DATA, 0][random.index(6)];
        let message_flags = u16::from_ne_bytes([random.byte(), random.byte()]);
        let sequence = [4, 5, 6, 0][random.index(4)];
        bytes.extend(message(message_type, message_flags, sequence, &payload));
    }
    for _ in 0..random.index(4) {
        let at = random.index(bytes.len());
        bytes[at] = random.byte();
    }
    bytes.truncate(bytes.len() - random.index(8).min(bytes.len()));
    bytes
}

#[test]
fn no_bytes_cause_a_panic() {
    let mut requester = Requester::open(Protocol::ROUTE).unwrap();
    let mut random = nlring_testing::Random::new(1);
    let (mut data, mut refused, mut ended, mut failed) = (0, 0, 0, 0);
    for _ in 0..10_000 {
        let datagram = nearly_replies(&mut random);
        let mut exchange = received(&mut requester, &datagram);
        for _ in 0..10 {
            match requester.step(&mut exchange, LOOK()) {
                Ok(Some((index, Ok(range)))) => {
                    assert!(index < 2 && range.end <= datagram.len());
                    assert!(requester.message_at(range).is_some());
                    data += 1;
                }
                Ok(Some((_, Err(error)))) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
                Ok(None) => {
                    ended += 1;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => failed += 1,
            }
        }
    }
    for count in [data, refused, ended, failed] {
        assert!(count > 500, "{:?}", (data, refused, ended, failed));
    }
}
