//! What a filter costs the sender of an event, and what it saves the receiver.
//!
//! The sender is this process, which multicasts the DESTROY event of a TCP connection on `NETLINK_USERSOCK`: the kernel
//! runs the program in its context, as it does in conntrack's. For the receiver the events are those of real flows.
//! The ways take turns in one run, because a machine's speed drifts; each figure is the median over rounds.
//!
//! `cargo bench --bench filter`. Without `--bench`, as `cargo test --benches` runs it, each way runs once and briefly.
#![allow(
    clippy::cast_precision_loss,
    reason = "counts here are far from any limit"
)]

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use nlring::conntrack::{Filter, Group, Key, Layer4, NewFlow, Requests, Tuple};
use nlring::{Batch, Engine, Event, Message, Protocol, RecvFlags, Socket, Wait};
use nlring_testing::events::flow_ends;
use nlring_testing::{cpu_time, own_namespace};

/// The event is from 10.0.0.2 to 192.0.2.1, TCP port 443, with mark 7. It is in the second half of all flows.
const ACCEPTING: [(&str, &str); 6] = [
    ("1 id", "id 4273560405"),
    ("1 share", "share 1/2"),
    ("1 term", "dport 443"),
    ("3 terms", "proto tcp and dport 443 and not src 10.9.0.0/16"),
    ("10 terms", ""),
    ("100 terms", ""),
];

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    own_namespace();
    let (round_count, event_count) = if is_bench { (41, 20_000) } else { (1, 500) };
    sender(round_count, event_count);
    ends(round_count, event_count / 4);
    let flow_count = if is_bench { 100_000 } else { 1_000 };
    receiver(if is_bench { 5 } else { 1 }, flow_count);
}

/// Filters of several sizes, of which the event matches all or none.
fn filters() -> Vec<(String, Option<Filter>)> {
    let of_many = |count: u32, last: &str| {
        // All are evaluated: none of the others matches.
        let others = (1..count).map(|host| match host % 3 {
            0 => format!("src 10.1.{host}.0/24"),
            1 => format!("dport {}", 1000 + host),
            _ => format!("mark {}", 1000 + host),
        });
        let all: Vec<_> = others.chain([last.to_owned()]).collect();
        all.join(" or ")
    };
    let mut filters = vec![("no filter".to_owned(), None)];
    for (name, text) in ACCEPTING {
        let (accepts, rejects) = match name {
            "10 terms" => (of_many(10, "reply sport 443"), of_many(10, "reply sport 1")),
            "100 terms" => (
                of_many(100, "reply sport 443"),
                of_many(100, "reply sport 1"),
            ),
            "1 id" => (text.to_owned(), text.replace("id", "not id")),
            "1 share" => (text.to_owned(), text.replace("1/2", "0/2")),
            _ => (text.to_owned(), text.replace("443", "80")),
        };
        for (outcome, text) in [("accepted", accepts), ("rejected", rejects)] {
            let filter = text.parse().expect("a filter");
            filters.push((format!("{name}, {outcome}"), Some(filter)));
        }
    }
    filters
}

/// What one event costs its sender, by the filter of its one listener.
fn sender(round_count: usize, event_count: u32) {
    let event = flow_ends();
    let sender = Socket::builder(Protocol::USERSOCK)
        .open()
        .expect("a sender");
    let listener = Socket::builder(Protocol::USERSOCK)
        .group(1_u32)
        .recv_buffer_bytes(256 << 20)
        .nonblocking(true)
        .open()
        .expect("a listener");
    let filters = filters();
    let mut costs = vec![Vec::new(); filters.len()];
    for _ in 0..round_count {
        for ((name, filter), costs) in filters.iter().zip(&mut costs) {
            match filter {
                Some(filter) => {
                    let program = filter.program().expect("a program");
                    listener.set_filter(&program).expect("attached");
                }
                None => listener.clear_filter().expect("removed"),
            }
            let before = cpu_time();
            for _ in 0..event_count {
                _ = sender.send_to(&event, 0, 1); // the kernel itself refuses it
            }
            let elapsed = cpu_time().saturating_sub(before);
            costs.push(elapsed.as_nanos() as f64 / f64::from(event_count));
            let received_count = drain(&listener);
            let is_accepted = !name.ends_with("rejected");
            assert_eq!(received_count > 0, is_accepted, "{name}");
        }
    }
    println!("what one event costs its sender, with one listener (send and delivery):");
    let base = costs[0].clone();
    for ((name, filter), costs) in filters.iter().zip(&costs) {
        let ratios: Vec<_> = costs
            .iter()
            .zip(&base)
            .map(|(own, base)| own / base)
            .collect();
        let count = filter.as_ref().map_or(0, |filter| {
            let program = filter.program().expect("a program");
            program.instructions().len()
        });
        println!(
            "{name:24} {:7.0} ns  {:5.3} x  {count:4} instructions",
            median(costs),
            median(&ratios)
        );
    }
}

/// What the end of a real flow costs the thread that causes it, by the filter of the one listener: the request to
/// remove it, its event, and the delivery.
fn ends(round_count: usize, flow_count: u32) {
    let three = "proto udp and dport 53 and not src 172.16.0.0/12";
    let filters: [(&str, Option<Filter>); 3] = [
        ("no filter", None),
        ("3 terms, accepted", Some(three.parse().expect("a filter"))),
        (
            "3 terms, rejected",
            Some(three.replace("53", "54").parse().expect("a filter")),
        ),
    ];
    let mut costs = vec![Vec::new(); filters.len()];
    for _ in 0..round_count {
        for ((_, filter), costs) in filters.iter().zip(&mut costs) {
            let listener = listener(filter.as_ref());
            let mut requests = Requests::open().expect("a requester");
            let keys: Vec<_> = (0..flow_count).map(key).collect();
            add(&mut requests, &keys);
            let before = cpu_time();
            remove(&mut requests, &keys);
            let elapsed = cpu_time().saturating_sub(before);
            costs.push(elapsed.as_nanos() as f64 / f64::from(flow_count));
            listener.set_nonblocking(true).expect("set");
            drain(&listener);
        }
    }
    println!("what the end of a real flow costs its sender, with one listener:");
    let base = costs[0].clone();
    for ((name, _), costs) in filters.iter().zip(&costs) {
        let ratios: Vec<_> = costs
            .iter()
            .zip(&base)
            .map(|(own, base)| own / base)
            .collect();
        println!(
            "{name:24} {:7.0} ns  {:5.3} x",
            median(costs),
            median(&ratios)
        );
    }
}

/// A socket that receives the ends of flows.
fn listener(filter: Option<&Filter>) -> Socket {
    let listener = Socket::builder(Protocol::NETFILTER)
        .recv_buffer_bytes(512 << 20)
        .group(Group::Destroy)
        .open()
        .expect("a listener; needs CAP_NET_ADMIN");
    if let Some(filter) = filter {
        let program = filter.program().expect("a program");
        listener.set_filter(&program).expect("attached");
    }
    listener
}

fn add(requests: &mut Requests, keys: &[Key]) {
    let mut batch = Batch::new();
    for keys in keys.chunks(1000) {
        for key in keys {
            let flow = NewFlow::new(key.orig, 600);
            flow.add_in(&mut batch).expect("small");
        }
        batch.send(requests.requester(), is_done).expect("sent");
    }
}

fn remove(requests: &mut Requests, keys: &[Key]) {
    let mut batch = Batch::new();
    for keys in keys.chunks(1000) {
        for key in keys {
            key.delete_in(&mut batch, None).expect("small");
        }
        batch.send(requests.requester(), is_done).expect("sent");
    }
}

/// Receives what is queued.
fn drain(socket: &Socket) -> u32 {
    let mut buffer = [0; 4096];
    let mut count = 0;
    while socket.recv(&mut buffer, RecvFlags::NONE).is_ok() {
        count += 1;
    }
    count
}

/// The receiver's CPU for the ends of real flows, of which one in a hundred passes.
fn receiver(round_count: usize, flow_count: u32) {
    let filter: Filter = "sport 7".parse().expect("a filter");
    for (name, wait) in [
        ("waking as usual", Wait::default()),
        ("gathering 10 ms", Wait::Batch(Duration::from_millis(10))),
    ] {
        let (mut all, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..round_count {
            let (unfiltered, received_count) = receive(flow_count, None, wait);
            assert_eq!(received_count, flow_count);
            let (filtered, received_count) = receive(flow_count, Some(&filter), wait);
            assert_eq!(received_count, flow_count / 100);
            all.push(unfiltered.as_nanos() as f64 / f64::from(flow_count));
            ratios.push(filtered.as_secs_f64() / unfiltered.as_secs_f64());
        }
        println!(
            "the receiver's CPU, {name}: {:.0} ns per event without a filter; with 1 % passing {:.3} \
             of that",
            median(&all),
            median(&ratios)
        );
    }
}

/// Adds flows and removes them. Returns the CPU time of the thread that receives their ends, and how many came.
fn receive(flow_count: u32, filter: Option<&Filter>, wait: Wait) -> (Duration, u32) {
    let keys: Vec<_> = (0..flow_count).map(key).collect();
    let mut requests = Requests::open().expect("a requester");
    let listener = listener(filter);
    add(&mut requests, &keys);
    let thread = std::thread::spawn(move || count_events(listener, wait));
    remove(&mut requests, &keys);
    // The last event, which passes the filter.
    let last = Key {
        orig: Tuple::new(
            [10, 0, 0, 9].into(),
            [10, 0, 0, 9].into(),
            17,
            Layer4::Ports { src: 7, dst: 9 },
        ),
        zone: None,
    };
    requests.add(&NewFlow::new(last.orig, 600)).expect("added");
    requests.delete(&last, None).expect("removed");
    thread.join().expect("the receiver")
}

fn is_done(_: usize, reply: nlring::Result<Message<'_>>) {
    reply.expect("it is done");
}

/// One in a hundred has source port 7.
fn key(number: u32) -> Key {
    let [_, a, b, c] = number.to_be_bytes();
    let src = if number.is_multiple_of(100) {
        7
    } else {
        40_000
    };
    let ports = Layer4::Ports { src, dst: 53 };
    Key {
        orig: Tuple::new([10, a, b, c].into(), [192, 0, 2, 1].into(), 17, ports),
        zone: None,
    }
}

/// Counts events until the one to port 9.
fn count_events(listener: Socket, wait: Wait) -> (Duration, u32) {
    let mut engine = Engine::builder().wait(wait).build().expect("an engine");
    engine
        .add(listener)
        .map_err(nlring::Error::from)
        .expect("added");
    let mut running = engine.start().expect("started");
    let before = cpu_time();
    let mut count = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    let ended = running.run(|event, _| {
        assert!(Instant::now() < deadline, "the last event comes");
        if let Event::Messages(_, list) = event {
            for message in &list {
                let flow = nlring::conntrack::Flow::decode(&message).expect("a flow");
                if flow.orig.ports().is_some_and(|(_, dst)| dst == 9) {
                    return ControlFlow::Break(());
                }
                count += 1;
            }
        }
        ControlFlow::Continue(())
    });
    ended.expect("it runs");
    (cpu_time().saturating_sub(before), count)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
