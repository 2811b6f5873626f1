//! A flow as the line that `conntrack -E` (conntrack-tools 1.4.7) prints for it.

use std::net::IpAddr;

use nlring::conntrack::{
    Counters, Flow, Layer4, ProtocolState, Tuple, ZoneDirection, protocol_name, status,
};
use nlring::{EventKind, Timestamp};

use crate::conntrack::label_names::LabelNames;
use crate::local_time::LocalTime;
use crate::text::{write_decimal, write_escaped, write_hex, write_ip, write_padded};

/// What a line of text shows besides conntrack's default. The names are those of `conntrack -o`.
#[derive(Debug, Default)]
pub struct TextOptions {
    /// Whether to show when the event was received.
    pub timestamp: bool,
    /// Whether to show the network protocol.
    pub extended: bool,
    /// Whether to show the flow's id.
    pub id: bool,
    /// The time zone in which to show when the flow began and ended. `None`: these times are not shown.
    pub ktimestamp: Option<LocalTime>,
    /// The names with which to show the flow's labels. `None`: labels are not shown.
    pub labels: Option<LabelNames>,
}

/// Appends the flow's line and a newline.
///
/// It ends in ` [USERSPACE] portid=N` if a request caused the event. conntrack also looks up the program's name in
/// /proc as if the port ID were a process ID, which it need not be.
pub fn write_line(
    out: &mut Vec<u8>,
    flow: &Flow<'_>,
    options: &TextOptions,
    received_at: Timestamp,
) {
    if options.timestamp {
        write_timestamp(out, received_at);
    }
    out.extend_from_slice(kind_label(flow.kind));
    write_fields(out, flow, options, received_at);
    if flow.port_id != 0 {
        out.extend_from_slice(b" [USERSPACE] portid=");
        write_decimal(out, flow.port_id);
    }
    out.push(b'\n');
}

/// Appends the line that `conntrack -L` prints for an entry of the table.
pub fn write_entry(out: &mut Vec<u8>, flow: &Flow<'_>, options: &TextOptions, now: Timestamp) {
    write_fields(out, flow, options, now);
    out.push(b'\n');
}

fn write_fields(out: &mut Vec<u8>, flow: &Flow<'_>, options: &TextOptions, received_at: Timestamp) {
    write_head(out, flow, options);
    write_tuple(out, &flow.orig);
    write_zone(out, flow, ZoneDirection::Orig, b"zone-orig=");
    write_counters(out, flow.counters_orig);
    if flow
        .status
        .is_some_and(|bits| bits & status::SEEN_REPLY == 0)
    {
        out.extend_from_slice(b"[UNREPLIED] ");
    }
    if let Some(reply) = &flow.reply {
        write_tuple(out, reply);
    }
    write_zone(out, flow, ZoneDirection::Reply, b"zone-reply=");
    write_counters(out, flow.counters_reply);
    out.extend_from_slice(status_label(flow.status.unwrap_or(0)));
    write_tail(out, flow, options, received_at);
    out.pop(); // the blank after the last field
}

/// Appends an instant in seconds and microseconds since 1970, and a tab.
pub(super) fn write_timestamp(out: &mut Vec<u8>, time: Timestamp) {
    let ns = time.as_ns();
    out.push(b'[');
    write_padded(out, ns / 1_000_000_000, 8);
    out.push(b'.');
    write_padded(out, ns % 1_000_000_000 / 1000, 6);
    out.extend_from_slice(b"]\t");
}

pub(super) fn kind_label(kind: EventKind) -> &'static [u8] {
    match kind {
        EventKind::New => b"    [NEW] ",
        EventKind::Update => b" [UPDATE] ",
        EventKind::Delete => b"[DESTROY] ",
        EventKind::Entry => b"",
    }
}

/// Appends the names and numbers of the protocols, the timeout, and the protocol's state.
fn write_head(out: &mut Vec<u8>, flow: &Flow<'_>, options: &TextOptions) {
    if options.extended {
        out.extend_from_slice(match flow.orig.src {
            IpAddr::V4(_) => b"ipv4     2 ",
            IpAddr::V6(_) => b"ipv6     10 ",
        });
    }
    let name = protocol_name(flow.protocol()).unwrap_or("unknown");
    out.extend_from_slice(name.as_bytes());
    out.resize(out.len() + 8_usize.saturating_sub(name.len()), b' ');
    write_field(out, b" ", Some(flow.protocol()));
    write_field(out, b"", flow.timeout_seconds);
    if let Some(state) = flow.state {
        out.extend_from_slice(state_name(state).as_bytes());
        out.push(b' ');
    }
}

fn state_name(state: ProtocolState) -> &'static str {
    state.name().unwrap_or("NONE")
}

/// Appends the fields that follow the tuples.
fn write_tail(out: &mut Vec<u8>, flow: &Flow<'_>, options: &TextOptions, received_at: Timestamp) {
    write_field(out, b"mark=", flow.mark);
    write_field(out, b"secmark=", flow.secmark);
    write_name(out, b"secctx=", flow.secctx);
    write_zone(out, flow, ZoneDirection::Both, b"zone=");
    write_field(out, b"delta-time=", lifetime_seconds(flow, received_at));
    if let Some(zone) = &options.ktimestamp {
        write_kernel_time(out, b"[start=", flow.start, zone);
        write_kernel_time(out, b"[stop=", flow.stop, zone);
    }
    write_name(out, b"helper=", flow.helper);
    write_field(out, b"use=", flow.use_count);
    if options.id {
        write_field(out, b"id=", flow.id);
    }
    if let Some(names) = options.labels.as_ref().filter(|_| flow.labels.is_some()) {
        write_labels(out, flow.label_bits().filter_map(|bit| names.get(bit)));
    }
}

fn write_kernel_time(out: &mut Vec<u8>, label: &[u8], time: Option<Timestamp>, zone: &LocalTime) {
    if let Some(time) = time {
        out.extend_from_slice(label);
        zone.write_ctime(out, time);
        out.extend_from_slice(b"] ");
    }
}

/// Appends the labels that have a name. If none has one, conntrack also leaves out the equals sign.
fn write_labels<'a>(out: &mut Vec<u8>, names: impl Iterator<Item = &'a [u8]>) {
    out.extend_from_slice(b"labels");
    for (index, name) in names.enumerate() {
        out.push(if index == 0 { b'=' } else { b',' });
        write_escaped(out, name);
    }
    out.push(b' ');
}

/// The flow's age at its end or, before that, when it was received. As in conntrack, it is the difference of two times
/// truncated to whole seconds.
fn lifetime_seconds(flow: &Flow<'_>, received_at: Timestamp) -> Option<u64> {
    let seconds = |time: Timestamp| time.as_ns() / 1_000_000_000;
    let start = seconds(flow.start?);
    let stop = flow.stop.filter(|&stop| stop != Timestamp::UNIX_EPOCH);
    Some(seconds(stop.unwrap_or(received_at)).wrapping_sub(start))
}

/// The label for the status: the first that applies of offloaded to hardware, offloaded and assured, or none.
fn status_label(bits: u32) -> &'static [u8] {
    if bits & status::HW_OFFLOAD != 0 {
        b"[HW_OFFLOAD] "
    } else if bits & status::OFFLOAD != 0 {
        b"[OFFLOAD] "
    } else if bits & status::ASSURED != 0 {
        b"[ASSURED] "
    } else {
        b""
    }
}

/// Appends the addresses, and the protocol's ports or the fields that it has instead.
fn write_tuple(out: &mut Vec<u8>, tuple: &Tuple) {
    write_addresses(out, b"", tuple);
    write_layer4(out, tuple);
}

/// Appends both addresses, whose labels have this prefix.
pub(super) fn write_addresses(out: &mut Vec<u8>, prefix: &[u8], tuple: &Tuple) {
    for (label, address) in [(b"src=", tuple.src), (b"dst=", tuple.dst)] {
        out.extend_from_slice(prefix);
        out.extend_from_slice(label);
        write_ip(out, address);
        out.push(b' ');
    }
}

/// Appends the protocol's ports or the fields that it has instead. Those that the kernel did not report are printed as
/// 0.
pub(super) fn write_layer4(out: &mut Vec<u8>, tuple: &Tuple) {
    let (src, dst) = tuple.ports().unwrap_or_default();
    match protocol_name(tuple.protocol) {
        Some("tcp" | "udp" | "udplite" | "sctp" | "dccp") => {
            write_field(out, b"sport=", Some(src));
            write_field(out, b"dport=", Some(dst));
        }
        Some("gre") => {
            out.extend_from_slice(b"srckey=0x");
            write_hex(out, u64::from(src));
            out.extend_from_slice(b" dstkey=0x");
            write_hex(out, u64::from(dst));
            out.push(b' ');
        }
        Some("icmp" | "icmpv6") => {
            let (icmp_type, code, id) = match tuple.layer4 {
                Layer4::Icmp {
                    icmp_type,
                    code,
                    id,
                } => (icmp_type, code, id),
                _ => (0, 0, 0),
            };
            write_field(out, b"type=", Some(icmp_type));
            write_field(out, b"code=", Some(code));
            write_field(out, b"id=", Some(id));
        }
        _ => {}
    }
}

fn write_counters(out: &mut Vec<u8>, counters: Option<Counters>) {
    if let Some(Counters { packets, bytes, .. }) = counters {
        write_field(out, b"packets=", Some(packets));
        write_field(out, b"bytes=", Some(bytes));
    }
}

fn write_zone(out: &mut Vec<u8>, flow: &Flow<'_>, direction: ZoneDirection, label: &[u8]) {
    let zone = flow.zone.filter(|zone| zone.direction == direction);
    write_field(out, label, zone.map(|zone| zone.id));
}

/// Appends a label, a number and a blank, if there is a number.
pub(super) fn write_field<T: itoa::Integer>(out: &mut Vec<u8>, label: &[u8], value: Option<T>) {
    if let Some(value) = value {
        out.extend_from_slice(label);
        write_decimal(out, value);
        out.push(b' ');
    }
}

pub(super) fn write_name(out: &mut Vec<u8>, label: &[u8], name: Option<&[u8]>) {
    if let Some(name) = name {
        out.extend_from_slice(label);
        write_escaped(out, name);
        out.push(b' ');
    }
}

/// Linux 6.18 sent these bytes to a little-endian machine, and conntrack 1.4.7 printed these lines for them.
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use nlring::message::flags;
    use nlring_testing::allocator::count_allocations;
    use nlring_testing::datagrams::conntrack::{
        GRE_NEW, ICMPV6_NEW, TCP_DESTROY, TCP_NEW, UDP_NEW,
    };

    use super::*;
    use nlring::{MessageBuilder, MessageList};

    const RECEIVED_AT: Timestamp = Timestamp::from_ns(1_795_516_804_000_042_999);

    fn line(bytes: &[u8], options: &TextOptions) -> String {
        let mut out = Vec::with_capacity(4096);
        for message in &MessageList::new(bytes) {
            let flow = Flow::decode(&message).unwrap();
            let allocations = count_allocations(|| {
                write_line(&mut out, &flow, options, RECEIVED_AT);
            });
            assert_eq!(allocations, 0, "formatting allocates nothing");
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_those_of_conntrack() {
        let lines = [
            (
                TCP_DESTROY,
                "[DESTROY] tcp      6 119 TIME_WAIT src=127.0.0.1 dst=127.0.0.1 sport=47152 dport=9000 \
                 packets=6 bytes=321 src=127.0.0.1 dst=127.0.0.1 sport=9000 dport=47152 packets=4 bytes=221 \
                 [ASSURED] mark=7 delta-time=1 [USERSPACE] portid=5391\n",
            ),
            (
                UDP_NEW,
                "    [NEW] udp      17 30 src=10.1.1.1 dst=10.1.1.2 sport=50973 dport=7002 zone-orig=78 [UNREPLIED] \
                 src=10.1.1.2 dst=10.1.1.1 sport=7002 dport=50973\n",
            ),
            (
                TCP_NEW,
                "    [NEW] tcp      6 120 SYN_SENT src=127.0.0.1 dst=127.0.0.1 sport=60370 dport=2121 [UNREPLIED] \
                 src=127.0.0.1 dst=127.0.0.1 sport=2121 dport=60370 helper=ftp\n",
            ),
            (
                ICMPV6_NEW,
                "    [NEW] icmpv6   58 30 src=fd00::1 dst=fd00::2 type=128 code=0 id=4661 [UNREPLIED] \
                 src=fd00::2 dst=fd00::1 type=129 code=0 id=4661\n",
            ),
            (
                GRE_NEW,
                "    [NEW] gre      47 30 src=10.1.1.1 dst=10.1.1.2 srckey=0x0 dstkey=0x1234 [UNREPLIED] \
                 src=10.1.1.2 dst=10.1.1.1 srckey=0x1234 dstkey=0x0\n",
            ),
        ];
        for (datagram, want) in lines {
            assert_eq!(line(datagram, &TextOptions::default()), want);
        }
    }

    #[test]
    fn the_id_stands_last() {
        let options = TextOptions {
            id: true,
            ..TextOptions::default()
        };
        assert!(line(ICMPV6_NEW, &options).ends_with(" code=0 id=4661 id=2557132124\n"));
    }

    #[test]
    fn fields_stand_where_conntrack_has_them() {
        let options = TextOptions {
            timestamp: true,
            extended: true,
            id: true,
            ..TextOptions::default()
        };
        assert_eq!(
            line(ICMPV6_NEW, &options),
            "[1795516804.000042]\t    [NEW] ipv6     10 icmpv6   58 30 src=fd00::1 dst=fd00::2 type=128 code=0 \
             id=4661 [UNREPLIED] src=fd00::2 dst=fd00::1 type=129 code=0 id=4661 id=2557132124\n"
        );
        let options = TextOptions {
            ktimestamp: Some(LocalTime::system()),
            ..TextOptions::default()
        };
        let line = line(TCP_DESTROY, &options);
        let (_, times) = line.split_once(" delta-time=1 [start=").unwrap();
        let (start, stop) = times.split_once("] [stop=").unwrap();
        assert_eq!((start.len(), stop.find(']')), (24, Some(24)), "{line}");
    }

    #[test]
    fn labels_without_a_name_are_left_out() {
        let text = |names: &[&[u8]]| {
            let mut out = Vec::new();
            write_labels(&mut out, names.iter().copied());
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(&[b"one"]), "labels=one ");
        assert_eq!(text(&[b"two words", b"\x1b"]), "labels=two words,\\x1b ");
        assert_eq!(text(&[]), "labels ");
    }

    /// The message of a UDP flow with a helper of this name, caused by a request from this port ID.
    fn flow_with_helper(name: &[u8], port_id: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, 0x100, flags::CREATE)
            .port_id(port_id)
            .bytes(&[2, 0, 0, 0])
            .nested(1, |tuple| {
                let tuple = tuple.nested(1, |ip| ip.attribute(1, &[0; 4]).attribute(2, &[255; 4]));
                tuple.nested(2, |protocol| protocol.attribute_u8(1, 17))
            })
            .nested(5, |help| help.attribute(1, name))
            .finish()
            .unwrap();
        bytes
    }

    #[test]
    fn a_name_from_outside_cannot_break_the_line() {
        let bytes = flow_with_helper("a\n\x1b[2J\u{9b}é\\".as_bytes(), 0);
        let want = "    [NEW] udp      17 src=0.0.0.0 dst=255.255.255.255 sport=0 dport=0 \
                    helper=a\\x0a\\x1b[2J\\xc2\\x9bé\\\n";
        assert_eq!(line(&bytes, &TextOptions::default()), want);
        let bytes = flow_with_helper(b"\xff\xe2\x80", 9);
        let text = line(&bytes, &TextOptions::default());
        assert!(
            text.ends_with(" helper=\\xff\\xe2\\x80 [USERSPACE] portid=9\n"),
            "{text}"
        );
    }
}
