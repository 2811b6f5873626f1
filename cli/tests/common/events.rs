//! Events to order: flows and routes by number, made and removed by requests.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nlring::message::flags;
use nlring::{Content, MessageBuilder, Protocol, RecvFlags, Socket};

use super::Events;

/// Requests to the kernel, many in one datagram, each acknowledged.
pub struct Requests {
    socket: Socket,
    datagram: Vec<u8>,
    count: usize,
}

impl Requests {
    /// More acknowledgements than these could exceed the receive buffer.
    const MOST: usize = 64;

    pub fn new(protocol: Protocol) -> Self {
        Self {
            socket: Socket::builder(protocol).open().expect("a socket"),
            datagram: Vec::new(),
            count: 0,
        }
    }

    pub fn add(
        &mut self,
        message_type: u16,
        more_flags: u16,
        fill: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
    ) {
        let flags = flags::REQUEST | flags::ACK | more_flags;
        let message = MessageBuilder::new(&mut self.datagram, message_type, flags);
        fill(message).finish().expect("a request");
        self.count += 1;
        if self.count == Self::MOST {
            self.send();
        }
    }

    /// Sends the added requests, and waits until the kernel has acknowledged all.
    pub fn send(&mut self) {
        if self.count == 0 {
            return;
        }
        self.socket.send(&self.datagram).expect("requests sent");
        let mut answer = vec![0; 32 << 10];
        while self.count > 0 {
            let list = self
                .socket
                .recv(&mut answer, RecvFlags::NONE)
                .expect("answers");
            for message in &list {
                match message.content() {
                    Content::Ack(_) => self.count -= 1,
                    Content::Error(answer) => panic!("a request is refused: {answer:?}"),
                    _ => {}
                }
            }
        }
        self.datagram.clear();
    }
}

const CREATE: u16 = flags::CREATE | flags::EXCL;

/// Makes conntrack entries by number, with one event for each.
pub fn make_flows(numbers: Range<u32>) {
    let mut requests = Requests::new(Protocol::NETFILTER);
    for number in numbers {
        let (src, dst) = ends(number);
        requests.add(0x100, CREATE, |message| {
            let message = message
                .bytes(&[2, 0, 0, 0]) // struct nfgenmsg: AF_INET
                .nested(1, |tuple| put_tuple(tuple, src, dst)) // CTA_TUPLE_ORIG
                .nested(2, |tuple| put_tuple(tuple, dst, src)) // CTA_TUPLE_REPLY
                .attribute_be32(7, 600); // CTA_TIMEOUT
            message.nested(4, |info| info.nested(1, |tcp| tcp.attribute_u8(1, 3))) // established
        });
    }
    requests.send();
}

/// Marks entries of [`make_flows`], with one update for each.
pub fn mark_flows(numbers: Range<u32>, mark: u32) {
    let mut requests = Requests::new(Protocol::NETFILTER);
    for number in numbers {
        let (src, dst) = ends(number);
        requests.add(0x100, 0, |message| {
            let message = message.bytes(&[2, 0, 0, 0]);
            let message = message.nested(1, |tuple| put_tuple(tuple, src, dst));
            message.attribute_be32(8, mark) // CTA_MARK
        });
    }
    requests.send();
}

/// Removes entries of [`make_flows`], with one event for each.
pub fn remove_flows(numbers: Range<u32>) {
    let mut requests = Requests::new(Protocol::NETFILTER);
    for number in numbers {
        let (src, dst) = ends(number);
        requests.add(0x102, 0, |message| {
            let message = message.bytes(&[2, 0, 0, 0]);
            message.nested(1, |tuple| put_tuple(tuple, src, dst))
        });
    }
    requests.send();
}

/// Removes all conntrack entries of this namespace with one request. The kernel makes one event for each, at its full
/// speed.
pub fn flush_flows() {
    let mut requests = Requests::new(Protocol::NETFILTER);
    requests.add(0x102, 0, |message| message.bytes(&[2, 0, 0, 0]));
    requests.send();
}

type End = (Ipv4Addr, u16);

fn ends(number: u32) -> (End, End) {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number);
    ((address, 40_000), (Ipv4Addr::new(198, 51, 100, 1), 443))
}

fn put_tuple(tuple: MessageBuilder<'_>, src: End, dst: End) -> MessageBuilder<'_> {
    let tuple = tuple.nested(1, |ip| {
        let ip = ip.attribute(1, &src.0.octets());
        ip.attribute(2, &dst.0.octets())
    });
    tuple.nested(2, |protocol| {
        let protocol = protocol.attribute_u8(1, 6); // TCP
        protocol.attribute_be16(2, src.1).attribute_be16(3, dst.1)
    })
}

/// Makes routes over the loopback device by number, with one event for each.
pub fn make_routes(numbers: Range<u32>) {
    change_routes(24, CREATE, numbers); // RTM_NEWROUTE
}

/// Removes routes of [`make_routes`], with one event for each.
pub fn remove_routes(numbers: Range<u32>) {
    change_routes(25, 0, numbers); // RTM_DELROUTE
}

fn change_routes(message_type: u16, more_flags: u16, numbers: Range<u32>) {
    let mut requests = Requests::new(Protocol::ROUTE);
    for number in numbers {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number);
        requests.add(message_type, more_flags, |message| {
            message
                // struct rtmsg: AF_INET, /32, table main, protocol static, scope link, unicast
                .bytes(&[2, 32, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0])
                .attribute(1, &address.octets()) // RTA_DST
                .attribute_u32(4, 1) // RTA_OIF: the loopback device
        });
    }
    requests.send();
}

/// Makes events at full speed in another thread until it is dropped.
pub struct Load {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    pub fn start(events: Events) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let is_over_there = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !is_over_there.load(Ordering::Relaxed) {
                match events {
                    Events::Conntrack => {
                        make_flows(0..512);
                        remove_flows(0..512);
                    }
                    Events::Route => {
                        make_routes(0..512);
                        remove_routes(0..512);
                    }
                }
            }
        });
        Self {
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let result = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(matches!(result, Some(Ok(()))), "the load went on");
        }
    }
}
