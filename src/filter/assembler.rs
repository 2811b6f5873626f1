//! Turns jumps to labels into jumps over a number of instructions.

use super::program::{Instruction, code};

/// A place in a program that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label(usize);

/// A line of a program whose jumps lead to labels.
enum Line {
    Plain(Instruction),
    /// Goes to the first label if the comparison is true, otherwise to the second.
    Branch {
        instruction: Instruction,
        yes: Label,
        no: Label,
    },
    Jump(Label),
}

/// Instructions whose jumps lead forward to labels.
///
/// A conditional jump of classic BPF skips at most 255 instructions. A more distant target is reached through a `ja`
/// after the jump. Copying a `ret` there instead would not work: the kernel's check that words of memory are written
/// before they are read continues past a `ret` as if execution did (Linux v6.18, net/core/filter.c,
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

    /// The instructions. All labels that jumps lead to must be placed after the jumps.
    pub fn instructions(mut self) -> Vec<Instruction> {
        self.remove_idle_jumps();
        let (left, are_far) = self.measure();
        let mut instructions = Vec::with_capacity(left[0]);
        for (index, line) in self.lines.iter().enumerate() {
            match *line {
                Line::Plain(instruction) => instructions.push(instruction),
                Line::Jump(label) => {
                    let skipped = left[index + 1] - left[self.labels[label.0]];
                    instructions.push(jump_over(skipped));
                }
                Line::Branch {
                    instruction,
                    yes,
                    no,
                } => {
                    let distances =
                        [yes, no].map(|label| left[index + 1] - left[self.labels[label.0]]);
                    push_branch(&mut instructions, instruction, distances, are_far[index]);
                }
            }
        }
        instructions
    }

    /// Removes jumps that lead to the next line that is kept.
    fn remove_idle_jumps(&mut self) {
        let line_count = self.lines.len();
        // How many lines are kept from each line on. Jumps lead forward, so this is known of their targets.
        let mut kept = vec![0; line_count + 1];
        for (index, line) in self.lines.iter().enumerate().rev() {
            let behind = kept[index + 1];
            let is_idle = matches!(line, Line::Jump(label) if kept[self.labels[label.0]] == behind);
            kept[index] = behind + usize::from(!is_idle);
        }
        let kept_count = kept[0];
        for place in self.labels.iter_mut().filter(|place| **place <= line_count) {
            *place = kept_count - kept[*place];
        }
        let mut index = 0;
        self.lines.retain(|_| {
            index += 1;
            kept[index - 1] > kept[index]
        });
    }

    /// How many instructions there are from each line on, and which targets of each branch are too far away. Jumps lead
    /// forward, so one look at each line, from the last to the first, is enough.
    fn measure(&self) -> (Vec<usize>, Vec<[bool; 2]>) {
        let mut left = vec![0; self.lines.len() + 1];
        let mut are_far = vec![[false; 2]; self.lines.len()];
        for (index, line) in self.lines.iter().enumerate().rev() {
            let behind = left[index + 1];
            let mut count = 1;
            if let Line::Branch { yes, no, .. } = line {
                let distances = [yes, no].map(|label| behind - left[self.labels[label.0]]);
                are_far[index] = far(distances);
                count += are_far[index].into_iter().filter(|is_far| *is_far).count();
            }
            left[index] = behind + count;
        }
        (left, are_far)
    }
}

/// Which of the two targets of a branch are too far away, by the instructions between its line and each target. The
/// jumps that lead farther are in the way of the near target.
fn far(distances: [usize; 2]) -> [bool; 2] {
    let is_far =
        |jump_count| distances.map(|distance| distance + jump_count > usize::from(u8::MAX));
    match is_far(0) {
        [false, false] => [false, false],
        _ => is_far(1),
    }
}

/// Appends a branch, and a jump behind it for each target that is too far away.
fn push_branch(
    instructions: &mut Vec<Instruction>,
    instruction: Instruction,
    distances: [usize; 2],
    are_far: [bool; 2],
) {
    let mut jumps = Vec::new();
    let far_count = are_far.into_iter().filter(|is_far| *is_far).count();
    let skips = [0, 1].map(|target| {
        if are_far[target] {
            let others = far_count - jumps.len() - 1;
            jumps.push(jump_over(others + distances[target]));
            jumps.len() - 1
        } else {
            far_count + distances[target]
        }
    });
    let [jt, jf] = skips.map(|skipped| u8::try_from(skipped).unwrap_or(u8::MAX));
    instructions.push(Instruction {
        jt,
        jf,
        ..instruction
    });
    instructions.append(&mut jumps);
}

fn jump_over(count: usize) -> Instruction {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    Instruction::plain(code::JMP | code::JA, count)
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
    fn a_near_target_becomes_far_if_the_jump_to_the_other_one_is_in_the_way() {
        assert_eq!(far([255, 255]), [false, false]);
        assert_eq!(far([254, 300]), [false, true]);
        assert_eq!(far([300, 255]), [true, true]);
    }

    #[test]
    fn jumps_that_are_idle_without_others_are_left_out() {
        let mut code = Assembler::default();
        let (near, end) = (code.label(), code.label());
        code.jump(end);
        code.jump(near);
        code.place(near);
        code.place(end);
        code.plain(code::RET, 3);
        assert_eq!(code.instructions(), [Instruction::plain(code::RET, 3)]);
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
