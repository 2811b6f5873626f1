"""Hosts made of network namespaces, and cables between them."""

import contextlib
import itertools
import os
import signal
import subprocess
import time


class Wrong(Exception):
    """Something should hold, and does not."""


class Missing(Exception):
    """This machine lacks something that a scenario needs."""


def run(*command, **options):
    """Returns the output of a command. If it fails, raises Wrong with its errors."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **options
    )
    if done.returncode != 0:
        raise Wrong(
            f"{' '.join(map(str, command))}: exit code {done.returncode}: {done.stderr.strip()}"
        )
    return done.stdout


def await_that(what, seconds, condition):
    """Waits until the condition is true, and returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Wrong(f"not within {seconds} s: {what}")
        time.sleep(0.05)
    return value


class Host:
    """A network namespace, and the programs that were started in it."""

    numbers = itertools.count()

    def __init__(self, name):
        self.name = name
        self.namespace = f"nlring-{os.getpid()}-{next(self.numbers)}-{name}"
        self.children = []
        run("ip", "netns", "add", self.namespace)
        self.run("ip", "link", "set", "lo", "up")

    def _within(self, command):
        return ["ip", "netns", "exec", self.namespace, *map(str, command)]

    def run(self, *command, **options):
        return run(*self._within(command), **options)

    def start(self, *command, **options):
        """Starts a program that runs until the host ends, or until it ends itself."""
        child = subprocess.Popen(self._within(command), stdin=subprocess.DEVNULL, **options)
        self.children.append(child)
        return child

    def set(self, name, value):
        """Sets a sysctl below net/."""
        self.run("sysctl", "-q", "-w", f"net.{name}={value}")

    def nft(self, rules):
        self.run("nft", "-f", "-", input=rules)

    def end(self):
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(5)
            if child.poll() is None:
                child.kill()
                child.wait()
        run("ip", "netns", "delete", self.namespace)


@contextlib.contextmanager
def hosts(*names):
    """Makes hosts, and in the end removes them with everything that runs in them."""
    with contextlib.ExitStack() as stack:
        made = []
        for name in names:
            made.append(Host(name))
            stack.callback(made[-1].end)
        yield made


def cable(left, left_addresses, right, right_addresses):
    """Connects two hosts. The device on each side is named after the other host."""
    run(
        "ip",
        "link",
        "add",
        right.name,
        "netns",
        left.namespace,
        "type",
        "veth",
        "peer",
        "name",
        left.name,
        "netns",
        right.namespace,
    )
    for host, device, addresses in (
        (left, right.name, left_addresses),
        (right, left.name, right_addresses),
    ):
        for address in addresses:
            nodad = ["nodad"] if ":" in address else []
            host.run("ip", "address", "add", address, "dev", device, *nodad)
        host.run("ip", "link", "set", device, "up")
