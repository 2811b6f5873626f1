//! Turns jumps to labels into jumps over a number of instructions.

use super::program::{Instruction, code};

/// A place in a program that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label(usize);

/// A line of a program whose jumps lead to labels.
enum Line {
    Plain(Instruction),
    /// Goes to the first label if the comparison is true, else to the second.
    Branch {
        instruction: Instruction,
        yes: Label,
        no: Label,
    },
    Jump(Label),
}

/// Instructions whose jumps lead forward to labels.
///
/// A conditional jump of classic BPF skips at most 255 instructions. A target that is farther away is reached over a
/// `ja` behind the jump. A copy of the target would not do where that is a `ret`: the kernel, which checks that words
/// of memory are written before they are read, goes on behind a `ret` as if control did (Linux v6.18,
/// net/core/filter.c,
/// `check_load_and_stores`).
#[derive(Default)]
pub(super) struct Assembler {
    lines: Vec<Line>,
    /// The line that each label stands before.
    labels: Vec<usize>,
}

impl Assembler {
    /// A label that is not placed yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(usize::MAX);
        Label(self.labels.len() - 1)
    }

    /// Places a label before the next line.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = self.lines.len();
    }

    pub fn plain(&mut self, code: u16, k: u32) {
        self.lines.push(Line::Plain(Instruction::plain(code, k)));
    }

    /// Compares A with `k`, or with X.
    pub fn branch(&mut self, comparison: u16, k: u32, yes: Label, no: Label) {
        let instruction = Instruction::plain(code::JMP | comparison, k);
        self.lines.push(Line::Branch {
            instruction,
            yes,
            no,
        });
    }

    pub fn jump(&mut self, label: Label) {
        self.lines.push(Line::Jump(label));
    }

    /// The instructions. All labels that jumps lead to are placed behind them.
    pub fn instructions(mut self) -> Vec<Instruction> {
        self.remove_idle_jumps();
        let mut far = vec![[false; 2]; self.lines.len()];
        let mut starts = starts_of(&far);
        while self.note_far(&starts, &mut far) {
            starts = starts_of(&far);
        }
        let mut instructions = Vec::with_capacity(starts.last().copied().unwrap_or_default());
        for (index, line) in self.lines.iter().enumerate() {
            match *line {
                Line::Plain(instruction) => instructions.push(instruction),
                Line::Jump(label) => {
                    instructions.push(self.jump_from(starts[index], label, &starts));
                }
                Line::Branch {
                    instruction,
                    yes,
                    no,
                } => self.push_branch(
                    &mut instructions,
                    &starts,
                    far[index],
                    instruction,
                    [yes, no],
                ),
            }
        }
        instructions
    }

    /// Removes jumps to the line behind them.
    fn remove_idle_jumps(&mut self) {
        let mut index = 0;
        while index < self.lines.len() {
            match self.lines[index] {
                Line::Jump(label) if self.labels[label.0] == index + 1 => {
                    self.lines.remove(index);
                    for place in &mut self.labels {
                        *place -= usize::from(*place != usize::MAX && *place > index);
                    }
                }
                _ => index += 1,
            }
        }
    }

    /// Notes which targets are too far away. Returns whether there is a new one.
    fn note_far(&self, starts: &[usize], far: &mut [[bool; 2]]) -> bool {
        let mut is_new = false;
        for (index, line) in self.lines.iter().enumerate() {
            let Line::Branch { yes, no, .. } = line else {
                continue;
            };
            for (label, is_far) in [yes, no].into_iter().zip(&mut far[index]) {
                let skipped = starts[self.labels[label.0]] - starts[index] - 1;
                if !*is_far && skipped > usize::from(u8::MAX) {
                    (*is_far, is_new) = (true, true);
                }
            }
        }
        is_new
    }

    fn push_branch(
        &self,
        instructions: &mut Vec<Instruction>,
        starts: &[usize],
        far: [bool; 2],
        instruction: Instruction,
        labels: [Label; 2],
    ) {
        let start = instructions.len();
        let mut behind = Vec::new();
        let mut skips = [0; 2];
        for ((label, is_far), skip) in labels.into_iter().zip(far).zip(&mut skips) {
            let skipped = if is_far {
                behind.push(self.jump_from(start + 1 + behind.len(), label, starts));
                behind.len() - 1
            } else {
                starts[self.labels[label.0]] - start - 1
            };
            *skip = u8::try_from(skipped).unwrap_or(u8::MAX);
        }
        let [jt, jf] = skips;
        instructions.push(Instruction {
            jt,
            jf,
            ..instruction
        });
        instructions.append(&mut behind);
    }

    fn jump_from(&self, start: usize, label: Label, starts: &[usize]) -> Instruction {
        let skipped = starts[self.labels[label.0]] - start - 1;
        Instruction::plain(
            code::JMP | code::JA,
            u32::try_from(skipped).unwrap_or(u32::MAX),
        )
    }
}

/// The number of the first instruction of each line, and of the end.
fn starts_of(far: &[[bool; 2]]) -> Vec<usize> {
    let mut next = 0;
    let mut starts = Vec::with_capacity(far.len() + 1);
    for far in far {
        starts.push(next);
        next += 1 + far.iter().filter(|&&is_far| is_far).count();
    }
    starts.push(next);
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: u16 = code::LD;

    /// Runs `ld #`, `jeq`, `ja` and `ret`.
    fn run(instructions: &[Instruction]) -> u32 {
        let (mut place, mut a) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = instructions[place];
            place += 1;
            match code {
                LOAD => a = k,
                code::RET => return k,
                _ if code == code::JMP | code::JA => place += k as usize,
                _ => place += usize::from(if a == k { jt } else { jf }),
            }
        }
    }

    #[test]
    fn far_targets_are_reached() {
        for between in [0, 1, 253, 254, 255, 256, 257, 300, 1000] {
            for (value, expected) in [(7, 1), (8, 2)] {
                let mut code = Assembler::default();
                let (yes, no) = (code.label(), code.label());
                code.plain(LOAD, value);
                code.branch(code::JEQ, 7, yes, no);
                for _ in 0..between {
                    code.plain(code::RET, 99);
                }
                code.place(yes);
                code.plain(code::RET, 1);
                code.place(no);
                code.plain(code::RET, 2);
                assert_eq!(run(&code.instructions()), expected, "over {between}");
            }
        }
    }

    #[test]
    fn a_jump_to_the_next_line_is_left_out() {
        let mut code = Assembler::default();
        let (next, end) = (code.label(), code.label());
        code.jump(next);
        code.place(next);
        code.jump(end);
        code.place(end);
        code.plain(code::RET, 3);
        let instructions = code.instructions();
        assert_eq!((instructions.len(), run(&instructions)), (1, 3));
    }
}
