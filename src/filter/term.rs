//! What a family's terms have in common.

use std::fmt;

use super::compile::Events;
use super::expression::Expression;
use super::test::{Kernel, Test};
use super::text::{ParseError, Words};

/// A condition on an event of a family. This crate implements it for each family's terms; other crates cannot.
pub trait Term: Implementation + Clone + fmt::Debug + fmt::Display + PartialEq {
    /// The kind of event that the terms test, such as [`Flow`](crate::conntrack::Flow).
    type Event<'a>;

    /// Whether an event matches the term.
    fn matches(&self, event: &Self::Event<'_>) -> bool;
}

/// What a family says about its terms. The name cannot be used outside this crate, so [`Term`] is sealed.
pub trait Implementation: Sized {
    /// The messages that the terms test.
    const EVENTS: Events;

    /// Parses a term, in the form that `Display` writes.
    ///
    /// # Errors
    ///
    /// The next word does not begin a term, or the words after it do not fit.
    fn parse(words: &mut Words<'_>) -> Result<Expression<Self>, ParseError>;

    /// What the kernel can tell about the term.
    fn in_kernel(&self) -> Kernel;

    /// Whether the answer can change while an entry lives.
    fn change(&self) -> Change;

    /// What the program for a mirror's socket tests instead of the term or its negation. True for each event that the
    /// mirror must see, as far as the term can tell: the events of entries that can match the term (or its negation)
    /// now or later, and of other entries that the mirror must know about.
    fn in_kernel_for_mirror(&self, is_negated: bool) -> Expression<Test> {
        match self.change() {
            Change::Never => self.in_kernel().can_be(is_negated),
            Change::Sometimes | Change::Event => Expression::ALWAYS,
        }
    }
}

/// Whether a term's answer can change while an entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stays the same from the entry's first event to its last.
    Never,
    /// An event can change it.
    Sometimes,
    /// It is about the event, not the entry.
    Event,
}
