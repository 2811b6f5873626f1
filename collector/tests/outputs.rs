//! Outputs and the spool in bad conditions: a full disk, a missing directory, a spool beyond its limits.

mod support;

use std::fs;
use std::io::Read as _;
use std::path::Path;

use nlring_testing::{await_that, must, own_names, own_namespace};

use support::{Collector, Contents, files, make_flows, report_all_flows, scratch};

/// A configuration with these lines for the spool, and these outputs.
fn config(directory: &Path, spool: &str, outputs: &str) -> String {
    let place = directory.display();
    format!(
        "node = \"gw\"\nflush_interval = \"20ms\"\n\
         [spool]\ndirectory = \"{place}/spool\"\n{spool}\n{outputs}\n"
    )
}

/// An output to files below this directory, with these lines.
fn output(directory: &Path, name: &str, lines: &str) -> String {
    let place = directory.display();
    format!(
        "[[files]]\nname = \"{name}\"\ndirectory = \"{place}/{name}\"\nrotate_interval = \"1s\"\n{lines}\n"
    )
}

fn mount_small(directory: &Path, bytes: &str) {
    fs::create_dir_all(directory).expect("a directory");
    must(&format!(
        "mount -t tmpfs -o size={bytes} tmpfs {}",
        directory.display()
    ));
}

#[test]
fn each_format_has_the_same_flows() {
    own_namespace();
    report_all_flows();
    let directory = scratch("formats");
    let text = |name: &str, format: &str, compression: &str| {
        let lines = format!("format = \"{format}\"\ncompression = \"{compression}\"");
        output(&directory, name, &lines)
    };
    let outputs = [
        output(&directory, "parquet", ""),
        text("json", "json", "none"),
        text("json-zstd", "json", "zstd"),
        text("csv", "csv", "none"),
        text("csv-zstd", "csv", "zstd"),
    ];
    let collector = Collector::start(&directory, &config(&directory, "", &outputs.concat()));
    collector.await_log("recording");
    let made = make_flows(0, |number| number < 3000);
    collector.end();
    let contents = Contents::read(&directory.join("parquet"));
    assert_eq!(contents.assert_accounts_for(&made), 0);
    let read = |name: &str, end: &str| {
        let mut text = String::new();
        for path in files(&directory.join(name), end) {
            let file = fs::File::open(&path).expect("a file");
            let count = if name.ends_with("-zstd") {
                let mut decoder = zstd::stream::read::Decoder::new(file).expect("a decoder");
                decoder.read_to_string(&mut text)
            } else {
                let mut file = file;
                file.read_to_string(&mut text)
            };
            count.expect("text");
        }
        text
    };
    let json = read("json", ".jsonl");
    let sources = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        (value["record"] == "flow").then(|| value["orig_src"].as_str().map(str::to_owned))
    };
    assert_eq!(
        json.lines().filter_map(sources).flatten().count(),
        made.len()
    );
    assert_eq!(
        read("json-zstd", ".jsonl.zst").lines().count(),
        json.lines().count()
    );
    let csv = read("csv", ".csv");
    let flows = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("flow,"))
            .count()
    };
    assert_eq!(flows(&csv), made.len());
    assert!(csv.starts_with("record,time_ns,"), "{}", &csv[..40]);
    assert_eq!(flows(&read("csv-zstd", ".csv.zst")), made.len());
}

#[test]
fn a_spool_on_a_full_disk_goes_on_when_there_is_room() {
    own_namespace();
    own_names();
    report_all_flows();
    let directory = scratch("full-spool");
    mount_small(&directory.join("spool"), "2m");
    let outputs = output(&directory, "files", "");
    let spool = "segment = \"64KiB\"";
    let collector = Collector::start(&directory, &config(&directory, spool, &outputs));
    collector.await_log("recording");
    let mut made = make_flows(0, |number| number < 1000);
    let ballast = directory.join("spool/ballast");
    // This takes all the room: the write ends with an error.
    let _ = fs::write(&ballast, vec![0; 4 << 20]);
    let next = u32::try_from(made.len()).expect("few");
    made.extend(make_flows(next, |_| {
        !collector.log().contains("tried again")
    }));
    let next = u32::try_from(made.len()).expect("few");
    made.extend(make_flows(next, |number| number < next + 1000));
    fs::remove_file(&ballast).expect("room");
    collector.await_log("the spool is written again");
    collector.end();
    let contents = Contents::read(&directory.join("files"));
    contents.assert_accounts_for(&made);
    contents.assert_joined();
}

#[test]
fn an_output_on_a_full_disk_stops_no_other_and_goes_on_when_there_is_room() {
    own_namespace();
    own_names();
    report_all_flows();
    let directory = scratch("full-output");
    mount_small(&directory.join("small"), "1m");
    let outputs = output(&directory, "small", "") + &output(&directory, "large", "");
    let collector = Collector::start(&directory, &config(&directory, "", &outputs));
    collector.await_log("recording");
    let ballast = directory.join("small/ballast");
    let _ = fs::write(&ballast, vec![0; 4 << 20]);
    let made = make_flows(0, |_| !collector.log().contains("tried again"));
    let large = directory.join("large");
    let count = files(&large, ".parquet").len();
    await_that("the other output goes on", || {
        files(&large, ".parquet").len() > count
    });
    fs::remove_file(&ballast).expect("room");
    collector.await_log("the output goes on");
    collector.end();
    for name in ["small", "large"] {
        let contents = Contents::read(&directory.join(name));
        assert_eq!(contents.assert_accounts_for(&made), 0, "{name}");
        contents.assert_joined();
    }
}

#[test]
fn an_output_whose_directory_is_away_goes_on_when_it_is_back() {
    own_namespace();
    report_all_flows();
    let directory = scratch("away");
    let outputs = output(&directory, "files", "");
    let collector = Collector::start(&directory, &config(&directory, "", &outputs));
    collector.await_log("recording");
    let mut made = make_flows(0, |number| number < 500);
    let (here, away) = (directory.join("files"), directory.join("away"));
    await_that("a file", || !files(&here, ".parquet").is_empty());
    fs::rename(&here, &away).expect("it is away");
    made.extend(make_flows(500, |_| {
        !collector.log().contains("tried again")
    }));
    fs::rename(&away, &here).expect("it is back");
    collector.await_log("the output goes on");
    collector.end();
    let contents = Contents::read(&here);
    assert_eq!(contents.assert_accounts_for(&made), 0);
    contents.assert_joined();
}

#[test]
fn what_the_spool_removes_unread_is_counted_as_a_loss_of_that_output() {
    own_namespace();
    report_all_flows();
    let directory = scratch("limits");
    let outputs = output(&directory, "files", "") + &output(&directory, "other", "");
    let spool = "segment = \"32KiB\"\nmax_bytes = \"128KiB\"";
    let collector = Collector::start(&directory, &config(&directory, spool, &outputs));
    collector.await_log("recording");
    let here = directory.join("files");
    let away = directory.join("away");
    fs::rename(&here, &away).expect("it is away");
    let mut made = make_flows(0, |_| !collector.log().contains("beyond its limits"));
    let next = u32::try_from(made.len()).expect("few");
    made.extend(make_flows(next, |number| number < next + 1000));
    fs::rename(&away, &here).expect("it is back");
    collector.await_log("the output goes on");
    collector.end();
    let contents = Contents::read(&here);
    let missing_count = contents.assert_accounts_for(&made);
    let lost = contents.losses.iter().filter(|loss| loss.reason == "spool");
    let lost_count: u64 = lost.filter_map(|loss| loss.count).sum();
    assert!(missing_count > 0, "the output has missed segments");
    assert_eq!(lost_count, missing_count as u64, "the loss is counted");
    let other = Contents::read(&directory.join("other"));
    assert_eq!(
        other.assert_accounts_for(&made),
        0,
        "the other output has all"
    );
    let spool = files(&directory.join("spool"), ".zst");
    assert!(
        spool.len() <= 6,
        "segments that all have read are removed: {spool:?}"
    );
}

#[test]
fn old_files_are_removed_and_foreign_ones_stay() {
    own_namespace();
    report_all_flows();
    let directory = scratch("retention");
    let outputs = output(&directory, "files", "max_bytes = \"40KiB\"");
    let records = directory.join("files");
    fs::create_dir_all(&records).expect("a directory");
    let foreign = [
        "report.parquet",
        "other.20200101T000000Z.000000000001-000001.parquet",
        "gw.20200101T000000Z.1-1.parquet",
        "gw.20200101T000000Z.000000000001-000001.parquet.bak",
    ];
    for name in foreign {
        fs::write(records.join(name), vec![0; 50_000]).expect("a foreign file");
    }
    let collector = Collector::start(&directory, &config(&directory, "", &outputs));
    collector.await_log("recording");
    make_flows(0, |_| !collector.log().contains("is removed: it is beyond"));
    collector.end();
    for name in foreign {
        assert!(records.join(name).exists(), "{name} is not nlringd's");
    }
    let log = fs::read_to_string(directory.join("log")).expect("a log");
    let removed = log
        .lines()
        .filter(|line| line.contains("is removed: it is"));
    assert!(removed.count() >= 1, "{log}");
}
