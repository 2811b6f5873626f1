//! A table, listed: what is there now, and the end.

use std::process::ExitCode;

use nlring::Replies;

use crate::args::CommonArguments;
use crate::console::Console;
use crate::outcome::Failure;
use crate::output::{Broken, Output};
use crate::signals::StopRequests;

/// Lets `list` fill the output, and comes to an exit code.
pub fn run(
    arguments: &CommonArguments,
    list: impl FnOnce(&mut Listing<'_>) -> Result<(), Failure>,
) -> ExitCode {
    let mut console = Console::new();
    match write(arguments, &mut console, list) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console.say(format_args!("nlring: {failure}"));
            failure.exit_code()
        }
    }
}

/// Where a list goes.
pub struct Listing<'a> {
    pub console: &'a mut Console,
    output: Output,
}

fn write(
    arguments: &CommonArguments,
    console: &mut Console,
    list: impl FnOnce(&mut Listing<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let output = Output::open(&arguments.output, StopRequests::default())?;
    let mut listing = Listing { console, output };
    list(&mut listing)?;
    let Listing { mut output, .. } = listing;
    match output.write_out() {
        Ok(()) | Err(Broken::Closed) => Ok(()),
        Err(broken) => Err(output.failure(&broken)),
    }
}

impl Listing<'_> {
    /// Empties the output, and takes no more entries than these.
    pub fn start(&mut self, limit: Option<u64>) -> Result<(), Failure> {
        self.output.set_limit(limit);
        self.output.truncate()
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
