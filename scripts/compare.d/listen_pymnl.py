#!/usr/bin/env python3
"""Follows conntrack events with pymnl until SIGINT or SIGTERM, and then prints how many there were."""

import signal
import socket
import sys

import pymnl
from pymnl import nlsocket

SO_RCVBUFFORCE = 33
GROUPS_MASK = 0b111  # NEW, UPDATE, DESTROY
received = 0


def end(*_):
    print(received)
    sys.exit()


signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
listener = nlsocket.Socket(pymnl.NETLINK_NETFILTER)
listener.get_sock().setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, int(sys.argv[1]))
listener.setsockopt(nlsocket.NETLINK_NO_ENOBUFS, 1)
listener.bind(groups=GROUPS_MASK)
while True:
    received += len(listener.recv())
