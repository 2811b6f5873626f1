//! The distributions: latency by percentile, with the same width for each further nine.

use std::ops::Range;

use nlring::latency::Recorder;
use plotters::prelude::*;

use super::labels::spread;
use super::style::{FRAME, GRID, LABEL_PIXELS, label_style, text_style};
use super::{Area, Error, Series, axis};
use crate::latency::ratio::as_f64;

/// How many points a curve has in each decade.
const STEPS: u32 = 50;
/// The width of the names, to the right of the curves.
const NAMES_PIXELS: u32 = 170;
const LEADER_PIXELS: i32 = 18;
const STROKE_PIXELS: u32 = 2;

/// Points (x, latency in µs): one event in x is later than that.
pub fn curve(recorder: &Recorder) -> Vec<(f64, f64)> {
    let count = as_f64(recorder.count());
    let steps = (0_u32..).map(|step| 10_f64.powf(f64::from(step) / f64::from(STEPS)));
    let xs = steps.take_while(|&x| x < count).chain([count]);
    xs.map(|x| (x, axis::micros(recorder.percentile_ns(percentile(x)))))
        .collect()
}

fn percentile(x: f64) -> f64 {
    100.0 * (1.0 - x.recip())
}

pub fn draw(area: &Area<'_>, series: &[Series]) -> Result<(), Error> {
    let points = || series.iter().flat_map(|series| &series.curve);
    let most_x = points().map(|point| point.0).fold(10.0, f64::max);
    let (y_range, y_ticks) = axis::of(points().map(|point| point.1), 0.0);
    let decades = (1..10).map(|decade| 10_f64.powi(decade));
    let x_ticks = [2.0].into_iter().chain(decades);
    let x_ticks: Vec<f64> = x_ticks.take_while(|&x| x <= most_x).collect();
    let mut chart = ChartBuilder::on(area)
        .margin_left(8)
        .margin_top(24)
        .margin_right(NAMES_PIXELS)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(
            (1.0..most_x).log_scale().with_key_points(x_ticks),
            y_range.log_scale().with_key_points(y_ticks),
        )?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .axis_style(FRAME)
        .label_style(text_style(LABEL_PIXELS))
        .x_desc("percentile")
        .y_desc("latency")
        .x_label_formatter(&|&x| percentile_name(x))
        .y_label_formatter(&|&y| axis::name(y))
        .draw()?;
    for series in series {
        let stroke = series.style.colour.stroke_width(STROKE_PIXELS);
        let points = series.curve.iter().copied();
        match series.style.dash_pixels() {
            None => chart.draw_series(LineSeries::new(points, stroke))?,
            Some((on, off)) => chart.draw_series(DashedLineSeries::new(points, on, off, stroke))?,
        };
    }
    let ends: Vec<(i32, i32)> = series
        .iter()
        .filter_map(|series| series.curve.last())
        .map(|end| chart.backend_coord(end))
        .collect();
    let (x_pixels, y_pixels) = chart.plotting_area().get_pixel_range();
    draw_names(area, series, &ends, x_pixels.end, &y_pixels)
}

/// Draws each name beside the end of its curve, or as near as the other names allow.
fn draw_names(
    area: &Area<'_>,
    series: &[Series],
    ends: &[(i32, i32)],
    right: i32,
    range: &Range<i32>,
) -> Result<(), Error> {
    let (left, top) = area.get_base_pixel();
    let wanted: Vec<i32> = ends.iter().map(|end| end.1).collect();
    for ((series, end), height) in series.iter().zip(ends).zip(spread(&wanted, range)) {
        let name_at = (right + LEADER_PIXELS, height);
        let leader = [*end, (name_at.0 - 4, height)].map(|(x, y)| (x - left, y - top));
        area.draw(&PathElement::new(
            leader,
            series.style.colour.stroke_width(1),
        ))?;
        area.draw_text(
            &series.name,
            &label_style(),
            (name_at.0 - left, name_at.1 - top),
        )?;
    }
    Ok(())
}

/// The percentile, with enough digits to distinguish it from 100.
fn percentile_name(x: f64) -> String {
    let digits = (3..10)
        .take_while(|&decade| x >= 10_f64.powi(decade))
        .count();
    format!("{:.digits$} %", percentile(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_have_the_digits_that_they_need() {
        let names = [2.0, 10.0, 100.0, 1000.0, 1e5].map(percentile_name);
        assert_eq!(names, ["50 %", "90 %", "99 %", "99.9 %", "99.999 %"]);
    }

    #[test]
    fn a_curve_goes_from_the_least_to_the_longest() {
        let mut recorder = Recorder::new();
        (1..=1000).for_each(|micros| recorder.record_ns(micros * 1000));
        let curve = curve(&recorder);
        assert!(curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
        let (Some(first), Some(last)) = (curve.first(), curve.last()) else {
            panic!("no curve")
        };
        assert!((first.0 - 1.0).abs() < 1e-9 && (first.1 - 1.0).abs() < 0.01);
        assert!((last.0 - 1000.0).abs() < 1e-9 && (last.1 - 1000.0).abs() < 1.0);
    }
}
