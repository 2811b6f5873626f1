//! Policy rules: in which routing table a packet's route is looked up.

use super::address::Address;
use super::kernel::{RULE_FIXED_BYTES, fra, message_type};
use super::kind_of;
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Attribute, Message};

/// A policy rule, as one message describes it (Linux v6.18, net/core/fib_rules.c, `fib_nl_fill_rule`).
///
/// Its events are sent to the groups [`Ipv4Rule`](super::Group::Ipv4Rule) and [`Ipv6Rule`](super::Group::Ipv6Rule).
///
/// ```
/// use nlring::route::{Rule, rule_action, table};
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 32 /* RTM_NEWRULE */, 0)
///     .bytes(&[2 /* AF_INET */, 0, 24, 0, 254, 0, 0, 1 /* FR_ACT_TO_TBL */, 0, 0, 0, 0])
///     .attribute(2 /* FRA_SRC */, &[192, 0, 2, 0])
///     .attribute_u32(6 /* FRA_PRIORITY */, 1000)
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let rule = list.iter().find_map(|message| Rule::decode(&message)).expect("a rule");
/// assert_eq!(rule.src.and_then(|src| src.ip()), "192.0.2.0".parse().ok());
/// assert_eq!((rule.src_prefix_len, rule.priority), (24, Some(1000)));
/// assert_eq!((rule.action, rule.table), (rule_action::TO_TABLE, table::MAIN));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Rule<'a> {
    /// What the message says about the rule.
    pub kind: EventKind,
    /// The address family.
    pub family: Family,
    /// What the rule does, one of [`rule_action`](super::rule_action).
    pub action: u8,
    /// Bits of [`rule_flags`](super::rule_flags).
    pub flags: u32,
    /// The table in which the route is looked up. 0: none.
    pub table: u32,
    /// The rules are tried from the lowest number to the highest. None means 0.
    pub priority: Option<u32>,
    /// The type of service that the rule is for. 0 means all.
    pub tos: u8,
    /// The source that the rule is for.
    pub src: Option<Address<'a>>,
    /// The number of leading bits of `src` that count.
    pub src_prefix_len: u8,
    /// The destination that the rule is for.
    pub dst: Option<Address<'a>>,
    /// The number of leading bits of `dst` that count.
    pub dst_prefix_len: u8,
    /// The name of the incoming device that the rule is for.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub iif: Option<&'a [u8]>,
    /// The name of the outgoing device of the socket that the rule is for.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub oif: Option<&'a [u8]>,
    /// The mark that the rule is for.
    pub mark: Option<u32>,
    /// The bits of the mark that count.
    pub mark_mask: Option<u32>,
    /// Whether the table is that of the packet's VRF. Available since Linux 4.8.
    pub l3mdev: Option<bool>,
    /// The first and the last user ID that the rule is for. Available since Linux 4.11.
    pub uid_range: Option<(u32, u32)>,
    /// The IP protocol that the rule is for. Available since Linux 4.17.
    pub ip_protocol: Option<u8>,
    /// The first and the last source port that the rule is for. Available since Linux 4.17.
    pub sport_range: Option<(u16, u16)>,
    /// The first and the last destination port that the rule is for. Available since Linux 4.17.
    pub dport_range: Option<(u16, u16)>,
    /// The id of the tunnel that the rule is for. Available since Linux 4.3.
    pub tunnel_id: Option<u64>,
    /// A route that is found counts only if its prefix is longer than this. None and -1: any route counts.
    pub suppress_prefix_len: Option<i32>,
    /// A route that is found counts only if its device is not in this group. None and -1: any route counts.
    pub suppress_group: Option<i32>,
    /// The realms: that of the source in the upper 16 bits, that of the destination in the lower 16 bits.
    pub realms: Option<u32>,
    /// The priority of the rule to continue with ([`rule_action::GOTO`](super::rule_action::GOTO)).
    pub goto: Option<u32>,
    /// Who added the rule, one of [`protocol`](super::protocol). Available since Linux 4.17.
    pub protocol: Option<u8>,
}

impl<'a> Rule<'a> {
    /// Decodes a message in one pass. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None if the message is neither of type [`NEW_RULE`](message_type::NEW_RULE) nor
    /// [`DELETE_RULE`](message_type::DELETE_RULE), or too short for `struct fib_rule_hdr`.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = kind_of(message, message_type::NEW_RULE, message_type::DELETE_RULE)?;
        let mut rule = Self::without_attributes(kind, message)?;
        for attribute in message.attributes(RULE_FIXED_BYTES) {
            rule.set(attribute);
        }
        Some(rule)
    }

    /// Reads `struct fib_rule_hdr`.
    fn without_attributes(kind: EventKind, message: &Message<'_>) -> Option<Self> {
        let &[
            family,
            dst_prefix_len,
            src_prefix_len,
            tos,
            table,
            _,
            _,
            action,
            flags @ ..,
        ] = message.payload().first_chunk::<RULE_FIXED_BYTES>()?;
        Some(Self {
            kind,
            family: family.into(),
            action,
            flags: u32::from_ne_bytes(flags),
            table: u32::from(table),
            priority: None,
            tos,
            src: None,
            src_prefix_len,
            dst: None,
            dst_prefix_len,
            iif: None,
            oif: None,
            mark: None,
            mark_mask: None,
            l3mdev: None,
            uid_range: None,
            ip_protocol: None,
            sport_range: None,
            dport_range: None,
            tunnel_id: None,
            suppress_prefix_len: None,
            suppress_group: None,
            realms: None,
            goto: None,
            protocol: None,
        })
    }

    /// Stores an attribute.
    fn set(&mut self, attribute: Attribute<'a>) {
        let signed = || attribute.as_u32().map(u32::cast_signed);
        match attribute.attribute_type() {
            fra::DST => self.dst = Some(Address::new(self.family, attribute.bytes())),
            fra::SRC => self.src = Some(Address::new(self.family, attribute.bytes())),
            fra::IIFNAME => self.iif = Some(attribute.as_str_bytes()),
            fra::OIFNAME => self.oif = Some(attribute.as_str_bytes()),
            fra::GOTO => self.goto = attribute.as_u32(),
            fra::PRIORITY => self.priority = attribute.as_u32(),
            fra::FWMARK => self.mark = attribute.as_u32(),
            fra::FWMASK => self.mark_mask = attribute.as_u32(),
            fra::FLOW => self.realms = attribute.as_u32(),
            fra::TUN_ID => self.tunnel_id = attribute.as_be64(),
            fra::SUPPRESS_IFGROUP => self.suppress_group = signed(),
            fra::SUPPRESS_PREFIXLEN => self.suppress_prefix_len = signed(),
            fra::TABLE => self.table = attribute.as_u32().unwrap_or(self.table),
            fra::L3MDEV => self.l3mdev = attribute.as_u8().map(|byte| byte != 0),
            fra::UID_RANGE => self.uid_range = uid_range(attribute.bytes()),
            fra::PROTOCOL => self.protocol = attribute.as_u8(),
            fra::IP_PROTO => self.ip_protocol = attribute.as_u8(),
            fra::SPORT_RANGE => self.sport_range = port_range(attribute.bytes()),
            fra::DPORT_RANGE => self.dport_range = port_range(attribute.bytes()),
            _ => {}
        }
    }
}

/// Reads `struct fib_rule_uid_range`.
fn uid_range(bytes: &[u8]) -> Option<(u32, u32)> {
    let (start, end) = bytes.split_first_chunk()?;
    let start = u32::from_ne_bytes(*start);
    Some((start, u32::from_ne_bytes(*end.first_chunk()?)))
}

/// Reads `struct fib_rule_port_range`.
fn port_range(bytes: &[u8]) -> Option<(u16, u16)> {
    let (start, end) = bytes.split_first_chunk()?;
    let start = u16::from_ne_bytes(*start);
    Some((start, u16::from_ne_bytes(*end.first_chunk()?)))
}
