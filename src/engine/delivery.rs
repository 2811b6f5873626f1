//! Delivery: from taken buffers to lists, notices and losses, each handed to the callback once.

use std::ops::ControlFlow;
use std::time::SystemTime;

use super::event::{Event, Notice, SocketId, Turn};
use super::receive::{Receive, Taken};
use super::sockets::{Control, Entry, PendingEvent, Sockets};
use super::stop::StopHandle;
use crate::list::{Datagram, MessageList, Walk, walk};
use crate::sys::socket::Received;

/// A list holds up to this many datagrams, so that it can be built on the stack.
const LIST_DATAGRAMS: usize = 64;

/// The datagrams in hand, and how far they have been handed over.
#[derive(Debug)]
pub(super) struct Delivery {
    pub taken: Vec<Taken>,
    /// Those before this one were handed over, or passed over and counted.
    next: usize,
    /// What is to be told after the list that was just handed over.
    notice: Option<(SocketId, Notice)>,
    pub received_at: SystemTime,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            taken: Vec::new(),
            next: 0,
            notice: None,
            received_at: SystemTime::UNIX_EPOCH,
        }
    }
}

impl Delivery {
    /// Makes room for as many datagrams as all buffers hold, so that draining never allocates.
    pub(super) fn set_room(&mut self, count: usize) {
        let count = count.max(1); // a receive's end needs none, and must be seen
        self.taken
            .reserve_exact(count.saturating_sub(self.taken.len()));
    }

    /// Notes which sockets have received, so that their drop counters are to be read.
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

    /// Gives the buffers back of what was handed over.
    pub(super) fn recycle(&mut self, receive: &mut dyn Receive) {
        if self.next > 0 {
            receive.recycle(&self.taken[..self.next]);
            self.taken.drain(..self.next);
            self.next = 0;
        }
    }

    /// Passes over what is left, counting it as unread.
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

/// Hands over all that is in hand, then what is pending, until the callback breaks off.
///
/// What is handed over is marked and counted before the callback runs: should it panic, the next turn goes on behind it.
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

/// What comes next, in order; None when all was told.
fn next_event<'a>(
    receive: &'a dyn Receive,
    sockets: &mut Sockets,
    delivery: &mut Delivery,
    datagrams: &'a mut [Datagram<'a>; LIST_DATAGRAMS],
) -> Option<Event<'a>> {
    while delivery.notice.is_none() && delivery.next < delivery.taken.len() {
        let slot = delivery.taken[delivery.next].slot;
        let Some(entry) = sockets.in_slot(slot) else {
            delivery.next += 1; // cannot be: a slot is given up only when nothing of it is in hand
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

/// Takes datagrams of one socket into a list, until it is full, or one has to be told of between two lists: a malformed
/// one ends its list, a truncated one is in none. Counts what it takes.
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
        let (received, bytes) = receive.datagram(taken).unwrap_or_default();
        let is_foreign = !entry.accepts(received.sender_port_id);
        let is_truncated = received.real_bytes > bytes.len();
        if is_truncated && !is_foreign && datagram_count > 0 {
            break; // after the list
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
                datagrams[datagram_count] = received.datagram(&bytes[..walk.valid_bytes]);
                datagram_count += 1;
                message_count += walk.message_count;
            }
        }
    }
    entry.statistics.messages += message_count as u64;
    (datagram_count, message_count)
}

fn next_pending<'a>(sockets: &mut Sockets) -> Option<Event<'a>> {
    if !sockets.has_pending {
        return None;
    }
    for entry in sockets.iter_mut() {
        let id = entry.id;
        match entry.next_pending() {
            Some(PendingEvent::Lost(loss)) => return Some(Event::Lost(id, loss)),
            Some(PendingEvent::Notice(notice)) => return Some(Event::Notice(id, notice)),
            None => {}
        }
    }
    sockets.has_pending = false;
    None
}
