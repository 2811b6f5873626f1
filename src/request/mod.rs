//! Requests to the kernel and its replies, which are read by the rules of libmnl's `mnl_cb_run`.

mod batch;
mod exchange;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod receive;
mod replies;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

pub use self::batch::Batch;
pub(crate) use self::exchange::Exchange;
pub(crate) use self::receive::Patience;
pub use self::replies::{Dump, Replies};
use crate::engine::StopHandle;
#[cfg(doc)]
use crate::error::Error;
use crate::error::{ErrorKind, Result};
use crate::message::{Message, MessageBuilder, NOOP, build, flags};
use crate::socket::{Namespace, Protocol, Socket};

/// The default time-out of a wait. The kernel answers at once, except on a host under extreme load.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The size of the receive buffer in bytes, which holds any datagram of a dump (net/netlink/af_netlink.c,
/// `netlink_dump`: 32 KiB at most).
const REPLY_BYTES: usize = 32 << 10;
/// How often an interrupted dump is repeated.
const RETRIES: u32 = 5;
/// The pause before the first repetition. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// No pause is longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Sends requests to the kernel on its own socket, and returns the replies.
///
/// A request gets its own replies and no other message:
///
/// - The socket is connected to the kernel, so no other socket can send to it. If [`socket`](Self::socket) has joined a
///   multicast group, datagrams from other processes are skipped.
/// - The port ID and the sequence number of each reply are checked. Unread replies to an earlier request are skipped.
///   If a dump was not read to its end, the next request reads it first, because the kernel runs one dump per socket at
///   a time.
///
/// If the kernel refuses a request, the [`Error`] has the number ([`Error::raw_os_error`]), the kernel's explanation
/// ([`Error::kernel_text`]) and the offset of the attribute that it refused ([`Error::offset_bytes`]).
///
/// A wait for a reply ends after a [time-out](Self::set_timeout), even if other messages arrive, and when a
/// [stop](Self::set_stop) is requested.
///
/// ```
/// use nlring::{Protocol, Requester, route::Link};
/// use nlring::message::flags;
///
/// let mut requester = Requester::open(Protocol::ROUTE)?;
/// // RTM_GETLINK with a struct ifinfomsg of zeros: all links.
/// let dump = requester.dump(18, |request| request.bytes(&[0; 16]), |names: &mut Vec<_>, message| {
///     names.extend(Link::decode(message).and_then(|link| link.name.map(<[u8]>::to_vec)));
/// })?;
/// assert!(dump.items.contains(&b"lo".to_vec()));
///
/// let refused = requester.ask(18, 0, |request| request.bytes(&[0; 16]).attribute_str_nul(3, "none")).unwrap_err();
/// assert_eq!(refused.raw_os_error(), Some(19 /* ENODEV */));
/// # Ok::<(), nlring::Error>(())
/// ```
pub struct Requester {
    socket: Socket,
    port_id: u32,
    /// The sequence number of the last request.
    sequence: u32,
    retries: u32,
    timeout: Duration,
    stop: Option<StopHandle>,
    request: Vec<u8>,
    replies: Vec<u8>,
    /// The part of the datagram in `replies` that has not been read yet.
    left: Range<usize>,
    /// The last request, until all its replies have been read.
    unfinished: Option<Exchange>,
    /// The kernel knows that this socket can receive a datagram of `REPLY_BYTES`.
    has_received: bool,
    /// The dump on this socket cannot end.
    is_stuck: bool,
}

impl Requester {
    /// Opens a socket of a protocol for requests. It turns on extended acknowledgements (Linux 4.12) and strict
    /// checking of dump filters (Linux 4.20) where the kernel has them.
    ///
    /// # Errors
    ///
    /// Those of [`Socket::open`] and [`Socket::bind`].
    pub fn open(protocol: Protocol) -> Result<Self> {
        Self::of_socket(Socket::open(protocol)?)
    }

    /// Opens a socket for requests in another network namespace, as [`open`](Self::open) does in the calling thread's.
    /// The kernel answers from that namespace. [`SocketBuilder::namespace`](crate::SocketBuilder::namespace) describes
    /// the cost and the required capability.
    ///
    /// # Errors
    ///
    /// Those of [`Socket::open_in`] and [`Socket::bind`].
    pub fn open_in(protocol: Protocol, namespace: &Namespace) -> Result<Self> {
        Self::of_socket(Socket::open_in(protocol, namespace)?)
    }

    /// Opens a socket for requests in the namespace of another socket, as far as that is known.
    pub(crate) fn open_beside(protocol: Protocol, socket: &Socket) -> Result<Self> {
        Self::open_where(protocol, socket.namespace())
    }

    /// Opens a socket for requests in a namespace, or in that of the calling thread.
    pub(crate) fn open_where(protocol: Protocol, namespace: Option<&Namespace>) -> Result<Self> {
        match namespace {
            Some(namespace) => Self::open_in(protocol, namespace),
            None => Self::open(protocol),
        }
    }

    fn of_socket(socket: Socket) -> Result<Self> {
        socket.bind(Socket::AUTOPID, 0)?;
        socket.connect_to_kernel()?;
        // On an older kernel refusals are explained less well, and dumps may return more than was requested.
        for option in [
            socket.set_ext_ack(true),
            socket.set_cap_ack(true),
            socket.set_get_strict_check(true),
        ] {
            option.or_else(|error| match error.kind() {
                ErrorKind::Unsupported => Ok(()),
                _ => Err(error),
            })?;
        }
        Ok(Self {
            port_id: socket.port_id()?,
            socket,
            sequence: 0,
            retries: RETRIES,
            timeout: TIMEOUT,
            stop: None,
            request: Vec::new(),
            replies: vec![0; REPLY_BYTES],
            left: 0..0,
            unfinished: None,
            has_received: false,
            is_stuck: false,
        })
    }

    /// The socket, for setting its options.
    ///
    /// After an error of [`ErrorKind::EntryTooLarge`] the next request may open another socket, because the dump on
    /// this one cannot end. The other socket has the options of [`open`](Self::open) and a receive buffer of the same
    /// size.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Sets how long to wait for each reply. The default is 5 s. [`Duration::ZERO`] does not wait, and a time-out
    /// beyond the range of the clock means no limit.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Lets a handle end the waits for replies and the pauses of [`dump`](Self::dump). When it requests a stop, the
    /// call that waits fails with [`ErrorKind::Stopped`]. Without a handle only the time-out ends a wait.
    pub fn set_stop(&mut self, stop: StopHandle) {
        self.stop = Some(stop);
    }

    /// Sets how often [`dump`](Self::dump) repeats a dump that changes have interrupted. The default is 5 times; 0
    /// means never. The pauses before the repetitions double from 10 ms up to 1 s.
    pub fn set_dump_retries(&mut self, retries: u32) {
        self.retries = retries;
    }

    /// Sends a request, with the flags `NLM_F_REQUEST` and `NLM_F_ACK` and those given, and returns its replies. `fill`
    /// appends the fixed header of the protocol and attributes, and must return the builder that it is given.
    ///
    /// # Errors
    ///
    /// The request could not be built ([`MessageBuilder::finish`]) or sent ([`Socket::send`]). A refusal by the kernel
    /// is in the replies.
    pub fn send(
        &mut self,
        message_type: u16,
        flags: u16,
        fill: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
    ) -> Result<Replies<'_>> {
        let exchange = self.begin(message_type, flags, fill)?;
        Ok(Replies {
            requester: self,
            exchange,
        })
    }

    /// Sends a request and waits until the kernel has carried it out. Data among the replies is skipped. The parameters
    /// are those of [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send) and [`Replies::next_message`].
    pub fn ask(
        &mut self,
        message_type: u16,
        flags: u16,
        fill: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
    ) -> Result<()> {
        let mut replies = self.send(message_type, flags, fill)?;
        while replies.next_message()?.is_some() {}
        Ok(())
    }

    /// Dumps a table: calls `collect` with each entry and the items, to which it adds what it needs. If changes
    /// interrupt the dump, it is repeated with new items, up to [5 times](Self::set_dump_retries). The items of the
    /// last attempt are returned in any case.
    ///
    /// To read a large table without keeping it in memory, [`send`](Self::send) a request with
    /// [`flags::DUMP`] and read its replies.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send) and [`Replies::next_message`].
    pub fn dump<T: Default>(
        &mut self,
        message_type: u16,
        fill: impl Fn(MessageBuilder<'_>) -> MessageBuilder<'_>,
        mut collect: impl FnMut(&mut T, &Message<'_>),
    ) -> Result<Dump<T>> {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            let mut items = T::default();
            let mut replies = self.send(message_type, flags::DUMP, &fill)?;
            while let Some(message) = replies.next_message()? {
                collect(&mut items, &message);
            }
            let is_interrupted = replies.is_interrupted();
            attempts += 1;
            if !is_interrupted || attempts > self.retries {
                return Ok(Dump {
                    items,
                    is_interrupted,
                    attempts,
                });
            }
            self.pause(pause)?;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Sends a request whose replies [`next`](Self::next) returns.
    pub(crate) fn begin(
        &mut self,
        message_type: u16,
        flags: u16,
        fill: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
    ) -> Result<Exchange> {
        let is_dump = may_dump(flags);
        self.get_ready(is_dump)?;
        self.request.clear();
        let flags = flags | flags::REQUEST | flags::ACK;
        let sequence = self.next_sequence(1);
        build(&mut self.request, message_type, flags, sequence, fill)?;
        self.socket.send(&self.request)?;
        Ok(self.expect(sequence, sequence, is_dump))
    }

    /// Prepares the socket for another request.
    fn get_ready(&mut self, is_dump: bool) -> Result<()> {
        self.finish_last();
        if self.is_stuck {
            self.open_again()?;
        }
        if is_dump && !self.has_received {
            self.show_buffer_size();
        }
        Ok(())
    }

    /// Opens another socket, because the dump on this one cannot end: the kernel would refuse the next dump (`EBUSY`).
    fn open_again(&mut self) -> Result<()> {
        let Self { socket, .. } = Self::open_beside(self.socket.protocol()?, &self.socket)?;
        // The kernel reports twice what was set.
        let _ = socket.set_recv_buffer_bytes(self.socket.recv_buffer_bytes()? / 2)?;
        self.port_id = socket.port_id()?;
        self.socket = socket;
        (self.has_received, self.is_stuck) = (false, false);
        Ok(())
    }

    /// Shows the kernel how large a datagram this socket can receive. Until a datagram was received with 32 KiB, the
    /// kernel dumps in pieces of about 3.7 KiB and fails if one entry is larger (Linux v6.18, net/netlink/af_netlink.c,
    /// `netlink_recvmsg`: `max_recvmsg_len`).
    ///
    /// So this sends a no-op request and receives its answer, which the kernel sends before `send` returns. If the
    /// protocol does not answer, or the request cannot be sent, the dump works as it would have without it.
    fn show_buffer_size(&mut self) {
        let sequence = self.next_sequence(1);
        if send_noop(&self.socket, sequence).is_ok() {
            self.sequence = sequence;
            let _ = self.receive();
            self.left = 0..0;
        }
    }

    /// The first of `count` sequence numbers in a row. 0 is not among them, because it is the sequence number of
    /// events.
    fn next_sequence(&self, count: usize) -> u32 {
        let last = u32::try_from(count)
            .ok()
            .and_then(|count| self.sequence.checked_add(count));
        last.map_or(1, |_| self.sequence + 1)
    }

    /// Waits for the replies to these sequence numbers from now on.
    fn expect(&mut self, first: u32, last: u32, is_dump: bool) -> Exchange {
        self.sequence = last;
        self.left = 0..0;
        let exchange = Exchange::new(first, last, is_dump);
        self.unfinished = Some(exchange);
        exchange
    }
}

/// Whether the kernel may answer a request with these flags with a dump. In a request that creates something, the same
/// bits have another meaning.
fn may_dump(flags: u16) -> bool {
    flags & flags::DUMP != 0
}

/// Sends a no-op request. Its answer arrives after everything that the kernel sent to this socket before.
///
/// Every netlink protocol answers it. The answer may be an error, if the protocol allows no request without a
/// capability (Linux v6.18, net/netlink/af_netlink.c, `netlink_rcv_skb`; net/netfilter/nfnetlink.c, `nfnetlink_rcv`).
pub(crate) fn send_noop(socket: &Socket, sequence: u32) -> Result<()> {
    let mut request = Vec::new();
    MessageBuilder::new(&mut request, NOOP, flags::REQUEST | flags::ACK)
        .sequence(sequence)
        .finish()?;
    socket.send(&request)?;
    Ok(())
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester")
            .field("socket", &self.socket)
            .field("port_id", &self.port_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
