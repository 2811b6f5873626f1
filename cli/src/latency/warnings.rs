//! Warnings about figures that cannot be trusted.

use super::meter::Clock;
use super::plan::{Plan, Setting, unique};
use super::receiver::{Datagrams, Setup};
use super::run::{Run, Runs};
use crate::args::{Way, wait_name};
use crate::host::sysctl;

/// The warnings about all runs, each one once.
pub fn warnings(plan: &Plan, runs: &[Runs]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (&setting, of_ways) in plan.settings.iter().zip(runs.chunks(plan.ways.len())) {
        let runs: Vec<&Run> = of_ways.iter().flat_map(|runs| &runs.each).collect();
        for (&way, runs) in plan.ways.iter().zip(of_ways) {
            let runs = &runs.each;
            warnings.extend(runs.iter().filter_map(|run| unaccounted(setting, way, run)));
            let setup = runs.last().map(|run| &run.setup);
            warnings.extend(setup.and_then(|setup| cut_delay(setting, way, setup)));
        }
        warnings.extend(clamped(&runs));
        warnings.extend(too_slow(setting, &runs));
        warnings.extend(without_times(setting, &runs));
        warnings.extend(set_clock(setting, of_ways));
    }
    unique(warnings)
}

fn unaccounted(setting: Setting, way: Way, run: &Run) -> Option<String> {
    let Datagrams {
        received,
        lost,
        unread,
    } = run.counts;
    (!run.is_exact()).then(|| {
        format!(
            "{way}, {setting}: {} events were made, but {received} received, {lost} lost and {unread} left unread: \
             these do not add up, so do not trust the figures",
            run.made.total()
        )
    })
}

fn too_slow(setting: Setting, runs: &[&Run]) -> Option<String> {
    let missed = runs.iter().filter_map(|run| run.missed_rate(setting.rate));
    let slow: Vec<f64> = missed.collect();
    let slowest = slow.iter().copied().min_by(f64::total_cmp)?;
    let effect = match runs.iter().find_map(|run| run.measured.clock) {
        Some(Clock::Schedule) => "; lateness in making an event counts as latency",
        _ => "",
    };
    Some(format!(
        "{setting}: {} of {} runs did not reach the rate, the slowest only {slowest:.0} events/s{effect}. Give a lower \
         --rate, or run nothing else on this machine",
        slow.len(),
        runs.len()
    ))
}

fn without_times(setting: Setting, runs: &[&Run]) -> Option<String> {
    let untimed: u64 = runs.iter().map(|run| run.measured.untimed).sum();
    let is_timed = |run: &&Run| run.measured.clock.is_some();
    (untimed > 0).then(|| {
        if runs.iter().any(is_timed) {
            return format!("{setting}: {untimed} events had no time, and are not among the latencies");
        }
        format!(
            "{setting}: no event had a time, so there are no latencies: give a --rate, or --source usersock (conntrack's \
             events carry a time from Linux 6.14 on)"
        )
    })
}

fn set_clock(setting: Setting, runs: &[Runs]) -> Option<String> {
    let negative: u64 = runs.iter().map(|runs| runs.recorder.negative_count()).sum();
    (negative > 0).then(|| {
        format!("{setting}: {negative} events seem to have come before they happened: was the clock set? Measure again")
    })
}

fn clamped(runs: &[&Run]) -> Option<String> {
    let buffer = runs.last()?.setup.recv_buffer;
    buffer.is_clamped().then(|| sysctl::clamped(buffer))
}

fn cut_delay(setting: Setting, way: Way, setup: &Setup) -> Option<String> {
    let (wait, longest) = (way.wait?, setup.cut_delay?);
    Some(format!(
        "--wait {} was cut to {longest:?} for {setting}, because the receive buffer cannot absorb more; a larger \
         --recv-buffer can",
        wait_name(wait)
    ))
}
