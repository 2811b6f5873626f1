//! What an event costs the receiver, for a few ways to receive, without the rest of the report.

use std::time::Duration;

use super::cores;
use super::plan::Setting;
use super::ratio::median;
use super::run::{Conditions, Run, Runs};
use crate::args::{SourceKind, Way};
use crate::host::cpu::pin_to_cpu;
use crate::load::DEFAULT_DATAGRAM_BYTES;
use crate::outcome::Failure;

const RECV_BUFFER_BYTES: usize = 8 << 20;

/// What to measure with.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    pub source: SourceKind,
    /// Events per second.
    pub rate: u32,
    pub warmup: Duration,
    pub time: Duration,
    pub repeat_count: usize,
}

/// What a way costs: medians over the repetitions, and sums of the events.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub cpu_ns_per_event: u64,
    /// Events per context switch of the receiving thread.
    pub events_per_switch: f64,
    pub made: u64,
    /// Received, lost or left unread.
    pub accounted: u64,
}

/// Measures the ways in turn. The caller must be in a private network namespace. This binds the calling thread to a
/// CPU.
pub fn costs<const N: usize>(
    measurement: Measurement,
    ways: [Way; N],
) -> Result<[Cost; N], Failure> {
    let cpus = cores::choose()?;
    pin_to_cpu(cpus.generator)?;
    let setting = Setting {
        source: measurement.source,
        rate: Some(measurement.rate),
        recv_buffer_bytes: RECV_BUFFER_BYTES,
    };
    let conditions = Conditions {
        duration: measurement.time,
        warmup: measurement.warmup,
        datagram_bytes: DEFAULT_DATAGRAM_BYTES,
        receiver_cpu: cpus.receiver,
    };
    let mut runs = ways.map(|_| Runs::default());
    for _ in 0..measurement.repeat_count {
        for (way, runs) in ways.into_iter().zip(&mut runs) {
            runs.add(setting, way, conditions)?;
        }
    }
    Ok(runs.map(|runs| Cost::of(&runs.each)))
}

impl Cost {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // nanoseconds of a run
    fn of(runs: &[Run]) -> Self {
        let of = |value: fn(&Run) -> f64| median(runs.iter().map(value));
        Self {
            cpu_ns_per_event: of(Run::cpu_ns_per_event).round() as u64,
            events_per_switch: 1.0 / of(Run::switches_per_event),
            made: runs.iter().map(|run| run.made.total()).sum(),
            accounted: runs
                .iter()
                .map(|run| run.counts.received + run.counts.lost + run.counts.unread)
                .sum(),
        }
    }
}
