//! TCP connections over the loopback device, each to another address. Each is made, then reset, and a request removes
//! its entry.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nlring::EventKind;
use nlring::conntrack::{Flow, ProtocolState};
use nlring::{Message, Protocol};
use rustix::net::sockopt::set_socket_linger;

use super::Namespace;
use super::batch::Batch;
use super::cycles::Cycle;
use super::entry::kernel;
use super::loopback;
use crate::outcome::Failure;

/// How long a connection may take. The loopback device connects at once, unless a rule drops its packets.
const PATIENCE: Duration = Duration::from_secs(5);

/// The steps of a connection. The handshake's three events, NEW and two UPDATE, come with the first step.
const CONNECT: u64 = 0;
const RESET: u64 = 3;
const REMOVE: u64 = 4;

/// Connections by number.
pub struct Connections {
    listener: TcpListener,
    port: u16,
    /// The client's end, which resets the connection, then the server's.
    open: Option<[TcpStream; 2]>,
    client_port: u16,
    removals: Batch,
}

impl Connections {
    pub fn open(namespace: Namespace) -> Result<Self, Failure> {
        loopback::set_up(namespace)?;
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(not_connected)?;
        Ok(Self {
            port: listener.local_addr().map_err(not_connected)?.port(),
            listener,
            open: None,
            client_port: 0,
            removals: Batch::open(
                Protocol::NETFILTER,
                "remove a connection's entry",
                loopback::REMEDIES,
            )?,
        })
    }

    fn connect(&mut self, number: u64) -> io::Result<()> {
        let to = SocketAddr::from((loopback::destination(number), self.port));
        let client = TcpStream::connect_timeout(&to, PATIENCE)?;
        let (server, _) = self.listener.accept()?;
        // Closing it now resets it. An orderly end would go through more states, and keep the port for a minute.
        set_socket_linger(&client, Some(Duration::ZERO))?;
        self.client_port = client.local_addr()?.port();
        self.open = Some([client, server]);
        Ok(())
    }

    fn remove(&mut self, number: u64) -> Result<(), Failure> {
        let key = loopback::key(kernel::IPPROTO_TCP, self.client_port, number, self.port);
        Ok(key.delete_in(self.removals.requests(), None)?)
    }
}

impl Cycle for Connections {
    const EVENTS: u64 = REMOVE + 1;

    fn step(&mut self, number: u64, step: u64) -> Result<(), Failure> {
        match step {
            CONNECT => self.connect(number).map_err(not_connected),
            RESET => {
                self.open = None;
                Ok(())
            }
            REMOVE => self.remove(number),
            _ => Ok(()),
        }
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.removals.send()
    }
}

fn not_connected(error: impl std::fmt::Display) -> Failure {
    Failure::Other(format!(
        "connect over the loopback device: {error}: is it up (ip link set lo up), and no firewall rule in the way?"
    ))
}

/// The index of the event. All events of a handshake are due with its first one.
pub fn index_of(message: &Message<'_>) -> Option<u64> {
    let flow = Flow::decode(message)?;
    if flow.protocol() != kernel::IPPROTO_TCP {
        return None;
    }
    let first = Connections::EVENTS * loopback::number_of(flow.orig.dst)?;
    Some(match (flow.kind, flow.state) {
        (EventKind::Delete, _) => first + REMOVE,
        (EventKind::Update, Some(ProtocolState::Tcp(kernel::TCP_CONNTRACK_CLOSE))) => first + RESET,
        _ => first + CONNECT,
    })
}
