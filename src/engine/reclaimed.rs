//! A socket that an engine has returned.

use super::entry::Entry;
use super::event::SocketId;
use super::loss::Statistics;
use crate::error::Error;
use crate::socket::Socket;

/// A socket that an engine has returned, with its statistics.
///
/// [`Running::reclaim`](crate::Running::reclaim), [`Running::finish`](crate::Running::finish) and
/// [`Running::discard`](crate::Running::discard) return sockets.
///
/// ```
/// use nlring::{Engine, Protocol, Socket};
///
/// let mut engine = Engine::builder().build()?;
/// let id = engine.add(Socket::open(Protocol::USERSOCK)?)?;
/// for reclaimed in engine.start()?.discard() {
///     assert_eq!(reclaimed.id, id);
///     assert_eq!(reclaimed.statistics.received, 0);
///     assert!(reclaimed.failure.is_none());
///     reclaimed.socket.close()?;
/// }
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Reclaimed {
    /// The id that the engine gave the socket.
    pub id: SocketId,
    /// The socket, which may receive alone or in another engine.
    pub socket: Socket,
    /// What became of its datagrams.
    pub statistics: Statistics,
    /// A failure of this socket that no notice has reported: the engine could not receive from it, or the socket could
    /// not leave its groups.
    pub failure: Option<Error>,
}

impl From<Entry> for Reclaimed {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            socket: entry.socket,
            statistics: entry.statistics,
            failure: entry.pending.failed,
        }
    }
}
