//! Requests to conntrack: dumps, lookups, changes and statistics.

use super::dump_filter::DumpFilter;
use super::expectation::Expectation;
use super::flow::Flow;
use super::kernel::{cta, message_type};
use super::new_flow::{FlowChange, NewFlow};
use super::statistics::{CpuStatistics, TableStatistics};
use super::tuple::Key;
use crate::Family;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, MessageBuilder, flags};
use crate::request::{Batch, Dump, Replies, Requester};
use crate::socket::{Namespace, Protocol, Socket};

/// The number of requests of a batch that are built at a time.
const BATCH: usize = 4096;

/// Requests to conntrack, over a separate socket.
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

    /// Opens a socket for requests in another network namespace. They concern the flows of that namespace.
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

    /// The requester that sends the requests. Use it to set the time-out, and for requests that have no method here.
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

    /// Begins a dump of the flows and returns the replies, to be read one by one, so that a program need not hold the
    /// table in memory. [`dump`](Self::dump) collects instead.
    ///
    /// [`Flow::decode`] reads the flow of a reply. Leave out those that [`DumpFilter::matches`] rejects: an older
    /// kernel may send more than was requested.
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

    /// Looks up many flows with few system calls, and calls `f` with the index of each key and its flow, which is None
    /// if there is no such flow.
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
            // The kernel also finds a flow by its reply tuple. That is not the requested flow.
            f(index, flow.filter(|flow| flow.orig == keys[index].orig));
        })
    }

    /// Looks up flows by either of their tuples: like [`get_many`](Self::get_many), but a flow whose reply tuple is
    /// that of the key also counts.
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

    /// Removes a flow; with an id ([`Flow::id`]), only the flow that has it. False if there is no such flow.
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

    /// Removes the flows that the filter selects. An empty filter selects all.
    ///
    /// The kernel selects by mark, by family since Linux 5.3, by status since 5.15 and by zone since 6.8. An older
    /// kernel would remove flows that the filter does not select. For status and zone a dump detects this first, and
    /// nothing is removed. Before Linux 5.3 the flows of all families are removed.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`]: the filter selects by protocol, address or port, which a flush cannot: remove the
    ///   flows of a dump instead;
    /// - [`ErrorKind::Unsupported`]: this kernel does not select by status or zone, and nothing was removed;
    /// - otherwise those of [`Requester::ask`].
    pub fn flush(&mut self, filter: &DumpFilter) -> Result<()> {
        const OPERATION: &str = "flush conntrack entries";
        if filter.picks_by_tuple() {
            let error = Error::with_kind(OPERATION, ErrorKind::InvalidInput);
            return Err(error.with_remedy(
                "a flush cannot select by protocol, address or port: dump the flows and delete each one",
            ));
        }
        let is_obeyed = !filter.picks_by_zone_or_status()
            || self
                .is_obeyed(filter)
                .map_err(|error| error.during(OPERATION))?;
        if !is_obeyed {
            let error = Error::with_kind(OPERATION, ErrorKind::Unsupported);
            return Err(error.with_remedy("it would remove more than the filter selects"));
        }
        let asked = self
            .requester
            .ask(message_type::CT_DELETE, 0, |message| filter.put(message, 1));
        asked.map_err(|error| error.during(OPERATION))
    }

    /// Whether the kernel sends only what the filter selects.
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
