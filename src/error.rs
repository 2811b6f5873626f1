//! What can go wrong, told so that a person can act on it.

use std::fmt;
use std::io;

use crate::message::{ErrorMessage, Message, flags};

pub(crate) const NET_ADMIN: &str =
    "it needs CAP_NET_ADMIN in this network namespace: run as root or grant the capability";

/// The result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation: what was being done, and what the system answered.
///
/// The text names the operation, the system's answer, and the remedy where there is a usual one.
pub struct Error {
    operation: &'static str,
    kind: ErrorKind,
    source: Option<io::Error>,
    remedy: Option<&'static str>,
    words: Option<Box<Words>>,
}

/// What the kernel says about a refusal, in an extended acknowledgement.
struct Words {
    text: Option<String>,
    offset_bytes: Option<u32>,
}

/// The kinds of [`Error`] a program may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A system call failed; [`Error::raw_os_error`] says how.
    System,
    /// The socket's receive queue was full and the kernel dropped datagrams since the last receive (`ENOBUFS`).
    /// Only a socket without `NETLINK_NO_ENOBUFS` reports loss this way.
    Overrun,
    /// Nothing to receive now on a non-blocking socket, or the receive time-out passed (`EAGAIN`).
    WouldBlock,
    /// The datagram was larger than the buffer; what did not fit is gone.
    Truncated {
        /// The datagram's full length in bytes: a buffer of this size would have held it.
        real_bytes: usize,
    },
    /// The operation needs a capability that this process lacks (`EPERM`).
    PermissionDenied,
    /// This kernel does not have the protocol, the option or the feature, or the option is one that
    /// [`Socket::option`](crate::Socket::option) and [`Socket::set_option`](crate::Socket::set_option) do not pass on.
    Unsupported,
    /// A value that was passed in cannot be used.
    InvalidInput,
    /// No socket has this id (any more).
    NoSuchSocket,
    /// The kernel did not reply in time.
    TimedOut,
    /// A message that is no reply to what was asked, or an answer that the kernel left out.
    UnexpectedReply,
    /// The engine was built before this process was forked (fork(2), daemon(3)). It goes on in the parent only; build the
    /// child's engine in the child.
    Forked,
    /// One entry of a dump is larger than the buffer that the kernel dumps into (32 KiB), so the dump cannot go on. Short of
    /// memory, the kernel uses a buffer of 4 KiB: then the same dump works later.
    EntryTooLarge,
    /// The wait was ended by a [`StopHandle`](crate::StopHandle).
    Stopped,
}

const DUMP: &str = "dump";
const MAKE_IT_SMALLER: &str = "it cannot be dumped, nor what comes behind it: make it smaller (a route: give it fewer next hops)";

impl Error {
    pub(crate) fn system(operation: &'static str, source: io::Error) -> Self {
        let kind = match source.raw_os_error() {
            Some(libc::EAGAIN) => ErrorKind::WouldBlock,
            Some(libc::EPERM | libc::EACCES) => ErrorKind::PermissionDenied,
            Some(libc::EPROTONOSUPPORT | libc::ENOPROTOOPT | libc::EAFNOSUPPORT | libc::ENOSYS) => {
                ErrorKind::Unsupported
            }
            None if source.kind() == io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::System,
        };
        Self {
            operation,
            kind,
            source: Some(source),
            remedy: None,
            words: None,
        }
    }

    /// A system call that failed for itself, so that `EAGAIN` does not mean that there is nothing to receive.
    pub(crate) fn failed_call(operation: &'static str, source: io::Error) -> Self {
        let error = Self::system(operation, source);
        match error.kind {
            ErrorKind::WouldBlock => Self {
                kind: ErrorKind::System,
                ..error
            },
            _ => error,
        }
    }

    pub(crate) fn overrun(operation: &'static str, source: io::Error) -> Self {
        Self {
            kind: ErrorKind::Overrun,
            ..Self::system(operation, source)
        }
    }

    pub(crate) fn with_kind(operation: &'static str, kind: ErrorKind) -> Self {
        Self {
            operation,
            kind,
            source: None,
            remedy: None,
            words: None,
        }
    }

    /// A failure whose cause takes words of its own.
    pub(crate) fn explained(operation: &'static str, kind: ErrorKind, text: String) -> Self {
        Self {
            source: Some(io::Error::other(text)),
            ..Self::with_kind(operation, kind)
        }
    }

    /// The kernel's refusal of a request.
    pub(crate) fn refused(errno: i32, answer: &ErrorMessage<'_>) -> Self {
        let words = Words {
            text: answer.text().map(str::to_owned),
            offset_bytes: answer.offset_bytes(),
        };
        Self::with_words("request", errno, words)
    }

    fn with_words(operation: &'static str, errno: i32, words: Words) -> Self {
        let is_silent = words.text.is_none() && words.offset_bytes.is_none();
        Self {
            words: (!is_silent).then(|| Box::new(words)),
            ..Self::system(operation, io::Error::from_raw_os_error(errno))
                .with_remedy_if_denied(NET_ADMIN)
        }
    }

    /// The same refusal, of another request.
    pub(crate) fn refused_too(&self) -> Self {
        let errno = self.raw_os_error().unwrap_or(0);
        Self {
            remedy: self.remedy,
            ..Self::system(self.operation, io::Error::from_raw_os_error(errno))
        }
    }

    /// The kernel sends nothing but empty datagrams for the rest of a dump.
    pub(crate) fn entry_too_large() -> Self {
        Self::with_kind(DUMP, ErrorKind::EntryTooLarge).with_remedy(MAKE_IT_SMALLER)
    }

    /// The failure that a dump's last message tells of. It may have the kernel's words behind the number.
    pub(crate) fn ended(errno: i32, done: &Message<'_>) -> Self {
        let extended = |attribute_type| {
            let has_words = done.flags() & flags::ACK_TLVS != 0;
            has_words.then(|| done.attributes(4).get(attribute_type))?
        };
        let words = Words {
            text: extended(1).and_then(|text| text.as_str().map(str::to_owned)),
            offset_bytes: extended(2).and_then(|offset| offset.as_u32()),
        };
        let error = Self::with_words(DUMP, errno, words);
        if errno == libc::EMSGSIZE {
            let kind = ErrorKind::EntryTooLarge;
            return Self { kind, ..error }.with_remedy(MAKE_IT_SMALLER);
        }
        error
    }

    /// Names what was being done better than the function that failed could.
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

    /// What was being done.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Which kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The system's error number, when a system call failed.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.as_ref().and_then(io::Error::raw_os_error)
    }
}

impl Error {
    /// The kernel's explanation of its refusal, if it gave one. Available since Linux 4.12.
    pub fn kernel_text(&self) -> Option<&str> {
        self.words.as_ref()?.text.as_deref()
    }

    /// Where in the request, in bytes from its start, the attribute lies that the kernel refused, if it said so. Available
    /// since Linux 4.12.
    pub fn offset_bytes(&self) -> Option<u32> {
        self.words.as_ref()?.offset_bytes
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.operation)?;
        match (self.kind, &self.source) {
            (ErrorKind::Truncated { real_bytes }, _) => {
                write!(
                    f,
                    "the datagram has {real_bytes} bytes, more than the buffer; receive into a larger one"
                )
            }
            (ErrorKind::Overrun, Some(source)) => {
                write!(
                    f,
                    "the receive queue overran and datagrams were lost ({source}); use a larger receive buffer"
                )
            }
            (ErrorKind::TimedOut, _) => f.write_str("the kernel did not reply in time"),
            (ErrorKind::Overrun, None) => f.write_str("replies were lost"),
            (ErrorKind::UnexpectedReply, None) => {
                f.write_str("a message is no reply to what was asked")
            }
            (ErrorKind::Forked, _) => f.write_str(
                "this process was forked after the engine was built, and the engine stays with the parent; build the \
                 engine after fork or daemon",
            ),
            (ErrorKind::EntryTooLarge, source) => {
                f.write_str("one entry is larger than the 32 KiB that the kernel dumps at a time")?;
                (source.as_ref()).map_or(Ok(()), |source| write!(f, " ({source})"))
            }
            (ErrorKind::Stopped, _) => f.write_str("a stop was requested"),
            (ErrorKind::NoSuchSocket, _) => f.write_str("no socket has this id (any more)"),
            (_, Some(source)) => source.fmt(f),
            (ErrorKind::Unsupported, None) => f.write_str("this kernel does not have it"),
            (_, None) => f.write_str("the value cannot be used"),
        }?;
        if let Some(text) = self.kernel_text() {
            write!(f, ": {text}")?;
        }
        if let Some(offset_bytes) = self.offset_bytes() {
            write!(f, " (the attribute at byte {offset_bytes} of the request)")?;
        }
        self.remedy.map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

/// As [`Display`](fmt::Display): what `main` prints of an error it returns is for a person.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::WouldBlock => io::ErrorKind::WouldBlock,
            ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ErrorKind::InvalidInput | ErrorKind::NoSuchSocket => io::ErrorKind::InvalidInput,
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

/// Where a datagram stops being a sequence of netlink messages, and why.
///
/// The messages before `offset_bytes` are good and are always delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Offset of the bad header from the start of its datagram.
    pub offset_bytes: usize,
    /// What is wrong there.
    pub reason: MalformedReason,
}

/// What can be wrong with a message's length. The check is libmnl's `mnl_nlmsg_ok` (src/nlmsg.c), with its cases told
/// apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MalformedReason {
    /// Fewer bytes are left than a header has (16).
    ShortHeader {
        /// How many are left, 1 to 15.
        left_bytes: usize,
    },
    /// `nlmsg_len` is smaller than the header it counts (16); 0 is among these.
    LengthBelowHeader {
        /// The length the header states.
        length_bytes: u32,
    },
    /// `nlmsg_len` reaches beyond the datagram's end.
    LengthBeyondEnd {
        /// The length the header states.
        length_bytes: u32,
        /// How many bytes are left, the header included.
        left_bytes: usize,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.offset_bytes)?;
        match self.reason {
            MalformedReason::ShortHeader { left_bytes } => {
                write!(f, "{left_bytes} bytes are left, a message header has 16")
            }
            MalformedReason::LengthBelowHeader { length_bytes } => {
                write!(
                    f,
                    "a message states {length_bytes} bytes, fewer than its own header of 16"
                )
            }
            MalformedReason::LengthBeyondEnd {
                length_bytes,
                left_bytes,
            } => {
                write!(
                    f,
                    "a message states {length_bytes} bytes where {left_bytes} are left"
                )
            }
        }
    }
}

impl std::error::Error for Malformed {}
