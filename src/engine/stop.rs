//! Ending an engine from elsewhere.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::event::EventFd;

/// Ends an engine's [`run`](crate::Running::run), or the waits of a [`Requester`](crate::Requester), from another
/// thread or from a signal handler.
///
/// ```
/// use std::ops::ControlFlow;
/// use std::thread;
/// use nlring::{Engine, Protocol, Socket};
///
/// let mut engine = Engine::builder().build()?;
/// engine.add(Socket::open(Protocol::USERSOCK)?)?;
/// let stop = engine.stop_handle();
/// let stopping = thread::spawn(move || stop.stop());
/// let end = engine.start()?.run(|_event, _control| ControlFlow::<()>::Continue(()))?;
/// assert_eq!(end, None, "it was stopped");
/// stopping.join().expect("no panic");
/// # Ok::<(), nlring::Error>(())
/// ```
///
/// A handle belongs to the process that made it. In a fork of that process [`stop`](Self::stop) changes the fork's
/// copy alone, and wakes no wait, neither the parent's nor the fork's: make a handle after fork or daemon.
#[derive(Clone, Debug)]
pub struct StopHandle(Arc<Stop>);

#[derive(Debug)]
struct Stop {
    requested: AtomicBool,
    event: EventFd,
}

impl StopHandle {
    /// A handle that belongs to no engine, for [`Requester::set_stop`](crate::Requester::set_stop). An engine has its
    /// own:
    /// [`Engine::stop_handle`](crate::Engine::stop_handle).
    ///
    /// # Errors
    ///
    /// The process has no descriptor left for it (`EMFILE`, `ENFILE`).
    pub fn new() -> Result<Self> {
        let event =
            EventFd::new().map_err(|error| Error::system("make an eventfd to stop by", error))?;
        Ok(Self(Arc::new(Stop {
            requested: AtomicBool::new(false),
            event,
        })))
    }

    /// Asks for the end. The engine's or the requester's wait ends at once. This cannot be taken back, and asking again
    /// changes nothing. Safe in a signal handler.
    pub fn stop(&self) {
        self.0.requested.store(true, Ordering::Release);
        self.0.event.signal();
    }

    /// Whether the end was asked for.
    pub fn is_stopped(&self) -> bool {
        self.0.requested.load(Ordering::Acquire)
    }

    /// Refuses to go on in a fork of the process that built the engine.
    pub(super) fn require_home(&self, operation: &'static str) -> Result<()> {
        if self.0.event.home().is_here() {
            Ok(())
        } else {
            Err(Error::with_kind(operation, ErrorKind::Forked))
        }
    }
}

/// Readable from the moment of the stop.
impl AsFd for StopHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
