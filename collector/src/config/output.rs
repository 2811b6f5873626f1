//! The outputs of the configuration, in a list for each kind.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::{Bytes, Config, Span};

/// What all kinds of outputs have.
pub trait Output {
    /// The name in the log, in metrics and for the cursor.
    fn name(&self) -> &str;

    /// Who gets the records, as a text for the summary.
    fn receiver(&self) -> String;

    /// Checks values that can be read but make no sense.
    ///
    /// # Errors
    ///
    /// A sentence with the remedy. The caller puts the name of the output before it.
    fn check(&self, config: &Config) -> Result<(), String>;
}

/// An output to files.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// The name in the log, in metrics and for the cursor. It is unique among the outputs.
    pub name: String,
    pub directory: PathBuf,
    pub format: Format,
    /// The compression of JSON lines and CSV. Parquet is always compressed with zstd.
    pub compression: Compression,
    /// A file ends when the clock passes a multiple of this time.
    pub rotate_interval: Span,
    /// A file that has grown to this size ends.
    pub rotate_bytes: Bytes,
    /// Files are removed when all their records are older than this.
    pub max_age: Option<Span>,
    /// While all files together are larger than this, the oldest are removed.
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

impl Output for Files {
    fn name(&self) -> &str {
        &self.name
    }

    fn receiver(&self) -> String {
        format!("{:?} files in {}", self.format, self.directory.display())
    }

    fn check(&self, config: &Config) -> Result<(), String> {
        let directory = &self.directory;
        let wrong = if directory.as_os_str().is_empty() || *directory == config.spool.directory {
            "the directory is empty, or that of the spool; name another one"
        } else if self.rotate_bytes.0 == 0 || self.max_age.is_some_and(|age| age.0.is_zero()) {
            "rotate_bytes or max_age is 0; use a size such as 256MiB, a time such as 365d"
        } else if self.rotate_interval.0.is_zero() {
            "rotate_interval is 0; use a time such as 15m"
        } else {
            return Ok(());
        };
        Err(wrong.to_owned())
    }
}

/// The outputs of one kind. If there is a list, it has at least one.
pub fn outputs<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let outputs = Vec::deserialize(deserializer)?;
    if outputs.is_empty() {
        return Err(de::Error::custom(
            "the list is empty; add an output, such as [[files]], or leave the list out",
        ));
    }
    Ok(outputs)
}

/// Checks each output, and that no two of them conflict.
pub fn check(config: &Config) -> Result<(), String> {
    let mut names = HashSet::new();
    for output in config.outputs() {
        let name = output.name();
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        if name.is_empty() || !name.chars().all(is_letter) {
            return Err(format!("name = {name:?}: use letters, digits, - and _"));
        }
        if !names.insert(name) {
            return Err(format!(
                "two outputs have the name {name:?}; give each its own"
            ));
        }
        let checked = output.check(config);
        checked.map_err(|error| format!("{name}: {error}"))?;
    }
    check_places(&config.files)
}

/// Two outputs must not write the same files.
fn check_places(outputs: &[Files]) -> Result<(), String> {
    let mut places = HashSet::new();
    for output in outputs {
        let is_text = output.format != Format::Parquet;
        let compression = is_text.then_some(output.compression);
        if !places.insert((&output.directory, output.format, compression)) {
            let directory = output.directory.display();
            return Err(format!(
                "two outputs write the same files in {directory}; give each a directory"
            ));
        }
    }
    Ok(())
}
