//! Requests that meet an obstacle: an entry larger than the kernel's buffer, strangers, a stop, a missing capability.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{CAP_NET_ADMIN, PATIENCE, give_up_capability, own_namespace, skip};
use nlring::Family;
use nlring::message::flags;
use nlring::route::{DumpFilter, Requests};
use nlring::{Batch, ErrorKind, Protocol, Requester, Socket, StopHandle, conntrack};

const RTM_GETLINK: u16 = 18;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
/// A route with this many hops exceeds the 3.7 KiB with which a dump begins on a new socket.
const MANY_HOPS: u16 = 240;
/// A route with this many IPv6 hops exceeds the 32 KiB that a dump has at most.
const TOO_MANY_HOPS: u16 = 1200;
/// A route with this many IPv4 hops exceeds the 32 KiB too.
const TOO_MANY_IPV4_HOPS: u16 = 2200;

/// Makes a namespace with a device v0, and returns the device's index. None: `ip` is not installed.
fn device() -> Option<u32> {
    own_namespace();
    for command in [
        "link set lo up",
        "link add v0 type veth peer name v1",
        "link set v0 up",
        "link set v1 up",
        "address add 10.0.0.1/8 dev v0",
        "address add fd00::1/64 dev v0 nodad",
    ] {
        if !common::ip(command) {
            return None;
        }
    }
    let mut requests = Requests::open().expect("a requester");
    let links = requests.links(|index: &mut u32, link| {
        if link.name == Some(b"v0") {
            *index = link.index;
        }
    });
    Some(links.expect("the links").items)
}

/// The prefix of a route, and the first of its gateways.
fn addresses(family: Family) -> (Vec<u8>, u8, Vec<u8>) {
    if family == Family::INET {
        (vec![10, 0, 0, 0], 24, vec![192, 168, 7, 0])
    } else {
        let network = |second: u8| {
            let mut address = vec![0; 16];
            [address[0], address[1]] = [0xfd, second];
            address
        };
        (network(0), 64, network(0x20))
    }
}

/// Adds or deletes a route with many gateways.
fn change_route(message_type: u16, family: Family, device: u32, hop_count: u16) {
    let (network, prefix_len, dst) = addresses(family);
    let mut hops = Vec::new();
    for number in 2..hop_count + 2 {
        let mut gateway = network.clone();
        let end = gateway.len();
        gateway[end - 2..].copy_from_slice(&number.to_be_bytes());
        let length = u16::try_from(gateway.len()).unwrap();
        hops.extend_from_slice(&(8 + 4 + length).to_ne_bytes());
        hops.extend_from_slice(&[0, 0]);
        hops.extend_from_slice(&device.to_ne_bytes());
        hops.extend_from_slice(&(4 + length).to_ne_bytes());
        hops.extend_from_slice(&5u16.to_ne_bytes()); // RTA_GATEWAY
        hops.extend_from_slice(&gateway);
    }
    let mut requester = Requester::open(Protocol::ROUTE).expect("a requester");
    let more_flags = if message_type == RTM_NEWROUTE {
        flags::CREATE | flags::EXCL
    } else {
        0
    };
    let asked = requester.ask(message_type, more_flags, |request| {
        let request = request
            .bytes(&[family.into(), prefix_len, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0])
            .attribute(1, &dst); // RTA_DST
        if message_type == RTM_NEWROUTE {
            request.attribute(9, &hops) // RTA_MULTIPATH
        } else {
            request
        }
    });
    asked.expect("the route changed");
}

/// The hops of all routes of a family with more than one.
fn dump_hops(requests: &mut Requests, family: Family) -> nlring::Result<Vec<usize>> {
    let filter = DumpFilter::new().family(family);
    let dump = requests.dump(&filter, |hops: &mut Vec<_>, route| {
        hops.extend(Some(route.nexthops.count()).filter(|count| *count > 0));
    });
    dump.map(|dump| dump.items)
}

#[test]
fn the_first_dump_of_a_socket_includes_a_large_entry() {
    let Some(device) = device() else {
        return skip("the_first_dump_of_a_socket_includes_a_large_entry", "no ip");
    };
    for family in [Family::INET, Family::INET6] {
        change_route(RTM_NEWROUTE, family, device, MANY_HOPS);
        let mut requests = Requests::open().unwrap();
        let hops = dump_hops(&mut requests, family).expect("a dump");
        assert_eq!(hops, [usize::from(MANY_HOPS)]);

        // A dump in a batch, and one alone.
        let mut requester = Requester::open(Protocol::ROUTE).unwrap();
        let mut batch = Batch::new();
        let rtmsg = [family.into(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        batch
            .add(RTM_GETROUTE, flags::DUMP, |request| request.bytes(&rtmsg))
            .unwrap();
        let mut largest = 0;
        let sent = batch.send(&mut requester, |_, reply| {
            largest = largest.max(reply.expect("a route").bytes().len());
        });
        sent.expect("sent");
        assert!(largest > 3700, "{largest}");
        let mut requester = Requester::open(Protocol::ROUTE).unwrap();
        let mut replies = requester
            .send(RTM_GETROUTE, flags::DUMP, |request| request.bytes(&rtmsg))
            .unwrap();
        while replies.next_message().expect("a route").is_some() {}
    }
}

#[test]
fn an_entry_larger_than_the_kernels_buffer_ends_the_dump_but_no_later_request() {
    const NAME: &str = "an_entry_larger_than_the_kernels_buffer_ends_the_dump_but_no_later_request";
    let Some(device) = device() else {
        return skip(NAME, "no ip");
    };
    let all = Family::UNSPEC;
    change_route(RTM_NEWROUTE, Family::INET, device, MANY_HOPS);
    change_route(RTM_NEWROUTE, Family::INET6, device, TOO_MANY_HOPS);
    if !common::reports_large_routes() {
        return skip(NAME, "the kernel omits the route without an error");
    }
    let mut requests = Requests::open().unwrap();
    let buffer = requests.requester().socket().set_recv_buffer_bytes(1 << 20);
    for _ in 0..2 {
        let error = dump_hops(&mut requests, all).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EntryTooLarge, "{error}");
        assert_eq!(
            error.to_string(),
            "dump: one entry is larger than the 32 KiB that the kernel dumps at a time; neither it nor \
             the entries after it can be dumped: make it smaller (a route: give it fewer next hops)"
        );
    }
    // Other requests work, and so do dumps that do not meet the entry.
    let found = requests.get("10.0.0.9".parse().unwrap(), |route| route.oif);
    assert_eq!(found.expect("a route"), Some(Some(device)));
    let buffer_bytes = requests.requester().socket().recv_buffer_bytes();
    assert_eq!(buffer_bytes.unwrap(), buffer.unwrap().granted_bytes);
    let many = [usize::from(MANY_HOPS)];
    let hops = dump_hops(&mut requests, Family::INET).expect("a dump");
    assert_eq!(hops, many);
    // A dump that is abandoned before it meets the entry works too.
    let requester = requests.requester();
    let left = requester.send(RTM_GETROUTE, flags::DUMP, |request| request.bytes(&[0; 12]));
    assert!(left.unwrap().next_message().unwrap().is_some());
    let hops = dump_hops(&mut requests, Family::INET).expect("a dump");
    assert_eq!(hops, many);

    assert!(dump_hops(&mut requests, all).is_err());
    change_route(RTM_DELROUTE, Family::INET6, device, 0);
    assert_eq!(dump_hops(&mut requests, all).expect("a dump"), many);
    // For an IPv4 route the kernel reports an error itself.
    change_route(RTM_DELROUTE, Family::INET, device, 0);
    change_route(RTM_NEWROUTE, Family::INET, device, TOO_MANY_IPV4_HOPS);
    let error = dump_hops(&mut requests, all).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EntryTooLarge, "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
}

/// Makes the kernel drop acknowledgements for this socket, and nothing else.
fn drop_acknowledgements(socket: &Socket) {
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The message's type is in host order, and the filter loads it in network order.
    let error = u32::from(u16::from_be_bytes(nlring::message::ERROR.to_ne_bytes()));
    let program = [
        instruction(0x28, 0, 0, 4),        // BPF_LD | BPF_H | BPF_ABS
        instruction(0x15, 0, 1, error),    // BPF_JMP | BPF_JEQ | BPF_K
        instruction(0x06, 0, 0, 0),        // BPF_RET: drop
        instruction(0x06, 0, 0, u32::MAX), // BPF_RET: keep
    ];
    common::attach_filter(socket, &program);
}

/// A link that does not exist.
fn ask_for_no_link(requester: &mut Requester) -> nlring::Result<()> {
    requester.ask(RTM_GETLINK, 0, |request| {
        request.bytes(&[0; 16]).attribute_str_nul(3, "none")
    })
}

#[test]
fn strangers_can_neither_fail_nor_prolong_a_request() {
    own_namespace();
    let mut requester = Requester::open(Protocol::ROUTE).unwrap();
    let port_id = requester.socket().port_id().unwrap();
    let stranger = Socket::builder(Protocol::ROUTE).open().unwrap();
    let refused = stranger.send_to(&[0; 64], port_id, 0).unwrap_err();
    assert_eq!(
        refused.raw_os_error(),
        Some(libc::ECONNREFUSED),
        "the kernel refuses datagrams to the socket itself"
    );

    // If the socket joins a group, the strangers' datagrams reach it.
    requester.socket().add_membership(1u32).unwrap();
    let _ = requester.socket().set_recv_buffer_bytes(4 << 20).unwrap();
    let mut large = vec![0; 40 << 10];
    large[..4].copy_from_slice(&(40u32 << 10).to_ne_bytes());
    large[4..6].copy_from_slice(&100u16.to_ne_bytes());
    stranger.send_to(&large, 0, 1).expect("sent");
    let missing = ask_for_no_link(&mut requester).unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENODEV), "{missing}");

    drop_acknowledgements(requester.socket());
    // The stranger may be faster than the requester, whose overrun would end the request.
    requester.socket().set_no_enobufs(true).unwrap();
    requester.set_timeout(Duration::from_millis(100));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while !is_over.load(Ordering::Relaxed) && start.elapsed() < PATIENCE {
                stranger.send_to(&large[..64], 0, 1).expect("sent");
            }
        });
        let error = ask_for_no_link(&mut requester).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        let was_over = is_over.swap(true, Ordering::Relaxed);
        assert!(!was_over, "the answer comes while the strangers send");
    });
}

#[test]
fn a_stop_ends_the_wait_for_a_reply() {
    own_namespace();
    let mut requester = Requester::open(Protocol::ROUTE).unwrap();
    let stop = StopHandle::new().unwrap();
    requester.set_timeout(Duration::MAX);
    requester.set_stop(stop.clone());
    let missing = ask_for_no_link(&mut requester).unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENODEV), "{missing}");
    drop_acknowledgements(requester.socket());
    let stopper = thread::spawn(move || stop.stop());
    let error = ask_for_no_link(&mut requester).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped);
    assert_eq!(
        error.to_string(),
        "wait for the kernel's reply: a stop was requested"
    );
    stopper.join().unwrap();
}

const CT_DELETE: u16 = 0x102;

#[test]
fn a_refusal_of_the_whole_batch_is_reported_for_each_request() {
    own_namespace();
    let mut requests = conntrack::Requests::open().unwrap();
    give_up_capability(CAP_NET_ADMIN);
    requests.requester().set_timeout(Duration::MAX);
    let mut batch = Batch::new();
    for _ in 0..200 {
        let added = batch.add(CT_DELETE, 0, |request| request.bytes(&[2, 0, 0, 0]));
        added.unwrap();
    }
    let mut refused = Vec::new();
    let sent = batch.send(requests.requester(), |index, reply| {
        let error = reply.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::PermissionDenied,
            "{index}: {error}"
        );
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        refused.push(index);
    });
    sent.expect("sent");
    refused.sort_unstable();
    assert_eq!(refused, (0..200).collect::<Vec<_>>());

    let tuple = conntrack::Tuple::new(
        [1; 4].into(),
        [2; 4].into(),
        17,
        conntrack::Layer4::Ports { src: 1, dst: 2 },
    );
    let key = conntrack::Key {
        orig: tuple,
        zone: None,
    };
    let error = requests
        .get_many(&[key; 3], |_, _| panic!("none"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let error = requests
        .dump(&conntrack::DumpFilter::new(), |(), _| ())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}

/// `NFNL_MSG_BATCH_BEGIN` for a subsystem of netfilter.
fn add_begin(batch: &mut Batch, subsystem: u8) {
    let added = batch.add(16, 0, |request| request.bytes(&[0, 0, 0, subsystem]));
    added.unwrap();
}

#[test]
fn a_transaction_that_the_kernel_abandons_does_not_wait_for_a_timeout() {
    own_namespace();
    let mut requester = Requester::open(Protocol::NETFILTER).unwrap();
    requester.set_timeout(Duration::MAX);
    // This subsystem does not exist. The kernel refuses the first message, and does not look at the others.
    let mut batch = Batch::new();
    add_begin(&mut batch, 200);
    add_begin(&mut batch, 200);
    let mut refused = Vec::new();
    let sent = batch.send(&mut requester, |index, reply| {
        refused.push((index, reply.unwrap_err().raw_os_error()));
    });
    sent.expect("sent");
    let refusal = Some(libc::EINVAL);
    assert_eq!(refused, [(0, refusal), (1, refusal)]);

    // A transaction inside a transaction ends it without an answer (nfnetlink.c, `nfnetlink_rcv_batch`).
    add_begin(&mut batch, 10); // NFNL_SUBSYS_NFTABLES
    add_begin(&mut batch, 10);
    let sent = batch.send(&mut requester, |index, reply| panic!("{index}: {reply:?}"));
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::UnexpectedReply);
    // The next request gets its own answers.
    let dump = requester.dump(0x101, |request| request.bytes(&[0; 4]), |(), _| ());
    assert!(!dump.expect("a dump").is_interrupted);
}
