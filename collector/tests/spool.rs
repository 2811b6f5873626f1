//! A damaged spool: a loss record reports what is missing, and the rest is there.

mod support;

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nlring_testing::{await_that, must, own_names, own_namespace};

use support::{Collector, Contents, files, make_flows, report_all_flows, scratch};

/// A configuration whose files take this long, so that the spool has records that are in no file.
fn config(directory: &Path, interval: &str) -> String {
    let place = directory.display();
    format!(
        "node = \"gw\"\nflush_interval = \"20ms\"\n\
         [spool]\ndirectory = \"{place}/spool\"\nsegment = \"16KiB\"\n\
         [[files]]\ndirectory = \"{place}/files\"\nrotate_interval = \"{interval}\"\n"
    )
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    files(&directory.join("spool"), ".arrows.zst")
}

/// Starts nlringd and waits until it records.
fn start(directory: &Path, interval: &str) -> Collector {
    let path = directory.join("log");
    let begun = fs::read(&path).map_or(0, |log| log.len());
    let collector = Collector::start(directory, &config(directory, interval));
    await_that("it records", || {
        collector.log()[begun..].contains("recording")
    });
    collector
}

#[test]
fn a_torn_batch_is_cut_off_reported_and_a_loss() {
    own_namespace();
    report_all_flows();
    let directory = scratch("torn");
    let collector = start(&directory, "1h");
    let mut made = make_flows(0, |number| number < 2000);
    await_that("it is in the spool", || segments(&directory).len() > 2);
    collector.kill();
    let last = segments(&directory).pop().expect("a segment");
    let file = File::options().write(true).open(&last).expect("a segment");
    let bytes = file.metadata().expect("metadata").len();
    file.set_len(bytes.saturating_sub(10)).expect("it is torn");
    let collector = start(&directory, "1h");
    made.extend(make_flows(2000, |number| number < 3000));
    if bytes > 10 {
        collector.await_log("are cut off");
    }
    collector.end();
    let contents = Contents::read(&directory.join("files"));
    contents.assert_accounts_for(&made);
    assert!(contents.flows.len() >= 2000, "the rest is there");
}

#[test]
fn a_damaged_segment_is_reported_and_a_loss() {
    own_namespace();
    report_all_flows();
    let directory = scratch("damaged");
    let collector = start(&directory, "1h");
    let mut made = make_flows(0, |_| segments(&directory).len() < 6);
    collector.kill();
    let damaged = &segments(&directory)[2];
    let mut file = File::options()
        .write(true)
        .open(damaged)
        .expect("a segment");
    let bytes = file.metadata().expect("metadata").len();
    file.seek(SeekFrom::Start(bytes / 2)).expect("its middle");
    file.write_all(&[0x55; 64]).expect("damage");
    let collector = start(&directory, "1h");
    let next = u32::try_from(made.len()).expect("few");
    made.extend(make_flows(next, |number| number < next + 1000));
    collector.await_log("is damaged after batch");
    collector.end();
    let contents = Contents::read(&directory.join("files"));
    let missing_count = contents.assert_accounts_for(&made);
    assert!(
        missing_count > 0 && missing_count < made.len() / 2,
        "{missing_count}"
    );
}

#[test]
fn segments_that_a_power_loss_took_are_not_confused_with_later_ones() {
    own_namespace();
    report_all_flows();
    let directory = scratch("power");
    let collector = start(&directory, "1s");
    let mut made = make_flows(0, |_| files(&directory.join("files"), ".parquet").len() < 2);
    collector.kill();
    for path in segments(&directory) {
        fs::remove_file(path).expect("it was not synced");
    }
    let collector = start(&directory, "1s");
    let first = u32::try_from(made.len()).expect("few");
    let later = make_flows(first, |number| number < first + 1000);
    collector.end();
    let contents = Contents::read(&directory.join("files"));
    let later_count = contents
        .flows
        .iter()
        .filter(|number| **number >= first)
        .count();
    assert_eq!(
        later_count,
        later.len(),
        "what was made afterwards is recorded"
    );
    made.extend(later);
    let mut flows = contents.flows.clone();
    flows.sort_unstable();
    assert!(
        flows.windows(2).all(|pair| pair[0] < pair[1]),
        "none is there twice"
    );
}

#[test]
fn a_full_spool_delays_the_end_by_10_s_and_what_is_missing_is_a_loss() {
    own_namespace();
    own_names();
    report_all_flows();
    let directory = scratch("full-end");
    fs::create_dir_all(directory.join("spool")).expect("a directory");
    let place = directory.join("spool");
    must(&format!(
        "mount -t tmpfs -o size=1m tmpfs {}",
        place.display()
    ));
    let mut collector = start(&directory, "1s");
    let mut made = make_flows(0, |number| number < 500);
    let _ = fs::write(place.join("ballast"), vec![0; 2 << 20]);
    made.extend(make_flows(500, |_| {
        !collector.log().contains("tried again")
    }));
    let begun = Instant::now();
    assert!(!collector.stop(), "it says that it could not write all");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    fs::remove_file(place.join("ballast")).expect("room");
    let collector = start(&directory, "1s");
    let next = u32::try_from(made.len()).expect("few");
    made.extend(make_flows(next, |number| number < next + 500));
    collector.end();
    Contents::read(&directory.join("files")).assert_accounts_for(&made);
}
