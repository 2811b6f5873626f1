//! Another part of the program closes a socket's descriptor, and its number becomes that of a file. The kernel then refuses
//! the next receive.
#![allow(unsafe_code)] // dup2(2)

mod common;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use common::{
    Source, Tally, any_sender, assert_all_in_order, listener, own_namespace, start, turn_until,
    turn_until_event,
};
use nlring::{Backend, Engine, Event, Notice};

on_each_backend!(a_socket_without_its_descriptor_fails_alone);

fn a_socket_without_its_descriptor_fails_alone(backend: Backend) {
    own_namespace();
    // With few buffers they run out, so that a new receive is armed.
    let options = any_sender().buffer_count(2);
    let engine = Engine::builder().backend(match backend {
        Backend::Oneshot { .. } => Backend::Oneshot { depth: 2 },
        backend => backend,
    });
    let (mut running, bad) = start(&engine, listener(16 << 20), options);
    let good = running.add_with(listener(16 << 20), options).unwrap();
    let mut tally = Tally::default();
    let mut source = Source::new(64);
    source.send_many(100, None);
    turn_until(&mut running, &mut tally, |_, tally| {
        tally.messages.len() == 200
    });
    let file = File::open("/dev/null").unwrap();
    let number = running.socket(bad).unwrap().as_fd().as_raw_fd();
    // SAFETY: the call takes two descriptors. It closes one that others own, which is what is tested: the owner's calls
    // then reach another file, and fail.
    assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), number) }, number);
    source.send_many(1000, None);
    turn_until_event(&mut running, |event, _| {
        match event {
            Event::Notice(id, Notice::Retried(_)) => assert_eq!(id, bad, "its drop counter"),
            event => tally.note(event),
        }
        !tally.failed.is_empty() && tally.sequences(good).len() == 1100
    });
    let [(failed, why)] = &tally.failed[..] else {
        panic!("{:?}", tally.failed);
    };
    assert_eq!(*failed, bad);
    assert!(why.contains("os error 88"), "ENOTSOCK: {why}");
    let statistics = running.reclaim(bad).unwrap().statistics;
    let got = tally.sequences(bad);
    assert_all_in_order(&got, u32::try_from(got.len()).unwrap());
    assert_eq!(
        statistics.received,
        got.len() as u64,
        "what came until then"
    );
    assert_all_in_order(&tally.sequences(good), 1100);
}
