//! Moves batches from the spool to an output, until the spool is closed and the output has all.

use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;

use super::Output;
use crate::failure::Result;
use crate::spool::{Cursor, Read, Reader};

/// How long to wait for a batch before the output is called anyway.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Moves batches from the spool to an output.
pub struct Pump<O> {
    pub reader: Reader,
    pub output: O,
    pub cursor: Cursor,
}

impl<O: Output> Pump<O> {
    /// Runs until the spool is closed and the output has everything.
    pub fn run(mut self) -> Result<()> {
        loop {
            match self.reader.next(PATIENCE)? {
                Read::Batch(behind, batch) => {
                    self.insist(|output| output.take(behind, &batch));
                }
                Read::Nothing => {}
                Read::End => break,
            }
            self.insist(|output| output.advance(Instant::now()));
            self.save()?;
        }
        self.insist(O::finish);
        self.save()
    }

    /// Tries until it succeeds, with growing pauses.
    fn insist(&mut self, mut attempt: impl FnMut(&mut O) -> Result<()>) {
        let mut pause = Duration::from_millis(100);
        while let Err(failure) = attempt(&mut self.output) {
            warn!(output = self.output.name(), "{failure}; it is tried again");
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn save(&mut self) -> Result<()> {
        self.output
            .acknowledged()
            .map_or(Ok(()), |position| self.cursor.save(position))
    }
}
