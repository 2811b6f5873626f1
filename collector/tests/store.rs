//! `nlringd store`: workers that write the records of a stream to files.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nlring_testing::{await_that, own_namespace, raise_loopback, run_or_skip};
use rustix::process::Signal;

use support::nats::{self, Reader, Server};
use support::store::{Worker, cpu_seconds};
use support::{Collector, NLRINGD, make_flows, report_all_flows, scratch};

/// Starts a worker that completes its files soon.
fn start_worker(directory: &Path) -> Worker {
    Worker::start(directory, "rotate_interval = \"700ms\"\nack_wait = \"5s\"")
}

fn collector_config(directory: &Path) -> String {
    let place = directory.display();
    format!(
        "node = \"gw.1\"\nflush_interval = \"20ms\"\nopen_interval = \"1s\"\n[http]\naddress = \"off\"\n\
         [spool]\ndirectory = \"{place}/spool\"\n[[nats]]\n"
    )
}

/// What `nlringd query` finds: the sources and ports of the flows, and what it says is missing.
fn query(directory: &Path) -> (Vec<String>, String) {
    let output = Command::new(NLRINGD)
        .args(["query", "--json", "--dst", "192.0.2.1"])
        .arg(directory.join("store"))
        .output()
        .expect("nlringd starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let mut flows = Vec::new();
    let mut rest = errors.into_owned();
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        match record["record"].as_str() {
            Some("flow") => flows.push(format!("{}:{}", record["orig_src"], record["orig_sport"])),
            Some("open") => {}
            _ => rest += line,
        }
    }
    (flows, rest)
}

#[test]
fn two_workers_share_the_messages_and_nothing_is_missing_or_twice() {
    run_or_skip("store", || {
        nats::program();
        own_namespace();
        raise_loopback();
        report_all_flows();
        let directory = scratch("store");
        let _server = Server::start(&directory, "");
        let collector = Collector::start(&directory, &collector_config(&directory));
        collector.await_log("recording");
        let reader = Reader::connect();
        await_that("the stream", || reader.message_count() > 0);
        let mut workers = vec![start_worker(&directory), start_worker(&directory)];
        let goes_on = Arc::new(AtomicBool::new(true));
        let load = thread::spawn({
            let goes_on = goes_on.clone();
            move || {
                make_flows(0, |number| {
                    if number % 20 == 0 {
                        thread::sleep(Duration::from_millis(5));
                    }
                    goes_on.load(Ordering::Relaxed)
                })
            }
        });
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(1500));
            // Killed, while it holds messages.
            drop(workers.remove(0));
            workers.push(start_worker(&directory));
        }
        goes_on.store(false, Ordering::Relaxed);
        let made = load.join().expect("the load");
        collector.end();
        await_that("all is stored", || query(&directory).0.len() >= made.len());
        await_that("all is acknowledged", || {
            reader.pending_count("nlring-store") == Some(0)
        });
        let (flows, rest) = query(&directory);
        let distinct: BTreeSet<&String> = flows.iter().collect();
        assert_eq!([flows.len(), distinct.len()], [made.len(); 2]);
        let log = fs::read_to_string(directory.join("store.log")).expect("a log");
        assert_eq!(rest, "", "{log}");
        assert!(directory.join("store/node=gw.1").is_dir());
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}

/// A worker that was suspended completes its file when another one has stored the messages.
#[test]
fn messages_that_two_workers_hold_are_stored_once() {
    run_or_skip("store twice", || {
        nats::program();
        own_namespace();
        raise_loopback();
        report_all_flows();
        let directory = scratch("store-twice");
        let _server = Server::start(&directory, "");
        let collector = Collector::start(&directory, &collector_config(&directory));
        collector.await_log("recording");
        let mut made = make_flows(0, |number| number < 1000);
        let reader = Reader::connect();
        let slow = Worker::start(&directory, "rotate_interval = \"3s\"\nack_wait = \"1h\"");
        await_that("it has begun a file", || {
            let names = Command::new("find").arg(directory.join("store")).output();
            let names = names.expect("find").stdout;
            String::from_utf8_lossy(&names).contains(".part")
        });
        slow.signal(Signal::STOP);
        // More messages, so that the files of the two workers differ.
        made.extend(make_flows(1000, |number| number < 2000));
        collector.end();
        reader.set_ack_wait("nlring-store", Duration::from_millis(500));
        let fast = Worker::start(&directory, "rotate_interval = \"300ms\"");
        await_that("all is stored", || query(&directory).0.len() >= made.len());
        slow.signal(Signal::CONT);
        let log = || fs::read_to_string(directory.join("store.log")).expect("a log");
        await_that("it is noticed", || {
            log().contains("another worker has stored")
        });
        await_that("all is acknowledged", || {
            reader.pending_count("nlring-store") == Some(0)
        });
        drop([slow, fast]);
        let (flows, rest) = query(&directory);
        assert_eq!((flows.len(), rest.as_str()), (made.len(), ""));
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}

/// Prints how fast a spool is published and stored, and the CPU time for it.
#[test]
#[ignore = "a measurement"]
fn speed_of_publishing_and_storing() {
    run_or_skip("store speed", || {
        nats::program();
        own_namespace();
        raise_loopback();
        report_all_flows();
        let directory = scratch("store-speed");
        let place = directory.display();
        let config = format!(
            "node = \"gw\"\n[http]\naddress = \"off\"\n[spool]\ndirectory = \"{place}/spool\"\n[[nats]]\n"
        );
        let collector = Collector::start(&directory, &config);
        collector.await_log("recording");
        let made = make_flows(0, |number| number < 1_000_000);
        thread::sleep(Duration::from_secs(2));
        collector.kill();
        let _server = Server::start(&directory, "");
        let reader = Reader::connect();
        let begun = std::time::Instant::now();
        let collector = Collector::start(&directory, &config);
        await_that("all is published", || {
            reader.record_count() >= made.len() as u64
        });
        let took = begun.elapsed().as_secs_f64();
        let cpu = cpu_seconds(collector.pid());
        let count = f64::from(u32::try_from(made.len()).expect("a number"));
        eprintln!(
            "published: {:.0} records/s, {:.2} us of CPU per record",
            count / took,
            cpu * 1e6 / count
        );
        collector.end();
        let begun = std::time::Instant::now();
        let worker = start_worker(&directory);
        await_that("all is stored", || {
            reader.has_consumer("nlring-store") && reader.pending_count("nlring-store") == Some(0)
        });
        let took = begun.elapsed().as_secs_f64();
        let cpu = cpu_seconds(worker.pid());
        eprintln!(
            "stored: {:.0} records/s, {:.2} us of CPU per record",
            count / took,
            cpu * 1e6 / count
        );
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}
