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
use nlring::filter::{Instruction, Program};
use nlring::{Batch, Engine, Event, Message, Protocol, RecvFlags, Socket, Wait};
use nlring_testing::events::flow_ends;
use nlring_testing::{cpu_time, own_namespace};

/// The event is from 10.0.0.2 to 192.0.2.1, TCP port 443, with mark 7. It is in the second half of all flows.
const ACCEPTING: [(&str, &str); 2] = [
    ("1 term", "dport 443"),
    ("3 terms", "proto tcp and dport 443 and not src 10.9.0.0/16"),
];

/// A filter, its program, and whether the event matches. None: no filter.
struct Way {
    name: String,
    program: Option<Program>,
    is_accepting: bool,
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    println!("{}", jit()); // before the namespace, which does not show the setting
    own_namespace();
    let (round_count, event_count) = if is_bench { (41, 20_000) } else { (1, 500) };
    sender(round_count, event_count);
    ends(round_count, event_count / 4);
    let flow_count = if is_bench { 100_000 } else { 1_000 };
    receiver(if is_bench { 5 } else { 1 }, flow_count);
}

/// Whether the kernel compiles programs. If it does not, they cost several times as much.
fn jit() -> String {
    let setting = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
    match setting.as_deref().map(str::trim) {
        Ok("0") => "the kernel interprets programs (net.core.bpf_jit_enable = 0)".to_owned(),
        Ok(value) => format!("the kernel compiles programs (net.core.bpf_jit_enable = {value})"),
        Err(_) => "whether the kernel compiles programs is not shown here".to_owned(),
    }
}

/// Filters of several sizes, of which the event matches all or none.
fn ways() -> Vec<Way> {
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
    let set = |name: &str, last: String, others: &dyn Fn(u32) -> String| {
        let all: Vec<_> = (1..100).map(others).chain([last]).collect();
        format!("{name} {{{}}}", all.join(","))
    };
    let ports = |last: &str| set("dport", last.to_owned(), &|number| (2 * number).to_string());
    let prefixes = |last: &str| {
        set("src", last.to_owned(), &|number| {
            format!("10.1.{}.0/24", 2 * number)
        })
    };
    let mut texts: Vec<_> = ACCEPTING
        .iter()
        .map(|(name, text)| (*name, (*text).to_owned(), text.replace("443", "80")))
        .collect();
    let id = "id 4273560405".to_owned();
    let [first_half, second_half] = ["share 0/2", "share 1/2"].map(str::to_owned);
    texts.extend([
        ("1 id", id.clone(), format!("not {id}")),
        ("1 share", second_half, first_half),
        (
            "10 terms",
            of_many(10, "reply sport 443"),
            of_many(10, "reply sport 1"),
        ),
        (
            "100 terms",
            of_many(100, "reply sport 443"),
            of_many(100, "reply sport 1"),
        ),
        ("100 ports", ports("443"), ports("1")),
        (
            "100 prefixes",
            prefixes("10.0.0.0/24"),
            prefixes("10.9.0.0/24"),
        ),
    ]);
    let accept_all = Instruction {
        code: 0x06, // BPF_RET
        jt: 0,
        jf: 0,
        k: u32::MAX,
    };
    let mut ways = vec![
        Way {
            name: "no program".to_owned(),
            program: None,
            is_accepting: true,
        },
        Way {
            name: "accepts everything".to_owned(),
            program: Some(Program::new([accept_all]).expect("a program")),
            is_accepting: true,
        },
    ];
    for (name, accepting, rejecting) in texts {
        for (outcome, text) in [("accepted", accepting), ("rejected", rejecting)] {
            let filter: Filter = text.parse().expect("a filter");
            ways.push(Way {
                name: format!("{name}, {outcome}"),
                program: Some(filter.program().expect("a program")),
                is_accepting: outcome == "accepted",
            });
        }
    }
    ways
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
    let ways = ways();
    let mut costs = vec![Vec::new(); ways.len()];
    for _ in 0..round_count {
        for (way, costs) in ways.iter().zip(&mut costs) {
            match &way.program {
                Some(program) => listener.set_filter(program).expect("attached"),
                None => listener.clear_filter().expect("removed"),
            }
            let before = cpu_time();
            for _ in 0..event_count {
                _ = sender.send_to(&event, 0, 1); // the kernel itself refuses it
            }
            let elapsed = cpu_time().saturating_sub(before);
            costs.push(elapsed.as_nanos() as f64 / f64::from(event_count));
            let received_count = drain(&listener);
            assert_eq!(received_count > 0, way.is_accepting, "{}", way.name);
        }
    }
    println!("what one event costs its sender, with one listener (send and delivery):");
    let base = costs[0].clone();
    for (way, costs) in ways.iter().zip(&costs) {
        let ratios: Vec<_> = costs
            .iter()
            .zip(&base)
            .map(|(own, base)| own / base)
            .collect();
        let count = way
            .program
            .as_ref()
            .map_or(0, |program| program.instructions().len());
        println!(
            "{:24} {:7.0} ns  {:5.3} x  {count:4} instructions",
            way.name,
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

/// The receiver's CPU for the ends of real flows without a filter, and with one that lets one in a hundred pass, by wait
/// policy.
fn receiver(round_count: usize, flow_count: u32) {
    let filter: Filter = "sport 7".parse().expect("a filter");
    println!("what {flow_count} ends of real flows cost the receiver:");
    let gathering = |milliseconds| Wait::Batch(Duration::from_millis(milliseconds));
    for (name, wait) in [
        ("waking as usual", Wait::default()),
        ("gathering 1 ms", gathering(1)),
        ("gathering 10 ms", gathering(10)),
        ("gathering 50 ms", gathering(50)),
        ("gathering 100 ms", gathering(100)),
    ] {
        let (mut all, mut some, mut ratios, mut turns) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..round_count {
            let unfiltered = receive(flow_count, None, wait);
            assert_eq!(unfiltered.count, flow_count);
            let filtered = receive(flow_count, Some(&filter), wait);
            assert_eq!(filtered.count, flow_count / 100);
            all.push(unfiltered.cpu.as_nanos() as f64 / f64::from(unfiltered.count));
            some.push(filtered.cpu.as_nanos() as f64 / f64::from(filtered.count));
            ratios.push(filtered.cpu.as_secs_f64() / unfiltered.cpu.as_secs_f64());
            turns.push(f64::from(filtered.turn_count));
        }
        println!(
            "{name:24} {:7.0} ns per event without a filter; with 1 % passing {:7.0} ns per event, \
             {:5.0} wake-ups, {:.3} x",
            median(&all),
            median(&some),
            median(&turns),
            median(&ratios)
        );
    }
}

/// What a receiver has received, in how many turns, and its CPU time.
struct Received {
    count: u32,
    turn_count: u32,
    cpu: Duration,
}

/// Adds flows and removes them while a thread receives their ends.
fn receive(flow_count: u32, filter: Option<&Filter>, wait: Wait) -> Received {
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
fn count_events(listener: Socket, wait: Wait) -> Received {
    let mut engine = Engine::builder().wait(wait).build().expect("an engine");
    engine
        .add(listener)
        .map_err(nlring::Error::from)
        .expect("added");
    let mut running = engine.start().expect("started");
    let before = cpu_time();
    let (mut count, mut turn_count, mut is_over) = (0, 0, false);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_over {
        assert!(Instant::now() < deadline, "the last event comes");
        let turn = running.poll(None, |event, _| {
            if let Event::Messages(_, list) = event {
                for message in &list {
                    let flow = nlring::conntrack::Flow::decode(&message).expect("a flow");
                    let is_last = flow.orig.ports().is_some_and(|(_, dst)| dst == 9);
                    is_over |= is_last;
                    count += u32::from(!is_last);
                }
            }
            ControlFlow::<()>::Continue(())
        });
        let _ = turn.expect("a turn");
        turn_count += 1;
    }
    let cpu = cpu_time().saturating_sub(before);
    Received {
        count,
        turn_count,
        cpu,
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
