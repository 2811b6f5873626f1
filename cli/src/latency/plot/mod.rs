//! The report as a picture: for each setting the distributions, and CPU time against latency.

mod axis;
mod frontier;
mod labels;
mod percentiles;
mod style;

use std::path::Path;
use std::time::Duration;

use nlring_print::text::shown;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::plan::Plan;
use super::report::{LatencyReport, Row};
use super::run::Runs;
use crate::args::Way;
use crate::outcome::Failure;
use crate::write::whole_file::WholeFile;
use style::{HEADING_PIXELS, LABEL_PIXELS, Style, TITLE_PIXELS, WARNING, text_style};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Error = Box<dyn std::error::Error>;

const WIDTH: u32 = 1280;
/// The width of the percentiles with their labels.
const PERCENTILES_WIDTH: u32 = 720;
const TITLE_HEIGHT: u32 = 40;
const SETTING_HEIGHT: u32 = 440;
const HEADING_HEIGHT: u32 = 34;
/// The height of a line below the heading.
const NOTE_HEIGHT: u32 = 22;
/// Follows the name of a way that did not reach the rate. The note explains it.
const MISSED_MARK: &str = " *";

/// What is drawn for a way in one setting.
struct Series {
    name: String,
    style: Style,
    /// Points (x, latency in µs): one event in x is later than that.
    curve: Vec<(f64, f64)>,
    p99_us: f64,
    cpu_us: f64,
}

/// Where --svg goes. A name that cannot be written to is reported before anything is measured.
pub struct Picture(WholeFile);

/// How long a reader that does not read can delay the end.
const PATIENCE: Duration = Duration::from_secs(10);

impl Picture {
    pub fn open(path: &Path) -> Result<Self, Failure> {
        WholeFile::open(path)
            .map(Self)
            .map_err(|error| Failure::Other(format!("open {} for --svg: {error}", shown(path))))
    }

    pub fn write(&self, plan: &Plan, runs: &[Runs], report: &LatencyReport) -> Result<(), Failure> {
        let path = shown(self.0.path());
        let text = draw(plan, runs, report)
            .map_err(|error| Failure::Other(format!("draw --svg {path}: {error}")))?;
        self.0
            .write(text.as_bytes(), PATIENCE)
            .map_err(|error| Failure::Other(format!("write --svg to {path}: {error}")))
    }
}

fn draw(plan: &Plan, runs: &[Runs], report: &LatencyReport) -> Result<String, Error> {
    let count = plan.settings.len();
    let height = TITLE_HEIGHT + SETTING_HEIGHT * u32::try_from(count)?;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let (title, rest) = root.split_vertically(TITLE_HEIGHT);
        draw_title(&title, report)?;
        let areas = rest.split_evenly((count, 1));
        let way_count = plan.ways.len();
        for ((setting, runs), area) in plan.settings.iter().zip(runs.chunks(way_count)).zip(areas) {
            let rows = report.rows.iter().filter(|row| row.setting == *setting);
            let timed: Vec<_> = rows.zip(runs).filter(|(row, _)| row.measured > 0).collect();
            let heading = match timed.iter().find_map(|(row, _)| row.clock) {
                None => format!("{setting}: no event had a time"),
                Some(clock) => format!("{setting}: latency {clock}"),
            };
            let series = timed
                .iter()
                .map(|(row, runs)| Series::new(&plan.ways, row, runs));
            let note = missed_note(setting.rate, &timed);
            draw_setting(&area, &heading, note, &series.collect::<Vec<_>>())?;
        }
        root.present()?;
    }
    Ok(text)
}

fn draw_title(area: &Area<'_>, report: &LatencyReport) -> Result<(), Error> {
    let title = format!(
        "Latency of netlink events, and what receiving them costs: Linux {}, {} × {} s",
        report.kernel, report.repeat, report.duration_s
    );
    area.draw_text(&title, &text_style(TITLE_PIXELS), (16, 16))?;
    Ok(())
}

/// The note that explains the mark, if a way has it.
fn missed_note(rate: Option<u32>, timed: &[(&Row, &Runs)]) -> Option<String> {
    let missed = timed.iter().filter_map(|(_, runs)| runs.missed_rate(rate));
    let slowest = missed.min_by(f64::total_cmp)?;
    Some(format!(
        "*  The rate was not reached: {slowest:.0} of {} events/s in the slowest run. The figures are of that rate.",
        rate?
    ))
}

fn draw_setting(
    area: &Area<'_>,
    heading: &str,
    note: Option<String>,
    series: &[Series],
) -> Result<(), Error> {
    let note_height = note.as_ref().map_or(0, |_| NOTE_HEIGHT);
    let (title, panels) = area.split_vertically(HEADING_HEIGHT + note_height);
    title.draw_text(heading, &text_style(HEADING_PIXELS), (16, 8))?;
    if let Some(note) = note {
        let style = text_style(LABEL_PIXELS).color(&WARNING);
        title.draw_text(&note, &style, (16, 32))?;
    }
    if series.is_empty() {
        return Ok(());
    }
    let (left, right) = panels.split_horizontally(PERCENTILES_WIDTH);
    percentiles::draw(&left, series)?;
    frontier::draw(&right, series)
}

impl Series {
    fn new(ways: &[Way], row: &Row, runs: &Runs) -> Self {
        Self {
            name: match runs.missed_rate(row.rate) {
                Some(_) => format!("{}{MISSED_MARK}", row.way),
                None => row.way.to_string(),
            },
            style: Style::of(ways, row.way),
            curve: percentiles::curve(&runs.recorder),
            p99_us: axis::micros(row.p99_ns()),
            cpu_us: axis::micros(row.cpu_ns_per_event),
        }
    }
}
