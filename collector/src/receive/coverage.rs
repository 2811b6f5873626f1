//! Up to when everything of a socket has been received.

use nlring::message::{self, flags};
use nlring::{Content, MessageBuilder, MessageList, Socket};

/// Set in the sequence numbers, so that none is one of the mirror's: those count up from 0, or have bit 31.
const OURS: u32 = 1 << 30;

/// Requests an acknowledgement from the kernel, which arrives after all events that the kernel made before the request.
#[derive(Debug, Default)]
pub struct Coverage {
    sequence: u32,
    is_awaited: bool,
}

impl Coverage {
    /// Sends a no-op request.
    pub fn ask(&mut self, socket: &Socket) -> nlring::Result<()> {
        self.sequence = (self.sequence + 1) % OURS;
        self.is_awaited = true;
        let mut request = Vec::new();
        MessageBuilder::new(&mut request, message::NOOP, flags::REQUEST | flags::ACK)
            .sequence(self.sequence | OURS)
            .finish()?;
        socket.send(&request)?;
        Ok(())
    }

    /// Whether everything has been received that the kernel had sent at the last request.
    pub fn is_reached(&self) -> bool {
        !self.is_awaited
    }

    /// Searches the messages of the socket for the acknowledgement.
    pub fn look_at(&mut self, list: &MessageList<'_>) {
        if !self.is_awaited {
            return;
        }
        let wanted = self.sequence | OURS;
        self.is_awaited = !list.iter().any(|message| {
            message.sequence() == wanted
                && matches!(message.content(), Content::Ack(_) | Content::Error(_))
        });
    }
}
