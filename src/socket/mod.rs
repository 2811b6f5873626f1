//! A netlink socket, which can be used without an engine: open, bind, send, receive, close.

mod builder;
mod filter;
mod namespace;
mod not_netlink;
mod options;
mod protocol;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU32;

pub use self::builder::SocketBuilder;
pub use self::namespace::Namespace;
pub use self::not_netlink::NotNetlink;
pub use self::options::{RecvBuffer, sockopt};
pub use self::protocol::Protocol;
use crate::error::{Error, ErrorKind, NET_ADMIN, Result};
use crate::message::{Datagram, MessageList};
use crate::sys::socket as sys;
use crate::sys::socket::Received;
use crate::timestamp::Timestamp;

/// Flags of one [`Socket::recv`] (recv(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecvFlags(i32);

impl RecvFlags {
    /// Waits for a datagram and takes it out of the queue.
    pub const NONE: Self = Self(0);
    /// Fails with [`ErrorKind::WouldBlock`] instead of waiting.
    pub const DONT_WAIT: Self = Self(libc::MSG_DONTWAIT);
    /// Leaves the datagram in the queue.
    pub const PEEK: Self = Self(libc::MSG_PEEK);

    /// The flags with these bits, `MSG_*` of recv(2).
    pub const fn from_bits(bits: i32) -> Self {
        Self(bits)
    }
}

impl std::ops::BitOr for RecvFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A netlink socket. Dropping it closes it.
///
/// A new socket has the kernel's defaults: it reports a loss once, as [`ErrorKind::Overrun`].
/// [`Engine::add`](crate::Engine::add) turns on `NETLINK_NO_ENOBUFS`, and the engine counts losses instead.
///
/// ```
/// use nlring::{Content, MessageBuilder, Protocol, Socket};
/// use nlring::message::flags;
///
/// let socket = Socket::open(Protocol::ROUTE)?;
/// socket.bind(Socket::AUTOPID, 0)?;
/// let mut request = Vec::new();
/// MessageBuilder::new(&mut request, 18 /* RTM_GETLINK */, flags::REQUEST | flags::DUMP)
///     .sequence(1)
///     .bytes(&[0; 16]) // struct ifinfomsg: all links
///     .finish()?;
/// socket.send(&request)?;
/// let mut buffer = vec![0; 32 << 10]; // large enough for any datagram of a dump
/// let list = socket.recv(&mut buffer, Default::default())?;
/// let first = list.iter().next().expect("a datagram holds a message");
/// assert!(matches!(first.content(), Content::Data(_)));
/// # Ok::<(), nlring::Error>(())
/// ```
pub struct Socket {
    fd: OwnedFd,
    /// The kernel's drop counter when the socket was opened or made from a descriptor.
    drops_baseline: u32,
    /// How many of the later drops an engine has reported.
    reported_drops: u32,
    /// Up to when engines have reported drops; at first, when the socket was opened or made from a descriptor.
    reported_until: Timestamp,
    /// The size of the receive buffer that was last requested, or 0.
    requested_recv_bytes: AtomicU32,
    /// An engine receives from the socket, so `recv` must not.
    is_in_engine: bool,
    /// The namespace that the socket was opened in. None: that of the thread that opened it.
    namespace: Option<Namespace>,
}

const OPEN: &str = "open a netlink socket";
const RECEIVE: &str = "receive a netlink datagram";

impl Socket {
    /// A port ID for [`bind`](Self::bind) that makes the kernel choose one.
    pub const AUTOPID: u32 = 0;

    /// The size in bytes of a buffer that holds any answer except a dump: the smaller of 8 KiB and the page size, like
    /// libmnl's `MNL_SOCKET_BUFFER_SIZE`. It is a function because the page size is known only at run time.
    pub fn buffer_size() -> usize {
        sys::page_bytes().min(8192)
    }

    /// Opens a socket of a protocol. It is unbound, and is closed on exec(3).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`]: the kernel does not have the protocol.
    pub fn open(protocol: Protocol) -> Result<Self> {
        Self::of_opened(sys::open(protocol.number()))
    }

    /// Opens a socket of a protocol in another network namespace, as [`open`](Self::open) does in the calling thread's.
    /// [`SocketBuilder::namespace`] describes the cost and the required capability.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::PermissionDenied`]: the thread may not enter the namespace.
    /// - Otherwise those of [`open`](Self::open).
    pub fn open_in(protocol: Protocol, namespace: &Namespace) -> Result<Self> {
        let opened = namespace.run(OPEN, || sys::open(protocol.number()))?;
        Ok(Self {
            namespace: Some(namespace.clone()),
            ..Self::of_opened(opened)?
        })
    }

    fn of_opened(opened: io::Result<OwnedFd>) -> Result<Self> {
        let fd = opened.map_err(|error| {
            let error = Error::system(OPEN, error);
            match error.kind() {
                ErrorKind::Unsupported => error.with_remedy(
                    "this kernel does not have the netlink protocol: load its module or enable it",
                ),
                _ => error,
            }
        })?;
        Ok(Self::with_baseline(fd, 0))
    }

    fn with_baseline(fd: OwnedFd, drops_baseline: u32) -> Self {
        Self {
            fd,
            drops_baseline,
            reported_drops: 0,
            reported_until: Timestamp::now(),
            requested_recv_bytes: AtomicU32::new(0),
            is_in_engine: false,
            namespace: None,
        }
    }

    /// The namespace that was given to [`open_in`](Self::open_in) or [`SocketBuilder::namespace`]. None for any other
    /// socket: it is in the namespace of the thread that opened it.
    pub fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    /// Starts a [`SocketBuilder`], which opens a socket with options and groups.
    pub fn builder(protocol: Protocol) -> SocketBuilder {
        SocketBuilder::new(protocol)
    }

    /// Binds the socket to a port ID, or to one that the kernel chooses ([`AUTOPID`](Self::AUTOPID)), and joins groups.
    /// Bit 0 of `groups_mask` is group 1, bit 31 is group 32; [`add_membership`](Self::add_membership) joins higher
    /// groups.
    ///
    /// # Errors
    ///
    /// - `EADDRINUSE`: another socket of this protocol and namespace has the port ID.
    /// - [`ErrorKind::PermissionDenied`]: a group needs a capability, which the error names.
    pub fn bind(&self, port_id: u32, groups_mask: u32) -> Result<()> {
        sys::bind(self.as_fd(), port_id, groups_mask).map_err(|error| {
            Error::system("bind a netlink socket", error)
                .with_remedy_if_denied(self.group_capability())
        })
    }

    /// The port ID of the socket, its netlink address. 0 until the socket is bound.
    ///
    /// The first socket of a process often has the process ID as its port ID, but a program must not rely on this: no
    /// two sockets of one protocol and namespace have the same port ID.
    ///
    /// # Errors
    ///
    /// None known for a netlink socket.
    pub fn port_id(&self) -> Result<u32> {
        let address = sys::local_address(self.as_fd());
        let (port_id, _) = address.map_err(|error| Error::system("read the port ID", error))?;
        Ok(port_id)
    }

    /// Sends a datagram to the kernel. It may hold several messages. Returns the number of bytes sent, which is always
    /// all of them.
    ///
    /// The kernel answers a request with a message, which must be received. A refusal is not an error of this function.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE`: the datagram is larger than the send buffer (`net.core.wmem_default`, 212,992 bytes unless it was
    /// changed).
    pub fn send(&self, datagram: &[u8]) -> Result<usize> {
        self.send_to(datagram, 0, 0)
    }

    /// Sends a datagram to the socket with a port ID (0 is the kernel), and to the groups of `groups_mask`: bit 0 is
    /// group 1, and 0 means no group.
    ///
    /// # Errors
    ///
    /// - `EMSGSIZE`: the datagram is larger than the send buffer.
    /// - `ECONNREFUSED`: no socket has this port ID.
    /// - [`ErrorKind::PermissionDenied`]: on most protocols only a process with `CAP_NET_ADMIN` may send to other
    ///   sockets. `USERSOCK` allows every process to.
    pub fn send_to(&self, datagram: &[u8], port_id: u32, groups_mask: u32) -> Result<usize> {
        sys::send_to(self.as_fd(), datagram, port_id, groups_mask).map_err(|error| {
            Error::system("send a netlink datagram", error).with_remedy_if_denied(NET_ADMIN)
        })
    }

    /// Receives one datagram into `buffer` and splits it into messages. A buffer of [`buffer_size`](Self::buffer_size)
    /// bytes is large enough for answers, one of 32 KiB for dumps.
    ///
    /// Until a program has received a datagram with a buffer of 32 KiB, the kernel dumps in pieces of about 3.7 KiB. A
    /// dump with a larger entry, such as a route with 240 next hops, then fails with `EMSGSIZE` (Linux v6.18,
    /// net/netlink/af_netlink.c, `netlink_recvmsg`, `netlink_dump`). A [`Requester`](crate::Requester) avoids that.
    ///
    /// A bad length inside the datagram is not an error: the messages before it are good, and
    /// [`MessageList::malformed`] reports it.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Truncated`], with the full length: the datagram did not fit. It is gone, unless this was a
    ///   [peek](RecvFlags::PEEK).
    /// - [`ErrorKind::WouldBlock`]: there is nothing to receive on a non-blocking socket, or the time-out has passed.
    /// - [`ErrorKind::Overrun`]: the kernel dropped datagrams before this call. The next call receives again.
    /// - [`ErrorKind::System`] with `EINTR`: a signal arrived first, or the kernel was still cleaning up after an
    ///   engine that this thread dropped. Call again.
    /// - [`ErrorKind::InvalidInput`]: an engine has the socket and receives from it.
    pub fn recv<'a>(&self, buffer: &'a mut [u8], flags: RecvFlags) -> Result<MessageList<'a>> {
        if self.is_in_engine {
            return Err(
                Error::with_kind(RECEIVE, ErrorKind::InvalidInput).with_remedy(
                    "an engine receives from this socket: handle the engine's events, or remove and \
                     reclaim the socket first",
                ),
            );
        }
        let received = self.receive(buffer, flags)?;
        let bytes = (buffer.get(..received.real_bytes)).ok_or_else(|| truncated(&received))?;
        Ok(MessageList::from_datagram(datagram(&received, bytes)))
    }

    /// Receives one datagram, or as much of it as `buffer` holds.
    pub(crate) fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<Received> {
        sys::receive(self.as_fd(), buffer, flags.0).map_err(|error| {
            if error.raw_os_error() == Some(libc::ENOBUFS) {
                Error::overrun(RECEIVE, error)
            } else {
                Error::system(RECEIVE, error)
            }
        })
    }

    /// Refuses datagrams that other sockets send to this one.
    pub(crate) fn connect_to_kernel(&self) -> Result<()> {
        sys::connect_to_kernel(self.as_fd())
            .map_err(|error| Error::system("connect a netlink socket to the kernel", error))
    }

    /// Closes the socket and reports a failure, which dropping the socket does not.
    ///
    /// # Errors
    ///
    /// None known for a netlink socket. The descriptor is closed in any case.
    pub fn close(self) -> Result<()> {
        sys::close(self.fd).map_err(|error| Error::system("close a netlink socket", error))
    }
}

/// What an engine records about a socket.
impl Socket {
    /// Records how many of [`drops`](Self::drops) an engine has reported, and up to when. The next engine reports the
    /// rest.
    pub(crate) fn set_reported_drops(&mut self, count: u32, until: Timestamp) {
        (self.reported_drops, self.reported_until) = (count, until);
    }

    /// How many of [`drops`](Self::drops) an engine has reported, and up to when.
    pub(crate) fn reported_drops(&self) -> (u32, Timestamp) {
        (self.reported_drops, self.reported_until)
    }

    /// Records whether an engine receives from the socket.
    pub(crate) fn set_in_engine(&mut self, is_in_engine: bool) {
        self.is_in_engine = is_in_engine;
    }

    /// A number that the kernel gives to one socket and never to another. Duplicates of a descriptor have the same.
    pub(crate) fn cookie(&self) -> Result<u64> {
        sys::cookie(self.as_fd()).map_err(|error| Error::system("identify the socket", error))
    }
}

/// The datagram with the bytes of a receive.
#[inline]
pub(crate) fn datagram<'a>(received: &Received, bytes: &'a [u8]) -> Datagram<'a> {
    Datagram {
        bytes,
        sender_port_id: received.sender_port_id,
        group: received.group,
        nsid: received.nsid,
    }
}

/// The error for a datagram that did not fit into the buffer.
pub(crate) fn truncated(received: &Received) -> Error {
    let real_bytes = received.real_bytes;
    Error::with_kind(RECEIVE, ErrorKind::Truncated { real_bytes })
}

/// Converts the descriptor of a netlink socket. [`Socket::drops`] does not count earlier drops.
///
/// # Errors
///
/// [`NotNetlink`], which returns the descriptor: it is not a socket, or it is a socket of another family (`SO_DOMAIN`,
/// socket(7)). The options of other families are not all plain bytes.
impl TryFrom<OwnedFd> for Socket {
    type Error = NotNetlink;

    fn try_from(fd: OwnedFd) -> Result<Self, NotNetlink> {
        const OPERATION: &str = "take a descriptor over";
        let refuse = |text| Error::explained(OPERATION, ErrorKind::InvalidInput, text);
        let error = match sys::family(fd.as_fd()) {
            Ok(libc::AF_NETLINK) => {
                let drops_baseline = sys::drops(fd.as_fd()).unwrap_or(0);
                return Ok(Self::with_baseline(fd, drops_baseline));
            }
            Ok(family) => refuse(format!(
                "it is a socket of address family {family}, not of AF_NETLINK (16)"
            )),
            Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => {
                refuse("it is not a socket".into())
            }
            Err(error) => Error::system(OPERATION, error),
        };
        Err(NotNetlink::new(fd, error))
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.fd
    }
}

/// Lends the descriptor, for polling, `ioctl(2)` and options that this crate does not name. While an engine has the
/// socket, do not receive with this descriptor or a duplicate: what you receive would be missing from the engine's
/// events and counts.
///
/// By Rust's rules of I/O safety ([`std::io#io-safety`]) the descriptor stays open, and stays this socket, while the
/// `Socket` lives: only `unsafe` code can close it or put another file under its number. This crate relies on that.
impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl IntoRawFd for Socket {
    fn into_raw_fd(self) -> RawFd {
        self.fd.into_raw_fd()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("fd", &self.fd.as_raw_fd())
            .finish_non_exhaustive()
    }
}
