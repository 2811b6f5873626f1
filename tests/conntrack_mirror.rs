//! A mirror of the conntrack table equals the kernel's table, despite losses, stalls, and flows that end without an
//! event.

mod common;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{own_namespace, run, run_or_skip, skip};
use nlring::EventKind;
use nlring::conntrack::{
    Change, DumpFilter, Flow, FlowChange, Group, Key, Layer4, Mirror, NewFlow, ProtocolState,
    Requests, Tuple, Zone, ZoneDirection, status,
};
use nlring::{
    Backend, Batch, Engine, Event, MessageBuilder, MirrorOptions, Protocol, Resync, ResyncReason,
    Running, Socket, SocketId,
};

on_each_backend!(
    after_overruns_the_mirror_equals_the_kernels_table,
    flows_from_before_the_start_are_in_the_first_round,
    zones_keep_equal_tuples_apart,
);

/// Nothing here takes longer, even if other programs use most of the CPU time.
const PATIENCE: Duration = Duration::from_secs(180);
/// `IPCTNL_MSG_CT_NEW`, and numbers of `enum ctattr_type`.
const CT_NEW: u16 = 0x100;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_STATUS: u16 = 3;
const CTA_MARK: u16 = 8;
const ESTABLISHED: u8 = 3;

/// The facts of a flow that the tests compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    reply: Option<Tuple>,
    id: Option<u32>,
    mark: u32,
    status: u32,
    state: Option<ProtocolState>,
}

impl Facts {
    fn of(flow: &Flow<'_>) -> Self {
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
struct Listener {
    flows: HashMap<Key, Facts>,
    resyncs: Vec<(Resync, Instant)>,
    /// Ends that no event reported.
    silent_ends: Vec<(Key, Instant)>,
    dropped_count: u64,
    lost_at: Option<Instant>,
}

impl Listener {
    fn note(&mut self, change: &Change<'_>) {
        match change {
            Change::Flow { flow, is_resynced } => self.note_flow(flow, *is_resynced),
            Change::Resynced(resync) => self.resyncs.push((*resync, Instant::now())),
            other => panic!("{other:?}"),
        }
    }

    fn note_flow(&mut self, flow: &Flow<'_>, is_resynced: bool) {
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
struct Setup {
    running: Running,
    id: SocketId,
    mirror: Mirror,
    listener: Listener,
}

impl Setup {
    fn new(backend: Backend, recv_buffer_bytes: usize, options: MirrorOptions) -> Self {
        let socket = Socket::builder(Protocol::NETFILTER)
            .groups([Group::New, Group::Update, Group::Destroy])
            .recv_buffer_bytes(recv_buffer_bytes)
            .open()
            .expect("a socket in conntrack's groups");
        let builder = Engine::builder().backend(backend);
        let (running, id) = common::start(&builder, socket, nlring::AddOptions::new());
        Self {
            running,
            id,
            mirror: Mirror::new(options),
            listener: Listener::default(),
        }
    }

    fn turn(&mut self) {
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

    fn turn_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
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
    fn turn_until_quiet(&mut self) {
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
    fn assert_is_the_kernels(&self) {
        let mut requests = Requests::open().expect("requests");
        let dump = requests
            .dump(&DumpFilter::new(), |all: &mut HashMap<_, _>, flow| {
                all.insert(flow.key(), Facts::of(flow));
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
        let lines: BTreeSet<String> = self.mirror.iter().map(|flow| line_of(&flow)).collect();
        if let Some(listed) = listed() {
            let wrong = lines.symmetric_difference(&listed).take(4);
            let wrong: Vec<_> = wrong.collect();
            assert!(wrong.is_empty(), "mirror and conntrack -L: {wrong:#?}");
        }
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

/// A flow as `conntrack -L -o id` writes it, without the time left and the references.
fn line_of(flow: &Flow<'_>) -> String {
    let status = flow.status.unwrap_or(0);
    let mut words: Vec<String> = Vec::new();
    let protocol = nlring::conntrack::protocol_name(flow.protocol()).unwrap_or("unknown");
    words.push(protocol.to_owned());
    words.push(flow.protocol().to_string());
    words.extend(flow.state.and_then(ProtocolState::name).map(str::to_owned));
    words.extend(words_of(&flow.orig));
    words.extend(zone_of(flow, ZoneDirection::Orig, "zone-orig"));
    if status & status::SEEN_REPLY == 0 {
        words.push("[UNREPLIED]".to_owned());
    }
    words.extend(words_of(&flow.reply.expect("a reply tuple")));
    words.extend(zone_of(flow, ZoneDirection::Reply, "zone-reply"));
    if status & status::ASSURED != 0 {
        words.push("[ASSURED]".to_owned());
    }
    words.push(format!("mark={}", flow.mark.unwrap_or(0)));
    words.extend(zone_of(flow, ZoneDirection::Both, "zone"));
    words.push(format!("id={}", flow.id.expect("an id")));
    words.join(" ")
}

fn words_of(tuple: &Tuple) -> [String; 4] {
    let (src_port, dst_port) = tuple.ports().expect("ports");
    [
        format!("src={}", tuple.src),
        format!("dst={}", tuple.dst),
        format!("sport={src_port}"),
        format!("dport={dst_port}"),
    ]
}

fn zone_of(flow: &Flow<'_>, direction: ZoneDirection, name: &str) -> Option<String> {
    let zone = flow.zone.filter(|zone| zone.direction == direction)?;
    Some(format!("{name}={}", zone.id))
}

/// None: conntrack(8) is not installed.
fn listed() -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        let output = run("conntrack", &["-L", "-f", family, "-o", "id"])?;
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        all.extend(text.lines().map(|line| {
            let words = line.split_whitespace().enumerate();
            let kept = words.filter(|(index, word)| *index != 2 && !word.starts_with("use="));
            kept.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
        }));
    }
    Some(all)
}

/// The flow with this number.
fn tuple_of(number: u32) -> Tuple {
    let [a, b, c, d] = number.to_be_bytes();
    let (src, dst) = (Ipv4Addr::new(198, 18, a, b), Ipv4Addr::new(198, 19, 0, 1));
    let layer4 = Layer4::Ports {
        src: u16::from_be_bytes([c, d]),
        dst: 443,
    };
    let protocol = if number.is_multiple_of(4) { 17 } else { 6 };
    Tuple::new(src.into(), dst.into(), protocol, layer4)
}

fn key_of(number: u32) -> Key {
    Key {
        orig: tuple_of(number),
        zone: None,
    }
}

fn put_tuple<'a>(message: MessageBuilder<'a>, kind: u16, tuple: &Tuple) -> MessageBuilder<'a> {
    let (src_port, dst_port) = tuple.ports().expect("ports");
    let octets = |address| match address {
        IpAddr::V4(address) => Ipv4Addr::octets(&address),
        IpAddr::V6(_) => panic!("IPv4 only"),
    };
    message.nested(kind, |inside| {
        inside
            .nested(1, |ip| {
                ip.attribute(1, &octets(tuple.src))
                    .attribute(2, &octets(tuple.dst))
            })
            .nested(2, |layer4| {
                layer4
                    .attribute_u8(1, tuple.protocol)
                    .attribute_be16(2, src_port)
                    .attribute_be16(3, dst_port)
            })
    })
}

/// Adds, changes and removes flows by number, many with one system call.
struct Maker {
    requests: Requests,
    batch: Batch,
}

impl Maker {
    fn new() -> Self {
        Self {
            requests: Requests::open().expect("requests; needs CAP_NET_ADMIN in its namespace"),
            batch: Batch::new(),
        }
    }

    fn make(&mut self, numbers: impl Iterator<Item = u32>) {
        for number in numbers {
            let mut flow = NewFlow::new(tuple_of(number), 600).mark(number % 3);
            if flow.key().orig.protocol == 6 {
                flow = flow.tcp_state(ESTABLISHED);
            }
            flow.add_in(&mut self.batch).expect("added");
        }
        self.send();
    }

    /// Sets the mark of each flow, and the status of every third.
    fn change(&mut self, numbers: impl Iterator<Item = u32>, mark: u32) {
        for number in numbers {
            let added = self.batch.add(CT_NEW, 0, |message| {
                let message = message.bytes(&[2, 0, 0, 0]);
                let message = put_tuple(message, CTA_TUPLE_ORIG, &tuple_of(number))
                    .attribute_be32(CTA_MARK, mark);
                if number.is_multiple_of(3) {
                    let status = status::SEEN_REPLY | status::ASSURED | status::CONFIRMED;
                    return message.attribute_be32(CTA_STATUS, status);
                }
                message
            });
            added.expect("added");
        }
        self.send();
    }

    fn remove(&mut self, numbers: impl Iterator<Item = u32>) {
        for number in numbers {
            let key = key_of(number);
            key.delete_in(&mut self.batch, None).expect("added");
        }
        self.send();
    }

    fn send(&mut self) {
        let requester = self.requests.requester();
        let sent = self.batch.send(requester, |index, reply| {
            if let Err(error) = reply {
                panic!("request {index}: {error}");
            }
        });
        sent.expect("sent");
    }
}

/// Half a million flows begin, change and end. The receiver is too slow for them, and sometimes does nothing at all.
fn after_overruns_the_mirror_equals_the_kernels_table(backend: Backend) {
    const FLOW_COUNT: u32 = 500_000;
    const STEP: u32 = 2000;
    const MOST_ALIVE: u32 = 60_000;

    own_namespace();
    let options = MirrorOptions::new().resync_interval(Duration::from_millis(300));
    let mut setup = Setup::new(backend, 64 << 10, options);
    let is_over = Arc::new(AtomicBool::new(false));
    // The maker sometimes waits until the mirror has caught up, so that losses meet a synced mirror.
    let (stop, stops) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let maker = {
        let is_over = is_over.clone();
        // The thread inherits the namespace.
        thread::spawn(move || {
            let mut maker = Maker::new();
            for start in (0..FLOW_COUNT).step_by(STEP as usize) {
                maker.make(start..start + STEP);
                maker.change((start..start + STEP).step_by(5), 7);
                maker.change((start..start + STEP).step_by(10), 0);
                if start >= MOST_ALIVE {
                    let old = start - MOST_ALIVE;
                    maker.remove((old..old + STEP).filter(|number| number % 50 != 0));
                }
                if start % 100_000 == 50_000 {
                    stop.send(()).expect("the receiver is there");
                    goes.recv().expect("the receiver is there");
                }
            }
            is_over.store(true, Ordering::Release);
        })
    };
    let mut is_awaited = false;
    setup.turn_until(|setup| {
        is_awaited |= stops.try_recv().is_ok();
        if is_awaited && setup.mirror.is_synced() {
            is_awaited = false;
            go.send(()).expect("the maker is there");
            thread::sleep(Duration::from_millis(100)); // nobody receives
        }
        is_over.load(Ordering::Acquire)
    });
    maker.join().expect("made");
    setup.turn_until_quiet();
    let statistics = setup.running.statistics(setup.id).expect("statistics");
    let resyncs = &setup.listener.resyncs;
    assert!(statistics.dropped > 0, "{statistics:?}");
    assert!(resyncs.len() > 4, "{resyncs:?}");
    let reported: u64 = resyncs.iter().map(|(resync, _)| resync.lost_count).sum();
    assert_eq!(reported, statistics.dropped);
    assert_eq!(setup.mirror.repeated_count(), 0);
    let alive = FLOW_COUNT - (FLOW_COUNT - MOST_ALIVE) * 49 / 50;
    assert_eq!(setup.mirror.len(), alive as usize);
    setup.assert_is_the_kernels();
}

fn flows_from_before_the_start_are_in_the_first_round(backend: Backend) {
    own_namespace();
    if !set_events(true) {
        return skip(
            "flows_from_before_the_start_are_in_the_first_round",
            NO_EVENTS,
        );
    }
    let mut maker = Maker::new();
    maker.make(0..5000);
    let mut setup = Setup::new(backend, 8 << 20, MirrorOptions::new());
    // Events come before the first dump, and while the mirror reads and merges it.
    maker.remove(0..1000);
    maker.change(1000..2000, 9);
    let mut next = 5000;
    setup.turn_until(|setup| {
        maker.make(next..next + 4);
        maker.change(next - 4..next, 5);
        maker.remove(next - 4000..next - 3997);
        next += 4;
        setup.mirror.is_synced()
    });
    let (resync, _) = setup.listener.resyncs[0];
    assert_eq!(resync.reason, ResyncReason::Snapshot);
    assert_eq!((resync.lost_count, resync.is_interrupted), (0, false));
    assert!(resync.new_count >= 3000, "{resync:?}");
    setup.turn_until_quiet();
    assert_eq!(setup.listener.resyncs.len(), 1);
    assert_eq!(setup.listener.dropped_count, 0);
    setup.assert_is_the_kernels();
}

fn zones_keep_equal_tuples_apart(backend: Backend) {
    own_namespace();
    let mut requests = Requests::open().expect("requests");
    let mut setup = Setup::new(backend, 1 << 20, MirrorOptions::new());
    let tuple = tuple_of(1);
    let zones = [
        None,
        Some(Zone::new(5, ZoneDirection::Both)),
        Some(Zone::new(6, ZoneDirection::Orig)),
    ];
    let flow_in = |zone: Option<Zone>, mark: u32| {
        let flow = NewFlow::new(tuple, 600).tcp_state(ESTABLISHED).mark(mark);
        zone.map_or(flow, |zone| flow.zone(zone))
    };
    // The dump brings the first one, events bring the others. In zone 0 the last one would have the reply tuple of
    // the first.
    let translated = Tuple::new(
        tuple.dst,
        [192, 0, 2, 7].into(),
        6,
        tuple.reversed().unwrap().layer4,
    );
    for (zone, mark) in zones.into_iter().zip(1..) {
        let mut flow = flow_in(zone, mark);
        if zone == zones[2] {
            flow = flow.reply(translated);
        }
        requests.add(&flow).expect("made");
        setup.turn_until_quiet();
    }
    for (zone, mark) in zones.into_iter().zip(1..) {
        let key = Key { orig: tuple, zone };
        let flow = setup.mirror.get(&key).expect("mirrored");
        assert_eq!((flow.mark, flow.zone), (Some(mark), zone));
        let same = setup
            .mirror
            .get_by_reply(&flow.reply.unwrap(), zone)
            .expect("by reply");
        assert_eq!(same.mark, Some(mark));
        let with_id: Vec<_> = setup.mirror.find_by_id(flow.id.unwrap()).collect();
        assert!(with_id.iter().any(|flow| flow.key() == key));
        assert!(
            flow.timeout_seconds
                .is_some_and(|left| (590..=600).contains(&left))
        );
    }
    setup.assert_is_the_kernels();
    let key = Key {
        orig: tuple,
        zone: zones[1],
    };
    assert!(requests.delete(&key, None).expect("removed"));
    setup.turn_until(|setup| setup.mirror.len() == 2);
    assert_eq!(setup.mirror.get(&key), None);
    setup.assert_is_the_kernels();
}

#[test]
fn a_large_table_is_repaired_soon_after_a_loss() {
    run_or_skip("a_large_table_is_repaired_soon_after_a_loss", || {
        own_namespace();
        let mut setup = Setup::new(Backend::Auto, 64 << 10, MirrorOptions::new());
        setup.turn_until_quiet();
        let mut maker = Maker::new();
        maker.make(0..100_000); // nobody receives
        setup.turn_until(|setup| !setup.mirror.is_synced());
        assert!(setup.mirror.len() < 100_000);
        setup.turn_until(|setup| setup.mirror.is_synced());
        let (resync, at) = *setup.listener.resyncs.last().expect("repaired");
        let lost_at = setup.listener.lost_at.expect("a loss");
        assert!(at - lost_at < Duration::from_secs(15));
        assert_eq!(
            (resync.reason, resync.entry_count),
            (ResyncReason::Loss, 100_000)
        );
        assert_eq!(resync.lost_count, setup.listener.dropped_count);
        assert_eq!(resync.new_count, resync.lost_count);
        setup.assert_is_the_kernels();
    });
}

const NO_EVENTS: &str = "net.netfilter.nf_conntrack_events cannot be set";

/// Makes flows that begin from now on have events, even if nobody listens. False: the setting cannot be changed here.
fn set_events(on: bool) -> bool {
    let path = "/proc/sys/net/netfilter/nf_conntrack_events";
    std::fs::write(path, if on { "1" } else { "0" }).is_ok()
}

/// Nobody listened when these flows began, so no event reports their ends.
#[test]
fn silent_ends_are_found_and_silent_refreshes_are_no_ends() {
    const NAME: &str = "silent_ends_are_found_and_silent_refreshes_are_no_ends";
    const LIFE: Duration = Duration::from_secs(3);

    own_namespace();
    if !set_events(false) {
        return skip(NAME, NO_EVENTS);
    }
    let mut requests = Requests::open().expect("requests");
    let made_at = Instant::now();
    let keys: Vec<Key> = (0..300).map(key_of).collect();
    for key in &keys {
        let mut flow = NewFlow::new(key.orig, 3);
        if key.orig.protocol == 6 {
            flow = flow.tcp_state(ESTABLISHED);
        }
        requests.add(&flow).expect("made");
    }
    let refreshed = keys[7];
    set_events(true);
    // Events report the ends of these flows, even though the kernel may remove them only when somebody asks for them.
    let reported: Vec<Key> = (1000..1100).map(key_of).collect();
    for key in &reported {
        requests.add(&NewFlow::new(key.orig, 3)).expect("made");
    }
    let mut setup = Setup::new(Backend::Auto, 1 << 20, MirrorOptions::new());
    setup.turn_until_quiet();
    assert_eq!(setup.mirror.len(), keys.len() + reported.len());
    let change = FlowChange::new().timeout_seconds(30);
    assert!(requests.update(&refreshed, &change).expect("refreshed"));
    let mut checked_count = 0;
    setup.turn_until(|setup| {
        let ends = &setup.listener.silent_ends[checked_count..];
        for (key, at) in ends {
            assert!(*at - made_at >= LIFE, "an end was made up: {key:?}");
            assert_eq!(requests.get(key, |_| ()).expect("asked"), None, "{key:?}");
        }
        checked_count += ends.len();
        setup.mirror.len() == 1
    });
    let took = made_at.elapsed();
    assert!(took < LIFE + Duration::from_secs(15));
    // The mirror asks the kernel about this flow too, and learns that it still exists.
    setup.turn_until(|setup| {
        let left = setup.mirror.get(&refreshed).expect("kept").timeout_seconds;
        left.is_some_and(|left| left > 5)
    });
    assert_eq!(setup.listener.silent_ends.len(), keys.len() - 1);
    assert_eq!(setup.listener.resyncs.len(), 1);
    assert!(setup.mirror.is_synced());
    setup.assert_is_the_kernels();
}
