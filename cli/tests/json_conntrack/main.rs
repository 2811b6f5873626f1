//! `nlring conntrack --json` and `conntrack -E -o xml` report the same events, field by field.

mod agreement;
#[path = "../common/mod.rs"]
mod common;
mod conntrack_xml;
mod traffic;

use std::fs;
use std::num::NonZeroU32;

use rustix::net::{Protocol, ipproto};
use serde_json::{Value, json};

use agreement::{assert_expectations_agree, assert_flows_agree};
use common::json::{assert_some, objects};
use common::{
    Directory, Events, Groups, Peer, Run, add_rules, is_installed, lines_until, make_flows,
    mark_flows, must, own_namespace, remove_flows, skip,
};
use traffic::{announce_ftp_port, ping, send_raw, talk_ftp, talk_tcp, talk_udp};

/// The last flow. Once it is printed, everything before it was printed too.
const LAST: &str = "udp -s 203.0.113.1 -d 203.0.113.2 --sport 65001 --dport 65002 --timeout 100";

/// A protocol without a tracker of its own.
const OSPF: Protocol = Protocol::from_raw(NonZeroU32::new(89).expect("not 0"));

/// Events that both programs follow.
#[derive(Default)]
struct Scenario<'a> {
    name: &'a str,
    /// Chains of a table, in the syntax of nft.
    chains: &'a str,
    /// A program that starts both, and the arguments that start each.
    launcher: &'a str,
}

impl Scenario<'_> {
    /// Makes the events in a namespace, asserts that both programs report the same, and returns the objects of
    /// nlring. None, after a skip: a program is not installed.
    #[track_caller]
    fn follow(&self, make_events: impl FnOnce()) -> Option<Vec<Value>> {
        if !["conntrack", "nft", "ip"].into_iter().all(is_installed) {
            skip(self.name, "no conntrack, nft or ip");
            return None;
        }
        own_namespace();
        track_all(self.chains);
        let launcher = self.launcher;
        let peer = |what| {
            format!(
                "{launcher} env TZ=UTC conntrack -E {what} -o xml,id,timestamp,ktimestamp,labels"
            )
        };
        let flow_peer = Peer::start(Events::Conntrack, &peer("")).expect("conntrack");
        let expectation_peer = Peer::start_in(Groups::EXPECTATIONS, &peer("expect"));
        let follower = Run::under(launcher, "conntrack --json -e all,expect").start();
        make_events();
        must("conntrack -F");
        must(&format!("conntrack -I -p {LAST}"));
        let ours = lines_until("\"sport\":65001", || follower.lines());
        let ours = objects(Events::Conntrack, &ours);
        let (expectations, flows) = ours.iter().partition(|object| is_expectation(object));
        let theirs = lines_until("<sport>65001</sport>", || flow_peer.lines());
        assert_flows_agree(flows, &theirs);
        assert_expectations_agree(expectations, &expectation_peer.expect("conntrack"));
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(ended.stat("events"), ours.len() as u64);
        Some(ours)
    }
}

/// Adds a rule that needs the state of every connection, because otherwise the kernel tracks none, and one that uses
/// labels. Turns counters and timestamps on.
fn track_all(chains: &str) {
    let rules = format!(
        "table inet tracking {{
            chain output {{
                type filter hook output priority 0
                ct state new accept
            }}
            {chains}
        }}"
    );
    add_rules(&rules);
    for setting in ["nf_conntrack_acct", "nf_conntrack_timestamp"] {
        fs::write(format!("/proc/sys/net/netfilter/{setting}"), "1").expect("a setting");
    }
}

fn is_expectation(object: &Value) -> bool {
    object["event"]
        .as_str()
        .is_some_and(|event| event.starts_with("expect-"))
}

#[test]
fn tcp_connections_agree_with_conntrack() {
    let scenario = Scenario {
        name: "tcp_connections_agree_with_conntrack",
        ..Scenario::default()
    };
    let Some(reported) = scenario.follow(|| {
        talk_tcp("127.0.0.1:4001", "127.0.0.1:4001");
        talk_tcp("[::1]:4002", "[::1]:4002");
    }) else {
        return;
    };
    for (family, port) in [("ipv4", 4001), ("ipv6", 4002)] {
        let flow = |event: &str, state: &str, status: Value| {
            json!({"event": event, "family": family, "proto": "tcp", "state": state, "status": status,
                "orig": {"dport": port}, "reply": {"sport": port}})
        };
        assert_some(&reported, &flow("new", "SYN_SENT", json!([])));
        assert_some(
            &reported,
            &flow("update", "SYN_RECV", json!(["seen-reply"])),
        );
        for state in ["ESTABLISHED", "FIN_WAIT", "LAST_ACK", "TIME_WAIT"] {
            assert_some(&reported, &flow("update", state, json!(["assured"])));
        }
        assert_some(&reported, &flow("destroy", "TIME_WAIT", json!(["dying"])));
    }
    let carried = |flow: &Value| flow["orig"]["bytes"].as_u64() > flow["reply"]["bytes"].as_u64();
    assert!(
        reported.iter().any(carried),
        "a request is longer than an answer: {reported:#?}"
    );
}

#[test]
fn packets_of_every_protocol_agree_with_conntrack() {
    let scenario = Scenario {
        name: "packets_of_every_protocol_agree_with_conntrack",
        ..Scenario::default()
    };
    let home = "127.0.0.1".parse().expect("an address");
    // An SCTP INIT that asks for the tag 1.
    let init = [
        0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 16, 0, 0, 1, 0, 1, 0, 0,
        0, 1,
    ];
    let Some(reported) = scenario.follow(|| {
        talk_udp("127.0.0.1:4001", "127.0.0.1:4001");
        talk_udp("[::1]:4002", "[::1]:4002");
        ping("127.0.0.1", 77);
        ping("::1", 78);
        send_raw(home, ipproto::GRE, &[0, 0, 8, 0]);
        send_raw(home, ipproto::SCTP, &init);
        send_raw(home, OSPF, b"ospf");
    }) else {
        return;
    };
    let echo = |family: &str, proto: &str, request: u8, reply: u8, id: u16| {
        json!({"family": family, "proto": proto,
            "orig": {"type": request, "code": 0, "id": id}, "reply": {"type": reply, "code": 0, "id": id}})
    };
    for wanted in [
        json!({"event": "update", "family": "ipv4", "proto": "udp", "orig": {"dport": 4001}, "reply": {"sport": 4001}}),
        json!({"event": "update", "family": "ipv6", "proto": "udp", "orig": {"dst": "::1", "dport": 4002}}),
        echo("ipv4", "icmp", 8, 0, 77),
        echo("ipv6", "icmpv6", 128, 129, 78),
        json!({"proto": "gre", "orig": {"srckey": 0, "dstkey": 0}, "reply": {"srckey": 0, "dstkey": 0}}),
        json!({"proto": "sctp", "state": "CLOSED", "orig": {"sport": 1, "dport": 2}}),
        json!({"proto": "89", "orig": {"src": "127.0.0.1", "dst": "127.0.0.1"}}),
        json!({"event": "destroy", "proto": "icmp", "orig": {"packets": 1, "bytes": 28}}),
    ] {
        assert_some(&reported, &wanted);
    }
}

#[test]
fn entries_made_by_request_agree_with_conntrack() {
    const TUPLE: &str = "-s 192.0.2.1 -d 192.0.2.2 --timeout 100";
    const TUPLE6: &str = "-s fd00::1 -d fd00::2 --timeout 100";
    let entries = [
        (
            format!("tcp {TUPLE} --sport 1 --dport 2 --state CLOSE_WAIT --mark 7 --zone 5"),
            json!({"state": "CLOSE_WAIT", "mark": 7, "zone": 5}),
        ),
        (
            format!(
                "tcp {TUPLE6} --sport 1 --dport 2 --state SYN_SENT --status ASSURED,SEEN_REPLY"
            ),
            json!({"family": "ipv6", "status": ["seen-reply", "assured"]}),
        ),
        (
            format!("udp {TUPLE} --sport 1 --dport 2 --mark 4294967295"),
            json!({"proto": "udp", "mark": 4_294_967_295_u32, "orig": {"sport": 1, "dport": 2}}),
        ),
        (
            format!("udp {TUPLE} --sport 3 --dport 4 --orig-zone 8"),
            json!({"zone": 8, "zone_direction": "orig"}),
        ),
        (
            format!("udp {TUPLE} --sport 5 --dport 6 --reply-zone 9"),
            json!({"zone": 9, "zone_direction": "reply"}),
        ),
        (
            format!("udplite {TUPLE} --sport 1 --dport 2"),
            json!({"proto": "udplite"}),
        ),
        (
            format!("icmp {TUPLE} --icmp-type 13 --icmp-code 0 --icmp-id 3"),
            json!({"orig": {"type": 13, "code": 0, "id": 3}, "reply": {"type": 14, "id": 3}}),
        ),
        (
            format!("icmpv6 {TUPLE6} --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 65535"),
            json!({"orig": {"type": 128, "code": 0, "id": 65535}, "reply": {"type": 129}}),
        ),
        (
            format!("gre {TUPLE} --srckey 1 --dstkey 65535"),
            json!({"orig": {"srckey": 1, "dstkey": 65535}, "reply": {"srckey": 65535, "dstkey": 1}}),
        ),
        (
            format!(
                "sctp {TUPLE} --sport 1 --dport 2 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2"
            ),
            json!({"proto": "sctp", "state": "ESTABLISHED"}),
        ),
        (format!("89 {TUPLE}"), json!({"proto": "89"})),
    ];
    let scenario = Scenario {
        name: "entries_made_by_request_agree_with_conntrack",
        ..Scenario::default()
    };
    let reported = scenario.follow(|| {
        for (entry, _) in &entries {
            must(&format!("conntrack -I -p {entry}"));
        }
        make_flows(0..1);
        mark_flows(0..1, 8);
        remove_flows(0..1);
    });
    let Some(reported) = reported else {
        return;
    };
    for (_, wanted) in &entries {
        assert_some(&reported, wanted);
    }
    assert_some(
        &reported,
        &json!({"event": "update", "mark": 8, "orig": {"src": "10.0.0.0"}}),
    );
    assert_some(
        &reported,
        &json!({"event": "destroy", "mark": 8, "orig": {"src": "10.0.0.0"}}),
    );
    assert!(
        reported
            .iter()
            .all(|flow| flow["port_id"].as_u64() > Some(0)),
        "{reported:#?}"
    );
}

#[test]
fn translated_flows_agree_with_conntrack() {
    let scenario = Scenario {
        name: "translated_flows_agree_with_conntrack",
        chains: "
            chain destinations {
                type nat hook output priority -100
                ip daddr 127.0.0.3 udp dport 53 dnat ip to 127.0.0.1:5353
                ip daddr 127.0.0.4 dnat ip to 127.0.0.1
                tcp dport 80 redirect to :8080
            }
            chain sources {
                type nat hook postrouting priority 100
                udp dport 5353 snat ip to 127.0.0.9
                tcp dport 4003 masquerade to :6003
                ip daddr 127.0.0.77 icmp type echo-request snat ip to 127.0.0.8
                ip6 daddr ::1 udp dport 4004 snat ip6 to [::1]:6004
                ip daddr 127.0.0.77 ip protocol gre snat ip to 127.0.0.8
            }",
        ..Scenario::default()
    };
    let far = "127.0.0.77".parse().expect("an address");
    let Some(reported) = scenario.follow(|| {
        must("ip address add 192.0.2.1/32 dev lo"); // the address that masquerading uses
        talk_udp("127.0.0.3:53", "127.0.0.1:5353");
        talk_tcp("127.0.0.4:4002", "127.0.0.1:4002");
        talk_tcp("127.0.0.1:80", "127.0.0.1:8080");
        talk_tcp("127.0.0.1:4003", "127.0.0.1:4003");
        talk_udp("[::1]:4004", "[::1]:4004");
        ping("127.0.0.77", 77);
        ping("127.0.0.4", 78);
        send_raw(far, ipproto::GRE, &[0, 0, 8, 0, 0, 0, 0, 0]);
    }) else {
        return;
    };
    for (orig, reply, nat) in [
        (
            json!({"dst": "127.0.0.3", "dport": 53}),
            json!({"src": "127.0.0.1", "sport": 5353, "dst": "127.0.0.9"}),
            json!({"src": "127.0.0.9", "dst": "127.0.0.1", "dport": 5353}),
        ),
        (
            json!({"dst": "127.0.0.4", "dport": 4002}),
            json!({"src": "127.0.0.1", "sport": 4002}),
            json!({"dst": "127.0.0.1", "dport": 4002}),
        ),
        (
            json!({"dst": "127.0.0.1", "dport": 80}),
            json!({"src": "127.0.0.1", "sport": 8080}),
            json!({"dst": "127.0.0.1", "dport": 8080}),
        ),
        (
            json!({"dport": 4003}),
            json!({"dst": "192.0.2.1", "dport": 6003}),
            json!({"src": "192.0.2.1", "sport": 6003}),
        ),
        (
            json!({"dport": 4004}),
            json!({"dst": "::1", "dport": 6004}),
            json!({"src": "::1", "sport": 6004}),
        ),
        (
            json!({"id": 77}),
            json!({"dst": "127.0.0.8", "id": 77}),
            json!({"src": "127.0.0.8", "id": 77}),
        ),
        (
            json!({"id": 78}),
            json!({"src": "127.0.0.1", "id": 78}),
            json!({"dst": "127.0.0.1"}),
        ),
        (
            json!({"srckey": 0}),
            json!({"dst": "127.0.0.8"}),
            json!({"src": "127.0.0.8", "srckey": 0}),
        ),
    ] {
        let is_it = |flow: &&Value| common::json::has_all(&flow["orig"], &orig);
        let flows: Vec<&Value> = reported.iter().filter(is_it).collect();
        assert!(flows.len() > 1, "it begins and ends: {orig}");
        let mut nat = nat;
        if nat["src"] == "127.0.0.9" {
            nat["sport"] = flows[0]["orig"]["sport"].clone(); // whatever port it was
        }
        for flow in flows {
            assert!(
                common::json::has_all(&flow["reply"], &reply),
                "{reply}: {flow}"
            );
            assert_eq!(flow["nat"], nat, "{flow}");
        }
    }
}

#[test]
fn zones_and_marks_agree_with_conntrack() {
    let scenario = Scenario {
        name: "zones_and_marks_agree_with_conntrack",
        chains: "
            chain zones {
                type filter hook output priority -400
                udp dport 4001 ct zone set 5
                udp dport 4002 ct original zone set 6
                udp dport 4003 ct reply zone set 7
            }
            chain marks {
                type filter hook output priority 10
                tcp dport 4004 ct state new ct mark set 7
                tcp dport 4004 ct state established ct mark set 0
                tcp dport 4005 ct mark set 0xffffffff
            }",
        ..Scenario::default()
    };
    let home = "127.0.0.1".parse().expect("an address");
    let Some(reported) = scenario.follow(|| {
        for port in [4001_u16, 4002, 4003] {
            let [high, low] = port.to_be_bytes();
            send_raw(home, ipproto::UDP, &[0, 9, high, low, 0, 8, 0, 0]);
        }
        talk_tcp("127.0.0.1:4004", "127.0.0.1:4004");
        talk_tcp("127.0.0.1:4005", "127.0.0.1:4005");
    }) else {
        return;
    };
    for (port, zone) in [
        (4001, json!({"zone": 5})),
        (4002, json!({"zone": 6, "zone_direction": "orig"})),
        (4003, json!({"zone": 7, "zone_direction": "reply"})),
        (4004, json!({})),
    ] {
        for event in ["new", "destroy"] {
            let is_it = |flow: &&Value| flow["orig"]["dport"] == port && flow["event"] == event;
            let flow = reported
                .iter()
                .find(is_it)
                .unwrap_or_else(|| panic!("{port}: {reported:#?}"));
            for name in ["zone", "zone_direction"] {
                assert_eq!(flow.get(name), zone.get(name), "{name}: {flow}");
            }
        }
    }
    assert_some(
        &reported,
        &json!({"event": "new", "orig": {"dport": 4004}, "mark": 7}),
    );
    assert_some(
        &reported,
        &json!({"event": "update", "orig": {"dport": 4004}, "mark": 0}),
    );
    assert_some(
        &reported,
        &json!({"event": "destroy", "orig": {"dport": 4005}, "mark": u32::MAX}),
    );
}

/// A file of label names with lines that the reader must skip. Names of helpers need no such test, because they all
/// come from the kernel.
const LABELS: &[u8] = b"1 one\n3 three words\n5 a\x1b[2J\n7 \"\n8 caf\xc3\xa9\n127 last one\n";

#[test]
fn labels_have_their_names_and_numbers() {
    const NAME: &str = "labels_have_their_names_and_numbers";
    let directory = Directory::new();
    let etc = directory.file("etc");
    fs::create_dir_all(format!("{etc}/xtables")).expect("a directory");
    fs::write(format!("{etc}/xtables/connlabel.conf"), LABELS).expect("a file");
    let launcher = directory.file("launcher");
    fs::write(
        &launcher,
        format!("mount --bind {etc} /etc && exec \"$@\"\n"),
    )
    .expect("a file");
    let launcher = format!("unshare -m sh {launcher}");
    if !common::run("sh", &["-c", &format!("{launcher} true")])
        .is_some_and(|it| it.status.success())
    {
        return skip(NAME, "no mount namespace");
    }
    let scenario = Scenario {
        name: NAME,
        chains: "
            chain labels {
                type filter hook output priority 10
                udp dport 4001 ct label set 3 ct label set 127 ct label set 5 ct label set 64
                udp dport 4002 ct label set 8
                udp dport 4003 ct mark set 1
            }",
        launcher: &launcher,
    };
    let Some(reported) = scenario.follow(|| {
        for port in [4001, 4002, 4003] {
            let at = format!("127.0.0.1:{port}");
            talk_udp(&at, &at);
        }
    }) else {
        return;
    };
    for (port, labels, value) in [
        (
            4001,
            Some(json!(["three words", "5", "64", "last one"])),
            Some(json!("0x80000000000000010000000000000028")),
        ),
        (4002, Some(json!(["8"])), Some(json!("0x100"))),
        (4003, None, None),
    ] {
        let is_it = |flow: &&Value| flow["orig"]["dport"] == port && flow["event"] == "new";
        let flow = reported
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{port}: {reported:#?}"));
        assert_eq!(flow.get("labels"), labels.as_ref(), "{flow}");
        assert_eq!(flow.get("labels_hex"), value.as_ref(), "{flow}");
    }
}

#[test]
fn helpers_and_expected_connections_agree_with_conntrack() {
    let scenario = Scenario {
        name: "helpers_and_expected_connections_agree_with_conntrack",
        chains: "
            ct helper ftp {
                type \"ftp\" protocol tcp
                l3proto ip
            }
            chain helpers {
                type filter hook output priority -10
                tcp dport 2121-2123 ct helper set \"ftp\"
            }
            chain destinations {
                type nat hook output priority -100
                ip daddr 127.0.0.3 tcp dport 2122 dnat ip to 127.0.0.1:2122
            }
            chain sources {
                type nat hook postrouting priority 100
                tcp dport 2122 snat ip to 127.0.0.9
            }",
        ..Scenario::default()
    };
    // If it is a module, nothing else loads it.
    let _ = common::run("modprobe", &["nf_nat_ftp"]);
    let mut address_in_text = None;
    let Some(reported) = scenario.follow(|| {
        talk_ftp("127.0.0.1:2121", "127.0.0.1:2121", 40001);
        address_in_text = Some(talk_ftp("127.0.0.3:2122", "127.0.0.1:2122", 40002));
        announce_ftp_port("127.0.0.1:2123", "127.0.0.1:2123");
    }) else {
        return;
    };
    let plain = json!({"src": "127.0.0.1", "dst": "127.0.0.1", "sport": 0, "dport": 40001});
    let mask =
        json!({"src": "255.255.255.255", "dst": "255.255.255.255", "sport": 0, "dport": 65535});
    for wanted in [
        json!({"event": "new", "orig": {"dport": 2121}, "helper": "ftp", "status": ["helper"]}),
        json!({"event": "expect-new", "time_source": "receive", "proto": "tcp", "expected": plain, "mask": mask,
            "master": {"dport": 2121}, "flags": [], "class": 0, "helper": "ftp"}),
        json!({"event": "expect-destroy", "expected": plain}),
        json!({"event": "new", "orig": {"dport": 40001}, "status": ["expected"],
            "master": {"src": "127.0.0.1", "dst": "127.0.0.1", "dport": 2121}}),
        // The expectation ends with its master.
        json!({"event": "expect-destroy", "master": {"dport": 2123}, "expected": {"dport": 40066}}),
    ] {
        assert_some(&reported, &wanted);
    }
    if address_in_text != Some(traffic::address("127.0.0.9:40002")) {
        return skip("the translation of expected connections", "no nf_nat_ftp");
    }
    let translated = json!({"src": "127.0.0.1", "dst": "127.0.0.9", "sport": 0, "dport": 40002});
    let nat = json!({"direction": "reply", "src": "0.0.0.0", "dst": "0.0.0.0", "sport": 40002, "dport": 0});
    for wanted in [
        json!({"event": "expect-new", "expected": translated, "nat": nat, "function": "nat-follow-master",
            "master": {"dst": "127.0.0.3", "dport": 2122}}),
        json!({"event": "new", "orig": {"dst": "127.0.0.9", "dport": 40002}, "nat": {"dst": "127.0.0.1", "dport": 40002},
            "master": {"dst": "127.0.0.3", "dport": 2122}}),
    ] {
        assert_some(&reported, &wanted);
    }
}
