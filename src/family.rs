//! Address families: `AF_*` (include/linux/socket.h), as far as routes and flows have them.

/// `AF_UNSPEC`: in a [`Link`](crate::route::Link), the device itself.
pub const UNSPEC: u8 = 0;
/// `AF_INET`.
pub const INET: u8 = 2;
/// `AF_BRIDGE`: in a [`Link`](crate::route::Link), the device as a bridge's port.
pub const BRIDGE: u8 = 7;
/// `AF_INET6`.
pub const INET6: u8 = 10;
/// `AF_PACKET`: a link-layer address.
pub const PACKET: u8 = 17;
/// `AF_MPLS`.
pub const MPLS: u8 = 28;
/// `RTNL_FAMILY_IPMR`: an IPv4 multicast route (include/uapi/linux/rtnetlink.h).
pub const IPMR: u8 = 128;
/// `RTNL_FAMILY_IP6MR`: an IPv6 multicast route (include/uapi/linux/rtnetlink.h).
pub const IP6MR: u8 = 129;
