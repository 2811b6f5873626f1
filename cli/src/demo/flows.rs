//! The connections of the tour: entries of the conntrack table, which requests make and remove. No packet is sent.

use std::net::Ipv4Addr;

use nlring::conntrack::{Key, NewFlow, Requests};

use crate::load::entry::{self, kernel};
use crate::outcome::Failure;

/// Makes and removes entries.
pub struct Flows {
    requests: Requests,
}

impl Flows {
    pub fn open() -> Result<Self, Failure> {
        Ok(Self {
            requests: Requests::open()?,
        })
    }

    pub fn requests(&mut self) -> &mut Requests {
        &mut self.requests
    }

    /// Makes an entry, which causes one event.
    pub fn make(&mut self, flow: &NewFlow<'_>) -> Result<(), Failure> {
        Ok(self.requests.add(flow)?)
    }

    /// Removes an entry, which causes one event.
    pub fn remove(&mut self, key: &Key) -> Result<(), Failure> {
        if self.requests.delete(key, None)? {
            return Ok(());
        }
        let message = "remove a conntrack entry: another program has removed it";
        Err(Failure::Other(message.to_owned()))
    }

    /// Makes the numbered entries.
    pub fn make_all(&mut self, numbers: std::ops::Range<u16>) -> Result<(), Failure> {
        numbers
            .map(numbered)
            .try_for_each(|key| self.make(&entry::connection(&key)))
    }

    /// Removes the numbered entries.
    pub fn remove_all(&mut self, numbers: std::ops::Range<u16>) -> Result<(), Failure> {
        numbers.map(numbered).try_for_each(|key| self.remove(&key))
    }
}

/// The connection of a client, by its number, to one server. The addresses are reserved for tests (RFC 2544).
fn numbered(number: u16) -> Key {
    let [high, low] = number.to_be_bytes();
    connection((Ipv4Addr::new(198, 18, high, low), 40_000))
}

/// A TCP connection to a server's HTTPS port.
pub fn connection(client: (Ipv4Addr, u16)) -> Key {
    entry::key(
        kernel::IPPROTO_TCP,
        client,
        (Ipv4Addr::new(198, 51, 100, 20), 443),
    )
}
