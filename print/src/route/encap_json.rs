//! The encapsulation of a route as a JSON object. The module `text::encap` names the kernel's headers.

use std::net::{IpAddr, Ipv6Addr};

use nlring::route::{Address, encap};
use nlring::{Attribute, Attributes, Family};

use super::device_names::DeviceNames;
use super::iproute_names::IprouteNames;
use super::text::encap::{
    CSUM_MODES, HOOK_TYPES, IDENT_TYPES, IOAM6_MODES, SEG6_FLAVORS, SEG6_MODES, TUNNEL_FLAGS,
    seg6_action_name,
};
use crate::json::{Keys, close, hex, ip, name, number, optional, word, word_or_number};
use crate::text::{write_decimal, write_hex};

/// Appends the object `encap_fields`. Fields that this crate does not know are in hexadecimal.
pub fn write(
    out: &mut Vec<u8>,
    encap_type: u16,
    attributes: Attributes<'_>,
    devices: &DeviceNames,
    names: &IprouteNames,
) {
    out.extend_from_slice(br#""encap_fields":{"#);
    let mut fields = Fields {
        out,
        attributes,
        devices,
        names,
    };
    match encap_type {
        encap::MPLS => fields.mpls(),
        encap::IP => fields.tunnel(Family::INET),
        encap::IP6 => fields.tunnel(Family::INET6),
        encap::ILA => fields.ila(),
        encap::SEG6 => fields.seg6(),
        encap::SEG6_LOCAL => fields.seg6_local(),
        encap::RPL => fields.rpl(),
        encap::IOAM6 => fields.ioam6(),
        encap::BPF => fields.bpf(),
        encap::XFRM => fields.xfrm(),
        _ => fields.unknown(),
    }
    close(fields.out, b'}');
}

/// The fields of an encapsulation, which are appended from its attributes.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    attributes: Attributes<'a>,
    devices: &'a DeviceNames,
    names: &'a IprouteNames,
}

impl<'a> Fields<'a> {
    fn get(&self, attribute_type: u16) -> Option<Attribute<'a>> {
        self.attributes.get(attribute_type)
    }

    fn byte(&mut self, key: &str, attribute_type: u16) {
        let byte = self.get(attribute_type).and_then(|byte| byte.as_u8());
        optional(self.out, key, byte);
    }

    fn number(&mut self, key: &str, attribute_type: u16) {
        let value = self.get(attribute_type).and_then(|value| value.as_u32());
        optional(self.out, key, value);
    }

    fn address(&mut self, key: &str, family: Family, attribute_type: u16) {
        let attribute = self.get(attribute_type);
        let address = attribute.and_then(|value| Address::new(family, value.bytes()).ip());
        if let Some(address) = address {
            ip(self.out, key, address);
        }
    }

    /// Appends one of several words by the number in an attribute of one byte.
    fn word(&mut self, key: &str, attribute_type: u16, words: &[&'static str]) {
        if let Some(value) = self.get(attribute_type).and_then(|value| value.as_u8()) {
            let known = words.get(usize::from(value)).copied();
            word_or_number(self.out, key, known, value.into());
        }
    }

    fn mpls(&mut self) {
        if let Some(labels) = self.get(1)
            && let Address::Mpls(labels) = Address::new(Family::MPLS, labels.bytes())
        {
            self.out.extend_from_slice(br#""labels":["#);
            labels.for_each(|label| number(self.out, "", label));
            close(self.out, b']');
        }
        self.byte(r#""ttl":"#, 2);
    }

    fn tunnel(&mut self, family: Family) {
        let id = self.get(1).and_then(|id| id.as_be64());
        optional(self.out, r#""id":"#, id);
        self.address(r#""src":"#, family, 3);
        self.address(r#""dst":"#, family, 2);
        self.byte(r#""ttl":"#, 4);
        self.byte(r#""tos":"#, 5);
        let flags = self.get(6).and_then(|flags| flags.as_be16()).unwrap_or(0);
        if flags != 0 {
            self.out.extend_from_slice(br#""flags":["#);
            for (_, known) in TUNNEL_FLAGS.iter().filter(|(bit, _)| flags & bit != 0) {
                word(self.out, "", known);
            }
            close(self.out, b']');
        }
        if let Some(options) = self.get(8) {
            self.bytes(r#""options_hex":"#, options.bytes());
        }
    }

    fn ila(&mut self) {
        if let Some(locator) = self.get(1).and_then(|locator| locator.as_be64()) {
            self.out.extend_from_slice(br#""locator":""#);
            for (index, shift) in [48, 32, 16, 0].into_iter().enumerate() {
                self.out
                    .extend_from_slice(if index == 0 { b"" } else { b":" });
                write_hex(self.out, locator >> shift & 0xffff);
            }
            self.out.extend_from_slice(b"\",");
        }
        self.word(r#""csum_mode":"#, 7, CSUM_MODES);
        self.word(r#""ident_type":"#, 8, IDENT_TYPES);
        self.word(r#""hook_type":"#, 9, HOOK_TYPES);
    }

    fn seg6(&mut self) {
        let info = self.get(1);
        if let Some((mode, header)) = info.and_then(|info| info.bytes().split_first_chunk()) {
            let mode = u32::from_ne_bytes(*mode);
            let known = SEG6_MODES.get(mode as usize).copied();
            word_or_number(self.out, r#""mode":"#, known, mode);
            self.segment_header(header);
        }
    }

    fn segment_header(&mut self, header: &[u8]) {
        let Some((fixed, segments)) = header.split_first_chunk::<8>() else {
            return;
        };
        let [_, header_length, _, _, first_segment, flags, _, _] = *fixed;
        self.segments(usize::from(first_segment) + 1, segments);
        // The header ends in 40 bytes for the HMAC. Its key ID begins at the fifth of them.
        let key_id = ((usize::from(header_length) + 1) * 8).saturating_sub(36);
        if flags & 0x08 != 0
            && let Some(key_id) = header.get(key_id..).and_then(|bytes| bytes.first_chunk())
        {
            number(self.out, r#""hmac_key_id":"#, u32::from_be_bytes(*key_id));
        }
    }

    /// Appends IPv6 addresses, in the order in which packets visit them: the last one first.
    fn segments(&mut self, count: usize, segments: &[u8]) {
        self.out.extend_from_slice(br#""segments":["#);
        let (segments, _) = segments.as_chunks::<16>();
        let end = count.min(segments.len());
        for segment in segments[..end].iter().rev() {
            ip(self.out, "", IpAddr::from(Ipv6Addr::from(*segment)));
        }
        close(self.out, b']');
    }

    fn seg6_local(&mut self) {
        if let Some(action) = self.get(1).and_then(|action| action.as_u32()) {
            let known = seg6_action_name(action);
            let known = (!known.starts_with('<')).then_some(known);
            word_or_number(self.out, r#""action":"#, known, action);
        }
        if let Some(header) = self.get(2) {
            self.segment_header(header.bytes());
        }
        self.table([r#""table":"#, r#""table_name":"#], 3);
        self.table([r#""vrf_table":"#, r#""vrf_table_name":"#], 9);
        self.address(r#""nh4":"#, Family::INET, 4);
        self.address(r#""nh6":"#, Family::INET6, 5);
        self.device([r#""iif":"#, r#""iif_name":"#], 6);
        self.device([r#""oif":"#, r#""dev":"#], 7);
        self.program(r#""endpoint":"#, 8);
        if let Some(flavors) = self.get(11) {
            self.flavors(flavors.nested());
        }
    }

    fn table(&mut self, [key, name_key]: [&str; 2], attribute_type: u16) {
        self.number(key, attribute_type);
        if let Some(id) = self.get(attribute_type).and_then(|id| id.as_u32()) {
            self.names.tables.write_field(self.out, name_key, id);
        }
    }

    fn device(&mut self, [key, name_key]: [&str; 2], attribute_type: u16) {
        self.number(key, attribute_type);
        let index = self.get(attribute_type).and_then(|index| index.as_u32());
        if let Some(device) = index.and_then(|index| self.devices.get(index)) {
            name(self.out, name_key, device);
        }
    }

    fn flavors(&mut self, attributes: Attributes<'_>) {
        if let Some(flavors) = attributes.get(1).and_then(|flavors| flavors.as_u32()) {
            self.out.extend_from_slice(br#""flavors":["#);
            for (number, known) in SEG6_FLAVORS {
                if flavors & (1 << number) != 0 {
                    word(self.out, "", known);
                }
            }
            close(self.out, b']');
        }
        let byte = |attribute_type| attributes.get(attribute_type)?.as_u8();
        optional(self.out, r#""lblen":"#, byte(2));
        optional(self.out, r#""nflen":"#, byte(3));
    }

    fn rpl(&mut self) {
        let header = self.get(1);
        let header = header.and_then(|header| header.bytes().split_first_chunk::<8>());
        if let Some(([_, _, _, segments_left, ..], segments)) = header {
            self.segments(usize::from(*segments_left), segments);
        }
    }

    fn ioam6(&mut self) {
        self.word(r#""mode":"#, 1, IOAM6_MODES);
        self.address(r#""tunnel_dst":"#, Family::INET6, 2);
        self.number(r#""frequency_packets":"#, 4);
        self.number(r#""frequency_of":"#, 5);
        let trace = self.get(3);
        if let Some(&[ns_high, ns_low, _, left, kinds @ ..]) =
            trace.and_then(|trace| trace.bytes().first_chunk::<8>())
        {
            let kinds = u32::from_be_bytes(kinds) >> 8;
            hex(self.out, r#""trace_type":"#, kinds.into());
            number(
                self.out,
                r#""namespace":"#,
                u16::from_be_bytes([ns_high, ns_low]),
            );
            number(self.out, r#""trace_bytes":"#, u16::from(left & 0x7f) * 4);
        }
    }

    fn bpf(&mut self) {
        self.program(r#""in":"#, 1);
        self.program(r#""out":"#, 2);
        self.program(r#""xmit":"#, 3);
        self.number(r#""headroom":"#, 4);
    }

    /// Appends the name of a BPF program.
    fn program(&mut self, key: &str, attribute_type: u16) {
        let program = self.get(attribute_type);
        if let Some(program) = program.and_then(|program| program.nested().get(2)) {
            name(self.out, key, program.as_str_bytes());
        }
    }

    fn xfrm(&mut self) {
        self.number(r#""if_id":"#, 1);
        self.device([r#""link_index":"#, r#""link_name":"#], 2);
    }

    /// Appends each attribute in hexadecimal, by its number.
    fn unknown(&mut self) {
        let mut keys = Keys::new();
        let first =
            { self.attributes }.filter(|attribute| keys.is_first(attribute.attribute_type()));
        for attribute in first {
            self.out.push(b'"');
            write_decimal(self.out, attribute.attribute_type());
            self.bytes("\":", attribute.bytes());
        }
    }

    fn bytes(&mut self, key: &str, bytes: &[u8]) {
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b'"');
        for byte in bytes {
            write_hex(self.out, u64::from(byte >> 4));
            write_hex(self.out, u64::from(byte & 15));
        }
        self.out.extend_from_slice(b"\",");
    }
}
