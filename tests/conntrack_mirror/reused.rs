//! Tuples that are used again and again, while the mirror is far behind the events and asks the kernel about them.

use std::collections::HashMap;
use std::thread;
use std::time::Instant;

use nlring::conntrack::{Change, Flow, Key, Mirror};
use nlring::{ErrorKind, EventKind, MirrorOptions, Protocol, RecvFlags, Socket};

use crate::PATIENCE;
use crate::common::own_namespace;
use crate::maker::Maker;

/// How many flows of a key began and ended.
type Lifetimes = HashMap<Key, (u32, u32)>;

fn note(lifetimes: &mut Lifetimes, flow: &Flow<'_>) {
    let (begun, ended) = lifetimes.entry(flow.key()).or_default();
    match flow.kind {
        EventKind::New => *begun += 1,
        EventKind::Delete => *ended += 1,
        EventKind::Update | EventKind::Entry => {}
    }
}

/// A mirror that takes one datagram at a time, and counts the lifetimes.
struct Slow {
    socket: Socket,
    mirror: Mirror,
    buffer: Vec<u8>,
    reported: Lifetimes,
}

impl Slow {
    /// A mirror after its first round.
    fn new() -> Self {
        let builder = Socket::builder(Protocol::NETFILTER).groups(Mirror::GROUPS);
        let socket = builder.recv_buffer_bytes(16 << 20).open();
        let mut this = Self {
            socket: socket.expect("a socket in conntrack's groups"),
            mirror: Mirror::new(MirrorOptions::new()),
            buffer: vec![0; 32 << 10],
            reported: HashMap::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        while !this.mirror.is_complete() {
            assert!(Instant::now() < deadline, "no first round");
            this.take();
            this.advance();
        }
        this
    }

    /// Takes the next datagram. False: none is queued.
    fn take(&mut self) -> bool {
        let list = match self.socket.recv(&mut self.buffer, RecvFlags::DONT_WAIT) {
            Ok(list) => list,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) => panic!("{error}"),
        };
        for message in &list {
            let reported = &mut self.reported;
            self.mirror.feed_message(&message, |change| {
                if let Change::Flow { flow, .. } = change {
                    note(reported, &flow);
                }
            });
        }
        true
    }

    fn advance(&mut self) {
        let reported = &mut self.reported;
        let advanced = self.mirror.advance(&self.socket, |change| {
            if let Change::Flow { flow, .. } = change {
                note(reported, &flow);
            }
        });
        advanced.expect("advanced");
    }

    /// Waits until the mirror has something to do, and lets it do that.
    fn advance_when_due(&mut self) {
        let now = Instant::now();
        if let Some(due) = self.mirror.due(now) {
            thread::sleep(due.saturating_duration_since(now));
        }
        self.advance();
    }
}

#[test]
fn each_lifetime_of_a_tuple_is_reported_however_late_its_events_are_read() {
    const TUPLES: u32 = 50;
    const PASSES: u32 = 20;
    /// In each pass each tuple is used this often. The last flow lives while the kernel is asked.
    const LIVES: u32 = 6;

    own_namespace();
    let mut slow = Slow::new();
    let mut maker = Maker::new();
    for pass in 1..=PASSES {
        for _ in 1..LIVES {
            maker.make(0..TUPLES);
            maker.remove(0..TUPLES);
        }
        maker.make(0..TUPLES);
        let queued = TUPLES * (2 * LIVES - 1);
        for _ in 0..queued * pass / PASSES {
            assert!(slow.take(), "an event is lost");
        }
        slow.advance_when_due();
        while slow.take() {}
        assert_eq!(slow.mirror.len(), TUPLES as usize);
        maker.remove(0..TUPLES);
    }
    while slow.take() {}
    let lives = (PASSES * LIVES, PASSES * LIVES);
    let wrong = slow
        .reported
        .iter()
        .filter(|(_, reported)| **reported != lives);
    assert_eq!(wrong.collect::<Vec<_>>(), [], "{lives:?} are right");
    assert_eq!(slow.reported.len(), TUPLES as usize);
    assert_eq!(slow.mirror.len(), 0);
}
