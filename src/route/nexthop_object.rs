//! Nexthop objects, which routes refer to by their ids.

use std::iter::FusedIterator;

use super::address::ip;
use super::hop::Hop;
use super::kernel::{NEXTHOP_OBJECT_FIXED_BYTES, message_type, nha};
use super::kind_of;
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Attribute, Attributes, Message};

/// A nexthop object, as one message describes it: one next hop, or a group of others (Linux v6.18, net/ipv4/nexthop.c,
/// `nh_fill_node`). Available since Linux 5.3.
///
/// Its events are sent to the group [`Nexthop`](super::Group::Nexthop).
///
/// ```
/// use nlring::route::NexthopObject;
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 104 /* RTM_NEWNEXTHOP */, 0)
///     .bytes(&[2 /* AF_INET */, 0, 0, 0, 0, 0, 0, 0]) // struct nhmsg
///     .attribute_u32(1 /* NHA_ID */, 10)
///     .attribute(6 /* NHA_GATEWAY */, &[192, 0, 2, 1])
///     .attribute_u32(5 /* NHA_OIF */, 3)
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let nexthop = list.iter().find_map(|message| NexthopObject::decode(&message)).expect("a nexthop object");
/// assert_eq!((nexthop.id, nexthop.oif), (Some(10), Some(3)));
/// assert_eq!(nexthop.hop.gateway, "192.0.2.1".parse().ok());
/// assert_eq!(nexthop.group.count(), 0);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NexthopObject<'a> {
    /// What the message says about the object.
    pub kind: EventKind,
    /// The address family. A group has [`Family::UNSPEC`].
    pub family: Family,
    /// How far the gateway is, one of [`scope`](super::scope).
    pub scope: u8,
    /// Who added the object, one of [`protocol`](super::protocol).
    pub protocol: u8,
    /// Bits of [`route_flags`](super::route_flags).
    pub flags: u32,
    /// The id that routes refer to.
    pub id: Option<u32>,
    /// The gateway and encapsulation.
    pub hop: Hop<'a>,
    /// The index of the outgoing device.
    pub oif: Option<u32>,
    /// Whether the packets are dropped.
    pub is_blackhole: bool,
    /// Whether the object is for entries of a forwarding database. Available since Linux 5.8.
    pub is_fdb: bool,
    /// The objects of a group. Empty if it is not a group.
    pub group: GroupMembers<'a>,
    /// How a group distributes the packets (`NEXTHOP_GRP_TYPE_*`, `include/uapi/linux/nexthop.h`): 0 by a hash, 1
    /// resilient.
    pub group_type: Option<u16>,
    /// The settings of a resilient group. Available since Linux 5.13.
    pub resilient: Option<ResilientGroup>,
}

impl<'a> NexthopObject<'a> {
    /// Decodes a message in one pass. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None if the message is neither of type [`NEW_NEXTHOP`](message_type::NEW_NEXTHOP) nor
    /// [`DELETE_NEXTHOP`](message_type::DELETE_NEXTHOP), or too short for `struct nhmsg`.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = kind_of(
            message,
            message_type::NEW_NEXTHOP,
            message_type::DELETE_NEXTHOP,
        )?;
        let fixed = message.payload();
        let &[family, scope, protocol, _, flags @ ..] =
            fixed.first_chunk::<NEXTHOP_OBJECT_FIXED_BYTES>()?;
        let mut object = Self {
            kind,
            family: family.into(),
            scope,
            protocol,
            flags: u32::from_ne_bytes(flags),
            id: None,
            hop: Hop::default(),
            oif: None,
            is_blackhole: false,
            is_fdb: false,
            group: GroupMembers::default(),
            group_type: None,
            resilient: None,
        };
        for attribute in message.attributes(NEXTHOP_OBJECT_FIXED_BYTES) {
            object.set(attribute);
        }
        Some(object)
    }

    /// Stores an attribute.
    fn set(&mut self, attribute: Attribute<'a>) {
        match attribute.attribute_type() {
            nha::ID => self.id = attribute.as_u32(),
            nha::GROUP => {
                self.group = GroupMembers {
                    left: attribute.bytes(),
                }
            }
            nha::GROUP_TYPE => self.group_type = attribute.as_u16(),
            nha::BLACKHOLE => self.is_blackhole = true,
            nha::OIF => self.oif = attribute.as_u32(),
            nha::GATEWAY => self.hop.gateway = ip(self.family, attribute.bytes()),
            nha::ENCAP_TYPE => self.hop.encap_type = attribute.as_u16(),
            nha::ENCAP => self.hop.encap = Some(attribute.nested()),
            nha::FDB => self.is_fdb = true,
            nha::RES_GROUP => self.resilient = Some(ResilientGroup::decode(attribute.nested())),
            _ => {}
        }
    }
}

/// An iterator over the objects of a group (`struct nexthop_grp`), in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupMembers<'a> {
    left: &'a [u8],
}

/// An object of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GroupMember {
    /// The id of the nexthop object.
    pub id: u32,
    /// The share of the packets that it gets: 1 to 256, and to 65,536 since Linux 6.12.
    pub weight: u32,
}

#[allow(
    clippy::copy_iterator,
    reason = "a nexthop object is Copy, so are the views in it"
)]
impl Iterator for GroupMembers<'_> {
    type Item = GroupMember;

    fn next(&mut self) -> Option<GroupMember> {
        let (&[a, b, c, d, low, high, _, _], rest) = self.left.split_first_chunk()?;
        self.left = rest;
        Some(GroupMember {
            id: u32::from_ne_bytes([a, b, c, d]),
            weight: (u32::from(high) << 8 | u32::from(low)) + 1,
        })
    }
}

impl FusedIterator for GroupMembers<'_> {}

/// A list of the objects.
#[cfg(feature = "serde")]
impl serde::Serialize for GroupMembers<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(*self)
    }
}

/// The settings of a resilient group (`NHA_RES_GROUP_*`, `include/uapi/linux/nexthop.h`). The times are in hundredths
/// of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ResilientGroup {
    /// The number of buckets, to which the packets are hashed.
    pub bucket_count: u16,
    /// How long a bucket must be idle before it may move to another nexthop object.
    pub idle_timer: u32,
    /// How long the group may be unbalanced before buckets move although they are in use. 0: forever.
    pub unbalanced_timer: u32,
    /// How long the group has been unbalanced.
    pub unbalanced_time: u64,
}

impl ResilientGroup {
    fn decode(attributes: Attributes<'_>) -> Self {
        let mut group = Self::default();
        for attribute in attributes {
            match attribute.attribute_type() {
                1 => group.bucket_count = attribute.as_u16().unwrap_or(0),
                2 => group.idle_timer = attribute.as_u32().unwrap_or(0),
                3 => group.unbalanced_timer = attribute.as_u32().unwrap_or(0),
                4 => group.unbalanced_time = attribute.as_u64().unwrap_or(0),
                _ => {}
            }
        }
        group
    }
}
