//! `nlring conntrack` beside `conntrack -E`, on the same events.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use common::{
    Events, Follower, Peer, assert_same_lines, await_that, is_installed, lines_until, make_flows,
    mark_flows, must, own_namespace, remove_flows, skip,
};

/// The flow that is made last, to know that everything before it has been told.
const LAST: &str = "udp -s 203.0.113.1 -d 203.0.113.2 --sport 65001 --dport 65002 --timeout 100";
const LAST_MARK: &str = "sport=65001 dport=65002";

/// Follows what `make_events` does with both programs, and asserts that they tell the same. Returns the lines.
#[track_caller]
fn assert_tells_what_conntrack_tells(
    name: &str,
    options: &str,
    make_events: impl Fn(),
) -> Vec<String> {
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

/// conntrack looks up the name of the program that has the port ID.
fn without_program(line: &str) -> String {
    match line.split_once(" progname=") {
        Some((line, program)) if !program.contains(' ') => line.to_owned(),
        _ => line.to_owned(),
    }
}

/// Lets a rule need the state of every connection, or none is tracked.
fn track_all() {
    let rules = "table inet tracking {
        chain output {
            type filter hook output priority 0;
            ct state new accept;
        }
    }";
    let mut nft = Command::new("nft");
    let mut nft = nft
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft");
    let mut stdin = nft.stdin.take().expect("its input");
    stdin.write_all(rules.as_bytes()).expect("rules");
    drop(stdin);
    assert!(nft.wait().expect("nft").success());
}

/// A connection from its first packet to its last.
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
fn tcp_connections_from_begin_to_end() {
    let lines = assert_tells_what_conntrack_tells("tcp_connections_from_begin_to_end", "", || {
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
fn udp_flows() {
    let lines = assert_tells_what_conntrack_tells("udp_flows", "", || {
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
fn ids_counters_and_times() {
    let lines = assert_tells_what_conntrack_tells("ids_counters_and_times", "-o id", || {
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

#[test]
fn entries_by_request_of_every_protocol() {
    const TUPLE: &str = "-s 192.0.2.1 -d 192.0.2.2 --timeout 100";
    const TUPLE6: &str = "-s fd00::1 -d fd00::2 --timeout 100";
    let lines = assert_tells_what_conntrack_tells(
        "entries_by_request_of_every_protocol",
        "",
        || {
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
        },
    );
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
        [
            "    [NEW] unknown  89 100 ",
            " src=192.0.2.1 dst=192.0.2.2 ",
        ],
    ] {
        assert_some(&lines, &parts);
    }
}

#[test]
fn only_the_events_asked_for() {
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
            "{options}: the others do not even come"
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
        // It stays in the pipe until it is read, and only one came; a second event would push the first one out.
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
