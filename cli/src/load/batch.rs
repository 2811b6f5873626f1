//! Requests that are sent together, of which the kernel answers only those that it refuses.

use nlring::{Content, ErrorKind, MessageBuilder, Protocol, RecvFlags, Socket};
use rustix::io::Errno;

use crate::outcome::Failure;
use crate::request::answered;

/// Room for a refusal: it repeats the request.
const ANSWER_BYTES: usize = 4 << 10;

/// What to do about a refusal.
pub type Remedies = &'static [(Errno, &'static str)];

pub struct Batch {
    socket: Socket,
    operation: &'static str,
    remedies: Remedies,
    requests: Vec<u8>,
    answer: Vec<u8>,
}

impl Batch {
    pub fn open(
        protocol: Protocol,
        operation: &'static str,
        remedies: Remedies,
    ) -> Result<Self, Failure> {
        Ok(Self {
            socket: Socket::builder(protocol).ext_ack(true).open()?,
            operation,
            remedies,
            requests: Vec::new(),
            answer: vec![0; ANSWER_BYTES],
        })
    }

    /// Adds the request that `build` makes, which asks for no acknowledgement.
    pub fn add(
        &mut self,
        build: impl FnOnce(&mut Vec<u8>) -> MessageBuilder<'_>,
    ) -> Result<(), Failure> {
        Ok(build(&mut self.requests).finish()?)
    }

    /// Sends what was added. The kernel has done it all when this returns, but for what it refused: the first of that is
    /// told.
    pub fn send(&mut self) -> Result<(), Failure> {
        if self.requests.is_empty() {
            return Ok(());
        }
        let sent = self.socket.send(&self.requests);
        self.requests.clear();
        sent?;
        let mut result = Ok(());
        while let Some(refusal) = self.next_refusal()? {
            result = result.and(refusal);
        }
        result
    }

    /// None: there is no further one.
    fn next_refusal(&mut self) -> Result<Option<Result<(), Failure>>, Failure> {
        let list = match self.socket.recv(&mut self.answer, RecvFlags::DONT_WAIT) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            // More of them than there was room for: the first are there.
            Err(error) if error.kind() == ErrorKind::Overrun => return Ok(Some(Ok(()))),
            list => list?,
        };
        let refusals = list.iter().filter_map(|message| match message.content() {
            Content::Error(answer) => {
                let errno = answer.errno().unwrap_or(0);
                let text = remedy(self.remedies, errno).or(answer.text());
                Some(answered(self.operation, errno, text))
            }
            _ => None,
        });
        Ok(Some(refusals.collect()))
    }
}

fn remedy(remedies: Remedies, errno: i32) -> Option<&'static str> {
    let mut remedies = remedies.iter();
    let (_, remedy) = remedies.find(|(of, _)| of.raw_os_error() == errno)?;
    Some(remedy)
}
