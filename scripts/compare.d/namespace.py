"""A network namespace of this process, in which conntrack tracks connections."""

import contextlib
import ctypes
import os
import subprocess
import sys

import install
import processes

CLONE_NEWNET = 0x40000000
RULES = (
    "add table ip t; add chain ip t c { type filter hook output priority 0; ct state new accept; }"
)


@contextlib.contextmanager
def raised(setting, least):
    """Raises a setting to this value for a while. It is the host's, and can be set only outside of namespaces."""
    path = f"/proc/sys/net/{setting}"
    try:
        # The file stays the host's, because it is opened before the namespace is entered.
        file = open(path, "r+")
    except OSError as error:
        sys.exit(f"scripts/compare: {path}: {error.strerror}; does the kernel have conntrack?")
    with file:
        before = int(file.read())
        if before >= least:
            yield
            return
        install.say(f"{path} is {least} instead of {before} until the end, for the whole host")
        write(file, least)
        try:
            yield
        finally:
            write(file, before)


def write(file, number):
    file.seek(0)
    file.write(str(number))
    file.flush()


def enter():
    if processes.libc.unshare(CLONE_NEWNET) != 0:
        sys.exit(f"scripts/compare: unshare: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["nft", RULES], check=True)


def listeners(protocol, groups_mask):
    """Bytes queued and datagrams dropped, for each socket of this namespace that is in these groups."""
    with open("/proc/self/net/netlink") as table:
        lines = [line.split() for line in table][1:]
    return [
        (int(line[4]), int(line[8]))
        for line in lines
        if line[1] == protocol and int(line[3], 16) & groups_mask
    ]
