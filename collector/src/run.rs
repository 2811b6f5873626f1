//! `nlringd run`: from the configuration to the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

use nlring::{StopHandle, Timestamp};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use crate::args::RunArguments;
use crate::config::{self, Config, Listen};
use crate::failure::{Failure, Result};
use crate::host::{Pulses, give_up_capabilities, service};
use crate::http::Server;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::output::files::Files;
use crate::output::ipfix::Ipfix;
use crate::output::nats::Nats;
use crate::output::syslog::Syslog;
use crate::output::{Output, Pump};
use crate::receive::Receiver;
use crate::record::Record;
use crate::record::recording::Recording;
use crate::reload::{LiveParts, Reload};
use crate::spool::{Cursor, Found, Keeper, Removal, Syncs, Writer};

/// How many batches wait between the receive thread and the spool.
const QUEUE_BATCHES: usize = 4;

/// Runs the collector until a signal ends it.
pub fn run(arguments: &RunArguments) -> Result<()> {
    let config = match &arguments.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if arguments.check_config {
        return check(&config);
    }
    let log = Log::begin(&config.log);
    let shared = Shared::new(&config);
    let (sender, queue) = mpsc::sync_channel(QUEUE_BATCHES);
    let receiver = open_receiver(&config, sender, &shared)?;
    let server = Server::configured(&config.http, Listen::DEFAULT)?;
    // Before the directories are opened, so that missing permissions show now, and not at night.
    if let Err(error) = give_up_capabilities(!config.namespaces.is_empty()) {
        warn!("this process keeps capabilities that it does not need: {error}");
    }
    let outputs = open_outputs(&config, &shared.parts)?;
    let (mut keeper, found) = open_spool(&config, &outputs, &shared)?;
    let reload = Reload {
        path: arguments.config.clone(),
        config: config.clone(),
        parts: shared.parts.clone(),
        log,
        metrics: shared.metrics.clone(),
    };
    handle_signals(reload, receiver.stop_handle(), keeper.is_ending.clone())?;
    keeper.begin(found.missing(Timestamp::now()))?;
    let mut threads = start_outputs(&config, outputs, &keeper, &shared)?;
    threads.push(start("spool", move || keeper.run(&queue))?);
    if let Some(server) = server {
        start("http", move || server.run(shared.metrics))?;
    }
    service::begin(&shared.pulses)?;
    info!("recording as {}", config.summary());
    let outcome = receiver.run();
    info!("stopping");
    service::end();
    join(threads, outcome)
}

/// What the threads share.
struct Shared {
    parts: LiveParts,
    pulses: Pulses,
    metrics: Metrics,
}

impl Shared {
    fn new(config: &Config) -> Self {
        let pulses = Pulses::default();
        let metrics = Metrics::new(pulses.clone());
        metrics.note_spool_limit(config.spool.max_bytes.0);
        Self {
            parts: LiveParts::new(config),
            pulses,
            metrics,
        }
    }
}

/// Says what is wrong with the configuration, or else what nlringd would do.
fn check(config: &Config) -> Result<()> {
    let problems = config::problems(config);
    if !problems.is_empty() {
        return Err(Failure::Usage(problems.join("\nnlringd: ")));
    }
    println!("{}", config.summary());
    Ok(())
}

/// The outputs, each with its place in the spool.
fn open_outputs(config: &Config, parts: &LiveParts) -> Result<Vec<(Box<dyn Output>, Cursor)>> {
    let (node, directory) = (&config.node, &config.spool.directory);
    let open_cursor = |name: &str| Cursor::open(directory, name);
    let mut outputs: Vec<(Box<dyn Output>, Cursor)> = Vec::new();
    for live in &parts.files {
        let cursor = open_cursor(&live.get().name)?;
        let files = Files::new(node, live.clone());
        if cursor.saved().is_none() {
            files.create_directory()?;
        }
        outputs.push((Box::new(files), cursor));
    }
    for syslog in &config.syslog {
        let output = Syslog::new(&config.node, syslog);
        outputs.push((Box::new(output), open_cursor(&syslog.name)?));
    }
    for ipfix in &config.ipfix {
        outputs.push((Box::new(Ipfix::new(ipfix)), open_cursor(&ipfix.name)?));
    }
    for config in &config.nats {
        let cursor = open_cursor(&config.name)?;
        let nats = Nats::new(node, config.clone(), directory.clone())?;
        outputs.push((Box::new(nats), cursor));
    }
    Ok(outputs)
}

/// The last segment that any output has read.
fn taken(outputs: &[(Box<dyn Output>, Cursor)]) -> u64 {
    let mut taken = 0;
    for (output, cursor) in outputs {
        let saved = cursor.saved().map(|saved| saved.position);
        let newest = output.newest().unwrap_or_else(|failure| {
            warn!("{failure}");
            None
        });
        taken = taken.max(saved.max(newest).map_or(0, |position| position.segment));
    }
    taken
}

/// The time before which every output has all records. A power loss may have destroyed the records after that in the
/// spool.
fn covered(outputs: &[(Box<dyn Output>, Cursor)]) -> Option<Timestamp> {
    let saved = outputs.iter().filter_map(|(_, cursor)| cursor.saved());
    saved.filter_map(|saved| saved.covered).min()
}

/// Opens the sockets.
fn open_receiver(
    config: &Config,
    queue: SyncSender<Vec<Record>>,
    shared: &Shared,
) -> Result<Receiver> {
    let flush_interval = shared.parts.flush_interval.clone();
    let pulse = shared.pulses.receive.clone();
    Receiver::open(config, flush_interval, queue, pulse, shared.metrics.clone())
}

/// Opens the spool after everything that the outputs have read. Also returns what the previous run left in it.
fn open_spool(
    config: &Config,
    outputs: &[(Box<dyn Output>, Cursor)],
    shared: &Shared,
) -> Result<(Keeper, Found)> {
    let live = &shared.parts.spool;
    let recording = Recording::new(config);
    let syncs = Syncs::start(shared.pulses.sync.clone(), shared.metrics.clone())?;
    let (writer, found) = Writer::open(live.clone(), recording.clone(), taken(outputs), syncs)?;
    let found = found.or_of_outputs(covered(outputs), &recording);
    let cursors = outputs.iter().map(|(_, cursor)| cursor.segment());
    let keeper = Keeper {
        writer,
        removal: Removal::new(live.clone(), cursors.collect()),
        namespaces: config.namespaces.clone(),
        is_ending: Arc::default(),
        pulse: shared.pulses.spool.clone(),
        metrics: shared.metrics.clone(),
    };
    Ok((keeper, found))
}

/// Starts a thread for each output. It ends when the spool is closed and the output has read all of it.
fn start_outputs(
    config: &Config,
    outputs: Vec<(Box<dyn Output>, Cursor)>,
    keeper: &Keeper,
    shared: &Shared,
) -> Result<Vec<Thread>> {
    let start_output = |(output, cursor)| {
        let directory = config.spool.directory.clone();
        let (tail, metrics) = (keeper.writer.tail(), shared.metrics.clone());
        let pump = Pump::new(output, cursor, directory, tail, metrics);
        start("output", move || pump.run())
    };
    outputs.into_iter().map(start_output).collect()
}

/// Waits for the threads. The first failure is the outcome.
fn join(threads: Vec<Thread>, outcome: Result<()>) -> Result<()> {
    threads.into_iter().fold(outcome, |outcome, thread| {
        let panicked = |_| Err(Failure::Other("a thread has panicked".to_owned()));
        outcome.and(thread.join().unwrap_or_else(panicked))
    })
}

type Thread = JoinHandle<Result<()>>;

fn start(name: &str, work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Thread> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|error| Failure::Other(format!("start a thread: {error}")))
}

/// SIGTERM and SIGINT end the receiver, and then everything after it. SIGHUP reloads the configuration.
fn handle_signals(mut reload: Reload, stop: StopHandle, is_ending: Arc<AtomicBool>) -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
        .map_err(|error| Failure::Other(format!("handle signals: {error}")))?;
    start("signals", move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                reload.run();
                continue;
            }
            is_ending.store(true, Ordering::Relaxed);
            stop.stop();
            break;
        }
        Ok(())
    })?;
    Ok(())
}
