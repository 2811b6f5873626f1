//! Flows as columns. The names are those of docs/json.md, with `_` between the names of an object and its field.

use std::io::Write as _;

use arrow_array::RecordBatch;
use arrow_array::types::{TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use nlring::conntrack::{
    Counters, Endpoint, Flow, Layer4, ProtocolState, Tuple, ZoneDirection, protocol_name,
};
use nlring::{EventKind, Family, Timestamp};
use nlring_print::text::write_ip;

use super::column::{Column, Numbers, Texts, Words};
use super::record_batch;

/// The protocol that has keys instead of ports.
const GRE: u8 = 47;

/// Instants in UTC.
pub struct Instants(Numbers<TimestampNanosecondType>);

impl Instants {
    pub fn new(name: &'static str) -> Self {
        let data_type = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        Self(Numbers::with_type(name, data_type))
    }

    /// Sets an instant. Those from the year 2262 on, which Arrow cannot express, become the last one that it can.
    #[inline]
    pub fn set(&mut self, row: usize, instant: Timestamp) {
        self.0
            .set(row, i64::try_from(instant.as_ns()).unwrap_or(i64::MAX));
    }

    #[inline]
    fn set_some(&mut self, row: usize, instant: Option<Timestamp>) {
        if let Some(instant) = instant {
            self.set(row, instant);
        }
    }

    pub fn column(&mut self) -> &mut dyn Column {
        &mut self.0
    }
}

/// The columns of a tuple, and of what its direction has carried.
struct TupleColumns {
    src: Texts,
    dst: Texts,
    sport: Numbers<UInt16Type>,
    dport: Numbers<UInt16Type>,
    icmp_type: Numbers<UInt8Type>,
    code: Numbers<UInt8Type>,
    id: Numbers<UInt16Type>,
    srckey: Numbers<UInt16Type>,
    dstkey: Numbers<UInt16Type>,
    packets: Numbers<UInt64Type>,
    bytes: Numbers<UInt64Type>,
}

/// The names of a tuple's columns: `orig_src`, and so on.
macro_rules! tuple_columns {
    ($object:literal) => {
        TupleColumns {
            src: Texts::new(concat!($object, "_src")),
            dst: Texts::new(concat!($object, "_dst")),
            sport: Numbers::new(concat!($object, "_sport")),
            dport: Numbers::new(concat!($object, "_dport")),
            icmp_type: Numbers::new(concat!($object, "_type")),
            code: Numbers::new(concat!($object, "_code")),
            id: Numbers::new(concat!($object, "_id")),
            srckey: Numbers::new(concat!($object, "_srckey")),
            dstkey: Numbers::new(concat!($object, "_dstkey")),
            packets: Numbers::new(concat!($object, "_packets")),
            bytes: Numbers::new(concat!($object, "_bytes")),
        }
    };
}

impl TupleColumns {
    #[inline]
    fn set(&mut self, row: usize, tuple: &Tuple, counters: Option<Counters>) {
        self.src.write(row, |out| write_ip(out, tuple.src));
        self.dst.write(row, |out| write_ip(out, tuple.dst));
        match tuple.layer4 {
            Layer4::Ports { src, dst } if tuple.protocol == GRE => {
                self.srckey.set(row, src);
                self.dstkey.set(row, dst);
            }
            Layer4::Ports { src, dst } => {
                self.sport.set(row, src);
                self.dport.set(row, dst);
            }
            Layer4::Icmp {
                icmp_type,
                code,
                id,
            } => {
                self.icmp_type.set(row, icmp_type);
                self.code.set(row, code);
                self.id.set(row, id);
            }
            _ => {}
        }
        if let Some(Counters { packets, bytes, .. }) = counters {
            self.packets.set(row, packets);
            self.bytes.set(row, bytes);
        }
    }

    fn columns(&mut self) -> [&mut dyn Column; 11] {
        [
            &mut self.src,
            &mut self.dst,
            &mut self.sport,
            &mut self.dport,
            &mut self.icmp_type,
            &mut self.code,
            &mut self.id,
            &mut self.srckey,
            &mut self.dstkey,
            &mut self.packets,
            &mut self.bytes,
        ]
    }
}

/// Flows as columns.
pub struct FlowTable {
    row_count: usize,
    event: Words,
    time: Instants,
    time_source: Words,
    family: Words,
    proto: Words,
    orig: TupleColumns,
    reply: TupleColumns,
    nat_src: Texts,
    nat_sport: Numbers<UInt16Type>,
    nat_dst: Texts,
    nat_dport: Numbers<UInt16Type>,
    state: Words,
    timeout: Numbers<UInt32Type>,
    status: Numbers<UInt32Type>,
    mark: Numbers<UInt32Type>,
    secmark: Numbers<UInt32Type>,
    secctx: Texts,
    zone: Numbers<UInt16Type>,
    zone_direction: Words,
    id: Numbers<UInt32Type>,
    use_count: Numbers<UInt32Type>,
    start: Instants,
    stop: Instants,
    helper: Texts,
    labels_hex: Texts,
    master: TupleColumns,
    port_id: Numbers<UInt32Type>,
}

impl FlowTable {
    pub fn new() -> Self {
        let protocols: Vec<_> = (0..=u8::MAX).map(protocol_word).collect();
        Self {
            row_count: 0,
            event: Words::new("event", ["new", "update", "destroy", "entry"]),
            time: Instants::new("time_ns"),
            time_source: Words::new("time_source", ["kernel", "receive"]),
            family: Words::new("family", ["ipv4", "ipv6"]),
            proto: Words::new("proto", protocols.iter().map(String::as_str)),
            orig: tuple_columns!("orig"),
            reply: tuple_columns!("reply"),
            nat_src: Texts::new("nat_src"),
            nat_sport: Numbers::new("nat_sport"),
            nat_dst: Texts::new("nat_dst"),
            nat_dport: Numbers::new("nat_dport"),
            state: Words::new("state", states()),
            timeout: Numbers::new("timeout_s"),
            status: Numbers::new("status"),
            mark: Numbers::new("mark"),
            secmark: Numbers::new("secmark"),
            secctx: Texts::new("secctx"),
            zone: Numbers::new("zone"),
            zone_direction: Words::new("zone_direction", ["orig", "reply"]),
            id: Numbers::new("id"),
            use_count: Numbers::new("use_count"),
            start: Instants::new("start_ns"),
            stop: Instants::new("stop_ns"),
            helper: Texts::new("helper"),
            labels_hex: Texts::new("labels_hex"),
            master: tuple_columns!("master"),
            port_id: Numbers::new("port_id"),
        }
    }

    pub fn row_count(&self) -> usize {
        self.row_count
    }

    #[inline]
    pub fn add(&mut self, flow: &Flow<'_>, received_at: Timestamp) {
        let row = self.row_count;
        self.row_count += 1;
        self.event.set(row, event_index(flow.kind));
        self.time.set(row, flow.event_time.unwrap_or(received_at));
        self.time_source
            .set(row, usize::from(flow.event_time.is_none()));
        self.family
            .set(row, usize::from(flow.family == Family::INET6));
        self.proto.set(row, flow.protocol().into());
        self.orig.set(row, &flow.orig, flow.counters_orig);
        if let Some(reply) = &flow.reply {
            self.reply.set(row, reply, flow.counters_reply);
            self.set_nat(row, flow);
        }
        if let Some(index) = flow.state.and_then(state_index) {
            self.state.set(row, index);
        }
        self.timeout.set_some(row, flow.timeout_seconds);
        self.status.set_some(row, flow.status);
        self.id.set_some(row, flow.id);
        self.set_rest(row, flow);
    }

    #[inline]
    fn set_nat(&mut self, row: usize, flow: &Flow<'_>) {
        let Some(nat) = flow.nat() else { return };
        if let Some(Endpoint { address, port, .. }) = nat.src {
            self.nat_src.write(row, |out| write_ip(out, address));
            self.nat_sport.set_some(row, port);
        }
        if let Some(Endpoint { address, port, .. }) = nat.dst {
            self.nat_dst.write(row, |out| write_ip(out, address));
            self.nat_dport.set_some(row, port);
        }
    }

    /// Sets what few flows have.
    fn set_rest(&mut self, row: usize, flow: &Flow<'_>) {
        self.mark.set_some(row, flow.mark);
        self.secmark.set_some(row, flow.secmark);
        if let Some(context) = flow.secctx {
            self.secctx.write(row, |out| write_name(out, context));
        }
        if let Some(zone) = flow.zone {
            self.zone.set(row, zone.id);
            match zone.direction {
                ZoneDirection::Orig => self.zone_direction.set(row, 0),
                ZoneDirection::Reply => self.zone_direction.set(row, 1),
                ZoneDirection::Both => {}
            }
        }
        self.use_count.set_some(row, flow.use_count);
        self.start.set_some(row, flow.start);
        self.stop.set_some(row, flow.stop);
        if let Some(helper) = flow.helper {
            self.helper.write(row, |out| write_name(out, helper));
        }
        if flow.labels.is_some() {
            let bits = flow.label_bits().filter(|bit| *bit < u128::BITS);
            let labels = bits.fold(0_u128, |labels, bit| labels | 1 << bit);
            self.labels_hex.write(row, |out| {
                let _ = write!(out, "{labels:#x}"); // a vector takes everything
            });
        }
        if let Some(master) = &flow.master {
            self.master.set(row, master, None);
        }
        self.port_id
            .set_some(row, (flow.port_id != 0).then_some(flow.port_id));
    }

    pub fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let row_count = std::mem::take(&mut self.row_count);
        let mut columns: Vec<&mut dyn Column> = vec![
            &mut self.event,
            self.time.column(),
            &mut self.time_source,
            &mut self.family,
            &mut self.proto,
        ];
        columns.extend(self.orig.columns());
        columns.extend(self.reply.columns());
        let more: [&mut dyn Column; 18] = [
            &mut self.nat_src,
            &mut self.nat_sport,
            &mut self.nat_dst,
            &mut self.nat_dport,
            &mut self.state,
            &mut self.timeout,
            &mut self.status,
            &mut self.mark,
            &mut self.secmark,
            &mut self.secctx,
            &mut self.zone,
            &mut self.zone_direction,
            &mut self.id,
            &mut self.use_count,
            self.start.column(),
            self.stop.column(),
            &mut self.helper,
            &mut self.labels_hex,
        ];
        columns.extend(more);
        columns.extend(self.master.columns().into_iter().take(MASTER_COLUMNS));
        columns.push(&mut self.port_id);
        record_batch(&mut columns, row_count)
    }
}

/// A master's tuple has no counters.
const MASTER_COLUMNS: usize = 9;

fn event_index(kind: EventKind) -> usize {
    match kind {
        EventKind::New => 0,
        EventKind::Update => 1,
        EventKind::Delete => 2,
        EventKind::Entry => 3,
    }
}

/// Appends a name from outside. A byte that is not UTF-8 becomes the four characters `\xNN`, as in the JSON.
pub fn write_name(out: &mut Vec<u8>, name: &[u8]) {
    for chunk in name.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}"); // a vector takes everything
        }
    }
}

/// The protocol's name, or its number.
pub fn protocol_word(protocol: u8) -> String {
    protocol_name(protocol).map_or_else(|| protocol.to_string(), ToOwned::to_owned)
}

/// How many states of each protocol have a word.
const STATE_COUNT: u8 = 12;
/// The protocols with states, in the order of the words.
const STATEFUL: [fn(u8) -> ProtocolState; 3] =
    [ProtocolState::Tcp, ProtocolState::Sctp, ProtocolState::Dccp];

/// The words for the states.
fn states() -> Vec<&'static str> {
    let states = STATEFUL
        .iter()
        .flat_map(|of_protocol| (0..STATE_COUNT).map(of_protocol));
    states
        .map(|state| state.name().unwrap_or_default())
        .collect()
}

/// The place of a state's word. `None`: its protocol has no words.
fn state_index(state: ProtocolState) -> Option<usize> {
    let number = state.number();
    let protocol = STATEFUL
        .iter()
        .position(|of_protocol| of_protocol(number) == state)?;
    Some(protocol * usize::from(STATE_COUNT) + usize::from(number.min(STATE_COUNT - 1)))
}
