//! How soon nlringd records after its start, even if the kernel already has many flows, and how much memory it takes.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nlring::conntrack::Requests;
use nlring_testing::{await_that, own_namespace, skip};

use support::{
    Collector, Contents, Made, flow, found_count, make_flows, report_all_flows, scratch,
};

/// The numbers of the flows that exist at the start begin here, above those of the flows that are made later.
const FIRST_THERE: u32 = 1 << 24;
/// A query takes processor time from nlringd, which may have only 2 cores.
const BETWEEN_QUERIES: Duration = Duration::from_millis(100);

fn config(directory: &Path) -> String {
    let place = directory.display();
    format!(
        "node = \"gw\"\n[http]\naddress = \"off\"\n[spool]\ndirectory = \"{place}/spool\"\n\
         [[files]]\ndirectory = \"{place}/records\"\nrotate_interval = \"1d\"\n"
    )
}

/// A figure of /proc/PID/status, in KiB.
fn memory_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// How long the first thread of a process has waited for a processor. For nlringd this is the receive thread.
fn waited(pid: u32) -> Duration {
    let figures = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let waited_ns = figures.split_whitespace().nth(1);
    Duration::from_nanos(waited_ns.and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// The limit of flows in a namespace, which is one number for the whole host. Dropping this restores the old number.
struct FlowLimit {
    file: File,
    before: String,
}

impl FlowLimit {
    /// Raises the limit to at least this number. `None`: this process may not do that, for example in a namespace. Call
    /// it in the host's first network namespace.
    fn at_least(count: u32) -> Option<Self> {
        let path = "/proc/sys/net/netfilter/nf_conntrack_max";
        let before = fs::read_to_string(path).ok()?;
        // The descriptor still refers to this file when the thread has moved into another namespace.
        let file = File::options().write(true).open(path).ok()?;
        let limit = Self { file, before };
        let is_enough = limit
            .before
            .trim()
            .parse()
            .is_ok_and(|now: u32| now >= count);
        (is_enough || limit.write(&count.to_string())).then_some(limit)
    }

    fn write(&self, limit: &str) -> bool {
        self.file.write_all_at(limit.as_bytes(), 0).is_ok()
    }
}

impl Drop for FlowLimit {
    fn drop(&mut self) {
        let is_restored = self.write(&self.before);
        assert!(is_restored || thread::panicking(), "it was {}", self.before);
    }
}

/// Makes flows and ends them, until it is ended itself.
struct Load {
    goes_on: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<Made>>,
}

impl Load {
    fn begin(rate: u32) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let begun = Instant::now();
        let paced = {
            let goes_on = goes_on.clone();
            move |number: u32| {
                let due = begun + Duration::from_secs(1) * number / rate;
                if number.is_multiple_of(10) {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                goes_on.load(Ordering::Relaxed)
            }
        };
        let thread = thread::spawn(move || make_flows(0, paced));
        Self { goes_on, thread }
    }

    fn end(self) -> Vec<Made> {
        self.goes_on.store(false, Ordering::Relaxed);
        self.thread.join().expect("the load")
    }
}

/// From the end of a flow to the time of its record: the median of the first thousand, most of which end during the first
/// dump.
fn delay(contents: &Contents, made: &[Made]) -> Duration {
    let first = &made[..made.len().min(1000)];
    let times = contents.flows.iter().zip(&contents.times);
    let delays = times.filter_map(|(number, time)| {
        let made = first.get(usize::try_from(*number).ok()?)?; // they are numbered from 0
        Some(time.as_ns().saturating_sub(made.ended[0].as_ns()))
    });
    let mut delays: Vec<u64> = delays.collect();
    delays.sort_unstable();
    Duration::from_nanos(delays[delays.len() / 2])
}

/// What was measured at a start.
struct Start {
    /// From the start until a query found a flow that had ended.
    found_after: Duration,
    /// How long the receive thread waited for a processor meanwhile, because other programs had it.
    waited: Duration,
    /// The peak memory of nlringd.
    most_kib: u64,
}

/// Starts nlringd while the kernel has this many flows, and makes and ends others at this rate, until queries find one
/// of them and one of the earlier flows.
fn start_with(flow_count: u32, rate: u32) -> Start {
    own_namespace();
    report_all_flows();
    let directory = scratch(&format!("start-{flow_count}"));
    let mut requests = Requests::open().expect("requests");
    for number in 0..flow_count {
        requests.add(&flow(FIRST_THERE + number)).expect("a flow");
    }
    let begun = Instant::now();
    let collector = Collector::start(&directory, &config(&directory));
    collector.await_log("recording");
    let recording_after = begun.elapsed();
    let loaded_at = Instant::now();
    let load = Load::begin(rate);
    let is_found = |source: &str| {
        thread::sleep(BETWEEN_QUERIES);
        found_count(&directory, source) > 0
    };
    await_that("the first flow is found", || is_found("10.0.0.0:1024"));
    let (found_after, waited) = (begun.elapsed(), waited(collector.pid()));
    // The last of the earlier flows.
    let last = flow(FIRST_THERE + flow_count.saturating_sub(1));
    if flow_count > 0 {
        requests.delete(&last.key(), None).expect("an end");
        let source = format!("{}:1025", last.key().orig.src);
        await_that("a flow from before is found", || is_found(&source));
    }
    let made = load.end();
    let flows_per_second = made.len() as u128 * 1_000_000 / loaded_at.elapsed().as_micros();
    eprintln!(
        "{flow_count} flows at the start and {flows_per_second}/s beside: recording after {recording_after:.2?}, the \
         first of {} flows found after {found_after:.2?}, of which nlringd waited {waited:.2?} for a processor",
        made.len(),
    );
    let most_kib = memory_kib(collector.pid(), "VmHWM");
    let now_kib = memory_kib(collector.pid(), "VmRSS");
    eprintln!("{flow_count} flows: {now_kib} KiB resident, at most {most_kib} KiB");
    collector.end();
    let contents = Contents::read(&directory.join("records"));
    assert!(contents.losses.is_empty(), "{:?}", contents.losses);
    assert_eq!(contents.missing_count(&made), 0, "no event is missed");
    let delay = delay(&contents, &made);
    eprintln!("{flow_count} flows: a record's time is {delay:.2?} behind the end of its flow");
    assert!(delay < Duration::from_millis(500), "{delay:.2?}");
    fs::remove_dir_all(&directory).expect("it is removed");
    Start {
        found_after,
        waited,
        most_kib,
    }
}

#[test]
fn with_an_empty_table_the_first_record_is_there_soon() {
    start_with(0, 100);
}

#[test]
fn a_start_with_100_000_flows_misses_nothing_and_takes_little_memory() {
    let Start { most_kib, .. } = start_with(100_000, 5_000);
    assert!(most_kib <= 64 << 10, "{most_kib} KiB");
}

#[test]
#[ignore = "takes a minute, and raises nf_conntrack_max meanwhile"]
fn a_start_with_a_million_flows_misses_nothing() {
    let count = 1_000_000;
    let Some(_limit) = FlowLimit::at_least(count + 100_000) else {
        return skip(
            "a start with a million flows",
            "nf_conntrack_max cannot be raised here",
        );
    };
    let start = start_with(count, 10_000);
    let worked = start.found_after.saturating_sub(start.waited);
    assert!(worked <= Duration::from_secs(10), "{worked:.2?}");
}
