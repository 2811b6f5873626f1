//! Records of routes: each event of the kernel once, and what it did not report.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nlring::Timestamp;
use nlring_testing::{await_that, bind_name, must, own_names, own_namespace, raise_loopback};
use rustix::process::Signal;
use serde_json::Value;

use support::{Collector, NLRINGD, files, report_all_flows, scratch};

/// A namespace with a device, and a configuration of nlringd that records routes there.
struct Place {
    directory: PathBuf,
    config: String,
}

impl Place {
    fn new(name: &str, settings: &str) -> Self {
        own_namespace();
        report_all_flows();
        raise_loopback();
        must("ip link add v0 type veth peer name v1");
        must("ip address add 192.0.2.1/24 dev v0");
        must("ip link set v0 up");
        must("ip link set v1 up");
        let directory = scratch(name);
        let place = directory.display();
        let config = format!(
            "node = \"gw\"\nroutes = true\nflush_interval = \"20ms\"\n{settings}\n\
             [http]\naddress = \"127.0.0.1:9847\"\n[spool]\ndirectory = \"{place}/spool\"\n\
             [[files]]\ndirectory = \"{place}/records\"\nrotate_interval = \"1d\"\n\
             [[files]]\nname = \"json\"\ndirectory = \"{place}/json\"\nformat = \"json\"\n\
             compression = \"none\"\nrotate_interval = \"1d\"\n"
        );
        Self { directory, config }
    }

    fn start(&self) -> Collector {
        let collector = Collector::start(&self.directory, &self.config);
        collector.await_log("recording");
        await_that("the tables are read", || {
            let metrics = metrics();
            let mut lines = metrics.lines();
            lines.any(|line| {
                line.starts_with("nlringd_resyncs_total{") && line.contains("subject=\"routes\"")
            })
        });
        collector
    }

    /// The records in the complete files.
    fn records(&self) -> Vec<Value> {
        let paths = files(&self.directory.join("json"), ".jsonl");
        let texts = paths
            .iter()
            .map(|path| fs::read_to_string(path).expect("a file"));
        let text: String = texts.collect();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// What `nlringd query` prints with these options, on both outputs, and its exit code.
    fn ask(&self, options: &[&str]) -> (String, String, Option<i32>) {
        let output = Command::new(NLRINGD)
            .arg("query")
            .arg(self.directory.join("records"))
            .args(options)
            .output()
            .expect("nlringd starts");
        let [out, errors] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
        (out, errors, output.status.code())
    }

    /// Runs commands of ip.
    fn ip(&self, commands: &str) {
        let path = self.directory.join("commands");
        fs::write(&path, commands).expect("a file");
        must(&format!("ip -batch {}", path.display()));
    }
}

/// `ip -ts monitor route` in this namespace.
struct Monitor {
    child: Child,
    output: PathBuf,
}

impl Monitor {
    fn start(directory: &Path) -> Self {
        let output = directory.join("monitor");
        let to_output = File::create(&output).expect("a file");
        let child = Command::new("ip")
            .args(["-ts", "monitor", "route"])
            .stdout(to_output)
            .spawn()
            .expect("ip");
        let monitor = Self { child, output };
        await_that("ip monitor shows a route", || {
            must("ip route add 203.0.113.0/24 dev v0");
            must("ip route del 203.0.113.0/24 dev v0");
            !monitor.text().is_empty()
        });
        monitor
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.output).expect("a file")
    }

    /// The events of the routes to 10.0.0.0/8, once the last of them is there.
    fn events(&self, last: &str) -> Vec<(String, String)> {
        await_that("ip monitor shows the last route", || {
            self.text().contains(last)
        });
        let text = self.text();
        let event = |line: &str| {
            let mut words = line.split(' ').skip(1).peekable();
            let is_deletion = words.next_if_eq(&"Deleted").is_some();
            let kind = if is_deletion { "delete" } else { "new" };
            let dst = words.next().filter(|dst| dst.starts_with("10."))?;
            Some((kind.to_owned(), dst.to_owned()))
        };
        text.lines().filter_map(event).collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What nlringd of this namespace answers to Prometheus; nothing before it listens.
fn metrics() -> String {
    let Ok(mut stream) = TcpStream::connect("127.0.0.1:9847") else {
        return String::new();
    };
    let question = b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
    stream.write_all(question).expect("a question");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_default()
}

/// The records of routes to 10.0.0.0/8.
fn to_ten(records: &[Value]) -> impl Iterator<Item = &Value> {
    records.iter().filter(|record| {
        text(record, "record") == "route" && text(record, "route_dst").starts_with("10.")
    })
}

#[test]
fn each_line_of_ip_monitor_is_a_record() {
    let place = Place::new("routes-monitor", "");
    must("ip route add 10.255.0.0/24 dev v0");
    let collector = place.start();
    let monitor = Monitor::start(&place.directory);
    let life = |number| {
        format!(
            "route add 10.1.{number}.0/24 via 192.0.2.2 proto static metric 7\n\
             route change 10.1.{number}.0/24 via 192.0.2.3 proto bgp metric 7\n\
             route append 10.1.{number}.0/24 dev v0 metric 8\n\
             route del 10.1.{number}.0/24 metric 7\n"
        )
    };
    let lives: String = (0..100).map(life).collect();
    place.ip(&(lives + "route add 10.2.0.0/24 dev v0 table 100\n"));
    let events = monitor.events("10.2.0.0/24");
    collector.end();
    assert_eq!(events.len(), 401);
    let records = place.records();
    let routes = to_ten(&records);
    let (found, of_kernel): (Vec<_>, Vec<_>) =
        routes.partition(|record| record["resynced"] == true);
    let recorded = of_kernel.iter().map(|record| {
        let [kind, dst] = ["event", "route_dst"].map(|name| text(record, name).to_owned());
        (kind, dst)
    });
    let (at_start, recorded): (Vec<_>, Vec<_>) = recorded.partition(|(kind, _)| kind == "entry");
    assert_eq!(at_start, [("entry".to_owned(), "10.255.0.0/24".to_owned())]);
    assert_eq!(recorded, events);
    // The change replaces a route, whose deletion the kernel does not report.
    assert_eq!(found.len(), 100);
    assert!(found.iter().all(|record| {
        text(record, "event") == "delete" && text(&record["route"], "gateway") == "192.0.2.2"
    }));
    let changed = of_kernel
        .iter()
        .find(|record| text(&record["route"], "gateway") == "192.0.2.3");
    let changed = &changed.expect("it was changed")["route"];
    let [protocol, dev] = ["protocol", "dev"].map(|name| text(changed, name));
    assert_eq!([protocol, dev], ["bgp", "v0"]);
    assert_eq!(
        (&changed["priority"], &changed["table"]),
        (&7.into(), &254.into())
    );
    assert_eq!(changed["message_flags"], serde_json::json!(["replace"]));
    assert_eq!(of_kernel.last().expect("a record")["route"]["table"], 100);
}

#[test]
fn a_loss_is_a_record_and_the_routes_heal() {
    let place = Place::new("routes-loss", "recv_buffer = \"4KiB\"");
    let collector = place.start();
    must("ip route add 10.1.0.0/24 dev v0");
    collector.signal(Signal::STOP);
    let dst = |number: u32| format!("10.1.{number}.0/24");
    let add = |number| format!("route add {} dev v0\n", dst(number));
    let all: String = (1..256).map(add).collect();
    place.ip(&(all + "route del 10.1.0.0/24\n"));
    collector.signal(Signal::CONT);
    await_that("the loss is counted", || {
        let series = "nlringd_lost_datagrams_total{netns=\"\",subject=\"routes\"}";
        let metrics = metrics();
        let mut values = metrics.lines().filter_map(|line| line.strip_prefix(series));
        values.any(|value| value.trim() != "0")
    });
    collector.end();
    let records = place.records();
    let losses: Vec<_> = records
        .iter()
        .filter(|record| text(record, "record") == "loss" && text(record, "reason") == "kernel")
        .collect();
    assert!(!losses.is_empty(), "the buffer is too small for 255 routes");
    assert!(losses.iter().all(|loss| text(loss, "subject") == "routes"));
    let of = |wanted: &str| -> BTreeSet<String> {
        let routes = to_ten(&records);
        let routes = routes.filter(|record| text(record, "event") == wanted);
        routes
            .map(|record| text(record, "route_dst").to_owned())
            .collect()
    };
    assert_eq!(of("new"), (0..256).map(dst).collect());
    assert_eq!(of("delete"), [dst(0)].into());
    let found = to_ten(&records).filter(|record| record["resynced"] == true);
    let found: Vec<_> = found.collect();
    assert!(!found.is_empty(), "what was lost is found");
    for record in found {
        let [since, until] = ["since_ns", "until_ns"].map(|name| record[name].as_u64());
        assert!(since.is_some() && since <= until, "{record}");
    }
    let (_, errors, _) = place.ask(&["--route", "0.0.0.0/0"]);
    assert!(errors.contains("events were lost"), "{errors}");
    let (_, errors, code) = place.ask(&["--src", "10.0.0.1"]);
    assert!(
        !errors.contains("events were lost"),
        "no flow is missing: {errors}"
    );
    assert_eq!(code, Some(1), "{errors}");
}

#[test]
fn a_time_in_which_routes_were_not_recorded_is_incomplete() {
    let place = Place::new("routes-off", "");
    let without = place.config.replace("routes = true", "routes = false");
    let collector = Collector::start(&place.directory, &without);
    collector.await_log("recording");
    let before = Timestamp::now();
    must("ip route add 10.1.0.0/16 dev v0");
    await_that("a second is over", || {
        Timestamp::now().duration_since(before) > Duration::from_secs(1)
    });
    collector.end();
    let (_, errors, code) = place.ask(&["--route", "10.1.0.0/16"]);
    assert!(
        errors.contains("no records of routes were written"),
        "{errors}"
    );
    assert_eq!(code, Some(3));
    let (_, errors, code) = place.ask(&["--src", "10.1.0.1", "--at", &format!("{before:.3}")]);
    assert_eq!(code, Some(1), "flows were recorded: {errors}");
    let collector = place.start();
    let added = Timestamp::now();
    must("ip route add 10.2.0.0/16 dev v0");
    collector.end();
    let (out, errors, code) = place.ask(&["--route", "10.2.0.0/16"]);
    assert!(out.contains("10.2.0.0/16"), "{errors}");
    assert!(
        errors.contains("no records of routes were written"),
        "{errors}"
    );
    assert_eq!(code, Some(4));
    let from = format!("{added:.3}");
    let (_, errors, code) = place.ask(&["--route", "10.2.0.0/16", "--from", &from]);
    assert_eq!((errors.as_str(), code), ("", Some(0)));
}

#[test]
fn query_shows_what_happened_to_a_route() {
    let place = Place::new("routes-query", "");
    must("ip route add 10.1.0.0/16 dev v0");
    let collector = place.start();
    place.ip(
        "route add 10.1.2.0/24 via 192.0.2.2 proto static metric 7\n\
         route change 10.1.2.0/24 via 192.0.2.3 proto static metric 7\n\
         route del 10.1.2.0/24 via 192.0.2.3\n\
         route add 10.2.0.0/16 proto bgp nexthop via 192.0.2.2 weight 2 nexthop via 192.0.2.3\n\
         route add blackhole 10.1.9.0/24 table 100\n",
    );
    collector.end();
    let events = |prefix: &str| -> Vec<String> {
        let (out, errors, code) = place.ask(&["--route", prefix]);
        assert_eq!(code, Some(0), "{errors}");
        let lines = out.lines().skip(1).map(|line| {
            let (_time, rest) = line.split_once("  ").expect("columns");
            let rest: Vec<_> = rest.split("  ").filter(|cell| !cell.is_empty()).collect();
            rest.join(": ").trim_start().replace(":  ", ": ")
        });
        lines.collect()
    };
    let at_start = "entry: 10.1.0.0/16 dev v0 proto boot scope link";
    let static_7 = "proto static metric 7";
    assert_eq!(
        events("10.1.2.3"),
        [
            at_start.to_owned(),
            format!("new: 10.1.2.0/24 via 192.0.2.2 dev v0 {static_7}"),
            format!("replaced: 10.1.2.0/24 via 192.0.2.3 dev v0 {static_7}"),
            format!("deleted (found): 10.1.2.0/24 via 192.0.2.2 dev v0 {static_7}"),
            format!("deleted: 10.1.2.0/24 via 192.0.2.3 dev v0 {static_7}"),
        ]
    );
    assert_eq!(
        events("10.2.0.0/16"),
        [
            "new: 10.2.0.0/16 proto bgp nexthop via 192.0.2.2 dev v0 weight 2 nexthop via 192.0.2.3 dev v0 weight 1"
        ]
    );
    assert_eq!(
        events("10.1.9.0/24"),
        [at_start, "new: blackhole 10.1.9.0/24 table 100 proto boot"]
    );
    assert_eq!(events("10.0.0.0/8").len(), 7);
    let (out, errors, code) = place.ask(&["--route", "2001:db8::/32", "--at", "-1s"]);
    assert_eq!(out, "");
    assert!(errors.contains("nothing found"), "{errors}");
    assert_ne!(code, Some(0));
    let (out, ..) = place.ask(&["--route", "10.2.0.1", "--json"]);
    let record: Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
    assert_eq!(record["route"]["nexthops"][0]["weight"], 2);
    let (_, errors, code) = place.ask(&["--route", "10.0.0.0/33"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("203.0.113.0/24"), "{errors}");
}

#[test]
fn routes_of_a_namespace_with_a_name_are_recorded() {
    own_names();
    let place = Place::new("routes-namespace", "namespaces = [\"blue\"]");
    bind_name("blue");
    must("ip route add 10.1.0.0/24 dev v0");
    own_namespace();
    raise_loopback();
    let collector = place.start();
    must("ip -n blue route add 10.2.0.0/24 dev v0");
    collector.end();
    let log = fs::read_to_string(place.directory.join("log")).expect("a log");
    assert!(!log.contains("not permitted"), "{log}");
    let records = place.records();
    let routes = to_ten(&records);
    let routes: Vec<_> = routes
        .map(|record| ["netns", "event", "route_dst"].map(|name| text(record, name)))
        .collect();
    assert_eq!(
        routes,
        [
            ["blue", "entry", "10.1.0.0/24"],
            ["blue", "new", "10.2.0.0/24"]
        ]
    );
}
