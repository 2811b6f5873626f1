"""The events to receive: made in this namespace, by packets or by nlring flood."""

import dataclasses
import json
import resource
import subprocess
import time
from typing import Optional

from install import NLRING, UDP_FLOWS
from processes import Failure, last_line
from receivers import CONNTRACK, ROUTE

GENERATOR_CORE = 0
LIMIT_SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Load:
    name: str
    what: str
    receivers: str  # a key of RECEIVERS_OF
    count: int
    flood: Optional[str] = None  # a source of nlring flood; without it, packets
    rate: Optional[int] = None  # events per second; without it, as many as one core can make
    is_extra: bool = False  # runs only if it is chosen

    @property
    def ends_flows(self):
        return self.receivers == CONNTRACK and self.flood is not None

    @property
    def is_asked_for(self):
        """Whether requests make the events. conntrack -E looks up each one's requesting program in /proc."""
        return self.receivers == CONNTRACK and self.flood is not None


LOADS = {
    load.name: load
    for load in [
        Load("flows", "UDP flows begun by packets over loopback", CONNTRACK, 200_000),
        Load(
            "entries",
            "conntrack entries made and deleted over ctnetlink",
            CONNTRACK,
            300_000,
            "conntrack",
        ),
        Load(
            "flush",
            "conntrack entries made, then deleted by one flush",
            CONNTRACK,
            300_000,
            "conntrack-flush",
        ),
        Load(
            "connections",
            "UDP flows begun by packets over loopback, each removed by a request",
            CONNTRACK,
            300_000,
            "conntrack-flows",
        ),
        Load(
            "steady",
            "the same at 150,000 events per second",
            CONNTRACK,
            3_000_000,
            "conntrack-flows",
            rate=150_000,
            is_extra=True,
        ),
        Load("route", "routes added and deleted", ROUTE, 200_000, "route"),
    ]
}


@dataclasses.dataclass
class Made:
    """The result of a load."""

    events: int
    seconds: float
    cpu_us_per_event: float  # of the core that makes them: the path of a packet, with its listeners


def make(load, count):
    """Makes the events, as fast as one core can."""
    return flood(load, count) if load.flood else begin_flows(count)


def begin_flows(count):
    began = time.monotonic()
    _, cpu_seconds = finish([UDP_FLOWS, str(count)])
    return Made(count, time.monotonic() - began, 1e6 * cpu_seconds / count)


def flood(load, count):
    pace = ["--rate", str(load.rate)] if load.rate else []
    text, _ = finish(
        [
            NLRING,
            "flood",
            load.flood,
            "--here",
            "--count",
            str(count),
            "--cpu",
            str(GENERATOR_CORE),
            "--json",
            *pace,
        ]
    )
    report = json.loads(text)
    return Made(report["events"], report["seconds"], (report["cpu_ns_per_event"] or 0) / 1000)


def finish(command):
    """Runs a generator to its end, and returns its output and its seconds of CPU."""
    before = cpu_seconds_of_children()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failure(f"the load was not done in {LIMIT_SECONDS} s") from None
    if done.returncode != 0:
        raise Failure(f"the load failed: {last_line(done.stderr)}")
    return done.stdout, cpu_seconds_of_children() - before


def cpu_seconds_of_children():
    """CPU of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def clear(load):
    """Removes what a load has left."""
    if load.receivers == CONNTRACK:
        subprocess.run(["conntrack", "-F"], check=True, capture_output=True)
