"""A network namespace for a test, and events in it."""

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

CLONE_NEWNET = 0x40000000
# Without a rule that needs it, the kernel tracks no connection in a new namespace.
RULES = "add table ip t; add chain ip t c { type filter hook output priority 0; ct state new accept; }"

libc = ctypes.CDLL(None, use_errno=True)


def enter_namespace():
    """Moves this thread into a network namespace of its own, in which connections are tracked."""
    for program in ("conntrack", "ip", "nft"):
        if shutil.which(program) is None:
            pytest.skip(f"SKIP: needs the program {program}")
    if libc.unshare(CLONE_NEWNET) != 0:
        pytest.skip(f"SKIP: needs a network namespace: {os.strerror(ctypes.get_errno())}")
    run("ip", "link", "set", "lo", "up")
    run("nft", RULES)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def begin_flows(count, first_port=1):
    """Begins UDP flows over the loopback device, each to another port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in range(first_port, first_port + count):
            sender.sendto(b"x", ("127.0.0.1", port))


def await_listeners(count):
    """Waits until this many sockets of this namespace follow conntrack."""

    def listeners():
        with open("/proc/self/net/netlink") as table:
            sockets = [line.split() for line in table][1:]
        return [socket for socket in sockets if socket[1] == "12" and int(socket[3], 16) & 7 == 7]

    deadline = time.monotonic() + 30
    while len(listeners()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def make_network():
    run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
    for device in ("v0", "v1"):
        run("ip", "link", "set", device, "addrgenmode", "none")  # no address that comes a second later
        run("ip", "link", "set", device, "up")
    run("ip", "address", "add", "10.0.0.1/24", "dev", "v0")


def change_routes():
    """Adds two routes and deletes one of them."""
    add = ["ip", "route", "add"]
    run(*add, "10.1.0.0/16", "via", "10.0.0.2", "mtu", "1400")
    hops = ["nexthop", "via", "10.0.0.2", "nexthop", "via", "10.0.0.3", "weight", "4"]
    run(*add, "10.2.0.0/16", "table", "1000", *hops)
    run("ip", "route", "del", "10.1.0.0/16")


def ports(batch):
    return [flow.orig.dport for flow in batch]


def python(script):
    """Starts a script in another interpreter."""
    command = [sys.executable, "-u", "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Waits for the end of a script that must succeed and report nothing, and returns what it printed."""
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, ""), out
    return out
