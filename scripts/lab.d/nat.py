"""A gateway between a client and a server that translates the client's addresses, and forwards a port to it."""

import collections
import signal
import sys
import time

from collector import Collector
from hosts import Wrong, await_that, cable, hosts
from tables import flow_row, listed_flows

PACKAGES = {"python3": "python3-minimal"}

RULES = """
table ip nat {
  chain pre { type nat hook prerouting priority dstnat; iifname "server" tcp dport 8080 dnat to 10.1.0.2:80; }
  chain post { type nat hook postrouting priority srcnat; oifname "server" masquerade; }
}
table inet filter {
  chain forward { type filter hook forward priority 0; ct state established,related accept; ct mark set 7; }
}
"""

# Echoes datagrams and connections on the given port.
ECHO = """
import socketserver, sys, threading
address = ("0.0.0.0", int(sys.argv[1]))
class Stream(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(4096): self.request.sendall(data)
class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(self.request[0], self.client_address)
class Streams(socketserver.ThreadingTCPServer):
    request_queue_size, allow_reuse_address = 128, True
servers = [Streams(address, Stream), socketserver.ThreadingUDPServer(address, Datagram)]
for server in servers[1:]: threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
servers[0].serve_forever()
"""

# Makes connections and exchanges datagrams, and checks each answer: address, port, how many.
TALK = """
import socket, sys
to, count = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3])
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) if len(sys.argv) < 5 else (socket.SOCK_STREAM,):
    for n in range(count):
        with socket.socket(socket.AF_INET, kind) as s:
            s.settimeout(10)
            s.connect(to)
            s.send(b"x" * (n + 1))
            assert s.recv(4096)
"""
COUNT = 200


def run(nlring, directory, options):
    with hosts("client", "gateway", "server") as (client, gateway, server):
        cable(client, ["10.1.0.2/24"], gateway, ["10.1.0.1/24"])
        cable(gateway, ["203.0.113.1/24"], server, ["203.0.113.2/24"])
        client.run("ip", "route", "add", "default", "via", "10.1.0.1")
        gateway.set("ipv4.ip_forward", 1)
        gateway.nft(RULES)
        for host, port in ((server, 7), (client, 80)):
            with open(directory / f"echo-{host.name}", "wb") as said:
                host.start(sys.executable, "-c", ECHO, port, stdout=said, stderr=said)
            await_that(
                "the echo server is ready",
                20,
                lambda: "ready" in (directory / f"echo-{host.name}").read_text(),
            )

        mirror = Collector(
            gateway.start,
            nlring,
            directory,
            "mirror",
            ["conntrack", "--mirror", "--json", "--recv-buffer", "8MiB", *options],
        )
        mirror.await_start()
        peer, ours = follow_as_text(gateway, nlring, directory, options)
        client.run(sys.executable, "-c", TALK, "203.0.113.2", 7, COUNT)
        server.run(sys.executable, "-c", TALK, "203.0.113.1", 8080, COUNT, "streams")

        seconds = mirror.check_table(lambda: listed_flows(gateway.run), flow_row, 30)
        yield f"the mirror is conntrack's list, after {seconds:.1f} s"
        gateway.run("conntrack", "-F")
        mirror.check_table(lambda: listed_flows(gateway.run), flow_row, 30)
        yield f"{same_text(peer, ours)} lines are those of conntrack -E"
        count = check_translations(mirror.events())
        yield f"{count} flows, each with its translation, from one new event to one destroy"
        stats = mirror.end()
        if stats["dropped"] or stats["truncated"] or stats["malformed"]:
            raise Wrong(f"events are missing: {stats}")


def follow_as_text(gateway, nlring, directory, options):
    """Starts conntrack -E and nlring, and returns both with their files as soon as both listen."""
    followers = []
    for name, command in (
        ("peer", ["conntrack", "-E", "-b", "8388608"]),
        ("ours", [nlring, "conntrack", *options]),
    ):
        with open(directory / f"{name}.text", "wb") as text:
            child = gateway.start(
                *command, stdout=text, stderr=(directory / f"{name}.err").open("wb")
            )
        followers.append((child, directory / f"{name}.text"))

    # Both listen as soon as both have printed the end of the same flow.
    def both_print():
        gateway.run(
            "conntrack",
            "-I",
            "-s",
            "192.0.2.1",
            "-d",
            "192.0.2.2",
            "-p",
            "udp",
            "--sport",
            "1",
            "--dport",
            "1",
            "-t",
            "60",
        )
        gateway.run("conntrack", "-D", "-s", "192.0.2.1", "-d", "192.0.2.2", "-p", "udp")
        time.sleep(0.1)
        return all("[DESTROY]" in file.read_text() for _, file in followers)

    await_that("conntrack -E and nlring follow", 20, both_print)
    return followers


def same_text(peer, ours):
    """Ends both followers, and compares their lines, except those of the flows that showed that both listen."""
    lines = []
    for child, file in (peer, ours):

        def is_at_rest(file=file, sizes=[]):
            sizes.append(file.stat().st_size)
            return len(sizes) > 10 and sizes[-1] == sizes[-10]

        await_that("nothing more is printed", 20, is_at_rest)
        child.send_signal(signal.SIGINT)
        child.wait(10)
        # conntrack names the program that caused an event, if it still runs.
        lines.append(
            [
                line.split(" progname=")[0].rstrip()
                for line in file.read_text().splitlines()
                if "192.0.2.1" not in line
            ]
        )
    # The order may differ, because two cores make events at once. conntrack -E prints only the beginning of a flush,
    # because it ends at the first event that it loses.
    theirs, ours = map(collections.Counter, lines)
    if theirs - ours or not any("[DESTROY]" in line for line in theirs):
        raise Wrong(
            f"conntrack -E printed {theirs.total()} lines, nlring {ours.total()}; nlring lacks "
            f"{list(theirs - ours)[:3]}"
        )
    return theirs.total()


def check_translations(events):
    """Checks that each flow between the hosts begins once, ends once and says how it is translated."""
    lives = {}
    for event in events:
        orig = event.get("orig", {})
        if event["event"] not in ("new", "destroy") or orig.get("dport") not in (7, 8080):
            continue
        key = (event["proto"], orig["src"], orig["sport"], orig["dst"], orig["dport"])
        lives.setdefault(key, []).append(event["event"])
        nat = event.get("nat", {})
        expected = (
            {"src": "203.0.113.1"} if orig["dport"] == 7 else {"dst": "10.1.0.2", "dport": 80}
        )
        if any(nat.get(name) != value for name, value in expected.items()):
            raise Wrong(f"a flow without its translation {expected}: {event}")
    for key, life in lives.items():
        if life != ["new", "destroy"] * (len(life) // 2):
            raise Wrong(f"the events of {key}: {life}")
    if len(lives) < 3 * COUNT * 0.9:
        raise Wrong(f"only {len(lives)} flows of {3 * COUNT}")
    return len(lives)
