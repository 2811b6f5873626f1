"""Traffic of one host. Each answer says from which address and port it was asked, so that the translation is known.

  traffic.py MADE answer PORT                          answers connections and datagrams
  traffic.py MADE talk ADDRESS PORT                    makes flows of several lengths until it is killed
  traffic.py MADE visit ADDRESS PORT INSIDE INPORT     the same with connections to a forwarded port
  traffic.py MADE burst ADDRESS PORT                   makes many flows at once

Each flow that was answered is a line of JSON in MADE: it existed at some moment from since_ns to until_ns.
"""

import json
import os
import random
import select
import socket
import socketserver
import sys
import threading
import time

WORKERS = 8
BURST = 400


def main():
    made, role, *arguments = sys.argv[1:]
    made = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if role == "answer":
        return answer(int(arguments[0]))
    to = (arguments[0], int(arguments[1]))
    forwarded = [arguments[2], int(arguments[3])] if role == "visit" else None
    if role == "burst":
        return burst(made, to)
    for _ in range(WORKERS - 1):
        threading.Thread(target=talk, args=(made, to, forwarded), daemon=True).start()
    talk(made, to, forwarded)


def answer(port):
    class Stream(socketserver.BaseRequestHandler):
        def handle(self):
            while self.request.recv(4096):
                self.request.sendall(seen(self.client_address))

    class Datagram(socketserver.BaseRequestHandler):
        def handle(self):
            self.request[1].sendto(seen(self.client_address), self.client_address)

    class Streams(socketserver.ThreadingTCPServer):
        request_queue_size, allow_reuse_address, daemon_threads = 128, True, True

        def handle_error(self, request, client_address):
            """The other end is gone, which belongs to the day."""

    datagrams = socketserver.UDPServer(("0.0.0.0", port), Datagram)
    threading.Thread(target=datagrams.serve_forever, daemon=True).start()
    Streams(("0.0.0.0", port), Stream).serve_forever()


def seen(address):
    return json.dumps(address[:2]).encode()


def talk(made, to, forwarded):
    while True:
        kind = random.choice([socket.SOCK_STREAM, socket.SOCK_DGRAM])
        if forwarded:
            kind = socket.SOCK_STREAM
        try:
            with socket.socket(socket.AF_INET, kind) as flow:
                flow.settimeout(1)
                flow.connect(to)
                ask(made, flow, forwarded)
                time.sleep(min(random.expovariate(1), 3))
                ask(made, flow, forwarded)
        except (OSError, ValueError):
            time.sleep(0.1)


def ask(made, flow, forwarded):
    since = time.time_ns()
    flow.send(b"x" * 100)
    note(made, flow, since, flow.recv(4096), forwarded)


def burst(made, to):
    flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(BURST)]
    since = time.time_ns()
    for flow in flows:
        flow.connect(to)
        flow.send(b"x")
    deadline = time.monotonic() + 2
    while flows and time.monotonic() < deadline:
        for flow in select.select(flows, [], [], 0.1)[0]:
            note(made, flow, since, flow.recv(4096), None)
            flows.remove(flow)


def note(made, flow, since, answered, forwarded):
    is_stream = flow.type == socket.SOCK_STREAM
    line = {
        "proto": "tcp" if is_stream else "udp",
        "src": list(flow.getsockname()),
        "nat": forwarded or json.loads(answered),
        "is_visit": bool(forwarded),
        "since_ns": since,
        "until_ns": time.time_ns(),
    }
    os.write(made, (json.dumps(line) + "\n").encode())


if __name__ == "__main__":
    main()
