//! A table, listed: what is there now, and the end.

use std::process::ExitCode;

use nlring::Replies;

use crate::args::CommonArguments;
use crate::host::signals::StopRequests;
use crate::outcome::{Failure, conclude};
use crate::write::console::Console;
use crate::write::output::Output;

/// Lets `list` fill the output, and comes to an exit code.
pub fn run(
    arguments: &CommonArguments,
    list: impl FnOnce(&mut Listing<'_>) -> Result<(), Failure>,
) -> ExitCode {
    let mut console = Console::new();
    let failures = write(arguments, &mut console, list);
    conclude(&mut console, ExitCode::SUCCESS, &failures)
}

/// Where a list goes.
pub struct Listing<'a> {
    pub console: &'a mut Console,
    output: Output,
    truncates: bool,
}

fn write(
    arguments: &CommonArguments,
    console: &mut Console,
    list: impl FnOnce(&mut Listing<'_>) -> Result<(), Failure>,
) -> Vec<Failure> {
    let output = match Output::open(&arguments.output, StopRequests::default()) {
        Ok(output) => output,
        Err(failure) => return vec![failure],
    };
    let mut listing = Listing {
        console,
        output,
        truncates: arguments.truncate,
    };
    let mut failures = Vec::from_iter(list(&mut listing).err());
    let Listing { mut output, .. } = listing;
    if let Err(broken) = output.write_out()
        && !output.is_good_end(&broken)
    {
        let (written, not_written) = (output.written_count(), output.not_written_count());
        failures.push(Failure::Output(format!(
            "{}; entries read but not written: {not_written}, written: {written}",
            output.failure(&broken)
        )));
    }
    failures
}

impl Listing<'_> {
    /// Empties the output if that was asked for, and takes no more entries than these.
    pub fn start(&mut self, limit: Option<u64>) -> Result<(), Failure> {
        self.output.set_limit(limit);
        if self.truncates {
            self.output.truncate()?;
        }
        Ok(())
    }

    /// Writes the dump's entries as `format` makes lines of them, or says false, until all are there or the reader has gone.
    pub fn take(
        &mut self,
        mut replies: Replies<'_>,
        mut format: impl FnMut(&nlring::Message<'_>, &mut Vec<u8>) -> bool,
    ) -> Result<(), Failure> {
        while let Some(message) = replies.next_message()? {
            self.output.event(|out| format(&message, out));
            if self.output.is_over() {
                return Ok(());
            }
        }
        if replies.is_interrupted() {
            self.console.warn(
                "changes interrupted the list: an entry may be missing, or there twice; try again when less changes",
            );
        }
        Ok(())
    }
}
