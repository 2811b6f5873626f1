//! What made-up records cost.

#![allow(clippy::cast_precision_loss, reason = "few bytes and few records")]

use std::fs;
use std::path::Path;

use nlring::Timestamp;

use super::traffic::Traffic;
use crate::config::{self, Config, Live};
use crate::receive::BATCH_RECORDS;
use crate::record::columns::Columns;
use crate::record::recording::Recording;
use crate::spool::Writer;

/// Writes made-up records to a spool in batches of this size. How many bytes it has per record.
fn spool_bytes(batch_records: usize) -> f64 {
    let directory = std::env::temp_dir().join(format!(
        "nlringd-spool-{}-{batch_records}",
        std::process::id()
    ));
    let config = config::Spool {
        directory: directory.clone(),
        ..config::Spool::default()
    };
    let recording = Recording::new(&Config::default());
    let (mut writer, _) = Writer::open(Live::new(config), recording, 0).expect("a spool");
    let begin = Timestamp::from_ns(1_700_000_000_000_000_000);
    let mut traffic = Traffic::new(1, begin, 5000.0);
    let mut columns = Columns::default();
    let batch_count = 100_000 / batch_records;
    for _ in 0..batch_count {
        for _ in 0..batch_records {
            columns.push(&traffic.next_flow(), &[]);
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
    let bytes = spool_bytes(BATCH_RECORDS);
    println!("{bytes:.2} bytes per record");
    assert!(bytes <= 40.0, "{bytes} bytes per record in full batches");
    let bytes = spool_bytes(100);
    println!("{bytes:.2} bytes per record in batches of 100");
    assert!(bytes <= 62.0, "{bytes} bytes per record in batches of 100");
}
