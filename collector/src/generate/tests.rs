//! What made-up records cost.

#![allow(clippy::cast_precision_loss, reason = "few bytes and few records")]

use std::fs;
use std::path::Path;

use arrow_array::RecordBatch;
use nlring::conntrack::{ProtocolState, tcp_state};
use nlring::{EventKind, Timestamp};

use super::traffic::Traffic;
use crate::config::{self, Body as Format, Config, Live};
use crate::output::files::parquet::ParquetFile;
use crate::output::nats::encode::Encoder;
use crate::receive::BATCH_RECORDS;
use crate::record::about::About;
use crate::record::columns::Columns;
use crate::record::recording::Recording;
use crate::record::{Body, FlowBody, Record};
use crate::spool::{Syncs, Writer};

/// Turns the record of an ended flow into that of an open one.
fn open(record: Record) -> Record {
    let Body::Flow(flow) = record.body else {
        panic!("a record of a flow");
    };
    let is_tcp = flow.state.is_some();
    let state = is_tcp.then_some(ProtocolState::Tcp(tcp_state::ESTABLISHED));
    let flow = FlowBody {
        kind: EventKind::Entry,
        state,
        timeout_seconds: Some(if is_tcp { 432_000 } else { 120 }),
        stop: None,
        ended_between: None,
        ..flow
    };
    Record {
        body: Body::Open(flow),
        ..record
    }
}

/// Writes made-up records to a spool in batches of this size, with this percentage of open flows. Returns the bytes per
/// record.
fn spool_bytes(batch_records: usize, open_percent: usize) -> f64 {
    let directory = std::env::temp_dir().join(format!(
        "nlringd-spool-{}-{batch_records}-{open_percent}",
        std::process::id()
    ));
    let config = config::Spool {
        directory: directory.clone(),
        ..config::Spool::default()
    };
    let recording = Recording::new(&Config::default());
    let (mut writer, _) =
        Writer::open(Live::new(config), recording, 0, Syncs::of_test()).expect("a spool");
    let begin = Timestamp::from_ns(1_700_000_000_000_000_000);
    let mut traffic = Traffic::new(1, begin, 5000.0);
    let mut columns = Columns::default();
    let batch_count = 100_000 / batch_records;
    for _ in 0..batch_count {
        for number in 0..batch_records {
            let mut record = traffic.next_flow();
            // They are recorded together, when records are handed over.
            if number < batch_records * open_percent / 100 {
                record = open(record);
            }
            columns.push(&record, &[]);
        }
        writer.append(&columns.take()).expect("a batch");
    }
    writer.close();
    let bytes = bytes_below(&directory);
    fs::remove_dir_all(&directory).expect("it is removed");
    bytes as f64 / (batch_count * batch_records) as f64
}

fn bytes_below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("a directory");
    let length = |entry: fs::DirEntry| entry.metadata().expect("metadata").len();
    entries.map(|entry| length(entry.expect("an entry"))).sum()
}

#[test]
fn the_spool_takes_at_most_40_bytes_per_record() {
    for open_percent in [0, 10, 100] {
        let bytes = spool_bytes(BATCH_RECORDS, open_percent);
        println!("{bytes:.2} bytes per record, {open_percent} % of them open");
        assert!(bytes <= 40.0, "{bytes} bytes per record in full batches");
    }
    let bytes = spool_bytes(1000, 10);
    println!("{bytes:.2} bytes per record in batches of 1000");
    let bytes = spool_bytes(100, 0);
    println!("{bytes:.2} bytes per record in batches of 100");
    assert!(bytes <= 62.0, "{bytes} bytes per record in batches of 100");
}

/// A batch of made-up records of flows.
fn batch(traffic: &mut Traffic, records: usize) -> RecordBatch {
    let mut columns = Columns::default();
    for _ in 0..records {
        columns.push(&traffic.next_flow(), &[]);
    }
    columns.take()
}

fn traffic() -> Traffic {
    let begin = Timestamp::from_ns(1_700_000_000_000_000_000);
    Traffic::new(1, begin, 25_000.0)
}

/// The bytes per record in the bodies of messages with this many records each.
fn message_bytes(batch_records: usize) -> f64 {
    let mut encoder = Encoder::new(Format::Arrow);
    let mut traffic = traffic();
    let batch_count = 100_000 / batch_records;
    let mut bytes = 0;
    for _ in 0..batch_count {
        let batch = batch(&mut traffic, batch_records);
        let messages = encoder.encode(&batch, usize::MAX).expect("messages");
        bytes += messages
            .iter()
            .map(|message| message.body.len())
            .sum::<usize>();
    }
    bytes as f64 / (batch_count * batch_records) as f64
}

/// The bytes per record in a Parquet file with this many records.
fn parquet_bytes(records: usize) -> f64 {
    let path =
        std::env::temp_dir().join(format!("nlringd-parquet-{}-{records}", std::process::id()));
    let file = fs::File::create(&path).expect("a file");
    let mut parquet = ParquetFile::new(file).expect("a Parquet file");
    let mut traffic = traffic();
    for _ in 0..records / 1000 {
        parquet.write(&batch(&mut traffic, 1000)).expect("records");
    }
    parquet.finish(&About::default()).expect("a complete file");
    let bytes = fs::metadata(&path).expect("metadata").len();
    fs::remove_file(&path).expect("it is removed");
    bytes as f64 / records as f64
}

#[test]
fn a_message_takes_at_most_40_bytes_per_record_and_a_file_25() {
    for records in [BATCH_RECORDS, 1000, 100] {
        let bytes = message_bytes(records);
        println!("{bytes:.1} bytes per record in messages of {records}");
        assert!(records < BATCH_RECORDS || bytes <= 40.0);
    }
    for records in [10_000, 100_000, 1_000_000] {
        let bytes = parquet_bytes(records);
        println!("{bytes:.1} bytes per record in a file of {records}");
        assert!(records < 1_000_000 || bytes <= 25.0);
    }
}
