//! The error of this crate: the operation that failed, the system's answer, and the usual remedy.

use std::fmt;
use std::io;

pub(crate) const NET_ADMIN: &str =
    "it needs CAP_NET_ADMIN in this network namespace: run as root or grant the capability";

/// The result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation: what was being done, and what the system answered.
///
/// The text ([`Display`](fmt::Display)) is complete: it names the operation, the system's answer, the kernel's
/// explanation if it gave one, and the usual remedy if there is one. So there is no
/// [`source`](std::error::Error::source), and a program that prints an error's whole chain prints each part once.
/// Programs use [`kind`](Self::kind) and [`raw_os_error`](Self::raw_os_error).
///
/// ```
/// use nlring::{ErrorKind, Protocol, Socket};
///
/// let socket = Socket::open(Protocol::ROUTE)?;
/// let error = socket.add_membership(1_000_000_u32).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::System);
/// assert_eq!(error.raw_os_error(), Some(22 /* EINVAL */));
/// assert_eq!(
///     error.to_string(),
///     "join a multicast group: Invalid argument (os error 22); the protocol has no group of this number in this kernel"
/// );
/// # Ok::<(), nlring::Error>(())
/// ```
pub struct Error {
    operation: &'static str,
    kind: ErrorKind,
    cause: Option<io::Error>,
    remedy: Option<&'static str>,
    explanation: Option<Box<Explanation>>,
}

/// What the kernel says about a refusal in an extended acknowledgement.
#[derive(Default)]
pub(crate) struct Explanation {
    pub text: Option<String>,
    pub offset_bytes: Option<u32>,
}

/// The kinds of [`Error`] that a program may want to distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A system call failed, or the kernel refused a request. [`Error::raw_os_error`] has the number.
    System,
    /// The socket's receive queue was full, and the kernel has dropped datagrams since the last receive (`ENOBUFS`).
    /// Only a socket without `NETLINK_NO_ENOBUFS` reports a loss this way.
    Overrun,
    /// There is nothing to receive on a non-blocking socket, or the receive time-out has passed (`EAGAIN`).
    WouldBlock,
    /// The datagram was larger than the buffer, and its rest was discarded.
    Truncated {
        /// The full length of the datagram in bytes. A buffer of this size would have held it.
        real_bytes: usize,
    },
    /// The process lacks a capability (`EPERM`, `EACCES`). The text names it.
    PermissionDenied,
    /// The kernel lacks the protocol, option or feature. [`Socket::option`](crate::Socket::option) and
    /// [`Socket::set_option`](crate::Socket::set_option) also refuse options whose value is not plain bytes.
    Unsupported,
    /// An argument is out of range or does not fit the others.
    InvalidInput,
    /// The engine has no socket with this id, or no longer has it.
    NoSuchSocket,
    /// The kernel did not reply in time.
    TimedOut,
    /// A message is not a reply to the request, or an answer from the kernel is missing.
    UnexpectedReply,
    /// The engine was built before this process was forked (fork(2), daemon(3)). It keeps running in the parent; build
    /// another engine in the child.
    Forked,
    /// One entry of a dump is larger than the buffer that the kernel dumps into (32 KiB), so the dump cannot continue.
    /// If the kernel is short of memory, it uses a buffer of 4 KiB; the same dump may then succeed later.
    EntryTooLarge,
    /// A [`StopHandle`](crate::StopHandle) ended the wait.
    Stopped,
    /// The kernel knows nothing by this name, such as a family of generic netlink.
    NotFound,
}

impl Error {
    /// A failed system call.
    pub(crate) fn system(operation: &'static str, cause: io::Error) -> Self {
        let kind = match cause.raw_os_error() {
            Some(libc::EAGAIN) => ErrorKind::WouldBlock,
            Some(libc::EPERM | libc::EACCES) => ErrorKind::PermissionDenied,
            Some(libc::EPROTONOSUPPORT | libc::ENOPROTOOPT | libc::EAFNOSUPPORT | libc::ENOSYS) => {
                ErrorKind::Unsupported
            }
            None if cause.kind() == io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::System,
        };
        Self {
            cause: Some(cause),
            ..Self::with_kind(operation, kind)
        }
    }

    /// A failed system call that receives nothing. `EAGAIN` does not mean here that the queue is empty.
    pub(crate) fn failed_call(operation: &'static str, cause: io::Error) -> Self {
        let error = Self::system(operation, cause);
        match error.kind {
            ErrorKind::WouldBlock => Self {
                kind: ErrorKind::System,
                ..error
            },
            _ => error,
        }
    }

    pub(crate) fn overrun(operation: &'static str, cause: io::Error) -> Self {
        Self {
            kind: ErrorKind::Overrun,
            ..Self::system(operation, cause)
        }
    }

    pub(crate) fn with_kind(operation: &'static str, kind: ErrorKind) -> Self {
        Self {
            operation,
            kind,
            cause: None,
            remedy: None,
            explanation: None,
        }
    }

    /// A failure whose cause is a text.
    pub(crate) fn explained(operation: &'static str, kind: ErrorKind, text: String) -> Self {
        Self {
            cause: Some(io::Error::other(text)),
            ..Self::with_kind(operation, kind)
        }
    }

    /// A request that the kernel refused, with what it says about that.
    pub(crate) fn refused(operation: &'static str, errno: i32, explanation: Explanation) -> Self {
        let is_empty = explanation.text.is_none() && explanation.offset_bytes.is_none();
        Self {
            explanation: (!is_empty).then(|| Box::new(explanation)),
            ..Self::system(operation, io::Error::from_raw_os_error(errno))
                .with_remedy_if_denied(NET_ADMIN)
        }
    }

    pub(crate) fn change_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// Names the operation from the caller's point of view.
    ///
    /// ```
    /// # use nlring::{Protocol, Socket};
    /// let socket = Socket::open(Protocol::ROUTE)?;
    /// let error = socket.set_recv_buffer_bytes(0).unwrap_err().during("prepare the socket");
    /// assert!(error.to_string().starts_with("prepare the socket: "));
    /// # Ok::<(), nlring::Error>(())
    /// ```
    #[must_use]
    pub fn during(self, operation: &'static str) -> Self {
        Self { operation, ..self }
    }

    /// Adds what the user can do about it.
    pub(crate) fn with_remedy(mut self, remedy: &'static str) -> Self {
        self.remedy = Some(remedy);
        self
    }

    pub(crate) fn with_remedy_if_denied(self, remedy: &'static str) -> Self {
        if self.kind == ErrorKind::PermissionDenied {
            self.with_remedy(remedy)
        } else {
            self
        }
    }

    pub(crate) fn remedy(&self) -> Option<&'static str> {
        self.remedy
    }

    /// What was being done, as a phrase such as `"bind a netlink socket"`.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Which kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The system's error number. None if no system call failed and the kernel refused nothing.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.cause.as_ref().and_then(io::Error::raw_os_error)
    }

    /// The kernel's explanation of its refusal, if it gave one. Available since Linux 4.12.
    pub fn kernel_text(&self) -> Option<&str> {
        self.explanation.as_ref()?.text.as_deref()
    }

    /// The offset, in bytes from the start of the request, of the attribute that the kernel refused, if it named one.
    /// Available since Linux 4.12.
    pub fn offset_bytes(&self) -> Option<u32> {
        self.explanation.as_ref()?.offset_bytes
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.operation)?;
        self.write_cause(f)?;
        if let Some(text) = self.kernel_text() {
            write!(f, ": {text}")?;
        }
        if let Some(offset_bytes) = self.offset_bytes() {
            write!(f, " (the attribute at byte {offset_bytes} of the request)")?;
        }
        self.remedy.map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl Error {
    fn write_cause(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.cause) {
            (ErrorKind::Truncated { real_bytes }, _) => write!(
                f,
                "the datagram has {real_bytes} bytes, more than the buffer; receive into a larger one"
            ),
            (ErrorKind::Overrun, Some(cause)) => write!(
                f,
                "the receive queue overran and datagrams were lost ({cause}); use a larger receive buffer"
            ),
            (ErrorKind::TimedOut, _) => f.write_str("the kernel did not reply in time"),
            (ErrorKind::Overrun, None) => f.write_str("replies were lost"),
            (ErrorKind::UnexpectedReply, None) => {
                f.write_str("a message does not belong to the request")
            }
            (ErrorKind::Forked, _) => f.write_str(
                "this process was forked after the engine was built, and the engine stays with the parent; build the \
                 engine after fork or daemon",
            ),
            (ErrorKind::EntryTooLarge, cause) => {
                f.write_str("one entry is larger than the 32 KiB that the kernel dumps at a time")?;
                (cause.as_ref()).map_or(Ok(()), |cause| write!(f, " ({cause})"))
            }
            (ErrorKind::Stopped, _) => f.write_str("a stop was requested"),
            (ErrorKind::NoSuchSocket, _) => f.write_str("no socket has this ID; it may have been removed"),
            (_, Some(cause)) => fmt::Display::fmt(cause, f),
            (ErrorKind::Unsupported, None) => f.write_str("this kernel does not support it"),
            (ErrorKind::NotFound, None) => f.write_str("nothing has this name"),
            (_, None) => f.write_str("the value cannot be used"),
        }
    }
}

/// The same text as [`Display`](fmt::Display), because a person reads what `main` prints of the error that it returns.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// Keeps the error number: an error with [`raw_os_error`](Error::raw_os_error) becomes the same error of the system,
/// without the text of this crate. Any other error keeps its text.
///
/// ```
/// use std::io;
/// use nlring::{Protocol, RecvFlags, Socket};
///
/// let socket = Socket::open(Protocol::ROUTE)?;
/// let error = socket.recv(&mut [0; 64], RecvFlags::DONT_WAIT).unwrap_err();
/// let error = io::Error::from(error);
/// assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
/// assert_eq!(error.raw_os_error(), Some(11 /* EAGAIN */));
/// # Ok::<(), nlring::Error>(())
/// ```
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        if let Some(errno) = error.raw_os_error() {
            return io::Error::from_raw_os_error(errno);
        }
        let kind = match error.kind {
            ErrorKind::WouldBlock => io::ErrorKind::WouldBlock,
            ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ErrorKind::InvalidInput | ErrorKind::NoSuchSocket => io::ErrorKind::InvalidInput,
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::Truncated { .. } | ErrorKind::UnexpectedReply | ErrorKind::EntryTooLarge => {
                io::ErrorKind::InvalidData
            }
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::System | ErrorKind::Overrun | ErrorKind::Forked | ErrorKind::Stopped => {
                io::ErrorKind::Other
            }
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints an error and everything that it names as its source, as `anyhow` prints `{:#}`.
    fn chain(error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    #[test]
    fn the_chain_of_an_error_has_each_part_once() {
        let explanation = Explanation {
            text: Some("Device does not exist".into()),
            offset_bytes: Some(28),
        };
        let error = Error::refused("request", libc::ENODEV, explanation);
        assert_eq!(
            chain(&error),
            "request: No such device (os error 19): Device does not exist (the attribute at byte 28 of the request)"
        );
        let error = Error::explained("check", ErrorKind::InvalidInput, "it is 7".into());
        assert_eq!(chain(&error), "check: it is 7");
        assert_eq!(chain(&io::Error::from(error)), "check: it is 7");
    }

    #[test]
    fn a_system_error_keeps_its_number_and_any_other_its_text() {
        for errno in [libc::EAGAIN, libc::EPERM, libc::ENOBUFS, libc::EINTR] {
            let error = Error::system("receive", io::Error::from_raw_os_error(errno));
            let error = io::Error::from(error);
            assert_eq!(error.raw_os_error(), Some(errno));
            assert_eq!(error.kind(), io::Error::from_raw_os_error(errno).kind());
        }
        let error = io::Error::from(Error::with_kind("wait", ErrorKind::TimedOut));
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "wait: the kernel did not reply in time");
    }
}
