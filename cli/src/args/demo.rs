//! The arguments of `nlring demo`.

use clap::Args;

use super::CommonArguments;
use crate::units::parse_size;

#[derive(Args, Debug)]
#[command(
    after_help = DEMO_HELP,
    mut_arg("output", |argument| argument.requires("events")),
    mut_arg("truncate", |argument| argument.requires("events")),
    mut_arg("stats", |argument| argument.requires("events")),
    mut_arg("stats_interval", |argument| argument.requires("events")),
)]
pub struct DemoArguments {
    /// Print the events only, 1000 of them, as a collector does
    #[arg(long)]
    pub events: bool,

    #[command(flatten)]
    pub common: CommonArguments,

    /// Each socket's receive buffer: so small that every process may have it
    #[arg(long = "recv-buffer", value_name = "SIZE", allow_hyphen_values = true, default_value = "208KiB", requires = "events", value_parser = parse_size)]
    pub recv_buffer_bytes: usize,
}

const DEMO_HELP: &str = "\
It runs in a network namespace of its own, which ends with it: nothing of this machine is changed. It needs root, or user
namespaces that are allowed to everybody.

Without --events, only --backend and --wait can be given.

Exits with 1 when one of its checks fails; with --events, when what it made is not what it received and lost.";
