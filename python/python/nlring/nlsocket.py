"""Netlink sockets: `Socket` sends messages to the kernel and receives its messages.

`SOCKET_AUTOPID` as a port ID lets the kernel choose one. `SOCKET_BUFFER_SIZE` is the size in bytes of a buffer that
holds any answer except a dump: the smaller of 8 KiB and the page size. `SOL_NETLINK` is the level of netlink's options,
whose names are `NETLINK_ADD_MEMBERSHIP` and the ones after it.
"""

from __future__ import annotations

import socket
from types import TracebackType

from nlring import _nlring
from nlring._binary import BytesLike, HasBinary, binary, from_bytes_like
from nlring.message import MessageList

NETLINK_ADD_MEMBERSHIP = 1
NETLINK_DROP_MEMBERSHIP = 2
NETLINK_PKTINFO = 3
NETLINK_BROADCAST_ERROR = 4
NETLINK_NO_ENOBUFS = 5

SOL_NETLINK = 270

SOCKET_AUTOPID = 0

SOCKET_BUFFER_SIZE = _nlring.buffer_size()


class Socket:
    """A netlink socket.

    >>> import nlring
    >>> from nlring.message import Message, NLM_F_REQUEST, NLM_F_DUMP
    >>> with Socket(nlring.NETLINK_ROUTE) as sock:
    ...     sock.bind()
    ...     request = Message()
    ...     request.set_type(18)  # RTM_GETLINK
    ...     request.set_flags(NLM_F_REQUEST | NLM_F_DUMP)
    ...     request.add_payload(bytes(16))  # struct ifinfomsg: all links
    ...     sock.send(request)
    ...     sock.recv()[0].get_type()  # RTM_NEWLINK
    32
    16

    Threads may share a socket, and the interpreter's lock is released while a call waits. `close()` ends a `recv()`
    that waits in another thread with an `OSError` (`EBADF`). After `os.fork()` both processes have the socket, its port
    ID and its receive queue in common, and each datagram goes to one of them.

    Failures are `OSError` with an errno and a text that names the operation and the remedy.
    """

    def __init__(self, bus: int) -> None:
        """Opens a socket of a protocol, one of `nlring.NETLINK_*`.

        Raises OSError (`EPROTONOSUPPORT`) if the kernel does not have the protocol.
        """
        self._bus: int | None = bus
        self._socket = _nlring.Socket(bus)
        self._shared: socket.socket | None = None

    def __enter__(self) -> Socket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._bus is None else f"bus={self._bus}, fd={self.fileno()}"
        return f"<nlring.nlsocket.Socket {state}>"

    def fileno(self) -> int:
        """The number of the descriptor, for `select` and others. -1 if the socket is closed."""
        return self._socket.fileno()

    def get_sock(self) -> socket.socket:
        """The same socket as an object of Python's `socket` module, for options that are not netlink's and for
        `settimeout()`, which `recv()` obeys.

        It is made of a duplicate of the descriptor at the first call, and `close()` closes it too.
        """
        if self._shared is None:
            self._shared = socket.socket(fileno=self._socket.duplicate())
        return self._shared

    def get_portid(self) -> int:
        """The port ID, the netlink address of the socket. 0 until the socket is bound.

        The first socket of a process often has the process ID as its port ID, but no two sockets of a protocol have the
        same.
        """
        return self._socket.port_id()

    def get_groups(self) -> int:
        """The groups 1 to 32 that the socket is in, as a mask: bit 0 is group 1."""
        return self._socket.groups_mask()

    def bind(self, pid: int = SOCKET_AUTOPID, groups: int = 0) -> None:
        """Gives the socket a port ID, and joins multicast groups.

        pid: the port ID. `SOCKET_AUTOPID` (0) lets the kernel choose one.
        groups: a mask of the groups 1 to 32: bit 0 is group 1. `NETLINK_ADD_MEMBERSHIP` joins others.

        Raises OSError if another socket has the port ID (`EADDRINUSE`), or if a group needs a capability
        (`PermissionError`). Raises OverflowError unless both are from 0 to 4294967295.
        """
        self._socket.bind(pid, groups)

    def send(self, nl_message: HasBinary | BytesLike) -> int:
        """Sends a message to the kernel, and returns its size in bytes, with padding.

        nl_message: a `Message`, another object with `get_binary()`, or bytes.

        The kernel's answer is a message to receive. It is no error of this call.
        """
        return self._socket.send(binary(nl_message))

    def recv(self, bufsize: int = SOCKET_BUFFER_SIZE, flags: int = 0) -> MessageList:
        """Receives a datagram, and returns its messages. Waits until there is one.

        bufsize: how many bytes the datagram may have. `SOCKET_BUFFER_SIZE` is enough for answers. Datagrams of a dump
            are larger once a larger buffer was used. More than 16 MiB is taken as 16 MiB.
        flags: `socket.MSG_DONTWAIT` and `socket.MSG_PEEK`.

        Raises OSError if the datagram is larger than `bufsize` (`EMSGSIZE`; it is gone, unless the call only peeked),
        or if the kernel has dropped datagrams before this call (`ENOBUFS`; the next call receives again). Raises
        BlockingIOError if nothing is there and the call must not wait, and TimeoutError after the time-out of
        `get_sock().settimeout()`.
        """
        if self._shared is None:
            return MessageList(self._socket.recv(bufsize, flags))
        return MessageList(self._socket.recv(bufsize, flags, self._shared.gettimeout()))

    def close(self) -> None:
        """Closes the socket. Another call of `recv()` that waits ends with an OSError (`EBADF`). A second close does
        nothing."""
        self._socket.close()
        self._bus = None
        if self._shared is not None:
            self._shared.close()

    def setsockopt(self, optname: int, value: int | BytesLike) -> None:
        """Sets one of netlink's options, such as `NETLINK_NO_ENOBUFS`.

        optname: the option.
        value: an integer, which becomes 4 bytes, or bytes. For `NETLINK_ADD_MEMBERSHIP` and `NETLINK_DROP_MEMBERSHIP`
            it is the number of a group, from 1.
        """
        self._socket.set_option(optname, value if isinstance(value, int) else from_bytes_like(value))

    def getsockopt(self, optname: int, buflen: int = 0) -> int | bytes:
        """The value of one of netlink's options.

        optname: the option.
        buflen: 0 for an integer; otherwise how many bytes the value may have, up to 1024, and the value is bytes.
        """
        return self._socket.option(optname, buflen)
