//! Filters of `nlring route`: the same routes as with `ip monitor` and `ip route`, and errors that point at their place.

mod common;

use std::fs;

use common::{
    Directory, Ended, Events, Follower, NLRING, Peer, Run, assert_refused_at, assert_same_lines,
    await_that, is_installed, lines_until, must, namespace_with_devices, own_namespace, run, say,
    skip,
};
use nlring_testing::own_names;
use serde_json::Value;

/// The first route, added once all programs listen, because the kernel needs a moment for new devices. And the last
/// route: once it is printed, everything before it was printed too. Both match all filters of the tests.
const FIRST: &str = "203.0.113.0";
const LAST: &str = "203.0.113.255";

/// Texts that are not route filters, and the word at which reading them ends. Empty: the end of the text.
const MALFORMED: &[(&str, &str)] = &[
    ("", ""),
    ("main", "main"),
    ("table", ""),
    ("table no-such-table", "no-such-table"),
    ("table 4294967296", "4294967296"),
    ("proto no-such-program", "no-such-program"),
    ("proto {kernel bgp}", "bgp"),
    ("scope 256", "256"),
    ("type fast", "fast"),
    ("dst 10.0.0.0/33", "10.0.0.0/33"),
    ("dst 10.0.0.0/8 longer", "longer"),
    ("dst default or-longer", "or-longer"),
    ("dst fd00::/129", "fd00::/129"),
    ("via example.com", "example.com"),
    ("dev", ""),
    ("dev 0", "0"),
    ("dev {d0,", ""),
    ("dev eth0/1", "eth0/1"),
    ("dev name-of-16-bytes", "name-of-16-bytes"),
    ("metric 20-10", "20-10"),
    ("event update", "update"),
    ("family inet", "inet"),
    ("portid x", "x"),
    ("table main and", ""),
    ("table main or or dev d0", "or"),
    ("(table main", ""),
    ("not", ""),
    ("table main \u{e9} dev d0", "\u{e9}"),
];

/// Changes routes of all kinds, and fails if the kernel refuses one.
fn change_routes() {
    for change in [
        "route add 192.0.2.0/24 via 10.1.0.2",
        "route replace 192.0.2.0/24 via 10.1.0.3",
        "route append 192.0.2.0/24 via 10.2.0.3",
        "route add default via 10.2.0.2 metric 7",
        "route add 192.0.3.0/24 dev d1 table 5 proto bgp",
        "route add 192.0.4.0/24 dev d0 table 5 proto 77",
        "route add 192.0.5.0/24 dev d0 table 1000 scope link proto static",
        "route add blackhole 192.0.6.0/24",
        "route add unreachable 192.0.7.0/24 table 5 metric 20",
        "route add 192.0.8.0/24 nexthop via 10.1.0.2 nexthop via 10.2.0.2",
        "route add 192.0.9.0/24 table 5 nexthop via 10.2.0.2 nexthop via 10.2.0.3",
        "route add 192.0.10.0/24 via inet6 fd01::2 dev d0",
        "nexthop add id 1 via 10.1.0.2 dev d0",
        "nexthop add id 2 via 10.2.0.2 dev d1",
        "nexthop add id 3 group 1/2",
        "route add 192.0.11.0/24 nhid 1",
        "route add 192.0.12.0/24 nhid 3",
        "route add 192.0.13.0/24 nhid 2 table 5",
        "-6 route add 2001:db8:1::/64 via fd01::2 dev d0",
        "-6 route add 2001:db8:2::/64 dev d1 table 5 metric 9",
        "-6 route add 2001:db8:3::/64 nexthop via fd01::2 nexthop via fd02::2",
        "-6 route add 2001:db8:4::/64 table 5 nexthop via fd02::2 nexthop via fd02::3",
        "route del 192.0.4.0/24 table 5",
        "route del 192.0.8.0/24",
        "-6 route del 2001:db8:2::/64 table 5",
        "-6 route del 2001:db8:1::/64",
        "nexthop del id 2",
        "route flush table 1000",
    ] {
        must(&format!("ip {change}"));
    }
}

/// nlring with this text as a filter, and with further arguments.
fn follow(text: &str, arguments: &str) -> Follower {
    let run = Run::new(format!("route {arguments}").trim());
    run.args(&["--filter", text]).start()
}

fn since_first(lines: &[String]) -> Vec<String> {
    let first = lines.iter().position(|line| line.contains(FIRST));
    lines[first.expect("the first")..].to_vec()
}

/// The lines between the first and the last route, with both, after a good end without losses.
fn end(follower: Follower) -> (Vec<String>, Ended) {
    let lines = since_first(&lines_until(LAST, || follower.lines()));
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("dropped"), 0);
    (lines, ended)
}

/// The lines of each route, joined: a route with several hops has a line for each of them.
fn joined(lines: &[String]) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    for line in lines {
        match joined.last_mut() {
            Some(last) if line.starts_with('\t') => last.push_str(line),
            _ => joined.push(line.clone()),
        }
    }
    joined
}

/// What ip leaves out of its lines because all of them have it.
fn without(lines: &[String], words: &str) -> Vec<String> {
    lines.iter().map(|line| line.replace(words, "")).collect()
}

#[test]
fn routes_of_a_device_are_those_of_ip_monitor_and_those_with_several_hops() {
    if !namespace_with_devices("routes_of_a_device_are_those_of_ip_monitor") {
        return;
    }
    for device in ["d0", "d1"] {
        let peer = Peer::start(Events::Route, &format!("ip monitor route dev {device}"));
        let peer = peer.expect("ip");
        let all = Follower::start("route");
        let ours = Follower::start(&format!("route --dev {device}"));
        must(&format!("ip route add {FIRST} dev {device}"));
        change_routes();
        must(&format!("ip route add {LAST} dev {device}"));
        let theirs = since_first(&lines_until(LAST, || peer.lines()));
        let (ours, _) = end(ours);
        let (all, _) = end(all);
        let word = format!(" dev {device} ");
        let wanted = |line: &String| line.contains(&word);
        let of_all: Vec<String> = joined(&all).into_iter().filter(wanted).collect();
        assert_same_lines(&joined(&ours), &of_all);
        let (several, one): (Vec<_>, Vec<_>) = joined(&ours)
            .into_iter()
            .partition(|line| line.contains("\tnexthop"));
        assert!(several.len() >= 4, "{several:#?}");
        assert!(one.len() >= 8, "{one:#?}");
        assert_same_lines(&without(&one, &format!(" dev {device}")), &theirs);
        for change in [
            "ip route flush table main proto boot",
            "ip route flush table 5",
            "ip -6 route flush table 5",
            "ip -6 route flush proto boot",
            "ip nexthop flush",
        ] {
            run("sh", &["-c", change]).expect("sh");
        }
    }
}

#[test]
fn routes_of_a_table_are_those_of_ip_monitor() {
    if !namespace_with_devices("routes_of_a_table_are_those_of_ip_monitor") {
        return;
    }
    let peer = Peer::start(Events::Route, "ip monitor route").expect("ip");
    let tables = [("main", ""), ("5", " table 5 "), ("0x3e8", " table 1000 ")];
    let ours = tables.map(|(table, word)| {
        let follower = Follower::start(&format!("route --in-table {table}"));
        (word, follower)
    });
    must(&format!("ip route add {FIRST} dev d0"));
    for table in ["5", "1000"] {
        must(&format!("ip route add {FIRST} dev d0 table {table}"));
    }
    change_routes();
    for table in ["main", "5", "1000"] {
        must(&format!("ip route add {LAST} dev d0 table {table}"));
    }
    let is_last = |lines: &[String]| lines.iter().filter(|line| line.contains(LAST)).count() == 3;
    await_that("ip has all lines", || is_last(&peer.lines()));
    let theirs = joined(&since_first(&peer.lines()));
    for (word, follower) in ours {
        let (ours, ended) = end(follower);
        let is_of_table = |line: &&String| match word {
            "" => !line.contains(" table "),
            word => line.contains(word),
        };
        let wanted: Vec<String> = theirs.iter().filter(is_of_table).cloned().collect();
        assert_same_lines(&joined(&ours), &wanted);
        let received = ended.stat("received") - ended.stat("other_events");
        assert_eq!(received, wanted.len() as u64, "the kernel sends no other");
        assert_eq!(ended.stat("not_shown"), 0);
    }
}

/// A text, and the same condition on an object of the unfiltered stream.
type Case = (&'static str, fn(&Value) -> bool);

fn has_hop(route: &Value, name: &str, value: &str) -> bool {
    let hops = route["nexthops"].as_array();
    let mut hops = hops.into_iter().flatten().chain([route]);
    hops.any(|hop| hop[name] == value)
}

const CASES: &[Case] = &[
    (
        "dst 203.0.113.0/24 or-longer or table 5 and proto {bgp, 77}",
        |route| {
            is_end(route)
                || route["table"] == 5 && (route["protocol"] == "bgp" || route["protocol"] == "77")
        },
    ),
    (
        "dst 203.0.113.0/24 or-longer or via {10.1.0.2, fd02::/16}",
        |route| {
            let mut hops = route["nexthops"]
                .as_array()
                .into_iter()
                .flatten()
                .chain([route]);
            let gateway = |hop: &Value| {
                let gateway = hop["gateway"].as_str().unwrap_or_default();
                gateway == "10.1.0.2" || gateway.starts_with("fd02:")
            };
            is_end(route) || hops.any(gateway)
        },
    ),
    (
        "dst 203.0.113.0/24 or-longer or dev d1 and not table main",
        |route| is_end(route) || has_hop(route, "dev", "d1") && route["table"] != 254,
    ),
    (
        "dst 203.0.113.0/24 or-longer or family ipv6 and event delete",
        |route| is_end(route) || route["family"] == "ipv6" && route["event"] == "delete",
    ),
    (
        "dst 203.0.113.0/24 or-longer or type {blackhole, unreachable} or dst default",
        |route| {
            is_end(route)
                || ["blackhole", "unreachable"].contains(&route["type"].as_str().unwrap_or(""))
                || route["dst"] == "default"
                || route["dst"] == "0.0.0.0/0"
        },
    ),
    ("dst 203.0.113.0/24 or-longer or metric 7-20", |route| {
        let metric = route["priority"].as_u64();
        is_end(route) || metric.is_some_and(|metric| (7..=20).contains(&metric))
    }),
];

fn is_end(route: &Value) -> bool {
    let dst = route["dst"].as_str().unwrap_or_default();
    dst.starts_with("203.0.113.")
}

#[test]
fn filters_pick_from_the_unfiltered_stream() {
    if !namespace_with_devices("filters_pick_from_the_unfiltered_stream") {
        return;
    }
    let all = Follower::start("route --json");
    let filtered: Vec<Follower> = CASES
        .iter()
        .map(|(text, _)| follow(text, "--json"))
        .collect();
    must(&format!("ip route add {FIRST} dev d0"));
    change_routes();
    must(&format!("ip route add {LAST} dev d0"));
    let (all, _) = end(all);
    for ((text, matches), follower) in CASES.iter().zip(filtered) {
        let (ours, ended) = end(follower);
        let plain = |line: &String| {
            let mut route = common::json::parse(line);
            route.as_object_mut().expect("an object").remove("time_ns");
            route
        };
        let ours: Vec<Value> = ours.iter().map(plain).collect();
        let all = all.iter().map(plain);
        let wanted: Vec<Value> = all.filter(matches).collect();
        assert!(wanted.len() > 2, "{text} selects something");
        assert_eq!(ours, wanted, "{text}");
        let left_out = ended.stat("not_shown");
        let is_exact = !text.contains("via") && !text.contains("dev");
        assert!(!is_exact || left_out == 0, "{text}: the kernel decides");
    }
}

/// The lines of a list, sorted.
fn list(program: &str, arguments: &[&str]) -> Vec<String> {
    let output = run(program, arguments).expect("the program runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut lines = joined(&lines);
    lines.sort();
    lines
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn lists_of_a_table_are_those_of_ip_route() {
    if !namespace_with_devices("lists_of_a_table_are_those_of_ip_route") {
        return;
    }
    change_routes();
    for (table, word) in [
        ("main", ""),
        ("local", " table local"),
        ("5", " table 5"),
        ("7", ""), // which does not exist
    ] {
        let ours = |arguments: &[&str]| {
            let once = ["route", "--snapshot", "--once"];
            without(&list(NLRING, &[&once, arguments].concat()), word)
        };
        let mut theirs = Vec::new();
        for family in ["-4", "-6"] {
            let shown = format!("{family} route show table {table}");
            let output = run("ip", &words(&shown)).expect("ip");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            theirs.extend(joined(&lines));
        }
        theirs.sort();
        assert_eq!(theirs.is_empty(), table == "7", "{table}");
        let mut listed = ours(&["--in-table", table]);
        listed.sort();
        assert_same_lines(&listed, &theirs);
    }
    let once = ["route", "--snapshot", "--once", "--filter"];
    let ipv4 = list(
        NLRING,
        &[&once[..], &["table main and family ipv4"]].concat(),
    );
    assert_same_lines(&ipv4, &list("ip", &words("-4 route show table main")));
    assert_eq!(list(NLRING, &[&once[..], &["oif 999"]].concat()), [""; 0]);
}

#[test]
fn a_malformed_text_is_refused_with_its_place() {
    for (text, found) in MALFORMED {
        assert_refused_at("route", text, found);
    }
}

#[test]
fn what_does_not_exist_or_makes_no_sense_is_an_error_with_a_remedy() {
    own_namespace();
    for (arguments, remedy) in [
        (
            &["--dev", "nope"][..],
            "there is no device nope here; ip link",
        ),
        (
            &["--filter", "table 5 or dev nope"],
            "there is no device nope here",
        ),
        (
            &["--snapshot", "--once", "--dev", "nope"],
            "there is no device nope here",
        ),
        (&["--in-table", "nope"], "/etc/iproute2/rt_tables"),
        (
            &["--dev", "lo", "--all-netns"],
            "cannot be used with '--all-netns",
        ),
        (
            &["--filter", "dev lo", "--all-netns"],
            "choose a namespace with --netns",
        ),
        (
            &["--filter", "event delete", "--mirror"],
            "-e chooses events",
        ),
        (
            &["--filter", "portid 7", "--snapshot", "--once"],
            "-e chooses events",
        ),
    ] {
        let (code, output, errors) = say(&[&["route"], arguments].concat());
        assert_eq!((code, output.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(errors.contains(remedy), "{arguments:?}: {errors}");
    }
}

#[test]
fn names_are_those_of_iproute2() {
    own_namespace();
    own_names();
    must("mount -t tmpfs tmpfs /etc");
    fs::create_dir("/etc/iproute2").expect("a directory");
    fs::write("/etc/iproute2/rt_tables", "77 blue\n").expect("a file");
    fs::write("/etc/iproute2/rt_protos", "88 ours\n").expect("a file");
    fs::write("/etc/iproute2/rt_scopes", "99 near\n").expect("a file");
    let text = "table blue and proto ours and scope near and dev lo";
    let (code, output, _) = say(&["route", "--filter", text, "--explain"]);
    assert_eq!(code, Some(0));
    let wanted = "filter: table 77 and proto 88 and scope 99 and oif 1\n";
    assert!(output.starts_with(wanted), "{output}");
    let (_, output, _) = say(&["route", "--in-table", "blue", "--dev", "lo", "--explain"]);
    assert!(
        output.starts_with("filter: table 77 and oif 1\n"),
        "{output}"
    );
}

#[test]
fn a_gateway_of_one_of_several_hops_is_found_by_user_space() {
    if !namespace_with_devices("a_gateway_of_one_of_several_hops_is_found_by_user_space") {
        return;
    }
    let text = "via 10.2.0.2 or dst 203.0.113.0/24 or-longer";
    let (code, output, errors) = say(&["route", "--filter", text, "--explain"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for part in [
        "in the kernel: all of it except `gateway 10.2.0.2`\n",
        "in user space: all of it, for what the kernel lets pass\n",
        "(000) ldh",
        "of a dump, the kernel sends: all routes;",
    ] {
        assert!(output.contains(part), "{part} in {output}");
    }
    let follower = follow(text, "");
    for change in [
        &format!("{FIRST} dev d0"),
        "192.0.2.0/24 nexthop via 10.1.0.2 nexthop via 10.2.0.2",
        "192.0.3.0/24 nexthop via 10.1.0.2 nexthop via 10.1.0.3",
        "192.0.4.0/24 via 10.1.0.2",
        "192.0.5.0/24 via 10.2.0.2",
        &format!("{LAST} dev d0"),
    ] {
        must(&format!("ip route add {change}"));
    }
    let (lines, ended) = end(follower);
    let lines = joined(&lines);
    let starts: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(starts, [FIRST, "192.0.2.0/24", "192.0.5.0/24", LAST]);
    assert_eq!(
        ended.stat("not_shown"),
        1,
        "the other route with several hops"
    );
}

#[test]
fn devices_keep_their_names_while_routes_are_filtered() {
    if !namespace_with_devices("devices_keep_their_names_while_routes_are_filtered") {
        return;
    }
    let follower = follow("table 5", "--dev d0");
    must(&format!("ip route add {FIRST} dev d0 table 5"));
    for change in [
        "link set d0 down", // before Linux 6.2 only a device that is down can be renamed
        "link set d0 name wan",
        "link set wan up",
        "route add 192.0.2.0/24 dev wan table 5",
        "route add 192.0.2.0/24 dev wan table 6",
        "link set d1 down",
        "link set d1 name d0",
        "link set d0 up",
        "route add 192.0.3.0/24 dev d0 table 5",
    ] {
        must(&format!("ip {change}"));
    }
    must(&format!("ip route add {LAST} dev wan table 5"));
    let (lines, ended) = end(follower);
    let named = |line: &String| line.split(" table ").next().unwrap_or_default().to_owned();
    let lines: Vec<String> = lines.iter().map(named).collect();
    assert_eq!(lines[0], format!("{FIRST} dev d0"));
    assert_eq!(lines[1], "192.0.2.0/24 dev wan");
    assert_eq!(lines[2..], [format!("{LAST} dev wan")]);
    assert!(ended.stat("other_events") >= 2, "the renamed devices");
}

#[test]
fn a_mirror_shows_and_keeps_what_matches() {
    if !namespace_with_devices("a_mirror_shows_and_keeps_what_matches") {
        return;
    }
    let add = |number: u32, more: &str| {
        must(&format!("ip route add 192.0.{number}.0/24 dev d0 {more}"));
    };
    add(1, "table 5");
    add(2, "");
    let directory = Directory::new();
    let table = directory.file("table");
    let follower = follow(
        "dev d0",
        &format!("--in-table 5 --snapshot --table {table}"),
    );
    follower.await_lines(1);
    add(3, "table 5");
    add(4, "table 6");
    must("ip route add 192.0.5.0/24 dev d1 table 5");
    must("ip route del 192.0.1.0/24 table 5");
    add(6, "table 5");
    await_that("the last route", || {
        follower
            .lines()
            .iter()
            .any(|line| line.contains("192.0.6.0/24"))
    });
    let ended = follower.end();
    ended.assert_good();
    let has = |number: u32| ended.output.contains(&format!("192.0.{number}.0/24"));
    let shown = [1, 2, 3, 4, 5, 6].map(has);
    assert_eq!(
        shown,
        [true, false, true, false, false, true],
        "{}",
        ended.output
    );
    assert!(
        ended.output.contains("Deleted 192.0.1.0/24"),
        "{}",
        ended.output
    );
    let kept = fs::read_to_string(&table).expect("the table");
    assert_eq!(kept.lines().count(), 2, "{kept}");
    assert!(
        kept.contains("192.0.3.0/24") && kept.contains("192.0.6.0/24"),
        "{kept}"
    );
}

#[test]
fn in_a_mirror_a_route_comes_when_it_matches_and_goes_when_it_no_longer_does() {
    const NAME: &str = "in_a_mirror_a_route_comes_when_it_matches_and_goes_when_it_no_longer_does";
    if !namespace_with_devices(NAME) {
        return;
    }
    let change = |how: &str, number: u32, proto: &str| {
        must(&format!(
            "ip -6 route {how} 2001:db8:{number}::/64 via fd01::2 proto {proto}"
        ));
    };
    change("add", 1, "static");
    change("add", 2, "boot");
    let directory = Directory::new();
    let table = directory.file("table");
    let follower = follow(
        "family ipv6 and proto static and dst 2001:db8::/32 or-longer",
        &format!("--snapshot --table {table}"),
    );
    follower.await_lines(2); // the route, and that the table is complete
    change("replace", 1, "boot");
    change("replace", 2, "static");
    change("add", 3, "boot");
    must("ip route add 192.0.2.0/24 dev d0 proto static");
    change("add", 4, "static");
    let has = |kind: &str, number: u32| {
        let start = format!("{kind}2001:db8:{number}::/64");
        follower.lines().iter().any(|line| line.starts_with(&start))
    };
    await_that("the last route", || has("", 4));
    assert!(has("", 1) && has("Deleted ", 1) && has("", 2));
    assert!(!has("Deleted ", 2) && !has("", 3));
    let ended = follower.end();
    ended.assert_good();
    assert!(!ended.output.contains("192.0.2.0"), "{}", ended.output);
    assert_eq!(
        ended.stat("received") - ended.stat("requests"),
        4,
        "of six events"
    );
    let kept = fs::read_to_string(&table).expect("the table");
    assert_eq!(kept.lines().count(), 2, "{kept}");
}

#[test]
fn the_program_of_a_mirror_is_explained() {
    own_namespace();
    let text = "table 5 and proto bgp";
    let (code, output, errors) = say(&["route", "--filter", text, "--mirror", "--explain"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for part in [
        "filter of a mirror: table 5 and proto bgp\n",
        "in the kernel: all of it except `proto bgp`\n",
        "in user space: all of it, for the entries of the mirror\n",
        "of a dump, the kernel sends: table 5; user space",
    ] {
        assert!(output.contains(part), "{part} in {output}");
    }
    let (_, events, _) = say(&["route", "--filter", text, "--explain"]);
    assert!(
        events.contains("of a dump, the kernel sends: table 5, proto bgp;"),
        "{events}"
    );
}

/// Metrics that are no ranges: their program is larger than the kernel's default memory for one on Linux 6.1.
fn many_metrics() -> String {
    let metrics: Vec<String> = (0..2000).map(|index| (2 * index).to_string()).collect();
    format!("metric {{{}}}", metrics.join(","))
}

/// Makes the memory for a program small in a namespace of this name, or in this one. False: this kernel has one limit for
/// all namespaces.
fn limit_memory(name: Option<&str>) -> bool {
    let set = "echo 20480 > /proc/sys/net/core/optmem_max";
    let (program, arguments) = match name {
        None => ("sh", vec!["-c", set]),
        Some(name) => ("ip", vec!["netns", "exec", name, "sh", "-c", set]),
    };
    run(program, &arguments).is_some_and(|output| output.status.success())
}

#[test]
fn a_program_that_finds_no_memory_is_left_to_nlring() {
    if !namespace_with_devices("a_program_that_finds_no_memory_is_left_to_nlring") {
        return;
    }
    limit_memory(None); // where it cannot be set, it is so small by default
    let filter = many_metrics();
    let reason = "the kernel has no memory for a program of ";
    for command in ["route", "monitor"] {
        let follower = Run::new(command).args(&["--filter", &filter]).start();
        must(&format!("ip route add {FIRST} dev d0 metric 40"));
        must("ip route add 192.0.2.0/24 dev d0 metric 41");
        must(&format!("ip route add {LAST} dev d0 metric 42"));
        let lines = lines_until(LAST, || follower.lines());
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert_eq!(ended.stat("not_shown"), 1, "{command}");
        let warning = "nlring receives every event and evaluates the filter itself: ";
        let warning = format!("{warning}{reason}");
        assert_eq!(
            ended.errors.matches(&warning).count(),
            1,
            "{}",
            ended.errors
        );
        let remedy =
            "net.core.optmem_max is 20480 bytes); raise it (sysctl -w net.core.optmem_max=";
        assert!(ended.errors.contains(remedy), "{}", ended.errors);
        must("ip route flush dev d0 proto boot");
    }
    let (code, output, _) = say(&["route", "--filter", &filter, "--explain"]);
    assert_eq!(code, Some(0));
    let nothing = format!("in the kernel: nothing, because {reason}");
    assert!(output.contains(&nothing), "{output}");
    // A mirror works without its program, too.
    must("ip route add 192.0.2.0/24 dev d0 metric 41");
    must(&format!("ip route add {LAST} dev d0 metric 42"));
    let follower = Run::new("route --snapshot")
        .args(&["--filter", &filter])
        .start();
    lines_until(LAST, || follower.lines());
    let ended = follower.end();
    ended.assert_good();
    assert!(ended.errors.contains(reason), "{}", ended.errors);
    assert!(!ended.output.contains("metric 41"), "{}", ended.output);
}

#[test]
fn each_namespace_has_memory_of_its_own_for_the_program() {
    const NAME: &str = "each_namespace_has_memory_of_its_own_for_the_program";
    if !is_installed("ip") {
        return skip(NAME, "no ip");
    }
    own_namespace();
    own_names();
    must("ip link set lo up");
    must("ip netns add blue");
    must("ip -n blue link set lo up");
    if !limit_memory(Some("blue")) {
        return skip(NAME, "net.core.optmem_max is that of the host");
    }
    let run = Run::new("route --all-netns").args(&["--filter", &many_metrics()]);
    let follower = run.start();
    for namespace in ["", "-n blue"] {
        for metric in [40, 41, 42] {
            must(&format!(
                "ip {namespace} route add 192.0.{metric}.0/24 dev lo metric {metric}"
            ));
        }
    }
    follower.await_lines(4);
    let ended = follower.end();
    ended.assert_good();
    assert!(!ended.output.contains("metric 41"), "{}", ended.output);
    assert_eq!((ended.stat("received"), ended.stat("not_shown")), (5, 1));
    assert_eq!(
        ended.errors.matches("evaluates the filter itself").count(),
        1
    );
}

#[test]
fn other_namespaces_are_filtered_too() {
    if !is_installed("ip") {
        return skip("other_namespaces_are_filtered_too", "no ip");
    }
    own_namespace();
    own_names();
    for name in ["blue", "red"] {
        must(&format!("ip netns add {name}"));
        must(&format!("ip -n {name} link set lo up"));
    }
    must("ip -n blue link add d7 type veth peer name d8");
    must("ip -n blue link set d7 up");
    // Here there is no d7, so the name is that of blue's device.
    let (code, output, errors) = say(&words("route --netns blue --dev d7 --in-table 5 --explain"));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(output.starts_with("filter: table 5 and oif "), "{output}");
    let add = |namespace: &str, number: u32, more: &str| {
        must(&format!(
            "ip {namespace} route add 192.0.{number}.0/24 dev lo {more}"
        ));
    };
    let follower = follow("oif 1 and not proto bgp", "--all-netns --in-table 5");
    for namespace in ["", "-n blue", "-n red"] {
        add(namespace, 1, "table 5");
        add(namespace, 2, "");
        add(namespace, 3, "table 5 proto bgp");
        add(namespace, 4, "table 5");
    }
    follower.await_lines(6);
    let ended = follower.end();
    ended.assert_good();
    for name in ["current", "blue", "red"] {
        let start = format!("[netns {name}]");
        let lines: Vec<&str> = ended
            .output
            .lines()
            .filter(|line| line.starts_with(&start))
            .collect();
        assert_eq!(lines.len(), 2, "{name}: {}", ended.output);
        assert!(lines[0].contains("192.0.1.0/24") && lines[1].contains("192.0.4.0/24"));
    }
    assert_eq!((ended.stat("received"), ended.stat("not_shown")), (6, 0));
    let listed = list(
        NLRING,
        &words("route --all-netns --snapshot --once --in-table 5"),
    );
    assert_eq!(listed.len(), 9, "{listed:#?}");
    must("ip -n red route flush table 5");
    let listed = list(
        NLRING,
        &words("route --all-netns --snapshot --once --in-table 5"),
    );
    assert_eq!(listed.len(), 6, "{listed:#?}");
}
