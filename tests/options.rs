//! Whatever option or flag safe code passes to a socket, the kernel writes only into the memory that was lent.

mod common;

use common::{Source, any_sender, attach_filter, listener, own_namespace, start, turn_until_event};
use nlring::{Backend, Engine, ErrorKind, Event, Protocol, RecvFlags, Socket, sockopt};

on_each_backend!(more_control_data_than_there_is_room_for);

/// `BPF_RET | BPF_K`: takes a datagram whole.
const ACCEPT: libc::sock_filter = libc::sock_filter {
    code: 6,
    jt: 0,
    jf: 0,
    k: u32::MAX,
};
const CANARY: u8 = 0xa5;
/// The memory lent to the kernel, and the memory behind it: eight times as much, because the kernel counts some
/// options in units of up to 8 bytes.
const LENT_BYTES: usize = 64;
const ALL_BYTES: usize = 9 * LENT_BYTES;

#[test]
fn the_kernel_writes_no_option_beyond_its_slice() {
    own_namespace();
    let socket = listener(1 << 20);
    attach_filter(&socket, &[ACCEPT; 64]);
    let mut answered = Vec::new();
    for level in [libc::SOL_SOCKET, sockopt::SOL_NETLINK, libc::IPPROTO_TCP] {
        for name in -1..128 {
            for length in [0, 1, 4, LENT_BYTES] {
                let mut value = [CANARY; ALL_BYTES];
                let result = socket.option(level, name, &mut value[..length]);
                assert_eq!(
                    value[length..],
                    [CANARY; ALL_BYTES][length..],
                    "option {name} at level {level}, {length} bytes"
                );
                if result.is_ok() && length == LENT_BYTES {
                    answered.push((level, name));
                }
            }
        }
    }
    // The options that a collector needs are among those that work.
    for needed in [
        (libc::SOL_SOCKET, libc::SO_RCVBUF),
        (libc::SOL_SOCKET, libc::SO_MEMINFO),
        (libc::SOL_SOCKET, libc::SO_ERROR),
        (sockopt::SOL_NETLINK, sockopt::PKTINFO),
        (sockopt::SOL_NETLINK, sockopt::NO_ENOBUFS),
        (sockopt::SOL_NETLINK, sockopt::LIST_MEMBERSHIPS),
    ] {
        assert!(answered.contains(&needed), "{needed:?}: {answered:?}");
    }
}

#[test]
fn an_option_that_is_not_plain_bytes_is_refused_and_the_error_names_the_alternative() {
    own_namespace();
    let socket = Socket::open(Protocol::ROUTE).unwrap();
    let texts = [
        socket.option(libc::SOL_SOCKET, libc::SO_GET_FILTER, &mut [0; 64]),
        socket
            .set_option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &[1; 16])
            .map(|()| 0),
        socket.option(libc::IPPROTO_TCP, 35, &mut [0; 64]), // TCP_ZEROCOPY_RECEIVE
        socket.option(sockopt::SOL_NETLINK, 6, &mut [0; 64]), // NETLINK_RX_RING
    ]
    .map(|result| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        error.to_string()
    });
    assert!(texts[0].starts_with("read a socket option: option 26 at level 1"));
    assert!(texts[1].starts_with("set a socket option: option 26 at level 1"));
    assert!(
        texts.iter().all(|text| text.contains("pass `as_fd()` to")),
        "{texts:?}"
    );
}

#[test]
fn no_flag_of_a_receive_makes_the_kernel_write_beyond_the_buffer() {
    own_namespace();
    let socket = listener(1 << 20);
    let mut source = Source::new(100);
    let dont_wait = RecvFlags::DONT_WAIT;
    for bits in (0..32).map(|bit| 1i32 << bit).chain([-1, i32::MAX]) {
        source.send();
        let flags = RecvFlags::from_bits(bits) | dont_wait;
        for length in [0, 50, 100, LENT_BYTES] {
            let mut buffer = [CANARY; ALL_BYTES];
            let received = socket.recv(&mut buffer[..length], flags);
            if let Ok(list) = received {
                assert!(list.datagrams()[0].bytes().len() <= length);
            }
            assert_eq!(
                buffer[length..],
                [CANARY; ALL_BYTES][length..],
                "flags {bits:#x}"
            );
        }
        common::sequences_left(&socket);
    }
}

/// Credentials and security labels come after the group and the namespace, and there is no room for them.
fn more_control_data_than_there_is_room_for(backend: Backend) {
    own_namespace();
    let socket = listener(1 << 20);
    socket.set_pktinfo(true).unwrap();
    socket.set_listen_all_nsid(true).unwrap();
    for name in [libc::SO_PASSCRED, libc::SO_PASSSEC] {
        socket
            .set_option(libc::SOL_SOCKET, name, &1i32.to_ne_bytes())
            .unwrap();
    }
    let (mut running, _) = start(&Engine::builder().backend(backend), socket, any_sender());
    let mut source = Source::new(200);
    source.send_many(3, None);
    let mut sequences = Vec::new();
    turn_until_event(&mut running, |event, _| {
        let Event::Messages(_, list) = event else {
            panic!("{event:?}");
        };
        for datagram in list.datagrams() {
            assert_eq!(datagram.group(), Some(1));
            assert_eq!(datagram.sender_port_id(), source.port_id());
            assert_eq!(datagram.bytes().len(), 200);
        }
        sequences.extend(list.iter().map(|message| message.sequence()));
        sequences.len() == 3
    });
    assert_eq!(sequences, [0, 1, 2]);
}
