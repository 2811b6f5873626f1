//! `nlringd`: the collector that runs for years. It writes one record per flow, records its losses too, and answers who
//! used an address and port at a given moment.
//!
//! This library is private: it is the command, so that its benches and tests can use its parts.
//!
//! A record's path: `receive` takes events from the kernel and makes records of them, `spool` keeps the records on disk,
//! each output in `output` reads the spool at its own pace.

mod args;
mod config;
mod failure;
mod generate;
mod host;
mod http;
mod log;
#[cfg(feature = "generate")]
mod manual;
mod metrics;
mod nats;
mod output;
mod query;
mod receive;
mod record;
mod reload;
mod retry;
mod run;
mod spool;
mod store;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, Command, QueryArguments};

/// Runs the command that the process's arguments ask for, and prints its failure.
pub fn run() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Store(arguments) => store::store(&arguments),
        Command::Query(arguments) => return query_exit_code(&arguments),
        Command::Generate(arguments) => generate::generate(&arguments),
        #[cfg(feature = "generate")]
        Command::Man { directory } => manual::write_pages(&directory),
        #[cfg(feature = "generate")]
        Command::Completions { shell } => manual::print_completions(shell),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("nlringd: {failure}");
            failure.exit_code()
        }
    }
}

/// 2 for every failure, because 1 means that nothing was found.
fn query_exit_code(arguments: &QueryArguments) -> ExitCode {
    query::query(arguments).unwrap_or_else(|failure| {
        eprintln!("nlringd: {failure}");
        ExitCode::from(2)
    })
}
