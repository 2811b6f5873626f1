//! The encapsulation of a route (light-weight tunnels), as ip (iproute2 6.1) prints it.
//!
//! The numbers are those of include/uapi/linux: `LWTUNNEL_*` (lwtunnel.h), `MPLS_IPTUNNEL_*`, `ILA_*`, `SEG6_*`,
//! `RPL_IPTUNNEL_*`, `IOAM6_IPTUNNEL_*`, `LWT_BPF_*`, `LWT_XFRM_*`.

use std::io::Write as _;
use std::net::Ipv6Addr;

use nlring::Family;
use nlring::route::{Address, encap};
use nlring::{Attribute, Attributes};

use super::Line;
use crate::text::{write_escaped, write_hex, write_ip};

impl Line<'_> {
    /// Appends the encapsulation's type and attributes.
    pub(crate) fn encap(&mut self, encap_type: Option<u16>, attributes: Attributes<'_>) {
        let Some(encap_type) = encap_type else {
            return;
        };
        self.text(" encap ");
        self.text(match encap_type {
            encap::MPLS => "mpls ",
            encap::IP => "ip ",
            encap::ILA => "ila ",
            encap::IP6 => "ip6 ",
            encap::SEG6 => "seg6 ",
            encap::BPF => "bpf ",
            encap::SEG6_LOCAL => "seg6local ",
            encap::RPL => "rpl ",
            encap::IOAM6 => "ioam6 ",
            encap::XFRM => "xfrm ",
            _ => "unknown ",
        });
        match encap_type {
            encap::MPLS => self.mpls(attributes),
            encap::IP => self.tunnel(Family::INET, attributes),
            encap::ILA => self.ila(attributes),
            encap::IP6 => self.tunnel(Family::INET6, attributes),
            encap::SEG6 => self.seg6(attributes),
            encap::BPF => self.bpf(attributes),
            encap::SEG6_LOCAL => self.seg6_local(attributes),
            encap::RPL => self.rpl(attributes),
            encap::IOAM6 => {
                self.ioam6(attributes);
            }
            encap::XFRM => self.xfrm(attributes),
            _ => {}
        }
    }

    fn mpls(&mut self, attributes: Attributes<'_>) {
        self.encap_address(" ", Family::MPLS, attributes.get(1));
        self.encap_byte("ttl ", attributes.get(2));
    }

    fn encap_address(&mut self, label: &str, family: Family, attribute: Option<Attribute<'_>>) {
        if let Some(attribute) = attribute {
            self.text(label);
            self.address(family, &Address::new(family, attribute.bytes()));
            self.text(" ");
        }
    }

    fn encap_byte(&mut self, label: &str, attribute: Option<Attribute<'_>>) {
        if let Some(byte) = attribute.and_then(|byte| byte.as_u8()) {
            self.number(label, byte);
        }
    }

    /// `enum lwtunnel_ip_t` and `enum lwtunnel_ip6_t`. The time to live and the type of service have other names in
    /// IPv6.
    fn tunnel(&mut self, family: Family, attributes: Attributes<'_>) {
        if let Some(id) = attributes.get(1).and_then(|id| id.as_be64()) {
            self.number("id ", id);
        }
        self.encap_address("src ", family, attributes.get(3));
        self.encap_address("dst ", family, attributes.get(2));
        let [ttl, tos] = match family {
            Family::INET6 => ["hoplimit ", "tc "],
            _ => ["ttl ", "tos "],
        };
        self.encap_byte(ttl, attributes.get(4));
        self.encap_byte(tos, attributes.get(5));
        let flags = attributes.get(6).and_then(|flags| flags.as_u16());
        self.tunnel_flags(flags.unwrap_or(0));
        if let Some(options) = attributes.get(8) {
            self.tunnel_options(options.nested());
        }
    }

    /// `TUNNEL_KEY`, `TUNNEL_CSUM`, `TUNNEL_SEQ` (`include/uapi/linux/if_tunnel.h`): the numbers are in network byte
    /// order.
    fn tunnel_flags(&mut self, flags: u16) {
        for (bit, name) in TUNNEL_FLAGS {
            if u16::from_be(flags) & bit != 0 {
                self.text(name);
                self.text(" ");
            }
        }
    }

    /// The options of one kind of tunnel, on a separate line.
    fn tunnel_options(&mut self, options: Attributes<'_>) {
        if let Some(geneve) = options.get(1) {
            self.geneve(geneve.nested());
        } else if let Some(vxlan) = options.get(2) {
            if let Some(policy) = vxlan.nested().get(1).and_then(|policy| policy.as_u32()) {
                self.number("\n\tvxlan_opts ", policy);
            }
        } else if let Some(erspan) = options.get(3) {
            self.erspan(erspan.nested());
        }
    }

    /// Consecutive options, each with its class, type and data.
    fn geneve(&mut self, options: Attributes<'_>) {
        let (mut class, mut option_type) = (0, 0);
        let mut separator = "\n\tgeneve_opts ";
        for attribute in options {
            match attribute.attribute_type() {
                1 => class = attribute.as_be16().unwrap_or(0),
                2 => option_type = attribute.as_u8().unwrap_or(0),
                3 => {
                    let _ = write!(self.out, "{separator}{class}:{option_type}:"); // writing to a Vec cannot fail
                    for byte in attribute.bytes() {
                        let _ = write!(self.out, "{byte:02x}");
                    }
                    separator = ",";
                }
                _ => {}
            }
        }
        self.text(" ");
    }

    /// Version 1 has an index, version 2 a direction and a hardware ID.
    fn erspan(&mut self, options: Attributes<'_>) {
        let byte = |attribute_type| options.get(attribute_type)?.as_u8();
        let version = byte(1).unwrap_or(0);
        let (index, direction, hardware) = match version {
            1 => (options.get(2).and_then(|index| index.as_be32()), None, None),
            _ => (None, byte(3), byte(4)),
        };
        let index = index.unwrap_or(0);
        let (direction, hardware) = (direction.unwrap_or(0), hardware.unwrap_or(0));
        // Writing to a Vec cannot fail.
        let _ = write!(
            self.out,
            "\n\terspan_opts {version}:{index}:{direction}:{hardware} "
        );
    }

    fn ila(&mut self, attributes: Attributes<'_>) {
        if let Some(locator) = attributes.get(1).and_then(|locator| locator.as_be64()) {
            for (index, shift) in [48, 32, 16, 0].into_iter().enumerate() {
                self.text(if index == 0 { " " } else { ":" });
                write_hex(self.out, locator >> shift & 0xffff);
            }
            self.text(" ");
        }
        for (label, attribute_type, names) in [
            (" csum-mode ", 7, CSUM_MODES),
            (" ident-type ", 8, IDENT_TYPES),
            (" hook-type ", 9, HOOK_TYPES),
        ] {
            if let Some(value) = attributes
                .get(attribute_type)
                .and_then(|value| value.as_u8())
            {
                let name = match (attribute_type, value) {
                    (8, 32) => "use-format",
                    _ => names.get(usize::from(value)).copied().unwrap_or("unknown"),
                };
                self.text(label);
                self.text(name);
                self.text(" ");
            }
        }
    }

    fn seg6(&mut self, attributes: Attributes<'_>) {
        let info = attributes.get(1);
        let Some((mode, header)) = info.and_then(|info| info.bytes().split_first_chunk()) else {
            return;
        };
        let mode = SEG6_MODES.get(u32::from_ne_bytes(*mode) as usize);
        self.text("mode ");
        self.text(mode.unwrap_or(&"<unknown>"));
        self.text(" ");
        self.segment_header(header);
    }

    /// `struct ipv6_sr_hdr` (include/uapi/linux/seg6.h): 8 bytes, then the segments.
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
            let _ = write!(self.out, "hmac {:X} ", u32::from_be_bytes(*key_id)); // writing to a Vec cannot fail
        }
    }

    /// IPv6 addresses, the last one first.
    fn segments(&mut self, count: usize, segments: &[u8]) {
        self.number("segs ", count);
        self.text("[ ");
        let (segments, _) = segments.as_chunks::<16>();
        for segment in segments.iter().take(count).rev() {
            write_ip(self.out, Ipv6Addr::from(*segment).into());
            self.text(" ");
        }
        self.text("] ");
    }

    fn seg6_local(&mut self, attributes: Attributes<'_>) {
        let number = |attribute_type| attributes.get(attribute_type)?.as_u32();
        let Some(action) = number(1) else {
            return;
        };
        self.text("action ");
        self.text(seg6_action_name(action));
        self.text(" ");
        if let Some(header) = attributes.get(2) {
            self.segment_header(header.bytes());
        }
        for (label, attribute_type) in [("table ", 3), ("vrftable ", 9)] {
            if let Some(id) = number(attribute_type) {
                self.name(label, &self.names.tables, id);
            }
        }
        self.encap_address("nh4 ", Family::INET, attributes.get(4));
        self.encap_address("nh6 ", Family::INET6, attributes.get(5));
        for (label, attribute_type) in [("iif ", 6), ("oif ", 7)] {
            if let Some(index) = number(attribute_type) {
                self.device(label, index);
            }
        }
        if let Some(program) = attributes.get(8) {
            self.program("endpoint ", program);
        }
        if let Some(flavors) = attributes.get(11) {
            self.seg6_flavors(flavors.nested());
        }
    }

    /// `SEG6_LOCAL_FLV_*` (`include/uapi/linux/seg6_local.h`).
    fn seg6_flavors(&mut self, attributes: Attributes<'_>) {
        if let Some(flavors) = attributes.get(1).and_then(|flavors| flavors.as_u32()) {
            let mut separator = "flavors ";
            for (number, name) in SEG6_FLAVORS {
                if flavors & (1 << number) != 0 {
                    self.text(separator);
                    self.text(name);
                    separator = ",";
                }
            }
            self.text(if separator == "," { " " } else { "flavors  " });
        }
        self.encap_byte("lblen ", attributes.get(2));
        self.encap_byte("nflen ", attributes.get(3));
    }

    /// `struct ipv6_rpl_sr_hdr` (include/uapi/linux/rpl.h): 8 bytes, then the segments.
    fn rpl(&mut self, attributes: Attributes<'_>) {
        let header = attributes.get(1);
        let header = header.and_then(|header| header.bytes().split_first_chunk::<8>());
        if let Some(([_, _, _, segments_left, ..], segments)) = header {
            self.segments(usize::from(*segments_left), segments);
        }
    }

    /// None if an attribute is missing that ip needs to print anything.
    fn ioam6(&mut self, attributes: Attributes<'_>) -> Option<()> {
        const INLINE: u8 = 1;
        let number = |attribute_type| attributes.get(attribute_type)?.as_u32();
        let (mode, trace) = (attributes.get(1)?.as_u8()?, attributes.get(3)?);
        let (of, every) = (number(4)?, number(5)?);
        let _ = write!(self.out, "freq {of}/{every} "); // writing to a Vec cannot fail
        let dst = attributes.get(2).filter(|_| mode != INLINE);
        if dst.is_none() && mode != INLINE {
            return None;
        }
        self.text(match mode {
            INLINE => "mode inline ",
            2 => "mode encap ",
            3 => "mode auto ",
            _ => "mode <unknown> ",
        });
        self.encap_address("tundst ", Family::INET6, dst);
        // struct ioam6_trace_hdr (include/uapi/linux/ioam6.h)
        let &[ns_high, ns_low, _, left, kinds @ ..] = trace.bytes().first_chunk::<8>()?;
        let kinds = u32::from_be_bytes(kinds) >> 8;
        self.text("trace prealloc type ");
        let _ = match kinds {
            0 => write!(self.out, "00000000"), // C's %#08x
            _ => write!(self.out, "{kinds:#08x}"),
        };
        self.number(" ns ", u16::from_be_bytes([ns_high, ns_low]));
        self.number("size ", u16::from(left & 0x7f) * 4);
        Some(())
    }

    fn bpf(&mut self, attributes: Attributes<'_>) {
        for (label, attribute_type) in [("in ", 1), ("out ", 2), ("xmit ", 3)] {
            if let Some(program) = attributes.get(attribute_type) {
                self.program(label, program);
            }
        }
        if let Some(headroom) = attributes.get(4).and_then(|headroom| headroom.as_u32()) {
            self.number(" ", headroom);
        }
    }

    /// A BPF program, by its name.
    fn program(&mut self, label: &str, program: Attribute<'_>) {
        self.text(label);
        if let Some(name) = program.nested().get(2) {
            write_escaped(self.out, name.as_str_bytes());
            self.text(" ");
        }
    }

    fn xfrm(&mut self, attributes: Attributes<'_>) {
        if let Some(id) = attributes.get(1).and_then(|id| id.as_u32()) {
            self.number("if_id ", id);
        }
        if let Some(index) = attributes.get(2).and_then(|index| index.as_u32()) {
            self.device("link_dev ", index);
        }
    }
}

/// `TUNNEL_CSUM`, `TUNNEL_KEY`, `TUNNEL_SEQ` (`include/uapi/linux/if_tunnel.h`), in the order in which ip prints them.
pub(in crate::route) const TUNNEL_FLAGS: [(u16, &str); 3] =
    [(0x04, "key"), (0x01, "csum"), (0x08, "seq")];
/// `ILA_CSUM_*` (`include/uapi/linux/ila.h`).
pub(in crate::route) const CSUM_MODES: &[&str] = &[
    "adj-transport",
    "neutral-map",
    "no-action",
    "neutral-map-auto",
];
/// `ILA_ATYPE_*`.
pub(in crate::route) const IDENT_TYPES: &[&str] = &[
    "iid",
    "luid",
    "virt-v4",
    "virt-uni-v6",
    "virt-multi-v6",
    "nonlocal-addr",
];
/// `ILA_HOOK_ROUTE_*`.
pub(in crate::route) const HOOK_TYPES: &[&str] = &["output", "input"];
/// `SEG6_IPTUN_MODE_*` (`include/uapi/linux/seg6_iptunnel.h`).
pub(in crate::route) const SEG6_MODES: [&str; 5] =
    ["inline", "encap", "l2encap", "encap.red", "l2encap.red"];
/// `SEG6_LOCAL_FLV_OP_*` (`include/uapi/linux/seg6_local.h`).
pub(in crate::route) const SEG6_FLAVORS: [(u32, &str); 4] =
    [(1, "psp"), (2, "usp"), (3, "usd"), (4, "next-csid")];
/// `IOAM6_IPTUNNEL_MODE_*` (`include/uapi/linux/ioam6_iptunnel.h`).
pub(in crate::route) const IOAM6_MODES: &[&str] = &["none", "inline", "encap", "auto"];

/// `SEG6_LOCAL_ACTION_*` (`include/uapi/linux/seg6_local.h`).
pub(in crate::route) fn seg6_action_name(action: u32) -> &'static str {
    match action {
        1 => "End",
        2 => "End.X",
        3 => "End.T",
        4 => "End.DX2",
        5 => "End.DX6",
        6 => "End.DX4",
        7 => "End.DT6",
        8 => "End.DT4",
        9 => "End.B6",
        10 => "End.B6.Encaps",
        11 => "End.BM",
        12 => "End.S",
        13 => "End.AS",
        14 => "End.AM",
        15 => "End.BPF",
        16 => "End.DT46",
        0 => "<unknown>",
        _ => "<invalid>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::device_names::DeviceNames;
    use crate::route::iproute_names::IprouteNames;
    use crate::route::text::{TextOptions, write_line};
    use nlring::route::Route;
    use nlring::{MessageBuilder, MessageList, Timestamp};

    /// The encapsulation in the line of a default route.
    fn encap_text(
        encap_type: u16,
        fill: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
    ) -> String {
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, 24, 0)
            .bytes(&[2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]) // struct rtmsg
            .attribute(21, &encap_type.to_ne_bytes())
            .nested(22, fill)
            .finish()
            .unwrap();
        let options = TextOptions {
            names: IprouteNames::built_in(),
            timestamp: None,
        };
        let mut out = Vec::new();
        for message in &MessageList::new(&bytes) {
            let route = Route::decode(&message).unwrap();
            let (devices, received_at) = (DeviceNames::default(), Timestamp::UNIX_EPOCH);
            write_line(&mut out, &route, &devices, &options, received_at);
        }
        let line = String::from_utf8(out).unwrap();
        let text = line.strip_prefix("default  encap ").unwrap();
        text.strip_suffix('\n').unwrap().to_owned()
    }

    #[test]
    fn options_of_tunnels_have_a_line_of_their_own() {
        let geneve = encap_text(encap::IP, |tunnel| {
            tunnel.nested(8, |options| {
                options.nested(1, |geneve| {
                    let first = geneve.attribute_be16(1, 1).attribute_u8(2, 2);
                    let first = first.attribute(3, &[0, 0x11, 0x22, 0xff]);
                    let second = first.attribute_be16(1, 3).attribute_u8(2, 4);
                    second.attribute(3, &[5; 4])
                })
            })
        });
        assert_eq!(geneve, "ip \n\tgeneve_opts 1:2:001122ff,3:4:05050505 ");
        let vxlan = encap_text(encap::IP6, |tunnel| {
            tunnel.attribute_u8(4, 3).nested(8, |options| {
                options.nested(2, |vxlan| vxlan.attribute_u32(1, 65))
            })
        });
        assert_eq!(vxlan, "ip6 hoplimit 3 \n\tvxlan_opts 65 ");
        let erspan = |fill: fn(MessageBuilder<'_>) -> MessageBuilder<'_>| {
            encap_text(encap::IP, |tunnel| {
                tunnel.nested(8, |options| options.nested(3, fill))
            })
        };
        let first = erspan(|erspan| erspan.attribute_u8(1, 1).attribute_be32(2, 5));
        assert_eq!(first, "ip \n\terspan_opts 1:5:0:0 ");
        let second = erspan(|erspan| {
            let erspan = erspan.attribute_u8(1, 2);
            erspan.attribute_u8(3, 1).attribute_u8(4, 7)
        });
        assert_eq!(second, "ip \n\terspan_opts 2:0:1:7 ");
    }

    #[test]
    fn identifier_locator_addressing_is_printed_as_by_ip() {
        let text = encap_text(encap::ILA, |ila| {
            let ila = ila.attribute(1, &[0x20, 1, 0, 0, 0, 0, 0, 2]);
            let ila = ila.attribute_u8(7, 1).attribute_u8(8, 32);
            ila.attribute_u8(9, 9)
        });
        let want =
            "ila  2001:0:0:2  csum-mode neutral-map  ident-type use-format  hook-type unknown ";
        assert_eq!(text, want);
    }

    #[test]
    fn segments_of_rpl_and_flavors_of_seg6local_are_printed_as_by_ip() {
        let segment = |last: u8| Ipv6Addr::from(0xfd00 << 112 | u128::from(last)).octets();
        let header = [&[0, 4, 3, 2, 0, 0, 0, 0], &segment(1)[..], &segment(2)].concat();
        let rpl = encap_text(encap::RPL, |rpl| rpl.attribute(1, &header));
        assert_eq!(rpl, "rpl segs 2 [ fd00::2 fd00::1 ] ");
        let end = |flavors: u32| {
            encap_text(encap::SEG6_LOCAL, |local| {
                local.attribute_u32(1, 1).nested(11, |nested| {
                    let nested = nested.attribute_u32(1, flavors);
                    nested.attribute_u8(2, 32).attribute_u8(3, 16)
                })
            })
        };
        let want = "seg6local action End flavors psp,usd lblen 32 nflen 16 ";
        assert_eq!(end(1 << 1 | 1 << 3), want);
        assert!(end(0).contains(" flavors  lblen 32 "));
    }

    #[test]
    fn in_situ_measurement_is_printed_as_by_ip() {
        let trace = |kinds: u32| {
            let [_, a, b, c] = kinds.to_be_bytes();
            [0, 9, 0, 3, a, b, c, 0, 0, 0, 0, 0]
        };
        let text = |mode: u8, kinds: u32| {
            encap_text(encap::IOAM6, |ioam6| {
                let ioam6 = ioam6.attribute_u8(1, mode).attribute(2, &[0; 16]);
                let ioam6 = ioam6.attribute(3, &trace(kinds));
                ioam6.attribute_u32(4, 1).attribute_u32(5, 4)
            })
        };
        let tail = "trace prealloc type 0x000800 ns 9 size 12 ";
        let want = format!("ioam6 freq 1/4 mode inline {tail}");
        assert_eq!(text(1, 0x800), want);
        let want = format!("ioam6 freq 1/4 mode encap tundst :: {tail}");
        assert_eq!(text(2, 0x800), want);
        assert!(text(3, 0).contains(" type 00000000 ns "));
        assert_eq!(encap_text(encap::IOAM6, |ioam6| ioam6), "ioam6 ");
    }

    #[test]
    fn no_truncation_causes_a_panic() {
        for encap_type in 0..12 {
            for number in 1..12 {
                for length in 0..40 {
                    encap_text(encap_type, |encap| {
                        encap.attribute(number, &vec![0xff; length])
                    });
                }
            }
        }
    }
}
