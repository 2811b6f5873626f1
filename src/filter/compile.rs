//! Turns an expression of tests into a program.
//!
//! The code follows the expression: each test goes on to one of two labels. While it is made, [`Known`] says what holds
//! at its end on every way that leads there, so that nothing is looked up twice: what A and X hold, which attributes
//! are there, and which of their offsets are stored.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::assembler::{Assembler, Label};
use super::expression::Expression;
use super::hash::{Hash, Hasher, Layout};
use super::part::Part;
use super::program::{Instruction, code};
use super::set::range_with_mask;
use super::test::{Field, Path, Test};
use crate::message::{HEADER_BYTES, align, flags};

/// Which messages of a protocol are the events that a filter is about.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    /// Their types. The program accepts messages of all other types.
    pub message_types: &'static [u16],
    /// The size of the fixed header behind `struct nlmsghdr`.
    pub fixed_bytes: usize,
}

/// The messages that a program accepts besides the events that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Besides {
    /// All that are no events, and every datagram with several messages, of which the program sees only the first.
    All,
    /// All that are no events. Of several messages the first one decides.
    AllButEvents,
    /// Replies only: acknowledgements, errors, and parts of dumps and answers. Of several messages the first one
    /// decides.
    Replies,
}

/// The word for a value that is compared with another one: the last of `BPF_MEMWORDS`.
const SCRATCH: u32 = 15;
/// The word for a hash while it is calculated.
const HASH: u32 = 14;
/// Where the payload of an attribute begins.
const PAYLOAD: u32 = 4;

/// The types up to this one are netlink's own, such as an acknowledgement: one less than `NLMSG_MIN_TYPE`
/// (include/uapi/linux/netlink.h).
const LAST_CONTROL_TYPE: u16 = 0xf;

/// How many ranges are compared one after the other, because halving them again would save nothing.
const MOST_IN_A_ROW: usize = 4;

/// What a program returns to accept a datagram as a whole.
const ACCEPT: u32 = u32::MAX;

/// The program that rejects the events for which the expression is not true.
///
/// An event has one of the family's types, and is no part of a dump or an answer, which have `NLM_F_MULTI`.
pub(super) fn compile(
    events: Events,
    besides: Besides,
    expression: &Expression<Test>,
) -> Vec<Instruction> {
    let mut compiler = Compiler::new(events, expression);
    if expression.is_always() && besides != Besides::Replies {
        compiler.code.plain(code::RET, ACCEPT);
        return compiler.code.instructions();
    }
    let [begin, check, accept, reject] = [(); 4].map(|()| compiler.label());
    match besides {
        Besides::All | Besides::AllButEvents => compiler.accept_what_is_no_event(begin, accept),
        Besides::Replies => compiler.reject_what_is_no_event(begin, accept, reject),
    }
    compiler.place(begin);
    compiler.expression(expression, accept, check);
    compiler.place(check);
    if besides == Besides::All {
        compiler.accept_several_messages(accept, reject);
    }
    compiler.place(reject);
    compiler.code.plain(code::RET, 0);
    compiler.place(accept);
    compiler.code.plain(code::RET, ACCEPT);
    compiler.code.instructions()
}

/// What a register holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Value(Field),
    OffsetOf(Path),
}

/// What holds at a place of the program.
#[derive(Clone, Default, PartialEq, Eq)]
struct Known {
    a: Option<Content>,
    x: Option<Path>,
    /// Whether attributes are there.
    presence: BTreeMap<Path, bool>,
    /// The attributes whose offsets are stored.
    stored: Vec<Path>,
}

impl Known {
    /// What holds in both.
    fn common(mut self, other: &Self) -> Self {
        self.a = self.a.filter(|_| self.a == other.a);
        self.x = self.x.filter(|_| self.x == other.x);
        self.presence
            .retain(|path, is_present| other.presence.get(path) == Some(is_present));
        self.stored.retain(|path| other.stored.contains(path));
        self
    }

    fn is_present(&self, path: Path) -> Option<bool> {
        let is_outer_missing = || {
            let mut outer = path.and_outer();
            outer.any(|outer| self.presence.get(&outer) == Some(&false))
        };
        let known = self.presence.get(&path).copied();
        known.or_else(|| is_outer_missing().then_some(false))
    }

    fn note_presence(&mut self, path: Path, is_present: bool) {
        self.presence.insert(path, is_present);
    }
}

struct Compiler {
    code: Assembler,
    /// What holds on all ways to a label that were found so far.
    at_label: HashMap<Label, Known>,
    /// What holds here. None if no way leads here.
    here: Option<Known>,
    /// The words that keep the offsets that are used more than once.
    words: HashMap<Path, u32>,
    message_types: &'static [u16],
    first_attribute: u32,
}

impl Compiler {
    fn new(events: Events, expression: &Expression<Test>) -> Self {
        let first_attribute = HEADER_BYTES + align(events.fixed_bytes);
        Self {
            code: Assembler::default(),
            at_label: HashMap::new(),
            here: Some(Known::default()),
            words: words_for(expression),
            message_types: events.message_types,
            first_attribute: u32::try_from(first_attribute).unwrap_or(u32::MAX),
        }
    }

    fn label(&mut self) -> Label {
        self.code.label()
    }

    fn place(&mut self, label: Label) {
        if let Some(here) = self.here.take() {
            self.note_way(label, &here);
        }
        self.here = self.at_label.get(&label).cloned();
        self.code.place(label);
    }

    /// Notes a way to a label, on which this holds.
    fn note_way(&mut self, label: Label, known: &Known) {
        let known = match self.at_label.remove(&label) {
            Some(others) => others.common(known),
            None => known.clone(),
        };
        self.at_label.insert(label, known);
    }

    fn jump(&mut self, label: Label) {
        if let Some(here) = self.here.take() {
            self.note_way(label, &here);
            self.code.jump(label);
        }
    }

    /// Compares A with `k`, or with X.
    fn branch(&mut self, comparison: u16, k: u32, yes: Label, no: Label) {
        if let Some(here) = self.here.take() {
            self.note_way(yes, &here);
            self.note_way(no, &here);
            self.code.branch(comparison, k, yes, no);
        }
    }

    /// Appends an instruction after which A holds something else.
    fn set_a(&mut self, instruction_code: u16, k: u32, content: Option<Content>) {
        if let Some(here) = &mut self.here {
            here.a = content;
            self.code.plain(instruction_code, k);
        }
    }

    fn set_x(&mut self, instruction_code: u16, k: u32, path: Option<Path>) {
        if let Some(here) = &mut self.here {
            here.x = path;
            self.code.plain(instruction_code, k);
        }
    }

    /// Goes on to `begin` with an event, and to `accept` with any other message.
    fn accept_what_is_no_event(&mut self, begin: Label, accept: Label) {
        let is_event = self.has_a_type_of_events().and(is_no_part());
        self.expression(&is_event, begin, accept);
    }

    /// Goes on to `begin` with an event, to `accept` with a reply, and to `reject` with any other message.
    fn reject_what_is_no_event(&mut self, begin: Label, accept: Label, reject: Label) {
        let [no_part, other] = [(); 2].map(|()| self.label());
        self.expression(&is_no_part(), no_part, accept);
        self.place(no_part);
        self.expression(&self.has_a_type_of_events(), begin, other);
        self.place(other);
        let is_control = Field::MESSAGE_TYPE.is_within(0, u32::from(LAST_CONTROL_TYPE));
        self.expression(&is_control, accept, reject);
    }

    fn has_a_type_of_events(&self) -> Expression<Test> {
        let types = self.message_types.iter();
        Expression::any_of(types.map(|&number| Field::MESSAGE_TYPE.is(u32::from(number))))
    }

    /// Goes on to `accept` if the datagram is longer than its first message.
    ///
    /// The length in the header is in host order, and BPF loads in network order. Only the lower half is used, because
    /// no event is so long.
    fn accept_several_messages(&mut self, accept: Label, reject: Label) {
        let [high, low] = if cfg!(target_endian = "little") {
            [1, 0]
        } else {
            [2, 3]
        };
        self.set_a(code::LD | code::ABSOLUTE | code::BYTE, high, None);
        self.set_a(code::ALU | code::LSH, 8, None);
        self.set_x(code::MISC | code::TAX, 0, None);
        self.set_a(code::LD | code::ABSOLUTE | code::BYTE, low, None);
        self.set_a(code::ALU | code::OR | code::X, 0, None);
        self.set_a(code::ALU | code::ADD, 3, None);
        self.set_a(code::ALU | code::AND, !3, None);
        self.set_x(code::MISC | code::TAX, 0, None);
        self.set_a(code::LD | code::LENGTH, 0, None);
        self.branch(code::JGT | code::X, 0, accept, reject);
    }

    /// Goes on to `yes` if the expression is true, else to `no`. It has no [`Expression::Not`] around lists.
    fn expression(&mut self, expression: &Expression<Test>, yes: Label, no: Label) {
        match expression {
            Expression::Term(test) => self.test(*test, yes, no, no),
            Expression::Not(part) => self.expression(part, no, yes),
            Expression::And(parts) => self.list(parts, false, no, yes),
            Expression::Or(parts) => self.list(parts, true, yes, no),
        }
    }

    /// Appends the parts of a list. A part that is `deciding` leaves the list for `exit`; else it goes on to the next
    /// part, and the last one to `end`.
    ///
    /// Where parts that test fields of one attribute follow each other, a missing attribute skips all of them.
    fn list(&mut self, parts: &[Expression<Test>], deciding: bool, exit: Label, end: Label) {
        let parts = Part::all_of(parts, deciding);
        let mut behind_run = None;
        for (index, part) in parts.iter().enumerate() {
            let following = parts.get(index + 1);
            let path = part.path();
            let goes_on = path.is_some() && path == following.and_then(Part::path);
            let (next, missing) = if goes_on {
                let behind_run = *behind_run.get_or_insert_with(|| self.code.label());
                (self.label(), behind_run)
            } else {
                let next = behind_run.take().or(following.map(|_| self.label()));
                let next = next.unwrap_or(end);
                (next, next)
            };
            match part {
                Part::Test(test) => self.test(*test, exit, next, missing),
                Part::Set(set) => {
                    self.load(set.field, missing);
                    self.search(&set.ranges, set.field.max(), exit, next);
                }
                Part::Other(part) if deciding => self.expression(part, exit, next),
                Part::Other(part) => self.expression(part, next, exit),
            }
            if next != end {
                self.place(next);
            }
        }
        self.jump(end);
    }

    /// Looks for A, which is at most `max`, in ranges in ascending order, by halving them. It goes on to `yes` or `no`.
    fn search(&mut self, ranges: &[[u32; 2]], max: u32, yes: Label, no: Label) {
        if ranges.len() > MOST_IN_A_ROW {
            let (lower, upper) = ranges.split_at(ranges.len() / 2);
            let [below, above] = [(); 2].map(|()| self.label());
            let [middle, _] = upper.first().copied().unwrap_or_default();
            self.branch(code::JGE, middle, above, below);
            for (part, label) in [(lower, below), (upper, above)] {
                self.place(label);
                self.search(part, max, yes, no);
            }
            return;
        }
        // The targets may be far away, and a far jump is an instruction of its own.
        let [found, missed] = [(); 2].map(|()| self.label());
        for (index, &[low, high]) in ranges.iter().enumerate() {
            let is_last = index + 1 == ranges.len();
            let next = if is_last { missed } else { self.label() };
            if low < high && !is_last {
                let reached = self.label();
                self.branch(code::JGE, low, reached, missed);
                self.place(reached);
                self.branch(code::JGT, high, next, found);
            } else {
                self.compare_range(max, [low, high], found, next);
            }
            if !is_last {
                self.place(next);
            }
        }
        self.place(missed);
        self.jump(no);
        self.place(found);
        self.jump(yes);
    }

    /// Goes on to `yes`, to `no`, or to `missing` if the attribute of the test's field is missing.
    fn test(&mut self, test: Test, yes: Label, no: Label, missing: Label) {
        match test {
            Test::Present(path) => {
                self.find(path, no);
                self.jump(yes);
            }
            Test::Within {
                field,
                mask,
                low,
                high,
            } => {
                self.load(field, missing);
                self.compare(field, mask & field.max(), [low, high], yes, no);
            }
            Test::Differ(left, right) => self.compare_fields(left, right, yes, no),
            Test::HashWithin { hash, low, high } => {
                self.hash(hash);
                self.compare_range(u32::MAX, [low, high], yes, no);
            }
        }
    }

    /// Compares A, which has the field's value.
    fn compare(&mut self, field: Field, mask: u32, [low, high]: [u32; 2], yes: Label, no: Label) {
        if let Some(range) = range_with_mask(field, mask, [low, high]) {
            return self.compare_range(field.max(), range, yes, no); // A keeps its value
        }
        let is_one = low == high;
        if mask != field.max() {
            if is_one && low == 0 {
                return self.branch(code::JSET, mask, no, yes);
            }
            if is_one && low == mask && mask.is_power_of_two() {
                return self.branch(code::JSET, mask, yes, no);
            }
            self.set_a(code::ALU | code::AND, mask, None);
        }
        self.compare_range(mask, [low, high], yes, no);
    }

    /// Compares A, which is at most `max`.
    fn compare_range(&mut self, max: u32, [low, high]: [u32; 2], yes: Label, no: Label) {
        if low == high {
            return self.branch(code::JEQ, low, yes, no);
        }
        if low > 0 {
            let next = self.label();
            self.branch(code::JGE, low, next, no);
            self.place(next);
        }
        if high < max {
            self.branch(code::JGT, high, no, yes);
        } else {
            self.jump(yes);
        }
    }

    fn compare_fields(&mut self, left: Field, right: Field, yes: Label, no: Label) {
        let (left_missing, equal_missing) = (self.label(), self.label());
        self.load(left, left_missing);
        self.plain(code::ST, SCRATCH);
        self.load(right, yes);
        self.set_x(code::MISC | code::TAX, 0, None);
        self.set_a(code::LD | code::MEMORY, SCRATCH, Some(Content::Value(left)));
        self.branch(code::JEQ | code::X, 0, no, yes);
        self.place(left_missing);
        if let Some(path) = right.path {
            self.find(path, equal_missing);
        }
        self.jump(yes);
        self.place(equal_missing);
        self.jump(no);
    }

    /// Loads a hash into A, as [`Hasher`] calculates it.
    fn hash(&mut self, hash: Hash) {
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

    /// Appends an instruction that changes neither A nor X.
    fn plain(&mut self, instruction_code: u16, k: u32) {
        if self.here.is_some() {
            self.code.plain(instruction_code, k);
        }
    }

    /// Loads a field into A; goes to `missing` if it is not there.
    fn load(&mut self, field: Field, missing: Label) {
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

    /// Loads the offset of an attribute into A; goes to `missing` if it is not there.
    fn find(&mut self, path: Path, missing: Label) {
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

    /// Makes the kernel look for an attribute, and stores its offset or 0.
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
    fn store_offset(&mut self, path: Path) {
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

    /// Goes to `missing` if A is 0, where it has the offset of an attribute.
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

/// The message is no part of a dump or an answer.
fn is_no_part() -> Expression<Test> {
    Field::MESSAGE_FLAGS.has_bits(0, u32::from(flags::MULTI))
}

/// Gives a word to each attribute whose offset is needed more than once, as long as there are words.
fn words_for(expression: &Expression<Test>) -> HashMap<Path, u32> {
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
