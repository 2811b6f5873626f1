//! On each backend, messages of one socket arrive in the kernel's order, slow and fast.

mod common;

use std::ops::ControlFlow;
use std::time::Instant;

use common::{PATIENCE, Source, any_sender, listener, own_namespace};
use nlring::{Backend, Engine, Event, Notice, Turn};

on_each_backend!(
    messages_arrive_in_order_at_1_000_per_second,
    messages_arrive_in_order_at_50_000_per_second,
    messages_arrive_in_order_at_full_speed,
);

fn messages_arrive_in_order_at_1_000_per_second(backend: Backend) {
    receive_in_order(backend, 6_000, Some(1_000));
}

fn messages_arrive_in_order_at_50_000_per_second(backend: Backend) {
    receive_in_order(backend, 150_000, Some(50_000));
}

fn messages_arrive_in_order_at_full_speed(backend: Backend) {
    receive_in_order(backend, 1_000_000, None);
}

/// Receives all datagrams of a source, and asserts that each follows the one before it and that none is lost.
fn receive_in_order(backend: Backend, count: u32, per_second: Option<u32>) {
    own_namespace();
    let mut engine = Engine::builder().backend(backend).build().unwrap();
    let id = engine.add_with(listener(512 << 20), any_sender()).unwrap();
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
            // A wait may end early, to read the drop counters, if the sender gets no core.
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

/// How many threads the kernel has started for this process's rings. A receive that blocks runs in such a thread, out
/// of order.
fn io_workers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("iou-wrk")).count()
}
