"""Runs one receiver through one load."""

import dataclasses
import os
from typing import Optional

import loads
import namespace
from processes import Failure, Process
from receivers import CONNTRACK, ROUTE

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
    received: int = 0
    lost: int = 0
    cpu_us: float = 0  # per event received
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
        made = loads.make(load, options.count or load.count)
        process.await_idle("the receiver has read all", QUIET_SECONDS, is_read)
        run.lost = sum(dropped for _, dropped in sockets())
        usage = process.end()
    run.made, run.seconds, run.generator_us = made.events, made.seconds, made.cpu_us_per_event
    run.received = count(receiver, output)
    if run.received == 0:
        raise Failure("it received nothing")
    run.cpu_us = 1e6 * (usage.ru_utime + usage.ru_stime - start_up_seconds) / run.received
    run.user_share = usage.ru_utime / (usage.ru_utime + usage.ru_stime)
    run.written_bytes = os.path.getsize(output) / run.received if receiver.counts_lines else 0
    if run.received + run.lost != run.made:
        run.failure = f"of {run.made} events {run.received} received and {run.lost} lost"


def count(receiver, output):
    """The events that a receiver has reported."""
    with open(output, "rb") as lines:
        if receiver.counts_lines:
            return sum(not is_about_loss(line) for line in lines)
        try:
            return int(lines.read())
        except ValueError:
            raise Failure("it has not said how many events it received") from None


def is_about_loss(line):
    """Whether a line or object of nlring is about a gap, and not an event."""
    return line.startswith((b" [LOST]", b'{"event":"lost"'))
