//! Reads flows from a batch of records in the form that IPFIX needs: numbers instead of words.

use std::net::IpAddr;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, TimestampNanosecondType, UInt8Type, UInt16Type, UInt64Type};
use arrow_array::{Array, ArrowPrimitiveType, DictionaryArray, PrimitiveArray, RecordBatch};
use nlring::conntrack::protocol_name;

/// Why a flow has ended (flowEndReason).
pub const UNKNOWN: u8 = 0;
pub const IDLE: u8 = 1;
pub const END_DETECTED: u8 = 3;

/// A flow, or an event of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub protocol: u8,
    pub src: IpAddr,
    pub dst: IpAddr,
    /// With ICMP, the id; there is no port.
    pub sport: u16,
    pub dport: u16,
    /// With ICMP, the type and the code.
    pub icmp: Option<[u8; 2]>,
    pub nat: Option<Nat>,
    pub counters: Option<Counters>,
    pub start_ns: Option<u64>,
    pub end_ns: u64,
    pub end_reason: u8,
}

/// The addresses and ports after the translation. Those that are not translated are unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub sport: u16,
    pub dport: u16,
}

/// What each direction has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub packets: u64,
    pub bytes: u64,
    pub reply_packets: u64,
    pub reply_bytes: u64,
}

impl Flow {
    /// The other direction as a separate flow.
    pub fn reverse(self) -> Self {
        let after = self.after_nat();
        let before = Nat {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
        };
        Self {
            src: after.dst,
            dst: after.src,
            sport: if self.icmp.is_some() {
                after.sport
            } else {
                after.dport
            },
            dport: if self.icmp.is_some() { 0 } else { after.sport },
            icmp: self.icmp.map(reply_of_icmp),
            nat: self.nat.map(|_| match self.icmp {
                Some(_) => Nat {
                    sport: self.sport,
                    dport: 0,
                    ..before
                },
                None => before,
            }),
            counters: self.counters.map(|counters| Counters {
                packets: counters.reply_packets,
                bytes: counters.reply_bytes,
                reply_packets: counters.packets,
                reply_bytes: counters.bytes,
            }),
            ..self
        }
    }

    pub fn after_nat(&self) -> Nat {
        self.nat.unwrap_or(Nat {
            src: self.src,
            dst: self.dst,
            sport: self.sport,
            dport: self.dport,
        })
    }
}

/// The type and code of the answer to an ICMP request (RFC 792, RFC 4443).
fn reply_of_icmp([icmp_type, code]: [u8; 2]) -> [u8; 2] {
    let reply = match icmp_type {
        8 => 0,
        13 => 14,
        15 => 16,
        17 => 18,
        128 => 129,
        139 => 140,
        other => other,
    };
    [reply, code]
}

/// The columns that IPFIX needs.
pub struct Flows<'a> {
    proto: Words<'a, u8>,
    src: Words<'a, IpAddr>,
    dst: Words<'a, IpAddr>,
    nat_src: Words<'a, IpAddr>,
    nat_dst: Words<'a, IpAddr>,
    end_reason: Words<'a, u8>,
    sport: &'a PrimitiveArray<UInt16Type>,
    dport: &'a PrimitiveArray<UInt16Type>,
    icmp_id: &'a PrimitiveArray<UInt16Type>,
    nat_sport: &'a PrimitiveArray<UInt16Type>,
    nat_dport: &'a PrimitiveArray<UInt16Type>,
    icmp_type: &'a PrimitiveArray<UInt8Type>,
    icmp_code: &'a PrimitiveArray<UInt8Type>,
    packets: &'a PrimitiveArray<UInt64Type>,
    bytes: &'a PrimitiveArray<UInt64Type>,
    reply_packets: &'a PrimitiveArray<UInt64Type>,
    reply_bytes: &'a PrimitiveArray<UInt64Type>,
    start: &'a PrimitiveArray<TimestampNanosecondType>,
    observed_start: &'a PrimitiveArray<TimestampNanosecondType>,
    stop: &'a PrimitiveArray<TimestampNanosecondType>,
    time: &'a PrimitiveArray<TimestampNanosecondType>,
}

impl<'a> Flows<'a> {
    /// None: the batch does not have the columns of the schema.
    pub fn of(batch: &'a RecordBatch) -> Option<Self> {
        let address = |text: &str| text.parse().ok();
        Some(Self {
            proto: Words::of(batch, "proto", protocol_number)?,
            src: Words::of(batch, "orig_src", address)?,
            dst: Words::of(batch, "orig_dst", address)?,
            nat_src: Words::of(batch, "nat_src", address)?,
            nat_dst: Words::of(batch, "nat_dst", address)?,
            end_reason: Words::of(batch, "state", |state| Some(end_reason(state)))?,
            sport: column(batch, "orig_sport")?,
            dport: column(batch, "orig_dport")?,
            icmp_id: column(batch, "orig_id")?,
            nat_sport: column(batch, "nat_sport")?,
            nat_dport: column(batch, "nat_dport")?,
            icmp_type: column(batch, "orig_type")?,
            icmp_code: column(batch, "orig_code")?,
            packets: column(batch, "orig_packets")?,
            bytes: column(batch, "orig_bytes")?,
            reply_packets: column(batch, "reply_packets")?,
            reply_bytes: column(batch, "reply_bytes")?,
            start: column(batch, "start_ns")?,
            observed_start: column(batch, "observed_start_ns")?,
            stop: column(batch, "stop_ns")?,
            time: column(batch, "time_ns")?,
        })
    }

    /// None: the row has no flow.
    pub fn flow(&self, row: usize) -> Option<Flow> {
        let protocol = self.proto.value(row)?;
        let (src, dst) = (self.src.value(row)?, self.dst.value(row)?);
        let icmp = value(self.icmp_type, row).zip(value(self.icmp_code, row));
        let sport = value(self.sport, row).or_else(|| value(self.icmp_id, row));
        let (sport, dport) = (sport.unwrap_or(0), value(self.dport, row).unwrap_or(0));
        let (nat_src, nat_dst) = (self.nat_src.value(row), self.nat_dst.value(row));
        let nat = (nat_src.is_some() || nat_dst.is_some()).then(|| Nat {
            src: nat_src.unwrap_or(src),
            dst: nat_dst.unwrap_or(dst),
            sport: value(self.nat_sport, row).unwrap_or(sport),
            dport: value(self.nat_dport, row).unwrap_or(dport),
        });
        let counters = value(self.packets, row).map(|packets| {
            let count = |column| value(column, row).unwrap_or(0);
            Counters {
                packets,
                bytes: count(self.bytes),
                reply_packets: count(self.reply_packets),
                reply_bytes: count(self.reply_bytes),
            }
        });
        let instant = |column| value(column, row).and_then(|ns: i64| u64::try_from(ns).ok());
        let end_reason = match protocol {
            TCP => self.end_reason.value(row).unwrap_or(UNKNOWN),
            _ => IDLE,
        };
        Some(Flow {
            protocol,
            src,
            dst,
            sport,
            dport,
            icmp: icmp.map(|(icmp_type, code)| [icmp_type, code]),
            nat,
            counters,
            start_ns: instant(self.start).or_else(|| instant(self.observed_start)),
            end_ns: instant(self.stop)
                .or_else(|| instant(self.time))
                .unwrap_or(0),
            end_reason,
        })
    }
}

/// A column of words, each read once.
pub struct Words<'a, T> {
    places: &'a DictionaryArray<Int32Type>,
    values: Vec<Option<T>>,
}

impl<'a, T: Copy> Words<'a, T> {
    pub fn of(
        batch: &'a RecordBatch,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<Self> {
        let places = batch
            .column_by_name(name)?
            .as_dictionary_opt::<Int32Type>()?;
        let texts = places.values().as_string_opt::<i32>()?;
        let values = texts.iter().map(|text| read(text?)).collect();
        Some(Self { places, values })
    }

    pub fn value(&self, row: usize) -> Option<T> {
        *self.values.get(self.places.key(row)?)?
    }
}

/// A column of numbers.
pub fn column<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &str,
) -> Option<&'a PrimitiveArray<T>> {
    batch.column_by_name(name)?.as_primitive_opt()
}

pub fn value<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
    column.is_valid(row).then(|| column.value(row))
}

const TCP: u8 = 6;

fn protocol_number(name: &str) -> Option<u8> {
    let is_named = |number: &u8| protocol_name(*number) == Some(name);
    name.parse().ok().or_else(|| (0..=u8::MAX).find(is_named))
}

/// What the last state of a TCP connection says about its end: a connection that both sides have closed is over, and
/// one that was open until the end has timed out.
fn end_reason(state: &str) -> u8 {
    match state {
        "LAST_ACK" | "TIME_WAIT" | "CLOSE" => END_DETECTED,
        _ => IDLE,
    }
}
