//! Flows, as libnetfilter_conntrack decodes them.

use std::ffi::{c_int, c_uint, c_void};
use std::net::IpAddr;

use nlring::conntrack::{Counters, Flow, Layer4, ProtocolState, Tuple, ZoneDirection};
use nlring::{Attributes, MessageList};

use crate::Comparison;
use crate::kinds::Kind::{Any, Name, Nest, Size};
use crate::kinds::{self, ROOT};
use crate::mnl::aligned;

#[link(name = "netfilter_conntrack")]
unsafe extern "C" {
    fn nfct_new() -> *mut c_void;
    fn nfct_destroy(flow: *mut c_void);
    fn nfct_nlmsg_parse(message: *const c_void, flow: *mut c_void) -> c_int;
    fn nfct_attr_is_set(flow: *const c_void, attribute: c_uint) -> c_int;
    fn nfct_get_attr(flow: *const c_void, attribute: c_uint) -> *const c_void;
}

/// A flow of the library, which is freed when this is dropped.
struct Theirs(*mut c_void);

impl Drop for Theirs {
    fn drop(&mut self) {
        // SAFETY: it is from `nfct_new`, and freed once.
        unsafe { nfct_destroy(self.0) };
    }
}

impl Theirs {
    /// `None`: the library refuses the message.
    fn parse(message: &[u8]) -> Option<Self> {
        let words = aligned(message);
        // SAFETY: the call has no conditions.
        let this = Self(unsafe { nfct_new() });
        assert!(!this.0.is_null(), "memory");
        // SAFETY: `words` holds a message whose length fits, with 64 more bytes, and the flow is new.
        let result = unsafe { nfct_nlmsg_parse(words.as_ptr().cast(), this.0) };
        (result == 0).then_some(this)
    }

    /// The value of an attribute with this size. `None`: it is not set.
    fn get<const N: usize>(&self, attribute: c_uint) -> Option<[u8; N]> {
        // SAFETY: the flow lives, and the attribute is one that the library has.
        if unsafe { nfct_attr_is_set(self.0, attribute) } <= 0 {
            return None;
        }
        // SAFETY: the attribute is set, so this points to its value, whose size the header of the library states.
        let value = unsafe {
            nfct_get_attr(self.0, attribute)
                .cast::<[u8; N]>()
                .read_unaligned()
        };
        Some(value)
    }

    fn u8(&self, attribute: c_uint) -> Option<u64> {
        self.get::<1>(attribute).map(|[value]| value.into())
    }

    fn u16(&self, attribute: c_uint) -> Option<u64> {
        self.get(attribute)
            .map(|value| u16::from_ne_bytes(value).into())
    }

    fn be16(&self, attribute: c_uint) -> Option<u64> {
        self.get(attribute)
            .map(|value| u16::from_be_bytes(value).into())
    }

    fn u32(&self, attribute: c_uint) -> Option<u64> {
        self.get(attribute)
            .map(|value| u32::from_ne_bytes(value).into())
    }

    fn u64(&self, attribute: c_uint) -> Option<u64> {
        self.get(attribute).map(u64::from_ne_bytes)
    }

    fn ip(&self, ipv4: c_uint, ipv6: c_uint) -> Option<IpAddr> {
        let ipv4 = self.get::<4>(ipv4).map(IpAddr::from);
        ipv4.or(self.get::<16>(ipv6).map(IpAddr::from))
    }
}

pub fn compare(bytes: &[u8]) -> Comparison {
    let list = MessageList::new(bytes);
    let Some(message) = list.iter().next() else {
        return Comparison::Intended("there is no message");
    };
    if let Some(reason) = damage(message.attributes(4), &ROOT) {
        return Comparison::Intended(reason);
    }
    let (ours, theirs) = (Flow::decode(&message), Theirs::parse(message.bytes()));
    let Some(ours) = ours else {
        return Comparison::Intended("a message without an original tuple is no flow");
    };
    if !has_addresses_of(&message.payload()[0..1], &ours) {
        return Comparison::Intended("the addresses are not of the family in the message");
    }
    let Some(theirs) = theirs else {
        return Comparison::Different(format!("the library refuses {ours:?}"));
    };
    let fields = fields(&ours, &theirs);
    match fields.into_iter().find(|(_, ours, theirs)| ours != theirs) {
        None if addresses_of(&ours) == addresses(&theirs, ours.reply.is_some()) => {
            Comparison::Equal
        }
        None => Comparison::Different(format!("addresses {ours:#?}")),
        Some((name, one, other)) => {
            Comparison::Different(format!("{name}: {one:?} and {other:?}\n{ours:#?}"))
        }
    }
}

fn has_addresses_of(family: &[u8], flow: &Flow<'_>) -> bool {
    let is_of = |tuple: &Tuple| match family {
        [2] => tuple.src.is_ipv4() && tuple.dst.is_ipv4(),
        [10] => tuple.src.is_ipv6() && tuple.dst.is_ipv6(),
        _ => false,
    };
    is_of(&flow.orig) && flow.reply.as_ref().is_none_or(is_of)
}

fn addresses_of(flow: &Flow<'_>) -> [Option<IpAddr>; 4] {
    let reply = flow.reply;
    [
        Some(flow.orig.src),
        Some(flow.orig.dst),
        reply.map(|reply| reply.src),
        reply.map(|reply| reply.dst),
    ]
}

fn addresses(theirs: &Theirs, has_reply: bool) -> [Option<IpAddr>; 4] {
    let reply = |ipv4, ipv6| theirs.ip(ipv4, ipv6).filter(|_| has_reply);
    [theirs.ip(0, 4), theirs.ip(1, 5), reply(2, 6), reply(3, 7)]
}

type Field = (&'static str, Option<u64>, Option<u64>);

/// The numbers of the attributes are those of enum nf_conntrack_attr in libnetfilter_conntrack.h.
fn fields(ours: &Flow<'_>, theirs: &Theirs) -> Vec<Field> {
    let number = |value: Option<u32>| value.map(u64::from);
    let packets = |counters: Option<Counters>| counters.map(|counters| counters.packets);
    let byte_count = |counters: Option<Counters>| counters.map(|counters| counters.bytes);
    let zone = |direction| {
        let zone = ours.zone.filter(|zone| zone.direction == direction);
        zone.map(|zone| u64::from(zone.id))
    };
    let state = |of: fn(ProtocolState) -> Option<u8>| ours.state.and_then(of).map(u64::from);
    let mut fields = vec![
        ("id", number(ours.id), theirs.u32(31)),
        ("status", number(ours.status), theirs.u32(32)),
        ("timeout", number(ours.timeout_seconds), theirs.u32(24)),
        ("mark", number(ours.mark), theirs.u32(25)),
        ("use", number(ours.use_count), theirs.u32(30)),
        ("secmark", number(ours.secmark), theirs.u32(45)),
        ("packets", packets(ours.counters_orig), theirs.u64(26)),
        ("bytes", byte_count(ours.counters_orig), theirs.u64(28)),
        (
            "reply packets",
            packets(ours.counters_reply),
            theirs.u64(27),
        ),
        (
            "reply bytes",
            byte_count(ours.counters_reply),
            theirs.u64(29),
        ),
        (
            "start",
            ours.start.map(|start| start.as_ns()),
            theirs.u64(63),
        ),
        ("stop", ours.stop.map(|stop| stop.as_ns()), theirs.u64(64)),
        (
            "TCP state",
            state(|state| match state {
                ProtocolState::Tcp(state) => Some(state),
                _ => None,
            }),
            theirs.u8(19),
        ),
        (
            "SCTP state",
            state(|state| match state {
                ProtocolState::Sctp(state) => Some(state),
                _ => None,
            }),
            theirs.u8(52),
        ),
        ("protocol", Some(ours.orig.protocol.into()), theirs.u8(17)),
    ];
    let zones = [
        ZoneDirection::Both,
        ZoneDirection::Orig,
        ZoneDirection::Reply,
    ]
    .map(zone);
    let theirs_zones = [theirs.u16(61), theirs.u16(68), theirs.u16(69)];
    if theirs_zones.iter().flatten().count() <= 1 {
        // No kernel sends more than one.
        let names = [
            "zone",
            "zone of the original direction",
            "zone of the reply",
        ];
        fields.extend((0..3).map(|index| (names[index], zones[index], theirs_zones[index])));
    }
    match ours.orig.layer4 {
        Layer4::Ports { src, dst } => {
            fields.push(("source port", Some(src.into()), theirs.be16(8)));
            fields.push(("destination port", Some(dst.into()), theirs.be16(9)));
        }
        Layer4::Icmp {
            icmp_type,
            code,
            id,
        } => {
            fields.push(("ICMP type", Some(icmp_type.into()), theirs.u8(12)));
            fields.push(("ICMP code", Some(code.into()), theirs.u8(13)));
            fields.push(("ICMP id", Some(id.into()), theirs.be16(14)));
        }
        _ => {}
    }
    fields
}

/// What no kernel sends, and what the two therefore read each in their own way. The library refuses a message with a
/// number of a wrong size, or reads other bytes; here the number is absent, and the rest of the message counts.
fn damage(mut attributes: Attributes<'_>, known: &kinds::Attributes) -> Option<&'static str> {
    let mut seen = Vec::new();
    for attribute in attributes.by_ref() {
        let (attribute_type, bytes) = (attribute.attribute_type(), attribute.bytes());
        let is_other = |&(number, value)| number == attribute_type && value != bytes;
        if seen.iter().any(is_other) {
            return Some("an attribute is there twice, with different values");
        }
        seen.push((attribute_type, bytes));
        match known.kind(attribute_type) {
            None => return Some("an attribute that no event has, or that is not compared"),
            Some(Size(size)) if bytes.len() != *size => {
                return Some("a number has another size than its type");
            }
            Some(Name) if bytes.len() > 16 || bytes.last() != Some(&0) => {
                return Some("a name does not end");
            }
            Some(Nest(_)) if (1..4).contains(&bytes.len()) => {
                return Some("the length of an attribute is wrong");
            }
            Some(Nest(inner)) => {
                if let Some(reason) = damage(attribute.nested(), inner) {
                    return Some(reason);
                }
            }
            Some(Size(_) | Name | Any) => {}
        }
    }
    if attributes.is_malformed() {
        return Some("the length of an attribute is wrong");
    }
    let has = |number: &u16| seen.iter().any(|(other, _)| other == number);
    let is_seen =
        |set: &&[u16]| set.iter().all(has) && seen.iter().all(|(number, _)| set.contains(number));
    (!known.sets.is_empty() && !known.sets.iter().any(is_seen))
        .then_some("of addresses, ports, counters or states a part is missing, or there are two")
}
