//! Flows: the connections that the kernel tracks, and requests about them.
//!
//! [`Flow`] and [`Expectation`] decode one message each, in one pass, without a copy. Their events arrive on
//! [`Protocol::NETFILTER`](crate::Protocol::NETFILTER) in the groups of [`Group`]. [`Requests`] asks the kernel for
//! flows and changes them. [`Mirror`] keeps a table of all flows that is repaired after a loss. [`Sampler`] leaves out
//! whole flows while too many events arrive.
//!
//! The formats are those of Linux v6.18, `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.
//! `net/netfilter/nf_conntrack_netlink.c` decides what an event contains (`ctnetlink_conntrack_event` and
//! `ctnetlink_expect_event`). All numbers here are in host order.

mod dump_filter;
mod expectation;
mod filter;
mod flow;
mod identity;
mod kernel;
mod mirror;
mod nat;
mod new_flow;
mod owned_flow;
mod repeats;
mod request;
mod sampling;
mod shards;
mod state;
mod statistics;
mod tuple;

/// What fuzzers drive.
#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub(crate) use super::mirror::tests::fuzz::{events, model};
    pub(crate) use super::statistics::fuzzing::decode_statistics;
}

pub use dump_filter::DumpFilter;
pub use expectation::{Expectation, ExpectedNat};
pub use filter::{Filter, Side, Split, Term};
pub use flow::Flow;
pub use kernel::{cta, expectation_flags, message_type, status, tcp_state};
pub use mirror::{Change, Mirror};
pub use nat::{Endpoint, Nat};
pub use new_flow::{FlowChange, NewFlow};
pub use owned_flow::OwnedFlow;
pub use repeats::Repeats;
pub use request::Requests;
pub use sampling::{Sampler, Sampling, SamplingRatio};
pub use shards::{ShardThreads, Shards, ShardsBuilder};
pub use state::{Counters, ProtocolState};
pub use statistics::{CpuStatistics, TableStatistics};
pub use tuple::{Key, Layer4, Tuple, Zone, ZoneDirection};

use crate::event_kind::EventKind;
use crate::message::{Attribute, Message, flags};

/// The multicast groups of conntrack (`enum nfnetlink_groups`, include/uapi/linux/netfilter/nfnetlink.h).
///
/// Joining one needs `CAP_NET_ADMIN` over the network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Group {
    /// Flows that began.
    New = 1,
    /// Flows that changed: state, status, mark, labels, helper. A refreshed timeout alone causes no event.
    Update = 2,
    /// Flows that ended.
    Destroy = 3,
    /// Expectations that were set up.
    ExpectNew = 4,
    /// Expectations that changed. No kernel sends such events.
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

/// The kind of a message of one of two types; None for a message of another type.
///
/// Three kinds share a message type (Linux v6.18, `net/netfilter/nf_conntrack_netlink.c`). The event of a new entry has
/// `NLM_F_CREATE | NLM_F_EXCL` (`ctnetlink_conntrack_event`, `ctnetlink_expect_event`); one of the two flags is enough
/// here, as it is for conntrack(8). An entry of a dump and the answer to a request have `NLM_F_MULTI`
/// (`ctnetlink_fill_info`, `ctnetlink_exp_fill_info`).
#[inline]
fn kind_of(message: &Message<'_>, new: u16, delete: u16) -> Option<EventKind> {
    match message.message_type() {
        message_type if message_type == delete => Some(EventKind::Delete),
        message_type if message_type != new => None,
        _ if message.flags() & (flags::CREATE | flags::EXCL) != 0 => Some(EventKind::New),
        _ if message.flags() & flags::MULTI != 0 => Some(EventKind::Entry),
        _ => Some(EventKind::Update),
    }
}

/// The name of an IP protocol that conntrack has a tracker for, as conntrack(8) prints it. None for other protocols.
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
    Some(attribute.nested().get(kernel::NAME)?.as_str_bytes())
}
