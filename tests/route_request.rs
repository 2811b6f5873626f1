//! Requests about routes, devices and addresses, compared with what ip(8) prints about them. Each test has its own
//! namespace.

mod common;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Instant;

use nlring::Family;
use nlring::route::{
    DumpFilter, InterfaceAddress, NewHop, NewRoute, Requests, Route, protocol, route_type, scope,
    table,
};
use nlring::{Batch, EventKind, Message};

/// Two devices, with addresses of each kind.
const DEVICES: &str = "\
    link add v0 type veth peer name v1
    link set lo up
    link set v0 addrgenmode none up
    link set v1 addrgenmode none up
    addr add 192.0.2.9/24 dev v0
    addr add 192.0.2.10/24 dev v0 label v0:x
    addr add 10.7.7.1 peer 10.7.7.2/32 dev v1
    addr add fd01::9/64 dev v0 nodad
    addr add fd05::1 peer fd05::2/128 dev v1 nodad";

/// None: ip(8) is not installed.
fn requests(name: &str) -> Option<Requests> {
    common::own_namespace();
    for arguments in DEVICES.lines() {
        if !common::ip(arguments) {
            common::skip(name, "it compares with ip(8)");
            return None;
        }
    }
    let mut requests = Requests::open().expect("a requester");
    let deadline = Instant::now() + common::PATIENCE;
    while !is_settled(&mut requests) {
        assert!(Instant::now() < deadline, "not all of IPv6's routes came");
        std::thread::yield_now();
    }
    Some(requests)
}

/// Waits for IPv6 routes that the kernel adds a moment later: when it has found a device's carrier, and an address to
/// be free.
fn is_settled(requests: &mut Requests) -> bool {
    let lines = dumped(requests, &DumpFilter::new().family(Family::INET6));
    let starts = [
        "5 ff00::/8 dev v0",
        "5 ff00::/8 dev v1",
        "2 fd01::9 ",
        "2 fd05::1 ",
    ];
    let mut awaited = starts.iter();
    awaited.all(|start| lines.iter().any(|line| line.starts_with(start)))
}

fn ip_lines(arguments: &str) -> Vec<String> {
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    let output = common::run("ip", &arguments).expect("ip");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {error}");
    let text = String::from_utf8(output.stdout).expect("text");
    // `ip` prints a route's hops on lines of their own.
    let text = text.replace("\n\t", "");
    let lines = text.lines().filter(|line| !line.is_empty());
    let mut lines: Vec<_> = lines.map(|line| line.trim_end().to_owned()).collect();
    lines.sort();
    lines.dedup();
    lines
}

/// The devices' names by their index.
fn names(requests: &mut Requests) -> HashMap<u32, String> {
    let dump = requests.links(|names: &mut HashMap<_, _>, link| {
        let name = String::from_utf8_lossy(link.name.expect("a name"));
        assert_eq!(link.kind, EventKind::Entry);
        names.insert(link.index, name.into_owned());
    });
    dump.expect("a dump").items
}

/// A line of `ip -N -d route show table all`.
fn written(route: &Route<'_>, names: &HashMap<u32, String>) -> String {
    let mut line = route.route_type.to_string();
    let host_bits = if route.family == Family::INET {
        32
    } else {
        128
    };
    match (route.dst.and_then(|dst| dst.ip()), route.dst_prefix_len) {
        (None, _) => line += " default",
        (Some(dst), len) if len == host_bits => write!(line, " {dst}").unwrap(),
        (Some(dst), len) => write!(line, " {dst}/{len}").unwrap(),
    }
    if route.tos != 0 {
        write!(line, " tos {:#04x}", route.tos).unwrap();
    }
    if let Some(id) = route.nexthop_id {
        write!(line, " nhid {id}").unwrap();
    }
    put_gateway(&mut line, &route.hop);
    if let Some(oif) = route.oif {
        write!(line, " dev {}", names[&oif]).unwrap();
    }
    let (table, protocol, scope) = (route.table, route.protocol, route.scope);
    write!(line, " table {table} proto {protocol} scope {scope}").unwrap();
    if let Some(prefsrc) = route.prefsrc {
        write!(line, " src {prefsrc}").unwrap();
    }
    if let Some(priority) = route.priority {
        write!(line, " metric {priority}").unwrap();
    }
    for nexthop in route.nexthops {
        line += "nexthop";
        put_gateway(&mut line, &nexthop.hop);
        let (device, weight) = (&names[&nexthop.oif], nexthop.weight);
        write!(line, " dev {device} weight {weight}").unwrap();
    }
    line
}

fn put_gateway(line: &mut String, hop: &nlring::route::Hop<'_>) {
    if let Some(gateway) = hop.gateway {
        write!(line, " via {gateway}").unwrap();
    }
    if let Some(gateway) = hop.via.and_then(|via| via.address.ip()) {
        write!(line, " via inet6 {gateway}").unwrap();
    }
}

fn dumped(requests: &mut Requests, filter: &DumpFilter) -> Vec<String> {
    let names = names(requests);
    let dump = requests.dump(filter, |lines: &mut Vec<_>, route| {
        assert_eq!(route.kind, EventKind::Entry, "{route:?}");
        lines.push(written(route, &names));
    });
    let dump = dump.expect("a dump");
    assert!(!dump.is_interrupted);
    let mut lines = dump.items;
    lines.sort();
    lines
}

/// A route as ip(8) prints it, without fields that nothing here sets.
fn listed(arguments: &str) -> Vec<String> {
    let lines = ip_lines(&format!("-N -d {arguments}"));
    let known = |line: &String| {
        let line = line.replace(" pref medium", "").replace(" linkdown", "");
        // The hops come before the preference.
        line.replace("  nexthop", "nexthop")
            .replace(" nexthop", "nexthop")
            .replace("  ", " ")
    };
    let mut lines: Vec<_> = lines.iter().map(known).collect();
    lines.sort();
    lines
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn route(dst: &str, prefix_len: u8) -> NewRoute<'static> {
    NewRoute::new(address(dst), prefix_len)
}

fn index_of(requests: &mut Requests, name: &str) -> u32 {
    let names = names(requests);
    let found = names.iter().find(|(_, of)| *of == name);
    *found.expect("a device").0
}

/// Adds one route of each kind.
fn add_some_of_each(requests: &mut Requests) {
    let v0 = index_of(requests, "v0");
    let [first, second] = ["192.0.2.1", "192.0.2.2"].map(address);
    let hops = [
        NewHop::new().gateway(first).weight(2),
        NewHop::new().gateway(second).oif(v0),
    ];
    let v6_hops = [
        NewHop::new().gateway(address("fd01::1")),
        NewHop::new().gateway(address("fd01::2")).weight(256),
    ];
    let onlink = [
        NewHop::new()
            .gateway(address("203.0.113.1"))
            .oif(v0)
            .onlink(),
        NewHop::new().gateway(first),
    ];
    for route in [
        route("10.9.0.0", 24)
            .gateway(first)
            .table(1000)
            .priority(50)
            .prefsrc(address("192.0.2.9")),
        route("10.9.1.0", 24).hops(&hops),
        route("10.9.2.0", 24).route_type(route_type::BLACKHOLE),
        route("10.9.3.0", 24).gateway(address("fd01::1")).oif(v0),
        route("10.9.4.0", 24).oif(v0).tos(0x10).table(100),
        route("10.9.5.0", 24).hops(&onlink).protocol(protocol::BOOT),
        route("10.9.6.1", 32)
            .oif(v0)
            .scope(scope::HOST)
            .route_type(route_type::LOCAL),
        route("0.0.0.0", 0).gateway(first),
        route("fd02::", 64).gateway(address("fd01::1")),
        route("fd03::", 64).hops(&v6_hops),
        route("::", 0)
            .gateway(address("fd01::1"))
            .table(1000)
            .protocol(99),
        route("fd04::", 64).route_type(route_type::UNREACHABLE),
    ] {
        requests.add(&route).expect("added");
    }
}

#[test]
fn a_dump_returns_the_routes_that_ip_lists() {
    let Some(mut requests) = requests("a_dump_returns_the_routes_that_ip_lists") else {
        return;
    };
    add_some_of_each(&mut requests);
    let all = dumped(&mut requests, &DumpFilter::new());
    let shown = listed("route show table all");
    let shown = shown.iter().map(|line| line.replace(" onlink", ""));
    assert_eq!(all, shown.collect::<Vec<_>>());
    let added = all.iter().filter(|line| line.contains(" proto 4 "));
    assert_eq!(added.count(), 10);
    // The routes are as they were asked for.
    let of_table_1000 = [
        "1 10.9.0.0/24 via 192.0.2.1 dev v0 table 1000 proto 4 scope 0 src 192.0.2.9 metric 50",
        "1 default via fd01::1 dev v0 table 1000 proto 99 scope 0 metric 1024",
    ];
    assert_eq!(
        dumped(&mut requests, &DumpFilter::new().table(1000)),
        of_table_1000
    );
    for line in [
        "1 10.9.1.0/24 table 254 proto 4 scope 0\
         nexthop via 192.0.2.1 dev v0 weight 2nexthop via 192.0.2.2 dev v0 weight 1",
        "1 10.9.3.0/24 via inet6 fd01::1 dev v0 table 254 proto 4 scope 0",
        "1 10.9.4.0/24 tos 0x10 dev v0 table 100 proto 4 scope 253",
        "6 10.9.2.0/24 table 254 proto 4 scope 0",
        "2 10.9.6.1 dev v0 table 254 proto 4 scope 254",
        "1 fd03::/64 table 254 proto 4 scope 0 metric 1024\
         nexthop via fd01::1 dev v0 weight 1nexthop via fd01::2 dev v0 weight 256",
    ] {
        assert!(all.iter().any(|found| found == line), "{line} in {all:#?}");
    }
}

#[test]
fn each_filter_returns_exactly_what_it_selects() {
    let Some(mut requests) = requests("each_filter") else {
        return;
    };
    add_some_of_each(&mut requests);
    let (v0, v1) = (index_of(&mut requests, "v0"), index_of(&mut requests, "v1"));
    let all = DumpFilter::new;
    let every = dumped(&mut requests, &all());
    for (filter, wanted) in [
        (all().table(100), " table 100 "),
        (all().table(table::LOCAL), " table 255 "),
        (all().protocol(99), " proto 99 "),
        (all().protocol(protocol::KERNEL), " proto 2 "),
        (all().oif(v0), " dev v0"),
        (all().oif(v1), " dev v1"),
    ] {
        let of_it: Vec<_> = every
            .iter()
            .filter(|line| line.contains(wanted))
            .cloned()
            .collect();
        assert!(!of_it.is_empty() && of_it.len() < every.len(), "{wanted}");
        assert_eq!(dumped(&mut requests, &filter), of_it, "{filter:?}");
    }
    let [v4, v6] = [Family::INET, Family::INET6].map(|family| all().family(family));
    let (v4, v6) = (dumped(&mut requests, &v4), dumped(&mut requests, &v6));
    assert_eq!(v4.len() + v6.len(), every.len());
    assert!(v4.iter().any(|line| line.contains("10.9.0.0")) && v4.len() > 10);
    let blackholes = all().route_type(route_type::BLACKHOLE);
    assert_eq!(dumped(&mut requests, &blackholes).len(), 1);
    let both = all().family(Family::INET6).table(1000);
    assert_eq!(dumped(&mut requests, &both).len(), 1);
    for family in [Family::UNSPEC, Family::INET, Family::INET6] {
        let missing = all().family(family).table(77);
        assert_eq!(dumped(&mut requests, &missing), [""; 0], "{family}");
    }
}

#[test]
fn the_kernel_filters_by_table() {
    let Some(mut requests) = requests("the_kernel_filters_by_table") else {
        return;
    };
    let mut batch = Batch::new();
    for number in 0..200 {
        let route = NewRoute::new([10, 9, 0, number].into(), 32).route_type(route_type::BLACKHOLE);
        route.add_in(&mut batch).expect("built");
    }
    let refused = |index, reply: nlring::Result<Message<'_>>| panic!("{index}: {reply:?}");
    batch.send(requests.requester(), refused).expect("added");
    let one = NewRoute::new([10, 8, 0, 0].into(), 24).route_type(route_type::BLACKHOLE);
    requests.add(&one.table(1000)).expect("added");
    assert!(requests.requester().socket().get_strict_check().unwrap());
    let dump = requests.requester().dump(
        26,
        |request| {
            request
                .bytes(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
                .attribute_u32(15, 1000)
        },
        |seen: &mut Vec<_>, message| seen.push(Route::decode(message).map(|route| route.table)),
    );
    assert_eq!(dump.expect("a dump").items, [Some(1000)]);
    let absent = NewRoute::new([10, 7, 0, 0].into(), 24);
    let present = NewRoute::new([10, 9, 0, 7].into(), 32);
    for route in [absent, present] {
        route.delete_in(&mut batch).expect("built");
    }
    let mut missing = Vec::new();
    let refused = |index, reply: nlring::Result<Message<'_>>| {
        missing.push((index, reply.err().and_then(|error| error.raw_os_error())));
    };
    batch.send(requests.requester(), refused).expect("deleted");
    assert_eq!(missing, [(0, Some(libc::ESRCH))]);
    let left = DumpFilter::new()
        .route_type(route_type::BLACKHOLE)
        .table(table::MAIN);
    assert_eq!(dumped(&mut requests, &left).len(), 199);
}

#[test]
fn routes_are_added_replaced_appended_and_deleted() {
    let Some(mut requests) = requests("routes_are_added_replaced_appended_and_deleted") else {
        return;
    };
    let base = || route("10.9.0.0", 24).table(1000);
    let [first, second] = ["192.0.2.1", "192.0.2.2"].map(address);
    requests.add(&base().gateway(first)).expect("added");
    let again = requests.add(&base().gateway(second)).unwrap_err();
    assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
    assert!(again.to_string().starts_with("add a route: "), "{again}");
    let shown =
        |gateway: &str| format!("1 10.9.0.0/24 via {gateway} dev v0 table 1000 proto 4 scope 0");
    let show = || {
        listed("route show table 1000")
            .iter()
            .map(|line| line.replace("v0 proto", "v0 table 1000 proto"))
            .collect::<Vec<_>>()
    };
    assert_eq!(show(), [shown("192.0.2.1")]);
    requests.replace(&base().gateway(second)).expect("replaced");
    assert_eq!(show(), [shown("192.0.2.2")]);
    requests.append(&base().gateway(first)).expect("appended");
    assert_eq!(show(), [shown("192.0.2.1"), shown("192.0.2.2")]);

    let other_protocol = base().protocol(99);
    assert!(!requests.delete(&other_protocol).unwrap());
    let other_gateway = base().gateway(address("192.0.2.3"));
    assert!(!requests.delete(&other_gateway).unwrap());
    assert!(requests.delete(&base().gateway(first)).unwrap());
    assert_eq!(show(), [shown("192.0.2.2")]);
    assert!(requests.delete(&base()).unwrap(), "any that fits");
    assert!(!requests.delete(&base()).unwrap());
    assert_eq!(show(), [""; 0]);
    // A route that ip(8) has added, with another protocol.
    common::ip("route add 10.9.7.0/24 via 192.0.2.1 metric 7");
    assert!(!requests.delete(&route("10.9.7.0", 24).priority(8)).unwrap());
    assert!(requests.delete(&route("10.9.7.0", 24).priority(7)).unwrap());

    let wrong = requests
        .add(&route("10.9.0.1", 24).gateway(first))
        .unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "add a route: Invalid argument (os error 22): Invalid prefix for given prefix length"
    );
    let unreachable = requests
        .add(&base().gateway(address("203.0.113.1")))
        .unwrap_err();
    assert_eq!(
        unreachable.kernel_text(),
        Some("Nexthop has invalid gateway")
    );
}

#[test]
fn a_route_uses_the_nexthop_object_that_it_names() {
    let Some(mut requests) = requests("a_nexthop_object") else {
        return;
    };
    let arguments = "nexthop add id 7 via 192.0.2.1 dev v0";
    let added = common::run("ip", &arguments.split(' ').collect::<Vec<_>>()).unwrap();
    if !added.status.success() {
        return common::skip("a_nexthop_object", "this kernel has no nexthop objects");
    }
    requests
        .add(&route("10.9.0.0", 24).nexthop_id(7))
        .expect("added");
    let gateway = requests.get(address("10.9.0.5"), |route| route.hop.gateway);
    assert_eq!(gateway.unwrap(), Some(Some(address("192.0.2.1"))));
    let listed = listed("route show 10.9.0.0/24");
    assert!(
        listed[0].starts_with("1 10.9.0.0/24 nhid 7 via 192.0.2.1 dev v0"),
        "{listed:?}"
    );
}

#[test]
fn a_lookup_finds_where_a_packet_goes() {
    let Some(mut requests) = requests("a_lookup_finds_where_a_packet_goes") else {
        return;
    };
    let v0 = index_of(&mut requests, "v0");
    assert_eq!(requests.get(address("10.9.0.1"), |_| ()).unwrap(), None);
    assert_eq!(requests.get(address("fd02::1"), |_| ()).unwrap(), None);
    add_some_of_each(&mut requests);
    let look = |route: &Route<'_>| {
        assert_eq!(route.kind, EventKind::Entry);
        (
            route.hop.gateway,
            route.oif,
            route.prefsrc,
            route.route_type,
        )
    };
    let found = requests.get(address("203.0.113.77"), look).unwrap();
    let src = Some(address("192.0.2.9"));
    let gateway = Some(address("192.0.2.1"));
    assert_eq!(found, Some((gateway, Some(v0), src, route_type::UNICAST)));
    let shown = ip_lines("route get 203.0.113.77");
    assert!(
        shown
            .iter()
            .any(|line| line.contains("via 192.0.2.1 dev v0 src 192.0.2.9"))
    );
    let found = requests.get(address("fd02::77"), look).unwrap();
    assert_eq!(
        found.map(|(gateway, ..)| gateway),
        Some(Some(address("fd01::1")))
    );
    let found = requests.get(address("192.0.2.9"), look).unwrap();
    assert_eq!(
        found.map(|(.., route_type)| route_type),
        Some(route_type::LOCAL)
    );
    // The result for packets to a blackhole.
    let error = requests.get(address("10.9.2.1"), look).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    assert!(
        error.to_string().starts_with("look a route up: "),
        "{error}"
    );
}

#[test]
fn addresses_and_devices_are_those_that_ip_lists() {
    let Some(mut requests) = requests("addresses_and_devices") else {
        return;
    };
    let names = names(&mut requests);
    let shown = ip_lines("-N -o link");
    assert_eq!(shown.len(), names.len());
    for (index, name) in &names {
        let is_it = |line: &&String| {
            line.starts_with(&format!("{index}: {name}@"))
                || line.starts_with(&format!("{index}: {name}:"))
        };
        assert_eq!(
            shown.iter().filter(is_it).count(),
            1,
            "{index} {name} in {shown:#?}"
        );
    }
    let written = |address: &InterfaceAddress<'_>| {
        let inet = if address.family == Family::INET {
            "inet"
        } else {
            "inet6"
        };
        let mut line = format!(
            "{} {inet} {}",
            names[&address.index],
            address.own().unwrap()
        );
        if let Some(peer) = address.peer() {
            write!(line, " peer {peer}").unwrap();
        }
        write!(line, "/{} scope {}", address.prefix_len, address.scope).unwrap();
        if let Some(label) = address.label {
            write!(line, " {}", String::from_utf8_lossy(label)).unwrap();
        }
        line
    };
    for (family, option) in [
        (Family::INET, "-4"),
        (Family::INET6, "-6"),
        (Family::UNSPEC, ""),
    ] {
        let dump = requests.addresses(family, |lines: &mut Vec<_>, address| {
            assert_eq!(address.kind, EventKind::Entry);
            lines.push(written(address));
        });
        let mut lines = dump.expect("a dump").items;
        lines.sort();
        let shown = ip_lines(&format!("-N -o {option} addr"));
        let mut shown: Vec<_> = shown.iter().map(|line| plain(line)).collect();
        shown.sort();
        assert_eq!(lines, shown);
    }
}

/// A line of `ip -o addr` without number, flags and lifetimes.
fn plain(line: &str) -> String {
    let (line, _) = line.split_once('\\').expect("lifetimes behind a backslash");
    let words = line.split_whitespace().skip(1);
    let words =
        words.filter(|word| !["secondary", "nodad", "tentative", "noprefixroute"].contains(word));
    words.collect::<Vec<_>>().join(" ")
}
