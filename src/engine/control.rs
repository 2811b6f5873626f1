//! The handle that a callback gets to its engine.

use super::add_error::AddError;
use super::event::SocketId;
use super::loss::Statistics;
use super::options::AddOptions;
use super::reclaimed::Reclaimed;
use super::sockets::Sockets;
use super::stop::StopHandle;
use crate::error::Result;
use crate::socket::Socket;

#[cfg(doc)]
use super::{Engine, Notice, Running};

/// A callback's handle to its engine: adds and removes sockets, reads their statistics, and stops the engine.
///
/// The engine lends it to the callback with each [`Event`](crate::Event), and makes the changes after the turn.
///
/// ```
/// use std::ops::ControlFlow;
/// use nlring::{Engine, Event, Notice, Protocol, Socket};
///
/// let mut engine = Engine::builder().build()?;
/// let first = engine.add(Socket::open(Protocol::USERSOCK)?)?;
/// let mut running = engine.start()?;
/// running.remove(first)?;
///
/// // When the first socket is gone, a second one takes its place.
/// let second = running.run(|event, control| match event {
///     Event::Notice(id, Notice::Removed) => {
///         let socket = match control.reclaim(id) {
///             Ok(reclaimed) => reclaimed.socket,
///             Err(error) => return ControlFlow::Break(Err(error)),
///         };
///         let second = control.add(socket).map_err(nlring::Error::from);
///         assert_eq!(control.statistics(id), None, "the first is reclaimed");
///         ControlFlow::Break(second)
///     }
///     event => panic!("{event:?}"),
/// })?;
/// let second = second.expect("the callback broke off")?;
/// assert_ne!(second, first, "an id is never used again");
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
pub struct Control<'a> {
    pub(super) sockets: &'a mut Sockets,
    pub(super) stop: &'a StopHandle,
}

impl Control<'_> {
    /// Adds a socket with the default options. Its id is valid at once; the engine receives from it after this turn.
    ///
    /// # Errors
    ///
    /// As [`Engine::add`]. The error returns the socket.
    pub fn add(&mut self, socket: Socket) -> Result<SocketId, AddError> {
        self.add_with(socket, AddOptions::default())
    }

    /// Adds a socket with options. Its id is valid at once; the engine receives from it after this turn.
    ///
    /// # Errors
    ///
    /// As [`Engine::add_with`]. The error returns the socket.
    pub fn add_with(&mut self, socket: Socket, options: AddOptions) -> Result<SocketId, AddError> {
        if let Err(error) = self.stop.require_home("add a socket") {
            return Err(AddError::new(socket, error));
        }
        self.sockets.insert(socket, options)
    }

    /// Marks a socket for removal: its last messages come in later turns, then [`Notice::Removed`].
    ///
    /// # Errors
    ///
    /// As [`Running::remove`].
    pub fn remove(&mut self, id: SocketId) -> Result<()> {
        self.stop.require_home("remove a socket")?;
        self.sockets.remove(id)
    }

    /// Takes a socket back after its [`Notice::Removed`] or [`Notice::Failed`].
    ///
    /// # Errors
    ///
    /// As [`Running::reclaim`].
    pub fn reclaim(&mut self, id: SocketId) -> Result<Reclaimed> {
        self.stop.require_home("reclaim a socket")?;
        self.sockets.reclaim(id)
    }

    /// What became of a socket's datagrams, including those of the current event. `None`: the engine has no such
    /// socket.
    pub fn statistics(&self, id: SocketId) -> Option<Statistics> {
        self.sockets.get(id).map(|entry| entry.statistics)
    }

    /// Lends a socket, for options, memberships and sending. [`Socket::recv`] on it is an error, because the engine
    /// receives from it. `None`: the engine has no such socket.
    pub fn socket(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(id).map(|entry| &entry.socket)
    }

    /// Stops the engine, like its [`StopHandle`]: [`Running::run`] delivers what is queued and returns `None`.
    pub fn stop(&self) {
        self.stop.stop();
    }
}
