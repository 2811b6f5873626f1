//! How soon nlringd records after its start, also if the kernel has many flows then, and how much memory it takes.

mod support;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nlring::conntrack::Requests;
use nlring_testing::{await_that, own_namespace};

use support::{Collector, Contents, flow, found_count, make_flows, report_all_flows, scratch};

fn config(directory: &Path) -> String {
    let place = directory.display();
    format!(
        "node = \"gw\"\n[http]\naddress = \"off\"\n[spool]\ndirectory = \"{place}/spool\"\n\
         [[files]]\ndirectory = \"{place}/records\"\nrotate_interval = \"1d\"\n"
    )
}

/// A figure of /proc/PID/status, in KiB.
fn memory_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// Starts nlringd while the kernel has this many flows, and makes others meanwhile. The most memory that it took, in KiB.
fn start_with(flow_count: u32, made_count: u32) -> u64 {
    own_namespace();
    report_all_flows();
    let directory = scratch(&format!("start-{flow_count}"));
    let mut requests = Requests::open().expect("requests");
    // Their numbers are above those of the flows that are made later.
    for number in 0..flow_count {
        requests.add(&flow((1 << 24) + number)).expect("a flow");
    }
    let begun = Instant::now();
    let collector = Collector::start(&directory, &config(&directory));
    collector.await_log("recording");
    let recording_after = begun.elapsed();
    // The load is bounded, so that the receive buffer holds what comes while this thread has the processor.
    let paced = |first: u32, behind: u32| {
        make_flows(first, |number| {
            if number % 10 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            number < behind
        })
    };
    let mut made = paced(0, made_count / 10);
    await_that("the first flow is found", || {
        found_count(&directory, "10.0.0.0:1024") > 0
    });
    let found_after = begun.elapsed();
    made.extend(paced(made_count / 10, made_count));
    eprintln!(
        "{flow_count} flows at the start: recording after {recording_after:.2?}, the first of {made_count} flows found \
         after {found_after:.2?}"
    );
    // The last of those that were there before.
    let last = flow((1 << 24) + flow_count.saturating_sub(1));
    if flow_count > 0 {
        requests.delete(&last.key(), None).expect("an end");
        await_that("a flow from before is found", || {
            found_count(&directory, &format!("{}:1025", last.key().orig.src)) > 0
        });
    }
    let most_kib = memory_kib(collector.pid(), "VmHWM");
    let now_kib = memory_kib(collector.pid(), "VmRSS");
    eprintln!("{flow_count} flows: {now_kib} KiB resident, at most {most_kib} KiB");
    collector.end();
    let contents = Contents::read(&directory.join("records"));
    assert!(contents.losses.is_empty(), "{:?}", contents.losses);
    assert_eq!(contents.missing_count(&made), 0, "no event is missed");
    fs::remove_dir_all(&directory).expect("it is removed");
    most_kib
}

#[test]
fn with_an_empty_table_the_first_record_is_there_soon() {
    start_with(0, 10);
}

#[test]
fn a_start_with_100_000_flows_misses_nothing_and_takes_little_memory() {
    let most_kib = start_with(100_000, 10_000);
    assert!(most_kib <= 64 << 10, "{most_kib} KiB");
}

#[test]
#[ignore = "takes much of the machine's time"]
fn a_start_with_250_000_flows_misses_nothing() {
    start_with(250_000, 50_000);
}
