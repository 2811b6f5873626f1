//! What both lists (`--snapshot --once`) share: from the options to the end of the output.

use std::process::ExitCode;
use std::rc::Rc;

use nlring::{Error, Namespace, Replies, route};
use nlring_print::{Origin, Style};
use rustix::io::Errno;

use super::namespaces;
use super::session::give_up_all_but;
use crate::args::{AllNetns, CommonArguments};
use crate::host::kept::Kept;
use crate::host::signals::StopRequests;
use crate::outcome::{Failure, Failures, Outcome};
use crate::write::console::Console;
use crate::write::output::Output;

/// Lets `list` fill the output, and writes it out. `kept` are the capabilities that it needs.
pub fn run(
    arguments: &CommonArguments,
    kept: Kept,
    console: &mut Console,
    list: impl FnOnce(&mut Listing<'_>) -> Result<(), Failure>,
) -> Outcome {
    let mut listing = Listing {
        console,
        output: Output::open(&arguments.output, StopRequests::default())?,
        truncates: arguments.truncate,
    };
    give_up_all_but(kept, listing.console);
    let listed = list(&mut listing);
    let written = write_out(listing.output);
    Failures::or(
        ExitCode::SUCCESS,
        [listed, written].into_iter().filter_map(Result::err),
    )
}

fn write_out(mut output: Output) -> Result<(), Failure> {
    match output.write_out() {
        Err(broken) if !output.is_good_end(&broken) => {
            let (written, not_written) = (output.written_count(), output.not_written_count());
            Err(Failure::Output(format!(
                "{}; entries read but not written: {not_written}, written: {written}",
                output.failure(&broken)
            )))
        }
        _ => Ok(()),
    }
}

/// Where a list goes.
pub struct Listing<'a> {
    pub console: &'a mut Console,
    output: Output,
    truncates: bool,
}

impl Listing<'_> {
    /// Calls `list` for this process's namespace, or for each namespace if that was requested. Lines then have their
    /// namespace. A namespace that vanishes in the meantime is left out.
    pub fn in_each_namespace(
        &mut self,
        which: Option<AllNetns>,
        style: Style,
        mut list: impl FnMut(&mut Self, Option<&Namespace>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Some(which) = which else {
            return list(self, None);
        };
        let mut ids = route::Requests::open()?;
        for found in namespaces::find(which)?.namespaces {
            if self.output.is_over() {
                return Ok(());
            }
            if let Some(namespace) = found.open()? {
                let nsid = ids.namespace_id(&namespace)?;
                let origin = Origin::new(found.label.name().as_deref(), nsid);
                self.output.set_origin(style, &Rc::new(origin));
                list(self, Some(&namespace))?;
            }
        }
        Ok(())
    }

    /// Empties the output if the options say so, and limits the number of entries.
    pub fn start(&mut self, limit: Option<u64>) -> Result<(), Failure> {
        self.output.set_limit(limit);
        if std::mem::take(&mut self.truncates) {
            self.output.truncate()?;
        }
        Ok(())
    }

    /// Writes the entries of a dump until all are written or the output takes no more. `format` appends an entry's
    /// lines, or returns false if it has none.
    pub fn write_all(
        &mut self,
        mut replies: Replies<'_>,
        mut format: impl FnMut(&nlring::Message<'_>, &mut Vec<u8>) -> bool,
    ) -> Result<(), Failure> {
        loop {
            match replies.next_message() {
                Ok(Some(message)) => self.output.event(|out| format(&message, out)),
                Ok(None) => break,
                Err(error) if is_about_nothing(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if self.output.is_over() {
                return Ok(());
            }
        }
        if replies.is_interrupted() {
            self.console.warn(
                "the table changed while it was listed: an entry may be missing or listed twice; try again when it \
                 changes less",
            );
        }
        Ok(())
    }
}

/// Whether the kernel refused a dump because the requested table or device does not exist. It then has no entries.
fn is_about_nothing(error: &Error) -> bool {
    let about_nothing = [Errno::NOENT, Errno::NODEV].map(|errno| Some(errno.raw_os_error()));
    about_nothing.contains(&error.raw_os_error())
}
