//! The lines of `ip route`, and the same lines for routes of the mirror.

use std::collections::HashMap;
use std::fmt::Write as _;

use nlring::Family;
use nlring::route::{Nexthop, Route, route_flags};

use crate::common::run;

pub fn output(arguments: &str) -> String {
    let output = run("ip", &arguments.split_whitespace().collect::<Vec<_>>()).expect("ip");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

thread_local! {
    /// The names of devices, including deleted ones.
    static NAMES: std::cell::RefCell<HashMap<u32, String>> = std::cell::RefCell::default();
}

pub fn learn_device_names() {
    for link in output("-o link").lines() {
        let (index, rest) = link.split_once(": ").expect("an index");
        let name = rest.split([':', '@']).next().expect("a name");
        NAMES.with(|names| {
            names
                .borrow_mut()
                .insert(index.parse().unwrap(), name.into())
        });
    }
}

pub fn index_of(device: &str) -> u32 {
    NAMES.with(|names| {
        let names = names.borrow();
        let found = names.iter().find(|(_, name)| *name == device);
        *found.expect("the device").0
    })
}

/// All routes, each with its words sorted, because the order in which `ip` prints them does not matter.
pub fn listed_by_ip() -> Vec<String> {
    let list = output("-d -N -o route show table all");
    // `ip` prints nexthop objects on lines of their own.
    let list = list.replace("\n\tnh_info", "\\nh_info");
    let mut lines: Vec<_> = list.lines().map(normal).collect();
    lines.sort();
    lines.dedup();
    lines
}

fn normal(line: &str) -> String {
    let mut parts = line.split('\\').map(str::trim);
    let mut words: Vec<_> = parts.next().unwrap_or("").split_whitespace().collect();
    // The mirror keeps no ages.
    for name in ["expires", "error"] {
        if let Some(index) = words.iter().position(|word| *word == name) {
            words.drain(index..index + 2);
        }
    }
    let mut hops: Vec<_> = parts.filter(|part| part.starts_with("nexthop")).collect();
    hops.sort_unstable();
    joined(words, hops.into_iter().map(str::to_owned).collect())
}

fn joined(mut words: Vec<&str>, mut hops: Vec<String>) -> String {
    words.sort_unstable();
    hops.sort_unstable();
    hops.insert(0, words.join(" "));
    hops.join(" \\ ")
}

/// A route as `ip -d -N -o route` prints it, with its words sorted.
pub fn line(route: &Route<'_>) -> String {
    let mut words = format!("{} {}", route.route_type, destination(route));
    if route.tos != 0 {
        let _ = write!(words, " tos {:#04x}", route.tos);
    }
    if let Some(id) = route.nexthop_id {
        let _ = write!(words, " nhid {id}");
    }
    if let Some(gateway) = route.hop.gateway {
        let _ = write!(words, " via {gateway}");
    }
    if let Some(via) = route.hop.via.and_then(|via| via.address.ip()) {
        let _ = write!(words, " via inet6 {via}");
    }
    if let Some(oif) = route.oif {
        let _ = write!(words, " dev {}", name(oif));
    }
    let _ = write!(
        words,
        " table {} proto {} scope {}",
        route.table, route.protocol, route.scope
    );
    if let Some(prefsrc) = route.prefsrc {
        let _ = write!(words, " src {prefsrc}");
    }
    if let Some(priority) = route.priority {
        let _ = write!(words, " metric {priority}");
    }
    words += &states(route.flags);
    for metric in route.metrics {
        if let (nlring::route::metric::MTU, nlring::route::MetricValue::Number(mtu)) =
            (metric.number, metric.value)
        {
            let _ = write!(words, " mtu {mtu}");
        }
    }
    if let Some(pref) = route.pref {
        let _ = write!(
            words,
            " pref {}",
            ["medium", "high", "invalid", "low"][usize::from(pref & 3)]
        );
    }
    let hops = route.nexthops.map(|hop| hop_line(&hop)).collect();
    joined(words.split(' ').collect(), hops)
}

fn destination(route: &Route<'_>) -> String {
    let host_len = if route.family == Family::INET {
        32
    } else {
        128
    };
    match route.dst.and_then(|dst| dst.ip()) {
        None => "default".into(),
        Some(dst) if route.dst_prefix_len == host_len => dst.to_string(),
        Some(dst) => format!("{dst}/{}", route.dst_prefix_len),
    }
}

fn hop_line(hop: &Nexthop<'_>) -> String {
    let gateway = hop.hop.gateway.map(|gateway| format!("via {gateway} "));
    format!(
        "nexthop {}dev {} weight {}{}",
        gateway.unwrap_or_default(),
        name(hop.oif),
        hop.weight,
        states(hop.flags)
    )
}

fn states(flags: u32) -> String {
    let known = [
        (route_flags::DEAD, " dead"),
        (route_flags::ONLINK, " onlink"),
        (route_flags::LINKDOWN, " linkdown"),
    ];
    let set = known.into_iter().filter(|(bit, _)| flags & bit != 0);
    set.map(|(_, word)| word).collect()
}

fn name(index: u32) -> String {
    let name = NAMES.with(|names| names.borrow().get(&index).cloned());
    name.unwrap_or_else(|| format!("if{index}"))
}
