//! Help that fits the terminal. clap prints lines as they are written, for 120 columns. A narrower terminal would break
//! them within words.

use crate::write::fold::fold;

/// A line of prose longer than this was broken by hand, and the next line continues it.
const BROKEN_AFTER: usize = 90;
/// Lines with this indent are commands to copy, and stay whole.
const COMMAND_INDENT: usize = 4;

/// The text in lines of at most this many columns, as far as its words allow. Prose is wrapped again, and the
/// description of an option stays in its column.
pub fn fitted(text: &str, columns: usize) -> String {
    if text.lines().all(|line| width(line) <= columns) {
        return text.to_owned();
    }
    let mut fitted = String::new();
    for line in joined(text) {
        for part in fold_line(&line, columns) {
            fitted.push_str(part.trim_end());
            fitted.push('\n');
        }
    }
    fitted
}

/// The text with the lines of each paragraph joined into one.
fn joined(text: &str) -> Vec<String> {
    let is_prose = |line: &str| line.starts_with(|first: char| !first.is_whitespace());
    let mut lines: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        match lines.last_mut() {
            Some(last) if goes_on && is_prose(line) => last.extend([" ", line]),
            _ => lines.push(line.to_owned()),
        }
        goes_on = is_prose(line) && width(line) > BROKEN_AFTER;
    }
    lines
}

fn fold_line(line: &str, columns: usize) -> Vec<String> {
    let text = line.trim_start();
    let indent = width(line) - width(text);
    if indent == COMMAND_INDENT || width(line) <= columns {
        return vec![line.to_owned()];
    }
    let hang = indent + description_at(text);
    let (first, description) = line.split_at(hang); // blanks, and what clap writes before descriptions: ASCII
    let room = columns.saturating_sub(hang).max(20);
    let margin = " ".repeat(hang);
    let folded = fold(description, room).into_iter().enumerate();
    folded
        .map(|(number, part)| match number {
            0 => format!("{first}{part}"),
            _ => format!("{margin}{part}"),
        })
        .collect()
}

/// Where the description of an option, a value or a command begins: after two blanks or more. 0: it has none beside it.
fn description_at(text: &str) -> usize {
    let named_value = text.strip_prefix("- ").and_then(|value| value.find(": "));
    let name_bytes = match named_value {
        Some(place) => "- ".len() + place + ": ".len(),
        None => match text.find("  ") {
            Some(place) => place,
            None => return 0,
        },
    };
    let (name, rest) = text.split_at(name_bytes);
    if name.is_ascii() {
        text.len() - rest.trim_start().len()
    } else {
        0
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_filled_and_descriptions_keep_their_column() {
        let long = "word ".repeat(19);
        let text = format!("{long}end\nof it.\n\n  -a, --all  {long}\n    command {long}\n");
        let fitted = fitted(&text, 40);
        let lines: Vec<&str> = fitted.lines().collect();
        assert_eq!(lines[0], "word word word word word word word word");
        assert_eq!(lines[2], "word word word end of it.");
        assert_eq!(lines[4], "  -a, --all  word word word word word");
        assert_eq!(lines[5], "             word word word word word");
        assert_eq!(
            lines.last(),
            Some(&format!("    command {}", long.trim_end()).as_str())
        );
    }
}
