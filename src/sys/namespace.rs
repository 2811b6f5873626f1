//! Network namespaces: the kind of a descriptor, and work inside another namespace.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic;
use std::thread;

/// The kind of namespace of a descriptor, as a flag of clone(2) such as `CLONE_NEWNET`. None: the descriptor is not a
/// namespace's. Available since Linux 4.11.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> io::Result<Option<libc::c_int>> {
    // SAFETY: NS_GET_NSTYPE takes no argument and accesses no memory of this process (ioctl_ns(2)).
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) };
    if kind >= 0 {
        return Ok(Some(kind));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOTTY) => Ok(None),
        error => Err(error),
    }
}

/// Why nothing was done inside a namespace.
#[derive(Debug)]
pub(crate) enum NotInside {
    /// No thread could be started.
    Thread(io::Error),
    /// The thread could not enter the namespace.
    Entry(io::Error),
}

/// Calls `work` on a separate thread inside a network namespace, and waits for it. The calling thread never leaves its
/// namespace, so it cannot fail to return.
///
/// If `work` panics, the panic continues on the calling thread.
pub(crate) fn run_in<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NotInside> {
    thread::scope(|scope| {
        let inside = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || {
                enter(namespace).map_err(NotInside::Entry)?;
                Ok(work())
            })
            .map_err(NotInside::Thread)?;
        inside
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// Moves the calling thread into a network namespace.
fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: setns(2) takes two numbers and accesses no memory of this process. It changes which network the system
    // calls of this thread see; no memory and no descriptor depends on that.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;
    use std::path::PathBuf;

    fn own() -> PathBuf {
        fs::read_link("/proc/thread-self/ns/net").unwrap()
    }

    /// A namespace that differs from this thread's.
    fn other() -> File {
        thread::spawn(|| {
            nlring_testing::own_namespace();
            File::open("/proc/thread-self/ns/net").unwrap()
        })
        .join()
        .unwrap()
    }

    #[test]
    fn work_is_done_inside_and_the_caller_stays_also_after_a_panic() {
        let (before, other) = (own(), other());
        let inside = run_in(other.as_fd(), own).unwrap();
        assert_ne!(inside, before);
        assert_eq!(own(), before);
        let panicked = panic::catch_unwind(|| run_in(other.as_fd(), || panic!("on purpose")));
        let message = panicked.unwrap_err().downcast::<&str>().unwrap();
        assert_eq!(*message, "on purpose");
        assert_eq!(own(), before);
    }

    #[test]
    fn a_namespace_is_told_from_other_files() {
        let kind_of = |path| kind(File::open(path).unwrap().as_fd()).unwrap();
        assert_eq!(kind_of("/proc/self/ns/net"), Some(libc::CLONE_NEWNET));
        assert_eq!(kind_of("/proc/self/ns/mnt"), Some(libc::CLONE_NEWNS));
        assert_eq!(kind_of("/proc/self/status"), None);
        let file = File::open("/proc/self/ns/mnt").unwrap();
        let refused = run_in(file.as_fd(), || unreachable!());
        assert!(matches!(refused, Err(NotInside::Entry(_))), "{refused:?}");
    }
}
