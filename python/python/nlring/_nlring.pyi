"""The native part of nlring. Use the names of the package `nlring` instead."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Literal, final, overload

from typing_extensions import Self

__all__ = [
    "Columns",
    "Flow",
    "Flows",
    "Gap",
    "Messages",
    "Receiver",
    "Route",
    "Routes",
    "Socket",
    "Statistics",
    "Tuple",
    "buffer_size",
    "split_attributes",
    "split_messages",
]

def buffer_size() -> int:
    """The size in bytes of a buffer that holds any answer except a dump: the smaller of 8 KiB and the page size."""

def split_messages(datagram: bytes) -> tuple[list[tuple[int, int, int, int, bytes]], str | None]:
    """Splits a datagram into its messages: a list of (type, flags, sequence number, port ID, payload without padding).
    The second value is None, or says where the datagram stops being a sequence of messages, and why."""

def split_attributes(data: bytes, offset: int = 0) -> list[tuple[int, bytes]]:
    """Splits bytes into attributes, from an offset on: a list of (type with its flags, value without padding). Up to 3
    bytes after the last attribute are padding.

    Raises ValueError if the length of an attribute is invalid."""

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

@final
class Receiver:
    """Receives events of one netlink socket in batches, and reports every loss in its place.

    `for item in receiver` yields batches, and a `Gap` wherever something is missing. `async for` does the same in an
    event loop of asyncio. The interpreter lock is released while it waits and decodes.

    - `source`: `"conntrack"`, `"route"`, or the number of a netlink protocol.
    - `groups`: what to receive, by name or number. The default is `"new"`, `"update"` and `"destroy"` of conntrack,
      `"ipv4-route"`, `"ipv6-route"` and `"mpls-route"` of route.
    - `batches`: what a batch is. `"decoded"` (the default): `Flows` or `Routes`. `"columns"`: `Columns`, for pyarrow,
      polars and others. `"messages"` (the default of other protocols): `Messages`, as the kernel sent them.
    - `filter`: a text such as `"proto tcp and dport 443"`. The kernel does not send other events.
    - `wait`: `"auto"` wakes at once when events are rare, and gathers for up to 1 ms under load. `"prompt"` never
      gathers, `"spin"` fully occupies a core, and a number gathers for that many seconds.
    - `recv_buffer_bytes`: the receive buffer to request. The attribute of this name is what the kernel granted: twice
      this size, or less if `recv_buffer_is_clamped`.
    - `batch_rows`, `batch_seconds`: a batch is handed out when it has this many rows, or its first row is this old. By
      default it is handed out at once. Columns are cheaper in large batches.
    - `timeout`: if no batch arrives within this many seconds, the iteration raises TimeoutError. It can be continued.
    - `netns`: a network namespace, by its name in `ip netns` or by a path such as `/proc/1234/ns/net`.
    - `backend`: `"auto"`, `"multishot"`, `"oneshot"` or `"recvmmsg"`.
    - `reliable`: conntrack keeps DESTROY events that did not fit, and sends them later.

    A receiver belongs to the thread that receives its first batch. Asking for a batch in another thread raises
    RuntimeError; `stop()`, `close()`, `timeout` and `statistics` work in all threads. In a forked child every call
    raises OSError.

    Raises ValueError for arguments that cannot be used, PermissionError without `CAP_NET_ADMIN` (conntrack only), and
    OSError for other failures of the system."""

    def __new__(
        cls,
        source: str | int,
        groups: Sequence[str | int] | None = None,
        *,
        batches: Literal["decoded", "columns", "messages"] | None = None,
        filter: str | None = None,
        wait: str | float = ...,
        recv_buffer_bytes: int = ...,
        batch_rows: int = 65536,
        batch_seconds: float = 0.0,
        timeout: float | None = None,
        netns: str | None = None,
        backend: Literal["auto", "multishot", "oneshot", "recvmmsg"] = "auto",
        reliable: bool = False,
    ) -> Self: ...
    def __iter__(self) -> Iterator[Flows | Routes | Columns | Messages | Gap]: ...
    def __next__(self) -> Flows | Routes | Columns | Messages | Gap:
        """The next batch or gap. Waits for it."""

    def __aiter__(self) -> AsyncIterator[Flows | Routes | Columns | Messages | Gap]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...
    def poll(self) -> Flows | Routes | Columns | Messages | Gap | None:
        """The next batch or gap that has already arrived. None: there is none."""

    def fileno(self) -> int:
        """A descriptor for an event loop: when it is readable, call `poll()` until it returns None.

        Call it before the first batch is received, in the thread that receives."""

    def stop(self) -> None:
        """Ends the iteration from any thread, or from a signal handler: the receiver leaves its groups, hands out what
        is queued, for up to a second, and then stops."""

    def close(self) -> None:
        """Closes the socket. Queued events are counted as unread, and not handed out.

        In a thread other than the one that receives, it does the same as `stop()`: the receiving thread closes the
        socket."""

    @property
    def timeout(self) -> float | None:
        """The longest wait of the next batches in seconds, after which they raise TimeoutError. None: without limit."""

    @timeout.setter
    def timeout(self, value: float | None) -> None: ...
    @property
    def closed(self) -> bool:
        """Whether it has ended: it was closed, or stopped and has handed out everything."""

    @property
    def statistics(self) -> Statistics:
        """What became of the datagrams, as of the last batch."""

    @property
    def recv_buffer_bytes(self) -> int:
        """The size of the receive buffer that the kernel granted, in bytes."""

    @property
    def recv_buffer_is_clamped(self) -> bool:
        """Whether the kernel granted less than was requested, because `net.core.rmem_max` limits it without
        `CAP_NET_ADMIN`."""

    @property
    def backend(self) -> str | None:
        """How it receives: `"multishot"`, `"oneshot:32"` or `"recvmmsg"`. None before the first batch, and in threads
        other than the one that receives."""

    @property
    def backend_reason(self) -> str | None:
        """Why this backend was chosen: what prevents a better one, and what to do about it."""

    @property
    def longest_delay(self) -> float | None:
        """How long it gathers events under load, in seconds. None: it does not, or as for `backend`."""

    @property
    def batch_left(self) -> float | None:
        """How long the batch that is being collected may still grow, in seconds: an event loop must call `poll()` by
        then. None: nothing has been collected, or as for `backend`."""

@final
class Statistics:
    """What became of a receiver's datagrams. All counts are exact.

    `received + dropped + unread` is the number of datagrams that the kernel tried to deliver."""

    @property
    def received(self) -> int:
        """Datagrams received, including those that were not handed out."""

    @property
    def dropped(self) -> int:
        """Datagrams that the kernel dropped because the receive buffer was full."""

    @property
    def delivery_failures(self) -> int:
        """Deliveries to a reliable receiver that failed, and may be retried."""

    @property
    def truncated(self) -> int:
        """Datagrams larger than the engine's buffers."""

    @property
    def malformed(self) -> int:
        """Datagrams with a wrong length inside."""

    @property
    def short(self) -> int:
        """Receives that returned too few bytes."""

    @property
    def foreign(self) -> int:
        """Datagrams that were dropped because the kernel did not send them."""

    @property
    def starved(self) -> int:
        """How often the engine's buffers ran out. No datagram was lost."""

    @property
    def retried(self) -> int:
        """Calls that failed and were retried."""

    @property
    def unread(self) -> int:
        """Datagrams that were still queued at the end and were not handed out."""

    @property
    def unread_is_incomplete(self) -> bool:
        """Whether `unread` may be too small."""

    @property
    def messages(self) -> int:
        """Messages received."""

    @property
    def undecoded(self) -> int:
        """Messages that are in no batch, because they are neither flows nor routes."""

    @property
    def bytes(self) -> int:
        """Bytes received."""

    def __eq__(self, other: object, /) -> bool: ...

@final
class Gap:
    """Something that is missing from the stream of events, in its place in the stream.

    Older datagrams may still be queued when a loss is noticed. So later events may be older than the gap."""

    @property
    def event(self) -> Literal["lost", "delayed", "truncated", "malformed", "missing"]:
        """`"lost"`: the kernel dropped `count` datagrams, because the receive buffer was full. `"delayed"`: deliveries
        to a reliable receiver failed, and may be retried. `"truncated"`, `"malformed"`: a datagram, or its end,
        cannot be read. `"missing"`: something else is missing; `to_dict()["detail"]` says what."""

    @property
    def count(self) -> int | None:
        """How many datagrams are missing. None: the number is unknown."""

    @property
    def since_ns(self) -> int | None:
        """Of a loss: when the kernel's counter was last read without it, in nanoseconds since 1970."""

    @property
    def until_ns(self) -> int | None:
        """Of a loss: when the kernel's counter was read with it, in nanoseconds since 1970."""

    def to_dict(self) -> dict[str, Any]:
        """Everything that is known, with the names of nlring's JSON."""

    def to_json(self) -> str:
        """The same as a line of JSON, without the newline at the end."""

@final
class Flows:
    """A batch of flows: a sequence of `Flow`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Flow: ...
    def __iter__(self) -> Iterator[Flow]: ...

@final
class Routes:
    """A batch of routes: a sequence of `Route`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Route: ...
    def __iter__(self) -> Iterator[Route]: ...

@final
class Messages:
    """A batch of messages: a sequence of `bytes`, each one message with its header.

    `nlring.message.Message(message)` reads one."""

    @property
    def time_ns(self) -> int:
        """When the first of them was received, in nanoseconds since 1970."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> bytes: ...
    def __iter__(self) -> Iterator[bytes]: ...

@final
class Columns:
    """A batch of events as columns, one row for each event.

    `pyarrow.record_batch(columns)` and `polars.DataFrame(columns)` take it without a copy, and so does every library
    that knows the Arrow PyCapsule interface."""

    @property
    def num_rows(self) -> int:
        """The number of rows."""

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, in their order."""

    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> object:
        """The schema as a capsule, for libraries that read Arrow."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        """The schema and the rows as two capsules, for libraries that read Arrow. The schema is always that of
        `__arrow_c_schema__`, whatever is requested."""

@final
class Flow:
    """An event of a connection: it began, changed or ended.

    The names are those of nlring's JSON. An attribute is None if the kernel did not report its value."""

    @property
    def event(self) -> str:
        """What happened: `"new"`, `"update"` or `"destroy"`; `"entry"` in the answer to a request."""

    @property
    def time_ns(self) -> int:
        """When it happened, in nanoseconds since 1970."""

    @property
    def time_source(self) -> str:
        """Where `time_ns` comes from: `"kernel"`, or `"receive"` for the time at which it was received."""

    @property
    def family(self) -> str:
        """`"ipv4"` or `"ipv6"`."""

    @property
    def proto(self) -> str:
        """The protocol's name such as `"tcp"`, or its number as a string."""

    @property
    def orig(self) -> Tuple:
        """The direction of the first packet."""

    @property
    def reply(self) -> Tuple | None:
        """The direction of the answers."""

    @property
    def master(self) -> Tuple | None:
        """The original tuple of the flow that expected this one."""

    @property
    def nat(self) -> dict[str, Any] | None:
        """What the flow is translated to, with some of `src`, `sport`, `dst` and `dport`."""

    @property
    def state(self) -> str | None:
        """The protocol's state such as `"ESTABLISHED"`."""

    @property
    def timeout_s(self) -> int | None:
        """Seconds until the flow ends if no packet arrives."""

    @property
    def status(self) -> list[str] | None:
        """The words for the status bits, such as `["seen-reply", "assured"]`."""

    @property
    def status_bits(self) -> int | None:
        """The status bits as a number (`IPS_*`)."""

    @property
    def mark(self) -> int | None:
        """The connection mark. The kernel sends it if it is not 0 or has changed."""

    @property
    def zone(self) -> int | None:
        """The zone, if it is not 0."""

    @property
    def id(self) -> int | None:
        """A number that two flows may share: `orig` and the zone identify a flow."""

    @property
    def start_ns(self) -> int | None:
        """When the flow began, in nanoseconds since 1970."""

    @property
    def stop_ns(self) -> int | None:
        """When the flow ended, in nanoseconds since 1970."""

    @property
    def helper(self) -> str | None:
        """The name of the flow's helper."""

    @property
    def labels(self) -> list[int] | None:
        """The numbers of the labels that are set, if a label changed."""

    @property
    def port_id(self) -> int | None:
        """The netlink port ID of the program whose request caused the event."""

    def to_dict(self) -> dict[str, Any]:
        """Everything that the event says, as `nlring conntrack --json` writes it."""

    def to_json(self) -> str:
        """The same as a line of JSON, without the newline at the end."""

@final
class Tuple:
    """One direction of a flow: who sends to whom."""

    @property
    def src(self) -> str:
        """The source address as text. `ipaddress.ip_address(tuple.src)` converts it to an object."""

    @property
    def dst(self) -> str:
        """The destination address as text."""

    @property
    def sport(self) -> int | None:
        """The source port."""

    @property
    def dport(self) -> int | None:
        """The destination port."""

    @property
    def type(self) -> int | None:
        """The ICMP type."""

    @property
    def code(self) -> int | None:
        """The ICMP code."""

    @property
    def id(self) -> int | None:
        """The ICMP identifier."""

    @property
    def srckey(self) -> int | None:
        """The source key of GRE."""

    @property
    def dstkey(self) -> int | None:
        """The destination key of GRE."""

    @property
    def packets(self) -> int | None:
        """The packets of this direction: in `destroy`, if `net.netfilter.nf_conntrack_acct` is 1."""

    @property
    def bytes(self) -> int | None:
        """The bytes of this direction, under the same condition."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Route:
    """An event of a route: it was added, replaced or deleted.

    The names are those of nlring's JSON. An attribute is None if the kernel did not report its value. `to_dict()` has
    all of them."""

    @property
    def event(self) -> str:
        """What happened: `"new"` or `"delete"`; `"entry"` in the answer to a request."""

    @property
    def time_ns(self) -> int:
        """When it was received, in nanoseconds since 1970."""

    @property
    def family(self) -> str:
        """`"ipv4"`, `"ipv6"` or `"mpls"`."""

    @property
    def type(self) -> str | None:
        """The type such as `"unicast"`."""

    @property
    def dst(self) -> str | None:
        """The destination with its prefix length, such as `"10.0.0.0/8"`."""

    @property
    def src(self) -> str | None:
        """The source that the route applies to, with its prefix length."""

    @property
    def table(self) -> int:
        """The number of the routing table; 254 is the main one."""

    @property
    def priority(self) -> int | None:
        """What ip calls `metric`."""

    @property
    def protocol(self) -> str | None:
        """Who created it, such as `"kernel"` or `"bgp"`."""

    @property
    def scope(self) -> str | None:
        """`"global"`, `"site"`, `"link"`, `"host"` or `"nowhere"`."""

    @property
    def gateway(self) -> str | None:
        """Where packets go next."""

    @property
    def oif(self) -> int | None:
        """The index of the outgoing device."""

    @property
    def nexthop_id(self) -> int | None:
        """The number of the nexthop object that it uses."""

    @property
    def nexthops(self) -> list[dict[str, Any]] | None:
        """The hops of a multipath route."""

    @property
    def metrics(self) -> dict[str, Any] | None:
        """The metrics."""

    @property
    def port_id(self) -> int | None:
        """The netlink port ID of the program whose request caused the event. None: the kernel."""

    def to_dict(self) -> dict[str, Any]:
        """Everything that the event says, as `nlring route --json` writes it, but without the names of devices."""

    def to_json(self) -> str:
        """The same as a line of JSON, without the newline at the end."""
