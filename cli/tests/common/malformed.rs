//! Texts that are not filters.

use super::say;

/// Fails unless a command refuses a filter, and points at the word at which reading it ended. Empty: the end of the text.
pub fn assert_refused_at(command: &str, text: &str, found: &str) {
    let (code, output, errors) = say(&[command, "--filter", text]);
    assert_eq!((code, output.as_str()), (Some(2), ""), "{text}: {errors}");
    assert!(errors.contains("expected "), "{text}: {errors}");
    let lines: Vec<&str> = errors.lines().collect();
    let caret = lines.iter().position(|line| line.trim() == "^");
    let caret = caret.unwrap_or_else(|| panic!("{text}: a caret in {errors}"));
    let column = lines[caret].chars().count() - 1;
    let at: String = lines[caret - 1].chars().skip(column).collect();
    assert!(
        at.starts_with(found),
        "{text}: {found} at the caret in {errors}"
    );
    assert_eq!(found.is_empty(), at.is_empty(), "{text}: {errors}");
}
