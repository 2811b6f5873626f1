//! Requests to conntrack: dumps, lookups, changes and statistics.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::expectation::Expectation;
use super::flow::Flow;
use super::kernel::{cta, cta_filter, message_type};
use super::new_flow::{FlowChange, NewFlow};
use super::statistics::{CpuStatistics, TableStatistics};
use super::tuple::{Key, Layer4, Tuple};
use crate::Family;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, MessageBuilder, flags};
use crate::request::{Batch, Dump, Replies, Requester};
use crate::socket::{Namespace, Protocol, Socket};

/// The number of requests of a batch that are built at a time.
const BATCH: usize = 4096;

/// Requests to conntrack, over a socket of their own.
///
/// Each needs `CAP_NET_ADMIN` over the network namespace, and fails with `EPERM` without it. The kernel's side is in
/// net/netfilter/nf_conntrack_netlink.c (Linux v6.18).
///
/// ```
/// use nlring::ErrorKind;
/// use nlring::conntrack::{DumpFilter, Key, Requests};
///
/// let mut requests = Requests::open()?;
/// // The keys of all flows with mark 7.
/// let marked = DumpFilter::new().mark(7, u32::MAX);
/// let flows = match requests.dump(&marked, |keys: &mut Vec<Key>, flow| keys.push(flow.key())) {
///     Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()), // without CAP_NET_ADMIN
///     dumped => dumped?,
/// };
/// for key in &flows.items {
///     let left = requests.get(key, |flow| flow.timeout_seconds)?.flatten();
///     println!("{key}: {left:?} s"); // None: the flow has ended meanwhile
/// }
/// # Ok::<(), nlring::Error>(())
/// ```
///
/// The kernel finds a flow by either of its tuples, so a key whose original tuple is the reply tuple of another flow
/// finds that flow. [`get`](Self::get) recognises this and returns None. [`update`](Self::update) and
/// [`delete`](Self::delete) act on the other flow; an id keeps `delete` from it.
#[derive(Debug)]
pub struct Requests {
    requester: Requester,
}

/// Which flows a dump returns or a flush removes: all flows that have everything that is asked for.
///
/// The kernel picks the flows. An older kernel may send more than was asked for; [`Requests::dump`] leaves that out.
///
/// ```
/// use nlring::Family;
/// use nlring::conntrack::{DumpFilter, status};
///
/// let assured_ipv4_of_zone_5 = DumpFilter::new()
///     .family(Family::INET)
///     .zone(5)
///     .status(status::ASSURED, status::ASSURED);
/// let text = "family ipv4, zone 5, status 0x4/0x4";
/// assert_eq!(assured_ipv4_of_zone_5.to_string(), text);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct DumpFilter {
    family: Family,
    zone: Option<u16>,
    mark: Option<(u32, u32)>,
    status: Option<(u32, u32)>,
    orig: OrigFilter,
}

/// What the original tuple of a flow must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OrigFilter {
    protocol: Option<u8>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    src_port: Option<u16>,
    dst_port: Option<u16>,
}

impl OrigFilter {
    fn matches(&self, orig: &Tuple) -> bool {
        let is = |port: Option<u16>, wanted: Option<u16>| wanted.is_none() || port == wanted;
        let (src_port, dst_port) = orig.ports().unzip();
        self.protocol
            .is_none_or(|protocol| orig.protocol == protocol)
            && self.src.is_none_or(|src| orig.src == src)
            && self.dst.is_none_or(|dst| orig.dst == dst)
            && is(src_port, self.src_port)
            && is(dst_port, self.dst_port)
    }

    /// The part that the kernel decides rightly, with the bits of `CTA_FILTER_ORIG_FLAGS` for it.
    ///
    /// It needs a family. It compares IPv6 addresses the wrong way round, and compares ports only if the protocol is
    /// given and is TCP or UDP (Linux v6.18, net/netfilter/nf_conntrack_netlink.c, `ctnetlink_filter_match_tuple`).
    fn for_kernel(&self, family: Family) -> (Self, u32) {
        let is_v4 = |address: &IpAddr| family == Family::INET && address.is_ipv4();
        let protocol = self.protocol.filter(|_| family != Family::UNSPEC);
        let has_ports = matches!(protocol, Some(6 | 17));
        let part = Self {
            protocol,
            src: self.src.filter(is_v4),
            dst: self.dst.filter(is_v4),
            src_port: self.src_port.filter(|_| has_ports),
            dst_port: self.dst_port.filter(|_| has_ports),
        };
        let flags = [
            (part.src.is_some(), cta_filter::IP_SRC),
            (part.dst.is_some(), cta_filter::IP_DST),
            (part.protocol.is_some(), cta_filter::PROTO_NUM),
            (part.src_port.is_some(), cta_filter::PROTO_SRC_PORT),
            (part.dst_port.is_some(), cta_filter::PROTO_DST_PORT),
        ];
        let set = flags.iter().filter(|(is_set, _)| *is_set);
        (part, set.map(|(_, flag)| flag).sum())
    }

    /// Appends `CTA_TUPLE_ORIG` and `CTA_FILTER`, unless the kernel can decide nothing.
    fn put<'a>(&self, message: MessageBuilder<'a>, family: Family) -> MessageBuilder<'a> {
        let (part, flags) = self.for_kernel(family);
        if flags == 0 {
            return message;
        }
        let any = if family == Family::INET {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let ports = Layer4::Ports {
            src: part.src_port.unwrap_or(0),
            dst: part.dst_port.unwrap_or(0),
        };
        let (src, dst) = (part.src.unwrap_or(any), part.dst.unwrap_or(any));
        let orig = Tuple::new(src, dst, part.protocol.unwrap_or(0), ports);
        message
            .nested(cta::TUPLE_ORIG, |tuple| orig.put(tuple, None))
            .nested(cta::FILTER, |filter| {
                filter.attribute_u32(cta_filter::ORIG_FLAGS, flags)
            })
    }
}

impl DumpFilter {
    /// All flows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Flows of an address family: 2 (`AF_INET`) or 10 (`AF_INET6`).
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// Flows of a zone, in any direction that it applies to. 0 is the zone of flows without one. The kernel picks by
    /// zone since Linux 6.8.
    pub fn zone(mut self, zone: u16) -> Self {
        self.zone = Some(zone);
        self
    }

    /// Flows whose mark has `value` in the bits of `mask`. The kernel picks by mark since Linux 3.4.
    pub fn mark(mut self, value: u32, mask: u32) -> Self {
        self.mark = Some((value, mask));
        self
    }

    /// Flows whose [`status`](super::status) has `value` in the bits of `mask`. The kernel refuses a mask of 0. It
    /// picks by status since Linux 5.15.
    pub fn status(mut self, value: u32, mask: u32) -> Self {
        self.status = Some((value, mask));
        self
    }

    /// Flows of an IP protocol. The kernel picks by protocol since Linux 5.8, if a family is given too.
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.orig.protocol = Some(protocol);
        self
    }

    /// Flows whose original source has this address. The kernel picks by IPv4 addresses since Linux 5.8, if a family is
    /// given too.
    pub fn src(mut self, address: IpAddr) -> Self {
        self.orig.src = Some(address);
        self
    }

    /// Flows whose original destination has this address. The kernel picks by IPv4 addresses since Linux 5.8, if a
    /// family is given too.
    pub fn dst(mut self, address: IpAddr) -> Self {
        self.orig.dst = Some(address);
        self
    }

    /// Flows with this original source port. The kernel picks by port since Linux 5.8, if a family is given too and the
    /// protocol is TCP or UDP.
    pub fn sport(mut self, port: u16) -> Self {
        self.orig.src_port = Some(port);
        self
    }

    /// Flows with this original destination port. The kernel picks by port since Linux 5.8, if a family is given too and
    /// the protocol is TCP or UDP.
    pub fn dport(mut self, port: u16) -> Self {
        self.orig.dst_port = Some(port);
        self
    }

    /// Appends what a dump picks by.
    pub(super) fn put_for_dump<'a>(&self, message: MessageBuilder<'a>) -> MessageBuilder<'a> {
        self.orig.put(self.put(message, 0), self.family)
    }

    /// Appends `struct nfgenmsg` and what to pick by, except for the original tuple. For a flush the kernel ignores the family unless the version is
    /// set.
    fn put<'a>(&self, message: MessageBuilder<'a>, version: u8) -> MessageBuilder<'a> {
        let mut message = message.bytes(&[self.family.into(), version, 0, 0]);
        if let Some((mark, mask)) = self.mark {
            message = message
                .attribute_be32(cta::MARK, mark)
                .attribute_be32(cta::MARK_MASK, mask);
        }
        if let Some((status, mask)) = self.status {
            message = message
                .attribute_be32(cta::STATUS, status)
                .attribute_be32(cta::STATUS_MASK, mask);
        }
        match self.zone {
            Some(zone) => message.attribute_be16(cta::ZONE, zone),
            None => message,
        }
    }

    /// Whether the filter picks a flow. The kernel makes the same choice, as far as it can.
    #[must_use]
    pub fn matches(&self, flow: &Flow<'_>) -> bool {
        let is = |value: Option<u32>, wanted: Option<(u32, u32)>| {
            wanted.is_none_or(|(wanted, mask)| value.unwrap_or(0) & mask == wanted)
        };
        (self.family == Family::UNSPEC || self.family == flow.family)
            && (self.zone).is_none_or(|zone| flow.zone.map_or(0, |zone| zone.id) == zone)
            && is(flow.mark, self.mark)
            && is(flow.status, self.status)
            && self.orig.matches(&flow.orig)
    }

    fn decode<'a>(&self, message: &Message<'a>) -> Option<Flow<'a>> {
        Flow::decode(message).filter(|flow| self.matches(flow))
    }
}

/// What the kernel picks by, such as `family ipv4, mark 0x10/0xf0`, or `all flows`.
impl fmt::Display for DumpFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = |name| move |(value, mask)| format!("{name} {value:#x}/{mask:#x}");
        let family = (self.family != Family::default()).then_some(self.family);
        let orig = &self.orig;
        let parts = [
            family.map(|family| format!("family {family}")),
            self.zone.map(|zone| format!("zone {zone}")),
            self.mark.map(bits("mark")),
            self.status.map(bits("status")),
            orig.protocol.map(|number| format!("protocol {number}")),
            orig.src.map(|address| format!("src {address}")),
            orig.dst.map(|address| format!("dst {address}")),
            orig.src_port.map(|port| format!("sport {port}")),
            orig.dst_port.map(|port| format!("dport {port}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        match &parts[..] {
            [] => f.write_str("all flows"),
            parts => f.write_str(&parts.join(", ")),
        }
    }
}

/// `struct nfgenmsg`.
fn fixed(family: Family) -> [u8; 4] {
    [family.into(), 0, 0, 0]
}

impl Requests {
    /// Opens a socket for requests.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::open`].
    pub fn open() -> Result<Self> {
        Ok(Self {
            requester: Requester::open(Protocol::NETFILTER)?,
        })
    }

    /// Opens a socket for requests in another network namespace: they are about what that namespace has.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::open_in`].
    pub fn open_in(namespace: &Namespace) -> Result<Self> {
        Ok(Self {
            requester: Requester::open_in(Protocol::NETFILTER, namespace)?,
        })
    }

    /// Opens a socket for requests in the namespace of another socket, as far as that is known.
    pub(super) fn open_beside(socket: &Socket) -> Result<Self> {
        Ok(Self {
            requester: Requester::open_beside(Protocol::NETFILTER, socket)?,
        })
    }

    /// The requester that sends the requests: for its time-out, and for requests that have no method here.
    pub fn requester(&mut self) -> &mut Requester {
        &mut self.requester
    }

    /// Dumps the flows: calls `take` with each, which adds it to the items. The kernel does not report whether changes
    /// interrupted the dump, so flows that begin or end during the dump may be among the items or not.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::dump`].
    pub fn dump<T: Default>(
        &mut self,
        filter: &DumpFilter,
        mut take: impl FnMut(&mut T, &Flow<'_>),
    ) -> Result<Dump<T>> {
        let take = |items: &mut T, message: &Message<'_>| {
            if let Some(flow) = filter.decode(message) {
                take(items, &flow);
            }
        };
        let requester = &mut self.requester;
        requester.dump(
            message_type::CT_GET,
            |message| filter.put_for_dump(message),
            take,
        )
    }

    /// Begins a dump of the flows and returns the replies, to be read one by one. So a program need not hold the table
    /// in memory. [`dump`](Self::dump) collects instead.
    ///
    /// [`Flow::decode`] reads the flow of a reply. Leave out those that [`DumpFilter::matches`] rejects: an older
    /// kernel may send more than was asked for.
    ///
    /// ```no_run
    /// use nlring::conntrack::{DumpFilter, Flow, Requests};
    ///
    /// let mut requests = Requests::open()?;
    /// let filter = DumpFilter::new().zone(5);
    /// let mut replies = requests.dump_replies(&filter)?;
    /// while let Some(message) = replies.next_message()? {
    ///     if let Some(flow) = Flow::decode(&message).filter(|flow| filter.matches(flow)) {
    ///         println!("{}", flow.orig);
    ///     }
    /// }
    /// # Ok::<(), nlring::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Requester::send`]. A refusal by the kernel is an error of the first reply.
    pub fn dump_replies(&mut self, filter: &DumpFilter) -> Result<Replies<'_>> {
        let requester = &mut self.requester;
        requester.send(message_type::CT_GET, flags::DUMP, |message| {
            filter.put_for_dump(message)
        })
    }

    /// Looks up the flow with a key, and calls `f` with it. None if there is no such flow.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`].
    pub fn get<T>(&mut self, key: &Key, f: impl FnOnce(&Flow<'_>) -> T) -> Result<Option<T>> {
        let (mut f, mut found) = (Some(f), None);
        self.get_many(std::slice::from_ref(key), |_, flow| {
            found = flow.and_then(|flow| f.take().map(|f| f(flow)));
        })?;
        Ok(found)
    }

    /// Looks up many flows with few system calls, and calls `f` with the index of each key and its flow. The flow is
    /// None if there is no such flow.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`], for the first lookup that failed. `f` is not called for lookups that fail.
    pub fn get_many(
        &mut self,
        keys: &[Key],
        mut f: impl FnMut(usize, Option<&Flow<'_>>),
    ) -> Result<()> {
        self.ask_about(keys, |index, flow| {
            // The kernel finds a flow by its reply tuple too. That is not the flow that was asked for.
            f(index, flow.filter(|flow| flow.orig == keys[index].orig));
        })
    }

    /// Looks up flows by either of their tuples: like [`get_many`](Self::get_many), but a flow whose reply tuple is
    /// that of the key counts too.
    pub(super) fn ask_about(
        &mut self,
        keys: &[Key],
        mut f: impl FnMut(usize, Option<&Flow<'_>>),
    ) -> Result<()> {
        let mut failed = Ok(());
        let mut batch = Batch::new();
        for (part, keys) in keys.chunks(BATCH).enumerate() {
            for key in keys {
                batch.add(message_type::CT_GET, 0, |message| key.put(message))?;
            }
            batch.send(&mut self.requester, |index, reply| match reply {
                Ok(message) => f(part * BATCH + index, Flow::decode(&message).as_ref()),
                Err(error) if is_missing(&error) => f(part * BATCH + index, None),
                Err(error) => {
                    if failed.is_ok() {
                        failed = Err(error);
                    }
                }
            })?;
        }
        failed.map_err(|error: Error| error.during("get a conntrack entry"))
    }

    /// Adds a flow.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`]: `EEXIST` if a flow has one of its tuples, `ENOMEM` if the table is full,
    /// `EOPNOTSUPP` for a helper that the kernel does not have.
    pub fn add(&mut self, flow: &NewFlow<'_>) -> Result<()> {
        let flags = flags::CREATE | flags::EXCL;
        let asked = self
            .requester
            .ask(message_type::CT_NEW, flags, |message| flow.put(message));
        asked.map_err(|error| error.during("make a conntrack entry"))
    }

    /// Changes a flow. False if there is no such flow.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`]. The methods of [`FlowChange`] name what the kernel refuses.
    pub fn update(&mut self, key: &Key, change: &FlowChange<'_>) -> Result<bool> {
        let asked = self.requester.ask(message_type::CT_NEW, 0, |message| {
            change.put(key.put(message))
        });
        unless_missing(asked, "change a conntrack entry")
    }

    /// Removes a flow, or with an id ([`Flow::id`]) only the flow that has it. False if there is no such flow.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`].
    pub fn delete(&mut self, key: &Key, id: Option<u32>) -> Result<bool> {
        let asked = self.requester.ask(message_type::CT_DELETE, 0, |message| {
            put_deletion(message, key, id)
        });
        unless_missing(asked, "remove a conntrack entry")
    }

    /// Removes the flows that the filter picks. An empty filter picks all.
    ///
    /// The kernel picks by mark, by family since Linux 5.3, by status since 5.15 and by zone since 6.8. An older kernel
    /// would remove flows that the filter does not pick. For status and zone a dump detects this first, and nothing is
    /// removed. Before Linux 5.3 the flows of all families are removed.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`]: the filter picks by protocol, address or port. A flush does not: remove the flows of a
    ///   dump instead;
    /// - [`ErrorKind::Unsupported`]: this kernel does not pick by status or zone, and nothing was removed;
    /// - otherwise those of [`Requester::ask`].
    pub fn flush(&mut self, filter: &DumpFilter) -> Result<()> {
        const OPERATION: &str = "flush conntrack entries";
        if filter.orig != OrigFilter::default() {
            let error = Error::with_kind(OPERATION, ErrorKind::InvalidInput);
            return Err(error.with_remedy(
                "a flush does not pick by protocol, address or port: dump the flows, and delete each",
            ));
        }
        let is_obeyed = (filter.zone.is_none() && filter.status.is_none())
            || self
                .is_obeyed(filter)
                .map_err(|error| error.during(OPERATION))?;
        if !is_obeyed {
            let error = Error::with_kind(OPERATION, ErrorKind::Unsupported);
            return Err(error.with_remedy("it would remove more than was asked for"));
        }
        let asked = self
            .requester
            .ask(message_type::CT_DELETE, 0, |message| filter.put(message, 1));
        asked.map_err(|error| error.during(OPERATION))
    }

    /// Whether the kernel sends only what the filter picks.
    fn is_obeyed(&mut self, filter: &DumpFilter) -> Result<bool> {
        let take = |other_count: &mut usize, message: &Message<'_>| {
            *other_count += usize::from(filter.decode(message).is_none());
        };
        let dump =
            self.requester
                .dump(message_type::CT_GET, |message| filter.put(message, 0), take)?;
        Ok(dump.items == 0)
    }

    /// What conntrack has counted on each CPU.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::dump`].
    pub fn statistics(&mut self) -> Result<Vec<CpuStatistics>> {
        let take = |all: &mut Vec<_>, message: &Message<'_>| {
            all.extend(CpuStatistics::decode(message));
        };
        let fill = fixed(Family::UNSPEC);
        let dump = self.requester.dump(
            message_type::CT_GET_STATS_CPU,
            |message| message.bytes(&fill),
            take,
        )?;
        Ok(dump.items)
    }

    /// How full the table is.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::ask`].
    pub fn table_statistics(&mut self) -> Result<TableStatistics> {
        const OPERATION: &str = "ask how full the conntrack table is";
        let mut replies = self
            .requester
            .send(message_type::CT_GET_STATS, 0, |message| {
                message.bytes(&fixed(Family::UNSPEC))
            })?;
        let mut statistics = None;
        while let Some(message) = replies
            .next_message()
            .map_err(|error| error.during(OPERATION))?
        {
            statistics = statistics.or(TableStatistics::decode(&message));
        }
        statistics.ok_or_else(|| Error::with_kind(OPERATION, ErrorKind::UnexpectedReply))
    }

    /// Dumps the expectations of one address family, or of all ([`Family::UNSPEC`]): calls `take` with each, which adds
    /// it to the items.
    ///
    /// # Errors
    ///
    /// Those of [`Requester::dump`].
    pub fn expectations<T: Default>(
        &mut self,
        family: Family,
        mut take: impl FnMut(&mut T, &Expectation<'_>),
    ) -> Result<Dump<T>> {
        let take = |items: &mut T, message: &Message<'_>| {
            if let Some(expectation) = Expectation::decode(message) {
                take(items, &expectation);
            }
        };
        let fill = fixed(family);
        self.requester
            .dump(message_type::EXP_GET, |message| message.bytes(&fill), take)
    }
}

/// False if there was no such flow.
fn unless_missing(asked: Result<()>, operation: &'static str) -> Result<bool> {
    match asked {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error.during(operation)),
    }
}

fn put_deletion<'a>(message: MessageBuilder<'a>, key: &Key, id: Option<u32>) -> MessageBuilder<'a> {
    let message = key.put(message);
    match id {
        Some(id) => message.attribute_be32(cta::ID, id),
        None => message,
    }
}

impl NewFlow<'_> {
    /// Adds the request for this flow to a batch. [`Requests::add`] sends one alone.
    ///
    /// # Errors
    ///
    /// Those of [`Batch::add`].
    pub fn add_in(&self, batch: &mut Batch) -> Result<()> {
        let flags = flags::CREATE | flags::EXCL;
        batch.add(message_type::CT_NEW, flags, |message| self.put(message))
    }
}

impl Key {
    /// Adds the request to remove the flow with this key to a batch. [`Requests::delete`] sends one alone. If there is
    /// no such flow, the kernel refuses the request (`ENOENT`).
    ///
    /// # Errors
    ///
    /// Those of [`Batch::add`].
    pub fn delete_in(&self, batch: &mut Batch, id: Option<u32>) -> Result<()> {
        batch.add(message_type::CT_DELETE, 0, |message| {
            put_deletion(message, self, id)
        })
    }
}

/// `ENOENT`: no flow has this key.
fn is_missing(error: &Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}
