//! What nlringd counts and measures, for `/metrics`, and which parts of it fail, for `/health`.

mod process;
mod series;
mod store;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nlring::{MirrorHealth, Statistics, Timestamp};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use self::process::Process;
use self::series::{Counters, Labels, Series};
pub use self::store::{Fate, StoreMetrics};
use crate::host::Pulses;
use crate::record::{Body, LossBody, Subject};

/// If a turn takes longer than this, the receive thread counts as hanging.
const LONGEST_TURN: Duration = Duration::from_secs(10);

/// The kinds of records that are counted.
const KINDS: [&str; 5] = ["flow", "open", "event", "route", "loss"];

/// What a server shows at `/metrics` and `/health`.
pub trait Shown: Clone + Send + Sync + 'static {
    /// Everything, in the text format of Prometheus.
    fn text(&self) -> String;

    /// Which parts fail now, and why.
    fn problems(&self) -> BTreeMap<String, String>;
}

/// All numbers of `nlringd run`. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    process: Process,
    series: Series,
    registry: Registry,
    /// The counters of records, one for each of [`KINDS`].
    records: [Counter; KINDS.len()],
    pulses: Pulses,
    /// Which parts fail now, and why.
    failing: Mutex<BTreeMap<Part, String>>,
}

/// A part that can fail while the rest works.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The thread that receives.
    Receive,
    Spool,
    /// The output of this name.
    Output(String),
    /// The mirror of this subject in this namespace.
    Mirror(Subject, String),
}

impl Part {
    /// Its labels: the kind, and the name if there are several parts of that kind.
    fn labels(&self) -> Labels {
        let part = |part: &str| vec![("part", part.to_owned())];
        match self {
            Self::Receive => part("receive"),
            Self::Spool => part("spool"),
            Self::Output(name) => [part("output"), of_output(name)].concat(),
            Self::Mirror(subject, name) => [part("mirror"), of_socket(*subject, name)].concat(),
        }
    }

    /// Its name in `/health`.
    fn title(&self) -> String {
        let words = self.labels().into_iter().map(|(_, word)| word);
        words.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    }
}

impl Metrics {
    pub fn new(pulses: Pulses) -> Self {
        let mut registry = Registry::default();
        let process = Process::add(&mut registry);
        let series = Series::add(&mut registry);
        let of_kind = |kind: &str| {
            let labels = vec![("record", kind.to_owned())];
            series.records.get_or_create(&labels).clone()
        };
        let records = KINDS.map(of_kind);
        series.reload_succeeded.set(1);
        let metrics = Self(Arc::new(Inner {
            process,
            series,
            registry,
            records,
            pulses,
            failing: Mutex::default(),
        }));
        metrics.note_health(&Part::Receive, None);
        metrics.note_health(&Part::Spool, None);
        metrics
    }

    /// Notes whether a part works. The first call creates its series.
    pub fn note_health(&self, part: &Part, problem: Option<String>) {
        self.show_health(part, problem.is_some());
        let failing = self.0.failing.lock();
        let mut failing = failing.unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => _ = failing.insert(part.clone(), problem),
            None => _ = failing.remove(part),
        }
    }

    fn show_health(&self, part: &Part, is_failing: bool) {
        let gauge = self.0.series.failing.get_or_create(&part.labels());
        gauge.set(i64::from(is_failing));
    }

    pub fn count_record(&self, body: &Body) {
        let [flows, opens, events, routes, losses] = &self.0.records;
        match body {
            Body::Flow(_) => flows.inc(),
            Body::Event(_) => events.inc(),
            Body::Loss(_) => losses.inc(),
            Body::Open(_) => opens.inc(),
            Body::Route(_) => routes.inc(),
            Body::Mark | Body::MarkBeforeRepair | Body::End => return,
        };
    }

    /// Notes how late an event from the time `happened` was received.
    pub fn note_latency(&self, happened: Timestamp, received: Timestamp) {
        let latency = received.duration_since(happened);
        self.0.series.latency.observe(latency.as_secs_f64());
    }

    /// Notes the counts of a namespace's socket.
    pub fn note_statistics(&self, subject: Subject, namespace: &str, statistics: &Statistics) {
        let series = &self.0.series;
        let labels = of_socket(subject, namespace);
        set(&series.received, &labels, statistics.received);
        set(&series.lost, &labels, statistics.dropped);
        let malformed = statistics.malformed + statistics.short;
        for (reason, count) in [
            ("truncated", statistics.truncated),
            ("malformed", malformed),
        ] {
            let labels = with_reason(subject, namespace, reason);
            set(&series.unreadable, &labels, count);
        }
    }

    /// Notes how many entries a mirror has, and its health.
    pub fn note_mirror(
        &self,
        subject: Subject,
        namespace: &str,
        entry_count: usize,
        health: &MirrorHealth<'_>,
    ) {
        let series = &self.0.series;
        let entries = match subject {
            Subject::Flows => &series.flows,
            Subject::Routes => &series.routes,
        };
        let count = i64::try_from(entry_count).unwrap_or(i64::MAX);
        entries.get_or_create(&of_namespace(namespace)).set(count);
        let labels = of_socket(subject, namespace);
        set(&series.audits, &labels, health.audit_count);
        set(&series.failed_resyncs, &labels, health.failed_total_count);
        let differences = health.audit_difference_count;
        set(&series.audit_differences, &labels, differences);
        let problem = health.error.map(|error| {
            let effect = match subject {
                Subject::Flows => "flows without events have no end",
                Subject::Routes => "changes without events are not recorded",
            };
            format!("the kernel's table cannot be read: {error}; {effect}")
        });
        self.note_health(&Part::Mirror(subject, namespace.to_owned()), problem);
    }

    pub fn count_resync(&self, subject: Subject, namespace: &str, reason: &str) {
        let labels = with_reason(subject, namespace, reason);
        self.0.series.resyncs.get_or_create(&labels).inc();
    }

    /// Notes how large the spool is, and when its oldest segment was last written.
    pub fn note_spool(&self, bytes: u64, oldest: SystemTime) {
        self.0.series.spool_bytes.set(signed(bytes));
        let oldest = oldest.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0.series.spool_oldest.set(oldest.as_secs_f64());
    }

    pub fn note_spool_limit(&self, bytes: u64) {
        self.0.series.spool_limit.set(signed(bytes));
    }

    /// Notes how long it took to write a batch, and the time of its last mark.
    pub fn note_spool_write(&self, took: Duration, mark: Option<Timestamp>) {
        self.0.series.spool_write.observe(took.as_secs_f64());
        if let Some(mark) = mark {
            self.0.series.spool_complete.set(seconds(mark));
        }
    }

    pub fn count_spool_error(&self) {
        self.0.series.spool_errors.inc();
    }

    /// Creates the series of an output whose receiver has everything before `complete`.
    pub fn add_output(&self, output: &str, complete: Timestamp) {
        let labels = of_output(output);
        for counters in [
            &self.0.series.output_errors,
            &self.0.series.output_losses,
            &self.0.series.output_lost_records,
        ] {
            _ = counters.get_or_create(&labels);
        }
        self.note_health(&Part::Output(output.to_owned()), None);
        self.note_taken(output, complete);
        self.note_complete(output, complete);
        self.note_latest(output, complete);
    }

    pub fn count_output_error(&self, output: &str) {
        let errors = &self.0.series.output_errors;
        errors.get_or_create(&of_output(output)).inc();
    }

    /// Counts what the spool has lost for an output.
    pub fn count_output_loss(&self, output: &str, loss: &LossBody) {
        let series = &self.0.series;
        let labels = of_output(output);
        series.output_losses.get_or_create(&labels).inc();
        let lost_records = series.output_lost_records.get_or_create(&labels);
        lost_records.inc_by(loss.count.unwrap_or(0));
    }

    /// Notes that the output has taken everything before this time.
    pub fn note_taken(&self, output: &str, before: Timestamp) {
        let gauge = self.0.series.output_taken.get_or_create(&of_output(output));
        gauge.set(seconds(before));
    }

    /// Notes that the output's receiver has everything before this time.
    pub fn note_complete(&self, output: &str, before: Timestamp) {
        let complete = &self.0.series.output_complete;
        let gauge = complete.get_or_create(&of_output(output));
        gauge.set(seconds(before));
    }

    /// Notes that the output's receiver has the records before this time, though it may lack older ones.
    pub fn note_latest(&self, output: &str, time: Timestamp) {
        let latest = &self.0.series.output_latest;
        latest.get_or_create(&of_output(output)).set(seconds(time));
    }

    /// Notes whether the configuration could be read again.
    pub fn note_reload(&self, is_success: bool) {
        self.0.series.reload_succeeded.set(i64::from(is_success));
    }
}

impl Shown for Metrics {
    fn text(&self) -> String {
        self.0.process.measure();
        let turn = self.0.pulses.receive.age();
        self.0.series.receive_turn.set(turn.as_secs_f64());
        let problems = self.problems();
        for part in [Part::Receive, Part::Spool] {
            let is_failing = problems.contains_key(&part.title());
            self.show_health(&part, is_failing);
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        _ = prometheus_text::encode(&mut text, &self.0.registry);
        text
    }

    fn problems(&self) -> BTreeMap<String, String> {
        let failing = self.0.failing.lock();
        let failing = failing.unwrap_or_else(PoisonError::into_inner);
        let failing = failing.iter();
        let mut problems: BTreeMap<_, _> = failing
            .map(|(part, problem)| (part.title(), problem.clone()))
            .collect();
        let idle = self.0.pulses.hanging_for();
        if idle >= LONGEST_TURN {
            let text = format!(
                "the receive thread has done nothing for {} s",
                idle.as_secs()
            );
            problems.insert(Part::Receive.title(), text);
        }
        if let Some(silent) = self.0.pulses.disk_silent_for() {
            let text = format!("the disk has not answered for {} s", silent.as_secs());
            problems.insert(Part::Spool.title(), text);
        }
        problems
    }
}

fn set(counters: &Counters, labels: &Labels, count: u64) {
    let counter = counters.get_or_create(labels);
    counter.inner().store(count, Ordering::Relaxed);
}

fn of_namespace(namespace: &str) -> Labels {
    vec![("netns", namespace.to_owned())]
}

fn of_socket(subject: Subject, namespace: &str) -> Labels {
    let mut labels = of_namespace(namespace);
    labels.push(("subject", subject.name().to_owned()));
    labels
}

fn with_reason(subject: Subject, namespace: &str, reason: &str) -> Labels {
    let mut labels = of_socket(subject, namespace);
    labels.push(("reason", reason.to_owned()));
    labels
}

fn of_output(output: &str) -> Labels {
    vec![("output", output.to_owned())]
}

/// An instant, in seconds since 1970.
fn seconds(time: Timestamp) -> f64 {
    Duration::from_nanos(time.as_ns()).as_secs_f64()
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
