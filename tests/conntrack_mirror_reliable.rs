//! A mirror of the conntrack table reports each lifetime of a flow once, even if the kernel repeats ends, reports
//! only ends, or repeats a beginning.

mod common;

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use common::{own_namespace, run, run_or_skip, skip};
use nlring::EventKind;
use nlring::conntrack::{Change, DumpFilter, Group, Key, Layer4, Mirror, NewFlow, Requests, Tuple};
use nlring::{
    AddOptions, Engine, Event, MirrorOptions, Notice, Protocol, Running, Socket, SocketId,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What the mirror reported of one lifetime. The second number of each pair counts the reports that no event caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reported {
    new: (u32, u32),
    update: (u32, u32),
    destroy: (u32, u32),
}

struct Setup {
    running: Running,
    id: SocketId,
    mirror: Mirror,
    reported: HashMap<(Key, Option<u32>), Reported>,
    failure_count: u64,
    /// How slow the receiver is.
    pause: Duration,
}

impl Setup {
    fn new(recv_buffer_bytes: usize, is_reliable: bool) -> Self {
        let socket = Socket::builder(Protocol::NETFILTER)
            .groups(Mirror::GROUPS)
            .recv_buffer_bytes(recv_buffer_bytes)
            .reliable(is_reliable)
            .open()
            .expect("a socket in conntrack's groups; needs CAP_NET_ADMIN");
        let (running, id) = common::start(&Engine::builder(), socket, AddOptions::new());
        let options = MirrorOptions::new().resync_interval(Duration::from_millis(20));
        Self {
            running,
            id,
            mirror: Mirror::new(options),
            reported: HashMap::new(),
            failure_count: 0,
            pause: Duration::ZERO,
        }
    }

    fn turn(&mut self) {
        let Self {
            running,
            id,
            mirror,
            reported,
            failure_count,
            pause,
        } = self;
        let mut note = |change: Change<'_>| {
            if let Change::Flow {
                flow, is_resynced, ..
            } = change
            {
                let reported = reported.entry((flow.key(), flow.id)).or_default();
                let (event, made_up) = match flow.kind {
                    EventKind::New => (&mut reported.new.0, &mut reported.new.1),
                    EventKind::Update | EventKind::Entry => {
                        (&mut reported.update.0, &mut reported.update.1)
                    }
                    EventKind::Delete => (&mut reported.destroy.0, &mut reported.destroy.1),
                };
                *(if is_resynced { made_up } else { event }) += 1;
            }
        };
        let now = Instant::now();
        let most = Duration::from_millis(20);
        let timeout = mirror
            .due(now)
            .map_or(most, |due| due.saturating_duration_since(now).min(most));
        let _ = running
            .poll(Some(timeout), |event, _| {
                if let Event::Notice(_, Notice::Delayed(delay)) = &event {
                    *failure_count += delay.count;
                }
                mirror.feed(&event, &mut note);
                thread::sleep(*pause);
                ControlFlow::<()>::Continue(())
            })
            .expect("a turn");
        let events = running.socket(*id).expect("the events' socket");
        mirror.advance(events, &mut note).expect("advanced");
    }

    fn turn_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: {} flows, synced: {}, {} of {} ended",
                self.mirror.len(),
                self.mirror.is_synced(),
                self.ended_count(),
                self.reported.len()
            );
            self.turn();
        }
    }

    /// Turns until nothing has come for a while, and the mirror is synced.
    fn turn_until_quiet(&mut self) {
        let (mut idle_since, mut before) = (Instant::now(), 0);
        self.turn_until("quiet", |this| {
            let statistics = this.running.statistics(this.id).expect("its statistics");
            let now = statistics.messages + statistics.delivery_failures;
            if now != before || !this.mirror.is_synced() {
                (before, idle_since) = (now, Instant::now());
            }
            idle_since.elapsed() > Duration::from_millis(500)
        });
    }

    fn ended_count(&self) -> usize {
        let ended = |reported: &&Reported| reported.destroy != (0, 0);
        self.reported.values().filter(ended).count()
    }

    #[track_caller]
    fn assert_each_began_and_ended_once(&self, count: usize) {
        let is_wrong = |reported: &&Reported| {
            (
                reported.new.0 + reported.new.1,
                reported.destroy.0 + reported.destroy.1,
            ) != (1, 1)
        };
        let wrong: Vec<_> = self.reported.values().filter(is_wrong).collect();
        let some = &wrong[..wrong.len().min(4)];
        assert!(wrong.is_empty(), "{} of {count}: {some:#?}", wrong.len());
        assert_eq!(self.reported.len(), count);
    }
}

fn flow_of(number: u32) -> NewFlow<'static> {
    let src = Ipv4Addr::from(0x0a00_0000 + number);
    let layer4 = Layer4::Ports { src: 1000, dst: 53 };
    NewFlow::new(
        Tuple::new(src.into(), [192, 0, 2, 1].into(), 17, layer4),
        600,
    )
}

/// The kernel cannot deliver the DESTROY events of a flush, a dump then shows none of these flows, and later the
/// kernel sends the events again.
#[test]
fn ends_that_come_again_after_a_dump_has_shown_them_are_not_reported() {
    own_namespace();
    // The kernel may be faster than the dump.
    let made_up_count = (0..10).map(|_| flush_and_dump()).find(|&count| count > 0);
    assert!(made_up_count.is_some(), "no dump came before the events");
}

/// How many ends the dump has shown before their events came.
fn flush_and_dump() -> u64 {
    const FLOW_COUNT: u32 = 400;

    let mut setup = Setup::new(8 << 10, true);
    let mut requests = Requests::open().expect("requests");
    setup.turn_until("the first dump", |this| this.mirror.is_synced());
    for number in 0..FLOW_COUNT {
        requests.add(&flow_of(number)).expect("made");
        if number.is_multiple_of(8) {
            setup.turn();
        }
    }
    setup.turn_until_quiet();
    assert_eq!(setup.mirror.len(), FLOW_COUNT as usize);
    setup.pause = Duration::from_micros(300);
    requests.flush(&DumpFilter::new()).expect("flushed");
    setup.turn_until("all have ended", |this| {
        this.ended_count() == FLOW_COUNT as usize
    });
    setup.pause = Duration::ZERO;
    assert!(setup.failure_count > 0, "no delivery failed");
    let made_up = setup
        .reported
        .values()
        .filter(|reported| reported.destroy.1 > 0);
    let made_up_count = made_up.count() as u64;
    setup.turn_until("the kernel has delivered all ends", |this| {
        this.mirror.repeated_count() >= made_up_count
    });
    setup.turn_until_quiet();
    setup.assert_each_began_and_ended_once(FLOW_COUNT as usize);
    assert!(setup.mirror.is_empty() && setup.mirror.is_synced());
    made_up_count
}

/// Sends packets to a socket of this host, and answers from it.
struct Talk {
    here: UdpSocket,
    there: UdpSocket,
}

impl Talk {
    fn new() -> Self {
        let bind = || UdpSocket::bind("127.0.0.1:0").expect("bound");
        let (here, there) = (bind(), bind());
        here.connect(there.local_addr().expect("bound"))
            .expect("connected");
        Self { here, there }
    }

    fn ask(&self) {
        self.here.send(b"?").expect("sent");
    }

    fn answer(&self) {
        let mut byte = [0];
        let (_, from) = self.there.recv_from(&mut byte).expect("received");
        self.there.send_to(b"!", from).expect("sent");
    }
}

/// False: nft(8) is not installed.
fn load_rules(rule: &str) -> bool {
    let output = run("ip", &["link", "set", "lo", "up"]).expect("ip(8)");
    assert!(output.status.success(), "{output:?}");
    let rules = format!(
        "add table t; add chain t c {{ type filter hook output priority 0; }}; add rule t c {rule}"
    );
    let Some(output) = run("nft", &[&rules]) else {
        return false;
    };
    assert!(output.status.success(), "{output:?}");
    true
}

#[test]
fn with_a_rule_that_reports_only_ends_each_end_is_reported() {
    const NAME: &str = "with_a_rule_that_reports_only_ends_each_end_is_reported";
    const FLOW_COUNT: usize = 50;

    run_or_skip(NAME, || {
        own_namespace();
        if !load_rules("ct event set destroy") {
            return skip(NAME, "it needs nft(8)");
        }
        let mut setup = Setup::new(1 << 20, false);
        setup.turn_until("the first dump", |this| this.mirror.is_synced());
        let talks: Vec<Talk> = (0..FLOW_COUNT).map(|_| Talk::new()).collect();
        for talk in &talks {
            talk.ask();
            talk.answer();
        }
        setup.turn_until_quiet();
        assert_eq!((setup.reported.len(), setup.mirror.len()), (0, 0));
        let mut requests = Requests::open().expect("requests");
        requests.flush(&DumpFilter::new()).expect("flushed");
        setup.turn_until("all have ended", |this| this.ended_count() == FLOW_COUNT);
        setup.turn_until_quiet();
        setup.assert_each_began_and_ended_once(FLOW_COUNT);
        assert!(setup.reported.values().all(|reported| reported.new.1 == 1));
        assert!(
            setup
                .reported
                .values()
                .all(|reported| reported.destroy.0 == 1)
        );
        assert_eq!(setup.mirror.repeated_count(), 0);
    });
}

/// The reliable socket of another program misses the NEW, so the kernel repeats it with the next event, to all
/// listeners.
#[test]
fn a_repeated_beginning_belongs_to_the_same_flow() {
    const NAME: &str = "a_repeated_beginning_belongs_to_the_same_flow";
    const FLOW_COUNT: u32 = 20;

    run_or_skip(NAME, || {
        own_namespace();
        if !load_rules("ct state new accept") {
            return skip(NAME, "it needs nft(8)");
        }
        let mut setup = Setup::new(1 << 20, false);
        setup.turn_until("the first dump", |this| this.mirror.is_synced());
        let mut received = Socket::builder(Protocol::NETFILTER)
            .group(Group::New)
            .nonblocking(true)
            .open()
            .expect("a socket that receives beginnings");
        let stuck = Socket::builder(Protocol::NETFILTER)
            .group(Group::New)
            .recv_buffer_bytes(2048)
            .reliable(true)
            .open()
            .expect("a socket that nobody reads");
        let mut requests = Requests::open().expect("requests");
        for number in 0..FLOW_COUNT {
            let _ = requests.add(&flow_of(number)); // until its buffer is full
        }
        assert!(stuck.drops().expect("its counter") > 0);
        let talk = Talk::new();
        talk.ask();
        talk.answer();
        talk.ask();
        setup.turn_until_quiet();
        let port = talk.here.local_addr().expect("bound").port();
        let is_it = |key: &Key| key.orig.ports().is_some_and(|(src, _)| src == port);
        let event_count = new_event_count(&mut received, is_it);
        assert!(event_count > 1, "its NEW was reported once");
        let reported: Vec<Reported> = setup
            .reported
            .iter()
            .filter(|((key, _), _)| is_it(key))
            .map(|(_, reported)| *reported)
            .collect();
        let [reported] = reported[..] else {
            panic!("{reported:?}");
        };
        assert_eq!((reported.new, reported.destroy), ((1, 0), (0, 0)));
        assert!(reported.update.0 > 0, "{reported:?}");
    });
}

fn new_event_count(received: &mut Socket, is_it: impl Fn(&Key) -> bool) -> usize {
    let mut count = 0;
    let mut buffer = vec![0; 64 << 10];
    while let Ok(received) = received.recv(&mut buffer, nlring::RecvFlags::DONT_WAIT) {
        let flows = received
            .iter()
            .filter_map(|message| nlring::conntrack::Flow::decode(&message).map(|flow| flow.key()));
        count += flows.filter(|key| is_it(key)).count();
    }
    count
}
