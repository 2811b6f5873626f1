//! The numbers in routes, and their names.

/// Bits of [`Route::flags`](super::Route::flags) and [`Nexthop::flags`](super::Nexthop::flags): `RTNH_F_*`, and from `NOTIFY` on `RTM_F_*`, which stand in
/// a route only.
pub mod route_flags {
    /// The nexthop cannot be used.
    pub const DEAD: u32 = 1;
    /// The gateway is itself looked up.
    pub const PERVASIVE: u32 = 2;
    /// The gateway is taken to be on the link.
    pub const ONLINK: u32 = 4;
    /// The nexthop is handled by hardware.
    pub const OFFLOAD: u32 = 8;
    /// The nexthop's device has no carrier.
    pub const LINKDOWN: u32 = 16;
    /// The entry is unresolved (multicast).
    pub const UNRESOLVED: u32 = 32;
    /// Hardware sends the nexthop's packets to the kernel. Available since Linux 5.6.
    pub const TRAP: u32 = 64;
    /// The user is told of changes.
    pub const NOTIFY: u32 = 0x100;
    /// An entry of the route cache, not of a table.
    pub const CLONED: u32 = 0x200;
    /// Learned from a router's prefix information (IPv6).
    pub const PREFIX: u32 = 0x800;
    /// The route is handled by hardware. Available since Linux 5.6.
    pub const ROUTE_OFFLOAD: u32 = 0x4000;
    /// Hardware sends the route's packets to the kernel. Available since Linux 5.6.
    pub const ROUTE_TRAP: u32 = 0x8000;
    /// Hardware could not take the route. Available since Linux 5.12.
    pub const ROUTE_OFFLOAD_FAILED: u32 = 0x2000_0000;
}

/// Routing tables that every system has (`enum rt_class_t`).
pub mod table {
    /// For the user's own use.
    pub const DEFAULT: u32 = 253;
    /// Where routes are unless told otherwise.
    pub const MAIN: u32 = 254;
    /// The machine's own addresses, kept by the kernel.
    pub const LOCAL: u32 = 255;
}

/// [`Route::scope`](super::Route::scope): how far the destination is (`enum rt_scope_t`).
pub mod scope {
    /// Everywhere.
    pub const UNIVERSE: u8 = 0;
    /// Within the site.
    pub const SITE: u8 = 200;
    /// On the link.
    pub const LINK: u8 = 253;
    /// In this machine.
    pub const HOST: u8 = 254;
    /// Does not exist.
    pub const NOWHERE: u8 = 255;
}

/// [`Route::route_type`](super::Route::route_type): what becomes of the packet.
pub mod route_type {
    /// Sent on, through a gateway or directly.
    pub const UNICAST: u8 = 1;
    /// Taken in.
    pub const LOCAL: u8 = 2;
    /// Taken in, and sent as broadcast.
    pub const BROADCAST: u8 = 3;
    /// Taken in as broadcast, sent as unicast.
    pub const ANYCAST: u8 = 4;
    /// Multicast.
    pub const MULTICAST: u8 = 5;
    /// Dropped silently.
    pub const BLACKHOLE: u8 = 6;
    /// Dropped, and answered with "host unreachable".
    pub const UNREACHABLE: u8 = 7;
    /// Dropped, and answered with "administratively prohibited".
    pub const PROHIBIT: u8 = 8;
    /// Not in this table.
    pub const THROW: u8 = 9;
}

/// [`Route::protocol`](super::Route::protocol): who made the route (`RTPROT_*`). Routing daemons have numbers of their own; see
/// [`protocol_name`].
pub mod protocol {
    /// Not said.
    pub const UNSPEC: u8 = 0;
    /// By an ICMP redirect.
    pub const REDIRECT: u8 = 1;
    /// By the kernel.
    pub const KERNEL: u8 = 2;
    /// During boot; what ip(8) says when it is told nothing.
    pub const BOOT: u8 = 3;
    /// By the administrator.
    pub const STATIC: u8 = 4;
}

/// Numbers of the metrics (`RTAX_*`).
pub mod metric {
    /// A mask of the locked metrics, `1 << number`; not a metric itself.
    pub const LOCK: u16 = 1;
    /// Path MTU, bytes.
    pub const MTU: u16 = 2;
    /// Largest TCP window, bytes.
    pub const WINDOW: u16 = 3;
    /// Round-trip time, 1/8 ms.
    pub const RTT: u16 = 4;
    /// Its variance, 1/4 ms.
    pub const RTTVAR: u16 = 5;
    /// Slow-start threshold, segments.
    pub const SSTHRESH: u16 = 6;
    /// Largest congestion window, segments.
    pub const CWND: u16 = 7;
    /// TCP segment size to advertise, bytes.
    pub const ADVMSS: u16 = 8;
    /// Reordering to expect, segments.
    pub const REORDERING: u16 = 9;
    /// Hop limit; `u32::MAX` is the system's default.
    pub const HOPLIMIT: u16 = 10;
    /// Initial congestion window, segments.
    pub const INITCWND: u16 = 11;
    /// Bits of TCP features; 1 is ECN.
    pub const FEATURES: u16 = 12;
    /// Smallest retransmission timeout, ms.
    pub const RTO_MIN: u16 = 13;
    /// Initial receive window, segments.
    pub const INITRWND: u16 = 14;
    /// 1: quick acknowledgements.
    pub const QUICKACK: u16 = 15;
    /// The congestion control algorithm, a name.
    pub const CC_ALGO: u16 = 16;
    /// 1: TCP fast open without a cookie.
    pub const FASTOPEN_NO_COOKIE: u16 = 17;
}

/// Encapsulations that a route can ask for (`enum lwtunnel_encap_types`, include/uapi/linux/lwtunnel.h).
pub mod encap {
    /// MPLS labels.
    pub const MPLS: u16 = 1;
    /// An IPv4 tunnel.
    pub const IP: u16 = 2;
    /// Identifier-locator addressing.
    pub const ILA: u16 = 3;
    /// An IPv6 tunnel.
    pub const IP6: u16 = 4;
    /// IPv6 segment routing.
    pub const SEG6: u16 = 5;
    /// A BPF program.
    pub const BPF: u16 = 6;
    /// A segment routing endpoint.
    pub const SEG6_LOCAL: u16 = 7;
    /// The RPL source routing header.
    pub const RPL: u16 = 8;
    /// In-situ OAM.
    pub const IOAM6: u16 = 9;
    /// An `xfrm` interface, for IP security.
    pub const XFRM: u16 = 10;
}

/// The name of a [`protocol`] number, as ip(8) has it without its configuration.
///
/// ```
/// assert_eq!(nlring::route::protocol_name(12), Some("bird"));
/// assert_eq!(nlring::route::protocol_name(100), None);
/// ```
pub fn protocol_name(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        0 => "unspec",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        8 => "gated",
        9 => "ra",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        16 => "dhcp",
        18 => "keepalived",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        _ => return None,
    })
}

/// The name of a [`scope`], as ip(8) has it.
pub fn scope_name(scope: u8) -> Option<&'static str> {
    Some(match scope {
        scope::UNIVERSE => "global",
        scope::SITE => "site",
        scope::LINK => "link",
        scope::HOST => "host",
        scope::NOWHERE => "nowhere",
        _ => return None,
    })
}

/// The name of a [`table`], as ip(8) has it without its configuration.
pub fn table_name(table: u32) -> Option<&'static str> {
    Some(match table {
        table::DEFAULT => "default",
        table::MAIN => "main",
        table::LOCAL => "local",
        _ => return None,
    })
}

/// The name of a [`route_type`], as ip(8) has it.
pub fn route_type_name(route_type: u8) -> Option<&'static str> {
    let names = [
        "none",
        "unicast",
        "local",
        "broadcast",
        "anycast",
        "multicast",
        "blackhole",
        "unreachable",
        "prohibit",
        "throw",
        "nat",
        "xresolve",
    ];
    names.get(usize::from(route_type)).copied()
}

/// The name of an encapsulation in [`encap`], as ip(8) has it.
pub fn encap_name(encap_type: u16) -> Option<&'static str> {
    let names = [
        "none",
        "mpls",
        "ip",
        "ila",
        "ip6",
        "seg6",
        "bpf",
        "seg6local",
        "rpl",
        "ioam6",
        "xfrm",
    ];
    names.get(usize::from(encap_type)).copied()
}

/// The name of a [`metric`], as ip(8) has it.
pub fn metric_name(number: u16) -> Option<&'static str> {
    let names = [
        "mtu",
        "window",
        "rtt",
        "rttvar",
        "ssthresh",
        "cwnd",
        "advmss",
        "reordering",
        "hoplimit",
        "initcwnd",
        "features",
        "rto_min",
        "initrwnd",
        "quickack",
        "congctl",
        "fastopen_no_cookie",
    ];
    let index = usize::from(number.checked_sub(metric::MTU)?);
    names.get(index).copied()
}
