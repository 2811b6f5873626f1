//! The results of all runs: a row for each setting and way.

use std::array;

use nlring_print::json;
use serde::{Serialize, Serializer};

use super::meter::Clock;
use super::plan::{Plan, Setting};
use super::ratio::{Interval, as_f64, in_short, median, ratio_interval};
use super::run::{P50, P99, PERCENTILES, Run, Runs};
use crate::args::{Cpus, LatencyArguments, Way, wait_name};
use crate::outcome::Failure;

#[derive(Debug, Serialize)]
pub struct LatencyReport {
    pub kernel: String,
    pub receiver_cpu: usize,
    pub generator_cpu: usize,
    pub repeat: usize,
    pub duration_s: f64,
    pub warmup_s: f64,
    /// The way that the ratios compare with.
    pub against: Option<String>,
    pub rows: Vec<Row>,
}

/// Figures are medians over the repetitions, counts are sums.
#[derive(Debug, Serialize)]
pub struct Row {
    #[serde(skip)]
    pub setting: Setting,
    #[serde(skip)]
    pub way: Way,
    pub source: &'static str,
    pub rate: Option<u32>,
    pub recv_buffer_requested_bytes: usize,
    pub recv_buffer_granted_bytes: usize,
    pub backend: String,
    /// The backend in use, such as the one that `auto` chose.
    pub backend_used: String,
    pub backend_reason: Option<String>,
    pub wait: Option<String>,
    /// The clock of the latencies. None: no event had a time.
    pub clock: Option<Clock>,
    /// In the order of [`PERCENTILES`].
    #[serde(serialize_with = "by_name")]
    pub latency_ns: [u64; PERCENTILES.len()],
    /// How many latencies were measured.
    pub measured: u64,
    /// Events that were received in the measured time, but had no time to measure from.
    pub untimed: u64,
    /// Events that seem to have been received before they happened, for example because the clock was set.
    pub negative: u64,
    pub events_per_s: u64,
    pub cpu_ns_per_event: u64,
    #[serde(serialize_with = "in_short")]
    pub switches_per_event: f64,
    pub generator_events_per_s: u64,
    pub generator_cpu_ns_per_event: u64,
    /// How long after its due time the latest event was started.
    pub generator_most_late_ns: u64,
    pub made: u64,
    pub received: u64,
    pub lost: u64,
    pub unread: u64,
    pub ratio: Option<Ratios>,
}

/// Compared with the reference, in pairs of runs of the same repetition.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratios {
    pub p50: Option<Interval>,
    pub p99: Option<Interval>,
    pub cpu: Option<Interval>,
}

impl LatencyReport {
    /// The runs of a setting and a way are at `setting × ways + way` of `runs`.
    pub fn new(plan: &Plan, runs: &[Runs], arguments: &LatencyArguments, cpus: Cpus) -> Self {
        let mut rows = Vec::new();
        for (&setting, runs) in plan.settings.iter().zip(runs.chunks(plan.ways.len())) {
            let reference = plan.reference.map(|place| &runs[place].each[..]);
            for (place, (&way, own)) in plan.ways.iter().zip(runs).enumerate() {
                let reference = reference.filter(|_| plan.reference != Some(place));
                rows.extend(Row::new(setting, way, own, reference));
            }
        }
        Self {
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            receiver_cpu: cpus.receiver,
            generator_cpu: cpus.generator,
            repeat: arguments.repeat_count,
            duration_s: arguments.duration.as_secs_f64(),
            warmup_s: arguments.warmup.as_secs_f64(),
            against: plan.reference_way().map(|way| way.to_string()),
            rows,
        }
    }

    pub fn json(&self) -> Result<String, Failure> {
        json::to_string(self)
            .map(|text| text + "\n")
            .map_err(|error| Failure::Other(format!("write the report as JSON: {error}")))
    }
}

impl Row {
    /// None: there is no run.
    fn new(setting: Setting, way: Way, runs: &Runs, reference: Option<&[Run]>) -> Option<Self> {
        let Runs {
            each: runs,
            recorder,
        } = runs;
        let setup = &runs.last()?.setup;
        let sum = |count: fn(&Run) -> u64| runs.iter().map(count).sum();
        let of = |figure: &dyn Fn(&Run) -> f64| median(runs.iter().map(figure));
        Some(Self {
            setting,
            way,
            source: setting.source.name(),
            rate: setting.rate,
            recv_buffer_requested_bytes: setup.recv_buffer.requested_bytes,
            recv_buffer_granted_bytes: setup.recv_buffer.granted_bytes,
            backend: way.receiver.to_string(),
            backend_used: setup.backend.clone(),
            backend_reason: setup.backend_reason.clone(),
            wait: way.wait.map(wait_name),
            clock: runs.iter().find_map(|run| run.measured.clock),
            latency_ns: array::from_fn(|place| whole(of(&|run| as_f64(run.latency_ns[place])))),
            measured: recorder.count(),
            untimed: sum(|run| run.measured.untimed),
            negative: recorder.negative_count(),
            events_per_s: whole(of(&Run::events_per_second)),
            cpu_ns_per_event: whole(of(&Run::cpu_ns_per_event)),
            switches_per_event: of(&Run::switches_per_event),
            generator_events_per_s: whole(of(&Run::generator_events_per_second)),
            generator_cpu_ns_per_event: whole(of(&Run::generator_cpu_ns_per_event)),
            generator_most_late_ns: whole(of(&Run::generator_most_late_ns)),
            made: sum(|run| run.made.total()),
            received: sum(|run| run.counts.received),
            lost: sum(|run| run.counts.lost),
            unread: sum(|run| run.counts.unread),
            ratio: reference.map(|reference| Ratios::new(runs, reference)),
        })
    }

    pub fn p99_ns(&self) -> u64 {
        self.latency_ns[P99]
    }
}

impl Ratios {
    fn new(runs: &[Run], reference: &[Run]) -> Self {
        let of = |figure: &dyn Fn(&Run) -> f64| {
            let pairs = runs.iter().zip(reference);
            ratio_interval(pairs.map(|(own, base)| (figure(own), figure(base))))
        };
        Self {
            p50: of(&|run| as_f64(run.latency_ns[P50])),
            p99: of(&|run| as_f64(run.latency_ns[P99])),
            cpu: of(&Run::cpu_ns_per_event),
        }
    }
}

/// Names `p99.9` as `p99_9`, which is an identifier in all languages.
fn by_name<S: Serializer>(values: &[u64; PERCENTILES.len()], to: S) -> Result<S::Ok, S::Error> {
    let names = PERCENTILES.map(|(name, _)| name.replace('.', "_"));
    to.collect_map(names.iter().zip(values))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // nanoseconds of a run, or a rate
fn whole(number: f64) -> u64 {
    number.round() as u64
}
