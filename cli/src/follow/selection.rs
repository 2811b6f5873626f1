//! What a filter selects: which part the kernel evaluates, and what is left.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::process::ExitCode;

use nlring::filter::{Filter, Program, Term};
use nlring::{Error, ErrorKind, Namespace, SocketBuilder};
use rustix::io::Errno;

use crate::host::sysctl;
use crate::outcome::{self, Failure, Outcome};
use crate::write::console::Console;

/// The memory for a socket's program, of this network namespace since Linux 6.8 and of the host before.
const OPTMEM_MAX: &str = "net.core.optmem_max";
/// A value of that setting that is enough for the largest program.
const ENOUGH_BYTES: u32 = 1 << 20;

/// Which events or entries are shown, and who evaluates that.
pub struct Selection<T> {
    pub filter: Filter<T>,
    is_for_mirror: bool,
    /// What the kernel evaluates for events. None: nothing.
    program: Option<Program>,
    /// Why the kernel evaluates nothing although it should, here or in another namespace.
    refusal: OnceCell<String>,
    /// The user was warned of that.
    is_warned: Cell<bool>,
}

impl<T: Term> Selection<T> {
    /// Selects events. A filter that is too large for the kernel is left to user space.
    pub fn of_events(filter: Filter<T>) -> Result<Self, Failure> {
        let made = filter.program();
        Self::with(made, filter)
    }

    /// Selects events. The kernel evaluates another filter, which all of these events match and perhaps others.
    pub fn of_events_among(wider: &Filter<T>, filter: Filter<T>) -> Result<Self, Failure> {
        Self::with(wider.program(), filter)
    }

    /// Selects the events that a mirror needs, as [`of_events`](Self::of_events) does, and its entries, as
    /// [`of_entries`](Self::of_entries) does.
    pub fn of_mirror(filter: Filter<T>) -> Result<Self, Failure> {
        let made = program_for_mirror(&filter)?;
        let this = Self::with(made, filter)?;
        Ok(Self {
            is_for_mirror: true,
            ..this
        })
    }

    /// Selects entries: no program. A filter for kinds of events is refused, because an entry of a table is not an
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
            Ok(program) => this.program = Some(program),
            Err(error) if is_too_large(&error) => this.refuse(error.to_string()),
            Err(error) => return Err(error.into()),
        }
        Ok(this)
    }

    fn without_program(filter: Filter<T>) -> Self {
        Self {
            filter,
            is_for_mirror: false,
            program: None,
            refusal: OnceCell::new(),
            is_warned: Cell::new(false),
        }
    }

    /// Keeps the first reason why the kernel evaluates nothing.
    fn refuse(&self, reason: String) {
        self.refusal.get_or_init(|| reason);
    }

    /// Attaches the program to a socket of a namespace. None means the namespace of this thread. If the kernel does not
    /// accept the program, user space evaluates the filter, and the user is warned once.
    pub fn attach(
        &self,
        builder: SocketBuilder,
        namespace: Option<&Namespace>,
        console: &mut Console,
    ) -> Result<SocketBuilder, Failure> {
        let attached = self.try_attach(builder, namespace)?;
        if let Some(reason) = self.refusal.get()
            && !self.is_warned.replace(true)
        {
            console.warn(format_args!(
                "nlring receives every event and evaluates the filter itself: {reason}"
            ));
        }
        Ok(attached)
    }

    /// Opens a socket to find out whether the kernel accepts the program there.
    fn try_attach(
        &self,
        builder: SocketBuilder,
        namespace: Option<&Namespace>,
    ) -> Result<SocketBuilder, Failure> {
        let Some(program) = &self.program else {
            return Ok(builder);
        };
        let attached = builder.clone().filter(program);
        let trial = match namespace {
            Some(namespace) => attached.clone().namespace(namespace),
            None => attached.clone(),
        };
        match trial.open() {
            Ok(_) => Ok(attached),
            Err(error) if error.raw_os_error() == Some(Errno::NOMEM.raw_os_error()) => {
                self.refuse(needs_memory(program));
                Ok(builder)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The filter that the program evaluates. Without a program everything matches.
    pub fn in_kernel(&self) -> Filter<T> {
        let has_program = self.program.is_some() && self.refusal.get().is_none();
        if has_program {
            self.filter.clone()
        } else {
            Filter::default()
        }
    }

    /// The filter that user space evaluates for the events that the kernel passes. A mirror evaluates the whole filter.
    pub fn left(&self) -> Option<&Filter<T>> {
        let is_left = self.filter.needs_user_space() || self.refusal.get().is_some();
        is_left.then_some(&self.filter)
    }

    /// --explain: who evaluates the filter, of events and of dumps, and the kernel's program. `builder` makes a socket
    /// for the events, and `of_dumps` is what the kernel evaluates of a dump.
    pub fn explain(&self, builder: SocketBuilder, of_dumps: impl fmt::Display) -> Outcome {
        let _ = self.try_attach(builder, None)?;
        let filter = &self.filter;
        let of_events = match (self.refusal.get(), self.is_for_mirror) {
            (Some(reason), _) => format!(
                "filter: {filter}\nin the kernel: nothing, because {reason}\nin user space: all of it\n"
            ),
            (None, true) => filter.explain_for_mirror().map_err(Failure::from)?,
            (None, false) => filter.explain().map_err(Failure::from)?,
        };
        outcome::report(format!(
            "{of_events}of a dump, the kernel sends: {of_dumps}; user space evaluates the filter for these\n"
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The program for the socket of a mirror. A filter for kinds of events is refused.
fn program_for_mirror<T: Term>(filter: &Filter<T>) -> Result<nlring::Result<Program>, Failure> {
    match filter.program_for_mirror() {
        Err(error) if !is_too_large(&error) => {
            Err(Failure::Usage(format!("{error}; -e chooses events")))
        }
        made => Ok(made),
    }
}

/// Whether a program has more instructions than the kernel allows. A mirror's filter that asks about events fails in
/// another operation.
fn is_too_large(error: &Error) -> bool {
    error.kind() == ErrorKind::InvalidInput && error.operation() == "make a filter's program"
}

fn needs_memory(program: &Program) -> String {
    let count = program.instructions().len();
    let limit = match sysctl::read(OPTMEM_MAX) {
        Some(bytes) => format!("{OPTMEM_MAX} is {bytes} bytes"),
        None => OPTMEM_MAX.to_owned(),
    };
    let place = if sysctl::can_root_set(OPTMEM_MAX) {
        ""
    } else {
        " on the host"
    };
    format!(
        "the kernel has no memory for a program of {count} instructions ({limit}); raise it{place} \
         (sysctl -w {OPTMEM_MAX}={ENOUGH_BYTES}), or use prefixes and ranges instead of many addresses and numbers"
    )
}
