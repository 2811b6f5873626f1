//! What `ip -j` shows of each kind of object, in the names of docs/json.md.

use serde_json::{Map, Value, json};

use super::{await_that, run};

/// Commands that make objects of each kind.
pub const CHANGES: &str = "
ip link set lo up
ip link add br0 type bridge
ip link add v0 type veth peer name v1
ip link set v0 master br0
ip link set v1 address 02:00:00:00:00:07
ip link set v1 group 5
ip link set v1 alias other-end
ip link property add dev v1 altname alternative
ip link set v1 mtu 1400
ip link set br0 up
ip link set v0 up
ip link set v1 up
ip addr add 10.1.0.1/24 brd + dev br0 label br0:x
ip addr add 10.9.0.1 peer 10.9.0.2/32 dev br0 metric 77
ip addr add fd01::1/64 dev br0 nodad
ip neigh add 10.1.0.77 lladdr 02:00:00:00:00:99 dev br0
ip neigh add fd01::9 lladdr 02:00:00:00:00:97 dev br0 nud noarp
ip rule add from 10.1.0.0/24 to 10.2.0.0/16 table 100 priority 1000
ip rule add fwmark 0x10/0xf0 iif v1 oif nosuch lookup main suppress_prefixlength 8 priority 1001
ip rule add uidrange 5-10 ipproto tcp sport 5-9 dport 80 lookup 7 priority 1002
ip rule add from 10.3.0.1 blackhole priority 1003 protocol 77
ip rule add goto 1003 priority 900
ip -6 rule add from fd01::/64 lookup 55 priority 999
ip nexthop add id 5 via 10.1.0.2 dev br0
ip nexthop add id 6 via 10.1.0.3 dev br0 proto static
ip nexthop add id 7 group 5,3/6
ip nexthop add id 8 blackhole
ip route add 192.0.2.0/24 via 10.1.0.2
sysctl -q -w net.ipv4.conf.br0.forwarding=1
sysctl -q -w net.ipv4.conf.br0.rp_filter=2
sysctl -q -w net.ipv4.conf.br0.proxy_arp=1
";

/// Waits until the devices are up, because the kernel reports that some time later.
pub fn await_devices() {
    await_that("the devices are up", || {
        let up = of("link show up", |link| {
            (link["operstate"] == "UP").then_some(Value::Null)
        });
        up.len() == 3
    });
}

/// All objects that ip shows.
pub fn shown() -> Vec<Value> {
    let mut all = Vec::new();
    all.extend(of("link show", link));
    all.extend(addresses());
    all.extend(of("neigh show nud all", neighbour));
    all.extend(of("rule show", |rule| rule_of("ipv4", rule)));
    all.extend(of("-6 rule show", |rule| rule_of("ipv6", rule)));
    all.extend(of("nexthop show", |object| Some(nexthop(object))));
    all.extend(of("mroute show table all", multicast_route));
    all.extend(of("netconf show dev br0", netconf));
    all
}

/// The objects that a command of ip shows. None: it is not worth a comparison.
fn of(command: &str, translate: impl Fn(&Value) -> Option<Value>) -> Vec<Value> {
    let words: Vec<&str> = ["-j", "-d"].into_iter().chain(command.split(' ')).collect();
    let text = String::from_utf8(run("ip", &words).expect("ip").stdout).expect("a text");
    let objects: Vec<Value> = match text.trim() {
        "" => Vec::new(),
        text => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
    };
    objects.iter().filter_map(translate).collect()
}

/// The fields of an object that have the same values in nlring, with nlring's names.
fn renamed(kind: &str, object: &Value, names: &[(&str, &str)]) -> Map<String, Value> {
    let mut fields = Map::from_iter([("object".to_owned(), kind.into())]);
    for (theirs, ours) in names {
        if let Some(value) = object.get(theirs) {
            fields.insert((*ours).to_owned(), value.clone());
        }
    }
    fields
}

/// The devices of the test. The rest has no event since the start.
fn link(link: &Value) -> Option<Value> {
    let names = [
        ("ifindex", "index"),
        ("ifname", "name"),
        ("mtu", "mtu"),
        ("qdisc", "qdisc"),
        ("master", "master_name"),
        ("group", "group_name"),
        ("txqlen", "tx_queue_len"),
        ("link_type", "link_type"),
        ("address", "address"),
        ("broadcast", "broadcast"),
        ("promiscuity", "promiscuity"),
        ("min_mtu", "min_mtu"),
        ("max_mtu", "max_mtu"),
        ("link", "link_name"),
        ("ifalias", "alias"),
        ("altnames", "alt_names"),
    ];
    let mut fields = renamed("link", link, &names);
    if link["group"].as_str()?.parse::<u32>().is_ok() {
        fields.remove("group_name"); // the number of a group without a name
    }
    fields.insert("oper_state".into(), lower(&link["operstate"]));
    if link["ifname"] == "lo" {
        return None;
    }
    let flags = link["flags"].as_array()?.iter().map(lower);
    let flags: Vec<Value> = flags.filter(|flag| flag != "no-carrier").collect();
    fields.insert("flags".into(), flags.into());
    let info = &link["linkinfo"];
    for (theirs, ours) in [("info_kind", "kind"), ("info_slave_kind", "master_kind")] {
        if let Some(kind) = info.get(theirs) {
            fields.insert(ours.into(), kind.clone());
        }
    }
    Some(fields.into())
}

fn lower(text: &Value) -> Value {
    let text = text.as_str().expect("a text").to_lowercase();
    text.replace('_', "-").into()
}

/// ip shows the addresses in their devices.
fn addresses() -> Vec<Value> {
    let devices = of("addr show", |device| {
        (device["ifname"] != "lo").then(|| device.clone())
    });
    let translate = |device: &Value| {
        let mut of_device = device["addr_info"].as_array().cloned().unwrap_or_default();
        of_device.retain(|address| address["scope"] == "global"); // others are reported some time later
        let translate = |address: &Value| {
            let names = [
                ("local", "address"),
                ("address", "peer"),
                ("prefixlen", "prefix_len"),
                ("broadcast", "broadcast"),
                ("scope", "scope"),
                ("metric", "priority"),
                ("label", "label"),
                ("valid_life_time", "valid_s"),
                ("preferred_life_time", "preferred_s"),
            ];
            let mut fields = renamed("address", address, &names);
            fields.insert("dev".into(), device["ifname"].clone());
            fields.insert("index".into(), device["ifindex"].clone());
            fields.insert("family".into(), family(&address["family"]));
            Value::from(fields)
        };
        of_device.iter().map(translate).collect::<Vec<_>>()
    };
    devices.iter().flat_map(translate).collect()
}

fn family(name: &Value) -> Value {
    let name = name.as_str().expect("a family");
    name.replace("inet6", "ipv6").replace("inet", "ipv4").into()
}

/// Those that were added by the test, because the state of others changes by itself.
fn neighbour(neighbour: &Value) -> Option<Value> {
    let names = [("dst", "dst"), ("dev", "dev"), ("lladdr", "address")];
    let states = neighbour["state"].as_array()?.iter().map(lower);
    let states: Vec<Value> = states.collect();
    if states != ["permanent"] {
        return None;
    }
    let mut fields = renamed("neighbour", neighbour, &names);
    fields.insert("state".into(), states.into());
    Some(fields.into())
}

/// Those of the test: the kernel's own make no events.
fn rule_of(family: &str, rule: &Value) -> Option<Value> {
    let priority = rule["priority"].as_u64()?;
    if !(1..2000).contains(&priority) {
        return None;
    }
    let names = [
        ("priority", "priority"),
        ("iif", "iif_name"),
        ("oif", "oif_name"),
        ("uid_start", "uid_start"),
        ("uid_end", "uid_end"),
        ("ipproto", "ip_protocol_name"),
        ("sport_start", "sport_start"),
        ("sport_end", "sport_end"),
        ("dport", "dport_start"),
        ("dport", "dport_end"),
        ("suppress_prefixlen", "suppress_prefix_len"),
        ("goto", "goto"),
        ("action", "action"),
        ("protocol", "protocol"),
    ];
    let mut fields = renamed("rule", rule, &names);
    if let Some(name) = fields.get("ip_protocol_name").and_then(Value::as_str)
        && name.starts_with("ipproto-")
    {
        fields.remove("ip_protocol_name"); // this host has no /etc/protocols
    }
    fields.insert("family".into(), family.into());
    for (address, len, ours) in [("src", "srclen", "src"), ("dst", "dstlen", "dst")] {
        match rule[address].as_str() {
            None | Some("all") => {}
            Some(text) => {
                let whole = if family == "ipv4" { 32 } else { 128 };
                let len = rule[len].as_u64().unwrap_or(whole);
                fields.insert(ours.into(), format!("{text}/{len}").into());
            }
        }
    }
    for (theirs, ours) in [("fwmark", "mark"), ("fwmask", "mark_mask")] {
        if let Some(text) = rule[theirs].as_str() {
            let digits = text.trim_start_matches("0x");
            let number = u32::from_str_radix(digits, 16).expect("a mark");
            fields.insert(ours.into(), number.into());
        }
    }
    match rule["table"].as_str() {
        None => {}
        Some(table) => match table.parse::<u32>() {
            Ok(number) => _ = fields.insert("table".into(), number.into()),
            Err(_) => _ = fields.insert("table_name".into(), table.into()),
        },
    }
    Some(fields.into())
}

fn nexthop(nexthop: &Value) -> Value {
    let names = [
        ("id", "id"),
        ("gateway", "gateway"),
        ("dev", "dev"),
        ("scope", "scope"),
        ("protocol", "protocol"),
    ];
    let mut fields = renamed("nexthop", nexthop, &names);
    if nexthop.get("blackhole").is_some() {
        fields.insert("blackhole".into(), 1.into());
    }
    if let Some(group) = nexthop["group"].as_array() {
        let member = |member: &Value| json!({"id": member["id"], "weight": member["weight"].as_u64().unwrap_or(1)});
        let group: Vec<Value> = group.iter().map(member).collect();
        fields.insert("group".into(), group.into());
    }
    fields.into()
}

fn multicast_route(route: &Value) -> Option<Value> {
    let names = [("src", "src"), ("dst", "dst"), ("iif", "iif_name")];
    let mut fields = renamed("mroute", route, &names);
    let hop = |hop: &Value| json!({"dev": hop["oif"], "ttl": hop["ttl"].as_u64().unwrap_or(1)});
    let hops = route["multipath"].as_array()?.iter().map(hop);
    fields.insert("hops".into(), hops.collect());
    Some(fields.into())
}

/// Each event has only what changed.
fn netconf(netconf: &Value) -> Option<Value> {
    if netconf["family"] != "inet" {
        return None;
    }
    assert_eq!(netconf["forwarding"], true);
    Some(json!({
        "object": "netconf", "family": "ipv4", "dev": netconf["interface"], "forwarding": 1,
    }))
}
