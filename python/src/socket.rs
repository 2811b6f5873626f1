//! A netlink socket that several threads of Python may share.

use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nlring::sockopt::{ADD_MEMBERSHIP, DROP_MEMBERSHIP, SOL_NETLINK};
use nlring::{ErrorKind, Protocol, RecvFlags};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{system, to_python};

/// The largest buffer of one receive. No netlink datagram is larger unless a process with CAP_NET_ADMIN has asked for a
/// larger send buffer than this.
const MAX_RECV_BYTES: usize = 16 << 20;
/// As Python's socket module limits the values of options.
const MAX_OPTION_BYTES: usize = 1024;
/// How often a wait in a forked child looks whether the socket was closed.
const FORKED_SLICE: Duration = Duration::from_millis(100);

/// A netlink socket. Closing it ends the calls of `recv` that wait in other threads.
///
/// This is what `nlring.nlsocket.Socket` is built on.
#[pyclass(frozen, module = "nlring._nlring")]
pub struct Socket {
    /// None: it is closed.
    open: Mutex<Option<Arc<Open>>>,
}

/// A socket that is open, or that a call still uses.
struct Open {
    socket: nlring::Socket,
    is_closing: AtomicBool,
    /// Wakes the calls that wait when the socket is closed. A child that is forked leaves it to its parent.
    wake: EventFd,
    /// The process that opened the socket.
    owner: u32,
}

/// Why a wait has ended.
enum Awake {
    Readable,
    TimedOut,
    Interrupted,
}

#[pymethods]
impl Socket {
    #[new]
    fn new(protocol: i32) -> PyResult<Self> {
        let socket = nlring::Socket::open(Protocol::from_number(protocol))
            .map_err(|error| to_python(&error))?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_value_and_flags(0, flags)
            .map_err(|errno| system("open a netlink socket", errno))?;
        Ok(Self {
            open: Mutex::new(Some(Arc::new(Open {
                socket,
                is_closing: AtomicBool::new(false),
                wake,
                owner: process::id(),
            }))),
        })
    }

    /// Binds the socket to a port ID (0: the kernel chooses one) and joins the groups of a mask.
    fn bind(&self, port_id: u32, groups_mask: u32) -> PyResult<()> {
        let open = self.open()?;
        (open.socket.bind(port_id, groups_mask)).map_err(|error| to_python(&error))
    }

    /// The port ID, which is 0 until the socket is bound.
    fn port_id(&self) -> PyResult<u32> {
        (self.open()?.socket.port_id()).map_err(|error| to_python(&error))
    }

    /// The groups 1 to 32 that the socket is in: bit 0 is group 1.
    fn groups_mask(&self) -> PyResult<u32> {
        let groups = (self.open()?.socket.groups()).map_err(|error| to_python(&error))?;
        let bits = groups.iter().filter(|group| (1..=32).contains(*group));
        Ok(bits.fold(0, |mask, group| mask | 1 << (group - 1)))
    }

    /// Sends a datagram to the kernel, and returns its size in bytes.
    fn send(&self, py: Python<'_>, datagram: &[u8]) -> PyResult<usize> {
        let open = self.open()?;
        loop {
            match py.detach(|| open.socket.send(datagram)) {
                Ok(sent_bytes) => return Ok(sent_bytes),
                Err(error) if is_interrupted(&error) => py.check_signals()?,
                Err(error) => return Err(to_python(&error)),
            }
        }
    }

    /// Receives one datagram. Waits for it at most `timeout` seconds (None: without a limit), and not at all if
    /// `timeout` is 0 or `flags` has MSG_DONTWAIT. A signal is handled while the call waits.
    #[pyo3(signature = (bufsize, flags=0, timeout=None))]
    fn recv<'py>(
        &self,
        py: Python<'py>,
        bufsize: isize,
        flags: i32,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let open = self.open()?;
        let mut buffer = buffer(bufsize)?;
        let must_wait = flags & libc::MSG_DONTWAIT == 0 && timeout != Some(0.0);
        let deadline = deadline(timeout)?;
        loop {
            match py.detach(|| open.receive(&mut buffer, flags)) {
                Ok(length) => {
                    return Ok(PyBytes::new(py, buffer.get(..length).unwrap_or_default()));
                }
                Err(error) if is_interrupted(&error) => py.check_signals()?,
                Err(error) if error.kind() == ErrorKind::WouldBlock && must_wait => {
                    match py.detach(|| open.wait(deadline))? {
                        Awake::Readable => {}
                        Awake::Interrupted => py.check_signals()?,
                        Awake::TimedOut => return Err(PyTimeoutError::new_err("timed out")),
                    }
                }
                Err(error) => return Err(to_python(&error)),
            }
        }
    }

    /// Sets one of netlink's options to a number or to bytes.
    fn set_option(&self, name: i32, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let open = self.open()?;
        let set = if let Ok(bytes) = value.cast::<PyBytes>() {
            open.socket.set_option(SOL_NETLINK, name, bytes.as_bytes())
        } else {
            let number: i32 = value.extract()?;
            match name {
                // Their errors name the remedy.
                ADD_MEMBERSHIP => open.socket.add_membership(number.cast_unsigned()),
                DROP_MEMBERSHIP => open.socket.drop_membership(number.cast_unsigned()),
                _ => open
                    .socket
                    .set_option(SOL_NETLINK, name, &number.to_ne_bytes()),
            }
        };
        set.map_err(|error| to_python(&error))
    }

    /// The value of one of netlink's options: a number, or up to `buflen` bytes if that is not 0.
    #[pyo3(signature = (name, buflen=0))]
    fn option<'py>(
        &self,
        py: Python<'py>,
        name: i32,
        buflen: isize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let open = self.open()?;
        let read = |value: &mut [u8]| {
            let option = open.socket.option(SOL_NETLINK, name, value);
            option.map_err(|error| to_python(&error))
        };
        if buflen == 0 {
            let mut number = [0; 4];
            read(&mut number)?;
            return Ok(i32::from_ne_bytes(number).into_pyobject(py)?.into_any());
        }
        let mut value = [0; MAX_OPTION_BYTES];
        let value = usize::try_from(buflen)
            .ok()
            .and_then(|length| value.get_mut(..length));
        let value = value.ok_or_else(|| PyOSError::new_err("getsockopt buflen out of range"))?;
        let length = read(value)?.min(value.len());
        Ok(PyBytes::new(py, &value[..length]).into_any())
    }

    /// The number of the descriptor, or -1 if the socket is closed.
    fn fileno(&self) -> i32 {
        self.open().map_or(-1, |open| open.socket.as_raw_fd())
    }

    /// A duplicate of the descriptor, which the caller must close.
    fn duplicate(&self) -> PyResult<i32> {
        let duplicate = self.open()?.socket.as_fd().try_clone_to_owned();
        Ok(duplicate.map_err(PyErr::from)?.into_raw_fd())
    }

    /// Closes the socket. A call that waits in another thread ends with an OSError (EBADF). A second close does
    /// nothing.
    fn close(&self) {
        let closed = self.lock().take();
        if let Some(open) = closed {
            open.is_closing.store(true, Ordering::Release);
            if open.is_owned() {
                let _ = open.wake.write(1); // it fails if the counter is full, and then wakes all the same
            }
        }
    }
}

impl Socket {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> PyResult<Arc<Open>> {
        let open = self.lock().clone();
        open.ok_or_else(|| system("use a netlink socket that is closed", Errno::EBADF))
    }
}

impl Open {
    /// Whether `wake` is of this process. If a child used it too, each process could take the other one's wake-up.
    fn is_owned(&self) -> bool {
        self.owner == process::id()
    }

    /// Receives a datagram if there is one, and returns its size in bytes.
    fn receive(&self, buffer: &mut [u8], flags: i32) -> nlring::Result<usize> {
        let flags = RecvFlags::from_bits(flags) | RecvFlags::DONT_WAIT;
        let list = self.socket.recv(buffer, flags)?;
        Ok(list
            .datagrams()
            .first()
            .map_or(0, |datagram| datagram.bytes().len()))
    }

    /// Waits until there is something to receive, at most to the deadline.
    fn wait(&self, deadline: Option<Instant>) -> PyResult<Awake> {
        loop {
            if self.is_closing.load(Ordering::Acquire) {
                return Err(system(
                    "receive from a socket that another thread closed",
                    Errno::EBADF,
                ));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let mut polled = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            ];
            let polled_now = if self.is_owned() {
                poll(&mut polled, poll_timeout(left))
            } else {
                let slice = left.map_or(FORKED_SLICE, |left| left.min(FORKED_SLICE));
                poll(&mut polled[..1], poll_timeout(Some(slice)))
            };
            match polled_now {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(Awake::TimedOut),
                Ok(_) if polled[0].any().unwrap_or(true) => return Ok(Awake::Readable),
                Ok(_) => {}
                Err(Errno::EINTR) => return Ok(Awake::Interrupted),
                Err(errno) => return Err(system("wait for a netlink datagram", errno)),
            }
        }
    }
}

fn is_interrupted(error: &nlring::Error) -> bool {
    error.raw_os_error() == Some(libc::EINTR)
}

/// A buffer of this size, but of at most [`MAX_RECV_BYTES`].
fn buffer(bufsize: isize) -> PyResult<Vec<u8>> {
    let bytes = usize::try_from(bufsize)
        .map_err(|_| PyValueError::new_err("negative buffersize in recv"))?
        .min(MAX_RECV_BYTES);
    let mut buffer = Vec::new();
    (buffer.try_reserve_exact(bytes)).map_err(|error| PyMemoryError::new_err(error.to_string()))?;
    buffer.resize(bytes, 0);
    Ok(buffer)
}

/// When a time-out in seconds is over. None: never.
fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else {
        return Ok(None);
    };
    let timeout = Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(format!("timeout: {error}")))?;
    Ok(Instant::now().checked_add(timeout))
}

/// The time-out of poll(2) in whole milliseconds, rounded up so that a wait does not end before its time.
fn poll_timeout(left: Option<Duration>) -> PollTimeout {
    let Some(left) = left else {
        return PollTimeout::NONE;
    };
    let millis = left.as_nanos().div_ceil(1_000_000);
    i32::try_from(millis).map_or(PollTimeout::MAX, |millis| {
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    })
}
