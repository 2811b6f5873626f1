//! The next hop of a route, or the hops of a multipath route.

use std::iter::FusedIterator;
use std::net::IpAddr;

use super::address::{Address, Via, ip};
use super::kernel::{NEXTHOP_FIXED_BYTES, rta};
use crate::Family;
use crate::message::{Attribute, Attributes};

/// The gateway and encapsulation of a route with one next hop, or of one hop of a multipath route.
///
/// ```
/// use nlring::route::{Route, message_type, rta};
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, message_type::NEW_ROUTE, 0)
///     .bytes(&[2 /* AF_INET */, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]) // struct rtmsg
///     .attribute(rta::GATEWAY, &[192, 0, 2, 1])
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let route = list.iter().find_map(|message| Route::decode(&message)).expect("it is a route");
/// assert_eq!(route.hop.gateway, "192.0.2.1".parse().ok());
/// assert_eq!((route.hop.via, route.hop.encap_type), (None, None));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Hop<'a> {
    /// The gateway, if it has the family of the route.
    pub gateway: Option<IpAddr>,
    /// The gateway, if its family differs from the route's.
    pub via: Option<Via<'a>>,
    /// The labels that replace those of the packet (MPLS).
    pub new_dst: Option<Address<'a>>,
    /// The type of the encapsulation, one of [`encap`](super::encap).
    pub encap_type: Option<u16>,
    /// The attributes of the encapsulation. Their numbers depend on its type.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::serialize::attributes")
    )]
    pub encap: Option<Attributes<'a>>,
    /// The realms: that of the source in the upper 16 bits, that of the destination in the lower 16 bits.
    pub realms: Option<u32>,
}

impl<'a> Hop<'a> {
    #[inline]
    pub(super) fn set(&mut self, family: Family, attribute: Attribute<'a>) {
        match attribute.attribute_type() {
            rta::GATEWAY => self.gateway = ip(family, attribute.bytes()),
            rta::VIA => self.via = Via::decode(attribute.bytes()),
            rta::NEWDST => self.new_dst = Some(Address::new(family, attribute.bytes())),
            rta::ENCAP_TYPE => self.encap_type = attribute.as_u16(),
            rta::ENCAP => self.encap = Some(attribute.nested()),
            rta::FLOW => self.realms = attribute.as_u32(),
            _ => {}
        }
    }
}

/// Whether all fields are the same. Two encapsulations are the same if their attributes are, in the same order.
impl PartialEq for Hop<'_> {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            gateway,
            via,
            new_dst,
            encap_type,
            encap,
            realms,
        } = self;
        *gateway == other.gateway
            && *via == other.via
            && *new_dst == other.new_dst
            && *encap_type == other.encap_type
            && *realms == other.realms
            && match (encap, &other.encap) {
                (Some(one), Some(other)) => Iterator::eq(one.map(content), other.map(content)),
                (one, other) => one.is_none() && other.is_none(),
            }
    }
}

fn content(attribute: Attribute<'_>) -> (u16, &[u8]) {
    (attribute.attribute_type(), attribute.bytes())
}

impl Eq for Hop<'_> {}

/// One hop of a multipath route (`struct rtnexthop` and its attributes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Nexthop<'a> {
    /// The index of the device.
    pub oif: u32,
    /// The share of the packets that the hop gets, 1 to 256.
    pub weight: u16,
    /// Bits of [`route_flags`](super::route_flags).
    pub flags: u32,
    /// The gateway and encapsulation.
    pub hop: Hop<'a>,
}

/// An iterator over the hops of a multipath route, in order.
///
/// It ends at the first hop with an invalid length (below 8, or beyond the end), like the kernel's `rtnh_ok`.
///
/// ```
/// use nlring::route::{DumpFilter, Requests};
///
/// let mut requests = Requests::open()?;
/// let dump = requests.dump(&DumpFilter::new(), |hop_count: &mut usize, route| {
///     // A route with one next hop has it in `route.hop` and `route.oif` instead.
///     *hop_count += route.nexthops.count();
/// })?;
/// println!("{} hops of multipath routes", dump.items);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Nexthops<'a> {
    family: Family,
    pub(super) left: &'a [u8],
}

impl<'a> Nexthops<'a> {
    /// An iterator over the bytes of an `RTA_MULTIPATH`.
    #[inline]
    pub(super) fn new(family: Family, left: &'a [u8]) -> Self {
        Self { family, left }
    }

    /// Whether there are no hops, because the route is not a multipath route.
    #[inline]
    pub fn is_empty(&self) -> bool {
        { *self }.next().is_none()
    }
}

#[allow(
    clippy::copy_iterator,
    reason = "a route is Copy, so are the views in it"
)]
impl<'a> Iterator for Nexthops<'a> {
    type Item = Nexthop<'a>;

    fn next(&mut self) -> Option<Nexthop<'a>> {
        let fixed = self.left.first_chunk::<NEXTHOP_FIXED_BYTES>()?;
        let (&[low, high, flags, hops], oif) = fixed.split_first_chunk()?;
        let oif = oif.first_chunk().copied().map(u32::from_ne_bytes)?;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let attributes = self.left.get(NEXTHOP_FIXED_BYTES..length)?;
        self.left = self
            .left
            .get(crate::message::align(length)..)
            .unwrap_or_default();
        let mut hop = Hop::default();
        for attribute in Attributes::new(attributes) {
            hop.set(self.family, attribute);
        }
        Some(Nexthop {
            oif,
            weight: u16::from(hops) + 1,
            flags: u32::from(flags),
            hop,
        })
    }
}

impl FusedIterator for Nexthops<'_> {}

/// Whether the hops are the same, in the same order.
impl PartialEq for Nexthops<'_> {
    fn eq(&self, other: &Self) -> bool {
        Iterator::eq(*self, *other)
    }
}

impl Eq for Nexthops<'_> {}

/// A list of the hops.
#[cfg(feature = "serde")]
impl serde::Serialize for Nexthops<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(*self)
    }
}
