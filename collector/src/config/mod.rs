//! The configuration.

mod units;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::failure::{Failure, Result};
use units::{Bytes, Span};

/// The whole configuration. What the file leaves out has the default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The name of this host in the records. The default is the host's name.
    pub node: String,
    /// Which records are written.
    pub records: Records,
    /// The network namespaces that are followed, by their names in /run/netns. None: that of nlringd.
    pub namespaces: Vec<String>,
    /// Which flows are followed, as an expression. All, if it is empty.
    pub filter: String,
    /// The receive buffer of each socket.
    pub recv_buffer: Bytes,
    /// The longest time for which a record is only in memory.
    pub flush_interval: Span,
    pub spool: Spool,
    pub files: Files,
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
}

/// Where records wait for the outputs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    pub directory: PathBuf,
    /// A segment that has grown to this size is followed by another one.
    pub segment: Bytes,
}

/// The output to files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    pub directory: PathBuf,
    pub rotate_interval: Span,
    pub rotate_bytes: Bytes,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            records: Records::Flows,
            namespaces: Vec::new(),
            filter: String::new(),
            recv_buffer: Bytes(8 << 20),
            flush_interval: Span(Duration::from_millis(500)),
            spool: Spool::default(),
            files: Files::default(),
        }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            directory: "nlringd/spool".into(),
            segment: Bytes(64 << 20),
        }
    }
}

impl Default for Files {
    fn default() -> Self {
        Self {
            directory: "nlringd/records".into(),
            rotate_interval: Span(Duration::from_secs(15 * 60)),
            rotate_bytes: Bytes(256 << 20),
        }
    }
}

impl Config {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).map_err(|error| Failure::of_file("read", path, &error))?;
        toml::from_str(&text)
            .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
    }
}
