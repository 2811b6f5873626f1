#!/usr/bin/env python3
"""Follows conntrack events with pyroute2, decoded, until SIGINT or SIGTERM, and then prints how many there were."""

import asyncio
import os
import signal
import socket
import sys

from pyroute2.netlink.nfnetlink.nfctsocket import AsyncNFCTSocket

SO_RCVBUFFORCE = 33
SOL_NETLINK, NETLINK_NO_ENOBUFS = 270, 5
GROUPS_MASK = 0b111  # NEW, UPDATE, DESTROY
received = 0


def end(*_):
    print(received, flush=True)
    os._exit(0)  # asyncio would report the tasks that it has


async def follow(buffer_bytes):
    global received
    async with AsyncNFCTSocket(groups=GROUPS_MASK) as listener:
        await listener.setup_endpoint()
        listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer_bytes)
        listener.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
        await listener.bind(groups=GROUPS_MASK)
        while True:
            async for message in listener.get():
                # pyroute2 decodes an attribute only when it is read.
                message.get_attr("CTA_TUPLE_ORIG")
                message.get_attr("CTA_TUPLE_REPLY")
                received += 1


signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
asyncio.run(follow(int(sys.argv[1])))
