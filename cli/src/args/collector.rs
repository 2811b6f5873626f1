//! The arguments that the collectors, `nlring conntrack`, `nlring route` and `nlring monitor`, share.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::{ArgGroup, Args};
use nlring::{Backend, MirrorOptions, Wait};

use super::netns::NetnsArguments;
use super::values::{AuditInterval, parse_audit_interval, parse_backend, parse_count, parse_wait};
use crate::units::{parse_size, parse_time};
use crate::write::place::check_table_path;

/// The end of each collector's help. It is a macro because `concat!` takes only literals.
macro_rules! collector_help {
    () => {
        "\
Follows events until Ctrl-C (SIGINT or SIGTERM), then prints a summary on standard error. A second Ctrl-C ends at once.
SIGHUP reopens the --output file by its name. SIGUSR1 writes --table and --stats (docs/service.md).
Missing events have a line of their own, such as [LOST] N datagrams between T1 and T2, or an object of their own in JSON.
SIZE is bytes, or a whole number of KiB, MiB or GiB. TIME and DELAY have a unit: 100us, 1ms, 0.5s, 5m, 1h, 2d."
    };
}
pub(super) use collector_help;

/// The options of the collectors that can keep a table.
#[derive(Args, Debug)]
pub struct CollectorArguments {
    #[command(flatten)]
    pub follow: FollowArguments,

    #[command(flatten)]
    pub table: TableArguments,
}

/// The options of all collectors.
#[derive(Args, Debug)]
pub struct FollowArguments {
    #[command(flatten)]
    pub common: CommonArguments,

    /// Size of the socket's receive buffer, where events wait to be read
    #[arg(long = "recv-buffer", value_name = "SIZE", allow_hyphen_values = true, default_value = "8MiB", value_parser = parse_size)]
    pub recv_buffer_bytes: usize,

    /// Double the receive buffer after each loss, up to this size
    #[arg(long = "recv-buffer-max", value_name = "SIZE", allow_hyphen_values = true, value_parser = parse_size)]
    pub recv_buffer_max_bytes: Option<usize>,

    #[command(flatten)]
    pub netns: NetnsArguments,

    /// Write each event as a JSON object on a line of its own (docs/json.md)
    #[arg(long)]
    pub json: bool,

    /// End after N events, including those of a snapshot
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = parse_count)]
    pub count: Option<u64>,

    /// End after this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    pub duration: Option<Duration>,
}

/// The options, by clap's ids, that only make sense for a collector that follows events. A list ends at once.
const NOT_WITH_ONCE: [&str; 13] = [
    "audit_interval",
    "backend",
    "duration",
    "events",
    "mirror",
    "mirror_memory_bytes",
    "recv_buffer_bytes",
    "recv_buffer_max_bytes",
    "resync_interval",
    "stats",
    "stats_interval",
    "table",
    "wait",
];

/// The options about the kernel's table, which the events change.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("mirrored").multiple(true))]
pub struct TableArguments {
    /// Show the existing entries first, as new events marked [RESYNCED] (so -e must include new), then follow; implies
    /// --mirror
    #[arg(long, group = "mirrored")]
    pub snapshot: bool,

    /// With --snapshot: list the existing entries, then end
    #[arg(long, requires = "snapshot", conflicts_with_all = NOT_WITH_ONCE)]
    pub once: bool,

    /// Keep the table in memory; after a loss compare it with the kernel's and show what was missed, marked [RESYNCED]
    #[arg(long, group = "mirrored")]
    pub mirror: bool,

    /// Write the mirrored table to this file at the end and on SIGUSR1, one JSON object per line (docs/json.md); the
    /// file is replaced as a whole
    #[arg(long, value_name = "FILE", requires = "mirrored", value_parser = PathBufValueParser::new().try_map(check_table_path))]
    pub table: Option<PathBuf>,

    /// Minimum time between two dumps of the kernel's table after losses
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "10s", value_parser = parse_time, requires = "mirrored")]
    pub resync_interval: Duration,

    /// How often to compare the mirror with the kernel's table even if nothing was lost: a TIME, off, or auto, which
    /// takes at most 1 % of the time and waits at least 15 s
    #[arg(long, value_name = "TIME|auto|off", allow_hyphen_values = true, default_value = "auto", value_parser = parse_audit_interval, requires = "mirrored")]
    pub audit_interval: AuditInterval,

    /// Memory limit of the mirror [default: what the kernel's table needs]. Entries beyond it are shown when they
    /// change, but not kept
    #[arg(long = "mirror-memory", value_name = "SIZE", allow_hyphen_values = true, value_parser = parse_size, requires = "mirrored")]
    pub mirror_memory_bytes: Option<usize>,
}

impl TableArguments {
    pub fn has_mirror(&self) -> bool {
        self.mirror || self.snapshot && !self.once
    }

    /// The options of each of `count` mirrors.
    pub fn mirror_options(&self, count: usize) -> MirrorOptions {
        let mut options = MirrorOptions::new().resync_interval(self.resync_interval);
        if let Some(interval) = self.audit_interval.to_option(count) {
            options = options.audit_interval(interval);
        }
        if let Some(bytes) = self.mirror_memory_bytes {
            options = options.memory_bytes(bytes);
        }
        options
    }
}

/// The options of every command that receives events.
#[derive(Args, Clone, Debug)]
pub struct CommonArguments {
    /// How to receive: auto, multishot, oneshot[:DEPTH] or recvmmsg
    #[arg(long, value_name = "BACKEND", default_value = "auto", value_parser = parse_backend)]
    pub backend: Backend,

    /// When to wake up for events: auto, prompt, batch:DELAY or spin
    #[arg(long, value_name = "WAIT", default_value = "auto", value_parser = parse_wait)]
    pub wait: Wait,

    /// Append the events to this file, which SIGHUP reopens by its name; - is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,

    /// Empty the --output file at the start
    #[arg(long, requires = "output")]
    pub truncate: bool,

    /// Write the summary as JSON to this file at the end and on SIGUSR1; the file is replaced as a whole
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,

    /// Also write the summary this often
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time, requires = "stats")]
    pub stats_interval: Option<Duration>,
}
