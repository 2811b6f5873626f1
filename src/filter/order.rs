//! The order of the tests in a program.

use super::expression::Expression;
use super::test::{Path, Test};

/// The tests in the order in which they cost least: cheap ones first, among these the ones that are more likely to
/// decide the list, and those of one field together. What is excluded is rare: `not src 10.0.0.1` seldom makes a
/// conjunction false.
pub(super) fn order(expression: Expression<Test>) -> Expression<Test> {
    let ordered = |parts: Vec<Expression<Test>>, is_conjunction: bool| {
        let mut parts: Vec<_> = parts.into_iter().map(order).collect();
        parts.sort_by_cached_key(|part| {
            let is_exclusion = matches!(part, Expression::Not(_));
            (
                cost(part),
                is_exclusion == is_conjunction,
                first_paths(part),
            )
        });
        parts
    };
    match expression {
        Expression::And(parts) => Expression::And(ordered(parts, true)),
        Expression::Or(parts) => Expression::Or(ordered(parts, false)),
        other => other,
    }
}

fn cost(expression: &Expression<Test>) -> usize {
    let mut sum = 0;
    expression.for_each_term(&mut |test| sum += test.cost());
    sum
}

fn first_paths(expression: &Expression<Test>) -> Option<Path> {
    let mut first = None;
    expression.for_each_term(&mut |test| first = first.or_else(|| test.paths().next()));
    first
}
