"""Messages: `Message` is a header with a `Payload`, `MessageList` is what one receive has brought.

`NLM_F_*` are the flags of a message. Those from `NLM_F_ROOT` on mean one thing in a request that gets something
(`ROOT`, `MATCH`, `ATOMIC`, `DUMP`) and another thing in one that makes something (`REPLACE`, `EXCL`, `CREATE`,
`APPEND`). The types below `NLMSG_MIN_TYPE` belong to netlink itself: `NLMSG_NOOP`, `NLMSG_ERROR` (also an
acknowledgement), `NLMSG_DONE` (the end of a dump) and `NLMSG_OVERRUN`. `NLMSG_ALIGN(x)` rounds a length up to
`NLMSG_ALIGNTO`. `MSG_HDRLEN` is the size of a header in bytes.
"""

from __future__ import annotations

import errno
import os
from struct import calcsize, pack, unpack

from nlring import _nlring
from nlring._binary import BytesLike, HasBinary, binary, from_bytes_like, is_unsigned
from nlring._print import payload_lines
from nlring.attributes import Attr
from nlring.constants import PYMNL_ALIGN

NLM_F_REQUEST = 1
NLM_F_MULTI = 2
NLM_F_ACK = 4
NLM_F_ECHO = 8

NLM_F_ROOT = 0x100
NLM_F_MATCH = 0x200
NLM_F_ATOMIC = 0x400
NLM_F_DUMP = NLM_F_ROOT | NLM_F_MATCH

NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLMSG_ALIGNTO = 4
NLMSG_ALIGN = PYMNL_ALIGN(NLMSG_ALIGNTO)

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSG_OVERRUN = 4

NLMSG_MIN_TYPE = 16

header_format = "IHHII"
"""The header of a message for `struct.pack`: length, type, flags, sequence number, port ID."""

MSG_HDRLEN = NLMSG_ALIGN(calcsize(header_format))


class Message:
    """A message: a type, flags, a sequence number, a port ID, and a payload.

    The payload of most protocols begins with an extra header of the protocol, and attributes follow it:

    >>> message = Message()
    >>> message.set_type(18)  # RTM_GETLINK
    >>> message.set_flags(NLM_F_REQUEST | NLM_F_DUMP)
    >>> message.add_payload(bytes(16))  # struct ifinfomsg: all links
    >>> len(message)
    32
    """

    _msg_length = 0
    _is_whole = True

    def __init__(self, buffer: BytesLike | None = None) -> None:
        """Makes a message of zeroes without a payload, or reads one from `buffer`.

        buffer: a message with its header. Bytes after its end are ignored. If the length in the header cannot be right,
            everything after the header is the payload, and `ok()` is False.

        Raises ValueError if `buffer` is shorter than a header.
        """
        self._msg_type = 0
        self._msg_flags = 0
        self._msg_seq = 0
        self._pid = 0
        self._payload: Payload | None = None
        if buffer is not None and len(buffer):
            self._read(from_bytes_like(buffer))

    def _read(self, data: bytes) -> None:
        if len(data) < MSG_HDRLEN:
            raise ValueError(f"a message has {MSG_HDRLEN} bytes or more, not {len(data)}")
        header = unpack(header_format, data[:MSG_HDRLEN])
        self._msg_length, self._msg_type, self._msg_flags, self._msg_seq, self._pid = header
        self._is_whole = MSG_HDRLEN <= self._msg_length <= len(data)
        end = self._msg_length if self._is_whole else len(data)
        self._payload = Payload(data[MSG_HDRLEN:end])

    def __len__(self) -> int:
        """The size in bytes: header and payload, without padding."""
        return MSG_HDRLEN + (0 if self._payload is None else len(self._payload))

    def __repr__(self) -> str:
        payload_bytes = len(self) - MSG_HDRLEN
        return (
            f"Message(type={self._msg_type}, flags={self._msg_flags:#x}, seq={self._msg_seq}, "
            f"portid={self._pid}, payload of {payload_bytes} bytes)"
        )

    def put_extra_header(self, header: HasBinary) -> None:
        """Appends the extra header of a protocol to the payload. Call it before attributes are added.

        header: an object with `get_binary()`, such as a `GenlMessageHeader`, or bytes.
        """
        self.add_payload(binary(header))

    def set_type(self, msg_type: int) -> None:
        """Sets the type. Raises ValueError unless it is from 0 to 65535."""
        self._msg_type = _unsigned("type", msg_type, 16)

    def get_type(self) -> int:
        """The type, from 0 to 65535."""
        return self._msg_type

    def set_flags(self, flags: int) -> None:
        """Sets the flags, `NLM_F_*`. Raises ValueError unless they are from 0 to 65535."""
        self._msg_flags = _unsigned("flags", flags, 16)

    def get_flags(self) -> int:
        """The flags, from 0 to 65535."""
        return self._msg_flags

    def set_seq(self, seq: int) -> None:
        """Sets the sequence number. Raises ValueError unless it is from 0 to 4294967295."""
        self._msg_seq = _unsigned("sequence number", seq, 32)

    def get_seq(self) -> int:
        """The sequence number, from 0 to 4294967295."""
        return self._msg_seq

    def set_portid(self, pid: int) -> None:
        """Sets the port ID. Raises ValueError unless it is from 0 to 4294967295."""
        self._pid = _unsigned("port ID", pid, 32)

    def get_portid(self) -> int:
        """The port ID, from 0 to 4294967295."""
        return self._pid

    def add_payload(self, data: Payload | BytesLike | HasBinary) -> None:
        """Sets the payload, or appends to it if it is not empty. An appended part begins at a multiple of 4 bytes.

        data: a `Payload`, which stays the same object if it is the first one; bytes; or an object with `get_binary()`.
        """
        payload = data if isinstance(data, Payload) else Payload(data)
        if self._payload is not None and len(self._payload):
            payload = Payload(self._payload.get_binary() + payload.get_data())
        self._payload = payload

    def get_payload(self) -> Payload | None:
        """The payload. None if the message has none yet."""
        return self._payload

    def ok(self) -> bool:
        """Whether the length in the header of a message that was read is right: not below the header's own 16 bytes,
        and not more than there were. A message that was built is always right."""
        return self._is_whole

    def seq_ok(self, seq: int) -> bool:
        """Whether the message belongs to a request with this sequence number. If one of the numbers is 0, which events
        have, the answer is True."""
        return not (self._msg_seq and seq) or self._msg_seq == seq

    def portid_ok(self, portid: int) -> bool:
        """Whether the message is for a socket with this port ID. If one of the IDs is 0, which events have, the answer
        is True."""
        return not (self._pid and portid) or self._pid == portid

    def printf_header(self) -> None:
        """Prints the header, to look at it while debugging: length, type, flags, sequence number, port ID. Of the flags
        it shows R (request), M (multipart), A (acknowledge) and E (echo)."""
        flags = "".join(
            letter if self._msg_flags & flag else "-"
            for letter, flag in zip("RMAE", (NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_ECHO))
        )
        print("----------------\t------------------")
        print(f"|  {len(self):010}  |\t| message length |")
        print(f"| {self._msg_type:05} | {flags} |\t|  type | flags  |")
        print(f"|  {self._msg_seq:010}  |\t| sequence number|")
        print(f"|  {self._pid:010}  |\t|     port ID    |")
        print("----------------\t------------------")

    def printf(self, extra_header_size: int = 0) -> None:
        """Prints the header and the payload, to look at them while debugging.

        extra_header_size: how many bytes of the payload are an extra header.
        """
        self.printf_header()
        payload = Payload() if self._payload is None else self._payload
        payload.printf(self._msg_type, extra_header_size)

    def get_binary(self) -> bytes:
        """The message as it is sent: header, payload, and zeroes up to a multiple of 4 bytes.

        Raises UnboundLocalError if the message has no payload. An empty one is enough.
        """
        if self._payload is None:
            raise UnboundLocalError("the message has no payload: add one, which may be empty")
        self._msg_length = len(self)
        header = pack(
            header_format, len(self), self._msg_type, self._msg_flags, self._msg_seq, self._pid
        )
        return header + self._payload.get_binary()

    def get_errno(self) -> int:
        """The error number of an `NLMSG_ERROR`, or of an `NLMSG_DONE` that ends a failed dump, as a positive number.
        0 if the message reports no error. `errno.EBADMSG` if an `NLMSG_ERROR` is too short for a number."""
        data = b"" if self._payload is None else self._payload.get_data()
        if self._msg_type not in (NLMSG_ERROR, NLMSG_DONE):
            return 0
        if len(data) < 4:
            return errno.EBADMSG if self._msg_type == NLMSG_ERROR else 0
        number: int = unpack("i", data[:4])[0]
        return abs(number) if self._msg_type == NLMSG_ERROR else max(-number, 0)

    def get_errstr(self) -> str:
        """The text of the system for `get_errno()`, which is "Success" for 0."""
        number = self.get_errno()
        return os.strerror(number) if is_unsigned(number, 31) else f"Unknown error {number}"


class Payload:
    """What follows the header of a message: an extra header, attributes, or any other bytes."""

    def __init__(self, contents: BytesLike | HasBinary | None = None) -> None:
        """Makes a payload of bytes or of an object with `get_binary()`. None is no bytes."""
        self._contents = b""
        if contents is not None:
            self.set(contents)

    def __len__(self) -> int:
        """The size in bytes, without padding."""
        return len(self._contents)

    def __repr__(self) -> str:
        return f"Payload({self._contents!r})"

    def set(self, contents: BytesLike | HasBinary) -> None:
        """Sets the bytes, to `contents` or to what its `get_binary()` returns. Raises TypeError if it is neither."""
        self._contents = binary(contents)

    def printf(self, msg_type: int, extra_header_size: int) -> None:
        """Prints the bytes in lines of 4, to look at them while debugging. It shows the headers of attributes in
        colour, and the letters and digits of their values.

        msg_type: the type of the message. The payload of netlink's own messages is printed as bytes only.
        extra_header_size: how many bytes are an extra header.
        """
        is_control = msg_type < NLMSG_MIN_TYPE
        for line in payload_lines(self.get_binary(), is_control, extra_header_size):
            print(line)

    def add_attr(self, attribute: Attr) -> None:
        """Appends an attribute, at a multiple of 4 bytes."""
        self._contents = self.get_binary() + binary(attribute)

    def get_binary(self) -> bytes:
        """The bytes, with zeroes up to a multiple of 4 bytes."""
        return self._contents + bytes(NLMSG_ALIGN(len(self)) - len(self))

    def get_data(self) -> bytes:
        """The bytes, without padding."""
        return self._contents


class MessageList(list["Message"]):
    """The messages of a datagram, in order.

    >>> one = Message()
    >>> one.add_payload(b"abcd")
    >>> messages = MessageList(one.get_binary() + one.get_binary())
    >>> len(messages), messages.size(), messages.malformed
    (2, 40, None)
    """

    malformed: str | None = None
    """Where the bytes stop being a sequence of messages, and why. None: nowhere. The messages before that are in the
    list."""

    def __init__(self, msg: Message | BytesLike) -> None:
        """Makes a list of one message, or of the messages in bytes. Raises TypeError for anything else."""
        super().__init__()
        if isinstance(msg, Message):
            self.append(msg)
        else:
            self.split(msg)

    def size(self) -> int:
        """The size of all messages in bytes, without padding between them."""
        return sum(len(message) for message in self)

    def split(self, msg: BytesLike) -> None:
        """Appends the messages in `msg`. A length that cannot be right ends them, and `malformed` says so."""
        parts, self.malformed = _nlring.split_messages(from_bytes_like(msg))
        for type, flags, seq, portid, payload in parts:
            message = Message()
            message._msg_length = MSG_HDRLEN + len(payload)
            message._msg_type = type
            message._msg_flags = flags
            message._msg_seq = seq
            message._pid = portid
            message._payload = Payload(payload)
            self.append(message)


def _unsigned(name: str, number: int, bits: int) -> int:
    if not is_unsigned(number, bits):
        raise ValueError(f"the {name} of a message is from 0 to {(1 << bits) - 1}, not {number}")
    return number
