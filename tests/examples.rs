//! Each program of `examples/` runs, and prints what it should after an event.
//!
//! `scripts/test` builds the examples beside the tests. One that is not there is skipped.

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nlring::conntrack::{self, Layer4, NewFlow, Tuple};
use nlring::route::{self, NewRoute};
use nlring_testing::{PATIENCE, cannot_run, own_namespace, raise_loopback, run_or_skip};

/// Where cargo puts the example.
fn path(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this test's path");
    let target = own.ancestors().nth(2).expect("the directory above deps");
    let path = target.join("examples").join(name);
    if !path.exists() {
        cannot_run(format!("{} is not built", path.display()));
    }
    path
}

fn start(name: &str, argument: &str) -> Child {
    let mut command = Command::new(path(name));
    let command = command.args(argument.split_whitespace());
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("the example runs")
}

/// Makes events until the example has ended, and returns what it printed.
fn run_with_events(name: &str, argument: &str, mut make_event: impl FnMut(u8)) -> String {
    let mut child = start(name, argument);
    let deadline = Instant::now() + PATIENCE;
    // The first events may come before the example listens.
    for number in (0..=u8::MAX).cycle() {
        if child.try_wait().expect("its status").is_some() {
            break;
        }
        if Instant::now() > deadline {
            child.kill().expect("it ends");
            break;
        }
        make_event(number);
        thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn a_flow(number: u8) -> NewFlow<'static> {
    let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let layer4 = Layer4::Ports {
        src: 40_000 + u16::from(number),
        dst: 443,
    };
    let tuple = Tuple::new(address(1), address(2), 6, layer4);
    NewFlow::new(tuple, 600).tcp_state(3)
}

/// A flow begins and ends.
fn make_flow(number: u8) {
    let mut requests = conntrack::Requests::open().expect("conntrack's requester");
    let flow = a_flow(number);
    requests.add(&flow).expect("a flow");
    requests.delete(&flow.key(), None).expect("its end");
}

/// A route comes and goes.
fn make_route(number: u8) {
    let mut requests = route::Requests::open().expect("a route requester");
    let route = NewRoute::new(IpAddr::V4(Ipv4Addr::new(10, 1, number, 0)), 24);
    let route = route.route_type(route::route_type::BLACKHOLE);
    requests.add(&route).expect("a route");
    requests.delete(&route).expect("its end");
}

#[test]
fn list_links_prints_the_loopback_device() {
    run_or_skip("list_links", || {
        own_namespace();
        let printed = run_with_events("list_links", "", |_| ());
        assert_eq!(printed, "1: lo\n");
    });
}

#[test]
fn routes_prints_a_route() {
    run_or_skip("routes", || {
        own_namespace();
        let printed = run_with_events("routes", "1", make_route);
        let route = printed
            .strip_prefix("+ 10.1.")
            .or(printed.strip_prefix("- 10.1."));
        assert!(
            route.is_some_and(|route| route.contains(".0/24 in table 254")),
            "{printed}"
        );
    });
}

#[test]
fn conntrack_prints_a_flow() {
    run_or_skip("conntrack", || {
        own_namespace();
        let printed = run_with_events("conntrack", "1", make_flow);
        assert!(printed.contains(" tcp 10.0.0.1 port "), "{printed}");
    });
}

#[test]
fn shards_counts_flows_on_two_threads() {
    run_or_skip("shards", || {
        own_namespace();
        let printed = run_with_events("shards", "2 1", make_flow);
        let sum = printed.lines().last().expect("a line");
        let count = sum.strip_suffix(" datagrams received, 0 lost");
        let count = count.and_then(|count| count.parse::<u64>().ok());
        assert!(count.is_some_and(|count| count > 0), "{printed}");
        assert!(
            printed.contains("shard 0: ") && printed.contains("shard 1: "),
            "{printed}"
        );
    });
}

#[test]
fn sample_follows_a_part_of_the_flows() {
    run_or_skip("sample", || {
        own_namespace();
        let printed = run_with_events("sample", "2 10", make_flow);
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines.len(), 11, "{printed}");
        let begun_count = lines
            .iter()
            .filter(|line| line.starts_with("New 10.0.0.1 -> "));
        let begun_count = begun_count.count();
        let last = format!(
            "about {} flows began, because {begun_count} of a sample did",
            2 * begun_count
        );
        assert_eq!(lines[10], last);
    });
}

#[test]
fn requests_finds_the_way_and_the_flows() {
    run_or_skip("requests", || {
        own_namespace();
        raise_loopback();
        let mut requests = conntrack::Requests::open().expect("conntrack's requester");
        requests.add(&a_flow(0)).expect("a flow");
        let printed = run_with_events("requests", "127.0.0.1", |_| ());
        assert_eq!(printed, "127.0.0.1: directly, device lo, from 127.0.0.1\n");
        let printed = run_with_events("requests", "10.0.0.2", |_| ());
        assert!(
            printed.contains("tcp 6 from 10.0.0.1: ESTABLISHED"),
            "{printed}"
        );
    });
}

#[test]
fn mirror_prints_a_table_until_it_is_killed() {
    run_or_skip("mirror", || {
        own_namespace();
        let mut requests = conntrack::Requests::open().expect("conntrack's requester");
        requests.add(&a_flow(0)).expect("a flow");
        let mut child = start("mirror", "");
        let lines = std::io::BufReader::new(child.stdout.take().expect("its output"));
        let mut lines = std::io::BufRead::lines(lines).map(|line| line.expect("a line"));
        let found = lines.find(|line| line.starts_with("1 flows: "));
        child.kill().expect("it ends");
        child.wait().expect("it ended");
        assert_eq!(found.as_deref(), Some("1 flows: {\"ESTABLISHED\": 1}"));
    });
}

/// The number in the last line, `N route events in all`.
fn route_event_count(printed: &str) -> u64 {
    let last = printed.lines().last();
    let count = last.and_then(|line| line.strip_suffix(" route events in all"));
    count.and_then(|count| count.parse().ok()).expect("a count")
}

#[test]
fn tokio_counts_routes() {
    run_or_skip("tokio", || {
        own_namespace();
        let printed = run_with_events("tokio", "1", make_route);
        assert!(route_event_count(&printed) > 0, "{printed}");
    });
}

#[test]
fn stream_counts_routes() {
    run_or_skip("stream", || {
        own_namespace();
        let printed = run_with_events("stream", "1", make_route);
        assert!(route_event_count(&printed) > 0, "{printed}");
    });
}

#[test]
fn netlink_packet_route_describes_a_link() {
    run_or_skip("netlink_packet_route", || {
        own_namespace();
        let printed = run_with_events("netlink_packet_route", "1", |_| {
            raise_loopback();
            common::set_loopback(
                &nlring::Socket::open(nlring::Protocol::ROUTE).unwrap(),
                false,
            );
        });
        assert!(printed.starts_with("1 lo: "), "{printed}");
    });
}

#[test]
fn latency_prints_percentiles() {
    run_or_skip("latency", || {
        own_namespace();
        let setting = "/proc/sys/net/netfilter/nf_conntrack_timestamp";
        if std::fs::write(setting, "1").is_err() {
            cannot_run(format!("{setting} cannot be set"));
        }
        let printed = run_with_events("latency", "1", make_flow);
        assert!(printed.contains("Percentile"), "{printed}");
    });
}
