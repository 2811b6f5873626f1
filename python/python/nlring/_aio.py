"""Receivers in an event loop of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ._nlring import Columns, Flows, Gap, Messages, Receiver, Routes


async def items(receiver: Receiver) -> AsyncIterator[Flows | Routes | Columns | Messages | Gap]:
    """What the receiver hands out, without blocking the event loop."""
    descriptor = receiver.fileno()
    delay = receiver.longest_delay
    is_busy = False
    while True:
        item = receiver.poll()
        if item is not None:
            is_busy = True
            yield item
        elif receiver.closed:
            return
        elif is_busy and delay is not None:
            # Gathers: to wake up for each event costs more than everything else.
            is_busy = False
            await asyncio.sleep(delay)
        else:
            await _readable(descriptor, receiver.batch_left)


async def _readable(descriptor: int, limit: float | None) -> None:
    """Waits until the descriptor is readable, for at most `limit` seconds."""
    loop = asyncio.get_running_loop()
    is_readable = asyncio.Event()
    loop.add_reader(descriptor, is_readable.set)
    try:
        await asyncio.wait_for(is_readable.wait(), limit)
    except asyncio.TimeoutError:
        pass
    finally:
        loop.remove_reader(descriptor)
