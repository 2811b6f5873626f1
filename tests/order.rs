//! Messages of one socket arrive in the kernel's order, on each backend, slow and fast.

mod common;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use common::{Source, listener, own_namespace, run_or_skip};
use nlring::{AddOptions, Backend, Engine, Event, Notice, Turn};

const ONESHOT: Backend = Backend::Oneshot { depth: 32 };

/// Nothing is ever awaited for longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Receives all of a paced source and asserts that each follows the one before it, with nothing lost.
fn in_order(backend: Backend, count: u32, per_second: Option<u32>) {
    let name = format!("{backend}, {count} messages");
    run_or_skip(&name, || receive_in_order(backend, count, per_second));
}

fn receive_in_order(backend: Backend, count: u32, per_second: Option<u32>) {
    own_namespace();
    let mut engine = Engine::builder().backend(backend).build().unwrap();
    let id = engine
        .add_with(
            listener(512 << 20),
            AddOptions::new().accept_any_sender(true),
        )
        .unwrap();
    let mut running = engine.start().unwrap();
    let sender = std::thread::spawn(move || Source::new(64).send_many(count, per_second));
    let mut next = 0;
    let mut workers = 0;
    let mut last_at = Instant::now();
    while next < count {
        let turn = running.poll(Some(PATIENCE), |event, _| {
            match event {
                Event::Messages(_, list) => {
                    for message in &list {
                        assert_eq!(message.sequence(), next, "out of order");
                        next += 1;
                    }
                }
                Event::Notice(_, Notice::Starved) => {}
                event => panic!("{event:?}"),
            }
            ControlFlow::<()>::Continue(())
        });
        match turn.unwrap() {
            Turn::Delivered => last_at = Instant::now(),
            // It may end early to read the drop counters, when the sender does not get a core.
            turn => assert!(last_at.elapsed() < PATIENCE, "{turn:?} at {next}"),
        }
        if next % 64 == 0 {
            workers += io_workers();
        }
    }
    sender.join().unwrap();
    assert_eq!(workers, 0, "io-wq workers receive");
    let statistics = running.statistics(id).unwrap();
    assert_eq!((statistics.received, statistics.dropped), (count.into(), 0));
}

/// Threads of the kernel that work for this process's rings.
fn io_workers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("iou-wrk")).count()
}

#[test]
fn multishot_at_1_k() {
    in_order(Backend::Multishot, 6_000, Some(1_000));
}

#[test]
fn multishot_at_50_k() {
    in_order(Backend::Multishot, 150_000, Some(50_000));
}

#[test]
fn multishot_unpaced() {
    in_order(Backend::Multishot, 1_000_000, None);
}

#[test]
fn oneshot_at_1_k() {
    in_order(ONESHOT, 6_000, Some(1_000));
}

#[test]
fn oneshot_at_50_k() {
    in_order(ONESHOT, 150_000, Some(50_000));
}

#[test]
fn oneshot_unpaced() {
    in_order(ONESHOT, 1_000_000, None);
}

#[test]
fn recvmmsg_at_1_k() {
    in_order(Backend::Recvmmsg, 6_000, Some(1_000));
}

#[test]
fn recvmmsg_at_50_k() {
    in_order(Backend::Recvmmsg, 150_000, Some(50_000));
}

#[test]
fn recvmmsg_unpaced() {
    in_order(Backend::Recvmmsg, 1_000_000, None);
}
