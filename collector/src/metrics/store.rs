//! What a worker of `nlringd store` counts and measures.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use nlring::Timestamp;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::process::Process;
use super::series::{Adding, Counters, Gauges, Labels, Seconds};
use super::{Shown, seconds, signed};

/// All numbers of a worker. Clones share them.
#[derive(Clone)]
pub struct StoreMetrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    process: Process,
    messages: Counters,
    records: Counter,
    files: Counter,
    file_bytes: Counter,
    held: Gauge,
    waiting: Gauge,
    complete: Family<Labels, Seconds>,
    errors: Counter,
    failing: Gauges,
    /// Why nothing is stored now.
    problem: Mutex<Option<String>>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// Its records are in complete files.
    Stored,
    /// It came again, and its records were in complete files already.
    Repeated,
    /// It is not a message of nlringd.
    Foreign,
}

impl Fate {
    const ALL: [Self; 3] = [Self::Stored, Self::Repeated, Self::Foreign];

    fn labels(self) -> Labels {
        let word = match self {
            Self::Stored => "stored",
            Self::Repeated => "repeated",
            Self::Foreign => "foreign",
        };
        vec![("fate", word.to_owned())]
    }
}

/// The part that fails, in `/health` and as a label.
const PART: &str = "store";

impl StoreMetrics {
    #[rustfmt::skip] // a line for each
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let process = Process::add(&mut registry);
        let mut add = Adding(registry.sub_registry_with_prefix("nlringd"));
        let failing: Gauges = add.count(
            "failing",
            "1: this part does not work now, and /health says why; 0: it works",
        );
        failing.get_or_create(&part()).set(0);
        let messages: Counters = add.count(
            "store_messages",
            "Messages that this worker is done with: stored in complete files, repeated (they were stored \
             before), or foreign (not of nlringd)",
        );
        for fate in Fate::ALL {
            _ = messages.get_or_create(&fate.labels());
        }
        let inner = Inner {
            process,
            failing,
            messages,
            records: add.count("store_records", "Records in the complete files of this worker"),
            files: add.count("store_files", "Files that this worker has completed"),
            file_bytes: add.measure(
                "store_file", Unit::Bytes, "The size of all files that this worker has completed", Counter::default(),
            ),
            held: add.count("store_held_messages", "Messages that this worker has taken, and whose files are not complete"),
            waiting: add.count(
                "store_waiting_messages",
                "Messages of the stream that no worker had taken when this worker last took one",
            ),
            complete: add.measure(
                "store_complete_timestamp", Unit::Seconds,
                "The time until which the last stored message of this node has records, in seconds since 1970",
                Family::default(),
            ),
            errors: add.count("store_errors", "How often this worker had to give up, and begin again"),
            problem: Mutex::default(),
            registry,
        };
        Self(Arc::new(inner))
    }

    /// Counts what became of messages.
    pub fn count_messages(&self, fate: Fate, count: usize) {
        let messages = self.0.messages.get_or_create(&fate.labels());
        messages.inc_by(count as u64);
    }

    /// Counts a file that is complete. The worker works.
    pub fn count_file(&self, records: u64, bytes: u64) {
        self.0.records.inc_by(records);
        self.0.files.inc();
        self.0.file_bytes.inc_by(bytes);
        self.note_problem(None);
    }

    /// Notes that a message of this node with records until this time is stored.
    pub fn note_complete(&self, node: &str, until: Timestamp) {
        let labels = vec![("node", node.to_owned())];
        self.0.complete.get_or_create(&labels).set(seconds(until));
    }

    /// Notes how many messages this worker holds.
    pub fn note_held(&self, count: usize) {
        self.0.held.set(signed(count as u64));
    }

    /// Notes how many messages wait for a worker.
    pub fn note_waiting(&self, count: u64) {
        self.0.waiting.set(signed(count));
    }

    /// Counts a failure that ends the connection.
    pub fn count_error(&self, problem: String) {
        self.0.errors.inc();
        self.note_problem(Some(problem));
    }

    /// Notes that the worker works, or why it does not.
    pub fn note_problem(&self, problem: Option<String>) {
        let is_failing = i64::from(problem.is_some());
        self.0.failing.get_or_create(&part()).set(is_failing);
        *self
            .0
            .problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

fn part() -> Labels {
    vec![("part", PART.to_owned())]
}

impl Shown for StoreMetrics {
    fn text(&self) -> String {
        self.0.process.measure();
        let mut text = String::new();
        // Writing to a string does not fail.
        _ = prometheus_text::encode(&mut text, &self.0.registry);
        text
    }

    fn problems(&self) -> BTreeMap<String, String> {
        let problem = self.0.problem.lock();
        let problem = problem.unwrap_or_else(PoisonError::into_inner);
        let problem = problem.iter();
        problem.map(|it| (PART.to_owned(), it.clone())).collect()
    }
}
