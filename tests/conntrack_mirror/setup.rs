//! A mirror with its engine, and a listener that follows its changes.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use nlring::conntrack::{
    Change, DumpFilter, Filter, Flow, Key, Mirror, ProtocolState, Requests, Tuple,
};
use nlring::{
    AddOptions, Backend, Engine, Event, EventKind, MirrorOptions, Protocol, Resync, Running,
    Socket, SocketId,
};

use crate::PATIENCE;
use crate::common::start;
use crate::conntrack_list::{line_of, listed};

/// The facts of a flow that the tests compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub reply: Option<Tuple>,
    pub id: Option<u32>,
    pub mark: u32,
    pub status: u32,
    pub state: Option<ProtocolState>,
}

impl Facts {
    pub fn of(flow: &Flow<'_>) -> Self {
        Self {
            reply: flow.reply,
            id: flow.id,
            mark: flow.mark.unwrap_or(0),
            status: flow.status.unwrap_or(0),
            state: flow.state,
        }
    }
}

/// A listener that follows the changes, and checks that each fits what it knows.
#[derive(Default)]
pub struct Listener {
    pub flows: HashMap<Key, Facts>,
    pub resyncs: Vec<(Resync, Instant)>,
    /// Ends that no event reported.
    pub silent_ends: Vec<(Key, Instant)>,
    pub dropped_count: u64,
    pub lost_at: Option<Instant>,
}

impl Listener {
    pub fn note(&mut self, change: &Change<'_>) {
        match change {
            Change::Flow {
                flow, is_resynced, ..
            } => self.note_flow(flow, *is_resynced),
            Change::Resynced(resync) => self.resyncs.push((*resync, Instant::now())),
            other => panic!("{other:?}"),
        }
    }

    pub fn note_flow(&mut self, flow: &Flow<'_>, is_resynced: bool) {
        let key = flow.key();
        match (flow.kind, self.flows.get_mut(&key)) {
            (EventKind::New, None) => {
                self.flows.insert(key, Facts::of(flow));
            }
            (EventKind::Update, Some(known)) => {
                assert_eq!(known.id, flow.id);
                let state = flow.state.or(known.state);
                *known = Facts {
                    state,
                    ..Facts::of(flow)
                };
            }
            (EventKind::Delete, Some(known)) => {
                assert_eq!(known.id, flow.id);
                self.flows.remove(&key);
                if is_resynced {
                    self.silent_ends.push((key, Instant::now()));
                }
            }
            (_, known) => panic!("known: {known:?}; {flow:?}"),
        }
    }
}

/// A mirror, the engine that feeds it, and its listener.
pub struct Setup {
    pub running: Running,
    pub id: SocketId,
    pub mirror: Mirror,
    pub listener: Listener,
}

impl Setup {
    pub fn new(backend: Backend, recv_buffer_bytes: usize, options: MirrorOptions) -> Self {
        Self::with_filter(backend, recv_buffer_bytes, options, Filter::default())
    }

    pub fn with_filter(
        backend: Backend,
        recv_buffer_bytes: usize,
        options: MirrorOptions,
        filter: Filter,
    ) -> Self {
        let program = filter.program_for_mirror().expect("a mirror's filter");
        let socket = Socket::builder(Protocol::NETFILTER)
            .filter(&program)
            .groups(Mirror::GROUPS)
            .recv_buffer_bytes(recv_buffer_bytes)
            .open()
            .expect("a socket in conntrack's groups");
        let builder = Engine::builder().backend(backend);
        let (running, id) = start(&builder, socket, AddOptions::new());
        Self {
            running,
            id,
            mirror: Mirror::with_filter(options, filter).expect("a mirror's filter"),
            listener: Listener::default(),
        }
    }

    pub fn turn(&mut self) {
        let Self {
            running,
            id,
            mirror,
            listener,
        } = self;
        let now = Instant::now();
        let most = Duration::from_millis(20);
        let due = mirror
            .due(now)
            .map(|due| due.saturating_duration_since(now));
        let timeout = due.map_or(most, |due| due.min(most));
        let _ = running
            .poll(Some(timeout), |event, _| {
                if let Event::Lost(_, loss) = &event {
                    listener.dropped_count += loss.count;
                    listener.lost_at = Some(Instant::now());
                }
                mirror.feed(&event, |change| listener.note(&change));
                ControlFlow::<()>::Continue(())
            })
            .expect("a turn");
        let events = running.socket(*id).expect("the events' socket");
        mirror
            .advance(events, |change| listener.note(&change))
            .expect("advanced");
    }

    pub fn turn_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "not done: {} flows, synced: {}, {} lost, {:?}",
                self.mirror.len(),
                self.mirror.is_synced(),
                self.listener.dropped_count,
                self.listener.resyncs.last()
            );
            self.turn();
        }
    }

    /// Turns until the mirror is synced and the events of all changes have been received.
    pub fn turn_until_quiet(&mut self) {
        let mut idle_since = Instant::now();
        let mut reported = (0, 0);
        self.turn_until(|this| {
            let statistics = this.running.statistics(this.id).expect("its statistics");
            let now_reported = (statistics.messages, statistics.dropped);
            if now_reported != reported || !this.mirror.is_synced() {
                (reported, idle_since) = (now_reported, Instant::now());
            }
            idle_since.elapsed() > Duration::from_millis(200)
        });
    }

    /// Asserts that the mirror, its listener, the kernel's dump and conntrack(8) agree.
    pub fn assert_is_the_kernels(&self) {
        self.assert_is_what_matches(&Filter::default());
        let lines: BTreeSet<String> = self.mirror.iter().map(|flow| line_of(&flow)).collect();
        if let Some(listed) = listed() {
            let wrong = lines.symmetric_difference(&listed).take(4);
            let wrong: Vec<_> = wrong.collect();
            assert!(wrong.is_empty(), "mirror and conntrack -L: {wrong:#?}");
        }
    }

    /// Asserts that the mirror, its listener and what matches in the kernel's dump agree.
    pub fn assert_is_what_matches(&self, filter: &Filter) {
        let mut requests = Requests::open().expect("requests");
        let dump = requests
            .dump(&DumpFilter::new(), |all: &mut HashMap<_, _>, flow| {
                if filter.matches(flow) {
                    all.insert(flow.key(), Facts::of(flow));
                }
            })
            .expect("a dump");
        let mirrored: HashMap<_, _> = self
            .mirror
            .iter()
            .map(|flow| (flow.key(), Facts::of(&flow)))
            .collect();
        assert_eq!(mirrored.len(), self.mirror.len());
        assert_same("mirror and kernel", &mirrored, &dump.items);
        assert_same("listener and kernel", &self.listener.flows, &dump.items);
    }
}

#[track_caller]
fn assert_same(what: &str, left: &HashMap<Key, Facts>, right: &HashMap<Key, Facts>) {
    let keys = left.keys().chain(right.keys());
    let wrong = keys.filter(|key| left.get(*key) != right.get(*key)).take(4);
    let wrong: Vec<_> = wrong
        .map(|key| (key, left.get(key), right.get(key)))
        .collect();
    assert!(
        wrong.is_empty(),
        "{what}, {} and {} flows: {wrong:#?}",
        left.len(),
        right.len()
    );
}
