//! One run: events are made on one CPU and received on another.

use std::fs;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use nlring::latency::Recorder;

use super::meter::{Measured, Meter};
use super::plan::Setting;
use super::ratio::as_f64;
use super::receiver::{Datagrams, Setup, Stopper, receive};
use crate::args::Way;
use crate::host::cpu::pin_to_cpu;
use crate::load::{self, Load, Made, Namespace, Pace, Schedule};
use crate::outcome::Failure;
use crate::units::ratio;

/// The time from the set-up to the first event.
const LEAD_NS: u64 = 1_000_000;

/// If this setting is 1, conntrack's events carry their time. Available since Linux 6.14.
const EVENT_TIMES: &str = "/proc/sys/net/netfilter/nf_conntrack_timestamp";

/// A rate counts as reached if at least this share of it was reached.
const RATE_REACHED: f64 = 0.99;

/// What all runs share.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub duration: Duration,
    pub warmup: Duration,
    pub datagram_bytes: usize,
    pub receiver_cpu: usize,
}

/// The percentiles that the report shows; 100 is the longest latency.
pub const PERCENTILES: [(&str, f64); 6] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
    ("max", 100.0),
];
/// The indexes of two percentiles in [`PERCENTILES`].
pub const P50: usize = 0;
pub const P99: usize = 2;

/// The result of a run.
#[derive(Debug)]
pub struct Run {
    pub setup: Setup,
    pub counts: Datagrams,
    pub measured: Measured,
    /// In the order of [`PERCENTILES`].
    pub latency_ns: [u64; PERCENTILES.len()],
    pub made: Made,
}

/// All runs of a way in a setting. They share one recorder, so that many repetitions need little memory.
#[derive(Debug, Default)]
pub struct Runs {
    pub each: Vec<Run>,
    pub recorder: Recorder,
}

impl Runs {
    /// The lowest rate of the runs that did not reach this one. None: all runs reached it.
    pub fn missed_rate(&self, rate: Option<u32>) -> Option<f64> {
        let missed = self.each.iter().filter_map(|run| run.missed_rate(rate));
        missed.min_by(f64::total_cmp)
    }

    /// Makes one more run.
    pub fn add(
        &mut self,
        setting: Setting,
        way: Way,
        conditions: Conditions,
    ) -> Result<(), Failure> {
        let (run, recorder) = run(setting, way, conditions)?;
        self.each.push(run);
        self.recorder.merge(&recorder);
        Ok(())
    }
}

/// Makes events in this thread, and receives them in another.
fn run(setting: Setting, way: Way, conditions: Conditions) -> Result<(Run, Recorder), Failure> {
    let mut load = Load::open(
        setting.source,
        conditions.datagram_bytes,
        Namespace::Private,
    )?;
    let pace = Pace {
        rate: setting.rate,
        duration: Some(conditions.warmup + conditions.duration),
        ..Pace::default()
    };
    let schedule = OnceLock::new();
    let (ready, is_ready) = mpsc::channel();
    thread::scope(|scope| {
        let receive = || {
            pin_to_cpu(conditions.receiver_cpu)?;
            let mut meter = Meter::new(setting, conditions.warmup, &schedule);
            let tell = move |stopper| {
                let _ = ready.send(stopper); // the other thread waits for it
            };
            let (setup, counts) = receive(setting, way, &mut meter, tell)?;
            Ok((setup, counts, meter.into_measured()))
        };
        let receiving = thread::Builder::new()
            .name("receiver".to_owned())
            .spawn_scoped(scope, receive)
            .map_err(|error| Failure::Other(format!("start the receiver's thread: {error}")))?;
        let made = is_ready.recv().ok().map(|stopper| {
            let is_over = || receiving.is_finished();
            make(&mut load, pace, &schedule, &stopper, &is_over)
        });
        let received: Result<_, Failure> = receiving
            .join()
            .map_err(|_| Failure::Other("the receiver's thread panicked".to_owned()))?;
        let (setup, counts, (measured, recorder)) = received?;
        let run = Run {
            setup,
            counts,
            measured,
            latency_ns: PERCENTILES.map(|(_, percentile)| recorder.percentile_ns(percentile)),
            made: made.transpose()?.unwrap_or_default(),
        };
        Ok((run, recorder))
    })
}

/// Makes the events, then stops the receiver, even if the events could not be made.
fn make(
    load: &mut Load,
    pace: Pace,
    schedule: &OnceLock<Schedule>,
    stopper: &Stopper,
    is_over: &dyn Fn() -> bool,
) -> Result<Made, Failure> {
    // The setting exists only now: the receiver joined the groups, which loads the module.
    let _ = fs::write(EVENT_TIMES, "1"); // if this fails, the schedule gives the times
    let schedule = schedule.get_or_init(|| Schedule::new(pace, load::monotonic_now_ns() + LEAD_NS));
    let made = load.run(schedule, is_over);
    if !is_over() {
        stopper.stop()?;
    }
    made
}

impl Run {
    /// Whether every event that was made is received, lost or unread.
    pub fn is_exact(&self) -> bool {
        let Datagrams {
            received,
            lost,
            unread,
        } = self.counts;
        received + lost + unread == self.made.total()
    }

    pub fn cpu_ns_per_event(&self) -> f64 {
        ratio(nanoseconds(self.measured.usage.cpu), self.measured.count)
    }

    pub fn switches_per_event(&self) -> f64 {
        ratio(self.measured.usage.switch_count, self.measured.count)
    }

    pub fn events_per_second(&self) -> f64 {
        ratio(self.measured.count, nanoseconds(self.measured.time)) * 1e9
    }

    pub fn generator_cpu_ns_per_event(&self) -> f64 {
        ratio(nanoseconds(self.made.cpu), self.made.event_count)
    }

    pub fn generator_events_per_second(&self) -> f64 {
        ratio(self.made.event_count, nanoseconds(self.made.time)) * 1e9
    }

    /// The events per second that were made, if that is less than the rate. None: the rate was reached.
    pub fn missed_rate(&self, rate: Option<u32>) -> Option<f64> {
        let wanted = RATE_REACHED * f64::from(rate?);
        Some(self.generator_events_per_second()).filter(|&made| made < wanted)
    }

    pub fn generator_most_late_ns(&self) -> f64 {
        as_f64(nanoseconds(self.made.most_late))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
