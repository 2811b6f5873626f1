//! Routes that outlive their messages.

use super::address::{Address, Labels, Via};
use super::hop::{Hop, Nexthops};
use super::metrics::Metrics;
use super::route::Route;
use crate::Family;
use crate::message::Attributes;

/// A route that owns all its parts: it outlives the message, and can be kept or sent to another thread.
///
/// [`Route::into_owned`] creates one, and [`as_route`](Self::as_route) returns the route.
///
/// ```
/// use nlring::Family;
/// use nlring::route::{DumpFilter, OwnedRoute, Requests, table};
///
/// let mut requests = Requests::open()?;
/// let filter = DumpFilter::new().family(Family::INET).table(table::LOCAL);
/// let dump = requests.dump(&filter, |routes: &mut Vec<OwnedRoute>, route| {
///     routes.push(route.into_owned());
/// })?;
/// for route in &dump.items {
///     assert_eq!(route.as_route().table, table::LOCAL);
/// }
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OwnedRoute {
    /// The route without its borrowed parts.
    route: Route<'static>,
    dst: Option<OwnedAddress>,
    src: Option<OwnedAddress>,
    via: Option<(Family, OwnedAddress)>,
    new_dst: Option<OwnedAddress>,
    encap: Option<Box<[u8]>>,
    nexthops: Box<[u8]>,
    metrics: Box<[u8]>,
}

#[derive(Clone, Debug)]
enum OwnedAddress {
    Short(Address<'static>),
    Mpls(Box<[u8]>),
    Other(Box<[u8]>),
}

impl OwnedAddress {
    fn of(address: Address<'_>) -> Self {
        match address {
            Address::Ip(ip) => Self::Short(Address::Ip(ip)),
            Address::Mpls(labels) => Self::Mpls(labels.left.into()),
            Address::Other(bytes) => Self::Other(bytes.into()),
        }
    }

    fn as_address(&self) -> Address<'_> {
        match self {
            Self::Short(address) => *address,
            Self::Mpls(left) => Address::Mpls(Labels { left }),
            Self::Other(bytes) => Address::Other(bytes),
        }
    }
}

impl OwnedRoute {
    /// The route. This copies about 400 bytes and allocates nothing.
    pub fn as_route(&self) -> Route<'_> {
        Route {
            dst: self.dst.as_ref().map(OwnedAddress::as_address),
            src: self.src.as_ref().map(OwnedAddress::as_address),
            hop: Hop {
                via: self.via.as_ref().map(|(family, address)| Via {
                    family: *family,
                    address: address.as_address(),
                }),
                new_dst: self.new_dst.as_ref().map(OwnedAddress::as_address),
                encap: self.encap.as_deref().map(Attributes::new),
                ..self.route.hop
            },
            nexthops: Nexthops::new(self.route.family, &self.nexthops),
            metrics: Metrics::new(Attributes::new(&self.metrics)),
            ..self.route
        }
    }
}

impl Route<'_> {
    /// The same route with its own parts. An IPv4 or IPv6 route with one gateway needs no allocation; hops, metrics, an
    /// encapsulation and labels need one each.
    #[must_use]
    pub fn into_owned(self) -> OwnedRoute {
        OwnedRoute {
            dst: self.dst.map(OwnedAddress::of),
            src: self.src.map(OwnedAddress::of),
            via: (self.hop.via).map(|via| (via.family, OwnedAddress::of(via.address))),
            new_dst: self.hop.new_dst.map(OwnedAddress::of),
            encap: self.hop.encap.map(|encap| encap.bytes().into()),
            nexthops: self.nexthops.left.into(),
            metrics: self.metrics.left.bytes().into(),
            route: Route {
                dst: None,
                src: None,
                hop: Hop {
                    via: None,
                    new_dst: None,
                    encap: None,
                    ..self.hop
                },
                nexthops: Nexthops::default(),
                metrics: Metrics::default(),
                ..self
            },
        }
    }
}

/// Whether the routes are the same.
impl PartialEq for OwnedRoute {
    fn eq(&self, other: &Self) -> bool {
        self.as_route() == other.as_route()
    }
}

impl Eq for OwnedRoute {}

impl From<Route<'_>> for OwnedRoute {
    fn from(route: Route<'_>) -> Self {
        route.into_owned()
    }
}

/// Serializes like [`Route`].
#[cfg(feature = "serde")]
impl serde::Serialize for OwnedRoute {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_route().serialize(serializer)
    }
}

/// On bytes as Linux 6.18 sent them to a little-endian machine.
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use nlring_testing::datagrams::route::{
        ENCAP_IP, EXPIRES, METRICS, MULTIPATH, TABLE_1000, VIA_INET6,
    };

    use super::*;
    use crate::MessageList;

    fn decode(bytes: &[u8]) -> Option<Route<'_>> {
        Route::decode(&MessageList::new(bytes).datagrams()[0].messages().next()?)
    }

    #[test]
    fn an_owned_route_is_the_one_that_it_was_made_of_and_differs_from_any_other() {
        let datagrams = [MULTIPATH, VIA_INET6, METRICS, EXPIRES, TABLE_1000, ENCAP_IP];
        let owned = datagrams.map(|bytes| decode(bytes).unwrap().into_owned());
        for (index, owned) in owned.iter().enumerate() {
            for (other, bytes) in datagrams.iter().enumerate() {
                let is_same = owned.as_route() == decode(bytes).unwrap();
                assert_eq!(is_same, index == other, "{index} and {other}");
            }
            let route = owned.as_route();
            assert_eq!(route.into_owned(), *owned);
        }
    }
}
