//! A mirror with its engine, compared with what `ip route` lists.

use std::collections::BTreeMap;
use std::mem;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use nlring::route::{Change, DumpFilter, Filter, Mirror, Requests, Route, protocol};
use nlring::{
    AddOptions, Backend, Engine, EventKind, Family, MirrorOptions, Protocol, Resync, Running,
    Socket, SocketId, Turn,
};

use crate::PATIENCE;
use crate::common::start;
use crate::ip_route::{line, listed_by_ip};

/// After a change that no event reports, a dump is due within this time.
pub const DUMP_LIMIT: Duration = Duration::from_secs(1);

/// A mirror, the engine that feeds it, and what it has reported.
pub struct Follower {
    pub running: Running,
    pub id: SocketId,
    pub mirror: Mirror,
    /// The mirror's filter.
    filter: Filter,
    pub reported: Reported,
    /// The longest time for which the mirror put off a dump that it needed, during the last [`Follower::await_ip`].
    pub longest_delay: Option<Duration>,
}

/// What the mirror has reported.
#[derive(Default)]
pub struct Reported {
    /// The routes, by what identifies them.
    pub routes: BTreeMap<String, String>,
    pub resyncs: Vec<Resync>,
    /// Changes that no event reported since the last [`Resync`]: new, changed and deleted routes.
    pub unreported: [u64; 3],
    /// All such changes so far.
    pub resynced_count: u64,
    pub resynced_delete_count: u64,
}

impl Reported {
    pub fn take(&mut self, change: &Change<'_>) {
        match change {
            Change::Route { route, is_resynced } => {
                let is_known = follow(&mut self.routes, route);
                if *is_resynced {
                    let is_gone = route.kind == EventKind::Delete;
                    let index = if is_gone { 2 } else { usize::from(is_known) };
                    self.unreported[index] += 1;
                    self.resynced_count += 1;
                    self.resynced_delete_count += u64::from(is_gone);
                }
            }
            Change::Resynced(resync) => {
                let counts = [resync.new_count, resync.update_count, resync.destroy_count];
                assert_eq!(counts, mem::take(&mut self.unreported), "{resync:?}");
                self.resyncs.push(*resync);
            }
            _ => panic!("unknown"),
        }
    }
}

impl Follower {
    pub fn new(backend: Backend, recv_buffer_bytes: usize, options: MirrorOptions) -> Self {
        Self::with_filter(backend, recv_buffer_bytes, options, Filter::default())
    }

    /// A mirror with a filter, whose socket has the filter's program.
    pub fn with_filter(
        backend: Backend,
        recv_buffer_bytes: usize,
        options: MirrorOptions,
        filter: Filter,
    ) -> Self {
        let mut builder = Socket::builder(Protocol::ROUTE).groups(Mirror::GROUPS);
        if !filter.is_all() {
            builder = builder.filter(&filter.program_for_mirror().expect("a program"));
        }
        let socket = builder.open().expect("a socket");
        let _ = socket
            .set_recv_buffer_bytes(recv_buffer_bytes)
            .expect("a receive buffer");
        let builder = Engine::builder().backend(backend);
        let (running, id) = start(&builder, socket, AddOptions::new());
        Self {
            running,
            id,
            mirror: Mirror::with_filter(options, filter.clone()).expect("a filter of entries"),
            filter,
            reported: Reported::default(),
            longest_delay: None,
        }
    }

    /// Takes a turn. Returns whether nothing came.
    pub fn turn(&mut self) -> bool {
        let now = Instant::now();
        let longest = Duration::from_millis(20);
        let timeout = match self.mirror.due(now) {
            Some(due) => due.saturating_duration_since(now).min(longest),
            None => longest,
        };
        let is_idle = self.receive(timeout);
        self.advance().expect("advanced");
        let now = Instant::now();
        if let Some(due) = self.mirror.due(now).filter(|_| !self.mirror.is_synced()) {
            let delay = due.saturating_duration_since(now);
            self.longest_delay = self.longest_delay.max(Some(delay));
        }
        is_idle
    }

    /// Receives, and returns whether nothing came.
    pub fn receive(&mut self, timeout: Duration) -> bool {
        let (mirror, reported) = (&mut self.mirror, &mut self.reported);
        let turn = self.running.poll(Some(timeout), |event, _| {
            mirror.feed(&event, |change| reported.take(&change));
            ControlFlow::<()>::Continue(())
        });
        matches!(turn.expect("a turn"), Turn::Idle)
    }

    pub fn advance(&mut self) -> nlring::Result<()> {
        let socket = self.running.socket(self.id).expect("its socket");
        let reported = &mut self.reported;
        self.mirror.advance(socket, |change| reported.take(&change))
    }

    pub fn turn_for(&mut self, duration: Duration) {
        let deadline = Instant::now() + duration;
        while Instant::now() < deadline {
            self.turn();
        }
    }

    /// Turns until no event is queued, the mirror has nothing to do and is what `ip route` lists.
    ///
    /// Only a mirror that has read all events is compared, because `ip` takes long on a slow machine and nobody reads
    /// events meanwhile.
    #[track_caller]
    pub fn await_ip(&mut self, what: &str) {
        self.longest_delay = None;
        let start = Instant::now();
        let mut idle_since = start;
        let mut looked_at = None;
        loop {
            let is_idle = self.turn();
            if !is_idle {
                idle_since = Instant::now();
            }
            let is_late = idle_since.elapsed() > PATIENCE || start.elapsed() > 8 * PATIENCE;
            let is_soon =
                looked_at.is_some_and(|at: Instant| at.elapsed() < Duration::from_millis(20));
            if (!is_idle || !self.mirror.is_synced() || is_soon) && !is_late {
                continue;
            }
            looked_at = Some(Instant::now());
            let listed = self.listed();
            let mirrored = self.lines();
            if mirrored == listed && self.mirror.is_synced() {
                break;
            }
            assert!(
                !is_late,
                "after {what}, is_idle {is_idle}, is_synced {}: only in the mirror {:#?}, only in ip's list {:#?}",
                self.mirror.is_synced(),
                missing(&mirrored, &listed),
                missing(&listed, &mirrored),
            );
        }
        let mut followed: Vec<_> = self.reported.routes.values().cloned().collect();
        followed.sort();
        assert_eq!(followed, self.lines(), "what was reported, after {what}");
        assert_eq!(self.mirror.len(), followed.len());
    }

    /// Asserts that the mirror knew of a difference, and that its dump was due soon.
    #[track_caller]
    pub fn assert_dumped_soon(&self) {
        let delay = self.longest_delay.expect("a dump was due");
        assert!(delay <= DUMP_LIMIT, "{delay:?}");
    }

    /// What `ip route` lists. With a filter: what matches of the kernel's tables.
    fn listed(&self) -> Vec<String> {
        if self.filter.is_all() {
            return listed_by_ip();
        }
        let mut requests = Requests::open().expect("a requester");
        let whole = requests.dump(&DumpFilter::new(), |lines: &mut Vec<String>, route| {
            if self.filter.matches(route) {
                lines.push(line(route));
            }
        });
        let mut lines = whole.expect("a dump").items;
        lines.sort();
        lines.dedup();
        lines
    }

    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.mirror.iter().map(|route| line(&route)).collect();
        lines.sort();
        lines
    }
}

/// Keeps a table from the mirror's reports alone. Returns whether the route was there before.
fn follow(routes: &mut BTreeMap<String, String>, route: &Route<'_>) -> bool {
    let line = line(route);
    match route.kind {
        EventKind::New | EventKind::Update | EventKind::Entry => {
            let before = routes.insert(identity(route, &line), line.clone());
            assert_ne!(before.as_ref(), Some(&line), "reported twice");
            before.is_some()
        }
        EventKind::Delete => {
            let before = routes.remove(&identity(route, &line));
            assert!(before.is_some(), "an unknown route was deleted: {line}");
            true
        }
    }
}

/// What identifies a route, as the documentation of `Mirror` says.
fn identity(route: &Route<'_>, line: &str) -> String {
    let is_learned = [protocol::REDIRECT, 9 /* ra */].contains(&route.protocol);
    let has_gateways = route.hop.gateway.is_some() && !is_learned || !route.nexthops.is_empty();
    if route.family == Family::INET6 && has_gateways && route.nexthop_id.is_none() {
        return format!(
            "{:?}/{} metric {:?} table {} gateways",
            route.dst, route.dst_prefix_len, route.priority, route.table
        );
    }
    if let Some(id) = route.nexthop_id {
        return format!(
            "{:?}/{} metric {:?} table {} nhid {id} proto {}",
            route.dst, route.dst_prefix_len, route.priority, route.table, route.protocol
        );
    }
    let words = line
        .split(' ')
        .filter(|word| !["linkdown", "dead"].contains(word));
    words.collect::<Vec<_>>().join(" ")
}

fn missing(from: &[String], other: &[String]) -> Vec<String> {
    from.iter()
        .filter(|line| !other.contains(line))
        .cloned()
        .collect()
}
