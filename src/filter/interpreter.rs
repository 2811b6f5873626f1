//! Runs programs as the kernel does, for tests.

use super::program::{Instruction, Program, code};
use crate::message::Attributes;

/// What a program returns for a datagram. None if the kernel would refuse the program for an instruction that was
/// reached.
pub(crate) fn run(program: &Program, datagram: &[u8]) -> Option<u32> {
    run_counting(program, datagram).map(|(returned, _)| returned)
}

/// The same, with the number of instructions that were run.
pub(crate) fn run_counting(program: &Program, datagram: &[u8]) -> Option<(u32, usize)> {
    let instructions = program.instructions();
    let mut machine = Machine {
        datagram,
        a: 0,
        x: 0,
        memory: [None; 16],
    };
    let (mut place, mut steps) = (0, 0);
    loop {
        steps += 1;
        let instruction = instructions.get(place)?;
        place += 1;
        let Instruction { code, jt, jf, k } = *instruction;
        match code & 7 {
            code::RET => return Some((k, steps)),
            code::JMP if code & 0xf0 == code::JA => place += usize::try_from(k).ok()?,
            code::JMP => {
                let is_true = machine.compare(*instruction)?;
                place += usize::from(if is_true { jt } else { jf });
            }
            _ => {
                if machine.step(*instruction)? == Step::OutOfBounds {
                    return Some((0, steps));
                }
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Step {
    Done,
    /// The kernel ends the program and rejects the datagram.
    OutOfBounds,
}

enum Load {
    Value(u32),
    /// The place is beyond the datagram's end.
    OutOfBounds,
}

struct Machine<'a> {
    datagram: &'a [u8],
    a: u32,
    x: u32,
    memory: [Option<u32>; 16],
}

impl Machine<'_> {
    fn compare(&self, Instruction { code, k, .. }: Instruction) -> Option<bool> {
        let operand = if code & code::X == 0 { k } else { self.x };
        Some(match code & 0xf0 {
            code::JEQ => self.a == operand,
            code::JGT => self.a > operand,
            code::JGE => self.a >= operand,
            code::JSET => self.a & operand != 0,
            _ => return None,
        })
    }

    fn step(&mut self, Instruction { code, k, .. }: Instruction) -> Option<Step> {
        let operand = if code & code::X == 0 { k } else { self.x };
        match (code & 7, code & 0xf0) {
            (code::LD, _) => match self.load(code, k)? {
                Load::Value(value) => self.a = value,
                Load::OutOfBounds => return Some(Step::OutOfBounds),
            },
            (code::LDX, _) if code & 0xe0 == code::IMMEDIATE => self.x = k,
            (code::LDX, _) if code & 0xe0 == code::MEMORY => {
                self.x = (*self.memory.get(k as usize)?)?;
            }
            (code::ST, _) => *self.memory.get_mut(k as usize)? = Some(self.a),
            (code::ALU, code::ADD) => self.a = self.a.wrapping_add(operand),
            (code::ALU, code::OR) => self.a |= operand,
            (code::ALU, code::AND) => self.a &= operand,
            (code::ALU, code::LSH) => self.a <<= operand,
            (code::ALU, code::RSH) => self.a >>= operand,
            (code::ALU, code::XOR) => self.a ^= operand,
            (code::ALU, code::MUL) => self.a = self.a.wrapping_mul(operand),
            (code::MISC, _) if code & 0xf8 == code::TAX => self.x = self.a,
            (code::MISC, _) if code & 0xf8 == code::TXA => self.a = self.x,
            _ => return None,
        }
        Some(Step::Done)
    }

    /// None for an unknown load.
    fn load(&self, code: u16, k: u32) -> Option<Load> {
        let value = match code & 0xe0 {
            code::IMMEDIATE => k,
            code::MEMORY => (*self.memory.get(k as usize)?)?,
            code::LENGTH => u32::try_from(self.datagram.len()).ok()?,
            code::ABSOLUTE if k == code::NLATTR => self.find(self.a as usize),
            code::ABSOLUTE if k == code::NLATTR_NEST => self.find_nested(),
            code::ABSOLUTE => return Some(self.load_at(code, k)),
            code::INDIRECT => return Some(self.load_at(code, self.x.wrapping_add(k))),
            _ => return None,
        };
        Some(Load::Value(value))
    }

    fn load_at(&self, code: u16, start: u32) -> Load {
        let size = match code & 0x18 {
            code::WORD => 4,
            code::HALF => 2,
            _ => 1,
        };
        let start = start as usize;
        let bytes = self.datagram.get(start..start.saturating_add(size));
        let join = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |value, &byte| value << 8 | u32::from(byte))
        };
        bytes.map_or(Load::OutOfBounds, |bytes| Load::Value(join(bytes)))
    }

    /// `SKF_AD_NLATTR`: the attributes from an offset to the end of the datagram.
    fn find(&self, start: usize) -> u32 {
        let bytes = self.datagram.get(start..).unwrap_or_default();
        self.find_in(start, bytes)
    }

    /// `SKF_AD_NLATTR_NEST`: the attributes in the attribute at offset A.
    fn find_nested(&self) -> u32 {
        let start = self.a as usize;
        let outer = self.datagram.get(start..).unwrap_or_default();
        let Some([a, b]) = outer.first_chunk().copied() else {
            return 0;
        };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let inner = outer.get(4..length).unwrap_or_default();
        self.find_in(start + 4, inner)
    }

    fn find_in(&self, start: usize, bytes: &[u8]) -> u32 {
        let mut attributes = Attributes::new(bytes);
        loop {
            let offset = start + bytes.len() - attributes.bytes().len();
            match attributes.next() {
                Some(attribute) if u32::from(attribute.attribute_type()) == self.x => {
                    return u32::try_from(offset).unwrap_or(0);
                }
                Some(_) => {}
                None => return 0,
            }
        }
    }
}
