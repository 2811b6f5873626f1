//! The kernel's numbers for conntrack, each once.
//!
//! Those that a user of this library needs are public in [`conntrack`](super). All are from Linux v6.18,
//! `include/uapi/linux/netfilter/`.

/// Types of conntrack's messages ([`Message::message_type`](crate::Message::message_type)): the netfilter subsystem in
/// the upper byte, `enum cntl_msg_types` and `enum ctnl_exp_msg_types` in the lower
/// (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`).
pub mod message_type {
    /// `IPCTNL_MSG_CT_NEW`: a flow that began or changed, an entry of a dump, or the request to create or change a
    /// flow.
    pub const CT_NEW: u16 = 0x100;
    /// `IPCTNL_MSG_CT_GET`: the request for one flow, or for a dump of all.
    pub const CT_GET: u16 = 0x101;
    /// `IPCTNL_MSG_CT_DELETE`: a flow that ended, or the request to remove flows.
    pub const CT_DELETE: u16 = 0x102;
    /// `IPCTNL_MSG_CT_GET_CTRZERO`: the request for a dump that sets the counters to 0.
    pub const CT_GET_CTRZERO: u16 = 0x103;
    /// `IPCTNL_MSG_CT_GET_STATS_CPU`: the request for the statistics of each CPU, and the answers.
    pub const CT_GET_STATS_CPU: u16 = 0x104;
    /// `IPCTNL_MSG_CT_GET_STATS`: the request for the size of the table, and the answer.
    pub const CT_GET_STATS: u16 = 0x105;
    /// `IPCTNL_MSG_CT_GET_DYING`: the request for a dump of the flows that have ended and whose DESTROY has not been
    /// sent yet.
    pub const CT_GET_DYING: u16 = 0x106;
    /// `IPCTNL_MSG_CT_GET_UNCONFIRMED`: the request for a dump of the flows whose first packet is still under way.
    pub const CT_GET_UNCONFIRMED: u16 = 0x107;
    /// `IPCTNL_MSG_EXP_NEW`: an expectation that was set up, an entry of a dump, or the request to create one.
    pub const EXP_NEW: u16 = 0x200;
    /// `IPCTNL_MSG_EXP_GET`: the request for one expectation, or for a dump of all.
    pub const EXP_GET: u16 = 0x201;
    /// `IPCTNL_MSG_EXP_DELETE`: an expectation that is gone, or the request to remove expectations.
    pub const EXP_DELETE: u16 = 0x202;
    /// `IPCTNL_MSG_EXP_GET_STATS_CPU`: the request for the expectation statistics of each CPU, and the answers.
    pub const EXP_GET_STATS_CPU: u16 = 0x203;
}

/// Attributes of a flow's message (`CTA_*`, `enum ctattr_type` in
/// `include/uapi/linux/netfilter/nfnetlink_conntrack.h`). They follow a `struct nfgenmsg` of 4 bytes.
///
/// [`Flow`](super::Flow) reads them; these numbers are for requests of your own and for attributes that it leaves out.
pub mod cta {
    /// The original tuple.
    pub const TUPLE_ORIG: u16 = 1;
    /// The reply tuple.
    pub const TUPLE_REPLY: u16 = 2;
    /// Bits of [`status`](super::status).
    pub const STATUS: u16 = 3;
    /// The state of the protocol.
    pub const PROTOINFO: u16 = 4;
    /// The helper.
    pub const HELP: u16 = 5;
    /// The translation of the source, in a request.
    pub const NAT_SRC: u16 = 6;
    /// Seconds until the flow ends if no packet arrives.
    pub const TIMEOUT: u16 = 7;
    /// The connection mark.
    pub const MARK: u16 = 8;
    /// Counters of the original direction.
    pub const COUNTERS_ORIG: u16 = 9;
    /// Counters of the reply direction.
    pub const COUNTERS_REPLY: u16 = 10;
    /// The number of references.
    pub const USE: u16 = 11;
    /// The id.
    pub const ID: u16 = 12;
    /// The translation of the destination, in a request.
    pub const NAT_DST: u16 = 13;
    /// The original tuple of the master.
    pub const TUPLE_MASTER: u16 = 14;
    /// How the kernel shifts the TCP sequence numbers of the original direction.
    pub const SEQ_ADJ_ORIG: u16 = 15;
    /// How the kernel shifts the TCP sequence numbers of the reply direction.
    pub const SEQ_ADJ_REPLY: u16 = 16;
    /// The security mark; no kernel since 2.6.37 sends it.
    pub const SECMARK: u16 = 17;
    /// The zone of both directions.
    pub const ZONE: u16 = 18;
    /// The security context.
    pub const SECCTX: u16 = 19;
    /// When the flow began and ended.
    pub const TIMESTAMP: u16 = 20;
    /// The bits of the mark that a request concerns.
    pub const MARK_MASK: u16 = 21;
    /// The labels.
    pub const LABELS: u16 = 22;
    /// The labels that a request concerns.
    pub const LABELS_MASK: u16 = 23;
    /// The state of the SYN proxy.
    pub const SYNPROXY: u16 = 24;
    /// The fields by which a dump is filtered. Available since Linux 5.8.
    pub const FILTER: u16 = 25;
    /// The bits of the status that a request concerns. Available since Linux 5.15.
    pub const STATUS_MASK: u16 = 26;
    /// When the event happened. Available since Linux 6.14.
    pub const TIMESTAMP_EVENT: u16 = 27;
}

/// States of a TCP connection (`enum tcp_conntrack`, `include/uapi/linux/netfilter/nf_conntrack_tcp.h`), as
/// [`ProtocolState::Tcp`](super::ProtocolState::Tcp) and [`NewFlow::tcp_state`](super::NewFlow::tcp_state) have them.
pub mod tcp_state {
    /// No packet was seen.
    pub const NONE: u8 = 0;
    /// A SYN was seen.
    pub const SYN_SENT: u8 = 1;
    /// The SYN was answered.
    pub const SYN_RECV: u8 = 2;
    /// The handshake is complete.
    pub const ESTABLISHED: u8 = 3;
    /// A FIN was seen.
    pub const FIN_WAIT: u8 = 4;
    /// The FIN was acknowledged.
    pub const CLOSE_WAIT: u8 = 5;
    /// The other side has also sent a FIN.
    pub const LAST_ACK: u8 = 6;
    /// Both FINs were acknowledged.
    pub const TIME_WAIT: u8 = 7;
    /// The connection is closed, for instance by a RST.
    pub const CLOSE: u8 = 8;
    /// Both sides have sent a SYN.
    pub const SYN_SENT2: u8 = 9;
}

/// Bits of [`Flow::status`](super::Flow::status) (`enum ip_conntrack_status`,
/// `include/uapi/linux/netfilter/nf_conntrack_common.h`).
pub mod status {
    /// An expectation announced it, for example an FTP data connection.
    pub const EXPECTED: u32 = 1;
    /// Packets were seen in both directions.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// The kernel does not drop it early when the table is full.
    pub const ASSURED: u32 = 1 << 2;
    /// It is in the table, because its first packet has left the machine.
    pub const CONFIRMED: u32 = 1 << 3;
    /// Its source is translated.
    pub const SRC_NAT: u32 = 1 << 4;
    /// Its destination is translated.
    pub const DST_NAT: u32 = 1 << 5;
    /// Its TCP sequence numbers are shifted.
    pub const SEQ_ADJUST: u32 = 1 << 6;
    /// The kernel has decided whether to translate the source.
    pub const SRC_NAT_DONE: u32 = 1 << 7;
    /// The kernel has decided whether to translate the destination.
    pub const DST_NAT_DONE: u32 = 1 << 8;
    /// The kernel is removing it.
    pub const DYING: u32 = 1 << 9;
    /// Packets do not refresh its timeout.
    pub const FIXED_TIMEOUT: u32 = 1 << 10;
    /// It is a template, not a flow.
    pub const TEMPLATE: u32 = 1 << 11;
    /// Another flow has the same original tuple and zone: the two began at the same moment, and NAT gave them different
    /// reply tuples ([`Flow::is_nat_clash`](crate::conntrack::Flow::is_nat_clash)). Available since Linux 5.7; until
    /// Linux 4.12 the same bit marked the flow of all untracked packets.
    pub const NAT_CLASH: u32 = 1 << 12;
    /// A rule or a request attached its helper.
    pub const HELPER: u32 = 1 << 13;
    /// A flow table forwards its packets. Available since Linux 4.16.
    pub const OFFLOAD: u32 = 1 << 14;
    /// Hardware forwards its packets. Available since Linux 5.7.
    pub const HW_OFFLOAD: u32 = 1 << 15;
}

/// Bits of [`Expectation::flags`](super::Expectation::flags) (`NF_CT_EXPECT_*`,
/// `include/uapi/linux/netfilter/nf_conntrack_common.h`).
pub mod expectation_flags {
    /// It remains after it was met.
    pub const PERMANENT: u32 = 1;
    /// It cannot be met now.
    pub const INACTIVE: u32 = 2;
    /// A program created it.
    pub const USERSPACE: u32 = 4;
}

/// Size of `struct nfgenmsg` (`include/uapi/linux/netfilter/nfnetlink.h`).
pub(super) const FIXED_BYTES: usize = 4;

/// `enum ctattr_tuple`.
pub(super) mod cta_tuple {
    pub const IP: u16 = 1;
    pub const PROTO: u16 = 2;
    pub const ZONE: u16 = 3;
}

/// `enum ctattr_ip`.
pub(super) mod cta_ip {
    pub const V4_SRC: u16 = 1;
    pub const V4_DST: u16 = 2;
    pub const V6_SRC: u16 = 3;
    pub const V6_DST: u16 = 4;
}

/// `enum ctattr_l4proto`.
pub(super) mod cta_proto {
    pub const NUM: u16 = 1;
    pub const SRC_PORT: u16 = 2;
    pub const DST_PORT: u16 = 3;
    pub const ICMP_ID: u16 = 4;
    pub const ICMP_TYPE: u16 = 5;
    pub const ICMP_CODE: u16 = 6;
    pub const ICMPV6_ID: u16 = 7;
    pub const ICMPV6_TYPE: u16 = 8;
    pub const ICMPV6_CODE: u16 = 9;
}

/// `CTA_FILTER_ORIG_FLAGS` of `enum ctattr_filter`, and its bits: `CTA_FILTER_F_CTA_*` in Linux v6.18,
/// `net/netfilter/nf_internals.h`. The bits are in host order.
pub(super) mod cta_filter {
    pub const ORIG_FLAGS: u16 = 1;
    pub const IP_SRC: u32 = 1;
    pub const IP_DST: u32 = 1 << 1;
    pub const PROTO_NUM: u32 = 1 << 3;
    pub const PROTO_SRC_PORT: u32 = 1 << 4;
    pub const PROTO_DST_PORT: u32 = 1 << 5;
}

/// `enum ctattr_protoinfo`, and the state in each of its protocols.
pub(super) mod cta_protoinfo {
    pub const TCP: u16 = 1;
    pub const DCCP: u16 = 2;
    pub const SCTP: u16 = 3;
    /// `CTA_PROTOINFO_TCP_STATE`, `CTA_PROTOINFO_DCCP_STATE`, `CTA_PROTOINFO_SCTP_STATE`.
    pub const STATE: u16 = 1;
}

/// `enum ctattr_counters`.
pub(super) mod cta_counters {
    pub const PACKETS: u16 = 1;
    pub const BYTES: u16 = 2;
    pub const PACKETS_32: u16 = 3;
    pub const BYTES_32: u16 = 4;
}

/// `enum ctattr_tstamp`.
pub(super) mod cta_timestamp {
    pub const START: u16 = 1;
    pub const STOP: u16 = 2;
}

/// `CTA_HELP_NAME` of `enum ctattr_help` and `CTA_SECCTX_NAME` of `enum ctattr_secctx`.
pub(super) const NAME: u16 = 1;

/// `enum ctattr_nat`.
pub(super) mod cta_nat {
    pub const V4_MIN_IP: u16 = 1;
    pub const V4_MAX_IP: u16 = 2;
    pub const PROTO: u16 = 3;
    pub const V6_MIN_IP: u16 = 4;
    pub const V6_MAX_IP: u16 = 5;
    /// Of `enum ctattr_protonat`.
    pub const PROTO_PORT_MIN: u16 = 1;
    /// Of `enum ctattr_protonat`.
    pub const PROTO_PORT_MAX: u16 = 2;
}

/// `enum ctattr_expect`.
pub(super) mod cta_expect {
    pub const MASTER: u16 = 1;
    pub const TUPLE: u16 = 2;
    pub const MASK: u16 = 3;
    pub const TIMEOUT: u16 = 4;
    pub const ID: u16 = 5;
    pub const HELP_NAME: u16 = 6;
    pub const ZONE: u16 = 7;
    pub const FLAGS: u16 = 8;
    pub const CLASS: u16 = 9;
    pub const NAT: u16 = 10;
    pub const FN: u16 = 11;
    /// Of `enum ctattr_expect_nat`.
    pub const NAT_DIR: u16 = 1;
    /// Of `enum ctattr_expect_nat`.
    pub const NAT_TUPLE: u16 = 2;
}

/// `enum ctattr_stats_cpu`.
pub(super) mod cta_stats {
    pub const SEARCHED: u16 = 1;
    pub const FOUND: u16 = 2;
    pub const NEW: u16 = 3;
    pub const INVALID: u16 = 4;
    pub const IGNORE: u16 = 5;
    pub const DELETE: u16 = 6;
    pub const DELETE_LIST: u16 = 7;
    pub const INSERT: u16 = 8;
    pub const INSERT_FAILED: u16 = 9;
    pub const DROP: u16 = 10;
    pub const EARLY_DROP: u16 = 11;
    pub const ERROR: u16 = 12;
    pub const SEARCH_RESTART: u16 = 13;
    pub const CLASH_RESOLVE: u16 = 14;
    pub const CHAIN_TOOLONG: u16 = 15;
}

/// `enum ctattr_stats_global`.
pub(super) mod cta_stats_global {
    pub const ENTRIES: u16 = 1;
    pub const MAX_ENTRIES: u16 = 2;
}

/// `IPPROTO_ICMPV6`.
pub(super) const ICMPV6: u8 = 58;
