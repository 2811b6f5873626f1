//! `nlring`: follows conntrack and route events, and reports exactly what was lost.

use std::process::ExitCode;

fn main() -> ExitCode {
    nlring_cli::run()
}
