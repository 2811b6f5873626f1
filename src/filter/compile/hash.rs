//! The part of a program that calculates a hash.

use std::collections::BTreeSet;

use super::Compiler;
use crate::filter::assembler::Label;
use crate::filter::hash::{Hash, Hasher, Layout};
use crate::filter::program::code;
use crate::filter::test::Field;

/// The word for a hash while it is calculated.
pub(super) const HASH: u32 = 14;

impl Compiler {
    /// Loads a hash into A, as [`Hasher`] calculates it.
    pub(super) fn hash(&mut self, hash: Hash) {
        let [unusual, end] = [(); 2].map(|()| self.label());
        let seed = Hasher::new(hash.seed).sum();
        self.set_a(code::LD | code::IMMEDIATE, seed, None);
        self.plain(code::ST, HASH);
        self.hash_usual(hash.usual, unusual);
        self.jump(end);
        self.place(unusual);
        let containers: BTreeSet<_> = hash.paths().filter_map(|path| path.parent()).collect();
        for container in containers {
            self.store_offset(container);
        }
        for part in hash.parts {
            self.hash_part(part);
        }
        self.place(end);
        self.set_a(code::ALU | code::MUL, Hasher::END, None);
    }

    /// Adds the fields of a message with this layout. Goes to `unusual` if it has another one.
    ///
    /// That saves eight lookups of attributes, which cost about 0.2 µs (`benches/filter.rs`).
    fn hash_usual(&mut self, layout: Layout, unusual: Label) {
        let is_long = self.label();
        self.set_a(code::LD | code::LENGTH, 0, None);
        self.branch(code::JGE, layout.least_bytes, is_long, unusual);
        self.place(is_long);
        for &(place, header) in layout.headers {
            let next = self.label();
            self.load(Field::fixed(place, 4), unusual);
            self.branch(code::JEQ, u32::from_be_bytes(header), next, unusual);
            self.place(next);
        }
        for field in layout.fields {
            self.load(*field, unusual);
            self.add_to_hash();
        }
    }

    /// Adds the fields of the first alternative that is there, or 0.
    fn hash_part(&mut self, alternatives: &[&[Field]]) {
        let end = self.label();
        for fields in alternatives {
            let missing = self.label();
            for field in *fields {
                self.load(*field, missing);
                self.add_to_hash();
            }
            self.jump(end);
            self.place(missing);
        }
        self.set_a(code::LD | code::IMMEDIATE, 0, None);
        self.add_to_hash();
        self.place(end);
    }

    /// Adds the number in A to the stored hash, and leaves the sum in A too.
    fn add_to_hash(&mut self) {
        self.set_x(code::LDX | code::MEMORY, HASH, None);
        self.set_a(code::ALU | code::XOR | code::X, 0, None);
        self.set_a(code::ALU | code::MUL, Hasher::STEP, None);
        self.set_x(code::MISC | code::TAX, 0, None);
        self.set_a(code::ALU | code::RSH, Hasher::SHIFT, None);
        self.set_a(code::ALU | code::XOR | code::X, 0, None);
        self.plain(code::ST, HASH);
    }
}
