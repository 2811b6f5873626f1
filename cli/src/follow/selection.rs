//! What a filter selects: what the kernel evaluates of it, and what is left.

use std::fmt;
use std::process::ExitCode;

use nlring::filter::{Filter, Program, Term};
use nlring::{Error, ErrorKind};

use crate::outcome::{self, Failure, Outcome};

/// Which events or entries are shown, and who evaluates that.
pub struct Selection<T> {
    pub filter: Filter<T>,
    /// What the kernel evaluates for events.
    pub program: Option<Program>,
    /// What user space evaluates for the events that the kernel lets pass. A mirror evaluates the whole filter.
    pub left: Option<Filter<T>>,
    pub warning: Option<String>,
}

impl<T: Term> Selection<T> {
    /// Selects events. A filter that is too large for the kernel is left to user space, with a warning.
    pub fn of_events(filter: Filter<T>) -> Result<Self, Failure> {
        let made = filter.program();
        Self::with(made, filter)
    }

    /// Selects the events that a mirror needs, as [`of_events`](Self::of_events) does, and its entries, as
    /// [`of_entries`](Self::of_entries) does.
    pub fn of_mirror(filter: Filter<T>) -> Result<Self, Failure> {
        let made = program_for_mirror(&filter)?;
        Self::with(made, filter)
    }

    /// Selects entries: no program. A filter that asks for kinds of events is refused, because an entry of a table is no
    /// event.
    pub fn of_entries(filter: Filter<T>) -> Result<Self, Failure> {
        let _ = program_for_mirror(&filter)?; // for its refusals
        Ok(Self::without_program(filter))
    }

    fn with(made: nlring::Result<Program>, filter: Filter<T>) -> Result<Self, Failure> {
        let mut this = Self::without_program(filter);
        if this.filter.is_all() {
            return Ok(this);
        }
        match made {
            Ok(program) => {
                this.program = Some(program);
                this.left = { this.filter.needs_user_space() }.then(|| this.filter.clone());
            }
            Err(error) if is_too_large(&this.filter, &error) => {
                this.left = Some(this.filter.clone());
                this.warning = Some(format!(
                    "nlring receives every event and evaluates the filter itself: {error}"
                ));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(this)
    }

    fn without_program(filter: Filter<T>) -> Self {
        Self {
            filter,
            program: None,
            left: None,
            warning: None,
        }
    }
}

/// The program for the socket of a mirror. A filter that asks for kinds of events is refused.
fn program_for_mirror<T: Term>(filter: &Filter<T>) -> Result<nlring::Result<Program>, Failure> {
    match filter.program_for_mirror() {
        Err(error) if !is_too_large(filter, &error) => {
            Err(Failure::Usage(format!("{error}; -e chooses events")))
        }
        made => Ok(made),
    }
}

/// Whether the kernel takes no program as large as the filter's.
fn is_too_large<T: Term>(filter: &Filter<T>, error: &Error) -> bool {
    error.kind() == ErrorKind::InvalidInput && filter.program().is_err()
}

/// --explain: who evaluates the filter, of events and of dumps, and the kernel's program. `of_dumps` is what the kernel
/// evaluates of a dump.
pub fn explain<T: Term>(filter: &Filter<T>, of_dumps: impl fmt::Display) -> Outcome {
    let of_events = match filter.explain() {
        Ok(text) => text,
        Err(error) if is_too_large(filter, &error) => {
            format!(
                "filter: {filter}\nin the kernel: nothing, because {error}\nin user space: all of it\n"
            )
        }
        Err(error) => return Err(Failure::from(error).into()),
    };
    outcome::report(format!(
        "{of_events}of a dump, the kernel sends: {of_dumps}; user space evaluates the filter for these\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}
