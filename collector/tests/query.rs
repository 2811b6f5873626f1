//! `nlringd query`, compared with a scan of the whole files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use nlring_testing::Random;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use serde_json::Value;

const SECOND_NS: i64 = 1_000_000_000;
/// The generator's first record.
const BEGIN_NS: i64 = 1_767_225_600 * SECOND_NS;

fn nlringd(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nlringd"));
    command
        .args(arguments)
        .env("TZ", "UTC")
        .output()
        .expect("nlringd starts")
}

/// An answer: the exit code, the records, and the lines about missing ones.
struct Answer {
    code: i32,
    flows: Vec<Value>,
    missing: Vec<Value>,
    errors: String,
}

fn query(paths: &[&Path], options: &[&str]) -> Answer {
    let mut arguments = vec!["query", "--json"];
    arguments.extend(
        paths
            .iter()
            .map(|path| path.to_str().expect("a plain path")),
    );
    arguments.extend(options);
    let output = nlringd(&arguments);
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"));
    let (flows, missing) = lines.partition(|line: &Value| line["record"] == "flow");
    Answer {
        code: output.status.code().expect("no signal"),
        flows,
        missing,
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Files with this many records in their own directory, one file for each 15 minutes.
fn generated(name: &str, records: u32, options: &[&str]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    let records = records.to_string();
    let path = directory.to_str().expect("a plain path");
    let mut arguments = vec!["generate", "--output", path, "--records", &records];
    arguments.extend(options);
    let output = nlringd(&arguments);
    assert!(output.status.success(), "{output:?}");
    directory
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    // The positions in the names grow.
    files.sort_by_key(|path| path.to_str().map(|path| path[path.len() - 27..].to_owned()));
    files
}

fn ns(flow: &Value, names: &[&str]) -> Option<i64> {
    names.iter().find_map(|name| flow[*name].as_i64())
}

fn start(flow: &Value) -> Option<i64> {
    ns(flow, &["start_ns", "observed_start_ns"])
}

/// The last nanosecond of the millisecond in which it ended.
fn end(flow: &Value) -> i64 {
    ns(flow, &["stop_ns", "time_ns"]).expect("each flow has a time") + 999_999
}

/// An option of a question, and whether a flow meets it.
type Term = (String, String, Box<dyn Fn(&Value) -> bool>);

fn instant(ns: i64) -> String {
    let timestamp = nlring::Timestamp::from_ns(u64::try_from(ns).expect("after 1970"));
    format!("{timestamp:.9}")
}

/// A random selection of terms that a flow meets.
fn terms(flow: &Value, random: &mut Random) -> Vec<Term> {
    let mut terms: Vec<Term> = Vec::new();
    let ends = [
        ("--nat", "nat_src", "nat_sport"),
        ("--src", "orig_src", "orig_sport"),
        ("--dst", "orig_dst", "orig_dport"),
    ];
    for (option, address, port) in ends {
        let (Some(text), true) = (flow[address].as_str(), random.percent(50)) else {
            continue;
        };
        let (text, wanted) = (text.to_owned(), flow[port].clone());
        let endpoint = match wanted.as_u64().filter(|_| random.percent(70)) {
            Some(number) if text.contains(':') => format!("[{text}]:{number}"),
            Some(number) => format!("{text}:{number}"),
            None => {
                terms.push((
                    option.to_owned(),
                    text.clone(),
                    Box::new(move |flow| flow[address] == *text),
                ));
                continue;
            }
        };
        let fits = move |flow: &Value| flow[address] == *text && flow[port] == wanted;
        terms.push((option.to_owned(), endpoint, Box::new(fits)));
    }
    if random.percent(30) {
        let proto = flow["proto"]
            .as_str()
            .expect("each flow has a protocol")
            .to_owned();
        terms.push((
            "--proto".to_owned(),
            proto.clone(),
            Box::new(move |flow| flow["proto"] == *proto),
        ));
    }
    terms
}

/// A time at which the flow existed, or any time.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn time(flow: &Value, all: i64, random: &mut Random) -> Vec<Term> {
    let below = |random: &mut Random, limit: i64| {
        let share = f64::from(random.below(u32::MAX)) / f64::from(u32::MAX);
        (share * limit as f64) as i64
    };
    let (first, last) = (start(flow).unwrap_or(BEGIN_NS), end(flow));
    let at = match random.below(4) {
        0 => BEGIN_NS + below(random, all),
        1 => first,
        2 => last,
        _ => first + below(random, last - first),
    };
    let lasts = |from: i64, until: i64| {
        move |flow: &Value| start(flow).is_none_or(|start| start <= until) && end(flow) >= from
    };
    if random.percent(60) {
        let fits = Box::new(lasts(at, at));
        return vec![("--at".to_owned(), instant(at), fits)];
    }
    let until = at + below(random, 20 * SECOND_NS);
    let from: Term = ("--from".to_owned(), instant(at), Box::new(|_| true));
    vec![
        from,
        (
            "--to".to_owned(),
            instant(until),
            Box::new(lasts(at, until)),
        ),
    ]
}

#[test]
fn random_questions_have_the_answers_of_a_full_scan() {
    let directory = generated("query-random", 60_000, &["--rate", "10", "--seed", "7"]);
    assert!(files(&directory).len() >= 6, "several files");
    let all = query(&[&directory], &[]);
    assert_eq!((all.code, all.flows.len()), (0, 60_000), "{}", all.errors);
    let whole = end(all.flows.last().expect("flows")) - BEGIN_NS;
    let mut random = Random::new(3);
    let mut complete_count = 0;
    for _ in 0..150 {
        let flow = &all.flows[random.index(all.flows.len())];
        let mut terms = terms(flow, &mut random);
        if terms.is_empty() || random.percent(80) {
            terms.extend(time(flow, whole, &mut random));
        }
        let options: Vec<&str> = terms
            .iter()
            .flat_map(|(option, text, _)| [&option[..], &text[..]])
            .collect();
        let wanted: Vec<_> = all
            .flows
            .iter()
            .filter(|flow| terms.iter().all(|(.., fits)| fits(flow)))
            .collect();
        let answer = query(&[&directory], &options);
        let found: Vec<_> = answer.flows.iter().collect();
        assert_eq!(found, wanted, "{options:?}: {}", answer.errors);
        let code = match (found.is_empty(), answer.missing.is_empty()) {
            (false, true) => 0,
            (true, true) => 1,
            (true, false) => 3,
            (false, false) => 4,
        };
        assert_eq!(answer.code, code, "{options:?}: {}", answer.errors);
        // The others are about flows that began before the first file.
        let is_begin = |missing: &Value| missing["reason"] == "begin";
        assert!(answer.missing.iter().all(is_begin), "{:?}", answer.missing);
        complete_count += u32::from(answer.missing.is_empty());
    }
    assert!(complete_count > 100, "{complete_count} of 150 are complete");
}

#[test]
fn a_flow_is_found_at_any_time_of_the_files_that_it_lasts_through() {
    let directory = generated("query-long", 40_000, &["--rate", "8", "--seed", "9"]);
    let all = query(&[&directory], &[]).flows;
    let length = |flow: &Value| end(flow) - start(flow).unwrap_or(end(flow));
    let long = all
        .iter()
        .filter(|flow| flow["nat_src"].is_string() && flow["nat_sport"].is_u64())
        .filter(|flow| start(flow) >= Some(BEGIN_NS));
    let long = long.max_by_key(|flow| length(flow)).expect("a flow");
    assert!(
        length(long) > 1800 * SECOND_NS,
        "it lasts through at least two files"
    );
    let nat = format!(
        "{}:{}",
        long["nat_src"].as_str().expect("an address"),
        long["nat_sport"]
    );
    for eighth in 0..=8 {
        let at = instant(start(long).expect("known") + length(long) / 8 * eighth);
        let answer = query(&[&directory], &["--nat", &nat, "--at", &at]);
        assert_eq!(answer.code, 0, "{}", answer.errors);
        assert!(answer.flows.contains(long), "at {at}: {:?}", answer.flows);
    }
    let before = instant(start(long).expect("known") - 1);
    let answer = query(&[&directory], &["--nat", &nat, "--at", &before]);
    assert!(!answer.flows.contains(long), "it had not begun");
}

#[test]
fn an_answer_says_what_is_missing_in_its_time() {
    let directory = generated("query-missing", 30_000, &["--rate", "10", "--losses", "2"]);
    let all = query(&[&directory], &[]);
    let losses: Vec<_> = all
        .missing
        .iter()
        .filter(|line| line["record"] == "loss")
        .collect();
    assert_eq!(
        (losses.len(), all.missing.len()),
        (2, 2),
        "{:?}",
        all.missing
    );
    assert_eq!(losses[0]["reason"], "kernel");
    let nobody = ["--nat", "192.0.2.99:9"];
    let at = |ns: i64| {
        query(
            &[&directory],
            &[&nobody[..], &["--at", &instant(ns)]].concat(),
        )
    };
    let since = losses[0]["since_ns"].as_i64().expect("a time");
    let within = at(since);
    assert_eq!(
        (within.code, &within.missing[0]),
        (3, losses[0]),
        "within a loss"
    );
    assert_eq!(at(since - SECOND_NS).code, 1, "before it");
    let before = at(BEGIN_NS - 3600 * SECOND_NS);
    assert_eq!(
        (before.code, &before.missing[0]["reason"]),
        (3, &"begin".into())
    );
    let behind = at(BEGIN_NS + 86_400 * SECOND_NS);
    assert_eq!(
        (behind.code, &behind.missing[0]["reason"]),
        (3, &"end".into())
    );

    let files = files(&directory);
    fs::remove_file(&files[1]).expect("it is there");
    let middle = at(BEGIN_NS + 22 * 60 * SECOND_NS);
    assert_eq!(
        (middle.code, &middle.missing[0]["reason"]),
        (3, &"gap".into())
    );
    let text = nlringd(&[
        "query",
        directory.to_str().expect("plain"),
        "--at",
        "2026-01-01T00:22:00Z",
        "--nat",
        "192.0.2.99",
    ]);
    let text = String::from_utf8_lossy(&text.stderr).into_owned();
    assert!(
        text.contains("a file is missing") && text.contains("nothing found"),
        "{text}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_others_are_searched() {
    let directory = generated("query-damaged", 20_000, &["--rate", "10"]);
    let count = query(&[&directory], &[]).flows.len();
    let files = files(&directory);
    let text = directory.join("text.parquet");
    fs::write(&text, "no parquet").expect("written");
    let empty = directory.join("empty.parquet");
    fs::write(&empty, "").expect("written");
    let torn = directory.join("torn.parquet");
    let bytes = fs::read(&files[0]).expect("read");
    fs::write(&torn, &bytes[..bytes.len() / 2]).expect("written");
    fs::write(directory.join(".hidden.parquet"), "not complete yet").expect("written");
    let missing = directory.join("gone.parquet");
    let answer = query(&[&directory, &missing], &[]);
    assert_eq!(
        (answer.code, answer.flows.len()),
        (4, count),
        "{}",
        answer.errors
    );
    for path in [&text, &empty, &torn, &missing] {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("plain");
        assert!(answer.errors.contains(name), "{name} in {}", answer.errors);
    }
    assert!(
        !answer.errors.contains("hidden") && !answer.errors.contains("panicked"),
        "{}",
        answer.errors
    );
    assert_eq!(query(&[&text], &[]).code, 3, "nothing could be read");
}

/// What is said about a path among others: the answer has all that the others have, and is not complete.
#[track_caller]
fn assert_named(directory: &Path, path: &Path, wanted: &str) {
    let count = query(&[directory], &[]).flows.len();
    let answer = query(&[directory, path], &[]);
    assert_eq!(
        (answer.code, answer.flows.len()),
        (4, count),
        "{}",
        answer.errors
    );
    let name = path.to_str().expect("plain");
    let lines: Vec<_> = answer.errors.lines().collect();
    assert_eq!(lines.len(), 1, "{}", answer.errors);
    assert!(
        lines[0].contains(name) && lines[0].contains(wanted),
        "{}",
        answer.errors
    );
    let alone = query(&[path], &["--nat", "192.0.2.99"]);
    assert_eq!((alone.code, alone.flows.len()), (3, 0), "{}", alone.errors);
}

/// Writes a Parquet file with these columns of text and this metadata.
fn write_parquet(path: &Path, columns: &[&str], metadata: &[(&str, &str)]) {
    let texts = |_: &&str| Arc::new(StringArray::from(vec!["flow"])) as ArrayRef;
    let columns = columns.iter().map(|column| (*column, texts(column)));
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let file = fs::File::create(path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    for (key, value) in metadata {
        let entry = KeyValue::new((*key).to_owned(), (*value).to_owned());
        writer.append_key_value_metadata(entry);
    }
    writer.close().expect("closed");
}

#[test]
fn each_path_that_cannot_be_searched_is_named_with_the_remedy() {
    let directory = generated("query-paths", 1000, &["--rate", "10"]);
    let elsewhere = directory.with_file_name("query-paths-elsewhere");
    let _ = fs::remove_dir_all(&elsewhere);
    fs::create_dir_all(&elsewhere).expect("a directory");
    assert_named(&directory, &elsewhere, "name the directory of an output");
    let place = |name: &str| elsewhere.join(name);
    assert_named(&directory, &place("gone.parquet"), "No such file");

    let foreign = place("foreign.parquet");
    write_parquet(&foreign, &["name"], &[]);
    assert_named(&directory, &foreign, "leave it out");
    let newer = place("newer.parquet");
    let metadata = [("nlring.format", "2"), ("nlring.version", "9.9.9")];
    write_parquet(&newer, &["record", "time"], &metadata);
    assert_named(&directory, &newer, "newer nlringd (9.9.9)");

    for name in [
        "records.jsonl",
        "records.jsonl.zst",
        "records.csv",
        "records.csv.zst",
    ] {
        fs::write(place(name), "").expect("written");
        assert_named(&directory, &place(name), "format = \"parquet\"");
    }

    let bytes = fs::read(&files(&directory)[0]).expect("read");
    let damaged = place("damaged.parquet");
    let end = bytes.len();
    let mut footer = bytes.clone();
    footer[end - 100..end - 50].fill(0);
    let mut pages = bytes.clone();
    pages[4..end / 2].fill(0);
    let torn = bytes[..end - 1].to_vec();
    for (what, bytes) in [("footer", footer), ("pages", pages), ("end", torn)] {
        fs::write(&damaged, bytes).expect("written");
        let answer = query(&[&directory, &damaged], &[]);
        assert!(
            answer.code == 4 && answer.errors.contains("restore it from a copy"),
            "{what}: {} {}",
            answer.code,
            answer.errors
        );
    }
}

#[test]
fn a_file_that_is_given_twice_or_linked_is_read_once() {
    let directory = generated("query-twice", 500, &["--rate", "10"]);
    let link = directory.join("again");
    std::os::unix::fs::symlink(&directory, &link).expect("a link");
    let file = files(&directory)
        .into_iter()
        .find(|path| path.is_file())
        .expect("a file");
    let answer = query(&[&directory, &file, &link], &[]);
    assert_eq!(
        (answer.code, answer.flows.len()),
        (0, 500),
        "{}",
        answer.errors
    );
}

#[test]
fn a_damaged_byte_is_reported_and_does_not_end_the_search() {
    let directory = generated("query-bytes", 2000, &["--rate", "10"]);
    let path = files(&directory).remove(0);
    let bytes = fs::read(&path).expect("read");
    let mut random = Random::new(5);
    for _ in 0..60 {
        let mut damaged = bytes.clone();
        let place = random.index(damaged.len());
        damaged[place] ^= 1 << random.below(8);
        fs::write(&path, &damaged).expect("written");
        let answer = query(
            &[&directory],
            &["--nat", "203.0.113.7", "--at", "2026-01-01T00:01:00Z"],
        );
        assert!(
            [0, 1, 3, 4].contains(&answer.code),
            "byte {place}: {}",
            answer.errors
        );
        assert!(
            !answer.errors.contains("panicked"),
            "byte {place}: {}",
            answer.errors
        );
    }
}

#[test]
fn wrong_options_are_errors_that_show_right_ones() {
    for (options, wanted) in [
        (&["--nat", "203.0.113"][..], "203.0.113.7:40123"),
        (&["--at", "noon"], "2026-11-28T14:03:07Z"),
        (&["--proto", "tpc"], "tcp"),
        (
            &["--from", "2026-01-02", "--to", "2026-01-01"],
            "--to is before --from",
        ),
    ] {
        let answer = query(&[Path::new(".")], options);
        assert_eq!(answer.code, 2, "{}", answer.errors);
        assert!(answer.errors.contains(wanted), "{}", answer.errors);
    }
}

#[test]
fn a_seed_makes_the_same_records_each_time() {
    let options = ["--rate", "100", "--seed", "4", "--losses", "1"];
    let [first, second] =
        ["seed-1", "seed-2"].map(|name| query(&[&generated(name, 3000, &options)], &[]));
    assert_eq!(first.flows, second.flows);
    assert_eq!(first.missing, second.missing);
    let other = query(
        &[&generated(
            "seed-3",
            3000,
            &["--rate", "100", "--seed", "5"],
        )],
        &[],
    );
    assert_ne!(first.flows, other.flows);
}

#[test]
fn a_limit_shows_the_first_records_and_says_how_many_are_left() {
    let directory = generated("query-limit", 500, &["--rate", "10"]);
    let all = query(&[&directory], &[]);
    let first = query(&[&directory], &["--limit", "7"]);
    assert_eq!((first.code, &first.flows[..]), (0, &all.flows[..7]));
    assert!(
        first.errors.contains("493 later records"),
        "{}",
        first.errors
    );
    assert_eq!(query(&[&directory], &["--limit", "500"]).errors, "");
}

#[test]
fn many_files_need_few_descriptors() {
    let directory = generated("query-many", 60 * 900, &["--rate", "1"]);
    assert!(files(&directory).len() >= 60);
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -n 40; exec \"$0\" query --nat 203.0.113.7 --limit 1 \"$1\"",
        ])
        .args([Path::new(env!("CARGO_BIN_EXE_nlringd")), &directory])
        .output()
        .expect("a shell");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn hours_that_are_over_before_the_time_of_a_question_are_not_read() {
    let directory = generated("query-hours", 5 * 3600, &["--rate", "1"]);
    let options = ["--nat", "203.0.113.7", "--from", "2026-01-01T03:30:00Z"];
    let before = query(&[&directory], &options);
    for (number, path) in files(&directory).iter().enumerate() {
        let hour = format!("date=2026-01-01/hour={:02}", number / 4);
        let hour = directory.join(hour);
        fs::create_dir_all(&hour).expect("a directory");
        fs::rename(path, hour.join(path.file_name().expect("a name"))).expect("moved");
    }
    for hour in ["00", "04"] {
        let path = directory.join(format!("date=2026-01-01/hour={hour}/damaged.parquet"));
        fs::write(path, "nothing").expect("written");
    }
    let after = query(&[&directory], &options);
    assert_eq!((before.code, before.flows), (0, after.flows));
    assert_eq!(after.missing, before.missing);
    assert!(after.errors.contains("hour=04/damaged"), "{}", after.errors);
    assert!(!after.errors.contains("hour=00"), "{}", after.errors);
    let all = query(&[&directory], &options[..2]);
    assert!(all.errors.contains("hour=00/damaged"), "{}", all.errors);
    let later = query(&[&directory], &["--at", "2026-01-03T00:00:00Z"]);
    let reasons: Vec<&Value> = later.missing.iter().map(|gap| &gap["reason"]).collect();
    assert_eq!(reasons, ["end"], "{}", later.errors);
}
