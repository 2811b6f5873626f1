"""Runs one receiver through one load."""

import dataclasses
import glob
import json
import os
import subprocess
from typing import Optional

import loads
import namespace
from processes import Failure, Process
from install import HERE, VENV_PYTHON
from receivers import CONNTRACK, ROUTE, parquet_directory

# Protocol, and the mask of groups: NEW, UPDATE and DESTROY; routes of IPv4 and IPv6.
SOCKETS_OF = {CONNTRACK: ("12", 0b111), ROUTE: ("0", 1 << 6 | 1 << 10)}
# A receiver has read everything if its queue is empty and it has nothing to do for this long.
QUIET_SECONDS = 0.2
# A receiver is ready when it listens and sleeps for this long: its start-up is over.
READY_SECONDS = 0.05


@dataclasses.dataclass
class Run:
    load: str
    receiver: str
    repetition: int
    failure: Optional[str] = None  # if there is one, the numbers mean nothing
    made: int = 0
    received: int = 0  # events: those of the flows that were written
    lost: int = 0
    cpu_us: float = 0  # per event received
    first_thread_us: float = 0  # of cpu_us: of the thread that receives, while events were made
    user_share: float = 0  # of cpu_us; the rest is system time. From 100 samples per second
    generator_us: float = 0  # CPU per event made
    written_bytes: float = 0  # per event received
    seconds: float = 0

    @property
    def user_us(self):
        return self.cpu_us * self.user_share

    @property
    def system_us(self):
        return self.cpu_us - self.user_us


def measure(receiver, load, repetition, options, directory):
    run = Run(load.name, receiver.name, repetition)
    try:
        follow(run, receiver, load, options, directory)
    except (Failure, OSError) as failure:
        run.failure = str(failure)
    finally:
        loads.clear(load)
    return run


def follow(run, receiver, load, options, directory):
    def sockets():
        return namespace.listeners(*SOCKETS_OF[load.receivers])

    def is_read():
        return not any(queued for queued, _ in sockets())

    output = os.path.join(directory, "output")
    command = receiver.command(options.buffer, directory)
    with Process(command, output, os.path.join(directory, "errors")) as process:
        process.await_that("the receiver listens", sockets)
        process.await_idle("the receiver is ready", READY_SECONDS)
        start_up_seconds = process.cpu_seconds()
        first_thread_start_up = process.first_thread_seconds()
        made = loads.make(load, options.count or load.count)
        process.await_idle("the receiver has read all", QUIET_SECONDS, is_read)
        run.lost = sum(dropped for _, dropped in sockets())
        first_thread_seconds = process.first_thread_seconds() - first_thread_start_up
        usage = process.end()
    run.made, run.seconds, run.generator_us = made.events, made.seconds, made.cpu_us_per_event
    written = count(receiver, output, directory)
    run.received = written.records * receiver.events_per_record
    if run.received == 0:
        raise Failure("it received nothing")
    run.cpu_us = 1e6 * (usage.ru_utime + usage.ru_stime - start_up_seconds) / run.received
    run.first_thread_us = 1e6 * first_thread_seconds / run.received
    run.user_share = usage.ru_utime / (usage.ru_utime + usage.ru_stime)
    run.written_bytes = written.bytes / run.received
    if receiver.writes_parquet and written.lost != run.lost:
        run.failure = f"the kernel dropped {run.lost} events, and {written.lost} are recorded"
    elif receiver.is_of_flows and run.lost > 0:
        pass  # of an event that is lost, the flow's other event may still make a record
    elif run.received + run.lost != run.made:
        run.failure = f"of {run.made} events {run.received} received and {run.lost} lost"


@dataclasses.dataclass
class Written:
    """What a receiver has reported."""

    records: int
    lost: int = 0
    bytes: int = 0


def count(receiver, output, directory):
    if receiver.writes_parquet:
        return count_parquet(parquet_directory(directory))
    with open(output, "rb") as lines:
        if receiver.counts_lines:
            records = sum(not is_about_loss(line) for line in lines)
            return Written(records, bytes=os.path.getsize(output))
        try:
            return Written(int(lines.read()))
        except ValueError:
            raise Failure("it has not said how many events it received") from None


def count_parquet(directory):
    """Counts the records in complete files, with a reader that is not ours."""
    files = glob.glob(os.path.join(directory, "*.parquet"))
    done = subprocess.run(
        [VENV_PYTHON, "-B", os.path.join(HERE, "count_records.py"), *files],
        capture_output=True,
        text=True,
        check=True,
    )
    return Written(bytes=sum(map(os.path.getsize, files)), **json.loads(done.stdout))


def is_about_loss(line):
    """Whether a line or object of nlring is about a gap, and not an event."""
    return line.startswith((b" [LOST]", b'{"event":"lost"'))
