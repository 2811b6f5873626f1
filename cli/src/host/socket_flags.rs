//! Which netlink sockets are reliable (`NETLINK_BROADCAST_ERROR`). The kernel's drop counter of a reliable socket
//! counts failed deliveries, which may have succeeded later, instead of losses. sock_diag(7) says which sockets are
//! reliable; /proc/net/netlink does not.

use std::collections::HashMap;

use nlring::{Message, Protocol, Requester};

/// Whether each socket is reliable, by its inode. Empty if the kernel does not answer (`CONFIG_NETLINK_DIAG`, Linux
/// 4.6).
pub fn reliable_by_inode() -> HashMap<u64, bool> {
    let dump = || {
        let mut requester = Requester::open(Protocol::SOCK_DIAG)?;
        // struct netlink_diag_req: family, protocol, padding; inode; what to show; cookie
        let mut request = [0; 20];
        request[0] = kernel::AF_NETLINK;
        request[1] = kernel::NDIAG_PROTO_ALL;
        request[8..12].copy_from_slice(&kernel::NDIAG_SHOW_FLAGS.to_ne_bytes());
        requester.dump(
            kernel::SOCK_DIAG_BY_FAMILY,
            |message| message.bytes(&request),
            |sockets: &mut HashMap<u64, bool>, message| sockets.extend(decode(message)),
        )
    };
    dump().map_or_else(|_| HashMap::new(), |dump| dump.items)
}

/// A socket's inode, and whether it is reliable.
fn decode(message: &Message<'_>) -> Option<(u64, bool)> {
    let inode = message.payload().get(kernel::INODE)?;
    let inode = u32::from_ne_bytes(inode.try_into().ok()?);
    let attributes = message.attributes(kernel::DIAG_BYTES);
    let flags = attributes.get(kernel::NETLINK_DIAG_FLAGS)?.as_u32()?;
    let is_reliable = flags & kernel::NDIAG_FLAG_BROADCAST_ERROR != 0;
    Some((inode.into(), is_reliable))
}

/// Numbers from include/uapi/linux: `sock_diag.h`, `netlink_diag.h`; include/linux/socket.h.
mod kernel {
    use std::ops::Range;

    pub const AF_NETLINK: u8 = 16;
    pub const SOCK_DIAG_BY_FAMILY: u16 = 20;
    pub const NDIAG_PROTO_ALL: u8 = 255;
    pub const NDIAG_SHOW_FLAGS: u32 = 8;
    pub const NDIAG_FLAG_BROADCAST_ERROR: u32 = 4;
    pub const NETLINK_DIAG_FLAGS: u16 = 4;
    /// `struct netlink_diag_msg`, and its field `ndiag_ino`.
    pub const DIAG_BYTES: usize = 28;
    pub const INODE: Range<usize> = 16..20;
}
