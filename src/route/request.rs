//! Requests about routes, devices and their addresses.

use std::fmt;
use std::net::IpAddr;

use super::interface_address::InterfaceAddress;
use super::kernel::{ifla, message_type, rta};
use super::link::Link;
use super::new_route::{NewRoute, family_of, put_ip};
use super::route::Route;
use super::{protocol_name, route_type_name, table_name};
use crate::Family;
use crate::error::{Error, Result};
use crate::event_kind::EventKind;
use crate::message::{Message, MessageBuilder, flags};
use crate::request::{Batch, Dump, Replies, Requester};
use crate::socket::{Namespace, Protocol};

/// Requests about routes, devices and their addresses, over a separate socket.
///
/// Changes need `CAP_NET_ADMIN` over the network namespace. Dumps and lookups need no capability.
///
/// ```
/// use nlring::Family;
/// use nlring::route::{DumpFilter, Requests, table};
///
/// let mut requests = Requests::open()?;
/// let own_addresses = DumpFilter::new().family(Family::INET).table(table::LOCAL);
/// let routes = requests.dump(&own_addresses, |count: &mut usize, _route| *count += 1)?;
/// println!("{} routes to own addresses", routes.items);
///
/// // Which device would a packet leave by?
/// let device = requests.get("127.0.0.1".parse().unwrap(), |route| route.oif)?;
/// println!("device {device:?}");
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
pub struct Requests {
    requester: Requester,
}

/// Which routes a dump returns: those that meet all criteria.
///
/// The kernel selects the routes since Linux 4.20. An older kernel sends more; [`Requests::dump`] leaves the others
/// out.
///
/// A filter without a [`family`](Self::family) is for IPv4, IPv6 and MPLS, even if it has other criteria. MPLS
/// understands the same criteria as IPv4 (Linux v6.18, net/mpls/af_mpls.c, `mpls_valid_fib_dump_req`). It has one
/// table, [`table::MAIN`](super::table::MAIN), and all its routes are unicast.
///
/// ```
/// use nlring::Family;
/// use nlring::route::{DumpFilter, Requests, Route, protocol, table};
///
/// let mut requests = Requests::open()?;
/// let filter = DumpFilter::new().family(Family::INET).table(table::LOCAL).protocol(protocol::KERNEL);
/// let dump = requests.dump(&filter, |all_match: &mut Vec<bool>, route| {
///     all_match.push(filter.matches(route));
/// })?;
/// assert!(dump.items.iter().all(|matches| *matches));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct DumpFilter {
    family: Family,
    table: Option<u32>,
    protocol: Option<u8>,
    route_type: Option<u8>,
    oif: Option<u32>,
}

impl DumpFilter {
    /// All routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Routes of an address family.
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// Routes of a table. A table that does not exist has none.
    pub fn table(mut self, table: u32) -> Self {
        self.table = Some(table);
        self
    }

    /// Routes that a [`protocol`](super::protocol) added.
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Routes of a [`route_type`](super::route_type).
    pub fn route_type(mut self, route_type: u8) -> Self {
        self.route_type = Some(route_type);
        self
    }

    /// Routes that leave by a device, with any of their hops. A device that does not exist has none.
    pub fn oif(mut self, index: u32) -> Self {
        self.oif = Some(index);
        self
    }

    /// Appends `struct rtmsg` and the criteria (Linux v6.18, net/ipv4/fib_frontend.c, `ip_valid_fib_dump_req`).
    pub(super) fn put<'a>(&self, message: MessageBuilder<'a>) -> MessageBuilder<'a> {
        let (protocol, route_type) = (self.protocol.unwrap_or(0), self.route_type.unwrap_or(0));
        let mut message = message
            .bytes(&[self.family.into(), 0, 0, 0, 0, protocol, 0, route_type])
            .bytes(&[0; 4]);
        for (attribute, value) in [(rta::TABLE, self.table), (rta::OIF, self.oif)] {
            if let Some(value) = value {
                message = message.attribute_u32(attribute, value);
            }
        }
        message
    }

    /// Whether the kernel refused the dump because the table or the device does not exist (Linux v6.18,
    /// net/ipv4/fib_frontend.c, `inet_dump_fib` and `ip_valid_fib_dump_req`).
    fn asks_for_what_is_missing(&self, error: &Error) -> bool {
        let is_table_missing = self.table.is_some() && is(error, libc::ENOENT);
        is_table_missing || self.oif.is_some() && is(error, libc::ENODEV)
    }

    /// Whether the filter selects a route. The kernel makes the same choice, as far as it can. No filter selects an
    /// entry of the route cache.
    #[must_use]
    pub fn matches(&self, route: &Route<'_>) -> bool {
        let is_over = |index| {
            route.oif == Some(index) || { route.nexthops }.any(|nexthop| nexthop.oif == index)
        };
        (self.family == Family::UNSPEC || self.family == route.family)
            && self.table.is_none_or(|table| table == route.table)
            && self
                .protocol
                .is_none_or(|protocol| protocol == route.protocol)
            && (self.route_type).is_none_or(|route_type| route_type == route.route_type)
            && self.oif.is_none_or(is_over)
            && !route.is_cloned()
    }
}

/// The criteria, such as `family ipv4, table main`, or `all routes`.
impl fmt::Display for DumpFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_number = |name: Option<&'static str>, number: u32| {
            name.map_or_else(|| number.to_string(), str::to_owned)
        };
        let family = (self.family != Family::default()).then_some(self.family);
        let (table, protocol, route_type) = (self.table, self.protocol, self.route_type);
        let table = table.map(|number| or_number(table_name(number), number));
        let protocol = protocol.map(|number| or_number(protocol_name(number), number.into()));
        let route_type = route_type.map(|number| or_number(route_type_name(number), number.into()));
        let parts = [
            family.map(|family| format!("family {family}")),
            table.map(|table| format!("table {table}")),
            protocol.map(|protocol| format!("proto {protocol}")),
            route_type.map(|route_type| format!("type {route_type}")),
            self.oif.map(|index| format!("oif {index}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        match &parts[..] {
            [] => f.write_str("all routes"),
            parts => f.write_str(&parts.join(", ")),
        }
    }
}

impl Requests {
    /// Opens a socket for requests.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::open`].
    pub fn open() -> Result<Self> {
        Ok(Self {
            requester: Requester::open(Protocol::ROUTE)?,
        })
    }

    /// Opens a socket for requests in another network namespace. They concern the objects of that namespace.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::open_in`].
    pub fn open_in(namespace: &Namespace) -> Result<Self> {
        Ok(Self {
            requester: Requester::open_in(Protocol::ROUTE, namespace)?,
        })
    }

    /// The requester that sends the requests. Use it to set the time-out, and for requests that have no method here.
    pub fn requester(&mut self) -> &mut Requester {
        &mut self.requester
    }

    /// Dumps routes: calls `take` with each, which adds it to the items. Entries of the route cache are left out.
    ///
    /// The kernel does not report whether changes interrupted a dump of routes (seen on Linux 6.18, where it does so
    /// for devices and addresses). So routes that are added or deleted during the dump may be among the items or not.
    ///
    /// One route larger than 32 KiB (about 1,170 next hops of IPv6) ends the dump with
    /// [`ErrorKind::EntryTooLarge`](crate::ErrorKind::EntryTooLarge). There is an exception: the kernel leaves out such
    /// an IPv6 route, and the IPv6 routes after it, without an error if only IPv6 is requested ([`DumpFilter::family`];
    /// seen on Linux 6.18), and in any dump on Linux 6.1.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::dump`].
    pub fn dump<T: Default>(
        &mut self,
        filter: &DumpFilter,
        mut take: impl FnMut(&mut T, &Route<'_>),
    ) -> Result<Dump<T>> {
        let take = |items: &mut T, message: &Message<'_>| {
            if let Some(route) = Route::decode(message).filter(|route| filter.matches(route)) {
                take(items, &route);
            }
        };
        let requester = &mut self.requester;
        match requester.dump(message_type::GET_ROUTE, |message| filter.put(message), take) {
            Err(error) if filter.asks_for_what_is_missing(&error) => Ok(Dump {
                items: T::default(),
                is_interrupted: false,
                attempts: 1,
            }),
            dump => dump,
        }
    }

    /// Begins a dump of routes and returns the replies, to be read one by one, so that a program need not hold the
    /// table in memory. [`dump`](Self::dump) collects instead.
    ///
    /// [`Route::decode`] reads the route of a reply. Leave out those that [`DumpFilter::matches`] rejects: an older
    /// kernel may send more than was requested.
    ///
    /// ```
    /// use nlring::Family;
    /// use nlring::route::{DumpFilter, Requests, Route};
    ///
    /// let mut requests = Requests::open()?;
    /// let filter = DumpFilter::new().family(Family::INET);
    /// let mut replies = requests.dump_replies(&filter)?;
    /// while let Some(message) = replies.next_message()? {
    ///     if let Some(route) = Route::decode(&message).filter(|route| filter.matches(route)) {
    ///         println!("table {}, {} bits", route.table, route.dst_prefix_len);
    ///     }
    /// }
    /// # Ok::<(), nlring::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Requester::send`]. A refusal by the kernel is an error of the first reply: `ENOENT` for a table that
    /// does not exist, `ENODEV` for a device that does not exist.
    pub fn dump_replies(&mut self, filter: &DumpFilter) -> Result<Replies<'_>> {
        let requester = &mut self.requester;
        requester.send(message_type::GET_ROUTE, flags::DUMP, |message| {
            filter.put(message)
        })
    }

    /// Looks up the route that packets from this machine to an address take, and calls `f` with it. None if there is no
    /// route (`ENETUNREACH`).
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`]. For a route that drops packets it is the error with which packets are answered, for
    /// example `EHOSTUNREACH`.
    pub fn get<T>(&mut self, dst: IpAddr, f: impl FnOnce(&Route<'_>) -> T) -> Result<Option<T>> {
        let prefix_len = if dst.is_ipv4() { 32 } else { 128 };
        let mut replies = self.requester.send(message_type::GET_ROUTE, 0, |message| {
            let message = message.bytes(&[family_of(dst).into(), prefix_len, 0, 0]);
            put_ip(message.bytes(&[0; 8]), rta::DST, dst)
        })?;
        let (mut f, mut found) = (Some(f), None);
        loop {
            match replies.next_message() {
                Ok(Some(message)) => {
                    if let (Some(mut route), Some(f)) = (Route::decode(&message), f.take()) {
                        route.kind = EventKind::Entry;
                        found = Some(f(&route));
                    }
                }
                Ok(None) => return Ok(found),
                Err(error) if is(&error, libc::ENETUNREACH) => return Ok(None),
                Err(error) => return Err(error.during("look a route up")),
            }
        }
    }

    /// Adds a route.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`]: `EEXIST` if there is a route with its destination, table, priority and type of
    /// service.
    pub fn add(&mut self, route: &NewRoute<'_>) -> Result<()> {
        self.make(route, flags::CREATE | flags::EXCL, "add a route")
    }

    /// Replaces the route with the same destination, table, priority and type of service, or adds the route if there is
    /// none.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`].
    pub fn replace(&mut self, route: &NewRoute<'_>) -> Result<()> {
        self.make(route, flags::CREATE | flags::REPLACE, "replace a route")
    }

    /// Adds a route after those with the same destination, table, priority and type of service. An IPv6 route becomes
    /// another hop of the existing route.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`].
    pub fn append(&mut self, route: &NewRoute<'_>) -> Result<()> {
        self.make(route, flags::CREATE | flags::APPEND, "append a route")
    }

    fn make(&mut self, route: &NewRoute<'_>, flags: u16, operation: &'static str) -> Result<()> {
        let asked = self
            .requester
            .ask(message_type::NEW_ROUTE, flags, |message| {
                route.put_new(message)
            });
        asked.map_err(|error| error.during(operation))
    }

    /// Deletes the first route that matches in every part that is set. False if there is no such route.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`].
    pub fn delete(&mut self, route: &NewRoute<'_>) -> Result<bool> {
        let asked = self
            .requester
            .ask(message_type::DELETE_ROUTE, 0, |message| {
                route.put_old(message)
            });
        match asked {
            Ok(()) => Ok(true),
            Err(error) if is(&error, libc::ESRCH) => Ok(false),
            Err(error) => Err(error.during("delete a route")),
        }
    }

    /// Looks up the device with this index, and calls `f` with it. None if there is no such device (`ENODEV`).
    ///
    /// ```
    /// use nlring::route::Requests;
    ///
    /// let name = Requests::open()?.get_link(1, |link| link.name.map(<[u8]>::to_vec))?;
    /// assert_eq!(name, Some(Some(b"lo".to_vec())));
    /// # Ok::<(), nlring::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`].
    pub fn get_link<T>(&mut self, index: u32, f: impl FnOnce(&Link<'_>) -> T) -> Result<Option<T>> {
        let mut fixed = [0; 16]; // struct ifinfomsg
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut replies = self.requester.send(message_type::GET_LINK, 0, |message| {
            let message = message.bytes(&fixed);
            message.attribute_u32(ifla::EXT_MASK, ifla::EXT_SKIP_STATS)
        })?;
        let (mut f, mut found) = (Some(f), None);
        loop {
            match replies.next_message() {
                Ok(Some(message)) => {
                    if let (Some(mut link), Some(f)) = (Link::decode(&message), f.take()) {
                        link.kind = EventKind::Entry;
                        found = Some(f(&link));
                    }
                }
                Ok(None) => return Ok(found),
                Err(error) if is(&error, libc::ENODEV) => return Ok(None),
                Err(error) => return Err(error.during("look a device up")),
            }
        }
    }

    /// Dumps the devices: calls `take` with each, which adds it to the items.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::dump`].
    pub fn links<T: Default>(
        &mut self,
        mut take: impl FnMut(&mut T, &Link<'_>),
    ) -> Result<Dump<T>> {
        let take = |items: &mut T, message: &Message<'_>| {
            if let Some(link) = Link::decode(message) {
                take(items, &link);
            }
        };
        let requester = &mut self.requester;
        requester.dump(
            message_type::GET_LINK,
            // A struct ifinfomsg of zeros requests all. Statistics would be the larger part of each message.
            |message| {
                message
                    .bytes(&[0; 16])
                    .attribute_u32(ifla::EXT_MASK, ifla::EXT_SKIP_STATS)
            },
            take,
        )
    }

    /// Dumps the addresses of devices, of one address family or of all ([`Family::UNSPEC`]): calls `take` with each,
    /// which adds it to the items.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::dump`].
    pub fn addresses<T: Default>(
        &mut self,
        family: Family,
        mut take: impl FnMut(&mut T, &InterfaceAddress<'_>),
    ) -> Result<Dump<T>> {
        let take = |items: &mut T, message: &Message<'_>| {
            if let Some(address) = InterfaceAddress::decode(message) {
                take(items, &address);
            }
        };
        let fixed = [family.into(), 0, 0, 0, 0, 0, 0, 0]; // struct ifaddrmsg
        self.requester.dump(
            message_type::GET_ADDRESS,
            |message| message.bytes(&fixed),
            take,
        )
    }
}

impl NewRoute<'_> {
    /// Adds the request for this route to a batch. [`Requests::add`] sends one alone.
    ///
    /// # Errors
    ///
    /// Those of [`Batch::add`].
    pub fn add_in(&self, batch: &mut Batch) -> Result<()> {
        let flags = flags::CREATE | flags::EXCL;
        batch.add(message_type::NEW_ROUTE, flags, |message| {
            self.put_new(message)
        })
    }

    /// Adds the request to delete this route to a batch. [`Requests::delete`] sends one alone. If there is no such
    /// route, the kernel refuses the request (`ESRCH`).
    ///
    /// # Errors
    ///
    /// Those of [`Batch::add`].
    pub fn delete_in(&self, batch: &mut Batch) -> Result<()> {
        batch.add(message_type::DELETE_ROUTE, 0, |message| {
            self.put_old(message)
        })
    }
}

fn is(error: &Error, number: i32) -> bool {
    error.raw_os_error() == Some(number)
}
