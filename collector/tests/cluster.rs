//! Two nodes, a cluster of three servers and two workers, with faults: what is stored is what was made, minus what the
//! kernel has dropped.
//!
//! Each fault has a short form. The whole forms have 50,000 events per second and outages of a minute.

mod support;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::stream;
use nlring_testing::{PATIENCE, await_that, run_or_skip};
use rustix::process::Signal;

use support::cluster::{Cluster, SERVERS, settings};
use support::http::{ask, value};
use support::load::Load;
use support::network::{Network, inside};
use support::relay::relay;
use support::store::{Worker, cpu_seconds};
use support::{Collector, Contents, Made, nats, report_all_flows, scratch};

const NODES: [&str; 2] = ["gw1", "gw2"];
const CONSUMER: &str = "nlring-store";
/// A node that lags less than this is up to date.
const LITTLE: Duration = Duration::from_secs(2);
/// The delay of a slow network, in each direction.
const DELAY: Duration = Duration::from_millis(100);
/// The port of the first server's relay.
const RELAY_PORT: u16 = 5221;

/// How much load, and how long the faults last.
#[derive(Clone, Copy)]
struct Scale {
    /// Of both nodes together.
    events_per_second: u32,
    /// Of a single server.
    short: Duration,
    /// Of all servers, of the network, and of a full stream.
    long: Duration,
}

const SHORT: Scale = Scale {
    events_per_second: 4000,
    short: Duration::from_millis(1500),
    long: Duration::from_secs(3),
};
const WHOLE: Scale = Scale {
    events_per_second: 50_000,
    short: Duration::from_secs(10),
    long: Duration::from_secs(60),
};

/// A namespace with nlringd, and its load.
struct Node {
    name: &'static str,
    collector: Collector,
    metrics: String,
    load: Load,
}

impl Node {
    fn start(setting: &Setting, name: &'static str, servers: &[String]) -> Self {
        let directory = setting.directory.join(name);
        fs::create_dir_all(&directory).expect("a directory");
        let place = directory.display();
        let metrics = format!("{}:9847", setting.network.address(name));
        let config = format!(
            "node = \"{name}\"\nrecords = \"both\"\n[http]\naddress = \"{metrics}\"\n\
             [spool]\ndirectory = \"{place}/spool\"\n[[nats]]\n\
             [nats.servers]\naddresses = {servers:?}\n[nats.stream]\nreplicas = 3\n"
        );
        let collector = inside(name, || {
            report_all_flows();
            Collector::start(&directory, &config)
        });
        collector.await_log("recording");
        // Half of the events are of this node, and a flow has two.
        let load = Load::start(name, setting.scale.events_per_second / 4);
        Self {
            name,
            collector,
            metrics,
            load,
        }
    }

    fn metric(&self, series: &str) -> f64 {
        let (_, _, metrics) = ask(&self.metrics, "/metrics");
        value(&metrics, series).unwrap_or_else(|| panic!("{series} is not in {metrics}"))
    }

    /// The stream has all records before this time, in seconds since 1970.
    fn complete(&self) -> f64 {
        self.time("complete")
    }

    /// The stream has the records just before this time, though it may lack older ones.
    fn latest(&self) -> f64 {
        self.time("latest")
    }

    fn time(&self, which: &str) -> f64 {
        self.metric(&format!(
            "nlringd_output_{which}_timestamp_seconds{{output=\"nats\"}}"
        ))
    }

    /// How many datagrams nlringd has `received`, or the kernel has `lost`.
    fn datagrams(&self, which: &str) -> f64 {
        let labels = "{netns=\"\",subject=\"flows\"}";
        self.metric(&format!("nlringd_{which}_datagrams_total{labels}"))
    }

    /// Ends the load, and nlringd when it has received everything. The flows that were made.
    #[track_caller]
    fn end(mut self) -> Vec<Made> {
        let made = self.load.end();
        let events = f64::from(2 * u32::try_from(made.len()).expect("a number"));
        await_that("all is received", || {
            self.datagrams("received") + self.datagrams("lost") >= events
        });
        let ended = made.first().zip(made.last());
        let (first, last) = ended.expect("flows");
        let seconds = last.ended[1].duration_since(first.ended[0]).as_secs_f64();
        let (rate, cpu) = (events / seconds, cpu_seconds(self.collector.pid()));
        let name = self.name;
        eprintln!("{name}: {events} events, {rate:.0} per second; nlringd used {cpu:.1} s of CPU");
        let dropped = self.datagrams("lost");
        assert!(dropped < 1.0, "the kernel has dropped {dropped} on {name}");
        self.collector.end();
        made
    }
}

/// How many seconds a time is ago.
fn age(time: f64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a time after 1970").as_secs_f64() - time
}

/// All that runs.
struct Setting {
    directory: PathBuf,
    scale: Scale,
    network: Network,
    cluster: Cluster,
    nodes: Vec<Node>,
    workers: Vec<Worker>,
    begun: Instant,
}

impl Setting {
    /// Starts all. `delay` is that between the servers and their clients.
    fn start(name: &str, scale: Scale, delay: Option<Duration>) -> Self {
        nats::program();
        let directory = scratch(name);
        let network = Network::new(&["s1", "s2", "s3", "gw1", "gw2", "store"]);
        let cluster = Cluster::start(&directory, &network);
        let mut setting = Self {
            directory,
            scale,
            network,
            cluster,
            nodes: Vec::new(),
            workers: Vec::new(),
            begun: Instant::now(),
        };
        let servers = |name| setting.servers(name, delay.is_some());
        if let Some(delay) = delay {
            for (port, to) in (RELAY_PORT..).zip(setting.cluster.addresses()) {
                relay(&format!("0.0.0.0:{port}"), to.clone(), delay);
            }
        }
        let nodes = NODES.map(|name| Node::start(&setting, name, &servers(name)));
        let workers = [(); 2].map(|()| setting.start_worker(&servers("store")));
        setting.nodes = nodes.into();
        setting.workers = workers.into();
        setting.begun = Instant::now();
        await_that("the workers have their consumer", || {
            setting.cluster.reader().has_consumer(CONSUMER)
        });
        setting.await_up_to_date("the start");
        setting
    }

    /// The servers, as a client in this namespace finds them.
    fn servers(&self, name: &str, is_relayed: bool) -> Vec<String> {
        let hub = self.network.hub(name);
        let direct = self.cluster.addresses().iter();
        direct
            .zip(RELAY_PORT..)
            .map(|(address, port)| {
                if is_relayed {
                    format!("nats://{hub}:{port}")
                } else {
                    format!("nats://{address}")
                }
            })
            .collect()
    }

    fn start_worker(&self, servers: &[String]) -> Worker {
        let lines = format!(
            "rotate_interval = \"2s\"\nack_wait = \"5s\"\n[servers]\naddresses = {servers:?}"
        );
        inside("store", || Worker::start(&self.directory, &lines))
    }

    /// The lag of the node that lags most, in seconds.
    fn lag(&self) -> f64 {
        age(self.complete())
    }

    fn complete(&self) -> f64 {
        let times = self.nodes.iter().map(Node::complete);
        times.fold(f64::MAX, f64::min)
    }

    fn latest(&self) -> f64 {
        let times = self.nodes.iter().map(Node::latest);
        times.fold(f64::MAX, f64::min)
    }

    /// No node lags more than a little for as long as a fault lasts.
    #[track_caller]
    fn stay_up_to_date(&self) {
        let begun = Instant::now();
        let mut most: f64 = 0.0;
        while begun.elapsed() < self.scale.long {
            most = most.max(self.lag());
            thread::sleep(Duration::from_millis(20));
        }
        eprintln!("the nodes lag at most {most:.1} s");
        assert!(most < LITTLE.as_secs_f64());
    }

    /// Waits until each node has sent what it had received until now, and lags only a little. Prints how long that takes.
    #[track_caller]
    fn await_up_to_date(&self, what: &str) {
        let begun = Instant::now();
        let first = self.complete();
        let behind = age(first);
        let limit = PATIENCE + self.scale.long;
        let mut went_on = None;
        // From when on the latest records lag only a little, and how much at most after that.
        let mut live: Option<(f64, f64)> = None;
        loop {
            let now = self.complete();
            let lag = age(self.latest());
            if let Some((_, most)) = &mut live {
                *most = most.max(lag);
            } else if lag < LITTLE.as_secs_f64() {
                live = Some((begun.elapsed().as_secs_f64(), lag));
            }
            if now > first {
                went_on.get_or_insert((begun.elapsed().as_secs_f64(), age(now)));
            }
            let is_of_now = age(now) < begun.elapsed().as_secs_f64();
            if is_of_now && age(now) < LITTLE.as_secs_f64() {
                break;
            }
            assert!(
                begun.elapsed() < limit,
                "{what}: still {:.1} s behind",
                age(now)
            );
            thread::sleep(Duration::from_millis(20));
        }
        let took = begun.elapsed().as_secs_f64();
        let (pause, backlog) = went_on.unwrap_or((took, 0.0));
        let catching_up = (took - pause).max(0.001);
        let (live_after, most) = live.unwrap_or_default();
        eprintln!(
            "{what}: {behind:.1} s behind, goes on after {pause:.1} s, and lags less than {LITTLE:?} after {took:.1} s; \
             meanwhile it sends at {:.1} times the live rate, and from {live_after:.1} s on the latest records lag {most:.1} s \
             at most",
            (backlog + catching_up) / catching_up
        );
    }

    /// A fault that lasts this long. Then the nodes catch up, and the servers too.
    #[track_caller]
    fn disturb(
        &mut self,
        what: &str,
        lasts: Duration,
        begin: impl FnOnce(&mut Self),
        end: impl FnOnce(&mut Self),
    ) {
        begin(self);
        thread::sleep(lasts);
        end(self);
        self.await_up_to_date(what);
        self.cluster.await_replicas();
    }

    fn kill_one_and_the_leader(&mut self) {
        let leader = self.cluster.leader();
        for (what, index) in [
            ("a server was killed", (leader + 1) % SERVERS.len()),
            ("the leader was killed", leader),
        ] {
            self.disturb(
                what,
                self.scale.short,
                |setting| setting.cluster.kill_one(index),
                |setting| setting.cluster.start_one(index),
            );
        }
    }

    fn stop_all(&mut self) {
        self.disturb(
            "no server was there",
            self.scale.long,
            |setting| setting.cluster.kill_all(),
            |setting| setting.cluster.start_all(),
        );
    }

    fn cut_off_the_nodes(&mut self) {
        self.disturb(
            "the nodes were cut off",
            self.scale.long,
            |setting| setting.network.cut(&NODES, &SERVERS),
            |_| Network::heal(),
        );
    }

    /// The clients still reach it.
    fn cut_off_the_leader(&mut self) {
        let leader = SERVERS[self.cluster.leader()];
        self.disturb(
            "the leader was cut off from the other servers",
            self.scale.long,
            |setting| setting.network.cut(&[leader], &SERVERS),
            |_| Network::heal(),
        );
    }

    fn suspend_the_leader(&mut self) {
        let leader = self.cluster.leader();
        self.disturb(
            "the leader was suspended",
            self.scale.long,
            |setting| setting.cluster.server(leader).signal(Signal::STOP),
            |setting| setting.cluster.server(leader).signal(Signal::CONT),
        );
    }

    fn fill_the_stream(&mut self) {
        self.disturb(
            "the stream was full",
            self.scale.long,
            |setting| {
                let reader = setting.cluster.reader();
                let bytes = reader.info().expect("a stream").state.bytes;
                reader.set(stream::Config {
                    max_bytes: i64::try_from(bytes).expect("a size"),
                    ..settings()
                });
            },
            |setting| {
                for node in &setting.nodes {
                    node.collector
                        .await_log("the stream or the account is full");
                }
                setting.cluster.reader().set(settings());
            },
        );
    }

    /// Ends all. What is stored is what was made, and the kernel has dropped nothing.
    #[track_caller]
    fn finish(mut self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let made = self.nodes.drain(..).map(|node| (node.name, node.end()));
        let made: Vec<(&str, Vec<Made>)> = made.collect();
        await_that("all is acknowledged", || {
            self.cluster.reader().pending_count(CONSUMER) == Some(0)
        });
        let servers = (0..SERVERS.len()).map(|index| self.cluster.server(index).pid());
        let workers = self.workers.iter().map(Worker::pid);
        eprintln!(
            "{seconds:.0} s; CPU since the last start: servers {:.1?} s, workers {:.1?} s",
            servers.map(cpu_seconds).collect::<Vec<_>>(),
            workers.map(cpu_seconds).collect::<Vec<_>>()
        );
        self.workers.clear();
        for (node, made) in made {
            let contents = Contents::read_stored(&self.directory, node);
            assert_eq!(contents.assert_accounts_for(&made), 0, "flows of {node}");
            assert_eq!(contents.assert_has_events(&made), 0, "events of {node}");
        }
        fs::remove_dir_all(&self.directory).expect("it is removed");
    }
}

#[test]
fn a_server_and_then_the_leader_are_killed() {
    run_or_skip("cluster kill", || {
        let mut setting = Setting::start("cluster-kill", SHORT, None);
        setting.kill_one_and_the_leader();
        setting.finish();
    });
}

#[test]
fn all_servers_are_gone_for_a_while() {
    run_or_skip("cluster stop", || {
        let mut setting = Setting::start("cluster-stop", SHORT, None);
        setting.stop_all();
        setting.finish();
    });
}

#[test]
fn the_network_is_cut() {
    run_or_skip("cluster cut", || {
        let mut setting = Setting::start("cluster-cut", SHORT, None);
        setting.cut_off_the_nodes();
        setting.cut_off_the_leader();
        setting.finish();
    });
}

#[test]
fn the_leader_is_suspended() {
    run_or_skip("cluster suspend", || {
        let mut setting = Setting::start("cluster-suspend", SHORT, None);
        setting.suspend_the_leader();
        setting.finish();
    });
}

#[test]
fn the_network_is_slow() {
    run_or_skip("cluster slow", || {
        let setting = Setting::start("cluster-slow", SHORT, Some(DELAY));
        setting.stay_up_to_date();
        setting.finish();
    });
}

#[test]
fn the_stream_is_full_for_a_while() {
    run_or_skip("cluster full", || {
        let mut setting = Setting::start("cluster-full", SHORT, None);
        setting.fill_the_stream();
        setting.finish();
    });
}

#[test]
#[ignore = "2 minutes with 50,000 events per second"]
fn whole_servers_are_killed_and_gone_for_a_minute() {
    run_or_skip("cluster whole", || {
        let mut setting = Setting::start("cluster-whole-kill", WHOLE, None);
        setting.kill_one_and_the_leader();
        setting.stop_all();
        setting.finish();
    });
}

#[test]
#[ignore = "3 minutes with 50,000 events per second"]
fn whole_the_network_is_cut_for_a_minute() {
    run_or_skip("cluster whole", || {
        let mut setting = Setting::start("cluster-whole-cut", WHOLE, None);
        setting.cut_off_the_nodes();
        setting.cut_off_the_leader();
        setting.finish();
    });
}

#[test]
#[ignore = "a minute with 50,000 events per second"]
fn whole_the_network_is_slow_for_a_minute() {
    run_or_skip("cluster whole", || {
        let setting = Setting::start("cluster-whole-slow", WHOLE, Some(DELAY));
        setting.stay_up_to_date();
        setting.finish();
    });
}

#[test]
#[ignore = "2 minutes with 50,000 events per second"]
fn whole_the_stream_is_full_for_a_minute() {
    run_or_skip("cluster whole", || {
        let mut setting = Setting::start("cluster-whole-full", WHOLE, None);
        setting.fill_the_stream();
        setting.finish();
    });
}
