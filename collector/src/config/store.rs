//! The configuration of `nlringd store`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::nats::is_name;
use super::{Bytes, Http, Log, Servers, Span, check, place};
use crate::failure::{Failure, Result};

/// What a worker does.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// The stream that is read.
    pub stream: String,
    /// The durable consumer. Workers with the same one share the messages.
    pub consumer: String,
    /// Files are written below this directory. All workers of a consumer have the same one.
    pub directory: PathBuf,
    /// A file ends when it is this old.
    pub rotate_interval: Span,
    /// A file that has grown to this size ends.
    pub rotate_bytes: Bytes,
    /// After this time without a sign of life from a worker, its messages go to another one.
    pub ack_wait: Span,
    pub log: Log,
    pub http: Http,
    pub servers: Servers,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            stream: "nlring".to_owned(),
            consumer: "nlring-store".to_owned(),
            directory: "nlringd/store".into(),
            rotate_interval: Span(Duration::from_secs(300)),
            rotate_bytes: Bytes(256 << 20),
            ack_wait: Span(Duration::from_secs(60)),
            log: Log::default(),
            http: Http::default(),
            servers: Servers::default(),
        }
    }
}

impl Store {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("read {name}: {error}; name another file")))?;
        let store: Self = toml::from_str(&text)
            .map_err(|error| Failure::Usage(place::explain(&name, &text, &error)))?;
        store
            .check()
            .map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
        Ok(store)
    }

    fn check(&self) -> Result<(), String> {
        self.servers.check()?;
        for (key, name) in [("stream", &self.stream), ("consumer", &self.consumer)] {
            if !is_name(name) {
                return Err(format!(
                    "{key} = {name:?} is no name; use letters, digits, - and _"
                ));
            }
        }
        if self.directory.as_os_str().is_empty() {
            return Err("directory is empty: name a directory".to_owned());
        }
        if self.rotate_interval.0.is_zero() || self.rotate_bytes.0 == 0 {
            return Err(
                "rotate_interval or rotate_bytes is 0; use a time such as 5m, a size such as 256MiB"
                    .to_owned(),
            );
        }
        if self.ack_wait.0 < Duration::from_secs(1) {
            return Err("ack_wait: use a time of at least 1s, such as 60s".to_owned());
        }
        let problems = check::secrets_problems("servers", &self.servers);
        match problems.first() {
            Some(problem) => Err(problem.clone()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Store;

    #[test]
    fn the_sample_has_the_defaults() {
        let sample = include_str!("../../nlringd-store.toml");
        let store: Store = toml::from_str(sample).expect("it can be read");
        assert_eq!(store, Store::default());
    }
}
