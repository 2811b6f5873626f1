//! What shards cost: each event's sender, and the receivers together.
//!
//! The events are those of real flows, made and removed over ctnetlink in a namespace of their own. The sender's thread
//! has one core, and all receiving threads have another one. The ways take turns in one run, because a machine's speed
//! drifts; each figure is the median over rounds.
//!
//! `cargo bench --bench shards`. Without `--bench`, as `cargo test --benches` runs it, each way runs once and briefly.
#![allow(
    clippy::cast_precision_loss,
    reason = "counts here are far from any limit"
)]
#![allow(unsafe_code)] // what std does not wrap

use std::mem;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nlring::conntrack::{Flow, Group, Key, Layer4, NewFlow, Requests, Shards, Tuple};
use nlring::{
    Batch, Engine, Event, Finished, Protocol, RecvFlags, Socket, SocketBuilder, Statistics,
};
use nlring_testing::{cpu_time, own_namespace};

const SHARD_COUNTS: [usize; 5] = [1, 2, 4, 8, 16];

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    own_namespace();
    let sizes = if is_bench {
        Sizes {
            sender: (21, 5_000),
            receivers: (9, 100_000),
        }
    } else {
        Sizes {
            sender: (1, 100),
            receivers: (1, 500),
        }
    };
    pin(0);
    let (round_count, flow_count) = sizes.sender;
    sender(round_count, flow_count);
    let (round_count, flow_count) = sizes.receivers;
    receivers(round_count, flow_count, None);
    receivers(round_count, flow_count / 4, Some(50_000));
}

/// How many rounds, and how many flows in each.
struct Sizes {
    sender: (usize, u32),
    receivers: (usize, u32),
}

/// Who listens while the sender is measured.
#[derive(Clone, Copy)]
enum Listeners {
    Nobody,
    Shards(usize),
    /// Sockets without a filter, each of which receives everything.
    Whole(usize),
}

/// What the end of a real flow costs the thread that removes it.
fn sender(round_count: usize, flow_count: u32) {
    let mut ways = vec![("nobody listens".to_owned(), Listeners::Nobody)];
    ways.extend(SHARD_COUNTS.map(|count| (format!("{count} shards"), Listeners::Shards(count))));
    ways.extend([2, 4, 8].map(|count| (format!("{count} listeners"), Listeners::Whole(count))));
    let mut costs = vec![Vec::new(); ways.len()];
    let mut requests = Requests::open().expect("a requester");
    let keys: Vec<_> = (0..flow_count).map(key).collect();
    for _ in 0..round_count {
        for ((_, way), costs) in ways.iter().zip(&mut costs) {
            // Somebody listens when the flows begin, because flows that begin unheard make no events.
            let any = destroy().open().expect("a listener; needs CAP_NET_ADMIN");
            add(&mut requests, &keys);
            let sockets = open(*way);
            drop(any);
            let before = cpu_time();
            remove(&mut requests, &keys);
            let elapsed = cpu_time().saturating_sub(before);
            costs.push(elapsed.as_nanos() as f64 / f64::from(flow_count));
            let received: u32 = sockets.iter().map(drain).sum();
            let copies = match way {
                Listeners::Nobody => 0,
                Listeners::Shards(_) => 1,
                Listeners::Whole(count) => u32::try_from(*count).expect("few"),
            };
            assert_eq!(received, copies * flow_count, "nothing is lost");
        }
    }
    println!("what the end of a real flow costs the thread that removes it:");
    let one = costs[1].clone();
    for ((name, _), costs) in ways.iter().zip(&costs) {
        let differences: Vec<_> = costs.iter().zip(&one).map(|(own, one)| own - one).collect();
        println!(
            "{name:16} {:7.0} ns  {:+6.0} ns against one shard",
            median(costs),
            median(&differences)
        );
    }
}

fn destroy() -> SocketBuilder {
    Socket::builder(Protocol::NETFILTER)
        .recv_buffer_bytes(512 << 20)
        .group(Group::Destroy)
}

fn open(way: Listeners) -> Vec<Socket> {
    match way {
        Listeners::Nobody => Vec::new(),
        Listeners::Shards(count) => {
            let shards = Shards::builder(count).open(&destroy());
            shards.expect("shards").into_sockets()
        }
        Listeners::Whole(count) => {
            let sockets = (0..count).map(|_| destroy().open());
            sockets.collect::<Result<_, _>>().expect("listeners")
        }
    }
}

/// Receives what is queued.
fn drain(socket: &Socket) -> u32 {
    let mut buffer = [0; 4096];
    let mut count = 0;
    while socket.recv(&mut buffer, RecvFlags::DONT_WAIT).is_ok() {
        count += 1;
    }
    count
}

/// The CPU time of all receiving threads together, for the ends of real flows.
fn receivers(round_count: usize, flow_count: u32, per_second: Option<u32>) {
    let counts = [1, 2, 4];
    let mut costs = vec![Vec::new(); counts.len()];
    for _ in 0..round_count {
        for (count, costs) in counts.into_iter().zip(&mut costs) {
            let elapsed = receive(count, flow_count, per_second);
            costs.push(elapsed.as_nanos() as f64 / f64::from(flow_count));
        }
    }
    let pace = per_second.map_or("as fast as they end".into(), |rate| {
        format!("{rate} a second")
    });
    println!("the CPU of all receiving threads, per event, {pace}:");
    for (count, own) in counts.into_iter().zip(&costs) {
        let ratios: Vec<_> = own
            .iter()
            .zip(&costs[0])
            .map(|(own, one)| own / one)
            .collect();
        println!(
            "{count} threads  {:7.0} ns  {:5.3} x",
            median(own),
            median(&ratios)
        );
    }
}

/// Removes flows while shards receive their ends. Returns the CPU time of the shards' threads.
fn receive(shard_count: usize, flow_count: u32, per_second: Option<u32>) -> Duration {
    let mut requests = Requests::open().expect("a requester");
    let keys: Vec<_> = (0..flow_count).map(key).collect();
    let shards = Shards::builder(shard_count)
        .open(&destroy())
        .expect("shards");
    add(&mut requests, &keys);
    let all = Arc::new(Progress::default());
    let (sender, times) = mpsc::channel();
    let threads = shards.spawn(&Engine::builder(), |_| {
        let mut thread = Thread {
            times: sender.clone(),
            is_pinned: false,
        };
        let all = Arc::clone(&all);
        move |event, _| {
            thread.pin();
            if let Event::Messages(_, list) = event {
                let flows = list.iter().filter_map(|message| Flow::decode(&message));
                let count = flows.filter(|flow| flow.orig.protocol == 17).count();
                all.add(count as u64);
            }
            ControlFlow::<()>::Continue(())
        }
    });
    let threads = threads.expect("threads");
    match per_second {
        None => remove(&mut requests, &keys),
        Some(rate) => remove_paced(&mut requests, &keys, rate),
    }
    all.await_count(flow_count.into());
    threads.stop();
    let sum: Statistics = threads.join().iter().map(Finished::statistics).sum();
    assert_eq!((sum.received, sum.dropped), (flow_count.into(), 0));
    drop(sender);
    times.iter().sum()
}

/// How many events all shards have received.
#[derive(Default)]
struct Progress {
    count: AtomicU64,
    changed: (Mutex<()>, Condvar),
}

impl Progress {
    fn add(&self, count: u64) {
        self.count.fetch_add(count, Ordering::Relaxed);
    }

    fn await_count(&self, wanted: u64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let (lock, changed) = &self.changed;
        let mut guard = lock.lock().expect("no panic");
        while self.count.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline, "all events come");
            let (again, _) = changed
                .wait_timeout(guard, Duration::from_millis(1))
                .expect("no panic");
            guard = again;
        }
    }
}

/// Sends the CPU time of its thread when the thread ends.
struct Thread {
    times: Sender<Duration>,
    is_pinned: bool,
}

impl Thread {
    /// Moves the thread to the second core.
    fn pin(&mut self) {
        if !mem::replace(&mut self.is_pinned, true) {
            pin(1);
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let _ = self.times.send(cpu_time());
    }
}

fn pin(core: usize) {
    // SAFETY: cpu_set_t is integers, for which all zeroes, the empty set, is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the function writes into the set only; a core beyond its end would be left out.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the kernel reads as many bytes of the set as the size says.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if result != 0 {
        println!(
            "core {core} cannot be chosen: {}",
            std::io::Error::last_os_error()
        );
    }
}

fn add(requests: &mut Requests, keys: &[Key]) {
    let mut batch = Batch::new();
    for keys in keys.chunks(1000) {
        for key in keys {
            let flow = NewFlow::new(key.orig, 600);
            flow.add_in(&mut batch).expect("small");
        }
        send(&mut batch, requests);
    }
}

fn remove(requests: &mut Requests, keys: &[Key]) {
    let mut batch = Batch::new();
    for keys in keys.chunks(1000) {
        remove_some(&mut batch, requests, keys);
    }
}

/// Removes ten flows at a time, at their times.
fn remove_paced(requests: &mut Requests, keys: &[Key], per_second: u32) {
    let mut batch = Batch::new();
    let start = Instant::now();
    let times = (0_u32..).map(|number| Duration::from_secs(10) * number / per_second);
    for (keys, due) in keys.chunks(10).zip(times) {
        while start.elapsed() < due {
            std::hint::spin_loop();
        }
        remove_some(&mut batch, requests, keys);
    }
}

fn remove_some(batch: &mut Batch, requests: &mut Requests, keys: &[Key]) {
    for key in keys {
        key.delete_in(batch, None).expect("small");
    }
    send(batch, requests);
}

fn send(batch: &mut Batch, requests: &mut Requests) {
    let sent = batch.send(requests.requester(), |_, reply| {
        reply.expect("it is done");
    });
    sent.expect("sent");
}

fn key(number: u32) -> Key {
    let [_, a, b, c] = number.to_be_bytes();
    let ports = Layer4::Ports {
        src: 40_000,
        dst: 53,
    };
    Key {
        orig: Tuple::new([10, a, b, c].into(), [192, 0, 2, 1].into(), 17, ports),
        zone: None,
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
