//! The filter of `nlring conntrack`: what the kernel evaluates, and what is left.

use std::process::ExitCode;

use nlring::conntrack::Filter;
use nlring::filter::Program;
use nlring::{Error, ErrorKind};

use crate::args::{ConntrackArguments, ConntrackEvent};
use crate::outcome::{self, Failure, Outcome};

/// Which flows are shown, and who evaluates that.
pub struct Selection {
    pub filter: Filter,
    /// What the kernel evaluates for events.
    pub program: Option<Program>,
    /// What user space evaluates for the events that the kernel lets pass. A mirror evaluates the whole filter.
    pub left: Option<Filter>,
    pub warning: Option<String>,
}

impl Selection {
    /// What the options ask for.
    pub fn of(arguments: &ConntrackArguments) -> Result<Self, Failure> {
        let filter = arguments.filter.filter()?;
        if !filter.is_all() && arguments.events.contains(&ConntrackEvent::Expect) {
            return Err(Failure::Usage(
                "filters select flows, not expectations; leave out the filter or -e expect"
                    .to_owned(),
            ));
        }
        let table = &arguments.collector.table;
        let (mut program, mut left, mut warning) = (None, None, None);
        let made = if table.once || table.has_mirror() {
            program_for_mirror(&filter)?
        } else {
            filter.program()
        };
        let follows = !table.once && !filter.is_all();
        match made {
            Ok(_) if !follows => {}
            Ok(made) => {
                program = Some(made);
                left = filter.needs_user_space().then(|| filter.clone());
            }
            Err(error) if is_too_large(&filter, &error) => {
                if follows {
                    left = Some(filter.clone());
                    warning = Some(format!(
                        "nlring receives every event and evaluates the filter itself: {error}"
                    ));
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Self {
            filter,
            program,
            left,
            warning,
        })
    }
}

/// The program for the socket of a mirror. A filter that asks for kinds of events is refused, because an entry of a table
/// is no event.
fn program_for_mirror(filter: &Filter) -> Result<nlring::Result<Program>, Failure> {
    match filter.program_for_mirror() {
        Err(error) if !is_too_large(filter, &error) => {
            Err(Failure::Usage(format!("{error}; -e chooses events")))
        }
        made => Ok(made),
    }
}

/// Whether the kernel takes no program as large as the filter's.
fn is_too_large(filter: &Filter, error: &Error) -> bool {
    error.kind() == ErrorKind::InvalidInput && filter.program().is_err()
}

/// --explain: who evaluates the filter, of events and of dumps, and the kernel's program.
pub fn explain(filter: &Filter) -> Outcome {
    let of_events = match filter.explain() {
        Ok(text) => text,
        Err(error) if is_too_large(filter, &error) => {
            format!(
                "filter: {filter}\nin the kernel: nothing, because {error}\nin user space: all of it\n"
            )
        }
        Err(error) => return Err(Failure::from(error).into()),
    };
    let of_dumps = filter.dump_filter();
    outcome::report(format!(
        "{of_events}of a dump, the kernel sends: {of_dumps}; user space evaluates the filter for these\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}
