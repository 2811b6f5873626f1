//! Conntrack messages: the flows that ctnetlink tells of, decoded in one pass where they lie.
//!
//! Events come on [`Protocol::NETFILTER`](crate::Protocol::NETFILTER) in the groups of [`Group`]: [`Flow`] reads those of
//! flows, [`Expectation`] those of connections that a helper expects. The formats are those of Linux v6.18,
//! `include/uapi/linux/netfilter/nfnetlink_conntrack.h`; what the kernel puts into which event is decided in
//! `net/netfilter/nf_conntrack_netlink.c`, `ctnetlink_conntrack_event` and `ctnetlink_expect_event`.
//!
//! All numbers here are in host order: the kernel's network order is undone.

mod expectation;
mod flow;
mod identity;
mod mirror;
mod new_flow;
mod repeats;
mod request;
mod statistics;
mod time;
mod tuple;

pub use expectation::{Expectation, ExpectedNat, expectation_flags};
pub use flow::{Counters, Endpoint, Flow, Nat, ProtocolState};
pub use mirror::{Change, Mirror, MirrorOptions};
pub use new_flow::{FlowChange, NewFlow};
pub use repeats::Repeats;
pub use request::{DumpFilter, Requests};
pub use statistics::{CpuStatistics, TableStatistics};
pub use tuple::{Key, Layer4, Tuple, Zone, ZoneDirection};

use crate::event_kind::EventKind;
use crate::message::{Attribute, Message, flags};

/// Size of `struct nfgenmsg` (include/uapi/linux/netfilter/nfnetlink.h).
const FIXED_BYTES: usize = 4;

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

/// What a message of a subsystem says; None for a message that is neither about a flow nor about an expectation.
///
/// Three kinds share a message type (Linux v6.18, `net/netfilter/nf_conntrack_netlink.c`): the event of a new entry has
/// `NLM_F_CREATE | NLM_F_EXCL` (`ctnetlink_conntrack_event`); one of the two is enough, as it is for conntrack(8). An entry
/// of a dump and the answer to a request have `NLM_F_MULTI` (`ctnetlink_fill_info`, `ctnetlink_exp_fill_info`).
#[inline]
fn kind_of(message: &Message<'_>, subsystem: u16) -> Option<EventKind> {
    // `IPCTNL_MSG_CT_NEW` and `IPCTNL_MSG_CT_DELETE`, with the same numbers for expectations.
    const NEW: u16 = 0;
    const DELETE: u16 = 2;
    match message.message_type() ^ subsystem << 8 {
        NEW if message.flags() & (flags::CREATE | flags::EXCL) != 0 => Some(EventKind::New),
        NEW if message.flags() & flags::MULTI != 0 => Some(EventKind::Entry),
        NEW => Some(EventKind::Update),
        DELETE => Some(EventKind::Delete),
        _ => None,
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
    /// Another flow has the same original tuple and zone: the two began at the same moment, and NAT gave them different
    /// reply tuples ([`Flow::is_nat_clash`](super::Flow::is_nat_clash)). Available since Linux 5.7; until Linux 4.12 the
    /// same bit marked the flow of all untracked packets.
    pub const NAT_CLASH: u32 = 1 << 12;
    /// Its helper was attached by rule or by request.
    pub const HELPER: u32 = 1 << 13;
    /// Handled by a flow table. Available since Linux 4.16.
    pub const OFFLOAD: u32 = 1 << 14;
    /// Handled by hardware. Available since Linux 5.7.
    pub const HW_OFFLOAD: u32 = 1 << 15;
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

/// The name in `enum ctattr_help` or `enum ctattr_secctx`.
fn name_in(attribute: Attribute<'_>) -> Option<&[u8]> {
    Some(attribute.nested().get(1)?.as_str_bytes())
}
