//! Opening a socket with options and groups in one call.

use super::{Namespace, Protocol, Socket};
use crate::error::Result;
use crate::filter::Program;

/// Opens a [`Socket`] with options and groups. It sets the options, the receive buffer and the filter first and joins
/// the groups last, so that the first event finds the socket ready.
///
/// ```
/// use nlring::{Protocol, Socket, route};
///
/// let socket = Socket::builder(Protocol::ROUTE)
///     .group(route::Group::Ipv4Route)
///     .recv_buffer_bytes(1 << 20)
///     .open()?;
/// assert_eq!(socket.groups()?, [7]);
///
/// let buffer = socket.recv_buffer()?;
/// if buffer.is_clamped() {
///     eprintln!("the receive buffer is smaller than requested: raise net.core.rmem_max");
/// }
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder opens nothing until `open`"]
pub struct SocketBuilder {
    protocol: Protocol,
    namespace: Option<Namespace>,
    port_id: u32,
    groups: Vec<u32>,
    recv_buffer_bytes: Option<usize>,
    nonblocking: bool,
    pktinfo: bool,
    listen_all_nsid: bool,
    no_enobufs: bool,
    reliable: bool,
    ext_ack: bool,
    filter: Option<Program>,
}

impl SocketBuilder {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            namespace: None,
            port_id: Socket::AUTOPID,
            groups: Vec::new(),
            recv_buffer_bytes: None,
            nonblocking: false,
            pktinfo: false,
            listen_all_nsid: false,
            no_enobufs: false,
            reliable: false,
            ext_ack: false,
            filter: None,
        }
    }

    /// Opens the socket in another network namespace. Its events and answers are then those of that namespace, and an
    /// engine receives from it as from any other socket.
    ///
    /// The calling thread never leaves its own namespace, even if something fails: a separate thread makes the one
    /// system call that opens the socket, and then ends. If the caller is already in that namespace, no thread is
    /// started and no capability is needed.
    ///
    /// Entering a namespace needs `CAP_SYS_ADMIN`, in the process's user namespace and in the one that owns the network
    /// namespace (setns(2)). It takes 43 µs, whereas opening a socket in the caller's namespace takes 3 µs (medians,
    /// 2-core VM, Linux 6.18, November 2026).
    ///
    /// A mirror of the socket's events also sends its requests in that namespace. The socket keeps the namespace alive
    /// until it is closed, even if the namespace's name is deleted.
    ///
    /// ```no_run
    /// use nlring::{Namespace, Protocol, Socket, conntrack};
    ///
    /// let blue = Namespace::from_name("blue")?; // of `ip netns add blue`
    /// let socket = Socket::builder(Protocol::NETFILTER)
    ///     .namespace(&blue)
    ///     .groups(conntrack::Mirror::GROUPS)
    ///     .open()?;
    /// # Ok::<(), nlring::Error>(())
    /// ```
    pub fn namespace(mut self, namespace: &Namespace) -> Self {
        self.namespace = Some(namespace.clone());
        self
    }

    /// Binds the socket to this port ID. Without it the kernel chooses one.
    pub fn port_id(mut self, port_id: u32) -> Self {
        self.port_id = port_id;
        self
    }

    /// Joins a multicast group. Groups are numbered from 1.
    pub fn group(mut self, group: impl Into<u32>) -> Self {
        self.groups.push(group.into());
        self
    }

    /// Joins several multicast groups. Groups are numbered from 1.
    pub fn groups(mut self, groups: impl IntoIterator<Item = impl Into<u32>>) -> Self {
        self.groups.extend(groups.into_iter().map(Into::into));
        self
    }

    /// Requests a receive buffer of 1 to 2,147,483,647 bytes. The kernel may grant less without [`open`](Self::open)
    /// failing: check [`Socket::recv_buffer`]. See [`Socket::set_recv_buffer_bytes`] for the limits.
    pub fn recv_buffer_bytes(mut self, requested_bytes: usize) -> Self {
        self.recv_buffer_bytes = Some(requested_bytes);
        self
    }

    /// Makes receives return at once if there is nothing to receive: [`Socket::set_nonblocking`].
    pub fn nonblocking(mut self, on: bool) -> Self {
        self.nonblocking = on;
        self
    }

    /// Reports the group of each datagram: [`Socket::set_pktinfo`].
    pub fn pktinfo(mut self, on: bool) -> Self {
        self.pktinfo = on;
        self
    }

    /// Also receives the events of other network namespaces: [`Socket::set_listen_all_nsid`].
    pub fn listen_all_nsid(mut self, on: bool) -> Self {
        self.listen_all_nsid = on;
        self
    }

    /// Counts losses instead of reporting them as errors: [`Socket::set_no_enobufs`].
    pub fn no_enobufs(mut self, on: bool) -> Self {
        self.no_enobufs = on;
        self
    }

    /// Makes conntrack keep each DESTROY event that did not fit into the receive buffer, and send it again until it
    /// fits. It sets [`Socket::set_broadcast_error`] and [`Socket::set_no_enobufs`]. Available since Linux 2.6.30.
    ///
    /// - No DESTROY is lost while the socket is open, but it may arrive late: the kernel sends it again after about 1
    ///   s, and then every 10 ms.
    /// - Until then the flow stays in the kernel's table and counts against `nf_conntrack_max`. If the reader stops,
    ///   the table can fill up.
    /// - NEW and UPDATE events are not sent again, nor is any event of another protocol, such as routes. The flow's
    ///   next event contains what a lost one would have said, unless it is its DESTROY.
    /// - The kernel sends a DESTROY again to the whole group, so other sockets of the group receive it more than once.
    ///   [`Repeats`](crate::conntrack::Repeats) recognises the duplicates.
    /// - The drop counter counts failed deliveries, including each retry. So an engine counts them in
    ///   [`Statistics::delivery_failures`](crate::Statistics::delivery_failures), reports them as
    ///   [`Notice::Delayed`](crate::Notice::Delayed), and reports no losses for this socket.
    ///
    /// Source: Linux v6.18, net/netfilter/nf_conntrack_ecache.c, `ecache_work`, and net/netfilter/nf_conntrack_core.c,
    /// `nf_ct_delete`.
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

    /// Makes the kernel explain refusals: [`Socket::set_ext_ack`].
    pub fn ext_ack(mut self, on: bool) -> Self {
        self.ext_ack = on;
        self
    }

    /// Attaches a program that decides which datagrams the socket receives, before any group is joined:
    /// [`Socket::set_filter`].
    pub fn filter(mut self, program: &Program) -> Self {
        self.filter = Some(program.clone());
        self
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(crate) fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    /// Opens the socket.
    ///
    /// # Errors
    ///
    /// Those of [`Socket::open_in`], [`Socket::bind`], [`Socket::add_membership`], [`Socket::set_recv_buffer_bytes`],
    /// [`Socket::set_filter`] and of the options that were turned on. The socket is then closed.
    pub fn open(&self) -> Result<Socket> {
        type Set = fn(&Socket, bool) -> Result<()>;
        let socket = match &self.namespace {
            Some(namespace) => Socket::open_in(self.protocol, namespace)?,
            None => Socket::open(self.protocol)?,
        };
        if let Some(requested_bytes) = self.recv_buffer_bytes {
            let _ = socket.set_recv_buffer_bytes(requested_bytes)?; // `Socket::recv_buffer` has it
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
        if let Some(program) = &self.filter {
            socket.set_filter(program)?;
        }
        socket.bind(self.port_id, 0)?;
        for &group in &self.groups {
            socket.add_membership(group)?;
        }
        Ok(socket)
    }
}
