//! The configuration.

mod check;
mod ipfix;
mod live;
mod nats;
mod output;
mod place;
mod receiver;
mod store;
mod syslog;
mod units;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::failure::{Failure, Result};
pub use check::problems;
pub use ipfix::Ipfix;
pub use live::Live;
pub use nats::{Body, Nats, Servers, Storage, Stream};
pub use output::{Compression, Files, Format, Output};
pub use receiver::{Receiver, Transport};
pub use store::Store;
pub use syslog::{Kind, Syslog, SyslogFormat};
pub use units::{Bytes, Listen, Span, Sync};

/// What `flush_interval` may be.
const FLUSH_INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(30);

/// What `recv_buffer` may be.
const RECV_BUFFERS: RangeInclusive<u64> = 4 << 10..=1 << 30;
/// The least `spool.segment`.
const LEAST_SEGMENT: u64 = 4 << 10;

/// The whole configuration. Keys that the file leaves out have their defaults.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The name of this host in the records. The default is the host's name.
    pub node: String,
    /// Which records are written.
    pub records: Records,
    /// Events of routes are recorded too.
    pub routes: bool,
    /// The network namespaces that are followed, by their names in /run/netns. Empty: that of nlringd.
    pub namespaces: Vec<String>,
    /// Which flows are followed, as an expression. Empty: all flows.
    pub filter: String,
    /// The receive buffer of each socket.
    pub recv_buffer: Bytes,
    /// The longest time for which a record stays only in memory.
    pub flush_interval: Span,
    /// A flow that lasts longer than this is recorded as an open flow about once per this time.
    pub open_interval: Span,
    pub log: Log,
    pub http: Http,
    pub spool: Spool,
    /// The outputs to files. If the configuration has no output of any kind, there is one of these.
    #[serde(default, deserialize_with = "output::outputs")]
    pub files: Vec<Files>,
    /// The outputs to syslog servers.
    #[serde(default, deserialize_with = "output::outputs")]
    pub syslog: Vec<Syslog>,
    /// The outputs to collectors of IPFIX.
    #[serde(default, deserialize_with = "output::outputs")]
    pub ipfix: Vec<Ipfix>,
    /// The outputs to NATS.
    #[serde(default, deserialize_with = "output::outputs")]
    pub nats: Vec<Nats>,
}

/// Which records are written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Records {
    /// One for each flow, at its end.
    Flows,
    /// One for each event.
    Events,
    Both,
}

impl Records {
    pub fn has_flows(self) -> bool {
        self != Self::Events
    }

    pub fn has_events(self) -> bool {
        self != Self::Flows
    }

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Events => "events",
            Self::Both => "both",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Flows, Self::Events, Self::Both];
        all.into_iter().find(|records| records.name() == name)
    }
}

/// The log, on standard error.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    /// Lines below this level are left out.
    pub level: LogLevel,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text. In the journal it has no time, because the journal has it.
    Text,
    /// A JSON object per line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: LogLevel::Info,
        }
    }
}

/// Where `/metrics` and `/health` are answered.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// None: the default of the command, which runs without them if it cannot listen there.
    pub address: Option<Listen>,
}

/// Where records wait for the outputs.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    pub directory: PathBuf,
    /// A segment that has grown to this size is followed by a new one.
    pub segment: Bytes,
    /// When written data is synced to the disk. Killing nlringd loses nothing in any case; a power loss destroys what
    /// was not synced.
    pub sync: Sync,
    /// The most that is kept for outputs that have not read it. What is removed becomes a record of a loss for them.
    pub max_bytes: Bytes,
    pub max_age: Option<Span>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            records: Records::Flows,
            routes: false,
            namespaces: Vec::new(),
            filter: String::new(),
            recv_buffer: Bytes(8 << 20),
            flush_interval: Span(Duration::from_millis(500)),
            open_interval: Span(Duration::from_secs(15 * 60)),
            log: Log::default(),
            http: Http::default(),
            spool: Spool::default(),
            files: vec![Files::default()],
            syslog: Vec::new(),
            ipfix: Vec::new(),
            nats: Vec::new(),
        }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            directory: "nlringd/spool".into(),
            segment: Bytes(64 << 20),
            sync: Sync::Every(Duration::from_secs(1)),
            max_bytes: Bytes(8 << 30),
            max_age: None,
        }
    }
}

impl Config {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::Usage(format!(
                "read {}: {error}; name another file with --config, or leave it out to use the defaults",
                path.display()
            ))
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads the text of a configuration file of this name.
    fn parse(name: &str, text: &str) -> Result<Self> {
        let failed = |error: String| Failure::Usage(format!("{name}: {error}"));
        let mut config: Self = toml::from_str(text)
            .map_err(|error| Failure::Usage(place::explain(name, text, &error)))?;
        if config.outputs().next().is_none() {
            config.files = Self::default().files;
        }
        config.check_values().map_err(&failed)?;
        output::check(&config).map_err(&failed)?;
        Ok(config)
    }

    /// What nlringd will do.
    pub fn summary(&self) -> String {
        let records = match self.records {
            Records::Flows => "flows",
            Records::Events => "events",
            Records::Both => "flows and events",
        };
        let mut text = format!("node {}: records of {records}", self.node);
        if self.routes {
            text += ", and of routes,";
        }
        match self.namespaces.as_slice() {
            [] => text += " of this network namespace",
            names => _ = write!(text, " of the network namespaces {}", names.join(", ")),
        }
        if !self.filter.trim().is_empty() {
            _ = write!(text, " that match {:?}", self.filter);
        }
        _ = write!(
            text,
            ", through the spool {}",
            self.spool.directory.display()
        );
        for output in self.outputs() {
            _ = write!(text, ", to {}", output.receiver());
        }
        text
    }

    /// The outputs of all kinds.
    pub fn outputs(&self) -> impl Iterator<Item = &dyn Output> {
        let files = self.files.iter().map(|files| files as &dyn Output);
        let syslog = self.syslog.iter().map(|syslog| syslog as &dyn Output);
        let ipfix = self.ipfix.iter().map(|ipfix| ipfix as &dyn Output);
        let nats = self.nats.iter().map(|nats| nats as &dyn Output);
        files.chain(syslog).chain(ipfix).chain(nats)
    }

    /// Checks values that can be read but make no sense.
    fn check_values(&self) -> Result<(), String> {
        let node = &self.node;
        let spool = &self.spool;
        let names: HashSet<_> = self.namespaces.iter().collect();
        let (most, segment) = (spool.max_bytes.0, spool.segment.0);
        let wrong = if node.is_empty() || node.starts_with('.') || node.contains('/') {
            format!(
                "node = {node:?} is part of file names: use a name without / and without a point at the beginning"
            )
        } else if !FLUSH_INTERVALS.contains(&self.flush_interval.0) {
            let interval = self.flush_interval.0;
            format!("flush_interval is {interval:?}: use a time from 1ms to 30s")
        } else if self.open_interval.0.is_zero() {
            "open_interval is 0: use a time such as 15m".to_owned()
        } else if !RECV_BUFFERS.contains(&self.recv_buffer.0) {
            "recv_buffer: use a size from 4KiB to 1GiB".to_owned()
        } else if names.len() < self.namespaces.len() {
            "namespaces has a name twice: name each once".to_owned()
        } else if segment < LEAST_SEGMENT {
            "spool.segment: use a size of at least 4KiB, such as 64MiB".to_owned()
        } else if most < segment {
            "spool.max_bytes is less than spool.segment: the segment that is being written stays, so raise one or \
             lower the other"
                .to_owned()
        } else if spool.directory.as_os_str().is_empty() {
            "spool.directory is empty: name a directory".to_owned()
        } else {
            return Ok(());
        };
        Err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../nlringd.toml");

    fn error(text: &str) -> String {
        let error = Config::parse("gw.toml", text).expect_err(text);
        error.to_string()
    }

    #[track_caller]
    fn assert_error(text: &str, place: &str, remedy: &str) {
        let message = error(text);
        assert!(
            message.starts_with(place) && message.contains(remedy),
            "{message}"
        );
    }

    #[test]
    fn the_sample_has_the_defaults() {
        let sample = Config::parse("nlringd.toml", SAMPLE).expect("it can be read");
        assert_eq!(sample, Config::default());
    }

    #[test]
    fn the_configuration_of_the_package_is_right() {
        let text = include_str!("../../packaging/nlringd.toml");
        let config = Config::parse("nlringd.toml", text).expect("it can be read");
        assert_eq!(config.files.len(), 1);
    }

    #[test]
    fn the_sample_has_every_key() {
        let keys_with_values = SAMPLE.lines().map(|line| {
            let is_commented = line.starts_with('#') && !line.starts_with("# ");
            let is_key = is_commented && (line.contains(" = ") || line.starts_with("#["));
            // Of several proofs only one is allowed.
            let is_other = ["#nkey_file", "#user", "#password_file", "#token_file"]
                .iter()
                .any(|key| line.starts_with(key));
            if is_key && !is_other {
                &line[1..]
            } else {
                line
            }
        });
        let text = keys_with_values.collect::<Vec<_>>().join("\n");
        let config = Config::parse("nlringd.toml", &text).expect("its examples are right");
        assert_eq!(config.syslog, [Syslog::default()]);
        assert_eq!(config.ipfix, [Ipfix::default()]);
        let text = SAMPLE.replace("\n#", "\n");
        for table in [
            "",
            "[spool]\n",
            "[[files]]\n",
            "[[syslog]]\n",
            "[[ipfix]]\n",
            "[[nats]]\n",
            "[[nats]]\n[nats.servers]\n",
            "[[nats]]\n[nats.stream]\n",
        ] {
            let message = error(&format!("{table}zzzzzzzzzzzz = 1"));
            let keys = message.split('`').skip(3).step_by(2);
            for key in keys {
                let is_there = text.lines().any(|line| {
                    let table = line.trim_matches(['[', ']']);
                    line.split(" = ").next() == Some(key)
                        || table == key
                        || table.strip_prefix("nats.") == Some(key)
                });
                assert!(is_there, "{key} is not in the sample");
            }
        }
    }

    #[test]
    fn an_error_names_the_place_and_the_remedy() {
        for (text, place, remedy) in [
            ("fitler = \"\"", "gw.toml:1:", "did you mean `filter`?"),
            (
                "\n[spool]\nsegmnt = \"1MiB\"",
                "gw.toml:3:",
                "did you mean `segment`?",
            ),
            (
                "[[files]]\nformat = \"parket\"",
                "gw.toml:2:",
                "did you mean `parquet`?",
            ),
            ("recv_buffer = \"8Mb\"", "gw.toml:1:", "use MiB or GiB"),
            ("recv_buffer = 8", "gw.toml:1:", "in quotes"),
            (
                "flush_interval = \"1y\"",
                "gw.toml:1:",
                "use ms, s, m, h or d",
            ),
            ("node = \"a/b\"", "gw.toml:", "without /"),
            ("node = \".a\"", "gw.toml:", "without a point"),
            (
                "files = []",
                "gw.toml:1:",
                "add an output, such as [[files]]",
            ),
            ("[files]", "gw.toml:1:", "such as [[files]]"),
            ("namespaces = \"gw\"", "gw.toml:1:", "such as [\"gw\"]"),
            ("namespaces = [\"a\", \"a\"]", "gw.toml:", "name each once"),
            ("recv_buffer = \"0\"", "gw.toml:", "from 4KiB to 1GiB"),
            ("flush_interval = \"1h\"", "gw.toml:", "from 1ms to 30s"),
            (
                "[spool]\nmax_bytes = \"1.5GiB\"",
                "gw.toml:2:",
                "a smaller unit, such as 1536MiB",
            ),
            (
                "[spool]\nmax_bytes = \"1MiB\"",
                "gw.toml:",
                "raise one or lower the other",
            ),
            ("[spool]\nsegment = \"0\"", "gw.toml:", "at least 4KiB"),
            (
                "[[files]]\ndirectory = \"nlringd/spool\"",
                "gw.toml:",
                "name another one",
            ),
            (
                "[[files]]\nmax_age = \"0s\"",
                "gw.toml:",
                "a time such as 365d",
            ),
            (
                "[[nats]]\nprefix = \"a.>\"",
                "gw.toml:",
                "such as \"nlring\"",
            ),
            (
                "[[nats]]\n[nats.servers]\naddresses = [\"nats://u:p@host\"]",
                "gw.toml:",
                "use user and password_file",
            ),
            (
                "[[nats]]\n[nats.servers]\nuser = \"u\"",
                "gw.toml:",
                "name both, or none",
            ),
            (
                "[[nats]]\n[nats.stream]\nname = \"a.b\"",
                "gw.toml:",
                "use letters",
            ),
            ("node = ", "gw.toml:1:", ""),
        ] {
            assert_error(text, place, remedy);
        }
    }

    #[test]
    fn an_error_of_a_receiver_names_the_place_and_the_remedy() {
        for (text, place, remedy) in [
            (
                "[[syslog]]\ntransport = \"tpc\"",
                "gw.toml:2:",
                "did you mean `tcp`?",
            ),
            (
                "[[syslog]]\naddress = \"2001:db8::1:514\"",
                "gw.toml: syslog:",
                "in brackets, as in \"[2001:db8::1]:514\"",
            ),
            (
                "[[syslog]]\naddress = \"gw1\"",
                "gw.toml: syslog:",
                "add the port",
            ),
            (
                "[[syslog]]\ntransport = \"unix\"",
                "gw.toml: syslog:",
                "the path of a socket, such as \"/dev/log\"",
            ),
            (
                "[[syslog]]\nsd_id = \"a b\"",
                "gw.toml: syslog:",
                "such as \"nlring@32473\"",
            ),
            (
                "[[syslog]]\nfacility = \"lokal0\"",
                "gw.toml:2:",
                "did you mean `local0`?",
            ),
            (
                "[[syslog]]\nrecords = []",
                "gw.toml: syslog:",
                "such as \"flow\"",
            ),
            (
                "[[ipfix]]\ntransport = \"sctp\"",
                "gw.toml:2:",
                "unknown variant `sctp`, expected one of `udp`, `tcp`",
            ),
            (
                "[[ipfix]]\ntransport = \"unix\"",
                "gw.toml: ipfix:",
                "use \"udp\" or \"tcp\"",
            ),
            (
                "[[ipfix]]\naddress = \"192.0.2.1:0\"",
                "gw.toml: ipfix:",
                "use a port from 1 to 65535",
            ),
            (
                "[[ipfix]]\nmtu = 500",
                "gw.toml: ipfix:",
                "from 576 to 65535",
            ),
            (
                "[[ipfix]]\nrecords = [\"open\"]",
                "gw.toml: ipfix:",
                "has no form in IPFIX: use \"flow\"",
            ),
            (
                "[[ipfix]]\ntemplate_interval = \"0s\"",
                "gw.toml: ipfix:",
                "a time such as 1m",
            ),
            (
                "[[ipfix]]\nacknowledge_interval = \"0s\"",
                "gw.toml: ipfix:",
                "from 1s to 1h",
            ),
            (
                "[[ipfix]]\nname = \"a\"\n[[syslog]]\nname = \"a\"",
                "gw.toml:",
                "give each its own",
            ),
        ] {
            assert_error(text, place, remedy);
        }
    }

    #[test]
    fn a_filter_a_namespace_and_a_directory_are_checked() {
        let text = "filter = \"dport\"\nnamespaces = [\"nlring-none\"]\n[spool]\ndirectory = \"/dev/null/spool\"";
        let config = Config::parse("gw.toml", text).expect("it reads well");
        let problems = problems(&config).join("\n");
        for wanted in [
            "filter: ",
            "nlring-none",
            "spool.directory: /dev/null is not a directory",
        ] {
            assert!(problems.contains(wanted), "{wanted} in {problems}");
        }
    }

    #[test]
    fn the_summary_says_what_is_recorded_and_where() {
        let summary = Config::parse("gw.toml", "node = \"gw1\"").map(|config| config.summary());
        let wanted = "node gw1: records of flows of this network namespace, through the spool nlringd/spool, \
                      to Parquet files in nlringd/records";
        assert_eq!(summary.ok().as_deref(), Some(wanted));
    }
}
