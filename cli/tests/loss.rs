//! Datagrams that do not fit the receive buffer are reported in the stream, and counted exactly.

mod common;

use std::ops::Range;

use nlring::message::flags;
use nlring::{MessageBuilder, Protocol, Socket};

use common::{
    Ended, Events, Follower, Groups, await_that, flush_flows, is_real_root, make_flows,
    make_routes, own_namespace, remove_routes,
};

const BACKENDS: [&str; 3] = ["multishot", "oneshot", "recvmmsg"];

fn make(events: Events, numbers: Range<u32>) {
    match events {
        Events::Conntrack => make_flows(numbers),
        Events::Route => make_routes(numbers),
    }
}

/// Removes all entries, with one event for each.
fn remove(events: Events, numbers: Range<u32>) {
    match events {
        Events::Conntrack => flush_flows(),
        Events::Route => remove_routes(numbers),
    }
}

/// Asserts that each datagram was received or reported as lost, and that the times are within the test.
#[track_caller]
fn assert_all_accounted_for(ended: &Ended, sent_count: u64, began: jiff::Timestamp) {
    ended.assert_good();
    assert_eq!(
        ended.stat("received") + ended.stat("dropped"),
        sent_count,
        "{}",
        ended.errors
    );
    assert_eq!(ended.stat("events"), ended.stat("received"));
    assert_eq!(ended.event_count(), ended.stat("events"));
    let losses = ended.losses();
    let reported: u64 = losses.iter().map(|loss| loss.count).sum();
    assert_eq!(reported, ended.stat("dropped"), "{losses:?}");
    for loss in &losses {
        assert!(loss.count > 0, "{losses:?}");
        assert!(
            began <= loss.since && loss.since <= loss.until,
            "{losses:?}"
        );
        assert!(loss.until <= jiff::Timestamp::now(), "{losses:?}");
    }
    let in_order = losses.windows(2).all(|pair| pair[0].until <= pair[1].since);
    assert!(in_order, "{losses:?}");
}

/// While the command is stopped, the kernel drops what its tiny buffer cannot hold.
fn lose_while_frozen(command: &str, events: Events) {
    for backend in BACKENDS {
        own_namespace();
        let began = jiff::Timestamp::now();
        let follower = Follower::start(&format!("{command} --recv-buffer 1 --backend {backend}"));
        make(events, 0..1);
        follower.await_lines(1);
        follower.freeze();
        make(events, 1..500);
        follower.thaw();
        await_that("the loss is reported while it runs", || {
            follower
                .lines()
                .iter()
                .any(|line| line.starts_with(" [LOST] "))
        });
        make(events, 500..501); // the stream goes on
        let ended = follower.end();
        assert_all_accounted_for(&ended, 501, began);
        assert!(ended.stat("dropped") > 400, "{backend}: {}", ended.errors);
        assert_eq!(
            ended.stats["backend"]
                .as_str()
                .map(|name| name.split(':').next()),
            Some(Some(backend))
        );
        assert_eq!(ended.stat("recv_buffer_requested_bytes"), 1);
    }
}

#[test]
fn lost_flows_are_reported() {
    lose_while_frozen("conntrack", Events::Conntrack);
}

#[test]
fn lost_routes_are_reported() {
    lose_while_frozen("route", Events::Route);
}

/// Events come at full speed, into a buffer for a few. Nobody knows how many will be lost, but all are accounted for.
fn lose_at_full_speed(command: &str, events: Events) {
    for backend in BACKENDS {
        own_namespace();
        let began = jiff::Timestamp::now();
        let all = Follower::start(&format!("{command} --recv-buffer 64MiB"));
        let some = Follower::start(&format!(
            "{command} --recv-buffer 1 --backend {backend} --wait batch:1ms"
        ));
        make(events, 0..3_000);
        remove(events, 0..3_000);
        let all = all.end();
        assert_all_accounted_for(&all, 6_000, began);
        if is_real_root() {
            assert_eq!(all.stat("dropped"), 0); // other users cannot have so large a buffer
        }
        let some = some.end();
        assert_all_accounted_for(&some, 6_000, began);
        // The kernel alone makes the events of a flush, faster than anybody can receive them.
        if events == Events::Conntrack {
            assert!(some.stat("dropped") > 0, "{}", some.errors);
        }
        if all.stat("dropped") > 0 {
            continue;
        }
        // The events that came are whole and in order.
        let mut sent = all.output.lines();
        for line in some
            .output
            .lines()
            .filter(|line| !line.starts_with(" [LOST] "))
        {
            assert!(
                sent.any(|sent| sent == line),
                "not in order, or never sent: {line}"
            );
        }
    }
}

#[test]
fn a_burst_of_flows_is_accounted_for() {
    lose_at_full_speed("conntrack", Events::Conntrack);
}

#[test]
fn a_burst_of_routes_is_accounted_for() {
    lose_at_full_speed("route", Events::Route);
}

/// A program with CAP_NET_ADMIN can send to any socket, but only the kernel's messages are events.
#[test]
fn messages_of_other_senders_are_counted_and_not_shown() {
    for backend in BACKENDS {
        own_namespace();
        let follower = Follower::start(&format!("conntrack --backend {backend}"));
        let port_id = Groups::of(Events::Conntrack).listener();
        let mut forged = Vec::new();
        MessageBuilder::new(&mut forged, 0x100, flags::CREATE | flags::EXCL)
            .bytes(&[2, 0, 0, 0])
            .finish()
            .expect("a message");
        let socket = Socket::builder(Protocol::NETFILTER)
            .open()
            .expect("a socket");
        for _ in 0..3 {
            socket.send_to(&forged, port_id, 0).expect("sent");
        }
        make_flows(0..2);
        follower.await_lines(2);
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(ended.event_count(), 2, "{}", ended.output);
        assert_eq!((ended.stat("foreign"), ended.summary("foreign")), (3, 3));
        assert_eq!(ended.stat("received"), 5, "{backend}: they were received");
    }
}
