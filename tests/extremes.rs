//! The largest and smallest numbers that safe code can pass. Those that are accepted work, and nothing overflows.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::time::Duration;

use nlring::message::{NOOP, flags};
use nlring::{
    AddOptions, Backend, Engine, Event, MessageBuilder, Protocol, Requester, Socket, Wait, route,
};

const BACKENDS: [Backend; 4] = [
    Backend::Multishot,
    Backend::Oneshot { depth: 1 },
    Backend::Oneshot {
        depth: Backend::MAX_DEPTH,
    },
    Backend::Recvmmsg,
];

/// A socket to which the kernel has sent `count` acknowledgements.
fn socket_with_datagrams(count: u32) -> Socket {
    let socket = Socket::builder(Protocol::ROUTE).open().expect("a socket");
    for sequence in 0..count {
        let mut request = Vec::new();
        MessageBuilder::new(&mut request, NOOP, flags::REQUEST | flags::ACK)
            .sequence(sequence)
            .finish()
            .expect("a request");
        socket.send(&request).expect("sent");
    }
    socket
}

/// Receives `count` datagrams of 36 bytes, whole or truncated.
fn receive(backend: Backend, completion_entries: u32, wait: Wait, options: AddOptions, count: u32) {
    let engine = Engine::builder()
        .backend(backend)
        .completion_entries(completion_entries)
        .wait(wait)
        .build();
    let mut engine = engine.unwrap_or_else(|error| panic!("{completion_entries} entries: {error}"));
    engine
        .add_with(socket_with_datagrams(count), options)
        .expect("added");
    let mut running = engine.start().expect("started");
    let mut sequences = Vec::new();
    let mut truncated_count = 0;
    while sequences.len() + truncated_count < count as usize {
        let turn = running.poll(Some(Duration::MAX), |event, _| {
            match event {
                Event::Messages(_, list) => {
                    sequences.extend(list.iter().map(|message| message.sequence()));
                }
                Event::Notice(_, nlring::Notice::Truncated { real_bytes, .. }) => {
                    assert_eq!(real_bytes, 36);
                    truncated_count += 1;
                }
                Event::Notice(_, nlring::Notice::Starved) => {}
                event => panic!("{backend}, {options:?}: {event:?}"),
            }
            ControlFlow::<()>::Continue(())
        });
        let _ = turn.expect("a turn");
    }
    if truncated_count == 0 {
        assert!(sequences.iter().copied().eq(0..count), "{sequences:?}");
    }
}

#[test]
fn the_smallest_and_the_largest_buffers_work() {
    for backend in BACKENDS {
        for (buffer_count, buffer_bytes) in [
            (1, 1),
            (1, 1 << 30),
            (2, 36),
            (16, 1 << 30), // packed
            (1 << 15, 1),
            (1 << 15, 1 << 20),
        ] {
            let options = AddOptions::new()
                .buffer_count(buffer_count)
                .buffer_bytes(buffer_bytes);
            receive(backend, 64, Wait::Prompt, options, 5);
        }
    }
}

#[test]
fn the_smallest_and_the_largest_completion_queue_work() {
    for backend in BACKENDS {
        for completion_entries in [1, 2, u32::MAX] {
            let options = AddOptions::new().buffer_count(2);
            receive(backend, completion_entries, Wait::Prompt, options, 20);
        }
    }
}

#[test]
fn the_longest_times_do_not_overflow() {
    for backend in BACKENDS {
        let wait = Wait::Batch(Duration::MAX);
        receive(backend, 64, wait, AddOptions::new(), 5);
    }
    let socket = socket_with_datagrams(1);
    socket.set_recv_timeout(Some(Duration::MAX)).expect("set");
    let mut buffer = [0; 64];
    socket
        .recv(&mut buffer, nlring::RecvFlags::NONE)
        .expect("received");
    let mut requester = Requester::open(Protocol::ROUTE).expect("a requester");
    requester.set_timeout(Duration::MAX);
    let reply = requester.ask(NOOP, 0, |request| request);
    assert!(reply.is_ok(), "{reply:?}");
}

#[test]
fn the_largest_addresses_are_accepted() {
    let socket = Socket::open(Protocol::ROUTE).expect("a socket");
    socket.send_to(&[], u32::MAX, 0).unwrap_err();
    socket.bind(u32::MAX, 0).expect("a port ID as any other");
    assert_eq!(socket.port_id().expect("its port ID"), u32::MAX);
    let other = Socket::open(Protocol::ROUTE).expect("a socket");
    other.bind(0, u32::MAX).expect("all groups");
    assert_eq!(other.groups().expect("its groups").len(), 32);
    other.add_membership(u32::MAX).unwrap_err();
    other.add_membership(route::Group::Link).expect("again");
}
