//! `nlring route` and `ip monitor route` print the same events.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use serde_json::Value;

use common::{
    Directory, Events, Follower, PATIENCE, Peer, Run, add_device, assert_same_lines, await_that,
    lines_until, make_routes, must, namespace_with_devices, own_namespace, remove_routes, run,
    skip,
};

/// The first route, added once both programs listen, because the kernel needs a moment for new devices. And the last
/// route: once it is printed, everything before it was printed too.
const FIRST: &str = "203.0.113.0";
const LAST: &str = "203.0.113.255";

/// Runs many commands of ip, and ignores those that this kernel does not support.
fn ip_batch(commands: &str) {
    let directory = Directory::new();
    let file = directory.file("commands");
    fs::write(&file, commands).expect("a file");
    run("ip", &["-force", "-batch", &file]).expect("ip");
}

/// Follows these commands of ip with both programs, asserts that they print the same, and returns the lines.
#[track_caller]
fn assert_same_as_ip(commands: &str) -> Vec<String> {
    let peer = Peer::start(Events::Route, "ip monitor route").expect("ip");
    let follower = Follower::start("route");
    let is_first = |line: &String| line.starts_with(FIRST);
    must(&format!("ip route add {FIRST} dev d0"));
    // On a busy machine `ip monitor` has missed the first event although it had joined the groups.
    await_that("both programs show the first event", || {
        must(&format!("ip route delete {FIRST} dev d0"));
        must(&format!("ip route add {FIRST} dev d0"));
        [peer.lines(), follower.lines()]
            .iter()
            .all(|lines| lines.iter().any(is_first))
    });
    ip_batch(commands);
    must(&format!("ip route add {LAST} dev d0"));
    let theirs = lines_until(LAST, || peer.lines());
    let ours = lines_until(LAST, || follower.lines());
    let since_first = |lines: &[String]| {
        let first = lines.iter().rposition(is_first);
        let first = first.unwrap_or_else(|| panic!("the first: {lines:#?}"));
        lines[first..].to_vec()
    };
    let ours = since_first(&ours);
    assert_same_lines(&ours, &since_first(&theirs));
    let ended = follower.end();
    ended.assert_good();
    let lines = ended.output.lines();
    let begun = lines.filter(|line| !line.starts_with('\t')).count();
    assert_eq!(
        ended.stat("events"),
        begun as u64,
        "a hop's line is no event"
    );
    ours
}

#[track_caller]
fn assert_line(lines: &[String], wanted: &str) {
    assert!(
        lines.iter().any(|line| line == wanted),
        "{wanted:?}: {lines:#?}"
    );
}

#[test]
fn ipv4_routes_are_printed_as_by_ip() {
    if !namespace_with_devices("ipv4_routes_are_printed_as_by_ip") {
        return;
    }
    let lines = assert_same_as_ip(
        "route add 192.0.2.0/24 via 10.1.0.2
         route replace 192.0.2.0/24 via 10.1.0.3
         route add default via 10.1.0.2
         route add 192.0.3.1 dev d1 src 10.2.0.1
         route add 192.0.5.0/24 via 10.1.0.2 table 1000 metric 7 proto bgp
         route add 192.0.6.0/24 dev d0 table 5 proto 77
         route add blackhole 192.0.7.0/24
         route add unreachable 192.0.8.0/24 metric 20
         route add prohibit 192.0.9.0/24
         route add throw 192.0.10.0/24 table 1000
         route add local 192.0.11.0/24 dev lo
         route add broadcast 192.0.12.255 dev d0
         route add 192.0.13.0/24 via 10.1.0.2 tos 0x10
         route add 192.0.14.0/24 via 10.99.0.2 dev d0 onlink
         route add 192.0.15.0/24 dev d0 scope link proto static
         route add 192.0.16.0/24 dev d0 realm 5/10
         route add 192.0.17.0/24 via inet6 fd01::2 dev d0
         route del 192.0.3.1
         route del 192.0.5.0/24 table 1000
         route flush table 1000
         link set d1 down",
    );
    for wanted in [
        "192.0.2.0/24 via 10.1.0.2 dev d0 ",
        "default via 10.1.0.2 dev d0 ",
        "192.0.3.1 dev d1 scope link src 10.2.0.1 ",
        "Deleted 192.0.3.1 dev d1 scope link src 10.2.0.1 ",
        "192.0.5.0/24 via 10.1.0.2 dev d0 table 1000 proto bgp metric 7 ",
        "Deleted 192.0.5.0/24 via 10.1.0.2 dev d0 table 1000 proto bgp metric 7 ",
        "unreachable 192.0.8.0/24 metric 20 ",
        "Deleted throw 192.0.10.0/24 table 1000 ",
    ] {
        assert_line(&lines, wanted);
    }
}

#[test]
fn multipath_routes_with_metrics_and_tunnels_are_printed_as_by_ip() {
    if !namespace_with_devices("multipath_routes_with_metrics_and_tunnels_are_printed_as_by_ip") {
        return;
    }
    let lines = assert_same_as_ip(
        "route add 192.0.2.0/24 nexthop via 10.1.0.2 weight 2 nexthop via 10.2.0.2 weight 5
         route add 192.0.3.0/24 nexthop via 10.1.0.2 nexthop via inet6 fd02::2 dev d1 onlink
         route add 192.0.4.0/24 via 10.1.0.2 mtu lock 1400 advmss 1300 window 5000 rtt 1500ms rto_min 200ms cwnd 10
         route add 192.0.5.0/24 via 10.1.0.2 initcwnd 12 initrwnd 13 hoplimit 7 features ecn quickack 1 congctl reno
         route add 192.0.6.0/24 via 10.1.0.2 mtu 1400 rttvar 50ms ssthresh 3 reordering 4
         route add 192.0.7.0/24 encap ip id 5 dst 10.9.9.9 ttl 3 dev d0
         route add 192.0.8.0/24 encap mpls 100/200 via 10.1.0.2
         nexthop add id 5 via 10.1.0.2 dev d0
         nexthop add id 6 via 10.2.0.2 dev d1
         nexthop add id 7 group 5,3/6
         route add 192.0.9.0/24 nhid 5
         route add 192.0.10.0/24 nhid 7
         route del 192.0.2.0/24
         route del 192.0.4.0/24",
    );
    for wanted in [
        "192.0.2.0/24 ",
        "Deleted 192.0.2.0/24 ",
        "\tnexthop via 10.1.0.2 dev d0 weight 2 ",
        "\tnexthop via 10.2.0.2 dev d1 weight 5 ",
    ] {
        assert_line(&lines, wanted);
    }
    assert!(
        lines.iter().any(|line| line.contains(" mtu lock 1400 ")),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|line| line.contains(" nhid 5 ")),
        "{lines:#?}"
    );
}

/// Without options of tunnels: Linux 6.18 panics over those of Geneve (`ip_tun_parse_opts`) while it holds the
/// routing lock, and then the whole machine waits for ever. The rarer types are tested by their bytes alone.
#[test]
fn encapsulations_are_printed_as_by_ip() {
    if !namespace_with_devices("encapsulations_are_printed_as_by_ip") {
        return;
    }
    let lines = assert_same_as_ip(
        "route add 192.0.2.0/24 encap ip id 7 src 10.9.9.8 dst 10.9.9.9 ttl 3 tos 4 key csum seq dev d0
         route add 192.0.3.0/24 encap mpls 100/200 ttl 7 via 10.1.0.2
         route add 192.0.4.0/24 via 10.1.0.2 rto_min 2000000s
         route add 2001:db8:1::/64 encap ip6 id 1 dst fd01::9 hoplimit 3 key dev d0
         route add 2001:db8:2::/64 encap seg6 mode encap segs fd01::7,fd01::8 dev d0
         route del 192.0.3.0/24",
    );
    for wanted in [
        "192.0.2.0/24  encap ip id 7 src 10.9.9.8 dst 10.9.9.9 ttl 3 tos 4 key csum seq dev d0 scope link ",
        "192.0.4.0/24 via 10.1.0.2 dev d0 rto_min lock 2e+06s ",
    ] {
        assert_line(&lines, wanted);
    }
}

/// The time comes once before an event, not before each of its hops.
#[test]
fn the_time_of_receipt_is_printed_once_per_event() {
    if !namespace_with_devices("the_time_of_receipt_is_printed_once_per_event") {
        return;
    }
    let zone = "env TZ=Asia/Kathmandu";
    let peer = Peer::start(Events::Route, &format!("{zone} ip -ts monitor route")).expect("ip");
    let follower = Run::under(zone, "route -o TIMESTAMP").start();
    must(&format!("ip route add {FIRST} dev d0"));
    ip_batch(
        "route add 192.0.2.0/24 nexthop via 10.1.0.2 weight 2 nexthop via 10.2.0.2 weight 5
         route del 192.0.2.0/24",
    );
    must(&format!("ip route add {LAST} dev d0"));
    let theirs = lines_until(LAST, || peer.lines());
    let ours = lines_until(LAST, || follower.lines());
    let first = |lines: &[String]| lines.iter().position(|line| line.contains(FIRST));
    let (ours, theirs) = (
        &ours[first(&ours).expect("the first")..],
        &theirs[first(&theirs).expect("the first")..],
    );
    let untimed = |lines: &[String]| lines.iter().map(|line| split_time(line).1).collect();
    let (untimed_ours, untimed_theirs): (Vec<_>, Vec<_>) = (untimed(ours), untimed(theirs));
    assert_same_lines(&untimed_ours, &untimed_theirs);
    for (ours, theirs) in ours.iter().zip(theirs) {
        let (ours, theirs) = (split_time(ours).0, split_time(theirs).0);
        let apart = ours
            .zip(theirs)
            .map(|(ours, theirs)| ours.duration_since(theirs).abs());
        assert_eq!(ours.is_some(), theirs.is_some());
        assert!(
            apart.is_none_or(|apart| apart.as_secs() < 5),
            "{ours:?} {theirs:?}"
        );
    }
    follower.end().assert_good();
}

/// The time of `[2026-11-24T10:00:00.123456] ` at the beginning of the line, if there is one, and the rest.
fn split_time(line: &str) -> (Option<jiff::civil::DateTime>, String) {
    match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((time, line)) => {
            assert_eq!(time.len(), 26, "{time}");
            (Some(time.parse().expect("a local time")), line.to_owned())
        }
        None => (None, line.to_owned()),
    }
}

#[test]
fn a_route_of_64_hops_is_printed_as_by_ip() {
    if !namespace_with_devices("a_route_of_64_hops_is_printed_as_by_ip") {
        return;
    }
    let hops: Vec<String> = (2..66)
        .map(|host| format!("nexthop via 10.1.0.{host} dev d0 weight {host}"))
        .collect();
    let route = format!("route add 192.0.2.0/24 {}", hops.join(" "));
    let lines = assert_same_as_ip(&route);
    assert_eq!(lines[1], "192.0.2.0/24 ");
    assert_eq!(lines[65], format!("\t{} ", hops[63]));
    assert_eq!(lines.len(), 67, "the first and the last too: {lines:#?}");
}

#[test]
fn ipv6_routes_are_printed_as_by_ip() {
    if !namespace_with_devices("ipv6_routes_are_printed_as_by_ip") {
        return;
    }
    let lines = assert_same_as_ip(
        "route add 2001:db8:1::/48 via fd01::2
         route add 2001:db8:2::/48 dev d0 metric 77 expires 500 pref high
         route add 2001:db8:3::/48 nexthop via fd01::2 nexthop via fd02::3 weight 3
         route append 2001:db8:3::/48 nexthop via fd01::4
         route add blackhole 2001:db8:4::/48
         route add default via fd01::2 table 1000
         route add 2001:db8:5::/48 from 2001:db8:6::/48 via fd01::2
         route add 2001:db8:7::1 dev d1 src fd02::1 pref low
         route add ::192.0.2.1 dev d1
         route add 2001:db8:8::/48 encap seg6 mode encap segs fd01::7,fd01::8 dev d0
         route add 2001:db8:9::/48 encap seg6local action End.DX2 oif d1 dev d0
         route add 2001:db8:a::/48 via fd01::2 mtu 1400
         route del 2001:db8:1::/48
         route del 2001:db8:3::/48
         route flush table 1000
         link set d1 down",
    );
    for wanted in [
        "2001:db8:1::/48 via fd01::2 dev d0 metric 1024 pref medium",
        "Deleted 2001:db8:1::/48 via fd01::2 dev d0 metric 1024 pref medium",
        "2001:db8:3::/48 metric 1024 pref medium",
        "\tnexthop via fd02::3 dev d1 weight 3 ",
        "default via fd01::2 dev d0 table 1000 metric 1024 pref medium",
        "2001:db8:7::1 dev d1 src fd02::1 metric 1024 pref low",
    ] {
        assert_line(&lines, wanted);
    }
}

#[test]
fn only_the_requested_events_are_shown() {
    own_namespace();
    let all = Follower::start("route");
    let new = Follower::start("route -e new");
    let delete = Follower::start("route --events Delete");
    let both = Follower::start("route -e DELETE -e new");
    make_routes(0..3);
    remove_routes(0..3);
    all.await_lines(6);
    let all = all.end();
    all.assert_good();
    let (deleted, made): (Vec<&str>, Vec<&str>) = all
        .output
        .lines()
        .partition(|line| line.starts_with("Deleted "));
    assert_eq!((made.len(), deleted.len()), (3, 3));
    assert_eq!(made[0], "10.0.0.0 dev lo proto static scope link ");
    for (follower, wanted) in [
        (new, made),
        (delete, deleted),
        (both, all.output.lines().collect()),
    ] {
        follower.await_lines(wanted.len());
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(ended.output.lines().collect::<Vec<_>>(), wanted);
        assert_eq!(ended.stat("events"), wanted.len() as u64);
    }
}

#[test]
fn devices_have_their_names_at_the_time_of_the_event() {
    if !namespace_with_devices("devices_have_their_names_at_the_time_of_the_event") {
        return;
    }
    let follower = Follower::start("route");
    must("ip route add 192.0.2.1 dev d0");
    must("ip link set d0 down");
    must("ip link set d0 name renamed");
    must("ip link set renamed up");
    must("ip route add 192.0.2.2 dev renamed");
    assert!(add_device("later", &["10.3.0.1/16"]));
    must("ip route add 192.0.2.3 via 10.3.0.2");
    must("ip route del 192.0.2.2");
    let lines = lines_until("Deleted 192.0.2.2", || follower.lines());
    for wanted in [
        "192.0.2.1 dev d0 scope link ",
        "192.0.2.2 dev renamed scope link ",
        "192.0.2.3 via 10.3.0.2 dev later ",
        "Deleted 192.0.2.2 dev renamed scope link ",
    ] {
        assert_line(&lines, wanted);
    }
    follower.end().assert_good();
}

/// Makes many devices at once, each with an address and a route over it. The messages of the devices and the routes
/// come together.
#[test]
fn devices_made_in_a_burst_have_their_names() {
    if !namespace_with_devices("devices_made_in_a_burst_have_their_names") {
        return;
    }
    let one = |number: u32| {
        format!(
            "link add b{number} type veth peer name p{number}
             link set p{number} up
             link set b{number} up
             address add 10.100.{number}.1/24 dev b{number}
             address add fd00:{number}::1/64 dev b{number} nodad
             route add 10.101.{number}.0/24 via 10.100.{number}.2
             route add fd01:{number}::/64 dev b{number}\n"
        )
    };
    assert_same_as_ip(&(1..=20).map(one).collect::<String>());
}

/// ip monitor keeps the first name that it learned. Here each event must have the name that the device had then.
#[test]
fn devices_renamed_and_deleted_in_a_burst_have_their_names_at_the_time_of_the_event() {
    const COUNT: u32 = 20;
    if !namespace_with_devices(
        "devices_renamed_and_deleted_in_a_burst_have_their_names_at_the_time_of_the_event",
    ) {
        return;
    }
    let follower = Follower::start("route --json");
    let one = |number: u32| {
        format!(
            "link add b{number} type veth peer name p{number}
             link set p{number} up
             link set b{number} up
             address add 10.100.{number}.1/24 dev b{number}
             route add 10.101.{number}.0/24 via 10.100.{number}.2
             link set b{number} down
             link set b{number} name c{number}
             link set c{number} up
             route add 10.102.{number}.0/24 via 10.100.{number}.2
             route del 10.102.{number}.0/24
             link delete c{number}\n"
        )
    };
    ip_batch(&(1..=COUNT).map(one).collect::<String>());
    must(&format!("ip route add {LAST} dev d0"));
    let lines = lines_until(LAST, || follower.lines());
    for line in &lines {
        let object: Value = serde_json::from_str(line).expect("JSON");
        assert!(
            object["oif"].is_null() || object["dev"].is_string(),
            "{line}"
        );
    }
    let devices_of = |prefix: &str, number: u32| {
        let dst = format!("{prefix}.{number}.0/24");
        let objects = lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let of_route = objects.filter(|object| object["dst"] == dst);
        of_route
            .map(|object| object["dev"].clone())
            .collect::<Vec<_>>()
    };
    for number in 1..=COUNT {
        assert_eq!(devices_of("10.101", number), [format!("b{number}")]);
        let renamed = format!("c{number}");
        assert_eq!(devices_of("10.102", number), [renamed.clone(), renamed]);
    }
    let ended = follower.end();
    ended.assert_good();
    let count = |name| ended.stat(name);
    assert_eq!(count("received"), count("events") + count("other_events"));
    assert!(count("other_events") >= u64::from(COUNT) * 6, "{ended:#?}");
}

/// If link events are lost, the command reads the names of all links again.
#[test]
fn names_are_right_again_after_a_loss() {
    if !namespace_with_devices("names_are_right_again_after_a_loss") {
        return;
    }
    let follower = Follower::start("route --recv-buffer 1");
    follower.freeze();
    for _ in 0..5 {
        must("ip link set d1 mtu 1400");
        must("ip link set d1 mtu 1300");
    }
    must("ip link set d1 down");
    must("ip link set d1 name renamed");
    must("ip link set renamed up");
    follower.thaw();
    let mut number = 0;
    await_that("the new name", || {
        number += 1;
        let address = format!("192.0.2.{}", number % 250);
        must(&format!("ip route add {address} dev renamed"));
        must(&format!("ip route delete {address}"));
        let lines = follower.lines();
        lines.iter().any(|line| line.contains(" dev renamed "))
    });
    let ended = follower.end();
    assert!(
        ended.output.contains(" dev d1 "),
        "it was lost at first: {}",
        ended.output
    );
    ended.assert_good();
}

#[test]
fn a_device_that_was_deleted_keeps_its_name_and_one_never_known_is_its_index() {
    const NAME: &str = "a_device_that_was_deleted_keeps_its_name_and_one_never_known_is_its_index";
    if !namespace_with_devices(NAME) {
        return;
    }
    // A route whose encapsulation names a device outlives the device.
    let route = "ip route add 2001:db8:1::/48 encap seg6local action End.DX2 oif d1 dev d0";
    let words: Vec<&str> = route.split(' ').skip(1).collect();
    if !run("ip", &words).is_some_and(|output| output.status.success()) {
        return skip(NAME, "no seg6local in this kernel");
    }
    let index = index_of("d1");
    let knew = Follower::start("route");
    must("ip link delete d1");
    let never_knew = Follower::start("route");
    must("ip route delete 2001:db8:1::/48");
    let line = |follower: &Follower| {
        let line = lines_until("Deleted 2001:db8:1::/48", || follower.lines()).pop();
        line.expect("a line")
    };
    let by_name = line(&knew);
    assert!(by_name.contains(" oif d1 dev d0 "), "{by_name}");
    let by_index = line(&never_knew);
    assert!(
        by_index.contains(&format!(" oif if{index} dev d0 ")),
        "{by_index}"
    );
    knew.end().assert_good();
    never_knew.end().assert_good();
}

fn index_of(device: &str) -> String {
    let output = run("ip", &["-o", "link", "show", device]).expect("ip");
    let text = String::from_utf8(output.stdout).expect("a text");
    text.split(':').next().expect("its index").to_owned()
}

#[test]
fn an_event_appears_through_a_pipe_at_once() {
    own_namespace();
    let mut run = Run::new("route --output -");
    run.command.stdout(Stdio::piped());
    let mut follower = run.start();
    let mut stdout = BufReader::new(follower.child.stdout.take().expect("its output"));
    let (send, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut line = String::new();
        while stdout.read_line(&mut line).expect("a line") > 0 {
            let _ = send.send(std::mem::take(&mut line));
        }
    });
    for number in 0..3 {
        make_routes(number..number + 1); // only one event, so that nothing pushes it out
        let line = lines
            .recv_timeout(PATIENCE)
            .expect("a line, though nothing follows it");
        let address = format!("10.0.0.{number} ");
        assert!(
            line.starts_with(&address) && line.ends_with(" \n"),
            "{line:?}"
        );
    }
    assert!(follower.child.try_wait().expect("its status").is_none());
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("events"), 3);
    reader.join().expect("the end of the pipe");
    assert!(lines.try_recv().is_err(), "three lines");
}

#[test]
fn system_calls_do_not_grow_with_events() {
    const NAME: &str = "system_calls_do_not_grow_with_events";
    const FEW: u32 = 100;
    const MANY: u32 = 5_000;
    if !run("strace", &["-f", "true"]).is_some_and(|output| output.status.success()) {
        return skip(NAME, "no strace, or it may not trace here");
    }
    own_namespace();
    let call_count = |event_count: u32| {
        let directory = Directory::new();
        let counts = directory.file("counts");
        let arguments = format!("route --count {event_count} --wait batch:5ms");
        let mut follower = Run::under(&format!("strace -f -c -o {counts}"), &arguments).start();
        while follower.child.try_wait().expect("its status").is_none() {
            make_routes(0..100); // some may be lost if the buffer is small
            remove_routes(0..100);
        }
        let ended = follower.wait();
        ended.assert_good();
        assert_eq!(ended.stat("events"), u64::from(event_count));
        let counts = fs::read_to_string(&counts).expect("strace's counts");
        let total = counts
            .lines()
            .find(|line| line.ends_with(" total"))
            .expect("a total");
        let calls = total.split_whitespace().nth(3).expect("calls");
        calls.parse::<u32>().expect("a number of calls")
    };
    let (few, many) = (call_count(FEW), call_count(MANY));
    // One for each event would be 4900 more.
    assert!(
        many < few + (MANY - FEW) / 4,
        "{few} for {FEW} events, {many} for {MANY}"
    );
}
