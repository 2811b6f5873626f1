//! Filters of a family's events.

use std::fmt;
use std::ops::Not;
use std::str::FromStr;

use super::compile::{Besides, compile};
use super::expression::Expression;
use super::order::order;
use super::program::Program;
use super::term::{Change, Term};
use super::test::Test;
use super::text::{self, ParseError, Words};
use crate::error::{Error, ErrorKind, Result};

/// Which events of a family a socket receives, a dump returns or a mirror holds.
///
/// A filter combines terms: [`conntrack::Term`](crate::conntrack::Term) for flows, [`route::Term`](crate::route::Term)
/// for routes. It is built from terms ([`From`], [`and`](Self::and), [`or`](Self::or), `!`) or from text ([`FromStr`]).
/// [`Display`](fmt::Display) writes text that reads back as the same filter, unless it is nested deeper than the 64
/// levels that a text may have. The [module](crate::filter) describes the text.
///
/// The kernel evaluates the [`program`](Self::program), user space evaluates [`matches`](Self::matches). Both agree on
/// every event that the kernel sends, unless [`needs_user_space`](Self::needs_user_space) is true. In that case the
/// program also accepts some events that do not match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter<T> {
    expression: Expression<T>,
}

/// The filter that everything matches.
impl<T> Default for Filter<T> {
    fn default() -> Self {
        Self {
            expression: Expression::ALWAYS,
        }
    }
}

/// The filter that is one term.
impl<T: Term> From<T> for Filter<T> {
    fn from(term: T) -> Self {
        Self {
            expression: Expression::Term(term),
        }
    }
}

impl<T: Term> Filter<T> {
    /// The filter that matches what both this filter and another one match.
    #[must_use]
    pub fn and(self, other: impl Into<Self>) -> Self {
        Self {
            expression: self.expression.and(other.into().expression),
        }
    }

    /// The filter that matches what this filter or another one matches.
    #[must_use]
    pub fn or(self, other: impl Into<Self>) -> Self {
        Self {
            expression: self.expression.or(other.into().expression),
        }
    }

    /// Parses a text that may contain names that only the caller knows. `names` returns the number of a name; its first
    /// argument is the word before the name, such as `"label"`.
    ///
    /// # Errors
    ///
    /// The text is not a filter: [`ParseError`] says where and why.
    pub fn parse_with(
        text: &str,
        names: impl Fn(&str, &str) -> Option<u32>,
    ) -> Result<Self, ParseError> {
        let expression = Words::new(text, &names).parse(&T::parse)?;
        Ok(Self { expression })
    }

    /// Whether an event matches.
    #[inline]
    pub fn matches(&self, event: &T::Event<'_>) -> bool {
        self.expression.is_true(&|term| term.matches(event))
    }

    /// Whether everything matches, because there are no terms.
    pub fn is_all(&self) -> bool {
        self.expression.is_always()
    }

    /// The program that rejects events that do not match. It accepts everything else: events that match, and all
    /// messages that are not events of the family, such as answers and acknowledgements.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`]: it would have more than [`Program::MAX_INSTRUCTIONS`]. Use prefixes and ranges
    /// instead of many addresses and numbers.
    pub fn program(&self) -> Result<Program> {
        self.program_with(Besides::All)
    }

    /// The program that rejects events that do not match, and also accepts these messages.
    ///
    /// # Errors
    ///
    /// As [`program`](Self::program).
    pub(crate) fn program_with(&self, besides: Besides) -> Result<Program> {
        let tests = self.tests(&mut |term, is_negated| term.in_kernel().can_be(is_negated));
        assemble::<T>(besides, &tests)
    }

    /// The program for the socket of a mirror. It rejects the events of entries that can never match and that the
    /// mirror need not know about. It treats terms that can change while an entry lives, such as a mark, as if
    /// everything matched them, because a mirror must see the event with which an entry stops matching.
    ///
    /// # Errors
    ///
    /// As [`program`](Self::program). Also if a term asks about an event, because a mirror has entries.
    pub fn program_for_mirror(&self) -> Result<Program> {
        self.refuse_terms_of_events()?;
        let tests = self.tests(&mut |term, is_negated| term.in_kernel_for_mirror(is_negated));
        assemble::<T>(Besides::All, &tests)
    }

    /// The filter with each term that can change while an entry lives replaced by one that everything matches. Every
    /// entry that may match the filter now or later matches this one, and an entry's answer stays the same while it
    /// lives.
    ///
    /// # Errors
    ///
    /// A term asks about an event, and a mirror has entries.
    pub(crate) fn constant_part(&self) -> Result<Self> {
        self.refuse_terms_of_events()?;
        let expression = self.expression.replace_literals(&mut |term, is_negated| {
            let literal = Expression::Term(term.clone());
            match (term.change(), is_negated) {
                (Change::Never, false) => literal,
                (Change::Never, true) => literal.negated(),
                _ => Expression::ALWAYS,
            }
        });
        Ok(Self { expression })
    }

    fn refuse_terms_of_events(&self) -> Result<()> {
        let mut of_event = None;
        self.expression.for_each_term(&mut |term| {
            if term.change() == Change::Event {
                of_event = Some(term);
            }
        });
        match of_event {
            None => Ok(()),
            Some(term) => Err(Error::explained(
                "make a mirror's filter",
                ErrorKind::InvalidInput,
                format!("`{term}` asks about an event, and a mirror has entries"),
            )),
        }
    }

    /// Whether [`program`](Self::program) accepts events that do not match, so that the receiver must evaluate
    /// [`matches`](Self::matches).
    pub fn needs_user_space(&self) -> bool {
        let mut is_exact = true;
        self.expression
            .for_each_term(&mut |term| is_exact &= term.in_kernel().is_exact());
        !is_exact
    }

    /// What the kernel evaluates, what is left for user space, and the program, as lines of text.
    ///
    /// # Errors
    ///
    /// As [`program`](Self::program).
    pub fn explain(&self) -> Result<String> {
        let program = self.program()?;
        let in_kernel = self.all_except(|term| !term.in_kernel().is_exact());
        let in_user_space = if self.needs_user_space() {
            "all of it, for what the kernel lets pass"
        } else {
            "nothing"
        };
        Ok(format!(
            "filter: {self}\nin the kernel: {in_kernel}\nin user space: {in_user_space}\n{}",
            listing(&program)
        ))
    }

    /// Explains a mirror's filter: what the kernel evaluates of its events, what is left for the mirror, and the
    /// [`program_for_mirror`](Self::program_for_mirror), as lines of text.
    ///
    /// ```
    /// use nlring::conntrack::Filter;
    ///
    /// let filter: Filter = "proto tcp and mark 7".parse()?;
    /// let text = filter.explain_for_mirror()?;
    /// assert!(text.contains("in the kernel: all of it except `mark 0x7`\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`program_for_mirror`](Self::program_for_mirror).
    pub fn explain_for_mirror(&self) -> Result<String> {
        let program = self.program_for_mirror()?;
        let in_kernel = self.all_except(|term| term.change() != Change::Never);
        Ok(format!(
            "filter of a mirror: {self}\nin the kernel: {in_kernel}\n\
             in user space: all of it, for the entries of the mirror\n{}",
            listing(&program)
        ))
    }

    /// Says that everything is evaluated except some terms.
    fn all_except(&self, is_excepted: impl Fn(&T) -> bool) -> String {
        let mut terms = Vec::new();
        self.expression.for_each_term(&mut |term| {
            if is_excepted(term) {
                terms.push(format!("`{term}`"));
            }
        });
        match &terms[..] {
            [] => "all of it".to_owned(),
            terms => format!("all of it except {}", terms.join(", ")),
        }
    }

    /// The terms that every event that matches must match, and those that it must not match (true), as far as the
    /// expression shows them without a case distinction.
    pub(crate) fn required_terms(&self) -> Vec<(T, bool)> {
        let literal = &mut |term: &T, is_negated| Expression::Term((term.clone(), is_negated));
        let parts = match self.expression.replace_literals(literal) {
            Expression::And(parts) => parts,
            other => vec![other],
        };
        let literals = parts.into_iter().filter_map(|part| match part {
            Expression::Term(literal) => Some(literal),
            _ => None,
        });
        literals.collect()
    }

    /// What a program tests, if `test` returns what it tests in place of a term or of its negation.
    fn tests(&self, test: &mut impl FnMut(&T, bool) -> Expression<Test>) -> Expression<Test> {
        let tests = self.expression.replace_literals(test);
        let literals = tests.replace_literals(&mut |&test, is_negated| {
            let test = Expression::Term(test);
            if is_negated { test.negated() } else { test }
        });
        order(literals)
    }
}

fn assemble<T: Term>(besides: Besides, tests: &Expression<Test>) -> Result<Program> {
    let instructions = compile(T::EVENTS, besides, tests);
    let count = instructions.len();
    Program::new(instructions).map_err(|_| {
        Error::explained(
            "make a filter's program",
            ErrorKind::InvalidInput,
            format!(
                "the filter needs {count} instructions, and the kernel takes at most {}",
                Program::MAX_INSTRUCTIONS
            ),
        )
        .with_remedy("use prefixes and ranges instead of many addresses and numbers")
    })
}

fn listing(program: &Program) -> String {
    let count = program.instructions().len();
    format!("program: {count} instructions\n{program}")
}

/// What does not match the filter.
impl<T: Term> Not for Filter<T> {
    type Output = Self;

    fn not(self) -> Self {
        Self {
            expression: self.expression.negated(),
        }
    }
}

impl<T: Term> FromStr for Filter<T> {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse_with(text, |_, _| None)
    }
}

impl<T: Term> fmt::Display for Filter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(f, &self.expression)
    }
}
