//! `nlring conntrack` and `conntrack -E` print the same events.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;

use common::{
    Events, Follower, Groups, Peer, Run, add_rules, assert_same_lines, await_that, is_installed,
    lines_until, make_flows, mark_flows, must, own_namespace, remove_flows, skip, unshare,
};
use rustix::thread::UnshareFlags;

/// The last flow. Once it is printed, everything before it was printed too.
const LAST: &str = "udp -s 203.0.113.1 -d 203.0.113.2 --sport 65001 --dport 65002 --timeout 100";
const LAST_MARK: &str = "sport=65001 dport=65002";

/// Follows the events of `make_events` with both programs, asserts that they print the same, and returns the lines.
#[track_caller]
fn assert_same_as_conntrack(name: &str, options: &str, make_events: impl Fn()) -> Vec<String> {
    if !is_installed("conntrack") || !is_installed("nft") {
        skip(name, "no conntrack or nft");
        return Vec::new();
    }
    own_namespace();
    track_all();
    let peer =
        Peer::start(Events::Conntrack, &format!("conntrack -E {options}")).expect("conntrack");
    let follower = Follower::start(&format!("conntrack {options}"));
    make_events();
    must(&format!("conntrack -I -p {LAST}"));
    let theirs = lines_until(LAST_MARK, || peer.lines());
    let theirs: Vec<String> = theirs.iter().map(|line| without_program(line)).collect();
    let ours = lines_until(LAST_MARK, || follower.lines());
    assert_same_lines(&ours, &theirs);
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("events"), ours.len() as u64);
    assert_eq!(ended.losses().len(), 0);
    ours
}

/// conntrack looks up which program has the port ID.
fn without_program(line: &str) -> String {
    match line.split_once(" progname=") {
        Some((line, program)) if !program.contains(' ') => line.to_owned(),
        _ => line.to_owned(),
    }
}

/// Adds a rule that needs the state of every connection, because otherwise the kernel tracks none.
fn track_all() {
    add_rules(
        "table inet tracking {
            chain output {
                type filter hook output priority 0;
                ct state new accept;
            }
        }",
    );
}

/// Makes a connection, from its first packet to its last.
fn talk_tcp(address: &str) {
    let listener = TcpListener::bind((address, 0)).expect("a listener");
    let mut client =
        TcpStream::connect(listener.local_addr().expect("its address")).expect("connected");
    let (mut server, _) = listener.accept().expect("accepted");
    client.write_all(b"request").expect("sent");
    server.read_exact(&mut [0; 7]).expect("received");
    server.write_all(b"answer").expect("sent");
    client.read_exact(&mut [0; 6]).expect("received");
    drop(client);
    server.read_to_end(&mut Vec::new()).expect("its end");
}

/// A request and an answer.
fn talk_udp(address: &str) {
    let server = UdpSocket::bind((address, 0)).expect("a server");
    let client = UdpSocket::bind((address, 0)).expect("a client");
    client
        .connect(server.local_addr().expect("its address"))
        .expect("connected");
    client.send(b"request").expect("sent");
    let (_, from) = server.recv_from(&mut [0; 7]).expect("received");
    server.send_to(b"answer", from).expect("sent");
    client.recv(&mut [0; 6]).expect("received");
}

#[track_caller]
fn assert_some(lines: &[String], parts: &[&str]) {
    let has_all = |line: &String| parts.iter().all(|part| line.contains(part));
    assert!(
        lines.is_empty() || lines.iter().any(has_all),
        "{parts:?}: {lines:#?}"
    );
}

#[test]
fn tcp_connections_are_printed_as_by_conntrack() {
    let lines = assert_same_as_conntrack("tcp_connections_are_printed_as_by_conntrack", "", || {
        talk_tcp("127.0.0.1");
        talk_tcp("::1");
        must("conntrack -D -p tcp -d 127.0.0.1");
        must("conntrack -D -f ipv6 -p tcp -d ::1");
    });
    assert_some(
        &lines,
        &[
            "    [NEW] tcp      6 ",
            " SYN_SENT src=127.0.0.1 ",
            " [UNREPLIED] ",
        ],
    );
    for state in ["SYN_RECV", "ESTABLISHED", "FIN_WAIT", "TIME_WAIT"] {
        assert_some(&lines, &[" [UPDATE] tcp      6 ", state]);
        assert_some(
            &lines,
            &[" [UPDATE] tcp      6 ", state, " src=::1 dst=::1 "],
        );
    }
    assert_some(
        &lines,
        &[
            "[DESTROY] tcp      6 ",
            " [ASSURED]",
            " [USERSPACE] portid=",
        ],
    );
}

#[test]
fn udp_flows_are_printed_as_by_conntrack() {
    let lines = assert_same_as_conntrack("udp_flows_are_printed_as_by_conntrack", "", || {
        talk_udp("127.0.0.1");
        talk_udp("::1");
        must("conntrack -D -p udp -d 127.0.0.1");
        must("conntrack -D -f ipv6 -p udp -d ::1");
    });
    for address in ["127.0.0.1", "::1"] {
        for kind in ["    [NEW] ", " [UPDATE] ", "[DESTROY] "] {
            assert_some(&lines, &[kind, "udp      17 ", &format!("src={address} ")]);
        }
    }
}

#[test]
fn ids_counters_and_times_are_printed_as_by_conntrack() {
    const NAME: &str = "ids_counters_and_times_are_printed_as_by_conntrack";
    let lines = assert_same_as_conntrack(NAME, "-o id", || {
        for setting in ["nf_conntrack_acct", "nf_conntrack_timestamp"] {
            fs::write(format!("/proc/sys/net/netfilter/{setting}"), "1").expect("a setting");
        }
        talk_tcp("127.0.0.1");
        talk_udp("127.0.0.1");
        must("conntrack -D -d 127.0.0.1");
    });
    for kind in ["    [NEW] ", " [UPDATE] ", "[DESTROY] "] {
        assert_some(&lines, &[kind, " id="]);
    }
    let counted = [" packets=", " bytes=", " delta-time="];
    assert_some(&lines, &[&["[DESTROY] tcp "], &counted[..]].concat());
}

/// Makes events with labels, times, both families, a zone and a mark, for each combination of fields.
fn make_events_for_fields() {
    add_rules(
        "table inet labels {
            chain output {
                type filter hook output priority 1;
                udp dport 7001 ct label set 1
                udp dport 7002 ct label set 2
                udp dport 7002 ct label set 120
                udp dport 7003 ct label set 3
            }
        }",
    );
    for setting in ["nf_conntrack_acct", "nf_conntrack_timestamp"] {
        fs::write(format!("/proc/sys/net/netfilter/{setting}"), "1").expect("a setting");
    }
    talk_tcp("127.0.0.1");
    talk_tcp("::1");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for port in 7001..7004 {
        socket.send_to(b"label", ("127.0.0.1", port)).expect("sent");
    }
    must("conntrack -I -p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 --timeout 9 --zone 5");
    must("conntrack -I -p 89 -s fd00::1 -d fd00::2 --timeout 100 --mark 7");
    must("conntrack -F");
}

/// Mounts a file system at /etc for this thread only, with these names of labels, if any.
fn own_etc(label_names: Option<&[u8]>) {
    unshare(UnshareFlags::NEWNS).expect("a mount namespace");
    must("mount --make-rprivate /");
    must("mount -t tmpfs tmpfs /etc");
    if let Some(names) = label_names {
        fs::create_dir("/etc/xtables").expect("a directory");
        fs::write("/etc/xtables/connlabel.conf", names).expect("a file");
    }
}

/// The line without the time of its receipt at its beginning, and that time in seconds.
fn split_time(line: &str) -> (String, Option<f64>) {
    let time = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]\t"));
    match time {
        Some((time, line)) => {
            let (seconds, microseconds) = time.split_once('.').expect("a point");
            assert_eq!((seconds.len(), microseconds.len()), (10, 6), "{time}");
            (line.to_owned(), Some(time.parse().expect("seconds")))
        }
        None => (line.to_owned(), None),
    }
}

/// Asserts that the lines are the same, and were received at about the same time.
#[track_caller]
fn assert_same_but_for_time(ours: &[String], theirs: &[String]) {
    let [ours, theirs] = [ours, theirs].map(|lines| {
        let split = lines.iter().map(|line| split_time(line));
        split.unzip::<_, _, Vec<_>, Vec<_>>()
    });
    assert_same_lines(&ours.0, &theirs.0);
    for (ours, theirs) in ours.1.iter().zip(&theirs.1) {
        let apart = ours.unwrap_or(0.0) - theirs.unwrap_or(0.0);
        assert!(apart.abs() < 5.0, "{ours:?} {theirs:?}");
    }
}

/// Follows the same events with both programs, with each of these options, in this time zone.
#[track_caller]
fn assert_fields_are_those_of_conntrack(zone: &str, all_options: &[&str]) {
    own_namespace();
    track_all();
    let launcher = format!("env TZ={zone}");
    let start = |options: &&str| {
        let line = format!("{launcher} conntrack -E {options}");
        let peer = Peer::start(Events::Conntrack, &line).expect("conntrack");
        let run = Run::under(&launcher, &format!("conntrack {options}"));
        (peer, run.start())
    };
    let pairs: Vec<_> = all_options.iter().map(start).collect();
    make_events_for_fields();
    must(&format!("conntrack -I -p {LAST}"));
    for ((peer, follower), options) in pairs.into_iter().zip(all_options) {
        let theirs = lines_until(LAST_MARK, || peer.lines());
        let theirs: Vec<String> = theirs.iter().map(|line| without_program(line)).collect();
        let ours = lines_until(LAST_MARK, || follower.lines());
        assert_same_but_for_time(&ours, &theirs);
        let has = |part: &str| ours.iter().any(|line| line.contains(part));
        let wanted = options.to_lowercase();
        let is_wanted = |field| wanted.split([' ', ',']).any(|word| word == field);
        assert_eq!(has(" [start="), is_wanted("ktimestamp"), "{options}");
        assert_eq!(has("] ipv6     10 tcp "), is_wanted("extended"));
        assert_eq!(has("]\t"), is_wanted("timestamp"), "{options}");
        follower.end().assert_good();
    }
}

#[test]
fn fields_can_be_combined_as_in_conntrack() {
    const NAME: &str = "fields_can_be_combined_as_in_conntrack";
    if !is_installed("conntrack") || !is_installed("nft") {
        return skip(NAME, "no conntrack or nft");
    }
    own_etc(Some(
        b"# names\n1 one\n2 two words\n2 second\n0x78\tlast\n3 \"quoted\"\n3 \x1b[2J\n3 \xff\xfe\n4 four\n",
    ));
    assert_fields_are_those_of_conntrack(
        "Asia/Kathmandu",
        &[
            "-o timestamp",
            "-o extended",
            "-o ktimestamp",
            "-o labels",
            "-o TIMESTAMP,Labels",
            "-o id,labels -o extended",
            "-o labels,ktimestamp,id,extended,timestamp",
        ],
    );
}

#[test]
fn labels_are_shown_by_name_only() {
    const NAME: &str = "labels_are_shown_by_name_only";
    if !is_installed("nft") {
        return skip(NAME, "no nft");
    }
    own_etc(Some(b"1 one\n2 two words\n120 last\n"));
    own_namespace();
    track_all();
    let follower = Follower::start("conntrack -e new -o labels");
    make_events_for_fields();
    let lines = lines_until(" dport=7003 ", || follower.lines());
    for (port, labels) in [
        (7001, " labels=one"),
        (7002, " labels=two words,last"),
        (7003, " labels"),
    ] {
        let port = format!(" dport={port} ");
        assert!(
            lines
                .iter()
                .any(|line| line.contains(&port) && line.ends_with(labels)),
            "{lines:#?}"
        );
    }
    follower.end().assert_good();
}

#[test]
fn without_their_names_labels_are_not_shown() {
    const NAME: &str = "without_their_names_labels_are_not_shown";
    if !is_installed("conntrack") || !is_installed("nft") {
        return skip(NAME, "no conntrack or nft");
    }
    own_etc(None);
    assert_fields_are_those_of_conntrack("UTC", &["-o labels"]);
    let follower = Follower::start("conntrack -o labels");
    let ended = follower.end();
    ended.assert_good();
    let errors = &ended.errors;
    assert!(errors.contains("labels are not shown"), "{errors}");
    assert!(errors.contains("/etc/xtables/connlabel.conf"), "{errors}");
}

/// A helper expects two connections. One comes, the other does not.
#[test]
fn expectations_are_printed_as_by_conntrack() {
    const NAME: &str = "expectations_are_printed_as_by_conntrack";
    if !is_installed("conntrack") || !is_installed("nft") {
        return skip(NAME, "no conntrack or nft");
    }
    own_namespace();
    add_rules(
        "table inet ftp {
            ct helper ftp {
                type \"ftp\" protocol tcp
            }
            chain output {
                type filter hook output priority 0;
                tcp dport 2121 ct helper set \"ftp\"
            }
        }",
    );
    let start = |options: &str| {
        let line = format!("conntrack -E expect {options}");
        let peer = Peer::start_in(Groups::EXPECTATIONS, &line).expect("conntrack");
        let follower = Follower::start(&format!("conntrack -e expect {options}"));
        (peer, follower)
    };
    let plain = start("");
    let timed = Follower::start("conntrack -e EXPECT -o timestamp");
    let flows = Follower::start("conntrack");
    let server = TcpListener::bind("127.0.0.1:2121").expect("a server");
    let mut client = TcpStream::connect("127.0.0.1:2121").expect("connected");
    let (mut peer_end, _) = server.accept().expect("accepted");
    let data = TcpListener::bind("127.0.0.1:0").expect("a server for data");
    let port = data.local_addr().expect("its address").port();
    for port in [port, port ^ 1] {
        let command = format!("PORT 127,0,0,1,{},{}\r\n", port >> 8, port & 0xff);
        client.write_all(command.as_bytes()).expect("sent");
        peer_end
            .read_exact(&mut vec![0; command.len()])
            .expect("received");
        peer_end.write_all(b"200 ok\r\n").expect("sent");
        client.read_exact(&mut [0; 8]).expect("received");
        let _ = TcpStream::connect(("127.0.0.1", port));
    }
    must("conntrack -F expect");
    drop((client, peer_end));

    let (peer, follower) = plain;
    follower.await_lines(4);
    await_that("conntrack prints the same number", || {
        peer.lines().len() >= 4
    });
    let ours = follower.lines();
    assert_same_lines(&ours, &peer.lines());
    let (first, kind) = (&ours[0], "    [NEW] "); // and the seconds: 300, or 299 if it took a moment
    assert!(
        first.starts_with(kind) && first.contains(" proto=6 src=127.0.0.1 "),
        "{first}"
    );
    assert!(first.ends_with(" dport=2121 class=0 helper=ftp"), "{first}");
    assert!(ours.iter().any(|line| line.starts_with("[DESTROY] ")));
    follower.end().assert_good();
    timed.await_lines(4);
    let timed = timed.end();
    let without_time: Vec<String> = timed
        .output
        .lines()
        .map(|line| split_time(line).0)
        .collect();
    assert_eq!(without_time, ours);
    let flows = flows.end();
    assert!(!flows.output.contains(" proto="), "{}", flows.output);
}

#[test]
fn entries_made_by_request_are_printed_as_by_conntrack() {
    const NAME: &str = "entries_made_by_request_are_printed_as_by_conntrack";
    const TUPLE: &str = "-s 192.0.2.1 -d 192.0.2.2 --timeout 100";
    const TUPLE6: &str = "-s fd00::1 -d fd00::2 --timeout 100";
    let lines = assert_same_as_conntrack(NAME, "", || {
        let entries = [
            format!("-p tcp {TUPLE} --sport 1 --dport 2 --state ESTABLISHED --mark 7 --zone 5"),
            format!("-p tcp {TUPLE} --sport 7 --dport 8 --state CLOSE_WAIT"),
            format!(
                "-p tcp {TUPLE6} --sport 1 --dport 2 --state SYN_SENT --status ASSURED,SEEN_REPLY"
            ),
            format!("-p udp {TUPLE} --sport 1 --dport 2 --mark 4294967295"),
            format!("-p udp {TUPLE} --sport 3 --dport 4 --orig-zone 8"),
            format!("-p udp {TUPLE} --sport 5 --dport 6 --reply-zone 9"),
            format!("-p udplite {TUPLE} --sport 1 --dport 2"),
            format!("-p icmp {TUPLE} --icmp-type 8 --icmp-code 0 --icmp-id 3"),
            format!("-p icmpv6 {TUPLE6} --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 3"),
            format!("-p gre {TUPLE} --srckey 1 --dstkey 2"),
            format!(
                "-p sctp {TUPLE} --sport 1 --dport 2 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2"
            ),
            format!("-p 89 {TUPLE}"),
        ];
        for entry in entries {
            must(&format!("conntrack -I {entry}"));
        }
        must("conntrack -U -f ipv4 -p tcp --sport 7 --mark 8");
        must("conntrack -U -f ipv4 -p udp --sport 1 --timeout 300");
        must("conntrack -F");
    });
    for parts in [
        ["    [NEW] tcp ", " mark=7 zone=5 [USERSPACE] portid="],
        [" [UPDATE] tcp ", " CLOSE_WAIT src="],
        [" [UPDATE] tcp ", " mark=8 [USERSPACE] portid="],
        ["[DESTROY] tcp ", " mark=8 [USERSPACE] portid="],
        ["[DESTROY] udp ", " mark=4294967295 [USERSPACE] portid="],
        ["    [NEW] udp ", " zone-orig=8 "],
        ["    [NEW] udp ", " zone-reply=9 "],
        ["    [NEW] icmpv6 ", " type=128 code=0 id=3 "],
        ["    [NEW] gre ", " srckey=0x1 dstkey=0x2 "],
        ["    [NEW] sctp ", " ESTABLISHED "],
        ["    [NEW] unknown  89 ", " src=192.0.2.1 dst=192.0.2.2 "],
    ] {
        assert_some(&lines, &parts);
    }
}

#[test]
fn only_the_requested_events_are_shown() {
    const NEW: &str = "    [NEW] ";
    const UPDATE: &str = " [UPDATE] ";
    const DESTROY: &str = "[DESTROY] ";
    own_namespace();
    let all = Follower::start("conntrack");
    let some = [
        ("-e new", &[NEW][..]),
        ("-e NEW,destroy", &[NEW, DESTROY]),
        ("--events updates", &[UPDATE]),
        ("-e update,update", &[UPDATE]),
        ("-e Destroy -e update", &[UPDATE, DESTROY]),
        ("-e ALL", &[NEW, UPDATE, DESTROY]),
        ("-e all,new", &[NEW, UPDATE, DESTROY]),
    ];
    let some = some.map(|(options, kinds)| {
        (
            options,
            kinds,
            Follower::start(&format!("conntrack {options}")),
        )
    });
    make_flows(0..3);
    mark_flows(0..3, 7);
    remove_flows(0..3);
    all.await_lines(9);
    let lines = all.lines();
    for (options, kinds, follower) in some {
        let wanted = lines
            .iter()
            .filter(|line| kinds.iter().any(|kind| line.starts_with(kind)));
        let wanted: Vec<String> = wanted.cloned().collect();
        assert_eq!(wanted.len(), kinds.len() * 3, "three of each kind");
        follower.await_lines(wanted.len());
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(
            ended.output.lines().collect::<Vec<_>>(),
            wanted,
            "{options}"
        );
        assert_eq!(
            ended.stat("received"),
            wanted.len() as u64,
            "{options}: the kernel sends no others"
        );
    }
}

#[test]
fn an_event_appears_through_a_pipe_at_once() {
    own_namespace();
    let mut run = common::Run::new("conntrack --output -");
    run.command.stdout(Stdio::piped());
    let mut follower = run.start();
    let mut stdout = follower.child.stdout.take().expect("its output");
    for number in 0..3 {
        make_flows(number..number + 1);
        // The line stays in the pipe until it is read. There is only one event, because a second one would push the
        // first out.
        await_that("the event is in the pipe", || {
            rustix::io::ioctl_fionread(&stdout).expect("its length") > 0
        });
        let mut text = [0; 4096];
        let length = stdout.read(&mut text).expect("a line");
        let line = str::from_utf8(&text[..length]).expect("a text");
        assert!(
            line.starts_with("    [NEW] tcp ") && line.ends_with('\n'),
            "{line:?}"
        );
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains(&format!(" src=10.0.0.{number} ")), "{line:?}");
    }
    assert!(follower.child.try_wait().expect("its status").is_none());
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("events"), 3);
}
