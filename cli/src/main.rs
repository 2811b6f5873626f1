//! `nlring`: follows conntrack and route events, and tells exactly what was lost.

mod args;
mod collect;
mod conntrack;
mod conntrack_json;
mod conntrack_text;
mod console;
mod cpu;
mod demo;
mod device_names;
mod devices;
mod doctor;
mod encap_text;
mod expectation_text;
mod flood;
mod fold;
mod gap;
mod generator;
mod help;
mod json;
mod label_names;
mod latency;
mod listing;
mod load;
mod local_time;
mod mirror_watch;
mod namespace;
mod outcome;
mod output;
mod place;
mod privilege;
mod route;
mod route_json;
mod route_text;
mod session;
mod signals;
mod sink;
mod summary;
mod sysctl;
mod table;
mod text;
mod units;

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use args::{Arguments, Command};
use console::Console;
use outcome::conclude;
use sink::Sink;

fn main() -> ExitCode {
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
    let shown = columns.map(|columns| help::fitted(text, columns));
    let failure = outcome::report(shown.as_deref().unwrap_or(text)).err();
    conclude(&mut Console::new(), ExitCode::SUCCESS, failure.as_slice())
}
