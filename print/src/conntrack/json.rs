//! A flow or an expectation as a JSON object, with the names of docs/json.md.

use nlring::conntrack::{
    Counters, Endpoint, Expectation, ExpectedNat, Flow, Layer4, Nat, Tuple, ZoneDirection,
    protocol_name,
};
use nlring::{EventKind, Family, Timestamp};

use crate::conntrack::label_names::LabelNames;
use crate::json::{bits, close, end_line, hex, ip, name, number, optional, word, word_or_number};

/// The words for the bits of `enum ip_conntrack_status`, lowest bit first.
const STATUS: [&str; 16] = [
    "expected",
    "seen-reply",
    "assured",
    "confirmed",
    "src-nat",
    "dst-nat",
    "seq-adjust",
    "src-nat-done",
    "dst-nat-done",
    "dying",
    "fixed-timeout",
    "template",
    "nat-clash",
    "helper",
    "offload",
    "hw-offload",
];

/// The words for the bits `NF_CT_EXPECT_*`, lowest bit first.
const EXPECTATION_FLAGS: [&str; 3] = ["permanent", "inactive", "userspace"];

/// The protocol that has keys instead of ports.
const GRE: u8 = 47;

/// Appends the flow's line. `received_at` is its time if the kernel reported none.
pub fn write_flow(out: &mut Vec<u8>, flow: &Flow<'_>, labels: &LabelNames, received_at: Timestamp) {
    out.extend_from_slice(match flow.kind {
        EventKind::New => br#"{"event":"new","#,
        EventKind::Update => br#"{"event":"update","#,
        EventKind::Delete => br#"{"event":"destroy","#,
        EventKind::Entry => br#"{"event":"entry","#,
    });
    write_time(out, flow.event_time, received_at);
    write_fields(out, flow, labels);
    optional(
        out,
        r#""port_id":"#,
        (flow.port_id != 0).then_some(flow.port_id),
    );
    end_line(out);
}

/// Appends the line of an entry of the table.
pub fn write_entry(out: &mut Vec<u8>, flow: &Flow<'_>, labels: &LabelNames) {
    out.extend_from_slice(br#"{"event":"entry","#);
    write_fields(out, flow, labels);
    end_line(out);
}

fn write_fields(out: &mut Vec<u8>, flow: &Flow<'_>, labels: &LabelNames) {
    write_protocol(out, flow.family, flow.protocol());
    write_direction(out, r#""orig":{"#, &flow.orig, flow.counters_orig);
    if let Some(reply) = &flow.reply {
        write_direction(out, r#""reply":{"#, reply, flow.counters_reply);
    }
    if let Some(nat) = &flow.nat() {
        write_nat(out, nat, &flow.orig);
    }
    if let Some(state) = flow.state {
        word_or_number(out, r#""state":"#, state.name(), state.number().into());
    }
    optional(out, r#""timeout_s":"#, flow.timeout_seconds);
    if let Some(status) = flow.status {
        bits(out, r#""status":"#, status, &STATUS);
    }
    write_marks(out, flow);
    optional(out, r#""id":"#, flow.id);
    optional(out, r#""use_count":"#, flow.use_count);
    optional(out, r#""start_ns":"#, flow.start.map(Timestamp::as_ns));
    optional(
        out,
        r#""observed_start_ns":"#,
        flow.observed_start.map(Timestamp::as_ns),
    );
    optional(out, r#""stop_ns":"#, flow.stop.map(Timestamp::as_ns));
    write_names(out, flow, labels);
    if let Some(master) = &flow.master {
        write_direction(out, r#""master":{"#, master, None);
    }
}

/// Appends the expectation's line.
pub fn write_expectation(out: &mut Vec<u8>, expectation: &Expectation<'_>, received_at: Timestamp) {
    out.extend_from_slice(match expectation.kind {
        EventKind::New => br#"{"event":"expect-new","#,
        EventKind::Update => br#"{"event":"expect-update","#,
        EventKind::Delete => br#"{"event":"expect-destroy","#,
        EventKind::Entry => br#"{"event":"expect-entry","#,
    });
    write_time(out, None, received_at);
    write_protocol(out, expectation.family, expectation.tuple.protocol);
    write_direction(out, r#""expected":{"#, &expectation.tuple, None);
    if let Some(mask) = &expectation.mask {
        write_direction(out, r#""mask":{"#, mask, None);
    }
    if let Some(master) = &expectation.master {
        write_direction(out, r#""master":{"#, master, None);
    }
    if let Some(ExpectedNat {
        is_reply, tuple, ..
    }) = &expectation.nat
    {
        out.extend_from_slice(br#""nat":{"#);
        word(
            out,
            r#""direction":"#,
            if *is_reply { "reply" } else { "orig" },
        );
        write_tuple(out, tuple);
        close(out, b'}');
    }
    optional(out, r#""timeout_s":"#, expectation.timeout_seconds);
    if let Some(flags) = expectation.flags {
        bits(out, r#""flags":"#, flags, &EXPECTATION_FLAGS);
    }
    optional(out, r#""zone":"#, expectation.zone);
    optional(out, r#""id":"#, expectation.id);
    optional(out, r#""class":"#, expectation.class);
    if let Some(helper) = expectation.helper {
        name(out, r#""helper":"#, helper);
    }
    if let Some(function) = expectation.function {
        name(out, r#""function":"#, function);
    }
    optional(
        out,
        r#""port_id":"#,
        (expectation.port_id != 0).then_some(expectation.port_id),
    );
    end_line(out);
}

/// Appends the event's time and its source: the kernel's time, otherwise when the event was received.
fn write_time(out: &mut Vec<u8>, event_time: Option<Timestamp>, received_at: Timestamp) {
    let time = event_time.unwrap_or(received_at);
    number(out, r#""time_ns":"#, time.as_ns());
    out.extend_from_slice(match event_time {
        Some(_) => br#""time_source":"kernel","#,
        None => br#""time_source":"receive","#,
    });
}

fn write_protocol(out: &mut Vec<u8>, family: Family, protocol: u8) {
    let family_name = match family {
        Family::INET => Some("ipv4"),
        Family::INET6 => Some("ipv6"),
        _ => None,
    };
    word_or_number(out, r#""family":"#, family_name, family.number().into());
    word_or_number(out, r#""proto":"#, protocol_name(protocol), protocol.into());
}

/// Appends a tuple, and the counters of its direction.
fn write_direction(out: &mut Vec<u8>, key: &str, tuple: &Tuple, counters: Option<Counters>) {
    out.extend_from_slice(key.as_bytes());
    write_tuple(out, tuple);
    if let Some(Counters { packets, bytes, .. }) = counters {
        number(out, r#""packets":"#, packets);
        number(out, r#""bytes":"#, bytes);
    }
    close(out, b'}');
}

fn write_tuple(out: &mut Vec<u8>, tuple: &Tuple) {
    ip(out, r#""src":"#, tuple.src);
    ip(out, r#""dst":"#, tuple.dst);
    match tuple.layer4 {
        Layer4::Ports { src, dst } if tuple.protocol == GRE => {
            number(out, r#""srckey":"#, src);
            number(out, r#""dstkey":"#, dst);
        }
        Layer4::Ports { src, dst } => {
            number(out, r#""sport":"#, src);
            number(out, r#""dport":"#, dst);
        }
        Layer4::Icmp {
            icmp_type,
            code,
            id,
        } => {
            number(out, r#""type":"#, icmp_type);
            number(out, r#""code":"#, code);
            number(out, r#""id":"#, id);
        }
        _ => {}
    }
}

/// Appends the translated source and destination, with the names that they have in the tuple.
fn write_nat(out: &mut Vec<u8>, nat: &Nat, orig: &Tuple) {
    let (src_key, dst_key) = match orig.layer4 {
        Layer4::Icmp { .. } => (r#""id":"#, ""),
        _ if orig.protocol == GRE => (r#""srckey":"#, r#""dstkey":"#),
        _ => (r#""sport":"#, r#""dport":"#),
    };
    out.extend_from_slice(br#""nat":{"#);
    if let Some(Endpoint { address, port, .. }) = nat.src {
        ip(out, r#""src":"#, address);
        optional(out, src_key, port);
    }
    if let Some(Endpoint { address, port, .. }) = nat.dst {
        ip(out, r#""dst":"#, address);
        optional(out, dst_key, port.filter(|_| !dst_key.is_empty())); // the reply may have another protocol
    }
    close(out, b'}');
}

fn write_marks(out: &mut Vec<u8>, flow: &Flow<'_>) {
    optional(out, r#""mark":"#, flow.mark);
    optional(out, r#""secmark":"#, flow.secmark);
    if let Some(context) = flow.secctx {
        name(out, r#""secctx":"#, context);
    }
    if let Some(zone) = flow.zone {
        number(out, r#""zone":"#, zone.id);
        match zone.direction {
            ZoneDirection::Both => {}
            ZoneDirection::Orig => word(out, r#""zone_direction":"#, "orig"),
            ZoneDirection::Reply => word(out, r#""zone_direction":"#, "reply"),
        }
    }
}

fn write_names(out: &mut Vec<u8>, flow: &Flow<'_>, labels: &LabelNames) {
    if let Some(helper) = flow.helper {
        name(out, r#""helper":"#, helper);
    }
    if flow.labels.is_some() {
        out.extend_from_slice(br#""labels":["#);
        for bit in flow.label_bits() {
            match labels.get(bit) {
                Some(label) => name(out, "", label),
                None => word_or_number(out, "", None, bit),
            }
        }
        close(out, b']');
        hex(out, r#""labels_hex":"#, label_value(flow));
    }
}

/// The labels as a number of 128 bits. Label 0 is the lowest bit.
fn label_value(flow: &Flow<'_>) -> u128 {
    let bits = flow.label_bits().filter(|bit| *bit < u128::BITS);
    bits.fold(0, |value, bit| value | 1 << bit)
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;
    use nlring::message::flags;
    use nlring::{MessageBuilder, MessageList};
    use nlring_testing::allocator::count_allocations;
    use serde_json::{Value, json};

    fn tuple(
        builder: MessageBuilder<'_>,
        number: u16,
        protocol: u8,
        last: [u8; 2],
    ) -> MessageBuilder<'_> {
        builder.nested(number, |tuple| {
            let tuple = tuple.nested(1, |ip| {
                ip.attribute(1, &[10, 0, 0, last[0]])
                    .attribute(2, &[10, 0, 0, last[1]])
            });
            tuple.nested(2, |layer4| {
                let layer4 = layer4.attribute_u8(1, protocol);
                let (from, to) = (u16::from(last[0]), u16::from(last[1]));
                match protocol {
                    1 => layer4
                        .attribute_be16(4, 7)
                        .attribute_u8(5, 8)
                        .attribute_u8(6, 0),
                    89 => layer4,
                    _ => layer4.attribute_be16(2, from).attribute_be16(3, to),
                }
            })
        })
    }

    fn counters(builder: MessageBuilder<'_>, number: u16, packets: u64) -> MessageBuilder<'_> {
        builder.nested(number, |counters| {
            counters
                .attribute_be64(1, packets)
                .attribute_be64(2, 100 * packets)
        })
    }

    /// A flow with every attribute.
    fn whole_flow() -> Vec<u8> {
        let mut bytes = Vec::new();
        let message = MessageBuilder::new(&mut bytes, 0x102, 0)
            .port_id(9)
            .bytes(&[2, 0, 0, 0]);
        let message = tuple(message, 1, 6, [1, 2]);
        let message = tuple(message, 2, 6, [3, 4]);
        let message = counters(message, 9, 5);
        let message = counters(message, 10, u64::MAX / 100);
        tuple(message, 14, 6, [5, 6])
            .attribute_be32(3, 0x1_1216)
            .nested(4, |info| info.nested(1, |tcp| tcp.attribute_u8(1, 3)))
            .nested(5, |help| help.attribute_str_nul(1, "ftp"))
            .attribute_be32(7, 30)
            .attribute_be32(8, u32::MAX)
            .attribute_be32(11, 1)
            .attribute_be32(12, 42)
            .attribute_be32(17, 3)
            .attribute_be16(18, 5)
            .nested(19, |context| context.attribute_str_nul(1, "a\"b"))
            .nested(20, |times| {
                times.attribute_be64(1, 1000).attribute_be64(2, 2000)
            })
            .attribute(22, &[0b101, 0, 0, 0, 0, 0, 0, 0])
            .attribute_be64(27, u64::MAX)
            .finish()
            .unwrap();
        bytes
    }

    fn line(bytes: &[u8], labels: &str) -> String {
        let (mut out, labels) = (
            Vec::with_capacity(4096),
            LabelNames::parse(labels.as_bytes()),
        );
        let list = MessageList::new(bytes);
        let message = list.iter().next().unwrap();
        let received_at = Timestamp::from_ns(77);
        let allocations = count_allocations(|| {
            if let Some(flow) = Flow::decode(&message) {
                write_flow(&mut out, &flow, &labels, received_at);
            } else {
                write_expectation(
                    &mut out,
                    &Expectation::decode(&message).unwrap(),
                    received_at,
                );
            }
        });
        assert_eq!(allocations, 0, "formatting allocates nothing");
        let line = String::from_utf8(out).unwrap();
        assert!(line.ends_with('\n') && line.lines().count() == 1);
        line
    }

    fn parsed(bytes: &[u8], labels: &str) -> Value {
        serde_json::from_str(&line(bytes, labels)).unwrap()
    }

    #[test]
    fn every_field_of_the_kernel_is_there() {
        assert_eq!(
            parsed(&whole_flow(), "2 two words"),
            json!({
                "event": "destroy", "time_ns": u64::MAX, "time_source": "kernel",
                "family": "ipv4", "proto": "tcp",
                "orig": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1, "dport": 2, "packets": 5, "bytes": 500},
                "reply": {"src": "10.0.0.3", "dst": "10.0.0.4", "sport": 3, "dport": 4,
                    "packets": u64::MAX / 100, "bytes": u64::MAX / 100 * 100},
                "nat": {"src": "10.0.0.4", "sport": 4, "dst": "10.0.0.3", "dport": 3},
                "state": "ESTABLISHED", "timeout_s": 30,
                "status": ["seen-reply", "assured", "src-nat", "dying", "nat-clash", "0x10000"],
                "mark": u32::MAX, "secmark": 3, "secctx": "a\"b", "zone": 5, "id": 42, "use_count": 1,
                "start_ns": 1000, "stop_ns": 2000, "helper": "ftp", "labels": ["0", "two words"], "labels_hex": "0x5",
                "master": {"src": "10.0.0.5", "dst": "10.0.0.6", "sport": 5, "dport": 6}, "port_id": 9,
            })
        );
    }

    #[test]
    fn the_names_stand_in_their_order() {
        let mut bytes = Vec::new();
        let message = MessageBuilder::new(&mut bytes, 0x100, flags::CREATE).bytes(&[2, 0, 0, 0]);
        tuple(message, 1, 6, [1, 2])
            .attribute_be32(7, 30)
            .finish()
            .unwrap();
        let want =
            r#"{"event":"new","time_ns":77,"time_source":"receive","family":"ipv4","proto":"tcp","#
                .to_owned()
                + r#""orig":{"src":"10.0.0.1","dst":"10.0.0.2","sport":1,"dport":2},"timeout_s":30}"#
                + "\n";
        assert_eq!(line(&bytes, ""), want);
    }

    #[test]
    fn each_protocol_has_its_own_fields_in_place_of_ports() {
        let flow = |protocol, reply| {
            let mut bytes = Vec::new();
            let message = MessageBuilder::new(&mut bytes, 0x100, 0).bytes(&[2, 0, 0, 0]);
            let message = tuple(message, 1, protocol, [1, 2]);
            tuple(message, 2, protocol, reply).finish().unwrap();
            parsed(&bytes, "")
        };
        let icmp = flow(1, [2, 3]);
        assert_eq!(
            icmp["orig"],
            json!({"src": "10.0.0.1", "dst": "10.0.0.2", "type": 8, "code": 0, "id": 7})
        );
        assert_eq!(icmp["nat"], json!({"src": "10.0.0.3", "id": 7}));
        let gre = flow(47, [2, 3]);
        assert_eq!(
            gre["orig"],
            json!({"src": "10.0.0.1", "dst": "10.0.0.2", "srckey": 1, "dstkey": 2})
        );
        assert_eq!(gre["nat"], json!({"src": "10.0.0.3", "srckey": 3}));
        let ospf = flow(89, [2, 1]);
        assert_eq!((&ospf["proto"], &ospf["nat"]), (&json!("89"), &Value::Null));
        assert_eq!(ospf["orig"], json!({"src": "10.0.0.1", "dst": "10.0.0.2"}));
    }

    #[test]
    fn names_are_escaped_in_every_field() {
        let steering = b"\x1b[2J\xff\"\\\xe2\x80\xae\xc2\x9b\n\0";
        let escaped = concat!(r#"\u001b[2J\\xff\"\\"#, r"\u202e\u009b\u000a");
        let mut flow = Vec::new();
        let message = MessageBuilder::new(&mut flow, 0x102, 0).bytes(&[2, 0, 0, 0]);
        tuple(message, 1, 6, [1, 2])
            .nested(5, |help| help.attribute(1, steering))
            .nested(19, |context| context.attribute(1, steering))
            .finish()
            .unwrap();
        let mut expectation = Vec::new();
        let message = MessageBuilder::new(&mut expectation, 0x200, 0).bytes(&[2, 0, 0, 0]);
        tuple(message, 2, 6, [1, 2])
            .attribute(6, steering)
            .attribute(11, steering)
            .finish()
            .unwrap();
        for (bytes, fields) in [
            (flow, ["helper", "secctx"]),
            (expectation, ["helper", "function"]),
        ] {
            let line = line(&bytes, "");
            for field in fields {
                let wanted = format!("\"{field}\":\"{escaped}\"");
                assert!(line.contains(&wanted), "{wanted}: {line}");
            }
            serde_json::from_str::<Value>(&line).unwrap();
        }
    }

    #[test]
    fn an_expectation_has_every_field() {
        let mut bytes = Vec::new();
        let message = MessageBuilder::new(&mut bytes, 0x200, flags::EXCL).bytes(&[2, 0, 0, 0]);
        let message = tuple(message, 2, 6, [1, 2]);
        let message = tuple(message, 3, 6, [255, 255]);
        tuple(message, 1, 6, [5, 6])
            .nested(10, |nat| tuple(nat.attribute_be32(1, 1), 2, 6, [7, 0]))
            .attribute_be32(4, 300)
            .attribute_be32(5, 42)
            .attribute_str_nul(6, "ftp")
            .attribute_be16(7, 5)
            .attribute_be32(8, 5)
            .attribute_be32(9, 0)
            .attribute_str_nul(11, "nat-follow-master")
            .finish()
            .unwrap();
        let want = json!({
            "event": "expect-new", "time_ns": 77, "time_source": "receive", "family": "ipv4", "proto": "tcp",
            "expected": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1, "dport": 2},
            "mask": {"src": "10.0.0.255", "dst": "10.0.0.255", "sport": 255, "dport": 255},
            "master": {"src": "10.0.0.5", "dst": "10.0.0.6", "sport": 5, "dport": 6},
            "nat": {"direction": "reply", "src": "10.0.0.7", "dst": "10.0.0.0", "sport": 7, "dport": 0},
            "timeout_s": 300, "flags": ["permanent", "userspace"], "zone": 5, "id": 42, "class": 0,
            "helper": "ftp", "function": "nat-follow-master",
        });
        assert_eq!(parsed(&bytes, ""), want);
    }
}
