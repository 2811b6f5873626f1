//! `nlringd`: keeps records of flows, and answers who it was.

use std::process::ExitCode;

fn main() -> ExitCode {
    nlring_collector::run()
}
