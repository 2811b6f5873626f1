//! Events that are held until the first dump has been handed out.

use std::collections::VecDeque;

use crate::message::{Message, Messages};
use crate::timestamp::Timestamp;

/// This many bytes of messages are held at most: about 350,000 events.
const MOST_BYTES: usize = 64 << 20;
/// The messages are allocated in chunks of this size.
const CHUNK_BYTES: usize = 64 << 10;
/// The size of the time in front of each message.
const TIME_BYTES: usize = size_of::<u64>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Each event is held.
    Holding,
    /// The held events are handed out, a few at a time. New ones wait behind them.
    Ending,
    Ended,
}

#[derive(Debug)]
pub(super) struct Held {
    /// For each message the time when it was received, then the message, padded to 4 bytes.
    chunks: VecDeque<Vec<u8>>,
    /// The offset in the first chunk up to which messages have been handed out.
    next: usize,
    bytes: usize,
    most_bytes: usize,
    state: State,
}

impl Held {
    pub(super) fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            next: 0,
            bytes: 0,
            most_bytes: MOST_BYTES,
            state: State::Holding,
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn set_most_bytes(&mut self, most_bytes: usize) {
        self.most_bytes = most_bytes;
    }

    /// The memory of the held messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_holding(&self) -> bool {
        self.state == State::Holding
    }

    pub(super) fn is_ending(&self) -> bool {
        self.state == State::Ending
    }

    pub(super) fn has_room_for(&self, message: &Message<'_>) -> bool {
        self.bytes + message.bytes().len() <= self.most_bytes
    }

    /// Holds a message that was received at this time.
    pub(super) fn push(&mut self, message: &Message<'_>, received_at: Timestamp) {
        let bytes = message.bytes();
        let padded_bytes = TIME_BYTES + bytes.len().next_multiple_of(4);
        self.bytes += padded_bytes;
        let has_room = |last: &Vec<u8>| last.len() + padded_bytes <= CHUNK_BYTES;
        if !self.chunks.back().is_some_and(has_room) {
            let chunk_bytes = CHUNK_BYTES.max(padded_bytes);
            self.chunks.push_back(Vec::with_capacity(chunk_bytes));
        }
        if let Some(last) = self.chunks.back_mut() {
            last.extend_from_slice(&received_at.as_ns().to_ne_bytes());
            last.extend_from_slice(bytes);
            last.resize(last.len().next_multiple_of(4), 0);
        }
    }

    /// Begins to end the holding: the held events are handed out before anything else, together with those that arrive
    /// until then.
    pub(super) fn end(&mut self) {
        if self.state == State::Holding {
            self.state = State::Ending;
        }
    }

    /// Ends the holding: everything has been handed out.
    pub(super) fn end_now(&mut self) {
        *self = Self {
            state: State::Ended,
            ..Self::new()
        };
    }

    /// Lends the first chunk, for [`put_back`](Self::put_back).
    pub(super) fn lend(&mut self) -> Option<Lent> {
        let bytes = std::mem::take(self.chunks.front_mut()?);
        let next = self.next;
        Some(Lent { bytes, next })
    }

    pub(super) fn put_back(&mut self, lent: Lent) {
        if let Some(first) = self.chunks.front_mut()
            && lent.next < lent.bytes.len()
        {
            (*first, self.next) = (lent.bytes, lent.next);
        } else {
            self.chunks.pop_front();
            self.bytes = self.bytes.saturating_sub(lent.bytes.len());
            self.next = 0;
        }
    }
}

/// Held messages, taken one by one.
pub(super) struct Lent {
    bytes: Vec<u8>,
    next: usize,
}

impl Lent {
    /// The next message, and when it was received.
    pub(super) fn next_message(&mut self) -> Option<(Timestamp, Message<'_>)> {
        let rest = self.bytes.get(self.next..).unwrap_or_default();
        let Some((ns, rest)) = rest.split_first_chunk() else {
            self.next = self.bytes.len();
            return None;
        };
        self.next += TIME_BYTES;
        let message = Messages::new(rest).next();
        let message_bytes = message
            .as_ref()
            .map_or(rest.len(), |message| message.bytes().len());
        self.next += message_bytes.next_multiple_of(4);
        Some((Timestamp::from_ns(u64::from_ne_bytes(*ns)), message?))
    }
}
