//! How a command ends: successfully, or with failures that say why not.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use nlring::ErrorKind;

/// What ended a run that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A signal, or the stop handle.
    Stopped,
    /// --duration is over.
    Due,
    /// --count events are written.
    Counted,
    /// The reader of standard output, such as `head`, has closed it.
    Closed,
    /// A second signal.
    AtOnce,
}

/// What a command returns. Only `nlring_cli::run` prints failures.
pub type Outcome = Result<ExitCode, Failures>;

/// The failures of a command. There is at least one.
#[derive(Debug)]
pub struct Failures {
    first: Failure,
    others: Vec<Failure>,
}

impl Failures {
    /// All of them, or `code` if there are none.
    pub fn or(code: ExitCode, failures: impl IntoIterator<Item = Failure>) -> Outcome {
        let mut failures = failures.into_iter();
        match failures.next() {
            None => Ok(code),
            Some(first) => Err(Self {
                first,
                others: failures.collect(),
            }),
        }
    }

    /// In the order in which they happened.
    pub fn iter(&self) -> impl Iterator<Item = &Failure> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The exit code of the first failure.
    pub fn exit_code(&self) -> ExitCode {
        self.first.exit_code()
    }
}

impl From<Failure> for Failures {
    fn from(first: Failure) -> Self {
        Self {
            first,
            others: Vec::new(),
        }
    }
}

/// Why a command, or a part of it, did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The options cannot be used together: exit code 2, as for all wrong usage.
    Usage(String),
    /// Events could not be written. At the end their counts are added to the text.
    Output(String),
    /// The process lacks a capability.
    Denied(String),
    /// Anything else.
    Other(String),
}

impl Failure {
    /// 2 for wrong usage, which is clap's code for it, and 1 for everything else.
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(if matches!(self, Self::Usage(_)) { 2 } else { 1 })
    }
}

/// Writes a report to standard output. It is not a failure if the reader has closed it.
pub fn report(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_ref());
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

impl From<nlring::AddError> for Failure {
    fn from(refused: nlring::AddError) -> Self {
        nlring::Error::from(refused).into()
    }
}
