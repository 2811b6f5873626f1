//! Addresses of devices.

use std::net::IpAddr;

use super::address::ip;
use super::kernel::{ADDRESS_FIXED_BYTES, ifa, message_type};
use super::kind_of;
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::Message;

/// An address of a device, as one message describes it (include/uapi/linux/if_addr.h).
///
/// Its events are sent to the groups [`Ipv4Address`](super::Group::Ipv4Address) and
/// [`Ipv6Address`](super::Group::Ipv6Address).
///
/// ```
/// use nlring::EventKind;
/// use nlring::route::InterfaceAddress;
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 20 /* RTM_NEWADDR */, 0)
///     .bytes(&[2 /* AF_INET */, 24, 0x80, 0, 7, 0, 0, 0]) // struct ifaddrmsg, little-endian
///     .attribute(1 /* IFA_ADDRESS */, &[192, 0, 2, 1])
///     .attribute(2 /* IFA_LOCAL */, &[192, 0, 2, 1])
///     .attribute_str_nul(3 /* IFA_LABEL */, "eth0")
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let address = list.iter().find_map(|message| InterfaceAddress::decode(&message)).expect("an address");
/// assert_eq!(address.kind, EventKind::New);
/// assert_eq!((address.own(), address.prefix_len), ("192.0.2.1".parse().ok(), 24));
/// assert_eq!(address.peer(), None);
/// assert_eq!(address.label, Some(&b"eth0"[..]));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct InterfaceAddress<'a> {
    /// What the message says about the address.
    pub kind: EventKind,
    /// The address family.
    pub family: Family,
    /// The device's index.
    pub index: u32,
    /// The length of the network's prefix in bits.
    pub prefix_len: u8,
    /// How far the address is valid, one of [`scope`](super::scope).
    pub scope: u8,
    /// Bits of [`address_flags`](super::address_flags): 8 of them, and 32 since Linux 3.14.
    pub flags: u32,
    /// `IFA_ADDRESS`: the address of the other end of a point-to-point device, otherwise that of the device.
    pub address: Option<IpAddr>,
    /// `IFA_LOCAL`: the address of the device. For IPv6 it is present only if the other end also has an address.
    pub local: Option<IpAddr>,
    /// The label that the address was added with, such as `eth0:1` (IPv4).
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub label: Option<&'a [u8]>,
    /// The address for broadcasts (IPv4).
    pub broadcast: Option<IpAddr>,
    /// An anycast address (IPv6).
    pub anycast: Option<IpAddr>,
    /// The metric of the route to the address's network. Available since Linux 4.18.
    pub priority: Option<u32>,
    /// How long the address is preferred for new connections, in seconds. [`u32::MAX`] means forever.
    pub preferred_seconds: Option<u32>,
    /// How long the address is valid, in seconds. [`u32::MAX`] means forever.
    pub valid_seconds: Option<u32>,
    /// Who added the address (`IFAPROT_*`): 1 and 3 are the kernel, 2 is a router's advertisement. Available since
    /// Linux 5.18.
    pub protocol: Option<u8>,
}

impl<'a> InterfaceAddress<'a> {
    /// Decodes a message.
    ///
    /// None if the message is neither of type [`NEW_ADDRESS`](message_type::NEW_ADDRESS) nor
    /// [`DELETE_ADDRESS`](message_type::DELETE_ADDRESS), or too short for `struct ifaddrmsg`.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = kind_of(
            message,
            message_type::NEW_ADDRESS,
            message_type::DELETE_ADDRESS,
        )?;
        let fixed = message.payload().first_chunk::<ADDRESS_FIXED_BYTES>()?;
        let (&[family, prefix_len, flags, scope], index) = fixed.split_first_chunk()?;
        let family = Family::from(family);
        let mut this = Self {
            kind,
            family,
            index: u32::from_ne_bytes(*index.first_chunk()?),
            prefix_len,
            scope,
            flags: u32::from(flags),
            address: None,
            local: None,
            label: None,
            broadcast: None,
            anycast: None,
            priority: None,
            preferred_seconds: None,
            valid_seconds: None,
            protocol: None,
        };
        for attribute in message.attributes(ADDRESS_FIXED_BYTES) {
            match attribute.attribute_type() {
                ifa::ADDRESS => this.address = ip(family, attribute.bytes()),
                ifa::LOCAL => this.local = ip(family, attribute.bytes()),
                ifa::LABEL => this.label = Some(attribute.as_str_bytes()),
                ifa::BROADCAST => this.broadcast = ip(family, attribute.bytes()),
                ifa::ANYCAST => this.anycast = ip(family, attribute.bytes()),
                ifa::RT_PRIORITY => this.priority = attribute.as_u32(),
                ifa::PROTO => this.protocol = attribute.as_u8(),
                ifa::CACHEINFO => this.set_lifetimes(attribute.bytes()),
                ifa::FLAGS => this.flags = attribute.as_u32().unwrap_or(this.flags),
                _ => {}
            }
        }
        Some(this)
    }

    /// Reads the first half of `struct ifa_cacheinfo`.
    fn set_lifetimes(&mut self, bytes: &[u8]) {
        if let Some((preferred, rest)) = bytes.split_first_chunk()
            && let Some(valid) = rest.first_chunk()
        {
            self.preferred_seconds = Some(u32::from_ne_bytes(*preferred));
            self.valid_seconds = Some(u32::from_ne_bytes(*valid));
        }
    }

    /// The address of the device.
    #[inline]
    pub fn own(&self) -> Option<IpAddr> {
        self.local.or(self.address)
    }

    /// The address of the other end of a point-to-point device.
    #[inline]
    pub fn peer(&self) -> Option<IpAddr> {
        self.address
            .filter(|_| self.local.is_some_and(|local| self.address != Some(local)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageBuilder, Messages};

    /// Builds a message of these parts, and calls `f` with what it decodes to.
    fn with_decoded(
        fixed: &[u8],
        attributes: &[(u16, &[u8])],
        f: impl FnOnce(Option<InterfaceAddress<'_>>),
    ) {
        let mut bytes = Vec::new();
        let mut message =
            MessageBuilder::new(&mut bytes, message_type::DELETE_ADDRESS, 0).bytes(fixed);
        for (number, value) in attributes {
            message = message.attribute(*number, value);
        }
        message.finish().unwrap();
        let message = Messages::new(&bytes).next().unwrap();
        f(InterfaceAddress::decode(&message));
    }

    #[test]
    fn a_point_to_point_address_has_two_ends_and_flags_of_32_bits() {
        let [own, peer] = [[10, 0, 0, 1], [10, 0, 0, 2]];
        let attributes = [(1, &peer[..]), (2, &own), (8, &0x480u32.to_ne_bytes())];
        with_decoded(&[2, 32, 0x80, 0, 0, 0, 0, 0], &attributes, |address| {
            let address = address.unwrap();
            assert_eq!((address.kind, address.flags), (EventKind::Delete, 0x480));
            assert_eq!(address.own(), Some(own.into()));
            assert_eq!(address.peer(), Some(peer.into()));
        });
    }

    #[test]
    fn an_ipv6_address_is_its_own_and_wrong_sizes_are_left_out() {
        let attributes = [(1, &[1; 16][..]), (2, &[1; 4])];
        with_decoded(&[10, 64, 0, 253, 0, 0, 0, 0], &attributes, |address| {
            let address = address.unwrap();
            assert_eq!(address.own(), Some([1; 16].into()));
            assert_eq!((address.peer(), address.scope), (None, 253));
        });
        with_decoded(&[2, 8, 0, 0], &[], |address| assert_eq!(address, None));
    }
}
