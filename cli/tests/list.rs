//! `--snapshot --once` lists the same entries as `conntrack -L` and `ip route`.

mod common;

use std::collections::BTreeMap;
use std::process::Command;

use common::{Events, NLRING, Run, json, make_flows, make_routes, must, own_namespace, run};
use nlring::message::flags;
use nlring::route;
use serde_json::Value;

/// The command's list, sorted.
#[track_caller]
fn list(arguments: &str) -> Vec<String> {
    let output = Command::new(NLRING)
        .args(arguments.split_whitespace())
        .output()
        .expect("nlring runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    assert_eq!(errors, "", "{arguments}");
    sorted(&output.stdout)
}

fn sorted(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8(text.to_vec()).expect("UTF-8");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Another program's list, sorted. None: it is not installed.
#[track_caller]
fn theirs(line: &str) -> Option<Vec<String>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = run(words[0], &words[1..]);
    if output.is_none() {
        common::skip(line, "not installed");
    }
    Some(sorted(&output?.stdout))
}

#[test]
fn flows_are_listed_as_conntrack_lists_them() {
    own_namespace();
    make_flows(0..300); // more than one datagram of the dump holds
    if let Some(theirs) = theirs("conntrack -L") {
        must("conntrack -I -p udp -s fd00::1 -d fd00::2 --sport 7 --dport 8 -t 99 -m 5 -u ASSURED");
        must(
            "conntrack -I -p icmp -s 10.9.9.1 -d 10.9.9.2 --icmp-type 8 --icmp-code 0 --icmp-id 3 -t 99",
        );
        must("conntrack -I -p udp -s 10.8.8.1 -d 10.8.8.2 --sport 7 --dport 8 -t 99 -w 3");
        assert_eq!(theirs.len(), 300);
    }
    for fields in ["", " -o id", " -o extended", " -o extended,id"] {
        let theirs = || theirs(&format!("conntrack -L{fields}"));
        let (Some(before), ours, Some(after)) = (
            theirs(),
            list(&format!("conntrack --snapshot --once{fields}")),
            theirs(),
        ) else {
            return;
        };
        let (before, ours, after) = (timed(&before), timed(&ours), timed(&after));
        assert!(ours.keys().eq(before.keys()), "{ours:#?}, {before:#?}");
        for (line, seconds) in &ours {
            let between = after[line]..=before[line];
            assert!(
                between.contains(seconds),
                "{line}: {seconds} in {between:?}"
            );
        }
    }
}

/// The lines of flows without their timeouts in seconds, and the timeouts, because they count down between two lists.
#[track_caller]
fn timed(lines: &[String]) -> BTreeMap<String, u32> {
    let parts = lines.iter().map(|line| {
        let mut words = line.split_whitespace().collect::<Vec<_>>();
        // `-o extended` puts the network protocol's name and number first.
        let place = if words[0].starts_with("ipv") { 4 } else { 2 };
        let seconds = words.remove(place).parse().expect("a timeout");
        (words.join(" "), seconds)
    });
    parts.collect()
}

#[test]
fn routes_are_listed_as_ip_lists_them() {
    own_namespace();
    make_routes(0..1000);
    let mut theirs = self::theirs("ip route show table all").expect("ip is installed");
    must("ip route add 10.200.0.0/16 via 127.0.0.1 dev lo table 77 metric 5");
    must("ip -6 route add fd01::/64 dev lo metric 9");
    assert!(theirs.len() > 1000);
    theirs = self::theirs("ip route show table all").expect("ip is installed");
    let ours = list("route --snapshot --once");
    common::assert_same_lines(&ours, &theirs);
}

#[test]
fn each_entry_is_a_whole_object() {
    own_namespace();
    make_flows(0..3);
    make_routes(0..3);
    for (events, command, key) in [
        (Events::Conntrack, "conntrack", "orig"),
        (Events::Route, "route", "dst"),
    ] {
        let lines = list(&format!("{command} --snapshot --once --json"));
        let objects = json::objects(events, &lines);
        assert!(objects.len() >= 3, "{objects:#?}");
        for object in &objects {
            assert_eq!(object["event"], "entry", "{object}");
            assert_ne!(object[key], Value::Null, "{object}");
            assert_eq!(object["port_id"], Value::Null, "it is our own: {object}");
            assert_eq!(object["time_ns"], Value::Null, "{object}");
        }
        let one = list(&format!("{command} --snapshot --once --json --count 1"));
        assert_eq!(one.len(), 1);
    }
}

#[test]
fn a_list_can_go_to_a_file_and_its_reader_may_leave() {
    own_namespace();
    make_flows(0..2000); // more than a pipe holds
    let directory = common::Directory::new();
    let file = directory.file("flows");
    assert!(list(&format!("conntrack --snapshot --once --output {file}")).is_empty());
    assert_eq!(common::whole_lines(file.as_ref()).len(), 2000);
    let line = format!("set -o pipefail; {NLRING} conntrack --snapshot --once | head -n 1");
    let output = run("bash", &["-c", &line]).expect("bash");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    for arguments in [
        "--once",
        "--snapshot --once --mirror",
        "--snapshot --once --duration 1s",
        "--snapshot --once --stats /tmp/x",
        "--table /tmp/x",
        "--resync-interval 1s",
    ] {
        for command in ["conntrack", "route"] {
            let line = format!("{command} {arguments}");
            let output = run(NLRING, &line.split(' ').collect::<Vec<_>>()).expect("nlring");
            assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        }
    }
}

/// Adds an IPv6 route that the kernel cannot dump: with its 1,200 next hops it has more than 32 KiB.
fn add_large_route() {
    assert!(common::add_device("v0", &["10.0.0.1/8", "fd00::1/64"]));
    let mut requests = route::Requests::open().expect("a requester");
    let links = requests.links(|index: &mut u32, link| {
        if link.name == Some(b"v0") {
            *index = link.index;
        }
    });
    let device = links.expect("the links").items.to_ne_bytes();
    let hop = |number: u16| {
        // struct rtnexthop, and RTA_GATEWAY in fd00::/64.
        let (length, [high, low]) = (28u16.to_ne_bytes(), number.to_be_bytes());
        let attribute = [20u16.to_ne_bytes(), 5u16.to_ne_bytes()].concat();
        let gateway = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low];
        [&length[..], &[0, 0], &device, &attribute, &gateway].concat()
    };
    let hops: Vec<u8> = (2..1202).flat_map(hop).collect();
    let mut dst = [0; 16];
    dst[..2].copy_from_slice(&[0xfd, 0x20]);
    let added = requests
        .requester()
        .ask(24, flags::CREATE | flags::EXCL, |request| {
            // struct rtmsg, RTA_DST and RTA_MULTIPATH.
            let request = request.bytes(&[10, 64, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]);
            request.attribute(1, &dst).attribute(9, &hops)
        });
    added.expect("a route");
}

const TOO_LARGE: &str = "one entry is larger than the 32 KiB that the kernel dumps at a time";

#[test]
fn a_route_that_cannot_be_dumped_ends_the_list_and_not_the_mirror() {
    own_namespace();
    add_large_route();
    let dump = route::Requests::open()
        .expect("a requester")
        .dump(&route::DumpFilter::new(), |(), _| ());
    if dump.is_ok() {
        return common::skip(
            "a_route_that_cannot_be_dumped_ends_the_list_and_not_the_mirror",
            "the kernel omits the route without an error",
        );
    }
    let output = Command::new(NLRING)
        .args(["route", "--snapshot", "--once"])
        .output()
        .expect("nlring runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(errors.matches(TOO_LARGE).count(), 1, "{errors}");
    let lines = sorted(&output.stdout);
    let is_before = |line: &String| line.starts_with("10.0.0.0/8 dev v0 ");
    assert!(lines.iter().any(is_before), "{lines:#?}");

    let ended = Run::new("route --snapshot --duration 2s").run_to_end();
    assert!(ended.errors.contains(TOO_LARGE), "{}", ended.errors);
}
