"""The receivers: nlring and its rivals."""

import dataclasses
import os
import platform
import shutil
from typing import Callable

from install import HERE, LIBMNL, NLRING, NLRINGD, RECEIVERS, UNPACKED, VENV_PYTHON

CONNTRACK, ROUTE = "conntrack", "route"


@dataclasses.dataclass(frozen=True)
class Receiver:
    name: str
    need: str  # a step of install.py
    command: Callable  # takes the bytes of the receive buffer, and a directory for its files
    counts_lines: bool = False  # one line per record; the others print their count at the end
    writes_parquet: bool = False  # its records are in the directory of `parquet_directory`
    events_per_record: int = 1  # 2: it writes one record for each flow, which begins and ends
    is_slow: bool = False
    is_extra: bool = False  # runs only if it is chosen by name

    @property
    def is_ours(self):
        return self.name.startswith("nlring")

    @property
    def is_of_flows(self):
        """Whether it writes something only when flows end."""
        return self.events_per_record == 2


ULOGD_LIBRARIES = f"{UNPACKED}/usr/lib/{platform.machine()}-linux-gnu"
ULOGD_COMMAND = ["env", f"LD_LIBRARY_PATH={ULOGD_LIBRARIES}", f"{UNPACKED}/usr/sbin/ulogd"]


def write_ulogd_config(buffer_bytes, directory, keeps_flows):
    """Writes the configuration, and returns its path."""
    with open(os.path.join(HERE, "ulogd.conf")) as template:
        text = template.read()
    values = {
        "@PLUGINS@": os.path.join(ULOGD_LIBRARIES, "ulogd"),
        "@KEEPS_FLOWS@": str(int(keeps_flows)),
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


def ulogd(name, keeps_flows, **options):
    def command(buffer_bytes, directory):
        return [*ULOGD_COMMAND, "-c", write_ulogd_config(buffer_bytes, directory, keeps_flows)]

    return Receiver(name, "ulogd", command, counts_lines=True, **options)


def parquet_directory(directory):
    return os.path.join(directory, "nlringd/records")


def nlringd(records, rotate_interval="15m", **options):
    """nlringd with an empty spool and no files yet."""

    def command(buffer_bytes, directory):
        own = os.path.join(directory, "nlringd")
        shutil.rmtree(own, ignore_errors=True)
        os.mkdir(own)
        config = os.path.join(own, "config.toml")
        with open(config, "w") as file:
            file.write(
                f"""\
records = "{records}"
recv_buffer = "{buffer_bytes}"
[http]
address = "off"
[spool]
directory = "{own}/spool"
[[files]]
directory = "{parquet_directory(directory)}"
rotate_interval = "{rotate_interval}"
"""
            )
        return [NLRINGD, "run", "--config", config]

    name = f"nlringd, {records}"
    if options.get("is_extra"):
        name += f", files of {rotate_interval}"
    per_record = 2 if records == "flows" else 1
    return Receiver(
        name, "nlringd", command, writes_parquet=True, events_per_record=per_record, **options
    )


LIBMNL_CALLBACK = Receiver(
    "libmnl callback", "libmnl", lambda buffer_bytes, _: [LIBMNL, str(buffer_bytes)]
)

# Wait policies of nlring besides auto. spin is not among them, because it never looks idle.
WAITS = ["prompt", "batch"]

RECEIVERS_OF = {
    CONNTRACK: [
        program("conntrack -E", "conntrack", "-E", "-b", "BUFFER"),
        ulogd("ulogd2", keeps_flows=False),
        ulogd("ulogd2, flows", keeps_flows=True, events_per_record=2),
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
        nlringd("events"),
        nlringd("flows"),
        nlringd("events", "1s", is_extra=True),
        nlringd("flows", "1s", is_extra=True),
    ],
    ROUTE: [
        program("ip monitor route", "ip", "-rcvbuf", "BUFFER", "monitor", "route"),
        way("recv loop", "recv", ROUTE),
        way("bare multishot, 1 ms", "multishot", ROUTE),
        nlring(ROUTE),
        nlring(ROUTE, "--json"),
    ],
}
