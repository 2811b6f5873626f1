//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "nlringd",
    version,
    about = "Keeps records of flows, and answers who it was"
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow conntrack and write records
    Run(RunArguments),
}

#[derive(Debug, Args)]
pub struct RunArguments {
    /// The configuration file. Without it, records of this namespace's flows are written below ./nlringd
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the configuration and end
    #[arg(long)]
    pub check_config: bool,
}
