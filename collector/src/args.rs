//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use nlring::Timestamp;

#[derive(Debug, Parser)]
#[command(
    name = "nlringd",
    version,
    about = "Keeps records of flows, and answers who used an address"
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow conntrack and write records
    Run(RunArguments),
    /// Look for flows in files of records
    Query(QueryArguments),
    /// Write the records of a NATS stream to Parquet files, together with other workers
    Store(StoreArguments),
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

/// Exit codes: 0, something was found, and the records are complete; 1, nothing, and they are complete; 2, wrong usage; 3,
/// nothing, but records are missing, or a file could not be read; 4, something, and there may be more for these reasons
#[derive(Debug, Args)]
pub struct QueryArguments {
    /// Parquet files of records, and directories of them
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The address and port that a flow was translated to: 203.0.113.7:40123, an address alone or :40123
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub nat: Option<String>,
    /// The source of a flow's first packet, before any translation
    #[arg(long, visible_alias = "orig", value_name = "ADDRESS[:PORT]")]
    pub src: Option<String>,
    /// The destination of a flow's first packet
    #[arg(long, visible_alias = "remote", value_name = "ADDRESS[:PORT]")]
    pub dst: Option<String>,
    /// tcp, udp, icmp, another protocol or its number
    #[arg(long, value_name = "PROTOCOL")]
    pub proto: Option<String>,
    /// In place of flows, what happened to routes to this prefix or address: to all that contain it, and all in it
    #[arg(long, value_name = "PREFIX", conflicts_with_all = ["nat", "src", "dst", "proto", "events"])]
    pub route: Option<String>,
    /// The network namespace, by its name in the configuration
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// Flows that existed at this time: 2026-11-28T14:03:07Z is that whole second, without Z or an offset the time is local;
    /// -2h is 2 hours ago
    #[arg(long, value_name = "TIME", conflicts_with_all = ["from", "to"], allow_hyphen_values = true)]
    pub at: Option<String>,
    /// Flows that existed at this time or later
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Flows that existed at this time or earlier
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// Look at records of events in place of flows
    #[arg(long)]
    pub events: bool,
    /// Look also at the records in this spool that no file has yet
    #[arg(long, value_name = "DIR")]
    pub follow_spool: Option<PathBuf>,
    /// Show the first N records by time
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Write a line of JSON for each record, and for each interval in which records are missing
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct StoreArguments {
    /// The configuration file. Without it, the stream nlring at 127.0.0.1:4222 is written below ./nlringd/store
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
