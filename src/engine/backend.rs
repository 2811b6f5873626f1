//! Chooses the way to receive: tries the backends, and explains why a better one does not work here.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use super::receive::Receive;
use super::recvmmsg::Recvmmsg;
use super::retry::persist;
#[cfg(feature = "io-uring")]
use super::uring::{Mode, Uring};
use crate::error::{Error, ErrorKind, Result};

/// A way to receive.
///
/// ```
/// use nlring::{Backend, Engine};
///
/// let engine = Engine::builder().build()?; // Auto
/// println!("{}: {}", engine.backend(), engine.backend_reason());
/// assert_eq!(Backend::Oneshot { depth: 16 }.to_string(), "oneshot:16");
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// `Multishot` where it works, otherwise `Recvmmsg`, which costs less than `Oneshot`.
    #[default]
    Auto,
    /// io_uring: one multishot receive per socket, with a ring of registered buffers. Needs Linux 6.0; best since 6.1.
    Multishot,
    /// io_uring: a chain of single receives per socket. Needs Linux 5.6.
    Oneshot {
        /// How many receives are in a chain, from 1 to 128.
        depth: u16,
    },
    /// recvmmsg(2): for hosts where io_uring is unavailable, and for builds without the feature `io-uring`.
    Recvmmsg,
}

impl Backend {
    /// The largest depth of a chain.
    pub const MAX_DEPTH: u16 = 128;
    /// The recommended depth of a chain.
    pub const DEFAULT_DEPTH: u16 = 32;
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Multishot => f.write_str("multishot"),
            Self::Oneshot { depth } => write!(f, "oneshot:{depth}"),
            Self::Recvmmsg => f.write_str("recvmmsg"),
        }
    }
}

/// A backend that works, its name, and why it was chosen.
pub(super) struct Choice {
    pub receive: Box<dyn Receive>,
    pub backend: Backend,
    pub reason: String,
}

/// Sets up the requested backend. [`Backend::Auto`]: the first that works.
pub(super) fn choose(asked: Backend, completion_entries: u32, pollable: bool) -> Result<Choice> {
    let refuse = |remedy| {
        Err(Error::with_kind("build an engine", ErrorKind::InvalidInput).with_remedy(remedy))
    };
    if completion_entries == 0 {
        return refuse("the completion queue must have at least 1 entry");
    }
    if let Backend::Oneshot { depth } = asked
        && !(1..=Backend::MAX_DEPTH).contains(&depth)
    {
        return refuse("the depth of a chain must be from 1 to 128");
    }
    let attempt = |backend| attempt(backend, completion_entries, pollable);
    if asked != Backend::Auto {
        let receive = attempt(asked).map_err(|error| does_not_work(asked, &error))?;
        return Ok(Choice {
            receive,
            backend: asked,
            reason: "asked for".into(),
        });
    }
    match attempt(Backend::Multishot) {
        Ok(receive) => {
            let reason = "the first choice, and it works here".into();
            Ok(Choice {
                receive,
                backend: Backend::Multishot,
                reason,
            })
        }
        Err(error) => {
            let reason = format!(
                "multishot does not work here: {}",
                why(&error, Path::new("/"))
            );
            let backend = Backend::Recvmmsg;
            let receive = attempt(backend).map_err(|error| does_not_work(backend, &error))?;
            Ok(Choice {
                receive,
                backend,
                reason,
            })
        }
    }
}

/// Sets up a backend.
fn attempt(
    backend: Backend,
    completion_entries: u32,
    pollable: bool,
) -> io::Result<Box<dyn Receive>> {
    match backend {
        Backend::Recvmmsg => Ok(Box::new(persist(|| Recvmmsg::new(pollable))?)),
        _ => attempt_uring(backend, completion_entries, pollable),
    }
}

/// Sets up a backend on io_uring, after a trial.
#[cfg(feature = "io-uring")]
fn attempt_uring(
    backend: Backend,
    completion_entries: u32,
    pollable: bool,
) -> io::Result<Box<dyn Receive>> {
    let (mode, trial) = match backend {
        Backend::Oneshot { depth } => (Mode::Oneshot(depth), Mode::Oneshot(2)),
        _ => (Mode::Multishot, Mode::Multishot),
    };
    // Retried after a signal or a temporary lack of memory, because the choice holds for the engine's whole life.
    persist(|| Uring::trial(trial))?;
    Ok(Box::new(persist(|| {
        Uring::new(mode, completion_entries, pollable)
    })?))
}

#[cfg(not(feature = "io-uring"))]
fn attempt_uring(_: Backend, _: u32, _: bool) -> io::Result<Box<dyn Receive>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this program was built without io_uring: enable the feature `io-uring` of the crate nlring, or use recvmmsg",
    ))
}

fn does_not_work(backend: Backend, error: &io::Error) -> Error {
    let kind = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => ErrorKind::PermissionDenied,
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => ErrorKind::Unsupported,
        None if error.kind() == io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::System,
    };
    let text = format!(
        "{backend} does not work here: {}",
        why(error, Path::new("/"))
    );
    Error::explained("build an engine", kind, text)
}

/// Why io_uring does not work, and what to do about it. The errno alone is not enough: a sysctl and a seccomp profile
/// may both answer `EPERM`. `root` is the directory that holds `proc`.
fn why(error: &io::Error, root: &Path) -> String {
    let seccomp = || is_seccomp_filtered(root);
    match error.raw_os_error() {
        Some(libc::EPERM) => match sysctl(root, "io_uring_disabled") {
            Some(2) => "io_uring is switched off (kernel.io_uring_disabled = 2; 0 allows it)".into(),
            Some(1) => {
                let group = sysctl(root, "io_uring_group").unwrap_or(-1);
                format!(
                    "io_uring is for privileged processes only (kernel.io_uring_disabled = 1): run as root, join \
                     the group of kernel.io_uring_group ({group}), or set kernel.io_uring_disabled to 0"
                )
            }
            _ if seccomp() => "io_uring is denied by a seccomp filter (EPERM): allow io_uring_setup, io_uring_enter and \
                               io_uring_register in the container's profile"
                .into(),
            _ => "io_uring is denied (EPERM), by neither kernel.io_uring_disabled nor seccomp: look at the security \
                  module's log"
                .into(),
        },
        Some(libc::ENOSYS) if seccomp() => "io_uring is denied by a seccomp filter (ENOSYS), or missing in this kernel: \
                                            allow io_uring_setup, io_uring_enter and io_uring_register in the profile"
            .into(),
        Some(libc::ENOSYS) => "this kernel is built without io_uring".into(),
        Some(libc::EINVAL) => "this kernel is too old for it".into(),
        Some(libc::ENOMEM) => "the memory limit is too low for it (RLIMIT_MEMLOCK: ulimit -l)".into(),
        _ => error.to_string(),
    }
}

fn sysctl(root: &Path, name: &str) -> Option<i64> {
    fs::read_to_string(root.join("proc/sys/kernel").join(name))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Whether this process runs under a seccomp filter (mode 2 in proc(5)).
fn is_seccomp_filtered(root: &Path) -> bool {
    let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    status.lines().any(|line| {
        line.strip_prefix("Seccomp:")
            .is_some_and(|mode| mode.trim() == "2")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory instead of `/`, because a test must not change the sysctl of the whole machine.
    fn root(name: &str, disabled: Option<&str>, seccomp: &str) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("nlring-why-{}-{name}", std::process::id()));
        fs::create_dir_all(root.join("proc/sys/kernel")).unwrap();
        fs::create_dir_all(root.join("proc/self")).unwrap();
        if let Some(disabled) = disabled {
            fs::write(root.join("proc/sys/kernel/io_uring_disabled"), disabled).unwrap();
            fs::write(root.join("proc/sys/kernel/io_uring_group"), "997\n").unwrap();
        }
        fs::write(
            root.join("proc/self/status"),
            format!("Name:\tx\nSeccomp:\t{seccomp}\nSeccomp_filters:\t1\n"),
        )
        .unwrap();
        root
    }

    #[cfg(not(feature = "io-uring"))]
    #[test]
    fn without_the_feature_only_recvmmsg_works_and_the_reason_says_why() {
        let chosen = choose(Backend::Auto, 64, false).unwrap();
        assert_eq!(chosen.backend, Backend::Recvmmsg);
        assert!(
            chosen.reason.contains("feature `io-uring`"),
            "{}",
            chosen.reason
        );
        for backend in [Backend::Multishot, Backend::Oneshot { depth: 4 }] {
            let error = choose(backend, 64, false).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("use recvmmsg"), "{error}");
        }
    }

    #[test]
    fn the_reason_names_what_stands_in_the_way() {
        let table = [
            (
                "off",
                Some("2\n"),
                "0",
                libc::EPERM,
                "kernel.io_uring_disabled = 2",
            ),
            (
                "group",
                Some("1\n"),
                "0",
                libc::EPERM,
                "kernel.io_uring_group (997)",
            ),
            (
                "seccomp",
                Some("0\n"),
                "2",
                libc::EPERM,
                "seccomp filter (EPERM)",
            ),
            ("old", None, "2", libc::EPERM, "seccomp filter (EPERM)"),
            ("lsm", Some("0\n"), "0", libc::EPERM, "security module"),
            (
                "nosys",
                Some("0\n"),
                "2",
                libc::ENOSYS,
                "seccomp filter (ENOSYS)",
            ),
            ("none", None, "0", libc::ENOSYS, "built without io_uring"),
            ("inval", Some("0\n"), "0", libc::EINVAL, "too old"),
            ("memlock", Some("0\n"), "0", libc::ENOMEM, "RLIMIT_MEMLOCK"),
        ];
        for (name, disabled, seccomp, errno, want) in table {
            let root = root(name, disabled, seccomp);
            let reason = why(&io::Error::from_raw_os_error(errno), &root);
            fs::remove_dir_all(&root).unwrap();
            assert!(reason.contains(want), "{name}: {reason}");
        }
    }
}
