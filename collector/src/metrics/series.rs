//! The time series of `nlringd run`, with their names and meanings.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

/// The labels of a time series.
pub type Labels = Vec<(&'static str, String)>;
pub type Counters = Family<Labels, Counter>;
pub type Gauges = Family<Labels, Gauge>;
/// A number of seconds, or an instant as seconds since 1970.
pub type Seconds = Gauge<f64, AtomicU64>;

/// The upper bounds of buckets for operations that take microseconds to seconds.
const SHORT_TIMES: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0,
];
/// The upper bounds of buckets for disk operations.
const DISK_TIMES: [f64; 12] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// All time series.
pub struct Series {
    pub received: Counters,
    pub lost: Counters,
    pub unreadable: Counters,
    pub records: Counters,
    pub latency: Histogram,
    pub receive_turn: Seconds,
    pub flows: Gauges,
    pub routes: Gauges,
    pub resyncs: Counters,
    pub failed_resyncs: Counters,
    pub audits: Counters,
    pub audit_differences: Counters,
    pub spool_bytes: Gauge,
    pub spool_limit: Gauge,
    pub spool_oldest: Seconds,
    pub spool_complete: Seconds,
    pub spool_write: Histogram,
    pub spool_errors: Counter,
    pub output_taken: Family<Labels, Seconds>,
    pub output_complete: Family<Labels, Seconds>,
    pub output_latest: Family<Labels, Seconds>,
    pub output_errors: Counters,
    pub output_losses: Counters,
    pub output_lost_records: Counters,
    pub failing: Gauges,
    pub reload_succeeded: Gauge,
}

impl Series {
    /// Adds the series to a registry.
    pub fn add(registry: &mut Registry) -> Self {
        Self::add_all(Adding(registry.sub_registry_with_prefix("nlringd")))
    }

    #[rustfmt::skip] // a line for each
    fn add_all(mut add: Adding<'_>) -> Self {
        Self {
            received: add.count("received_datagrams", "Datagrams received from the kernel"),
            lost: add.count(
                "lost_datagrams",
                "Datagrams that the kernel dropped because the receive buffer was full",
            ),
            unreadable: add.count(
                "unreadable_datagrams",
                "Datagrams that could not be read: truncated (larger than the buffers), or malformed",
            ),
            records: add.count("records", "Records made, losses among them"),
            latency: add.measure(
                "event_latency", Unit::Seconds,
                "The time from the end of a flow in the kernel until nlringd received the event; \
                 with net.netfilter.nf_conntrack_timestamp = 1",
                Histogram::new(SHORT_TIMES),
            ),
            receive_turn: add.measure(
                "receive_turn", Unit::Seconds,
                "How long the receive thread's current turn has taken so far; more than 1 s is unusual",
                Seconds::default(),
            ),
            flows: add.count("flows", "Flows in the table that nlringd keeps"),
            routes: add.count("routes", "Routes in the tables that nlringd keeps"),
            resyncs: add.count(
                "resyncs",
                "How often the table was made equal to the kernel's again, by reason",
            ),
            failed_resyncs: add.count(
                "failed_resyncs",
                "Rounds through the kernel's table that failed, audits among them",
            ),
            audits: add.count("audits", "Audits of the table, also those that found nothing"),
            audit_differences: add.count(
                "audit_differences",
                "Entries in which audits found the table different from the kernel's",
            ),
            spool_bytes: add.measure("spool", Unit::Bytes, "The size of the spool", Gauge::default()),
            spool_limit: add.measure(
                "spool_limit", Unit::Bytes, "spool.max_bytes of the configuration", Gauge::default(),
            ),
            spool_oldest: add.measure(
                "spool_oldest_timestamp", Unit::Seconds,
                "When the oldest segment of the spool was last written, in seconds since 1970",
                Seconds::default(),
            ),
            spool_complete: add.measure(
                "spool_complete_timestamp", Unit::Seconds,
                "All that the kernel reported before this instant is in the spool, or counted there as \
                 lost; in seconds since 1970",
                Seconds::default(),
            ),
            spool_write: add.measure(
                "spool_write", Unit::Seconds,
                "How long the write of a batch to the spool took, with its sync if it was due",
                Histogram::new(DISK_TIMES),
            ),
            spool_errors: add.count("spool_errors", "Failed attempts to write a batch to the spool"),
            output_taken: add.measure(
                "output_taken_timestamp", Unit::Seconds,
                "The output has taken all records before this instant from the spool, in seconds since 1970",
                Family::default(),
            ),
            output_complete: add.measure(
                "output_complete_timestamp", Unit::Seconds,
                "The output's receiver has all records before this instant, in seconds since 1970",
                Family::default(),
            ),
            output_latest: add.measure(
                "output_latest_timestamp", Unit::Seconds,
                "The output's receiver has the records just before this instant, though it may lack older ones, in \
                 seconds since 1970",
                Family::default(),
            ),
            output_errors: add.count("output_errors", "Failed attempts of an output"),
            output_losses: add.count(
                "output_losses",
                "How often records in the spool were removed, or could not be read, before the output had them",
            ),
            output_lost_records: add.count(
                "output_lost_records",
                "Records that the output lost in this way, as far as their number is known",
            ),
            failing: add.count(
                "failing",
                "1: this part does not work now, and /health says why; 0: it works",
            ),
            reload_succeeded: add.count(
                "config_last_reload_successful",
                "1: the configuration in use is the last one that was read; 0: that one has an error",
            ),
        }
    }
}

/// Adds series to a registry.
pub struct Adding<'a>(pub &'a mut Registry);

impl Adding<'_> {
    pub fn count<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    pub fn measure<M: Metric + Clone>(
        &mut self,
        name: &str,
        unit: Unit,
        help: &str,
        metric: M,
    ) -> M {
        self.0.register_with_unit(name, help, unit, metric.clone());
        metric
    }
}
