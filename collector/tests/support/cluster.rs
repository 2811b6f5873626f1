//! A cluster of three servers, each in its own namespace of a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use nlring_testing::await_that;

use super::nats::{Reader, Server};
use super::network::{Network, inside};

/// The servers, by the names of their namespaces.
pub const SERVERS: [&str; 3] = ["s1", "s2", "s3"];
/// Where clients connect.
const PORT: u16 = 4222;
/// Servers that have just begun may leave a question without an answer.
const ANSWER: Duration = Duration::from_secs(2);

pub struct Cluster {
    directory: PathBuf,
    addresses: Vec<String>,
    servers: [Option<Server>; 3],
}

impl Cluster {
    /// Starts three servers, and creates a stream with three replicas.
    pub fn start(directory: &Path, network: &Network) -> Self {
        let addresses = SERVERS.map(|name| format!("{}:{PORT}", network.address(name)));
        let mut cluster = Self {
            directory: directory.to_owned(),
            addresses: addresses.to_vec(),
            servers: [None, None, None],
        };
        cluster.write_configs(network);
        cluster.start_all();
        await_that("the stream is created", || {
            cluster.reader().has_created(settings())
        });
        cluster.await_replicas();
        cluster
    }

    fn write_configs(&self, network: &Network) {
        let routes = SERVERS.map(|name| format!("nats-route://{}:6222", network.address(name)));
        for (name, listen) in SERVERS.iter().zip(&self.addresses) {
            let directory = self.directory.join(name);
            fs::create_dir_all(&directory).expect("a directory");
            let (place, host) = (directory.display(), network.address(name));
            let text = format!(
                "server_name: {name}\nlisten: \"{listen}\"\n\
                 jetstream {{ store_dir: \"{place}/jetstream\" }}\n\
                 cluster {{ name: c, listen: \"{host}:6222\", no_advertise: true, routes: [ {} ] }}\n",
                routes.join(", ")
            );
            fs::write(directory.join("config"), text).expect("a configuration");
        }
    }

    /// Starts a server that does not run.
    pub fn start_one(&mut self, index: usize) {
        let directory = self.directory.join(SERVERS[index]);
        let text = fs::read_to_string(directory.join("config")).expect("a configuration");
        let address = &self.addresses[index];
        let server = inside(SERVERS[index], || {
            Server::start_at(address, &directory, &text)
        });
        self.servers[index] = Some(server);
    }

    pub fn start_all(&mut self) {
        (0..SERVERS.len()).for_each(|index| self.start_one(index));
    }

    /// Kills a server by SIGKILL.
    pub fn kill_one(&mut self, index: usize) {
        self.server(index);
        self.servers[index] = None;
    }

    pub fn kill_all(&mut self) {
        (0..SERVERS.len()).for_each(|index| self.kill_one(index));
    }

    pub fn server(&self, index: usize) -> &Server {
        self.servers[index].as_ref().expect("it runs")
    }

    /// The addresses for clients.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// A new client.
    pub fn reader(&self) -> Reader {
        let options = ConnectOptions::new().request_timeout(Some(ANSWER));
        Reader::connect_to(&self.addresses, options)
    }

    /// Waits until the stream has a leader and both other servers have all of it.
    #[track_caller]
    pub fn await_replicas(&self) {
        await_that("all replicas are current", || {
            let Some(info) = self.reader().info() else {
                return false;
            };
            info.cluster.is_some_and(|cluster| {
                let current = cluster.replicas.iter().filter(|replica| replica.current);
                cluster.leader.is_some() && current.count() == SERVERS.len() - 1
            })
        });
    }

    /// The leader of the stream.
    #[track_caller]
    pub fn leader(&self) -> usize {
        let mut leader = None;
        await_that("the stream has a leader", || {
            let cluster = self.reader().info().and_then(|info| info.cluster);
            let name = cluster.and_then(|cluster| cluster.leader);
            leader = name.and_then(|name| SERVERS.iter().position(|server| *server == name));
            leader.is_some()
        });
        leader.expect("a leader")
    }
}

/// The settings of the stream, as nlringd would create it.
pub fn settings() -> Config {
    Config {
        name: "nlring".to_owned(),
        subjects: vec!["nlring.>".to_owned()],
        num_replicas: SERVERS.len(),
        discard: DiscardPolicy::New,
        duplicate_window: Duration::from_secs(120),
        max_messages: -1,
        max_bytes: -1,
        ..Config::default()
    }
}
