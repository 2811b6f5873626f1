//! `nlring`: follows conntrack and route events, and tells exactly what was lost.

mod args;
mod collect;
mod conntrack;
mod conntrack_text;
mod console;
mod demo;
mod device_names;
mod devices;
mod generator;
mod namespace;
mod outcome;
mod output;
mod request;
mod route;
mod route_text;
mod session;
mod signals;
mod sink;
mod summary;
mod text;
mod units;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Conntrack(arguments) => conntrack::run(&arguments),
        Command::Route(arguments) => route::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    }
}
