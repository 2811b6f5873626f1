//! Filters of flows.

mod dump;
mod kernel;
mod names;
mod parse;
mod split;
mod term;
#[cfg(all(test, target_endian = "little"))]
mod tests;

pub use self::split::Split;
pub use self::term::{Side, Term};

/// Which flows a socket receives, a dump returns or a mirror holds: an expression of [`Term`]s.
///
/// ```
/// use nlring::conntrack::{Filter, Term};
///
/// let filter: Filter = "proto tcp and dport 443 and not src 10.0.0.0/8".parse()?;
/// let src = Filter::from(Term::src("10.0.0.0/8".parse().unwrap()));
/// let same = Filter::from(Term::protocol(6)).and(Term::dport(443.into())).and(!src);
/// assert_eq!(filter, same);
/// # Ok::<(), nlring::filter::ParseError>(())
/// ```
///
/// # Terms
///
/// The [module `filter`](crate::filter#text) says how terms are combined. Where several values make sense, braces hold
/// them: `proto {tcp, udp}` is `proto tcp or proto udp`. `PREFIX` is an address or a prefix of IPv4 or IPv6, `NUMBERS`
/// a number, a range (`1024-2047`) or a set of both (`{80, 443}`).
///
/// | term | matches |
/// |---|---|
/// | `event new`, `event update`, `event destroy` | events of this kind |
/// | `proto NAME`, `proto NUMBER` | the IP protocol |
/// | `family ipv4`, `family ipv6` | the address family |
/// | `src PREFIX`, `dst PREFIX` | an address of the original tuple |
/// | `sport NUMBERS`, `dport NUMBERS` | a port of the original tuple |
/// | `orig`, `reply` or `any` before one of the last four | the same in this tuple, or in either |
/// | `host PREFIX`, `port NUMBERS` | any address or port of both tuples; after `orig` or `reply`, of that tuple |
/// | `icmp-type NUMBERS`, `icmp-code NUMBERS` | type and code of ICMP and ICMPv6 |
/// | `mark VALUE`, `mark VALUE/MASK` | the mark, or its bits in `MASK`; a missing mark is 0 |
/// | `zone NUMBER` | the zone in any direction; a missing zone is 0 |
/// | `orig zone NUMBER`, `reply zone NUMBER` | the zone of this direction |
/// | `status BIT` | a bit: `expected`, `seen-reply`, `assured`, `confirmed`, `src-nat`, `dst-nat`, `seq-adjust`, `src-nat-done`, `dst-nat-done`, `dying`, `fixed-timeout`, `template`, `nat-clash`, `helper`, `offload`, `hw-offload` |
/// | `status NUMBER` | all of these bits |
/// | `state NAME` | the state of TCP, SCTP or DCCP, such as `ESTABLISHED`; a message without a state has none |
/// | `nat` | an address or port is translated |
/// | `snat`, `snat PREFIX` | the source is translated, or is translated to an address in the prefix |
/// | `dnat`, `dnat PREFIX` | the destination is translated, or is translated to an address in the prefix |
/// | `label NUMBER` | this label is set; missing labels are not set |
/// | `id NUMBER` | the id |
/// | `share 3/8`, `share 0..25/100` | the original tuple is in this share of all flows, or in one of these shares: [`Split`] |
/// | `share 3/8@SEED` | the same with a seed |
///
/// A mark, status, state or label can change while a flow lives. The answer of all other terms about a flow stays the
/// same.
pub type Filter = crate::filter::Filter<Term>;
