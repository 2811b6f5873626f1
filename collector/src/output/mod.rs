//! Outputs: each reads the spool at its own pace, and hands the records to one receiver.

pub mod files;
pub mod ipfix;
mod line;
mod link;
pub mod nats;
mod pump;
pub mod syslog;

use std::time::Duration;

use arrow_array::RecordBatch;
use nlring::Timestamp;

use crate::failure::Result;
use crate::spool::{Acknowledged, End, Position};

pub use pump::Pump;
#[cfg(test)]
pub(crate) use pump::batch_of_loss;

/// Takes records out of the spool: files, a server.
pub trait Output: Send {
    /// The name in the log, in metrics and for the cursor.
    fn name(&self) -> &str;

    /// The longest pause between two attempts. An attempt may repeat much work.
    fn longest_pause(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// The position before which the receiver has everything, if this can be found out before the spool is opened.
    fn newest(&self) -> Result<Option<Position>> {
        Ok(None)
    }

    /// Prepares for the batches after the saved place. Some of them may have been taken before: an output whose
    /// receiver knows how far it got skips them.
    fn resume(&mut self, saved: Acknowledged) -> Result<()>;

    /// Takes a batch. `behind` is the position after it. After a failure, [`resume`](Self::resume) is called, and all
    /// batches after [`acknowledged`](Self::acknowledged) are given again.
    fn take(&mut self, behind: Position, batch: &RecordBatch) -> Result<()>;

    /// Hands over what it holds, because nothing more will come.
    fn finish(&mut self) -> Result<()>;

    /// The place before which the receiver has everything. The cursor is saved there.
    fn acknowledged(&self) -> Acknowledged;

    /// The time of the latest records that the receiver has, even if it lacks older ones.
    fn latest(&self) -> Option<Timestamp> {
        self.acknowledged().covered
    }

    /// None: the receiver needs the batches in order.
    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        None
    }
}

/// An output that also takes batches ahead of older ones. So its receiver has the latest records soon, even while a
/// backlog is sent.
pub trait Ahead {
    /// From now on, [`take`](Self::take) gets the batches behind this end of the spool. [`Output::take`] gets those before
    /// it meanwhile. False: it cannot do this now.
    fn begin(&mut self, end: End) -> bool;

    /// Takes a batch, like [`Output::take`].
    fn take(&mut self, behind: Position, batch: &RecordBatch) -> Result<()>;

    /// Everything before that end was taken. [`Output::take`] gets the next batches.
    fn join(&mut self) -> Result<()>;
}
