//! What an error of nlring is in Python: the exception that a user of Python's own sockets expects.

use nix::errno::Errno;
use nlring::ErrorKind;
use pyo3::PyErr;
use pyo3::exceptions::{PyOSError, PyTimeoutError, PyValueError};

/// `ValueError` for an argument that cannot be used, `TimeoutError` for a time-out, and otherwise an `OSError` with an
/// errno, which Python turns into its subclass (`PermissionError`, `BlockingIOError` and others).
pub fn to_python(error: &nlring::Error) -> PyErr {
    let text = error.to_string();
    let errno = match (error.raw_os_error(), error.kind()) {
        (Some(errno), _) => errno,
        (None, ErrorKind::InvalidInput | ErrorKind::NoSuchSocket) => {
            return PyValueError::new_err(text);
        }
        (None, ErrorKind::TimedOut) => return PyTimeoutError::new_err(text),
        (None, ErrorKind::Truncated { .. } | ErrorKind::EntryTooLarge) => Errno::EMSGSIZE as i32,
        (None, ErrorKind::Unsupported) => Errno::ENOPROTOOPT as i32,
        (None, ErrorKind::Overrun) => Errno::ENOBUFS as i32,
        (None, ErrorKind::WouldBlock) => Errno::EAGAIN as i32,
        (None, ErrorKind::PermissionDenied) => Errno::EPERM as i32,
        (None, ErrorKind::NotFound) => Errno::ENOENT as i32,
        (None, ErrorKind::Stopped) => Errno::ECANCELED as i32,
        (None, ErrorKind::Forked) => Errno::EBADF as i32,
        (None, _) => Errno::EBADMSG as i32, // such as an unexpected reply
    };
    PyOSError::new_err((errno, text))
}

/// An `OSError` of a system call, with what was being done.
pub fn system(operation: &str, errno: Errno) -> PyErr {
    PyOSError::new_err((errno as i32, format!("{operation}: {}", errno.desc())))
}
