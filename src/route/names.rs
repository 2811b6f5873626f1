//! The names of the numbers in routes, as ip(8) prints them.

use super::kernel::{metric, scope, table};

/// The name of a [`protocol`](super::protocol) number, as ip(8) prints it without its configuration files.
///
/// ```
/// assert_eq!(nlring::route::protocol_name(12), Some("bird"));
/// assert_eq!(nlring::route::protocol_name(100), None);
/// ```
pub fn protocol_name(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        0 => "unspec",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        8 => "gated",
        9 => "ra",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        16 => "dhcp",
        18 => "keepalived",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        _ => return None,
    })
}

/// The name of a [`scope`], as ip(8) prints it.
pub fn scope_name(scope: u8) -> Option<&'static str> {
    Some(match scope {
        scope::UNIVERSE => "global",
        scope::SITE => "site",
        scope::LINK => "link",
        scope::HOST => "host",
        scope::NOWHERE => "nowhere",
        _ => return None,
    })
}

/// The name of a [`table`], as ip(8) prints it without its configuration files.
pub fn table_name(table: u32) -> Option<&'static str> {
    Some(match table {
        table::DEFAULT => "default",
        table::MAIN => "main",
        table::LOCAL => "local",
        _ => return None,
    })
}

/// The name of a [`route_type`](super::route_type), as ip(8) prints it.
pub fn route_type_name(route_type: u8) -> Option<&'static str> {
    let names = [
        "none",
        "unicast",
        "local",
        "broadcast",
        "anycast",
        "multicast",
        "blackhole",
        "unreachable",
        "prohibit",
        "throw",
        "nat",
        "xresolve",
    ];
    names.get(usize::from(route_type)).copied()
}

/// The name of an encapsulation in [`encap`](super::encap), as ip(8) prints it.
pub fn encap_name(encap_type: u16) -> Option<&'static str> {
    let names = [
        "none",
        "mpls",
        "ip",
        "ila",
        "ip6",
        "seg6",
        "bpf",
        "seg6local",
        "rpl",
        "ioam6",
        "xfrm",
    ];
    names.get(usize::from(encap_type)).copied()
}

/// The name of a [`metric`], as ip(8) prints it.
pub fn metric_name(number: u16) -> Option<&'static str> {
    let names = [
        "mtu",
        "window",
        "rtt",
        "rttvar",
        "ssthresh",
        "cwnd",
        "advmss",
        "reordering",
        "hoplimit",
        "initcwnd",
        "features",
        "rto_min",
        "initrwnd",
        "quickack",
        "congctl",
        "fastopen_no_cookie",
    ];
    let index = usize::from(number.checked_sub(metric::MTU)?);
    names.get(index).copied()
}
