//! Requests to the kernel and its replies, which are read by the rules of libmnl's `mnl_cb_run`.

mod batch;
mod exchange;

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

pub use self::batch::Batch;
pub(crate) use self::exchange::Exchange;
use self::exchange::{Verdict, entry_too_large, unexpected};
use crate::engine::StopHandle;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, MessageBuilder, Messages, NOOP, align, build, flags};
use crate::socket::{Protocol, RecvFlags, Socket, truncated};
use crate::sys::event::{Readable, wait_readable};

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
/// A dump fails after this many empty datagrams in a row. A single one can occur when the kernel is short of memory: it
/// tries a smaller buffer, and a larger one the next time.
const EMPTY_DATAGRAMS: u32 = 16;

/// Sends requests to the kernel on a socket of its own, and returns the replies.
///
/// A request gets its own replies and no other message:
///
/// - The socket is connected to the kernel, so no other socket can send to it. If [`socket`](Self::socket) was put into
///   a multicast group, datagrams of other processes are passed over.
/// - The port ID and the sequence number of each reply are checked. Replies to an earlier request that nobody read are
///   passed over. If a dump was not read to its end, the next request reads it first, because the kernel runs one dump
///   per socket at a time.
///
/// If the kernel refuses a request, the [`Error`] has the number ([`Error::raw_os_error`]), the kernel's explanation
/// ([`Error::kernel_text`]) and the offset of the attribute that it refused ([`Error::offset_bytes`]).
///
/// A wait for a reply ends after a [time-out](Self::set_timeout), even if other messages come, and when a
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
    /// The part of the datagram in `replies` that was not read yet.
    left: Range<usize>,
    /// The last request, until all its replies were read.
    unfinished: Option<Exchange>,
    /// The kernel knows that this socket can receive a datagram of `REPLY_BYTES`.
    has_received: bool,
    /// The dump on this socket cannot end.
    is_stuck: bool,
}

/// The entries of a dump, all from one attempt.
///
/// ```
/// use nlring::{Protocol, Requester};
///
/// let mut requester = Requester::open(Protocol::ROUTE)?;
/// // RTM_GETLINK with a struct ifinfomsg of zeros: all links.
/// let dump = requester.dump(18, |request| request.bytes(&[0; 16]), |count: &mut u32, _link| *count += 1)?;
/// assert!(dump.items >= 1);
/// if dump.is_interrupted {
///     eprintln!("links changed during each of {} attempts: the count may be wrong", dump.attempts);
/// }
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "an interrupted dump may lack entries: see `is_interrupted`"]
#[non_exhaustive]
pub struct Dump<T> {
    /// What the callback made of the entries.
    pub items: T,
    /// Changes interrupted the last attempt (`NLM_F_DUMP_INTR`), so entries may be missing or there twice.
    ///
    /// The kernel reports this for devices and addresses. It does not report it for flows, nor, as observed on Linux
    /// 6.18, for routes.
    pub is_interrupted: bool,
    /// The number of attempts, at least 1.
    pub attempts: u32,
}

/// How to wait for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Wait until it comes, the time-out has passed, or a stop is requested.
    Wait,
    /// Do not wait. Look through the datagrams in the receive queue until this time, but at least through one.
    Look(Instant),
}

/// What one receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// Messages from the kernel, in [`Requester::left`].
    Replies,
    /// An empty datagram from the kernel.
    Empty,
    /// A datagram to pass over, or a signal.
    Other,
    /// The receive queue was empty.
    Nothing,
}

/// The replies to one request, one after the other.
///
/// If this is dropped before the last reply, the next request reads the rest first and passes it over, which takes
/// time if the dump is long.
///
/// ```
/// use nlring::message::flags;
/// use nlring::{Protocol, Requester, route::Link};
///
/// let mut requester = Requester::open(Protocol::ROUTE)?;
/// // RTM_GETLINK with a struct ifinfomsg of zeros: all links.
/// let mut replies = requester.send(18, flags::DUMP, |request| request.bytes(&[0; 16]))?;
/// let mut has_loopback = false;
/// while let Some(message) = replies.next_message()? {
///     let link = Link::decode(&message).expect("a link");
///     has_loopback |= link.name == Some(b"lo");
/// }
/// assert!(has_loopback);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the replies say whether the kernel has refused the request"]
pub struct Replies<'a> {
    requester: &'a mut Requester,
    exchange: Exchange,
}

impl Requester {
    /// Opens a socket of a protocol for requests. It turns on extended acknowledgements (Linux 4.12) and strict
    /// checking of dump filters (Linux 4.20) where the kernel has them.
    ///
    /// # Errors
    ///
    /// Those of [`Socket::open`] and [`Socket::bind`].
    pub fn open(protocol: Protocol) -> Result<Self> {
        let socket = Socket::open(protocol)?;
        socket.bind(Socket::AUTOPID, 0)?;
        socket.connect_to_kernel()?;
        // On an older kernel refusals have less of an explanation, and dumps may bring more than was asked for.
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
    /// beyond the range of the clock is no limit.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Lets a handle end the waits for replies and the pauses of [`dump`](Self::dump). When it requests a stop, the
    /// call that waits fails with [`ErrorKind::Stopped`]. Without a handle only the time-out ends a wait.
    pub fn set_stop(&mut self, stop: StopHandle) {
        self.stop = Some(stop);
    }

    /// Sets how often [`dump`](Self::dump) repeats a dump that changes have interrupted. The default is 5 times, 0 is
    /// never. The pauses before the repetitions double from 10 ms up to 1 s.
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

    /// Sends a request and waits until the kernel has carried it out. Data among the replies is passed over. The
    /// parameters are those of [`send`](Self::send).
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
    /// interrupt the dump it is repeated, with new items, up to [5 times](Self::set_dump_retries). The items of the
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
        let Self { socket, .. } = Self::open(self.socket.protocol()?)?;
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
    /// So a request that does nothing is sent and its answer received, which the kernel sends before `send` returns. If
    /// the protocol does not answer it, or it cannot be sent, the dump works as it would have without it.
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

    /// Passes over the replies to the last request that were not read. While a dump runs, the kernel refuses another
    /// one on the same socket (`EBUSY`, net/netlink/af_netlink.c, `__netlink_dump_start`).
    ///
    /// The kernel answers and continues a dump before a system call of this socket returns, so there is no need to
    /// wait.
    fn finish_last(&mut self) {
        let Some(mut exchange) = self.unfinished.take() else {
            return;
        };
        while !exchange.is_done && !self.is_stuck && self.check_stop().is_ok() {
            match self.step(&mut exchange, Patience::Look(Instant::now() + TIMEOUT)) {
                Ok(_) => {}
                Err(error) if is_about_replies(&error) => {}
                // There are no more replies, or the next request reports the error.
                Err(_) => break,
            }
        }
    }

    /// The next data message of an exchange. None at its end. A refusal is an error.
    pub(crate) fn next(
        &mut self,
        exchange: &mut Exchange,
        patience: Patience,
    ) -> Result<Option<Message<'_>>> {
        match self.step(exchange, patience)? {
            Some((_, reply)) => Ok(self.message_at(reply?)),
            None => Ok(None),
        }
    }

    fn message_at(&self, range: Range<usize>) -> Option<Message<'_>> {
        Messages::new(self.replies.get(range)?).next()
    }

    /// The next reply: the place of a data message, or a refusal, and the index of its request. None at the end.
    fn step(
        &mut self,
        exchange: &mut Exchange,
        patience: Patience,
    ) -> Result<Option<(usize, Result<Range<usize>>)>> {
        let mut deadline = None;
        while !exchange.is_done {
            let left = self.left.clone();
            if left.is_empty() {
                self.receive_for(exchange, patience, &mut deadline)?;
                continue;
            }
            let Some(message) = Messages::new(&self.replies[left.clone()]).next() else {
                self.left = 0..0;
                return Err(unexpected("a reply is malformed"));
            };
            let end = left.end.min(left.start + align(message.bytes().len()));
            self.left.start = end;
            let index = exchange.index_of(message.sequence()).unwrap_or(0);
            let verdict = exchange.judge(&message, self.port_id)?;
            if exchange.is_done {
                self.unfinished = None;
            }
            match verdict {
                Verdict::Data => return Ok(Some((index, Ok(left.start..end)))),
                Verdict::Refused(error) => return Ok(Some((index, Err(error)))),
                Verdict::Pass => {}
            }
        }
        Ok(None)
    }

    /// Receives the kernel's next datagram for an exchange. `deadline` is None at the first of several calls.
    ///
    /// The deadline is checked after each datagram without a reply, so a stream of such datagrams does not prolong the
    /// wait. A stop is checked before each datagram, so it ends a long dump too.
    fn receive_for(
        &mut self,
        exchange: &mut Exchange,
        patience: Patience,
        deadline: &mut Option<Deadline>,
    ) -> Result<()> {
        self.check_stop()?;
        let deadline = match *deadline {
            Some(deadline) => {
                self.check(deadline)?;
                deadline
            }
            None => *deadline.insert(Deadline::of(patience, self.timeout)),
        };
        loop {
            match self.receive()? {
                Arrival::Replies => {
                    exchange.empty_count = 0;
                    return Ok(());
                }
                Arrival::Empty if exchange.is_dump => {
                    exchange.empty_count += 1;
                    if exchange.empty_count >= EMPTY_DATAGRAMS {
                        self.is_stuck = true;
                        return Err(entry_too_large());
                    }
                }
                Arrival::Empty | Arrival::Other => {}
                Arrival::Nothing => {
                    self.check(deadline)?;
                    self.wait(deadline)?;
                    continue;
                }
            }
            self.check(deadline)?;
        }
    }

    /// Receives a datagram, if one is in the queue.
    fn receive(&mut self) -> Result<Arrival> {
        self.left = 0..0;
        let received = self.socket.receive(&mut self.replies, RecvFlags::DONT_WAIT);
        let received = match received {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Arrival::Nothing),
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => return Ok(Arrival::Other),
            Err(error) => return Err(error),
        };
        self.has_received = true;
        if received.sender_port_id != 0 {
            return Ok(Arrival::Other);
        }
        if received.real_bytes > self.replies.len() {
            // The datagram is gone. If the caller repeats the request, the reply fits.
            self.replies.resize(received.real_bytes, 0);
            return Err(truncated(&received));
        }
        self.left = 0..received.real_bytes;
        Ok(match received.real_bytes {
            0 => Arrival::Empty,
            _ => Arrival::Replies,
        })
    }

    /// Fails if a stop is requested or the deadline has passed.
    fn check(&self, deadline: Deadline) -> Result<()> {
        self.check_stop()?;
        match deadline {
            Deadline::Look(until) if Instant::now() >= until => Err(nothing_there()),
            Deadline::Wait(Some(until)) if Instant::now() >= until => {
                Err(Error::with_kind(WAIT, ErrorKind::TimedOut))
            }
            Deadline::Look(_) | Deadline::Wait(_) => Ok(()),
        }
    }

    fn check_stop(&self) -> Result<()> {
        match &self.stop {
            Some(stop) if stop.is_stopped() => Err(Error::with_kind(WAIT, ErrorKind::Stopped)),
            _ => Ok(()),
        }
    }

    /// Waits for a datagram until the deadline or a stop. Fails at once if the caller only looks.
    fn wait(&self, deadline: Deadline) -> Result<()> {
        match deadline {
            Deadline::Look(_) => Err(nothing_there()),
            Deadline::Wait(until) => {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                self.wait_for(Some(&self.socket), left)
            }
        }
    }

    fn pause(&self, pause: Duration) -> Result<()> {
        self.wait_for(None, Some(pause))?;
        self.check_stop()
    }

    /// Waits until the socket (if one is given) is readable, a stop is requested, the time has passed, or a signal
    /// comes.
    fn wait_for(&self, socket: Option<&Socket>, timeout: Option<Duration>) -> Result<()> {
        let stop = self.stop.as_ref().map(|stop| Readable::new(stop.as_fd()));
        let socket = socket.map(|socket| Readable::new(socket.as_fd()));
        let mut descriptors: Vec<_> = socket.into_iter().chain(stop).collect();
        wait_readable(&mut descriptors, timeout).map_err(|error| Error::system(WAIT, error))
    }
}

/// A [`Patience`] that has started.
#[derive(Clone, Copy, Debug)]
enum Deadline {
    /// None is no limit.
    Wait(Option<Instant>),
    Look(Instant),
}

impl Deadline {
    fn of(patience: Patience, timeout: Duration) -> Self {
        match patience {
            Patience::Wait => Self::Wait(Instant::now().checked_add(timeout)),
            Patience::Look(until) => Self::Look(until),
        }
    }
}

const WAIT: &str = "wait for the kernel's reply";

fn nothing_there() -> Error {
    Error::with_kind(WAIT, ErrorKind::WouldBlock)
}

/// Whether the kernel may answer a request with these flags with a dump. In a request that makes something, the same
/// bits have another meaning.
fn may_dump(flags: u16) -> bool {
    flags & flags::DUMP != 0
}

/// Sends a request that does nothing. Its answer comes after all that the kernel sent to this socket before.
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

impl Replies<'_> {
    /// The next data message. None when the kernel has carried out the request.
    ///
    /// # Errors
    ///
    /// - The kernel refused the request, or its dump failed: [`Error::raw_os_error`] has the number,
    ///   [`Error::kernel_text`] and [`Error::offset_bytes`] what the kernel says about it.
    /// - [`ErrorKind::EntryTooLarge`]: the dump cannot continue after the entries that came.
    /// - [`ErrorKind::TimedOut`]: no reply came in time. Messages that are not replies to this request do not prolong
    ///   the time.
    /// - [`ErrorKind::Stopped`]: a stop was requested.
    /// - [`ErrorKind::Overrun`]: replies were lost.
    /// - [`ErrorKind::UnexpectedReply`]: a message was not a reply to this request.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>> {
        self.requester.next(&mut self.exchange, Patience::Wait)
    }

    /// Calls `f` with each further data message. Returns Some when `f` breaks, and None when there are no more.
    ///
    /// # Errors
    ///
    /// Those of [`next_message`](Self::next_message).
    pub fn try_for_each<B>(
        &mut self,
        mut f: impl FnMut(&Message<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>> {
        while let Some(message) = self.next_message()? {
            if let ControlFlow::Break(value) = f(&message) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Whether changes have interrupted the dump until now (`NLM_F_DUMP_INTR`), so that entries may be missing or there
    /// twice. The data messages are returned in any case.
    pub fn is_interrupted(&self) -> bool {
        self.exchange.is_interrupted
    }
}

/// Whether an error concerns a single reply, so that more replies may come.
fn is_about_replies(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Overrun | ErrorKind::UnexpectedReply | ErrorKind::Truncated { .. }
    )
}

#[cfg(test)]
mod tests;
