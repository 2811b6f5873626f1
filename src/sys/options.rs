//! The socket options that safe code may read and set as bytes.

use std::io;
use std::ops::RangeInclusive;

/// The options at `SOL_SOCKET` whose value is plain bytes: the kernel counts its length in bytes, and uses no pointer
/// and no descriptor in it (Linux v6.18, net/core/sock.c, `sk_getsockopt` and `sk_setsockopt`).
///
/// Options with other values are left out: `SO_GET_FILTER` counts in instructions of 8 bytes, `SO_ATTACH_FILTER`
/// follows a pointer in its value, and `SO_ATTACH_BPF` takes the number of a descriptor.
const SOCKET_NAMES: [libc::c_int; 32] = [
    libc::SO_ACCEPTCONN,
    libc::SO_BINDTODEVICE,
    libc::SO_BPF_EXTENSIONS,
    libc::SO_BROADCAST,
    libc::SO_BUSY_POLL,
    libc::SO_COOKIE,
    libc::SO_DEBUG,
    libc::SO_DETACH_FILTER,
    libc::SO_DOMAIN,
    libc::SO_DONTROUTE,
    libc::SO_ERROR,
    libc::SO_INCOMING_CPU,
    libc::SO_LOCK_FILTER,
    libc::SO_MARK,
    libc::SO_MEMINFO,
    libc::SO_PASSCRED,
    libc::SO_PASSSEC,
    libc::SO_PEERCRED,
    libc::SO_PEERSEC,
    libc::SO_PRIORITY,
    libc::SO_PROTOCOL,
    libc::SO_RCVBUF,
    libc::SO_RCVBUFFORCE,
    libc::SO_RCVLOWAT,
    libc::SO_RCVTIMEO,
    libc::SO_REUSEADDR,
    libc::SO_RXQ_OVFL,
    libc::SO_SNDBUF,
    libc::SO_SNDBUFFORCE,
    libc::SO_SNDTIMEO,
    libc::SO_TIMESTAMP,
    libc::SO_TYPE,
];

/// The options at `SOL_NETLINK` whose value is plain bytes (Linux v6.18, net/netlink/af_netlink.c, `netlink_getsockopt`
/// and `netlink_setsockopt`). Options 6 and 7 set up rings of mapped memory in Linux 3.10 to 4.5.
const NETLINK_NAMES: [RangeInclusive<libc::c_int>; 2] = [1..=5, 8..=12];

/// Returns an error unless the option's value is known to be plain bytes.
pub(super) fn require_plain(level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let is_plain = match level {
        libc::SOL_SOCKET => SOCKET_NAMES.contains(&name),
        libc::SOL_NETLINK => NETLINK_NAMES.iter().any(|names| names.contains(&name)),
        _ => false, // a netlink socket has no others
    };
    if is_plain {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "option {name} at level {level} is not among those whose value is known to be plain bytes, without pointers \
             and descriptors; pass `as_fd()` to a crate that has a function for this option"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_bytes_is_refused_by_name() {
        for (level, name) in [
            (libc::SOL_SOCKET, libc::SO_GET_FILTER),
            (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
            (libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
            (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF),
            (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_EBPF),
            (libc::SOL_SOCKET, libc::SO_PEERNAME),
            (libc::SOL_SOCKET, 77), // SO_PEERPIDFD makes a descriptor
            (libc::SOL_NETLINK, 0),
            (libc::SOL_NETLINK, 6), // NETLINK_RX_RING
            (libc::SOL_NETLINK, 7), // NETLINK_TX_RING
            (libc::SOL_NETLINK, 13),
            (libc::IPPROTO_TCP, 35), // TCP_ZEROCOPY_RECEIVE
            (libc::IPPROTO_IP, 0),
            (-1, -1),
        ] {
            let error = require_plain(level, name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            let text = error.to_string();
            assert!(
                text.contains(&format!("option {name} at level {level}")),
                "{text}"
            );
            assert!(text.contains("as_fd()"), "{text}");
        }
        require_plain(libc::SOL_SOCKET, libc::SO_RCVBUF).unwrap();
        require_plain(libc::SOL_NETLINK, 12).unwrap();
    }
}
