//! The report as aligned text.

use std::fmt::Write as _;

use super::plan::{Plan, Setting};
use super::ratio::{Interval, as_f64};
use super::report::{Report, Row};
use super::run::PERCENTILES;

/// A block for each setting: its figures, and how they stand to the reference's.
pub fn text(plan: &Plan, report: &Report) -> String {
    let mut text = heading(report);
    for &setting in &plan.settings {
        let is_its = |row: &&Row| row.setting == setting;
        let rows: Vec<&Row> = report.rows.iter().filter(is_its).collect();
        text.push_str(&setting_heading(setting, &rows));
        push_table(&mut text, &figures(&rows));
        let others = rows
            .iter()
            .filter(|row| Some(row.way) != plan.reference_way());
        if let Some(reference) = plan.reference_way()
            && let Some(confidence) = others
                .clone()
                .find_map(|row| row.ratio?.cpu)
                .map(confidence)
        {
            let _ = writeln!(text, "× {reference}: {confidence}");
            push_table(&mut text, &ratios(others.copied()));
        }
    }
    text
}

fn heading(report: &Report) -> String {
    let mut text = format!(
        "Linux {}, received on CPU {}, made on CPU {}; medians of {} × {:?} s after {:?} s\n",
        report.kernel,
        report.receiver_cpu,
        report.generator_cpu,
        report.repeat,
        report.duration_s,
        report.warmup_s
    );
    let chosen = |row: &Row| Some((row.backend_used.clone(), row.backend_reason.clone()?));
    if let Some((backend, reason)) = report.rows.iter().find_map(chosen) {
        let _ = writeln!(text, "auto is {backend} ({reason})");
    }
    text
}

fn setting_heading(setting: Setting, rows: &[&Row]) -> String {
    match rows.iter().find_map(|row| row.clock) {
        None => format!("\n{setting}: no event told its time\n"),
        Some(clock) => format!("\n{setting}: µs {clock}\n"),
    }
}

fn figures(rows: &[&Row]) -> Vec<Vec<String>> {
    let mut header = vec!["backend", "wait"];
    header.extend(PERCENTILES.map(|(name, _)| name));
    header.extend([
        "events/s", "lost", "CPU µs", "switches", "made µs", "late µs",
    ]);
    let mut table = vec![header.into_iter().map(str::to_owned).collect()];
    table.extend(rows.iter().map(|row| {
        let mut cells = names(row);
        cells.extend(row.latency_ns.map(|latency_ns| match row.measured {
            0 => "-".to_owned(),
            _ => format!("{:.1}", micros(latency_ns)),
        }));
        cells.extend([
            row.events_per_s.to_string(),
            row.lost.to_string(),
            format!("{:.2}", micros(row.cpu_ns_per_event)),
            format!("{:.3}", row.switches_per_event),
            format!("{:.2}", micros(row.generator_cpu_ns_per_event)),
            format!("{:.1}", micros(row.generator_most_late_ns)),
        ]);
        cells
    }));
    table
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
    if low < high {
        format!("{median:.2} ({low:.2}–{high:.2})")
    } else {
        format!("{median:.2}")
    }
}

fn confidence(interval: Interval) -> String {
    let percent = interval.confidence * 100.0;
    if percent < 50.0 {
        return "one pair each; --repeat 5 gives 90 % intervals".to_owned();
    }
    if percent < 90.0 {
        return format!(
            "medians of pairs and their range ({percent:.0} % confidence; --repeat 5 gives 90 %)"
        );
    }
    format!("medians of pairs and {percent:.0} % intervals by order statistics")
}

fn micros(nanoseconds: u64) -> f64 {
    as_f64(nanoseconds) / 1000.0
}

/// Adds lines of cells: the first two columns to the left, the others to the right.
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
