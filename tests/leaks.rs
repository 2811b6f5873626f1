//! Engines that end with receives in flight leave neither descriptors nor memory behind. The tests run one at a time
//! in a process of their own, because they count what the process holds.

mod common;

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{Source, Tally, any_sender, listener, own_namespace, start, turn_until};
use nlring::{Backend, Engine, EngineBuilder, ErrorKind, Protocol, Running, Socket};
use nlring_testing::allocator::{Counting, allocated_bytes};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

on_each_backend!(
    an_engine_leaves_nothing_however_it_ends,
    sockets_that_come_and_go_leave_nothing,
    what_fails_leaves_nothing,
);

/// A test keeps the guard while it has anything open.
fn alone_in_a_namespace() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    own_namespace();
    guard
}

/// What the process holds of what an engine asks the kernel and the allocator for.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    /// Mapped rings.
    rings: usize,
    /// Memory that is mapped for writing and belongs to no file: buffers, and the allocator's own.
    mapped_bytes: usize,
    heap_bytes: usize,
}

impl Held {
    fn now() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mapped_bytes = |line: &str| {
            // Columns: addresses, permissions, offset, device, inode (proc_pid_maps(5)).
            let words: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = words[0].split_once('-').unwrap();
            let address = |text| usize::from_str_radix(text, 16).unwrap();
            let is_memory = words[1].starts_with("rw") && words[4] == "0" && words.len() == 5;
            is_memory.then(|| address(end) - address(start))
        };
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            rings: maps
                .lines()
                .filter(|line| line.contains("[io_uring]"))
                .count(),
            mapped_bytes: maps.lines().filter_map(mapped_bytes).sum(),
            heap_bytes: allocated_bytes(),
        }
    }

    /// Whether the process holds more. The threads of other tests may start meanwhile, each with a stack, and print.
    fn exceeds(&self, before: &Self) -> bool {
        self.descriptors > before.descriptors
            || self.rings > before.rings
            || self.mapped_bytes > before.mapped_bytes + (16 << 20)
            || self.heap_bytes > before.heap_bytes + (64 << 10)
    }
}

/// An engine with a small ring. The kernel releases the locked memory of a closed ring a little later, and the limit
/// must suffice for many of them.
fn small_engine(backend: Backend) -> EngineBuilder {
    Engine::builder().backend(backend).completion_entries(64)
}

/// Asserts that after many rounds the process holds no more than after a few.
fn assert_leaves_nothing(mut round: impl FnMut(u32)) {
    (0..10).for_each(&mut round);
    let before = Held::now();
    (0..100).for_each(&mut round);
    let mut after = Held::now();
    let deadline = Instant::now() + common::PATIENCE;
    // The kernel may close a ring a little later.
    while after.exceeds(&before) {
        assert!(Instant::now() < deadline, "{before:?}, then {after:?}");
        std::thread::sleep(Duration::from_millis(20));
        after = Held::now();
    }
}

fn an_engine_leaves_nothing_however_it_ends(backend: Backend) {
    let _alone = alone_in_a_namespace();
    assert_leaves_nothing(|round| {
        let mut engine = small_engine(backend)
            .pollable(round % 2 == 0)
            .build()
            .unwrap();
        engine.add_with(listener(1 << 20), any_sender()).unwrap();
        engine.add_with(listener(1 << 20), any_sender()).unwrap();
        if round % 7 == 0 {
            return; // never started
        }
        let mut running = engine.start().unwrap();
        let mut source = Source::new(1000);
        source.send_many(50, None);
        if round % 3 > 0 {
            let turn = running.poll(Some(Duration::from_secs(1)), |_, _| ControlFlow::Break(()));
            let _ = turn.unwrap();
            source.send_many(50, None); // some in hand, some queued, receives in flight
        }
        match round % 5 {
            0 => drop(running),
            1 => drop(running.discard()),
            2 => drop(running.finish(|_, _| ControlFlow::<()>::Continue(()))),
            3 => {
                running.stop_handle().stop();
                running.run(|_, _| ControlFlow::<()>::Continue(())).unwrap();
            }
            _ => {
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                    let mut running = running; // dropped by the panic
                    let _ = running.poll(Some(Duration::from_secs(1)), |_, _| {
                        std::panic::resume_unwind(Box::new(())); // a panic that prints nothing
                        #[allow(unreachable_code)]
                        ControlFlow::<()>::Continue(())
                    });
                }));
                let _ = result;
            }
        }
    });
}

fn sockets_that_come_and_go_leave_nothing(backend: Backend) {
    let _alone = alone_in_a_namespace();
    let mut engine: Option<Running> = None;
    assert_leaves_nothing(|round| {
        let running = engine.get_or_insert_with(|| {
            Engine::builder()
                .backend(backend)
                .build()
                .unwrap()
                .start()
                .unwrap()
        });
        let id = running.add_with(listener(1 << 20), any_sender()).unwrap();
        Source::new(1000).send_many(20, None);
        let mut tally = Tally::default();
        if round % 2 == 0 {
            turn_until(running, &mut tally, |_, tally| tally.messages.len() == 20);
        }
        running.remove(id).unwrap();
        turn_until(running, &mut tally, |_, tally| tally.removed == [id]);
        running.reclaim(id).unwrap();
    });
}

fn what_fails_leaves_nothing(backend: Backend) {
    let _alone = alone_in_a_namespace();
    assert_leaves_nothing(|_| {
        let error = Socket::open(Protocol::from_number(99)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let taken = listener(1 << 20);
        let builder = Socket::builder(Protocol::USERSOCK).port_id(taken.port_id().unwrap());
        builder.open().unwrap_err();
        Socket::builder(Protocol::ROUTE)
            .group(10_000u32)
            .open()
            .unwrap_err();
        let (mut running, _) = start(&small_engine(backend), taken, any_sender());
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp = udp.as_fd().try_clone_to_owned().unwrap();
        Socket::try_from(udp).unwrap_err();
        let options = any_sender().buffer_count(5);
        running.add_with(listener(1 << 20), options).unwrap_err();
        assert!(
            Engine::builder()
                .backend(Backend::Oneshot { depth: 0 })
                .build()
                .is_err()
        );
    });
}
