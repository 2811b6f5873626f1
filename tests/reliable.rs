//! A reliable socket gets every DESTROY event of conntrack, even though its receive buffer holds only a few.

mod common;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{PATIENCE, Tally, own_namespace, request, turn_until_idle};
use nlring::EventKind;
use nlring::conntrack::{Flow, Group};
use nlring::message::flags;
use nlring::{Backend, Engine, Event, MessageBuilder, Protocol, Running, Socket, SocketId};

on_each_backend!(
    every_destroy_reaches_a_reliable_socket,
    a_plain_socket_loses_some_of_them,
);

const FLOW_COUNT: u32 = 2000;
/// Room for about thirty events.
const TINY_BYTES: usize = 16 << 10;

/// The ends of flows that were received.
#[derive(Default)]
struct Received {
    distinct: HashSet<Ipv4Addr>,
    destroy_count: usize,
    tally: Tally,
}

impl Received {
    /// Notes an event, slowly.
    fn note(&mut self, event: Event<'_>) {
        if let Event::Messages(_, list) = &event {
            for message in list {
                let flow = Flow::decode(&message).expect("a flow");
                assert_eq!(flow.kind, EventKind::Delete);
                let std::net::IpAddr::V4(src) = flow.orig.src else {
                    panic!("{flow:?}");
                };
                self.distinct.insert(src);
                self.destroy_count += 1;
            }
            sleep(Duration::from_micros(500));
        }
        self.tally.note(event);
    }

    fn turn(&mut self, running: &mut Running) {
        let _ = running
            .poll(Some(Duration::from_millis(20)), |event, _| {
                self.note(event);
                ControlFlow::<()>::Continue(())
            })
            .expect("a turn");
    }
}

fn put_tuple(tuple: MessageBuilder<'_>, src: Ipv4Addr, dst: Ipv4Addr) -> MessageBuilder<'_> {
    tuple
        .nested(1, |ip| {
            ip.attribute(1, &src.octets()).attribute(2, &dst.octets())
        })
        .nested(2, |protocol| {
            let protocol = protocol.attribute_u8(1, 17); // UDP
            protocol.attribute_be16(2, 4000).attribute_be16(3, 4000)
        })
}

/// Makes entries. Each will have an event at its end, because somebody listens now.
fn make_flows(requests: &Socket) {
    let dst = Ipv4Addr::new(198, 18, 0, 1);
    for number in 1..=FLOW_COUNT {
        let src = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number);
        let create = flags::CREATE | flags::EXCL;
        let made = request(requests, 0x100, create, &[2, 0, 0, 0], |message| {
            message
                .nested(1, |orig| put_tuple(orig, src, dst))
                .nested(2, |reply| put_tuple(reply, dst, src))
                .attribute_be32(7, 600)
        });
        made.expect("an entry");
    }
}

/// Destroys all flows by one request, while nobody receives.
fn destroy_flows(running: &Running, id: SocketId) {
    let requests = Socket::builder(Protocol::NETFILTER).open().unwrap();
    make_flows(&requests);
    request(&requests, 0x102, 0, &[2, 0, 0, 0], |message| message).expect("a flush");
    assert!(
        running.socket(id).unwrap().drops().unwrap() > 1000,
        "it was too much for the buffer"
    );
}

fn start(backend: Backend, reliable: bool) -> (Running, SocketId) {
    let socket = Socket::builder(Protocol::NETFILTER)
        .group(Group::Destroy)
        .recv_buffer_bytes(TINY_BYTES)
        .reliable(reliable)
        .open()
        .unwrap();
    common::start(
        &Engine::builder().backend(backend),
        socket,
        nlring::AddOptions::new(),
    )
}

fn every_destroy_reaches_a_reliable_socket(backend: Backend) {
    own_namespace();
    let (mut running, id) = start(backend, true);
    destroy_flows(&running, id);
    let mut received = Received::default();
    let deadline = Instant::now() + PATIENCE;
    while received.distinct.len() < FLOW_COUNT as usize {
        assert!(Instant::now() < deadline, "{}", received.distinct.len());
        received.turn(&mut running);
    }
    turn_until_idle(&mut running, &mut received.tally);
    let statistics = running.statistics(id).unwrap();
    assert_eq!((statistics.dropped, received.tally.lost.len()), (0, 0));
    assert!(statistics.delivery_failures > 1000, "{statistics:?}");
    let reported: u64 = received.tally.delayed.iter().map(|loss| loss.count).sum();
    assert_eq!(reported, statistics.delivery_failures);
    // No other socket missed an event, so none came twice.
    assert_eq!(statistics.received, u64::from(FLOW_COUNT));
    assert_eq!(received.destroy_count, FLOW_COUNT as usize);
}

fn a_plain_socket_loses_some_of_them(backend: Backend) {
    own_namespace();
    let (mut running, id) = start(backend, false);
    destroy_flows(&running, id);
    let mut received = Received::default();
    let deadline = Instant::now() + PATIENCE;
    let is_done = |running: &Running| {
        let statistics = running.statistics(id).unwrap();
        statistics.received + statistics.dropped == u64::from(FLOW_COUNT)
    };
    while !is_done(&running) {
        assert!(Instant::now() < deadline, "{:?}", running.statistics(id));
        received.turn(&mut running);
    }
    // The kernel does not try again.
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        received.turn(&mut running);
    }
    let statistics = running.statistics(id).unwrap();
    assert!(statistics.dropped > 1000, "{statistics:?}");
    assert_eq!(received.tally.lost_count(), statistics.dropped);
    assert_eq!(received.distinct.len() as u64, statistics.received);
    assert_eq!(
        (statistics.delivery_failures, received.tally.delayed.len()),
        (0, 0)
    );
}
