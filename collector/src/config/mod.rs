//! The configuration.

mod units;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::failure::{Failure, Result};
pub use units::Sync;
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
    /// The outputs to files. None in the file: one.
    pub files: Vec<Files>,
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
    /// When what is written is synced to the disk. A killed nlringd loses nothing in any case; a power loss takes what
    /// was not synced.
    pub sync: Sync,
    /// The most that is kept for outputs that have not read it. What is removed becomes a loss record for them.
    pub max_bytes: Bytes,
    pub max_age: Option<Span>,
}

/// An output to files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// The name in the log, in metrics and of the cursor. Each output has another one.
    pub name: String,
    pub directory: PathBuf,
    pub format: Format,
    /// The compression of JSON lines and CSV. Parquet is always compressed with zstd.
    pub compression: Compression,
    /// A file ends when the clock passes a multiple of this time.
    pub rotate_interval: Span,
    /// A file that has grown to this size ends.
    pub rotate_bytes: Bytes,
    /// Files whose records are all older are removed.
    pub max_age: Option<Span>,
    /// While all files together are larger, the oldest are removed.
    pub max_bytes: Option<Bytes>,
}

/// The format of files.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Parquet,
    /// A JSON object per line.
    Json,
    Csv,
}

/// The compression of files of text.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Zstd,
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
            files: vec![Files::default()],
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

impl Default for Files {
    fn default() -> Self {
        Self {
            name: "files".to_owned(),
            directory: "nlringd/records".into(),
            format: Format::Parquet,
            compression: Compression::Zstd,
            rotate_interval: Span(Duration::from_secs(15 * 60)),
            rotate_bytes: Bytes(256 << 20),
            max_age: None,
            max_bytes: None,
        }
    }
}

impl Config {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).map_err(|error| Failure::of_file("read", path, &error))?;
        let failed = |error: String| Failure::Usage(format!("{}: {error}", path.display()));
        let config: Self = toml::from_str(&text).map_err(|error| failed(error.to_string()))?;
        config.check_outputs().map_err(failed)?;
        Ok(config)
    }

    /// Two outputs must not write the same files.
    fn check_outputs(&self) -> Result<(), String> {
        if self.node.is_empty() || self.node.contains('/') {
            let node = &self.node;
            return Err(format!(
                "node = {node:?} is part of file names: use no / there"
            ));
        }
        let mut names = HashSet::new();
        let mut places = HashSet::new();
        for output in &self.files {
            let name = &output.name;
            let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
            if name.is_empty() || !name.chars().all(is_letter) {
                return Err(format!("name = {name:?}: use letters, digits, - and _"));
            }
            if !names.insert(name) {
                return Err(format!(
                    "two outputs have the name {name:?}; give each its own"
                ));
            }
            let is_text = output.format != Format::Parquet;
            let compression = is_text.then_some(output.compression);
            if !places.insert((&output.directory, output.format, compression)) {
                let directory = output.directory.display();
                return Err(format!(
                    "two outputs write the same files in {directory}; give each a directory"
                ));
            }
            if output.rotate_interval.0.is_zero() {
                return Err(format!(
                    "{name}: rotate_interval is 0; use a time such as 15m"
                ));
            }
        }
        Ok(())
    }
}
