//! Programs of classic BPF, which the kernel runs for each datagram before a socket receives it.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// One instruction of classic BPF: `struct sock_filter` (include/uapi/linux/filter.h).
///
/// ```
/// use nlring::filter::Instruction;
///
/// let accept = Instruction { code: 0x06 /* BPF_RET | BPF_K */, jt: 0, jf: 0, k: u32::MAX };
/// assert_eq!(accept.to_string(), "ret      #0xffffffff");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What it does: `BPF_*` of include/uapi/linux/bpf_common.h.
    pub code: u16,
    /// Of a conditional jump: how many instructions to skip if the condition is true.
    pub jt: u8,
    /// Of a conditional jump: how many instructions to skip if the condition is false.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// A program that the kernel runs for each datagram of a socket: 1 to 4,096 instructions of classic BPF.
///
/// [`Filter::program`](super::Filter::program) compiles a filter. [`new`](Self::new) takes instructions of your own.
/// [`Socket::set_filter`](crate::Socket::set_filter) and [`SocketBuilder::filter`](crate::SocketBuilder::filter) attach
/// one.
///
/// The kernel runs it in the sender's context. If it returns 0, the socket does not receive the datagram, and no
/// counter changes. Any other return value is the number of bytes of the datagram that the socket receives, so a
/// program accepts with 0xffffffff. The program sees every datagram of the socket: events, answers to requests, and the
/// kernel's acknowledgements.
///
/// [`Display`](fmt::Display) writes it as `tcpdump -d` does.
///
/// ```
/// use nlring::filter::{Instruction, Program};
/// use nlring::{Protocol, Socket};
///
/// // Accepts everything.
/// let program = Program::new([Instruction { code: 0x06, jt: 0, jf: 0, k: u32::MAX }])?;
/// let socket = Socket::builder(Protocol::ROUTE).filter(&program).open()?;
/// assert_eq!(program.to_string(), "(000) ret      #0xffffffff\n");
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    instructions: Vec<Instruction>,
}

impl Program {
    /// The most instructions that the kernel accepts: `BPF_MAXINSNS` (include/uapi/linux/bpf_common.h).
    pub const MAX_INSTRUCTIONS: usize = 4096;

    /// A program of these instructions. The kernel checks them when the program is attached to a socket.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`]: there is no instruction, or there are more than
    /// [`MAX_INSTRUCTIONS`](Self::MAX_INSTRUCTIONS).
    pub fn new(instructions: impl Into<Vec<Instruction>>) -> Result<Self> {
        let instructions = instructions.into();
        match instructions.len() {
            1..=Self::MAX_INSTRUCTIONS => Ok(Self { instructions }),
            0 => Err(refuse("it has no instruction".into())),
            count => Err(refuse(format!(
                "it has {count} instructions, and the kernel takes at most {}",
                Self::MAX_INSTRUCTIONS
            ))),
        }
    }

    /// The instructions, from 1 to [`MAX_INSTRUCTIONS`](Self::MAX_INSTRUCTIONS).
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

fn refuse(text: String) -> Error {
    Error::explained("make a filter's program", ErrorKind::InvalidInput, text)
}

/// Each instruction on a line, with its number.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, instruction) in self.instructions.iter().enumerate() {
            write!(f, "({number:03}) {instruction}")?;
            if instruction.is_conditional_jump() {
                let next = number + 1;
                let (jt, jf) = (usize::from(instruction.jt), usize::from(instruction.jf));
                write!(f, " jt {} jf {}", next + jt, next + jf)?;
            }
            f.write_str("\n")?;
        }
        Ok(())
    }
}

/// Parts of [`Instruction::code`] (include/uapi/linux/bpf_common.h).
pub(super) mod code {
    pub const LD: u16 = 0x00;
    pub const LDX: u16 = 0x01;
    pub const ST: u16 = 0x02;
    pub const STX: u16 = 0x03;
    pub const ALU: u16 = 0x04;
    pub const JMP: u16 = 0x05;
    pub const RET: u16 = 0x06;
    pub const MISC: u16 = 0x07;

    pub const WORD: u16 = 0x00;
    pub const HALF: u16 = 0x08;
    pub const BYTE: u16 = 0x10;

    pub const IMMEDIATE: u16 = 0x00;
    pub const ABSOLUTE: u16 = 0x20;
    pub const INDIRECT: u16 = 0x40;
    pub const MEMORY: u16 = 0x60;
    pub const LENGTH: u16 = 0x80;

    pub const ADD: u16 = 0x00;
    pub const MUL: u16 = 0x20;
    pub const OR: u16 = 0x40;
    pub const AND: u16 = 0x50;
    pub const LSH: u16 = 0x60;
    pub const RSH: u16 = 0x70;
    pub const XOR: u16 = 0xa0;

    pub const JA: u16 = 0x00;
    pub const JEQ: u16 = 0x10;
    pub const JGT: u16 = 0x20;
    pub const JGE: u16 = 0x30;
    pub const JSET: u16 = 0x40;

    pub const X: u16 = 0x08;
    pub const TAX: u16 = 0x00;
    pub const TXA: u16 = 0x80;

    /// `SKF_AD_OFF + SKF_AD_NLATTR` (include/uapi/linux/filter.h): as the offset of an absolute load it sets A to the
    /// offset of the first attribute of type X from offset A on, or to 0.
    pub const NLATTR: u32 = 0xffff_f000 + 12;
    /// `SKF_AD_OFF + SKF_AD_NLATTR_NEST`: the same among the attributes that the attribute at offset A holds.
    pub const NLATTR_NEST: u32 = 0xffff_f000 + 16;
}

impl Instruction {
    /// An instruction without jumps.
    pub(super) const fn plain(code: u16, k: u32) -> Self {
        Self {
            code,
            jt: 0,
            jf: 0,
            k,
        }
    }

    fn is_conditional_jump(self) -> bool {
        self.code & 7 == code::JMP && self.code & 0xf0 != code::JA
    }
}

/// As `tcpdump -d` writes it, without the targets of a jump.
impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let k = self.k;
        let operand = if self.code & code::X == 0 {
            format!("#{k:#x}")
        } else {
            "x".into()
        };
        let (name, operand) = match self.code & 7 {
            code::LD => (of_size("ld", self.code), source(self.code, k)),
            code::LDX => ("ldx".into(), source(self.code, k)),
            code::ST => ("st".into(), format!("M[{k}]")),
            code::STX => ("stx".into(), format!("M[{k}]")),
            code::ALU => (calculation(self.code).into(), operand),
            code::JMP if self.code & 0xf0 == code::JA => ("ja".into(), format!("+{k}")),
            code::JMP => (comparison(self.code).into(), operand),
            code::RET => ("ret".into(), returned(self.code, k)),
            _ if self.code & 0xf8 == code::TXA => ("txa".into(), String::new()),
            _ => ("tax".into(), String::new()),
        };
        let line = format!("{name:<8} {operand}");
        f.write_str(line.trim_end())
    }
}

fn of_size(name: &str, instruction_code: u16) -> String {
    let size = match instruction_code & 0x18 {
        code::HALF => "h",
        code::BYTE => "b",
        _ => "",
    };
    format!("{name}{size}")
}

fn source(instruction_code: u16, k: u32) -> String {
    match (instruction_code & 0xe0, k) {
        (code::IMMEDIATE, _) => format!("#{k:#x}"),
        (code::ABSOLUTE, code::NLATTR) => "#nla".into(),
        (code::ABSOLUTE, code::NLATTR_NEST) => "#nlan".into(),
        (code::ABSOLUTE, _) => format!("[{k}]"),
        (code::INDIRECT, _) => format!("[x + {k}]"),
        (code::MEMORY, _) => format!("M[{k}]"),
        (code::LENGTH, _) => "#pktlen".into(),
        _ => format!("4*([{k}]&0xf)"),
    }
}

fn calculation(instruction_code: u16) -> &'static str {
    const NAMES: [&str; 11] = [
        "add", "sub", "mul", "div", "or", "and", "lsh", "rsh", "neg", "mod", "xor",
    ];
    NAMES
        .get(usize::from(instruction_code >> 4 & 0xf))
        .copied()
        .unwrap_or("?")
}

fn comparison(instruction_code: u16) -> &'static str {
    match instruction_code & 0xf0 {
        code::JEQ => "jeq",
        code::JGT => "jgt",
        code::JGE => "jge",
        code::JSET => "jset",
        _ => "?",
    }
}

fn returned(instruction_code: u16, k: u32) -> String {
    match instruction_code & 0x18 {
        0x10 => "a".into(),
        code::X => "x".into(),
        _ => format!("#{k:#x}"),
    }
}
