//! A descriptor that is not a netlink socket, with the reason.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use crate::error::Error;

/// The error of `Socket::try_from`: the descriptor is not a netlink socket. It is handed back.
///
/// ```
/// use std::net::UdpSocket;
/// use std::os::fd::OwnedFd;
/// use nlring::{ErrorKind, Socket};
///
/// let udp = OwnedFd::from(UdpSocket::bind("127.0.0.1:0")?);
/// let refusal = Socket::try_from(udp).unwrap_err();
/// assert_eq!(refusal.error().kind(), ErrorKind::InvalidInput);
/// let udp = UdpSocket::from(refusal.into_fd());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct NotNetlink {
    fd: OwnedFd,
    error: Error,
}

impl NotNetlink {
    pub(crate) fn new(fd: OwnedFd, error: Error) -> Self {
        Self { fd, error }
    }

    /// The descriptor, as it was passed in.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// What it is instead.
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl fmt::Display for NotNetlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// As [`Display`](fmt::Display): what `main` prints of an error it returns is for a person.
impl fmt::Debug for NotNetlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for NotNetlink {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

/// Closes the descriptor.
impl From<NotNetlink> for Error {
    fn from(refusal: NotNetlink) -> Self {
        refusal.error
    }
}

/// Closes the descriptor.
impl From<NotNetlink> for io::Error {
    fn from(refusal: NotNetlink) -> Self {
        refusal.error.into()
    }
}
