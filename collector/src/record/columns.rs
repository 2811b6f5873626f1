//! Records as columns.

use std::fmt::Write as _;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use ahash::AHashMap;
use arrow_array::builder::{BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::types::{
    Int32Type, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, ArrowPrimitiveType, DictionaryArray, PrimitiveArray, RecordBatch};
use nlring::conntrack::{Endpoint, Layer4, ProtocolState, Tuple, ZoneDirection, protocol_name};
use nlring::{EventKind, Timestamp};

use super::schema::SCHEMA;
use super::{Body, FlowBody, LossBody, Record, RouteBody, Subject};

/// Collects records, column by column.
#[derive(Default)]
pub struct Columns {
    record: Words<&'static str>,
    time: Instants,
    netns: Words<u16>,
    event: Words<&'static str>,
    proto: Words<u8>,
    orig_src: Words<IpAddr>,
    orig_dst: Words<IpAddr>,
    orig_sport: Numbers<UInt16Type>,
    orig_dport: Numbers<UInt16Type>,
    orig_type: Numbers<UInt8Type>,
    orig_code: Numbers<UInt8Type>,
    orig_id: Numbers<UInt16Type>,
    orig_packets: Numbers<UInt64Type>,
    orig_bytes: Numbers<UInt64Type>,
    reply_packets: Numbers<UInt64Type>,
    reply_bytes: Numbers<UInt64Type>,
    nat_src: Words<IpAddr>,
    nat_sport: Numbers<UInt16Type>,
    nat_dst: Words<IpAddr>,
    nat_dport: Numbers<UInt16Type>,
    state: Words<ProtocolState>,
    status: Numbers<UInt32Type>,
    timeout: Numbers<UInt32Type>,
    mark: Numbers<UInt32Type>,
    zone: Numbers<UInt16Type>,
    zone_direction: Words<&'static str>,
    id: Numbers<UInt32Type>,
    start: Instants,
    observed_start: Instants,
    stop: Instants,
    helper: Words<Vec<u8>>,
    labels: Words<Vec<u8>>,
    resynced: Flags,
    reason: Words<&'static str>,
    count: Numbers<UInt64Type>,
    since: Instants,
    until: Instants,
    subject: Words<&'static str>,
    route_dst: Words<String>,
    route: Texts,
}

/// The value of the column `event` in the mark at the end of a run.
pub const END: &str = "end";
/// Its value in a mark while a table of flows is being repaired.
pub const REPAIR: &str = "repair";

impl Columns {
    /// Appends a record. `namespaces` has the names of the namespaces; the name of nlringd's own is empty.
    pub fn push(&mut self, record: &Record, namespaces: &[String]) {
        self.time.push(Some(record.time));
        let name = namespaces.get(usize::from(record.namespace));
        let name = name.filter(|name| !name.is_empty());
        self.netns
            .push_as(name.map(|_| record.namespace), |_, text| {
                text.push_str(name.map_or("", String::as_str));
            });
        let (flow, route, loss) = match &record.body {
            Body::Flow(flow) | Body::Open(flow) | Body::Event(flow) => (Some(flow), None, None),
            Body::Route(route) => (None, Some(&**route), None),
            Body::Loss(loss) => (None, None, Some(loss)),
            Body::Mark | Body::MarkBeforeRepair | Body::End => (None, None, None),
        };
        self.record.push_word(Some(record.body.kind()));
        self.push_tuples(flow);
        self.event.push_word(match record.body {
            Body::End => Some(END),
            Body::MarkBeforeRepair => Some(REPAIR),
            _ => flow
                .map(|flow| event_name(flow.kind))
                .or(route.map(|route| route.kind.name())),
        });
        self.push_rest_of_flow(flow);
        // The flow of a flow record has ended. Its id no longer identifies anything, and would take a sixth of the
        // record.
        let is_event = matches!(record.body, Body::Event(_));
        self.id
            .append_option(flow.filter(|_| is_event).and_then(|flow| flow.id));
        self.push_interval(record.time, flow, route, loss);
        self.push_route(route);
    }

    fn push_tuples(&mut self, flow: Option<&FlowBody>) {
        let orig = flow.map(|flow| &flow.orig);
        self.proto.push_as(
            orig.map(|orig| orig.protocol),
            |protocol, text| match protocol_name(protocol) {
                Some(name) => text.push_str(name),
                None => _ = write!(text, "{protocol}"),
            },
        );
        self.orig_src.push_address(orig.map(|orig| orig.src));
        self.orig_dst.push_address(orig.map(|orig| orig.dst));
        let (sport, dport) = orig.and_then(Tuple::ports).unzip();
        self.orig_sport.append_option(sport);
        self.orig_dport.append_option(dport);
        let icmp = orig.and_then(|orig| match orig.layer4 {
            Layer4::Icmp {
                icmp_type,
                code,
                id,
            } => Some((icmp_type, code, id)),
            _ => None,
        });
        self.orig_type
            .append_option(icmp.map(|(icmp_type, ..)| icmp_type));
        self.orig_code.append_option(icmp.map(|(_, code, _)| code));
        self.orig_id.append_option(icmp.map(|(.., id)| id));
        let nat = flow.and_then(|flow| flow.nat);
        let address = |endpoint: Option<Endpoint>| endpoint.map(|endpoint| endpoint.address);
        let port = |endpoint: Option<Endpoint>| endpoint.and_then(|endpoint| endpoint.port);
        let (src, dst) = (nat.and_then(|nat| nat.src), nat.and_then(|nat| nat.dst));
        self.nat_src.push_address(address(src));
        self.nat_sport.append_option(port(src));
        self.nat_dst.push_address(address(dst));
        self.nat_dport.append_option(port(dst));
    }

    fn push_rest_of_flow(&mut self, flow: Option<&FlowBody>) {
        let (orig, reply) = (
            flow.and_then(|flow| flow.counters_orig),
            flow.and_then(|flow| flow.counters_reply),
        );
        self.orig_packets
            .append_option(orig.map(|orig| orig.packets));
        self.orig_bytes.append_option(orig.map(|orig| orig.bytes));
        self.reply_packets
            .append_option(reply.map(|reply| reply.packets));
        self.reply_bytes
            .append_option(reply.map(|reply| reply.bytes));
        self.state.push_as(
            flow.and_then(|flow| flow.state),
            |state, text| match state.name() {
                Some(name) => text.push_str(name),
                None => _ = write!(text, "{}", state.number()),
            },
        );
        self.status.append_option(flow.and_then(|flow| flow.status));
        self.timeout
            .append_option(flow.and_then(|flow| flow.timeout_seconds));
        self.mark.append_option(flow.and_then(|flow| flow.mark));
        let zone = flow.and_then(|flow| flow.zone);
        self.zone.append_option(zone.map(|zone| zone.id));
        self.zone_direction
            .push_word(zone.and_then(|zone| match zone.direction {
                ZoneDirection::Both => None,
                ZoneDirection::Orig => Some("orig"),
                ZoneDirection::Reply => Some("reply"),
            }));
        self.start.push(flow.and_then(|flow| flow.start));
        self.observed_start
            .push(flow.and_then(|flow| flow.observed_start));
        self.stop.push(flow.and_then(|flow| flow.stop));
        let details = flow.and_then(|flow| flow.details.as_deref());
        let helper = details.and_then(|details| details.helper.clone());
        self.helper.push_as(helper, |helper, text| {
            text.push_str(&String::from_utf8_lossy(&helper));
        });
        let labels = details.and_then(|details| details.labels.clone());
        self.labels.push_as(labels, |labels, text| {
            text.push_str("0x");
            for byte in labels.iter().rev() {
                _ = write!(text, "{byte:02x}");
            }
        });
    }

    fn push_interval(
        &mut self,
        time: Timestamp,
        flow: Option<&FlowBody>,
        route: Option<&RouteBody>,
        loss: Option<&LossBody>,
    ) {
        let ended_between = flow.and_then(|flow| flow.ended_between);
        let is_resynced = flow.map(|_| ended_between.is_some());
        let found = route.filter(|route| route.is_resynced);
        self.resynced
            .push(is_resynced.or(route.map(|route| route.is_resynced)));
        self.reason.push_word(loss.map(|loss| loss.reason.name()));
        self.count.append_option(loss.and_then(|loss| loss.count));
        let (since, until) = loss
            .map(|loss| (loss.since, loss.until))
            .or(ended_between)
            .unzip();
        self.since
            .push(since.or(found.and_then(|route| route.since)));
        self.until.push(until.or(found.map(|_| time)));
        let subject = loss.and_then(|loss| loss.subject);
        self.subject.push_word(subject.map(Subject::name));
    }

    fn push_route(&mut self, route: Option<&RouteBody>) {
        self.route_dst.push_text(route.map(|route| &route.dst));
        self.route.push(route.map(|route| route.json.as_str()));
    }

    /// Takes the records so far.
    pub fn take(&mut self) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            self.record.finish(),
            self.time.finish(),
            self.netns.finish(),
            self.event.finish(),
            self.proto.finish(),
            self.orig_src.finish(),
            self.orig_dst.finish(),
            Arc::new(self.orig_sport.finish()),
            Arc::new(self.orig_dport.finish()),
            Arc::new(self.orig_type.finish()),
            Arc::new(self.orig_code.finish()),
            Arc::new(self.orig_id.finish()),
            Arc::new(self.orig_packets.finish()),
            Arc::new(self.orig_bytes.finish()),
            Arc::new(self.reply_packets.finish()),
            Arc::new(self.reply_bytes.finish()),
            self.nat_src.finish(),
            Arc::new(self.nat_sport.finish()),
            self.nat_dst.finish(),
            Arc::new(self.nat_dport.finish()),
            self.state.finish(),
            Arc::new(self.status.finish()),
            Arc::new(self.timeout.finish()),
            Arc::new(self.mark.finish()),
            Arc::new(self.zone.finish()),
            self.zone_direction.finish(),
            Arc::new(self.id.finish()),
            self.start.finish(),
            self.observed_start.finish(),
            self.stop.finish(),
            self.helper.finish(),
            self.labels.finish(),
            self.resynced.finish(),
            self.reason.finish(),
            Arc::new(self.count.finish()),
            self.since.finish(),
            self.until.finish(),
            self.subject.finish(),
            self.route_dst.finish(),
            self.route.finish(),
        ];
        RecordBatch::try_new(SCHEMA.clone(), columns).expect("each column has each record")
    }
}

/// A column of numbers. Neighbours without a number are appended together, because most columns are mostly empty.
struct Numbers<T: ArrowPrimitiveType> {
    numbers: PrimitiveBuilder<T>,
    nulls: usize,
}

impl<T: ArrowPrimitiveType> Default for Numbers<T> {
    fn default() -> Self {
        Self {
            numbers: PrimitiveBuilder::new(),
            nulls: 0,
        }
    }
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    fn append_option(&mut self, number: Option<T::Native>) {
        match number {
            Some(number) => {
                self.append_nulls();
                self.numbers.append_value(number);
            }
            None => self.nulls += 1,
        }
    }

    fn append_nulls(&mut self) {
        if self.nulls > 0 {
            self.numbers.append_nulls(self.nulls);
            self.nulls = 0;
        }
    }

    fn finish(&mut self) -> PrimitiveArray<T> {
        self.append_nulls();
        self.numbers.finish()
    }
}

/// A column of instants.
#[derive(Default)]
struct Instants(Numbers<TimestampNanosecondType>);

impl Instants {
    fn push(&mut self, instant: Option<Timestamp>) {
        // Instants beyond the year 2262 do not fit into Arrow's type.
        let ns = instant.map(|instant| i64::try_from(instant.as_ns()).unwrap_or(i64::MAX));
        self.0.append_option(ns);
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.0.finish().with_timezone("UTC"))
    }
}

fn event_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::New => "new",
        EventKind::Update => "update",
        EventKind::Delete => "destroy",
        EventKind::Entry => "entry",
    }
}

/// A column of booleans.
#[derive(Default)]
struct Flags(BooleanBuilder);

impl Flags {
    fn push(&mut self, flag: Option<bool>) {
        self.0.append_option(flag);
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

/// A column of texts that rarely repeat.
#[derive(Default)]
struct Texts {
    texts: StringBuilder,
    nulls: usize,
}

impl Texts {
    fn push(&mut self, text: Option<&str>) {
        match text {
            Some(text) => {
                self.append_nulls();
                self.texts.append_value(text);
            }
            None => self.nulls += 1,
        }
    }

    fn append_nulls(&mut self) {
        self.texts.append_nulls(std::mem::take(&mut self.nulls));
    }

    fn finish(&mut self) -> ArrayRef {
        self.append_nulls();
        Arc::new(self.texts.finish())
    }
}

/// A column of texts, each of which is stored once. `K` is the value from which a text is made.
struct Words<K> {
    places: Numbers<Int32Type>,
    texts: StringBuilder,
    known: AHashMap<K, i32>,
    /// The last key pushed, and its place: the next one is often the same.
    last: Option<(K, i32)>,
    text: String,
}

impl<K> Default for Words<K> {
    fn default() -> Self {
        Self {
            places: Numbers::default(),
            texts: StringBuilder::new(),
            known: AHashMap::new(),
            last: None,
            text: String::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Words<K> {
    fn push_as(&mut self, key: Option<K>, write: impl FnOnce(K, &mut String)) {
        let place = key.map(|key| match &self.last {
            Some((last, place)) if *last == key => *place,
            _ => {
                let place = self.place(&key, write);
                self.last = Some((key, place));
                place
            }
        });
        self.places.append_option(place);
    }

    fn place(&mut self, key: &K, write: impl FnOnce(K, &mut String)) -> i32 {
        if let Some(place) = self.known.get(key) {
            return *place;
        }
        self.text.clear();
        write(key.clone(), &mut self.text);
        self.texts.append_value(&self.text);
        let place = i32::try_from(self.known.len()).expect("a batch has few records");
        self.known.insert(key.clone(), place);
        place
    }

    fn finish(&mut self) -> ArrayRef {
        self.known.clear();
        self.last = None;
        let texts = Arc::new(self.texts.finish());
        let column = DictionaryArray::try_new(self.places.finish(), texts);
        Arc::new(column.expect("each place has a text"))
    }
}

impl Words<&'static str> {
    fn push_word(&mut self, word: Option<&'static str>) {
        self.push_as(word, |word, text| text.push_str(word));
    }
}

impl Words<String> {
    fn push_text(&mut self, text: Option<&String>) {
        self.push_as(text.cloned(), |word, text| text.push_str(&word));
    }
}

impl Words<IpAddr> {
    fn push_address(&mut self, address: Option<IpAddr>) {
        self.push_as(address, |address, text| _ = write!(text, "{address}"));
    }
}
