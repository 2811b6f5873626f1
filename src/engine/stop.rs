//! Stops an engine from another thread or a signal handler.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::event::EventFd;

/// Stops an [`Engine`](crate::Engine), or ends the waits of a [`Requester`](crate::Requester), from another thread or
/// from a signal handler.
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
/// A handle belongs to the process that created it. In a forked child, [`stop`](Self::stop) ends no wait, neither the
/// parent's nor the child's. Create a new handle after fork(2) or daemon(3).
#[derive(Clone, Debug)]
pub struct StopHandle(Arc<Stop>);

#[derive(Debug)]
struct Stop {
    requested: AtomicBool,
    event: EventFd,
}

impl StopHandle {
    /// A handle for [`Requester::set_stop`](crate::Requester::set_stop). For an engine, use
    /// [`Engine::stop_handle`](crate::Engine::stop_handle).
    ///
    /// # Errors
    ///
    /// The process or the system has no descriptor left (`EMFILE`, `ENFILE`).
    pub fn new() -> Result<Self> {
        let event =
            EventFd::new().map_err(|error| Error::system("make an eventfd to stop by", error))?;
        Ok(Self(Arc::new(Stop {
            requested: AtomicBool::new(false),
            event,
        })))
    }

    /// Tells the engine or the requester to stop; its wait ends at once. This cannot be undone, and a second call has
    /// no effect. Safe in a signal handler.
    pub fn stop(&self) {
        self.0.requested.store(true, Ordering::Release);
        self.0.event.signal();
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        self.0.requested.load(Ordering::Acquire)
    }

    /// An error in a fork of the process that built the engine.
    pub(super) fn require_home(&self, operation: &'static str) -> Result<()> {
        if self.0.event.home().is_here() {
            Ok(())
        } else {
            Err(Error::with_kind(operation, ErrorKind::Forked))
        }
    }
}

/// The descriptor is readable after [`stop`](StopHandle::stop).
impl AsFd for StopHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
