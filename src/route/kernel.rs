//! The kernel's numbers for routes and devices, each once.
//!
//! Those that a user of this library needs are public in [`route`](super). All are from Linux v6.18,
//! `include/uapi/linux/rtnetlink.h` unless another file is named.

/// Types of rtnetlink's messages about routing ([`Message::message_type`](crate::Message::message_type); `RTM_*`).
pub mod message_type {
    /// `RTM_NEWLINK`: a device that was added or changed, an entry of a dump, or the request to add or change one.
    pub const NEW_LINK: u16 = 16;
    /// `RTM_DELLINK`: a device that is gone, or the request to delete one.
    pub const DELETE_LINK: u16 = 17;
    /// `RTM_GETLINK`: the request for one device, or for a dump of all.
    pub const GET_LINK: u16 = 18;
    /// `RTM_NEWADDR`: an address that was added or changed, an entry of a dump, or the request to add one.
    pub const NEW_ADDRESS: u16 = 20;
    /// `RTM_DELADDR`: an address that is gone, or the request to delete one.
    pub const DELETE_ADDRESS: u16 = 21;
    /// `RTM_GETADDR`: the request for a dump of addresses.
    pub const GET_ADDRESS: u16 = 22;
    /// `RTM_NEWROUTE`: a route that was added or changed, an entry of a dump, or the request to add one.
    pub const NEW_ROUTE: u16 = 24;
    /// `RTM_DELROUTE`: a route that is gone, or the request to delete one.
    pub const DELETE_ROUTE: u16 = 25;
    /// `RTM_GETROUTE`: the request for one route, or for a dump of all.
    pub const GET_ROUTE: u16 = 26;
    /// `RTM_NEWNEIGH`: a neighbour that was added or changed, an entry of a dump, or the request to add one.
    pub const NEW_NEIGHBOUR: u16 = 28;
    /// `RTM_DELNEIGH`: a neighbour that is gone, or the request to delete one.
    pub const DELETE_NEIGHBOUR: u16 = 29;
    /// `RTM_GETNEIGH`: the request for one neighbour, or for a dump of all.
    pub const GET_NEIGHBOUR: u16 = 30;
    /// `RTM_NEWRULE`: a policy rule that was added, an entry of a dump, or the request to add one.
    pub const NEW_RULE: u16 = 32;
    /// `RTM_DELRULE`: a policy rule that is gone, or the request to delete one.
    pub const DELETE_RULE: u16 = 33;
    /// `RTM_GETRULE`: the request for a dump of policy rules.
    pub const GET_RULE: u16 = 34;
    /// `RTM_NEWNETCONF`: settings of a device that were changed, or an entry of a dump. Available since Linux 3.8.
    pub const NEW_NETCONF: u16 = 80;
    /// `RTM_DELNETCONF`: settings of a device that is gone. Available since Linux 4.12.
    pub const DELETE_NETCONF: u16 = 81;
    /// `RTM_GETNETCONF`: the request for the settings of one device, or for a dump of all. Available since Linux 3.8.
    pub const GET_NETCONF: u16 = 82;
    /// `RTM_NEWNSID`: the id of a network namespace, or the request to assign one. Available since Linux 4.0.
    pub const NEW_NAMESPACE_ID: u16 = 88;
    /// `RTM_DELNSID`: the id of a network namespace that is gone.
    pub const DELETE_NAMESPACE_ID: u16 = 89;
    /// `RTM_GETNSID`: the request for the id of a network namespace, or for a dump of all.
    pub const GET_NAMESPACE_ID: u16 = 90;
    /// `RTM_NEWNEXTHOP`: a nexthop object that was added or changed, an entry of a dump, or the request to add one.
    pub const NEW_NEXTHOP: u16 = 104;
    /// `RTM_DELNEXTHOP`: a nexthop object that is gone, or the request to delete one.
    pub const DELETE_NEXTHOP: u16 = 105;
    /// `RTM_GETNEXTHOP`: the request for one nexthop object, or for a dump of all.
    pub const GET_NEXTHOP: u16 = 106;
    /// `RTM_NEWNEXTHOPBUCKET`: a bucket of a resilient group that moved to another nexthop object. Available since Linux
    /// 5.13.
    pub const NEW_NEXTHOP_BUCKET: u16 = 116;
    /// `RTM_DELNEXTHOPBUCKET`: a bucket that is gone. No kernel is known to send it.
    pub const DELETE_NEXTHOP_BUCKET: u16 = 117;
}

/// Attributes of a route's message (`RTA_*`, `enum rtattr_type_t`). They follow a `struct rtmsg` of 12 bytes.
///
/// [`Route`](super::Route) reads them; these numbers are for requests of your own and for attributes that it leaves
/// out.
pub mod rta {
    /// The destination.
    pub const DST: u16 = 1;
    /// The source that the route is for (IPv6).
    pub const SRC: u16 = 2;
    /// The index of the incoming device.
    pub const IIF: u16 = 3;
    /// The index of the outgoing device.
    pub const OIF: u16 = 4;
    /// The gateway.
    pub const GATEWAY: u16 = 5;
    /// The metric that ip(8) shows.
    pub const PRIORITY: u16 = 6;
    /// The source address of packets that the machine itself sends.
    pub const PREFSRC: u16 = 7;
    /// The initial parameters of TCP: [`metric`](super::metric).
    pub const METRICS: u16 = 8;
    /// The hops of a multipath route.
    pub const MULTIPATH: u16 = 9;
    /// The realms.
    pub const FLOW: u16 = 11;
    /// Age and error.
    pub const CACHEINFO: u16 = 12;
    /// The table.
    pub const TABLE: u16 = 15;
    /// The mark that a lookup was made with.
    pub const MARK: u16 = 16;
    /// Statistics of a multicast route.
    pub const MFC_STATS: u16 = 17;
    /// A gateway of another family.
    pub const VIA: u16 = 18;
    /// The labels that replace those of a packet (MPLS).
    pub const NEWDST: u16 = 19;
    /// The router's preference (IPv6).
    pub const PREF: u16 = 20;
    /// The type of the encapsulation: [`encap`](super::encap).
    pub const ENCAP_TYPE: u16 = 21;
    /// The encapsulation's own attributes.
    pub const ENCAP: u16 = 22;
    /// When a multicast route expires.
    pub const EXPIRES: u16 = 23;
    /// The user that a lookup was made for.
    pub const UID: u16 = 25;
    /// Whether MPLS carries over the TTL.
    pub const TTL_PROPAGATE: u16 = 26;
    /// The protocol that a lookup was made for.
    pub const IP_PROTO: u16 = 27;
    /// The source port that a lookup was made for.
    pub const SPORT: u16 = 28;
    /// The destination port that a lookup was made for.
    pub const DPORT: u16 = 29;
    /// The nexthop object.
    pub const NH_ID: u16 = 30;
}

/// States of a neighbour (`NUD_*`, `include/uapi/linux/neighbour.h`): `ndm_state` of a `struct ndmsg`, one bit each.
pub mod nud {
    /// No state.
    pub const NONE: u16 = 0;
    /// The address is being resolved.
    pub const INCOMPLETE: u16 = 0x01;
    /// The neighbour has answered recently.
    pub const REACHABLE: u16 = 0x02;
    /// The last answer is old. The entry is checked when it is used.
    pub const STALE: u16 = 0x04;
    /// The entry is used and will be checked soon.
    pub const DELAY: u16 = 0x08;
    /// The entry is being checked.
    pub const PROBE: u16 = 0x10;
    /// The neighbour does not answer.
    pub const FAILED: u16 = 0x20;
    /// The device needs no addresses of neighbours.
    pub const NOARP: u16 = 0x40;
    /// An entry that does not expire.
    pub const PERMANENT: u16 = 0x80;
}

/// Bits of [`Neighbour::flags`](super::Neighbour::flags) (`NTF_*`, `include/uapi/linux/neighbour.h`). `MANAGED` is
/// `NTF_EXT_MANAGED`, shifted by 8 bits as in the kernel (`include/net/neighbour.h`, `NTF_EXT_SHIFT`).
pub mod neighbour_flags {
    /// A request only: the entry is checked now.
    pub const USE: u32 = 0x01;
    /// The entry belongs to the device itself (forwarding databases).
    pub const SELF: u32 = 0x02;
    /// The entry belongs to the bridge that the device is a port of (forwarding databases).
    pub const MASTER: u32 = 0x04;
    /// The machine answers for this address.
    pub const PROXY: u32 = 0x08;
    /// A program maintains the entry.
    pub const EXT_LEARNED: u32 = 0x10;
    /// Hardware forwards the packets.
    pub const OFFLOADED: u32 = 0x20;
    /// The entry does not move to another port (forwarding databases).
    pub const STICKY: u32 = 0x40;
    /// The neighbour is a router (IPv6).
    pub const ROUTER: u32 = 0x80;
    /// The kernel keeps the entry reachable. Available since Linux 5.16.
    pub const MANAGED: u32 = 0x100;
}

/// Bits of [`Rule::flags`](super::Rule::flags) (`FIB_RULE_*`, `include/uapi/linux/fib_rules.h`).
pub mod rule_flags {
    /// The rule cannot be deleted.
    pub const PERMANENT: u32 = 0x01;
    /// The rule is for packets that do not match.
    pub const INVERT: u32 = 0x02;
    /// The target of `GOTO` does not exist.
    pub const UNRESOLVED: u32 = 0x04;
    /// The incoming device does not exist.
    pub const IIF_DETACHED: u32 = 0x08;
    /// The outgoing device does not exist.
    pub const OIF_DETACHED: u32 = 0x10;
    /// Routing lookups also search for a source address.
    pub const FIND_SADDR: u32 = 0x1_0000;
}

/// What a rule does: values of [`Rule::action`](super::Rule::action) (`FR_ACT_*`, `include/uapi/linux/fib_rules.h`).
pub mod rule_action {
    /// The route is looked up in the rule's table.
    pub const TO_TABLE: u8 = 1;
    /// The lookup continues with the rule of another priority.
    pub const GOTO: u8 = 2;
    /// Nothing.
    pub const NOP: u8 = 3;
    /// The packet is dropped silently.
    pub const BLACKHOLE: u8 = 6;
    /// The packet is dropped, and answered with "network unreachable".
    pub const UNREACHABLE: u8 = 7;
    /// The packet is dropped, and answered with "administratively prohibited".
    pub const PROHIBIT: u8 = 8;
}

/// Bits of [`InterfaceAddress::flags`](super::InterfaceAddress::flags) (`IFA_F_*`, `include/uapi/linux/if_addr.h`).
pub mod address_flags {
    /// IPv4: another address of the same network is the primary one. IPv6: a temporary address.
    pub const SECONDARY: u32 = 0x01;
    /// No other host is asked whether it has the address (IPv6).
    pub const NODAD: u32 = 0x02;
    /// The address is used while other hosts are asked whether they have it (IPv6).
    pub const OPTIMISTIC: u32 = 0x04;
    /// Another host has the address (IPv6).
    pub const DADFAILED: u32 = 0x08;
    /// The home address of a mobile host (IPv6).
    pub const HOMEADDRESS: u32 = 0x10;
    /// The preferred lifetime is over.
    pub const DEPRECATED: u32 = 0x20;
    /// Other hosts are being asked whether they have the address (IPv6).
    pub const TENTATIVE: u32 = 0x40;
    /// The address does not expire.
    pub const PERMANENT: u32 = 0x80;
    /// The kernel derives temporary addresses from this one (IPv6).
    pub const MANAGE_TEMPORARY: u32 = 0x100;
    /// The kernel adds no route for the network.
    pub const NOPREFIXROUTE: u32 = 0x200;
    /// A multicast group that the kernel joins.
    pub const MC_AUTO_JOIN: u32 = 0x400;
    /// Derived from a secret (RFC 7217, IPv6).
    pub const STABLE_PRIVACY: u32 = 0x800;
}

/// Bits of [`Link::flags`](super::Link::flags) (`IFF_*`, `include/uapi/linux/if.h`), as far as this library uses them.
pub mod link_flags {
    /// The device was switched on.
    pub const UP: u32 = 0x01;
    /// The device is one end of a point-to-point connection.
    pub const POINT_TO_POINT: u32 = 0x10;
    /// The device is up and can carry packets (RFC 2863).
    pub const RUNNING: u32 = 0x40;
}

/// Bits of [`Route::flags`](super::Route::flags) and [`Nexthop::flags`](super::Nexthop::flags): `RTNH_F_*`. From
/// `NOTIFY` on they are `RTM_F_*`, which only a route has.
pub mod route_flags {
    /// The nexthop cannot be used.
    pub const DEAD: u32 = 1;
    /// The gateway is looked up recursively.
    pub const PERVASIVE: u32 = 2;
    /// The kernel assumes that the gateway is on the link.
    pub const ONLINK: u32 = 4;
    /// Hardware forwards the packets of the nexthop.
    pub const OFFLOAD: u32 = 8;
    /// The nexthop's device has no carrier.
    pub const LINKDOWN: u32 = 16;
    /// The entry is unresolved (multicast).
    pub const UNRESOLVED: u32 = 32;
    /// Hardware sends the nexthop's packets to the kernel. Available since Linux 5.6.
    pub const TRAP: u32 = 64;
    /// The kernel reports changes to the user.
    pub const NOTIFY: u32 = 0x100;
    /// An entry of the route cache, not of a table.
    pub const CLONED: u32 = 0x200;
    /// Learned from a router's prefix information (IPv6).
    pub const PREFIX: u32 = 0x800;
    /// Hardware forwards the packets of the route. Available since Linux 5.6.
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
    /// The table of routes for which no other is named.
    pub const MAIN: u32 = 254;
    /// The routes to the machine's own addresses, which the kernel maintains.
    pub const LOCAL: u32 = 255;
}

/// How far the destination is (`enum rt_scope_t`): values of [`Route::scope`](super::Route::scope).
pub mod scope {
    /// Everywhere.
    pub const UNIVERSE: u8 = 0;
    /// Within the site.
    pub const SITE: u8 = 200;
    /// On the link.
    pub const LINK: u8 = 253;
    /// In this machine.
    pub const HOST: u8 = 254;
    /// The destination does not exist.
    pub const NOWHERE: u8 = 255;
}

/// What happens to packets (`RTN_*`): values of [`Route::route_type`](super::Route::route_type).
pub mod route_type {
    /// Forwarded, through a gateway or directly.
    pub const UNICAST: u8 = 1;
    /// Delivered to this machine.
    pub const LOCAL: u8 = 2;
    /// Delivered to this machine, and sent as broadcast.
    pub const BROADCAST: u8 = 3;
    /// Delivered as broadcast, and sent as unicast.
    pub const ANYCAST: u8 = 4;
    /// Multicast.
    pub const MULTICAST: u8 = 5;
    /// Dropped silently.
    pub const BLACKHOLE: u8 = 6;
    /// Dropped, and answered with "host unreachable".
    pub const UNREACHABLE: u8 = 7;
    /// Dropped, and answered with "administratively prohibited".
    pub const PROHIBIT: u8 = 8;
    /// The lookup in this table ends.
    pub const THROW: u8 = 9;
}

/// Who added a route (`RTPROT_*`): values of [`Route::protocol`](super::Route::protocol). Routing daemons have their
/// own numbers, which [`protocol_name`](super::protocol_name) knows.
pub mod protocol {
    /// Unknown.
    pub const UNSPEC: u8 = 0;
    /// An ICMP redirect.
    pub const REDIRECT: u8 = 1;
    /// The kernel.
    pub const KERNEL: u8 = 2;
    /// A program that ran at boot. ip(8) uses this by default.
    pub const BOOT: u8 = 3;
    /// The administrator.
    pub const STATIC: u8 = 4;
}

/// Numbers of the metrics (`RTAX_*`): values of [`Metric::number`](super::Metric::number).
pub mod metric {
    /// A mask of the locked metrics with the bit `1 << number` for each. It is not a metric itself.
    pub const LOCK: u16 = 1;
    /// Path MTU, bytes.
    pub const MTU: u16 = 2;
    /// Largest TCP window, bytes.
    pub const WINDOW: u16 = 3;
    /// Round-trip time, 1/8 ms.
    pub const RTT: u16 = 4;
    /// Variance of the round-trip time, 1/4 ms.
    pub const RTTVAR: u16 = 5;
    /// Slow-start threshold, segments.
    pub const SSTHRESH: u16 = 6;
    /// Largest congestion window, segments.
    pub const CWND: u16 = 7;
    /// TCP segment size to advertise, bytes.
    pub const ADVMSS: u16 = 8;
    /// Reordering to expect, segments.
    pub const REORDERING: u16 = 9;
    /// Hop limit. `u32::MAX` is the system's default.
    pub const HOPLIMIT: u16 = 10;
    /// Initial congestion window, segments.
    pub const INITCWND: u16 = 11;
    /// Bits of TCP features. 1 is ECN.
    pub const FEATURES: u16 = 12;
    /// Smallest retransmission timeout, ms.
    pub const RTO_MIN: u16 = 13;
    /// Initial receive window, segments.
    pub const INITRWND: u16 = 14;
    /// 1 for quick acknowledgements.
    pub const QUICKACK: u16 = 15;
    /// The name of the congestion control algorithm.
    pub const CC_ALGO: u16 = 16;
    /// 1 for TCP fast open without a cookie.
    pub const FASTOPEN_NO_COOKIE: u16 = 17;
}

/// Encapsulations that a route can request (`enum lwtunnel_encap_types`, include/uapi/linux/lwtunnel.h).
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

/// Size of `struct rtmsg`.
pub(super) const ROUTE_FIXED_BYTES: usize = 12;
/// Size of `struct rtnexthop`.
pub(super) const NEXTHOP_FIXED_BYTES: usize = 8;
/// Size of `struct ifinfomsg`.
pub(super) const LINK_FIXED_BYTES: usize = 16;
/// Size of `struct ifaddrmsg` (`include/uapi/linux/if_addr.h`).
pub(super) const ADDRESS_FIXED_BYTES: usize = 8;

/// Size of `struct ndmsg` (`include/uapi/linux/neighbour.h`).
pub(super) const NEIGHBOUR_FIXED_BYTES: usize = 12;
/// Size of `struct fib_rule_hdr` (`include/uapi/linux/fib_rules.h`).
pub(super) const RULE_FIXED_BYTES: usize = 12;
/// Size of `struct nhmsg` (`include/uapi/linux/nexthop.h`).
pub(super) const NEXTHOP_OBJECT_FIXED_BYTES: usize = 8;
/// Size of `struct netconfmsg` (`include/uapi/linux/netconf.h`). Its attributes begin at the next multiple of 4.
pub(super) const NETCONF_FIXED_BYTES: usize = 1;

/// `RT_TABLE_COMPAT`: the table in `struct rtmsg`, if the table's number does not fit there.
pub(super) const TABLE_COMPAT: u8 = 252;

/// `IFLA_*` (`include/uapi/linux/if_link.h`).
pub(super) mod ifla {
    pub const ADDRESS: u16 = 1;
    pub const BROADCAST: u16 = 2;
    pub const IFNAME: u16 = 3;
    pub const MTU: u16 = 4;
    pub const LINK: u16 = 5;
    pub const QDISC: u16 = 6;
    pub const MASTER: u16 = 10;
    pub const TXQLEN: u16 = 13;
    pub const OPERSTATE: u16 = 16;
    pub const LINKINFO: u16 = 18;
    pub const IFALIAS: u16 = 20;
    pub const GROUP: u16 = 27;
    pub const EXT_MASK: u16 = 29;
    pub const PROMISCUITY: u16 = 30;
    pub const CARRIER: u16 = 33;
    pub const LINK_NETNSID: u16 = 37;
    pub const PROTO_DOWN: u16 = 39;
    pub const XDP: u16 = 43;
    pub const EVENT: u16 = 44;
    pub const NEW_NETNSID: u16 = 45;
    pub const NEW_IFINDEX: u16 = 49;
    pub const MIN_MTU: u16 = 50;
    pub const MAX_MTU: u16 = 51;
    pub const PROP_LIST: u16 = 52;
    pub const ALT_IFNAME: u16 = 53;
    pub const PERM_ADDRESS: u16 = 54;
    pub const PROTO_DOWN_REASON: u16 = 55;
    /// In `LINKINFO`.
    pub const INFO_KIND: u16 = 1;
    /// In `LINKINFO`.
    pub const INFO_SLAVE_KIND: u16 = 4;
    /// In `PROTO_DOWN_REASON`.
    pub const PROTO_DOWN_REASON_VALUE: u16 = 2;
    /// In `XDP`.
    pub const XDP_ATTACHED: u16 = 2;
    /// In `XDP`.
    pub const XDP_PROG_ID: u16 = 4;
    /// `RTEXT_FILTER_SKIP_STATS`, a bit of `EXT_MASK`.
    pub const EXT_SKIP_STATS: u32 = 1 << 3;
}

/// `IFA_*` (`include/uapi/linux/if_addr.h`).
pub(super) mod ifa {
    pub const ADDRESS: u16 = 1;
    pub const LOCAL: u16 = 2;
    pub const LABEL: u16 = 3;
    pub const BROADCAST: u16 = 4;
    pub const ANYCAST: u16 = 5;
    pub const CACHEINFO: u16 = 6;
    pub const FLAGS: u16 = 8;
    pub const RT_PRIORITY: u16 = 9;
    pub const PROTO: u16 = 11;
}

/// `NDA_*` (`include/uapi/linux/neighbour.h`).
pub(super) mod nda {
    pub const DST: u16 = 1;
    pub const LLADDR: u16 = 2;
    pub const CACHEINFO: u16 = 3;
    pub const PROBES: u16 = 4;
    pub const VLAN: u16 = 5;
    pub const PORT: u16 = 6;
    pub const VNI: u16 = 7;
    pub const IFINDEX: u16 = 8;
    pub const MASTER: u16 = 9;
    pub const PROTOCOL: u16 = 12;
    pub const NH_ID: u16 = 13;
    pub const FLAGS_EXT: u16 = 15;
}

/// `FRA_*` (`include/uapi/linux/fib_rules.h`).
pub(super) mod fra {
    pub const DST: u16 = 1;
    pub const SRC: u16 = 2;
    pub const IIFNAME: u16 = 3;
    pub const GOTO: u16 = 4;
    pub const PRIORITY: u16 = 6;
    pub const FWMARK: u16 = 10;
    pub const FLOW: u16 = 11;
    pub const TUN_ID: u16 = 12;
    pub const SUPPRESS_IFGROUP: u16 = 13;
    pub const SUPPRESS_PREFIXLEN: u16 = 14;
    pub const TABLE: u16 = 15;
    pub const FWMASK: u16 = 16;
    pub const OIFNAME: u16 = 17;
    pub const L3MDEV: u16 = 19;
    pub const UID_RANGE: u16 = 20;
    pub const PROTOCOL: u16 = 21;
    pub const IP_PROTO: u16 = 22;
    pub const SPORT_RANGE: u16 = 23;
    pub const DPORT_RANGE: u16 = 24;
}

/// `NHA_*` (`include/uapi/linux/nexthop.h`).
pub(super) mod nha {
    pub const ID: u16 = 1;
    pub const GROUP: u16 = 2;
    pub const GROUP_TYPE: u16 = 3;
    pub const BLACKHOLE: u16 = 4;
    pub const OIF: u16 = 5;
    pub const GATEWAY: u16 = 6;
    pub const ENCAP_TYPE: u16 = 7;
    pub const ENCAP: u16 = 8;
    pub const FDB: u16 = 11;
    pub const RES_GROUP: u16 = 12;
    pub const RES_BUCKET: u16 = 13;
}

/// `NETCONFA_*` (`include/uapi/linux/netconf.h`).
pub(super) mod netconfa {
    pub const IFINDEX: u16 = 1;
    pub const FORWARDING: u16 = 2;
    pub const RP_FILTER: u16 = 3;
    pub const MC_FORWARDING: u16 = 4;
    pub const PROXY_NEIGH: u16 = 5;
    pub const IGNORE_ROUTES_WITH_LINKDOWN: u16 = 6;
    pub const INPUT: u16 = 7;
    pub const BC_FORWARDING: u16 = 8;
}
