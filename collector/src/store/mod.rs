//! `nlringd store`: a worker that writes the records of a stream to Parquet files, `node=NODE/date=DATE/hour=HOUR/`.
//!
//! Several workers share the messages of one durable consumer. A message is acknowledged when the files that have its
//! records are complete. Each file says which messages it has, so a message that comes again is recognised.

mod file;
mod place;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::runtime;
use tracing::{error, info, warn};

use self::worker::Worker;
use crate::args::StoreArguments;
use crate::config::{Listen, Store};
use crate::failure::{Failure, Result};
use crate::host::service;
use crate::http::Server;
use crate::log::Log;
use crate::metrics::StoreMetrics;
use crate::retry::Retry;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a pause looks whether the worker is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Stores records until a signal ends the worker. After a failure it gives up the files that are not complete, whose
/// messages come again, and goes on after a pause.
pub fn store(arguments: &StoreArguments) -> Result<()> {
    let config = match &arguments.config {
        Some(path) => Store::read(path)?,
        None => Store::default(),
    };
    if arguments.check_config {
        println!("{}", summary(&config));
        return Ok(());
    }
    Log::begin(&config.log);
    let is_ending = Arc::new(AtomicBool::new(false));
    handle_signals(is_ending.clone())?;
    let metrics = StoreMetrics::new();
    if let Some(server) = Server::configured(&config.http, Listen::DEFAULT_OF_STORE)? {
        let metrics = metrics.clone();
        start("http", move || {
            if let Err(failure) = server.run(metrics) {
                error!("{failure}");
            }
        })?;
    }
    info!("storing {}", summary(&config));
    service::ready();
    let outcome = store_until_the_end(&config, &metrics, &is_ending);
    service::end();
    outcome
}

fn store_until_the_end(
    config: &Store,
    metrics: &StoreMetrics,
    is_ending: &AtomicBool,
) -> Result<()> {
    let mut retry = Retry::new(LONGEST_PAUSE);
    while !is_ending.load(Ordering::Relaxed) {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::Other(format!("start a runtime: {error}")))?;
        let mut has_stored = false;
        let run = Worker::run(config, metrics, is_ending, &mut has_stored);
        let Err(failure) = runtime.block_on(run) else {
            return Ok(());
        };
        if has_stored {
            retry.reset();
        }
        metrics.count_error(failure.to_string());
        let pause = retry.pause();
        if retry.is_news(&failure.to_string()) {
            warn!("{failure}; the stream keeps the records, and it is tried again in {pause:?}");
        }
        rest(pause, is_ending);
    }
    Ok(())
}

fn summary(config: &Store) -> String {
    format!(
        "the stream {} of NATS at {}, as the consumer {}, in {}",
        config.stream,
        config.servers.addresses.join(", "),
        config.consumer,
        config.directory.display()
    )
}

fn rest(pause: Duration, is_ending: &AtomicBool) {
    let mut rested = Duration::ZERO;
    while rested < pause && !is_ending.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        rested += LOOK;
    }
}

fn handle_signals(is_ending: Arc<AtomicBool>) -> Result<()> {
    let signals = Signals::new([SIGINT, SIGTERM]);
    let mut signals =
        signals.map_err(|error| Failure::Other(format!("handle signals: {error}")))?;
    start("signals", move || {
        if signals.forever().next().is_some() {
            is_ending.store(true, Ordering::Relaxed);
        }
    })
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|error| Failure::Other(format!("start a thread: {error}")))?;
    Ok(())
}
