//! Safe code may forget a value instead of dropping it. The kernel then keeps the memory that it was lent, and writes
//! nowhere else.
#![forbid(unsafe_code)]

use std::mem;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use nlring::message::{NOOP, flags};
use nlring::{Backend, Engine, MessageBuilder, Protocol, RecvFlags, Running, Socket};

const BACKENDS: [Backend; 3] = [
    Backend::Multishot,
    Backend::Oneshot { depth: 4 },
    Backend::Recvmmsg,
];

/// Makes the kernel send `count` acknowledgements to this socket.
fn make_some_come(socket: &Socket, count: u32) {
    for _ in 0..count {
        let mut request = Vec::new();
        MessageBuilder::new(&mut request, NOOP, flags::REQUEST | flags::ACK)
            .finish()
            .expect("a request");
        socket.send(&request).expect("sent");
    }
}

/// A started engine with receives in flight, and another descriptor of its socket.
fn engine(backend: Backend) -> (Running, Socket) {
    let socket = Socket::builder(Protocol::ROUTE).open().expect("a socket");
    let duplicate = socket.as_fd().try_clone_to_owned().expect("a duplicate");
    let duplicate = Socket::try_from(duplicate).expect("a netlink socket");
    let mut engine = Engine::builder().backend(backend).build().expect("built");
    engine.add(socket).expect("added");
    let mut running = engine.start().expect("started");
    make_some_come(&duplicate, 10);
    let turn = running.poll(Some(Duration::from_secs(5)), |_, _| {
        ControlFlow::<()>::Continue(())
    });
    let _ = turn.expect("a turn");
    (running, duplicate)
}

/// Allocates memory of all sizes, some of which may lie where an engine's lay. Returns whether it is unchanged after
/// `f`.
fn stays_as_it_was(f: impl FnOnce()) -> bool {
    let taken: Vec<Vec<u8>> = (0..64)
        .map(|index| vec![0x5a; 4096 << (index % 9)])
        .collect();
    f();
    taken.iter().flatten().all(|byte| *byte == 0x5a)
}

#[test]
fn a_forgotten_engine_writes_into_no_other_memory() {
    for backend in BACKENDS {
        let thread = thread::spawn(move || {
            let (running, duplicate) = engine(backend);
            mem::forget(running);
            let is_intact = stays_as_it_was(|| make_some_come(&duplicate, 50));
            assert!(is_intact, "{backend}, on its thread");
            duplicate
        });
        // The engine's thread has ended, and its receives with it.
        let duplicate = thread.join().expect("a thread that ends");
        let is_intact = stays_as_it_was(|| make_some_come(&duplicate, 50));
        assert!(is_intact, "{backend}, afterwards");
    }
}

#[test]
fn a_dropped_engine_writes_into_no_other_memory() {
    for backend in BACKENDS {
        let (running, duplicate) = engine(backend);
        make_some_come(&duplicate, 5);
        drop(running);
        assert!(
            stays_as_it_was(|| make_some_come(&duplicate, 50)),
            "{backend}"
        );
        // Datagrams that come now stay in the socket, so the receives have ended.
        let mut buffer = [0; 64];
        let mut left_count = 50;
        while left_count > 0 {
            match duplicate.recv(&mut buffer, RecvFlags::DONT_WAIT) {
                Ok(_) => left_count -= 1,
                // The kernel had not finished the cleanup.
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => panic!("{backend}, {left_count} left: {error}"),
            }
        }
    }
}
