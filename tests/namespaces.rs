//! On each backend, datagrams of other network namespaces are distinguished from those of the own namespace.

mod common;

use std::os::fd::AsRawFd;
use std::sync::mpsc;

use common::{own_namespace, request, set_loopback, start};
use nlring::{AddOptions, Backend, Engine, ErrorKind, Event, Protocol, Socket, route};

on_each_backend!(
    the_namespace_and_group_of_each_datagram_are_reported,
    datagrams_of_other_namespaces_arrive_only_if_asked_for
);

const NSID: i32 = 42;

/// A thread in another namespace, which has the id [`NSID`] here.
struct Peer {
    orders: mpsc::Sender<bool>,
    done: mpsc::Receiver<()>,
}

impl Peer {
    fn new() -> Self {
        let (orders, received_orders) = mpsc::channel();
        let (done_sender, done) = mpsc::channel();
        let (file_sender, file) = mpsc::channel();
        std::thread::spawn(move || {
            own_namespace();
            let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            file_sender.send(namespace).unwrap();
            let socket = Socket::builder(Protocol::ROUTE).open().unwrap();
            for up in received_orders {
                set_loopback(&socket, up);
                done_sender.send(()).unwrap();
            }
        });
        let namespace = file.recv().unwrap();
        let socket = Socket::builder(Protocol::ROUTE).open().unwrap();
        // RTM_NEWNSID, struct rtgenmsg, NETNSA_NSID, NETNSA_FD (include/uapi/linux/net_namespace.h).
        request(&socket, 88, 0, &[0; 4], |builder| {
            builder
                .attribute_u32(1, NSID.cast_unsigned())
                .attribute_u32(3, namespace.as_raw_fd().cast_unsigned())
        })
        .expect("an nsid for the peer");
        Self { orders, done }
    }

    fn set_loopback(&self, up: bool) {
        self.orders.send(up).unwrap();
        self.done.recv().unwrap();
    }
}

/// The namespace, group and message type of the first datagrams.
fn datagrams(
    socket: Socket,
    backend: Backend,
    count: usize,
) -> Vec<(Option<i32>, Option<u32>, u16)> {
    let (mut running, _) = start(
        &Engine::builder().backend(backend),
        socket,
        AddOptions::new(),
    );
    let mut seen = Vec::new();
    common::turn_until_event(&mut running, |event, _| {
        let Event::Messages(_, list) = event else {
            panic!("{event:?}");
        };
        for datagram in list.datagrams() {
            let message = datagram.messages().next().unwrap();
            seen.push((datagram.nsid(), datagram.group(), message.message_type()));
        }
        seen.len() >= count
    });
    seen
}

const NEW_LINK: u16 = 16;

fn the_namespace_and_group_of_each_datagram_are_reported(backend: Backend) {
    own_namespace();
    let own = Socket::builder(Protocol::ROUTE).open().unwrap();
    let peer = Peer::new();
    for pktinfo in [true, false] {
        let builder = Socket::builder(Protocol::ROUTE)
            .group(route::Group::Link)
            .listen_all_nsid(true)
            .pktinfo(pktinfo)
            .recv_buffer_bytes(1 << 20);
        let socket = builder.open().unwrap();
        peer.set_loopback(true);
        set_loopback(&own, true);
        peer.set_loopback(false);
        set_loopback(&own, false);
        let group = pktinfo.then_some(route::Group::Link.number());
        let peers = (Some(NSID), group, NEW_LINK);
        let own = (None, group, NEW_LINK);
        assert_eq!(datagrams(socket, backend, 4), [peers, own, peers, own]);
    }
}

fn datagrams_of_other_namespaces_arrive_only_if_asked_for(backend: Backend) {
    own_namespace();
    let own = Socket::builder(Protocol::ROUTE).open().unwrap();
    let peer = Peer::new();
    let socket = Socket::builder(Protocol::ROUTE)
        .group(route::Group::Link)
        .open()
        .unwrap();
    peer.set_loopback(true);
    set_loopback(&own, true);
    peer.set_loopback(false);
    set_loopback(&own, false);
    assert_eq!(datagrams(socket, backend, 2), [(None, None, NEW_LINK); 2]);
}

#[test]
fn without_the_capability_the_error_names_it() {
    own_namespace();
    common::give_up_capability(common::CAP_NET_BROADCAST);
    let socket = Socket::open(Protocol::ROUTE).unwrap();
    let error = socket.set_listen_all_nsid(true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("CAP_NET_BROADCAST"), "{error}");
}
