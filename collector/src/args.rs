//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use nlring::Timestamp;

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
    /// Write records of made-up traffic, for tests and measurements
    Generate(GenerateArguments),
    /// Write the man pages into a directory
    #[cfg(feature = "generate")]
    Man { directory: PathBuf },
    /// Print the completions of a shell
    #[cfg(feature = "generate")]
    Completions { shell: clap_complete::Shell },
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

#[derive(Debug, Args)]
pub struct GenerateArguments {
    /// How many flows
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub records: u64,
    /// The same seed makes the same records
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The directory of the files
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// How many flows end in a second, on average
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// When the first flow ends
    #[arg(long, value_name = "TIME", default_value = "2026-01-01T00:00:00Z", value_parser = instant)]
    pub begin: Timestamp,
    /// How many losses are among the records
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub losses: u64,
    /// The name of the host in the names of the files
    #[arg(long, value_name = "NAME", default_value = "generated")]
    pub node: String,
}

/// An instant as RFC 3339 has it.
fn instant(text: &str) -> Result<Timestamp, String> {
    let instant: jiff::Timestamp = text.parse().map_err(|error| format!("{error}"))?;
    let ns = u64::try_from(instant.as_nanosecond());
    ns.map(Timestamp::from_ns)
        .map_err(|_| "the time is before 1970".to_owned())
}
