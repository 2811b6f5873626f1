//! Shards: every flow comes whole and in order to one of them, and the sums are exact.

mod common;

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, own_namespace};
use nlring::conntrack::{
    Filter, Flow, FlowChange, Group, Layer4, NewFlow, Requests, Shards, Split, Tuple,
};
use nlring::message::flags;
use nlring::{
    AddError, Engine, ErrorKind, Event, EventKind, Message, MessageBuilder, Namespace, Protocol,
    Socket, SocketBuilder, SocketId, Statistics,
};

const FLOW_COUNT: u32 = 20_000;
const COUNTS: [usize; 4] = [1, 2, 3, 8];
/// What happens to each flow.
const LIFE: [EventKind; 3] = [EventKind::New, EventKind::Update, EventKind::Delete];

fn groups() -> SocketBuilder {
    Socket::builder(Protocol::NETFILTER).groups([Group::New, Group::Update, Group::Destroy])
}

/// A socket that holds all events of a test.
fn large() -> SocketBuilder {
    groups().recv_buffer_bytes(256 << 20)
}

/// Tuples of both families and of several protocols, each once.
fn tuple(number: u32) -> Tuple {
    let [_, high, middle, low] = (number / 5).to_be_bytes();
    let (src, dst) = ([10, high, middle, low].into(), [192, 0, 2, 1].into());
    let ports = Layer4::Ports {
        src: 40_000,
        dst: if number % 10 < 5 { 53 } else { 443 },
    };
    let echo = Layer4::Icmp {
        icmp_type: 8,
        code: 0,
        id: 7,
    };
    match number % 5 {
        0 => Tuple::new(src, dst, 6, ports),
        1 => Tuple::new(src, dst, 17, ports),
        2 => Tuple::new(src, dst, 132, ports),
        3 => Tuple::new(src, dst, 1, echo),
        _ => {
            let address = |host: u32| Ipv6Addr::from((0xfd00 << 112) | u128::from(host));
            Tuple::new(address(number).into(), address(1).into(), 17, ports)
        }
    }
}

/// Makes flows, changes each, and removes it.
fn make_flows(numbers: impl Iterator<Item = u32>) {
    let mut requests = Requests::open().expect("a requester");
    for number in numbers {
        let flow = NewFlow::new(tuple(number), 600);
        requests.add(&flow).expect("added");
        let change = FlowChange::new().mark(7, u32::MAX);
        assert!(requests.update(&flow.key(), &change).expect("changed"));
        assert!(requests.delete(&flow.key(), None).expect("removed"));
    }
}

/// What one shard has received: the events of each flow, and the messages that are not events of flows.
#[derive(Default)]
struct Received {
    flows: HashMap<Tuple, Vec<EventKind>>,
    event_count: u64,
    others: Vec<u32>,
}

impl Received {
    fn note(&mut self, message: &Message<'_>) {
        match Flow::decode(message) {
            Some(flow) => {
                self.event_count += 1;
                self.flows.entry(flow.orig).or_default().push(flow.kind);
            }
            None => self.others.push(message.sequence()),
        }
    }

    fn assert_only_of(&self, split: Split, shard: usize) {
        for tuple in self.flows.keys() {
            assert_eq!(split.share_of(tuple) as usize, shard, "{tuple}");
        }
    }
}

/// How the shards run.
#[derive(Clone, Copy, Debug)]
enum Way {
    Threads,
    OneEngine,
}

/// Runs shards while `make_events` makes events of flows, until `expected_count` of them are received or lost. Returns
/// what each shard has received, and its statistics.
fn run(
    way: Way,
    shards: Shards,
    expected_count: u64,
    make_events: impl FnOnce() + Send,
) -> Vec<(Received, Statistics)> {
    match way {
        Way::Threads => run_threads(shards, expected_count, make_events),
        Way::OneEngine => run_one_engine(shards, expected_count, make_events),
    }
}

fn run_threads(
    shards: Shards,
    expected_count: u64,
    make_events: impl FnOnce(),
) -> Vec<(Received, Statistics)> {
    let (count_sender, counts) = mpsc::channel();
    let (result_sender, results) = mpsc::channel();
    let threads = shards.spawn(&Engine::builder(), |shard| {
        let (count_sender, result_sender) = (count_sender.clone(), result_sender.clone());
        let mut keep = Keep {
            shard,
            received: Received::default(),
            to: result_sender,
        };
        move |event, _| {
            let mut count = 0;
            match event {
                Event::Messages(_, list) => {
                    count = list.message_count() as u64;
                    list.iter().for_each(|message| keep.received.note(&message));
                }
                Event::Lost(_, loss) => count = loss.count,
                Event::Notice(_, notice) => println!("shard {shard}: {notice}"),
            }
            let _ = count_sender.send(count);
            ControlFlow::<()>::Continue(())
        }
    });
    let threads = threads.expect("threads");
    make_events();
    let mut count = 0;
    let deadline = Instant::now() + PATIENCE;
    while count < expected_count {
        let left = deadline.saturating_duration_since(Instant::now());
        count += counts.recv_timeout(left).expect("all events come");
    }
    threads.stop();
    let ends = threads.join();
    drop(result_sender);
    let mut received: Vec<_> = results.iter().collect();
    received.sort_by_key(|(shard, _)| *shard);
    assert_eq!(received.len(), ends.len());
    let statistics = ends.iter().map(|end| {
        assert!(matches!(end.outcome, Ok(None)), "{:?}", end.outcome);
        end.statistics()
    });
    let received = received.into_iter().map(|(_, received)| received);
    received.zip(statistics.collect::<Vec<_>>()).collect()
}

/// Sends what a callback has received when the callback is dropped.
struct Keep {
    shard: usize,
    received: Received,
    to: Sender<(usize, Received)>,
}

impl Drop for Keep {
    fn drop(&mut self) {
        let received = std::mem::take(&mut self.received);
        let _ = self.to.send((self.shard, received));
    }
}

fn run_one_engine(
    shards: Shards,
    expected_count: u64,
    make_events: impl FnOnce() + Send,
) -> Vec<(Received, Statistics)> {
    make_events();
    let mut engine = Engine::builder().build().expect("an engine");
    let sockets = shards.into_sockets().into_iter();
    let ids: Result<Vec<SocketId>, AddError> = sockets.map(|socket| engine.add(socket)).collect();
    let ids = ids.expect("added");
    let mut received: HashMap<SocketId, Received> = HashMap::new();
    let mut running = engine.start().expect("started");
    let mut count = 0;
    common::turn_until_event(&mut running, |event, _| {
        match event {
            Event::Messages(id, list) => {
                let received = received.entry(id).or_default();
                list.iter().for_each(|message| received.note(&message));
                count += list.message_count() as u64;
            }
            Event::Lost(_, loss) => count += loss.count,
            Event::Notice(id, notice) => panic!("{id}: {notice}"),
        }
        count >= expected_count
    });
    let of = |id: &SocketId| {
        let statistics = running.statistics(*id).expect("its statistics");
        (received.remove(id).unwrap_or_default(), statistics)
    };
    ids.iter().map(of).collect()
}

#[test]
fn every_flow_is_whole_and_in_order_on_one_shard() {
    own_namespace();
    for way in [Way::Threads, Way::OneEngine] {
        for count in COUNTS {
            let shards = Shards::builder(count).open(&large()).expect("shards");
            assert_eq!(shards.sockets().len(), count);
            let split = shards.split();
            let all_count = u64::from(FLOW_COUNT) * LIFE.len() as u64;
            let received = run(way, shards, all_count, || make_flows(0..FLOW_COUNT));
            let mut flow_count = 0;
            for (shard, (received, statistics)) in received.iter().enumerate() {
                received.assert_only_of(split, shard);
                assert!(received.flows.values().all(|events| events == &LIFE));
                assert!(received.others.is_empty());
                assert_eq!(statistics.received, received.event_count);
                assert_eq!(statistics.messages, received.event_count);
                flow_count += received.flows.len();
                // Each share has its part of the flows.
                let even = FLOW_COUNT as usize / count;
                assert!(received.flows.len().abs_diff(even) < even / 5 + 1);
            }
            assert_eq!(flow_count, FLOW_COUNT as usize, "{count} shards, {way:?}");
            let sum: Statistics = received.iter().map(|(_, statistics)| *statistics).sum();
            assert_eq!((sum.received, sum.dropped, sum.unread), (all_count, 0, 0));
        }
    }
}

/// The receive buffers are so small that most events are lost. What is lost is counted, on the shard that it is of.
#[test]
fn losses_are_exact_for_each_shard_and_together() {
    own_namespace();
    for way in [Way::Threads, Way::OneEngine] {
        for count in COUNTS {
            let small = groups().recv_buffer_bytes(4096);
            let shards = Shards::builder(count).open(&small).expect("shards");
            let mut offered = vec![0_u64; count];
            for number in 0..FLOW_COUNT {
                offered[shards.of(&tuple(number))] += LIFE.len() as u64;
            }
            let split = shards.split();
            let all_count = offered.iter().sum();
            let received = run(way, shards, all_count, || make_flows(0..FLOW_COUNT));
            for (shard, (received, statistics)) in received.iter().enumerate() {
                received.assert_only_of(split, shard);
                let sum = statistics.received + statistics.dropped + statistics.unread;
                assert_eq!(sum, offered[shard], "shard {shard} of {count}, {way:?}");
                assert_eq!(statistics.received, received.event_count);
            }
            let sum: Statistics = received.iter().map(|(_, statistics)| *statistics).sum();
            assert_eq!(sum.received + sum.dropped + sum.unread, all_count);
            if matches!(way, Way::OneEngine) {
                assert!(sum.dropped > all_count / 2, "{sum:?}");
            }
        }
    }
}

#[test]
fn a_filter_of_the_users_leaves_out_the_same_flows_on_every_shard() {
    own_namespace();
    let filter: Filter = "proto {tcp, udp} and dport 53 and not family ipv6"
        .parse()
        .unwrap();
    let is_wanted = |tuple: &Tuple| {
        let is_53 = tuple.ports().is_some_and(|(_, dst)| dst == 53);
        is_53 && matches!(tuple.protocol, 6 | 17) && tuple.src.is_ipv4()
    };
    let wanted: Vec<_> = (0..FLOW_COUNT).map(tuple).filter(is_wanted).collect();
    for count in COUNTS {
        let builder = Shards::builder(count).filter(filter.clone());
        let shards = builder.open(&large()).expect("shards");
        let split = shards.split();
        let all_count = (wanted.len() * LIFE.len()) as u64;
        let received = run(Way::Threads, shards, all_count, || {
            make_flows(0..FLOW_COUNT);
        });
        let mut flow_count = 0;
        for (shard, (received, _)) in received.iter().enumerate() {
            received.assert_only_of(split, shard);
            for (tuple, events) in &received.flows {
                assert!(is_wanted(tuple) && events == &LIFE, "{tuple}: {events:?}");
            }
            flow_count += received.flows.len();
        }
        assert_eq!(flow_count, wanted.len());
        let sum: Statistics = received.iter().map(|(_, statistics)| *statistics).sum();
        assert_eq!((sum.received, sum.dropped), (all_count, 0));
    }
}

/// Another process multicasts to conntrack's group what the kernel would not send, or sends rarely: expectations,
/// messages of other subsystems, events without a tuple, events with several messages. Each comes exactly once.
#[test]
fn what_is_no_event_of_a_flow_comes_to_one_shard() {
    own_namespace();
    for count in COUNTS {
        let filter: Filter = "not all".parse().unwrap();
        let shards = Shards::builder(count)
            .filter(filter)
            .open(&large())
            .expect("shards");
        let sender = Socket::builder(Protocol::NETFILTER)
            .open()
            .expect("a sender");
        let types: [u16; 6] = [0x200, 0x202, 0x104, 0xa00, 0x302, 0x10];
        for (sequence, message_type) in (0..).zip(types) {
            let mut bytes = Vec::new();
            for _ in 0..=sequence % 2 {
                MessageBuilder::new(&mut bytes, message_type, flags::CREATE)
                    .sequence(sequence)
                    .bytes(&[2, 0, 0, 0])
                    .finish()
                    .expect("a short message");
            }
            let _ = sender.send_to(&bytes, 0, Group::New.number()); // the kernel itself refuses it
        }
        let received = received_of_others(shards);
        let wanted = [0, 1, 1, 2, 3, 3, 4, 5, 5];
        assert_eq!(received[0], wanted, "shard 0 of {count}");
        assert!(received[1..].iter().all(Vec::is_empty), "{received:?}");
    }
    // An event without a tuple is in some share, and comes once.
    for count in COUNTS {
        let shards = Shards::builder(count).open(&large()).expect("shards");
        let sender = Socket::builder(Protocol::NETFILTER)
            .open()
            .expect("a sender");
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, 0x102, 0)
            .sequence(9)
            .bytes(&[2, 0, 0, 0])
            .finish()
            .expect("a short message");
        let _ = sender.send_to(&bytes, 0, Group::New.number());
        assert_eq!(received_of_others(shards).concat(), [9], "{count} shards");
    }
}

/// The sequence numbers of the messages that each shard has, from any sender.
fn received_of_others(shards: Shards) -> Vec<Vec<u32>> {
    let sockets = shards.into_sockets().into_iter();
    sockets
        .map(|socket| common::sequences_left(&socket))
        .collect()
}

/// A request on the socket of any shard is answered.
#[test]
fn every_shard_receives_answers() {
    own_namespace();
    let filter: Filter = "not all".parse().unwrap();
    let shards = Shards::builder(3)
        .filter(filter)
        .open(&large())
        .expect("shards");
    make_flows(0..10);
    let mut requests = Requests::open().expect("a requester");
    let flow = NewFlow::new(tuple(0), 600);
    requests.add(&flow).expect("added");
    for socket in shards.sockets() {
        common::request(socket, 0x100, 0, &[2, 0, 0, 0], |builder| builder)
            .expect_err("a flow without a tuple is refused");
        let mut dump = Vec::new();
        MessageBuilder::new(&mut dump, 0x101, flags::REQUEST | flags::DUMP)
            .sequence(5)
            .bytes(&[2, 0, 0, 0])
            .finish()
            .expect("a request");
        socket.send(&dump).expect("sent");
        let sequences = common::sequences_left(socket);
        assert_eq!(sequences, [5, 5], "the flow, and the end of the dump");
    }
}

/// No shard receives an event of another shard while the shards are opened under load.
#[test]
fn the_filter_is_there_before_the_first_event() {
    own_namespace();
    let namespace = Namespace::current().expect("this namespace");
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut requests = Requests::open_in(&namespace).expect("a requester");
            for number in (0..FLOW_COUNT).cycle() {
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
                let flow = NewFlow::new(tuple(number), 600);
                requests.add(&flow).expect("added");
                requests.delete(&flow.key(), None).expect("removed");
            }
        });
        let mut event_count = 0;
        for _ in 0..100 {
            let shards = Shards::builder(8).open(&groups()).expect("shards");
            let split = shards.split();
            thread::sleep(Duration::from_millis(1));
            for (shard, socket) in shards.into_sockets().into_iter().enumerate() {
                let mut received = Received::default();
                let mut buffer = vec![0; 8192];
                while let Ok(list) = socket.recv(&mut buffer, nlring::RecvFlags::DONT_WAIT) {
                    list.iter().for_each(|message| received.note(&message));
                }
                received.assert_only_of(split, shard);
                event_count += received.event_count;
            }
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(event_count > 0);
    });
}

#[test]
fn shards_receive_in_another_namespace() {
    let other = thread::spawn(|| {
        own_namespace();
        Namespace::current().expect("this namespace")
    });
    let other = other.join().expect("a namespace");
    own_namespace();
    let shards = Shards::builder(2)
        .open(&large().namespace(&other))
        .expect("shards");
    make_flows(0..100); // here
    let mut requests = Requests::open_in(&other).expect("a requester");
    let received = run(Way::Threads, shards, 100, || {
        for number in 100..200 {
            let flow = NewFlow::new(tuple(number), 600);
            requests.add(&flow).expect("added");
        }
    });
    let sum: Statistics = received.iter().map(|(_, statistics)| *statistics).sum();
    assert_eq!(sum.received, 100);
}

#[test]
fn the_same_seed_gives_the_same_shards() {
    own_namespace();
    let open = |seed| {
        Shards::builder(8)
            .seed(seed)
            .open(&groups())
            .expect("shards")
    };
    let [first, second, other] = [open(7), open(7), open(8)];
    let same = |left: &Shards, right: &Shards| {
        let is_same = |number: &u32| left.of(&tuple(*number)) == right.of(&tuple(*number));
        (0..1000).filter(is_same).count()
    };
    assert_eq!(same(&first, &second), 1000);
    assert!(same(&first, &other) < 300);
}

/// One shard breaks off; all end, and its value is returned.
#[test]
fn when_one_shard_breaks_off_all_end() {
    own_namespace();
    let shards = Shards::builder(3).open(&groups()).expect("shards");
    let breaking = shards.of(&tuple(0));
    let threads = shards.spawn(&Engine::builder(), |shard| {
        move |event, _| match event {
            Event::Messages(..) => ControlFlow::Break(shard),
            _ => ControlFlow::Continue(()),
        }
    });
    let threads = threads.expect("threads");
    let mut requests = Requests::open().expect("a requester");
    requests.add(&NewFlow::new(tuple(0), 600)).expect("added");
    let outcomes: Vec<_> = threads.join().into_iter().map(|end| end.outcome).collect();
    for (shard, outcome) in outcomes.into_iter().enumerate() {
        let expected = (shard == breaking).then_some(shard);
        assert_eq!(outcome.expect("no failure"), expected);
    }
}

#[test]
fn when_a_callback_panics_all_end() {
    own_namespace();
    let shards = Shards::builder(3).open(&groups()).expect("shards");
    let threads = shards.spawn(&Engine::builder(), |_| {
        |event, _| -> ControlFlow<()> {
            assert!(
                !matches!(event, Event::Messages(..)),
                "as the test wants it"
            );
            ControlFlow::Continue(())
        }
    });
    let threads = threads.expect("threads");
    let mut requests = Requests::open().expect("a requester");
    requests.add(&NewFlow::new(tuple(0), 600)).expect("added");
    let join = std::panic::AssertUnwindSafe(|| threads.join());
    std::panic::catch_unwind(join).expect_err("the callback's panic");
}

/// Dropping the threads ends them, and so does the handle of a single shard.
#[test]
fn shards_end_when_they_are_dropped_or_one_is_stopped() {
    own_namespace();
    let spawn = || {
        let shards = Shards::builder(3).open(&groups()).expect("shards");
        let callback =
            |_| |_: Event<'_>, _: &mut nlring::Control<'_>| ControlFlow::<()>::Continue(());
        shards.spawn(&Engine::builder(), callback).expect("threads")
    };
    let threads = spawn();
    threads.stop_handles()[1].stop();
    assert_eq!(threads.join().len(), 3);
    drop(spawn());
}

#[test]
fn what_cannot_be_opened_is_an_error_with_a_remedy() {
    own_namespace();
    let program = Filter::default().program().expect("a program");
    for (count, socket, text) in [
        (0, groups(), "from 1 to 256"),
        (257, groups(), "from 1 to 256"),
        (2, Socket::builder(Protocol::ROUTE), "Protocol::NETFILTER"),
        (
            2,
            groups().filter(&program),
            "give the filter to the shards",
        ),
    ] {
        let error = Shards::builder(count).open(&socket).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(text), "{error}");
    }
    let error = Shards::builder(2)
        .open(&groups().port_id(4242))
        .unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{error}");
    common::give_up_capability(common::CAP_NET_ADMIN);
    let error = Shards::builder(2).open(&groups()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}
