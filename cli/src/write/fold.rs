//! Long lines broken to fit a terminal.

/// Breaks a text at its blanks into lines of at most `room` characters. A longer word stays whole.
pub fn fold(text: &str, room: usize) -> Vec<String> {
    fold_pieces(text.split(' '), " ", room)
}

/// Breaks a line of JSON after its commas. A longer piece stays whole.
pub fn fold_json(text: &str, room: usize) -> Vec<String> {
    fold_pieces(text.split_inclusive(','), "", room)
}

fn fold_pieces<'a>(pieces: impl Iterator<Item = &'a str>, glue: &str, room: usize) -> Vec<String> {
    let width = |text: &str| text.chars().count();
    let mut lines: Vec<String> = Vec::new();
    for piece in pieces {
        match lines.last_mut() {
            Some(line) if width(line) + width(glue) + width(piece) <= room => {
                line.extend([glue, piece]);
            }
            _ => lines.push(piece.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_never_lost_in_folding() {
        let text = "a word-that-is-too-long and  two blanks";
        for room in 0..50 {
            assert_eq!(fold(text, room).join(" "), text, "{room}");
        }
    }

    #[test]
    fn json_is_broken_after_commas_only() {
        let text = r#"{"a":1,"b c":"d e","f":[1,2]}"#;
        assert_eq!(
            fold_json(text, 20),
            [r#"{"a":1,"b c":"d e","#, r#""f":[1,2]}"#]
        );
        for room in 0..40 {
            assert_eq!(fold_json(text, room).concat(), text, "{room}");
        }
    }
}
