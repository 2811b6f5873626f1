//! The system calls that the command makes, and how each may fail.

/// A system call.
pub struct Call {
    pub name: &'static str,
    pub faults: Faults,
}

pub enum Faults {
    /// The call fails with each of these errors, by name. If the command then ends, its message has one of the words.
    Injected {
        /// The errors that the command must survive while it runs.
        survived: &'static [&'static str],
        /// Other errors that the call can give.
        others: &'static [&'static str],
        words: &'static [&'static str],
    },
    /// No failure is injected, for this reason.
    Left(&'static str),
}

use Faults::{Injected, Left};

const START: &str = "the loader and the runtime make it before the command begins";
const ALLOCATOR: &str = "the allocator makes it: tests/limits.rs takes the memory away";
const THREAD: &str = "the C library makes it for a thread, and ignores a failure";
const CANNOT: &str = "it cannot fail with these arguments";

/// What requests are called.
const REQUEST: &str = "netlink datagram";
const LIST: &str = "list the network devices";

/// What the opening of a file, a socket or another descriptor can give.
const OPENING: &[&str] = &["ENOMEM", "EMFILE", "ENFILE", "EINTR", "ENOSPC", "EIO"];

const fn injected(
    name: &'static str,
    survived: &'static [&'static str],
    others: &'static [&'static str],
    words: &'static [&'static str],
) -> Call {
    let faults = Injected {
        survived,
        others,
        words,
    };
    Call { name, faults }
}

const fn left(name: &'static str, reason: &'static str) -> Call {
    Call {
        name,
        faults: Left(reason),
    }
}

pub const CALLS: &[Call] = &[
    // Receiving.
    injected(
        "io_uring_enter",
        &["EINTR", "EAGAIN", "ENOMEM", "EBUSY"],
        &["EIO", "EINVAL"],
        &["build an engine", "start the engine"],
    ),
    injected(
        "io_uring_setup",
        &[],
        &["ENOMEM", "EMFILE", "EPERM", "ENOSYS"],
        &["build an engine"],
    ),
    injected(
        "io_uring_register",
        &[],
        &["ENOMEM", "EINTR", "EINVAL"],
        &["build an engine", "start the engine"],
    ),
    injected(
        "recvmmsg",
        &["EINTR", "ENOMEM", "ENOBUFS", "EMSGSIZE"], // not EAGAIN: the queue is not empty
        &["EIO"],
        &[],
    ),
    injected("ppoll", &["EINTR", "ENOMEM", "EAGAIN"], &["EINVAL"], &[]),
    injected(
        "getsockopt",
        &[],
        &["ENOBUFS", "ENOMEM", "EIO"],
        &[
            "read a socket option",
            "read the drop counter",
            "build an engine",
        ],
    ),
    injected(
        "setsockopt",
        &[],
        &["ENOBUFS", "ENOMEM", "EPERM"],
        &[
            "set NETLINK_",
            "join a multicast group",
            "receive buffer",
            "attach a filter",
            "build an engine",
            REQUEST,
        ],
    ),
    // Requests.
    injected(
        "socket",
        &[],
        &["EMFILE", "ENOMEM", "ENOBUFS", "EAFNOSUPPORT"],
        &["open a netlink socket", "build an engine"],
    ),
    injected(
        "bind",
        &[],
        &["ENOMEM", "EINTR", "EIO"],
        &["bind a netlink socket", "build an engine"],
    ),
    injected(
        "connect",
        &[],
        &["ENOMEM", "EAGAIN"],
        &["connect a netlink socket", "build an engine"],
    ),
    injected(
        "getsockname",
        &[],
        &["ENOBUFS", "ENOMEM"],
        &["read the port ID", "build an engine"],
    ),
    injected(
        "sendto",
        &[],
        &["ENOBUFS", "ENOMEM", "EAGAIN", "EMSGSIZE", "EINTR"],
        &[REQUEST, LIST, "build an engine"],
    ),
    injected(
        "recvmsg",
        &["EINTR"],
        &["ENOBUFS", "ENOMEM", "EAGAIN", "EMSGSIZE", "EIO"],
        &[REQUEST, LIST, "build an engine"],
    ),
    injected(
        "recvfrom",
        &["EINTR"],
        &["ENOMEM", "EIO", "ENOBUFS"],
        &[REQUEST, "build an engine"],
    ),
    // Outputs and other files.
    injected(
        "write",
        &["EINTR"],
        &["ENOSPC", "EIO", "EFBIG", "ENOMEM", "EAGAIN"],
        &[
            "for the events",
            "--stats",
            "--table",
            "write",
            "stop the engine",
        ],
    ),
    injected(
        "read",
        &["EINTR"],
        &["EIO", "ENOMEM", "EAGAIN"],
        &["list the network devices", "namespace"],
    ),
    injected(
        "openat",
        &[],
        OPENING,
        &["open ", "--stats", "--table", "namespace"],
    ),
    injected("close", &[], &["EINTR", "EIO", "ENOSPC"], &[]),
    injected(
        "fstat",
        &[],
        &["ENOMEM", "EIO"],
        &["--stats", "--table", "for the events"],
    ),
    injected(
        "newfstatat",
        &[],
        &["ENOMEM", "EIO", "ENOENT"],
        &["--stats", "--table", "for the events"],
    ),
    injected(
        "statx",
        &[],
        &["ENOMEM", "EIO"],
        &["--stats", "--table", "for the events"],
    ),
    injected(
        "fstatfs",
        &[],
        &["ENOMEM", "EIO", "EINTR"],
        &["--stats", "--table", "for the events"],
    ),
    injected(
        "unlinkat",
        &[],
        &["EIO", "ENOMEM", "EROFS"],
        &["--stats", "--table", "for the events"],
    ),
    injected(
        "renameat",
        &[],
        &["ENOSPC", "EIO", "ENOMEM"],
        &["--stats", "--table", "for the events"],
    ),
    injected(
        "fchmod",
        &[],
        &["EIO", "EPERM", "EINTR"],
        &["--stats", "--table", "for the events"],
    ),
    injected(
        "fchown",
        &[],
        &["EIO", "EPERM", "EINTR"],
        &["--stats", "--table", "for the events"],
    ),
    injected(
        "ftruncate",
        &[],
        &["EIO", "EINTR"],
        &["--stats", "--table", "for the events"],
    ),
    injected("getdents64", &[], &["ENOMEM", "EIO"], &[]),
    injected("fcntl", &[], &["EMFILE", "EAGAIN"], &["for the events"]),
    injected("ioctl", &[], &["EIO", "ENOTTY"], &[]),
    injected("lseek", &[], &["EINVAL"], &[]),
    // Signals, threads, and the rest.
    injected(
        "eventfd2",
        &[],
        &["EMFILE", "ENOMEM", "ENFILE"],
        &["eventfd", "build an engine"],
    ),
    injected(
        "socketpair",
        &[],
        &["EMFILE", "ENOMEM", "ENFILE"],
        &["handle signals"],
    ),
    injected("rt_sigaction", &[], &["EINVAL"], &["handle signals"]),
    injected(
        "clone3",
        &[],
        &["EAGAIN", "ENOMEM"],
        &["start the thread", "build an engine"],
    ),
    injected("capget", &[], &["EPERM", "EINVAL"], &[]),
    injected("capset", &[], &["EPERM"], &[]),
    injected("prctl", &[], &["EPERM", "EINVAL"], &[]),
    injected("getrandom", &[], &["EINTR", "ENOSYS"], &[]),
    injected("sched_getaffinity", &[], &["EINVAL"], &[]),
    injected(
        "madvise",
        &[],
        &["ENOMEM", "EAGAIN"],
        &["build an engine", "start the engine"],
    ),
    injected("munmap", &[], &["ENOMEM", "EINVAL"], &[]),
    injected(
        "mmap",
        &[],
        &["ENOMEM", "EAGAIN", "ENFILE"],
        &["build an engine", "start the engine"],
    ),
    // Left.
    left("brk", ALLOCATOR),
    left("mprotect", ALLOCATOR),
    left("mremap", ALLOCATOR),
    left("access", START),
    left("arch_prctl", START),
    left("execve", START),
    left("poll", START),
    left("pread64", START),
    left("prlimit64", START),
    left("set_tid_address", START),
    left("rseq", THREAD),
    left("set_robust_list", THREAD),
    left("sigaltstack", THREAD),
    left("rt_sigprocmask", THREAD),
    left("clock_gettime", CANNOT),
    left("clock_nanosleep", CANNOT),
    left("exit", CANNOT),
    left("exit_group", CANNOT),
    left("getpid", CANNOT),
    left("gettid", CANNOT),
    left("geteuid", CANNOT),
    left("rt_sigreturn", CANNOT),
    left("sched_yield", CANNOT),
    left(
        "futex",
        "the standard library tries again after every failure",
    ),
];

/// The calls of the receive path, of requests and of the outputs. In the full form they fail with all of their errors.
pub const RECEIVING: &[&str] = &[
    "io_uring_enter",
    "recvmmsg",
    "ppoll",
    "sendto",
    "recvmsg",
    "write",
];

pub fn find(name: &str) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.name == name)
}
