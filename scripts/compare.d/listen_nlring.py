#!/usr/bin/env python3
"""Follows conntrack events with nlring's Python package, in one of several kinds of batches, until SIGINT or SIGTERM, and
then prints how many there were: `listen_nlring.py KIND BUFFER_BYTES`."""

import signal
import sys

import nlring


def count(batch):
    return len(batch)


def each(batch):
    """Makes an object of each flow."""
    number = 0
    for _ in batch:
        number += 1
    return number


def read(batch):
    """Reads what most programs need of a flow."""
    for flow in batch:
        ends = flow.orig
        (flow.event, flow.proto, ends.src, ends.dst, ends.sport, ends.dport)
    return len(batch)


def arrow(batch):
    """Hands the columns to pyarrow."""
    return pyarrow.record_batch(batch).num_rows


KINDS = {
    "messages": (count, {"batches": "messages"}),
    "flows": (each, {}),
    "flows-read": (read, {}),
    "columns": (arrow, {"batches": "columns", "batch_rows": 8192, "batch_seconds": 0.1}),
}
look, options = KINDS[sys.argv[1]]
if look is arrow:
    import pyarrow

received = 0
receiver = nlring.Receiver("conntrack", recv_buffer_bytes=int(sys.argv[2]), **options)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: receiver.stop())
for item in receiver:
    if not isinstance(item, nlring.Gap):
        received += look(item)
print(received)
