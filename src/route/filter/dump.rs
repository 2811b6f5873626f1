//! Dumps of the routes that match a filter.

use std::net::IpAddr;

use super::Filter;
use super::term::{Kind, Term};
use crate::family::Family;
use crate::filter::Prefix;
use crate::route::DumpFilter;

impl Filter {
    /// What the kernel can leave out of a dump: [`Requests::dump`](crate::route::Requests::dump) with this returns all
    /// routes that match the filter, and perhaps others. So evaluate [`matches`](Self::matches) on each.
    ///
    /// It has what every matching route must have: family, table, protocol, type and device. Entries of a dump are no
    /// events: none matches a term about an event, and their port ID is that of the socket that asked.
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

/// Adds what a term asks for. Of two terms that ask for different values, which no route has both, one is enough.
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

/// The family of the routes whose destination is compared with a prefix.
pub(super) fn family_of(prefix: Prefix) -> Family {
    match prefix.address() {
        IpAddr::V4(_) => Family::INET,
        IpAddr::V6(_) => Family::INET6,
    }
}
