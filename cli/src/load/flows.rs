//! UDP flows over the loopback device. Each datagram goes to another address and so begins a flow. A request then
//! removes the flow's entry. So the kernel does all the work that a flow needs, and the table does not fill.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, UdpSocket};

use nlring::EventKind;
use nlring::conntrack::Flow;
use nlring::{Message, Protocol};

use super::Namespace;
use super::batch::Batch;
use super::cycles::Cycle;
use super::entry::kernel;
use super::loopback;
use crate::outcome::Failure;

/// Flows by number.
pub struct Flows {
    sender: UdpSocket,
    sender_port: u16,
    /// Receives the datagrams: without it the kernel would answer each with an error.
    _sink: UdpSocket,
    sink_port: u16,
    removals: Batch,
}

impl Flows {
    pub fn open(namespace: Namespace) -> Result<Self, Failure> {
        loopback::set_up(namespace)?;
        let (sender, sender_port) = bind(Ipv4Addr::LOCALHOST)?;
        let (sink, sink_port) = bind(Ipv4Addr::UNSPECIFIED)?;
        Ok(Self {
            sender,
            sender_port,
            _sink: sink,
            sink_port,
            removals: Batch::open(Protocol::NETFILTER, "remove a flow", loopback::REMEDIES)?,
        })
    }

    fn send_datagram(&self, number: u64) -> Result<(), Failure> {
        let to = (loopback::destination(number), self.sink_port);
        match self.sender.send_to(&[], to) {
            Ok(_) => Ok(()),
            // The kernel's answer if the table is full or a rule drops the packet.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(not_sent(
                &error,
                "the conntrack table is full (raise net.netfilter.nf_conntrack_max), or a firewall rule drops it",
            )),
            Err(error) => Err(not_sent(&error, "is lo up? ip link set lo up")),
        }
    }
}

impl Cycle for Flows {
    const EVENTS: u64 = 2;

    fn step(&mut self, number: u64, step: u64) -> Result<(), Failure> {
        if step == 0 {
            return self.send_datagram(number);
        }
        let key = loopback::key(
            kernel::IPPROTO_UDP,
            self.sender_port,
            number,
            self.sink_port,
        );
        Ok(key.delete_in(self.removals.requests(), None)?)
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.removals.send()
    }
}

fn not_sent(error: &io::Error, remedy: &str) -> Failure {
    Failure::Other(format!(
        "send a UDP datagram over the loopback device: {error}: {remedy}"
    ))
}

fn bind(address: Ipv4Addr) -> Result<(UdpSocket, u16), Failure> {
    let open = || {
        let socket = UdpSocket::bind((address, 0))?;
        let port = socket.local_addr()?.port();
        io::Result::Ok((socket, port))
    };
    open().map_err(|error| Failure::Other(format!("open a UDP socket: {error}")))
}

pub fn index_of(message: &Message<'_>) -> Option<u64> {
    let flow = Flow::decode(message)?;
    if flow.protocol() != kernel::IPPROTO_UDP {
        return None;
    }
    let first = Flows::EVENTS * loopback::number_of(flow.orig.dst)?;
    match flow.kind {
        EventKind::New => Some(first),
        EventKind::Delete => Some(first + 1),
        EventKind::Update | EventKind::Entry => None,
    }
}
