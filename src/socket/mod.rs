//! A netlink socket, usable by itself: open, bind, options, send, receive.

mod not_netlink;

pub use not_netlink::NotNetlink;

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::time::{Duration, SystemTime};

use crate::error::{Error, ErrorKind, NET_ADMIN, Result};
use crate::message::MessageList;
use crate::sys::socket as sys;

/// A netlink protocol, the bus a socket is on: `NETLINK_*` in include/uapi/linux/netlink.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocol(i32);

impl Protocol {
    /// Links, addresses, routes, neighbours: rtnetlink(7).
    pub const ROUTE: Self = Self(0);
    /// For protocols of user space.
    pub const USERSOCK: Self = Self(2);
    /// Socket monitoring: sock_diag(7).
    pub const SOCK_DIAG: Self = Self(4);
    /// Transformation (IPsec) state and policy.
    pub const XFRM: Self = Self(6);
    /// SELinux events.
    pub const SELINUX: Self = Self(7);
    /// Auditing.
    pub const AUDIT: Self = Self(9);
    /// Process events and other connectors.
    pub const CONNECTOR: Self = Self(11);
    /// Netfilter: connection tracking, nftables, logging, queues.
    pub const NETFILTER: Self = Self(12);
    /// Device events; these datagrams are text, not messages.
    pub const KOBJECT_UEVENT: Self = Self(15);
    /// Generic netlink.
    pub const GENERIC: Self = Self(16);
    /// Remote direct memory access.
    pub const RDMA: Self = Self(20);
    /// The crypto layer's algorithms.
    pub const CRYPTO: Self = Self(21);

    /// Any protocol, by its number.
    pub const fn from_number(number: i32) -> Self {
        Self(number)
    }

    /// The protocol's number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

/// Names for [`Socket::option`] and [`Socket::set_option`]: `SOL_NETLINK` and its options, include/uapi/linux/netlink.h.
pub mod sockopt {
    /// The level of netlink's own options.
    pub const SOL_NETLINK: i32 = 270;
    /// Join a multicast group.
    pub const ADD_MEMBERSHIP: i32 = 1;
    /// Leave a multicast group.
    pub const DROP_MEMBERSHIP: i32 = 2;
    /// Each datagram tells the group it was sent to.
    pub const PKTINFO: i32 = 3;
    /// A failed delivery is reported to the sender. Available since Linux 2.6.30.
    pub const BROADCAST_ERROR: i32 = 4;
    /// An overrun is not reported as an error and does not congest the socket. Available since Linux 2.6.30.
    pub const NO_ENOBUFS: i32 = 5;
    /// Hear all namespaces that have an nsid here. Available since Linux 4.2.
    pub const LISTEN_ALL_NSID: i32 = 8;
    /// The memberships, as a bit set of 32-bit words. Available since Linux 4.2.
    pub const LIST_MEMBERSHIPS: i32 = 9;
    /// Acknowledgements do not repeat the request. Available since Linux 4.3.
    pub const CAP_ACK: i32 = 10;
    /// Acknowledgements explain errors. Available since Linux 4.12.
    pub const EXT_ACK: i32 = 11;
    /// Get requests are checked strictly, and filter dumps. Available since Linux 4.20.
    pub const GET_STRICT_CHK: i32 = 12;
}

/// Flags of one [`Socket::recv`] (recv(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecvFlags(i32);

impl RecvFlags {
    /// Wait for a datagram and take it.
    pub const NONE: Self = Self(0);
    /// Fail with [`ErrorKind::WouldBlock`] where it would wait.
    pub const DONT_WAIT: Self = Self(libc::MSG_DONTWAIT);
    /// Leave the datagram in the queue.
    pub const PEEK: Self = Self(libc::MSG_PEEK);

    /// Any flags, by the system's numbers.
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

/// A receive buffer as asked for and as granted, by the kernel's two ways of counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecvBuffer {
    /// What was passed to the kernel, in bytes.
    pub requested_bytes: usize,
    /// What the kernel reads back, in bytes: twice what it took, since it counts its own bookkeeping too (socket(7)).
    pub granted_bytes: usize,
}

impl RecvBuffer {
    /// Whether the kernel took less than was asked for: `net.core.rmem_max` is in the way, and `CAP_NET_ADMIN` is missing.
    pub fn is_clamped(&self) -> bool {
        // The kernel never reads back more than this, whatever it is asked for.
        const MOST: usize = 2_147_483_646;
        self.granted_bytes < self.requested_bytes.saturating_mul(2).min(MOST)
    }
}

/// A netlink socket. Closed when dropped.
///
/// A new one has the kernel's defaults: an overrun is reported once, as [`ErrorKind::Overrun`].
/// [`Engine::add`](crate::Engine::add) turns `NETLINK_NO_ENOBUFS` on and counts losses instead.
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
/// let mut buffer = vec![0; 32 << 10]; // holds any datagram of a dump
/// let list = socket.recv(&mut buffer, Default::default())?;
/// let first = list.iter().next().expect("a datagram holds a message");
/// assert!(matches!(first.content(), Content::Data(_)));
/// # Ok::<(), nlring::Error>(())
/// ```
pub struct Socket {
    fd: OwnedFd,
    /// The kernel's drop counter when the socket became ours.
    drops_baseline: u32,
    /// The drops since then that an engine has reported.
    reported_drops: u32,
    /// Up to when engines have reported them; at first, when the socket became ours.
    reported_until: SystemTime,
    /// An engine receives from it, so nobody else may.
    is_in_engine: bool,
}

impl Socket {
    /// Passed to [`bind`](Self::bind) as the port ID: the kernel chooses one.
    pub const AUTOPID: u32 = 0;

    /// The smaller of 8 KiB and the page size, as libmnl's `MNL_SOCKET_BUFFER_SIZE`: room for any answer that is not a
    /// dump. Known at run time only, and therefore a function.
    pub fn buffer_size() -> usize {
        sys::page_bytes().min(8192)
    }

    /// Opens a socket on a protocol: unbound, closed on exec.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when this kernel does not have the protocol; no file descriptor is left.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let fd = sys::open(protocol.0).map_err(|error| {
            let error = Error::system("open a netlink socket", error);
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
            reported_until: SystemTime::now(),
            is_in_engine: false,
        }
    }

    /// Starts a [`SocketBuilder`], for the common case.
    pub fn builder(protocol: Protocol) -> SocketBuilder {
        SocketBuilder::new(protocol)
    }

    /// Gives the socket its address: a port ID ([`AUTOPID`](Self::AUTOPID): the kernel chooses) and the mask of the
    /// first 32 groups (bit 0 is group 1) to be in. For groups beyond: [`add_membership`](Self::add_membership).
    ///
    /// # Errors
    ///
    /// The port ID is taken (`EADDRINUSE`), or a group needs a capability ([`ErrorKind::PermissionDenied`]).
    pub fn bind(&self, port_id: u32, groups_mask: u32) -> Result<()> {
        sys::bind(self.fd.as_fd(), port_id, groups_mask).map_err(|error| {
            Error::system("bind a netlink socket", error).with_remedy_if_denied(NET_ADMIN)
        })
    }

    /// The netlink port ID: this socket's address. Often the process ID for the first socket of a process, but never
    /// rely on that: two sockets of one process differ. 0 until the socket is bound.
    ///
    /// # Errors
    ///
    /// None known for a netlink socket.
    pub fn port_id(&self) -> Result<u32> {
        let address = sys::local_address(self.fd.as_fd());
        Ok(address
            .map_err(|error| Error::system("read the port ID", error))?
            .0)
    }

    /// The multicast groups the socket is in, by number, ascending; also those beyond 32.
    ///
    /// Before Linux 4.2 (no `NETLINK_LIST_MEMBERSHIPS`) those of the first 32.
    ///
    /// # Errors
    ///
    /// None known for a netlink socket.
    pub fn groups(&self) -> Result<Vec<u32>> {
        let words = self.membership_words()?;
        let groups = (1..).zip(
            words
                .iter()
                .flat_map(|word| (0..32).map(move |bit| word >> bit & 1 == 1)),
        );
        Ok(groups
            .filter_map(|(group, member)| member.then_some(group))
            .collect())
    }

    fn membership_words(&self) -> Result<Vec<u32>> {
        const OPERATION: &str = "list the multicast groups";
        let mut bytes = vec![0; 64];
        loop {
            match sys::option(
                self.fd.as_fd(),
                sockopt::SOL_NETLINK,
                sockopt::LIST_MEMBERSHIPS,
                &mut bytes,
            ) {
                Ok(length) if length > bytes.len() => bytes.resize(length, 0),
                // All of the zeroed buffer, since kernels before 6.3 understate the length when there are more groups than
                // fit whole words (net/netlink/af_netlink.c, netlink_getsockopt).
                Ok(_) => {
                    let words = bytes.chunks_exact(4);
                    return Ok(words
                        .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
                        .collect());
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
                    let address = sys::local_address(self.fd.as_fd());
                    return Ok(vec![
                        address.map_err(|error| Error::system(OPERATION, error))?.1,
                    ]);
                }
                Err(error) => return Err(Error::system(OPERATION, error)),
            }
        }
    }

    /// The protocol the socket was opened on (`SO_PROTOCOL`, socket(7)).
    ///
    /// # Errors
    ///
    /// The descriptor is not a socket.
    pub fn protocol(&self) -> Result<Protocol> {
        let mut value = [0; 4];
        self.option(libc::SOL_SOCKET, libc::SO_PROTOCOL, &mut value)?;
        Ok(Protocol(i32::from_ne_bytes(value)))
    }

    /// Sends to the kernel one datagram, which may hold several messages. Returns the bytes sent: all of them.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE`: larger than the send buffer. The kernel's answer to a request is no error of this function: it is a
    /// message to be received.
    pub fn send(&self, datagram: &[u8]) -> Result<usize> {
        self.send_to(datagram, 0, 0)
    }

    /// Sends to another socket by its port ID (0 is the kernel), and to the groups of a mask, if not 0.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); `ECONNREFUSED`: nobody has this port ID or is in the group;
    /// [`ErrorKind::PermissionDenied`] on all protocols that do not allow it to everyone (`USERSOCK` does).
    pub fn send_to(&self, datagram: &[u8], port_id: u32, groups_mask: u32) -> Result<usize> {
        sys::send_to(self.fd.as_fd(), datagram, port_id, groups_mask).map_err(|error| {
            Error::system("send a netlink datagram", error).with_remedy_if_denied(NET_ADMIN)
        })
    }

    /// Receives one datagram into `buffer` and splits it. Give it [`buffer_size`](Self::buffer_size) bytes for answers
    /// and 32 KiB for dumps.
    ///
    /// A dump fails with `EMSGSIZE` where one of its entries is larger than the kernel's buffer. That buffer has 32 KiB once
    /// one datagram was received into 32 KiB, and about 3.7 KiB before, which is less than a route with 240 next hops
    /// (Linux v6.18, net/netlink/af_netlink.c, `netlink_recvmsg`, `netlink_dump`). A [`Requester`](crate::Requester) sees to that.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Truncated`], with the real length: the datagram did not fit, and is gone unless it was peeked at;
    /// - [`ErrorKind::WouldBlock`]: nothing there, on a non-blocking socket or after the time-out;
    /// - [`ErrorKind::Overrun`]: datagrams were lost before this call, and the next call goes on;
    /// - [`ErrorKind::System`] with `EINTR`: a signal came first, or the kernel was still clearing up after an engine that
    ///   this thread has dropped.
    ///
    /// - [`ErrorKind::InvalidInput`]: an engine has the socket, and receives from it.
    ///
    /// A bad length inside the datagram is no error: the messages before it are good, and
    /// [`MessageList::malformed`] tells of it.
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
        Ok(MessageList::from_datagram(received.datagram(bytes)))
    }

    /// Refuses datagrams that other sockets send to this one.
    pub(crate) fn connect_to_kernel(&self) -> Result<()> {
        sys::connect_to_kernel(self.fd.as_fd())
            .map_err(|error| Error::system("connect a netlink socket to the kernel", error))
    }

    /// Receives one datagram, or as much of it as `buffer` holds.
    pub(crate) fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<sys::Received> {
        sys::receive(self.fd.as_fd(), buffer, flags.0).map_err(|error| {
            if error.raw_os_error() == Some(libc::ENOBUFS) {
                Error::overrun(RECEIVE, error)
            } else {
                Error::system(RECEIVE, error)
            }
        })
    }

    /// Makes [`recv`](Self::recv) return at once when there is nothing.
    ///
    /// # Errors
    ///
    /// None known for a netlink socket.
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<()> {
        sys::set_nonblocking(self.fd.as_fd(), nonblocking)
            .map_err(|error| Error::system("make the socket non-blocking", error))
    }

    /// Limits how long [`recv`](Self::recv) waits (`SO_RCVTIMEO`); None or zero is for ever.
    ///
    /// # Errors
    ///
    /// The kernel does not take so long a time.
    pub fn set_recv_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        let timeout = timeout.unwrap_or_default();
        // struct timeval is two longs; a time-out below its unit must not become "for ever".
        let micros = if timeout.is_zero() {
            0
        } else {
            timeout
                .subsec_micros()
                .max(u32::from(timeout.as_secs() == 0))
        };
        let seconds = libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX);
        let value = [
            seconds.to_ne_bytes(),
            libc::time_t::from(micros).to_ne_bytes(),
        ]
        .concat();
        self.set_option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &value)
    }

    /// Closes the socket, and tells of a failure, which dropping it would not.
    ///
    /// # Errors
    ///
    /// None known for a netlink socket; the descriptor is gone in any case.
    pub fn close(self) -> Result<()> {
        crate::sys::socket::close(self.fd)
            .map_err(|error| Error::system("close a netlink socket", error))
    }

    /// Reads a socket option into `value` and returns its full length in bytes, which can be more than was stored.
    /// Netlink's own are in [`sockopt`], at level [`sockopt::SOL_NETLINK`]; socket(7) lists those of `SOL_SOCKET`.
    ///
    /// Only options whose value is plain bytes are passed to the kernel. It counts some others in larger units than bytes,
    /// and follows pointers in some, so it could write outside `value`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`]: this kernel does not have the option, or its value is not known to be plain bytes, as
    /// that of `SO_GET_FILTER`. For these pass [`as_fd`](AsFd::as_fd) to a crate that has a function for the option.
    pub fn option(&self, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        sys::option(self.fd.as_fd(), level, name, value)
            .map_err(|error| Error::system("read a socket option", error))
    }

    /// Sets a socket option by its bytes. Only options whose value is plain bytes are passed to the kernel, because it
    /// reads where a pointer in a value points.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`]: this kernel does not have the option, or its value is not known to be plain bytes, as
    /// that of `SO_ATTACH_FILTER`. For these pass [`as_fd`](AsFd::as_fd) to a crate that has a function for the option.
    /// [`ErrorKind::PermissionDenied`]: the option needs a capability.
    pub fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<()> {
        sys::set_option(self.fd.as_fd(), level, name, value)
            .map_err(|error| Error::system("set a socket option", error))
    }

    fn set_netlink(&self, operation: &'static str, name: i32, value: u32) -> Result<()> {
        self.set_option(sockopt::SOL_NETLINK, name, &value.to_ne_bytes())
            .map_err(|error| error.during(operation))
    }

    fn netlink_flag(&self, name: i32) -> Result<bool> {
        let mut value = [0; 4];
        self.option(sockopt::SOL_NETLINK, name, &mut value)?;
        Ok(u32::from_ne_bytes(value) != 0)
    }

    /// Joins a multicast group, by number from 1.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the protocol has no such group here. [`ErrorKind::PermissionDenied`]: the group needs `CAP_NET_ADMIN`
    /// (those of conntrack do, those of routes do not).
    pub fn add_membership(&self, group: impl Into<u32>) -> Result<()> {
        self.set_netlink(
            "join a multicast group",
            sockopt::ADD_MEMBERSHIP,
            group.into(),
        )
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => {
                error.with_remedy("the protocol has no group of this number in this kernel")
            }
            _ => error.with_remedy_if_denied(NET_ADMIN),
        })
    }

    /// Leaves a multicast group. When this returns, no sender is still about to put a datagram into the queue for it.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the protocol has no such group here.
    pub fn drop_membership(&self, group: impl Into<u32>) -> Result<()> {
        self.set_netlink(
            "leave a multicast group",
            sockopt::DROP_MEMBERSHIP,
            group.into(),
        )
    }

    /// Each datagram tells its group ([`Datagram::group`](crate::Datagram::group)).
    ///
    /// # Errors
    ///
    /// None known.
    pub fn set_pktinfo(&self, on: bool) -> Result<()> {
        self.set_netlink("set NETLINK_PKTINFO", sockopt::PKTINFO, on.into())
    }

    /// A sender learns that a datagram could not be delivered here. Conntrack then keeps DESTROY events and sends them
    /// again; the drop counter counts failed deliveries, not losses. Available since Linux 2.6.30.
    ///
    /// # Errors
    ///
    /// None known.
    pub fn set_broadcast_error(&self, on: bool) -> Result<()> {
        self.set_netlink(
            "set NETLINK_BROADCAST_ERROR",
            sockopt::BROADCAST_ERROR,
            on.into(),
        )
    }

    /// An overrun is counted ([`drops`](Self::drops)) but not reported as an error, and the socket takes new datagrams as
    /// soon as there is room, instead of none until the queue is empty. Available since Linux 2.6.30.
    ///
    /// # Errors
    ///
    /// None known.
    pub fn set_no_enobufs(&self, on: bool) -> Result<()> {
        self.set_netlink("set NETLINK_NO_ENOBUFS", sockopt::NO_ENOBUFS, on.into())
    }

    /// Also hears the groups of all namespaces that have an nsid in this one
    /// ([`Datagram::nsid`](crate::Datagram::nsid)). Available since Linux 4.2.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`]: it needs `CAP_NET_BROADCAST`.
    pub fn set_listen_all_nsid(&self, on: bool) -> Result<()> {
        self.set_netlink(
            "set NETLINK_LISTEN_ALL_NSID",
            sockopt::LISTEN_ALL_NSID,
            on.into(),
        )
        .map_err(|error| {
            error.with_remedy_if_denied(
                "it needs CAP_NET_BROADCAST: run as root or grant the capability",
            )
        })
    }

    /// Acknowledgements of errors do not repeat the request beyond its header. Available since Linux 4.3.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] before that.
    pub fn set_cap_ack(&self, on: bool) -> Result<()> {
        self.set_netlink("set NETLINK_CAP_ACK", sockopt::CAP_ACK, on.into())
    }

    /// Acknowledgements explain errors ([`ErrorMessage::text`](crate::ErrorMessage::text)). Available since Linux 4.12.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] before that.
    pub fn set_ext_ack(&self, on: bool) -> Result<()> {
        self.set_netlink("set NETLINK_EXT_ACK", sockopt::EXT_ACK, on.into())
    }

    /// Get requests are checked strictly, and their fields filter dumps. Available since Linux 4.20.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] before that.
    pub fn set_get_strict_check(&self, on: bool) -> Result<()> {
        self.set_netlink(
            "set NETLINK_GET_STRICT_CHK",
            sockopt::GET_STRICT_CHK,
            on.into(),
        )
    }

    /// Whether get requests are checked strictly. Available since Linux 4.20.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] before that.
    pub fn get_strict_check(&self) -> Result<bool> {
        self.netlink_flag(sockopt::GET_STRICT_CHK)
    }

    /// Asks for a receive buffer of this many bytes: beyond `net.core.rmem_max` when the process may
    /// (`SO_RCVBUFFORCE`, `CAP_NET_ADMIN` in the initial user namespace), else up to it (`SO_RCVBUF`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`]: 0, or more than 2^31 - 1. A buffer that was cut is no error: see
    /// [`RecvBuffer::is_clamped`].
    pub fn set_recv_buffer_bytes(&self, requested_bytes: usize) -> Result<RecvBuffer> {
        const OPERATION: &str = "set the receive buffer's size";
        let value = match i32::try_from(requested_bytes) {
            Ok(value) if value > 0 => value.to_ne_bytes(),
            _ => {
                return Err(Error::with_kind(OPERATION, ErrorKind::InvalidInput)
                    .with_remedy("give it from 1 to 2147483647 bytes"));
            }
        };
        let fd = self.fd.as_fd();
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &value)
            .or_else(|_| sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &value))
            .map_err(|error| Error::system(OPERATION, error))?;
        Ok(RecvBuffer {
            requested_bytes,
            granted_bytes: self.recv_buffer_bytes()?,
        })
    }

    /// The receive buffer's size in bytes, as the kernel reads it back: twice what was set (socket(7)).
    ///
    /// # Errors
    ///
    /// None known.
    pub fn recv_buffer_bytes(&self) -> Result<usize> {
        let mut value = [0; 4];
        self.option(libc::SOL_SOCKET, libc::SO_RCVBUF, &mut value)?;
        Ok(usize::try_from(i32::from_ne_bytes(value)).unwrap_or(0))
    }

    /// How many datagrams the kernel could not deliver to this socket, modulo 2^32. It counts from the moment the
    /// socket was opened or made from a descriptor, and never goes back, whether an engine has reported the drops or
    /// not. For a socket that was opened here it equals the Drops column of /proc/net/netlink. (`SO_MEMINFO`, available
    /// since Linux 4.12: include/uapi/linux/sock_diag.h, `SK_MEMINFO_DROPS`.)
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] before that.
    pub fn drops(&self) -> Result<u32> {
        let drops = sys::drops(self.fd.as_fd())
            .map_err(|error| Error::system("read the drop counter", error))?;
        Ok(drops.wrapping_sub(self.drops_baseline))
    }
}

impl Socket {
    /// Notes how many of [`drops`](Self::drops) an engine has reported, and up to when. The next engine reports the rest.
    pub(crate) fn set_reported_drops(&mut self, count: u32, until: SystemTime) {
        (self.reported_drops, self.reported_until) = (count, until);
    }

    /// How many of [`drops`](Self::drops) were reported by an engine, and up to when.
    pub(crate) fn reported_drops(&self) -> (u32, SystemTime) {
        (self.reported_drops, self.reported_until)
    }

    /// Notes whether an engine receives from it.
    pub(crate) fn set_in_engine(&mut self, is_in_engine: bool) {
        self.is_in_engine = is_in_engine;
    }

    /// A number that the kernel gives to one socket and never to another; duplicated descriptors of a socket share it.
    pub(crate) fn cookie(&self) -> Result<u64> {
        sys::cookie(self.fd.as_fd()).map_err(|error| Error::system("identify the socket", error))
    }

    /// Whether senders learn of failed deliveries, see [`set_broadcast_error`](Self::set_broadcast_error).
    pub(crate) fn broadcast_error(&self) -> bool {
        self.netlink_flag(sockopt::BROADCAST_ERROR).unwrap_or(false)
    }
}

const RECEIVE: &str = "receive a netlink datagram";

/// The error for a datagram of which a buffer held only a part.
pub(crate) fn truncated(received: &sys::Received) -> Error {
    let real_bytes = received.real_bytes;
    Error::with_kind(RECEIVE, ErrorKind::Truncated { real_bytes })
}
/// Takes the descriptor of a netlink socket over. Drops before this are not counted.
///
/// # Errors
///
/// [`NotNetlink`], which hands the descriptor back: it is not a socket, or one of another family (`SO_DOMAIN`, socket(7)).
/// The options of other families are not all safe to pass on as bytes.
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

/// Lends the descriptor, for polling, `ioctl(2)` and options that this crate does not name. While an engine has the socket,
/// do not receive by this descriptor or by a duplicate of it: what is taken that way is missing in the engine's events and
/// in its counts.
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

/// Opens, sets and binds a [`Socket`] in one go, in the order in which nothing is missed: options and receive buffer
/// first, groups last.
///
/// ```
/// use nlring::{Protocol, Socket, route};
///
/// let socket = Socket::builder(Protocol::ROUTE)
///     .group(route::Group::Ipv4Route)
///     .recv_buffer_bytes(1 << 20)
///     .open()?;
/// assert_eq!(socket.groups()?, [7]);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder opens nothing until `open`"]
pub struct SocketBuilder {
    protocol: Protocol,
    port_id: u32,
    groups: Vec<u32>,
    recv_buffer_bytes: Option<usize>,
    nonblocking: bool,
    pktinfo: bool,
    listen_all_nsid: bool,
    no_enobufs: bool,
    reliable: bool,
    ext_ack: bool,
}

impl SocketBuilder {
    fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            port_id: Socket::AUTOPID,
            groups: Vec::new(),
            recv_buffer_bytes: None,
            nonblocking: false,
            pktinfo: false,
            listen_all_nsid: false,
            no_enobufs: false,
            reliable: false,
            ext_ack: false,
        }
    }

    /// Binds to this port ID instead of one that the kernel chooses.
    pub fn port_id(mut self, port_id: u32) -> Self {
        self.port_id = port_id;
        self
    }

    /// Joins a multicast group, by number.
    pub fn group(mut self, group: impl Into<u32>) -> Self {
        self.groups.push(group.into());
        self
    }

    /// Joins several groups.
    pub fn groups(mut self, groups: impl IntoIterator<Item = impl Into<u32>>) -> Self {
        self.groups.extend(groups.into_iter().map(Into::into));
        self
    }

    /// Asks for a receive buffer, see [`Socket::set_recv_buffer_bytes`].
    pub fn recv_buffer_bytes(mut self, requested_bytes: usize) -> Self {
        self.recv_buffer_bytes = Some(requested_bytes);
        self
    }

    /// See [`Socket::set_nonblocking`].
    pub fn nonblocking(mut self, on: bool) -> Self {
        self.nonblocking = on;
        self
    }

    /// See [`Socket::set_pktinfo`].
    pub fn pktinfo(mut self, on: bool) -> Self {
        self.pktinfo = on;
        self
    }

    /// See [`Socket::set_listen_all_nsid`].
    pub fn listen_all_nsid(mut self, on: bool) -> Self {
        self.listen_all_nsid = on;
        self
    }

    /// See [`Socket::set_no_enobufs`].
    pub fn no_enobufs(mut self, on: bool) -> Self {
        self.no_enobufs = on;
        self
    }

    /// Has conntrack keep the DESTROY events that could not be delivered here, and send them again until they are:
    /// [`Socket::set_broadcast_error`] together with [`Socket::set_no_enobufs`]. Available since Linux 2.6.30; what follows
    /// is of Linux v6.18, net/netfilter/nf_conntrack_ecache.c, `ecache_work`, and nf_conntrack_core.c, `nf_ct_delete`.
    ///
    /// - A flow whose DESTROY found the receive buffer full stays with the kernel. Its event is sent again after about a
    ///   second, then every 10 ms, for as long as it takes. No DESTROY is lost while the socket is open; one can come late.
    /// - Until then it counts against `nf_conntrack_max`: a reader that stops for long can fill the connection table.
    /// - NEW and UPDATE are not sent again. What they would have said comes with the flow's next event, other than its
    ///   DESTROY, or is missing. The kernel retries nothing of other protocols: routes, for instance.
    /// - An event is sent again to its whole group: where one reliable socket was full, all others hear the event twice or
    ///   more. [`Repeats`](crate::conntrack::Repeats) tells which.
    /// - The drop counter counts failed deliveries, each retry too. So an engine has them in
    ///   [`Statistics::delivery_failures`](crate::Statistics::delivery_failures), tells of them by
    ///   [`Notice::Delayed`](crate::Notice::Delayed), and has no losses of this socket.
    ///
    /// ```no_run
    /// use nlring::{Protocol, Socket, conntrack};
    ///
    /// let socket = Socket::builder(Protocol::NETFILTER)
    ///     .group(conntrack::Group::Destroy)
    ///     .recv_buffer_bytes(8 << 20)
    ///     .reliable(true)
    ///     .open()?;
    /// # Ok::<(), nlring::Error>(())
    /// ```
    pub fn reliable(mut self, on: bool) -> Self {
        self.reliable = on;
        self
    }

    /// See [`Socket::set_ext_ack`].
    pub fn ext_ack(mut self, on: bool) -> Self {
        self.ext_ack = on;
        self
    }

    /// Opens the socket.
    ///
    /// # Errors
    ///
    /// Those of [`Socket::open`], [`Socket::bind`], [`Socket::add_membership`] and of the options asked for. Nothing is
    /// left open.
    pub fn open(&self) -> Result<Socket> {
        type Set = fn(&Socket, bool) -> Result<()>;
        let socket = Socket::open(self.protocol)?;
        if let Some(requested_bytes) = self.recv_buffer_bytes {
            socket.set_recv_buffer_bytes(requested_bytes)?;
        }
        let options: [(bool, Set); 6] = [
            (self.nonblocking, Socket::set_nonblocking),
            (self.pktinfo, Socket::set_pktinfo),
            (self.listen_all_nsid, Socket::set_listen_all_nsid),
            (self.no_enobufs || self.reliable, Socket::set_no_enobufs),
            (self.reliable, Socket::set_broadcast_error),
            (self.ext_ack, Socket::set_ext_ack),
        ];
        for (_, set) in options.iter().filter(|(on, _)| *on) {
            set(&socket, true)?;
        }
        socket.bind(self.port_id, 0)?;
        for &group in &self.groups {
            socket.add_membership(group)?;
        }
        Ok(socket)
    }
}
