//! `nlringd run`: from the configuration to the end.

use std::sync::mpsc::{self, Receiver as Queue};
use std::thread;

use nlring::Timestamp;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use crate::args::RunArguments;
use crate::config::Config;
use crate::failure::{Failure, Result};
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
    let directory = &config.spool.directory;
    let (mut writer, found) = Writer::open(directory, config.spool.segment.0)?;
    if found.torn_bytes > 0 {
        warn!(
            "the spool ended in the middle of a batch: {} bytes are cut off",
            found.torn_bytes
        );
    }
    let mut files = Files::open(&config.node, &config.files)?;
    let cursor = Cursor::open(directory, files.name())?;
    let begin = files.resume(cursor.position())?.unwrap_or_default();
    let pump = Pump {
        reader: Reader::new(directory.clone(), writer.tail(), begin),
        output: files,
        cursor,
    };
    let (sender, queue) = mpsc::sync_channel(QUEUE_BATCHES);
    let receiver = Receiver::open(&config, sender)?;
    let stop = receiver.stop_handle();
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::Other(format!("handle signals: {error}")))?;
    let pumping = thread::Builder::new()
        .name("files".to_owned())
        .spawn(move || pump.run())
        .map_err(|error| Failure::Other(format!("start a thread: {error}")))?;
    let namespaces = config.namespaces.clone();
    if let Some(last) = found.last {
        note_stop(&mut writer, last, &namespaces)?;
    }
    let spooling = thread::Builder::new()
        .name("spool".to_owned())
        .spawn(move || keep(writer, &queue, &namespaces))
        .map_err(|error| Failure::Other(format!("start a thread: {error}")))?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.forever().next().is_some() {
                info!("stopping");
                stop.stop();
            }
        })
        .map_err(|error| Failure::Other(format!("start a thread: {error}")))?;
    info!("recording {:?} of {}", config.records, config.node);
    let outcome = receiver.run();
    let spooled = spooling.join();
    let pumped = pumping.join();
    outcome?;
    let panicked = |name| Failure::Other(format!("the thread {name:?} has panicked"));
    spooled.map_err(|_| panicked("spool"))?;
    pumped.map_err(|_| panicked("files"))?
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
fn keep(mut writer: Writer, queue: &Queue<Vec<Record>>, namespaces: &[String]) {
    let mut columns = Columns::default();
    for records in queue {
        for record in &records {
            columns.push(record, namespaces);
        }
        let batch = columns.take();
        while let Err(failure) = writer.append(&batch) {
            warn!("{failure}; events wait in the kernel meanwhile");
            thread::sleep(std::time::Duration::from_millis(500));
        }
    }
    writer.close();
}
