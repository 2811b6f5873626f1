//! Datagrams that Linux 6.18 sent to a little-endian machine, each with one message.
//!
//! The bytes are in the files of `testing/datagrams`, which are also the seeds of the fuzzers. A test that decodes them
//! needs `#[cfg(target_endian = "little")]`.

/// Conntrack events.
pub mod conntrack {
    /// The end of a TCP connection by `conntrack -F`, with counters, timestamps and mark 7.
    pub const TCP_DESTROY: &[u8] = include_bytes!("../datagrams/conntrack/tcp_destroy.bin");
    /// The first UDP packet of a flow. Zone 78 holds for the original direction only.
    pub const UDP_NEW: &[u8] = include_bytes!("../datagrams/conntrack/udp_new.bin");
    /// The first TCP packet of a flow with the helper `ftp`.
    pub const TCP_NEW: &[u8] = include_bytes!("../datagrams/conntrack/tcp_new.bin");
    /// An ICMPv6 echo request.
    pub const ICMPV6_NEW: &[u8] = include_bytes!("../datagrams/conntrack/icmpv6_new.bin");
    /// The first GRE packet of PPTP.
    pub const GRE_NEW: &[u8] = include_bytes!("../datagrams/conntrack/gre_new.bin");
    /// The helper `ftp` expects a data connection.
    pub const EXPECT_NEW: &[u8] = include_bytes!("../datagrams/conntrack/expect_new.bin");

    /// All datagrams of this module.
    pub const ALL: [&[u8]; 6] = [
        TCP_DESTROY,
        UDP_NEW,
        TCP_NEW,
        ICMPV6_NEW,
        GRE_NEW,
        EXPECT_NEW,
    ];
}

/// Route events. Device v0 has index 3, and br0 index 4.
pub mod route {
    /// `broadcast 127.255.255.255 dev lo`, a route of the kernel's own in table 255.
    pub const BROADCAST: &[u8] = include_bytes!("../datagrams/route/broadcast.bin");
    /// `unreachable 10.7.0.0/16`.
    pub const UNREACHABLE: &[u8] = include_bytes!("../datagrams/route/unreachable.bin");
    /// `10.4.0.0/16 via 10.0.0.2 dev v0 table 1000`.
    pub const TABLE_1000: &[u8] = include_bytes!("../datagrams/route/table_1000.bin");
    /// The deletion of [`TABLE_1000`].
    pub const DELETED: &[u8] = include_bytes!("../datagrams/route/deleted.bin");
    /// `10.3.1.0/24 metric 7 nexthop via 10.0.0.2 dev v0 onlink nexthop dev br0`.
    pub const MULTIPATH: &[u8] = include_bytes!("../datagrams/route/multipath.bin");
    /// `10.21.0.0/16 nhid 11`, a group of two nexthop objects.
    pub const NEXTHOP_GROUP: &[u8] = include_bytes!("../datagrams/route/nexthop_group.bin");
    /// `10.10.0.1 via 10.0.0.2 dev v0` with all sixteen metrics.
    pub const METRICS: &[u8] = include_bytes!("../datagrams/route/metrics.bin");
    /// `10.12.0.0/16 via inet6 fe80::5 dev v0`.
    pub const VIA_INET6: &[u8] = include_bytes!("../datagrams/route/via_inet6.bin");
    /// `10.16.0.0/16 encap ip id 100 … via 10.0.0.2 dev v0`.
    pub const ENCAP_IP: &[u8] = include_bytes!("../datagrams/route/encap_ip.bin");
    /// `fc01::/64 encap seg6 mode encap segs fc00::2,fc00::3 dev v0`.
    pub const ENCAP_SEG6: &[u8] = include_bytes!("../datagrams/route/encap_seg6.bin");
    /// `fd01::/64 via fe80::2 dev v0 expires 300sec`.
    pub const EXPIRES: &[u8] = include_bytes!("../datagrams/route/expires.bin");
    /// `fd07::/64 from fd09::/48 via fe80::2 dev v0`.
    pub const WITH_SOURCE: &[u8] = include_bytes!("../datagrams/route/with_source.bin");

    /// All datagrams of this module.
    pub const ALL: [&[u8]; 12] = [
        BROADCAST,
        UNREACHABLE,
        TABLE_1000,
        DELETED,
        MULTIPATH,
        NEXTHOP_GROUP,
        METRICS,
        VIA_INET6,
        ENCAP_IP,
        ENCAP_SEG6,
        EXPIRES,
        WITH_SOURCE,
    ];
}

/// Calls `f` with every shorter form of a datagram and with changes of every byte, so that a test can show that a
/// decoder survives them all. The length in the message's header always fits.
///
/// # Panics
///
/// If the datagram is shorter than a message's header.
pub fn for_each_damaged(datagram: &[u8], mut f: impl FnMut(&[u8])) {
    const HEADER_BYTES: usize = 16;
    for length in HEADER_BYTES..datagram.len() {
        let mut cut = datagram[..length].to_vec();
        let length = u32::try_from(length).expect("a short datagram");
        cut[..4].copy_from_slice(&length.to_ne_bytes());
        f(&cut);
    }
    for index in 4..datagram.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = datagram.to_vec();
            changed[index] ^= change;
            f(&changed);
        }
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use nlring::MessageList;
    use nlring::conntrack::{Expectation, Flow};
    use nlring::route::Route;

    use super::{conntrack, route};

    #[test]
    fn each_datagram_is_one_message_that_decodes() {
        for datagram in conntrack::ALL.iter().chain(&route::ALL) {
            let list = MessageList::new(datagram);
            assert_eq!((list.message_count(), list.malformed()), (1, None));
            let message = list.iter().next().expect("a message");
            let decodes = Flow::decode(&message).is_some()
                || Expectation::decode(&message).is_some()
                || Route::decode(&message).is_some();
            assert!(decodes, "{message:?}");
        }
    }
}
