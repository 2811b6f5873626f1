//! `nlringd run`: from the configuration to the end.

use std::sync::mpsc::{self, Receiver as Queue};
use std::thread::{self, JoinHandle};

use nlring::Timestamp;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use crate::args::RunArguments;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::host::{Heartbeat, give_up_capabilities, service};
use crate::output::files::Files;
use crate::output::{Output as _, Pump};
use crate::receive::Receiver;
use crate::record::columns::Columns;
use crate::record::{Body, LossBody, LossReason, Record};
use crate::spool::{Cursor, Reader, Writer};

/// How many batches wait between the receive thread and the spool.
const QUEUE_BATCHES: usize = 8;

/// Runs the collector until a signal ends it.
pub fn run(arguments: &RunArguments) -> Result<()> {
    let config = match &arguments.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if arguments.check_config {
        return Ok(());
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let (sender, queue) = mpsc::sync_channel(QUEUE_BATCHES);
    let receiver = Receiver::open(&config, sender)?;
    // Before the directories are opened: what cannot be written without capabilities fails now, and not at night.
    if let Err(error) = give_up_capabilities() {
        warn!("this process keeps capabilities that it does not need: {error}");
    }
    let writer = open_spool(&config)?;
    let pump = open_files(&config, &writer)?;
    let heartbeat = Heartbeat::new();
    let namespaces = config.namespaces.clone();
    let stop = receiver.stop_handle();
    let beats = heartbeat.clone();
    let spooling = start("spool", move || keep(writer, &queue, &namespaces, &beats))?;
    let pumping = start("files", move || pump.run())?;
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::Other(format!("handle signals: {error}")))?;
    start("signals", move || {
        if signals.forever().next().is_some() {
            stop.stop();
        }
    })?;
    service::begin(&heartbeat)?;
    info!("recording {:?} of {}", config.records, config.node);
    let outcome = receiver.run(&heartbeat);
    info!("stopping");
    service::end();
    let panicked = |name| Failure::Other(format!("the thread {name:?} has panicked"));
    let spooled = spooling.join().map_err(|_| panicked("spool"));
    let pumped = pumping.join().map_err(|_| panicked("files"));
    outcome?;
    spooled?;
    pumped?
}

fn start<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|error| Failure::Other(format!("start a thread: {error}")))
}

/// Opens the spool, and says and records what happened to it meanwhile.
fn open_spool(config: &Config) -> Result<Writer> {
    let (mut writer, found) = Writer::open(&config.spool.directory, config.spool.segment.0)?;
    if found.torn_bytes > 0 {
        warn!(
            "the spool ended in the middle of a batch: {} bytes are cut off",
            found.torn_bytes
        );
    }
    if let Some(last) = found.last {
        note_stop(&mut writer, last, &config.namespaces)?;
    }
    Ok(writer)
}

/// Opens the output to files, where it ended.
fn open_files(config: &Config, writer: &Writer) -> Result<Pump<Files>> {
    let directory = &config.spool.directory;
    let mut files = Files::open(&config.node, &config.files)?;
    let cursor = Cursor::open(directory, files.name())?;
    let begin = files.resume(cursor.position())?.unwrap_or_default();
    Ok(Pump {
        reader: Reader::new(directory.clone(), writer.tail(), begin),
        output: files,
        cursor,
    })
}

/// Records that nlringd did not run since the last record.
fn note_stop(writer: &mut Writer, last: Timestamp, namespaces: &[String]) -> Result<()> {
    let now = Timestamp::now();
    let body = Body::Loss(LossBody {
        reason: LossReason::Stopped,
        count: None,
        since: last,
        until: now,
    });
    let mut columns = Columns::default();
    let record = Record {
        time: now,
        namespace: u16::MAX,
        body,
    };
    columns.push(&record, namespaces);
    writer.append(&columns.take())
}

/// Writes the queue's batches to the spool until the queue ends.
fn keep(
    mut writer: Writer,
    queue: &Queue<Vec<Record>>,
    namespaces: &[String],
    heartbeat: &Heartbeat,
) {
    let mut columns = Columns::default();
    for records in queue {
        for record in &records {
            columns.push(record, namespaces);
        }
        let batch = columns.take();
        while let Err(failure) = writer.append(&batch) {
            warn!("{failure}; events wait in the kernel meanwhile");
            heartbeat.beat(); // the receive thread waits for this one
            thread::sleep(std::time::Duration::from_millis(500));
        }
    }
    writer.close();
}
