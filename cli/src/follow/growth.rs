//! Receive buffers that grow when they were too small.

use nlring::{Event, Notice, Running, Socket, SocketId};

use crate::host::sysctl::LargerBuffer;
use crate::outcome::Failure;
use crate::units::Bytes;
use crate::write::console::Console;

/// Doubles the receive buffers of sockets that have overrun, once a turn.
pub struct Growth {
    /// Up to here, as it is asked of the kernel. None: never.
    max_bytes: Option<usize>,
    /// Those of this turn, and what has happened to them.
    overrun: Vec<(SocketId, &'static str)>,
    has_told_limit: bool,
}

impl Growth {
    pub fn up_to(max_bytes: Option<usize>) -> Self {
        Self {
            max_bytes,
            overrun: Vec::new(),
            has_told_limit: false,
        }
    }

    /// Notes which socket's receive buffer was too small.
    pub fn note(&mut self, event: &Event<'_>) {
        let (socket, what) = match event {
            Event::Lost(socket, _) => (*socket, "a loss"),
            Event::Notice(socket, Notice::Delayed(_)) => (*socket, "failed deliveries"),
            _ => return,
        };
        if self.max_bytes.is_some() && self.overrun.iter().all(|(noted, _)| *noted != socket) {
            self.overrun.push((socket, what));
        }
    }

    /// Has the buffers of those grow, and says so.
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
        if buffer.is_clamped() && !self.has_told_limit {
            self.has_told_limit = true;
            console.warn(format_args!(
                "the kernel lets the receive buffer grow no further: {}",
                LargerBuffer(max_bytes)
            ));
        }
        Ok(())
    }
}

/// What to ask for to have twice the size, or the most there may be. None: it has that. The kernel reads back twice what it
/// took, so what it reads back is already the double.
fn doubled(granted_bytes: usize, max_bytes: usize) -> Option<usize> {
    (granted_bytes < max_bytes.saturating_mul(2)).then_some(granted_bytes.min(max_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_doubles_up_to_the_most() {
        const KIB: usize = 1 << 10;
        let mut granted = 32 * KIB; // 16 KiB were asked for
        let mut asked = Vec::new();
        while let Some(wanted) = doubled(granted, 100 * KIB) {
            asked.push(wanted / KIB);
            granted = 2 * wanted;
        }
        assert_eq!(asked, [32, 64, 100]);
    }
}
