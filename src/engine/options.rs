//! How an engine receives from a socket.

use crate::error::{Error, ErrorKind, Result};

/// How an engine receives from a socket: the number and size of the buffers, and the accepted senders.
///
/// ```
/// use nlring::{AddOptions, Engine, Protocol, Socket};
///
/// // A group to which other programs multicast short messages.
/// let options = AddOptions::new()
///     .buffer_count(64)
///     .buffer_bytes(4096)
///     .accept_any_sender(true);
/// let mut engine = Engine::builder().build()?;
/// engine.add_with(Socket::open(Protocol::USERSOCK)?, options)?;
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddOptions {
    pub(super) buffer_count: u16,
    pub(super) buffer_bytes: usize,
    pub(super) accept_any_sender: bool,
}

impl Default for AddOptions {
    /// 256 buffers of 128 KiB, which use only the memory that datagrams fill; the kernel as the only sender.
    fn default() -> Self {
        Self {
            buffer_count: 256,
            buffer_bytes: 128 << 10,
            accept_any_sender: false,
        }
    }
}

impl AddOptions {
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many datagrams the engine's buffers for this socket hold: a power of two from 1 to 32,768; 256 by default.
    /// `Oneshot` uses its depth instead, and `Recvmmsg` uses at most 1024.
    ///
    /// `Multishot` packs datagrams back to back if the kernel can (`IOU_PBUF_RING_INC` with `min_left`, in stable
    /// kernels since 2026-04) and the buffers together are large enough. The socket then has up to 8 larger buffers, in
    /// the same amount of memory. Events fill 48 KiB of each, so the buffers hold thousands of events and stay in the
    /// processor's cache.
    #[must_use]
    pub fn buffer_count(mut self, count: u16) -> Self {
        self.buffer_count = count;
        self
    }

    /// The longest datagram that fits, from 1 byte to 1 GiB; 128 KiB by default. A buffer uses only the memory that
    /// datagrams fill, and does not count against `RLIMIT_MEMLOCK`.
    ///
    /// The default of 128 KiB fits everything that the kernel sends about routes, connections and packets
    /// (nfnetlink_queue, nflog), and dumps (32 KiB: net/netlink/af_netlink.c, `netlink_dump`). The longest events are
    /// about routes: 16 bytes for each IPv4 next hop, 28 for each IPv6 next hop, more with an encapsulation, in an
    /// attribute of at most 64 KiB. An IPv6 route to which next hops are appended one by one can become longer; then
    /// the length of its attribute is wrong (seen on Linux 6.18: 3,000 hops, 84,112 bytes).
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// Also delivers datagrams from senders other than the kernel, such as multicasts from other programs. Check
    /// [`Datagram::sender_port_id`](crate::Datagram::sender_port_id), because any process with `CAP_NET_ADMIN` may
    /// send.
    #[must_use]
    pub fn accept_any_sender(mut self, on: bool) -> Self {
        self.accept_any_sender = on;
        self
    }

    pub(super) fn check(self) -> Result<()> {
        let refuse = |remedy| {
            Err(Error::with_kind("add a socket", ErrorKind::InvalidInput).with_remedy(remedy))
        };
        if !self.buffer_count.is_power_of_two() || self.buffer_count > 1 << 15 {
            return refuse("the buffer count must be a power of two from 1 to 32,768");
        }
        if self.buffer_bytes == 0 || self.buffer_bytes > 1 << 30 {
            return refuse("a buffer must have from 1 byte to 1 GiB");
        }
        Ok(())
    }
}
