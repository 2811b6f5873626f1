"""The receivers: nlring and its rivals."""

import dataclasses
import glob
import os
from typing import Callable

from install import HERE, LIBMNL, NLRING, RECEIVERS, VENV_PYTHON

CONNTRACK, ROUTE = "conntrack", "route"


@dataclasses.dataclass(frozen=True)
class Receiver:
    name: str
    need: str  # a step of install.py
    command: Callable  # takes the bytes of the receive buffer, and a directory for its files
    counts_lines: bool = False  # one line per event; the others print their count at the end
    is_slow: bool = False
    is_extra: bool = False  # runs only if it is chosen by name

    @property
    def is_ours(self):
        return self.name.startswith("nlring")


def write_ulogd_config(buffer_bytes, directory):
    """Writes the configuration, and returns its path."""
    plugins = glob.glob("/usr/lib/*/ulogd")
    with open(os.path.join(HERE, "ulogd.conf")) as template:
        text = template.read()
    values = {
        "@PLUGINS@": plugins[0],
        "@BUFFER@": str(buffer_bytes),
        "@BUFFER_AND_ONE@": str(buffer_bytes + 1),
    }
    for name, value in values.items():
        text = text.replace(name, value)
    config = os.path.join(directory, "ulogd.conf")
    with open(config, "w") as file:
        file.write(text)
    return config


def program(name, *arguments, need=None, **options):
    """A program of this host; BUFFER in its arguments becomes the bytes of the buffer."""

    def command(buffer_bytes, _):
        return [argument.replace("BUFFER", str(buffer_bytes)) for argument in arguments]

    return Receiver(name, need or arguments[0], command, counts_lines=True, **options)


def nlring(source, *arguments):
    name = " ".join(["nlring", source, *arguments])
    return program(name, NLRING, source, *arguments, "--recv-buffer", "BUFFER", need="nlring")


def way(name, way_name, source, **options):
    """One of the ways in src/main.rs."""

    def command(buffer_bytes, _):
        return [RECEIVERS, way_name, source, str(buffer_bytes)]

    return Receiver(name, "receivers", command, **options)


def script(name):
    file = os.path.join(HERE, f"listen_{name}.py")
    return Receiver(
        name,
        name,
        lambda buffer_bytes, _: [VENV_PYTHON, "-B", file, str(buffer_bytes)],
        is_slow=True,
    )


def ours_in_python(kind):
    """Our Python package: a kind of listen_nlring.py."""
    file = os.path.join(HERE, "listen_nlring.py")
    return Receiver(
        f"nlring in Python, {kind}",
        "nlring-python",
        lambda buffer_bytes, _: [VENV_PYTHON, "-B", file, kind, str(buffer_bytes)],
        is_slow=True,  # to build
    )


ULOGD = Receiver(
    "ulogd2", "ulogd", lambda *where: ["ulogd", "-c", write_ulogd_config(*where)], counts_lines=True
)
LIBMNL_CALLBACK = Receiver(
    "libmnl callback", "libmnl", lambda buffer_bytes, _: [LIBMNL, str(buffer_bytes)]
)

# Wait policies of nlring besides auto. spin is not among them, because it never looks idle.
WAITS = ["prompt", "batch"]

RECEIVERS_OF = {
    CONNTRACK: [
        program("conntrack -E", "conntrack", "-E", "-b", "BUFFER"),
        ULOGD,
        LIBMNL_CALLBACK,
        way("recv loop", "recv", CONNTRACK),
        way("recvmmsg loop", "recvmmsg", CONNTRACK),
        way("recvmmsg paced 1 ms", "recvmmsg-paced", CONNTRACK),
        way("bare multishot, 1 ms", "multishot", CONNTRACK),
        way("neli", "neli", CONNTRACK),
        way("netlink-sys", "netlink-sys", CONNTRACK),
        way("nlink", "nlink", CONNTRACK),
        script("pymnl"),
        script("pyroute2"),
        way("nlring receive only", "nlring", CONNTRACK),
        *(
            way(f"nlring receive only, {wait}", f"nlring-{wait}", CONNTRACK, is_extra=True)
            for wait in WAITS
        ),
        way("nlring decode", "nlring-decode", CONNTRACK),
        *map(ours_in_python, ["messages", "flows", "flows-read", "columns"]),
        nlring(CONNTRACK),
        nlring(CONNTRACK, "--json"),
    ],
    ROUTE: [
        program("ip monitor route", "ip", "-rcvbuf", "BUFFER", "monitor", "route"),
        way("recv loop", "recv", ROUTE),
        way("bare multishot, 1 ms", "multishot", ROUTE),
        nlring(ROUTE),
        nlring(ROUTE, "--json"),
    ],
}
