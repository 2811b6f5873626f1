//! The arguments of `nlring demo`.

use clap::Args;

use super::collector::CommonArguments;
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
    /// Skip the tour: print 1000 events as a collector does, and compare the counts
    #[arg(long)]
    pub events: bool,

    #[command(flatten)]
    pub common: CommonArguments,

    /// Size of each socket's receive buffer; the default is small enough for any process
    #[arg(long = "recv-buffer", value_name = "SIZE", allow_hyphen_values = true, default_value = "208KiB", requires = "events", value_parser = parse_size)]
    pub recv_buffer_bytes: usize,
}

const DEMO_HELP: &str = "\
The demo runs in a network namespace of its own, which ends with it, and changes nothing on this machine. It needs root, or
user namespaces that every user may create.

Without --events, only --backend and --wait can be given.

Exits with 1 if one of its checks fails; with --events, if what it received and lost is not what it made.";
