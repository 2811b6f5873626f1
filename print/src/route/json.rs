//! A route as a JSON object, with the names of docs/json.md.

use nlring::message::flags;
use nlring::route::{
    Address, CacheInfo, Hop, Labels, MetricValue, Metrics, Nexthop, Route, encap_name, metric_name,
    route_type_name, scope_name,
};
use nlring::{EventKind, Family, Timestamp};

use crate::json::{Keys, bits, close, end_line, ip, name, number, optional, word, word_or_number};
use crate::route::device_names::DeviceNames;
use crate::route::encap_json;
use crate::route::iproute_names::IprouteNames;
use crate::text::{write_decimal, write_hex, write_ip};

/// The words for the bits `RTNH_F_*` and `RTM_F_*`, lowest bit first. Empty for bits without a name.
#[rustfmt::skip]
const FLAGS: [&str; 30] = [
    "dead", "pervasive", "onlink", "offload", "linkdown", "unresolved", "trap", "",
    "notify", "cloned", "equalize", "prefix", "lookup-table", "fib-match", "route-offload", "route-trap",
    "", "", "", "", "", "", "", "",
    "", "", "", "", "", "route-offload-failed",
];

/// Appends the route's line.
pub fn write_route(
    out: &mut Vec<u8>,
    route: &Route<'_>,
    devices: &DeviceNames,
    names: &IprouteNames,
    received_at: Timestamp,
) {
    out.extend_from_slice(match route.kind {
        EventKind::New => br#"{"event":"new","time_ns":"#,
        EventKind::Delete => br#"{"event":"delete","time_ns":"#,
        EventKind::Update => br#"{"event":"update","time_ns":"#,
        EventKind::Entry => br#"{"event":"entry","time_ns":"#,
    });
    write_decimal(out, received_at.as_ns());
    out.extend_from_slice(br#","time_source":"receive","#);
    write_fields(out, route, devices, names);
    write_message_flags(out, route);
    optional(
        out,
        r#""port_id":"#,
        (route.port_id != 0).then_some(route.port_id),
    );
    end_line(out);
}

/// Appends the line of an entry of the table.
pub fn write_entry(
    out: &mut Vec<u8>,
    route: &Route<'_>,
    devices: &DeviceNames,
    names: &IprouteNames,
) {
    out.extend_from_slice(br#"{"event":"entry","#);
    write_fields(out, route, devices, names);
    end_line(out);
}

/// Appends all fields except those of the event.
pub(crate) fn write_fields(
    out: &mut Vec<u8>,
    route: &Route<'_>,
    devices: &DeviceNames,
    names: &IprouteNames,
) {
    write_family(out, route.family);
    word_or_number(
        out,
        r#""type":"#,
        route_type_name(route.route_type),
        route.route_type.into(),
    );
    write_prefix(
        out,
        r#""dst":""#,
        route.family,
        route.dst,
        route.dst_prefix_len,
    );
    if route.src.is_some() || route.src_prefix_len != 0 {
        write_prefix(
            out,
            r#""src":""#,
            route.family,
            route.src,
            route.src_prefix_len,
        );
    }
    write_selectors(out, route, names);
    write_hop(out, &route.hop, devices, names);
    write_device(out, devices, route.oif);
    optional(out, r#""iif":"#, route.iif);
    write_nexthops(out, route, devices, names);
    write_rest(out, route);
}

pub(crate) fn write_family(out: &mut Vec<u8>, family: Family) {
    let known = match family {
        Family::INET => Some("ipv4"),
        Family::INET6 => Some("ipv6"),
        Family::MPLS => Some("mpls"),
        Family::BRIDGE => Some("bridge"),
        Family::IPMR => Some("ipv4-multicast"),
        Family::IP6MR => Some("ipv6-multicast"),
        _ => None,
    };
    word_or_number(out, r#""family":"#, known, family.number().into());
}

/// Appends an address and its prefix length. The default route has `0.0.0.0/0` or `::/0`. MPLS labels have no length.
pub(crate) fn write_prefix(
    out: &mut Vec<u8>,
    key: &str,
    family: Family,
    address: Option<Address<'_>>,
    len: u8,
) {
    out.extend_from_slice(key.as_bytes());
    match address {
        Some(address) => write_address(out, address),
        None if matches!(family, Family::INET6 | Family::IP6MR) => out.extend_from_slice(b"::"),
        None => out.extend_from_slice(b"0.0.0.0"),
    }
    if !matches!(address, Some(Address::Mpls(_))) {
        out.push(b'/');
        write_decimal(out, len);
    }
    out.extend_from_slice(b"\",");
}

fn write_address(out: &mut Vec<u8>, address: Address<'_>) {
    match address {
        Address::Ip(ip) => write_ip(out, ip),
        Address::Mpls(labels) => write_labels(out, labels),
        Address::Other(bytes) => {
            for byte in bytes {
                write_hex(out, u64::from(byte >> 4));
                write_hex(out, u64::from(byte & 15));
            }
        }
        _ => {}
    }
}

/// Appends labels, the outermost first, in the layout of ip.
fn write_labels(out: &mut Vec<u8>, labels: Labels<'_>) {
    for (index, label) in labels.enumerate() {
        if index > 0 {
            out.push(b'/');
        }
        write_decimal(out, label);
    }
}

/// Appends what distinguishes the route from others with the same destination, and its origin.
fn write_selectors(out: &mut Vec<u8>, route: &Route<'_>, names: &IprouteNames) {
    optional(out, r#""tos":"#, (route.tos != 0).then_some(route.tos));
    names.write_table(out, route.table);
    optional(out, r#""priority":"#, route.priority);
    names.write_protocol(out, route.protocol);
    word_or_number(
        out,
        r#""scope":"#,
        scope_name(route.scope),
        route.scope.into(),
    );
    if let Some(address) = route.prefsrc {
        ip(out, r#""prefsrc":"#, address);
    }
}

/// Appends the gateway and encapsulation.
pub(crate) fn write_hop(
    out: &mut Vec<u8>,
    hop: &Hop<'_>,
    devices: &DeviceNames,
    names: &IprouteNames,
) {
    if let Some(gateway) = hop.gateway {
        ip(out, r#""gateway":"#, gateway);
    }
    if let Some(via) = hop.via {
        out.extend_from_slice(br#""via":{"#);
        write_family(out, via.family);
        out.extend_from_slice(br#""address":""#);
        write_address(out, via.address);
        out.extend_from_slice(b"\"},");
    }
    if let Some(new_dst) = hop.new_dst {
        out.extend_from_slice(br#""as":""#);
        write_address(out, new_dst);
        out.extend_from_slice(b"\",");
    }
    if let Some(encap_type) = hop.encap_type {
        word_or_number(
            out,
            r#""encap":"#,
            encap_name(encap_type),
            encap_type.into(),
        );
        if let Some(attributes) = hop.encap {
            encap_json::write(out, encap_type, attributes, devices, names);
        }
    }
    if let Some(realms) = hop.realms {
        number(out, r#""realm_from":"#, realms >> 16);
        number(out, r#""realm_to":"#, realms & 0xffff);
    }
}

pub(crate) fn write_device(out: &mut Vec<u8>, devices: &DeviceNames, index: Option<u32>) {
    optional(out, r#""oif":"#, index);
    if let Some(device) = index.and_then(|index| devices.get(index)) {
        name(out, r#""dev":"#, device);
    }
}

fn write_nexthops(
    out: &mut Vec<u8>,
    route: &Route<'_>,
    devices: &DeviceNames,
    names: &IprouteNames,
) {
    optional(out, r#""nexthop_id":"#, route.nexthop_id);
    if route.nexthops.is_empty() {
        return;
    }
    out.extend_from_slice(br#""nexthops":["#);
    for Nexthop {
        oif,
        weight,
        flags,
        hop,
        ..
    } in route.nexthops
    {
        out.push(b'{');
        write_hop(out, &hop, devices, names);
        write_device(out, devices, (oif != 0).then_some(oif));
        number(out, r#""weight":"#, weight);
        write_flags(out, flags);
        close(out, b'}');
    }
    close(out, b']');
}

fn write_rest(out: &mut Vec<u8>, route: &Route<'_>) {
    if { route.metrics }.next().is_some() {
        write_metrics(out, route.metrics);
    }
    if let Some(pref) = route.pref.filter(|&pref| pref != 0) {
        let known = match pref {
            1 => Some("high"),
            3 => Some("low"),
            _ => None,
        };
        word_or_number(out, r#""pref":"#, known, pref.into());
    }
    write_flags(out, route.flags);
    if let Some(info) = route.cache_info {
        write_cache_info(out, info);
    }
    optional(out, r#""mark":"#, route.mark);
    optional(out, r#""uid":"#, route.uid);
    optional(
        out,
        r#""ttl_propagate":"#,
        route.ttl_propagate.map(u8::from),
    );
}

pub(crate) fn write_flags(out: &mut Vec<u8>, flags: u32) {
    if flags != 0 {
        bits(out, r#""flags":"#, flags, &FLAGS);
    }
}

/// Appends the metrics by name, and the names of the locked ones.
fn write_metrics(out: &mut Vec<u8>, metrics: Metrics<'_>) {
    out.extend_from_slice(br#""metrics":{"#);
    let mut keys = Keys::new();
    for metric in metrics {
        if !keys.is_first(metric.number) {
            continue;
        }
        out.push(b'"');
        match metric_name(metric.number) {
            Some(known) => out.extend_from_slice(known.as_bytes()),
            None => write_decimal(out, metric.number),
        }
        match metric.value {
            MetricValue::Number(value) => number(out, "\":", value),
            MetricValue::Name(value) => name(out, "\":", value),
            _ => out.extend_from_slice(b"\":null,"),
        }
    }
    let lock_mask = metrics.lock_mask();
    if lock_mask != 0 {
        out.extend_from_slice(br#""lock":["#);
        for metric in (0..32).filter(|bit| lock_mask >> bit & 1 != 0) {
            word_or_number(out, "", metric_name(metric), metric.into());
        }
        close(out, b']');
    }
    close(out, b'}');
}

/// Appends when the route expires, its error and how often it was used.
fn write_cache_info(out: &mut Vec<u8>, info: CacheInfo) {
    optional(out, r#""expires_s":"#, info.expires_seconds());
    let errno = info.error.cast_signed().wrapping_neg();
    optional(out, r#""errno":"#, (errno != 0).then_some(errno));
    optional(
        out,
        r#""used_count":"#,
        (info.used_count != 0).then_some(info.used_count),
    );
}

/// Appends the flags of the request that added the route.
pub(crate) fn write_message_flags(out: &mut Vec<u8>, route: &Route<'_>) {
    if route.kind != EventKind::New {
        return;
    }
    let message_flags = route.message_flags;
    let all = [
        (flags::CREATE, "create"),
        (flags::EXCL, "excl"),
        (flags::REPLACE, "replace"),
        (flags::APPEND, "append"),
    ];
    if all.iter().any(|(flag, _)| message_flags & flag != 0) {
        out.extend_from_slice(br#""message_flags":["#);
        for (_, known) in all.iter().filter(|(flag, _)| message_flags & flag != 0) {
            word(out, "", known);
        }
        close(out, b']');
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;
    use nlring::route::Link;
    use nlring::{MessageBuilder, MessageList};
    use nlring_testing::allocator::count_allocations;
    use serde_json::{Value, json};

    /// The name of device 3, which could break a line.
    fn devices() -> DeviceNames {
        let mut fixed = [0; 16];
        fixed[4] = 3;
        let mut bytes = Vec::new();
        let message = MessageBuilder::new(&mut bytes, 16, 0).bytes(&fixed);
        message.attribute(3, b"a\"\x1b\xff\0").finish().unwrap();
        let mut names = DeviceNames::default();
        for message in &MessageList::new(&bytes) {
            names.apply(&Link::decode(&message).unwrap());
        }
        names
    }

    fn parsed(
        kind: u16,
        message_flags: u16,
        fixed: [u8; 12],
        attributes: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
    ) -> Value {
        let mut bytes = Vec::new();
        let message = MessageBuilder::new(&mut bytes, kind, message_flags);
        attributes(message.bytes(&fixed)).finish().unwrap();
        let (list, devices) = (MessageList::new(&bytes), devices());
        let names = IprouteNames::built_in();
        let route = Route::decode(&list.iter().next().unwrap()).unwrap();
        let mut out = Vec::with_capacity(4096);
        let allocations = count_allocations(|| {
            write_route(&mut out, &route, &devices, &names, Timestamp::from_ns(77));
        });
        assert_eq!(allocations, 0, "formatting allocates nothing");
        assert!(out.ends_with(b"\n"));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn every_field_of_the_kernel_is_there() {
        let fixed = [2, 24, 8, 4, 252, 188, 253, 1, 4, 0, 0, 0x20];
        let route = parsed(24, 0x700, fixed, |message| {
            message
                .port_id(9)
                .attribute(1, &[10, 1, 2, 0])
                .attribute(2, &[11, 0, 0, 0])
                .attribute_u32(3, 8)
                .attribute_u32(4, 3)
                .attribute_u32(6, 20)
                .attribute(7, &[10, 0, 0, 1])
                .nested(8, |metrics| {
                    let lock = metrics.attribute_u32(1, 1 << 2 | 1 << 31);
                    lock.attribute_u32(2, 1400)
                        .attribute_str_nul(16, "cubic")
                        .attribute_u32(40, 5)
                })
                .attribute_u32(11, 3 << 16 | 4)
                .attribute(
                    12,
                    &[
                        [0; 4],
                        [0; 4],
                        1500_u32.to_ne_bytes(),
                        113_u32.wrapping_neg().to_ne_bytes(),
                        6_u32.to_ne_bytes(),
                        [0; 4],
                        [0; 4],
                        [0; 4],
                    ]
                    .concat(),
                )
                .attribute_u32(15, 1000)
                .attribute_u32(16, 12)
                .attribute(
                    18,
                    &[10, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5],
                )
                .attribute_u8(20, 3)
                .attribute(21, &[1, 0])
                .attribute_u32(25, 1000)
                .attribute_u8(26, 1)
                .attribute_u32(30, 7)
        });
        let want = json!({
            "event": "new", "time_ns": 77, "time_source": "receive", "family": "ipv4", "type": "unicast",
            "dst": "10.1.2.0/24", "src": "11.0.0.0/8", "tos": 4, "table": 1000, "priority": 20,
            "protocol": "ospf", "scope": "link", "prefsrc": "10.0.0.1",
            "via": {"family": "ipv6", "address": "fe80::5"}, "encap": "mpls", "realm_from": 3, "realm_to": 4,
            "oif": 3, "dev": "a\"\u{1b}\\xff", "iif": 8, "nexthop_id": 7,
            "metrics": {"mtu": 1400, "congctl": "cubic", "40": 5, "lock": ["mtu", "31"]},
            "pref": "low", "flags": ["onlink", "route-offload-failed"],
            "expires_s": 15, "errno": 113, "used_count": 6, "mark": 12, "uid": 1000, "ttl_propagate": 1,
            "message_flags": ["create", "excl", "replace"], "port_id": 9,
        });
        assert_eq!(route, want);
    }

    #[test]
    fn an_attribute_that_is_there_twice_is_one_key() {
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, 24, 0)
            .bytes(&[2, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0])
            .nested(8, |metrics| {
                let both = metrics.attribute_u32(2, 1400).attribute_u32(2, 1500);
                both.attribute_u32(40, 5).attribute_u32(40, 6)
            })
            .attribute_u16(21, 99) // an encapsulation without a name
            .nested(22, |encap| encap.attribute_u8(7, 1).attribute_u8(7, 2))
            .finish()
            .unwrap();
        let (list, mut line) = (MessageList::new(&bytes), Vec::new());
        let route = list.iter().find_map(|message| Route::decode(&message));
        let (devices, names) = (DeviceNames::default(), IprouteNames::built_in());
        write_entry(&mut line, &route.unwrap(), &devices, &names);
        let text = String::from_utf8(line).unwrap();
        assert!(text.contains(r#""metrics":{"mtu":1400,"40":5}"#), "{text}");
        assert_eq!(text.matches(r#""7":"#).count(), 1, "{text}");
        assert!(text.contains(r#""7":"01""#), "{text}");
    }

    #[test]
    fn a_default_route_has_a_destination_too_and_labels_have_no_length() {
        let dst = |family: Family, len, dst: Option<&[u8]>| {
            let fixed = [u8::from(family), len, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
            parsed(25, 0x100, fixed, |message| match dst {
                Some(dst) => message.attribute(1, dst),
                None => message,
            })
        };
        let route = dst(Family::INET, 0, None);
        assert_eq!(
            (&route["event"], &route["dst"]),
            (&json!("delete"), &json!("0.0.0.0/0"))
        );
        assert_eq!(route["message_flags"], Value::Null, "not a delete's");
        assert_eq!(dst(Family::INET6, 0, None)["dst"], "::/0");
        assert_eq!(dst(Family::MPLS, 20, Some(&[0, 6, 0x41, 0]))["dst"], "100");
        assert_eq!(dst(77.into(), 8, Some(&[1, 0xab]))["dst"], "01ab/8");
        assert_eq!(dst(77.into(), 8, None)["family"], "77");
    }

    #[test]
    fn each_hop_has_its_own_fields() {
        let fixed = [2, 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
        let hops = [
            &[16, 0, 4, 0, 3, 0, 0, 0, 8, 0, 5, 0, 10, 0, 0, 2][..],
            &[8, 0, 0x41, 9, 4, 0, 0, 0],
            &[8, 0, 0, 0, 0, 0, 0, 0],
        ];
        let route = parsed(24, 0, fixed, |message| {
            message
                .attribute(1, &[10, 1, 2, 0])
                .attribute(9, &hops.concat())
        });
        assert_eq!(
            route["nexthops"],
            json!([
                {"gateway": "10.0.0.2", "oif": 3, "dev": "a\"\u{1b}\\xff", "weight": 1, "flags": ["onlink"]},
                {"oif": 4, "weight": 10, "flags": ["dead", "trap"]},
                {"weight": 1},
            ])
        );
    }
}
