//! Long-lived flows, and flows whose end nlringd does not see.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nlring::conntrack::Requests;
use nlring_testing::{await_that, own_namespace};

use support::{Collector, flow, report_all_flows, scratch};

/// nlringd's directory and its configuration.
struct Place {
    directory: PathBuf,
    config: String,
}

impl Place {
    fn new(name: &str, settings: &str) -> Self {
        own_namespace();
        report_all_flows();
        let directory = scratch(name);
        let place = directory.display();
        let config = format!(
            "node = \"gw\"\nflush_interval = \"20ms\"\n{settings}\n[http]\naddress = \"off\"\n\
             [spool]\ndirectory = \"{place}/spool\"\n\
             [[files]]\ndirectory = \"{place}/records\"\nrotate_interval = \"1d\"\n"
        );
        Self { directory, config }
    }

    fn start(&self) -> Collector {
        let collector = Collector::start(&self.directory, &self.config);
        await_that("it records", || {
            let log = collector.log();
            log.matches("recording").count() > log.matches("stopping").count()
        });
        collector
    }

    /// What the answer about the flow of this number says, and the exit code.
    fn ask(&self, number: u32) -> (String, Option<i32>) {
        let source = format!("10.0.0.{number}:1024");
        let output = Command::new(env!("CARGO_BIN_EXE_nlringd"))
            .args(["query", "--json", "--src", &source, "--follow-spool"])
            .arg(self.directory.join("spool"))
            .arg(self.directory.join("records"))
            .output()
            .expect("nlringd starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text, output.status.code())
    }

    fn await_answer(&self, number: u32, wanted: &str) -> String {
        await_that(wanted, || self.ask(number).0.contains(wanted));
        self.ask(number).0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(Path::new(&self.directory));
        }
    }
}

/// How many records are in an answer, not counting the lines about missing ones.
fn record_count(answer: &str) -> usize {
    let lines = answer.lines();
    lines
        .filter(|line| !line.contains("\"record\":\"gap\""))
        .count()
}

fn end_flow(requests: &mut Requests, number: u32) {
    let key = flow(number).key();
    let is_there = requests.delete(&key, None).expect("an end");
    assert!(is_there, "the flow was there until now");
}

#[test]
fn a_flow_that_lasts_is_found_before_its_end_and_once_afterwards() {
    let place = Place::new("open-lasts", "open_interval = \"100ms\"");
    let collector = place.start();
    let mut requests = Requests::open().expect("requests");
    requests.add(&flow(1)).expect("a flow");
    let answer = place.await_answer(1, "\"record\":\"open\"");
    assert_eq!(record_count(&answer), 1, "{answer}");
    end_flow(&mut requests, 1);
    let answer = place.await_answer(1, "\"record\":\"flow\"");
    assert_eq!(record_count(&answer), 1, "{answer}");
    collector.end();
}

#[test]
fn a_flow_that_ends_while_nlringd_does_not_run_is_found() {
    let place = Place::new("open-stopped", "");
    let collector = place.start();
    let mut requests = Requests::open().expect("requests");
    for number in [1, 2] {
        requests.add(&flow(number)).expect("a flow");
    }
    collector.end();
    end_flow(&mut requests, 1);
    let collector = place.start();
    end_flow(&mut requests, 2);
    place.await_answer(2, "\"record\":\"flow\"");
    collector.end();
    let (answer, _) = place.ask(1);
    assert!(answer.contains("\"record\":\"open\""), "{answer}");
    let (answer, _) = place.ask(2);
    assert!(!answer.contains("\"record\":\"open\""), "{answer}");
    assert!(!answer.contains("\"reason\":\"killed\""), "{answer}");
}

#[test]
fn after_a_kill_the_answer_about_a_flow_that_was_there_is_incomplete() {
    let place = Place::new("open-killed", "");
    let collector = place.start();
    let mut requests = Requests::open().expect("requests");
    requests.add(&flow(1)).expect("a flow");
    collector.kill();
    end_flow(&mut requests, 1);
    let collector = Collector::start(&place.directory, &place.config);
    let answer = place.await_answer(1, "\"reason\":\"killed\"");
    let (_, code) = place.ask(1);
    assert_eq!(code, Some(3), "{answer}");
    collector.end();
}

/// The CPU time that a process has used.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, figures) = stat.rsplit_once(") ").expect("figures behind the name");
    let ticks = figures.split(' ').skip(11).take(2);
    let ticks: u64 = ticks
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(10 * ticks)
}

#[test]
#[ignore = "a measurement, of half a minute"]
fn what_records_of_flows_that_last_cost() {
    const FLOWS: u32 = 100_000;
    let mut figures = Vec::new();
    for (open_interval, seconds) in [("1d", 10), ("10s", 10)] {
        let name = format!("open-cost-{open_interval}");
        let place = Place::new(&name, &format!("open_interval = \"{open_interval}\""));
        let config = place.config.replace("flush_interval = \"20ms\"\n", "");
        fs::write("/proc/sys/net/netfilter/nf_conntrack_acct", "1").expect("a sysctl");
        let mut requests = Requests::open().expect("requests");
        for number in 0..FLOWS {
            requests.add(&flow(number)).expect("a flow");
        }
        let collector = Collector::start(&place.directory, &config);
        collector.await_log("recording");
        // The first flow that ends is recorded after the first dump.
        end_flow(&mut requests, 1);
        place.await_answer(1, "\"record\":\"flow\"");
        let before = cpu_time(collector.pid());
        std::thread::sleep(Duration::from_secs(seconds));
        figures.push(cpu_time(collector.pid()).saturating_sub(before));
        let begun = Instant::now();
        collector.end();
        let took = begun.elapsed();
        println!("{open_interval}: all flows are recorded at the end within {took:.1?}");
    }
    let [without, with] = figures[..] else {
        unreachable!("two runs");
    };
    println!(
        "10 s with {FLOWS} flows: {without:?} without records of them, {with:?} with one of each"
    );
}
