//! Turns an expression of tests into a program.
//!
//! The code follows the expression: each test continues at one of two labels. During compilation, [`Known`] says what
//! holds on every path to the end of the code so far, so that nothing is looked up twice: the contents of A and X,
//! which attributes are present, and which of their offsets are stored.

mod hash;
mod known;
mod lookup;

use std::collections::HashMap;

use super::assembler::{Assembler, Label};
use super::expression::Expression;
use super::part::Part;
use super::program::{Instruction, code};
use super::set::range_with_mask;
use super::test::{Field, Path, Test};
use crate::message::{HEADER_BYTES, align, flags};
use known::{Content, Known};
use lookup::words_for;

/// Which messages of a protocol are the events that a filter is about.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    /// Their types. The program accepts messages of all other types.
    pub message_types: &'static [u16],
    /// The size of the fixed header after `struct nlmsghdr`.
    pub fixed_bytes: usize,
}

/// The messages that a program accepts besides the events that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Besides {
    /// All that are not events, and every datagram with several messages, of which the program sees only the first.
    All,
    /// All that are not events. Of several messages the first one decides.
    AllButEvents,
    /// Replies only: acknowledgements, errors, and parts of dumps and answers. Of several messages the first one
    /// decides.
    Replies,
}

/// The word for a value that is compared with another one: the last of `BPF_MEMWORDS`.
const SCRATCH: u32 = 15;

/// The types up to this one are netlink's own, such as an acknowledgement: one less than `NLMSG_MIN_TYPE`
/// (include/uapi/linux/netlink.h).
const LAST_CONTROL_TYPE: u16 = 0xf;

/// How many ranges are compared one by one, because bisecting them further would save nothing.
const MOST_IN_A_ROW: usize = 4;

/// What a program returns to accept a datagram as a whole.
const ACCEPT: u32 = u32::MAX;

/// The program that rejects the events for which the expression is not true.
///
/// An event has one of the family's types and is not part of a dump or an answer, which have `NLM_F_MULTI`.
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

struct Compiler {
    code: Assembler,
    /// What holds on all paths to a label found so far.
    at_label: HashMap<Label, Known>,
    /// What holds here. None if no path leads here.
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

    /// Records a path to a label, on which this holds.
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

    /// Continues at `begin` with an event, and at `accept` with any other message.
    fn accept_what_is_no_event(&mut self, begin: Label, accept: Label) {
        let is_event = self.has_a_type_of_events().and(is_no_part());
        self.expression(&is_event, begin, accept);
    }

    /// Continues at `begin` with an event, at `accept` with a reply, and at `reject` with any other message.
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

    /// Continues at `accept` if the datagram is longer than its first message.
    ///
    /// The length in the header is in host order, and BPF loads in network order. Only the lower half is used, because
    /// no event is longer than that.
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

    /// Continues at `yes` if the expression is true, otherwise at `no`. It has no [`Expression::Not`] around lists.
    fn expression(&mut self, expression: &Expression<Test>, yes: Label, no: Label) {
        match expression {
            Expression::Term(test) => self.test(*test, yes, no, no),
            Expression::Not(part) => self.expression(part, no, yes),
            Expression::And(parts) => self.list(parts, false, no, yes),
            Expression::Or(parts) => self.list(parts, true, yes, no),
        }
    }

    /// Appends the parts of a list. A part that is `deciding` leaves the list for `exit`; otherwise it continues at the
    /// next part, and the last one at `end`.
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

    /// Searches ranges in ascending order for A, which is at most `max`, by bisection. It continues at `yes` or `no`.
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
        // The targets may be far away, and a far jump is a separate instruction.
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

    /// Continues at `yes`, at `no`, or at `missing` if the attribute of the test's field is missing.
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

    /// Appends an instruction that changes neither A nor X.
    fn plain(&mut self, instruction_code: u16, k: u32) {
        if self.here.is_some() {
            self.code.plain(instruction_code, k);
        }
    }
}

/// The message is not part of a dump or an answer.
fn is_no_part() -> Expression<Test> {
    Field::MESSAGE_FLAGS.has_bits(0, u32::from(flags::MULTI))
}
