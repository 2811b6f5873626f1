//! Network namespaces other than that of the calling thread.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::namespace as sys;
use crate::sys::namespace::NotInside;

/// Where ip-netns(8) binds namespaces to names.
const NAMES: &str = "/run/netns";
const OPERATION: &str = "open a network namespace";

/// A network namespace, held open.
///
/// [`SocketBuilder::namespace`](crate::SocketBuilder::namespace) and the `open_in` functions, such as
/// [`Requester::open_in`](crate::Requester::open_in), take it to open sockets there. The calling thread stays in its
/// own namespace.
///
/// The namespace exists at least as long as this value, its clones and the sockets that were opened in it, even if its
/// name is deleted and its processes end. Two values are equal if they refer to the same namespace, however it was
/// found.
///
/// Its `Display` says how it was found: `blue`, `/var/run/netns/blue`, `process 1234`, `descriptor 7`.
///
/// ```
/// use nlring::{ErrorKind, Namespace, Protocol, Socket, route};
///
/// let own = Namespace::current()?;
/// assert_eq!(own, Namespace::from_process(std::process::id())?);
/// let socket = Socket::builder(Protocol::ROUTE)
///     .namespace(&own)
///     .group(route::Group::Ipv4Route)
///     .open()?;
/// assert_eq!(socket.namespace(), Some(&own));
///
/// let error = Namespace::from_name("none").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Namespace {
    file: Arc<File>,
    /// What the file is, for comparisons: no two namespaces that exist have the same pair.
    device: u64,
    inode: u64,
    origin: Origin,
}

/// How a namespace was found.
#[derive(Clone, Debug)]
enum Origin {
    Name(String),
    Path(PathBuf),
    Process(u32),
    Descriptor(i32),
    Current,
}

impl Namespace {
    /// The namespace with a name of ip-netns(8): `/run/netns/NAME`.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`]: no namespace has this name, or it has just been deleted.
    /// - [`ErrorKind::InvalidInput`]: the text cannot be a name, or the file of this name is not bound to a namespace.
    ///   The latter happens briefly while `ip` adds or deletes the namespace.
    /// - [`ErrorKind::PermissionDenied`]: the file may not be opened.
    pub fn from_name(name: &str) -> Result<Self> {
        let origin = Origin::Name(name.to_owned());
        if name.is_empty() || name.contains(['/', '\0']) || [".", ".."].contains(&name) {
            let text = format!("{name:?} cannot be the name of a namespace");
            return Err(Error::explained(OPERATION, ErrorKind::InvalidInput, text)
                .with_remedy("a name is that of a file in /run/netns; a namespace elsewhere is opened by its path"));
        }
        Self::open(&Path::new(NAMES).join(name), origin)
    }

    /// The namespace of a file: `/proc/PID/ns/net`, or a file to which mount(8) has bound a namespace.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`]: there is no such file.
    /// - [`ErrorKind::InvalidInput`]: the file is not a namespace's, or the namespace is not a network namespace.
    /// - [`ErrorKind::PermissionDenied`]: the file may not be opened.
    pub fn from_path(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        Self::open(&path, Origin::Path(path.clone()))
    }

    /// The namespace of a process, by its process ID. The process may end after this call.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`]: there is no such process, or it has ended.
    /// - [`ErrorKind::PermissionDenied`]: the process belongs to another user, and the caller lacks `CAP_SYS_PTRACE`.
    pub fn from_process(process_id: u32) -> Result<Self> {
        let path = format!("/proc/{process_id}/ns/net");
        Self::open(Path::new(&path), Origin::Process(process_id))
    }

    /// The namespace of a descriptor. The descriptor is duplicated, so the caller keeps its own.
    ///
    /// ```
    /// use std::fs::File;
    /// use nlring::Namespace;
    ///
    /// let file = File::open("/proc/self/ns/net").unwrap();
    /// let namespace = Namespace::from_fd(&file)?;
    /// drop(file); // the namespace stays open
    /// # let _ = namespace;
    /// # Ok::<(), nlring::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`]: the descriptor is not a namespace's, or the namespace is not a network namespace.
    /// - `EMFILE`: the process has no room for another descriptor.
    pub fn from_fd(fd: impl AsFd) -> Result<Self> {
        use std::os::fd::AsRawFd as _;
        let fd = fd.as_fd();
        let origin = Origin::Descriptor(fd.as_raw_fd());
        match fd.try_clone_to_owned() {
            Ok(fd) => Self::check(File::from(fd), origin),
            Err(error) => Err(failed(&origin, &error)),
        }
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]: /proc is not mounted.
    pub fn current() -> Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"), Origin::Current)
    }

    fn open(path: &Path, origin: Origin) -> Result<Self> {
        // Without O_NONBLOCK a named pipe would wait for its writer.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => Self::check(file, origin),
            Err(error) => Err(failed(&origin, &error)),
        }
    }

    fn check(file: File, origin: Origin) -> Result<Self> {
        match sys::kind(file.as_fd()) {
            Ok(Some(libc::CLONE_NEWNET)) => {}
            Ok(kind) => return Err(no_network(&origin, kind)),
            Err(error) => return Err(failed(&origin, &error)),
        }
        let metadata = file.metadata().map_err(|error| failed(&origin, &error))?;
        Ok(Self {
            file: Arc::new(file),
            device: metadata.dev(),
            inode: metadata.ino(),
            origin,
        })
    }

    /// The number that the kernel shows for the namespace, as in the target `net:[4026531833]` of `/proc/PID/ns/net`.
    /// After this namespace is gone, another one may have the same number.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Calls `work` inside the namespace: directly if the calling thread is in it, otherwise on a separate thread.
    pub(crate) fn run<T: Send>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T> {
        if Self::current().is_ok_and(|current| current == *self) {
            return Ok(work());
        }
        sys::run_in(self.as_fd(), work).map_err(|not_inside| match not_inside {
            NotInside::Thread(error) => {
                Error::failed_call("start a thread for a network namespace", error)
                    .with_remedy("the process or its user has too many threads (ulimit -u)")
            }
            NotInside::Entry(error) => {
                let text = format!("enter the network namespace {self}: {error}");
                let kind = Error::system(operation, error).kind();
                Error::explained(operation, kind, text).with_remedy_if_denied(
                    "it needs CAP_SYS_ADMIN, in this process's user namespace and in the one that owns the network \
                     namespace: run as root",
                )
            }
        })
    }
}

/// The error for a file that cannot be opened or examined.
fn failed(origin: &Origin, error: &io::Error) -> Error {
    let kind = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH | libc::ENOTDIR) => ErrorKind::NotFound,
        Some(libc::EACCES | libc::EPERM) => ErrorKind::PermissionDenied,
        _ => ErrorKind::System,
    };
    let remedy = match (kind, origin) {
        (ErrorKind::NotFound, Origin::Name(_)) => "`ip netns list` shows the names",
        (ErrorKind::NotFound, Origin::Process(_)) => {
            "there is no such process, or it has ended: `lsns -t net` shows a process of each namespace"
        }
        (ErrorKind::NotFound, Origin::Path(_)) => "check the path",
        (ErrorKind::NotFound, _) => "mount /proc",
        (ErrorKind::PermissionDenied, Origin::Process(_)) => {
            "it needs CAP_SYS_PTRACE, or the rights of the process's user: run as root"
        }
        (ErrorKind::PermissionDenied, _) => "run as root, or as a user who may read the file",
        _ => return Error::explained(OPERATION, kind, format!("{origin}: {error}")),
    };
    Error::explained(OPERATION, kind, format!("{origin}: {error}")).with_remedy(remedy)
}

/// The error for a file that is not a network namespace's.
fn no_network(origin: &Origin, kind: Option<libc::c_int>) -> Error {
    let text = match kind {
        None => format!("{origin} is not a namespace"),
        Some(_) => format!("{origin} is a namespace, but not a network namespace"),
    };
    let remedy = match (origin, kind) {
        (Origin::Name(_), None) => {
            "it is being added or deleted, or its file was left over: try again, or `ip netns delete` it"
        }
        _ => "give a file such as /proc/PID/ns/net",
    };
    Error::explained(OPERATION, ErrorKind::InvalidInput, text).with_remedy(remedy)
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl Eq for Namespace {}

impl Hash for Namespace {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.device, self.inode).hash(state);
    }
}

/// Lends the descriptor, for setns(2) and ioctl_ns(2).
impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Like [`Namespace::from_fd`]. The given descriptor is closed.
impl TryFrom<OwnedFd> for Namespace {
    type Error = Error;

    fn try_from(fd: OwnedFd) -> Result<Self> {
        use std::os::fd::AsRawFd as _;
        let origin = Origin::Descriptor(fd.as_raw_fd());
        Self::check(File::from(fd), origin)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin.fmt(f)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.pad(name),
            Self::Path(path) => f.pad(&path.to_string_lossy()),
            Self::Process(process_id) => write!(f, "process {process_id}"),
            Self::Descriptor(number) => write!(f, "descriptor {number}"),
            Self::Current => f.pad("current"),
        }
    }
}
