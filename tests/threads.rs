//! An engine is built on one thread and runs on another.

mod common;

use std::ops::ControlFlow;

use common::{Source, Tally, any_sender, assert_all_in_order, listener, own_namespace, turn_until};
use nlring::{Backend, Engine, StopHandle};

on_each_backend!(
    an_engine_can_be_started_on_another_thread,
    an_engine_can_be_dropped_on_another_thread_without_a_start,
    many_engines_work_at_once,
);

const fn assert_send<T: Send>() {}
const fn assert_sync<T: Sync>() {}
const _: () = {
    assert_send::<Engine>();
    assert_send::<StopHandle>();
    assert_sync::<StopHandle>();
    assert_send::<nlring::Reclaimed>();
    assert_send::<nlring::Socket>();
    assert_sync::<nlring::Socket>();
};

fn an_engine_can_be_started_on_another_thread(backend: Backend) {
    own_namespace();
    for pollable in [false, true] {
        let builder = Engine::builder().backend(backend).pollable(pollable);
        let mut engine = builder.build().unwrap();
        let first = engine.add_with(listener(16 << 20), any_sender()).unwrap();
        let stop = engine.stop_handle();
        let mut source = Source::new(64);
        source.send_many(100, None); // before the start
        let (tell_removed, removed) = std::sync::mpsc::channel();
        let receiver = std::thread::spawn(move || {
            let mut running = engine.start().unwrap();
            let second = running.add_with(listener(16 << 20), any_sender()).unwrap();
            let mut tally = Tally::default();
            running.remove(second).unwrap();
            turn_until(&mut running, &mut tally, |_, tally| {
                tally.removed == [second]
            });
            running.reclaim(second).unwrap();
            tell_removed.send(()).unwrap();
            let outcome = running.run(|event, _| {
                tally.note(event);
                ControlFlow::<()>::Continue(())
            });
            assert_eq!(outcome.unwrap(), None);
            let ended = running.discard();
            (tally, ended)
        });
        source.send_many(900, None);
        removed.recv().unwrap();
        stop.stop();
        let (tally, ended) = receiver.join().unwrap();
        assert_all_in_order(&tally.sequences(first), 1000);
        assert_eq!((ended.len(), ended[0].statistics.received), (1, 1000));
    }
}

fn an_engine_can_be_dropped_on_another_thread_without_a_start(backend: Backend) {
    own_namespace();
    let mut engine = Engine::builder().backend(backend).build().unwrap();
    let socket = listener(1 << 20);
    let port_id = socket.port_id().unwrap();
    engine.add_with(socket, any_sender()).unwrap();
    std::thread::spawn(move || drop(engine)).join().unwrap();
    // Its port ID is free again, so the socket was closed.
    let again = nlring::Socket::open(nlring::Protocol::USERSOCK).unwrap();
    again.bind(port_id, 0).unwrap();
}

fn many_engines_work_at_once(backend: Backend) {
    own_namespace();
    let engines = [(); 8].map(|()| {
        let mut engine = Engine::builder().backend(backend).build().unwrap();
        let id = engine.add_with(listener(16 << 20), any_sender()).unwrap();
        (engine, id)
    });
    let threads = engines.map(|(engine, id)| {
        std::thread::spawn(move || {
            let mut running = engine.start().unwrap();
            let mut tally = Tally::default();
            turn_until(&mut running, &mut tally, |_, tally| {
                tally.messages.len() == 2000
            });
            assert_all_in_order(&tally.sequences(id), 2000);
        })
    });
    Source::new(64).send_many(2000, Some(20_000));
    for thread in threads {
        thread.join().unwrap();
    }
}
