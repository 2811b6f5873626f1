//! On each backend, datagrams of other network namespaces are distinguished from those of the own namespace.

mod common;

use std::sync::mpsc;

use common::{own_namespace, set_loopback, start};
use nlring::conntrack::{Group, Layer4, NewFlow, Tuple};
use nlring::{
    AddOptions, Backend, Engine, ErrorKind, Event, Namespace, Protocol, Socket, conntrack, route,
};

on_each_backend!(
    the_namespace_and_group_of_each_datagram_are_reported,
    each_datagram_of_several_namespaces_is_reported_with_its_own,
    datagrams_of_other_namespaces_arrive_only_if_asked_for,
    a_list_is_of_one_namespace_also_when_flows_of_several_come_together
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
        let namespace = Namespace::from_fd(file.recv().unwrap()).unwrap();
        let mut requests = route::Requests::open().unwrap();
        requests.set_namespace_id(&namespace, Some(NSID)).unwrap();
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
            assert_eq!(datagram.nsid(), list.nsid(), "a list is of one namespace");
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

/// One by one, so that each is received into the memory of an earlier one, with or without a namespace's id.
fn each_datagram_of_several_namespaces_is_reported_with_its_own(backend: Backend) {
    own_namespace();
    let own = Socket::builder(Protocol::ROUTE).open().unwrap();
    let peer = Peer::new();
    let socket = Socket::builder(Protocol::ROUTE)
        .group(route::Group::Link)
        .listen_all_nsid(true)
        .open()
        .unwrap();
    let options = AddOptions::new().buffer_count(2);
    let (mut running, _) = start(&Engine::builder().backend(backend), socket, options);
    for up in [true, false, true] {
        for nsid in [None, Some(NSID)] {
            match nsid {
                None => set_loopback(&own, up),
                Some(_) => peer.set_loopback(up),
            }
            common::turn_until_event(&mut running, |event, _| {
                let Event::Messages(_, list) = event else {
                    panic!("{event:?}");
                };
                assert_eq!((list.nsid(), list.message_count()), (nsid, 1));
                true
            });
        }
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

/// Equal flows of three namespaces, of which one has no id here, so that its events do not come.
fn a_list_is_of_one_namespace_also_when_flows_of_several_come_together(backend: Backend) {
    const ROUNDS: u16 = 30;
    own_namespace();
    let mut ids = route::Requests::open().unwrap();
    let [one, other, unknown] = [(); 3].map(|()| further_namespace());
    ids.set_namespace_id(&one, Some(7)).unwrap();
    ids.set_namespace_id(&other, Some(8)).unwrap();
    let socket = Socket::builder(Protocol::NETFILTER)
        .listen_all_nsid(true)
        .group(Group::New)
        .recv_buffer_bytes(1 << 20)
        .open()
        .unwrap();
    let mut makers = [&unknown, &one, &other]
        .map(|namespace| conntrack::Requests::open_in(namespace).unwrap())
        .into_iter()
        .chain([conntrack::Requests::open().unwrap()])
        .collect::<Vec<_>>();
    for port in 1..=ROUNDS {
        let (src, dst) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let tuple = Tuple::new(src, dst, 17, Layer4::Ports { src: port, dst: 53 });
        for maker in &mut makers {
            maker.add(&NewFlow::new(tuple, 600)).unwrap();
        }
    }
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
        let nsids = list.datagrams().iter().map(nlring::Datagram::nsid);
        assert!({ nsids }.all(|nsid| nsid == list.nsid()));
        let ports = list.iter().map(|message| {
            let flow = conntrack::Flow::decode(&message).unwrap();
            (flow.orig.ports().unwrap().0, list.nsid())
        });
        seen.extend(ports);
        seen.len() >= 3 * usize::from(ROUNDS)
    });
    let expected = (1..=ROUNDS).flat_map(|port| [Some(7), Some(8), None].map(|nsid| (port, nsid)));
    assert_eq!(seen, expected.collect::<Vec<_>>());
}

fn further_namespace() -> Namespace {
    let made = std::thread::spawn(|| {
        own_namespace();
        Namespace::current().unwrap()
    });
    made.join().unwrap()
}

#[test]
fn ids_are_those_of_ip() {
    own_namespace();
    nlring_testing::own_names();
    if !common::ip("netns add blue") {
        return common::skip("ids_are_those_of_ip", "ip is not installed");
    }
    common::ip("netns add red");
    common::ip("netns set blue 17");
    let mut requests = route::Requests::open().unwrap();
    let [blue, red] = ["blue", "red"].map(|name| Namespace::from_name(name).unwrap());
    assert_eq!(requests.namespace_id(&blue).unwrap(), Some(17));
    assert_eq!(requests.namespace_id(&red).unwrap(), None);
    assert_eq!(requests.namespace_ids().unwrap().items, [17]);
    let error = requests.set_namespace_id(&blue, Some(3)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error}");
    let error = requests.set_namespace_id(&red, Some(17)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error}");
    requests.set_namespace_id(&red, None).unwrap();
    let given = requests.namespace_id(&red).unwrap().unwrap();
    let listed = common::run("ip", &["netns", "list-id"]).unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for (nsid, name) in [(17, "blue"), (given, "red")] {
        assert!(
            listed.contains(&format!("nsid {nsid} (iproute2 netns name: {name})")),
            "{listed}"
        );
    }
    let mut of_blue = route::Requests::open_in(&blue).unwrap();
    assert_eq!(
        of_blue.namespace_ids().unwrap().items,
        [],
        "blue has given none"
    );
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
