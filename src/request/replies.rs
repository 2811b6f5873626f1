//! What a request returns: its replies one by one, or the entries of a dump.

use std::ops::ControlFlow;

use super::{Exchange, Patience, Requester};
use crate::error::Result;
#[cfg(doc)]
use crate::error::{Error, ErrorKind};
use crate::message::Message;

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
    /// What the callback collected from the entries.
    pub items: T,
    /// Changes interrupted the last attempt (`NLM_F_DUMP_INTR`), so entries may be missing or duplicated.
    ///
    /// The kernel reports this for devices and addresses. It does not report it for flows, nor, as observed on Linux
    /// 6.18, for routes.
    pub is_interrupted: bool,
    /// The number of attempts, at least 1.
    pub attempts: u32,
}

/// The replies to one request, one by one.
///
/// If this is dropped before the last reply, the next request first reads and discards the rest, which takes time if
/// the dump is long.
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
    pub(super) requester: &'a mut Requester,
    pub(super) exchange: Exchange,
}

impl Replies<'_> {
    /// The next data message. None when the kernel has carried out the request.
    ///
    /// # Errors
    ///
    /// - The kernel refused the request, or its dump failed: [`Error::raw_os_error`] has the number,
    ///   [`Error::kernel_text`] and [`Error::offset_bytes`] what the kernel says about it.
    /// - [`ErrorKind::EntryTooLarge`]: the dump cannot continue after the entries so far.
    /// - [`ErrorKind::TimedOut`]: no reply arrived in time. Messages that are not replies to this request do not
    ///   prolong the time.
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

    /// Whether changes have interrupted the dump so far (`NLM_F_DUMP_INTR`), so that entries may be missing or
    /// duplicated. The data messages are returned in any case.
    pub fn is_interrupted(&self) -> bool {
        self.exchange.is_interrupted
    }
}
