//! `nlring latency`: measures how late events arrive and what receiving them costs, for each requested way.

mod cores;
mod cost;
mod hgrm;
mod meter;
mod plan;
mod plot;
mod progress;
mod ratio;
mod receiver;
mod report;
mod run;
mod table;
mod usage;
mod warnings;

use std::process::ExitCode;

use crate::args::LatencyArguments;
use crate::follow::session::give_up_all_but;
use crate::host::cpu::pin_to_cpu;
use crate::host::kept::Kept;
use crate::host::namespace;
use crate::load::DEFAULT_DATAGRAM_BYTES;
use crate::outcome::{self, Failure, Outcome};
use crate::write::console::Console;
use hgrm::Directory;
use plan::Plan;
use plot::Picture;
use progress::Progress;
use report::LatencyReport;
use run::{Conditions, Run, Runs};

pub use cost::{Cost, Measurement, costs};

/// Also exits with 1 if an event is unaccounted for.
pub fn run(arguments: &LatencyArguments, console: &mut Console) -> Outcome {
    let is_exact = latency(arguments, console)?;
    Ok(if is_exact {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns whether every event is accounted for.
fn latency(arguments: &LatencyArguments, console: &mut Console) -> Result<bool, Failure> {
    let plan = Plan::new(arguments)?;
    let cpus = arguments.cpu.map_or_else(cores::choose, Ok)?;
    if cpus.receiver == cpus.generator {
        console.warn(format_args!(
            "events are made and received on one CPU, {}, so each waits for the other, and the latencies include that",
            cpus.receiver
        ));
    }
    // Files that cannot be written fail now, not after an hour of measuring.
    let directory = arguments
        .hgrm
        .as_deref()
        .map(Directory::create)
        .transpose()?;
    let picture = arguments.svg.as_deref().map(Picture::open).transpose()?;
    let conditions = Conditions {
        duration: arguments.duration,
        warmup: arguments.warmup,
        datagram_bytes: arguments.datagram_bytes.unwrap_or(DEFAULT_DATAGRAM_BYTES),
        receiver_cpu: cpus.receiver,
    };
    pin_to_cpu(cpus.receiver)?; // a wrong CPU fails before anything is measured
    pin_to_cpu(cpus.generator)?;
    namespace::enter("latency")?;
    let has_files = directory.is_some() || picture.is_some();
    let kept = Kept::LOAD.and(Kept::RINGS).and_if(has_files, Kept::FILES);
    give_up_all_but(kept, console);
    let runs = run_all(&plan, arguments.repeat_count, conditions, console)?;

    let report = LatencyReport::new(&plan, &runs, arguments, cpus);
    outcome::report(&if arguments.json {
        report.json()?
    } else {
        table::text(&plan, &report)
    })?;
    if let Some(directory) = directory {
        directory.write(&plan, &runs)?;
    }
    if let Some(picture) = picture {
        picture.write(&plan, &runs, &report)?;
    }
    for warning in warnings::warnings(&plan, &runs) {
        console.warn(warning);
    }
    let mut runs = runs.iter().flat_map(|runs| &runs.each);
    Ok(runs.all(Run::is_exact))
}

/// Runs every combination, `repeat_count` times. The runs of a setting and a way are at `setting × ways + way`.
fn run_all(
    plan: &Plan,
    repeat_count: usize,
    conditions: Conditions,
    console: &mut Console,
) -> Result<Vec<Runs>, Failure> {
    let mut runs: Vec<Runs> = Vec::new();
    runs.resize_with(plan.run_count(), Runs::default);
    let time = conditions.warmup + conditions.duration;
    let mut progress = Progress::start(plan.run_count() * repeat_count, time, console);
    for repetition in 0..repeat_count {
        for (setting, way) in plan.order(repetition) {
            progress.next(&plan.ways[way]);
            runs[setting * plan.ways.len() + way].add(
                plan.settings[setting],
                plan.ways[way],
                conditions,
            )?;
        }
    }
    Ok(runs)
}
