//! The colours of waits, the strokes and marks of backends, and the style of text.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Area, Error};
use crate::args::Way;
use crate::latency::plan::unique;

/// Colour-blind readers can distinguish these on white (Okabe and Ito, without their yellow).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const INK: RGBColor = RGBColor(34, 34, 34);
pub const WARNING: RGBColor = RGBColor(180, 0, 0);
pub const FRAME: RGBColor = RGBColor(160, 160, 160);
pub const FRONTIER: RGBColor = RGBColor(190, 190, 190);
pub const GRID: RGBColor = RGBColor(226, 226, 226);

pub const TITLE_PIXELS: u32 = 20;
pub const HEADING_PIXELS: u32 = 18;
pub const LABEL_PIXELS: u32 = 15;

/// How a way is drawn.
#[derive(Clone, Copy)]
pub struct Style {
    pub colour: RGBColor,
    /// The backend's index among the backends, which selects the stroke and the mark.
    pub backend: usize,
}

impl Style {
    /// recv, which has no wait, is black.
    pub fn of(ways: &[Way], way: Way) -> Self {
        let waits = unique(ways.iter().filter_map(|way| way.wait));
        let backends = unique(ways.iter().map(|way| way.receiver));
        let wait = waits.iter().position(|&wait| Some(wait) == way.wait);
        let backend = backends.iter().position(|&backend| backend == way.receiver);
        Self {
            colour: wait.map_or(BLACK, |place| COLOURS[place % COLOURS.len()]),
            backend: backend.unwrap_or(0),
        }
    }

    /// The length of a dash and of the gap after it. None: the stroke is solid.
    pub fn dash_pixels(self) -> Option<(i32, i32)> {
        [None, Some((9, 4)), Some((3, 3)), Some((14, 7))][self.backend % 4]
    }
}

/// Draws a mark around a point.
pub fn draw_mark(area: &Area<'_>, style: Style, at: (i32, i32), radius: i32) -> Result<(), Error> {
    let filled = style.colour.filled();
    let (x, y) = at;
    match style.backend % 4 {
        0 => area.draw(&Circle::new(at, radius, filled))?,
        1 => area.draw(&TriangleMarker::new(at, radius + 1, filled))?,
        2 => {
            let corners = [(x - radius, y - radius), (x + radius, y + radius)];
            area.draw(&Rectangle::new(corners, filled))?;
        }
        _ => area.draw(&Cross::new(at, radius, style.colour.stroke_width(3)))?,
    }
    Ok(())
}

pub fn text_style(pixels: u32) -> TextStyle<'static> {
    let font = ("DejaVu Sans, Helvetica, Arial, sans-serif", pixels);
    TextStyle::from(font.into_font()).color(&INK)
}

/// The style of text whose position is its left end, at half its height.
pub fn label_style() -> TextStyle<'static> {
    text_style(LABEL_PIXELS).pos(Pos::new(HPos::Left, VPos::Center))
}
