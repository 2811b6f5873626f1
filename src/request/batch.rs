//! Requests that are sent together in one datagram.

use std::time::Instant;

use super::exchange::{Exchange, refused_too, unexpected};
use super::{Patience, Requester, TIMEOUT, may_dump, send_noop};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Header, Message, MessageBuilder, Messages, align, build, flags};

/// The largest number of requests in one datagram. If the kernel refuses all of them, its answers fit the default
/// receive buffer.
const DATAGRAM_REQUESTS: usize = 96;
/// The largest size of a datagram in bytes, unless a single request is larger. It is well below the default send
/// buffer.
const DATAGRAM_BYTES: usize = 64 << 10;

/// Requests that are sent together, up to 96 in one datagram.
///
/// The kernel carries them out in order, and continues after one that it refuses. But some refusals concern a whole
/// datagram, and the kernel reports them once, for the first request. It refuses netfilter requests without
/// `CAP_NET_ADMIN` in this way (Linux v6.18, net/netfilter/nfnetlink.c, `nfnetlink_rcv`). [`send`](Self::send) reports
/// such a refusal for each request of the datagram.
///
/// All replies to one datagram are queued at once. Large replies need a receive buffer beyond the kernel's default
/// ([`Socket::set_recv_buffer_bytes`](crate::Socket::set_recv_buffer_bytes)). Without it some are lost, which is
/// reported as [`ErrorKind::Overrun`].
///
/// ```
/// use nlring::message::flags;
/// use nlring::{Batch, Protocol, Requester};
///
/// let mut requester = Requester::open(Protocol::ROUTE)?;
/// let mut batch = Batch::new();
/// for name in ["lo", "none"] {
///     batch.add(18 /* RTM_GETLINK */, 0, |request| {
///         request.bytes(&[0; 16]).attribute_str_nul(3 /* IFLA_IFNAME */, name)
///     })?;
/// }
/// let mut found = [false; 2];
/// batch.send(&mut requester, |index, reply| match reply {
///     Ok(_link) => found[index] = true,
///     Err(error) => assert_eq!(error.raw_os_error(), Some(19 /* ENODEV */)),
/// })?;
/// assert_eq!(found, [true, false]);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "a batch sends nothing until `send`"]
pub struct Batch {
    requests: Vec<u8>,
    /// The offset of each request.
    starts: Vec<usize>,
}

impl Batch {
    /// A batch without requests.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a request, with `NLM_F_REQUEST`. It needs no `NLM_F_ACK`, because [`send`](Self::send) reports a refusal in
    /// any case. `fill` appends the fixed header of the protocol and attributes, and must return the builder that it is
    /// given.
    ///
    /// # Errors
    ///
    /// Those of [`MessageBuilder::finish`]. The request is then not added.
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

    /// The requests, in order. They have no sequence numbers until they are sent.
    pub fn requests(&self) -> Messages<'_> {
        Messages::new(&self.requests)
    }

    /// The number of requests.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Sends all requests, and calls `f` with each data message and each refusal, and the index of its request. When it
    /// returns, the kernel has carried out every request that it did not refuse. The batch is then empty, but keeps its
    /// memory.
    ///
    /// # Errors
    ///
    /// The requests could not be sent, or not all replies arrived: see
    /// [`Replies::next_message`](super::Replies::next_message). The kernel may have carried out some of the requests. A
    /// refusal is not an error of this function.
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

/// Gives the requests of a datagram the sequence numbers from `first` on, and requests an acknowledgement of the last
/// one. Returns the last number, and whether the kernel may answer with a dump.
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
    /// Sends `count` requests as one datagram. The acknowledgement of the last one ends their replies.
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
                // The kernel has sent all answers that it will send, and the one to the last request is missing.
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
                    refused_whole = is_first.then(|| refused_too(&error));
                    f(index, Err(error));
                }
            }
        }
        match refused_whole.filter(|_| answer_count == 1) {
            _ if !exchange.is_cut => Ok(()),
            Some(error) => {
                (1..count).for_each(|index| f(index, Err(refused_too(&error))));
                Ok(())
            }
            None => Err(unexpected(
                "the kernel did not answer the remaining requests; some may not have been carried out",
            )),
        }
    }

    /// Sends a barrier after the requests of an exchange: the kernel answers it after all its answers to them.
    fn send_barrier(&mut self, exchange: &mut Exchange) -> Result<()> {
        self.sequence = exchange.barrier();
        send_noop(&self.socket, self.sequence)?;
        exchange.has_barrier = true;
        Ok(())
    }
}

fn is_nothing_there(error: &Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}
