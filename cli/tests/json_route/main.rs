//! `nlring route --json` reports each change as `ip -j route` shows the route after it.

#[path = "../common/mod.rs"]
mod common;
mod ip_json;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use serde_json::{Value, json};

use common::json::{assert_some, has_all, objects};
use common::{
    Events, Follower, add_device, is_installed, leave_out, must, own_namespace, run, skip,
};

/// The fields that only an event has. The tests check these themselves.
const ONLY_OURS: [&str; 6] = [
    "event",
    "time_ns",
    "time_source",
    "oif",
    "message_flags",
    "port_id",
];

/// A running nlring, and the routes at the time of the last question to ip.
struct Watch {
    follower: Follower,
    line_count: usize,
    routes: Vec<Value>,
}

impl Watch {
    /// Starts nlring in a namespace with the devices d0 and d1. None, after a skip: this kernel has no such devices.
    fn start(name: &str) -> Option<Self> {
        if !is_installed("ip") {
            skip(name, "no ip");
            return None;
        }
        own_namespace();
        let has_both = add_device("d0", &["10.1.0.1/16", "fd01::1/64"])
            && add_device("d1", &["10.2.0.1/16", "fd02::1/64"]);
        if !has_both {
            skip(name, "neither dummy nor veth devices in this kernel");
            return None;
        }
        Some(Self {
            follower: Follower::start("route --json"),
            line_count: 0,
            routes: shown_routes(),
        })
    }

    /// Runs a command of ip, and returns the events that it caused. None: this kernel does not support it.
    fn follow(&mut self, change: &str) -> Option<Vec<Value>> {
        let words: Vec<&str> = change.split_whitespace().collect();
        if !run("ip", &words).is_some_and(|output| output.status.success()) {
            return None;
        }
        // A route that only marks the end of the events.
        must("ip route add 203.0.113.255 dev lo proto 250");
        must("ip route delete 203.0.113.255 dev lo proto 250");
        let mut lines = Vec::new();
        common::await_that("the last event", || {
            lines = self.follower.lines().split_off(self.line_count);
            lines
                .iter()
                .any(|line| line.contains("\"delete\"") && line.contains("203.0.113.255"))
        });
        self.line_count += lines.len();
        let mut events = objects(Events::Route, &lines);
        events.retain(|event| event["dst"] != "203.0.113.255/32");
        Some(events)
    }

    /// Runs a command that causes an event of one route, and compares the event with the route as ip shows it now, or
    /// showed it before.
    fn follow_one(&mut self, change: &str) -> Option<Value> {
        let events = self.follow(change)?;
        let [event] = &events[..] else {
            panic!("{change}: {events:#?}");
        };
        let now = shown_routes();
        let shown = if event["event"] == "delete" {
            &self.routes
        } else {
            &now
        };
        let same = shown.iter().filter(|shown| shown["dst"] == event["dst"]);
        let same: Vec<&Value> = same.collect();
        assert!(
            same.iter().any(|shown| agrees(event, shown)),
            "{change}: {event}\n{same:#?}"
        );
        self.routes = now;
        Some(event.clone())
    }
}

/// All routes, as ip shows them.
fn shown_routes() -> Vec<Value> {
    let shown = |option, family| {
        let output = run("ip", &[option, "-j", "-d", "route", "show", "table", "all"]);
        let text = String::from_utf8(output.expect("ip").stdout).expect("a text");
        ip_json::routes(family, &text)
    };
    [shown("-4", "ipv4"), shown("-6", "ipv6")].concat()
}

/// Whether an event is about this route.
fn agrees(event: &Value, shown: &Value) -> bool {
    let (mut event, mut shown) = (event.clone(), shown.clone());
    take(&mut event, &ONLY_OURS);
    if let Some(fields) = event.get_mut("encap_fields") {
        take(fields, &["oif"]);
    }
    let hops = event.get_mut("nexthops").and_then(Value::as_array_mut);
    for hop in hops.into_iter().flatten() {
        take(hop, &["oif"]);
    }
    sort_hops(&mut event);
    sort_hops(&mut shown);
    if let Some(metrics) = event.get_mut("metrics") {
        take(metrics, &["lock"]); // ip shows it only in text
    }
    // The remaining time changes.
    let expires = [&event, &shown].map(|route| route["expires_s"].as_u64());
    if let [Some(then), Some(now)] = expires
        && then.abs_diff(now) < 30
    {
        take(&mut event, &["expires_s"]);
        take(&mut shown, &["expires_s"]);
    }
    event == shown
}

/// The kernel's event has the appended hop first, and its dump has it last.
fn sort_hops(route: &mut Value) {
    if let Some(hops) = route.get_mut("nexthops").and_then(Value::as_array_mut) {
        hops.sort_by_key(Value::to_string);
    }
}

fn take(object: &mut Value, names: &[&str]) {
    let fields = object.as_object_mut().expect("an object");
    fields.retain(|name, _| !names.contains(&name.as_str()));
}

/// Asserts that ip agrees with the event of each change, and that the event has these fields, and an index for each
/// device.
#[track_caller]
fn assert_reported(name: &str, changes: &[(&str, Value)]) {
    let Some(mut watch) = Watch::start(name) else {
        return;
    };
    let mut left_out = Vec::new();
    for (change, wanted) in changes {
        let Some(event) = watch.follow_one(change) else {
            left_out.push(*change);
            continue;
        };
        assert!(has_all(&event, wanted), "{change}: {wanted}: {event}");
        assert_devices_have_their_index(&event);
    }
    // A kernel may be built without this.
    let optional = ["encap", " from ", "nexthop", "nhid"];
    for change in left_out {
        assert!(
            optional.iter().any(|word| change.contains(word)),
            "this kernel supports: {change}"
        );
        leave_out(name, &format!("not in this kernel: {change}"));
    }
    watch.follower.end().assert_good();
}

#[track_caller]
fn assert_devices_have_their_index(event: &Value) {
    for hop in event["nexthops"]
        .as_array()
        .into_iter()
        .flatten()
        .chain([event])
    {
        let Some(device) = hop["dev"].as_str() else {
            continue;
        };
        let output = run("ip", &["-o", "link", "show", "dev", device]).expect("ip");
        let index = String::from_utf8(output.stdout).expect("a text");
        assert_eq!(
            index.split(':').next(),
            Some(hop["oif"].to_string().as_str()),
            "{event}"
        );
    }
}

#[test]
fn ipv4_routes_agree_with_ip() {
    assert_reported(
        "ipv4_routes_agree_with_ip",
        &[
            (
                "route add 192.0.2.0/24 via 10.1.0.2",
                json!({"event": "new", "message_flags": ["create", "excl"]}),
            ),
            (
                "route replace 192.0.2.0/24 via 10.1.0.3",
                json!({"event": "new", "gateway": "10.1.0.3", "message_flags": ["replace"]}),
            ),
            (
                "route append 192.0.2.0/24 via 10.1.0.4",
                json!({"message_flags": ["create", "append"]}),
            ),
            (
                "route delete 192.0.2.0/24 via 10.1.0.3",
                json!({"event": "delete", "gateway": "10.1.0.3"}),
            ),
            (
                "route add default via 10.1.0.2",
                json!({"dst": "0.0.0.0/0"}),
            ),
            (
                "route delete default",
                json!({"event": "delete", "dst": "0.0.0.0/0"}),
            ),
            (
                "route add 192.0.3.1 dev d1 src 10.2.0.1",
                json!({"dst": "192.0.3.1/32", "prefsrc": "10.2.0.1"}),
            ),
            (
                "route add 192.0.4.0/24 via 10.1.0.2 table 1000 metric 7 proto bgp",
                json!({"table": 1000, "priority": 7, "protocol": "bgp"}),
            ),
            (
                "route add 192.0.4.0/24 via 10.1.0.2 table 4294967295 metric 4294967295",
                json!({"table": u32::MAX, "priority": u32::MAX}),
            ),
            (
                "route add 192.0.5.0/24 dev d0 table 5 proto 77",
                json!({"table": 5, "protocol": "77"}),
            ),
            (
                "route add blackhole 192.0.6.0/24",
                json!({"type": "blackhole"}),
            ),
            (
                "route add unreachable 192.0.7.0/24 metric 20",
                json!({"type": "unreachable"}),
            ),
            (
                "route add prohibit 192.0.8.0/24",
                json!({"type": "prohibit"}),
            ),
            (
                "route add throw 192.0.9.0/24 table 1000",
                json!({"type": "throw"}),
            ),
            (
                "route add local 192.0.10.0/24 dev lo",
                json!({"type": "local", "table": 255, "scope": "host"}),
            ),
            (
                "route add broadcast 192.0.11.255 dev d0",
                json!({"type": "broadcast"}),
            ),
            (
                "route add multicast 239.0.0.0/8 dev d0",
                json!({"type": "multicast"}),
            ),
            (
                "route add 192.0.12.0/24 via 10.1.0.2 tos 0x10",
                json!({"tos": 16}),
            ),
        ],
    );
}

#[test]
fn hops_and_metrics_of_ipv4_agree_with_ip() {
    let locked = "rtt 1500ms rttvar 3s rto_min 200ms congctl lock cubic mtu lock 1400 ssthresh lock 7 cwnd lock 9";
    let free = "window 500 advmss 1300 reordering 4 hoplimit 10 initcwnd 12 features ecn initrwnd 11 quickack 1 \
                fastopen_no_cookie 1";
    assert_reported(
        "hops_and_metrics_of_ipv4_agree_with_ip",
        &[
            (
                "route add 192.0.13.0/24 via 10.99.0.2 dev d0 onlink",
                json!({"flags": ["onlink"]}),
            ),
            (
                "route add 192.0.14.0/24 dev d0 scope site proto static",
                json!({"scope": "site"}),
            ),
            (
                "route add 192.0.15.0/24 dev d0 realm 5/10",
                json!({"realm_from": 5, "realm_to": 10}),
            ),
            (
                "route add 192.0.16.0/24 via inet6 fd01::2 dev d0",
                json!({"via": {"family": "ipv6", "address": "fd01::2"}}),
            ),
            (
                "route add 192.0.17.0/24 nexthop via 10.1.0.2 dev d0 weight 256 onlink nexthop via inet6 fd02::2 dev d1 \
                nexthop dev d1 realm 3",
                json!({"nexthops": [
                    {"gateway": "10.1.0.2", "dev": "d0", "weight": 256, "flags": ["onlink"]},
                    {"via": {"address": "fd02::2"}, "dev": "d1", "weight": 1},
                    {"realm_from": 0, "realm_to": 3, "dev": "d1", "weight": 1}]}),
            ),
            ("route delete 192.0.17.0/24", json!({"event": "delete"})),
            (
                &format!("route add 192.0.18.0/24 via 10.1.0.2 {locked} {free}"),
                json!({"metrics": {
                "rtt": 12_000, "rttvar": 12_000, "rto_min": 200, "congctl": "cubic", "features": 1,
                "lock": ["mtu", "ssthresh", "cwnd", "rto_min", "congctl"]}}),
            ),
            (
                "route add 192.0.20.0/24 encap ip id 100 dst 10.9.9.9 dev d0",
                json!({"encap": "ip", "encap_fields": {"id": 100, "dst": "10.9.9.9"}}),
            ),
            (
                "route add 192.0.21.0/24 encap ip6 id 100 dst fd01::9 dev d0",
                json!({"encap": "ip6", "encap_fields": {"id": 100, "dst": "fd01::9"}}),
            ),
            (
                "route add 192.0.23.0/24 encap ip id 7 src 10.9.9.8 dst 10.9.9.9 ttl 3 tos 4 key csum seq dev d0",
                json!({"encap_fields": {"src": "10.9.9.8", "ttl": 3, "tos": 4, "flags": ["key", "csum", "seq"]}}),
            ),
            (
                "route add 192.0.24.0/24 nexthop encap ip id 5 dst 10.9.9.9 dev d0 nexthop via 10.2.0.2",
                json!({"nexthops": [{"encap": "ip", "encap_fields": {"id": 5, "dst": "10.9.9.9"}}]}),
            ),
            (
                "route add 192.0.22.0/24 encap mpls 100/200 via 10.1.0.2",
                json!({"encap": "mpls", "encap_fields": {"labels": [100, 200]}}),
            ),
        ],
    );
}

#[test]
fn ipv6_routes_agree_with_ip() {
    assert_reported(
        "ipv6_routes_agree_with_ip",
        &[
            (
                "route add 2001:db8:1::/48 via fd01::2",
                json!({"event": "new", "priority": 1024}),
            ),
            (
                "route replace 2001:db8:1::/48 via fd01::3",
                json!({"message_flags": ["replace"]}),
            ),
            (
                "route delete 2001:db8:1::/48",
                json!({"event": "delete", "gateway": "fd01::3"}),
            ),
            (
                "route add 2001:db8:2::/48 dev d0 metric 77 expires 500 pref high",
                json!({"expires_s": 500, "pref": "high"}),
            ),
            (
                "route add 2001:db8:3::/48 nexthop via fd01::2 nexthop via fd02::3 weight 3",
                json!({"nexthops": [{"gateway": "fd01::2", "weight": 1}, {"gateway": "fd02::3", "weight": 3}]}),
            ),
            (
                "route append 2001:db8:3::/48 via fd01::4",
                json!({"nexthops": [{"gateway": "fd01::4"}]}),
            ),
            (
                "route add blackhole 2001:db8:4::/48",
                json!({"type": "blackhole"}),
            ),
            (
                "route add prohibit 2001:db8:5::/48",
                json!({"type": "prohibit"}),
            ),
            (
                "route add unreachable 2001:db8:6::/48",
                json!({"type": "unreachable"}),
            ),
            ("route add throw 2001:db8:7::/48", json!({"type": "throw"})),
            (
                "route add default via fd01::2 table 1000",
                json!({"dst": "::/0", "table": 1000}),
            ),
            (
                "route add 2001:db8:8::/48 from 2001:db8:9::/48 via fd01::2",
                json!({"src": "2001:db8:9::/48"}),
            ),
            (
                "route add 2001:db8:a::1 dev d1 src fd02::1 pref low",
                json!({"prefsrc": "fd02::1", "pref": "low"}),
            ),
            (
                "route add 2001:db8:b::/48 encap seg6 mode encap segs fd01::7,fd01::8 dev d0",
                json!({"encap": "seg6", "encap_fields": {"mode": "encap", "segments": ["fd01::7", "fd01::8"]}}),
            ),
            (
                "route add 2001:db8:c::/48 encap seg6local action End.DX2 oif d1 dev d0",
                json!({"encap": "seg6local", "encap_fields": {"action": "End.DX2", "dev": "d1"}}),
            ),
            (
                "route add 2001:db8:2d::/48 encap seg6 mode inline segs fd01::7 dev d0",
                json!({"encap_fields": {"mode": "inline"}}),
            ),
            (
                "route add 2001:db8:2e::/48 encap seg6local action End.X nh6 fd01::3 dev d0",
                json!({"encap_fields": {"action": "End.X", "nh6": "fd01::3"}}),
            ),
            (
                "route add 2001:db8:2f::/48 encap seg6local action End.DT6 table main dev d0",
                json!({"encap_fields": {"table": 254, "table_name": "main"}, "table_name": "main"}),
            ),
            (
                "route add 2001:db8:30::/48 encap seg6local action End.B6.Encaps srh segs fd01::7,fd01::8 dev d0",
                json!({"encap_fields": {"segments": ["fd01::7", "fd01::8"]}}),
            ),
            (
                "route add 2001:db8:31::/48 encap ip6 id 9 src fd01::8 dst fd01::9 hoplimit 3 tc 4 key csum dev d0",
                json!({"encap_fields": {"src": "fd01::8", "ttl": 3, "tos": 4, "flags": ["key", "csum"]}}),
            ),
            (
                "route add 2001:db8:d::/48 via fd01::2 mtu 1400 hoplimit 77",
                json!({"metrics": {"mtu": 1400, "hoplimit": 77}}),
            ),
        ],
    );
}

#[test]
fn nexthop_objects_agree_with_ip() {
    const NAME: &str = "nexthop_objects_agree_with_ip";
    let Some(mut watch) = Watch::start(NAME) else {
        return;
    };
    for nexthop in [
        "1 via 10.1.0.2 dev d0",
        "2 via 10.2.0.2 dev d1",
        "3 group 1,2/2,5",
        "4 blackhole",
    ] {
        if watch.follow(&format!("nexthop add id {nexthop}")).is_none() {
            return skip(NAME, "no nexthop objects in this kernel");
        }
    }
    for (change, wanted) in [
        (
            "route add 192.0.2.0/24 nhid 1",
            json!({"nexthop_id": 1, "gateway": "10.1.0.2", "dev": "d0"}),
        ),
        (
            "route add 192.0.3.0/24 nhid 3",
            json!({"nexthop_id": 3, "nexthops": [{"dev": "d0", "weight": 2}, {"dev": "d1", "weight": 5}]}),
        ),
        (
            "route delete 192.0.3.0/24",
            json!({"event": "delete", "nexthop_id": 3}),
        ),
    ] {
        let event = watch.follow_one(change).expect("nexthop objects");
        assert!(has_all(&event, &wanted), "{wanted}: {event}");
    }
    watch.follower.end().assert_good();
}

/// ip shows these in a table of their own, so the test knows what there must be.
#[test]
fn mpls_routes_agree_with_ip() {
    let Some(mut watch) = Watch::start("mpls_routes_agree_with_ip") else {
        return;
    };
    let _ = run("modprobe", &["mpls_router"]);
    if fs::write("/proc/sys/net/mpls/platform_labels", "1000").is_err() {
        return leave_out("mpls_routes_agree_with_ip", "no MPLS in this kernel");
    }
    let via = json!({"family": "ipv4", "address": "10.1.0.2"});
    let hops = json!([{"as": "200", "via": via, "dev": "d0"}, {"via": {"address": "10.2.0.2"}, "dev": "d1"}]);
    for (change, wanted) in [
        (
            "add 100 as 200/300 via inet 10.1.0.2",
            json!({"event": "new", "dst": "100", "as": "200/300", "via": via}),
        ),
        ("delete 100", json!({"event": "delete", "dst": "100"})),
        (
            "add 101 nexthop as 200 via inet 10.1.0.2 nexthop via inet 10.2.0.2",
            json!({"dst": "101", "nexthops": hops}),
        ),
    ] {
        let events = watch
            .follow(&format!("-f mpls route {change}"))
            .expect("MPLS");
        assert_some(&events, &wanted);
        assert_eq!(
            (events.len(), &events[0]["family"]),
            (1, &json!("mpls")),
            "{events:?}"
        );
    }
    watch.follower.end().assert_good();
}

/// The kernel takes any bytes but NUL, `/`, `:` and white space.
#[test]
fn any_name_of_a_device_is_valid_json() {
    let Some(mut watch) = Watch::start("any_name_of_a_device_is_valid_json") else {
        return;
    };
    let mut device = b"d0".to_vec();
    for (name, shown) in [
        (&b"a\"b\\c"[..], r#"a"b\c"#),
        (b"\x1b[2J\x01\x7f", "\x1b[2J\x01\x7f"),
        (b"a\xff\xe2\x82b", r"a\xff\xe2\x82b"),
        (b"caf\xc3\xa9{}'", "café{}'"),
        (b"\xc2\x9bx,]", "\u{9b}x,]"),
    ] {
        let rename = OsStr::from_bytes(name);
        let [down, up, name_it] = ["down", "up", "name"].map(OsStr::new);
        set_device(&device, &[down]); // before Linux 6.2 a device that is up keeps its name
        set_device(&device, &[name_it, rename]);
        set_device(name, &[up]);
        device = name.to_vec();
        let events = watch
            .follow("route add 192.0.2.1 via 10.1.0.2")
            .expect("a route");
        assert_some(&events, &json!({"dst": "192.0.2.1/32", "dev": shown}));
        watch.follow("route delete 192.0.2.1").expect("a route");
    }
    let output = watch.follower.end().output;
    assert!(
        !output.contains(|character: char| character.is_control() && character != '\n'),
        "{output}"
    );
}

fn set_device(name: &[u8], words: &[&OsStr]) {
    let mut ip = Command::new("ip");
    let ip = ip
        .args(["link", "set", "dev"])
        .arg(OsStr::from_bytes(name))
        .args(words);
    assert!(ip.status().expect("ip").success(), "{ip:?}");
}
