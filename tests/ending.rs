//! However an engine ends, it delivers or counts each datagram that the kernel had for it.

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{
    PATIENCE, SOON, Source, Tally, any_sender, assert_all_in_order, engine_with_listener, listener,
    own_namespace, sequences_left, start, turn_until,
};
use nlring::{Backend, Engine, Turn};
use nlring_testing::ThreadId;

on_each_backend!(
    finish_delivers_all_that_is_queued,
    finish_reads_the_drops_last,
    what_is_left_after_a_break_is_unread,
    a_callback_that_is_too_slow_leaves_the_rest_unread,
    discard_counts_what_is_queued,
    discard_counts_what_was_received_but_not_delivered,
    a_stop_ends_a_long_wait,
    a_stop_from_the_callback_ends_the_run,
    a_stop_before_the_start_ends_the_run,
    nothing_is_received_after_a_stop_until_the_end,
    run_ends_soon_under_load,
    a_run_that_is_stopped_with_a_full_queue_counts_exactly,
    an_ending_leaves_the_groups,
    a_run_continues_after_a_break,
);

fn finish_delivers_all_that_is_queued(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 64 << 20);
    let mut source = Source::new(100);
    let mut tally = Tally::default();
    source.send_many(1000, None);
    turn_until(&mut running, &mut tally, |_, tally| {
        !tally.messages.is_empty()
    });
    source.send_many(10_000, None);
    let finished = running.finish(|event, _| {
        tally.note(event);
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(finished.outcome.unwrap(), None);
    assert_all_in_order(&tally.sequences(id), 11_000);
    let [ended] = &finished.sockets[..] else {
        panic!("{:?}", finished.sockets);
    };
    assert_eq!(ended.id, id);
    let statistics = ended.statistics;
    assert_eq!(
        (statistics.received, statistics.dropped, statistics.unread),
        (11_000, 0, 0)
    );
    source.send(); // nobody receives it
    assert!(sequences_left(&ended.socket).is_empty());
}

/// `finish` reports the drops that happened while nobody turned.
fn finish_reads_the_drops_last(backend: Backend) {
    own_namespace();
    let (running, _) = engine_with_listener(backend, 2048);
    Source::new(100).send_many(1000, None);
    let mut tally = Tally::default();
    let finished = running.finish(|event, _| {
        tally.note(event);
        ControlFlow::<()>::Continue(())
    });
    let statistics = finished.sockets[0].statistics;
    assert_eq!(statistics.received + statistics.dropped, 1000);
    assert!(
        statistics.received > 0 && statistics.dropped > 0,
        "{statistics:?}"
    );
    assert_eq!(tally.lost_count(), statistics.dropped);
}

fn what_is_left_after_a_break_is_unread(backend: Backend) {
    own_namespace();
    let (running, id) = engine_with_listener(backend, 64 << 20);
    Source::new(100).send_many(5000, None);
    let mut tally = Tally::default();
    let finished = running.finish(|event, _| {
        tally.note(event);
        if tally.list_count == 3 {
            ControlFlow::Break("enough")
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!(finished.outcome.unwrap(), Some("enough"));
    let statistics = finished.sockets[0].statistics;
    assert_eq!(statistics.received, tally.datagram_count);
    assert!(statistics.received < 5000);
    assert_eq!(statistics.received + statistics.unread, 5000);
    assert_eq!(statistics.dropped, 0);
    assert_all_in_order(
        &tally.sequences(id),
        u32::try_from(statistics.received).unwrap(),
    );
}

fn a_callback_that_is_too_slow_leaves_the_rest_unread(backend: Backend) {
    own_namespace();
    let (running, id) = engine_with_listener(backend, 256 << 20);
    Source::new(64).send_many(10_000, None); // even a slow machine counts the rest in half a second
    let start = Instant::now();
    let mut tally = Tally::default();
    let finished = running.finish(|event, _| {
        tally.note(event);
        std::thread::sleep(Duration::from_millis(20)); // for each list: 10,000 take three seconds
        ControlFlow::<()>::Continue(())
    });
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    let statistics = finished.sockets[0].statistics;
    assert!(
        statistics.received > 0 && statistics.unread > 0,
        "{statistics:?}"
    );
    assert_eq!(
        statistics.received + statistics.dropped + statistics.unread,
        10_000
    );
    assert_all_in_order(
        &tally.sequences(id),
        u32::try_from(statistics.received).unwrap(),
    );
}

fn discard_counts_what_is_queued(backend: Backend) {
    own_namespace();
    for (recv_buffer_bytes, sent) in [(64 << 20, 10_000), (2048, 10_000), (64 << 20, 0)] {
        let (mut running, id) = engine_with_listener(backend, recv_buffer_bytes);
        let mut source = Source::new(64);
        let mut tally = Tally::default();
        if sent > 0 {
            source.send();
            turn_until(&mut running, &mut tally, |_, tally| {
                tally.messages.len() == 1
            });
            source.send_many(sent - 1, None);
        }
        let ended = running.discard();
        assert_eq!(ended[0].id, id);
        let statistics = ended[0].statistics;
        assert_eq!(statistics.received, u64::from(sent > 0));
        assert_eq!(
            statistics.received + statistics.dropped + statistics.unread,
            u64::from(sent),
            "{statistics:?}"
        );
        assert_eq!(statistics.dropped > 0, recv_buffer_bytes == 2048);
        assert!(ended[0].socket.groups().unwrap().is_empty());
        assert!(sequences_left(&ended[0].socket).is_empty());
    }
}

/// These datagrams were received, but not delivered.
fn discard_counts_what_was_received_but_not_delivered(backend: Backend) {
    own_namespace();
    let (mut running, _) = engine_with_listener(backend, 64 << 20);
    Source::new(64).send_many(1000, None);
    let mut tally = Tally::default();
    let turn = running.poll(Some(SOON), |event, _| {
        tally.note(event);
        ControlFlow::Break(())
    });
    assert_eq!(turn.unwrap(), Turn::Break(()));
    let statistics = running.discard()[0].statistics;
    assert_eq!(statistics.received, tally.datagram_count);
    assert_eq!(
        (statistics.received + statistics.unread, statistics.dropped),
        (1000, 0)
    );
}

fn a_stop_ends_a_long_wait(backend: Backend) {
    own_namespace();
    for use_run in [true, false] {
        let (mut running, _) = engine_with_listener(backend, 1 << 20);
        let stop = running.stop_handle();
        let waiter = ThreadId::current();
        let stopper = std::thread::spawn(move || {
            waiter.await_sleep();
            stop.stop();
            Instant::now()
        });
        if use_run {
            let outcome = running.run(|event, _| ControlFlow::Break(format!("{event:?}")));
            assert_eq!(outcome.unwrap(), None);
        } else {
            let turn = loop {
                let turn = running.poll(Some(Duration::from_secs(60)), |event, _| {
                    ControlFlow::Break(format!("{event:?}"))
                });
                match turn.unwrap() {
                    Turn::Idle => {}
                    turn => break turn,
                }
            };
            assert_eq!(turn, Turn::Stopped);
        }
        let late = stopper.join().unwrap().elapsed();
        assert!(late < SOON, "{late:?}");
        assert!(running.stop_handle().is_stopped());
    }
}

fn a_stop_from_the_callback_ends_the_run(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 64 << 20);
    Source::new(64).send_many(1000, None);
    let mut tally = Tally::default();
    let outcome = running.run(|event, control| {
        tally.note(event);
        control.stop();
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(outcome.unwrap(), None);
    assert_all_in_order(&tally.sequences(id), 1000); // what was queued is delivered first
}

fn a_stop_before_the_start_ends_the_run(backend: Backend) {
    own_namespace();
    let mut engine = Engine::builder().backend(backend).build().unwrap();
    let id = engine.add_with(listener(1 << 20), any_sender()).unwrap();
    engine.stop_handle().stop();
    Source::new(64).send_many(10, None);
    let mut running = engine.start().unwrap();
    let mut tally = Tally::default();
    let outcome = running.run(|event, _| {
        tally.note(event);
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(outcome.unwrap(), None);
    assert_all_in_order(&tally.sequences(id), 10);
}

fn nothing_is_received_after_a_stop_until_the_end(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 1 << 20);
    running.stop_handle().stop();
    Source::new(64).send_many(10, None);
    for _ in 0..3 {
        let turn = running.poll(None, |event, _| ControlFlow::Break(format!("{event:?}")));
        assert_eq!(turn.unwrap(), Turn::Stopped);
    }
    let mut tally = Tally::default();
    let finished = running.finish(|event, _| {
        tally.note(event);
        ControlFlow::<()>::Continue(())
    });
    assert_all_in_order(&tally.sequences(id), 10);
    assert_eq!(finished.sockets[0].statistics.received, 10);
}

/// A sender that never pauses does not prevent the end of an engine.
fn run_ends_soon_under_load(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 32 << 20);
    let halt = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let senders = [(); 2].map(|()| {
        let (halt, sent) = (Arc::clone(&halt), Arc::clone(&sent));
        std::thread::spawn(move || {
            let mut source = Source::new(64);
            while !halt.load(Ordering::Relaxed) {
                source.send();
                sent.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let stop = running.stop_handle();
    let mut stopped_at = None;
    let mut tally = Tally::default();
    let outcome = running.run(|event, _| {
        tally.note(event);
        if tally.messages.len() > 50_000 {
            stopped_at.get_or_insert_with(Instant::now);
            stop.stop();
        }
        ControlFlow::<()>::Continue(())
    });
    let late = stopped_at.unwrap().elapsed();
    assert_eq!(outcome.unwrap(), None);
    assert!(late < Duration::from_secs(4), "{late:?}"); // 2 if nobody else needs the cores
    let at_end = running.statistics(id).unwrap();
    let finished = running.finish(|event, _| {
        tally.note(event);
        ControlFlow::<()>::Continue(())
    });
    assert!(stopped_at.unwrap().elapsed() < SOON);
    // The senders continue, and nobody listens.
    let at_finish = sent.load(Ordering::Relaxed);
    while sent.load(Ordering::Relaxed) < at_finish + 1000 {
        std::thread::yield_now();
    }
    halt.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().unwrap();
    }
    let statistics = finished.sockets[0].statistics;
    let offered = statistics.received + statistics.dropped + statistics.unread;
    assert!(offered <= at_finish + 2, "{statistics:?}, {at_finish} sent"); // 2: sent and not yet counted
    assert_eq!(statistics.received, tally.datagram_count);
    assert_eq!(statistics.dropped, tally.lost_count());
    if at_end.unread == 0 && statistics.unread == 0 {
        assert_eq!(statistics.received, at_end.received, "run has left nothing");
    }
    assert!(sequences_left(&finished.sockets[0].socket).is_empty());
}

/// The sender ends and stops the engine, which has a full queue.
fn a_run_that_is_stopped_with_a_full_queue_counts_exactly(backend: Backend) {
    own_namespace();
    for recv_buffer_bytes in [128 << 20, 4096] {
        let (mut running, id) = engine_with_listener(backend, recv_buffer_bytes);
        let stop = running.stop_handle();
        let sender = std::thread::spawn(move || {
            Source::new(64).send_many(20_000, None); // even a slow machine counts these in half a second
            stop.stop();
        });
        let mut tally = Tally::default();
        let mut note = |event: nlring::Event<'_>, _: &mut nlring::Control<'_>| {
            tally.note(event);
            std::thread::sleep(Duration::from_micros(200));
            ControlFlow::<()>::Continue(())
        };
        assert_eq!(running.run(&mut note).unwrap(), None);
        sender.join().unwrap();
        let finished = running.finish(&mut note);
        let statistics = finished.sockets[0].statistics;
        assert_eq!(
            statistics.received + statistics.dropped + statistics.unread,
            20_000,
            "{statistics:?}"
        );
        assert_eq!(statistics.received, tally.datagram_count);
        assert_eq!(statistics.dropped, tally.lost_count());
        common::assert_ascending(&tally.sequences(id));
    }
}

type End = fn(nlring::Running) -> Vec<nlring::Reclaimed>;

fn an_ending_leaves_the_groups(backend: Backend) {
    own_namespace();
    let ends: [End; 3] = [
        |running| {
            running
                .finish(|_, _| ControlFlow::<()>::Continue(()))
                .sockets
        },
        |running| running.discard(),
        |mut running| {
            running.stop_handle().stop();
            running.run(|_, _| ControlFlow::<()>::Continue(())).unwrap();
            running
                .finish(|_, _| ControlFlow::<()>::Continue(()))
                .sockets
        },
    ];
    for end in ends {
        let socket = listener(1 << 20);
        socket.add_membership(7u32).unwrap();
        let (running, id) = start(&Engine::builder().backend(backend), socket, any_sender());
        assert_eq!(running.socket(id).unwrap().groups().unwrap(), [1, 7]);
        let ended = end(running);
        assert_eq!(ended.len(), 1);
        assert!(ended[0].socket.groups().unwrap().is_empty());
    }
}

fn a_run_continues_after_a_break(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 64 << 20);
    let sender = std::thread::spawn(|| Source::new(64).send_many(2000, Some(20_000)));
    let mut tally = Tally::default();
    let mut break_count = 0;
    while tally.messages.len() < 2000 {
        let outcome = running.run(|event, _| {
            tally.note(event);
            ControlFlow::Break(tally.messages.len())
        });
        assert_eq!(outcome.unwrap(), Some(tally.messages.len()));
        break_count += 1;
    }
    sender.join().unwrap();
    assert!(break_count > 1);
    assert_all_in_order(&tally.sequences(id), 2000);
    assert_eq!(
        running.socket(id).unwrap().groups().unwrap(),
        [1],
        "a break leaves no group"
    );
}
