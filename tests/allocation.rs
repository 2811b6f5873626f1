//! An engine allocates nothing after its start: a million messages on each backend, with an allocator that counts.

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Source, any_sender, listener, own_namespace, start};
use nlring::{Backend, Engine, Event, Turn};
use nlring_testing::allocator::{Counting, allocation_count, count_allocations};

on_each_backend!(receiving_allocates_nothing, losing_allocates_nothing);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MESSAGES: u64 = 1_000_000;
/// The sender is at most this many messages ahead, so that a small receive buffer loses nothing.
const AHEAD: u64 = 20_000;

#[test]
fn the_allocator_counts() {
    assert_eq!(count_allocations(|| drop(std::hint::black_box(vec![1]))), 1);
}

fn receiving_allocates_nothing(backend: Backend) {
    own_namespace();
    let (mut running, id) = start(
        &Engine::builder().backend(backend),
        listener(64 << 20),
        any_sender(),
    );
    let received = Arc::new(AtomicU64::new(0));
    let sender = std::thread::spawn({
        let received = Arc::clone(&received);
        move || {
            let mut source = Source::new(100);
            while u64::from(source.sent_count) < MESSAGES {
                while u64::from(source.sent_count) > received.load(Ordering::Acquire) + AHEAD {
                    std::thread::yield_now();
                }
                source.send_many(1000, None);
            }
        }
    });
    let (mut message_count, mut sum, mut at_first) = (0, 0, None);
    while message_count < MESSAGES {
        let turn = running.poll(Some(common::PATIENCE), |event, _| {
            match event {
                Event::Messages(_, list) => {
                    at_first.get_or_insert_with(allocation_count);
                    for message in &list {
                        assert_eq!(u64::from(message.sequence()), message_count);
                        message_count += 1;
                        sum += message.payload().len();
                    }
                    received.store(message_count, Ordering::Release);
                }
                Event::Lost(_, loss) => panic!("{loss:?}"),
                Event::Notice(..) => {}
            }
            ControlFlow::<()>::Continue(())
        });
        assert_ne!(turn.unwrap(), Turn::Stopped);
    }
    let allocation_count = allocation_count() - at_first.unwrap();
    sender.join().unwrap();
    assert_eq!(sum as u64, MESSAGES * 84);
    assert_eq!(allocation_count, 0);
    assert_eq!(running.statistics(id).unwrap().received, MESSAGES);
}

/// Losses, breaks, and truncated, malformed and foreign datagrams allocate nothing either.
fn losing_allocates_nothing(backend: Backend) {
    own_namespace();
    let mut engine = Engine::builder().backend(backend).build().unwrap();
    let options = any_sender().buffer_bytes(256).buffer_count(2);
    let id = engine.add_with(listener(8192), options).unwrap();
    engine
        .add_with(listener(8192), options.accept_any_sender(false))
        .unwrap();
    let mut running = engine.start().unwrap();
    let (mut short, mut long) = (Source::new(100), Source::new(1000));
    short.send_many(1000, None); // nobody receives meanwhile
    let sender = std::thread::spawn(move || {
        for _ in 0..20_000 {
            short.send();
            long.send();
            short.send_bytes(&[1; 30]);
        }
    });
    let mut kinds = [0u64; 3];
    let before = allocation_count();
    while !sender.is_finished() {
        let turn = running.poll(Some(std::time::Duration::from_millis(10)), |event, _| {
            kinds[match event {
                Event::Messages(..) => 0,
                Event::Lost(..) => 1,
                Event::Notice(..) => 2,
            }] += 1;
            if kinds[0] % 3 == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let _ = turn.unwrap();
    }
    assert_eq!(allocation_count() - before, 0);
    sender.join().unwrap();
    assert!(kinds.iter().all(|&count| count > 0), "{kinds:?}");
    let statistics = running.statistics(id).unwrap();
    assert!(
        statistics.truncated > 0 && statistics.malformed > 0,
        "{statistics:?}"
    );
}
