//! What the tests of nlringd share: a directory, nlringd itself, flows, and the records in its files.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod cluster;
pub mod http;
pub mod jwt;
pub mod load;
pub mod nats;
pub mod network;
pub mod python;
pub mod relay;
pub mod store;

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    TimestampMillisecondType, TimestampNanosecondType, UInt16Type, UInt64Type,
};
use nlring::Timestamp;
use nlring::conntrack::{Layer4, NewFlow, Requests, Tuple};
use nlring_testing::{PATIENCE, await_that};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rustix::process::{Pid, Signal, kill_process};

/// An empty directory of this test.
pub fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a directory");
    directory
}

/// The program.
pub const NLRINGD: &str = env!("CARGO_BIN_EXE_nlringd");

/// nlringd, as a program.
pub struct Collector {
    child: Child,
    log: PathBuf,
}

impl Collector {
    /// Starts nlringd with this configuration, in this thread's namespaces.
    pub fn start(directory: &Path, config: &str) -> Self {
        Self::start_by(&mut Command::new(NLRINGD), directory, config)
    }

    /// Starts nlringd by a command that ends with its program.
    pub fn start_by(command: &mut Command, directory: &Path, config: &str) -> Self {
        let path = directory.join("nlringd.toml");
        fs::write(&path, config).expect("a configuration");
        let log = directory.join("log");
        let to_log = File::options().append(true).create(true).open(&log);
        let child = command
            .args(["run", "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(to_log.expect("a log"))
            .spawn()
            .expect("nlringd starts");
        Self { child, log }
    }

    /// All that nlringd has logged, in earlier runs too.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// Waits until nlringd has logged this.
    #[track_caller]
    pub fn await_log(&self, text: &str) {
        await_that(text, || self.log().contains(text));
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }

    /// Kills nlringd by SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it has ended");
    }

    /// Ends nlringd by SIGTERM.
    #[track_caller]
    pub fn end(mut self) {
        let is_success = self.stop();
        assert!(is_success, "nlringd has failed: {}", self.log());
    }

    /// Ends nlringd by SIGTERM. Whether it succeeded.
    #[track_caller]
    pub fn stop(&mut self) -> bool {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status.success();
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes conntrack of this namespace report all flows, also those that began while nobody listened.
pub fn report_all_flows() {
    // A request loads conntrack, and with it comes the sysctl.
    let loaded = Requests::open().and_then(|mut requests| requests.table_statistics());
    loaded.expect("conntrack");
    fs::write("/proc/sys/net/netfilter/nf_conntrack_events", "1").expect("a sysctl");
}

/// The flow of this number. Each number has a tuple of its own.
pub fn flow(number: u32) -> NewFlow<'static> {
    let [a, b, c, d] = number.to_be_bytes();
    let src = IpAddr::V4(Ipv4Addr::new(10, b, c, d));
    let dst = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let ports = Layer4::Ports {
        src: 1024 + u16::from(a),
        dst: 53,
    };
    NewFlow::new(Tuple::new(src, dst, 17, ports), 600)
}

/// The number of the flow with this source.
pub fn number(src: Ipv4Addr, port: u16) -> u32 {
    let [_, b, c, d] = src.octets();
    let a = u8::try_from(port - 1024).expect("a port of these flows");
    u32::from_be_bytes([a, b, c, d])
}

/// A flow that was made.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    pub number: u32,
    /// It ended between these times.
    pub ended: [Timestamp; 2],
}

/// How many flows from this source `nlringd query` finds in the files and the spool of a directory.
pub fn found_count(directory: &Path, source: &str) -> usize {
    let output = Command::new(env!("CARGO_BIN_EXE_nlringd"))
        .args(["query", "--json", "--src", source, "--follow-spool"])
        .arg(directory.join("spool"))
        .arg(directory.join("records"))
        .output()
        .expect("nlringd starts");
    let text = String::from_utf8_lossy(&output.stdout);
    text.matches("\"record\":\"flow\"").count()
}

/// Makes flows and ends them, one after the other, with the numbers from `first` until `goes_on` says no.
pub fn make_flows(first: u32, mut goes_on: impl FnMut(u32) -> bool) -> Vec<Made> {
    let mut requests = Requests::open().expect("requests");
    let mut made = Vec::new();
    for number in first.. {
        if !goes_on(number) {
            break;
        }
        let flow = flow(number);
        requests.add(&flow).expect("a flow");
        let before = Timestamp::now();
        let is_there = requests.delete(&flow.key(), None).expect("an end");
        assert!(is_there, "the flow was there until now");
        made.push(Made {
            number,
            ended: [before, Timestamp::now()],
        });
    }
    made
}

/// A loss in a file.
#[derive(Clone, Debug)]
pub struct Loss {
    pub reason: String,
    pub count: Option<u64>,
    pub since: Timestamp,
    pub until: Timestamp,
}

/// What files contain.
#[derive(Debug, Default)]
pub struct Contents {
    pub flows: Vec<u32>,
    /// The events of flows: the number, and whether it is the end.
    pub events: Vec<(u32, bool)>,
    /// When the flow of each of these was received to have ended.
    pub times: Vec<Timestamp>,
    pub losses: Vec<Loss>,
    /// From when to when each file is complete, in the order of their names.
    pub complete: Vec<[Option<u64>; 2]>,
}

impl Contents {
    /// Reads the Parquet files of a directory.
    pub fn read(directory: &Path) -> Self {
        let mut contents = Self::default();
        for path in files(directory, ".parquet") {
            contents.read_file(&path, |batch| {
                let times = batch["time"].as_primitive::<TimestampMillisecondType>();
                assert!(
                    times.values().is_sorted(),
                    "the times of a file never decrease"
                );
            });
        }
        contents
    }

    /// Reads what workers have stored of a node.
    pub fn read_stored(directory: &Path, node: &str) -> Self {
        let mut contents = Self::default();
        let mut directories = vec![directory.join(format!("store/node={node}"))];
        while let Some(directory) = directories.pop() {
            for path in files(&directory, "") {
                if path.is_dir() {
                    directories.push(path);
                } else {
                    contents.read_file(&path, |_| {});
                }
            }
        }
        contents
    }

    fn read_file(&mut self, path: &Path, check: impl Fn(&RecordBatch)) {
        let file = File::open(path).expect("a file");
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
        let metadata = builder.metadata().file_metadata().key_value_metadata();
        let entries = metadata.expect("metadata").clone();
        let value = |key: &str| {
            let entry = entries.iter().find(|entry| entry.key == key);
            entry.and_then(|entry| entry.value.as_ref()?.parse().ok())
        };
        let from = value("nlring.complete_from_ns");
        self.complete
            .push([from, value("nlring.complete_until_ns")]);
        for batch in builder.build().expect("a reader") {
            let batch = batch.expect("a batch");
            check(&batch);
            self.read_batch(&batch);
        }
    }

    /// Takes a message of the output to NATS.
    pub fn take_message(&mut self, message: &async_nats::jetstream::message::StreamMessage) {
        let header = |name: &str| message.headers.get(name).expect("a header").to_string();
        let complete = header("Nlring-Complete");
        let (from, until) = complete.split_once(' ').expect("two times");
        let complete = [from.parse().ok(), until.parse().ok()];
        // The messages of a batch say the same.
        if self.complete.last() != Some(&complete) {
            self.complete.push(complete);
        }
        for batch in nats::records(message) {
            self.take_records(
                &batch,
                &["time_ns", "since_ns", "until_ns"].map(|name| {
                    let times = batch[name].as_primitive::<TimestampNanosecondType>();
                    times.values().iter().map(|ns| [*ns, *ns]).collect()
                }),
            );
        }
    }

    fn read_batch(&mut self, batch: &RecordBatch) {
        // The first and the last nanosecond of the millisecond that a file has.
        self.take_records(
            batch,
            &["time", "since", "until"].map(|name| {
                let times = batch[name].as_primitive::<TimestampMillisecondType>();
                let ns = |ms: &i64| [ms * 1_000_000, ms * 1_000_000 + 999_999];
                times.values().iter().map(ns).collect()
            }),
        );
    }

    /// Takes records. `times` has the first and the last nanosecond of the time of each, and of those since and until each
    /// loss lasts.
    fn take_records(&mut self, batch: &RecordBatch, times: &[Vec<[i64; 2]>; 3]) {
        let [time, since, until] = times;
        let text = |name: &str, row| text(batch, name, row);
        let ports = batch["orig_sport"].as_primitive::<UInt16Type>();
        let counts = batch["count"].as_primitive::<UInt64Type>();
        let ns = |ns: i64| Timestamp::from_ns(u64::try_from(ns).expect("a time"));
        for row in 0..batch.num_rows() {
            match text("record", row).expect("a kind").as_str() {
                "flow" => {
                    let src = text("orig_src", row).expect("an address");
                    let src = src.parse().expect("an address");
                    self.flows.push(number(src, ports.value(row)));
                    self.times.push(ns(time[row][0]));
                }
                "event" => {
                    let src = text("orig_src", row).expect("an address");
                    let number = number(src.parse().expect("an address"), ports.value(row));
                    let event = text("event", row).expect("an event");
                    self.events.push((number, event == "destroy"));
                }
                "open" => {}
                // What is said about flows that were there does not excuse a flow that was short.
                "loss" if text("reason", row).as_deref() == Some("killed") => {}
                "loss" => self.losses.push(Loss {
                    reason: text("reason", row).expect("a reason"),
                    count: arrow_array::Array::is_valid(counts, row).then(|| counts.value(row)),
                    since: ns(since[row][0]),
                    until: ns(until[row][1]),
                }),
                other => panic!("a record of another kind: {other}"),
            }
        }
    }

    /// Each flow that was made is in the files once, or ended within a loss. How many did.
    #[track_caller]
    pub fn assert_accounts_for(&self, made: &[Made]) -> usize {
        let mut flows = self.flows.clone();
        flows.sort_unstable();
        let twice = flows.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "a flow is in the files twice");
        let missing = made
            .iter()
            .filter(|made| flows.binary_search(&made.number).is_err());
        let mut missing_count = 0;
        for made in missing {
            missing_count += 1;
            let [before, after] = made.ended;
            let is_reported = self
                .losses
                .iter()
                .any(|loss| loss.since <= after && before <= loss.until);
            assert!(
                is_reported,
                "{made:?} is missing, and no loss says so: {:?}",
                self.losses
            );
        }
        let recorded_count = made.len() - missing_count;
        assert_eq!(
            flows.len(),
            recorded_count,
            "only flows that were made are recorded"
        );
        missing_count
    }

    /// Each event of the flows that were made is in the files once, except those that the kernel has dropped. How many
    /// are not.
    #[track_caller]
    pub fn assert_has_events(&self, made: &[Made]) -> u64 {
        let mut events = self.events.clone();
        events.sort_unstable();
        let twice = events.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "an event is in the files twice");
        let known: HashSet<u32> = made.iter().map(|made| made.number).collect();
        let is_known = |(number, _): &(u32, bool)| known.contains(number);
        assert!(events.iter().all(is_known), "only events that were made");
        let dropped = self.losses.iter().map(|loss| {
            assert_eq!(loss.reason, "kernel");
            loss.count.expect("a count")
        });
        let (missing, dropped) = (2 * made.len() - events.len(), dropped.sum());
        // The kernel drops answers to nlringd too.
        assert!(
            missing as u64 <= dropped,
            "{missing} are missing, {dropped} were dropped"
        );
        missing as u64
    }

    /// How many of the flows that were made are not in the files.
    pub fn missing_count(&self, made: &[Made]) -> usize {
        let flows: HashSet<u32> = self.flows.iter().copied().collect();
        made.iter()
            .filter(|made| !flows.contains(&made.number))
            .count()
    }

    /// The files join without a gap: each is complete from where the one before ends.
    #[track_caller]
    pub fn assert_joined(&self) {
        for pair in self.complete.windows(2) {
            let ([_, until], [from, _]) = (pair[0], pair[1]);
            assert_eq!(from, until, "{:?}", self.complete);
        }
    }
}

/// The text in a column of words.
fn text(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = arrow_array::cast::AsArray::as_any_dictionary_opt(&batch[name]);
    let column = column.expect("a column of words");
    let is_valid = arrow_array::Array::is_valid(column, row);
    is_valid.then(|| {
        let key = column.normalized_keys()[row];
        column.values().as_string::<i32>().value(key).to_owned()
    })
}

/// The complete files with this end of their names, in order.
pub fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.ends_with(end) && !name.starts_with('.'))
        })
        .collect();
    // The position in the spool, which stands behind the time, tells the order.
    paths.sort_by_key(|path| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("")
            .to_owned();
        let stem = name[..name.len() - end.len()].to_owned();
        stem.rsplit('.').next().unwrap_or("").to_owned()
    });
    paths
}
