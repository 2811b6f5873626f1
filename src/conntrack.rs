//! Conntrack messages: the flows that ctnetlink tells of, decoded in one pass where they lie.
//!
//! Events come on [`Protocol::NETFILTER`](crate::Protocol::NETFILTER) in the groups of [`Group`]. The formats are those
//! of Linux v6.18, `include/uapi/linux/netfilter/nfnetlink_conntrack.h`; what the kernel puts into which event is
//! decided in `net/netfilter/nf_conntrack_netlink.c`, `ctnetlink_conntrack_event`.
//!
//! All numbers here are in host order: the kernel's network order is undone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::attribute::{Attribute, Attributes};
use crate::message::{Message, flags};

/// Size of `struct nfgenmsg` (include/uapi/linux/netfilter/nfnetlink.h).
const FIXED_BYTES: usize = 4;
/// `NFNL_SUBSYS_CTNETLINK`, the upper byte of the message type.
const SUBSYSTEM: u16 = 1;
/// `IPCTNL_MSG_CT_NEW` and `IPCTNL_MSG_CT_DELETE`, the lower byte.
const NEW: u16 = SUBSYSTEM << 8;
const DELETE: u16 = SUBSYSTEM << 8 | 2;

/// `enum ctattr_type`.
mod cta {
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const STATUS: u16 = 3;
    pub const PROTOINFO: u16 = 4;
    pub const HELP: u16 = 5;
    pub const TIMEOUT: u16 = 7;
    pub const MARK: u16 = 8;
    pub const COUNTERS_ORIG: u16 = 9;
    pub const COUNTERS_REPLY: u16 = 10;
    pub const USE: u16 = 11;
    pub const ID: u16 = 12;
    pub const TUPLE_MASTER: u16 = 14;
    pub const SECMARK: u16 = 17;
    pub const ZONE: u16 = 18;
    pub const SECCTX: u16 = 19;
    pub const TIMESTAMP: u16 = 20;
    pub const LABELS: u16 = 22;
    pub const TIMESTAMP_EVENT: u16 = 27;
}

/// The multicast groups of conntrack (`enum nfnetlink_groups`, include/uapi/linux/netfilter/nfnetlink.h).
///
/// Joining one needs `CAP_NET_ADMIN` over the network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Group {
    /// Flows that began.
    New = 1,
    /// Flows that changed: state, status, mark, labels, helper. A refreshed timeout alone is no event.
    Update = 2,
    /// Flows that ended.
    Destroy = 3,
    /// Expectations that were set up.
    ExpectNew = 4,
    /// Expectations that changed; no kernel sends it.
    ExpectUpdate = 5,
    /// Expectations that were met or timed out.
    ExpectDestroy = 6,
}

impl Group {
    /// The group's number.
    #[inline]
    pub fn number(self) -> u32 {
        self as u32
    }
}

impl From<Group> for u32 {
    fn from(group: Group) -> u32 {
        group.number()
    }
}

/// What became of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It began.
    New,
    /// It changed. The entries of a dump read as this too: they say what is, not what happened.
    Update,
    /// It ended.
    Destroy,
}

impl EventKind {
    /// New and Update share a message type; only a new flow's event has `NLM_F_CREATE | NLM_F_EXCL` (Linux v6.18,
    /// `net/netfilter/nf_conntrack_netlink.c`, `ctnetlink_conntrack_event`). One of the two is enough, as it is for
    /// conntrack(8).
    #[inline]
    fn of(message: &Message<'_>) -> Option<Self> {
        match message.message_type() {
            NEW if message.flags() & (flags::CREATE | flags::EXCL) != 0 => Some(Self::New),
            NEW => Some(Self::Update),
            DELETE => Some(Self::Destroy),
            _ => None,
        }
    }
}

/// Bits of [`Flow::status`] (`enum ip_conntrack_status`, `include/uapi/linux/netfilter/nf_conntrack_common.h`).
pub mod status {
    /// Began because of an expectation, such as an FTP data connection.
    pub const EXPECTED: u32 = 1;
    /// Packets were seen both ways.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// Will not be dropped early when the table is full.
    pub const ASSURED: u32 = 1 << 2;
    /// Is in the table: its first packet has left the machine.
    pub const CONFIRMED: u32 = 1 << 3;
    /// Its source is translated.
    pub const SRC_NAT: u32 = 1 << 4;
    /// Its destination is translated.
    pub const DST_NAT: u32 = 1 << 5;
    /// Its TCP sequence numbers are shifted.
    pub const SEQ_ADJUST: u32 = 1 << 6;
    /// It was decided whether to translate the source.
    pub const SRC_NAT_DONE: u32 = 1 << 7;
    /// It was decided whether to translate the destination.
    pub const DST_NAT_DONE: u32 = 1 << 8;
    /// Is being removed.
    pub const DYING: u32 = 1 << 9;
    /// Its timeout is not refreshed by packets.
    pub const FIXED_TIMEOUT: u32 = 1 << 10;
    /// Is a template, not a flow.
    pub const TEMPLATE: u32 = 1 << 11;
    /// No longer used by the kernel. Until Linux 4.12 it marked the flow of all untracked packets.
    pub const UNTRACKED: u32 = 1 << 12;
    /// Its helper was attached by rule or by request.
    pub const HELPER: u32 = 1 << 13;
    /// Handled by a flow table. Available since Linux 4.16.
    pub const OFFLOAD: u32 = 1 << 14;
    /// Handled by hardware. Available since Linux 5.7.
    pub const HW_OFFLOAD: u32 = 1 << 15;
}

/// One direction of a flow: who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number; see [`protocol_name`].
    pub protocol: u8,
    /// What the protocol adds to the addresses.
    pub layer4: Layer4,
}

/// What tells flows between the same two addresses apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layer4 {
    /// Nothing: the kernel tracks this protocol by its addresses alone.
    #[default]
    None,
    /// TCP, UDP, UDP-Lite, SCTP and DCCP ports. For GRE (protocol 47) these are the call IDs of PPTP, which
    /// conntrack(8) calls keys.
    Ports {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
    },
    /// ICMP and `ICMPv6`.
    Icmp {
        /// Message type.
        icmp_type: u8,
        /// Message code.
        code: u8,
        /// Identifier of an echo or another query.
        id: u16,
    },
}

impl Tuple {
    /// The source and destination ports, where the protocol has some.
    #[inline]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.layer4 {
            Layer4::Ports { src, dst } => Some((src, dst)),
            _ => None,
        }
    }

    /// Reads `enum ctattr_tuple`: the tuple, when both addresses are there, and the zone given with it.
    #[inline]
    fn decode(attributes: Attributes<'_>) -> (Option<Self>, Option<u16>) {
        let (mut addresses, mut protocol, mut layer4) = (None, 0, Layer4::None);
        let mut zone = None;
        for attribute in attributes {
            match attribute.attribute_type() {
                1 => addresses = decode_addresses(attribute.nested()),
                2 => (protocol, layer4) = decode_layer4(attribute.nested()),
                3 => zone = attribute.as_be16(),
                _ => {}
            }
        }
        let tuple = addresses.map(|(src, dst)| Self {
            src,
            dst,
            protocol,
            layer4,
        });
        (tuple, zone)
    }
}

/// Reads `enum ctattr_ip`. None unless both addresses are there and of one family.
#[inline]
fn decode_addresses(attributes: Attributes<'_>) -> Option<(IpAddr, IpAddr)> {
    let (mut src, mut dst) = (None, None);
    for attribute in attributes {
        match attribute.attribute_type() {
            1 => src = attribute.as_array().map(Ipv4Addr::from).map(IpAddr::V4),
            2 => dst = attribute.as_array().map(Ipv4Addr::from).map(IpAddr::V4),
            3 => src = attribute.as_array().map(Ipv6Addr::from).map(IpAddr::V6),
            4 => dst = attribute.as_array().map(Ipv6Addr::from).map(IpAddr::V6),
            _ => {}
        }
    }
    let (src, dst) = (src?, dst?);
    (src.is_ipv4() == dst.is_ipv4()).then_some((src, dst))
}

/// Reads `enum ctattr_l4proto`: the protocol's number and what it adds.
#[inline]
fn decode_layer4(attributes: Attributes<'_>) -> (u8, Layer4) {
    let mut protocol = 0;
    let (mut src, mut dst) = (None, None);
    let (mut icmp_type, mut code, mut id) = (None, None, None);
    for attribute in attributes {
        match attribute.attribute_type() {
            1 => protocol = attribute.as_u8().unwrap_or(0),
            2 => src = attribute.as_be16(),
            3 => dst = attribute.as_be16(),
            4 | 7 => id = attribute.as_be16(),
            5 | 8 => icmp_type = attribute.as_u8(),
            6 | 9 => code = attribute.as_u8(),
            _ => {}
        }
    }
    let layer4 = match (src, dst, icmp_type) {
        (Some(src), Some(dst), _) => Layer4::Ports { src, dst },
        (_, _, Some(icmp_type)) => Layer4::Icmp {
            icmp_type,
            code: code.unwrap_or(0),
            id: id.unwrap_or(0),
        },
        _ => Layer4::None,
    };
    (protocol, layer4)
}

/// The zone that a flow's tuples are unique in, and the directions it holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Zone {
    /// The zone's number.
    pub id: u16,
    /// The directions that it holds for; the other one is in zone 0.
    pub direction: ZoneDirection,
}

/// The directions a [`Zone`] holds for. Other than both since Linux 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZoneDirection {
    /// Both.
    Both,
    /// The original direction.
    Orig,
    /// The reply direction.
    Reply,
}

/// Where a connection stands, as the kernel's tracker of its protocol sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtocolState {
    /// `enum tcp_conntrack` (`include/uapi/linux/netfilter/nf_conntrack_tcp.h`).
    Tcp(u8),
    /// `enum sctp_conntrack` (`include/uapi/linux/netfilter/nf_conntrack_sctp.h`).
    Sctp(u8),
    /// `enum ct_dccp_states` (Linux v6.12, `include/linux/netfilter/nf_conntrack_dccp.h`).
    Dccp(u8),
}

impl ProtocolState {
    /// The state's name in the kernel, such as `"ESTABLISHED"`. None for a number that this version does not know.
    ///
    /// ```
    /// use nlring::conntrack::ProtocolState;
    ///
    /// assert_eq!(ProtocolState::Tcp(1).name(), Some("SYN_SENT"));
    /// assert_eq!(ProtocolState::Tcp(99).name(), None);
    /// ```
    pub fn name(self) -> Option<&'static str> {
        let (names, number): (&[&'static str], u8) = match self {
            Self::Tcp(number) => (&TCP_STATES, number),
            Self::Sctp(number) => (&SCTP_STATES, number),
            Self::Dccp(number) => (&DCCP_STATES, number),
        };
        names.get(usize::from(number)).copied()
    }

    /// Reads `enum ctattr_protoinfo`, which holds one protocol's state.
    #[inline]
    fn decode(attributes: Attributes<'_>) -> Option<Self> {
        let protocol = { attributes }.next()?;
        let state = || protocol.nested().find(1)?.as_u8();
        match protocol.attribute_type() {
            1 => state().map(Self::Tcp),
            2 => state().map(Self::Dccp),
            3 => state().map(Self::Sctp),
            _ => None,
        }
    }
}

const TCP_STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];

const SCTP_STATES: [&str; 10] = [
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
    "HEARTBEAT_ACKED",
];

const DCCP_STATES: [&str; 10] = [
    "NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE",
    "INVALID",
];

/// What one direction has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the IP header on.
    pub bytes: u64,
}

impl Counters {
    /// Reads `enum ctattr_counters`. None unless both are there.
    #[inline]
    fn decode(attributes: Attributes<'_>) -> Option<Self> {
        let (mut packets, mut bytes) = (None, None);
        for attribute in attributes {
            match attribute.attribute_type() {
                1 => packets = attribute.as_be64(),
                2 => bytes = attribute.as_be64(),
                3 => packets = attribute.as_be32().map(u64::from),
                4 => bytes = attribute.as_be32().map(u64::from),
                _ => {}
            }
        }
        Some(Self {
            packets: packets?,
            bytes: bytes?,
        })
    }
}

/// A flow, as one message tells of it.
///
/// Every event has the tuples, the status and the id; most else is there only when it changed, was asked for by sysctl,
/// or is not its default, so None is normal. What a flow is known by is its original tuple and its zone: the id is
/// a hash that two flows may share.
///
/// # Example
///
/// ```
/// use nlring::conntrack::{EventKind, Flow};
/// use nlring::{MessageBuilder, MessageList, flags};
///
/// // What the kernel sends for a first UDP packet: message type 0x100, struct nfgenmsg, then attributes.
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 0x100, flags::CREATE | flags::EXCL)
///     .bytes(&[2 /* AF_INET */, 0, 0, 0])
///     .nested(1 /* CTA_TUPLE_ORIG */, |tuple| {
///         tuple
///             .nested(1 /* CTA_TUPLE_IP */, |ip| {
///                 ip.attribute(1, &[10, 0, 0, 1]).attribute(2, &[9, 9, 9, 9])
///             })
///             .nested(2 /* CTA_TUPLE_PROTO */, |proto| {
///                 proto.attribute_u8(1, 17).attribute_be16(2, 40_000).attribute_be16(3, 53)
///             })
///     })
///     .attribute_be32(7 /* CTA_TIMEOUT */, 30)
///     .finish()?;
///
/// let list = MessageList::new(&bytes);
/// let flow = list.iter().find_map(|message| Flow::decode(&message)).expect("it is a flow");
/// assert_eq!(flow.kind, EventKind::New);
/// assert_eq!(flow.orig.dst.to_string(), "9.9.9.9");
/// assert_eq!(flow.orig.ports(), Some((40_000, 53)));
/// assert_eq!(flow.timeout_seconds, Some(30));
/// assert_eq!(flow.mark, None);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flow<'a> {
    /// What became of it.
    pub kind: EventKind,
    /// The port ID of the message: whose request caused it, 0 for the kernel itself.
    pub port_id: u32,
    /// Address family: 2 (`AF_INET`) or 10 (`AF_INET6`).
    pub family: u8,
    /// The direction of the first packet.
    pub orig: Tuple,
    /// The direction of answers; other than the reverse of `orig` when addresses or ports are translated.
    pub reply: Option<Tuple>,
    /// The original tuple of the flow that this one was expected by. Sent when the flow begins.
    pub master: Option<Tuple>,
    /// Bits of [`status`].
    pub status: Option<u32>,
    /// The protocol's state, for protocols that have one. In a Destroy, the last one; older kernels send none then.
    pub state: Option<ProtocolState>,
    /// Until the flow ends, if no packet comes. In a Destroy, what was left of it; older kernels send none then.
    pub timeout_seconds: Option<u32>,
    /// The connection mark. Sent when it is not 0, or has changed.
    pub mark: Option<u32>,
    /// The security mark of kernels before 2.6.37; later ones send `secctx`.
    pub secmark: Option<u32>,
    /// The security context's name, bytes from the security module.
    pub secctx: Option<&'a [u8]>,
    /// The zone; None is zone 0.
    pub zone: Option<Zone>,
    /// A hash of the flow's address and tuple: a hint, two flows may share it.
    pub id: Option<u32>,
    /// References held on the flow. Not sent in events.
    pub use_count: Option<u32>,
    /// What the original direction has carried. Sent when the flow ends, if `net.netfilter.nf_conntrack_acct` is on.
    pub counters_orig: Option<Counters>,
    /// What the reply direction has carried.
    pub counters_reply: Option<Counters>,
    /// When the flow began: `CLOCK_REALTIME`, nanoseconds since 1970. Sent when the flow ends, if
    /// `net.netfilter.nf_conntrack_timestamp` was on when it began.
    pub start_ns: Option<u64>,
    /// When the flow ended, on the same clock and condition.
    pub stop_ns: Option<u64>,
    /// When this event happened, on the same clock and condition; in New and Destroy. Available since Linux 6.14.
    pub event_ns: Option<u64>,
    /// The labels, one bit each, the lowest first. Sent when they changed.
    pub labels: Option<&'a [u8]>,
    /// The helper's name, such as `ftp`. Sent when it was attached.
    pub helper: Option<&'a [u8]>,
}

impl<'a> Flow<'a> {
    /// Decodes a message in one pass. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None when the message is no flow: of another netfilter subsystem (expectations are one), neither
    /// `IPCTNL_MSG_CT_NEW` nor `IPCTNL_MSG_CT_DELETE`, or netlink's own. None too when it has no original tuple with
    /// both addresses, since nothing then says which flow it is.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = EventKind::of(message)?;
        let mut flow = Self::without_attributes(kind, message);
        let mut orig = None;
        for attribute in message.attributes(FIXED_BYTES) {
            match attribute.attribute_type() {
                cta::TUPLE_ORIG => orig = flow.decode_tuple(attribute, ZoneDirection::Orig),
                cta::TUPLE_REPLY => {
                    flow.reply = flow.decode_tuple(attribute, ZoneDirection::Reply);
                }
                _ => flow.set(attribute),
            }
        }
        flow.orig = orig?;
        Some(flow)
    }

    /// The IP protocol number; see [`protocol_name`].
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.orig.protocol
    }

    /// `orig` stands for nothing until it is decoded.
    #[inline]
    fn without_attributes(kind: EventKind, message: &Message<'_>) -> Self {
        Self {
            kind,
            port_id: message.port_id(),
            family: message.payload().first().copied().unwrap_or(0),
            orig: Tuple {
                src: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                protocol: 0,
                layer4: Layer4::None,
            },
            reply: None,
            master: None,
            status: None,
            state: None,
            timeout_seconds: None,
            mark: None,
            secmark: None,
            secctx: None,
            zone: None,
            id: None,
            use_count: None,
            counters_orig: None,
            counters_reply: None,
            start_ns: None,
            stop_ns: None,
            event_ns: None,
            labels: None,
            helper: None,
        }
    }

    /// A tuple has a zone of its own when the zone holds for its direction only (Linux v6.18,
    /// `net/netfilter/nf_conntrack_netlink.c`, `ctnetlink_dump_zone_id`).
    #[inline]
    fn decode_tuple(
        &mut self,
        attribute: Attribute<'_>,
        direction: ZoneDirection,
    ) -> Option<Tuple> {
        let (tuple, zone) = Tuple::decode(attribute.nested());
        if let Some(id) = zone {
            self.zone = Some(Zone { id, direction });
        }
        tuple
    }

    /// Takes over an attribute that is not a tuple of the flow's own.
    #[inline]
    fn set(&mut self, attribute: Attribute<'a>) {
        match attribute.attribute_type() {
            cta::STATUS => self.status = attribute.as_be32(),
            cta::PROTOINFO => self.state = ProtocolState::decode(attribute.nested()),
            cta::HELP => self.helper = name_in(attribute),
            cta::TIMEOUT => self.timeout_seconds = attribute.as_be32(),
            cta::MARK => self.mark = attribute.as_be32(),
            cta::COUNTERS_ORIG => self.counters_orig = Counters::decode(attribute.nested()),
            cta::COUNTERS_REPLY => self.counters_reply = Counters::decode(attribute.nested()),
            cta::USE => self.use_count = attribute.as_be32(),
            cta::ID => self.id = attribute.as_be32(),
            cta::TUPLE_MASTER => self.master = Tuple::decode(attribute.nested()).0,
            cta::SECMARK => self.secmark = attribute.as_be32(),
            cta::ZONE => {
                self.zone = attribute.as_be16().map(|id| Zone {
                    id,
                    direction: ZoneDirection::Both,
                });
            }
            cta::SECCTX => self.secctx = name_in(attribute),
            cta::TIMESTAMP => self.set_timestamps(attribute.nested()),
            cta::LABELS => self.labels = Some(attribute.bytes()),
            cta::TIMESTAMP_EVENT => self.event_ns = attribute.as_be64(),
            _ => {}
        }
    }

    /// Reads `enum ctattr_timestamp`.
    fn set_timestamps(&mut self, attributes: Attributes<'_>) {
        for attribute in attributes {
            match attribute.attribute_type() {
                1 => self.start_ns = attribute.as_be64(),
                2 => self.stop_ns = attribute.as_be64(),
                _ => {}
            }
        }
    }
}

/// The name in `enum ctattr_help` or `enum ctattr_secctx`.
fn name_in(attribute: Attribute<'_>) -> Option<&[u8]> {
    Some(attribute.nested().find(1)?.as_str_bytes())
}

/// The name of a protocol that conntrack has a tracker of its own for, as conntrack(8) prints it.
///
/// ```
/// assert_eq!(nlring::conntrack::protocol_name(6), Some("tcp"));
/// assert_eq!(nlring::conntrack::protocol_name(89), None);
/// ```
#[inline]
pub fn protocol_name(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        47 => "gre",
        58 => "icmpv6",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}

/// On bytes as Linux 6.18 sent them to a little-endian machine.
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;
    use crate::{HEADER_BYTES, MessageBuilder, MessageList};

    // The end of a TCP connection, with counters, timestamps and a mark.
    const TCP_DESTROY: &str = "\
        0c01000002010000000000000f150000020000003400018014000180080001007f000001080002007f0000011c00028005000100\
        0600000006000200b830000006000300232800003400028014000180080001007f000001080002007f0000011c00028005000100\
        06000000060002002328000006000300b830000008000c00feb95b55080003000000038e08000700000000771c0009800c000100\
        00000000000000060c00020000000000000001411c000a800c00010000000000000000040c00020000000000000000dd1c001480\
        0c00010018eaecb9d0adb9dd0c00020018eaecba02c64e8d100004800c000180050001000700000008000800000000070c001b00\
        18eaecba02c64eab";

    // A first UDP packet; zone 78 holds for its direction.
    const UDP_NEW: &str = "\
        a8000000000100060000000000000000020000003c00018014000180080001000a010101080002000a0101021c00028005000100\
        1100000006000200c71d0000060003001b5a000006000300004e00003400028014000180080001000a010102080002000a010101\
        1c0002800500010011000000060002001b5a000006000300c71d000008000c002ac1c65e0800030000000188080007000000001e\
        0c001b0018eaecb9d0c95403";

    // A first TCP packet, with a helper attached.
    const TCP_NEW: &str = "\
        dc000000000100060000000000000000020000003400018014000180080001007f000001080002007f0000011c00028005000100\
        0600000006000200ebd2000006000300084900003400028014000180080001007f000001080002007f0000011c00028005000100\
        06000000060002000849000006000300ebd2000008000c0093f4321008000300000021880800070000000078300004802c000180\
        0500010001000000050002000a0000000500030000000000060004000300000006000500000000000c0005800800010066747000\
        0c001b0018eaecb9d0ba8c5c";

    // An ICMPv6 echo request.
    const ICMPV6_NEW: &str = "\
        e00000000001000600000000000000000a000000540001802c00018014000300fd00000000000000000000000000000114000400\
        fd00000000000000000000000000000224000280050001003a000000060007001235000005000800800000000500090000000000\
        540002802c00018014000300fd00000000000000000000000000000214000400fd00000000000000000000000000000124000280\
        050001003a00000006000700123500000500080081000000050009000000000008000c00986abd5c080003000000018808000700\
        0000001e0c001b0018eaecb9d0e4b850";

    /// A captured datagram's bytes.
    fn unhex(digits: &str) -> Vec<u8> {
        let digit = |byte: &u8| u8::try_from(char::from(*byte).to_digit(16).unwrap()).unwrap();
        let pairs = digits.as_bytes().chunks(2);
        pairs
            .map(|pair| digit(&pair[0]) << 4 | digit(&pair[1]))
            .collect()
    }

    /// Every way to cut it short, and every byte changed: whatever comes out, it must come out.
    fn for_each_spoiled(digits: &str, mut look: impl FnMut(&[u8])) {
        let bytes = unhex(digits);
        for length in HEADER_BYTES..bytes.len() {
            let mut cut = bytes[..length].to_vec();
            cut[..4].copy_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
            look(&cut);
        }
        for index in 4..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[index] ^= change;
                look(&changed);
            }
        }
    }

    /// Decodes the only message in the bytes.
    fn decode(bytes: &[u8]) -> Option<Flow<'_>> {
        Flow::decode(&MessageList::new(bytes).datagrams()[0].messages().next()?)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_end_of_a_connection_is_decoded_whole() {
        let bytes = unhex(TCP_DESTROY);
        let flow = decode(&bytes).unwrap();
        assert_eq!((flow.kind, flow.family), (EventKind::Destroy, 2));
        assert_eq!(
            (flow.orig.src, flow.orig.dst),
            (ip("127.0.0.1"), ip("127.0.0.1"))
        );
        assert_eq!(
            (flow.protocol(), flow.orig.ports()),
            (6, Some((47152, 9000)))
        );
        assert_eq!(flow.reply.unwrap().ports(), Some((9000, 47152)));
        assert_eq!(flow.state, Some(ProtocolState::Tcp(7)));
        assert_eq!((flow.timeout_seconds, flow.mark), (Some(119), Some(7)));
        let wanted = status::SEEN_REPLY | status::ASSURED | status::CONFIRMED;
        assert_eq!(flow.status.unwrap() & wanted, wanted);
        let counters = |packets, bytes| Some(Counters { packets, bytes });
        assert_eq!(flow.counters_orig, counters(6, 321));
        assert_eq!(flow.counters_reply, counters(4, 221));
        assert!(flow.start_ns < flow.stop_ns && flow.stop_ns <= flow.event_ns);
        assert!(flow.id.is_some() && flow.port_id != 0);
        assert_eq!((flow.zone, flow.helper, flow.labels), (None, None, None));
    }

    #[test]
    fn a_zone_knows_its_direction() {
        let bytes = unhex(UDP_NEW);
        let flow = decode(&bytes).unwrap();
        assert_eq!((flow.kind, flow.port_id), (EventKind::New, 0));
        assert_eq!(
            (flow.orig.src, flow.orig.dst),
            (ip("10.1.1.1"), ip("10.1.1.2"))
        );
        let direction = ZoneDirection::Orig;
        assert_eq!(flow.zone, Some(Zone { id: 78, direction }));
        assert_eq!(
            (flow.state, flow.counters_orig, flow.stop_ns),
            (None, None, None)
        );
    }

    #[test]
    fn a_helper_is_named() {
        let bytes = unhex(TCP_NEW);
        let flow = decode(&bytes).unwrap();
        assert_eq!(
            (flow.kind, flow.helper),
            (EventKind::New, Some(&b"ftp"[..]))
        );
        assert_eq!(flow.state.and_then(ProtocolState::name), Some("SYN_SENT"));
    }

    #[test]
    fn icmp_has_no_ports() {
        let bytes = unhex(ICMPV6_NEW);
        let flow = decode(&bytes).unwrap();
        let echo = |icmp_type| Layer4::Icmp {
            icmp_type,
            code: 0,
            id: 4661,
        };
        assert_eq!(
            (flow.family, flow.protocol(), flow.orig.ports()),
            (10, 58, None)
        );
        assert_eq!(
            (flow.orig.src, flow.orig.dst),
            (ip("fd00::1"), ip("fd00::2"))
        );
        assert_eq!(
            (flow.orig.layer4, flow.reply.unwrap().layer4),
            (echo(128), echo(129))
        );
    }

    #[test]
    fn new_is_told_from_update_by_flags_and_other_messages_are_no_flows() {
        let kind_of = |message_type: u16, flags: u16| {
            let mut bytes = unhex(UDP_NEW);
            bytes[4..6].copy_from_slice(&message_type.to_ne_bytes());
            bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
            decode(&bytes).map(|flow| flow.kind)
        };
        assert_eq!(
            kind_of(0x100, flags::CREATE | flags::EXCL),
            Some(EventKind::New)
        );
        assert_eq!(kind_of(0x100, flags::MULTI), Some(EventKind::Update));
        assert_eq!(kind_of(0x102, 0), Some(EventKind::Destroy));
        for other in [0, 2, 3, 0x101, 0x103, 0x200, 0x202, 0x302] {
            assert_eq!(kind_of(other, 0), None, "type {other:#x}");
        }
    }

    #[test]
    fn without_both_addresses_it_is_no_flow() {
        let flow_of = |addresses: &[(u16, &[u8])]| {
            let mut bytes = Vec::new();
            MessageBuilder::new(&mut bytes, 0x100, 0)
                .bytes(&[2, 0, 0, 0])
                .nested(1, |tuple| {
                    tuple.nested(1, |ip| {
                        let all = addresses.iter();
                        all.fold(ip, |ip, (number, bytes)| ip.attribute(*number, bytes))
                    })
                })
                .finish()
                .unwrap();
            decode(&bytes).is_some()
        };
        assert!(flow_of(&[(1, &[1; 4]), (2, &[2; 4])]));
        assert!(flow_of(&[(3, &[1; 16]), (4, &[2; 16])]));
        assert!(!flow_of(&[(1, &[1; 4])]));
        assert!(!flow_of(&[(1, &[1; 4]), (4, &[2; 16])]));
        assert!(!flow_of(&[(1, &[1; 5]), (2, &[2; 4])]));
        assert!(!flow_of(&[]));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut count = 0;
        for digits in [TCP_DESTROY, UDP_NEW, TCP_NEW, ICMPV6_NEW] {
            for_each_spoiled(digits, |bytes| {
                count += usize::from(decode(bytes).is_some());
            });
        }
        assert!(count > 0);
    }
}
