//! Waking and waiting: eventfd(2), ppoll(2) and epoll(7).
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use super::home::Home;

/// An eventfd(2): a counter that is readable while it is not 0.
///
/// A forked child shares the counter with its parent. In the child [`signal`](Self::signal) and [`clear`](Self::clear)
/// have no effect.
#[derive(Debug)]
pub(crate) struct EventFd {
    fd: OwnedFd,
    home: Home,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd(2) takes two numbers and accesses no memory of this process.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made `fd` for this call, so nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let home = Home::new()?;
        Ok(Self { fd, home })
    }

    /// The process that created the counter.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Makes the descriptor readable. Safe in a signal handler.
    pub(crate) fn signal(&self) {
        if !self.home.is_here() {
            return;
        }
        let one = 1u64.to_ne_bytes();
        // SAFETY: the pointer and the length describe `one`, a local that the kernel reads during the call.
        // The call fails only when the counter is full, and then the descriptor is readable already.
        unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes the descriptor unreadable.
    pub(crate) fn clear(&self) {
        if !self.home.is_here() {
            return;
        }
        let mut count = [0u8; 8];
        // SAFETY: the pointer and the length describe `count`, a local that the kernel writes during the call.
        // The call fails only when the counter is 0, and then the descriptor is unreadable already.
        unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A descriptor for [`wait_readable`], as `struct pollfd`.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Readable(libc::pollfd);

impl Readable {
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Self {
        Self(libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
    }

    /// Whether the last wait found the descriptor readable, or with an error.
    pub(crate) fn is_ready(self) -> bool {
        self.0.revents != 0
    }
}

/// Waits until one of `descriptors` is readable or `timeout` has passed. `None`: no limit. A signal ends the wait like
/// a time-out.
pub(crate) fn wait_readable(
    descriptors: &mut [Readable],
    timeout: Option<Duration>,
) -> io::Result<()> {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: i32::try_from(timeout.subsec_nanos())
            .unwrap_or_default() // always fits: below 10^9
            .into(),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let count = libc::nfds_t::try_from(descriptors.len()).unwrap_or(libc::nfds_t::MAX);
    // SAFETY: Readable is a transparent pollfd, so the pointer and the count describe `descriptors`, borrowed for the
    // call. The timespec, if any, is a local that outlives the call. A null signal mask is allowed.
    let ready =
        unsafe { libc::ppoll(descriptors.as_mut_ptr().cast(), count, timeout, ptr::null()) };
    if ready >= 0 {
        return Ok(());
    }
    for descriptor in descriptors {
        descriptor.0.revents = 0;
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

/// An epoll(7) descriptor that is readable while one of its descriptors is, or after
/// [`set_readable`](Self::set_readable).
#[derive(Debug)]
pub(crate) struct Pollable {
    epoll: OwnedFd,
    event: EventFd,
}

impl Pollable {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1(2) takes a number and accesses no memory of this process.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made `fd` for this call, so nothing else owns it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let this = Self {
            epoll,
            event: EventFd::new()?,
        };
        this.add(this.event.as_fd())?;
        Ok(this)
    }

    /// The event behind [`set_readable`](Self::set_readable), which the kernel may signal too.
    #[cfg(feature = "io-uring")]
    pub(crate) fn event(&self) -> &EventFd {
        &self.event
    }

    /// Signals the event, or clears it. The descriptor stays readable while another of its descriptors is.
    pub(crate) fn set_readable(&self, readable: bool) {
        if readable {
            self.event.signal();
        } else {
            self.event.clear();
        }
    }

    pub(crate) fn add(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd)
    }

    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd)
    }

    fn control(&self, operation: libc::c_int, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.event.home().require_here()?; // a forked child shares the list with its parent
        // SAFETY: epoll_event consists of integers, for which all zeroes is a valid value.
        let mut event: libc::epoll_event = unsafe { mem::zeroed() };
        event.events = libc::EPOLLIN.unsigned_abs();
        // SAFETY: the pointer is to `event`, a local that outlives the call.
        let result = unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                operation,
                fd.as_raw_fd(),
                &raw mut event,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl AsFd for Pollable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
