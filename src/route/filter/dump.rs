//! Dumps of the routes that match a filter.

use std::net::IpAddr;

use super::Filter;
use super::term::{Kind, Term};
use crate::family::Family;
use crate::filter::Prefix;
use crate::route::DumpFilter;

impl Filter {
    /// The criteria by which the kernel can leave routes out of a dump. With these,
    /// [`Requests::dump`](crate::route::Requests::dump) returns all routes that match the filter, and perhaps others.
    /// So evaluate [`matches`](Self::matches) on each.
    ///
    /// They are the values that every matching route must have: family, table, protocol, type and device. Entries of a
    /// dump are not events: none matches a term about an event, and their port ID is that of the requesting socket.
    ///
    /// ```
    /// use nlring::Family;
    /// use nlring::route::{DumpFilter, Filter, Requests, table};
    ///
    /// let filter: Filter = "table local and dst 127.0.0.0/8 or-longer".parse()?;
    /// let wider = DumpFilter::new().family(Family::INET).table(table::LOCAL);
    /// assert_eq!(filter.dump_filter(), wider);
    ///
    /// let mut requests = Requests::open()?;
    /// let dump = requests.dump(&filter.dump_filter(), |count: &mut usize, route| {
    ///     *count += usize::from(filter.matches(route));
    /// })?;
    /// println!("{} routes to addresses of the loopback device", dump.items);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dump_filter(&self) -> DumpFilter {
        let required = self.required_terms().into_iter();
        let required = required.filter_map(|(term, is_negated)| (!is_negated).then_some(term));
        required.fold(DumpFilter::new(), add)
    }
}

/// Adds what a term requires. Of two terms that require different values, which exclude each other, one is enough.
fn add(filter: DumpFilter, Term(kind): Term) -> DumpFilter {
    match kind {
        Kind::Family(family) => filter.family(family),
        Kind::Dst(prefix, _) => filter.family(family_of(prefix)),
        Kind::Table(table) => filter.table(table),
        Kind::Protocol(protocol) => filter.protocol(protocol),
        Kind::RouteType(route_type) => filter.route_type(route_type),
        Kind::Oif(index) => filter.oif(index),
        _ => filter,
    }
}

/// The family of the routes whose destinations are compared with a prefix.
pub(super) fn family_of(prefix: Prefix) -> Family {
    match prefix.address() {
        IpAddr::V4(_) => Family::INET,
        IpAddr::V6(_) => Family::INET6,
    }
}
