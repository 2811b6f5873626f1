//! What the mirrors of both families share: the rounds that keep a table right, and the parts of a table.
//!
//! A round has these steps. The events' own socket sends a no-op request. Its acknowledgement, a barrier, arrives after
//! all events that the kernel made before it, including those before the last loss. When it arrives, the table records
//! that a dump begins. The dump is read in slices of time, between the turns of the program that receives the events.
//! No event is missing from now on, so an entry that an event touches follows the events. At the dump's end there is a
//! second barrier: when it is met, the events are ahead of the dump. Then the two are merged, again in slices. If an
//! event is lost during the round, the round is abandoned and another one begins.
//!
//! Rounds repair what is known to be wrong: events were lost, or something happened that no event reports. When nothing
//! is known to be wrong, audit rounds find changes that showed no sign.

mod barrier;
mod budget;
mod events_socket;
mod health;
mod index;
mod marks;
mod options;
mod rounds;
mod schedule;
mod shown;
mod slice;

use std::fmt;

pub(crate) use self::barrier::Barrier;
#[cfg(test)]
pub(crate) use self::barrier::PATIENCE as BARRIER_PATIENCE;
pub(crate) use self::budget::Budget;
pub use self::health::MirrorHealth;
#[cfg(any(test, fuzzing))]
pub(crate) use self::index::step_count;
pub(crate) use self::index::{Index, Slot, count_step, fold};
pub(crate) use self::marks::{Kind, Marks};
pub use self::options::MirrorOptions;
pub(crate) use self::rounds::{Merged, Progress, Rounds};
pub(crate) use self::schedule::INTERVAL;
pub(crate) use self::shown::kind_if_shown;
pub(crate) use self::slice::Slice;
use crate::error::Result;
#[cfg(all(fuzzing, not(test)))]
pub(crate) use crate::fuzzing::Random;
use crate::message::Message;
use crate::request::{Exchange, Requester};
use crate::socket::Protocol;
use crate::timestamp::Timestamp;
#[cfg(test)]
pub(crate) use nlring_testing::Random;

/// Why a mirror's table was compared with the kernel's.
///
/// Its `Display` is a word or two: `snapshot`, `loss`, `change`, `audit`, `room`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResyncReason {
    /// The mirror was new, and its table empty.
    Snapshot,
    /// Events were lost, or could not be read.
    Loss,
    /// Something happened that no event of the table reports.
    Change,
    /// An audit found a difference although nothing was known to be wrong.
    Audit,
    /// Entries had been left out because the mirror's memory is limited, and there is room again.
    Room,
}

impl fmt::Display for ResyncReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Snapshot => "snapshot",
            Self::Loss => "loss",
            Self::Change => "change",
            Self::Audit => "audit",
            Self::Room => "room",
        })
    }
}

/// A mirror's table equals the kernel's again: what was wrong, and what the mirror handed out to repair it.
///
/// The counts cover the time since the previous [`Resync`]. They never wrap: 64 bits are enough for more events than a
/// kernel can send, and `lost_count` saturates.
///
/// # Example
///
/// ```
/// use nlring::{Resync, ResyncReason};
///
/// fn report(resync: &Resync) {
///     if resync.reason == ResyncReason::Loss {
///         println!("{resync}"); // loss: 9000 entries, 120 datagrams lost, 5 new, 2 updated, 7 deleted
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resync {
    /// Why the table was compared with the kernel's.
    pub reason: ResyncReason,
    /// How many datagrams were lost, as far as they were counted. Each datagram that could not be read counts as one.
    pub lost_count: u64,
    /// Since when the table may have been wrong, `CLOCK_REALTIME`.
    pub since: Timestamp,
    /// Until when the table may have been wrong, `CLOCK_REALTIME`.
    pub until: Timestamp,
    /// How many entries the table has now.
    pub entry_count: usize,
    /// How many beginnings were handed out that no event had reported.
    pub new_count: u64,
    /// How many changes were handed out that no event had reported.
    pub update_count: u64,
    /// How many ends were handed out that no event had reported.
    pub destroy_count: u64,
    /// Changes disturbed the dump: something may still be wrong, and another round will follow.
    pub is_interrupted: bool,
}

impl fmt::Display for Resync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reason,
            lost_count,
            entry_count,
            new_count,
            update_count,
            destroy_count,
            ..
        } = self;
        write!(
            f,
            "{reason}: {entry_count} entries, {lost_count} datagrams lost, {new_count} new, "
        )?;
        write!(f, "{update_count} updated, {destroy_count} deleted")?;
        if self.is_interrupted {
            f.write_str(", interrupted")?;
        }
        Ok(())
    }
}

/// A table that rounds keep correct.
pub(crate) trait Table {
    /// A multicast group of the events.
    type Group: Copy + fmt::Debug + Into<u32> + 'static;

    /// The protocol of the requests.
    const PROTOCOL: Protocol;

    /// The groups that the events' socket must be in.
    const GROUPS: &'static [Self::Group];

    /// Requests a dump of the table from the kernel.
    fn request_dump(&self, requester: &mut Requester) -> Result<Exchange>;

    /// A dump begins: no entry is touched by events or seen in the dump yet.
    fn begin_dump(&mut self);

    /// Takes an entry of the dump.
    fn feed_dumped(&mut self, message: &Message<'_>);

    /// Forgets the entries of an abandoned dump.
    fn abandon_dump(&mut self);

    /// Events are missing, so the kernel may have any entry that the table does not have.
    fn note_missing_events(&mut self) {}

    /// Something changed that no event reports: the dump under way proves nothing about entries that it does not have.
    fn note_silent_change(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resync_says_what_it_has_repaired() {
        let resync = Resync {
            reason: ResyncReason::Loss,
            lost_count: 120,
            since: Timestamp::UNIX_EPOCH,
            until: Timestamp::UNIX_EPOCH,
            entry_count: 9000,
            new_count: 5,
            update_count: 2,
            destroy_count: 7,
            is_interrupted: true,
        };
        let text =
            "loss: 9000 entries, 120 datagrams lost, 5 new, 2 updated, 7 deleted, interrupted";
        assert_eq!(resync.to_string(), text);
    }
}
