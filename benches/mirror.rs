//! The cost of a mirror of a full conntrack table: bytes per flow, the time for the first round, the time for a later
//! round, and how long a round delays events.
//!
//! `cargo bench --bench mirror -- [--flows N]` needs root, and makes a network namespace. Without `--flows` there are
//! 1,000,000 flows, for which `net.netfilter.nf_conntrack_max` of the initial namespace must have room. Without
//! `--bench`, as `cargo test --benches` runs it, there are only a few.
#![allow(unsafe_code)] // the clock of the process
#![allow(
    clippy::cast_precision_loss,
    reason = "counts and times here are far from any limit"
)]

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use nlring::conntrack::{DumpFilter, Group, Key, Layer4, Mirror, NewFlow, Requests, Tuple, status};
use nlring::{
    AddOptions, Batch, Engine, Event, MirrorOptions, Protocol, Result, Running, Socket, SocketId,
};
use nlring_testing::allocator::{Counting, allocated_bytes};
use nlring_testing::own_namespace;

const FLOW_COUNT: u32 = 1_000_000;
/// How many flows a test run has.
const FEW: u32 = 5000;
/// How many requests a batch has.
const BATCH: u32 = 5000;
const RECV_BUFFER_BYTES: usize = 64 << 20;
/// A receive buffer for a few events.
const TINY_BYTES: usize = 4096;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut flow_count = FEW;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => flow_count = flow_count.max(FLOW_COUNT),
            "--flows" => flow_count = arguments.next().unwrap_or_default().parse()?,
            _ => {}
        }
    }
    own_namespace();
    Ok(measure(flow_count)?)
}

/// Measures time and CPU time, because other programs of the host may hold conntrack's locks.
struct Timer {
    start: Instant,
    cpu_time: Duration,
}

impl Timer {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            cpu_time: cpu_time(),
        }
    }

    fn report(&self, what: &str) {
        let (passed, cpu_time) = (
            self.start.elapsed(),
            cpu_time().saturating_sub(self.cpu_time),
        );
        println!("{what} in {passed:.2?}, {cpu_time:.2?} of CPU");
    }
}

/// The CPU time that this process has used.
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime(2) writes one timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the CPU's clock");
    let seconds = u64::try_from(time.tv_sec).expect("no time before the start");
    let nanoseconds = u32::try_from(time.tv_nsec).expect("less than a second");
    Duration::new(seconds, nanoseconds)
}

fn measure(flow_count: u32) -> Result<()> {
    let mut requests = Requests::open()?;
    let timer = Timer::new();
    make(&mut requests, flow_count)?;
    timer.report(&format!("{flow_count} flows made"));
    let timer = Timer::new();
    let dump = requests.dump(&DumpFilter::new(), |count: &mut u32, _| *count += 1)?;
    timer.report(&format!("{} dumped and decoded alone", dump.items));

    let mut mirrored = Mirrored::open()?;
    let before_bytes = allocated_bytes();
    let mut most_bytes = before_bytes;
    let timer = Timer::new();
    mirrored.turn_until(|mirrored| {
        most_bytes = most_bytes.max(allocated_bytes());
        mirrored.mirror.is_synced()
    })?;
    timer.report(&format!("{} mirrored", mirrored.mirror.len()));
    let a_flow = |bytes: usize| (bytes - before_bytes) as f64 / f64::from(flow_count);
    println!(
        "bytes a flow: {:.1}, at most {:.1}",
        a_flow(allocated_bytes()),
        a_flow(most_bytes)
    );
    mirrored.report_longest("mirroring");

    mirrored.measure_events(&mut requests, flow_count)?;
    mirrored.measure_round(&mut requests, flow_count)
}

struct Mirrored {
    running: Running,
    id: SocketId,
    mirror: Mirror,
    change_count: u64,
    message_count: u64,
    take_time: Duration,
    longest_advance: Duration,
    longest_take: Duration,
}

impl Mirrored {
    fn open() -> Result<Self> {
        let events = Socket::builder(Protocol::NETFILTER)
            .groups([Group::New, Group::Update, Group::Destroy])
            .recv_buffer_bytes(RECV_BUFFER_BYTES)
            .open()?;
        let mut engine = Engine::builder().build()?;
        let id = engine.add_with(events, AddOptions::new())?;
        let options = MirrorOptions::new().resync_interval(Duration::ZERO);
        Ok(Self {
            running: engine.start()?,
            id,
            mirror: Mirror::new(options),
            change_count: 0,
            message_count: 0,
            take_time: Duration::ZERO,
            longest_advance: Duration::ZERO,
            longest_take: Duration::ZERO,
        })
    }

    fn turn_until(&mut self, mut done: impl FnMut(&Self) -> bool) -> Result<()> {
        while !done(self) {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<()> {
        let now = Instant::now();
        let due = self.mirror.due(now);
        let timeout = due.map_or(Duration::from_millis(10), |due| {
            due.saturating_duration_since(now)
        });
        let (mirror, change_count) = (&mut self.mirror, &mut self.change_count);
        let _ = self.running.poll(Some(timeout), |event, _| {
            let start = Instant::now();
            mirror.feed(&event, |_| *change_count += 1);
            let took = start.elapsed();
            if let Event::Messages(_, list) = event {
                self.message_count += list.message_count() as u64;
            }
            self.take_time += took;
            self.longest_take = self.longest_take.max(took);
            ControlFlow::<()>::Continue(())
        })?;
        let start = Instant::now();
        let events = self.running.socket(self.id).expect("it is not removed");
        mirror.advance(events, |_| *change_count += 1)?;
        self.longest_advance = self.longest_advance.max(start.elapsed());
        Ok(())
    }

    fn set_recv_buffer_bytes(&self, bytes: usize) -> Result<()> {
        let events = self.running.socket(self.id).expect("it is not removed");
        let _ = events.set_recv_buffer_bytes(bytes)?;
        Ok(())
    }

    fn report_longest(&mut self, what: &str) {
        println!(
            "the longest hold-ups while {what}: {:.2?} by advance, {:.2?} by take",
            self.longest_advance, self.longest_take
        );
        (self.longest_advance, self.longest_take) = (Duration::ZERO, Duration::ZERO);
    }

    /// Updates, and the same number of flows that end and begin again.
    fn measure_events(&mut self, requests: &mut Requests, flow_count: u32) -> Result<()> {
        let some = flow_count / 10;
        (self.message_count, self.take_time) = (0, Duration::ZERO);
        let mut batch = Batch::new();
        for start in (0..some).step_by(BATCH as usize) {
            for number in start..(start + BATCH).min(some) {
                key_of(number).delete_in(&mut batch, None)?;
                flow_of(number).add_in(&mut batch)?;
            }
            batch.send(requests.requester(), refuse)?;
            let made = u64::from((start + BATCH).min(some)) * 2;
            self.turn_until(|this| this.message_count >= made)?;
        }
        let each = self.take_time.as_secs_f64() / self.message_count as f64;
        println!(
            "{} ends and beginnings taken: {:.0} ns each",
            self.message_count,
            each * 1e9
        );
        self.report_longest("taking events");
        Ok(())
    }

    /// A round after a loss, with almost no difference.
    fn measure_round(&mut self, requests: &mut Requests, flow_count: u32) -> Result<()> {
        self.set_recv_buffer_bytes(TINY_BYTES)?;
        let mut batch = Batch::new();
        for number in 0..flow_count / 10 {
            key_of(number).delete_in(&mut batch, None)?;
        }
        batch.send(requests.requester(), refuse)?;
        self.turn_until(|this| !this.mirror.is_synced())?;
        self.set_recv_buffer_bytes(RECV_BUFFER_BYTES)?;
        let timer = Timer::new();
        self.turn_until(|this| this.mirror.is_synced())?;
        timer.report(&format!("{} repaired", self.mirror.len()));
        self.report_longest("repairing");
        Ok(())
    }
}

fn refuse(index: usize, reply: Result<nlring::Message<'_>>) {
    if let Err(error) = reply {
        panic!(
            "request {index}: {error}; for this many flows, net.netfilter.nf_conntrack_max of the initial namespace must be raised"
        );
    }
}

fn key_of(number: u32) -> Key {
    let [a, b, c, d] = number.to_be_bytes();
    let layer4 = Layer4::Ports {
        src: u16::from_be_bytes([c, d]),
        dst: 443,
    };
    let (src, dst) = ([198, 18, a, b].into(), [198, 19, 0, 1].into());
    Key {
        orig: Tuple::new(src, dst, 6, layer4),
        zone: None,
    }
}

fn flow_of(number: u32) -> NewFlow<'static> {
    NewFlow::new(key_of(number).orig, 3600)
        .tcp_state(3)
        .status(status::SEEN_REPLY | status::ASSURED)
}

fn make(requests: &mut Requests, flow_count: u32) -> Result<()> {
    // Makes their ends have events, even though nobody listens yet.
    let _ = std::fs::write("/proc/sys/net/netfilter/nf_conntrack_events", "1");
    let mut batch = Batch::new();
    for start in (0..flow_count).step_by(BATCH as usize) {
        for number in start..(start + BATCH).min(flow_count) {
            flow_of(number).add_in(&mut batch)?;
        }
        batch.send(requests.requester(), refuse)?;
    }
    Ok(())
}
