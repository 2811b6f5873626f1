//! What nlringd counts and measures, as `/metrics` shows it, and what is wrong with it, as `/health` shows it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nlring::conntrack::Mirror;
use nlring::{Statistics, Timestamp};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::host::Heartbeat;
use crate::record::Body;

/// The labels of a time series.
type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;

/// The upper bounds of the latency's buckets, in seconds.
const LATENCIES: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0,
];
/// A receive thread that has not beaten its heart for so long hangs.
const LONGEST_TURN: Duration = Duration::from_secs(10);

/// All numbers. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    received: Counters,
    lost: Counters,
    unreadable: Counters,
    records: [Counter; 3],
    latency: Histogram,
    flows: Gauges,
    resyncs: Counters,
    audits: Counters,
    spool_bytes: Gauge,
    spool_errors: Counter,
    output_errors: Counters,
    output_complete: Gauges,
    heartbeat: Heartbeat,
    /// What does not work now: who, and why.
    failing: Mutex<BTreeMap<String, String>>,
    registry: Registry,
}

impl Metrics {
    pub fn new(heartbeat: Heartbeat) -> Self {
        let mut registry = Registry::with_prefix("nlringd");
        let records = Counters::default();
        let of_kind = |kind: &str| {
            let labels = vec![("record", kind.to_owned())];
            records.get_or_create(&labels).clone()
        };
        registry.register("records", "Records made", records.clone());
        let inner = Inner {
            received: add(
                &mut registry,
                "received_datagrams",
                "Datagrams received from the kernel",
            ),
            lost: add(
                &mut registry,
                "lost_datagrams",
                "Datagrams that the kernel dropped because the receive buffer was full",
            ),
            unreadable: add(
                &mut registry,
                "unreadable_datagrams",
                "Datagrams that were truncated or malformed",
            ),
            records: [of_kind("flow"), of_kind("event"), of_kind("loss")],
            latency: add_measured(
                &mut registry,
                "event_latency",
                "The time from the end of a flow in the kernel until nlringd received the event; \
                 with net.netfilter.nf_conntrack_timestamp = 1",
                Unit::Seconds,
                Histogram::new(LATENCIES),
            ),
            flows: add(
                &mut registry,
                "flows",
                "Flows in the table that nlringd keeps",
            ),
            resyncs: add(
                &mut registry,
                "resyncs",
                "How often the table was brought together with the kernel's, by the reason",
            ),
            audits: add(
                &mut registry,
                "audits",
                "Audits of the table, also those that found nothing",
            ),
            spool_bytes: add_measured(
                &mut registry,
                "spool",
                "The size of the spool on disk",
                Unit::Bytes,
                Gauge::default(),
            ),
            spool_errors: add(
                &mut registry,
                "spool_errors",
                "Failed attempts to write a batch to the spool",
            ),
            output_errors: add(
                &mut registry,
                "output_errors",
                "Failed attempts of an output",
            ),
            output_complete: add_measured(
                &mut registry,
                "output_complete_timestamp",
                "The output's receiver has all records before this instant, in seconds since 1970",
                Unit::Seconds,
                Gauges::default(),
            ),
            heartbeat,
            failing: Mutex::default(),
            registry,
        };
        Self(Arc::new(inner))
    }

    /// Everything, in the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A string takes all that is written.
        _ = prometheus_text::encode(&mut text, &self.0.registry);
        text
    }

    /// What is wrong now: who, and why.
    pub fn problems(&self) -> BTreeMap<String, String> {
        let failing = self.0.failing.lock();
        let mut problems = failing.unwrap_or_else(PoisonError::into_inner).clone();
        let age = self.0.heartbeat.age();
        if age >= LONGEST_TURN {
            let text = format!(
                "the receive thread has done nothing for {} s",
                age.as_secs()
            );
            problems.insert("receive".to_owned(), text);
        }
        problems
    }

    /// Notes whether something works: an output by its name, the spool, a mirror by its namespace.
    pub fn note_health(&self, of: &str, problem: Option<String>) {
        let failing = self.0.failing.lock();
        let mut failing = failing.unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => _ = failing.insert(of.to_owned(), problem),
            None => _ = failing.remove(of),
        }
    }

    pub fn count_record(&self, body: &Body) {
        let [flows, events, losses] = &self.0.records;
        match body {
            Body::Flow(_) => flows.inc(),
            Body::Event(_) => events.inc(),
            Body::Loss(_) => losses.inc(),
            Body::Mark => return,
        };
    }

    /// Notes how late an event was received that happened at `happened`.
    pub fn note_latency(&self, happened: Timestamp, received: Timestamp) {
        let latency = received.duration_since(happened);
        self.0.latency.observe(latency.as_secs_f64());
    }

    pub fn note_statistics(&self, namespace: &str, statistics: &Statistics) {
        let labels = of_namespace(namespace);
        let unreadable = statistics.truncated + statistics.malformed + statistics.short;
        for (counters, count) in [
            (&self.0.received, statistics.received),
            (&self.0.lost, statistics.dropped),
            (&self.0.unreadable, unreadable),
        ] {
            set(counters, &labels, count);
        }
    }

    pub fn note_mirror(&self, namespace: &str, mirror: &Mirror) {
        let labels = of_namespace(namespace);
        let count = i64::try_from(mirror.len()).unwrap_or(i64::MAX);
        self.0.flows.get_or_create(&labels).set(count);
        let health = mirror.health();
        set(&self.0.audits, &labels, health.audit_count);
        let problem = health.error.map(|error| {
            format!("the kernel's table cannot be read: {error}; flows without events have no end")
        });
        self.note_health(&format!("mirror {namespace}"), problem);
    }

    pub fn count_resync(&self, namespace: &str, reason: &str) {
        let mut labels = of_namespace(namespace);
        labels.push(("reason", reason.to_owned()));
        self.0.resyncs.get_or_create(&labels).inc();
    }

    pub fn note_spool(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.0.spool_bytes.set(bytes);
    }

    pub fn count_spool_error(&self) {
        self.0.spool_errors.inc();
    }

    /// Makes the series of an output, so that each is there from the start.
    pub fn add_output(&self, output: &str) {
        let _ = self.0.output_errors.get_or_create(&of_output(output));
    }

    pub fn count_output_error(&self, output: &str) {
        self.0.output_errors.get_or_create(&of_output(output)).inc();
    }

    /// Notes that the output's receiver has all before this time.
    pub fn note_output(&self, output: &str, complete: Timestamp) {
        let seconds = i64::try_from(complete.as_ns() / 1_000_000_000).unwrap_or(i64::MAX);
        let gauge = self.0.output_complete.get_or_create(&of_output(output));
        gauge.set(seconds);
    }
}

fn add<M: Clone + Default + prometheus_client::registry::Metric>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn add_measured<M: Clone + prometheus_client::registry::Metric>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Unit,
    metric: M,
) -> M {
    registry.register_with_unit(name, help, unit, metric.clone());
    metric
}

fn set(counters: &Counters, labels: &Labels, count: u64) {
    let counter = counters.get_or_create(labels);
    counter.inner().store(count, Ordering::Relaxed);
}

fn of_namespace(namespace: &str) -> Labels {
    vec![("netns", namespace.to_owned())]
}

fn of_output(output: &str) -> Labels {
    vec![("output", output.to_owned())]
}
