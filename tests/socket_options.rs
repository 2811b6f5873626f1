//! A socket's options and its receive buffer, with the real kernel.

mod common;

use common::{CAP_NET_ADMIN, give_up_capability, own_namespace, skip};
use nlring::message::flags;
use nlring::{Content, ErrorKind, MessageBuilder, Protocol, RecvFlags, Socket, sockopt};

fn route() -> Socket {
    Socket::builder(Protocol::ROUTE).open().unwrap()
}

fn read_flag(socket: &Socket, name: i32) -> Option<bool> {
    let mut value = [0; 4];
    match socket.option(sockopt::SOL_NETLINK, name, &mut value) {
        Ok(4) => Some(i32::from_ne_bytes(value) != 0),
        Ok(length) => panic!("option {name} has {length} bytes"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            None
        }
    }
}

type Set = fn(&Socket, bool) -> nlring::Result<()>;

#[test]
fn each_named_option_is_set_and_read_back() {
    own_namespace();
    let socket = route();
    let options: [(i32, Set, bool); 7] = [
        (sockopt::PKTINFO, Socket::set_pktinfo, true),
        (sockopt::BROADCAST_ERROR, Socket::set_broadcast_error, true),
        (sockopt::NO_ENOBUFS, Socket::set_no_enobufs, true),
        (sockopt::LISTEN_ALL_NSID, Socket::set_listen_all_nsid, false), // newer kernels only
        (sockopt::CAP_ACK, Socket::set_cap_ack, true),
        (sockopt::EXT_ACK, Socket::set_ext_ack, true),
        (sockopt::GET_STRICT_CHK, Socket::set_get_strict_check, true),
    ];
    for (name, set, is_readable) in options {
        let before = read_flag(&socket, name);
        assert!(before.is_some() || !is_readable, "option {name}");
        assert_ne!(before, Some(true), "option {name} is off at first");
        for on in [true, true, false, true] {
            set(&socket, on).unwrap();
            if before.is_some() {
                assert_eq!(read_flag(&socket, name), Some(on), "option {name}");
            }
        }
    }
    assert!(socket.get_strict_check().unwrap());
    socket.set_get_strict_check(false).unwrap();
    assert!(!socket.get_strict_check().unwrap());
}

#[test]
fn the_builder_sets_each_option() {
    own_namespace();
    let plain = route();
    let names = [sockopt::PKTINFO, sockopt::NO_ENOBUFS, sockopt::EXT_ACK];
    assert_eq!(names.map(|name| read_flag(&plain, name)), [Some(false); 3]);
    let builder = Socket::builder(Protocol::ROUTE)
        .nonblocking(true)
        .pktinfo(true)
        .listen_all_nsid(true)
        .no_enobufs(true)
        .ext_ack(true)
        .recv_buffer_bytes(123_456);
    let socket = builder.open().unwrap();
    assert_eq!(names.map(|name| read_flag(&socket, name)), [Some(true); 3]);
    assert_eq!(socket.recv_buffer_bytes().unwrap(), 2 * 123_456);
    let error = socket.recv(&mut [0; 16], RecvFlags::NONE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn raw_options_work_both_ways() {
    own_namespace();
    let socket = route();
    socket
        .set_option(
            sockopt::SOL_NETLINK,
            sockopt::ADD_MEMBERSHIP,
            &7u32.to_ne_bytes(),
        )
        .unwrap();
    assert_eq!(socket.groups().unwrap(), [7]);
    socket
        .set_option(
            sockopt::SOL_NETLINK,
            sockopt::DROP_MEMBERSHIP,
            &7u32.to_ne_bytes(),
        )
        .unwrap();
    let length = socket
        .option(sockopt::SOL_NETLINK, sockopt::LIST_MEMBERSHIPS, &mut [])
        .unwrap();
    assert!(length >= 4, "the full length, whatever was stored");
    let error = socket
        .option(sockopt::SOL_NETLINK, 9999, &mut [0; 4])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = socket
        .set_option(sockopt::SOL_NETLINK, 9999, &[0; 4])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn answers_follow_the_options() {
    own_namespace();
    let ask = |socket: &Socket| {
        // This link does not exist, and the error can point at an attribute.
        let mut request = Vec::new();
        MessageBuilder::new(&mut request, 18, flags::REQUEST | flags::ACK)
            .bytes(&[0; 16])
            .attribute_str_nul(3, "a-name-too-long-for-a-link")
            .finish()
            .unwrap();
        socket.send(&request).unwrap();
        let mut buffer = vec![0; Socket::buffer_size()];
        let list = socket.recv(&mut buffer, RecvFlags::NONE).unwrap();
        let message = list.iter().next().unwrap();
        let Content::Error(answer) = message.content() else {
            panic!("{message:?}");
        };
        let has_text = answer.text().is_some_and(|text| !text.is_empty());
        (answer.errno().unwrap() > 0, has_text, message.bytes().len())
    };
    let socket = route();
    let (is_error, has_text, long) = ask(&socket);
    assert!(is_error && !has_text);
    socket.set_cap_ack(true).unwrap();
    let (_, _, capped) = ask(&socket);
    assert!(capped < long, "{capped} < {long}");
    socket.set_ext_ack(true).unwrap();
    let (is_error, has_text, _) = ask(&socket);
    assert!(is_error && has_text);
}

// The receive buffer and the drop counter

#[test]
fn the_receive_buffer_is_granted_as_asked() {
    own_namespace();
    let socket = route();
    for requested_bytes in [100_000, 8 << 20, 1 << 30] {
        let granted = socket.set_recv_buffer_bytes(requested_bytes).unwrap();
        assert_eq!(granted.requested_bytes, requested_bytes);
        assert_eq!(socket.recv_buffer_bytes().unwrap(), granted.granted_bytes);
        if granted.is_clamped() {
            return skip(
                "the_receive_buffer_is_granted_as_asked",
                "needs CAP_NET_ADMIN in the initial user namespace",
            );
        }
        assert_eq!(
            granted.granted_bytes,
            (2 * requested_bytes).min(2_147_483_646)
        );
    }
    let small = socket.set_recv_buffer_bytes(1).unwrap();
    assert!(
        small.granted_bytes > 2 && !small.is_clamped(),
        "the least there is: {small:?}"
    );
    assert!(
        !socket
            .set_recv_buffer_bytes(i32::MAX as usize)
            .unwrap()
            .is_clamped()
    );
    for absurd in [0, i32::MAX as usize + 1, usize::MAX] {
        let error = socket.set_recv_buffer_bytes(absurd).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("2147483647"), "{error}");
    }
}

#[test]
fn the_receive_buffer_is_clamped_without_the_capability() {
    // Linux 6.1 applies the limit in a namespace, but does not show it there.
    let most: usize = std::fs::read_to_string("/proc/sys/net/core/rmem_max")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    own_namespace();
    give_up_capability(CAP_NET_ADMIN);
    let socket = route();
    let clamped = socket.set_recv_buffer_bytes(4 * most).unwrap();
    assert!(clamped.is_clamped());
    assert_eq!(
        (clamped.requested_bytes, clamped.granted_bytes),
        (4 * most, 2 * most)
    );
    assert_eq!(socket.recv_buffer().unwrap(), clamped);
    let built = Socket::builder(Protocol::ROUTE).recv_buffer_bytes(4 * most);
    assert_eq!(built.open().unwrap().recv_buffer().unwrap(), clamped);
    let granted = socket.set_recv_buffer_bytes(most / 2).unwrap();
    assert!(!granted.is_clamped());
    assert_eq!(granted.granted_bytes, most / 2 * 2);
}
