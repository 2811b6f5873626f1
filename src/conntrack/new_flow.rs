//! Flows to add, and changes of flows.

use std::net::IpAddr;

use super::kernel::{NAME, cta, cta_nat, cta_protoinfo, status};
use super::tuple::{Key, Tuple, Zone, ZoneDirection};
use crate::message::MessageBuilder;

/// The number of words of 32 labels that the kernel has (Linux v6.18, include/net/netfilter/nf_conntrack_labels.h,
/// `NF_CT_LABELS_MAX_SIZE`).
const LABEL_WORDS: usize = 4;

/// A flow to add with [`Requests::add`](super::Requests::add).
///
/// ```
/// use nlring::conntrack::{Layer4, NewFlow, Tuple, status, tcp_state};
///
/// let (client, server) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
/// let tuple = Tuple::new(client, server, 6, Layer4::Ports { src: 40_000, dst: 443 });
/// let flow = NewFlow::new(tuple, 600)
///     .tcp_state(tcp_state::ESTABLISHED)
///     .status(status::SEEN_REPLY | status::ASSURED)
///     .mark(7);
/// assert_eq!(flow.key().to_string(), "tcp 10.0.0.1:40000 -> 10.0.0.2:443");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct NewFlow<'a> {
    key: Key,
    reply: Option<Tuple>,
    timeout_seconds: u32,
    change: FlowChange<'a>,
    src_nat: Option<(IpAddr, Option<u16>)>,
    dst_nat: Option<(IpAddr, Option<u16>)>,
}

impl<'a> NewFlow<'a> {
    /// A flow with this original tuple that ends after `timeout_seconds` without a packet. Its reply tuple is the
    /// [reverse](Tuple::reversed).
    pub fn new(orig: Tuple, timeout_seconds: u32) -> Self {
        Self {
            key: Key { orig, zone: None },
            reply: orig.reversed(),
            timeout_seconds,
            change: FlowChange::new(),
            src_nat: None,
            dst_nat: None,
        }
    }

    /// The tuple of the answers, if it is not the reverse of the original tuple. A flow of an ICMP type without a
    /// reverse needs it.
    pub fn reply(mut self, reply: Tuple) -> Self {
        self.reply = Some(reply);
        self
    }

    /// The zone.
    pub fn zone(mut self, zone: Zone) -> Self {
        self.key.zone = Some(zone);
        self
    }

    /// Bits of [`status`]. The kernel ignores those about translation, because it sets them itself.
    pub fn status(mut self, status: u32) -> Self {
        self.change = self.change.status(status);
        self
    }

    /// The connection mark.
    pub fn mark(mut self, mark: u32) -> Self {
        self.change = self.change.mark(mark, u32::MAX);
        self
    }

    /// The state of a TCP connection, one of [`tcp_state`](super::tcp_state).
    pub fn tcp_state(mut self, state: u8) -> Self {
        self.change = self.change.tcp_state(state);
        self
    }

    /// Sets a label, 0 to 127. The kernel keeps labels only while a rule of the namespace uses labels. Otherwise it
    /// ignores them and reports no error.
    pub fn label(mut self, label: u8) -> Self {
        self.change = self.change.label(label, true);
        self
    }

    /// The helper's name, such as `ftp`.
    pub fn helper(mut self, helper: &'a str) -> Self {
        self.change = self.change.helper(helper);
        self
    }

    /// The address, and the port if there is one, that the source is translated to. The kernel adapts the reply tuple.
    pub fn src_nat(mut self, address: IpAddr, port: Option<u16>) -> Self {
        self.src_nat = Some((address, port));
        self
    }

    /// The address, and the port if there is one, that the destination is translated to. The kernel adapts the reply
    /// tuple.
    pub fn dst_nat(mut self, address: IpAddr, port: Option<u16>) -> Self {
        self.dst_nat = Some((address, port));
        self
    }

    /// The original tuple and the zone, which will identify the flow.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Appends `struct nfgenmsg` and all attributes. Without a reply tuple the kernel refuses the request.
    pub(super) fn put<'b>(&self, message: MessageBuilder<'b>) -> MessageBuilder<'b> {
        let mut message = self.key.put(message);
        if let Some(reply) = &self.reply {
            let zone = self.key.tuple_zone(ZoneDirection::Reply);
            message = message.nested(cta::TUPLE_REPLY, |tuple| reply.put(tuple, zone));
        }
        message = message.attribute_be32(cta::TIMEOUT, self.timeout_seconds);
        for (attribute, to) in [(cta::NAT_SRC, self.src_nat), (cta::NAT_DST, self.dst_nat)] {
            if let Some((address, port)) = to {
                message = message.nested(attribute, |nat| put_nat(nat, address, port));
            }
        }
        self.change.put(message)
    }
}

/// Appends `enum ctattr_nat`: a range of one address, and of one port (`enum ctattr_protonat`).
fn put_nat(nat: MessageBuilder<'_>, address: IpAddr, port: Option<u16>) -> MessageBuilder<'_> {
    let nat = match address {
        IpAddr::V4(v4) => nat
            .attribute(cta_nat::V4_MIN_IP, &v4.octets())
            .attribute(cta_nat::V4_MAX_IP, &v4.octets()),
        IpAddr::V6(v6) => nat
            .attribute(cta_nat::V6_MIN_IP, &v6.octets())
            .attribute(cta_nat::V6_MAX_IP, &v6.octets()),
    };
    match port {
        Some(port) => nat.nested(cta_nat::PROTO, |range| {
            range
                .attribute_be16(cta_nat::PROTO_PORT_MIN, port)
                .attribute_be16(cta_nat::PROTO_PORT_MAX, port)
        }),
        None => nat,
    }
}

/// What [`Requests::update`](super::Requests::update) changes in a flow. Everything else stays unchanged.
///
/// ```
/// use nlring::conntrack::FlowChange;
///
/// let longer_and_marked = FlowChange::new().timeout_seconds(3600).mark(0x10, 0xf0);
/// // Of the value, only the bits of the mask count.
/// assert_eq!(longer_and_marked, FlowChange::new().timeout_seconds(3600).mark(0x1f, 0xf0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct FlowChange<'a> {
    timeout_seconds: Option<u32>,
    status: Option<u32>,
    mark: Option<(u32, u32)>,
    tcp_state: Option<u8>,
    labels: [u32; LABEL_WORDS],
    labels_mask: [u32; LABEL_WORDS],
    helper: Option<&'a str>,
}

impl<'a> FlowChange<'a> {
    /// Changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The flow ends after this many seconds without a packet. The kernel refuses to change a fixed timeout (`EPERM`).
    pub fn timeout_seconds(mut self, timeout_seconds: u32) -> Self {
        self.timeout_seconds = Some(timeout_seconds);
        self
    }

    /// Bits of [`status`] to set. No bit can be cleared. If the flow has `SEEN_REPLY`, `ASSURED` or `EXPECTED`, these
    /// must be among the bits, or the kernel refuses the change (`EBUSY`; Linux v6.18,
    /// net/netfilter/nf_conntrack_core.c, `nf_ct_change_status_common`).
    pub fn status(mut self, status: u32) -> Self {
        self.status = Some(status | status::CONFIRMED);
        self
    }

    /// Sets the bits of the mark that are in `mask` to those of `value`.
    pub fn mark(mut self, value: u32, mask: u32) -> Self {
        self.mark = Some((value & mask, mask));
        self
    }

    /// The state of a TCP connection, one of [`tcp_state`](super::tcp_state).
    pub fn tcp_state(mut self, state: u8) -> Self {
        self.tcp_state = Some(state);
        self
    }

    /// Sets or clears a label, 0 to 127. A larger number changes nothing. The kernel has no room for labels (`ENOSPC`)
    /// in a flow that began while no rule of the namespace used labels.
    pub fn label(mut self, label: u8, on: bool) -> Self {
        let (word, bit) = (usize::from(label / 32), 1 << (label % 32));
        if let (Some(labels), Some(mask)) =
            (self.labels.get_mut(word), self.labels_mask.get_mut(word))
        {
            *mask |= bit;
            *labels = if on { *labels | bit } else { *labels & !bit };
        }
        self
    }

    /// The helper's name. An empty name removes the helper. The kernel refuses to attach a helper to a flow that began
    /// without one (`EOPNOTSUPP`).
    pub fn helper(mut self, helper: &'a str) -> Self {
        self.helper = Some(helper);
        self
    }

    pub(super) fn put<'b>(&self, mut message: MessageBuilder<'b>) -> MessageBuilder<'b> {
        if let Some(timeout_seconds) = self.timeout_seconds {
            message = message.attribute_be32(cta::TIMEOUT, timeout_seconds);
        }
        if let Some(status) = self.status {
            message = message.attribute_be32(cta::STATUS, status);
        }
        if let Some((mark, mask)) = self.mark {
            let marked = message.attribute_be32(cta::MARK, mark);
            message = marked.attribute_be32(cta::MARK_MASK, mask);
        }
        if let Some(state) = self.tcp_state {
            message = message.nested(cta::PROTOINFO, |info| {
                info.nested(cta_protoinfo::TCP, |tcp| {
                    tcp.attribute_u8(cta_protoinfo::STATE, state)
                })
            });
        }
        if self.labels_mask != [0; LABEL_WORDS] {
            let labelled = message.attribute(cta::LABELS, words(&self.labels).as_flattened());
            let mask = words(&self.labels_mask);
            message = labelled.attribute(cta::LABELS_MASK, mask.as_flattened());
        }
        if let Some(helper) = self.helper {
            message = message.nested(cta::HELP, |help| help.attribute_str_nul(NAME, helper));
        }
        message
    }
}

/// The labels in the kernel's layout, which [`Flow::label_bits`](super::Flow::label_bits) reads.
fn words(labels: &[u32; LABEL_WORDS]) -> [[u8; 4]; LABEL_WORDS] {
    labels.map(u32::to_ne_bytes)
}
