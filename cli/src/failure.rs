//! Why the command could not do what it was asked to, in words for its user.

use std::fmt;

use nlring::ErrorKind;

/// The end of a run that did not go well.
#[derive(Debug)]
pub enum Failure {
    /// The options cannot be used together: exit code 2, as for all wrong usage.
    Usage(String),
    /// Events could not be written. What was written and what was not is told with it.
    Output(String),
    /// The process lacks a capability.
    Denied(String),
    /// Anything else.
    Other(String),
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
