//! How a run ends: well, in one of several ways, or with words for the user why not.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use nlring::ErrorKind;

use crate::write::console::Console;

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A signal, or the stop handle.
    Stopped,
    /// --duration.
    Due,
    /// --count.
    Counted,
    /// The reader of standard output has gone, as `head` does.
    Closed,
    /// A second signal.
    AtOnce,
}

/// Something that did not go well. A run may have several.
#[derive(Debug)]
pub enum Failure {
    /// The options cannot be used together: exit code 2, as for all wrong usage.
    Usage(String),
    /// Events could not be written. At the end the counts of them are added to the text.
    Output(String),
    /// The process lacks a capability.
    Denied(String),
    /// Anything else.
    Other(String),
}

impl Failure {
    /// 2 for wrong usage, as clap has it, and 1 for all else.
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(if matches!(self, Self::Usage(_)) { 2 } else { 1 })
    }
}

/// Reports every failure, and gives the exit code of the first. There are none: `code`.
pub fn conclude(console: &mut Console, code: ExitCode, failures: &[Failure]) -> ExitCode {
    for failure in failures {
        console.say(format_args!("nlring: {failure}"));
    }
    failures.first().map_or(code, Failure::exit_code)
}

/// Writes a report to standard output. That its reader has gone is no failure.
pub fn report(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Other(format!(
            "write the report to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(text) | Self::Output(text) | Self::Denied(text) | Self::Other(text)) =
            self;
        f.write_str(text)
    }
}

impl From<nlring::Error> for Failure {
    fn from(error: nlring::Error) -> Self {
        match error.kind() {
            ErrorKind::PermissionDenied => Self::Denied(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}
