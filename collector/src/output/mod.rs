//! Outputs: each reads the spool at its own pace, and hands what it reads to one receiver.

pub mod files;
mod pump;

use std::time::Instant;

use arrow_array::RecordBatch;

use crate::failure::Result;
use crate::spool::Position;

pub use pump::Pump;

/// What takes records out of the spool: files, a server.
pub trait Output: Send {
    /// The name in the log, in metrics and of the cursor.
    fn name(&self) -> &'static str;

    /// Where to begin. `saved` is the cursor's position. An output whose receiver knows better returns that.
    fn resume(&mut self, saved: Option<Position>) -> Result<Option<Position>> {
        Ok(saved)
    }

    /// Takes a batch. `behind` is the position behind it. If it fails, the same batch is given again.
    fn take(&mut self, behind: Position, batch: &RecordBatch) -> Result<()>;

    /// Does what is due. It is called after each batch, and once a second while none comes.
    fn advance(&mut self, _now: Instant) -> Result<()> {
        Ok(())
    }

    /// Hands over what it holds: nothing will come any more.
    fn finish(&mut self) -> Result<()>;

    /// The receiver has everything before this position. The cursor is saved there.
    fn acknowledged(&self) -> Option<Position>;
}
