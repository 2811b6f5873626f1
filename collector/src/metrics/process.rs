//! Series about this process, whatever it does.

use std::sync::atomic::{AtomicU64, Ordering};

use nlring::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::series::{Adding, Gauges, Seconds};
use super::{seconds, signed};
use crate::host;

/// The CPU time and the memory of this process.
pub struct Process {
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge,
}

impl Process {
    /// Adds the series, among them the version and the time of the start, which is now.
    pub fn add(registry: &mut Registry) -> Self {
        let mut add = Adding(registry.sub_registry_with_prefix("process"));
        let start: Seconds = add.measure(
            "start_time",
            Unit::Seconds,
            "When nlringd has started",
            Seconds::default(),
        );
        start.set(seconds(Timestamp::now()));
        let cpu = add.measure(
            "cpu",
            Unit::Seconds,
            "CPU time of all threads",
            Counter::default(),
        );
        let resident = add.measure(
            "resident_memory",
            Unit::Bytes,
            "Memory that is resident",
            Gauge::default(),
        );
        let mut add = Adding(registry.sub_registry_with_prefix("nlringd"));
        let build: Gauges = add.count("build_info", "Always 1; the labels describe this nlringd");
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        build.get_or_create(&version).set(1);
        Self { cpu, resident }
    }

    /// Measures what the process has used until now.
    pub fn measure(&self) {
        let seconds = host::cpu_time().as_secs_f64();
        self.cpu.inner().store(seconds.to_bits(), Ordering::Relaxed);
        self.resident
            .set(signed(host::resident_bytes().unwrap_or(0)));
    }
}
