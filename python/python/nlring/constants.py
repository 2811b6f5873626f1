"""Netlink's protocols by number, and the rounding of lengths. The package `nlring` has these names too."""

from __future__ import annotations

from typing import Callable

NETLINK_ROUTE = 0
"""Links, addresses, routes and neighbours: rtnetlink(7)."""
NETLINK_UNUSED = 1
"""No protocol."""
NETLINK_USERSOCK = 2
"""For user space: any process can send to a group."""
NETLINK_FIREWALL = 3
"""Packets of ip_queue. Linux 3.5 removed it."""
NETLINK_INET_DIAG = 4
"""Sockets: sock_diag(7)."""
NETLINK_NFLOG = 5
"""Packets of ULOG. Linux 3.17 removed it."""
NETLINK_XFRM = 6
"""IPsec: states and policies."""
NETLINK_SELINUX = 7
"""Events of SELinux."""
NETLINK_ISCSI = 8
"""Open-iSCSI."""
NETLINK_AUDIT = 9
"""Auditing."""
NETLINK_FIB_LOOKUP = 10
"""Lookups in the kernel's routing table."""
NETLINK_CONNECTOR = 11
"""Process events, and other users of the kernel's connector."""
NETLINK_NETFILTER = 12
"""Netfilter: connection tracking, nftables, logging, queues."""
NETLINK_IP6_FW = 13
"""Packets of ip6_queue. Linux 3.5 removed it."""
NETLINK_DNRTMSG = 14
"""Routes of DECnet. Linux 6.1 removed it."""
NETLINK_KOBJECT_UEVENT = 15
"""Device events. Their datagrams hold text instead of messages."""
NETLINK_GENERIC = 16
"""Generic netlink, see `nlring.genl`."""
NETLINK_SCSITRANSPORT = 18
"""Events of SCSI transports."""
NETLINK_ECRYPTFS = 19
"""eCryptfs. Linux 2.6.39 stopped using it."""
NETLINK_RDMA = 20
"""Remote direct memory access."""
NETLINK_CRYPTO = 21
"""Algorithms of the crypto layer."""

MAX_LINKS = 32
"""How many protocols the kernel can have."""

NET_MAJOR = 36
"""The major number that the kernel reserves for networking."""


def PYMNL_ALIGN(align_size: int) -> Callable[[int], int]:
    """Returns a function that rounds a length up to a multiple of `align_size`, which is a power of 2.

    >>> PYMNL_ALIGN(4)(17)
    20
    """

    def align(len: int) -> int:
        return (len + align_size - 1) & ~(align_size - 1)

    return align
