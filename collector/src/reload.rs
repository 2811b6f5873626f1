//! Reads the configuration again while nlringd runs (SIGHUP).

use std::path::{Path, PathBuf};

use tracing::{error, info, warn};

use crate::config::{self, Config, Live, Span};
use crate::failure::{Failure, Result};
use crate::host::service;
use crate::log::Log;
use crate::metrics::Metrics;

/// The parts of the configuration that a reload can change. The threads that use them have clones.
#[derive(Clone)]
pub struct LiveParts {
    pub flush_interval: Live<Span>,
    pub spool: Live<config::Spool>,
    /// In the order of the configuration.
    pub files: Vec<Live<config::Files>>,
}

impl LiveParts {
    pub fn new(config: &Config) -> Self {
        Self {
            flush_interval: Live::new(config.flush_interval),
            spool: Live::new(config.spool.clone()),
            files: config.files.iter().cloned().map(Live::new).collect(),
        }
    }
}

/// Reloads the configuration.
pub struct Reload {
    pub path: Option<PathBuf>,
    /// What nlringd does now.
    pub config: Config,
    pub parts: LiveParts,
    pub log: Log,
    pub metrics: Metrics,
}

impl Reload {
    /// Reads the configuration, and applies what can be changed. A configuration with an error changes nothing.
    pub fn run(&mut self) {
        let Some(path) = self.path.clone() else {
            warn!("there is no configuration to reload: nlringd was started without --config");
            return;
        };
        service::reloading();
        match read(&path) {
            Ok(new) => {
                self.metrics.note_reload(true);
                self.apply(&new);
            }
            Err(failure) => {
                self.metrics.note_reload(false);
                error!("nothing is reloaded, and nlringd goes on as before: {failure}");
            }
        }
        service::ready();
    }

    fn apply(&mut self, new: &Config) {
        let changes = changes(&self.config, new);
        for Change { key, is_live } in &changes {
            if *is_live {
                info!("{key} has changed");
            } else {
                warn!("{key} has changed, which needs a restart: until then the old value applies");
            }
        }
        self.adopt(new);
        if changes.is_empty() {
            info!("the configuration is reloaded: nothing has changed");
        } else {
            info!("the configuration is reloaded");
        }
    }

    /// Applies what can be changed.
    fn adopt(&mut self, new: &Config) {
        let config = &mut self.config;
        config.flush_interval = new.flush_interval;
        config.log.level = new.log.level;
        config.spool = config::Spool {
            directory: config.spool.directory.clone(),
            ..new.spool.clone()
        };
        self.log.set_level(config.log.level);
        self.metrics.note_spool_limit(config.spool.max_bytes.0);
        self.parts.flush_interval.set(config.flush_interval);
        self.parts.spool.set(config.spool.clone());
        for (files, live) in config.files.iter_mut().zip(&self.parts.files) {
            let Some(new) = new.files.iter().find(|new| new.name == files.name) else {
                continue;
            };
            *files = config::Files {
                directory: files.directory.clone(),
                format: files.format,
                compression: files.compression,
                ..new.clone()
            };
            live.set(files.clone());
        }
    }
}

/// Reads a configuration that nlringd could start with.
fn read(path: &Path) -> Result<Config> {
    let config = Config::read(path)?;
    let problems = config::problems(&config);
    if problems.is_empty() {
        return Ok(config);
    }
    Err(Failure::Usage(problems.join("; ")))
}

/// A key whose value differs.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    key: String,
    /// It can be changed while nlringd runs.
    is_live: bool,
}

/// The keys that differ. There is no `..` here, so that the compiler reports a new key.
fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let Config {
        node,
        records,
        routes,
        namespaces,
        filter,
        recv_buffer,
        flush_interval,
        open_interval,
        log,
        http,
        spool,
        files,
        syslog,
        ipfix,
        nats,
    } = old;
    let config::Log { format, level } = log;
    let config::Spool {
        directory,
        segment,
        sync,
        max_bytes,
        max_age,
    } = spool;
    let mut changes = differing(
        "",
        [
            ("node", *node != new.node, false),
            ("records", *records != new.records, false),
            ("routes", *routes != new.routes, false),
            ("namespaces", *namespaces != new.namespaces, false),
            ("filter", *filter != new.filter, false),
            ("recv_buffer", *recv_buffer != new.recv_buffer, false),
            (
                "flush_interval",
                *flush_interval != new.flush_interval,
                true,
            ),
            ("open_interval", *open_interval != new.open_interval, false),
            ("log.format", *format != new.log.format, false),
            ("log.level", *level != new.log.level, true),
            ("http.address", *http != new.http, false),
            ("spool.directory", *directory != new.spool.directory, false),
            ("spool.segment", *segment != new.spool.segment, true),
            ("spool.sync", *sync != new.spool.sync, true),
            ("spool.max_bytes", *max_bytes != new.spool.max_bytes, true),
            ("spool.max_age", *max_age != new.spool.max_age, true),
        ],
    );
    changes.extend(changes_of_outputs(
        "files",
        files,
        &new.files,
        changes_of_files,
    ));
    changes.extend(changes_of_outputs(
        "syslog",
        syslog,
        &new.syslog,
        whole_change,
    ));
    changes.extend(changes_of_outputs("ipfix", ipfix, &new.ipfix, whole_change));
    changes.extend(changes_of_outputs("nats", nats, &new.nats, whole_change));
    changes
}

/// What differs between the outputs of one kind: `changes_of_one` compares two of the same name.
fn changes_of_outputs<T: config::Output>(
    table: &str,
    old: &[T],
    new: &[T],
    changes_of_one: impl Fn(&str, &T, &T) -> Vec<Change>,
) -> Vec<Change> {
    let of_output = |output: &T| format!("[[{table}]] {:?}", output.name());
    let other = |of: String| Change {
        key: of,
        is_live: false,
    };
    let find = |name: &str, outputs: &'_ [T]| outputs.iter().position(|it| it.name() == name);
    let mut changes = Vec::new();
    for output in old {
        let of = of_output(output);
        match find(output.name(), new) {
            Some(place) => changes.extend(changes_of_one(&of, output, &new[place])),
            None => changes.push(other(of)),
        }
    }
    let added = new.iter().filter(|it| find(it.name(), old).is_none());
    changes.extend(added.map(|output| other(of_output(output))));
    changes
}

/// An output of which nothing can be changed while nlringd runs.
fn whole_change<T: PartialEq>(of: &str, old: &T, new: &T) -> Vec<Change> {
    differing("", [(of, old != new, false)])
}

fn changes_of_files(of: &str, old: &config::Files, new: &config::Files) -> Vec<Change> {
    let config::Files {
        name: _,
        directory,
        format,
        compression,
        rotate_interval,
        rotate_bytes,
        max_age,
        max_bytes,
    } = old;
    differing(
        &format!("{of} "),
        [
            ("directory", *directory != new.directory, false),
            ("format", *format != new.format, false),
            ("compression", *compression != new.compression, false),
            (
                "rotate_interval",
                *rotate_interval != new.rotate_interval,
                true,
            ),
            ("rotate_bytes", *rotate_bytes != new.rotate_bytes, true),
            ("max_age", *max_age != new.max_age, true),
            ("max_bytes", *max_bytes != new.max_bytes, true),
        ],
    )
}

/// The keys that differ, of (key, whether it differs, whether it can be changed).
fn differing<const N: usize>(of: &str, keys: [(&str, bool, bool); N]) -> Vec<Change> {
    let differing = keys.into_iter().filter(|(_, differs, _)| *differs);
    let change = |(key, _, is_live)| Change {
        key: format!("{of}{key}"),
        is_live,
    };
    differing.map(change).collect()
}
