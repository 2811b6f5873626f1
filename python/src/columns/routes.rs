//! Routes as columns. The names are those of docs/json.md, with `_` between the names of an object and its field.

use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arrow_array::types::{Int32Type, UInt8Type, UInt16Type, UInt32Type};
use arrow_array::{ArrayRef, ListArray, RecordBatch, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Fields};
use nlring::route::{
    Address, Hop, MetricValue, Route, encap_name, metric, protocol_name, route_type_name,
    scope_name,
};
use nlring::{EventKind, Family, Timestamp};
use nlring_print::text::write_ip;

use super::column::{Column, Numbers, Texts, Words};
use super::flows::{Instants, write_name};
use super::record_batch;

/// The words of the column `family`, by number.
const FAMILIES: [(Family, &str); 5] = [
    (Family::INET, "ipv4"),
    (Family::INET6, "ipv6"),
    (Family::MPLS, "mpls"),
    (Family::IPMR, "ipv4-multicast"),
    (Family::IP6MR, "ipv6-multicast"),
];

/// The columns of the metrics, by the kernel's numbers from [`metric::MTU`] on.
const METRICS: [&str; 16] = [
    "metrics_mtu",
    "metrics_window",
    "metrics_rtt",
    "metrics_rttvar",
    "metrics_ssthresh",
    "metrics_cwnd",
    "metrics_advmss",
    "metrics_reordering",
    "metrics_hoplimit",
    "metrics_initcwnd",
    "metrics_features",
    "metrics_rto_min",
    "metrics_initrwnd",
    "metrics_quickack",
    "", // its value is a name: the column `congctl`
    "metrics_fastopen_no_cookie",
];

/// Routes as columns.
pub struct RouteTable {
    row_count: usize,
    event: Words,
    time: Instants,
    family: Words,
    route_type: Words,
    dst: Texts,
    src: Texts,
    tos: Numbers<UInt8Type>,
    table: Numbers<UInt32Type>,
    priority: Numbers<UInt32Type>,
    protocol: Words,
    scope: Words,
    prefsrc: Texts,
    hop: HopColumns,
    oif: Numbers<UInt32Type>,
    iif: Numbers<UInt32Type>,
    nexthop_id: Numbers<UInt32Type>,
    nexthops: Nexthops,
    metrics: Vec<Numbers<UInt32Type>>,
    congctl: Texts,
    pref: Words,
    flags: Numbers<UInt32Type>,
    expires: Numbers<Int32Type>,
    mark: Numbers<UInt32Type>,
    uid: Numbers<UInt32Type>,
    message_flags: Numbers<UInt16Type>,
    port_id: Numbers<UInt32Type>,
}

/// The columns of a hop.
struct HopColumns {
    gateway: Texts,
    via: Texts,
    labels: Texts,
    encap: Texts,
    realm_from: Numbers<UInt16Type>,
    realm_to: Numbers<UInt16Type>,
}

impl HopColumns {
    fn new() -> Self {
        Self {
            gateway: Texts::new("gateway"),
            via: Texts::new("via_address"),
            labels: Texts::new("as"),
            encap: Texts::new("encap"),
            realm_from: Numbers::new("realm_from"),
            realm_to: Numbers::new("realm_to"),
        }
    }

    fn set(&mut self, row: usize, hop: &Hop<'_>) {
        if let Some(gateway) = hop.gateway {
            self.gateway.write(row, |out| write_ip(out, gateway));
        }
        if let Some(via) = hop.via {
            self.via.write(row, |out| write_address(out, via.address));
        }
        if let Some(labels) = hop.new_dst {
            self.labels.write(row, |out| write_address(out, labels));
        }
        if let Some(number) = hop.encap_type {
            self.encap.write(row, |out| {
                write_word(out, encap_name(number), number.into());
            });
        }
        if let Some(realms) = hop.realms {
            let [from, to] = [realms >> 16, realms & 0xffff]
                .map(|realm| u16::try_from(realm).ok().filter(|realm| *realm != 0));
            self.realm_from.set_some(row, from);
            self.realm_to.set_some(row, to);
        }
    }

    fn columns(&mut self) -> [&mut dyn Column; 6] {
        [
            &mut self.gateway,
            &mut self.via,
            &mut self.labels,
            &mut self.encap,
            &mut self.realm_from,
            &mut self.realm_to,
        ]
    }
}

/// A list of hops for each route.
struct Nexthops {
    hops: HopColumns,
    oif: Numbers<UInt32Type>,
    weight: Numbers<UInt16Type>,
    flags: Numbers<UInt32Type>,
    hop_count: usize,
    ends: Vec<i32>,
}

impl Nexthops {
    fn new() -> Self {
        Self {
            hops: HopColumns::new(),
            oif: Numbers::new("oif"),
            weight: Numbers::new("weight"),
            flags: Numbers::new("flags"),
            hop_count: 0,
            ends: vec![0],
        }
    }

    fn add(&mut self, route: &Route<'_>) {
        for nexthop in route.nexthops {
            let row = self.hop_count;
            self.hop_count += 1;
            self.hops.set(row, &nexthop.hop);
            self.oif
                .set_some(row, (nexthop.oif != 0).then_some(nexthop.oif));
            self.weight.set(row, nexthop.weight);
            self.flags.set(row, nexthop.flags);
        }
        self.ends
            .push(i32::try_from(self.hop_count).unwrap_or(i32::MAX));
    }

    fn columns(&mut self) -> Vec<&mut dyn Column> {
        let mut columns: Vec<&mut dyn Column> = self.hops.columns().into_iter().collect();
        columns.push(&mut self.oif);
        columns.push(&mut self.weight);
        columns.push(&mut self.flags);
        columns
    }

    fn item() -> Field {
        let mut empty = Self::new();
        let fields: Fields = empty
            .columns()
            .iter()
            .map(|column| column.field())
            .collect();
        Field::new("item", DataType::Struct(fields), false)
    }
}

impl Column for Nexthops {
    fn field(&self) -> Field {
        Field::new("nexthops", DataType::List(Arc::new(Self::item())), true)
    }

    fn take(&mut self, _row_count: usize) -> Result<ArrayRef, ArrowError> {
        let hop_count = std::mem::take(&mut self.hop_count);
        let hops = StructArray::from(record_batch(&mut self.columns(), hop_count)?);
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        let offsets = OffsetBuffer::new(ends.into());
        let lists = ListArray::try_new(Arc::new(Self::item()), offsets, Arc::new(hops), None)?;
        Ok(Arc::new(lists))
    }
}

impl RouteTable {
    pub fn new() -> Self {
        Self {
            row_count: 0,
            event: Words::new("event", ["new", "delete", "entry"]),
            time: Instants::new("time_ns"),
            family: Words::new("family", FAMILIES.map(|(_, name)| name)),
            route_type: words("type", route_type_name),
            dst: Texts::new("dst"),
            src: Texts::new("src"),
            tos: Numbers::new("tos"),
            table: Numbers::new("table"),
            priority: Numbers::new("priority"),
            protocol: words("protocol", protocol_name),
            scope: words("scope", scope_name),
            prefsrc: Texts::new("prefsrc"),
            hop: HopColumns::new(),
            oif: Numbers::new("oif"),
            iif: Numbers::new("iif"),
            nexthop_id: Numbers::new("nexthop_id"),
            nexthops: Nexthops::new(),
            metrics: METRICS.map(Numbers::new).into(),
            congctl: Texts::new("metrics_congctl"),
            pref: Words::new("pref", ["medium", "high", "2", "low"]),
            flags: Numbers::new("flags"),
            expires: Numbers::new("expires_s"),
            mark: Numbers::new("mark"),
            uid: Numbers::new("uid"),
            message_flags: Numbers::new("message_flags"),
            port_id: Numbers::new("port_id"),
        }
    }

    pub fn row_count(&self) -> usize {
        self.row_count
    }

    pub fn add(&mut self, route: &Route<'_>, received_at: Timestamp) {
        let row = self.row_count;
        self.row_count += 1;
        self.event.set(row, event_index(route.kind));
        self.time.set(row, received_at);
        if let Some(family) = FAMILIES
            .iter()
            .position(|(family, _)| *family == route.family)
        {
            self.family.set(row, family);
        }
        self.route_type.set(row, route.route_type.into());
        self.dst.write(row, |out| {
            write_prefix(out, route.family, route.dst, route.dst_prefix_len);
        });
        if route.src.is_some() || route.src_prefix_len != 0 {
            self.src.write(row, |out| {
                write_prefix(out, route.family, route.src, route.src_prefix_len);
            });
        }
        self.tos
            .set_some(row, (route.tos != 0).then_some(route.tos));
        self.table.set(row, route.table);
        self.priority.set_some(row, route.priority);
        self.protocol.set(row, route.protocol.into());
        self.scope.set(row, route.scope.into());
        if let Some(prefsrc) = route.prefsrc {
            self.prefsrc.write(row, |out| write_ip(out, prefsrc));
        }
        self.hop.set(row, &route.hop);
        self.oif.set_some(row, route.oif);
        self.iif.set_some(row, route.iif);
        self.nexthop_id.set_some(row, route.nexthop_id);
        self.nexthops.add(route);
        self.flags.set(row, route.flags);
        self.set_rest(row, route);
    }

    /// Sets what few routes have.
    fn set_rest(&mut self, row: usize, route: &Route<'_>) {
        for set in route.metrics {
            let column = self
                .metrics
                .get_mut(usize::from(set.number.wrapping_sub(metric::MTU)));
            match (set.value, column) {
                (MetricValue::Number(number), Some(column)) => column.set(row, number),
                (MetricValue::Name(name), _) => {
                    self.congctl.write(row, |out| write_name(out, name));
                }
                _ => {}
            }
        }
        if let Some(pref) = route.pref.filter(|pref| *pref != 0) {
            self.pref.set(row, pref.into());
        }
        let expires = route.cache_info.and_then(|info| info.expires_seconds());
        self.expires.set_some(row, expires);
        self.mark.set_some(row, route.mark);
        self.uid.set_some(row, route.uid);
        self.message_flags.set(row, route.message_flags);
        self.port_id
            .set_some(row, (route.port_id != 0).then_some(route.port_id));
    }
}

impl RouteTable {
    pub fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let row_count = std::mem::take(&mut self.row_count);
        let mut columns: Vec<&mut dyn Column> = vec![
            &mut self.event,
            self.time.column(),
            &mut self.family,
            &mut self.route_type,
            &mut self.dst,
            &mut self.src,
            &mut self.tos,
            &mut self.table,
            &mut self.priority,
            &mut self.protocol,
            &mut self.scope,
            &mut self.prefsrc,
        ];
        columns.extend(self.hop.columns());
        let more: [&mut dyn Column; 4] = [
            &mut self.oif,
            &mut self.iif,
            &mut self.nexthop_id,
            &mut self.nexthops,
        ];
        columns.extend(more);
        let numbers = METRICS
            .iter()
            .zip(&mut self.metrics)
            .filter(|(name, _)| !name.is_empty());
        columns.extend(numbers.map(|(_, metric)| metric as &mut dyn Column));
        let more: [&mut dyn Column; 8] = [
            &mut self.congctl,
            &mut self.pref,
            &mut self.flags,
            &mut self.expires,
            &mut self.mark,
            &mut self.uid,
            &mut self.message_flags,
            &mut self.port_id,
        ];
        columns.extend(more);
        record_batch(&mut columns, row_count)
    }
}

/// A column of the words for the numbers of one byte. A number without a word is the number, as text.
fn words(name: &'static str, word: impl Fn(u8) -> Option<&'static str>) -> Words {
    let texts = (0..=u8::MAX).map(|number| word(number).map_or(number.to_string(), str::to_owned));
    let texts: Vec<_> = texts.collect();
    Words::new(name, texts.iter().map(String::as_str))
}

fn event_index(kind: EventKind) -> usize {
    match kind {
        EventKind::New | EventKind::Update => 0,
        EventKind::Delete => 1,
        EventKind::Entry => 2,
    }
}

fn write_word(out: &mut Vec<u8>, word: Option<&'static str>, number: u32) {
    match word {
        Some(word) => out.extend_from_slice(word.as_bytes()),
        None => write_text(out, format_args!("{number}")),
    }
}

/// Appends an address and its prefix length. MPLS labels have no length.
fn write_prefix(out: &mut Vec<u8>, family: Family, address: Option<Address<'_>>, length: u8) {
    match address {
        Some(address) => write_address(out, address),
        None => write_ip(out, any(family)),
    }
    if !matches!(address, Some(Address::Mpls(_))) {
        write_text(out, format_args!("/{length}"));
    }
}

/// The address of the default route.
fn any(family: Family) -> IpAddr {
    match family {
        Family::INET6 | Family::IP6MR => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn write_address(out: &mut Vec<u8>, address: Address<'_>) {
    match address {
        Address::Ip(ip) => write_ip(out, ip),
        other => write_text(out, format_args!("{other}")),
    }
}

fn write_text(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let _ = out.write_fmt(text); // a vector takes everything
}
