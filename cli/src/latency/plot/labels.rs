//! Places for names, so that none covers another.

use std::ops::Range;

/// The distance of two lines of text.
pub const LINE_PIXELS: i32 = 17;
/// A generous width for a character, because there is no font here to measure with.
const CHARACTER_PIXELS: i32 = 8;
/// The distance from a mark to its name.
const GAP_PIXELS: i32 = 9;

/// Heights for lines of text, in the order of `wanted` and near these heights: apart from each other, and within the
/// range if it has room. Lines that are too close move by the same distance.
pub fn spread(wanted: &[i32], range: &Range<i32>) -> Vec<i32> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&place| wanted[place]);
    // Blocks of touching lines: how many lines, and the sum of where each line wants the block to begin.
    let mut blocks: Vec<(i32, i32)> = Vec::new();
    for &place in &order {
        let mut block = (1, wanted[place]);
        while let Some(&(count, sum)) = blocks.last()
            && sum / count + count * LINE_PIXELS > block.1 / block.0
        {
            blocks.pop();
            block = (
                count + block.0,
                sum + block.1 - block.0 * count * LINE_PIXELS,
            );
        }
        blocks.push(block);
    }
    let mut heights = wanted.to_vec();
    let mut places = order.iter();
    let mut least = range.start;
    for (count, sum) in blocks {
        let most = range.end - (count - 1) * LINE_PIXELS;
        let begin = (sum / count).min(most).max(least);
        for (line, &place) in (0..count).zip(&mut places) {
            heights[place] = begin + line * LINE_PIXELS;
        }
        least = begin + count * LINE_PIXELS;
    }
    heights
}

/// A rectangle.
#[derive(Clone, Debug)]
pub struct Space {
    pub x: Range<i32>,
    pub y: Range<i32>,
}

impl Space {
    pub fn around((x, y): (i32, i32), radius: i32) -> Self {
        Self {
            x: x - radius..x + radius,
            y: y - radius..y + radius,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let overlap = |a: &Range<i32>, b: &Range<i32>| a.start < b.end && b.start < a.end;
        overlap(&self.x, &other.x) && overlap(&self.y, &other.y)
    }

    fn is_within(&self, other: &Self) -> bool {
        let is_within = |a: &Range<i32>, b: &Range<i32>| b.start <= a.start && a.end <= b.end;
        is_within(&self.x, &other.x) && is_within(&self.y, &other.y)
    }
}

/// Where to write the name of a point: beside it, otherwise above or below it, at the nearest free place. Returns the
/// text's left end, at half its height.
pub fn place(text: &str, (x, y): (i32, i32), bounds: &Space, taken: &[Space]) -> (i32, i32) {
    let width = width_of(text);
    let (right, left) = (x + GAP_PIXELS, x - GAP_PIXELS - width);
    let heights = (0..20).flat_map(|step| [y - step * LINE_PIXELS, y + step * LINE_PIXELS]);
    let places = heights.flat_map(|y| [(right, y), (left, y), (x - width / 2, y)]);
    let is_free = |&(x, y): &(i32, i32)| {
        let own = space_of(text, (x, y));
        own.is_within(bounds) && !taken.iter().any(|other| own.overlaps(other))
    };
    places.into_iter().find(is_free).unwrap_or((right, y))
}

/// Where a line from the point to its text ends. None: the text is near enough without a line.
pub fn leader_end(text: &str, (x, y): (i32, i32), at: (i32, i32)) -> Option<(i32, i32)> {
    let own = space_of(text, at);
    let end = (
        x.clamp(own.x.start, own.x.end),
        y.clamp(own.y.start, own.y.end),
    );
    ((y - at.1).abs() > LINE_PIXELS).then_some(end)
}

/// The space that a text covers.
pub fn space_of(text: &str, (x, y): (i32, i32)) -> Space {
    Space {
        x: x..x + width_of(text),
        y: y - LINE_PIXELS / 2..y + LINE_PIXELS / 2 + 1,
    }
}

fn width_of(text: &str) -> i32 {
    CHARACTER_PIXELS * i32::try_from(text.chars().count()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_text_are_kept_apart_and_in_their_order() {
        let line = LINE_PIXELS;
        let heights = spread(&[100, 300, 101, 102], &(0..400));
        assert_eq!(heights, [101 - line, 300, 101, 101 + line]);
        assert_eq!(spread(&[399, 398], &(0..400)), [400, 400 - line]);
        assert_eq!(spread(&[0, 1, 50], &(0..400)), [0, line, 50]);
        assert!(spread(&[], &(0..400)).is_empty());
    }

    #[test]
    fn a_name_is_placed_where_nothing_is_drawn() {
        let bounds = Space {
            x: 0..300,
            y: 0..300,
        };
        let point = (100, 100);
        let mut taken = vec![Space::around(point, 5)];
        for _ in 0..6 {
            let at = place("auto/spin", point, &bounds, &taken);
            let own = space_of("auto/spin", at);
            assert!(own.is_within(&bounds) && !taken.iter().any(|other| own.overlaps(other)));
            taken.push(own);
        }
        let (x, _) = place("auto/spin", (290, 100), &bounds, &[]);
        assert!(x < 290, "at the edge it is on the other side");
    }
}
