//! What the mirrors of both families share: the rounds that keep a table right, and the parts of a table.
//!
//! A round goes like this. The events' own socket sends a request that does nothing. Its acknowledgement, a barrier, arrives
//! behind all events that the kernel made before it, including those before the last loss. When it arrives, the table notes
//! that a dump begins. The dump is read in slices of time, between the turns of the program that receives the events. No
//! event is missing from now on, so an entry that an event touches follows the events. At the dump's end there is a second
//! barrier: when it is met, the events are ahead of the dump. Then the two are merged, again in slices. If an event is lost
//! during the round, the round is worth nothing and another one begins.
//!
//! Rounds repair what is known to be wrong: events were lost, or something happened that no event reports. When nothing is
//! known to be wrong, rounds that are audits find what changed without any sign.

mod barrier;
mod budget;
mod events_socket;
mod health;
mod index;
mod marks;
#[cfg(test)]
mod random;
mod rounds;
mod schedule;
mod slice;

use std::fmt;
use std::time::SystemTime;

pub(crate) use self::barrier::Barrier;
#[cfg(test)]
pub(crate) use self::barrier::PATIENCE as BARRIER_PATIENCE;
pub(crate) use self::budget::Budget;
pub use self::health::MirrorHealth;
#[cfg(test)]
pub(crate) use self::index::step_count;
pub(crate) use self::index::{Index, Slot, count_step, fold};
pub(crate) use self::marks::{Kind, Marks};
#[cfg(test)]
pub(crate) use self::random::Random;
pub(crate) use self::rounds::{Merged, Progress, Rounds};
pub(crate) use self::schedule::{INTERVAL, Intervals};
pub(crate) use self::slice::Slice;
use crate::error::Result;
use crate::message::Message;
use crate::request::{Exchange, Requester};
use crate::socket::Protocol;

/// Why a mirror's table was brought together with the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResyncReason {
    /// It was empty: the mirror is new.
    Snapshot,
    /// Events were lost, or could not be read.
    Loss,
    /// Something happened that no event of the table reports.
    Change,
    /// Nothing was known to be wrong, and an audit found a difference.
    Audit,
    /// Entries had been left out because the mirror's memory is bounded, and there is room again.
    Room,
}

/// A mirror's table is the kernel's again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resync {
    /// Why.
    pub reason: ResyncReason,
    /// The datagrams that were lost, as far as they were counted: truncated and malformed ones are in it.
    pub lost_count: u64,
    /// From when on the table may have been wrong, `CLOCK_REALTIME`.
    pub since: SystemTime,
    /// Until when, `CLOCK_REALTIME`.
    pub until: SystemTime,
    /// Entries there are now.
    pub entry_count: usize,
    /// Beginnings that were handed out and that no event had reported.
    pub new_count: u64,
    /// Changes that were handed out and that no event had reported.
    pub update_count: u64,
    /// Ends that were handed out and that no event had reported.
    pub destroy_count: u64,
    /// Changes disturbed the dump: something may still be wrong, and another round will follow.
    pub is_interrupted: bool,
}

/// A table that rounds keep right.
pub(crate) trait Table {
    /// A multicast group of the events.
    type Group: Copy + fmt::Debug + Into<u32> + 'static;

    /// The protocol of the requests.
    const PROTOCOL: Protocol;

    /// The groups that the events' socket must be in.
    const GROUPS: &'static [Self::Group];

    /// Asks the kernel for a dump of the table.
    fn request_dump(&self, requester: &mut Requester) -> Result<Exchange>;

    /// A dump begins: no entry is touched by events or seen in the dump yet.
    fn begin_dump(&mut self);

    /// Takes an entry of the dump.
    fn feed_dumped(&mut self, message: &Message<'_>);

    /// The dump is worth nothing: forgets what it brought.
    fn abandon_dump(&mut self);

    /// Something changed that no event reports: the dump under way proves nothing about entries that it does not have.
    fn note_silent_change(&mut self) {}
}
