//! When files begin and end, and what never happens to them.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::config::{Compression, Format};
use crate::record::columns::Columns;
use crate::record::{Body, LossBody, LossReason, Record, Subject};

const SECOND_NS: u64 = 1_000_000_000;

/// An output of JSON lines to a directory of its own.
fn open() -> Files {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("nlringd-files-{}-{number}", std::process::id());
    let config = config::Files {
        directory: std::env::temp_dir().join(name),
        format: Format::Json,
        compression: Compression::None,
        ..config::Files::default()
    };
    let files = Files::new("gw", Live::new(config));
    files.create_directory().expect("a directory");
    files
}

/// Opens the output again, as a restart does.
fn reopen(files: &Files, saved: Acknowledged) -> Files {
    let mut files = Files::new("gw", files.live.clone());
    files.resume(saved).expect("a directory");
    files
}

/// Records at these seconds, and a mark.
fn batch(seconds: &[u64], mark: u64) -> RecordBatch {
    let at = |seconds: u64| Timestamp::from_ns(seconds * SECOND_NS);
    let mut columns = Columns::default();
    let mut push = |seconds, body| {
        let record = Record {
            time: at(seconds),
            namespace: u16::MAX,
            body,
        };
        columns.push(&record, &[]);
    };
    for &seconds in seconds {
        let body = Body::Loss(LossBody {
            subject: Some(Subject::Flows),
            reason: LossReason::Kernel,
            count: Some(1),
            since: at(seconds),
            until: at(seconds),
        });
        push(seconds, body);
    }
    push(mark, Body::Mark);
    columns.take()
}

fn behind(batch: u32) -> Position {
    Position { segment: 1, batch }
}

/// The seconds of the records of each complete file.
fn contents(files: &Files) -> Vec<Vec<u64>> {
    let second = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        value["time_ns"].as_u64().expect("a time") / SECOND_NS
    };
    let found = files.find().expect("a directory").into_iter();
    let texts = found.map(|file| fs::read_to_string(file.path).expect("a file"));
    texts
        .map(|text| text.lines().map(second).collect())
        .collect()
}

fn remove(files: &Files) {
    fs::remove_dir_all(&files.config.directory).expect("it is removed");
}

#[test]
fn a_file_ends_when_the_clock_passes_a_multiple_of_the_interval() {
    let mut files = open();
    files
        .take(behind(1), &batch(&[890, 899], 899))
        .expect("taken");
    assert!(contents(&files).is_empty(), "the interval is not over");
    files.take(behind(2), &batch(&[901], 902)).expect("taken");
    assert_eq!(contents(&files), [[890, 899]]);
    // Nothing happens in the next interval, and its file says so.
    files.take(behind(3), &batch(&[], 1801)).expect("taken");
    files.take(behind(4), &batch(&[2700], 2701)).expect("taken");
    files.finish().expect("finished");
    assert_eq!(
        contents(&files),
        [vec![890, 899], vec![901], vec![], vec![2700]]
    );
    remove(&files);
}

#[test]
fn a_file_ends_when_the_clock_is_set_back() {
    let mut files = open();
    files
        .take(behind(1), &batch(&[1000, 1010], 1010))
        .expect("taken");
    // A mark is older than the records before it if they arrived while the kernel was being asked.
    files.take(behind(2), &batch(&[], 1009)).expect("taken");
    files
        .take(behind(3), &batch(&[950, 951], 951))
        .expect("taken");
    files.finish().expect("finished");
    assert_eq!(contents(&files), [[1000, 1010], [950, 951]]);
    remove(&files);
}

#[test]
fn a_restart_continues_behind_the_newest_file_whatever_the_cursor_says() {
    let mut files = open();
    files.take(behind(1), &batch(&[1], 1)).expect("taken");
    files.take(behind(2), &batch(&[2], 2)).expect("taken");
    files.finish().expect("finished");
    assert_eq!(files.acknowledged().position, behind(2));
    files.take(behind(3), &batch(&[3], 3)).expect("taken");
    assert_eq!(
        files.acknowledged().position,
        behind(2),
        "the file is not complete"
    );
    let mut files = reopen(&files, Acknowledged::default());
    for number in 1..=4 {
        let at = u64::from(number);
        files
            .take(behind(number), &batch(&[at], at))
            .expect("taken");
    }
    files.finish().expect("finished");
    assert_eq!(contents(&files), [[1, 2], [3, 4]]);
    remove(&files);
}

#[test]
fn a_file_is_never_overwritten() {
    let mut files = open();
    let name = "gw.19700101T000001Z.000000000001-000001.jsonl";
    let path = files.config.directory.join(name);
    fs::write(&path, "another file").expect("a file");
    files.take(behind(1), &batch(&[1], 1)).expect("taken");
    let failure = files.finish().expect_err("the name is taken");
    assert!(failure.to_string().contains(name), "{failure}");
    assert_eq!(fs::read_to_string(&path).expect("a file"), "another file");
    remove(&files);
}

#[test]
fn other_users_cannot_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut files = open();
    files.take(behind(1), &batch(&[1], 1)).expect("taken");
    files.finish().expect("finished");
    let file = files.find().expect("a directory").remove(0);
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o7;
    assert_eq!(mode(&file.path), 0);
    assert_eq!(mode(&files.config.directory), 0);
    remove(&files);
}

#[test]
fn retention_removes_only_files_that_this_output_has_written() {
    let mut files = open();
    let config = config::Files {
        max_bytes: Some(config::Bytes(0)),
        ..(*files.config).clone()
    };
    files.live.set(config);
    let place = |name: &str| files.config.directory.join(name);
    let names = [
        "gw.19700101T000000Z.1-1.jsonl",
        "gw.19700101T000000Z.000000000001-000000.csv",
        "gw.19700101T000000Z.000000000001-000000.jsonl.bak",
        "other.19700101T000000Z.000000000001-000000.jsonl",
        "gw.jsonl",
    ];
    let foreign = names.map(place);
    for path in &foreign {
        fs::write(path, "not ours").expect("a file");
    }
    let directory = place("gw.19700101T000000Z.000000000000-000001.jsonl");
    fs::create_dir(&directory).expect("a directory");
    let link = place("gw.19700101T000000Z.000000000000-000002.jsonl");
    std::os::unix::fs::symlink(&foreign[0], &link).expect("a link");
    for number in 1..=3 {
        let at = u64::from(number);
        files
            .take(behind(number), &batch(&[at], at))
            .expect("taken");
        files.finish().expect("finished");
    }
    assert_eq!(contents(&files), [[3]], "the newest file of this output");
    for path in &foreign {
        let text = fs::read_to_string(path).expect("it is there");
        assert_eq!(text, "not ours");
    }
    assert!(directory.is_dir() && link.is_symlink());
    remove(&files);
}
