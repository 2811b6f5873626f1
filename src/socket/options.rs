//! The options of a socket: groups, flags, receive buffer, time-out, drop counter.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Protocol, Socket};
use crate::error::{Error, ErrorKind, NET_ADMIN, Result};
use crate::sys::socket as sys;

/// The constants of netlink's socket options, for [`Socket::option`] and [`Socket::set_option`]
/// (include/uapi/linux/netlink.h).
pub mod sockopt {
    /// The level of netlink's own options.
    pub const SOL_NETLINK: i32 = 270;
    /// Joins a multicast group, see [`Socket::add_membership`](crate::Socket::add_membership).
    pub const ADD_MEMBERSHIP: i32 = 1;
    /// Leaves a multicast group, see [`Socket::drop_membership`](crate::Socket::drop_membership).
    pub const DROP_MEMBERSHIP: i32 = 2;
    /// Reports the group of each datagram, see [`Socket::set_pktinfo`](crate::Socket::set_pktinfo).
    pub const PKTINFO: i32 = 3;
    /// Reports a failed delivery to the sender, see
    /// [`Socket::set_broadcast_error`](crate::Socket::set_broadcast_error).
    pub const BROADCAST_ERROR: i32 = 4;
    /// Counts losses without reporting them as errors, see [`Socket::set_no_enobufs`](crate::Socket::set_no_enobufs).
    pub const NO_ENOBUFS: i32 = 5;
    /// Receives the events of other network namespaces, see
    /// [`Socket::set_listen_all_nsid`](crate::Socket::set_listen_all_nsid).
    pub const LISTEN_ALL_NSID: i32 = 8;
    /// The multicast groups as a bit set of 32-bit words, see [`Socket::groups`](crate::Socket::groups).
    pub const LIST_MEMBERSHIPS: i32 = 9;
    /// Acknowledgements do not repeat the request, see [`Socket::set_cap_ack`](crate::Socket::set_cap_ack).
    pub const CAP_ACK: i32 = 10;
    /// Acknowledgements explain errors, see [`Socket::set_ext_ack`](crate::Socket::set_ext_ack).
    pub const EXT_ACK: i32 = 11;
    /// Get requests are checked strictly, see [`Socket::set_get_strict_check`](crate::Socket::set_get_strict_check).
    pub const GET_STRICT_CHK: i32 = 12;
}

/// The size of a receive buffer, as requested and as granted.
///
/// The kernel grants twice the requested size, because it also counts its bookkeeping (socket(7)).
///
/// ```
/// use nlring::{Protocol, Socket};
///
/// let socket = Socket::open(Protocol::ROUTE)?;
/// let buffer = socket.set_recv_buffer_bytes(128 << 10)?;
/// assert_eq!(buffer.requested_bytes, 128 << 10);
/// assert_eq!(buffer.granted_bytes, 256 << 10);
/// assert!(!buffer.is_clamped());
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the kernel may have granted less than was requested: see `is_clamped`"]
#[non_exhaustive]
pub struct RecvBuffer {
    /// The size in bytes that was passed to the kernel. 0 if none was.
    pub requested_bytes: usize,
    /// The size in bytes that the kernel reports, which includes its bookkeeping.
    pub granted_bytes: usize,
}

impl RecvBuffer {
    /// Whether the kernel granted less than was requested: the limit is `net.core.rmem_max`, unless the process has
    /// `CAP_NET_ADMIN` in the initial user namespace.
    pub fn is_clamped(&self) -> bool {
        /// The kernel never reports a larger buffer.
        const MAX_BYTES: usize = 2_147_483_646;
        self.granted_bytes < self.requested_bytes.saturating_mul(2).min(MAX_BYTES)
    }
}

/// Options by name and value.
impl Socket {
    /// Reads a socket option into `value`, and returns its full length in bytes, which can be more than was stored. The
    /// options of netlink are in [`sockopt`], at level [`sockopt::SOL_NETLINK`]; socket(7) lists those of `SOL_SOCKET`.
    ///
    /// Only options whose value is plain bytes are passed to the kernel. The kernel counts some others in units larger
    /// than bytes, and follows pointers in some, so it could write outside `value`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`]: the kernel does not have the option, or its value is not known to be plain bytes,
    /// such as that of `SO_GET_FILTER`. For such options pass [`as_fd`](AsFd::as_fd) to a crate that has a function for
    /// them.
    pub fn option(&self, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        sys::option(self.as_fd(), level, name, value)
            .map_err(|error| Error::system("read a socket option", error))
    }

    /// Sets a socket option to the bytes of `value`. Only options whose value is plain bytes are passed to the kernel,
    /// because it reads the memory that a pointer in a value points to.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Unsupported`]: the kernel does not have the option, or its value is not known to be plain bytes,
    ///   such as that of `SO_ATTACH_FILTER`. For such options pass [`as_fd`](AsFd::as_fd) to a crate that has a
    ///   function for them.
    /// - [`ErrorKind::PermissionDenied`]: the option needs a capability.
    pub fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<()> {
        sys::set_option(self.as_fd(), level, name, value)
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

    /// The protocol that the socket was opened on (`SO_PROTOCOL`, socket(7)).
    ///
    /// # Errors
    ///
    /// None known for a netlink socket.
    pub fn protocol(&self) -> Result<Protocol> {
        let mut value = [0; 4];
        self.option(libc::SOL_SOCKET, libc::SO_PROTOCOL, &mut value)?;
        Ok(Protocol::from_number(i32::from_ne_bytes(value)))
    }

    /// Makes [`recv`](Self::recv) return at once if there is nothing to receive.
    ///
    /// # Errors
    ///
    /// None known for a netlink socket.
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<()> {
        sys::set_nonblocking(self.as_fd(), nonblocking)
            .map_err(|error| Error::system("make the socket non-blocking", error))
    }

    /// Limits how long [`recv`](Self::recv) waits (`SO_RCVTIMEO`). None and zero mean no limit. The kernel rounds up to
    /// its clock ticks of 1 to 10 ms, and treats a time-out beyond the range of its ticks as no limit.
    ///
    /// # Errors
    ///
    /// None known for a netlink socket.
    pub fn set_recv_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        let timeout = timeout.unwrap_or_default();
        // struct timeval is two longs, of which 0 means no limit. A time-out below 1 µs becomes 1 µs.
        let micros = if timeout.is_zero() {
            0
        } else {
            timeout
                .subsec_micros()
                .max(u32::from(timeout.as_secs() == 0))
        };
        let seconds = libc::c_long::try_from(timeout.as_secs()).unwrap_or(libc::c_long::MAX);
        let micros = libc::c_long::from(i32::try_from(micros).unwrap_or_default());
        let value = [seconds.to_ne_bytes(), micros.to_ne_bytes()].concat();
        self.set_option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &value)
    }
}

/// Multicast groups.
impl Socket {
    /// Joins a multicast group. Groups are numbered from 1.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the protocol has no group of this number in this kernel.
    /// - [`ErrorKind::PermissionDenied`]: the group needs a capability, which the error names. Groups of conntrack need
    ///   `CAP_NET_ADMIN`, those of routes need none, those of the audit protocol need `CAP_AUDIT_READ`.
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
            _ => error.with_remedy_if_denied(self.group_capability()),
        })
    }

    /// The remedy when a group is denied.
    ///
    /// By default a group needs CAP_NET_ADMIN. Some protocols let every process join (`NL_CFG_F_NONROOT_RECV`), and of
    /// these two have groups with another rule: audit and generic netlink (Linux v6.18, net/netlink/af_netlink.c,
    /// `netlink_setsockopt`; kernel/audit.c, `audit_multicast_bind`; net/netlink/genetlink.c, `genl_bind`).
    pub(super) fn group_capability(&self) -> &'static str {
        match self.protocol() {
            Ok(Protocol::AUDIT) => {
                "it needs CAP_AUDIT_READ in the initial user namespace: run as root of the host or \
                 grant the capability"
            }
            Ok(Protocol::GENERIC) => {
                "it needs CAP_NET_ADMIN in this network namespace, or CAP_SYS_ADMIN for some groups: \
                 run as root or grant the capability"
            }
            _ => NET_ADMIN,
        }
    }

    /// Leaves a multicast group. When this returns, no sender still adds a datagram of the group to the receive queue.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the protocol has no group of this number in this kernel.
    pub fn drop_membership(&self, group: impl Into<u32>) -> Result<()> {
        self.set_netlink(
            "leave a multicast group",
            sockopt::DROP_MEMBERSHIP,
            group.into(),
        )
    }

    /// The numbers of the multicast groups that the socket is in, ascending. Before Linux 4.2, which has no
    /// `NETLINK_LIST_MEMBERSHIPS`, only those up to 32.
    ///
    /// # Errors
    ///
    /// None known for a netlink socket.
    pub fn groups(&self) -> Result<Vec<u32>> {
        let words = self.membership_words()?;
        let bits = words
            .iter()
            .flat_map(|word| (0..32).map(move |bit| word >> bit & 1 == 1));
        Ok((1..)
            .zip(bits)
            .filter_map(|(group, is_member)| is_member.then_some(group))
            .collect())
    }

    fn membership_words(&self) -> Result<Vec<u32>> {
        const OPERATION: &str = "list the multicast groups";
        let mut bytes = vec![0; 64];
        loop {
            let (level, name) = (sockopt::SOL_NETLINK, sockopt::LIST_MEMBERSHIPS);
            match sys::option(self.as_fd(), level, name, &mut bytes) {
                Ok(length) if length > bytes.len() => bytes.resize(length, 0),
                // The whole zeroed buffer, because kernels before 6.3 understate the length if the number of groups is
                // not a multiple of 32 (net/netlink/af_netlink.c, `netlink_getsockopt`).
                Ok(_) => {
                    let words = bytes.chunks_exact(4);
                    return Ok(words
                        .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
                        .collect());
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
                    let address = sys::local_address(self.as_fd());
                    let (_, groups_mask) =
                        address.map_err(|error| Error::system(OPERATION, error))?;
                    return Ok(vec![groups_mask]);
                }
                Err(error) => return Err(Error::system(OPERATION, error)),
            }
        }
    }
}

/// Netlink's flags.
impl Socket {
    /// Makes each datagram carry the group that it was sent to ([`Datagram::group`](crate::Datagram::group)). Available
    /// since Linux 2.6.14.
    ///
    /// # Errors
    ///
    /// None known.
    pub fn set_pktinfo(&self, on: bool) -> Result<()> {
        self.set_netlink("set NETLINK_PKTINFO", sockopt::PKTINFO, on.into())
    }

    /// Lets a sender learn that it could not deliver a datagram to this socket. Conntrack then keeps DESTROY events and
    /// sends them again, and the drop counter counts failed deliveries instead of losses. Available since Linux 2.6.30.
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

    /// Makes the kernel count losses ([`drops`](Self::drops)) without reporting them as errors. After a loss the socket
    /// then takes new datagrams as soon as there is room, instead of none until its queue is empty. Available since
    /// Linux 2.6.30.
    ///
    /// # Errors
    ///
    /// None known.
    pub fn set_no_enobufs(&self, on: bool) -> Result<()> {
        self.set_netlink("set NETLINK_NO_ENOBUFS", sockopt::NO_ENOBUFS, on.into())
    }

    /// Receives also the events of all network namespaces that have a number (nsid) in this one. [`Datagram::nsid`]
    /// says where a datagram comes from. Available since Linux 4.2.
    ///
    /// [`Datagram::nsid`]: crate::Datagram::nsid
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

    /// Makes the kernel leave out the payload of the request when it acknowledges an error. Available since Linux 4.3.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] on an older kernel.
    pub fn set_cap_ack(&self, on: bool) -> Result<()> {
        self.set_netlink("set NETLINK_CAP_ACK", sockopt::CAP_ACK, on.into())
    }

    /// Makes the kernel explain errors ([`ErrorMessage::text`](crate::ErrorMessage::text)). Available since Linux 4.12.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] on an older kernel.
    pub fn set_ext_ack(&self, on: bool) -> Result<()> {
        self.set_netlink("set NETLINK_EXT_ACK", sockopt::EXT_ACK, on.into())
    }

    /// Makes the kernel check get requests strictly, and filter dumps by their fields. Available since Linux 4.20.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] on an older kernel.
    pub fn set_get_strict_check(&self, on: bool) -> Result<()> {
        self.set_netlink(
            "set NETLINK_GET_STRICT_CHK",
            sockopt::GET_STRICT_CHK,
            on.into(),
        )
    }

    /// Whether the kernel checks get requests strictly. Available since Linux 4.20.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] on an older kernel.
    pub fn get_strict_check(&self) -> Result<bool> {
        self.netlink_flag(sockopt::GET_STRICT_CHK)
    }

    /// Whether senders learn of failed deliveries, see [`set_broadcast_error`](Self::set_broadcast_error).
    pub(crate) fn broadcast_error(&self) -> bool {
        self.netlink_flag(sockopt::BROADCAST_ERROR).unwrap_or(false)
    }
}

/// The receive buffer, and what did not fit into it.
impl Socket {
    /// Requests a receive buffer of 1 to 2,147,483,647 bytes.
    ///
    /// With `CAP_NET_ADMIN` in the initial user namespace the kernel grants any size (`SO_RCVBUFFORCE`), else at most
    /// `net.core.rmem_max` (`SO_RCVBUF`). It never grants less than about 2 KiB. [`RecvBuffer::is_clamped`] says
    /// whether it granted less than was requested.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`]: 0, or more than 2,147,483,647 bytes.
    pub fn set_recv_buffer_bytes(&self, requested_bytes: usize) -> Result<RecvBuffer> {
        const OPERATION: &str = "set the receive buffer's size";
        let requested = u32::try_from(requested_bytes).unwrap_or(u32::MAX);
        if !(1..=0x7fff_ffff).contains(&requested) {
            return Err(Error::with_kind(OPERATION, ErrorKind::InvalidInput)
                .with_remedy("give it from 1 to 2147483647 bytes"));
        }
        let (fd, value) = (self.as_fd(), requested.to_ne_bytes());
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &value)
            .or_else(|_| sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &value))
            .map_err(|error| Error::system(OPERATION, error))?;
        self.requested_recv_bytes
            .store(requested, Ordering::Relaxed);
        self.recv_buffer()
    }

    /// The size of the receive buffer: what was last requested by this `Socket` or its builder, and what the kernel
    /// granted. `requested_bytes` is 0 if nothing was requested.
    ///
    /// # Errors
    ///
    /// None known.
    pub fn recv_buffer(&self) -> Result<RecvBuffer> {
        Ok(RecvBuffer {
            requested_bytes: self.requested_recv_bytes.load(Ordering::Relaxed) as usize,
            granted_bytes: self.recv_buffer_bytes()?,
        })
    }

    /// The size of the receive buffer in bytes as the kernel reports it: twice what it granted (socket(7)).
    ///
    /// # Errors
    ///
    /// None known.
    pub fn recv_buffer_bytes(&self) -> Result<usize> {
        let mut value = [0; 4];
        self.option(libc::SOL_SOCKET, libc::SO_RCVBUF, &mut value)?;
        Ok(usize::try_from(i32::from_ne_bytes(value)).unwrap_or(0))
    }

    /// How many datagrams the kernel could not deliver to this socket, modulo 2^32.
    ///
    /// The count starts when the socket is opened or made from a descriptor, and is never reset, also not by an engine
    /// that reports the drops. For a socket that was opened here it equals the column Drops of /proc/net/netlink.
    /// Available since Linux 4.12 (`SO_MEMINFO`, include/uapi/linux/sock_diag.h, `SK_MEMINFO_DROPS`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] on an older kernel.
    pub fn drops(&self) -> Result<u32> {
        let drops = sys::drops(self.as_fd())
            .map_err(|error| Error::system("read the drop counter", error))?;
        Ok(drops.wrapping_sub(self.drops_baseline))
    }
}
