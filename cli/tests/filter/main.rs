//! Filters: the same flows as with conntrack's own options, and errors that point at their place.

#[path = "../common/mod.rs"]
mod common;
mod malformed;
mod rows;
#[path = "../json_conntrack/traffic.rs"]
#[allow(dead_code, reason = "the other test uses the rest")]
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use common::{
    Directory, Events, Follower, Groups, NLRING, Peer, add_rules, assert_refused_at, await_that,
    is_installed, lines_until, must, own_namespace, run, say, skip, unshare,
};
use malformed::MALFORMED;
use rows::{DIFFERENT, Difference, SAME, SAME_LISTED};
use rustix::thread::UnshareFlags;
use traffic::{ping, talk_tcp, talk_udp};

/// The last flow. Once it is printed, everything before it was printed too.
const LAST: &str =
    "conntrack -I -p udp -s 203.0.113.250 -d 203.0.113.251 --sport 65001 --dport 65002 -t 100";

/// A namespace in which flows are tracked, translated and marked, with names of labels.
fn prepare() {
    unshare(UnshareFlags::NEWNS).expect("a mount namespace");
    must("mount --make-rprivate /");
    must("mount -t tmpfs tmpfs /etc");
    fs::create_dir("/etc/xtables").expect("a directory");
    fs::write("/etc/xtables/connlabel.conf", "1 web\n2 bulk\n").expect("a file");
    own_namespace();
    for timeout in [
        "udp_timeout",
        "udp_timeout_stream",
        "icmp_timeout",
        "icmpv6_timeout",
        "tcp_timeout_close",
        "tcp_timeout_time_wait",
    ] {
        // A slow machine lists for longer than the default of 30 s.
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_{timeout}");
        fs::write(path, "600").expect("the setting");
    }
    // Flows that began before nlring listens must make events too.
    fs::write("/proc/sys/net/netfilter/nf_conntrack_events", "1").expect("the setting");
    add_rules(
        "table inet tracking {
            chain output {
                type filter hook output priority 0;
                udp dport 5011 ct mark set 0x11
                udp dport 5012 ct label set 2
                ct state new accept
            }
            chain before {
                type nat hook output priority -100;
                ip daddr 127.0.0.1 tcp dport 5080 dnat ip to 127.0.0.2:8080
            }
            chain after {
                type nat hook postrouting priority 100;
                udp dport 5090 snat ip to 127.0.0.9
            }
        }",
    );
}

/// Flows of all kinds, and changes of some.
fn make_flows() {
    talk_tcp("127.0.0.1:443", "127.0.0.1:443");
    talk_tcp("[::1]:443", "[::1]:443");
    talk_tcp("127.0.0.1:5080", "127.0.0.2:8080");
    talk_udp("127.0.0.1:5011", "127.0.0.1:5011");
    talk_udp("127.0.0.1:5090", "127.0.0.1:5090");
    talk_udp("[::1]:53", "[::1]:53");
    ping("127.0.0.1", 7);
    ping("::1", 7);
    for flow in [
        "-p udp -s 10.0.0.1 -d 198.51.100.1 --sport 1001 --dport 2001",
        "-p udp -s 10.1.2.3 -d 198.51.100.2 --sport 1002 --dport 2001 -m 0x12",
        "-p udp -s fd00:1::1 -d fd00:2::1 --sport 1001 --dport 2002 -m 0x21 -u SEEN_REPLY",
        "-p udp -s 10.0.0.2 -d 198.51.100.1 --sport 1003 --dport 2003 -u SEEN_REPLY,ASSURED",
        "-p tcp -s 10.0.0.1 -d 198.51.100.1 --sport 1001 --dport 443 --state ESTABLISHED -u ASSURED,SEEN_REPLY",
        "-p tcp -s 10.0.0.1 -d 198.51.100.1 --sport 1002 --dport 443 --state SYN_SENT",
        "-p tcp -s fd00:1::1 -d fd00:2::1 --sport 1002 --dport 443 --state ESTABLISHED -m 0x11",
        "-p icmp -s 10.0.0.1 -d 198.51.100.1 --icmp-type 8 --icmp-code 0 --icmp-id 3",
        "-p icmp -s 10.0.0.1 -d 198.51.100.1 --icmp-type 13 --icmp-code 0 --icmp-id 4",
        "-p icmp -s 10.0.0.1 -d 198.51.100.1 --icmp-type 8 --icmp-code 1 --icmp-id 5",
        "-p icmpv6 -s fd00:1::1 -d fd00:2::1 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 3",
        "-p udp -s 10.0.5.1 -d 198.51.100.1 --sport 1001 --dport 2001 -w 5",
        "-p udp -s 10.0.6.1 -d 198.51.100.1 --sport 1001 --dport 2001 --orig-zone 6",
        "-p udp -s 10.0.7.1 -d 198.51.100.1 --sport 1001 --dport 2001 --reply-zone 7",
        "-p udp -s 10.0.8.1 -d 198.51.100.1 --sport 1001 --dport 2001 -w 8",
        "-p tcp -s 10.0.9.1 -d 198.51.100.1 --sport 1009 --dport 80 --state ESTABLISHED -n 203.0.113.1",
        "-p tcp -s 10.0.9.2 -d 198.51.100.1 --sport 1009 --dport 80 --state ESTABLISHED -n 203.0.113.1:40000",
        "-p tcp -s 10.0.9.3 -d 198.51.100.3 --sport 1009 --dport 80 --state ESTABLISHED -g 192.0.2.9",
        "-p tcp -s 10.0.9.4 -d 198.51.100.4 --sport 1009 --dport 80 --state ESTABLISHED -g 192.0.2.9:8080",
        "-p udp -s 10.0.9.5 -d 198.51.100.5 --sport 1001 --dport 2009",
        "-p tcp -s fd00:1::9 -d fd00:2::9 --sport 1009 --dport 80 --state ESTABLISHED -n fd00:3::1",
    ] {
        must(&format!("conntrack -I {flow} -t 600"));
    }
    must("conntrack -U -s 10.0.0.1 -p udp -m 0x11");
    must("conntrack -U -s 10.0.9.5 -p udp --label-add web");
    must("conntrack -U -s 10.0.0.2 -p udp --label-add bulk");
    must("conntrack -U -s 10.1.2.3 -p udp --label-add web");
    must("conntrack -U -s 10.1.2.3 -p udp --label-add bulk");
}

fn remove_flows() {
    for removal in [
        "-D -p tcp",
        "-D -p udp -s 10.0.0.0/8",
        "-D -p icmp",
        "-D -f ipv6",
    ] {
        must(&format!("conntrack {removal}"));
    }
}

/// The line without what nlring shows only with -o labels, and without the program that has a port ID.
fn plain(line: &str) -> String {
    let line = line.split(" progname=").next().unwrap_or_default();
    let words = line.split(' ');
    let words: Vec<&str> = words.filter(|word| !word.starts_with("labels=")).collect();
    words.join(" ")
}

/// What `all` has and `some` has not, in the order of `all`. Each line is counted.
fn rest(all: &[String], some: &[String]) -> Vec<String> {
    let mut counts = BTreeMap::<&String, usize>::new();
    for line in some {
        *counts.entry(line).or_default() += 1;
    }
    let mut left = Vec::new();
    for line in all {
        match counts.get_mut(line) {
            Some(count) if *count > 0 => *count -= 1,
            _ => left.push(line.clone()),
        }
    }
    left
}

fn difference(title: &str, ours: &[String], theirs: &[String]) -> Option<String> {
    let (more, less) = (rest(ours, theirs), rest(theirs, ours));
    let is_same = ours == theirs;
    (!is_same).then(|| format!("{title}: nlring alone {more:#?}, conntrack alone {less:#?}"))
}

/// conntrack with each set of options, while it follows events.
struct Peers {
    peers: BTreeMap<String, Peer>,
}

impl Peers {
    fn start(options: impl IntoIterator<Item = String>) -> Self {
        let start = |options: String| {
            let line = format!("conntrack -E -b 8388608 {options}");
            let peer = Peer::start(Events::Conntrack, &line).expect("conntrack");
            (options, peer)
        };
        Self {
            peers: options.into_iter().map(start).collect(),
        }
    }

    fn lines(&self, options: &str) -> Vec<String> {
        let lines = self.peers[options].lines();
        lines.iter().map(|line| plain(line)).collect()
    }
}

fn joined(base: &str, options: &str) -> String {
    format!("{base} {options}").trim().to_owned()
}

/// Who follows the events of [`make_flows`].
struct Scene {
    peers: Peers,
    followers: BTreeMap<String, Follower>,
}

impl Scene {
    /// Starts all programs, makes the events, and waits until conntrack has written its lines.
    fn play(theirs: BTreeSet<String>, ours: BTreeSet<String>) -> Self {
        prepare();
        let peers = Peers::start(theirs);
        let follow = |options: String| {
            let follower = Follower::start(&format!("conntrack {options}"));
            (options, follower)
        };
        let followers = ours.into_iter().map(follow).collect();
        make_flows();
        remove_flows();
        must(LAST);
        lines_until("sport=65001", || peers.lines(""));
        let groups = Groups::of(Events::Conntrack);
        await_that("all events are read", || {
            groups.queued_bytes() == 0 && peers.peers.values().all(Peer::sleeps)
        });
        Self { peers, followers }
    }

    /// The lines of nlring, which received nothing else.
    fn ours(&mut self, options: &str) -> Vec<String> {
        let follower = self.followers.remove(options).expect("a follower");
        let ended = follower.end();
        ended.assert_good();
        let lines: Vec<String> = ended.output.lines().map(str::to_owned).collect();
        assert_eq!(ended.stat("received"), lines.len() as u64, "{options}");
        assert_eq!(ended.stat("dropped"), 0, "{options}");
        lines
    }
}

/// Whether the programs are installed that the tests need.
fn can_run(name: &str) -> bool {
    let can = ["conntrack", "nft"].into_iter().all(is_installed);
    if !can {
        skip(name, "no conntrack or nft");
    }
    can
}

#[test]
fn events_are_selected_as_by_conntrack() {
    if !can_run("events_are_selected_as_by_conntrack") {
        return;
    }
    let mut theirs = BTreeSet::from([String::new()]);
    let mut ours = BTreeSet::new();
    for row in SAME {
        theirs.extend([row.base.to_owned(), joined(row.base, row.options)]);
        ours.extend([row.options, row.opposite].map(|options| joined(row.base, options)));
    }
    let mut scene = Scene::play(theirs, ours);
    let mut differences = Vec::new();
    for row in SAME {
        let (options, opposite) = (
            joined(row.base, row.options),
            joined(row.base, row.opposite),
        );
        let wanted = scene.peers.lines(&options);
        let others = rest(&scene.peers.lines(row.base), &wanted);
        for (options, wanted) in [(options, wanted), (opposite, others)] {
            assert!(!wanted.is_empty(), "{options} selects something");
            differences.extend(difference(&options, &scene.ours(&options), &wanted));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn where_conntrack_differs_the_reason_holds() {
    if !can_run("where_conntrack_differs_the_reason_holds") {
        return;
    }
    let options = || {
        DIFFERENT
            .iter()
            .map(|different| different.options.to_owned())
    };
    let mut scene = Scene::play(
        options().chain([String::new()]).collect(),
        options().collect(),
    );
    let all = scene.peers.lines("");
    let version = run("conntrack", &["--version"]).expect("conntrack").stdout;
    let is_known = String::from_utf8_lossy(&version).contains("v1.4.7");
    for different in DIFFERENT {
        let Difference {
            options, reason, ..
        } = different;
        let wanted = all.iter().filter(|line| (different.wanted)(line));
        let wanted: Vec<String> = wanted.cloned().collect();
        assert_eq!(
            difference(options, &scene.ours(options), &wanted),
            None,
            "{reason}"
        );
        let differs = scene.peers.lines(options) != wanted;
        assert!(
            differs || !is_known,
            "{options}: conntrack does as nlring: {reason}"
        );
    }
}

#[test]
fn lists_are_selected_as_by_conntrack() {
    if !can_run("lists_are_selected_as_by_conntrack") {
        return;
    }
    prepare();
    make_flows();
    let ours = |options: &str| list(NLRING, &format!("conntrack --snapshot --once {options}"));
    let theirs = |options: &str| list("conntrack", &format!("-L {options}"));
    let mut differences = Vec::new();
    for row in SAME.iter().chain(SAME_LISTED) {
        let (options, opposite) = (
            joined(row.base, row.options),
            joined(row.base, row.opposite),
        );
        let wanted = theirs(&options);
        let others = rest(&theirs(row.base), &wanted);
        assert!(
            !wanted.is_empty() && !others.is_empty(),
            "{options} selects something"
        );
        differences.extend(difference(&options, &ours(&options), &wanted));
        differences.extend(difference(&opposite, &ours(&opposite), &others));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The lines of a list, without their timeouts, sorted.
fn list(program: &str, arguments: &str) -> Vec<String> {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let output = run(program, &words).expect("the program runs");
    assert!(output.status.success(), "{arguments}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let without_timeout = |line: &str| {
        let words = line.split_whitespace().enumerate();
        let words = words.filter(|(index, _)| *index != 2);
        plain(&words.map(|(_, word)| word).collect::<Vec<_>>().join(" "))
    };
    let mut lines: Vec<String> = text.lines().map(without_timeout).collect();
    lines.sort();
    lines
}

#[test]
fn a_malformed_text_is_refused_with_its_place() {
    for (text, found) in MALFORMED {
        assert_refused_at("conntrack", text, found);
    }
    assert!(MALFORMED.len() >= 50);
}

#[test]
fn explain_says_who_evaluates_what() {
    let (code, output, errors) = say(&["conntrack", "-p", "tcp", "-m", "0x10/0xf0", "--explain"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for part in [
        "filter: proto tcp and mark 0x10/0xf0\n",
        "in the kernel: all of it\nin user space: nothing\n",
        "(000) ld",
        "ret      #0xffffffff",
        "of a dump, the kernel sends: mark 0x10/0xf0, protocol 6;",
    ] {
        assert!(output.contains(part), "{part} in {output}");
    }
}

#[test]
fn the_program_of_a_mirror_is_explained() {
    let arguments = ["conntrack", "-p", "tcp", "-m", "7", "--mirror", "--explain"];
    let (code, output, errors) = say(&arguments);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for part in [
        "filter of a mirror: proto tcp and mark 0x7\n",
        "in the kernel: all of it except `mark 0x7`\n",
        "in user space: all of it, for the entries of the mirror\n",
        "of a dump, the kernel sends: protocol 6; user space",
    ] {
        assert!(output.contains(part), "{part} in {output}");
    }
}

#[test]
fn a_program_that_finds_no_memory_is_left_to_nlring() {
    if !can_run("a_program_that_finds_no_memory_is_left_to_nlring") {
        return;
    }
    prepare();
    // Where it cannot be set, it is so small by default (Linux 6.1).
    let _ = fs::write("/proc/sys/net/core/optmem_max", "20480");
    let ports: Vec<String> = (0..2000).map(|index| (2 * index + 1).to_string()).collect();
    let follower = Follower::start(&format!("conntrack --sport {}", ports.join(",")));
    for port in [1001, 1002, 1003] {
        must(&format!(
            "conntrack -I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport {port} --dport 2 -t 100"
        ));
    }
    follower.await_lines(2);
    let ended = follower.end();
    ended.assert_good();
    for part in [
        "evaluates the filter itself: the kernel has no memory for a program of ",
        "sysctl -w net.core.optmem_max=",
    ] {
        assert!(ended.errors.contains(part), "{}", ended.errors);
    }
    let shows = |port: u32| ended.output.contains(&format!("sport={port} "));
    assert_eq!([1001, 1002, 1003].map(shows), [true, false, true]);
    assert_eq!((ended.stat("received"), ended.stat("not_shown")), (3, 1));
}

/// Ports that are no ranges, so that the program of a filter has more instructions than the kernel takes.
fn many_ports() -> String {
    let ports: Vec<String> = (0..6000).map(|index| (2 * index + 1).to_string()).collect();
    ports.join(",")
}

#[test]
fn a_filter_that_the_kernel_cannot_evaluate_works() {
    if !can_run("a_filter_that_the_kernel_cannot_evaluate_works") {
        return;
    }
    let (code, output, _) = say(&["conntrack", "--sport", &many_ports(), "--explain"]);
    assert_eq!(code, Some(0));
    assert!(
        output.contains("in the kernel: nothing, because "),
        "{output}"
    );
    assert!(output.contains("in user space: all of it\n"), "{output}");
    prepare();
    let follower = Follower::start(&format!("conntrack --sport {}", many_ports()));
    must("conntrack -I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1001 --dport 2 -t 100");
    must("conntrack -I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1002 --dport 2 -t 100");
    must("conntrack -I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1003 --dport 2 -t 100");
    follower.await_lines(2);
    let ended = follower.end();
    ended.assert_good();
    assert!(
        ended.errors.contains("evaluates the filter itself"),
        "{}",
        ended.errors
    );
    let shows = |port: u32| ended.output.contains(&format!("sport={port} "));
    assert_eq!([1001, 1002, 1003].map(shows), [true, false, true]);
    assert_eq!((ended.stat("received"), ended.stat("not_shown")), (3, 1));
}

#[test]
fn options_and_expressions_must_all_hold() {
    if !can_run("options_and_expressions_must_all_hold") {
        return;
    }
    prepare();
    make_flows();
    let command = [
        "conntrack",
        "--snapshot",
        "--once",
        "-p",
        "udp",
        "--filter",
        "src 10.0.0.0/8 and not dport {80, 443}",
        "--filter",
        "label bulk or mark 0x11",
    ];
    let (code, output, errors) = say(&command);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let mut sources: Vec<&str> = output
        .lines()
        .filter_map(|line| line.split("src=").nth(1)?.split(' ').next())
        .collect();
    sources.sort_unstable();
    assert_eq!(sources, ["10.0.0.1", "10.0.0.2", "10.1.2.3"]);
}

#[test]
fn a_mirror_shows_and_keeps_what_matches() {
    if !can_run("a_mirror_shows_and_keeps_what_matches") {
        return;
    }
    prepare();
    let flow = |port: u32| format!("-p udp -s 10.0.0.1 -d 10.0.0.2 --sport {port} --dport 2");
    must(&format!("conntrack -I {} -t 600", flow(1)));
    must(&format!("conntrack -I {} -t 600", flow(2)));
    let directory = Directory::new();
    let table = directory.file("table");
    let follower = Follower::start(&format!(
        "conntrack --snapshot --table {table} --sport 1,3,5"
    ));
    follower.await_lines(2); // the existing flow, and that the table is complete
    must(&format!("conntrack -I {} -t 600", flow(3)));
    must(&format!("conntrack -I {} -t 600", flow(4)));
    must(&format!("conntrack -I {} -t 600", flow(5)));
    must(&format!("conntrack -D {}", flow(1)));
    await_that("the end of the first flow", || {
        follower
            .lines()
            .iter()
            .any(|line| line.starts_with("[DESTROY]"))
    });
    let ended = follower.end();
    ended.assert_good();
    let has = |port: u32| ended.output.contains(&format!("sport={port} dport=2"));
    assert_eq!([1, 2, 3, 4, 5].map(has), [true, false, true, false, true]);
    let kept = fs::read_to_string(&table).expect("the table");
    assert_eq!(kept.lines().count(), 2, "{kept}");
    assert!(
        kept.contains("\"sport\":3") && kept.contains("\"sport\":5"),
        "{kept}"
    );
}

#[test]
fn in_a_mirror_a_flow_begins_when_its_mark_matches_and_ends_when_it_no_longer_does() {
    if !can_run("in_a_mirror_a_flow_begins_when_its_mark_matches_and_ends_when_it_no_longer_does") {
        return;
    }
    prepare();
    let flow = |port: u32| format!("-p udp -s 10.0.0.1 -d 10.0.0.2 --sport {port} --dport 2");
    must(&format!("conntrack -I {} -t 600", flow(1)));
    must(&format!("conntrack -I {} -t 600 -m 7", flow(2)));
    let directory = Directory::new();
    let table = directory.file("table");
    let follower = Follower::start(&format!("conntrack --snapshot --table {table} -p udp -m 7"));
    follower.await_lines(2); // the flow with the mark, and that the table is complete
    must(&format!("conntrack -U {} -m 7", flow(1)));
    must(&format!("conntrack -U {} -m 9", flow(2)));
    let has = |kind: &str, port: u32| {
        let port = format!("sport={port} dport=2");
        let mut lines = follower.lines().into_iter();
        lines.any(|line| line.contains(kind) && line.contains(&port))
    };
    await_that("the end of the second flow", || has("[DESTROY]", 2));
    assert!(has("[NEW]", 1) && has("[NEW]", 2));
    assert!(!has("[UPDATE]", 1) && !has("[UPDATE]", 2));
    follower.end().assert_good();
    let kept = fs::read_to_string(&table).expect("the table");
    assert_eq!(kept.lines().count(), 1, "{kept}");
    assert!(kept.contains("\"sport\":1"), "{kept}");
}
