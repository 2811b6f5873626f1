//! Filters on sockets: when they begin, when they are replaced, and when the kernel refuses them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nlring::conntrack::{Filter, Flow, Group, Key, Layer4, NewFlow, Requests, Tuple};
use nlring::filter::{Instruction, Program};
use nlring::{Backend, Engine, Event, MessageBuilder, Protocol, RecvFlags, Socket};

use super::common::{self, any_sender, listener, own_namespace};

fn program(text: &str) -> Program {
    let filter: Filter = text.parse().expect("a filter");
    filter.program().expect("a program")
}

/// An event of a flow to a port.
fn event(sequence: u32, port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    MessageBuilder::new(&mut bytes, 0x102, 0)
        .sequence(sequence)
        .bytes(&[2, 0, 0, 0])
        .nested(1, |tuple| {
            let tuple = tuple.nested(1, |ip| {
                ip.attribute(1, &[10, 0, 0, 1]).attribute(2, &[10, 0, 0, 2])
            });
            tuple.nested(2, |protocol| {
                let protocol = protocol.attribute_u8(1, 6);
                protocol.attribute_be16(2, 40_000).attribute_be16(3, port)
            })
        })
        .finish()
        .expect("a short message");
    bytes
}

/// Events to port 1, 2 and 3 in turn come as fast as they can. The filter changes between port 1 and 3 and port 2 and 3
/// all the time: each event to port 3 comes exactly once, in order, and no event comes twice.
fn replacing_a_filter_neither_repeats_nor_loses(backend: Backend) {
    const COUNT: u32 = 300_000;
    own_namespace();
    let programs = [program("dport {1, 3}"), program("dport {2, 3}")];
    let socket = listener(64 << 20);
    socket.set_filter(&programs[0]).expect("attached");
    let is_received = AtomicBool::new(false);
    thread::scope(|scope| {
        let source = scope.spawn(|| {
            let sender = Socket::builder(Protocol::USERSOCK)
                .open()
                .expect("a sender");
            for sequence in 0..COUNT {
                let port = u16::try_from(sequence % 3 + 1).expect("small");
                _ = sender.send_to(&event(sequence, port), 0, 1); // the kernel itself refuses it
            }
            while !is_received.load(Ordering::Relaxed) {
                _ = sender.send_to(&event(COUNT, 3), 0, 1);
                thread::yield_now();
            }
        });
        let builder = Engine::builder().backend(backend);
        let (mut running, id) = common::start(&builder, socket, any_sender());
        let (mut sequences, mut replaced_count) = (Vec::new(), 0);
        common::turn_until_event(&mut running, |event, control| {
            if let Event::Messages(_, list) = event {
                sequences.extend(list.iter().map(|message| message.sequence()));
                replaced_count += 1;
                let program = &programs[replaced_count % 2];
                let socket = control.socket(id).expect("it is there");
                socket.set_filter(program).expect("replaced");
            }
            sequences.last() == Some(&COUNT)
        });
        is_received.store(true, Ordering::Relaxed);
        source.join().expect("the source");
        while sequences.last() == Some(&COUNT) {
            sequences.pop();
        }
        common::assert_ascending(&sequences);
        let by_port = |port| {
            sequences
                .iter()
                .filter(|&&sequence| sequence % 3 + 1 == port)
                .count()
        };
        assert_eq!(by_port(3), COUNT as usize / 3);
        assert!(
            by_port(1) > 100 && by_port(2) > 100,
            "both filters were used"
        );
        assert!(by_port(1) + by_port(2) <= 2 * by_port(3) && replaced_count > 10);
        let statistics = running.statistics(id).expect("it is there");
        assert_eq!(
            statistics.dropped, 0,
            "a filtered event is not a lost event"
        );
    });
}

crate::on_each_backend!(replacing_a_filter_neither_repeats_nor_loses);

/// Adds flows to two ports. Only those to one of them come, and those that come first are filtered too.
#[test]
fn a_socket_of_conntrack_receives_what_matches() {
    own_namespace();
    let socket = Socket::builder(Protocol::NETFILTER)
        .groups([Group::New, Group::Destroy])
        .filter(&program("dport 443 and src 10.0.0.0/8"))
        .nonblocking(true)
        .open()
        .expect("a socket");
    let mut requests = Requests::open().expect("a requester");
    let orig = |host: u8, dst| {
        let ports = Layer4::Ports { src: 40_000, dst };
        Tuple::new([10, 0, 0, host].into(), [192, 0, 2, 1].into(), 6, ports)
    };
    for host in 1..=20 {
        for port in [80, 443] {
            requests
                .add(&NewFlow::new(orig(host, port), 600))
                .expect("added");
        }
    }
    for host in 1..=20 {
        for port in [80, 443] {
            let key = Key {
                orig: orig(host, port),
                zone: None,
            };
            assert!(requests.delete(&key, None).expect("deleted"));
        }
    }
    let mut buffer = vec![0; 8192];
    let mut found = Vec::new();
    while let Ok(list) = socket.recv(&mut buffer, RecvFlags::NONE) {
        found.extend(
            list.iter()
                .filter_map(|message| Some(Flow::decode(&message)?.orig)),
        );
    }
    let expected: Vec<_> = (1..=20).map(|host| orig(host, 443)).collect();
    assert_eq!(found, [&expected[..], &expected[..]].concat());
    assert_eq!(socket.drops().expect("a count"), 0);
}

#[test]
fn a_filter_can_be_removed_and_set_again() {
    own_namespace();
    let socket = listener(1 << 20);
    let sender = Socket::builder(Protocol::USERSOCK)
        .open()
        .expect("a sender");
    let port_id = socket.port_id().expect("its port ID");
    let passes = || {
        sender.send_to(&event(1, 80), port_id, 0).expect("sent");
        socket.recv(&mut [0; 4096], RecvFlags::DONT_WAIT).is_ok()
    };
    socket.clear_filter().expect("there is none");
    assert!(passes());
    socket.set_filter(&program("dport 443")).expect("attached");
    assert!(!passes());
    socket.clear_filter().expect("removed");
    assert!(passes());
    let reject = Instruction {
        code: 6,
        jt: 0,
        jf: 0,
        k: 0,
    };
    socket.attach_program(&[reject]).expect("attached");
    assert!(!passes());
}

#[test]
fn what_the_kernel_refuses_is_an_error_with_a_remedy() {
    own_namespace();
    let socket = listener(1 << 20);
    let instruction = |code, k| Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    for (program, text) in [
        (vec![], "it has no instruction"),
        (
            vec![instruction(6, 0); 4097],
            "the kernel takes at most 4096",
        ),
        (vec![instruction(0xffff, 0)], "an instruction is unknown"),
        (vec![instruction(0, 0)], "the last one is not a return"),
        (
            vec![instruction(0x60, 3), instruction(6, 0)],
            "reads memory that was not written",
        ),
    ] {
        let error = socket.attach_program(&program).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    socket
        .attach_program(&[instruction(6, 1)])
        .expect("attached");
    let locked = 1_i32.to_ne_bytes();
    socket
        .set_option(libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &locked)
        .expect("locked");
    for result in [
        socket.clear_filter(),
        socket.attach_program(&[instruction(6, 0)]),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("SO_LOCK_FILTER"), "{error}");
    }
}
