//! Filters of routes.

mod dump;
mod kernel;
mod names;
mod parse;
mod term;
#[cfg(all(test, target_endian = "little"))]
mod tests;

pub use self::term::Term;

/// Which route events a socket receives, or which routes a program takes from a dump: an expression of [`Term`]s.
///
/// ```
/// use nlring::route::{Filter, Group, Term, table};
/// use nlring::{Protocol, Socket};
///
/// let filter: Filter = "table main and dst 10.0.0.0/8 or-longer and not portid 1234".parse()?;
/// let dst = Term::dst_or_longer("10.0.0.0/8".parse().unwrap());
/// let same = Filter::from(Term::table(table::MAIN)).and(dst).and(!Filter::from(Term::port_id(1234)));
/// assert_eq!(filter, same);
///
/// let socket = Socket::builder(Protocol::ROUTE)
///     .group(Group::Ipv4Route)
///     .filter(&filter.program()?)
///     .open()?;
/// # Ok::<(), nlring::Error>(())
/// ```
///
/// The program decides only about route events. It accepts the events of devices, addresses and all other objects. Send
/// requests on another socket: the answer to a request for one route looks like the event of a new route.
///
/// [`Mirror::with_filter`](crate::route::Mirror::with_filter) mirrors the routes that match. Its socket needs another
/// program: [`program_for_mirror`](crate::filter::Filter::program_for_mirror).
///
/// # Terms
///
/// The [module `filter`](crate::filter#text) says how terms are combined. Where several values make sense, braces hold
/// them: `proto {bgp, ospf}` is `proto bgp or proto ospf`. `PREFIX` is an address or a prefix of IPv4 or IPv6, `NUMBERS` a
/// number, a range (`100-199`) or a set of both (`{0, 100-199}`).
///
/// | term | matches |
/// |---|---|
/// | `event new` | events of a new or changed route: all that are not deletions |
/// | `event replace`, `event append` | of these, the events of a route that replaced another, or was appended to others |
/// | `event delete` | events of a deleted route |
/// | `family ipv4`, `family ipv6`, `family mpls` | the address family |
/// | `table NAME`, `table NUMBER` | the routing table: `main`, `local`, `default` or a number |
/// | `proto NAME`, `proto NUMBER` | who added the route: `kernel`, `static`, `bgp` … |
/// | `type NAME`, `type NUMBER` | what happens to packets: `unicast`, `local`, `blackhole` … |
/// | `scope NAME`, `scope NUMBER` | how far the destination is: `global`, `link`, `host` … |
/// | `dst PREFIX` | this destination |
/// | `dst PREFIX or-longer` | the prefix itself, and destinations within it |
/// | `dst PREFIX or-shorter` | the prefix itself, and destinations that contain it |
/// | `dst default` | the default routes of IPv4 and IPv6 |
/// | `gateway PREFIX`, `via PREFIX` | a gateway with such an address |
/// | `oif NUMBER`, `dev NUMBER` | the index of an outgoing device |
/// | `metric NUMBERS` | the metric; a missing metric is 0 |
/// | `portid NUMBER` | the port ID of the socket whose request caused the event; 0 is the kernel |
///
/// [`parse_with`](crate::filter::Filter::parse_with) also accepts other names after `table`, `proto`, `scope` and
/// `oif`. A device keeps its index for as long as it exists, and the filter has the index that the name had when the
/// text was parsed. A device that is created later under the same name has a different index.
///
/// # Missing and repeated values
///
/// - A route with several hops has the gateways and devices of all of them: it matches if one hop does. The kernel's
///   filter cannot look into such a list. So the [`program`](crate::filter::Filter::program) of a filter with `gateway`
///   or `oif` lets multipath routes pass, and [`matches`](crate::filter::Filter::matches) decides.
/// - A route without a gateway or device matches no `gateway` or `oif`. This includes a route that names only its
///   nexthop object (`net.ipv4.nexthop_compat_mode` = 0).
/// - A missing destination is all zeros, so a route without one whose prefix length is 0 is the default route. The
///   destination of an MPLS route is not a prefix.
pub type Filter = crate::filter::Filter<Term>;
