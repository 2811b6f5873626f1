//! The command `nlring`: follows conntrack and route events, and reports exactly what was lost.
//!
//! This library is private: it is the command, so that its benches and tests can use its parts.

mod args;
mod conntrack;
mod demo;
mod doctor;
mod flood;
mod follow;
mod host;
mod latency;
mod load;
mod outcome;
mod route;
mod units;
mod write;

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use args::{Arguments, Command};
use outcome::conclude;
use write::console::Console;
use write::sink::Sink;

/// Runs the command that the process's arguments ask for.
pub fn run() -> ExitCode {
    let command = match Arguments::read() {
        Ok(Arguments { command }) => command,
        Err(error) => return refuse(&error),
    };
    match command {
        Command::Conntrack(arguments) => conntrack::run(&arguments),
        Command::Route(arguments) => route::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Flood(arguments) => flood::run(&arguments),
        Command::Latency(arguments) => latency::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
    }
}

/// Help and the version are no errors, and go to standard output. The other messages repeat what was given, whatever that is.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return show_help(&error.to_string());
    }
    Console::new().say(error.to_string().trim_end());
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn show_help(text: &str) -> ExitCode {
    let columns = Sink::new(io::stdout().as_fd())
        .ok()
        .filter(Sink::is_terminal)
        .map(|sink| sink.columns());
    let shown = columns.map(|columns| write::help::fitted(text, columns));
    let failure = outcome::report(shown.as_deref().unwrap_or(text)).err();
    conclude(&mut Console::new(), ExitCode::SUCCESS, failure.as_slice())
}
