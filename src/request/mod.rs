//! Requests to the kernel, and its replies, which are run as libmnl's `mnl_cb_run` runs them.

use std::ops::{ControlFlow, Range};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use crate::engine::StopHandle;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{
    Content, Header, Message, MessageBuilder, Messages, NOOP, align, build, flags,
};
use crate::socket::{Protocol, RecvFlags, Socket, truncated};
use crate::sys::event::{Readable, wait_readable};

/// The kernel answers at once; only a host that hardly runs takes longer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Holds any datagram of a dump (net/netlink/af_netlink.c, `netlink_dump`: 32 KiB at most).
const REPLY_BYTES: usize = 32 << 10;
/// How often an interrupted dump is begun again.
const RETRIES: u32 = 5;
/// The pause before the first of these retries. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// No pause is longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The largest number of requests in one datagram. Should the kernel refuse all, its answers fit the default receive buffer.
const DATAGRAM_REQUESTS: usize = 96;
/// The largest number of bytes in one datagram, unless a single request is larger: well within the default send buffer.
const DATAGRAM_BYTES: usize = 64 << 10;
/// A dump ends with an error after this many empty datagrams in a row. One alone can be chance: short of memory, the kernel
/// tries a smaller buffer, and a larger one the next time.
const EMPTY_DATAGRAMS: u32 = 16;

/// Sends requests to the kernel over a socket of its own, and runs the replies.
///
/// Each request gets the replies to it and no other message:
///
/// - The socket is connected to the kernel, so that other sockets cannot send to it. Their datagrams, if some come by a group
///   that the socket was put into, are passed over.
/// - The port ID and the sequence number of each reply are checked. Replies to an earlier request, for which nobody waited to
///   the end, are passed over. The kernel runs one dump a socket at a time, so a dump that was left is read to its end first.
///
/// A request that the kernel refuses is an [`Error`] with the number ([`Error::raw_os_error`]), the kernel's explanation
/// ([`Error::kernel_text`]) and the offset of the attribute that it names ([`Error::offset_bytes`]).
///
/// Each wait for a reply ends after a [time-out](Self::set_timeout), whatever else comes meanwhile, and when a
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
#[derive(Debug)]
pub struct Requester {
    socket: Socket,
    port_id: u32,
    /// That of the last request.
    sequence: u32,
    retries: u32,
    timeout: Duration,
    stop: Option<StopHandle>,
    request: Vec<u8>,
    replies: Vec<u8>,
    /// What is left of the datagram in `replies`.
    left: Range<usize>,
    /// The last request, until its replies have come to their end.
    unfinished: Option<Exchange>,
    /// The kernel has seen that a datagram of `REPLY_BYTES` can be received here.
    has_received: bool,
    /// A dump runs on this socket that cannot end.
    is_stuck: bool,
}

/// The entries of a dump, as one attempt brought them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dump<T> {
    /// What the callback made of the entries.
    pub items: T,
    /// Changes interrupted the last attempt too (`NLM_F_DUMP_INTR`): entries may be missing, or there twice. The kernel reports
    /// this for devices and addresses. It does not for flows, nor, as seen on Linux 6.18, for routes.
    pub is_interrupted: bool,
    /// How often the dump was begun.
    pub attempts: u32,
}

/// A request under way, or several that were sent together: which replies belong to it, and how far they have come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    first: u32,
    last: u32,
    is_done: bool,
    pub is_interrupted: bool,
    /// Whether the kernel may answer with a dump.
    is_dump: bool,
    /// Empty datagrams of the kernel in a row.
    empty_count: u32,
    /// A request that does nothing was sent behind the last one, with the next sequence number: see [`Batch`].
    has_barrier: bool,
    /// The answer to that request came, and none to the last one before.
    is_cut: bool,
}

/// How a reply is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Until it comes, or the time-out has passed, or a stop is requested.
    Wait,
    /// Not at all: what is there is looked through for it, until this time, and at least one datagram of it.
    Look(Instant),
}

/// What one receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// Messages of the kernel's, in [`Requester::left`].
    Replies,
    /// A datagram of the kernel's without a byte.
    Empty,
    /// Something that is to be passed over.
    Other,
    /// No datagram was there.
    Nothing,
}

/// The replies to one request, one after the other.
///
/// If it is dropped before the last reply, the next request reads the rest first and passes it over. For a long dump that takes
/// a while.
#[derive(Debug)]
pub struct Replies<'a> {
    requester: &'a mut Requester,
    exchange: Exchange,
}

/// Requests that are sent together, up to 96 in one datagram.
///
/// The kernel carries them out in order, and goes on behind one that it refuses. Some refusals concern a whole datagram and are
/// answered once, for its first request: so the kernel refuses netfilter requests without `CAP_NET_ADMIN` (Linux v6.18,
/// net/netfilter/nfnetlink.c, `nfnetlink_rcv`). [`send`](Self::send) then reports that refusal for each request of the datagram.
///
/// The replies to one datagram queue up at once. If they are large, they need a receive buffer beyond the kernel's default
/// ([`Socket::set_recv_buffer_bytes`]); without it some are lost, which is an error of [`ErrorKind::Overrun`].
///
/// ```no_run
/// use nlring::{Batch, Protocol, Requester};
///
/// let mut requester = Requester::open(Protocol::ROUTE)?;
/// let mut batch = Batch::new();
/// for table in [100, 101] {
///     batch.add(25 /* RTM_DELROUTE */, 0, |request| {
///         request.bytes(&[2, 0, 0, 0, table, 0, 0, 0, 0, 0, 0, 0])
///     })?;
/// }
/// batch.send(&mut requester, |index, reply| {
///     if let Err(error) = reply {
///         eprintln!("request {index}: {error}");
///     }
/// })?;
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Batch {
    requests: Vec<u8>,
    /// Where each one begins.
    starts: Vec<usize>,
}

impl Requester {
    /// Opens a socket of a protocol for requests, with extended acknowledgements, and with strict checking where the
    /// kernel has it (`NETLINK_GET_STRICT_CHK`, Linux 4.20): what a dump is to be filtered by is then checked and obeyed.
    ///
    /// # Errors
    ///
    /// As [`Socket::open`] and [`Socket::bind`].
    pub fn open(protocol: Protocol) -> Result<Self> {
        let socket = Socket::open(protocol)?;
        socket.bind(Socket::AUTOPID, 0)?;
        socket.connect_to_kernel()?;
        // An older kernel does without: requests then get less of an explanation, and dumps may bring more than was asked for.
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

    /// The socket, for its options.
    ///
    /// Behind an error of [`ErrorKind::EntryTooLarge`] the next request may open another socket, because a dump that cannot end
    /// runs on this one. That socket has the options of [`open`](Self::open) and a receive buffer of the same size.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// How long to wait for each reply: 5 s unless it is set.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Ends the waits when this handle requests a stop: those for replies, and the pauses of [`dump`](Self::dump). The call
    /// that waits then fails with [`ErrorKind::Stopped`]. Without a handle only the time-out ends a wait.
    pub fn set_stop(&mut self, stop: StopHandle) {
        self.stop = Some(stop);
    }

    /// How often a dump that changes have interrupted is begun again, after pauses that double from 10 ms up to 1 s: 5 times
    /// unless it is set.
    pub fn set_dump_retries(&mut self, retries: u32) {
        self.retries = retries;
    }

    /// Sends a request, to which `NLM_F_REQUEST` and `NLM_F_ACK` are added, and returns its replies. `fill` appends the
    /// protocol's own header and attributes, and must return the builder that it is given.
    ///
    /// # Errors
    ///
    /// The request could not be built or sent. What the kernel makes of it is in the replies.
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

    /// Sends a request and waits until the kernel has done it. Data among the replies is passed over.
    ///
    /// # Errors
    ///
    /// As [`Replies::next_message`].
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

    /// Dumps a table: hands each entry to `take`, which adds it to the items. A dump that changes have interrupted is begun
    /// again, with new items, a [few times](Self::set_dump_retries). The items of the last attempt are returned in any case.
    ///
    /// # Errors
    ///
    /// As [`Replies::next_message`].
    pub fn dump<T: Default>(
        &mut self,
        message_type: u16,
        fill: impl Fn(MessageBuilder<'_>) -> MessageBuilder<'_>,
        mut take: impl FnMut(&mut T, &Message<'_>),
    ) -> Result<Dump<T>> {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            let mut items = T::default();
            let mut replies = self.send(message_type, flags::DUMP, &fill)?;
            while let Some(message) = replies.next_message()? {
                take(&mut items, &message);
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

    /// Sends a request whose replies are taken by [`next`](Self::next).
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

    /// Makes the socket ready for another request.
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

    /// Takes another socket, since a dump that cannot end runs on this one: the kernel would refuse the next dump (`EBUSY`).
    fn open_again(&mut self) -> Result<()> {
        let Self { socket, .. } = Self::open(self.socket.protocol()?)?;
        // The kernel reads back twice what was set.
        socket.set_recv_buffer_bytes(self.socket.recv_buffer_bytes()? / 2)?;
        self.port_id = socket.port_id()?;
        self.socket = socket;
        (self.has_received, self.is_stuck) = (false, false);
        Ok(())
    }

    /// Has the kernel see how large a datagram can be received here. Until a receive with 32 KiB has brought something, it makes
    /// dumps in pieces of about 3.7 KiB, and fails where one entry is larger (Linux v6.18, net/netlink/af_netlink.c,
    /// `netlink_recvmsg`: `max_recvmsg_len`).
    ///
    /// A request that does nothing brings something: its answer, which the kernel gives before `send` returns. If a protocol
    /// does not answer it, or it cannot be sent, nothing is worse than before.
    fn show_buffer_size(&mut self) {
        let sequence = self.next_sequence(1);
        if send_noop(&self.socket, sequence).is_ok() {
            self.sequence = sequence;
            let _ = self.receive();
            self.left = 0..0;
        }
    }

    /// The first of so many sequence numbers in a row. 0 is not among them: that is every event's.
    fn next_sequence(&self, count: usize) -> u32 {
        let last = u32::try_from(count)
            .ok()
            .and_then(|count| self.sequence.checked_add(count));
        last.map_or(1, |_| self.sequence + 1)
    }

    /// From here on the replies to these sequence numbers are wanted.
    fn expect(&mut self, first: u32, last: u32, is_dump: bool) -> Exchange {
        self.sequence = last;
        self.left = 0..0;
        let exchange = Exchange::new(first, last, is_dump);
        self.unfinished = Some(exchange);
        exchange
    }

    /// Passes over what is left of the last request's replies: while a dump runs, the kernel refuses the next one on the same
    /// socket (`EBUSY`, net/netlink/af_netlink.c, `__netlink_dump_start`).
    ///
    /// The kernel answers, and goes on with a dump, before a system call of this socket returns: so waiting is of no use.
    fn finish_last(&mut self) {
        let Some(mut exchange) = self.unfinished.take() else {
            return;
        };
        while !exchange.is_done && !self.is_stuck && self.check_stop().is_ok() {
            match self.step(&mut exchange, Patience::Look(Instant::now() + TIMEOUT)) {
                Ok(_) => {}
                Err(error) if is_about_replies(&error) => {}
                // There is no more, or the next request finds out what is wrong.
                Err(_) => break,
            }
        }
    }

    /// The next data of an exchange; None at its end. A refusal is an error.
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

    /// The next reply that is data, by where it lies, or a refusal; and the index of its request. None at the end.
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
    /// The clock is looked at whenever a datagram, here or before, brought nothing that was wanted: so a stream of such
    /// datagrams does not prolong anything. A stop is looked for at each datagram: so it ends a long dump too.
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
                        return Err(Error::entry_too_large());
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

    /// Receives a datagram, if one is there.
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
            // It is gone; asked again, it fits.
            self.replies.resize(received.real_bytes, 0);
            return Err(truncated(&received));
        }
        self.left = 0..received.real_bytes;
        Ok(match received.real_bytes {
            0 => Arrival::Empty,
            _ => Arrival::Replies,
        })
    }

    /// Whether to go on: no stop is requested, and the time is not over.
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

    /// Waits for a datagram, if that is wanted, until the deadline or a stop.
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

    /// Waits until the socket is readable, if there is one, or a stop is requested, or the time has passed, or a signal comes.
    fn wait_for(&self, socket: Option<&Socket>, timeout: Option<Duration>) -> Result<()> {
        let stop = self.stop.as_ref().map(|stop| Readable::new(stop.as_fd()));
        let socket = socket.map(|socket| Readable::new(socket.as_fd()));
        let mut descriptors: Vec<_> = socket.into_iter().chain(stop).collect();
        wait_readable(&mut descriptors, timeout).map_err(|error| Error::system(WAIT, error))
    }
}

/// A [`Patience`], once it has begun.
#[derive(Clone, Copy, Debug)]
enum Deadline {
    /// None: it is never over.
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

/// Whether the kernel may answer a request with these flags with a dump. In requests to make something, the bits mean other
/// things.
fn may_dump(flags: u16) -> bool {
    flags & flags::DUMP != 0
}

/// Sends a request that does nothing. Its answer comes behind all that the kernel sent to this socket before.
///
/// Any netlink protocol answers it: with an error, where it allows no request without a capability, which is as good
/// (Linux v6.18, net/netlink/af_netlink.c, `netlink_rcv_skb`; net/netfilter/nfnetlink.c, `nfnetlink_rcv`).
pub(crate) fn send_noop(socket: &Socket, sequence: u32) -> Result<()> {
    let mut request = Vec::new();
    MessageBuilder::new(&mut request, NOOP, flags::REQUEST | flags::ACK)
        .sequence(sequence)
        .finish()?;
    socket.send(&request)?;
    Ok(())
}

/// What a message is to an exchange.
#[derive(Debug)]
enum Verdict {
    Data,
    Refused(Error),
    /// Nothing that is reported to the caller.
    Pass,
}

impl Exchange {
    fn new(first: u32, last: u32, is_dump: bool) -> Self {
        Self {
            first,
            last,
            is_done: false,
            is_interrupted: false,
            is_dump,
            empty_count: 0,
            has_barrier: false,
            is_cut: false,
        }
    }

    /// As libmnl's `__mnl_cb_run` (src/callback.c), but for three things: an interrupted dump keeps its data, an overrun is an
    /// error, and the replies to earlier requests are passed over.
    fn judge(&mut self, message: &Message<'_>, port_id: u32) -> Result<Verdict> {
        if !message.is_port_id(port_id) {
            return Err(unexpected("a reply for another port ID"));
        }
        let sequence = message.sequence();
        if self.has_barrier && sequence == self.last.wrapping_add(1) {
            (self.is_done, self.is_cut) = (true, true);
            return Ok(Verdict::Pass);
        }
        if sequence != 0 && self.index_of(sequence).is_none() {
            let is_earlier = self.first.wrapping_sub(sequence) < 1 << 31;
            return if is_earlier {
                Ok(Verdict::Pass)
            } else {
                Err(unexpected("a reply to what was not asked"))
            };
        }
        self.is_interrupted |= message.flags() & flags::DUMP_INTR != 0 && is_multi(message);
        let is_last = sequence == self.last;
        Ok(match message.content() {
            Content::Noop => Verdict::Pass,
            Content::Ack(_) => {
                self.is_done |= is_last;
                Verdict::Pass
            }
            Content::Error(answer) => {
                self.is_done |= is_last;
                match answer.errno() {
                    Some(errno) => Verdict::Refused(Error::refused(errno, &answer)),
                    None => Verdict::Refused(unexpected("an error without a number")),
                }
            }
            Content::Done { errno } => {
                self.is_done |= is_last;
                match errno {
                    0 => Verdict::Pass,
                    errno => Verdict::Refused(Error::ended(errno, message)),
                }
            }
            Content::Overrun => return Err(Error::with_kind(REPLIES, ErrorKind::Overrun)),
            Content::Data(_) => Verdict::Data,
        })
    }

    /// Which of the requests a sequence number belongs to.
    fn index_of(&self, sequence: u32) -> Option<usize> {
        let index = sequence.wrapping_sub(self.first);
        let count = self.last.wrapping_sub(self.first);
        (index <= count).then_some(index as usize)
    }
}

/// An acknowledgement's flags have other meanings.
fn is_multi(message: &Message<'_>) -> bool {
    message.flags() & flags::MULTI != 0
}

const REPLIES: &str = "run the kernel's replies";

fn unexpected(what: &'static str) -> Error {
    Error::with_kind(REPLIES, ErrorKind::UnexpectedReply).with_remedy(what)
}

impl Replies<'_> {
    /// The next data message; None when the kernel has done all.
    ///
    /// # Errors
    ///
    /// - The kernel refused the request, or its dump failed: [`Error::raw_os_error`] has the number, and
    ///   [`Error::kernel_text`] and [`Error::offset_bytes`] what the kernel said about it.
    /// - [`ErrorKind::EntryTooLarge`]: the dump cannot go on behind what came until now.
    /// - [`ErrorKind::TimedOut`]: no reply came in time. Messages that are no replies to this request do not prolong the time.
    /// - [`ErrorKind::Stopped`]: a stop was requested.
    /// - [`ErrorKind::Overrun`]: replies were lost.
    /// - [`ErrorKind::UnexpectedReply`]: a message that is no reply to this request.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>> {
        self.requester.next(&mut self.exchange, Patience::Wait)
    }

    /// Hands each further data message to `f`, until `f` breaks (Some) or all have come (None).
    ///
    /// # Errors
    ///
    /// As [`next_message`](Self::next_message).
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

    /// Whether changes have interrupted the dump so far (`NLM_F_DUMP_INTR`): entries may be missing, or there twice. The data
    /// is returned all the same.
    pub fn is_interrupted(&self) -> bool {
        self.exchange.is_interrupted
    }
}

impl Batch {
    /// A batch of no requests yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a request. [`send`](Self::send) reports its data and its refusal, so that `NLM_F_ACK` is not needed.
    ///
    /// # Errors
    ///
    /// As [`MessageBuilder::finish`]; the request is not added.
    pub fn add(
        &mut self,
        message_type: u16,
        flags: u16,
        fill: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
    ) -> Result<()> {
        let start = align(self.requests.len());
        let flags = flags | flags::REQUEST;
        build(&mut self.requests, message_type, flags, 0, fill)?;
        self.starts.push(start);
        Ok(())
    }

    /// The requests, in order; their sequence numbers are set when they are sent.
    pub fn requests(&self) -> Messages<'_> {
        Messages::new(&self.requests)
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Sends all, and hands each data message and each refusal to `f`, with the index of its request. When it returns the
    /// kernel has carried out all that it did not refuse, and the batch is empty; its memory is kept for the next.
    ///
    /// # Errors
    ///
    /// The requests could not be sent, or not all replies came: as [`Replies::next_message`], except for refusals. Some of the
    /// requests may have been carried out.
    pub fn send(
        &mut self,
        requester: &mut Requester,
        mut f: impl FnMut(usize, Result<Message<'_>>),
    ) -> Result<()> {
        let is_dump = self.requests().any(|request| may_dump(request.flags()));
        let sent = match requester.get_ready(is_dump) {
            Ok(()) => self.send_datagrams(requester, &mut f),
            Err(error) => Err(error),
        };
        self.requests.clear();
        self.starts.clear();
        sent
    }

    fn send_datagrams(
        &mut self,
        requester: &mut Requester,
        f: &mut impl FnMut(usize, Result<Message<'_>>),
    ) -> Result<()> {
        let mut next = 0;
        while let Some(&start) = self.starts.get(next) {
            let count = self.starts[next..]
                .iter()
                .take(DATAGRAM_REQUESTS)
                .take_while(|&&at| at - start <= DATAGRAM_BYTES)
                .count();
            let end = self.starts.get(next + count).copied();
            let end = end.unwrap_or(self.requests.len());
            let datagram = &mut self.requests[start..end];
            requester.send_datagram(datagram, count, |index, reply| f(next + index, reply))?;
            next += count;
        }
        Ok(())
    }
}

/// Gives the requests of a datagram the sequence numbers from `first` on, and asks for an acknowledgement of the last one. The
/// last number, and whether the kernel may answer with a dump.
fn number(datagram: &mut [u8], count: usize, first: u32) -> (u32, bool) {
    let (mut sequence, mut is_dump) = (first, false);
    let mut at = 0;
    for index in 0..count {
        let message = &mut datagram[at..];
        let Some(header) = Header::read(message) else {
            break;
        };
        sequence = first.wrapping_add(u32::try_from(index).unwrap_or(u32::MAX));
        message[8..12].copy_from_slice(&sequence.to_ne_bytes());
        if index + 1 == count {
            message[6..8].copy_from_slice(&(header.flags | flags::ACK).to_ne_bytes());
        }
        is_dump |= may_dump(header.flags);
        at += align(header.length_bytes as usize);
    }
    (sequence, is_dump)
}

impl Requester {
    /// Sends `count` requests as one datagram. The last one is acknowledged, and so ends their replies.
    fn send_datagram(
        &mut self,
        datagram: &mut [u8],
        count: usize,
        mut f: impl FnMut(usize, Result<Message<'_>>),
    ) -> Result<()> {
        let first = self.next_sequence(count + 1); // and one for a barrier
        let (last, is_dump) = number(datagram, count, first);
        self.socket.send(datagram)?;
        let mut exchange = self.expect(first, last, is_dump);
        let mut answer_count = 0;
        let mut refused_whole = None;
        let mut patience = Patience::Look(Instant::now() + TIMEOUT);
        loop {
            let step = match self.step(&mut exchange, patience) {
                // The kernel has answered all that it will answer, and the last request is not among that.
                Err(error) if is_nothing_there(&error) && !exchange.has_barrier => {
                    self.send_barrier(&mut exchange)?;
                    patience = Patience::Wait;
                    continue;
                }
                step => step?,
            };
            let Some((index, reply)) = step else {
                break;
            };
            answer_count += 1;
            match reply.map(|range| self.message_at(range)) {
                Ok(Some(message)) => f(index, Ok(message)),
                Ok(None) => {}
                Err(error) => {
                    let is_first = index == 0 && answer_count == 1;
                    refused_whole = is_first.then(|| error.refused_too());
                    f(index, Err(error));
                }
            }
        }
        match refused_whole.filter(|_| answer_count == 1) {
            _ if !exchange.is_cut => Ok(()),
            Some(error) => {
                (1..count).for_each(|index| f(index, Err(error.refused_too())));
                Ok(())
            }
            None => Err(unexpected(
                "the kernel has answered no more of the requests; some may not have been carried out",
            )),
        }
    }

    /// Sends a request that does nothing behind those of an exchange: the kernel answers it after all that it answers of them.
    fn send_barrier(&mut self, exchange: &mut Exchange) -> Result<()> {
        self.sequence = exchange.last.wrapping_add(1);
        send_noop(&self.socket, self.sequence)?;
        exchange.has_barrier = true;
        Ok(())
    }
}

fn is_nothing_there(error: &Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}

/// Whether it is about what came, and more may come.
fn is_about_replies(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Overrun | ErrorKind::UnexpectedReply | ErrorKind::Truncated { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::message::{DONE, ERROR, OVERRUN};

    const PORT_ID: u32 = 77;
    const DATA: u16 = 24;

    fn exchange(first: u32, last: u32) -> Exchange {
        Exchange::new(first, last, false)
    }

    const LOOK: fn() -> Patience = || Patience::Look(Instant::now() + TIMEOUT);

    /// A message of a type, with flags, a sequence number and a payload.
    fn message(message_type: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, message_type, flags)
            .sequence(sequence)
            .port_id(PORT_ID)
            .bytes(payload)
            .finish()
            .unwrap();
        bytes
    }

    /// `struct nlmsgerr` with the request's header, or the whole of it.
    fn refusal(errno: i32, request: &[u8]) -> Vec<u8> {
        [&(-errno).to_ne_bytes()[..], request].concat()
    }

    fn request(sequence: u32) -> Vec<u8> {
        message(DATA, flags::REQUEST, sequence, &[9; 12])
    }

    fn judge(exchange: &mut Exchange, bytes: &[u8]) -> Result<Verdict> {
        exchange.judge(&Messages::new(bytes).next().unwrap(), PORT_ID)
    }

    fn refused(exchange: &mut Exchange, bytes: &[u8]) -> Error {
        match judge(exchange, bytes) {
            Ok(Verdict::Refused(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reply_to_another_port_is_an_error_and_no_port_fits_all() {
        let mut bytes = message(DATA, 0, 5, &[]);
        bytes[12..16].copy_from_slice(&(PORT_ID + 1).to_ne_bytes());
        let error = judge(&mut exchange(5, 5), &bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedReply);
        assert_eq!(
            error.to_string(),
            "run the kernel's replies: a message is no reply to what was asked; a reply for another port ID"
        );
        bytes[12..16].fill(0);
        let verdict = judge(&mut exchange(5, 5), &bytes);
        assert!(matches!(verdict, Ok(Verdict::Data)));
    }

    #[test]
    fn earlier_sequences_are_passed_over_and_later_ones_are_errors() {
        for (sequence, is_error) in [(4, false), (5, false), (6, false), (7, true), (1, false)] {
            let verdict = judge(&mut exchange(5, 6), &message(DATA, 0, sequence, &[]));
            match verdict {
                Err(error) => assert!(
                    is_error && error.kind() == ErrorKind::UnexpectedReply,
                    "{sequence}: {error}"
                ),
                Ok(Verdict::Data) => assert!((5..=6).contains(&sequence), "{sequence}"),
                Ok(Verdict::Pass) => assert!(sequence < 5, "{sequence}"),
                Ok(Verdict::Refused(error)) => panic!("{error}"),
            }
        }
        // An earlier one's end, error or interruption is not this one's. The numbers have begun anew.
        let mut exchange = exchange(1, 1);
        for bytes in [
            message(DONE, flags::MULTI | flags::DUMP_INTR, u32::MAX, &[0; 4]),
            message(
                ERROR,
                0,
                u32::MAX,
                &refusal(libc::EPERM, &request(u32::MAX)),
            ),
            message(OVERRUN, 0, u32::MAX, &[]),
        ] {
            assert!(matches!(judge(&mut exchange, &bytes), Ok(Verdict::Pass)));
        }
        assert!(!exchange.is_done && !exchange.is_interrupted);
    }

    #[test]
    fn an_acknowledgement_ends_an_exchange_only_when_it_is_the_lasts() {
        let mut exchange = exchange(5, 7);
        for (sequence, is_done) in [(5, false), (6, false), (7, true)] {
            let ack = message(ERROR, 0, sequence, &refusal(0, &request(sequence)));
            assert!(matches!(judge(&mut exchange, &ack), Ok(Verdict::Pass)));
            assert_eq!(exchange.is_done, is_done, "{sequence}");
        }
    }

    #[test]
    fn the_answer_to_what_was_sent_behind_the_last_request_ends_an_exchange_too() {
        for (has_barrier, payload) in [
            (true, refusal(0, &request(8))),
            (true, refusal(libc::EPERM, &request(8))),
            (false, refusal(0, &request(8))),
        ] {
            let mut exchange = exchange(5, 7);
            exchange.has_barrier = has_barrier;
            let verdict = judge(&mut exchange, &message(ERROR, 0, 8, &payload));
            assert_eq!(matches!(verdict, Ok(Verdict::Pass)), has_barrier);
            assert_eq!(
                (exchange.is_done, exchange.is_cut),
                (has_barrier, has_barrier)
            );
        }
        // It comes too late for an exchange that has ended, and is one of an earlier request for the next.
        let late = message(ERROR, 0, 8, &refusal(0, &request(8)));
        let verdict = judge(&mut exchange(9, 9), &late);
        assert!(matches!(verdict, Ok(Verdict::Pass)));
    }

    #[test]
    fn a_refusal_has_its_number_and_one_without_is_told_too() {
        let mut of = exchange(5, 5);
        let error = refused(
            &mut of,
            &message(ERROR, 0, 5, &refusal(libc::EEXIST, &request(5))),
        );
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        assert_eq!((error.kernel_text(), error.offset_bytes()), (None, None));
        assert!(of.is_done);

        let mut of = exchange(5, 5);
        let error = refused(&mut of, &message(ERROR, 0, 5, &[]));
        assert_eq!(error.kind(), ErrorKind::UnexpectedReply);
        assert!(of.is_done);
    }

    #[test]
    fn the_kernels_words_are_found_behind_a_whole_and_a_capped_request() {
        let whole = request(5);
        for (more_flags, request) in [(0, &whole[..]), (flags::CAPPED, &whole[..16])] {
            let mut bytes = Vec::new();
            MessageBuilder::new(&mut bytes, ERROR, flags::ACK_TLVS | more_flags)
                .sequence(5)
                .bytes(&refusal(libc::EINVAL, request))
                .attribute_str_nul(1, "Invalid prefix for given prefix length")
                .attribute_u32(2, 28)
                .finish()
                .unwrap();
            let error = refused(&mut exchange(5, 5), &bytes);
            assert_eq!(
                error.to_string(),
                "request: Invalid argument (os error 22): Invalid prefix for given prefix length \
                 (the attribute at byte 28 of the request)"
            );
            assert_eq!(error.offset_bytes(), Some(28), "{more_flags}");
        }
    }

    #[test]
    fn a_dumps_end_may_be_its_failure() {
        let mut of = exchange(5, 5);
        let done = message(DONE, flags::MULTI, 5, &0i32.to_ne_bytes());
        assert!(matches!(judge(&mut of, &done), Ok(Verdict::Pass)));
        assert!(of.is_done);

        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, DONE, flags::MULTI | flags::ACK_TLVS)
            .sequence(5)
            .bytes(&(-libc::ENODEV).to_ne_bytes())
            .attribute_str_nul(1, "No such device here")
            .finish()
            .unwrap();
        let mut of = exchange(5, 5);
        let error = refused(&mut of, &bytes);
        assert_eq!(
            error.to_string(),
            "dump: No such device (os error 19): No such device here"
        );
        assert!(of.is_done);
    }

    #[test]
    fn an_overrun_is_an_error_and_a_noop_nothing() {
        let mut of = exchange(5, 5);
        let error = judge(&mut of, &message(OVERRUN, 0, 5, &[])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overrun);
        let noop = judge(&mut of, &message(NOOP, 0, 5, &[]));
        assert!(matches!(noop, Ok(Verdict::Pass)));
        assert!(!of.is_done);
    }

    #[test]
    fn an_interruption_is_noted_on_data_and_at_the_end_but_not_in_an_acknowledgement() {
        for (message_type, message_flags, is_interrupted) in [
            (DATA, flags::MULTI | flags::DUMP_INTR, true),
            (DONE, flags::MULTI | flags::DUMP_INTR, true),
            (DATA, flags::MULTI, false),
            (ERROR, flags::DUMP_INTR, false),
        ] {
            let mut of = exchange(5, 5);
            let bytes = message(message_type, message_flags, 5, &[0; 20]);
            let verdict = judge(&mut of, &bytes).unwrap();
            assert_eq!(of.is_interrupted, is_interrupted, "{message_type}");
            assert_eq!(
                matches!(verdict, Verdict::Data),
                message_type == DATA,
                "the data is kept"
            );
        }
    }

    #[test]
    fn numbers_are_never_0_and_begin_anew_before_they_wrap() {
        let mut requester = Requester::open(Protocol::ROUTE).unwrap();
        assert_eq!((requester.next_sequence(1), requester.sequence), (1, 0));
        requester.sequence = u32::MAX - 3;
        assert_eq!(requester.next_sequence(3), u32::MAX - 2);
        assert_eq!(requester.next_sequence(4), 1);
        // The replies to the last of the old ones are passed over, not taken for an error.
        let exchange = requester.expect(1, 4, false);
        assert_eq!(
            (exchange.index_of(1), exchange.index_of(4)),
            (Some(0), Some(3))
        );
        assert_eq!(
            (exchange.index_of(0), exchange.index_of(u32::MAX)),
            (None, None)
        );
    }

    /// A requester that has received a datagram, and awaits the replies to 5 and 6.
    fn received(requester: &mut Requester, datagram: &[u8]) -> Exchange {
        requester.port_id = PORT_ID;
        requester.replies[..datagram.len()].copy_from_slice(datagram);
        let exchange = requester.expect(5, 6, false);
        requester.left = 0..datagram.len();
        exchange
    }

    #[test]
    fn several_replies_are_taken_out_of_one_datagram() {
        let mut requester = Requester::open(Protocol::ROUTE).unwrap();
        let datagram = [
            message(DATA, 0, 5, b"abcde"),
            message(ERROR, 0, 5, &refusal(libc::EEXIST, &request(5))),
            message(DATA, 0, 6, &[]),
            message(ERROR, 0, 6, &refusal(0, &request(6))),
        ]
        .concat();
        let mut exchange = received(&mut requester, &datagram);
        let mut step = || {
            let step = requester.step(&mut exchange, LOOK());
            step.unwrap()
                .map(|(index, reply)| (index, reply.map_err(|error| error.raw_os_error())))
        };
        assert_eq!(step(), Some((0, Ok(0..24))));
        assert_eq!(step(), Some((0, Err(Some(libc::EEXIST)))));
        assert_eq!(
            step().map(|(index, reply)| (index, reply.is_ok())),
            Some((1, true))
        );
        assert_eq!(step(), None);
        assert_eq!(step(), None);
        assert!(requester.unfinished.is_none());
    }

    #[test]
    fn a_malformed_rest_is_an_error_and_does_not_hold_up_what_comes() {
        let mut requester = Requester::open(Protocol::ROUTE).unwrap();
        let mut datagram = message(DATA, 0, 5, &[]);
        datagram.extend_from_slice(&[200, 0, 0, 0, 0, 0, 0]);
        let mut exchange = received(&mut requester, &datagram);
        let first = requester.next(&mut exchange, LOOK());
        assert!(first.unwrap().is_some());
        let rest = requester.next(&mut exchange, LOOK());
        assert_eq!(rest.unwrap_err().kind(), ErrorKind::UnexpectedReply);
        let more = requester.next(&mut exchange, LOOK());
        assert_eq!(more.unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_look_ends_in_time_while_strangers_send() {
        const GROUP: u32 = 23;
        let mut requester = Requester::open(Protocol::USERSOCK).unwrap();
        requester.socket.add_membership(GROUP).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let stranger = Socket::open(Protocol::USERSOCK).unwrap();
                let start = Instant::now();
                while !is_over.load(Ordering::Relaxed) && start.elapsed() < 4 * TIMEOUT {
                    // The kernel itself, which it is sent to as well, does not listen here.
                    let _ = stranger.send_to(&message(DATA, 0, 5, &[]), 0, 1 << (GROUP - 1));
                }
            });
            let mut exchange = requester.expect(5, 5, true);
            for _ in 0..3 {
                let look = Patience::Look(Instant::now() + Duration::from_millis(1));
                let looked = requester.next(&mut exchange, look).unwrap_err();
                assert_eq!(looked.kind(), ErrorKind::WouldBlock, "{looked}");
            }
            let was_over = is_over.swap(true, Ordering::Relaxed);
            assert!(!was_over, "while they send");
        });
    }

    /// xorshift: the same bytes each time.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn byte(&mut self) -> u8 {
            self.next().to_ne_bytes()[0]
        }

        fn below(&mut self, bound: u64) -> usize {
            usize::try_from(self.next() % bound).unwrap()
        }
    }

    /// Bytes that are nearly replies: so that their parts are reached too.
    fn nearly_replies(random: &mut Random) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..=random.below(4) {
            let payload: Vec<u8> = (0..random.below(60)).map(|_| random.byte()).collect();
            let message_type = [NOOP, ERROR, DONE, OVERRUN, DATA, 0][random.below(6)];
            let message_flags = u16::from_ne_bytes([random.byte(), random.byte()]);
            let sequence = [4, 5, 6, 0][random.below(4)];
            bytes.extend(message(message_type, message_flags, sequence, &payload));
        }
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len() as u64);
            bytes[at] = random.byte();
        }
        bytes.truncate(bytes.len() - random.below(8).min(bytes.len()));
        bytes
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut requester = Requester::open(Protocol::ROUTE).unwrap();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut data, mut refused, mut ended, mut failed) = (0, 0, 0, 0);
        for _ in 0..10_000 {
            let datagram = nearly_replies(&mut random);
            let mut exchange = received(&mut requester, &datagram);
            for _ in 0..10 {
                match requester.step(&mut exchange, LOOK()) {
                    Ok(Some((index, Ok(range)))) => {
                        assert!(index < 2 && range.end <= datagram.len());
                        assert!(requester.message_at(range).is_some());
                        data += 1;
                    }
                    Ok(Some((_, Err(error)))) => {
                        assert!(!error.to_string().is_empty());
                        refused += 1;
                    }
                    Ok(None) => {
                        ended += 1;
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => failed += 1,
                }
            }
        }
        for count in [data, refused, ended, failed] {
            assert!(count > 500, "{:?}", (data, refused, ended, failed));
        }
    }
}
