//! The memory of mirrors while an outsider makes as many entries as possible: it stays within the bound, all events are
//! handed out, and the mirror recovers when the table is small again. The allocator counts.

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::own_namespace;
use nlring::conntrack::{self, Flow, Repeats};
use nlring::message::flags;
use nlring::{
    EventKind, Message, MessageBuilder, MessageList, MirrorOptions, Protocol, RecvFlags, Socket,
    route,
};
use nlring_testing::allocator::{Counting, allocated_bytes};
use nlring_testing::await_that;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a mirror takes beside its entries, however many there are.
const FIXED_BYTES: usize = 16 << 10;
const BOUND_BYTES: usize = 8 << 20;
const MANY: u32 = 1_000_000;
/// What a mirror of flows takes besides its entries: the ends that it remembers.
const ENDS_BYTES: usize = 9 << 20;

/// Only one test at a time, because the allocator counts for all threads.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    own_namespace();
    guard
}

/// The most bytes that were allocated since a moment.
struct Peak {
    before_bytes: usize,
    most_bytes: usize,
}

impl Peak {
    fn begin() -> Self {
        Self {
            before_bytes: allocated_bytes(),
            most_bytes: 0,
        }
    }

    fn look(&mut self) {
        let bytes = allocated_bytes().saturating_sub(self.before_bytes);
        self.most_bytes = self.most_bytes.max(bytes);
    }

    #[track_caller]
    fn assert_at_most(&self, bytes: usize) {
        let most_bytes = self.most_bytes;
        println!("at most {most_bytes} bytes, of {bytes}");
        assert!(most_bytes <= bytes, "{most_bytes} bytes, of {bytes}");
    }
}

/// A table of flows or of routes, and the socket of its events.
trait Table {
    fn new(options: MirrorOptions) -> Self;
    fn socket() -> Socket;
    /// The event of an entry with this number.
    fn event(number: u32, kind: EventKind, buffer: &mut Vec<u8>);
    /// Feeds an event. The result is how many changes were handed out.
    fn feed(&mut self, message: &Message<'_>) -> u32;
    /// Goes on with a dump. The result is how many changes were handed out.
    fn advance(&mut self, socket: &Socket) -> u32;
    fn state(&self) -> State;
}

#[derive(Debug)]
struct State {
    is_synced: bool,
    is_full: bool,
    entry_count: usize,
}

impl Table for conntrack::Mirror {
    fn new(options: MirrorOptions) -> Self {
        Self::new(options)
    }

    fn socket() -> Socket {
        let builder = Socket::builder(Protocol::NETFILTER).groups(Self::GROUPS);
        builder.open().expect("a socket")
    }

    fn event(number: u32, kind: EventKind, buffer: &mut Vec<u8>) {
        let (message_type, flags) = match kind {
            EventKind::New => (0x100, flags::CREATE | flags::EXCL),
            EventKind::Delete => (0x102, 0),
            _ => (0x100, 0),
        };
        let ([_, b, c, d], server) = (number.to_be_bytes(), [192, 0, 2, 1]);
        MessageBuilder::new(buffer, message_type, flags)
            .bytes(&[2, 0, 0, 0])
            .nested(1, |orig| put_tuple(orig, [10, b, c, d], server))
            .nested(2, |reply| put_tuple(reply, server, [10, b, c, d]))
            .attribute_be32(12, number) // id
            .attribute_be32(3, 0x8) // status: confirmed
            .attribute_be32(7, 600) // timeout
            .finish()
            .expect("a short message");
    }

    fn feed(&mut self, message: &Message<'_>) -> u32 {
        let mut count = 0;
        self.feed_message(message, |change| count += u32::from(is_flow(&change)));
        count
    }

    fn advance(&mut self, socket: &Socket) -> u32 {
        let mut count = 0;
        self.advance(socket, |change| count += u32::from(is_flow(&change)))
            .expect("a dump");
        count
    }

    fn state(&self) -> State {
        State {
            is_synced: self.is_synced(),
            is_full: self.health().is_full,
            entry_count: self.len(),
        }
    }
}

fn put_tuple(builder: MessageBuilder<'_>, from: [u8; 4], to: [u8; 4]) -> MessageBuilder<'_> {
    builder
        .nested(1, |ip| ip.attribute(1, &from).attribute(2, &to))
        .nested(2, |layer4| layer4.attribute_u8(1, 89))
}

fn is_flow(change: &conntrack::Change<'_>) -> bool {
    matches!(change, conntrack::Change::Flow { .. })
}

impl Table for route::Mirror {
    fn new(options: MirrorOptions) -> Self {
        Self::new(options)
    }

    fn socket() -> Socket {
        let builder = Socket::builder(Protocol::ROUTE).groups(Self::GROUPS);
        builder.open().expect("a socket")
    }

    fn event(number: u32, kind: EventKind, buffer: &mut Vec<u8>) {
        let message_type = if kind == EventKind::Delete { 25 } else { 24 };
        let [_, b, c, d] = number.to_be_bytes();
        MessageBuilder::new(buffer, message_type, flags::CREATE)
            .bytes(&[2, 32, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]) // struct rtmsg
            .attribute_u32(15, 254) // table
            .attribute(1, &[10, b, c, d]) // destination
            .attribute(5, &[10, 0, 0, 2]) // gateway
            .attribute_u32(4, 3) // device
            .finish()
            .expect("a short message");
    }

    fn feed(&mut self, message: &Message<'_>) -> u32 {
        let mut count = 0;
        self.feed_message(message, |change| count += u32::from(is_route(&change)));
        count
    }

    fn advance(&mut self, socket: &Socket) -> u32 {
        let mut count = 0;
        self.advance(socket, |change| count += u32::from(is_route(&change)))
            .expect("a dump");
        count
    }

    fn state(&self) -> State {
        State {
            is_synced: self.is_synced(),
            is_full: self.health().is_full,
            entry_count: self.len(),
        }
    }
}

fn is_route(change: &route::Change<'_>) -> bool {
    matches!(change, route::Change::Route { .. })
}

/// Feeds one event of each number. The result is how many changes were handed out.
fn feed_all<T: Table>(mirror: &mut T, kind: EventKind, numbers: &[u32], peak: &mut Peak) -> u32 {
    let (mut buffer, mut count) = (Vec::new(), 0);
    for number in numbers {
        buffer.clear();
        T::event(*number, kind, &mut buffer);
        let list = MessageList::new(&buffer);
        count += list
            .iter()
            .map(|message| mirror.feed(&message))
            .sum::<u32>();
        peak.look();
    }
    count
}

/// Receives and dumps until the mirror equals the kernel's table. The result is how many changes were handed out.
fn sync<T: Table>(mirror: &mut T, socket: &Socket, peak: &mut Peak) -> u32 {
    let (mut buffer, mut count) = (vec![0; 32 << 10], 0);
    await_that("the mirror is synced", || {
        while let Ok(list) = socket.recv(&mut buffer, RecvFlags::DONT_WAIT) {
            count += list
                .iter()
                .map(|message| mirror.feed(&message))
                .sum::<u32>();
        }
        count += mirror.advance(socket);
        peak.look();
        mirror.state().is_synced
    });
    count
}

/// The kernel's own table is empty. An outsider makes a million entries, of which few have room.
fn a_million_entries<T: Table>(most_bytes: usize) {
    let socket = T::socket();
    let numbers: Vec<u32> = (0..MANY).collect();
    let mut peak = Peak::begin();
    let mut mirror = T::new(MirrorOptions::new().memory_bytes(BOUND_BYTES));
    sync(&mut mirror, &socket, &mut peak);
    let begun_count = feed_all(&mut mirror, EventKind::New, &numbers, &mut peak);
    assert_eq!(begun_count, MANY, "each is handed out");
    let full = mirror.state();
    assert!(full.is_full && !full.is_synced, "{full:?}");
    let fewest = BOUND_BYTES / 250;
    assert!((fewest..2 * fewest).contains(&full.entry_count), "{full:?}");
    peak.assert_at_most(most_bytes);
    let ended_count = feed_all(&mut mirror, EventKind::Delete, &numbers, &mut peak);
    assert_eq!(ended_count, MANY, "so is each end");
    assert_eq!(mirror.state().entry_count, 0);
    sync(&mut mirror, &socket, &mut peak);
    let state = mirror.state();
    assert!(!state.is_full && state.entry_count == 0, "{state:?}");
    peak.assert_at_most(most_bytes);
}

#[test]
fn a_million_flows_take_no_more_than_the_bound() {
    let _alone = alone();
    a_million_entries::<conntrack::Mirror>(BOUND_BYTES + ENDS_BYTES + FIXED_BYTES);
}

#[test]
fn a_million_routes_take_no_more_than_the_bound() {
    let _alone = alone();
    a_million_entries::<route::Mirror>(BOUND_BYTES + FIXED_BYTES);
}

/// Events come all the time, and the first dump does not: those that are held take no more than their 64 MiB, or the
/// bound, and then they are handed out.
#[test]
fn events_held_for_the_first_dump_take_no_more_than_the_bound() {
    const FLOWS: u32 = 1000;
    const HELD_BYTES: usize = 64 << 20;
    let _alone = alone();
    let socket = <conntrack::Mirror as Table>::socket();
    let new: Vec<u32> = (0..FLOWS).collect();
    let updates: Vec<u32> = new.iter().copied().cycle().take(MANY as usize).collect();
    for (options, most_bytes) in [
        (MirrorOptions::new(), HELD_BYTES),
        (MirrorOptions::new().memory_bytes(BOUND_BYTES), BOUND_BYTES),
    ] {
        let mut peak = Peak::begin();
        let mut mirror = <conntrack::Mirror as Table>::new(options);
        let mut count = feed_all(&mut mirror, EventKind::New, &new, &mut peak);
        count += feed_all(&mut mirror, EventKind::Update, &updates, &mut peak);
        let begun_count = count;
        count += feed_all(&mut mirror, EventKind::Delete, &new, &mut peak);
        count += sync(&mut mirror, &socket, &mut peak);
        assert!(begun_count > 0, "some were handed out before the dump");
        assert_eq!(count, 2 * FLOWS + MANY, "each is handed out");
        peak.assert_at_most(most_bytes + ENDS_BYTES);
    }
}

/// Without a bound of its own, and with a table that is read for the first time after a million routes.
#[test]
fn events_before_the_first_dump_of_routes_take_nothing() {
    let _alone = alone();
    let numbers: Vec<u32> = (0..MANY).collect();
    let mut peak = Peak::begin();
    let mut mirror = <route::Mirror as Table>::new(MirrorOptions::new());
    let count = feed_all(&mut mirror, EventKind::New, &numbers, &mut peak);
    assert_eq!((count, mirror.len()), (0, 0), "the dump will have them");
    peak.assert_at_most(64 << 10);
}

#[test]
fn a_million_ends_take_no_more_than_the_bound_of_those_remembered() {
    let _alone = alone();
    let mut peak = Peak::begin();
    let (mut repeats, mut buffer) = (Repeats::default(), Vec::new());
    for number in 0..MANY {
        buffer.clear();
        <conntrack::Mirror as Table>::event(number, EventKind::Delete, &mut buffer);
        let list = MessageList::new(&buffer);
        for message in &list {
            let flow = Flow::decode(&message).expect("a flow");
            assert!(!repeats.is_repeated(&flow));
        }
        peak.look();
    }
    peak.assert_at_most(ENDS_BYTES);
}
