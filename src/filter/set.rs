//! Sets of numbers that one field is compared with: `dport {80, 443, …}`, or many addresses.

use super::expression::Expression;
use super::test::{Field, Test};

/// The smallest number of tests of one field for which a set is cheaper.
const LEAST_TESTS: usize = 3;

/// A field, and the numbers that are searched for in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub field: Field,
    /// In ascending order, with a gap between each two.
    pub ranges: Vec<[u32; 2]>,
}

impl Set {
    /// The set formed by the first parts of a list, which test the same field, if the list is decided when a part is
    /// `deciding`; and the number of these parts.
    pub(super) fn first_of(parts: &[Expression<Test>], deciding: bool) -> Option<(Self, usize)> {
        let mut tested = parts.iter().map_while(|part| range(part, deciding));
        let (field, first) = tested.next()?;
        let others = tested.take_while(|(other, _)| *other == field);
        let mut ranges: Vec<_> = others.map(|(_, range)| range).chain([first]).collect();
        let count = ranges.len();
        ranges.sort_unstable();
        ranges.dedup_by(|[low, high], [_, before]| {
            let touches = *low <= before.saturating_add(1);
            *before = (*before).max(if touches { *high } else { 0 });
            touches
        });
        (count >= LEAST_TESTS).then_some((Self { field, ranges }, count))
    }
}

/// The field and the range of its numbers for which an expression is `deciding`, if there is one.
fn range(expression: &Expression<Test>, deciding: bool) -> Option<(Field, [u32; 2])> {
    let term = match (expression, deciding) {
        (Expression::Term(term), true) => term,
        (Expression::Not(inner), false) => match &**inner {
            Expression::Term(term) => term,
            _ => return None,
        },
        _ => return None,
    };
    match *term {
        Test::Within {
            field,
            mask,
            low,
            high,
        } => Some((field, range_with_mask(field, mask, [low, high])?)),
        Test::Present(_) | Test::Differ(..) | Test::HashWithin { .. } => None,
    }
}

/// The numbers whose bits of `mask` are within a range, if these numbers form a range as well: the mask has all bits,
/// or it has the upper bits and these are given, as in a prefix.
pub(super) fn range_with_mask(field: Field, mask: u32, [low, high]: [u32; 2]) -> Option<[u32; 2]> {
    let lower_bits = field.max() & !mask;
    let is_prefix = lower_bits & lower_bits.wrapping_add(1) == 0;
    match lower_bits {
        0 => Some([low, high]),
        _ if is_prefix && low == high => Some([low, high | lower_bits]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::compile::{Besides, Events, compile};
    use crate::filter::interpreter::run_counting;
    use crate::filter::program::Program;
    use nlring_testing::Random;

    const FIELD: Field = Field::fixed(16, 4);
    const EVENTS: Events = Events {
        message_types: &[24],
        fixed_bytes: 4,
    };

    fn message(number: u32) -> Vec<u8> {
        let mut bytes = 20u32.to_ne_bytes().to_vec();
        bytes.extend(24u16.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(number.to_be_bytes());
        bytes
    }

    /// Whether the program accepts each number, and the most steps that it takes.
    fn accepted(expression: &Expression<Test>, numbers: &[u32]) -> (Vec<bool>, usize) {
        let program = Program::new(compile(EVENTS, Besides::All, expression)).unwrap();
        let mut most_steps = 0;
        let accepted = numbers.iter().map(|&number| {
            let (returned, steps) = run_counting(&program, &message(number)).unwrap();
            most_steps = most_steps.max(steps);
            returned != 0
        });
        (accepted.collect(), most_steps)
    }

    #[test]
    fn a_program_finds_what_is_in_a_set_and_nothing_else() {
        let mut random = Random::new(7);
        for round in 0..400 {
            let count = 1 + random.below([6, 20, 300][round % 3]);
            let mut ranges = Vec::new();
            let mut numbers = vec![0, 1, u32::MAX - 1, u32::MAX];
            let limit = [50, 5000, u32::MAX][(round / 3) % 3];
            for _ in 0..count {
                let low = random.below(limit);
                let high = match random.below(4) {
                    0 => low.saturating_add(random.below(9)),
                    1 => low.saturating_add(random.below(limit)),
                    _ => low,
                };
                ranges.push([low, high]);
                let near = |number: u32| [number.wrapping_sub(1), number, number.wrapping_add(1)];
                numbers.extend(near(low).into_iter().chain(near(high)));
            }
            let tests = ranges.iter().map(|&[low, high]| FIELD.is_within(low, high));
            let any = Expression::any_of(tests);
            let none = Expression::all_of(
                ranges
                    .iter()
                    .map(|&[low, high]| FIELD.is_within(low, high).negated()),
            );
            let is_in = |number: &u32| {
                ranges
                    .iter()
                    .any(|[low, high]| (low..=high).contains(&number))
            };
            let expected: Vec<_> = numbers.iter().map(is_in).collect();
            assert_eq!(accepted(&any, &numbers).0, expected, "{ranges:?}");
            let expected: Vec<_> = expected.into_iter().map(|is_in| !is_in).collect();
            assert_eq!(accepted(&none, &numbers).0, expected, "not {ranges:?}");
        }
    }

    #[test]
    fn the_steps_grow_with_the_logarithm_of_the_set() {
        let steps = |count: u32| {
            let numbers: Vec<_> = (0..count).map(|number| 3 * number + 1).collect();
            let any = Expression::any_of(numbers.iter().map(|&number| FIELD.is(number)));
            accepted(&any, &(0..3 * count + 3).collect::<Vec<_>>()).1
        };
        let [few, hundred, many] = [4, 100, 1500].map(steps);
        assert!(
            hundred <= few + 8 && many <= few + 18,
            "{few} {hundred} {many}"
        );
    }

    #[test]
    fn prefixes_and_numbers_of_one_field_are_one_set() {
        let prefix = |value: u32, mask: u32| FIELD.has_bits(value, mask);
        let parts = [
            prefix(0x0a02_0000, 0xffff_0000),
            prefix(0x0a01_0000, 0xffff_0000),
            FIELD.is(7),
            FIELD.is_within(5, 6),
            prefix(0, 1), // no prefix
            FIELD.is(9),
        ];
        let ranges = vec![[5, 7], [0x0a01_0000, 0x0a02_ffff]];
        let set = Set {
            field: FIELD,
            ranges,
        };
        assert_eq!(Set::first_of(&parts, true), Some((set, 4)));
        assert_eq!(Set::first_of(&parts, false), None);
        assert_eq!(Set::first_of(&parts[4..], true), None);
        let two = [FIELD.is(1), FIELD.is(2), Field::fixed(4, 2).is(3)];
        assert_eq!(Set::first_of(&two, true), None, "two are no set");
    }
}
