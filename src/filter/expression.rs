//! Expressions: terms that are combined by and, or and not.

/// Terms that are combined by and, or and not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expression<T> {
    /// A single term.
    Term(T),
    /// The negation of an expression.
    Not(Box<Self>),
    /// True if all of them are. An empty list is always true.
    And(Vec<Self>),
    /// True if one or more of them are. An empty list is never true.
    Or(Vec<Self>),
}

impl<T> Expression<T> {
    /// The expression that is always true.
    pub const ALWAYS: Self = Self::And(Vec::new());
    /// The expression that is never true.
    pub const NEVER: Self = Self::Or(Vec::new());

    pub fn is_always(&self) -> bool {
        matches!(self, Self::And(parts) if parts.is_empty())
    }

    pub fn is_never(&self) -> bool {
        matches!(self, Self::Or(parts) if parts.is_empty())
    }

    /// The conjunction of two expressions, without a conjunction inside a conjunction.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::all_of([self, other])
    }

    /// The disjunction of two expressions, without a disjunction inside a disjunction.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::any_of([self, other])
    }

    #[must_use]
    pub fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// All of these expressions. Those that are always true are left out.
    pub fn all_of(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Vec::new();
        for part in parts {
            match part {
                Self::And(parts) if all.is_empty() => all = parts, // not copied for each part that is added
                Self::And(parts) => all.extend(parts),
                part if part.is_never() => return Self::NEVER,
                part => all.push(part),
            }
        }
        single_or(all, Self::And)
    }

    /// One or more of these expressions. Those that are never true are left out.
    pub fn any_of(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut any = Vec::new();
        for part in parts {
            match part {
                Self::Or(parts) if any.is_empty() => any = parts,
                Self::Or(parts) => any.extend(parts),
                part if part.is_always() => return Self::ALWAYS,
                part => any.push(part),
            }
        }
        single_or(any, Self::Or)
    }

    /// Whether the expression is true, with `is_true` evaluating each term.
    #[inline]
    pub fn is_true(&self, is_true: &impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Term(term) => is_true(term),
            Self::Not(part) => !part.is_true(is_true),
            Self::And(parts) => parts.iter().all(|part| part.is_true(is_true)),
            Self::Or(parts) => parts.iter().any(|part| part.is_true(is_true)),
        }
    }

    /// Calls `f` with each term, from left to right.
    pub fn for_each_term<'a>(&'a self, f: &mut impl FnMut(&'a T)) {
        match self {
            Self::Term(term) => f(term),
            Self::Not(part) => part.for_each_term(f),
            Self::And(parts) | Self::Or(parts) => {
                for part in parts {
                    part.for_each_term(f);
                }
            }
        }
    }

    /// The expression in negation normal form, with each literal (a term, and whether it is negated) replaced by what
    /// `replace` returns for it. Only `replace` can put a [`Not`](Self::Not) into the result.
    pub fn replace_literals<U>(
        &self,
        replace: &mut impl FnMut(&T, bool) -> Expression<U>,
    ) -> Expression<U> {
        self.replace_signed(false, replace)
    }

    fn replace_signed<U>(
        &self,
        is_negated: bool,
        replace: &mut impl FnMut(&T, bool) -> Expression<U>,
    ) -> Expression<U> {
        let mut of = |parts: &[Self]| -> Vec<_> {
            let parts = parts.iter();
            parts
                .map(|part| part.replace_signed(is_negated, replace))
                .collect()
        };
        match (self, is_negated) {
            (Self::Term(term), _) => replace(term, is_negated),
            (Self::Not(part), _) => part.replace_signed(!is_negated, replace),
            (Self::And(parts), false) | (Self::Or(parts), true) => Expression::all_of(of(parts)),
            (Self::Or(parts), false) | (Self::And(parts), true) => Expression::any_of(of(parts)),
        }
    }
}

fn single_or<T>(
    mut parts: Vec<Expression<T>>,
    list: impl Fn(Vec<Expression<T>>) -> Expression<T>,
) -> Expression<T> {
    match parts.pop() {
        Some(part) if parts.is_empty() => part,
        Some(part) => {
            parts.push(part);
            list(parts)
        }
        None => list(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Numbers = Expression<u8>;

    fn term(number: u8) -> Numbers {
        Expression::Term(number)
    }

    #[test]
    fn lists_are_flat_and_have_no_constants() {
        let both = term(1).and(term(2)).and(term(3));
        assert_eq!(both, Expression::And(vec![term(1), term(2), term(3)]));
        assert_eq!(Numbers::ALWAYS.and(term(1)), term(1));
        assert_eq!(Numbers::NEVER.or(term(1)), term(1));
        assert!(term(1).and(Numbers::NEVER).is_never());
        assert!(term(1).or(Numbers::ALWAYS).is_always());
        assert_eq!(Numbers::any_of([]), Numbers::NEVER);
    }

    #[test]
    fn the_normal_form_has_the_same_meaning() {
        let inner = term(0).and(term(1).negated()).or(term(2));
        let expression = inner.negated().and(term(3).or(term(1)).negated());
        let normal = expression
            .replace_literals(&mut |&number, negated| Expression::Term((number, negated)));
        let mut literals = Vec::new();
        normal.for_each_term(&mut |literal| literals.push(*literal));
        assert_eq!(
            literals,
            [(0, true), (1, false), (2, true), (3, true), (1, true)]
        );
        for values in 0..16u8 {
            let holds = |number: u8| values >> number & 1 != 0;
            assert_eq!(
                expression.is_true(&|&number| holds(number)),
                normal.is_true(&|&(number, negated)| holds(number) != negated),
                "{values:04b}"
            );
        }
    }
}
