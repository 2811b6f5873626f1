//! Events that wait for the first dump to be handed out before them.

use crate::list::Messages;
use crate::message::Message;

/// So many bytes of messages are held: some 350,000 events.
const MOST_BYTES: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Each event is held.
    Holding,
    /// None is any more, and those that were are to be handed out before anything else.
    Ending,
    Ended,
}

#[derive(Debug)]
pub(super) struct Held {
    /// Messages, each padded to 4 bytes.
    bytes: Vec<u8>,
    /// Those before this were handed out.
    next: usize,
    most_bytes: usize,
    state: State,
}

impl Held {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            next: 0,
            most_bytes: MOST_BYTES,
            state: State::Holding,
        }
    }

    #[cfg(test)]
    pub(super) fn set_most_bytes(&mut self, most_bytes: usize) {
        self.most_bytes = most_bytes;
    }

    pub(super) fn is_holding(&self) -> bool {
        self.state == State::Holding
    }

    pub(super) fn is_ending(&self) -> bool {
        self.state == State::Ending
    }

    /// False: there is no room for it.
    pub(super) fn push(&mut self, message: &Message<'_>) -> bool {
        let bytes = message.bytes();
        if self.bytes.len() + bytes.len() > self.most_bytes {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        true
    }

    /// What is held is to be handed out before anything else, and nothing more is held.
    pub(super) fn end(&mut self) {
        if self.state == State::Holding {
            self.state = State::Ending;
        }
    }

    /// All was handed out.
    pub(super) fn end_now(&mut self) {
        *self = Self {
            state: State::Ended,
            ..Self::new()
        };
    }

    /// Lends what is held, for [`put_back`](Self::put_back).
    pub(super) fn lend(&mut self) -> Lent {
        Lent {
            bytes: std::mem::take(&mut self.bytes),
            next: self.next,
        }
    }

    pub(super) fn put_back(&mut self, lent: Lent) {
        (self.bytes, self.next) = (lent.bytes, lent.next);
    }
}

/// Held messages, taken one after the other.
pub(super) struct Lent {
    bytes: Vec<u8>,
    next: usize,
}

impl Lent {
    pub(super) fn next_message(&mut self) -> Option<Message<'_>> {
        let message = Messages::new(self.bytes.get(self.next..)?).next()?;
        self.next += message.bytes().len().next_multiple_of(4);
        Some(message)
    }
}
