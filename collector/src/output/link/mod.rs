//! A link to a receiver whose protocol has no acknowledgements, and what can be known about what it has received.
//!
//! Datagrams count as received over UDP if no error has come back within a second, and over a unix socket at once.
//!
//! Streams: after an interval nlringd closes its half. The receiver closes the other half when it has read everything,
//! which acknowledges everything that was sent since the stream was opened. If the stream ends in any other way, all of
//! it is sent again.

mod connection;

use std::thread;
use std::time::{Duration, Instant};

use self::connection::Connection;
use crate::config::{Receiver, Transport};
use crate::failure::{Failure, Result};
use crate::spool::Acknowledged;

/// The maximum that is sent on a stream before it is closed.
const STREAM_BYTES: u64 = 16 << 20;

/// After this many datagrams there is a pause, in which the receiver reads them. The usual receive buffer of 208 KiB has room
/// for 90 to 280.
const DATAGRAMS: u32 = 64;
const PAUSE: Duration = Duration::from_millis(1);

/// How long an error may take to come back: while nlringd runs, and at its end.
const SETTLING: Duration = Duration::from_secs(1);
const SETTLING_AT_END: Duration = Duration::from_millis(200);

/// A link to a receiver.
pub struct Link {
    receiver: Receiver,
    /// How long a stream is kept open.
    interval: Duration,
    open: Option<Open>,
    sent: Acknowledged,
    /// Over UDP: an instant, and the place before which everything was sent by then.
    settling: Option<(Instant, Acknowledged)>,
    acknowledged: Acknowledged,
}

/// A connection and what was sent on it.
struct Open {
    connection: Connection,
    since: Instant,
    bytes: u64,
    /// How many datagrams were sent since the last pause.
    datagram_count: u32,
}

impl Link {
    pub fn new(receiver: Receiver, interval: Duration) -> Self {
        Self {
            receiver,
            interval,
            open: None,
            sent: Acknowledged::default(),
            settling: None,
            acknowledged: Acknowledged::default(),
        }
    }

    /// Begins again after this place, with a new connection.
    pub fn resume(&mut self, saved: Acknowledged) {
        self.open = None;
        self.settling = None;
        self.sent = saved;
        self.acknowledged = saved;
    }

    /// Checks for a response to what was sent before.
    pub fn check(&mut self) -> Result<()> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        let checked = open.connection.check();
        checked.map_err(|error| self.failure("send to", &error))?;
        let settled = self
            .settling
            .filter(|(since, _)| since.elapsed() >= SETTLING);
        if let Some((_, place)) = settled {
            self.acknowledged = place;
            self.settling = None;
        }
        Ok(())
    }

    /// Opens the connection if there is none. Returns whether it is new.
    pub fn open(&mut self) -> Result<bool> {
        if self.open.is_some() {
            return Ok(false);
        }
        let connection = Connection::open(&self.receiver);
        self.open = Some(Open {
            connection: connection.map_err(|error| self.failure("reach", &error))?,
            since: Instant::now(),
            bytes: 0,
            datagram_count: 0,
        });
        Ok(true)
    }

    /// The longest datagram that fits into a packet. None: there is no limit.
    pub fn limit(&self) -> Option<usize> {
        self.open.as_ref()?.connection.limit(self.receiver.mtu)
    }

    /// Sends a datagram, or the next bytes of the stream.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.open()?;
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        open.bytes += bytes.len() as u64;
        if self.receiver.transport == Transport::Udp {
            if open.datagram_count == DATAGRAMS {
                thread::sleep(PAUSE);
                open.datagram_count = 0;
            }
            open.datagram_count += 1;
        }
        let sent = open.connection.send(bytes);
        sent.map_err(|error| self.failure("send to", &error))
    }

    /// Notes that everything before this place is sent.
    pub fn note_sent(&mut self, place: Acknowledged) -> Result<()> {
        self.sent = place;
        let Some(open) = self.open.as_ref().filter(|open| open.bytes > 0) else {
            // Nothing is outstanding.
            self.acknowledged = place;
            return Ok(());
        };
        match self.receiver.transport {
            Transport::Unix => self.acknowledged = place,
            Transport::Udp => {
                self.settling.get_or_insert((Instant::now(), place));
            }
            Transport::Tcp | Transport::UnixStream => {
                let is_due = open.bytes >= STREAM_BYTES || open.since.elapsed() >= self.interval;
                if is_due {
                    self.close()?;
                }
            }
        }
        Ok(())
    }

    /// Waits until the receiver has everything.
    pub fn finish(&mut self) -> Result<()> {
        if self.receiver.transport.is_stream() {
            return self.close();
        }
        if self.acknowledged != self.sent {
            thread::sleep(SETTLING_AT_END);
        }
        self.check()?;
        self.acknowledged = self.sent;
        Ok(())
    }

    pub fn acknowledged(&self) -> Acknowledged {
        self.acknowledged
    }

    fn close(&mut self) -> Result<()> {
        if let Some(open) = self.open.take().filter(|open| open.bytes > 0) {
            let closed = open.connection.close();
            closed.map_err(|error| self.failure("get an answer of", &error))?;
        }
        self.acknowledged = self.sent;
        Ok(())
    }

    fn failure(&self, doing: &str, error: &std::io::Error) -> Failure {
        Failure::Other(format!("{doing} {}: {error}", self.receiver))
    }
}
