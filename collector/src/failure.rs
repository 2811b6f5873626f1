//! Why something did not succeed, as a sentence for the operator.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// What most functions here return.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why something did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The options or the configuration are wrong: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    Other(String),
}

impl Failure {
    /// A failed operation on a file: "open /var/lib/nlringd: permission denied".
    pub fn of_file(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::Other(format!("{doing} {}: {error}", path.display()))
    }

    /// 2 for wrong usage, which is clap's code for it, and 1 for everything else.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if matches!(self, Self::Usage(_)) { 2 } else { 1 })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(text) | Self::Other(text)) = self;
        f.write_str(text)
    }
}

impl From<nlring::Error> for Failure {
    fn from(error: nlring::Error) -> Self {
        Self::Other(error.to_string())
    }
}
