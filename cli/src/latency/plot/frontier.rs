//! The cost of each way against its latency, and the ways that no other beats in both.

use plotters::prelude::*;

use super::labels::{self, Space, space_of};
use super::style::{FRAME, GRID, LABEL_PIXELS, draw_mark, label_style, text_style};
use super::{Area, Error, Series, axis, style};

const MARK_PIXELS: i32 = 6;
/// The part of the axis that a name needs, about.
const NAMES_ROOM: f64 = 0.35;
const EXPLANATION: &str = "grey line: no other way is better in both";

pub fn draw(area: &Area<'_>, series: &[Series]) -> Result<(), Error> {
    let (x_range, x_ticks) = axis::of(series.iter().map(|series| series.p99_us), NAMES_ROOM);
    let (y_range, y_ticks) = axis::of(series.iter().map(|series| series.cpu_us), 0.1);
    let mut chart = ChartBuilder::on(area)
        .margin_left(8)
        .margin_top(24)
        .margin_right(24)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(
            x_range.log_scale().with_key_points(x_ticks),
            y_range.log_scale().with_key_points(y_ticks),
        )?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .axis_style(FRAME)
        .label_style(text_style(LABEL_PIXELS))
        .x_desc("99th percentile of latency")
        .y_desc("receiver's CPU time per event")
        .x_label_formatter(&|&x| axis::name(x))
        .y_label_formatter(&|&y| axis::name(y))
        .draw()?;
    let points: Vec<(f64, f64)> = series
        .iter()
        .map(|series| (series.p99_us, series.cpu_us))
        .collect();
    chart.draw_series(LineSeries::new(
        frontier(&points),
        style::FRONTIER.stroke_width(3),
    ))?;
    area.draw_text(EXPLANATION, &text_style(LABEL_PIXELS), (88, 0))?;
    let marks: Vec<(i32, i32)> = points
        .iter()
        .map(|point| chart.backend_coord(point))
        .collect();
    let (x, y) = chart.plotting_area().get_pixel_range();
    draw_marks(area, series, &marks, &Space { x, y })
}

/// The points that no other point is left of and below, in the order of their first coordinate.
fn frontier(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut least = f64::INFINITY;
    sorted.retain(|&(_, y)| {
        let is_better = y < least;
        least = least.min(y);
        is_better
    });
    sorted
}

fn draw_marks(
    area: &Area<'_>,
    series: &[Series],
    marks: &[(i32, i32)],
    bounds: &Space,
) -> Result<(), Error> {
    let (left, top) = area.get_base_pixel();
    let inside = |(x, y): (i32, i32)| (x - left, y - top);
    let mut taken: Vec<Space> = marks
        .iter()
        .map(|&mark| Space::around(mark, MARK_PIXELS))
        .collect();
    for (series, &mark) in series.iter().zip(marks) {
        draw_mark(area, series.style, inside(mark), MARK_PIXELS)?;
        let at = labels::place(&series.name, mark, bounds, &taken);
        taken.push(space_of(&series.name, at));
        if let Some(end) = labels::leader_end(&series.name, mark, at) {
            let leader = [inside(mark), inside(end)];
            area.draw(&PathElement::new(
                leader,
                series.style.colour.stroke_width(1),
            ))?;
        }
        area.draw_text(&series.name, &label_style(), inside(at))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frontier_is_what_nothing_is_better_than() {
        let (spin, prompt, batch, worse) = ((3.0, 20.0), (20.0, 5.0), (600.0, 0.9), (700.0, 5.0));
        assert_eq!(
            frontier(&[worse, batch, spin, prompt]),
            [spin, prompt, batch]
        );
        assert_eq!(frontier(&[(1.0, 2.0), (1.0, 1.0)]), [(1.0, 1.0)]);
        assert_eq!(frontier(&[]), []);
    }
}
