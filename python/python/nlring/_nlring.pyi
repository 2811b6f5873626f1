"""The native part of nlring. Use the names of the package `nlring` instead."""

from typing import final, overload

from typing_extensions import Self

__all__ = ["Socket", "buffer_size", "split_attributes", "split_messages"]

def buffer_size() -> int:
    """The size in bytes of a buffer that holds any answer except a dump: the smaller of 8 KiB and the page size."""

def split_messages(datagram: bytes) -> tuple[list[tuple[int, int, int, int, bytes]], str | None]:
    """Splits a datagram into its messages: a list of (type, flags, sequence number, port ID, payload without padding).
    The second value is None, or says where the datagram stops being a sequence of messages, and why."""

def split_attributes(data: bytes, offset: int = 0) -> list[tuple[int, bytes]]:
    """Splits bytes into attributes, from an offset on: a list of (type with its flags, value without padding). Up to 3
    bytes after the last attribute are padding.

    Raises ValueError if the length of an attribute cannot be right."""

@final
class Socket:
    """A netlink socket. Closing it ends the calls of `recv` that wait in other threads.

    This is what `nlring.nlsocket.Socket` is built on."""

    def __new__(cls, protocol: int) -> Self: ...
    def bind(self, port_id: int, groups_mask: int) -> None:
        """Binds the socket to a port ID (0: the kernel chooses one) and joins the groups of a mask."""

    def port_id(self) -> int:
        """The port ID, which is 0 until the socket is bound."""

    def groups_mask(self) -> int:
        """The groups 1 to 32 that the socket is in: bit 0 is group 1."""

    def send(self, datagram: bytes) -> int:
        """Sends a datagram to the kernel, and returns its size in bytes."""

    def recv(self, bufsize: int, flags: int = 0, timeout: float | None = None) -> bytes:
        """Receives one datagram. Waits for it at most `timeout` seconds (None: without a limit), and not at all if
        `timeout` is 0 or `flags` has MSG_DONTWAIT. A signal is handled while the call waits."""

    def set_option(self, name: int, value: int | bytes) -> None:
        """Sets one of netlink's options to a number or to bytes."""

    @overload
    def option(self, name: int) -> int: ...
    @overload
    def option(self, name: int, buflen: int = 0) -> int | bytes:
        """The value of one of netlink's options: a number, or up to `buflen` bytes if that is not 0."""

    def fileno(self) -> int:
        """The number of the descriptor, or -1 if the socket is closed."""

    def duplicate(self) -> int:
        """A duplicate of the descriptor, which the caller must close."""

    def close(self) -> None:
        """Closes the socket. A call that waits in another thread ends with an OSError (EBADF). A second close does
        nothing."""
