//! The socket alone with the real kernel: addresses, groups, receiving, drops, and refusals with their remedies.
#![allow(unsafe_code)] // socket(2), to find a protocol that is missing

mod common;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use common::{
    CAP_NET_ADMIN, SOON, Source, give_up_capability, listener, own_namespace, sequences_left, skip,
};
use nlring::message::flags;
use nlring::{
    Content, ErrorKind, MessageBuilder, MessageList, Protocol, RecvFlags, Socket, conntrack,
};

fn route() -> Socket {
    Socket::builder(Protocol::ROUTE).open().unwrap()
}

/// A request that each protocol acknowledges.
fn noop(sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    MessageBuilder::new(
        &mut bytes,
        nlring::message::NOOP,
        flags::REQUEST | flags::ACK,
    )
    .sequence(sequence)
    .finish()
    .unwrap();
    bytes
}

// Addresses

#[test]
fn two_sockets_of_a_process_have_different_port_ids() {
    own_namespace();
    let sockets = [(); 5].map(|()| route());
    let port_ids: std::collections::HashSet<u32> = sockets
        .iter()
        .map(|socket| socket.port_id().unwrap())
        .collect();
    assert_eq!(port_ids.len(), 5);
    assert!(!port_ids.contains(&0));
    assert_eq!(
        Socket::open(Protocol::ROUTE).unwrap().port_id().unwrap(),
        0,
        "unbound"
    );
}

#[test]
fn a_port_id_can_be_chosen_and_is_taken_once() {
    own_namespace();
    let first = Socket::open(Protocol::ROUTE).unwrap();
    first.bind(12_345, 0).unwrap();
    assert_eq!(first.port_id().unwrap(), 12_345);
    let second = Socket::open(Protocol::ROUTE).unwrap();
    let error = second.bind(12_345, 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    assert!(
        error.to_string().starts_with("bind a netlink socket: "),
        "{error}"
    );
    let builder = Socket::builder(Protocol::ROUTE).port_id(12_345);
    assert_eq!(
        builder.open().unwrap_err().raw_os_error(),
        Some(libc::EADDRINUSE)
    );
    first.close().unwrap();
    assert_eq!(builder.open().unwrap().port_id().unwrap(), 12_345);
    // Each protocol has its own port IDs.
    Socket::open(Protocol::USERSOCK)
        .unwrap()
        .bind(12_345, 0)
        .unwrap();
}

#[test]
fn a_socket_knows_its_protocol() {
    own_namespace();
    for protocol in [
        Protocol::ROUTE,
        Protocol::NETFILTER,
        Protocol::USERSOCK,
        Protocol::GENERIC,
    ] {
        let socket = Socket::open(protocol).unwrap();
        assert_eq!(socket.protocol().unwrap(), protocol);
        assert_eq!(Protocol::from_number(protocol.number()), protocol);
    }
}

#[test]
fn a_missing_protocol_is_unsupported() {
    own_namespace();
    let missing = (1..32).find(|&number| {
        // SAFETY: socket(2) takes three numbers and touches no memory.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                number,
            )
        };
        if fd >= 0 {
            // SAFETY: the kernel has just made it for this call.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        fd < 0
    });
    if missing.is_none() {
        skip(
            "a_missing_protocol_is_unsupported",
            "this kernel has all 32 protocols",
        );
    }
    for number in missing.into_iter().chain([32, 99, -1, i32::MAX]) {
        let error = Socket::open(Protocol::from_number(number)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{number}");
        assert_eq!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT));
        let text = error.to_string();
        assert!(
            text.contains("this kernel does not have the netlink protocol"),
            "{text}"
        );
    }
}

// Groups

#[test]
fn memberships_beyond_32_are_listed_too() {
    own_namespace();
    let socket = Socket::open(Protocol::ROUTE).unwrap();
    socket.bind(Socket::AUTOPID, 1 | 1 << 31).unwrap();
    assert_eq!(socket.groups().unwrap(), [1, 32]);
    for group in [33u32, 36, 7] {
        socket.add_membership(group).unwrap();
    }
    assert_eq!(socket.groups().unwrap(), [1, 7, 32, 33, 36]);
    socket.add_membership(36u32).unwrap(); // joining twice is no error
    socket.drop_membership(33u32).unwrap();
    socket.drop_membership(1u32).unwrap();
    assert_eq!(socket.groups().unwrap(), [7, 32, 36]);
    let builder = Socket::builder(Protocol::ROUTE)
        .groups([34u32, 2])
        .group(nlring::route::Group::Ipv6Route);
    assert_eq!(builder.open().unwrap().groups().unwrap(), [2, 11, 34]);
}

#[test]
fn only_members_receive_from_a_group() {
    own_namespace();
    let socket = listener(1 << 20);
    let mut source = Source::new(32);
    source.send();
    socket.drop_membership(1u32).unwrap();
    source.send();
    socket.add_membership(1u32).unwrap();
    source.send();
    assert_eq!(sequences_left(&socket), [0, 2]);
}

#[test]
fn an_unknown_group_is_an_error_that_names_it() {
    own_namespace();
    let socket = route();
    for group in [0, 1000, u32::MAX] {
        let error = socket.add_membership(group).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert!(
            error.to_string().contains("has no group of this number"),
            "{error}"
        );
        assert_eq!(
            socket.drop_membership(group).unwrap_err().raw_os_error(),
            Some(libc::EINVAL)
        );
    }
    let error = Socket::builder(Protocol::ROUTE)
        .group(1000u32)
        .open()
        .unwrap_err();
    assert!(
        error.to_string().contains("has no group of this number"),
        "{error}"
    );
    assert_eq!(socket.groups().unwrap(), [0; 0]);
}

#[test]
fn a_denied_group_names_the_capability() {
    own_namespace();
    give_up_capability(CAP_NET_ADMIN);
    let socket = Socket::open(Protocol::NETFILTER).unwrap();
    socket.bind(Socket::AUTOPID, 0).unwrap();
    let of_membership = socket.add_membership(conntrack::Group::New).unwrap_err();
    let of_bind = Socket::open(Protocol::NETFILTER)
        .unwrap()
        .bind(0, 1)
        .unwrap_err();
    let of_builder = Socket::builder(Protocol::NETFILTER)
        .group(conntrack::Group::New)
        .open()
        .unwrap_err();
    for error in [of_membership, of_bind, of_builder] {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        let error = std::io::Error::from(error);
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
    // Groups of routes need no capability.
    let builder = Socket::builder(Protocol::ROUTE).group(nlring::route::Group::Ipv4Route);
    assert_eq!(builder.open().unwrap().groups().unwrap(), [7]);
}

#[test]
fn a_denied_audit_group_names_another_capability() {
    const CAP_AUDIT_READ: u32 = 37;
    const NAME: &str = "a_denied_audit_group_names_another_capability";
    let Ok(socket) = Socket::open(Protocol::AUDIT) else {
        return skip(NAME, "this kernel has no audit protocol");
    };
    give_up_capability(CAP_AUDIT_READ);
    let of_membership = socket.add_membership(1_u32).unwrap_err();
    let of_bind = socket.bind(Socket::AUTOPID, 1).unwrap_err();
    for error in [of_membership, of_bind] {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("CAP_AUDIT_READ"), "{error}");
    }
}

#[test]
fn a_denied_unicast_names_the_capability() {
    own_namespace();
    let to = route().port_id().unwrap();
    give_up_capability(CAP_NET_ADMIN);
    let error = route().send_to(&noop(1), to, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
}

// Sending and receiving

#[test]
fn send_returns_the_bytes_and_the_kernel_answers() {
    own_namespace();
    let socket = route();
    let mut both = noop(7);
    both.extend(noop(8));
    assert_eq!(
        socket.send(&both).unwrap(),
        32,
        "several messages in a datagram"
    );
    for sequence in [7, 8] {
        let mut buffer = vec![0; Socket::buffer_size()];
        let list = socket.recv(&mut buffer, RecvFlags::NONE).unwrap();
        let message = list.iter().next().unwrap();
        let Content::Ack(answer) = message.content() else {
            panic!("{message:?}");
        };
        assert_eq!((answer.errno(), message.sequence()), (Some(0), sequence));
        assert_eq!(message.port_id(), socket.port_id().unwrap());
        assert_eq!(list.datagrams()[0].sender_port_id(), 0, "the kernel");
    }
}

#[test]
fn what_cannot_be_sent_is_an_error() {
    own_namespace();
    let socket = Socket::builder(Protocol::USERSOCK).open().unwrap();
    let error = socket.send_to(&noop(1), 4_000_000_000, 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    let error = socket.send(&vec![0; 16 << 20]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    assert_eq!(error.kind(), ErrorKind::System);
}

#[test]
fn sockets_of_a_process_can_send_to_each_other() {
    own_namespace();
    let (one, other) = (
        listener(1 << 20),
        Socket::builder(Protocol::USERSOCK).open().unwrap(),
    );
    other.send_to(&noop(5), one.port_id().unwrap(), 0).unwrap();
    let mut buffer = [0; 64];
    let list = one.recv(&mut buffer, RecvFlags::NONE).unwrap();
    assert_eq!(
        list.datagrams()[0].sender_port_id(),
        other.port_id().unwrap()
    );
    assert_eq!(list.datagrams()[0].bytes(), noop(5));
    assert_eq!((list.message_count(), list.received_at()), (1, None));
}

#[test]
fn truncation_is_an_error_with_the_real_length() {
    own_namespace();
    let socket = listener(1 << 20);
    let mut source = Source::new(1000);
    source.send_many(3, None);
    let truncated = ErrorKind::Truncated { real_bytes: 1000 };
    for length in [0, 16, 999] {
        let error = socket
            .recv(&mut vec![0; length], RecvFlags::PEEK)
            .unwrap_err();
        assert_eq!(error.kind(), truncated, "peeking keeps it");
        assert!(error.to_string().contains("1000 bytes"), "{error}");
    }
    assert_eq!(
        socket
            .recv(&mut [0; 999], RecvFlags::NONE)
            .unwrap_err()
            .kind(),
        truncated
    );
    let mut buffer = [0; 1000];
    let peeked = socket
        .recv(&mut buffer, RecvFlags::PEEK | RecvFlags::DONT_WAIT)
        .unwrap();
    assert_eq!(
        peeked.iter().next().unwrap().sequence(),
        1,
        "the first datagram is gone"
    );
    assert_eq!(sequences_left(&socket), [1, 2]);
}

#[test]
fn a_bad_length_is_not_an_error_of_recv() {
    own_namespace();
    let socket = listener(1 << 20);
    let mut bytes = noop(1);
    bytes.extend_from_slice(&[0; 20]);
    Source::new(16).send_bytes(&bytes);
    let mut buffer = [0; 64];
    let list: MessageList<'_> = socket.recv(&mut buffer, RecvFlags::NONE).unwrap();
    assert_eq!(list.message_count(), 1);
    assert_eq!(list.malformed().unwrap().offset_bytes, 16);
}

#[test]
fn nothing_to_receive_would_block() {
    own_namespace();
    let socket = listener(1 << 20);
    let mut buffer = [0; 64];
    let mut kind = |flags| socket.recv(&mut buffer, flags).unwrap_err().kind();
    assert_eq!(kind(RecvFlags::DONT_WAIT), ErrorKind::WouldBlock);
    socket.set_nonblocking(true).unwrap();
    assert_eq!(kind(RecvFlags::NONE), ErrorKind::WouldBlock);
    socket.set_nonblocking(false).unwrap();
    for timeout in [Duration::from_millis(100), Duration::from_millis(1100)] {
        socket.set_recv_timeout(Some(timeout)).unwrap();
        let start = Instant::now();
        assert_eq!(kind(RecvFlags::NONE), ErrorKind::WouldBlock);
        // The kernel counts ticks of up to 10 ms.
        assert!(
            start.elapsed() + Duration::from_millis(10) >= timeout,
            "{:?}",
            start.elapsed()
        );
        assert!(start.elapsed() < SOON);
    }
    socket
        .set_recv_timeout(Some(Duration::from_nanos(1)))
        .unwrap();
    assert_eq!(
        kind(RecvFlags::NONE),
        ErrorKind::WouldBlock,
        "the shortest timeout ends"
    );
    // `None` removes the limit again.
    socket.set_recv_timeout(None).unwrap();
    let sender = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(30));
        Source::new(32).send();
    });
    socket.recv(&mut buffer, RecvFlags::NONE).unwrap();
    sender.join().unwrap();
}

#[test]
fn an_overrun_has_its_own_error_kind() {
    own_namespace();
    let socket = listener(2048);
    let mut source = Source::new(100);
    source.send_many(1000, None);
    let mut buffer = [0; 256];
    let error = socket.recv(&mut buffer, RecvFlags::DONT_WAIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overrun);
    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
    assert!(
        error.to_string().contains("larger receive buffer"),
        "{error}"
    );
    let received = sequences_left(&socket); // the error comes once, then the socket works again
    assert!(!received.is_empty());
    assert_eq!(received.len() + socket.drops().unwrap() as usize, 1000);
    source.send();
    assert_eq!(sequences_left(&socket), [1000]);
    // With NETLINK_NO_ENOBUFS there is no error, and the count is the same.
    socket.set_no_enobufs(true).unwrap();
    let before = socket.drops().unwrap();
    source.send_many(1000, None);
    let received = sequences_left(&socket).len();
    let dropped = socket.drops().unwrap() - before;
    assert_eq!(received + dropped as usize, 1000);
}

/// The column Drops for this port ID and protocol.
fn drops_in_proc(protocol: Protocol, port_id: u32) -> u32 {
    let table = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let (protocol, port_id) = (protocol.number().to_string(), port_id.to_string());
    let lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut own = lines.filter(|line| line[1] == protocol && line[2] == port_id);
    own.next().expect("a line of this socket")[8]
        .parse()
        .unwrap()
}

#[test]
fn drops_equal_the_counter_in_proc() {
    own_namespace();
    let socket = listener(4096);
    let port_id = socket.port_id().unwrap();
    let mut source = Source::new(100);
    for _ in 0..3 {
        source.send_many(300, None);
        let drops = socket.drops().unwrap();
        assert!(drops > 0);
        assert_eq!(drops, drops_in_proc(Protocol::USERSOCK, port_id));
        let _ = socket.recv(&mut [0; 256], RecvFlags::DONT_WAIT); // the overrun
        sequences_left(&socket);
    }
}

#[test]
fn an_engines_statistics_equal_the_counters_in_proc() {
    own_namespace();
    for backend in common::BACKENDS {
        let (mut running, id) = common::engine_with_listener(backend, 4096);
        let port_id = running.socket(id).unwrap().port_id().unwrap();
        Source::new(100).send_many(1000, None);
        common::turn_until_idle(&mut running, &mut common::Tally::default());
        let dropped = running.statistics(id).unwrap().dropped;
        assert!(dropped > 0);
        assert_eq!(
            dropped,
            u64::from(drops_in_proc(Protocol::USERSOCK, port_id))
        );
    }
}

#[test]
fn a_socket_from_a_descriptor_counts_drops_from_then_on() {
    own_namespace();
    let socket = listener(4096);
    let port_id = socket.port_id().unwrap();
    let mut source = Source::new(100);
    source.send_many(300, None);
    let old = socket.drops().unwrap();
    assert!(old > 0);
    let fd: OwnedFd = socket.into();
    let socket = Socket::try_from(fd).unwrap();
    assert_eq!(socket.drops().unwrap(), 0);
    assert_eq!(
        (socket.port_id().unwrap(), socket.groups().unwrap()),
        (port_id, vec![1])
    );
    let _ = socket.recv(&mut [0; 256], RecvFlags::DONT_WAIT); // the overrun
    sequences_left(&socket);
    source.send_many(300, None);
    let new = socket.drops().unwrap();
    assert!(new > 0);
    assert_eq!(old + new, drops_in_proc(Protocol::USERSOCK, port_id));
}

#[test]
fn the_descriptor_can_be_borrowed_and_given_away() {
    own_namespace();
    let socket = route();
    let number = socket.as_raw_fd();
    assert_eq!(socket.as_fd().as_raw_fd(), number);
    let flags = |number| {
        // SAFETY: F_GETFD takes a number and touches no memory.
        unsafe { libc::fcntl(number, libc::F_GETFD) }
    };
    assert_eq!(flags(number), libc::FD_CLOEXEC);
    assert_eq!(socket.into_raw_fd(), number);
    assert_eq!(flags(number), libc::FD_CLOEXEC, "still open");
    // SAFETY: `into_raw_fd` has given its ownership up.
    drop(Socket::try_from(unsafe { OwnedFd::from_raw_fd(number) }).unwrap());
}

#[test]
fn a_descriptor_that_is_not_netlink_is_given_back() {
    let text_of = |fd: OwnedFd, kind| {
        let number = fd.as_raw_fd();
        let refusal = Socket::try_from(fd).unwrap_err();
        assert_eq!(refusal.error().kind(), kind);
        let text = refusal.to_string();
        let fd = refusal.into_fd();
        assert_eq!(fd.as_raw_fd(), number);
        std::fs::File::from(fd).metadata().expect("still open");
        text
    };
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = text_of(tcp.into(), ErrorKind::InvalidInput);
    assert!(
        text.contains("a socket of address family 2, not of AF_NETLINK"),
        "{text}"
    );
    let (unix, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let text = text_of(unix.into(), ErrorKind::InvalidInput);
    assert!(text.contains("address family 1"), "{text}");
    let file = std::fs::File::open("/dev/null").unwrap();
    let text = text_of(file.into(), ErrorKind::InvalidInput);
    assert!(text.contains("it is not a socket"), "{text}");
    let refuse = || -> nlring::Result<Socket> {
        let file = std::fs::File::open("/dev/null").unwrap();
        Ok(Socket::try_from(OwnedFd::from(file))?)
    };
    assert!(refuse().unwrap_err().to_string().contains("not a socket"));
}
