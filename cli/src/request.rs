//! Asking the kernel: requests with an acknowledgement, and dumps, over a socket of their own.

use std::io;
use std::time::Duration;

use nlring::{Content, Message, MessageBuilder, Protocol, RecvFlags, Socket, flags};
use rustix::io::Errno;

use crate::outcome::Failure;

/// The kernel answers at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Holds any datagram of a dump.
const ANSWER_BYTES: usize = 32 << 10;
/// How often a dump is begun again that changes have interrupted.
const MOST_RETRIES: u32 = 5;

/// A socket for one request after the other.
pub struct Requester {
    socket: Socket,
    request: Vec<u8>,
    answer: Vec<u8>,
    sequence: u32,
}

impl Requester {
    pub fn open(protocol: Protocol) -> Result<Self, Failure> {
        let socket = Socket::builder(protocol).ext_ack(true).open()?;
        socket.set_recv_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            socket,
            request: Vec::new(),
            answer: vec![0; ANSWER_BYTES],
            sequence: 0,
        })
    }

    /// Sends the request that `build` makes, which asks for an acknowledgement, and waits for it.
    pub fn ask(
        &mut self,
        operation: &str,
        build: impl FnOnce(&mut Vec<u8>) -> MessageBuilder<'_>,
    ) -> Result<(), Failure> {
        self.send(build)?;
        self.answers(operation, |_| {})
    }

    /// Hands each entry of the dump that `build` asks for to `take`. Some come again when changes interrupt the dump;
    /// after a few tries it is left at what came.
    pub fn dump(
        &mut self,
        operation: &str,
        build: impl Fn(&mut Vec<u8>) -> MessageBuilder<'_>,
        mut take: impl FnMut(&Message<'_>),
    ) -> Result<(), Failure> {
        for _ in 0..=MOST_RETRIES {
            let mut interrupted = false;
            self.send(&build)?;
            self.answers(operation, |message| {
                interrupted |= message.flags() & flags::DUMP_INTR != 0;
                take(message);
            })?;
            if !interrupted {
                break;
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        build: impl FnOnce(&mut Vec<u8>) -> MessageBuilder<'_>,
    ) -> Result<(), Failure> {
        self.request.clear();
        self.sequence += 1;
        build(&mut self.request).sequence(self.sequence).finish()?;
        self.socket.send(&self.request)?;
        Ok(())
    }

    /// Reads the answers to the last request until one ends it.
    fn answers(
        &mut self,
        operation: &str,
        mut take: impl FnMut(&Message<'_>),
    ) -> Result<(), Failure> {
        loop {
            let list = match self.socket.recv(&mut self.answer, RecvFlags::NONE) {
                Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => continue,
                list => list?,
            };
            let sequence = self.sequence;
            for message in list.iter().filter(|message| message.sequence() == sequence) {
                take(&message);
                match message.content() {
                    Content::Error(answer) => {
                        return answered(operation, answer.errno().unwrap_or(0), answer.text());
                    }
                    Content::Done { errno } => return answered(operation, errno, None),
                    _ => {}
                }
            }
        }
    }
}

/// What the kernel's answer to a request comes to: 0 is done.
pub fn answered(operation: &str, errno: i32, text: Option<&str>) -> Result<(), Failure> {
    if errno == 0 {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(errno);
    let text = text.map_or(String::new(), |text| format!(": {text}"));
    let message = format!("{operation}: {error}{text}");
    Err(match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::Denied(message),
        _ => Failure::Other(message),
    })
}
