//! Why something failed, as a sentence for the operator.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// What most functions here return.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why something failed.
#[derive(Debug)]
pub enum Failure {
    /// The options or the configuration are wrong: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    Other(String),
}

impl Failure {
    /// A failed operation on a file, with a remedy if there is one: "open /var/lib/nlringd: permission denied; …".
    pub fn of_file(doing: &str, path: &Path, error: &io::Error) -> Self {
        let remedy = remedy(error.kind()).map_or(String::new(), |remedy| format!("; {remedy}"));
        Self::Other(format!("{doing} {}: {error}{remedy}", path.display()))
    }

    /// 2, which is clap's code, for wrong usage, and 1 for everything else.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if matches!(self, Self::Usage(_)) { 2 } else { 1 })
    }
}

fn remedy(kind: io::ErrorKind) -> Option<String> {
    let user = rustix::process::geteuid();
    match kind {
        // `nlringd run` gives up root's capabilities.
        io::ErrorKind::PermissionDenied if user.is_root() => Some(
            "root needs access by owner or mode, because nlringd gives up the right to open every file: change them, or \
             name another path"
                .to_owned(),
        ),
        io::ErrorKind::PermissionDenied => Some(format!(
            "user {user} needs access: change the owner or the mode, or name another path"
        )),
        io::ErrorKind::NotADirectory => {
            Some("a part of this path is a file: name another path".to_owned())
        }
        io::ErrorKind::ReadOnlyFilesystem => Some(
            "name a path that can be written; a systemd unit names it in ReadWritePaths= or StateDirectory="
                .to_owned(),
        ),
        _ => None,
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
