//! The command line.

mod audit;
mod demo;
mod flood;
mod latency;
mod peers;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use nlring::{Backend, Wait};

use crate::load;
use crate::units::{parse_size, parse_time};
use crate::write::place::check_table_path;

pub use audit::AuditInterval;
pub use demo::DemoArguments;
pub use flood::FloodArguments;
pub use latency::LatencyArguments;

/// Follow the kernel's conntrack and route events, with an exact count of what was lost
#[derive(Debug, Parser)]
#[command(name = "nlring", version, after_help = SEE_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const SEE_HELP: &str = "\
nlring <COMMAND> --help explains a command's options.
nlring demo shows what it does, without set-up and without root.";

impl Arguments {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// It is wrong, or asks for help or the version.
    pub fn read() -> Result<Self, clap::Error> {
        let words: Vec<OsString> = std::env::args_os().collect();
        Self::try_parse_from(&words).map_err(|error| peers::advise(error, &words))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(
        about = "Follow conntrack events, in the lines of conntrack -E (needs CAP_NET_ADMIN)"
    )]
    Conntrack(ConntrackArguments),
    /// Follow route events, in the lines of ip monitor route
    Route(RouteArguments),
    /// See what nlring does: a tour of a few seconds, with real events
    Demo(DemoArguments),
    /// Make events at a known rate, to load a collector with
    Flood(FloodArguments),
    /// Measure how late events come and what receiving them costs
    Latency(LatencyArguments),
    /// Say what stands in the way of receiving events here, and what to do about it
    Doctor(DoctorArguments),
}

/// What both collectors' help ends with; a macro, since only literals are concatenated.
macro_rules! collector_help { () => { "\
Follows until Ctrl-C (SIGINT or SIGTERM) and then prints a summary on standard error; a second Ctrl-C ends at once.
SIGHUP opens the file of --output again by its name; SIGUSR1 writes --table and --stats (docs/service.md).
What is missing has a line of its own, such as [LOST] N datagrams between T1 and T2; in JSON an object of its own.
SIZE is bytes, or a whole number of KiB, MiB or GiB. TIME and DELAY have a unit: 100us, 1ms, 0.5s, 5m, 1h, 2d." }; }

#[derive(Args, Debug)]
#[command(after_help = CONNTRACK_HELP)]
pub struct ConntrackArguments {
    /// Which events to follow
    #[arg(
        short,
        long,
        value_name = "EVENT",
        value_delimiter = ',',
        ignore_case = true,
        default_value = "all"
    )]
    pub events: Vec<ConntrackEvent>,

    /// What to add to the lines, as with conntrack -o; for programs there is --json
    #[arg(
        short = 'o',
        long = "fields",
        value_name = "FIELD",
        value_delimiter = ',',
        ignore_case = true,
        conflicts_with = "json"
    )]
    pub fields: Vec<Field>,

    /// Have the kernel keep the destroy events that find no room, and send them again; one told twice is left out
    #[arg(long, conflicts_with = "once")]
    pub reliable: bool,

    #[command(flatten)]
    pub collector: CollectorArguments,
}

#[derive(Args, Debug)]
#[command(after_help = COLLECTOR_HELP)]
pub struct RouteArguments {
    /// Which events to follow
    #[arg(
        short,
        long,
        value_name = "EVENT",
        value_delimiter = ',',
        ignore_case = true,
        default_value = "new,delete"
    )]
    pub events: Vec<RouteEvent>,

    /// What to add to the lines; for programs there is --json
    #[arg(
        short = 'o',
        long = "fields",
        value_name = "FIELD",
        value_delimiter = ',',
        ignore_case = true,
        conflicts_with = "json"
    )]
    pub fields: Vec<RouteField>,

    #[command(flatten)]
    pub collector: CollectorArguments,
}

#[derive(Args, Debug)]
#[command(after_help = DOCTOR_HELP)]
pub struct DoctorArguments {
    /// Write one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

const DOCTOR_HELP: &str = "\
A line for each check: ok; note, worth knowing; limit, something will be missing or lost; fail, conntrack or route events
cannot be received; unknown, it cannot be told from here. Below it, after $, what to do about it: a command for root's shell
here, and how to keep it after a restart, or what to do where no command here helps.

It changes no setting. To see whether flows are tracked it listens for a moment, where it may, and sends a UDP datagram to
itself over the loopback device, for IPv4 and for IPv6: other collectors see these flows begin and end. As for any
collector, the kernel may load its conntrack modules.

Exits with 0 when conntrack and route events can be received here, perhaps with limits, and with 1 when something makes
that impossible.";

const CONNTRACK_HELP: &str = concat!(
    "\
Nothing appears? A namespace tracks flows only where a rule needs it: one with a `ct` match, as in
    nft 'add table ip t; add chain ip t c { type filter hook output priority 0; ct state new accept; }'
and with net.netfilter.nf_conntrack_events = 2, the default since Linux 5.19, a flow that began before anybody listened
makes no events. It needs CAP_NET_ADMIN. nlring doctor tells what stands in the way here.

With --reliable, deliveries that failed are a line of their own: [DELAYED] N deliveries between T1 and T2; in JSON an object.
The kernel tries those of destroy events again after a second, then every 10 ms; a new or update event is missing, but for
what the flow's next update says. Flows that wait so count as entries of the table. A destroy event that came before is left
out where that can be told: with new events among --events, or with net.netfilter.nf_conntrack_timestamp = 1.

",
    collector_help!()
);
const COLLECTOR_HELP: &str = collector_help!();

/// The options of both collectors.
#[derive(Args, Debug)]
pub struct CollectorArguments {
    #[command(flatten)]
    pub common: CommonArguments,

    /// The socket's receive buffer, in which events wait to be read
    #[arg(long = "recv-buffer", value_name = "SIZE", allow_hyphen_values = true, default_value = "8MiB", value_parser = parse_size)]
    pub recv_buffer_bytes: usize,

    /// Double a receive buffer that was too small, after each loss, up to this size
    #[arg(long = "recv-buffer-max", value_name = "SIZE", allow_hyphen_values = true, value_parser = parse_size)]
    pub recv_buffer_max_bytes: Option<usize>,

    #[command(flatten)]
    pub table: TableArguments,

    /// Write each event as a JSON object on a line of its own (docs/json.md)
    #[arg(long)]
    pub json: bool,

    /// End after N events, those of a snapshot among them
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = parse_count)]
    pub count: Option<u64>,

    /// End after this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    pub duration: Option<Duration>,
}

/// What a list has nothing to do with.
const ONCE_HAS_NO: [&str; 13] = [
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

/// The options about the table that the events change.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("mirrored").multiple(true))]
pub struct TableArguments {
    /// Show what is there first, as new events marked [RESYNCED] (so that -e must have them), then what happens; implies
    /// --mirror
    #[arg(long, group = "mirrored")]
    pub snapshot: bool,

    /// With --snapshot: list what is there, and end
    #[arg(long, requires = "snapshot", conflicts_with_all = ONCE_HAS_NO)]
    pub once: bool,

    /// Keep the table in memory, and after a loss hold it against the kernel's and show what was missed, marked [RESYNCED]
    #[arg(long, group = "mirrored")]
    pub mirror: bool,

    /// Where to write the mirrored table at the end and on SIGUSR1: a JSON object a line (docs/json.md), replaced whole
    #[arg(long, value_name = "FILE", requires = "mirrored", value_parser = PathBufValueParser::new().try_map(check_table_path))]
    pub table: Option<PathBuf>,

    /// The least time between two dumps of the kernel's table after losses
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "10s", value_parser = parse_time, requires = "mirrored")]
    pub resync_interval: Duration,

    /// How often to compare the mirror with the kernel's table though nothing is known to be wrong: a TIME; auto, as often as
    /// takes 1 % of the time, but at most every 15 s; or off
    #[arg(long, value_name = "TIME|auto|off", allow_hyphen_values = true, default_value = "auto", value_parser = audit::parse, requires = "mirrored")]
    pub audit_interval: AuditInterval,

    /// How much memory the mirror may take; without it, as much as the kernel's table needs. What finds no room is shown when it
    /// happens, and not kept
    #[arg(long = "mirror-memory", value_name = "SIZE", allow_hyphen_values = true, value_parser = parse_size, requires = "mirrored")]
    pub mirror_memory_bytes: Option<usize>,
}

impl TableArguments {
    pub fn has_mirror(&self) -> bool {
        self.mirror || self.snapshot && !self.once
    }
}

/// The options of every command.
#[derive(Args, Clone, Debug)]
pub struct CommonArguments {
    /// How to receive: auto, multishot, oneshot[:DEPTH] or recvmmsg
    #[arg(long, value_name = "BACKEND", default_value = "auto", value_parser = parse_backend)]
    pub backend: Backend,

    /// When to wake for events: auto, prompt, batch:DELAY or spin
    #[arg(long, value_name = "WAIT", default_value = "auto", value_parser = parse_wait)]
    pub wait: Wait,

    /// Where to write the events: appended to a file, which SIGHUP opens again by its name; - is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,

    /// Empty the file of --output at the start
    #[arg(long, requires = "output")]
    pub truncate: bool,

    /// Where to write the summary as JSON: at every end, and on SIGUSR1; the file is replaced whole
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,

    /// Write the summary this often too
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time, requires = "stats")]
    pub stats_interval: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConntrackEvent {
    New,
    #[value(alias = "updates")] // conntrack's own word
    Update,
    Destroy,
    /// New, update and destroy
    All,
    /// Connections that a helper expects, such as FTP's for data: their begin and end
    Expect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RouteEvent {
    New,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Field {
    /// When the event was received, in seconds since 1970
    Timestamp,
    /// The network protocol before the transport protocol
    Extended,
    /// The flow's id
    Id,
    /// When the flow began and ended, by the kernel (net.netfilter.nf_conntrack_timestamp = 1)
    Ktimestamp,
    /// The names of the flow's labels
    Labels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RouteField {
    /// When the event was received, in local time, as with ip -ts
    Timestamp,
}

fn parse_count(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("give a whole number of events, from 1".to_owned()),
    }
}

fn parse_events(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(format!(
            "give a whole number of events, from 1 to {}",
            u32::MAX
        )),
    }
}

fn parse_cpu(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| "give the number of a CPU, from 0; lscpu -e tells which there are".to_owned())
}

fn parse_datagram_size(text: &str) -> Result<usize, String> {
    let bytes = parse_size(text)?;
    let possible = load::DATAGRAM_BYTES;
    if possible.contains(&bytes) && bytes.is_multiple_of(4) {
        return Ok(bytes);
    }
    let (least, most) = possible.into_inner();
    Err(format!(
        "give from {least} to {most} bytes, a multiple of 4, which is netlink's alignment"
    ))
}

fn parse_backend(text: &str) -> Result<Backend, String> {
    let (default, most) = (Backend::DEFAULT_DEPTH, Backend::MAX_DEPTH);
    match text.split_once(':') {
        None => match text {
            "auto" => Ok(Backend::Auto),
            "multishot" => Ok(Backend::Multishot),
            "oneshot" => Ok(Backend::Oneshot { depth: default }),
            "recvmmsg" => Ok(Backend::Recvmmsg),
            _ => Err("give auto, multishot, oneshot, oneshot:DEPTH or recvmmsg".to_owned()),
        },
        Some(("oneshot", depth)) => match depth.parse() {
            Ok(depth) if (1..=most).contains(&depth) => Ok(Backend::Oneshot { depth }),
            _ => Err(format!(
                "give a DEPTH from 1 to {most}, such as oneshot:{default}"
            )),
        },
        Some(_) => Err(format!(
            "only oneshot takes a DEPTH, such as oneshot:{default}"
        )),
    }
}

fn parse_wait(text: &str) -> Result<Wait, String> {
    match text.split_once(':') {
        None => match text {
            "auto" => Ok(Wait::Auto),
            "prompt" => Ok(Wait::Prompt),
            "spin" => Ok(Wait::Spin),
            "batch" => Err("batch needs its delay, such as batch:1ms".to_owned()),
            _ => Err("give auto, prompt, batch:DELAY or spin, such as batch:1ms".to_owned()),
        },
        Some(("batch", delay)) => parse_time(delay).map(Wait::Batch),
        Some(_) => Err("only batch takes a DELAY, such as batch:1ms".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace()).map(|arguments| arguments.command)
    }

    fn conntrack(line: &str) -> ConntrackArguments {
        match parse(&format!("nlring conntrack {line}")) {
            Ok(Command::Conntrack(arguments)) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_help_fits_but_for_commands_and_keeps_its_words() {
        use crate::write::help;
        let words = |text: &str| {
            let words = text.split_whitespace().map(str::to_owned);
            words.collect::<Vec<_>>()
        };
        let mut root = Arguments::command();
        root.build();
        let names: Vec<String> = root
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect();
        for name in names {
            let command = root.find_subcommand_mut(&name).unwrap();
            for help in [command.render_help(), command.render_long_help()] {
                let help = help.to_string();
                for columns in [60, 80, 100, 200] {
                    let fitted = help::fitted(&help, columns);
                    assert_eq!(words(&fitted), words(&help), "{name}");
                    let too_wide =
                        |line: &&str| line.chars().count() > columns && !line.starts_with("    ");
                    let wide: Vec<&str> = fitted.lines().filter(too_wide).collect();
                    assert!(
                        wide.is_empty() || columns < 80,
                        "{name} {columns}: {wide:#?}"
                    );
                }
            }
        }
    }

    #[test]
    fn events_are_lists_in_any_case() {
        use ConntrackEvent::{All, Destroy, New, Update};
        assert_eq!(conntrack("").events, [All]);
        assert_eq!(conntrack("-e NEW,Destroy").events, [New, Destroy]);
        assert_eq!(conntrack("--events=updates -e all").events, [Update, All]);
        for bad in ["-e nwe", "-e new,", "-e", "-o ids"] {
            let error = parse(&format!("nlring conntrack {bad}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
        let error = parse("nlring route -e update").unwrap_err().to_string();
        assert!(error.contains("new, delete"), "{error}");
    }

    #[test]
    fn fields_are_lists_in_any_case() {
        use Field::{Id, Labels, Timestamp};
        assert_eq!(conntrack("").fields, []);
        assert_eq!(conntrack("-o TIMESTAMP,Id").fields, [Timestamp, Id]);
        assert_eq!(conntrack("-o id -o labels").fields, [Id, Labels]);
        for bad in ["-o xml", "-o save", "-o id,", "-o id --json"] {
            let error = parse(&format!("nlring conntrack {bad}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
        let error = parse("nlring conntrack -o xml").unwrap_err().to_string();
        let names = "timestamp, extended, id, ktimestamp, labels";
        assert!(error.contains(names), "{error}");
    }

    #[test]
    fn backends_and_waits() {
        let Backend::Oneshot { depth } = parse_backend("oneshot").unwrap() else {
            panic!()
        };
        assert_eq!(depth, Backend::DEFAULT_DEPTH);
        assert!(matches!(
            parse_backend("oneshot:64"),
            Ok(Backend::Oneshot { depth: 64 })
        ));
        for bad in [
            "",
            "Auto",
            "oneshot:",
            "oneshot:0",
            "oneshot:129",
            "multishot:4",
            "io_uring",
            "auto:",
        ] {
            assert!(parse_backend(bad).is_err(), "{bad}");
        }
        assert!(
            matches!(parse_wait("batch:100us"), Ok(Wait::Batch(delay)) if delay == Duration::from_micros(100))
        );
        for bad in [
            "",
            "batch",
            "batch:",
            "batch:1",
            "batch:0ms",
            "prompt:1ms",
            "fast",
        ] {
            assert!(parse_wait(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_conntrack_is_reliable() {
        assert!(conntrack("--reliable").reliable);
        let error = parse("nlring route --reliable").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains("unexpected argument '--reliable'")
        );
    }

    #[test]
    fn counts_begin_at_one() {
        assert_eq!(conntrack("--count 7").collector.count, Some(7));
        for bad in ["0", "-1", "1.5", "many", "18446744073709551616"] {
            let error = parse(&format!("nlring conntrack --count={bad}")).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("from 1"), "{error}");
        }
    }

    #[test]
    fn the_defaults_are_those_promised() {
        let arguments = conntrack("");
        assert_eq!(arguments.collector.recv_buffer_bytes, 8 << 20);
        assert_eq!(arguments.collector.recv_buffer_max_bytes, None);
        assert!(!arguments.reliable);
        assert_eq!(arguments.collector.common.output, PathBuf::from("-"));
        assert!(matches!(arguments.collector.common.backend, Backend::Auto));
        assert!(matches!(arguments.collector.common.wait, Wait::Auto));
    }
}
