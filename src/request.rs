//! Requests: what is asked of the kernel, and its replies, run as libmnl's `mnl_cb_run` runs them.

use std::io;
use std::ops::{ControlFlow, Range};
use std::thread;
use std::time::Duration;

use crate::attribute::align;
use crate::builder::MessageBuilder;
use crate::error::{Error, ErrorKind, Result};
use crate::list::Messages;
use crate::message::{Content, Header, Message, flags};
use crate::socket::{Protocol, RecvFlags, Socket};

/// The kernel answers at once; only a host that hardly runs takes longer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Holds any datagram of a dump (net/netlink/af_netlink.c, `netlink_dump`: 32 KiB at most).
const REPLY_BYTES: usize = 32 << 10;
/// How often an interrupted dump is begun again.
const RETRIES: u32 = 5;
/// The pause before the first of these; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// So many requests go into one datagram: should the kernel refuse all, its answers fit the default receive buffer.
const DATAGRAM_REQUESTS: usize = 96;
/// And so many bytes: well within the default send buffer.
const DATAGRAM_BYTES: usize = 64 << 10;

/// Asks the kernel, over a socket of its own, and runs the replies.
///
/// Every reply's port ID and sequence number are checked. Replies to an earlier request that nobody waited for are passed
/// over. What the kernel refuses is an [`Error`] with its number, its words ([`Error::kernel_text`]) and the offset of the
/// attribute that it names ([`Error::offset_bytes`]).
///
/// ```
/// use nlring::{Protocol, Requester, flags, route::Link};
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
    request: Vec<u8>,
    replies: Vec<u8>,
    /// What is left of the datagram in `replies`.
    left: Range<usize>,
}

/// The entries of a dump, as one attempt brought them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dump<T> {
    /// What was made of the entries.
    pub items: T,
    /// Changes interrupted the last attempt too (`NLM_F_DUMP_INTR`): entries may be missing, or twice.
    pub is_interrupted: bool,
    /// How often it was begun.
    pub attempts: u32,
}

/// A request under way: which replies are its, and how far they have come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    first: u32,
    last: u32,
    is_done: bool,
    pub is_interrupted: bool,
}

/// The replies to one request, one after the other.
///
/// Dropping it leaves the rest to be passed over by the next request.
#[derive(Debug)]
pub struct Replies<'a> {
    requester: &'a mut Requester,
    exchange: Exchange,
}

/// Requests that are sent together.
///
/// The kernel carries them out in order, and one that it refuses does not hold up the next.
///
/// ```no_run
/// # use nlring::{Protocol, Requester};
/// let mut requester = Requester::open(Protocol::ROUTE)?;
/// let mut batch = requester.batch();
/// for table in [100, 101] {
///     batch.add(25 /* RTM_DELROUTE */, 0, |request| {
///         request.bytes(&[2, 0, 0, 0, table, 0, 0, 0, 0, 0, 0, 0])
///     })?;
/// }
/// batch.send(|index, reply| {
///     if let Err(error) = reply {
///         eprintln!("request {index}: {error}");
///     }
/// })?;
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
pub struct Batch<'a> {
    requester: &'a mut Requester,
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
        socket.set_recv_timeout(Some(TIMEOUT))?;
        Ok(Self {
            port_id: socket.port_id()?,
            socket,
            sequence: 0,
            retries: RETRIES,
            request: Vec::new(),
            replies: vec![0; REPLY_BYTES],
            left: 0..0,
        })
    }

    /// The socket, for its options.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// How long to wait for each reply: 5 s unless it is set.
    ///
    /// # Errors
    ///
    /// As [`Socket::set_recv_timeout`].
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.socket.set_recv_timeout(Some(timeout))
    }

    /// How often a dump is begun again that changes have interrupted, after pauses that double from 10 ms on: 5 times unless
    /// it is set.
    pub fn set_dump_retries(&mut self, retries: u32) {
        self.retries = retries;
    }

    /// Sends a request, to which `NLM_F_REQUEST` and `NLM_F_ACK` are added, and gives its replies.
    ///
    /// # Errors
    ///
    /// It could not be built or sent. What the kernel makes of it is in the replies.
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

    /// Dumps a table: hands each entry to `take`, which adds it to the items. When changes interrupt the dump it is begun
    /// again, with new items, a few times; the last attempt's items are given in any case.
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
            thread::sleep(pause);
            pause *= 2;
        }
    }

    /// Starts a batch of requests.
    pub fn batch(&mut self) -> Batch<'_> {
        Batch {
            requester: self,
            requests: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Sends a request whose replies are taken by [`next`](Self::next).
    pub(crate) fn begin(
        &mut self,
        message_type: u16,
        flags: u16,
        fill: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
    ) -> Result<Exchange> {
        self.request.clear();
        let flags = flags | flags::REQUEST | flags::ACK;
        let message = MessageBuilder::new(&mut self.request, message_type, flags);
        let sequence = self.sequence.wrapping_add(1);
        fill(message).sequence(sequence).finish()?;
        self.socket.send(&self.request)?;
        Ok(self.expect(sequence, sequence))
    }

    /// From here on the replies to these sequence numbers are wanted.
    fn expect(&mut self, first: u32, last: u32) -> Exchange {
        self.sequence = last;
        self.left = 0..0;
        Exchange {
            first,
            last,
            is_done: false,
            is_interrupted: false,
        }
    }

    /// The next data of an exchange; None at its end. A refusal is an error.
    pub(crate) fn next(
        &mut self,
        exchange: &mut Exchange,
        flags: RecvFlags,
    ) -> Result<Option<Message<'_>>> {
        match self.step(exchange, flags)? {
            Some((_, reply)) => Ok(Messages::new(&self.replies[reply?]).next()),
            None => Ok(None),
        }
    }

    /// The next reply that is data, by where it lies, or a refusal; and the index of its request. None at the end.
    fn step(
        &mut self,
        exchange: &mut Exchange,
        flags: RecvFlags,
    ) -> Result<Option<(usize, Result<Range<usize>>)>> {
        while !exchange.is_done {
            let left = self.left.clone();
            let Some(message) = Messages::new(&self.replies[left.clone()]).next() else {
                self.receive(flags)?;
                continue;
            };
            let end = left.end.min(left.start + align(message.bytes().len()));
            self.left.start = end;
            let index = exchange.index_of(message.sequence()).unwrap_or(0);
            match exchange.judge(&message, self.port_id)? {
                Verdict::Data => return Ok(Some((index, Ok(left.start..end)))),
                Verdict::Refused(error) => return Ok(Some((index, Err(error)))),
                Verdict::Pass => {}
            }
        }
        Ok(None)
    }

    fn receive(&mut self, flags: RecvFlags) -> Result<()> {
        let received = match self.socket.recv(&mut self.replies, flags) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock && flags == RecvFlags::NONE => {
                return Err(Error::with_kind(
                    "wait for the kernel's reply",
                    ErrorKind::TimedOut,
                ));
            }
            received => received?,
        };
        self.left = 0..received
            .datagrams()
            .iter()
            .map(|datagram| datagram.bytes().len())
            .sum();
        Ok(())
    }
}

/// What a message is to an exchange.
enum Verdict {
    Data,
    Refused(Error),
    /// Nothing that a caller is told of.
    Pass,
}

impl Exchange {
    /// As libmnl's `__mnl_cb_run` (src/callback.c), but for three things: an interrupted dump keeps its data, an overrun is an
    /// error, and the replies to what was asked earlier are passed over.
    fn judge(&mut self, message: &Message<'_>, port_id: u32) -> Result<Verdict> {
        if !message.is_port_id(port_id) {
            return Err(unexpected("a reply for another port ID"));
        }
        let sequence = message.sequence();
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
            Content::Error(answer) => {
                self.is_done |= is_last;
                match answer.errno() {
                    Some(0) => Verdict::Pass,
                    Some(errno) => Verdict::Refused(Error::refused(errno, &answer)),
                    None => Verdict::Refused(unexpected("an error without a number")),
                }
            }
            Content::Done { errno } => {
                self.is_done |= is_last;
                match errno {
                    0 => Verdict::Pass,
                    errno => {
                        Verdict::Refused(Error::system("dump", io::Error::from_raw_os_error(errno)))
                    }
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
    /// - the kernel refused the request, or its dump failed: [`Error::raw_os_error`] has the number, and
    ///   [`Error::kernel_text`] and [`Error::offset_bytes`] what it said about it;
    /// - [`ErrorKind::TimedOut`]: it did not answer in time;
    /// - [`ErrorKind::Overrun`]: replies were lost;
    /// - [`ErrorKind::UnexpectedReply`]: a message that is no reply to this request.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>> {
        self.requester.next(&mut self.exchange, RecvFlags::NONE)
    }

    /// Hands each further data message to `f`, until it breaks (Some) or all came (None).
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

    /// Whether changes have interrupted the dump so far (`NLM_F_DUMP_INTR`): entries may be missing, or twice. The data
    /// is handed over all the same.
    pub fn is_interrupted(&self) -> bool {
        self.exchange.is_interrupted
    }
}

impl Batch<'_> {
    /// Adds a request. Only its data and its refusal are told of, so that `NLM_F_ACK` is not needed.
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
        let message = MessageBuilder::new(&mut self.requests, message_type, flags | flags::REQUEST);
        fill(message).finish()?;
        self.starts.push(start);
        Ok(())
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
    /// kernel has carried out all that it did not refuse, and the batch is empty.
    ///
    /// # Errors
    ///
    /// They could not be sent, or not all replies came: as [`Replies::next_message`], but for refusals. Some of the
    /// requests may have been carried out.
    pub fn send(&mut self, mut f: impl FnMut(usize, Result<Message<'_>>)) -> Result<()> {
        let mut requests = std::mem::take(&mut self.requests);
        let starts = std::mem::take(&mut self.starts);
        let mut next = 0;
        while let Some(&start) = starts.get(next) {
            let count = starts[next..]
                .iter()
                .take(DATAGRAM_REQUESTS)
                .take_while(|&&at| at - start <= DATAGRAM_BYTES)
                .count();
            let end = starts.get(next + count).copied().unwrap_or(requests.len());
            self.send_datagram(&mut requests[start..end], next, count, &mut f)?;
            next += count;
        }
        Ok(())
    }

    /// Sends `count` requests as one datagram. The last one is acknowledged, and so ends their replies.
    fn send_datagram(
        &mut self,
        datagram: &mut [u8],
        first_index: usize,
        count: usize,
        f: &mut impl FnMut(usize, Result<Message<'_>>),
    ) -> Result<()> {
        let first = self.requester.sequence.wrapping_add(1);
        let mut sequence = first;
        let mut at = 0;
        for index in 0..count {
            let message = &mut datagram[at..];
            let length_bytes = Header::read(message).map_or(0, |header| header.length_bytes);
            sequence = first.wrapping_add(u32::try_from(index).unwrap_or(u32::MAX));
            message[8..12].copy_from_slice(&sequence.to_ne_bytes());
            if index + 1 == count {
                let flags = u16::from_ne_bytes([message[6], message[7]]) | flags::ACK;
                message[6..8].copy_from_slice(&flags.to_ne_bytes());
            }
            at += align(length_bytes as usize);
        }
        self.requester.socket.send(datagram)?;
        let mut exchange = self.requester.expect(first, sequence);
        while !exchange.is_done {
            let Some((index, reply)) = self.requester.step(&mut exchange, RecvFlags::NONE)? else {
                break;
            };
            let replies = &self.requester.replies;
            match reply.map(|range| Messages::new(&replies[range]).next()) {
                Ok(Some(message)) => f(first_index + index, Ok(message)),
                Ok(None) => {}
                Err(error) => f(first_index + index, Err(error)),
            }
        }
        Ok(())
    }
}
