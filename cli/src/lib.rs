//! The command `nlring`: follows conntrack and route events, and reports exactly what was lost.
//!
//! This library is private: it is the command, so that its benches and tests can use its parts.

mod args;
mod conntrack;
mod demo;
mod doctor;
mod flood;
mod follow;
#[cfg(feature = "generate")]
mod generate;
mod host;
mod latency;
mod load;
mod monitor;
mod outcome;
mod route;
mod units;
mod write;

/// What the fuzz targets in `fuzz/` reach.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use nlring::fuzzing::Random;

    /// Writes a table that changes while it is written.
    pub fn table(bytes: &[u8], directory: &std::path::Path) {
        crate::follow::table_file::model::run(Random::of_bytes(bytes), directory);
    }
}

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use args::{Arguments, Command};
use outcome::Outcome;
use write::console::Console;
use write::sink::Sink;

/// Runs the command that the process's arguments ask for, and prints its failures.
pub fn run() -> ExitCode {
    let mut console = Console::new();
    let outcome = match Arguments::read() {
        Ok(Arguments { command }) => run_command(&command, &mut console),
        Err(error) => refuse(&error, &mut console),
    };
    outcome.unwrap_or_else(|failures| {
        for failure in failures.iter() {
            console.say(format_args!("nlring: {failure}"));
        }
        failures.exit_code()
    })
}

fn run_command(command: &Command, console: &mut Console) -> Outcome {
    if let Err(error) = host::signals::ignore_file_size_signal() {
        console.warn(format_args!(
            "a file at its size limit ends this process: {error}"
        ));
    }
    match command {
        Command::Conntrack(arguments) => conntrack::run(arguments, console),
        Command::Route(arguments) => route::run(arguments, console),
        Command::Monitor(arguments) => monitor::run(arguments, console),
        Command::Demo(arguments) => demo::run(arguments, console),
        Command::Flood(arguments) => flood::run(arguments, console),
        Command::Latency(arguments) => latency::run(arguments, console),
        Command::Doctor(arguments) => doctor::run(arguments),
        #[cfg(feature = "generate")]
        Command::Generate(command) => generate::run(command),
    }
}

/// Prints clap's message instead of running a command: help and the version, which are not errors, on standard output,
/// and errors, with clap's own exit code, on standard error.
fn refuse(error: &clap::Error, console: &mut Console) -> Outcome {
    if !error.use_stderr() {
        return show_help(&error.to_string());
    }
    console.say(error.to_string().trim_end());
    Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)))
}

fn show_help(text: &str) -> Outcome {
    let columns = Sink::new(io::stdout().as_fd())
        .ok()
        .filter(Sink::is_terminal)
        .map(|sink| sink.columns());
    let shown = columns.map(|columns| write::help::fitted(text, columns));
    outcome::report(shown.as_deref().unwrap_or(text))?;
    Ok(ExitCode::SUCCESS)
}
