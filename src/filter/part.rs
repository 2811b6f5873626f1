//! The parts of a list in a program: what decides the list by one test or by one set of numbers, and everything else.

use super::expression::Expression;
use super::set::Set;
use super::test::{Path, Test};

/// A part of a list.
pub(super) enum Part<'a> {
    /// A test of a field of an attribute that decides the list if it is true.
    Test(Test),
    /// Several tests of one field, each of which decides the list if it is true.
    Set(Set),
    Other(&'a Expression<Test>),
}

impl<'a> Part<'a> {
    /// The parts of a list that is decided when one of them is `deciding`.
    pub(super) fn all_of(mut expressions: &'a [Expression<Test>], deciding: bool) -> Vec<Self> {
        let mut parts = Vec::new();
        while let [first, others @ ..] = expressions {
            let (part, left) = match Set::first_of(expressions, deciding) {
                Some((set, count)) => (Self::Set(set), expressions.get(count..)),
                None => match test_that_decides(first, deciding) {
                    Some(test) => (Self::Test(test), Some(others)),
                    None => (Self::Other(first), Some(others)),
                },
            };
            parts.push(part);
            expressions = left.unwrap_or_default();
        }
        parts
    }

    /// The attribute whose field is tested alone.
    pub(super) fn path(&self) -> Option<Path> {
        match self {
            Self::Test(test) => test.field_path(),
            Self::Set(set) => set.field.path,
            Self::Other(_) => None,
        }
    }
}

/// The test of a field that is all of an expression, if the expression is `deciding` when the test is true.
fn test_that_decides(expression: &Expression<Test>, deciding: bool) -> Option<Test> {
    let test = match (expression, deciding) {
        (Expression::Term(test), true) => test,
        (Expression::Not(inner), false) => match &**inner {
            Expression::Term(test) => test,
            _ => return None,
        },
        _ => return None,
    };
    test.field_path().map(|_| *test)
}
