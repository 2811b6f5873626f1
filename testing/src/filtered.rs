//! A socket with a program, to see which datagrams the kernel passes.

use nlring::filter::Program;
use nlring::{Protocol, RecvFlags, Socket};

/// A socket with a program, and one that sends to it. No family knows the messages between them, so they can be
/// anything.
#[derive(Debug)]
pub struct Filtered {
    sender: Socket,
    receiver: Socket,
    port_id: u32,
    buffer: Vec<u8>,
}

impl Filtered {
    /// How many events the default receive buffer is sure to hold.
    pub const MAX_COUNT: usize = 100;

    /// A pair of sockets in the network namespace of this thread. There is no program yet.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    #[must_use]
    pub fn new() -> Self {
        let open = || Socket::builder(Protocol::USERSOCK).nonblocking(true);
        let receiver = open().open().expect("a receiver");
        Self {
            sender: open().open().expect("a sender"),
            port_id: receiver.port_id().expect("its port ID"),
            receiver,
            buffer: vec![0; 1 << 16],
        }
    }

    /// Attaches a program.
    ///
    /// # Panics
    ///
    /// If the kernel refuses it.
    pub fn set(&self, program: &Program) {
        self.receiver.set_filter(program).expect("a good program");
    }

    /// Whether each of these datagrams passes. The sequence number of its first message must be its index. There are at
    /// most [`MAX_COUNT`](Self::MAX_COUNT).
    ///
    /// # Panics
    ///
    /// If one of them arrives damaged, or is lost.
    pub fn passed(&mut self, datagrams: &[Vec<u8>]) -> Vec<bool> {
        assert!(datagrams.len() <= Self::MAX_COUNT, "too many at once");
        for datagram in datagrams {
            let sent = self.sender.send_to(datagram, self.port_id, 0);
            assert_eq!(sent.expect("sent"), datagram.len());
        }
        let mut passed = vec![false; datagrams.len()];
        while let Ok(list) = self.receiver.recv(&mut self.buffer, RecvFlags::NONE) {
            let bytes = list.datagrams()[0].bytes();
            let index = list.iter().next().expect("a message").sequence() as usize;
            assert_eq!(bytes, datagrams[index]);
            passed[index] = true;
        }
        assert_eq!(self.receiver.drops().expect("a count"), 0);
        passed
    }
}

impl Default for Filtered {
    fn default() -> Self {
        Self::new()
    }
}
