//! Requests, and the kernel's answers. Each test has its own namespace.

mod common;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use nlring::message::flags;
use nlring::{
    Batch, ErrorKind, MessageBuilder, Protocol, RecvFlags, Requester, Socket, route::Route,
};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

/// `struct rtmsg` for a unicast IPv4 route in the main table.
fn rtmsg(prefix_len: u8) -> [u8; 12] {
    [2, prefix_len, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0]
}

/// A route through the loopback interface.
fn route(request: MessageBuilder<'_>, dst: [u8; 4]) -> MessageBuilder<'_> {
    request
        .bytes(&rtmsg(24))
        .attribute(1, &dst)
        .attribute_u32(4, 1)
}

/// An address of the loopback interface.
fn address(request: MessageBuilder<'_>, address: [u8; 4]) -> MessageBuilder<'_> {
    request
        .bytes(&[2, 32, 0, 254, 1, 0, 0, 0])
        .attribute(2, &address)
}

/// A requester in a namespace of its own, whose loopback interface is up.
fn requester() -> Requester {
    common::own_namespace();
    let mut requester = Requester::open(Protocol::ROUTE).expect("a requester");
    requester
        .ask(RTM_NEWLINK, 0, |request| {
            let mut ifinfomsg = [0; 16];
            ifinfomsg[4] = 1;
            ifinfomsg[8] = 1; // IFF_UP
            ifinfomsg[12] = 1;
            request.bytes(&ifinfomsg)
        })
        .expect("the loopback interface up");
    requester
}

/// Adds `count` addresses. A dump of them takes several datagrams.
fn add_addresses(requester: &mut Requester, count: u16) {
    let mut batch = Batch::new();
    for number in 0..count {
        let [a, b] = number.to_be_bytes();
        batch
            .add(RTM_NEWADDR, flags::CREATE | flags::EXCL, |request| {
                address(request, [10, 1, a, b])
            })
            .unwrap();
    }
    batch
        .send(requester, |index, reply| panic!("{index}: {reply:?}"))
        .unwrap();
}

/// Dumps the IPv4 addresses.
fn dump_addresses(
    requester: &mut Requester,
    mut meanwhile: impl FnMut(usize),
) -> nlring::Dump<Vec<Vec<u8>>> {
    let dump = requester.dump(
        RTM_GETADDR,
        |request| request.bytes(&[2, 0, 0, 0, 0, 0, 0, 0]),
        |addresses: &mut Vec<_>, message| {
            meanwhile(addresses.len());
            let address = message.attributes(8).get(2).expect("IFA_LOCAL");
            addresses.push(address.bytes().to_vec());
        },
    );
    dump.expect("a dump")
}

#[test]
fn a_request_is_done_when_it_returns() {
    let mut requester = requester();
    let create = flags::CREATE | flags::EXCL;
    let ask = requester.ask(RTM_NEWROUTE, create, |request| {
        route(request, [10, 9, 8, 0])
    });
    ask.expect("a route added");
    let dump = requester.dump(
        RTM_GETROUTE,
        |request| request.bytes(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        |found: &mut bool, message| {
            let route = Route::decode(message).expect("a route");
            *found |= route.dst.and_then(|dst| dst.ip()) == Some([10, 9, 8, 0].into());
        },
    );
    let dump = dump.expect("a dump");
    assert!(dump.items);
    assert_eq!((dump.is_interrupted, dump.attempts), (false, 1));
}

#[test]
fn a_refusal_has_the_kernels_number_words_and_offset() {
    let mut requester = requester();
    let create = flags::CREATE | flags::EXCL;
    requester
        .ask(RTM_NEWROUTE, create, route_to_ten)
        .expect("added");
    let again = requester
        .ask(RTM_NEWROUTE, create, route_to_ten)
        .unwrap_err();
    assert_eq!(again.raw_os_error(), Some(libc::EEXIST), "{again}");

    // 10.0.0.1/24 has bits beyond its prefix.
    let wrong = requester
        .ask(RTM_NEWROUTE, create, |request| {
            route(request, [10, 0, 0, 1])
        })
        .unwrap_err();
    assert_eq!(wrong.raw_os_error(), Some(libc::EINVAL), "{wrong}");
    assert_eq!(
        wrong.kernel_text(),
        Some("Invalid prefix for given prefix length")
    );

    // An interface's index has four bytes. The attribute comes after 16 bytes of header, 12 of rtmsg and 8 of another.
    let wrong = requester
        .ask(RTM_NEWROUTE, create, |request| {
            let request = request.bytes(&rtmsg(24)).attribute(1, &[10, 0, 1, 0]);
            request.attribute_u8(4, 1)
        })
        .unwrap_err();
    assert_eq!(wrong.offset_bytes(), Some(36), "{wrong}");
    assert!(wrong.to_string().contains("byte 36"), "{wrong}");
}

fn route_to_ten(request: MessageBuilder<'_>) -> MessageBuilder<'_> {
    route(request, [10, 0, 0, 0])
}

#[test]
fn a_batch_ties_each_refusal_to_its_request() {
    let mut requester = requester();
    let mut batch = Batch::new();
    assert!(batch.is_empty());
    for number in 0..300u16 {
        // Every third request repeats the one before it.
        let [a, b] = (number - u16::from(number % 3 == 2)).to_be_bytes();
        batch
            .add(RTM_NEWROUTE, flags::CREATE | flags::EXCL, |request| {
                route(request, [10, a, b, 0])
            })
            .unwrap();
    }
    assert_eq!((batch.len(), batch.requests().count()), (300, 300));
    let mut refused = Vec::new();
    batch
        .send(&mut requester, |index, reply| {
            assert_eq!(reply.unwrap_err().raw_os_error(), Some(libc::EEXIST));
            refused.push(index);
        })
        .unwrap();
    assert!(batch.is_empty());
    batch
        .send(&mut requester, |_, _| panic!("nothing was sent"))
        .unwrap();
    assert_eq!(refused, (0..300).filter(|n| n % 3 == 2).collect::<Vec<_>>());
    assert_eq!(count_routes(&mut requester), 200);
}

/// The routes in the main table.
fn count_routes(requester: &mut Requester) -> usize {
    let dump = requester.dump(
        RTM_GETROUTE,
        |request| {
            request
                .bytes(&[2, 0, 0, 0, 254, 0, 0, 0, 0, 0, 0, 0])
                .attribute_u32(15, 254)
        },
        |count: &mut usize, _| *count += 1,
    );
    dump.expect("a dump").items
}

#[test]
fn a_batch_of_large_requests_goes_in_several_datagrams() {
    let mut requester = requester();
    // The kernel ignores unknown attributes. A send buffer does not hold 60 such requests at once.
    let padding = vec![0; 16 << 10];
    let mut batch = Batch::new();
    for number in 0..60 {
        batch
            .add(RTM_NEWROUTE, flags::CREATE | flags::EXCL, |request| {
                route(request, [10, 0, number, 0]).attribute(1000, &padding)
            })
            .unwrap();
    }
    batch
        .send(&mut requester, |index, reply| panic!("{index}: {reply:?}"))
        .unwrap();
    assert_eq!(count_routes(&mut requester), 60);
}

#[test]
fn a_request_that_cannot_be_built_is_not_part_of_its_batch() {
    let mut requester = requester();
    let too_long = vec![0; 70_000];
    let mut batch = Batch::new();
    let first = batch.add(RTM_NEWROUTE, flags::CREATE, route_to_ten);
    first.unwrap();
    let wrong = batch.add(RTM_NEWROUTE, flags::CREATE, |request| {
        route_to_ten(request).attribute(1000, &too_long)
    });
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::InvalidInput);
    batch
        .add(RTM_NEWROUTE, flags::CREATE | flags::EXCL, route_to_ten)
        .unwrap();
    let mut refused = Vec::new();
    batch
        .send(&mut requester, |index, reply| {
            refused.push((index, reply.unwrap_err().raw_os_error()));
        })
        .unwrap();
    assert_eq!(refused, [(1, Some(libc::EEXIST))]);
}

/// Makes the kernel drop every datagram for this socket, or none.
fn drop_all(socket: &Socket, on: bool) {
    if on {
        let program = libc::sock_filter {
            code: 6, // BPF_RET | BPF_K: 0 drops
            jt: 0,
            jf: 0,
            k: 0,
        };
        common::attach_filter(socket, &[program]);
    } else {
        socket
            .set_option(libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &[0; 4])
            .expect("no filter");
    }
}

#[test]
fn a_reply_that_does_not_come_is_a_timeout_and_the_next_request_works() {
    let mut requester = requester();
    requester.set_timeout(Duration::from_millis(50));
    drop_all(requester.socket(), true);
    let start = Instant::now();
    let error = requester
        .ask(RTM_NEWROUTE, flags::CREATE, route_to_ten)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(
        error.to_string(),
        "wait for the kernel's reply: the kernel did not reply in time"
    );
    assert!(start.elapsed() >= Duration::from_millis(50));
    drop_all(requester.socket(), false);
    let again = requester.ask(RTM_NEWROUTE, flags::CREATE | flags::EXCL, route_to_ten);
    assert_eq!(
        again.unwrap_err().raw_os_error(),
        Some(libc::EEXIST),
        "the kernel carried out the first request"
    );
}

#[test]
fn forged_replies_do_not_arrive() {
    let mut requester = requester();
    requester
        .ask(RTM_NEWROUTE, flags::CREATE, route_to_ten)
        .unwrap();
    let port_id = requester.socket().port_id().unwrap();
    let forger = Socket::builder(Protocol::ROUTE).open().unwrap();
    let mut replies = Vec::new();
    for sequence in 2..5 {
        MessageBuilder::new(&mut replies, nlring::message::ERROR, 0)
            .sequence(sequence)
            .port_id(port_id)
            .bytes(&[0; 20])
            .finish()
            .unwrap();
    }
    let sent = forger.send_to(&replies, port_id, 0);
    assert_eq!(
        sent.unwrap_err().raw_os_error(),
        Some(libc::ECONNREFUSED),
        "the socket is connected to the kernel"
    );
    let again = requester.ask(RTM_NEWROUTE, flags::CREATE | flags::EXCL, route_to_ten);
    assert_eq!(again.unwrap_err().raw_os_error(), Some(libc::EEXIST));
}

#[test]
fn the_rest_of_earlier_replies_is_skipped() {
    let mut requester = requester();
    add_addresses(&mut requester, 2000);
    for read in [0, 1, 70] {
        let mut replies = requester
            .send(RTM_GETADDR, flags::DUMP, |request| {
                request.bytes(&[2, 0, 0, 0, 0, 0, 0, 0])
            })
            .unwrap();
        for _ in 0..read {
            assert!(replies.next_message().unwrap().is_some());
        }
        // The kernel refuses a dump while another one runs on the same socket.
        let dump = dump_addresses(&mut requester, |_| {});
        assert_eq!(dump.items.len(), 2001, "after {read} replies were read");
        assert!(!dump.is_interrupted);
    }
    // It allows other requests. A single request and a batch both get their own answers.
    begin_dump(&mut requester);
    let missing = requester.ask(RTM_GETLINK, 0, |request| {
        request.bytes(&[0; 16]).attribute_str_nul(3, "none")
    });
    assert_eq!(missing.unwrap_err().raw_os_error(), Some(libc::ENODEV));
    begin_dump(&mut requester);
    let mut batch = Batch::new();
    batch
        .add(RTM_DELADDR, 0, |request| address(request, [10, 2, 0, 0]))
        .unwrap();
    let mut refused = Vec::new();
    batch
        .send(&mut requester, |index, reply| {
            refused.push((index, reply.unwrap_err().raw_os_error()));
        })
        .unwrap();
    assert_eq!(refused, [(0, Some(libc::EADDRNOTAVAIL))]);
}

#[test]
fn replies_that_were_lost_are_an_error_and_the_next_request_goes_on() {
    let mut requester = requester();
    let _ = requester.socket().set_recv_buffer_bytes(1).unwrap(); // the kernel gives 2,304
    let mut batch = Batch::new();
    for _ in 0..96 {
        batch
            .add(RTM_GETLINK, 0, |request| {
                request.bytes(&[0; 16]).attribute_str_nul(3, "lo")
            })
            .unwrap();
    }
    let mut count = 0;
    let sent = batch.send(&mut requester, |_, _| count += 1);
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::Overrun);
    for _ in 0..2 {
        let missing = requester.ask(RTM_GETLINK, 0, |request| {
            request.bytes(&[0; 16]).attribute_str_nul(3, "none")
        });
        assert_eq!(missing.unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
    assert!(count < 96);
}

#[test]
fn replies_end_once_and_stay_at_their_end() {
    let mut requester = requester();
    let mut replies = requester
        .send(RTM_GETLINK, 0, |request| {
            request.bytes(&[0; 16]).attribute_str_nul(3, "lo")
        })
        .unwrap();
    let message = replies.next_message().unwrap().expect("the link");
    assert_eq!(message.message_type(), RTM_NEWLINK);
    assert!(replies.next_message().unwrap().is_none());
    assert!(replies.next_message().unwrap().is_none());
    let mut buffer = [0; 64];
    let left = requester.socket().recv(&mut buffer, RecvFlags::DONT_WAIT);
    assert_eq!(left.unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// Begins a dump of the IPv4 addresses, and reads none of it.
fn begin_dump(requester: &mut Requester) {
    let replies = requester.send(RTM_GETADDR, flags::DUMP, |request| {
        request.bytes(&[2, 0, 0, 0, 0, 0, 0, 0])
    });
    assert!(replies.is_ok());
}

/// Adds and removes an address, which interrupts all dumps of addresses that have begun.
fn change_addresses(other: &mut Requester) {
    for (message_type, flags) in [(RTM_NEWADDR, flags::CREATE), (RTM_DELADDR, 0)] {
        other
            .ask(message_type, flags, |request| {
                address(request, [10, 200, 0, 1])
            })
            .expect("an address changed");
    }
}

#[test]
fn a_change_interrupts_a_dump_that_is_read_slowly() {
    let mut requester = requester();
    add_addresses(&mut requester, 2500);
    let mut other = Requester::open(Protocol::ROUTE).unwrap();
    let mut replies = requester
        .send(RTM_GETADDR, flags::DUMP, |request| {
            request.bytes(&[2, 0, 0, 0, 0, 0, 0, 0])
        })
        .unwrap();
    assert!(replies.next_message().unwrap().is_some());
    assert!(!replies.is_interrupted());
    change_addresses(&mut other);
    let mut count = 1;
    let mut message_count_until_interrupted = None;
    while replies.next_message().unwrap().is_some() {
        count += 1;
        if replies.is_interrupted() {
            message_count_until_interrupted.get_or_insert(count);
        }
    }
    assert!(replies.is_interrupted());
    assert_eq!(count, 2501, "the dump delivers all its data");
    assert!(message_count_until_interrupted.unwrap() < 2501);
}

#[test]
fn an_interrupted_dump_is_begun_again() {
    let mut requester = requester();
    add_addresses(&mut requester, 2500);
    let mut other = Requester::open(Protocol::ROUTE).unwrap();
    let mut is_quiet = false;
    let dump = dump_addresses(&mut requester, |_| {
        if !is_quiet {
            change_addresses(&mut other);
            is_quiet = true;
        }
    });
    assert_eq!((dump.is_interrupted, dump.attempts), (false, 2));
    let mut items = dump.items;
    assert_eq!(items.len(), 2501, "only the items of the last attempt");
    items.sort();
    items.dedup();
    assert_eq!(items.len(), 2501);
    assert!(items.contains(&Ipv4Addr::new(10, 1, 9, 195).octets().to_vec()));
}

#[test]
fn a_dump_under_constant_change_ends_with_an_error() {
    let mut requester = requester();
    add_addresses(&mut requester, 2500);
    let mut other = Requester::open(Protocol::ROUTE).unwrap();
    for retries in [0, 3] {
        requester.set_dump_retries(retries);
        let start = Instant::now();
        let dump = dump_addresses(&mut requester, |count| {
            if count % 100 == 0 {
                change_addresses(&mut other);
            }
        });
        assert_eq!((dump.is_interrupted, dump.attempts), (true, retries + 1));
        assert!(dump.items.len() >= 2501);
        let pauses = Duration::from_millis(if retries == 0 { 0 } else { 10 + 20 + 40 });
        let took = start.elapsed();
        assert!(took >= pauses && took < common::PATIENCE, "{took:?}");
    }
}
