//! Outputs: each reads the spool at its own pace, and hands what it reads to one receiver.

pub mod files;
pub mod ipfix;
mod line;
mod link;
mod pump;
pub mod syslog;

use arrow_array::RecordBatch;

use crate::failure::Result;
use crate::spool::{Acknowledged, Position};

pub use pump::Pump;
#[cfg(test)]
pub(crate) use pump::batch_of_loss;

/// What takes records out of the spool: files, a server.
pub trait Output: Send {
    /// The name in the log, in metrics and of the cursor.
    fn name(&self) -> &str;

    /// The position before which the receiver has everything, if that can be asked before the spool is opened.
    fn newest(&self) -> Result<Option<Position>> {
        Ok(None)
    }

    /// Prepares for the batches behind the saved place. Some of them may have been taken before: an output whose
    /// receiver knows how far it got passes over them.
    fn resume(&mut self, saved: Acknowledged) -> Result<()>;

    /// Takes a batch. `behind` is the position behind it. After a failure, all batches behind
    /// [`acknowledged`](Self::acknowledged) are given again, after [`resume`](Self::resume).
    fn take(&mut self, behind: Position, batch: &RecordBatch) -> Result<()>;

    /// Hands over what it holds: nothing will come any more.
    fn finish(&mut self) -> Result<()>;

    /// The receiver has everything before this place. The cursor is saved there.
    fn acknowledged(&self) -> Acknowledged;
}
