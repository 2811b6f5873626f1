//! The refusal of a descriptor that is not a netlink socket.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use crate::error::Error;

/// The error of `Socket::try_from`: the descriptor is not a netlink socket. It holds the descriptor.
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

    /// Returns the descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// The error, whose text says what the descriptor is.
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl fmt::Display for NotNetlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// The same text as [`Display`](fmt::Display), because a person reads what `main` prints of the error that it returns.
impl fmt::Debug for NotNetlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for NotNetlink {}

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
