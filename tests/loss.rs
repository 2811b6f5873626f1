//! The engine counts exactly what the kernel drops and reports it, and does not report what only looks like a loss.

mod common;

use common::{
    Source, Tally, any_sender, assert_all_in_order, assert_ascending, engine_with_listener,
    listener, own_namespace, start, turn_until, turn_until_idle,
};
use nlring::{AddOptions, Backend, Engine};

on_each_backend!(
    received_plus_dropped_is_what_was_sent,
    a_receive_buffer_that_shrinks_loses_only_what_is_counted,
    a_loss_is_reported_for_its_own_socket_only,
    a_loss_without_any_later_datagram_is_reported,
    losses_before_the_engine_and_between_two_are_reported_once,
    a_sockets_own_counter_never_goes_back,
    a_failed_delivery_that_is_reported_to_the_sender_is_not_a_loss,
    one_buffer_loses_nothing,
    an_overrun_that_is_reported_as_an_error_is_a_loss_and_no_starvation,
    a_full_completion_queue_loses_nothing,
);

/// The smallest receive buffer that the kernel grants: room for a few datagrams.
const TINY_BYTES: usize = 2048;

fn received_plus_dropped_is_what_was_sent(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, TINY_BYTES);
    let mut source = Source::new(200);
    let mut tally = Tally::default();
    source.send_many(1000, None); // nobody receives meanwhile, so most of them are lost
    turn_until(&mut running, &mut tally, |_, tally| !tally.lost.is_empty());
    let sender = std::thread::spawn(move || {
        source.send_many(100_000, None);
        source
    });
    turn_until(&mut running, &mut tally, |_, _| sender.is_finished());
    let mut source = sender.join().unwrap();
    for _ in 0..10 {
        turn_until_idle(&mut running, &mut tally);
        source.send(); // there is room for it
    }
    let finished = running.finish(|event, _| {
        tally.note(event);
        std::ops::ControlFlow::<()>::Continue(())
    });
    assert_eq!(finished.outcome.unwrap(), None);
    let statistics = finished.sockets[0].statistics;
    assert_eq!(
        statistics.received + statistics.dropped,
        u64::from(source.sent_count)
    );
    assert!(statistics.dropped > 900, "{statistics:?}");
    assert_eq!(
        (statistics.unread, statistics.messages, statistics.bytes),
        (0, statistics.received, 200 * statistics.received)
    );
    assert_eq!(tally.lost_count(), statistics.dropped);
    assert_eq!(tally.datagram_count, statistics.received);
    let sequences = tally.sequences(id);
    assert_ascending(&sequences);
    let last_10: Vec<u32> = (source.sent_count - 10..source.sent_count).collect();
    assert!(
        sequences.ends_with(&last_10),
        "delivery goes on as soon as there is room"
    );
    for (_, loss) in &tally.lost {
        assert!(loss.count > 0 && loss.since <= loss.until, "{loss:?}");
    }
    for pair in tally.lost.windows(2) {
        assert!(pair[0].1.until <= pair[1].1.since, "gaps overlap: {pair:?}");
    }
}

/// Somebody makes the receive buffer smaller and larger again while datagrams come and wait in it.
fn a_receive_buffer_that_shrinks_loses_only_what_is_counted(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 1 << 20);
    let mut source = Source::new(200);
    let mut tally = Tally::default();
    for round in 0..20 {
        source.send_many(200, None); // they wait in the large buffer
        let bytes = if round % 2 == 0 { TINY_BYTES } else { 1 << 20 };
        let socket = running.socket(id).unwrap();
        let _ = socket.set_recv_buffer_bytes(bytes).unwrap(); // the small one may be clamped
        source.send_many(200, None);
        turn_until_idle(&mut running, &mut tally);
    }
    let finished = running.finish(|event, _| {
        tally.note(event);
        std::ops::ControlFlow::<()>::Continue(())
    });
    assert_eq!(finished.outcome.unwrap(), None);
    let statistics = finished.sockets[0].statistics;
    let sum = statistics.received + statistics.dropped + statistics.unread;
    assert_eq!(sum, u64::from(source.sent_count), "{statistics:?}");
    assert!(statistics.dropped > 0, "{statistics:?}");
    assert_eq!(tally.lost_count(), statistics.dropped);
    assert_ascending(&tally.sequences(id));
}

fn a_loss_is_reported_for_its_own_socket_only(backend: Backend) {
    own_namespace();
    let mut engine = Engine::builder().backend(backend).build().unwrap();
    let roomy = engine.add_with(listener(16 << 20), any_sender()).unwrap();
    let tiny = engine.add_with(listener(TINY_BYTES), any_sender()).unwrap();
    let mut running = engine.start().unwrap();
    Source::new(64).send_many(2000, None);
    let mut tally = Tally::default();
    turn_until_idle(&mut running, &mut tally);
    assert_all_in_order(&tally.sequences(roomy), 2000);
    let of = |id| running.statistics(id).unwrap();
    assert_eq!((of(roomy).received, of(roomy).dropped), (2000, 0));
    assert_eq!(of(tiny).received + of(tiny).dropped, 2000);
    assert!(of(tiny).dropped > 0);
    assert!(tally.lost.iter().all(|(id, _)| *id == tiny));
    assert_eq!(tally.lost_count(), of(tiny).dropped);
}

/// The first turn delivers all datagrams that came. It must also report those that were lost after them.
fn a_loss_without_any_later_datagram_is_reported(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, TINY_BYTES);
    Source::new(64).send_many(500, None);
    let mut tally = Tally::default();
    turn_until(&mut running, &mut tally, |running, tally| {
        let statistics = running.statistics(id).unwrap();
        statistics.received + statistics.dropped == 500 && tally.lost_count() == statistics.dropped
    });
}

/// A socket also drops datagrams while no engine has it. The next engine that receives from it reports them.
fn losses_before_the_engine_and_between_two_are_reported_once(backend: Backend) {
    own_namespace();
    let mut socket = listener(TINY_BYTES);
    let mut source = Source::new(64);
    let (mut received, mut dropped) = (0, 0);
    let mut reported = 0;
    for round in 0..4 {
        source.send_many(200, None); // no engine has it
        let (mut running, id) = start(&Engine::builder().backend(backend), socket, any_sender());
        source.send_many(200, None);
        let mut tally = Tally::default();
        let ended = if round % 2 == 0 {
            turn_until(&mut running, &mut tally, |_, tally| {
                !tally.messages.is_empty()
            });
            source.send_many(200, None); // these drops are read when it is removed
            running.remove(id).unwrap();
            turn_until(&mut running, &mut tally, |_, tally| tally.removed == [id]);
            running.reclaim(id).unwrap()
        } else {
            let finished = running.finish(|event, _| {
                tally.note(event);
                std::ops::ControlFlow::<()>::Continue(())
            });
            let ended = finished.sockets.into_iter().next().unwrap();
            ended.socket.add_membership(1u32).unwrap();
            ended
        };
        assert_eq!(tally.lost_count(), ended.statistics.dropped);
        received += ended.statistics.received + ended.statistics.unread;
        reported += ended.statistics.dropped;
        socket = ended.socket;
        assert_eq!(
            reported,
            u64::from(socket.drops().unwrap()),
            "the engine's last look at the counter is at the socket's end"
        );
    }
    received += common::sequences_left(&socket).len() as u64;
    dropped += u64::from(socket.drops().unwrap());
    assert_eq!(received + dropped, u64::from(source.sent_count));
    assert_eq!(
        reported, dropped,
        "the last engine was the last to read the counter"
    );
}

/// What an engine has reported is still in the socket's counter, and the next engine does not report it again.
fn a_sockets_own_counter_never_goes_back(backend: Backend) {
    own_namespace();
    let (running, _) = engine_with_listener(backend, TINY_BYTES);
    Source::new(64).send_many(1000, None);
    let ended = running.discard().remove(0);
    let dropped = ended.statistics.dropped;
    assert!(dropped > 0);
    assert_eq!(u64::from(ended.socket.drops().unwrap()), dropped);
    let (running, id) = start(
        &Engine::builder().backend(backend),
        ended.socket,
        any_sender(),
    );
    let lent = running.socket(id).unwrap();
    assert_eq!(u64::from(lent.drops().unwrap()), dropped);
    let ended = running.discard().remove(0);
    assert_eq!(ended.statistics.dropped, 0);
    assert_eq!(u64::from(ended.socket.drops().unwrap()), dropped);
}

/// The kernel may send the event again, so the engine reports a delay and not a loss.
fn a_failed_delivery_that_is_reported_to_the_sender_is_not_a_loss(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, TINY_BYTES);
    running
        .socket(id)
        .unwrap()
        .set_broadcast_error(true)
        .unwrap();
    Source::new(64).send_many(1000, None);
    let mut tally = Tally::default();
    turn_until_idle(&mut running, &mut tally);
    let statistics = running.statistics(id).unwrap();
    assert_eq!((statistics.dropped, tally.lost.len()), (0, 0));
    assert!(statistics.received > 0, "{statistics:?}");
    assert_eq!(statistics.received + statistics.delivery_failures, 1000);
    let reported: u64 = tally.delayed.iter().map(|loss| loss.count).sum();
    assert_eq!(reported, statistics.delivery_failures);
}

/// ENOBUFS in its first meaning: the engine's buffers ran out.
fn one_buffer_loses_nothing(backend: Backend) {
    own_namespace();
    let (mut running, id) = start(
        &Engine::builder().backend(match backend {
            Backend::Oneshot { .. } => Backend::Oneshot { depth: 1 },
            backend => backend,
        }),
        listener(64 << 20),
        any_sender().buffer_count(1),
    );
    let mut source = Source::new(100);
    source.send_many(1000, None);
    let sender = std::thread::spawn(move || source.send_many(4000, Some(20_000)));
    let mut tally = Tally::default();
    turn_until(&mut running, &mut tally, |_, tally| {
        tally.messages.len() == 5000
    });
    sender.join().unwrap();
    turn_until_idle(&mut running, &mut tally);
    assert_all_in_order(&tally.sequences(id), 5000);
    let statistics = running.statistics(id).unwrap();
    assert_eq!((statistics.received, statistics.dropped), (5000, 0));
    assert!(tally.lost.is_empty());
    if backend == Backend::Multishot {
        assert!(statistics.starved > 0);
        assert!(!tally.starved.is_empty());
    } else {
        assert_eq!(
            statistics.starved, 0,
            "each receive has a buffer of its own"
        );
    }
}

/// ENOBUFS in its second meaning: the socket's receive queue overran.
fn an_overrun_that_is_reported_as_an_error_is_a_loss_and_no_starvation(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, TINY_BYTES);
    running.socket(id).unwrap().set_no_enobufs(false).unwrap();
    let mut source = Source::new(64);
    let mut tally = Tally::default();
    for round in 1..=20 {
        let before = running.statistics(id).unwrap();
        source.send_many(100, None);
        turn_until(&mut running, &mut tally, |running, _| {
            let statistics = running.statistics(id).unwrap();
            statistics.received + statistics.dropped == 100 * round
        });
        let after = running.statistics(id).unwrap();
        assert!(after.dropped > before.dropped, "round {round}: {after:?}");
        assert!(
            after.received > before.received,
            "round {round}: delivery goes on, {after:?}"
        );
        turn_until_idle(&mut running, &mut tally); // empty, so no longer congested
    }
    let statistics = running.statistics(id).unwrap();
    assert_eq!(statistics.starved, 0);
    assert!(tally.starved.is_empty());
    assert_eq!(tally.lost_count(), statistics.dropped);
    assert!(tally.failed.is_empty(), "{:?}", tally.failed);
    assert_ascending(&tally.sequences(id));
}

/// With several sockets there are more completions than the queue holds.
fn a_full_completion_queue_loses_nothing(backend: Backend) {
    own_namespace();
    for entries in [1, 8] {
        let builder = Engine::builder()
            .backend(backend)
            .completion_entries(entries);
        let mut engine = builder.build().unwrap();
        let options = AddOptions::new().accept_any_sender(true).buffer_count(64);
        let ids = [(); 4].map(|()| engine.add_with(listener(16 << 20), options).unwrap());
        let mut running = engine.start().unwrap();
        let mut tally = Tally::default();
        let mut source = Source::new(64);
        source.send_many(1000, None);
        let sender = std::thread::spawn(move || source.send_many(1000, None));
        turn_until(&mut running, &mut tally, |_, tally| {
            assert!(
                tally.failed.is_empty(),
                "{entries} entries: {:?}",
                tally.failed
            );
            tally.messages.len() >= 4 * 2000
        });
        sender.join().unwrap();
        turn_until_idle(&mut running, &mut tally);
        for id in ids {
            assert_all_in_order(&tally.sequences(id), 2000);
            let statistics = running.statistics(id).unwrap();
            assert_eq!((statistics.received, statistics.dropped), (2000, 0));
        }
    }
}
