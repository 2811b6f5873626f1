//! `nlring flood`: makes events at a known rate for other programs to receive, and reports how many.

mod progress;

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nlring_print::json;
use serde::Serialize;

use crate::args::{FloodArguments, SourceKind};
use crate::follow::session::give_up_all_but;
use crate::host::cpu;
use crate::host::kept::Kept;
use crate::host::namespace;
use crate::host::signals;
use crate::load::{self, Load, Made, Namespace, Pace, Schedule};
use crate::outcome::{self, Failure, Outcome};
use crate::units::{rate, ratio};
use crate::write::console::Console;

/// How long to flood without --count and --duration.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// How many entries to make without --count and --duration, for the source that keeps them all.
const DEFAULT_FLUSH_COUNT: u64 = 100_000;

pub fn run(arguments: &FloodArguments, console: &mut Console) -> Outcome {
    let report = flood(arguments, console)?;
    write_report(&report, arguments.json)?;
    Ok(ExitCode::SUCCESS)
}

fn flood(arguments: &FloodArguments, console: &mut Console) -> Result<FloodReport, Failure> {
    let datagram_bytes = datagram_bytes(arguments)?;
    let namespace = if arguments.here {
        Namespace::Shared
    } else {
        Namespace::Private
    };
    if let Some(cpu) = arguments.cpu {
        cpu::pin_to_cpu(cpu)?;
    }
    let is_over = watch_signals()?;
    if namespace == Namespace::Private {
        namespace::enter("flood")?;
    }
    let mut load = Load::open(arguments.source, datagram_bytes, namespace)?;
    give_up_all_but(Kept::LOAD, console);
    let asked = pace(arguments);
    let made_count = load.made_count();
    let made = progress::show(asked, &made_count, || {
        let schedule = Schedule::new(asked, load::monotonic_now_ns());
        load.run(&schedule, &|| is_over.load(Ordering::Relaxed))
    })?;
    Ok(FloodReport::new(arguments, &made))
}

fn datagram_bytes(arguments: &FloodArguments) -> Result<usize, Failure> {
    match (arguments.datagram_bytes, arguments.source) {
        (Some(_), source) if source != SourceKind::Usersock => Err(Failure::Usage(format!(
            "--size is for usersock: the kernel decides the size of events of {source}; leave it out"
        ))),
        (bytes, _) => Ok(bytes.unwrap_or(load::DEFAULT_DATAGRAM_BYTES)),
    }
}

fn pace(arguments: &FloodArguments) -> Pace {
    let mut pace = Pace {
        rate: arguments.rate,
        burst: arguments.burst,
        count: arguments.count,
        duration: arguments.duration,
    };
    if pace.count.is_none() && pace.duration.is_none() {
        match arguments.source {
            SourceKind::ConntrackFlush => pace.count = Some(DEFAULT_FLUSH_COUNT),
            _ => pace.duration = Some(DEFAULT_DURATION),
        }
    }
    pace
}

/// Returns a flag that a signal sets to request the end.
fn watch_signals() -> Result<Arc<AtomicBool>, Failure> {
    let is_over = Arc::new(AtomicBool::new(false));
    for signal in signals::ends() {
        signal_hook::flag::register(signal, Arc::clone(&is_over))
            .map_err(|error| Failure::Other(format!("handle signals: {error}")))?;
    }
    Ok(is_over)
}

/// What was made, as text for people, and as JSON.
#[derive(Debug, Serialize)]
struct FloodReport {
    source: &'static str,
    /// All events that a listener has received or lost.
    events: u64,
    /// How many of them the removal at the end made.
    removed: u64,
    seconds: f64,
    events_per_second: u64,
    asked_events_per_second: Option<u32>,
    /// How late the latest event was begun.
    most_late_ns: u64,
    /// User and system time of the sending thread per event, without the removal at the end.
    cpu_ns_per_event: Option<u64>,
    /// How long the one request of conntrack-flush took.
    flush_seconds: Option<f64>,
    flush_events_per_second: Option<u64>,
}

impl FloodReport {
    fn new(arguments: &FloodArguments, made: &Made) -> Self {
        let is_flush = arguments.source == SourceKind::ConntrackFlush;
        Self {
            source: arguments.source.name(),
            events: made.total(),
            removed: made.removed_count,
            seconds: seconds(made.time),
            events_per_second: rate(made.event_count, made.time),
            asked_events_per_second: arguments.rate,
            most_late_ns: nanoseconds(made.most_late),
            cpu_ns_per_event: nanoseconds(made.cpu).checked_div(made.event_count),
            flush_seconds: is_flush.then(|| seconds(made.removal)),
            flush_events_per_second: is_flush.then(|| rate(made.removed_count, made.removal)),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Rounds to whole microseconds, because JSON would show a finer fraction with 17 digits.
fn seconds(time: Duration) -> f64 {
    ratio(nanoseconds(time) / 1_000, 1_000_000)
}

impl fmt::Display for FloodReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheduled = self.events - self.removed;
        writeln!(f, "events: {}", self.events)?;
        write!(
            f,
            "rate: {} events/s, {scheduled} in {:.2} s",
            self.events_per_second, self.seconds
        )?;
        if let Some(asked) = self.asked_events_per_second {
            let late_us = ratio(self.most_late_ns, 1_000);
            write!(
                f,
                " (asked for: {asked} events/s)\nlate: {late_us:.1} µs at worst"
            )?;
        }
        if let (Some(seconds), Some(rate)) = (self.flush_seconds, self.flush_events_per_second) {
            let removed = self.removed;
            write!(f, "\nflush: {rate} events/s, {removed} in {seconds:.3} s")?;
        }
        if let Some(cpu_ns) = self.cpu_ns_per_event {
            let cpu_us = ratio(cpu_ns, 1_000);
            write!(
                f,
                "\nCPU per event: {cpu_us:.2} µs (sending thread, user + system)"
            )?;
        }
        Ok(())
    }
}

fn write_report(report: &FloodReport, as_json: bool) -> Result<(), Failure> {
    let text = if as_json {
        json::to_string(report)
            .map_err(|error| Failure::Other(format!("write the report as JSON: {error}")))?
    } else {
        report.to_string()
    };
    outcome::report(format!("{text}\n"))
}
