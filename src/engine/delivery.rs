//! Delivery: turns received datagrams into lists, notices and losses, and hands each to the callback once.

use std::ops::ControlFlow;

use super::control::Control;
use super::entry::{Entry, PendingEvent};
use super::event::{Event, Notice, SocketId, Turn};
use super::receive::{Receive, Taken};
use super::sockets::Sockets;
use super::stop::StopHandle;
use crate::message::{Datagram, MessageList, Walk, walk};
use crate::socket::datagram;
use crate::sys::socket::Received;
use crate::timestamp::Timestamp;

/// The most datagrams in a list, which is built on the stack.
const LIST_DATAGRAMS: usize = 64;

/// The datagrams of a turn, and how many of them were handed over.
#[derive(Debug)]
pub(super) struct Delivery {
    pub taken: Vec<Taken>,
    /// The largest number of datagrams in a turn.
    pub room: usize,
    /// The next datagram in `taken`. Those before it were handed over, or skipped and counted.
    next: usize,
    /// To be reported after the list that was just handed over.
    notice: Option<(SocketId, Notice)>,
    pub received_at: Timestamp,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            taken: Vec::new(),
            room: 1,
            next: 0,
            notice: None,
            received_at: Timestamp::UNIX_EPOCH,
        }
    }
}

impl Delivery {
    /// Makes room for `count` datagrams, so that draining never allocates.
    pub(super) fn set_room(&mut self, count: usize) {
        self.room = count.max(1); // without room a drain would read no completion, not even the end of a receive
        self.taken
            .reserve_exact(self.room.saturating_sub(self.taken.len()));
    }

    /// Marks the sockets that received a datagram, so that their drop counters are read.
    pub(super) fn note_drops_owed(&self, sockets: &mut Sockets) {
        for same_slot in self.taken.chunk_by(|one, next| one.slot == next.slot) {
            if let Some(entry) = sockets.in_slot(same_slot[0].slot) {
                entry.drops_owed = true;
            }
        }
    }

    /// Whether everything was handed over.
    pub(super) fn is_empty(&self) -> bool {
        self.next == self.taken.len() && self.notice.is_none()
    }

    /// Returns the buffers of the datagrams that were handed over.
    pub(super) fn recycle(&mut self, receive: &mut dyn Receive) {
        if self.next > 0 {
            receive.recycle(&self.taken[..self.next]);
            self.taken.drain(..self.next);
            self.next = 0;
        }
    }

    /// Skips the remaining datagrams, and counts them as unread.
    pub(super) fn discard(&mut self, sockets: &mut Sockets) {
        for taken in &self.taken[self.next..] {
            if let Some(entry) = sockets.in_slot(taken.slot) {
                entry.statistics.unread += 1;
            }
        }
        self.next = self.taken.len();
        self.notice = None;
    }
}

/// Hands the datagrams of the turn to the callback, then the pending events, until the callback breaks.
///
/// Each event is marked as handed over and counted before the callback runs. If the callback panics, the next turn
/// continues with the event after it.
pub(super) fn deliver<B, F>(
    receive: &dyn Receive,
    sockets: &mut Sockets,
    delivery: &mut Delivery,
    stop: &StopHandle,
    f: &mut F,
) -> Turn<B>
where
    F: FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
{
    let mut turn = Turn::Idle;
    loop {
        if delivery.is_empty() && !sockets.has_pending {
            return turn;
        }
        let mut datagrams = [Datagram::default(); LIST_DATAGRAMS];
        let Some(event) = next_event(receive, sockets, delivery, &mut datagrams) else {
            return turn;
        };
        turn = Turn::Delivered;
        if let ControlFlow::Break(value) = f(event, &mut Control { sockets, stop }) {
            return Turn::Break(value);
        }
    }
}

/// The next event, in order. `None`: all have been delivered.
fn next_event<'a>(
    receive: &'a dyn Receive,
    sockets: &mut Sockets,
    delivery: &mut Delivery,
    datagrams: &'a mut [Datagram<'a>; LIST_DATAGRAMS],
) -> Option<Event<'a>> {
    while delivery.notice.is_none() && delivery.next < delivery.taken.len() {
        let slot = delivery.taken[delivery.next].slot;
        let Some(entry) = sockets.in_slot(slot) else {
            debug_assert!(
                false,
                "a socket is removed while one of its datagrams is in hand"
            );
            delivery.next += 1;
            continue;
        };
        let id = entry.id;
        entry.failures.note_success();
        let (datagram_count, message_count) = gather(receive, entry, delivery, datagrams);
        sockets.has_pending |= entry.pending.foreign.is_some();
        if datagram_count > 0 {
            let list = MessageList::from_walked(
                &datagrams[..datagram_count],
                message_count,
                delivery.received_at,
            );
            return Some(Event::Messages(id, list));
        }
    }
    if let Some((id, notice)) = delivery.notice.take() {
        return Some(Event::Notice(id, notice));
    }
    next_pending(sockets)
}

/// Collects and counts datagrams of one socket and one namespace, until the list is full or a datagram needs a notice.
/// A malformed datagram ends its list; a truncated or short one is in no list. Returns how many datagrams and messages
/// the list has.
fn gather<'a>(
    receive: &'a dyn Receive,
    entry: &mut Entry,
    delivery: &mut Delivery,
    datagrams: &mut [Datagram<'a>; LIST_DATAGRAMS],
) -> (usize, usize) {
    let (mut datagram_count, mut message_count) = (0, 0);
    while datagram_count < LIST_DATAGRAMS && delivery.notice.is_none() {
        let Some(&taken) = delivery.taken.get(delivery.next) else {
            break;
        };
        if taken.slot != entry.id.slot {
            break;
        }
        let Some((received, bytes)) = receive.datagram(taken) else {
            delivery.next += 1;
            delivery.notice = Some((entry.id, entry.note_short(taken.result_bytes)));
            break;
        };
        let is_foreign = !entry.accepts(received.sender_port_id);
        let is_truncated = received.real_bytes > bytes.len();
        if is_truncated && !is_foreign && datagram_count > 0 {
            break; // the list is delivered first
        }
        if datagram_count > 0 && received.nsid != datagrams[0].nsid() {
            break; // a list is of one namespace
        }
        delivery.next += 1;
        entry.statistics.received += 1;
        entry.statistics.bytes += received.real_bytes as u64;
        if is_foreign {
            entry.note_foreign(received.sender_port_id);
        } else if is_truncated {
            entry.statistics.truncated += 1;
            let Received {
                real_bytes, group, ..
            } = received;
            delivery.notice = Some((entry.id, Notice::Truncated { real_bytes, group }));
        } else {
            let walk = if entry.is_framed {
                walk(bytes)
            } else {
                Walk::raw(bytes)
            };
            if let Some(malformed) = walk.malformed {
                entry.statistics.malformed += 1;
                delivery.notice = Some((entry.id, Notice::Malformed(malformed)));
            }
            if walk.message_count > 0 || walk.malformed.is_none() {
                datagrams[datagram_count] = datagram(&received, &bytes[..walk.valid_bytes]);
                datagram_count += 1;
                message_count += walk.message_count;
            }
        }
    }
    entry.statistics.messages += message_count as u64;
    (datagram_count, message_count)
}

fn next_pending<'a>(sockets: &mut Sockets) -> Option<Event<'a>> {
    Some(match sockets.next_pending()? {
        (id, PendingEvent::Lost(loss)) => Event::Lost(id, loss),
        (id, PendingEvent::Notice(notice)) => Event::Notice(id, notice),
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::fd::BorrowedFd;

    use super::super::completion::ReceiveEnd;
    use super::super::options::AddOptions;
    use super::super::wait::Plan;
    use super::*;
    use crate::error::Result;
    use crate::message::HEADER_BYTES;
    use crate::socket::{Protocol, Socket};
    use crate::sys::place::Place;

    /// A backend that only has datagrams, each with an empty message. Those in `short` are too short to read.
    struct Datagrams {
        message: Vec<u8>,
        short: Vec<u16>,
    }

    impl Receive for Datagrams {
        fn datagram(&self, taken: Taken) -> Option<(Received, &[u8])> {
            let received = Received {
                real_bytes: self.message.len(),
                ..Received::default()
            };
            (!self.short.contains(&taken.place.buffer)).then_some((received, &self.message))
        }

        fn start(&mut self, _: &StopHandle) -> io::Result<()> {
            unreachable!()
        }
        fn attach(&mut self, _: u16, _: AddOptions) -> io::Result<usize> {
            unreachable!()
        }
        fn arm(&mut self, _: u16, _: BorrowedFd<'_>) -> Result<()> {
            unreachable!()
        }
        fn cancel(&mut self, _: u16, _: BorrowedFd<'_>) -> Result<()> {
            unreachable!()
        }
        fn is_quiet(&self, _: u16) -> bool {
            unreachable!()
        }
        fn detach(&mut self, _: u16) {}
        fn submit(&mut self) -> Result<()> {
            unreachable!()
        }
        fn wait(&mut self, _: Plan) -> Result<()> {
            unreachable!()
        }
        fn drain(&mut self, _: &mut Sockets, _: &mut Vec<Taken>, _: usize) {}
        fn recycle(&mut self, _: &[Taken]) {}
        fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }
        fn set_readable(&self, _: bool) {}
    }

    #[test]
    fn a_completion_that_is_shorter_than_a_datagram_is_reported_in_its_place() -> Result<()> {
        let mut message = vec![0; HEADER_BYTES];
        message[0] = u8::try_from(HEADER_BYTES).expect("16");
        let receive = Datagrams {
            message,
            short: vec![2, 3, 5],
        };
        let mut sockets = Sockets::new();
        let id = sockets.insert(Socket::open(Protocol::USERSOCK)?, AddOptions::new())?;
        let taken = (0..6).map(|buffer| Taken {
            slot: id.slot,
            place: Place { buffer, offset: 0 },
            result_bytes: 7,
        });
        let mut delivery = Delivery {
            taken: taken.collect(),
            ..Delivery::default()
        };
        let mut seen = Vec::new();
        let turn = deliver(
            &receive,
            &mut sockets,
            &mut delivery,
            &StopHandle::new()?,
            &mut |event, _| {
                seen.push(match event {
                    Event::Messages(_, list) => list.message_count(),
                    Event::Notice(_, Notice::Short { written_bytes: 7 }) => 0,
                    event => panic!("{event:?}"),
                });
                ControlFlow::<()>::Continue(())
            },
        );
        assert_eq!(turn, Turn::Delivered);
        assert_eq!(seen, [2, 0, 0, 1, 0], "messages in a list, 0 for a notice");
        let statistics = sockets.get(id).expect("the socket").statistics;
        assert_eq!((statistics.received, statistics.short), (6, 3));
        assert_eq!((statistics.messages, statistics.bytes), (3, 3 * 16 + 3 * 7));
        Ok(())
    }

    /// How many slots are visited for each notice, if each of this many sockets has one.
    fn steps_per_notice(socket_count: usize) -> Result<usize> {
        let receive = Datagrams {
            message: Vec::new(),
            short: Vec::new(),
        };
        let mut sockets = Sockets::new();
        for _ in 0..socket_count {
            let id = sockets.insert(Socket::open(Protocol::USERSOCK)?, AddOptions::new())?;
            sockets.note_end(id.slot, ReceiveEnd::Starved, true);
        }
        let mut notice_count = 0;
        let turn = deliver(
            &receive,
            &mut sockets,
            &mut Delivery::default(),
            &StopHandle::new()?,
            &mut |_, _| {
                notice_count += 1;
                ControlFlow::<()>::Continue(())
            },
        );
        assert_eq!((turn, notice_count), (Turn::Delivered, socket_count));
        Ok(sockets.looked_at_count / socket_count)
    }

    #[test]
    fn a_notice_costs_no_more_if_many_sockets_have_one() -> Result<()> {
        let (few, many) = (steps_per_notice(4)?, steps_per_notice(200)?);
        assert!(few > 1 && many <= few + 2, "{few} and {many}");
        Ok(())
    }
}
