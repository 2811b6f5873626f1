//! The part of a program that looks up attributes and loads fields.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::Compiler;
use super::hash::HASH;
use super::known::Content;
use crate::filter::assembler::Label;
use crate::filter::expression::Expression;
use crate::filter::program::code;
use crate::filter::test::{Field, Path, Test};

/// Where the payload of an attribute begins.
const PAYLOAD: u32 = 4;

impl Compiler {
    /// Loads a field into A; goes to `missing` if the field is absent.
    pub(super) fn load(&mut self, field: Field, missing: Label) {
        let content = Some(Content::Value(field));
        if self.here.as_ref().is_none_or(|here| here.a == content) {
            return;
        }
        let size = match field.size_bytes {
            1 => code::BYTE,
            2 => code::HALF,
            _ => code::WORD,
        };
        let Some(path) = field.path else {
            return self.set_a(code::LD | code::ABSOLUTE | size, field.offset, content);
        };
        if self.here.as_ref().is_some_and(|here| here.x != Some(path)) {
            self.find(path, missing);
            self.set_x(code::MISC | code::TAX, 0, Some(path));
        }
        let offset = PAYLOAD + field.offset;
        self.set_a(code::LD | code::INDIRECT | size, offset, content);
    }

    /// Loads the offset of an attribute into A; goes to `missing` if the attribute is absent.
    pub(super) fn find(&mut self, path: Path, missing: Label) {
        let Some(here) = &self.here else { return };
        let content = Content::OffsetOf(path);
        let presence = here.is_present(path);
        if presence == Some(false) {
            return self.jump(missing);
        }
        if here.a == Some(content) && presence == Some(true) {
            return;
        }
        if here.x == Some(path) {
            return self.set_a(code::MISC | code::TXA, 0, Some(content));
        }
        let word = self.words.get(&path).copied();
        match word {
            Some(word) if here.stored.contains(&path) => {
                self.set_a(code::LD | code::MEMORY, word, Some(content));
            }
            _ => self.look_up(path, word, missing),
        }
        if presence.is_none() {
            self.skip_if_missing(path, missing);
        }
    }

    /// Makes the kernel search for an attribute, and stores its offset or 0.
    fn look_up(&mut self, path: Path, word: Option<u32>, missing: Label) {
        let (place, lookup) = match path.parent() {
            Some(outer) => {
                self.find(outer, missing);
                (None, code::NLATTR_NEST)
            }
            None => (Some(self.first_attribute), code::NLATTR),
        };
        if let Some(place) = place {
            self.set_a(code::LD | code::IMMEDIATE, place, None);
        }
        let attribute_type = u32::from(path.last());
        self.set_x(code::LDX | code::IMMEDIATE, attribute_type, None);
        let content = Some(Content::OffsetOf(path));
        self.set_a(code::LD | code::ABSOLUTE, lookup, content);
        if let Some(word) = word {
            self.store(path, word);
        }
    }

    /// Stores the offset of an attribute, or 0 if it is missing, so that it need not be looked up again.
    pub(super) fn store_offset(&mut self, path: Path) {
        let Some(word) = self.words.get(&path).copied() else {
            return;
        };
        let (missing, end) = (self.label(), self.label());
        self.find(path, missing);
        self.jump(end);
        self.place(missing);
        self.set_a(code::LD | code::IMMEDIATE, 0, None);
        self.store(path, word);
        self.place(end);
    }

    /// Stores A, which is the offset of an attribute or 0.
    fn store(&mut self, path: Path, word: u32) {
        self.plain(code::ST, word);
        if let Some(here) = &mut self.here {
            here.stored.push(path);
        }
    }

    /// Goes to `missing` if A, which holds the offset of an attribute, is 0.
    fn skip_if_missing(&mut self, path: Path, missing: Label) {
        let Some(mut here) = self.here.take() else {
            return;
        };
        let next = self.label();
        let mut there = here.clone();
        there.note_presence(path, false);
        here.note_presence(path, true);
        self.note_way(missing, &there);
        self.note_way(next, &here);
        self.code.branch(code::JEQ, 0, missing, next);
        self.place(next);
    }
}

/// Assigns a word to each attribute whose offset is needed more than once, while words are left.
pub(super) fn words_for(expression: &Expression<Test>) -> HashMap<Path, u32> {
    let mut uses: BTreeMap<Path, Vec<Option<Path>>> = BTreeMap::new();
    expression.for_each_term(&mut |test| {
        for path in test.paths() {
            uses.entry(path).or_default().push(None);
            for inner in path.and_outer() {
                if let Some(outer) = inner.parent() {
                    let inside = uses.entry(outer).or_default();
                    if !inside.contains(&Some(inner)) {
                        inside.push(Some(inner));
                    }
                }
            }
        }
    });
    let mut often: Vec<_> = uses
        .into_iter()
        .filter(|(_, uses)| uses.len() > 1)
        .collect();
    often.sort_by_key(|(_, uses)| Reverse(uses.len()));
    let words = 0..HASH;
    often.into_iter().map(|(path, _)| path).zip(words).collect()
}
