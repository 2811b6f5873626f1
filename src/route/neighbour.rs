//! Neighbours, which map IP addresses to hardware addresses, and forwarding databases.

use std::net::IpAddr;

use super::address::ip;
use super::kernel::{NEIGHBOUR_FIXED_BYTES, message_type, nda};
use super::kind_of;
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Attribute, Message};

/// A neighbour, as one message describes it (Linux v6.18, net/core/neighbour.c, `neigh_fill_info` and
/// `pneigh_fill_info`), or an entry of a bridge's or a VXLAN's forwarding database (net/bridge/br_fdb.c,
/// `fdb_fill_info`).
///
/// Its events are sent to the group [`Neighbour`](super::Group::Neighbour).
///
/// ```
/// use nlring::route::{Neighbour, nud};
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 28 /* RTM_NEWNEIGH */, 0)
///     .bytes(&[2 /* AF_INET */, 0, 0, 0, 7, 0, 0, 0, 0x80, 0, 0, 1]) // struct ndmsg, little-endian
///     .attribute(1 /* NDA_DST */, &[192, 0, 2, 1])
///     .attribute(2 /* NDA_LLADDR */, &[2, 0, 0, 0, 0, 1])
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let neighbour = list.iter().find_map(|message| Neighbour::decode(&message)).expect("a neighbour");
/// assert_eq!(neighbour.dst, "192.0.2.1".parse().ok());
/// assert_eq!(neighbour.address, Some(&[2, 0, 0, 0, 0, 1][..]));
/// # if cfg!(target_endian = "little") {
/// assert_eq!((neighbour.index, neighbour.state), (7, nud::PERMANENT));
/// # }
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Neighbour<'a> {
    /// What the message says about the neighbour.
    pub kind: EventKind,
    /// The address family. [`Family::BRIDGE`]: an entry of a forwarding database.
    pub family: Family,
    /// The device's index. 0: a proxy for all devices.
    pub index: u32,
    /// Bits of [`nud`](super::nud).
    pub state: u16,
    /// Bits of [`neighbour_flags`](super::neighbour_flags).
    pub flags: u32,
    /// What happens to the packets, one of [`route_type`](super::route_type).
    pub neighbour_type: u8,
    /// The neighbour's address. In a forwarding database, the other end of a tunnel.
    pub dst: Option<IpAddr>,
    /// The neighbour's hardware address.
    pub address: Option<&'a [u8]>,
    /// How often the neighbour was probed since it last answered.
    pub probe_count: Option<u32>,
    /// Who added the neighbour, one of [`protocol`](super::protocol). Available since Linux 5.0.
    pub protocol: Option<u8>,
    /// When the entry was used, confirmed and changed.
    pub times: Option<NeighbourTimes>,
    /// The bridge that the device is a port of (forwarding databases).
    pub master: Option<u32>,
    /// The VLAN (forwarding databases).
    pub vlan: Option<u16>,
    /// The UDP port of the tunnel (forwarding databases).
    pub port: Option<u16>,
    /// The VXLAN network identifier (forwarding databases).
    pub vni: Option<u32>,
    /// The index of the device by which the tunnel's packets leave (forwarding databases).
    pub via_index: Option<u32>,
    /// The nexthop object (forwarding databases). Available since Linux 5.8.
    pub nexthop_id: Option<u32>,
}

impl<'a> Neighbour<'a> {
    /// Decodes a message in one pass. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None if the message is neither of type [`NEW_NEIGHBOUR`](message_type::NEW_NEIGHBOUR) nor
    /// [`DELETE_NEIGHBOUR`](message_type::DELETE_NEIGHBOUR), or too short for `struct ndmsg`.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = kind_of(
            message,
            message_type::NEW_NEIGHBOUR,
            message_type::DELETE_NEIGHBOUR,
        )?;
        Self::read(kind, message)
    }

    /// Decodes a message in which the kernel asks programs for the hardware address of an address: an event of type
    /// [`GET_NEIGHBOUR`](message_type::GET_NEIGHBOUR), which the kernel sends where the sysctl `app_solicit` is not 0
    /// (Linux v6.18, net/core/neighbour.c, `neigh_app_ns`).
    ///
    /// None if the message is of another type or too short for `struct ndmsg`. `kind` is [`EventKind::Update`].
    pub fn decode_question(message: &Message<'a>) -> Option<Self> {
        let is_question = message.message_type() == message_type::GET_NEIGHBOUR;
        is_question.then(|| Self::read(EventKind::Update, message))?
    }

    fn read(kind: EventKind, message: &Message<'a>) -> Option<Self> {
        let fixed = message.payload().first_chunk::<NEIGHBOUR_FIXED_BYTES>()?;
        let (&[family, _, _, _], rest) = fixed.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let &[state_low, state_high, flags, neighbour_type] = rest.first_chunk()?;
        let mut neighbour = Self {
            kind,
            family: family.into(),
            index: u32::from_ne_bytes(*index),
            state: u16::from_ne_bytes([state_low, state_high]),
            flags: u32::from(flags),
            neighbour_type,
            dst: None,
            address: None,
            probe_count: None,
            protocol: None,
            times: None,
            master: None,
            vlan: None,
            port: None,
            vni: None,
            via_index: None,
            nexthop_id: None,
        };
        for attribute in message.attributes(NEIGHBOUR_FIXED_BYTES) {
            neighbour.set(attribute);
        }
        Some(neighbour)
    }

    /// Stores an attribute.
    fn set(&mut self, attribute: Attribute<'a>) {
        match attribute.attribute_type() {
            nda::DST => self.dst = ip(self.dst_family(attribute.bytes()), attribute.bytes()),
            nda::LLADDR => self.address = Some(attribute.bytes()),
            nda::CACHEINFO => self.times = NeighbourTimes::decode(attribute),
            nda::PROBES => self.probe_count = attribute.as_u32(),
            nda::VLAN => self.vlan = attribute.as_u16(),
            nda::PORT => self.port = attribute.as_be16(),
            nda::VNI => self.vni = attribute.as_u32(),
            nda::IFINDEX => self.via_index = attribute.as_u32(),
            nda::MASTER => self.master = attribute.as_u32(),
            nda::PROTOCOL => self.protocol = attribute.as_u8(),
            nda::NH_ID => self.nexthop_id = attribute.as_u32(),
            nda::FLAGS_EXT => self.flags |= attribute.as_u32().unwrap_or(0) << 8,
            _ => {}
        }
    }

    /// The family of `dst`, which in a forwarding database only its length reveals.
    fn dst_family(&self, bytes: &[u8]) -> Family {
        match (self.family, bytes.len()) {
            (Family::BRIDGE, 16) => Family::INET6,
            (Family::BRIDGE, _) => Family::INET,
            (family, _) => family,
        }
    }
}

/// How long ago a neighbour was used, confirmed and changed (`struct nda_cacheinfo`,
/// `include/uapi/linux/neighbour.h`), in hundredths of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NeighbourTimes {
    /// Time since the neighbour was last known to answer.
    pub confirmed: u32,
    /// Time since a packet was last sent to the neighbour.
    pub used: u32,
    /// Time since the entry last changed.
    pub updated: u32,
    /// How many parts of the kernel refer to the entry.
    pub reference_count: u32,
}

impl NeighbourTimes {
    fn decode(attribute: Attribute<'_>) -> Option<Self> {
        let (words, _) = attribute.bytes().as_chunks();
        let &[confirmed, used, updated, reference_count] = words.first_chunk()?;
        Some(Self {
            confirmed: u32::from_ne_bytes(confirmed),
            used: u32::from_ne_bytes(used),
            updated: u32::from_ne_bytes(updated),
            reference_count: u32::from_ne_bytes(reference_count),
        })
    }
}
