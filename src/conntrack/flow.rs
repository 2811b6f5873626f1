//! Flows, decoded from their messages.

use std::net::{IpAddr, Ipv4Addr};

#[cfg(doc)]
use super::kernel::status;
use super::kernel::{FIXED_BYTES, cta, cta_timestamp, message_type};
use super::state::{Counters, ProtocolState};
use super::tuple::{Key, Layer4, Tuple, Zone, ZoneDirection};
use super::{kind_of, name_in};
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Attribute, Attributes, Message};
use crate::timestamp::Timestamp;

/// A flow, as one message describes it.
///
/// Every event has the tuples, the status and the id. The kernel sends most other parts only if they changed, if a
/// sysctl asks for them, or if they differ from the default, so None is normal. The original tuple and the zone
/// identify a flow, except after a NAT race ([`is_nat_clash`](Self::is_nat_clash)). The id does not: it is a hash that
/// two flows may share.
///
/// # Example
///
/// ```
/// use nlring::EventKind;
/// use nlring::conntrack::Flow;
/// use nlring::{MessageBuilder, MessageList};
/// use nlring::message::flags;
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
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Flow<'a> {
    /// What the message says about the flow.
    pub kind: EventKind,
    /// The port ID of the message: that of the socket whose request caused it, or 0 if the kernel caused it.
    pub port_id: u32,
    /// Address family: 2 (`AF_INET`) or 10 (`AF_INET6`).
    pub family: Family,
    /// The direction of the first packet.
    pub orig: Tuple,
    /// The direction of the answers. If addresses or ports are translated, it is not the reverse of `orig`.
    pub reply: Option<Tuple>,
    /// The original tuple of the flow whose helper expected this one. The kernel sends it when the flow begins.
    pub master: Option<Tuple>,
    /// Bits of [`status`].
    pub status: Option<u32>,
    /// The protocol's state, for TCP, SCTP and DCCP. When the flow ends, it is the last state, which older kernels do
    /// not send.
    pub state: Option<ProtocolState>,
    /// Seconds until the flow ends if no packet arrives. When the flow ends, it is the remaining time, which older
    /// kernels do not send.
    pub timeout_seconds: Option<u32>,
    /// The connection mark. Sent if it is not 0 or has changed.
    pub mark: Option<u32>,
    /// The security mark, which kernels before 2.6.37 send. Later kernels send `secctx`.
    pub secmark: Option<u32>,
    /// The name of the security context: any bytes that the security module chooses.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub secctx: Option<&'a [u8]>,
    /// The zone. None means zone 0.
    pub zone: Option<Zone>,
    /// A hash of the flow's address in memory and its tuple. It is only a hint, because two flows may share it.
    pub id: Option<u32>,
    /// The number of references to the flow. Dumps have it, events do not.
    pub use_count: Option<u32>,
    /// The packets and bytes of the original direction. Sent in dumps and when the flow ends, if
    /// `net.netfilter.nf_conntrack_acct` was 1 when the flow began.
    pub counters_orig: Option<Counters>,
    /// The packets and bytes of the reply direction. Sent under the same conditions as `counters_orig`.
    pub counters_reply: Option<Counters>,
    /// When the flow began, by `CLOCK_REALTIME`. Sent when the flow ends and in dumps, if
    /// `net.netfilter.nf_conntrack_timestamp` was 1 when the flow began.
    #[cfg_attr(feature = "serde", serde(rename = "start_ns"))]
    pub start: Option<Timestamp>,
    /// When a [`Mirror`](super::Mirror) received the flow's NEW event, by `CLOCK_REALTIME`. The kernel does not send
    /// this: only a mirror sets it, for a flow without a `start`.
    #[cfg_attr(feature = "serde", serde(rename = "observed_start_ns"))]
    pub observed_start: Option<Timestamp>,
    /// When the flow ended, by `CLOCK_REALTIME`. Sent when the flow ends, if `net.netfilter.nf_conntrack_timestamp` was
    /// 1 when the flow began.
    #[cfg_attr(feature = "serde", serde(rename = "stop_ns"))]
    pub stop: Option<Timestamp>,
    /// When this event happened, by `CLOCK_REALTIME`. Sent if `net.netfilter.nf_conntrack_timestamp` was 1 when the
    /// flow began. Available since Linux 6.14.
    #[cfg_attr(feature = "serde", serde(rename = "event_ns"))]
    pub event_time: Option<Timestamp>,
    /// The labels, one bit each; [`label_bits`](Self::label_bits) reads them. Sent when they changed.
    #[cfg_attr(feature = "serde", serde(serialize_with = "label_list"))]
    pub labels: Option<&'a [u8]>,
    /// The helper's name, such as `ftp`. Sent when the helper was attached.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub helper: Option<&'a [u8]>,
}

impl<'a> Flow<'a> {
    /// Decodes a message in one pass. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None if the message is neither of type [`CT_NEW`](super::message_type::CT_NEW) nor
    /// [`CT_DELETE`](super::message_type::CT_DELETE), or if it has no original tuple with both addresses, because then
    /// it does not identify the flow.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = kind_of(message, message_type::CT_NEW, message_type::CT_DELETE)?;
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

    /// The IP protocol number. [`protocol_name`](super::protocol_name) returns its name.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.orig.protocol
    }

    /// The original tuple and the zone, which identify the flow.
    #[inline]
    pub fn key(&self) -> Key {
        Key {
            orig: self.orig,
            zone: self.zone,
        }
    }

    /// The numbers of the labels that are set, lowest first. Empty if the message has no labels.
    pub fn label_bits(&self) -> impl Iterator<Item = u32> + use<'a> {
        label_bits(self.labels.unwrap_or_default())
    }

    /// `orig` is a placeholder until it is decoded.
    #[inline]
    fn without_attributes(kind: EventKind, message: &Message<'_>) -> Self {
        Self {
            kind,
            port_id: message.port_id(),
            family: (message.payload().first()).map_or(Family::UNSPEC, |&number| number.into()),
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
            start: None,
            observed_start: None,
            stop: None,
            event_time: None,
            labels: None,
            helper: None,
        }
    }

    /// A tuple contains the zone if the zone applies to its direction only (Linux v6.18,
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

    /// Stores an attribute other than the flow's two tuples.
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
            cta::TIMESTAMP_EVENT => self.event_time = instant(attribute),
            _ => {}
        }
    }

    /// Reads `enum ctattr_tstamp`.
    fn set_timestamps(&mut self, attributes: Attributes<'_>) {
        for attribute in attributes {
            match attribute.attribute_type() {
                cta_timestamp::START => self.start = instant(attribute),
                cta_timestamp::STOP => self.stop = instant(attribute),
                _ => {}
            }
        }
    }
}

/// The numbers of the bits that are set. The kernel's bitmap consists of longs. Like libnetfilter_conntrack, this reads
/// it in words of 32 bits.
fn label_bits(labels: &[u8]) -> impl Iterator<Item = u32> {
    let (words, _) = labels.as_chunks::<4>();
    let words = words.iter().map(|word| u32::from_ne_bytes(*word));
    (0u32..).zip(words).flat_map(|(index, word)| {
        (0..32)
            .filter(move |bit| word >> bit & 1 != 0)
            .map(move |bit| 32 * index + bit)
    })
}

/// The numbers of the labels that are set.
#[cfg(feature = "serde")]
fn label_list<S: serde::Serializer>(
    labels: &Option<&[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let list = labels.map(|labels| label_bits(labels).collect::<Vec<_>>());
    serde::Serialize::serialize(&list, serializer)
}

/// An instant, as the kernel sends it.
#[inline]
fn instant(attribute: Attribute<'_>) -> Option<Timestamp> {
    attribute.as_be64().map(Timestamp::from_ns)
}

/// On bytes as Linux 6.18 sent them to a little-endian machine.
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use nlring_testing::datagrams::conntrack::{ICMPV6_NEW, TCP_DESTROY, TCP_NEW, UDP_NEW};
    use nlring_testing::datagrams::for_each_damaged;

    use super::*;
    use crate::conntrack::status;
    use crate::message::flags;
    use crate::{MessageBuilder, MessageList};

    /// Decodes the only message in the bytes.
    fn decode(bytes: &[u8]) -> Option<Flow<'_>> {
        Flow::decode(&MessageList::new(bytes).datagrams()[0].messages().next()?)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_end_of_a_connection_is_decoded_whole() {
        let flow = decode(TCP_DESTROY).unwrap();
        assert_eq!((flow.kind, flow.family), (EventKind::Delete, Family::INET));
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
        assert!(flow.start < flow.stop && flow.stop <= flow.event_time);
        assert!(flow.id.is_some() && flow.port_id != 0);
        assert_eq!((flow.zone, flow.helper, flow.labels), (None, None, None));
    }

    #[test]
    fn a_zone_knows_its_direction() {
        let flow = decode(UDP_NEW).unwrap();
        assert_eq!((flow.kind, flow.port_id), (EventKind::New, 0));
        assert_eq!(
            (flow.orig.src, flow.orig.dst),
            (ip("10.1.1.1"), ip("10.1.1.2"))
        );
        let direction = ZoneDirection::Orig;
        assert_eq!(flow.zone, Some(Zone { id: 78, direction }));
        assert_eq!(
            (flow.state, flow.counters_orig, flow.stop),
            (None, None, None)
        );
    }

    #[test]
    fn a_helper_is_named() {
        let flow = decode(TCP_NEW).unwrap();
        assert_eq!(
            (flow.kind, flow.helper),
            (EventKind::New, Some(&b"ftp"[..]))
        );
        assert_eq!(flow.state.and_then(ProtocolState::name), Some("SYN_SENT"));
    }

    #[test]
    fn icmp_has_no_ports() {
        let flow = decode(ICMPV6_NEW).unwrap();
        let echo = |icmp_type| Layer4::Icmp {
            icmp_type,
            code: 0,
            id: 4661,
        };
        assert_eq!(
            (flow.family, flow.protocol(), flow.orig.ports()),
            (Family::INET6, 58, None)
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
    fn flags_distinguish_new_update_and_entry_and_other_messages_are_not_flows() {
        let kind_of = |message_type: u16, flags: u16| {
            let mut bytes = UDP_NEW.to_vec();
            bytes[4..6].copy_from_slice(&message_type.to_ne_bytes());
            bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
            decode(&bytes).map(|flow| flow.kind)
        };
        assert_eq!(
            kind_of(0x100, flags::CREATE | flags::EXCL),
            Some(EventKind::New)
        );
        assert_eq!(kind_of(0x100, 0), Some(EventKind::Update));
        assert_eq!(kind_of(0x100, flags::MULTI), Some(EventKind::Entry));
        assert_eq!(kind_of(0x102, 0), Some(EventKind::Delete));
        for other in [0, 2, 3, 0x101, 0x103, 0x200, 0x202, 0x302] {
            assert_eq!(kind_of(other, 0), None, "type {other:#x}");
        }
    }

    #[test]
    fn a_message_without_both_addresses_is_not_a_flow() {
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
    fn labels_are_numbered_from_the_lowest_bit() {
        let labels = |bits: &[u8]| {
            let mut bytes = UDP_NEW.to_vec();
            let length = u32::try_from(bytes.len() + 4 + bits.len()).unwrap();
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            bytes.extend_from_slice(&u16::try_from(4 + bits.len()).unwrap().to_ne_bytes());
            bytes.extend_from_slice(&cta::LABELS.to_ne_bytes());
            bytes.extend_from_slice(bits);
            decode(&bytes).unwrap().label_bits().collect::<Vec<_>>()
        };
        let mut bits = [0; 16];
        assert!(labels(&bits).is_empty());
        (bits[0], bits[5], bits[15]) = (0x81, 2, 0x80);
        assert_eq!(labels(&bits), [0, 7, 41, 127]);
        assert_eq!(labels(&[1, 0, 0, 0, 1]), [0], "not a whole word");
        assert_eq!(decode(UDP_NEW).unwrap().label_bits().count(), 0);
    }

    #[test]
    fn no_bytes_cause_a_panic() {
        let mut count = 0;
        for digits in [TCP_DESTROY, UDP_NEW, TCP_NEW, ICMPV6_NEW] {
            for_each_damaged(digits, |bytes| {
                let flow = decode(bytes);
                count += usize::from(flow.is_some());
                flow.map(|flow| (flow.nat(), flow.label_bits().count()));
            });
        }
        assert!(count > 0);
    }
}
