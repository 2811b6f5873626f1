//! Messages that other programs forge, from a process with the capability: none of them becomes an event, an entry or a
//! part of a dump.

mod common;

use std::fs;

use nlring::message::flags;
use nlring::{MessageBuilder, Protocol, Socket};
use rustix::process::Signal;

use common::{
    Directory, Ended, Events, Groups, Run, await_that, make_flows, make_routes, own_namespace,
};

/// What a forger sends: to whom, and in which protocol.
struct Forger {
    socket: Socket,
    events: Events,
    sent_count: u64,
}

impl Forger {
    fn new(events: Events) -> Self {
        let protocol = match events {
            Events::Conntrack => Protocol::NETFILTER,
            Events::Route => Protocol::ROUTE,
        };
        Self {
            socket: Socket::builder(protocol).open().expect("a socket"),
            events,
            sent_count: 0,
        }
    }

    /// A new entry, an end, and what answers look like: an acknowledgement and the end of a dump. None is a request, so
    /// the kernel ignores its copy.
    fn messages(&self, sequence: u32) -> Vec<Vec<u8>> {
        let (new, end, header): (u16, u16, &[u8]) = match self.events {
            Events::Conntrack => (0x100, 0x102, &[2, 0, 0, 0]),
            Events::Route => (24, 25, &[2, 32, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0]),
        };
        let message = |kind: u16, more: u16, bytes: &[u8]| {
            let mut message = Vec::new();
            MessageBuilder::new(&mut message, kind, more)
                .sequence(sequence)
                .bytes(bytes)
                .finish()
                .expect("a message");
            message
        };
        vec![
            message(new, flags::CREATE | flags::EXCL, header),
            message(end, 0, header),
            message(nlring::message::ERROR, 0, &[0; 20]),
            message(nlring::message::DONE, flags::MULTI, &[0; 4]),
        ]
    }

    /// Sends all to a socket, and all to a group.
    fn send(&mut self, port_id: u32, sequence: u32) {
        let group_mask = match self.events {
            Events::Conntrack => 1,  // new flows
            Events::Route => 1 << 6, // IPv4 routes
        };
        for message in self.messages(sequence) {
            self.socket.send_to(&message, port_id, 0).expect("sent");
            let _ = self.socket.send_to(&message, 0, group_mask); // the kernel may refuse its own copy
            self.sent_count += 2;
        }
    }
}

const ENTRIES: u32 = 20;

#[track_caller]
fn assert_undeceived(ended: &Ended, sent_count: u64, what: &str) {
    ended.assert_good();
    assert_eq!(ended.stat("foreign"), sent_count, "{what}: {ended:#?}");
    assert_eq!(
        ended.stat("events"),
        u64::from(ENTRIES),
        "{what}: {ended:#?}"
    );
    let counted = ended.stat("received") + ended.stat("dropped") + ended.stat("unread");
    let wanted = sent_count + u64::from(ENTRIES) + ended.stat("requests");
    assert_eq!(counted, wanted, "{what}: {ended:#?}");
}

#[test]
fn forged_messages_are_counted_and_become_no_events() {
    for (events, command) in [(Events::Conntrack, "conntrack"), (Events::Route, "route")] {
        for backend in ["multishot", "oneshot", "recvmmsg"] {
            own_namespace();
            let what = format!("{command} --backend {backend}");
            let follower = Run::new(&what).start();
            let mut forger = Forger::new(events);
            let port_id = Groups::of(events).listener();
            for sequence in 0..5 {
                forger.send(port_id, sequence);
            }
            make_entries(events);
            follower.await_lines(ENTRIES as usize);
            assert_undeceived(&follower.end(), forger.sent_count, &what);
        }
    }
}

fn make_entries(events: Events) {
    match events {
        Events::Conntrack => make_flows(0..ENTRIES),
        Events::Route => make_routes(0..ENTRIES),
    }
}

/// Forged answers to a mirror's barriers and dumps, while it makes them.
#[test]
fn forged_messages_change_no_table() {
    for (events, command) in [(Events::Conntrack, "conntrack"), (Events::Route, "route")] {
        own_namespace();
        let directory = Directory::new();
        let table = directory.file("table");
        let mut run = Run::new(&format!("{command} --mirror --audit-interval 1s"));
        run.command.args(["--table", &table]);
        let follower = run.start();
        let mut forger = Forger::new(events);
        let port_id = Groups::of(events).listener();
        for sequence in 0..200 {
            forger.send(port_id, sequence);
        }
        make_entries(events);
        follower.await_lines(ENTRIES as usize);
        for sequence in 200..400 {
            forger.send(port_id, sequence);
        }
        follower.signal(Signal::USR1);
        await_that("the table is written", || fs::metadata(&table).is_ok());
        let ended = follower.end();
        assert_undeceived(&ended, forger.sent_count, command);
        let text = fs::read_to_string(&table).expect("the table");
        let made = text
            .lines()
            .filter(|line| line.contains("\"10.0.0."))
            .count();
        assert_eq!(made, ENTRIES as usize, "{command}: {text}");
        assert_eq!(ended.stat("audit_differences"), 0, "{command}: {ended:#?}");
    }
}
