//! `/metrics` and `/health`, requested over HTTP while nlringd works and while it does not.

mod support;

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use nlring_testing::{await_that, must, own_namespace, run_or_skip};

use support::http::{ask, value};
use support::nats::{self, Server};
use support::{Collector, NLRINGD, make_flows, report_all_flows, scratch};

fn config(directory: &Path, address: &str) -> String {
    let place = directory.display();
    format!(
        "node = \"gw\"\nflush_interval = \"20ms\"\n[http]\naddress = \"{address}\"\n\
         [spool]\ndirectory = \"{place}/spool\"\n\
         [[files]]\nname = \"long\"\ndirectory = \"{place}/records\"\nrotate_interval = \"100ms\"\n"
    )
}

/// A namespace in which nlringd can be reached, and flows are reported.
fn prepare() {
    own_namespace();
    must("ip link set lo up");
    report_all_flows();
}

/// The address at which nlringd says that it listens.
fn address(collector: &Collector) -> String {
    collector.await_log("recording");
    let log = collector.log();
    let (_, rest) = log.split_once("are at http://").expect("the address");
    rest.lines().next().expect("the address").trim().to_owned()
}

#[test]
fn metrics_count_what_happens() {
    prepare();
    must("sysctl -qw net.netfilter.nf_conntrack_timestamp=1");
    let directory = scratch("metrics");
    let collector = Collector::start(&directory, &config(&directory, "127.0.0.1:0"));
    let address = address(&collector);
    let metrics = || ask(&address, "/metrics").2;
    await_that("the first dump is read, so no event is held for it", || {
        let snapshots = "nlringd_resyncs_total{netns=\"\",subject=\"flows\",reason=\"snapshot\"}";
        value(&metrics(), snapshots) == Some(1.0)
    });
    make_flows(0, |number| number < 500);
    await_that("all flows are recorded", || {
        value(&metrics(), "nlringd_records_total{record=\"flow\"}") == Some(500.0)
    });
    await_that("all datagrams are counted", || {
        let received = value(
            &metrics(),
            "nlringd_received_datagrams_total{netns=\"\",subject=\"flows\"}",
        );
        received.is_some_and(|received| received >= 1000.0)
    });
    await_that("the output has them", || {
        let complete = "nlringd_output_complete_timestamp_seconds{output=\"long\"}";
        value(&metrics(), complete).is_some_and(|seconds| seconds > 1.7e9)
    });
    let (status, head, text) = ask(&address, "/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    for (series, wanted) in [
        ("nlringd_records_total{record=\"event\"}", 0.0),
        (
            "nlringd_lost_datagrams_total{netns=\"\",subject=\"flows\"}",
            0.0,
        ),
        (
            "nlringd_unreadable_datagrams_total{netns=\"\",subject=\"flows\",reason=\"truncated\"}",
            0.0,
        ),
        ("nlringd_failing{part=\"spool\"}", 0.0),
        ("nlringd_failing{part=\"output\",output=\"long\"}", 0.0),
        ("nlringd_output_losses_total{output=\"long\"}", 0.0),
        ("nlringd_spool_limit_bytes", 8_589_934_592.0),
        ("nlringd_event_latency_seconds_count", 500.0),
        ("nlringd_flows{netns=\"\"}", 0.0),
        ("nlringd_output_errors_total{output=\"long\"}", 0.0),
        ("nlringd_spool_errors_total", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(wanted), "{series} in {text}");
    }
    assert!(value(&text, "nlringd_spool_bytes").is_some_and(|bytes| bytes > 0.0));
    let (status, _, body) = ask(&address, "/health");
    assert_eq!((status, body.as_str()), (200, "{\"status\":\"ok\"}\n"));
    assert_eq!(ask(&address, "/other").0, 404);
    collector.end();
}

#[test]
fn health_names_an_output_that_fails_until_it_works_again() {
    prepare();
    let directory = scratch("health");
    let collector = Collector::start(&directory, &config(&directory, "127.0.0.1:0"));
    let address = address(&collector);
    let (records, away) = (directory.join("records"), directory.join("away"));
    await_that("the directory is there", || records.exists());
    fs::rename(&records, &away).expect("it is moved away");
    await_that("it fails", || ask(&address, "/health").0 == 503);
    let (_, _, body) = ask(&address, "/health");
    assert!(body.contains("output long"), "{body}");
    assert!(body.contains(&records.display().to_string()), "{body}");
    let metrics = ask(&address, "/metrics").2;
    let errors = value(&metrics, "nlringd_output_errors_total{output=\"long\"}");
    assert!(errors >= Some(1.0), "{metrics}");
    let failing = value(&metrics, "nlringd_failing{part=\"output\",output=\"long\"}");
    assert_eq!(failing, Some(1.0), "{metrics}");
    fs::rename(&away, &records).expect("it is back");
    await_that("it works again", || ask(&address, "/health").0 == 200);
    collector.end();
}

#[test]
fn an_address_that_is_configured_must_be_free_and_the_default_need_not() {
    prepare();
    let directory = scratch("address");
    let first = Collector::start(&directory, &config(&directory, "127.0.0.1:9847"));
    first.await_log("are at http://127.0.0.1:9847");
    let other = scratch("address-other");
    let mut second = Collector::start(&other, &config(&other, "127.0.0.1:9847"));
    await_that("it has failed", || second.log().contains("[http] address"));
    assert!(!second.stop(), "it has ended with a failure");
    let without = config(&other, "x").replace("[http]\naddress = \"x\"\n", "");
    let third = Collector::start(&other, &without);
    third.await_log("nlringd works without /metrics");
    third.await_log("recording");
    third.end();
    first.end();
}

#[test]
fn a_worker_of_store_shows_what_it_does_and_why_it_does_nothing() {
    run_or_skip("metrics of store", || {
        nats::program();
        prepare();
        let directory = scratch("metrics-store");
        let place = directory.display();
        let path = directory.join("store.toml");
        let address = "127.0.0.1:9848";
        let text = format!(
            "directory = \"{place}/store\"\nrotate_interval = \"200ms\"\n[http]\naddress = \"{address}\"\n"
        );
        fs::write(&path, text).expect("a configuration");
        let mut worker = Command::new(NLRINGD);
        worker.args(["store", "--config"]).arg(&path);
        let mut worker = worker.stderr(Stdio::null()).spawn().expect("a worker");
        let health = || match TcpStream::connect(address) {
            Ok(_) => ask(address, "/health"),
            Err(_) => (0, String::new(), String::new()),
        };
        await_that("there is no server", || health().0 == 503);
        let (_, _, body) = health();
        assert!(body.contains("\"store\""), "{body}");
        assert!(body.contains("127.0.0.1:4222"), "{body}");
        let _server = Server::start(&directory, "");
        let config = config(&directory, "off") + "[[nats]]\n";
        let collector = Collector::start(&directory, &config);
        collector.await_log("recording");
        make_flows(0, |number| number < 100);
        let metrics = || ask(address, "/metrics").2;
        await_that("all flows are stored", || {
            value(&metrics(), "nlringd_store_records_total") >= Some(100.0)
        });
        collector.end();
        let stored = "nlringd_store_messages_total{fate=\"stored\"}";
        await_that("all that was taken is stored", || {
            let metrics = metrics();
            value(&metrics, "nlringd_store_held_messages") == Some(0.0)
                && value(&metrics, "nlringd_store_waiting_messages") == Some(0.0)
        });
        let metrics = metrics();
        for (series, least, most) in [
            (stored, 1.0, 1e6),
            ("nlringd_store_messages_total{fate=\"repeated\"}", 0.0, 0.0),
            ("nlringd_store_messages_total{fate=\"foreign\"}", 0.0, 0.0),
            ("nlringd_store_files_total", 1.0, 1e6),
            ("nlringd_store_file_bytes_total", 1000.0, 1e9),
            (
                "nlringd_store_complete_timestamp_seconds{node=\"gw\"}",
                1.7e9,
                1e10,
            ),
            ("nlringd_store_errors_total", 1.0, 1e6),
            ("nlringd_failing{part=\"store\"}", 0.0, 0.0),
        ] {
            let value = value(&metrics, series);
            let is_right = value.is_some_and(|value| (least..=most).contains(&value));
            assert!(is_right, "{series} in {metrics}");
        }
        assert_eq!(health().0, 200);
        worker.kill().expect("it is killed");
        worker.wait().expect("it has ended");
    });
}
