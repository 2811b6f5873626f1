//! The report as aligned text.

use std::fmt::Write as _;

use super::plan::Plan;
use super::ratio::{Interval, as_f64};
use super::report::{LatencyReport, Row};
use super::run::PERCENTILES;
use crate::write::fold::fold;

/// The width of the narrowest usual terminal.
const COLUMNS: usize = 80;

/// A block for each setting: how late the events arrived, what they cost, and both compared with the reference.
pub fn text(plan: &Plan, report: &LatencyReport) -> String {
    let mut text = heading(report);
    for &setting in &plan.settings {
        let is_its = |row: &&Row| row.setting == setting;
        let rows: Vec<&Row> = report.rows.iter().filter(is_its).collect();
        push_folded(&mut text, &format!("\n{setting}"));
        push_folded(&mut text, &latency_heading(&rows));
        push_table(&mut text, &latencies(&rows));
        push_folded(&mut text, "and what an event cost:");
        push_table(&mut text, &costs(&rows));
        push_ratios(&mut text, plan, &rows);
    }
    text
}

fn heading(report: &LatencyReport) -> String {
    let mut text = String::new();
    push_folded(
        &mut text,
        &format!(
            "Linux {}, received on CPU {}, made on CPU {}; medians of {} × {:?} s after {:?} s",
            report.kernel,
            report.receiver_cpu,
            report.generator_cpu,
            report.repeat,
            report.duration_s,
            report.warmup_s
        ),
    );
    let chosen = |row: &Row| Some((row.backend_used.clone(), row.backend_reason.clone()?));
    if let Some((backend, reason)) = report.rows.iter().find_map(chosen) {
        push_folded(&mut text, &format!("auto is {backend} ({reason})"));
    }
    text
}

fn latency_heading(rows: &[&Row]) -> String {
    match rows.iter().find_map(|row| row.clock) {
        None => "no event had a time, so there are no latencies:".to_owned(),
        Some(clock) => format!("latency in µs, {clock}:"),
    }
}

fn latencies(rows: &[&Row]) -> Vec<Vec<String>> {
    let mut header = vec!["backend", "wait"];
    header.extend(PERCENTILES.map(|(name, _)| name));
    let mut table = vec![header.into_iter().map(str::to_owned).collect()];
    table.extend(rows.iter().map(|row| {
        let mut cells = names(row);
        cells.extend(row.latency_ns.map(|latency_ns| match row.measured {
            0 => "-".to_owned(),
            _ => short(micros(latency_ns), 1),
        }));
        cells
    }));
    table
}

fn costs(rows: &[&Row]) -> Vec<Vec<String>> {
    let header = [
        "backend", "wait", "events/s", "lost", "CPU µs", "switches", "made µs", "late µs",
    ];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(|row| {
        let mut cells = names(row);
        cells.extend([
            row.events_per_s.to_string(),
            row.lost.to_string(),
            short(micros(row.cpu_ns_per_event), 2),
            format!("{:.3}", row.switches_per_event),
            short(micros(row.generator_cpu_ns_per_event), 2),
            short(micros(row.generator_most_late_ns), 1),
        ]);
        cells
    }));
    table
}

fn push_ratios(text: &mut String, plan: &Plan, rows: &[&Row]) {
    let Some(reference) = plan.reference_way() else {
        return;
    };
    let others = || rows.iter().copied().filter(|row| row.way != reference);
    if let Some(first) = others().find_map(|row| row.ratio?.cpu) {
        let confidence = confidence(first);
        push_folded(text, &format!("× {reference}: {confidence}"));
        push_table(text, &ratios(others()));
    }
}

fn ratios<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<Vec<String>> {
    let header = ["backend", "wait", "p50", "p99", "CPU"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    table.extend(rows.filter_map(|row| {
        let ratio = row.ratio?;
        let mut cells = names(row);
        cells.extend([ratio.p50, ratio.p99, ratio.cpu].map(interval));
        Some(cells)
    }));
    table
}

fn names(row: &Row) -> Vec<String> {
    let wait = row.wait.as_deref().unwrap_or("-");
    vec![row.backend.clone(), wait.to_owned()]
}

fn interval(interval: Option<Interval>) -> String {
    let Some(Interval {
        median, low, high, ..
    }) = interval
    else {
        return "-".to_owned();
    };
    let [median, low, high] = [median, low, high].map(|ratio| short(ratio, 2));
    if low == high {
        median
    } else {
        format!("{median} ({low}–{high})")
    }
}

fn confidence(interval: Interval) -> String {
    let percent = interval.confidence * 100.0;
    if percent < 50.0 {
        return "one pair each; --repeat 5 gives 90 % intervals".to_owned();
    }
    if percent < 90.0 {
        return format!(
            "medians of pairs (range: {percent:.0} % confidence; --repeat 5 gives 90 %)"
        );
    }
    format!("medians of pairs ({percent:.0} % intervals by order statistics)")
}

fn micros(nanoseconds: u64) -> f64 {
    as_f64(nanoseconds) / 1000.0
}

/// A number with this many decimals, or fewer if it is large: more than four digits would not be exact.
fn short(number: f64, decimals: usize) -> String {
    let digits_before = match number {
        ..10.0 => 1,
        ..100.0 => 2,
        ..1000.0 => 3,
        _ => 4,
    };
    let decimals = decimals.min(4 - digits_before);
    format!("{number:.decimals$}")
}

fn push_folded(text: &mut String, line: &str) {
    for line in fold(line, COLUMNS) {
        text.push_str(&line);
        text.push('\n');
    }
}

/// Adds a table. The first two columns are left-aligned, the others right-aligned.
fn push_table(text: &mut String, table: &[Vec<String>]) {
    let column_count = table.first().map_or(0, Vec::len);
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..column_count)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    for row in table {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 | 1 => write!(line, "  {cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_have_fewer_decimals() {
        for (number, decimals, want) in [
            (0.0, 2, "0.00"),
            (1.234, 2, "1.23"),
            (12.34, 2, "12.34"),
            (123.45, 2, "123.5"),
            (1234.5, 2, "1234"),
            (312_475.6, 1, "312476"),
            (53.64, 1, "53.6"),
        ] {
            assert_eq!(short(number, decimals), want);
        }
    }
}
