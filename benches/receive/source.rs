//! Multicasts datagrams at a known rate, each with the time of its sending.

use std::thread;
use std::time::{Duration, Instant};

use nlring::{MessageBuilder, Protocol, Socket};

use crate::tally::{DATA, END, nanoseconds_since};

const DATAGRAM_BYTES: usize = 200;

/// The offset of the payload, which begins with the time.
const TIME: std::ops::Range<usize> =
    nlring::message::HEADER_BYTES..nlring::message::HEADER_BYTES + 8;

pub struct Source {
    socket: Socket,
    epoch: Instant,
    sent_count: u64,
}

impl Source {
    pub fn new(epoch: Instant) -> Self {
        let socket = Socket::builder(Protocol::USERSOCK).open();
        Self {
            socket: socket.expect("a sender"),
            epoch,
            sent_count: 0,
        }
    }

    pub fn sent_count(&self) -> u64 {
        self.sent_count
    }

    /// Sends `rate` datagrams per second, evenly; 0: full speed.
    pub fn send_for(&mut self, duration: Duration, rate: u32) {
        let mut datagram = datagram(DATA);
        let start = Instant::now();
        let interval_ns = 1_000_000_000u64.checked_div(rate.into()).unwrap_or(0);
        for index in 0.. {
            let due = Duration::from_nanos(index * interval_ns);
            if due.max(start.elapsed()) >= duration {
                break;
            }
            while start.elapsed() < due {
                std::hint::spin_loop();
            }
            self.send(&mut datagram);
        }
    }

    /// Sends the message that marks the end until it is received, slowly enough not to fill the queue.
    pub fn end(&mut self, is_received: impl Fn() -> bool) {
        let mut datagram = datagram(END);
        while !is_received() {
            self.send(&mut datagram);
            let sent_at = Instant::now();
            while !is_received() && sent_at.elapsed() < Duration::from_millis(50) {
                thread::sleep(Duration::from_micros(100));
            }
        }
    }

    fn send(&mut self, datagram: &mut [u8]) {
        datagram[TIME].copy_from_slice(&nanoseconds_since(self.epoch).to_ne_bytes());
        self.sent_count += 1;
        match self.socket.send_to(datagram, 0, 1) {
            // ECONNREFUSED: after the group the datagram goes to port ID 0, where nobody listens on this protocol.
            Err(error) if error.raw_os_error() != Some(libc::ECONNREFUSED) => {
                panic!("send: {error}")
            }
            _ => {}
        }
    }
}

fn datagram(message_type: u16) -> Vec<u8> {
    let mut datagram = Vec::new();
    MessageBuilder::new(&mut datagram, message_type, 0)
        .bytes(&[0; DATAGRAM_BYTES - nlring::message::HEADER_BYTES])
        .finish()
        .expect("a short message");
    datagram
}
