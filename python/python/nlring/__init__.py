"""Linux netlink for Python: pymnl's API on nlring's sockets, and events without silent losses.

`nlsocket` has sockets, `message` messages, `attributes` the values inside them, and `genl` generic netlink, with the
names of pymnl 0.6. `NETLINK_*` are the protocols that a socket can be opened on.

`Receiver` receives events in batches: of `Flow`, of `Route`, as `Columns`, or as messages.
"""

from nlring._nlring import (
    Columns as Columns,
    Flow as Flow,
    Flows as Flows,
    Gap as Gap,
    Messages as Messages,
    Receiver as Receiver,
    Route as Route,
    Routes as Routes,
    Statistics as Statistics,
    Tuple as Tuple,
)
from nlring.constants import (
    MAX_LINKS as MAX_LINKS,
    NET_MAJOR as NET_MAJOR,
    NETLINK_AUDIT as NETLINK_AUDIT,
    NETLINK_CONNECTOR as NETLINK_CONNECTOR,
    NETLINK_CRYPTO as NETLINK_CRYPTO,
    NETLINK_DNRTMSG as NETLINK_DNRTMSG,
    NETLINK_ECRYPTFS as NETLINK_ECRYPTFS,
    NETLINK_FIB_LOOKUP as NETLINK_FIB_LOOKUP,
    NETLINK_FIREWALL as NETLINK_FIREWALL,
    NETLINK_GENERIC as NETLINK_GENERIC,
    NETLINK_INET_DIAG as NETLINK_INET_DIAG,
    NETLINK_IP6_FW as NETLINK_IP6_FW,
    NETLINK_ISCSI as NETLINK_ISCSI,
    NETLINK_KOBJECT_UEVENT as NETLINK_KOBJECT_UEVENT,
    NETLINK_NETFILTER as NETLINK_NETFILTER,
    NETLINK_NFLOG as NETLINK_NFLOG,
    NETLINK_RDMA as NETLINK_RDMA,
    NETLINK_ROUTE as NETLINK_ROUTE,
    NETLINK_SCSITRANSPORT as NETLINK_SCSITRANSPORT,
    NETLINK_SELINUX as NETLINK_SELINUX,
    NETLINK_UNUSED as NETLINK_UNUSED,
    NETLINK_USERSOCK as NETLINK_USERSOCK,
    NETLINK_XFRM as NETLINK_XFRM,
    PYMNL_ALIGN as PYMNL_ALIGN,
)
