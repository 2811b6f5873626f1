//! Makes receive buffers larger after an overrun.

use std::collections::BTreeMap;

use nlring::{Event, Notice, Running, Socket, SocketId};

use crate::host::sysctl::LargerBuffer;
use crate::outcome::Failure;
use crate::units::Bytes;
use crate::write::console::Console;

/// Doubles the receive buffers of sockets that have overrun, once a turn.
pub struct Growth {
    /// The largest size to request from the kernel. None: buffers do not grow.
    max_bytes: Option<usize>,
    /// The sockets that overran in this turn, and what happened to them.
    overrun: BTreeMap<SocketId, &'static str>,
    has_reported_limit: bool,
}

impl Growth {
    pub fn up_to(max_bytes: Option<usize>) -> Self {
        Self {
            max_bytes,
            overrun: BTreeMap::new(),
            has_reported_limit: false,
        }
    }

    /// Records the socket whose receive buffer was too small, if the event says so.
    pub fn note(&mut self, event: &Event<'_>) {
        let (socket, what) = match event {
            Event::Lost(socket, _) => (*socket, "a loss"),
            Event::Notice(socket, Notice::Delayed(_)) => (*socket, "failed deliveries"),
            _ => return,
        };
        if self.max_bytes.is_some() {
            self.overrun.entry(socket).or_insert(what);
        }
    }

    /// Doubles the receive buffer of each socket that overran in this turn, and reports it.
    pub fn after_turn(&mut self, running: &Running, console: &mut Console) -> Result<(), Failure> {
        for (id, what) in std::mem::take(&mut self.overrun) {
            if let (Some(max_bytes), Some(socket)) = (self.max_bytes, running.socket(id)) {
                self.grow(socket, max_bytes, what, console)?;
            }
        }
        Ok(())
    }

    fn grow(
        &mut self,
        socket: &Socket,
        max_bytes: usize,
        what: &str,
        console: &mut Console,
    ) -> Result<(), Failure> {
        let before = socket.recv_buffer_bytes()?;
        let Some(wanted) = doubled(before, max_bytes) else {
            return Ok(());
        };
        let buffer = socket.set_recv_buffer_bytes(wanted)?;
        if buffer.granted_bytes > before {
            let [from, to] = [before, buffer.granted_bytes].map(|size| Bytes(size as u64));
            console.say(format_args!("receive buffer: {from} -> {to} after {what}"));
        }
        if buffer.is_clamped() && !self.has_reported_limit {
            self.has_reported_limit = true;
            console.warn(format_args!(
                "the kernel limits the receive buffer: {}",
                LargerBuffer(max_bytes)
            ));
        }
        Ok(())
    }
}

/// The size to request for a doubled buffer, or the largest one that is allowed. None: the buffer already has that
/// size. The kernel reports twice the requested size, so the reported size is already doubled.
fn doubled(granted_bytes: usize, max_bytes: usize) -> Option<usize> {
    (granted_bytes < max_bytes.saturating_mul(2)).then_some(granted_bytes.min(max_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_doubles_up_to_the_limit() {
        const KIB: usize = 1 << 10;
        let mut granted = 32 * KIB; // 16 KiB were requested
        let mut asked = Vec::new();
        while let Some(wanted) = doubled(granted, 100 * KIB) {
            asked.push(wanted / KIB);
            granted = 2 * wanted;
        }
        assert_eq!(asked, [32, 64, 100]);
    }
}
