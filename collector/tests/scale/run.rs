//! A run: flows are made, recorded, published and stored.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nlring_testing::{await_that, own_names, own_namespace, raise_loopback};

use super::figures::{Figures, Taken};
use super::load::make_flows;
use super::network::{Host, Traffic, traffic};
use super::programs::{Gateway, Program, start_servers, start_worker};
use super::stored::{Stored, ask, bytes_below};
use super::stream::Stream;
use super::support::scratch;

/// What is run.
#[derive(Clone, Copy)]
pub struct Plan {
    pub hosts: u8,
    pub servers: u16,
    /// Flows per second in each host.
    pub rate: u32,
    pub seconds: u32,
}

/// Runs in this thread, which gets namespaces of its own.
pub fn run(plan: Plan) -> Figures {
    own_namespace();
    own_names();
    raise_loopback();
    let directory = scratch("scale");
    let hosts: Vec<Host> = (1..=plan.hosts).map(Host::connect).collect();
    let worker_host = Host::connect(plan.hosts + 1);
    let mut running = Running::start(&plan, &hosts, &worker_host, &directory);
    let worker = start_worker(&worker_host, &directory, plan.servers);
    running.await_taken();

    let worker_before = worker.cpu_time();
    let before = running.taken(&directory);
    let made = make_flows(&hosts, plan.rate, Duration::from_secs(plan.seconds.into()));
    running.await_published(made.ended);
    running.await_taken();
    let mut after = running.taken(&directory);

    running.end_gateways();
    running.await_taken();
    let worker_mib = worker.most_mib();
    let worker_time = worker.end().saturating_sub(worker_before);
    await_that("all is acknowledged", || {
        running.stream.pending() == Some([0; 2])
    });
    // Only now has the worker received the last messages.
    running.count_traffic(&mut after);
    let stored = Stored::read(&directory.join("store"));
    assert_eq!(stored.losses, 0, "no event is lost");
    assert_eq!(stored.flows, made.flows, "each flow is stored");
    let asked = ask(&directory.join("store"), &made.sample);
    drop(running); // the servers, which write
    fs::remove_dir_all(&directory).expect("it is removed");
    Figures {
        made,
        taken: after - before,
        worker_time,
        worker_mib,
        stored,
        asked,
    }
}

/// The programs of a run, without the worker.
struct Running<'a> {
    hosts: &'a [Host],
    worker_host: &'a Host,
    gateways: Vec<Gateway<'a>>,
    servers: Vec<Program>,
    stream: Stream,
}

impl<'a> Running<'a> {
    fn start(plan: &Plan, hosts: &'a [Host], worker_host: &'a Host, directory: &Path) -> Self {
        let servers = start_servers(directory, plan.servers);
        let stream = Stream::connect();
        let start = |host: &'a Host| {
            host.report_all_flows();
            Gateway::start(host, directory, plan.servers)
        };
        let running = Self {
            gateways: hosts.iter().map(start).collect(),
            hosts,
            worker_host,
            servers,
            stream,
        };
        running.await_published(SystemTime::now());
        running
    }

    fn taken(&self, directory: &Path) -> Taken {
        let spool = |host: &Host| bytes_below(&directory.join(&host.name).join("spool"));
        let mut taken = Taken {
            servers: self.servers.iter().map(Program::cpu_time).sum(),
            spool_bytes: self.hosts.iter().map(spool).sum(),
            stream_bytes: self.stream.bytes(),
            ..Taken::default()
        };
        self.count_traffic(&mut taken);
        for gateway in &self.gateways {
            let [receive, spool, publish] = gateway.cpu_by_part();
            taken.receive += receive;
            taken.spool += spool;
            taken.publish += publish;
        }
        taken
    }

    fn count_traffic(&self, taken: &mut Taken) {
        let traffic = traffic();
        let bytes = |host: &Host| {
            let Traffic { received, sent } = host.traffic(&traffic);
            received + sent
        };
        taken.from_hosts = self.hosts.iter().map(bytes).sum();
        taken.between_servers = traffic["lo"].sent;
        taken.to_worker = bytes(self.worker_host);
    }

    /// Waits until the stream has everything that was received before this time.
    fn await_published(&self, time: SystemTime) {
        let time = time.duration_since(UNIX_EPOCH).expect("a time");
        for gateway in &self.gateways {
            await_that("all is published", || {
                let until = gateway.complete_until();
                until.is_some_and(|until| until >= time.as_secs_f64())
            });
        }
    }

    /// Waits until the worker has everything that is in the stream.
    fn await_taken(&self) {
        await_that("the worker has everything", || {
            matches!(self.stream.pending(), Some([0, _]))
        });
    }

    fn end_gateways(&mut self) {
        for Gateway { program, .. } in self.gateways.drain(..) {
            program.end();
        }
    }
}
