//! Other programs, as oracles and as tools.

use std::io::ErrorKind;
use std::process::{Command, Output};

/// Runs a program to its end. None: it is not installed.
///
/// # Panics
///
/// If it is installed and cannot be started.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Runs a command line, whose words are separated by spaces.
///
/// # Panics
///
/// If the program is not installed, or fails.
#[track_caller]
pub fn must(line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = run(words[0], &words[1..]);
    let output = output.unwrap_or_else(|| panic!("{}: not installed", words[0]));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
}
