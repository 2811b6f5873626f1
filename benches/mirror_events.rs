//! The CPU time that a mirror of a full conntrack table takes per event, without receiving.
//!
//! The events are made in memory, so the kernel's table needs no room for as many flows. Random flows change and end,
//! and as many others begin, so hardly anything that an event touches is in a cache.
//!
//! `cargo bench --bench mirror_events -- [--flows N]` needs root, and makes a network namespace. Without `--flows` there
//! are 1,000,000 flows. Without `--bench`, as `cargo test --benches` runs it, there are only a few.
#![allow(
    clippy::cast_precision_loss,
    reason = "counts and times here are far from any limit"
)]

use std::hint::black_box;
use std::time::Duration;

use nlring::conntrack::{Flow, Mirror, status};
use nlring::message::flags;
use nlring::{
    Engine, Event, MessageBuilder, MessageList, MirrorOptions, Protocol, Result, Socket, SocketId,
};
use nlring_testing::allocator::{Counting, allocated_bytes};
use nlring_testing::{cpu_time, own_namespace};

const FLOW_COUNT: u32 = 1_000_000;
/// How many flows a test run has.
const FEW: u32 = 2000;
/// How many messages are fed together, as a turn of the engine does.
const LIST: u32 = 64;
/// The figures are the medians of this many rounds.
const ROUNDS: usize = 5;
/// So many ends are remembered by a mirror that has run for a while.
const ENDS: u32 = 300_000;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    New,
    Update,
    Destroy,
}

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

fn measure(flow_count: u32) -> Result<()> {
    let (mirror, socket) = mirror_of_an_empty_table()?;
    let before_bytes = allocated_bytes();
    let mut bench = Bench {
        mirror,
        socket,
        live: Vec::new(),
        next: 0,
        random: 1,
        bytes: Vec::new(),
    };
    while bench.next < flow_count {
        bench.feed(Kind::New);
    }
    let taken_bytes = allocated_bytes() - before_bytes - 4 * bench.live.capacity();
    println!(
        "{} flows, {:.1} bytes each",
        bench.mirror.len(),
        taken_bytes as f64 / bench.mirror.len() as f64
    );
    let some = flow_count.min(ENDS);
    let _ = bench.round(some); // the ends that are remembered
    let rounds: Vec<_> = (0..ROUNDS).map(|_| bench.round(some / 2)).collect();
    for (index, kind) in [Kind::Update, Kind::Destroy, Kind::New].iter().enumerate() {
        let median = |which: fn(&Times) -> f64| {
            let mut all: Vec<_> = rounds.iter().map(|round| which(&round[index])).collect();
            all.sort_by(f64::total_cmp);
            all[ROUNDS / 2]
        };
        let fed = median(|times| times.fed);
        println!(
            "{kind:?}: {fed:.0} ns in the mirror, of which {:.0} ns to decode",
            median(|times| times.decoded)
        );
    }
    let start = cpu_time();
    let _ = black_box(bench.mirror.find_by_id(0).count());
    let reply = bench.mirror.iter().next().and_then(|flow| flow.reply);
    let middle = cpu_time();
    let _ = black_box(reply.and_then(|reply| bench.mirror.get_by_reply(&reply, None)));
    println!(
        "first look-ups by id and by reply: {:.0?} and {:.0?}",
        middle.saturating_sub(start),
        cpu_time().saturating_sub(middle)
    );
    Ok(())
}

/// Waits for the first round.
fn mirror_of_an_empty_table() -> Result<(Mirror, SocketId)> {
    let events = Socket::builder(Protocol::NETFILTER).groups(Mirror::GROUPS);
    let mut engine = Engine::builder().build()?;
    let id = engine.add(events.open()?)?;
    let mut running = engine.start()?;
    let mut mirror = Mirror::new(MirrorOptions::new());
    while !mirror.is_complete() {
        let _ = running.poll(Some(Duration::from_millis(1)), |event, _| {
            mirror.feed(&event, |_| ());
            std::ops::ControlFlow::<()>::Continue(())
        })?;
        mirror.advance(running.socket(id).expect("it is not removed"), |_| ())?;
    }
    Ok((mirror, id))
}

/// Nanoseconds per event.
#[derive(Clone, Copy, Default)]
struct Times {
    fed: f64,
    decoded: f64,
}

struct Bench {
    mirror: Mirror,
    socket: SocketId,
    /// The numbers of the live flows.
    live: Vec<u32>,
    /// The number of the next flow that begins.
    next: u32,
    random: u64,
    bytes: Vec<u8>,
}

impl Bench {
    /// The times of an update, an end and a beginning.
    fn round(&mut self, count: u32) -> [Times; 3] {
        let mut times = [Times::default(); 3];
        let list_count = count / LIST;
        for _ in 0..list_count {
            for (times, kind) in times
                .iter_mut()
                .zip([Kind::Update, Kind::Destroy, Kind::New])
            {
                let (decoded, fed) = self.feed(kind);
                times.decoded += decoded.as_secs_f64();
                times.fed += fed.as_secs_f64();
            }
        }
        let each = 1e9 / f64::from(list_count * LIST);
        times.map(|times| Times {
            fed: times.fed * each,
            decoded: times.decoded * each,
        })
    }

    /// Feeds a list of events. Returns the times to decode them and to feed them.
    fn feed(&mut self, kind: Kind) -> (Duration, Duration) {
        self.bytes.clear();
        for _ in 0..LIST {
            let number = self.pick(kind);
            put(&mut self.bytes, kind, number);
        }
        let start = cpu_time();
        for message in &MessageList::new(&self.bytes) {
            black_box(Flow::decode(&message));
        }
        let decoded = cpu_time().saturating_sub(start);
        let event = Event::Messages(self.socket, MessageList::new(&self.bytes));
        let start = cpu_time();
        self.mirror.feed(&event, |change| {
            black_box(&change);
        });
        (decoded, cpu_time().saturating_sub(start))
    }

    fn pick(&mut self, kind: Kind) -> u32 {
        if kind == Kind::New {
            self.next += 1;
            self.live.push(self.next);
            return self.next;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let index = usize::try_from(self.random % self.live.len() as u64).expect("a place");
        match kind {
            Kind::Destroy => self.live.swap_remove(index),
            _ => self.live[index],
        }
    }
}

fn put(bytes: &mut Vec<u8>, kind: Kind, number: u32) {
    let [a, b, c, d] = number.to_be_bytes();
    let (src, dst) = ([10, a, b, c], [192, 0, 2, d]);
    let port = u16::from_be_bytes([c, d]) | 1024;
    let (message_type, flags) = match kind {
        Kind::New => (0x100, flags::CREATE | flags::EXCL),
        Kind::Update => (0x100, 0),
        Kind::Destroy => (0x102, 0),
    };
    let state = if kind == Kind::New { 1 } else { 3 };
    let bits = match kind {
        Kind::New => 0,
        Kind::Update => status::SEEN_REPLY | status::ASSURED,
        Kind::Destroy => status::SEEN_REPLY | status::ASSURED | status::DYING,
    };
    MessageBuilder::new(bytes, message_type, flags)
        .bytes(&[2, 0, 0, 0])
        .nested(1, |tuple| put_tuple(tuple, (src, port), (dst, 443)))
        .nested(2, |tuple| put_tuple(tuple, (dst, 443), (src, port)))
        .attribute_be32(3, status::CONFIRMED | bits)
        .attribute_be32(7, 432_000)
        .nested(4, |info| info.nested(1, |tcp| tcp.attribute_u8(1, state)))
        .attribute_be32(12, number.wrapping_mul(0x9e37_79b1))
        .finish()
        .expect("a short message");
}

fn put_tuple(
    message: MessageBuilder<'_>,
    (src, src_port): ([u8; 4], u16),
    (dst, dst_port): ([u8; 4], u16),
) -> MessageBuilder<'_> {
    let message = message.nested(1, |ip| ip.attribute(1, &src).attribute(2, &dst));
    message.nested(2, |layer4| {
        layer4
            .attribute_u8(1, 6)
            .attribute_be16(2, src_port)
            .attribute_be16(3, dst_port)
    })
}
