//! A refused socket.

use std::fmt;

use crate::error::Error;
use crate::socket::Socket;

/// A socket that an engine refused, and the reason.
///
/// The socket's options, memberships and queue are unchanged. `?` turns this into an [`Error`], which closes the
/// socket.
///
/// ```
/// use nlring::{AddOptions, Engine, ErrorKind, Protocol, Socket};
///
/// let mut engine = Engine::builder().build()?;
/// let socket = Socket::open(Protocol::ROUTE)?;
/// let refused = engine
///     .add_with(socket, AddOptions::new().buffer_count(3)) // not a power of two
///     .expect_err("the options are out of range");
/// assert_eq!(refused.error().kind(), ErrorKind::InvalidInput);
/// engine.add(refused.into_socket())?; // with the default options
/// # Ok::<(), nlring::Error>(())
/// ```
pub struct AddError(Box<(Socket, Error)>);

impl AddError {
    pub(super) fn new(socket: Socket, error: Error) -> Self {
        Self(Box::new((socket, error)))
    }

    /// Why the engine refused the socket.
    pub fn error(&self) -> &Error {
        &self.0.1
    }

    /// The refused socket.
    pub fn into_socket(self) -> Socket {
        self.0.0
    }

    /// The refused socket, and why the engine refused it.
    pub fn into_parts(self) -> (Socket, Error) {
        *self.0
    }
}

impl From<AddError> for Error {
    /// Keeps the reason, and closes the socket.
    fn from(refused: AddError) -> Self {
        refused.0.1
    }
}

impl From<AddError> for std::io::Error {
    /// Keeps the reason, and closes the socket.
    fn from(refused: AddError) -> Self {
        Error::from(refused).into()
    }
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)
    }
}

/// The same text as [`Display`](fmt::Display), because Rust prints an error that `main` returns with `Debug`.
impl fmt::Debug for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for AddError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(self.error())
    }
}
