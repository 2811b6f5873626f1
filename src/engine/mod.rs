//! The engine: receives from many sockets in one loop, and counts every datagram. This file builds an engine;
//! `running.rs` runs it.

mod add_error;
mod backend;
mod completion;
mod control;
mod delivery;
mod ending;
mod entry;
mod event;
mod loss;
mod options;
mod receive;
mod reclaimed;
mod recvmmsg;
mod replay;
mod retry;
mod running;
#[cfg(test)]
mod scripted;
#[cfg(any(test, fuzzing))]
pub(crate) mod simulated;
mod sockets;
mod stop;
#[cfg(feature = "io-uring")]
mod uring;
mod wait;

use std::fmt;

pub use add_error::AddError;
pub use backend::Backend;
pub use control::Control;
pub use ending::Finished;
pub use event::{Event, Missing, Notice, SocketId, Turn};
pub use loss::{Loss, Statistics};
pub use options::AddOptions;
pub use reclaimed::Reclaimed;
pub use replay::Replay;
pub use running::Running;
pub use stop::StopHandle;
pub use wait::Wait;

use crate::error::Result;
use crate::socket::Socket;
use backend::Choice;
use sockets::Sockets;

/// Receives from many sockets. It can be built on any thread, and is [`start`](Self::start)ed on the thread that runs
/// it.
///
/// # Fork
///
/// An engine belongs to the process that built it. After fork(2) or daemon(3) each call in the child is an error of
/// kind [`ErrorKind::Forked`](crate::ErrorKind::Forked), and the parent's engine continues undisturbed. The child may
/// drop its copy, which closes its descriptors, or take over the sockets with
/// [`Running::discard`](crate::Running::discard). A program that daemonizes must build its engine afterwards.
///
/// This holds for every backend. A child does not inherit a ring's queues, and the ring's receives write into the
/// parent's memory. If two processes received from one socket, each would get some of its datagrams and count all of
/// its drops.
///
/// ```
/// use std::ops::ControlFlow;
/// use nlring::{Engine, Event, MessageBuilder, Protocol, Socket};
/// use nlring::message::flags;
///
/// let socket = Socket::builder(Protocol::ROUTE).open()?;
/// let mut request = Vec::new();
/// MessageBuilder::new(&mut request, 18 /* RTM_GETLINK */, flags::REQUEST | flags::DUMP)
///     .bytes(&[0; 16])
///     .finish()?;
/// socket.send(&request)?;
///
/// let mut engine = Engine::builder().build()?;
/// engine.add(socket)?;
/// let first = engine.start()?.run(|event, _control| match event {
///     Event::Messages(_, list) => {
///         let message = list.iter().next().expect("a list holds a message");
///         ControlFlow::Break(message.message_type())
///     }
///     Event::Lost(socket, loss) => panic!("{} datagrams lost on {socket}", loss.count),
///     Event::Notice(socket, notice) => panic!("{socket}: {notice}"),
/// })?;
/// assert_eq!(first, Some(16 /* RTM_NEWLINK */));
/// # Ok::<(), nlring::Error>(())
/// ```
pub struct Engine {
    choice: Choice,
    sockets: Sockets,
    stop: StopHandle,
    wait: Wait,
}

impl Engine {
    /// A builder with the default settings.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Adds a socket with the default options. Turns on `NETLINK_NO_ENOBUFS`: the engine counts losses and reports them
    /// as [`Event::Lost`], and the kernel continues to send to the socket after an overrun.
    ///
    /// # Errors
    ///
    /// - The descriptor is not a netlink socket, or the kernel cannot count drops (before Linux 4.12).
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): the engine already has this socket under another
    ///   descriptor (`dup(2)`). Datagrams would be divided between the two and lose their order.
    /// - [`ErrorKind::Forked`](crate::ErrorKind::Forked): another process built the engine, see [Fork](Self#fork).
    ///
    /// The error returns the socket.
    pub fn add(&mut self, socket: Socket) -> Result<SocketId, AddError> {
        self.add_with(socket, AddOptions::default())
    }

    /// Adds a socket with options.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add), and [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): an option is out of
    /// range. The error returns the socket.
    pub fn add_with(&mut self, socket: Socket, options: AddOptions) -> Result<SocketId, AddError> {
        if let Err(error) = self.stop.require_home("add a socket") {
            return Err(AddError::new(socket, error));
        }
        self.sockets.insert(socket, options)
    }

    /// The backend in use. [`Backend::Auto`] only with a [`Replay`].
    pub fn backend(&self) -> Backend {
        self.choice.backend
    }

    /// Why this backend was chosen: what prevents a better one, and what to do about it.
    pub fn backend_reason(&self) -> &str {
        &self.choice.reason
    }

    /// A handle that stops this engine from another thread or a signal handler.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Arms all receives. From now on the engine belongs to this thread.
    ///
    /// # Errors
    ///
    /// - The ring cannot be enabled.
    /// - [`ErrorKind::Forked`](crate::ErrorKind::Forked): another process built the engine.
    ///
    /// A socket that cannot be armed is reported as [`Notice::Failed`] instead.
    pub fn start(self) -> Result<Running> {
        self.stop.require_home("start the engine")?;
        Running::start(self.choice, self.sockets, self.stop, self.wait)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("backend", &self.choice.backend)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

/// Builds an [`Engine`].
///
/// ```
/// use nlring::{Backend, Engine, Wait};
///
/// let engine = Engine::builder()
///     .backend(Backend::Recvmmsg)
///     .wait(Wait::Prompt)
///     .pollable(true)
///     .build()?;
/// assert_eq!(engine.backend(), Backend::Recvmmsg);
/// assert_eq!(engine.backend_reason(), "asked for");
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder builds nothing until `build`"]
pub struct EngineBuilder {
    backend: Backend,
    wait: Wait,
    pollable: bool,
    completion_entries: u32,
    replay: Option<Replay>,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            wait: Wait::Auto,
            pollable: false,
            completion_entries: 4096,
            replay: None,
        }
    }
}

impl EngineBuilder {
    /// How the engine receives; [`Backend::Auto`] by default.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// How the engine waits; [`Wait::Auto`] by default.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Makes [`Running::pollable_fd`] available, for epoll or an async runtime.
    pub fn pollable(mut self, on: bool) -> Self {
        self.pollable = on;
        self
    }

    /// How many completions the ring's queue holds, at least 1; 4096 by default. The kernel rounds this up to a power
    /// of two, and limits it to 65,536. A full queue costs time but loses no datagram. `Recvmmsg` has no such queue.
    pub fn completion_entries(mut self, entries: u32) -> Self {
        self.completion_entries = entries;
        self
    }

    /// Delivers this script instead of the kernel's datagrams, to test a callback. The engine then ignores the other
    /// settings, and has no [`Running::pollable_fd`].
    pub fn replay(mut self, script: Replay) -> Self {
        self.replay = Some(script);
        self
    }

    /// Builds the engine: tries the backends, and sets up the ring.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): a size or depth is out of range.
    /// - [`ErrorKind::PermissionDenied`](crate::ErrorKind::PermissionDenied) or
    ///   [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): the requested backend does not work here. The text
    ///   says why, and what to do. `Auto` finds a backend on every Linux.
    pub fn build(&self) -> Result<Engine> {
        Ok(Engine {
            choice: match &self.replay {
                Some(script) => script.clone().into_choice(),
                None => backend::choose(self.backend, self.completion_entries, self.pollable)?,
            },
            sockets: Sockets::new(),
            stop: StopHandle::new()?,
            wait: self.wait,
        })
    }
}
