"""A network namespace for a test, and events in it."""

import ctypes
import os
import shutil
import socket
import subprocess
import sys

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


def ports(batch):
    return [flow.orig.dport for flow in batch]


def python(script):
    """Starts a script in another interpreter."""
    command = [sys.executable, "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Waits for the end of a script that must succeed and report nothing, and returns what it printed."""
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, ""), out
    return out
