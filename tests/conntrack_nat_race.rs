//! NAT sends two packets of one UDP socket to two hosts at the same moment. The kernel then keeps two flows with one
//! original tuple, and the mirror keeps both and reports their ends.

mod common;

use std::collections::HashMap;
use std::io::Write as _;
use std::net::UdpSocket;
use std::ops::ControlFlow;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{own_namespace, run_or_skip, skip};
use nlring::EventKind;
use nlring::conntrack::{Change, Key, Layer4, Mirror, Requests, Tuple, status};
use nlring::{AddOptions, Engine, MirrorOptions, Protocol, RecvFlags, Running, Socket, SocketId};

const PATIENCE: Duration = Duration::from_secs(30);
/// `NFNL_SUBSYS_QUEUE` in the upper byte, and numbers of `enum nfqnl_msg_types`.
const QUEUE_PACKET: u16 = 0x300;
const QUEUE_VERDICT: u16 = 0x301;
const QUEUE_CONFIG: u16 = 0x302;
const NF_ACCEPT: u32 = 1;
const PORT: u16 = 5353;
/// The hosts that NAT sends the two packets to: 127.0.0.2 and 127.0.0.3.
const FIRST: u8 = 2;
const SECOND: u8 = 3;

/// Sends packets that `NFQUEUE` holds until they are released.
struct Racer {
    queue: Socket,
    sender: UdpSocket,
    /// How many packets were held so far.
    held_count: u32,
}

impl Racer {
    /// Err names what this host lacks.
    fn new() -> Result<Self, &'static str> {
        const NAT: &str = "table ip race {
            chain nat { type nat hook output priority -100; }
            chain marks { type filter hook output priority -50; }
        }";
        const HOLD: &str = "table ip race { chain hold {
            type filter hook output priority 0; udp dport 5353 queue num 7; }; }";
        // A kernel may lack nftables' queue (CONFIG_NFT_QUEUE).
        const HOLD_BY_IPTABLES: &str = "-I OUTPUT -p udp --dport 5353 -j NFQUEUE --queue-num 7";
        let queue = Socket::builder(Protocol::NETFILTER).open().unwrap();
        let header = [0, 0, 0, 7]; // struct nfgenmsg with the queue's number
        let bind = [1, 0, 0, 0]; // NFQNL_CFG_CMD_BIND
        let configured = common::request(&queue, QUEUE_CONFIG, 0, &header, |message| {
            // NFQA_CFG_CMD, and NFQA_CFG_PARAMS: only what belongs to a packet is copied.
            message.attribute(1, &bind).attribute(2, &[0, 0, 0, 0, 1])
        });
        if configured.is_err() {
            return Err("NFQUEUE (CONFIG_NETFILTER_NETLINK_QUEUE)");
        }
        if !common::ip("link set lo up") {
            return Err("ip");
        }
        if !nft(NAT) {
            return Err("nft with nat");
        }
        let arguments: Vec<&str> = HOLD_BY_IPTABLES.split(' ').collect();
        let holds_by_iptables =
            || common::run("iptables", &arguments).is_some_and(|output| output.status.success());
        if !nft(HOLD) && !holds_by_iptables() {
            return Err("nft's queue, or iptables' NFQUEUE");
        }
        Ok(Self {
            queue,
            sender: UdpSocket::bind("127.0.0.1:0").unwrap(),
            held_count: 0,
        })
    }

    /// Sends a packet of the socket, which NAT directs to this host, and holds it.
    fn hold(&mut self, host: u8) {
        let rule = format!("add rule ip race nat udp dport {PORT} dnat to 127.0.0.{host}");
        assert!(nft(&format!("flush chain ip race nat; {rule}")));
        self.sender.send_to(b"?", ("127.0.0.1", PORT)).unwrap();
        let mut buffer = vec![0; 32 << 10];
        let list = self.queue.recv(&mut buffer, RecvFlags::NONE).unwrap();
        let mut packets = list.iter().filter(|m| m.message_type() == QUEUE_PACKET);
        assert!(packets.next().is_some(), "a held packet");
        self.held_count += 1;
    }

    /// Releases the packet with this number; the first is 1.
    fn release(&self, number: u32) {
        let mut bytes = Vec::new();
        let verdict = [NF_ACCEPT.to_be_bytes(), number.to_be_bytes()].concat();
        nlring::MessageBuilder::new(&mut bytes, QUEUE_VERDICT, nlring::message::flags::REQUEST)
            .bytes(&[0, 0, 0, 7])
            .attribute(2, &verdict)
            .finish()
            .unwrap();
        self.queue.send(&bytes).unwrap();
    }

    /// Two packets of a new socket begin two flows at the same moment, with a connection mark or without.
    fn race(&mut self, is_marked: bool) -> Race {
        self.sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mark = if is_marked { "ct mark set 7" } else { "accept" };
        assert!(nft(&format!(
            "flush chain ip race marks; add rule ip race marks udp dport {PORT} {mark}"
        )));
        self.hold(FIRST);
        self.hold(SECOND);
        self.release(self.held_count - 1);
        self.release(self.held_count);
        Race {
            port: self.sender.local_addr().unwrap().port(),
        }
    }
}

/// Two flows of one socket.
struct Race {
    port: u16,
}

impl Race {
    fn key(&self) -> Key {
        let ports = Layer4::Ports {
            src: self.port,
            dst: PORT,
        };
        let host = [127, 0, 0, 1].into();
        Key {
            orig: Tuple::new(host, host, 17, ports),
            zone: None,
        }
    }

    /// The reply tuple of the flow to a host.
    fn reply(&self, host: u8) -> Tuple {
        let mut reply = self.key().orig.reversed().unwrap();
        reply.src = [127, 0, 0, host].into();
        reply
    }

    fn winner(&self) -> Tuple {
        self.reply(FIRST)
    }

    fn loser(&self) -> Tuple {
        self.reply(SECOND)
    }
}

/// False: the program is not installed, or it fails.
fn nft(rules: &str) -> bool {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null());
    let Ok(mut child) = nft.spawn() else {
        return false;
    };
    let mut input = child.stdin.take().unwrap();
    input.write_all(rules.as_bytes()).unwrap();
    drop(input);
    child.wait().unwrap().success()
}

/// What the mirror reported of one flow: NEW and DESTROY, and for each whether no event caused it.
#[derive(Debug, Default)]
struct Lifetime {
    status: u32,
    new: Vec<bool>,
    destroy: Vec<bool>,
}

struct Setup {
    running: Running,
    id: SocketId,
    mirror: Mirror,
    /// By original and reply tuple and by id.
    lifetimes: HashMap<(Tuple, Tuple, Option<u32>), Lifetime>,
    requests: Requests,
    /// Reply tuples.
    looked_for: Vec<Tuple>,
}

impl Setup {
    /// How often the kernel let two flows with one original tuple pass.
    fn clash_count(&mut self) -> u32 {
        let statistics = self.requests.statistics().unwrap();
        statistics.iter().filter_map(|cpu| cpu.clash_resolve).sum()
    }

    /// Whether the mirror has the flow with this reply tuple.
    fn has(&self, reply: &Tuple) -> bool {
        self.mirror.get_by_reply(reply, None).is_some()
    }

    fn of(&self, reply: &Tuple) -> Vec<&Lifetime> {
        let lifetimes = self.lifetimes.iter();
        let found = lifetimes.filter(|((_, other, _), _)| other == reply);
        found.map(|(_, lifetime)| lifetime).collect()
    }

    fn has_ended(&self, reply: &Tuple) -> bool {
        let lifetimes = self.of(reply);
        !lifetimes.is_empty()
            && lifetimes
                .iter()
                .all(|lifetime| !lifetime.destroy.is_empty())
    }

    fn new() -> Self {
        let socket = Socket::builder(Protocol::NETFILTER)
            .groups(Mirror::GROUPS)
            .recv_buffer_bytes(1 << 20)
            .open()
            .expect("a socket in conntrack's groups; needs CAP_NET_ADMIN");
        let (running, id) = common::start(&Engine::builder(), socket, AddOptions::new());
        let mut this = Self {
            running,
            id,
            mirror: Mirror::new(MirrorOptions::new().resync_interval(Duration::ZERO)),
            lifetimes: HashMap::new(),
            requests: Requests::open().unwrap(),
            looked_for: Vec::new(),
        };
        this.turn_until(|this| this.mirror.is_synced());
        this
    }

    fn turn_until(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{:#?}", self.lifetimes);
            self.turn();
        }
    }

    fn turn(&mut self) {
        let lifetimes = &mut self.lifetimes;
        let mut note = |change: Change<'_>| {
            if let Change::Flow {
                flow, is_resynced, ..
            } = change
            {
                let lifetime = lifetimes
                    .entry((flow.orig, flow.reply.unwrap(), flow.id))
                    .or_default();
                lifetime.status |= flow.status.unwrap_or(0);
                match flow.kind {
                    EventKind::New => lifetime.new.push(is_resynced),
                    EventKind::Update | EventKind::Entry => {}
                    EventKind::Delete => lifetime.destroy.push(is_resynced),
                }
            }
        };
        let mirror = &mut self.mirror;
        let most = Duration::from_millis(20);
        let _ = self.running.poll(Some(most), |event, _| {
            mirror.feed(&event, &mut note);
            ControlFlow::<()>::Continue(())
        });
        let events = self.running.socket(self.id).unwrap();
        mirror.advance(events, &mut note).unwrap();
        // A lookup of an expired flow makes the kernel end it now, not within a minute.
        for reply in &self.looked_for {
            let (orig, zone) = (*reply, None);
            self.requests.get(&Key { orig, zone }, |_| ()).unwrap();
        }
    }
}

#[test]
fn both_flows_of_a_nat_race_are_kept_and_each_ends_once() {
    const NAME: &str = "both_flows_of_a_nat_race_are_kept_and_each_ends_once";
    run_or_skip(NAME, || {
        own_namespace();
        let mut racer = match Racer::new() {
            Ok(racer) => racer,
            Err(missing) => return skip(NAME, missing),
        };
        let mut setup = Setup::new();
        for is_lossy in [false, true] {
            let silent = racer.race(false);
            if setup.clash_count() == 0 {
                // On Linux 6.1 a held packet takes over the flow that was made meanwhile (net/netfilter/
                // nf_conntrack_core.c, nf_conntrack_update), so NFQUEUE cannot bring this race about.
                return skip(
                    NAME,
                    "this kernel gives a held packet another packet's flow",
                );
            }
            setup.turn_until(|this| this.mirror.get(&silent.key()).is_some());
            assert!(
                !setup.has(&silent.loser()),
                "no event reports it until its end"
            );
            // The first event of the second flow reports that a mark was set.
            let marked = racer.race(true);
            setup.turn_until(|this| this.has(&marked.loser()));
            if is_lossy {
                setup.mirror.note_unreadable(); // a dump shows the first flows only
                assert!(!setup.mirror.is_synced());
            }
            let winners = [&silent, &marked].map(Race::winner);
            let losers = [&silent, &marked].map(Race::loser);
            setup.looked_for = losers.to_vec();
            setup.turn_until(|this| {
                let all_ended = losers.iter().all(|loser| this.has_ended(loser));
                all_ended && this.mirror.is_synced()
            });
            for winner in &winners {
                let lifetimes = setup.of(winner);
                assert_eq!(lifetimes.len(), 1, "{:#?}", setup.lifetimes);
                let [begin, end] = [&lifetimes[0].new, &lifetimes[0].destroy];
                assert!(
                    begin == &[false] && end.is_empty(),
                    "{:#?}",
                    setup.lifetimes
                );
                assert!(setup.has(winner) && lifetimes[0].status & status::NAT_CLASH == 0);
            }
            for loser in &losers {
                let lifetimes = setup.of(loser);
                assert_eq!(lifetimes.len(), 1, "{:#?}", setup.lifetimes);
                let [begin, end] = [&lifetimes[0].new, &lifetimes[0].destroy];
                // Its beginning causes no event, its end causes one.
                assert!(
                    begin == &[true] && end == &[false],
                    "{:#?}",
                    setup.lifetimes
                );
                assert!(!setup.has(loser) && lifetimes[0].status & status::NAT_CLASH != 0);
            }
        }
        assert_eq!(setup.mirror.repeated_count(), 0);
    });
}
