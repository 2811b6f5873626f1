//! `Receiver`: batches of events for Python.
//!
//! The engine's callback and Python's iterator meet in `live.rs`: each step of the iterator takes turns of the engine,
//! whose callback collects rows, until there is a batch to hand out. There is no thread in between, and no queue that
//! grows: while Python works on a batch, datagrams wait in the socket's receive buffer.

mod batch;
mod flow;
mod gap;
mod json;
mod live;
mod options;
mod route;
mod rows;
mod statistics;

use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nlring::StopHandle;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;

pub use batch::{Flows, Messages, Routes};
pub use flow::{Flow, Tuple};
pub use gap::Gap;
pub use route::Route;
pub use statistics::Statistics;

use crate::error::to_python;
use live::{Failure, Item, Shared, Step};
use options::{Arguments, GroupArgument, Opened, SourceArgument, WaitArgument, seconds};

/// The longest wait until Python may handle a signal. A signal usually ends a wait at once, but one that comes just
/// before the wait, or to another thread, does not.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Receives events of one netlink socket in batches, and reports every loss in its place.
///
/// `for item in receiver` yields batches, and a `Gap` wherever something is missing. `async for` does the same in an
/// event loop of asyncio. The interpreter lock is released while it waits and decodes.
///
/// - `source`: `"conntrack"`, `"route"`, or the number of a netlink protocol.
/// - `groups`: what to receive, by name or number. The default is `"new"`, `"update"` and `"destroy"` of conntrack,
///   `"ipv4-route"`, `"ipv6-route"` and `"mpls-route"` of route.
/// - `batches`: what a batch is. `"decoded"` (the default): `Flows` or `Routes`. `"columns"`: `Columns`, for pyarrow,
///   polars and others. `"messages"` (the default of other protocols): `Messages`, as the kernel sent them.
/// - `filter`: a text such as `"proto tcp and dport 443"`. The kernel does not send other events.
/// - `wait`: `"auto"` wakes at once when events are rare, and gathers for up to 1 ms under load. `"prompt"` never
///   gathers, `"spin"` fully occupies a core, and a number gathers for that many seconds.
/// - `recv_buffer_bytes`: the receive buffer to request. The attribute of this name is what the kernel granted: twice
///   this size, or less if `recv_buffer_is_clamped`.
/// - `batch_rows`, `batch_seconds`: a batch is handed out when it has this many rows, or its first row is this old. By
///   default it is handed out at once. Columns are cheaper in large batches.
/// - `timeout`: if no batch arrives within this many seconds, the iteration raises TimeoutError. It can be continued.
/// - `netns`: a network namespace, by its name in `ip netns` or by a path such as `/proc/1234/ns/net`.
/// - `backend`: `"auto"`, `"multishot"`, `"oneshot"` or `"recvmmsg"`.
/// - `reliable`: conntrack keeps DESTROY events that did not fit, and sends them later.
///
/// A receiver belongs to the thread that receives its first batch. Asking for a batch in another thread raises
/// RuntimeError; `stop()`, `close()`, `timeout` and `statistics` work in all threads. In a forked child every call
/// raises OSError.
///
/// Raises ValueError for arguments that cannot be used, PermissionError without `CAP_NET_ADMIN` (conntrack only), and
/// OSError for other failures of the system.
#[pyclass(frozen, weakref, module = "nlring")]
pub struct Receiver {
    state: Mutex<State>,
    shared: Arc<Shared>,
    timeout: Mutex<Option<Duration>>,
    /// The process that made the receiver.
    process_id: u32,
    recv_buffer_bytes: usize,
    recv_buffer_is_clamped: bool,
}

enum State {
    /// The socket listens. The first thread that receives starts the engine.
    Ready(Box<Opened>),
    Started(Started),
    Ended,
}

#[derive(Clone)]
struct Started {
    thread: ThreadId,
    number: u64,
    stop: StopHandle,
}

#[pymethods]
impl Receiver {
    #[new]
    #[pyo3(signature = (
        source, groups=None, *, batches=None, filter=None, wait=WaitArgument::Name("auto".into()),
        recv_buffer_bytes=8 << 20, batch_rows=65_536, batch_seconds=0.0, timeout=None, netns=None, backend="auto",
        reliable=false
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        source: SourceArgument,
        groups: Option<Vec<GroupArgument>>,
        batches: Option<&str>,
        filter: Option<&str>,
        wait: WaitArgument,
        recv_buffer_bytes: usize,
        batch_rows: usize,
        batch_seconds: f64,
        timeout: Option<f64>,
        netns: Option<&str>,
        backend: &str,
        reliable: bool,
    ) -> PyResult<Self> {
        let timeout = timeout
            .map(|timeout| seconds("timeout", timeout))
            .transpose()?;
        let arguments = Arguments {
            source,
            groups,
            batches,
            filter,
            wait,
            recv_buffer_bytes,
            batch_rows,
            batch_seconds,
            netns,
            backend,
            reliable,
        };
        let opened = py.detach(|| arguments.open())?;
        let buffer = opened
            .socket
            .recv_buffer()
            .map_err(|error| to_python(&error))?;
        Ok(Self {
            state: Mutex::new(State::Ready(Box::new(opened))),
            shared: Arc::default(),
            timeout: Mutex::new(timeout),
            process_id: std::process::id(),
            recv_buffer_bytes: buffer.granted_bytes,
            recv_buffer_is_clamped: buffer.is_clamped(),
        })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// The next batch or gap. Waits for it.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let timeout = *lock(&self.timeout);
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let patience = left.map_or(SIGNAL_INTERVAL, |left| left.min(SIGNAL_INTERVAL));
            match self.step(py, false, patience)? {
                Step::Item(item) => return into_python(py, item).map(Some),
                Step::End => return Ok(None),
                Step::Nothing if left.is_some_and(|left| left.is_zero()) => {
                    return Err(PyTimeoutError::new_err("no event came in time"));
                }
                Step::Nothing => py.check_signals()?,
            }
        }
    }

    /// The next batch or gap that has already arrived. None: there is none.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.step(py, false, Duration::ZERO)? {
            Step::Item(item) => into_python(py, item).map(Some),
            Step::Nothing | Step::End => Ok(None),
        }
    }

    /// A descriptor for an event loop: when it is readable, call `poll()` until it returns None.
    ///
    /// Call it before the first batch is received, in the thread that receives.
    fn fileno(&self) -> PyResult<RawFd> {
        let number = self.started(true)?.ok_or_else(closed)?.number;
        match live::with(number, |live| live.fileno()).flatten() {
            Some(fd) => Ok(fd),
            None if self.has_ended() => Err(closed()),
            None => Err(PyValueError::new_err(
                "the receiver was started without a descriptor: call fileno() before the first batch is received",
            )),
        }
    }

    /// Ends the iteration from any thread, or from a signal handler: the receiver leaves its groups, hands out what is
    /// queued, for up to a second, and then stops.
    fn stop(&self) {
        let mut state = lock(&self.state);
        match &*state {
            State::Ready(_) => *state = State::Ended,
            State::Started(started) => started.stop.stop(),
            State::Ended => {}
        }
    }

    /// Closes the socket. Queued events are counted as unread, and not handed out.
    ///
    /// In a thread other than the one that receives, it does the same as `stop()`: the receiving thread closes the
    /// socket.
    fn close(&self, py: Python<'_>) {
        let mut state = lock(&self.state);
        match &*state {
            State::Started(started) if started.thread != thread::current().id() => {
                started.stop.stop();
            }
            State::Started(started) => {
                let number = started.number;
                *state = State::Ended;
                drop(state);
                py.detach(|| {
                    if let Some(mut live) = live::remove(number) {
                        live.discard();
                    }
                });
            }
            _ => *state = State::Ended,
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let module = slf.py().import("nlring._aio")?;
        module.call_method1("items", (slf,))
    }

    /// The longest wait of the next batches in seconds, after which they raise `TimeoutError`. None: without limit.
    #[getter]
    fn timeout(&self) -> Option<f64> {
        lock(&self.timeout).map(|timeout| timeout.as_secs_f64())
    }

    #[setter]
    fn set_timeout(&self, timeout: Option<f64>) -> PyResult<()> {
        *lock(&self.timeout) = timeout
            .map(|timeout| seconds("timeout", timeout))
            .transpose()?;
        Ok(())
    }

    /// Whether it has ended: it was closed, or stopped and has handed out everything.
    #[getter]
    fn closed(&self) -> bool {
        self.has_ended()
    }

    /// What became of the datagrams, as of the last batch.
    #[getter]
    fn statistics(&self) -> Statistics {
        self.shared.counts().into()
    }

    /// The size of the receive buffer that the kernel granted, in bytes.
    #[getter]
    fn recv_buffer_bytes(&self) -> usize {
        self.recv_buffer_bytes
    }

    /// Whether the kernel granted less than was requested: `net.core.rmem_max` limits it without `CAP_NET_ADMIN`.
    #[getter]
    fn recv_buffer_is_clamped(&self) -> bool {
        self.recv_buffer_is_clamped
    }

    /// How it receives: `"multishot"`, `"oneshot:32"` or `"recvmmsg"`. None before the first batch, and in threads
    /// other than the one that receives.
    #[getter]
    fn backend(&self) -> Option<String> {
        self.ask(|live| live.backend()).map(|(name, _)| name)
    }

    /// Why this backend was chosen: what prevents a better one, and what to do about it.
    #[getter]
    fn backend_reason(&self) -> Option<String> {
        self.ask(|live| live.backend()).map(|(_, reason)| reason)
    }

    /// How long it gathers events under load, in seconds. None: it does not, or as for `backend`.
    #[getter]
    fn longest_delay(&self) -> Option<f64> {
        self.ask(|live| live.longest_delay())
            .map(|delay| delay.as_secs_f64())
    }

    /// How long the batch that is being collected may still grow, in seconds: an event loop must call `poll()` by then.
    /// None: nothing has been collected, or as for `backend`.
    #[getter]
    fn batch_left(&self) -> Option<f64> {
        self.ask(|live| live.batch_left())
            .map(|left| left.as_secs_f64())
    }

    fn __repr__(&self) -> &'static str {
        match &*lock(&self.state) {
            State::Ready(_) => "<Receiver: not started>",
            State::Started(_) => "<Receiver: receiving>",
            State::Ended => "<Receiver: closed>",
        }
    }
}

impl Receiver {
    /// Takes turns of the engine until there is an item, for at most this time.
    fn step(&self, py: Python<'_>, pollable: bool, patience: Duration) -> PyResult<Step> {
        let Some(started) = self.started(pollable)? else {
            return Ok(Step::End);
        };
        match py.detach(|| live::with(started.number, |live| live.step(patience))) {
            Some(Ok(Step::End)) | None => {
                self.end(started.number);
                Ok(Step::End)
            }
            Some(Ok(step)) => Ok(step),
            Some(Err(failure)) => Err(raise(&failure)),
        }
    }

    /// The engine, which this thread starts if no thread has. None: it has ended.
    fn started(&self, pollable: bool) -> PyResult<Option<Started>> {
        if std::process::id() != self.process_id {
            return Err(PyOSError::new_err((
                Errno::EBADF as i32,
                "this process was forked after the receiver was made, which stays with the parent: make a receiver in \
                 the child",
            )));
        }
        let mut state = lock(&self.state);
        match &*state {
            State::Ended => return Ok(None),
            State::Started(started) if started.thread == thread::current().id() => {
                return Ok(Some(started.clone()));
            }
            State::Started(_) => {
                return Err(PyRuntimeError::new_err(
                    "another thread receives from this receiver, and it belongs to that thread: make a receiver in \
                     each thread",
                ));
            }
            State::Ready(_) => {}
        }
        let State::Ready(opened) = std::mem::replace(&mut *state, State::Ended) else {
            return Ok(None);
        };
        let started =
            start(*opened, pollable, Arc::clone(&self.shared)).map_err(|it| raise(&it))?;
        *state = State::Started(started.clone());
        Ok(Some(started))
    }

    /// Asks the engine, if it is this thread's.
    fn ask<R>(&self, question: impl FnOnce(&mut live::Live) -> Option<R>) -> Option<R> {
        let number = match &*lock(&self.state) {
            State::Started(started) if started.thread == thread::current().id() => started.number,
            _ => return None,
        };
        live::with(number, question).flatten()
    }

    fn has_ended(&self) -> bool {
        matches!(*lock(&self.state), State::Ended)
    }

    fn end(&self, number: u64) {
        *lock(&self.state) = State::Ended;
        drop(live::remove(number));
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let State::Started(started) = &*lock(&self.state) else {
            return;
        };
        if started.thread == thread::current().id() {
            drop(live::remove(started.number));
        } else {
            self.shared.is_abandoned.store(true, Ordering::Relaxed);
            started.stop.stop();
        }
    }
}

fn start(opened: Opened, pollable: bool, shared: Arc<Shared>) -> Result<Started, Failure> {
    let mut engine = opened.engine.pollable(pollable).build()?;
    let stop = engine.stop_handle();
    let socket = engine.add(opened.socket).map_err(nlring::Error::from)?;
    let number = live::start(engine, socket, opened.rows, opened.limits, shared)?;
    let thread = thread::current().id();
    Ok(Started {
        thread,
        number,
        stop,
    })
}

fn into_python(py: Python<'_>, item: Item) -> PyResult<Py<PyAny>> {
    match item {
        Item::Batch(batch) => batch.into_python(py),
        Item::Gap(gap) => Ok(Py::new(py, gap)?.into_any()),
    }
}

fn raise(failure: &Failure) -> PyErr {
    match failure {
        Failure::Engine(error) => to_python(error),
        Failure::Columns(error) => PyRuntimeError::new_err(error.to_string()),
    }
}

fn closed() -> PyErr {
    PyValueError::new_err("the receiver is closed")
}

/// Nothing can panic while it holds a lock, so a poisoned one is as good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
