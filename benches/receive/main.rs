//! What a received datagram costs with each way of receiving: this crate's and the usual ones.
//!
//! A source on one core multicasts datagrams of 200 bytes, and a receiver on another core reads them, in a network
//! namespace of their own. The ways take turns in one run, because a machine's speed drifts. Each ratio is the median
//! over pairs of neighbouring measurements, with its 90 % confidence interval. The ratios say more than the figures.
//!
//! `cargo bench --bench receive -- [--repeat N] [--seconds S] [--rate PER_SECOND] [--way TEXT]...`; a rate of 0 is
//! full speed. Without `--bench`, as `cargo test --benches` runs it, each way runs once and briefly, to check that no
//! loss is uncounted.
#![allow(unsafe_code)] // what std does not wrap
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts and times here are far from any limit"
)]

mod engine;
mod memory;
mod multishot;
mod ratio;
mod source;
mod syscalls;
mod tally;

use std::io;
use std::mem;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use multishot::Waking;
use nlring::{Backend, Protocol, Socket, Wait};
use nlring_testing::{cpu_time, own_namespace, skip};
use ratio::{Ratio, median};
use source::Source;
use tally::Tally;

/// The ways with which all others are compared, besides the bare multishot that waits in the same way.
const RECV: &str = "recv, blocking";
const PACED: &str = "recvmmsg 1024, every 1 ms";

/// The longest delay that the gathering ways may cause.
const DELAY: Duration = Duration::from_millis(1);
const RECV_BUFFER_BYTES: usize = 8 << 20;
/// No datagram here is longer.
const BUFFER_BYTES: usize = 1024;

/// A way to receive, created on the thread that uses it.
trait Way {
    /// Waits for datagrams, and tallies them.
    fn turn(&mut self, tally: &mut Tally) -> io::Result<()>;

    /// Accounts for the other datagrams after the end of the source.
    fn finish(self: Box<Self>) -> io::Result<Rest>;
}

/// The datagrams that a way has not tallied.
struct Rest {
    /// Still queued.
    unread: u64,
    /// Dropped by the kernel, because the queue was full.
    lost: u64,
}

type Build = Box<dyn Fn(Socket) -> io::Result<Box<dyn Way>> + Sync>;

/// All ways. Those with which the others are compared come first.
fn ways() -> Vec<(String, Build)> {
    fn way<W: Way + 'static>(
        name: &str,
        build: impl Fn(Socket) -> io::Result<W> + Sync + 'static,
    ) -> (String, Build) {
        let build = move |socket| Ok(Box::new(build(socket)?) as Box<dyn Way>);
        (name.to_owned(), Box::new(build))
    }
    let ours = |backend: Backend, wait, wait_name| {
        let name = format!("nlring {backend}, {wait_name}");
        way(&name, move |socket| {
            engine::Ours::new(socket, backend, wait)
        })
    };
    let bare = |wait_name, waking| {
        way(&format!("bare multishot, {wait_name}"), move |socket| {
            multishot::Multishot::recvmsg(socket, waking)
        })
    };
    let batch = Wait::Batch(DELAY);
    let oneshot = Backend::Oneshot {
        depth: Backend::DEFAULT_DEPTH,
    };
    vec![
        way(RECV, |socket| Ok(syscalls::Recv::new(socket))),
        way(PACED, |socket| Ok(syscalls::Recvmmsg::paced(socket))),
        bare("1 ms", Waking::Gathering),
        bare("prompt", Waking::Prompt),
        bare("spin", Waking::Spinning),
        way("bare multishot RECV, 1 ms", multishot::Multishot::recv),
        way("recvmmsg 64, blocking", |socket| {
            Ok(syscalls::Recvmmsg::blocking(socket))
        }),
        ours(Backend::Multishot, batch, "batch 1 ms"),
        ours(oneshot, batch, "batch 1 ms"),
        ours(Backend::Recvmmsg, batch, "batch 1 ms"),
        ours(Backend::Multishot, Wait::Auto, "auto"),
        ours(Backend::Multishot, Wait::Prompt, "prompt"),
        ours(Backend::Multishot, Wait::Spin, "spin"),
    ]
}

struct Options {
    is_test: bool,
    repeat: usize,
    seconds: f64,
    /// Datagrams per second; 0: full speed.
    rates: Vec<u32>,
    /// Only ways whose names contain one of these, if there are any.
    ways: Vec<String>,
}

impl Options {
    fn read() -> Self {
        let mut options = Self {
            is_test: false,
            repeat: 5,
            seconds: 1.0,
            rates: Vec::new(),
            ways: Vec::new(),
        };
        let (mut is_bench, mut unknown) = (false, None);
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => is_bench = true,
                "--test" => options.is_test = true,
                "--repeat" => options.repeat = value(&argument, arguments.next()),
                "--seconds" => options.seconds = value(&argument, arguments.next()),
                "--rate" => options.rates.push(value(&argument, arguments.next())),
                "--way" => options.ways.push(value(&argument, arguments.next())),
                _ => unknown = Some(argument),
            }
        }
        options.is_test |= !is_bench;
        if options.is_test {
            (options.repeat, options.seconds) = (1, 0.05);
        } else if let Some(argument) = unknown {
            panic!("not understood: {argument}"); // a test ignores it, because libtest has many options
        }
        if options.rates.is_empty() {
            options.rates = vec![50_000, 200_000, 0];
        }
        options
    }
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.ways.is_empty() || self.ways.iter().any(|way| name.contains(way))
    }
}

fn value<T: FromStr>(option: &str, argument: Option<String>) -> T {
    let value = argument.and_then(|argument| argument.parse().ok());
    value.unwrap_or_else(|| panic!("{option} needs a value"))
}

/// One measurement of one way.
#[derive(Clone, Copy)]
struct Run {
    received: f64,
    lost: f64,
    cpu_ns: f64,
    p50_us: f64,
    p99_us: f64,
}

fn main() {
    let options = Options::read();
    own_namespace();
    let cores = two_cores();
    let ways: Vec<_> = ways()
        .into_iter()
        .filter(|(name, _)| options.wants(name))
        .collect();
    for &rate in &options.rates {
        let mut runs: Vec<io::Result<Vec<Run>>> = ways.iter().map(|_| Ok(Vec::new())).collect();
        for repetition in 0..options.repeat {
            for turn in 0..ways.len() {
                let index = (repetition + turn) % ways.len(); // so that each way runs after each other way
                let Ok(done) = &mut runs[index] else {
                    continue;
                };
                match measure(&ways[index].1, cores, rate, options.seconds) {
                    Ok(run) => done.push(run),
                    Err(error) => {
                        if options.is_test {
                            skip(&ways[index].0, &error.to_string());
                        }
                        runs[index] = Err(error);
                    }
                }
            }
        }
        print(rate, &options, &ways, &runs);
    }
    if options.is_test {
        println!(
            "\ntest received + unread + lost = sent ... ok (the figures above are too short to mean much)"
        );
    }
}

/// Prints one rate's table: medians, and ratios by pairs of one repetition.
fn print(rate: u32, options: &Options, ways: &[(String, Build)], runs: &[io::Result<Vec<Run>>]) {
    let source = match rate {
        0 => "as fast as it goes".to_owned(),
        rate => format!("{rate}/s"),
    };
    println!(
        "\n200-byte datagrams, {source}, {} × {} s",
        options.repeat, options.seconds
    );
    println!(
        "{:<31}{:>9}{:>8}{:>9}{:>9}{:>9}{:>20}{:>20}{:>20}{:>20}",
        "way",
        "received",
        "lost",
        "CPU ns",
        "p50 µs",
        "p99 µs",
        "CPU × recv",
        "CPU × paced",
        "p99 × paced",
        "CPU × bare"
    );
    for ((name, _), own) in ways.iter().zip(runs) {
        let own = match own {
            Ok(own) => own,
            Err(error) => {
                println!("{name:<31}   absent: {error}");
                continue;
            }
        };
        let of = |field: fn(&Run) -> f64| median(own.iter().map(field));
        let against = |base: &str, field: fn(&Run) -> f64| {
            let base = ways.iter().position(|(name, _)| name == base);
            let base = base.and_then(|index| runs[index].as_ref().ok());
            base.map_or("-".to_owned(), |base| {
                Ratio::of_pairs(own.iter().map(field).zip(base.iter().map(field))).to_string()
            })
        };
        let waking = name.rsplit_once(", ").map_or("", |(_, waking)| waking);
        let bare = match waking.trim_start_matches("batch ") {
            "auto" => "1 ms",
            waking => waking,
        };
        println!(
            "{name:<31}{:>9.0}{:>8.0}{:>9.0}{:>9.1}{:>9.1}{:>20}{:>20}{:>20}{:>20}",
            of(|run| run.received),
            of(|run| run.lost),
            of(|run| run.cpu_ns),
            of(|run| run.p50_us),
            of(|run| run.p99_us),
            against(RECV, |run| run.cpu_ns),
            against(PACED, |run| run.cpu_ns),
            against(PACED, |run| run.p99_us),
            against(&format!("bare multishot, {bare}"), |run| run.cpu_ns),
        );
    }
}

/// Sends and receives for this time. An error: the way does not work here.
fn measure(build: &Build, cores: [usize; 2], rate: u32, seconds: f64) -> io::Result<Run> {
    let (is_ready, ready) = mpsc::channel::<()>();
    let (is_sending, all_sent) = mpsc::channel::<()>();
    let has_ended = &AtomicBool::new(false);
    let mut tally = Tally::new();
    let mut source = Source::new(tally.epoch());
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            pin(cores[0]);
            let mut way = build(listener())?;
            let _ = is_ready.send(());
            let start = cpu_time();
            while !tally.has_ended() {
                way.turn(&mut tally)?;
            }
            let cpu_ns = cpu_time().saturating_sub(start).as_nanos();
            has_ended.store(true, Ordering::Release);
            let _ = all_sent.recv();
            Ok((tally, cpu_ns, way.finish()?))
        });
        if ready.recv().is_ok() {
            pin(cores[1]);
            source.send_for(Duration::from_secs_f64(seconds), rate);
            source.end(|| has_ended.load(Ordering::Acquire) || thread.is_finished());
        }
        drop(is_sending);
        let result: io::Result<_> = thread.join().expect("the receiver");
        let (tally, cpu_ns, Rest { unread, lost }) = result?;
        let received = tally.received();
        assert_eq!(
            received + unread + lost,
            source.sent_count(),
            "received {received} + unread {unread} + lost {lost} = sent"
        );
        Ok(Run {
            received: (received + unread) as f64,
            lost: lost as f64,
            cpu_ns: cpu_ns as f64 / received as f64,
            p50_us: tally.quantile_ns(0.5) / 1e3,
            p99_us: tally.quantile_ns(0.99) / 1e3,
        })
    })
}

/// A socket that receives from the source.
fn listener() -> Socket {
    let socket = Socket::builder(Protocol::USERSOCK)
        .group(1u32)
        .recv_buffer_bytes(RECV_BUFFER_BYTES)
        .no_enobufs(true) // like the engine's sockets
        .open();
    socket.expect("a listener in a namespace of its own")
}

/// Binds this thread to a core.
fn pin(core: usize) {
    // SAFETY: cpu_set_t is integers, for which all zeroes, the empty set, is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the function sets a bit of the set, and panics beyond its end.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the pointer and the size describe `set`, which is only read.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    assert_eq!(result, 0, "pin: {}", io::Error::last_os_error());
}

/// The first and the last core that this process may run on: the receiver's and the source's.
fn two_cores() -> [usize; 2] {
    // SAFETY: cpu_set_t is integers, for which all zeroes, the empty set, is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer and the size describe `set`, borrowed for the call; any bits are valid in it.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    assert_eq!(result, 0, "allowed cores: {}", io::Error::last_os_error());
    let is_allowed = |core: &usize| {
        // SAFETY: the function reads a bit of the set, and panics beyond its end.
        unsafe { libc::CPU_ISSET(*core, &set) }
    };
    let mut cores = (0..libc::CPU_SETSIZE as usize).filter(is_allowed);
    let first = cores.next().unwrap_or(0);
    let last = cores.next_back().unwrap_or(first);
    if first == last {
        eprintln!("one core only: the source and the receiver share it");
    }
    [first, last]
}
