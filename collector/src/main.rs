//! `nlringd`: keeps records of flows, and answers who used an address.

use std::process::ExitCode;

fn main() -> ExitCode {
    nlring_collector::run()
}
