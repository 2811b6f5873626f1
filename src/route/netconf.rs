//! Settings of devices that are sysctls, such as forwarding.

use super::kernel::{NETCONF_FIXED_BYTES, message_type, netconfa};
use super::kind_of;
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Attribute, Message, align};

/// Settings of a device for one address family, as one message describes them: sysctls below `net.ipv4.conf`,
/// `net.ipv6.conf` and `net.mpls.conf` (Linux v6.18, net/ipv4/devinet.c, `inet_netconf_fill_devconf`;
/// net/ipv6/addrconf.c, `inet6_netconf_fill_devconf`). Available since Linux 3.8.
///
/// Its events are sent to the groups [`Ipv4Netconf`](super::Group::Ipv4Netconf),
/// [`Ipv6Netconf`](super::Group::Ipv6Netconf) and [`MplsNetconf`](super::Group::MplsNetconf). An event has the settings
/// that changed, or all settings of a new device.
///
/// ```
/// use nlring::route::{Netconf, NetconfScope};
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 80 /* RTM_NEWNETCONF */, 0)
///     .bytes(&[2 /* AF_INET */, 0, 0, 0]) // struct netconfmsg, padded
///     .attribute_u32(1 /* NETCONFA_IFINDEX */, u32::MAX) // NETCONFA_IFINDEX_ALL
///     .attribute_u32(2 /* NETCONFA_FORWARDING */, 1)
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let netconf = list.iter().find_map(|message| Netconf::decode(&message)).expect("settings");
/// assert_eq!(netconf.scope, Some(NetconfScope::All));
/// assert_eq!((netconf.forwarding, netconf.rp_filter), (Some(1), None));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Netconf {
    /// What the message says about the settings.
    pub kind: EventKind,
    /// The address family.
    pub family: Family,
    /// The devices that the settings concern.
    pub scope: Option<NetconfScope>,
    /// Whether packets are forwarded: `forwarding`.
    pub forwarding: Option<u32>,
    /// How the source of a packet is checked: `rp_filter`. 0 off, 1 strict, 2 loose.
    pub rp_filter: Option<u32>,
    /// Whether multicast packets are forwarded: `mc_forwarding`. Available since Linux 3.8.
    pub mc_forwarding: Option<u32>,
    /// Whether the machine answers for neighbours: `proxy_arp`, `proxy_ndp`. Available since Linux 3.14.
    pub proxy_neighbour: Option<u32>,
    /// Whether routes over a device without a carrier are ignored. Available since Linux 4.3.
    pub ignore_routes_with_linkdown: Option<u32>,
    /// Whether MPLS packets are accepted: `input`. Available since Linux 4.12.
    pub input: Option<u32>,
    /// Whether directed broadcasts are forwarded: `bc_forwarding`. Available since Linux 4.19.
    pub bc_forwarding: Option<u32>,
}

/// The devices that settings concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum NetconfScope {
    /// All devices: `net.ipv4.conf.all`.
    All,
    /// Devices that are added from now on: `net.ipv4.conf.default`.
    Default,
    /// The device with this index.
    Device(u32),
}

impl Netconf {
    /// Decodes a message in one pass. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None if the message is neither of type [`NEW_NETCONF`](message_type::NEW_NETCONF) nor
    /// [`DELETE_NETCONF`](message_type::DELETE_NETCONF), or too short for `struct netconfmsg`.
    pub fn decode(message: &Message<'_>) -> Option<Self> {
        let kind = kind_of(
            message,
            message_type::NEW_NETCONF,
            message_type::DELETE_NETCONF,
        )?;
        let &[family] = message.payload().first_chunk::<NETCONF_FIXED_BYTES>()?;
        let mut netconf = Self {
            kind,
            family: family.into(),
            scope: None,
            forwarding: None,
            rp_filter: None,
            mc_forwarding: None,
            proxy_neighbour: None,
            ignore_routes_with_linkdown: None,
            input: None,
            bc_forwarding: None,
        };
        for attribute in message.attributes(align(NETCONF_FIXED_BYTES)) {
            netconf.set(attribute);
        }
        Some(netconf)
    }

    /// Stores an attribute.
    fn set(&mut self, attribute: Attribute<'_>) {
        let value = attribute.as_u32();
        match attribute.attribute_type() {
            netconfa::IFINDEX => self.scope = value.map(NetconfScope::new),
            netconfa::FORWARDING => self.forwarding = value,
            netconfa::RP_FILTER => self.rp_filter = value,
            netconfa::MC_FORWARDING => self.mc_forwarding = value,
            netconfa::PROXY_NEIGH => self.proxy_neighbour = value,
            netconfa::IGNORE_ROUTES_WITH_LINKDOWN => self.ignore_routes_with_linkdown = value,
            netconfa::INPUT => self.input = value,
            netconfa::BC_FORWARDING => self.bc_forwarding = value,
            _ => {}
        }
    }
}

impl NetconfScope {
    /// -1 is `NETCONFA_IFINDEX_ALL`, -2 `NETCONFA_IFINDEX_DEFAULT`.
    fn new(index: u32) -> Self {
        match index.cast_signed() {
            -1 => Self::All,
            -2 => Self::Default,
            _ => Self::Device(index),
        }
    }
}
