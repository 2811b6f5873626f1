//! Filters on the messages that Linux 6.18 sent to a little-endian machine.

use nlring_testing::datagrams::route::{
    BROADCAST, DELETED, ENCAP_SEG6, EXPIRES, METRICS, MULTIPATH, NEXTHOP_GROUP, TABLE_1000,
    UNREACHABLE, VIA_INET6,
};

use super::Filter;
use crate::MessageList;
use crate::filter::Program;
use crate::filter::interpreter::run;
use crate::route::{DumpFilter, Route, protocol, route_type, table};
use crate::{Family, MessageBuilder};

const DATAGRAMS: [(&str, &[u8]); 10] = [
    ("broadcast", BROADCAST),
    ("deleted", DELETED),
    ("seg6", ENCAP_SEG6),
    ("expires", EXPIRES),
    ("metrics", METRICS),
    ("multipath", MULTIPATH),
    ("group", NEXTHOP_GROUP),
    ("table_1000", TABLE_1000),
    ("unreachable", UNREACHABLE),
    ("via_inet6", VIA_INET6),
];

/// Those of IPv4.
const IPV4: &str = "broadcast deleted metrics multipath group table_1000 unreachable via_inet6";

fn filter(text: &str) -> Filter {
    let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(filter.to_string().parse().as_ref(), Ok(&filter), "{text}");
    filter
}

/// Whether the message matches.
fn matches(filter: &Filter, datagram: &[u8]) -> bool {
    let program = filter.program().unwrap();
    matches_and_agrees(filter, &program, datagram)
}

/// Whether the message matches. The program accepts what matches, and rejects what does not if it is exact.
fn matches_and_agrees(filter: &Filter, program: &Program, datagram: &[u8]) -> bool {
    let list = MessageList::new(datagram);
    let message = list.iter().next().unwrap();
    let is_match = filter.matches(&Route::decode(&message).unwrap());
    let is_accepted = run(program, datagram).expect("a good program") != 0;
    if is_match || !filter.needs_user_space() {
        assert_eq!(is_accepted, is_match, "{filter}\n{program}");
    }
    is_match
}

/// Asserts which of the datagrams match, by their names.
fn assert_matching(text: &str, names: &str) {
    let (filter, inverse) = (filter(text), filter(&format!("not ({text})")));
    let mut found = Vec::new();
    for (name, datagram) in DATAGRAMS {
        let is_match = matches(&filter, datagram);
        assert_eq!(matches(&inverse, datagram), !is_match, "{name}: {text}");
        found.extend(is_match.then_some(name));
    }
    assert_eq!(found.join(" "), names, "{text}");
}

#[test]
fn each_term_tells_messages_apart() {
    let all = DATAGRAMS.map(|(name, _)| name).join(" ");
    for (text, names) in [
        ("all", &all[..]),
        ("event delete", "deleted"),
        ("event {replace, append}", ""),
        ("family ipv4", IPV4),
        ("family ipv6", "seg6 expires"),
        ("family mpls", ""),
        ("table 1000", "deleted table_1000"),
        ("table local", "broadcast"),
        ("table {255, 0x3e8}", "broadcast deleted table_1000"),
        ("proto kernel", "broadcast"),
        ("not proto {boot, 2}", ""),
        ("type unreachable", "unreachable"),
        ("type {broadcast, 7}", "broadcast unreachable"),
        ("scope link", "broadcast"),
        ("dst 10.4.0.0/16", "deleted table_1000"),
        ("dst 10.4.0.0/15", ""),
        ("dst 10.4.0.0/17", ""),
        ("dst 10.10.0.1", "metrics"),
        (
            "dst 10.0.0.0/8 or-longer",
            "deleted metrics multipath group table_1000 unreachable via_inet6",
        ),
        ("dst 10.4.0.0/16 or-longer", "deleted table_1000"),
        ("dst 10.4.1.0/24 or-longer", ""),
        (
            "dst {10.4.1.2, 10.7.0.0/16} or-shorter",
            "deleted table_1000 unreachable",
        ),
        ("dst 10.4.0.0/15 or-shorter", ""),
        ("dst 0.0.0.0/0 or-longer", IPV4),
        ("dst fc00::/7 or-longer", "seg6 expires"),
        ("dst fd01::1 or-shorter", "expires"),
        ("dst fd01::/64", "expires"),
        ("dst default or dst ::/0", ""),
        ("gateway fe80::/10", "expires via_inet6"),
        ("via 10.0.0.2", "deleted metrics multipath group table_1000"),
        ("via 0.0.0.0/0 and not via 10.0.0.2", ""),
        ("oif 4", "multipath"),
        (
            "dev 3 and not via ::/0 and family ipv4",
            "deleted metrics multipath group table_1000",
        ),
        ("metric 7", "multipath"),
        (
            "metric 0",
            "broadcast deleted metrics group table_1000 via_inet6",
        ),
        ("metric {1-6, 8-4294967295}", "seg6 expires unreachable"),
        ("portid 0", "broadcast"),
    ] {
        assert_matching(text, names);
    }
}

/// A route of the header alone, and what is put behind it.
fn route(
    fixed: [u8; 12],
    attributes: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = MessageBuilder::new(&mut bytes, 24, 0).bytes(&fixed);
    attributes(builder).finish().unwrap();
    bytes
}

#[test]
fn missing_attributes_have_a_meaning() {
    let bare = |family, length| {
        route([family, length, 0, 0, 7, 0, 0, 1, 0, 0, 0, 0], |route| {
            route
        })
    };
    for (text, datagram, expected) in [
        ("dst default", bare(2, 0), true),
        ("dst default", bare(10, 0), true),
        ("dst default", bare(28, 0), false),
        ("dst default", bare(2, 8), false),
        ("dst 0.0.0.0/0", bare(2, 0), true),
        ("dst 0.0.0.0/0", bare(10, 0), false),
        ("dst 0.0.0.0/8", bare(2, 8), true),
        ("dst 0.0.0.0/8 or-longer", bare(2, 9), true),
        ("dst 0.0.0.0/0 or-longer", bare(2, 33), false),
        ("dst 10.0.0.0/8 or-longer", bare(2, 9), false),
        ("dst 10.1.2.3 or-shorter", bare(2, 0), true),
        ("dst 10.1.2.3 or-shorter", bare(2, 4), true),
        ("dst 10.1.2.3 or-shorter", bare(2, 5), false),
        ("dst fd00::1 or-shorter", bare(10, 0), true),
        ("dst ::1 or-shorter", bare(10, 127), true),
        ("dst ::1 or-shorter", bare(10, 128), false),
        ("dst 0.0.0.0/0 or-longer", bare(28, 20), false),
        ("table 7", bare(2, 0), true),
        ("table 263", bare(2, 0), false),
        ("metric 0-5", bare(2, 0), true),
        ("metric 1-5", bare(2, 0), false),
        ("via 0.0.0.0/0 or via ::/0 or oif {1, 7}", bare(2, 0), false),
    ] {
        assert_eq!(matches(&filter(text), &datagram), expected, "{text}");
    }
}

#[test]
fn every_shorter_prefix_covers() {
    let address = "2001:db8:5a5a:ffff:1:0:8000:1";
    let or_shorter = filter(&format!("dst {address} or-shorter"));
    let program = or_shorter.program().unwrap();
    let count = program.instructions().len();
    assert!(count < 1000, "{count}");
    for length in 0..=128_u8 {
        let prefix: crate::filter::Prefix = format!("{address}/{length}").parse().unwrap();
        let std::net::IpAddr::V6(network) = prefix.address() else {
            panic!("it is IPv6")
        };
        let with_bit_changed = |bit: u8| network.to_bits() ^ (1 << (127 - bit));
        let bits = [0, length / 2, length.saturating_sub(1)];
        let bits = bits.into_iter().filter(|bit| *bit < length);
        let changed = bits.map(with_bit_changed).map(|bits| (bits, false));
        for (bits, expected) in changed.chain([(network.to_bits(), true)]) {
            let datagram = route([10, length, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0], |route| {
                route.attribute(1, &bits.to_be_bytes())
            });
            assert_eq!(
                matches_and_agrees(&or_shorter, &program, &datagram),
                expected,
                "{bits:x}/{length}"
            );
        }
    }
}

#[test]
fn the_table_of_the_attribute_counts() {
    let datagram = route([2, 0, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0], |route| {
        route.attribute_u32(15, 7)
    });
    assert!(matches(&filter("table 7"), &datagram));
    assert!(!matches(&filter("table main"), &datagram));
}

#[test]
fn names_of_the_caller_are_numbers() {
    let names = |term: &str, name: &str| match (term, name) {
        ("table", "blue") => Some(1000),
        ("proto", "mine") => Some(200),
        ("scope", "far") => Some(150),
        ("oif", "eth0") => Some(3),
        _ => None,
    };
    for (text, expected) in [
        ("table blue", "table 1000"),
        ("table {blue, main}", "table 1000 or table main"),
        ("proto mine", "proto 200"),
        ("scope far", "scope 150"),
        ("dev eth0", "oif 3"),
        ("oif eth0", "oif 3"),
    ] {
        let filter = Filter::parse_with(text, names).unwrap();
        assert_eq!(filter.to_string(), expected);
    }
    for text in ["table green", "dev eth1", "oif 0"] {
        assert!(Filter::parse_with(text, names).is_err(), "{text}");
    }
}

#[test]
fn only_hops_are_left_to_user_space() {
    for (text, is_left) in [
        ("via 10.0.0.1", true),
        ("not dev 3", true),
        ("table main and dev 3", true),
        (
            "dst 10.0.0.0/8 or-longer and not portid 7 and proto bgp",
            false,
        ),
    ] {
        assert_eq!(filter(text).needs_user_space(), is_left, "{text}");
    }
}

#[test]
fn what_all_matching_routes_have_is_asked_for_in_a_dump() {
    let all = DumpFilter::new();
    for (text, expected) in [
        ("all", all),
        ("table 1000", all.table(1000)),
        ("not table 1000", all),
        ("not (not table 1000 or dev 3)", all.table(1000)),
        ("dst fd00::/8 or-longer", all.family(Family::INET6)),
        ("dst default", all),
        ("table 1000 or dev 3", all),
        (
            "(table 1000 or dev 3) and proto boot",
            all.protocol(protocol::BOOT),
        ),
        (
            "family ipv6 and type unicast and oif 3 and table main and dst ::/0",
            all.family(Family::INET6)
                .route_type(route_type::UNICAST)
                .oif(3)
                .table(table::MAIN),
        ),
    ] {
        assert_eq!(filter(text).dump_filter(), expected, "{text}");
    }
}

#[test]
fn a_mirrors_program_rejects_by_place_and_metric_only() {
    let program = |text: &str| filter(text).program_for_mirror().unwrap();
    let all = Filter::default().program().unwrap();
    for text in ["not proto bgp", "dev 3", "table 1000 or type unicast"] {
        assert_eq!(program(text), all, "{text}");
    }
    assert_eq!(
        program("table 1000 and scope link and via 10.0.0.1"),
        program("table 1000")
    );
    for text in ["table 1000 and event new", "not portid 0"] {
        let error = filter(text).program_for_mirror().unwrap_err().to_string();
        assert!(error.contains("asks about an event"), "{error}");
    }
}

#[test]
fn a_mirrors_filter_is_explained() {
    let text = filter("table 1000 and not proto bgp").explain_for_mirror();
    let text = text.unwrap();
    let begin = "filter of a mirror: table 1000 and not proto bgp\n\
                 in the kernel: all of it except `proto bgp`\n\
                 in user space: all of it, for the entries of the mirror\nprogram: ";
    assert!(text.starts_with(begin), "{text}");
}
