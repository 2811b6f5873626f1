//! `nlring latency` accounts for every event, and its outputs agree. No test asserts a speed.

mod common;

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{lchown, symlink};
use std::process::{Command, Output, Stdio};

use common::{
    Directory, NLRING, field_names, is_installed, is_real_root, own_namespace, run, skip,
};
use nlring::{Protocol, Socket};
use serde_json::Value;

/// Short, so that a test takes a few seconds.
const BRIEF: &str = "--duration 100ms --warmup 10ms --repeat 2";
const PERCENTILES: [&str; 6] = ["p50", "p90", "p99", "p99_9", "p99_99", "max"];

/// Runs `nlring latency`. timeout(1) ends it if it hangs.
fn latency(arguments: &str) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", NLRING, "latency"]);
    command.args(arguments.split_whitespace());
    command.stdin(Stdio::null()).output().expect("timeout(1)")
}

#[track_caller]
fn good(arguments: &str) -> String {
    let output = latency(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    String::from_utf8(output.stdout).expect("a text")
}

#[track_caller]
fn measured(arguments: &str) -> Value {
    let text = good(&format!("{BRIEF} --json {arguments}"));
    serde_json::from_str(&text).expect("JSON")
}

#[track_caller]
fn rows(report: &Value) -> &[Value] {
    report["rows"].as_array().expect("rows")
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("a whole number: {value}"))
}

/// Asserts what holds for every row, whatever was measured.
#[track_caller]
fn assert_sound(row: &Value) {
    let count = |name: &str| number(&row[name]);
    assert!(count("made") > 0, "{row:#}");
    let accounted = count("received") + count("lost") + count("unread");
    assert_eq!(accounted, count("made"), "{row:#}");
    let latencies = PERCENTILES.map(|name| number(&row["latency_ns"][name]));
    assert!(latencies.is_sorted(), "{row:#}");
    assert!(count("measured") > 0 && latencies[0] > 0, "{row:#}");
    assert!(
        count("cpu_ns_per_event") > 0 && count("events_per_s") > 0,
        "{row:#}"
    );
    assert!(count("generator_cpu_ns_per_event") > 0, "{row:#}");
    assert_eq!((count("untimed"), count("negative")), (0, 0), "{row:#}");
}

#[track_caller]
fn assert_interval(interval: &Value) {
    let [low, median, high] = ["low", "median", "high"].map(|name| interval[name].as_f64());
    assert!(
        low.is_some() && low <= median && median <= high,
        "{interval}"
    );
    assert_eq!(interval["confidence"], 0.5, "of two repetitions");
}

#[test]
fn each_way_is_measured_in_each_setting_and_accounts_for_every_event() {
    let report = measured(
        "--rate 2000,max --backend auto,recv,recvmmsg --wait prompt,batch:1ms --recv-buffer 64KiB",
    );
    let names: Vec<String> = rows(&report)
        .iter()
        .map(|row| format!("{} {} {}", row["rate"], row["backend"], row["wait"]).replace('"', ""))
        .collect();
    let ways = [
        "auto prompt",
        "auto batch:1ms",
        "recv null",
        "recvmmsg prompt",
        "recvmmsg batch:1ms",
    ];
    let wanted: Vec<String> = ["2000", "null"]
        .iter()
        .flat_map(|rate| ways.map(|way| format!("{rate} {way}")))
        .collect();
    assert_eq!(names, wanted);
    assert_eq!(report["against"], "recv");
    for row in rows(&report) {
        assert_sound(row);
        let is_reference = row["backend"] == "recv";
        assert_eq!(row["ratio"].is_null(), is_reference);
        if !is_reference {
            for name in ["p50", "p99", "cpu"] {
                assert_interval(&row["ratio"][name]);
            }
        }
        let clock = if row["rate"].is_null() {
            "sender"
        } else {
            "schedule"
        };
        assert_eq!(row["clock"], clock);
        assert_eq!(row["backend_reason"].is_string(), row["backend"] == "auto");
        assert_ne!(row["backend_used"], "auto");
    }
}

#[test]
fn the_largest_and_the_smallest_datagrams_are_measured() {
    for size in ["32", "32KiB"] {
        let report = measured(&format!(
            "--size {size} --rate 1000 --backend auto,recvmmsg,recv --wait auto"
        ));
        rows(&report).iter().for_each(assert_sound);
    }
}

#[test]
fn the_documentation_describes_each_field() {
    let documentation = include_str!("../../docs/json.md");
    let (_, section) = documentation
        .split_once("\n## Measurements")
        .expect("a section");
    let is_described = |name: &str| section.contains(&format!("`{name}`"));
    let report = measured("--rate 2000 --backend auto,recv --wait prompt");
    let row = &rows(&report)[0];
    let ratio = &row["ratio"];
    for object in [&report, row, &row["latency_ns"], ratio, &ratio["cpu"]] {
        for name in field_names(object) {
            assert!(is_described(name), "docs/json.md describes {name}");
        }
    }
}

#[test]
fn the_table_has_the_same_rows() {
    own_namespace();
    let run = || {
        let ways = "--backend recvmmsg,recv --wait prompt,spin --against recvmmsg/spin";
        good(&format!("{BRIEF} --rate 2000 {ways}"))
    };
    // There are no ratios if a busy machine keeps the spinning receiver from receiving anything.
    let table = (0..3)
        .map(|_| run())
        .find(|table| table.contains("× recvmmsg/spin"))
        .expect("ratios in one of three runs");
    let figures: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("  "))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let names: Vec<_> = figures.iter().map(|words| words[..2].join(" ")).collect();
    let ways = ["recvmmsg prompt", "recvmmsg spin", "recv -"];
    assert_eq!(
        names,
        [
            &["backend wait"][..], // how late
            &ways,
            &["backend wait"], // what it costs
            &ways,
            &["backend wait", ways[0], ways[2]], // against the second one
        ]
        .concat(),
        "{table}"
    );
    for words in &figures[1..4] {
        assert_eq!(words.len(), 8, "{table}");
        let latencies = words[2..]
            .iter()
            .map(|word| word.parse::<f64>().expect("a number"));
        assert!(latencies.is_sorted(), "{table}");
    }
    let widest = table.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{table}");
    assert!(
        table.contains("since it was due (CLOCK_MONOTONIC)"),
        "{table}"
    );
}

#[test]
fn the_files_for_plotters_have_all_latencies() {
    let directory = Directory::new();
    let report = measured(&format!(
        "--rate 2000,5000 --backend recvmmsg,recv --wait prompt,batch:500us --hgrm {}",
        directory.file("made/too")
    ));
    let files = fs::read_dir(directory.file("made/too")).expect("a directory");
    assert_eq!(files.count(), rows(&report).len());
    for row in rows(&report) {
        let way = match row["wait"].as_str() {
            Some(wait) => format!("recvmmsg-{}", wait.replace(':', "-")),
            None => "recv".to_owned(),
        };
        let name = format!("made/too/usersock-{}-8388608-{way}.hgrm", row["rate"]);
        let text = fs::read_to_string(directory.file(&name)).expect("a file");
        assert_distribution(&text, number(&row["measured"]));
    }
}

/// Asserts that the text has the format of HdrHistogram's own tools.
#[track_caller]
fn assert_distribution(text: &str, wanted_count: u64) {
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().expect("a header").split_whitespace().collect();
    assert_eq!(
        header,
        ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    );
    assert_eq!(lines.next(), Some(""));
    let (footer, steps): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("#["));
    assert!(footer[1].ends_with(&format!("{wanted_count}]")), "{text}");
    let steps: Vec<Vec<f64>> = steps
        .iter()
        .map(|line| {
            line.split_whitespace()
                .map(|word| word.parse().expect("a number"))
                .collect()
        })
        .collect();
    for column in 0..3 {
        assert!(steps.is_sorted_by(|a, b| a[column] <= b[column]), "{text}");
    }
    let last = steps.last().expect("a line");
    assert_eq!(last.len(), 3, "the last has nothing to divide by: {text}");
    assert!((last[1] - 1.0).abs() < 1e-12, "{text}");
    #[allow(clippy::cast_precision_loss)]
    let wanted_count = wanted_count as f64;
    assert!((last[2] - wanted_count).abs() < 0.5, "{text}");
}

#[test]
fn the_picture_is_well_formed_and_names_what_it_shows() {
    let directory = Directory::new();
    let file = directory.file("latency.svg");
    measured(&format!(
        "--rate 2000,max --backend recvmmsg,recv --wait prompt,spin --svg {file}"
    ));
    let text = fs::read_to_string(&file).expect("a file");
    let picture = roxmltree::Document::parse(&text).expect("XML");
    assert_eq!(picture.root_element().tag_name().name(), "svg");
    let texts: Vec<&str> = picture
        .descendants()
        .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")))
        .filter_map(|node| node.text())
        .map(|text| text.trim().trim_end_matches(" *")) // a rate that was not reached
        .collect();
    let count = |wanted: &str| texts.iter().filter(|text| **text == wanted).count();
    for wanted in [
        "percentile",
        "latency",
        "99th percentile of latency",
        "receiver's CPU time per event",
        "50 %",
    ] {
        assert_eq!(count(wanted), 2, "{wanted}, once for each rate: {texts:?}");
    }
    for way in ["recvmmsg/prompt", "recvmmsg/spin", "recv"] {
        assert_eq!(
            count(way),
            4,
            "{way}, in both panels for each rate: {texts:?}"
        );
    }
}

const ONE_RUN: &str = "--rate 2000 --backend recv";

#[test]
fn a_picture_takes_the_place_of_a_file_as_a_whole() {
    let directory = Directory::new();
    let (file, link) = (directory.file("latency.svg"), directory.file("link"));
    fs::write(&file, "former").expect("a file");
    let mut reader = File::open(&file).expect("the file");
    symlink("latency.svg", &link).expect("a link");
    measured(&format!("{ONE_RUN} --svg {link}"));
    let mut former = String::new();
    reader.read_to_string(&mut former).expect("the former file");
    assert_eq!(former, "former", "an open file keeps its text");
    let is_link = fs::symlink_metadata(&link).expect("it").is_symlink();
    assert!(is_link, "the link stays");
    let text = fs::read_to_string(&file).expect("the file");
    assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
    let names = fs::read_dir(&directory.0).expect("the directory");
    assert_eq!(names.count(), 2, "no temporary file remains");
}

#[test]
fn a_picture_can_go_to_a_device() {
    let output = latency(&format!("{BRIEF} {ONE_RUN} --json --svg /dev/stdout"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        text.contains("<svg") && text.ends_with("</svg>\n"),
        "{text}"
    );
}

#[test]
fn a_link_of_another_user_chooses_no_file() {
    if !is_real_root() {
        return skip("links of another user", "only root can make them");
    }
    let directory = Directory::new();
    let precious = directory.file("precious");
    fs::write(&precious, "precious").expect("a file");
    let planted = |name: &str| {
        let link = directory.file(name);
        symlink(&precious, &link).expect("a link");
        lchown(&link, Some(12345), None).expect("its owner");
    };
    planted("latency.svg");
    planted("usersock-2000-8388608-recv.hgrm");
    for option in ["--svg", "--hgrm"] {
        let path = match option {
            "--svg" => directory.file("latency.svg"),
            _ => directory.file("."),
        };
        let output = latency(&format!("{BRIEF} {ONE_RUN} {option} {path}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let reason = "belongs to another user (uid 12345)";
        assert!(errors.contains(reason), "{option}: {errors}");
        let kept = fs::read_to_string(&precious).expect("the file");
        assert_eq!(kept, "precious", "{option}");
    }
}

#[test]
fn the_picture_marks_a_rate_that_was_not_reached() {
    let directory = Directory::new();
    let file = directory.file("latency.svg");
    measured(&format!(
        "--rate 100000000 --backend recv --svg {file}" // more than any machine makes
    ));
    let text = fs::read_to_string(&file).expect("a file");
    assert!(text.contains("recv *"), "{text}");
    assert!(text.contains("The rate was not reached: "), "{text}");
    measured(&format!("--rate max --backend recv --svg {file}"));
    let text = fs::read_to_string(&file).expect("a file");
    assert!(
        !text.contains("recv *") && !text.contains("not reached"),
        "{text}"
    );
}

#[test]
fn conntrack_latency_starts_at_the_kernels_time_if_there_is_one() {
    const NAME: &str = "conntrack_latency_starts_at_the_kernels_time_if_there_is_one";
    own_namespace();
    let listener = Socket::builder(Protocol::NETFILTER).group(1_u32).open(); // loads the kernel's modules
    assert!(listener.is_ok(), "{listener:?}");
    if fs::metadata("/proc/sys/net/netfilter/nf_conntrack_timestamp").is_err() {
        return skip(
            NAME,
            "this kernel does not keep the times of conntrack's events",
        );
    }
    let clock = if kernel_version() >= (6, 14) {
        "kernel"
    } else {
        "schedule"
    };
    let report = measured("--source conntrack --rate 2000 --backend auto,recv --wait auto");
    for row in rows(&report) {
        assert_sound(row);
        assert_eq!(row["clock"], clock);
    }
    let table = good(&format!(
        "{BRIEF} --source conntrack --rate 2000 --backend recv"
    ));
    let words = match clock {
        "kernel" => "since the kernel's time in the event (CLOCK_REALTIME)",
        _ => "since it was due (CLOCK_MONOTONIC)",
    };
    assert!(table.contains(words), "{table}");
}

fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let mut next = || {
        numbers
            .next()
            .and_then(|number| number.parse().ok())
            .expect("a number")
    };
    (next(), next())
}

#[test]
fn routes_and_flows_are_measured_too() {
    const NAME: &str = "routes_and_flows_are_measured_too";
    let mut sources = vec!["route", "conntrack-flush"];
    if is_installed("nft") {
        sources.push("conntrack-flows");
    } else {
        skip(NAME, "no nft, by which flows are tracked");
    }
    let report = measured(&format!(
        "--source {} --rate 2000 --backend auto,recv --wait prompt",
        sources.join(",")
    ));
    assert_eq!(rows(&report).len(), 2 * sources.len());
    for row in rows(&report) {
        let accounted = ["received", "lost", "unread"].map(|name| number(&row[name]));
        assert_eq!(
            accounted.iter().sum::<u64>(),
            number(&row["made"]),
            "{row:#}"
        );
        assert!(number(&row["measured"]) > 0, "{row:#}");
    }
}

#[test]
fn at_full_speed_routes_have_no_latency_and_the_report_says_so() {
    let output = latency(&format!("{BRIEF} --source route --rate max --backend recv"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("give a --rate"), "{errors}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("no event had a time"), "{table}");
}

#[test]
fn the_callers_namespace_stays_as_it_is() {
    own_namespace();
    let state = || {
        let read = |file: &str| fs::read_to_string(format!("/proc/{file}")).ok();
        let tables = run("ip", &["route", "show", "table", "all"]).map(|output| output.stdout);
        (
            read("sys/net/netfilter/nf_conntrack_count"),
            read("sys/net/netfilter/nf_conntrack_timestamp"),
            read("thread-self/net/route"),
            tables,
        )
    };
    let before = state();
    good(&format!(
        "{BRIEF} --source conntrack,route,usersock --rate 2000 --backend auto,recv --wait prompt"
    ));
    assert_eq!(state(), before);
}

#[test]
fn one_cpu_for_both_is_reported() {
    let output = latency(&format!("{BRIEF} --cpu 0,0 --rate 1000 --backend recv"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("on one CPU, 0"), "{errors}");
}

#[test]
fn wrong_usage_names_the_remedy() {
    for (arguments, remedy) in [
        ("--backend epoll", "or recv"),
        ("--backend recv:4", "only oneshot"),
        ("--wait fast", "batch:DELAY"),
        ("--rate -1", "or max"),
        ("--rate 1000,fast", "or max"),
        ("--source udp", "usersock"),
        ("--recv-buffer 8MB", "KiB, MiB or GiB"),
        ("--duration 1", "us, ms, s, m, h or d"),
        ("--warmup 0s", "1us"),
        ("--repeat 0", "from 1 to 1000"),
        ("--cpu 0", "such as 0,1"),
        ("--cpu 0,x", "lscpu -e"),
        ("--cpu 0,1023", "lscpu -e"),
        ("--against auto", "recvmmsg/batch:1ms"),
        ("--against recv/auto", "recv alone"),
        ("--against oneshot:4/spin", "give one of auto/auto"),
        ("--size 31", "from 32 to"),
        ("--size 200 --source route", "leave it out"),
    ] {
        let output = latency(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {errors}");
        assert!(errors.contains(remedy), "{arguments}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments}");
    }
}

#[test]
fn a_file_that_cannot_be_made_is_reported_before_anything_is_measured() {
    for option in ["--svg", "--hgrm"] {
        let output = latency(&format!("--repeat 1000 {option} /dev/null/here"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("/dev/null/here"), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}
