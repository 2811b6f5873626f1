//! Devices.

use std::iter::FusedIterator;

use super::kernel::{LINK_FIXED_BYTES, ifla, message_type};
use super::kind_of;
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Attribute, Attributes, Message};

/// A device, as one message describes it. Counters, and properties that only one kind of device has, are left out.
///
/// Its events are sent to the group [`Link`](super::Group::Link).
///
/// ```
/// use nlring::EventKind;
/// use nlring::route::Link;
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 16 /* RTM_NEWLINK */, 0)
///     .bytes(&[0, 0, 1, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]) // struct ifinfomsg, little-endian
///     .attribute_str_nul(3 /* IFLA_IFNAME */, "eth0")
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let link = list.iter().find_map(|message| Link::decode(&message)).expect("it is a link");
/// # if cfg!(target_endian = "little") {
/// assert_eq!((link.index, link.name), (7, Some(&b"eth0"[..])));
/// # }
/// assert_eq!((link.kind, link.mtu), (EventKind::New, None));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Link<'a> {
    /// What the message says about the device, or about its role in something else: see `family`.
    pub kind: EventKind,
    /// [`Family::UNSPEC`] for a message about the device itself. Other families describe its role in something else: a
    /// Delete with [`Family::BRIDGE`] says that the device left a bridge, not that it is gone.
    pub family: Family,
    /// The hardware type (`ARPHRD_*`, `include/uapi/linux/if_arp.h`).
    pub link_type: u16,
    /// The index.
    pub index: u32,
    /// Bits of `IFF_*` (include/uapi/linux/if.h), some of which [`link_flags`](super::link_flags) has.
    pub flags: u32,
    /// The name: any bytes except NUL, `/`, `:` and white space (Linux v6.18, net/core/dev.c, `dev_valid_name`).
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub name: Option<&'a [u8]>,
    /// The largest packet, bytes.
    pub mtu: Option<u32>,
    /// The name of the queueing discipline.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub qdisc: Option<&'a [u8]>,
    /// The index of the device that this one is built on or paired with (`IFLA_LINK`), such as the other end of a veth
    /// pair. 0: there is none, although this kind of device could have one. With `link_netnsid` it is in another
    /// namespace.
    pub link: Option<u32>,
    /// The id of the namespace of `link`. Negative: this namespace has no id for it. Available since Linux 4.0.
    pub link_netnsid: Option<i32>,
    /// The index of the bridge, bond or VRF that the device belongs to.
    pub master: Option<u32>,
    /// The operational state of RFC 2863 (`IF_OPER_*`, `include/uapi/linux/if.h`): 0 unknown, 1 not present, 2 down,
    /// 3 lower layer down, 4 testing, 5 dormant, 6 up.
    pub oper_state: Option<u8>,
    /// The group, a number that the administrator assigned. 0 is the default.
    pub group: Option<u32>,
    /// How many packets can wait to be sent.
    pub tx_queue_len: Option<u32>,
    /// Whether the device has a carrier. Available since Linux 3.9.
    pub carrier: Option<bool>,
    /// How often the device was asked to receive all packets.
    pub promiscuity: Option<u32>,
    /// Why the message was sent, if not for a changed value (`IFLA_EVENT_*`, `include/uapi/linux/if_link.h`). Available
    /// since Linux 4.13.
    pub event: Option<u32>,
    /// The hardware address.
    pub address: Option<&'a [u8]>,
    /// The hardware address for broadcasts, or that of the other end of a point-to-point device.
    pub broadcast: Option<&'a [u8]>,
    /// The hardware address with which the device was created. Available since Linux 5.6.
    pub permanent_address: Option<&'a [u8]>,
    /// The kind of a virtual device, such as `veth`.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub device_kind: Option<&'a [u8]>,
    /// The kind of `master`, such as `bridge`.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub master_kind: Option<&'a [u8]>,
    /// The description that the administrator set.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub alias: Option<&'a [u8]>,
    /// The alternative names. Available since Linux 5.5.
    pub alt_names: AltNames<'a>,
    /// The id of the namespace that the device moves to, in the Delete of the namespace that it leaves. Available since
    /// Linux 4.15.
    pub new_netnsid: Option<i32>,
    /// The index that the device has in that namespace. Available since Linux 5.0.
    pub new_index: Option<u32>,
    /// Whether a program keeps the device down (`IFLA_PROTO_DOWN`). Available since Linux 4.1.
    pub proto_down: Option<bool>,
    /// Why: one bit for each reason. The programs agree on what a bit means. Available since Linux 5.9.
    pub proto_down_reasons: Option<u32>,
    /// How an XDP program is attached (`XDP_ATTACHED_*`, `include/uapi/linux/if_link.h`): 0 none, 1 in the driver, 2
    /// generic, 3 in hardware, 4 several.
    pub xdp_mode: Option<u8>,
    /// The id of the XDP program.
    pub xdp_program_id: Option<u32>,
    /// The smallest MTU that the device accepts. Available since Linux 5.0.
    pub min_mtu: Option<u32>,
    /// The largest MTU that the device accepts. Available since Linux 5.0.
    pub max_mtu: Option<u32>,
}

impl<'a> Link<'a> {
    /// Decodes a message in one pass. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None if the message is neither of type [`NEW_LINK`](message_type::NEW_LINK) nor
    /// [`DELETE_LINK`](message_type::DELETE_LINK), or too short for `struct ifinfomsg`.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = kind_of(message, message_type::NEW_LINK, message_type::DELETE_LINK)?;
        let mut link = Self::without_attributes(kind, message)?;
        for attribute in message.attributes(LINK_FIXED_BYTES) {
            link.set(attribute);
        }
        Some(link)
    }

    /// Whether the message says that the device itself is gone.
    #[inline]
    pub fn is_deleted(&self) -> bool {
        self.kind == EventKind::Delete && self.family == Family::UNSPEC
    }

    /// Reads `struct ifinfomsg`.
    fn without_attributes(kind: EventKind, message: &Message<'_>) -> Option<Self> {
        let fixed = message.payload().first_chunk::<LINK_FIXED_BYTES>()?;
        let (&[family, _, type_low, type_high], rest) = fixed.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (flags, _change_mask) = rest.split_first_chunk()?;
        Some(Self {
            kind,
            family: family.into(),
            link_type: u16::from_ne_bytes([type_low, type_high]),
            index: u32::from_ne_bytes(*index),
            flags: u32::from_ne_bytes(*flags),
            name: None,
            mtu: None,
            qdisc: None,
            link: None,
            link_netnsid: None,
            master: None,
            oper_state: None,
            group: None,
            tx_queue_len: None,
            carrier: None,
            promiscuity: None,
            event: None,
            address: None,
            broadcast: None,
            permanent_address: None,
            device_kind: None,
            master_kind: None,
            alias: None,
            alt_names: AltNames::default(),
            new_netnsid: None,
            new_index: None,
            proto_down: None,
            proto_down_reasons: None,
            xdp_mode: None,
            xdp_program_id: None,
            min_mtu: None,
            max_mtu: None,
        })
    }

    /// Stores an attribute.
    fn set(&mut self, attribute: Attribute<'a>) {
        match attribute.attribute_type() {
            ifla::IFNAME => self.name = Some(attribute.as_str_bytes()),
            ifla::MTU => self.mtu = attribute.as_u32(),
            ifla::QDISC => self.qdisc = Some(attribute.as_str_bytes()),
            ifla::LINK => self.link = attribute.as_u32(),
            ifla::LINK_NETNSID => self.link_netnsid = signed(attribute),
            ifla::MASTER => self.master = attribute.as_u32(),
            ifla::OPERSTATE => self.oper_state = attribute.as_u8(),
            ifla::GROUP => self.group = attribute.as_u32(),
            ifla::TXQLEN => self.tx_queue_len = attribute.as_u32(),
            ifla::CARRIER => self.carrier = attribute.as_u8().map(|byte| byte != 0),
            ifla::PROMISCUITY => self.promiscuity = attribute.as_u32(),
            ifla::EVENT => self.event = attribute.as_u32(),
            ifla::ADDRESS => self.address = Some(attribute.bytes()),
            ifla::BROADCAST => self.broadcast = Some(attribute.bytes()),
            ifla::PERM_ADDRESS => self.permanent_address = Some(attribute.bytes()),
            ifla::LINKINFO => self.set_kinds(attribute.nested()),
            ifla::IFALIAS => self.alias = Some(attribute.as_str_bytes()),
            ifla::PROP_LIST => {
                self.alt_names = AltNames {
                    left: attribute.bytes(),
                }
            }
            ifla::NEW_NETNSID => self.new_netnsid = signed(attribute),
            ifla::NEW_IFINDEX => self.new_index = attribute.as_u32(),
            ifla::PROTO_DOWN => self.proto_down = attribute.as_u8().map(|byte| byte != 0),
            ifla::PROTO_DOWN_REASON => {
                let value = attribute.nested().get(ifla::PROTO_DOWN_REASON_VALUE);
                self.proto_down_reasons = value.and_then(|value| value.as_u32());
            }
            ifla::XDP => {
                let get = |attribute_type| attribute.nested().get(attribute_type);
                self.xdp_mode = get(ifla::XDP_ATTACHED).and_then(|mode| mode.as_u8());
                self.xdp_program_id = get(ifla::XDP_PROG_ID).and_then(|id| id.as_u32());
            }
            ifla::MIN_MTU => self.min_mtu = attribute.as_u32(),
            ifla::MAX_MTU => self.max_mtu = attribute.as_u32(),
            _ => {}
        }
    }

    fn set_kinds(&mut self, info: Attributes<'a>) {
        let kind = |attribute_type| Some(info.get(attribute_type)?.as_str_bytes());
        self.device_kind = kind(ifla::INFO_KIND);
        self.master_kind = kind(ifla::INFO_SLAVE_KIND);
    }
}

fn signed(attribute: Attribute<'_>) -> Option<i32> {
    attribute.as_u32().map(u32::cast_signed)
}

/// An iterator over the alternative names of a device, such as `enp0s3`: any bytes except NUL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AltNames<'a> {
    left: &'a [u8],
}

#[allow(
    clippy::copy_iterator,
    reason = "a link is Copy, so are the views in it"
)]
impl<'a> Iterator for AltNames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut attributes = Attributes::new(self.left);
        let name = attributes.find(|name| name.attribute_type() == ifla::ALT_IFNAME);
        self.left = attributes.bytes();
        Some(name?.as_str_bytes())
    }
}

impl FusedIterator for AltNames<'_> {}

/// A list of texts. Bytes that are not UTF-8 become U+FFFD.
#[cfg(feature = "serde")]
impl serde::Serialize for AltNames<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.map(String::from_utf8_lossy))
    }
}
