"""nlringd and flows in this network namespace, some of them translated."""

import json
import pathlib
import socket
import subprocess
import threading
import time

from programs import Program, await_that

NLRINGD = "nlringd"
PREPARE = """
ip link set lo up
ip route add local 10.9.0.0/16 dev lo
ip -6 route add local fd09::/64 dev lo
nft add table inet t
nft add chain inet t nat '{ type nat hook postrouting priority 100; }'
nft add rule inet t nat ip saddr 10.9.1.0/24 ip protocol '{ udp, tcp }' snat to 10.9.3.1:20000-60000
nft add rule inet t nat ip saddr 10.9.1.0/24 ip daddr 10.9.9.9 snat to 10.9.3.1
nft add rule inet t nat ip6 saddr fd09::1:0/112 ip6 daddr fd09::9 udp dport 53 snat to fd09::3
sysctl -qw net.ipv6.ip_nonlocal_bind=1
sysctl -qw net.netfilter.nf_conntrack_acct=1 net.netfilter.nf_conntrack_timestamp=1
"""


def prepare():
    subprocess.run(["bash", "-euc", PREPARE], check=True)


class Collector:
    """nlringd, which writes JSON lines beside the output that is tried."""

    def __init__(self, directory, output, records="flows", settings=""):
        self.directory = directory
        self.config = directory / "nlringd.toml"
        self.config.write_text(
            f'node = "gw1"\nrecords = "{records}"\nflush_interval = "100ms"\n{settings}\n'
            # The flows to the receivers themselves would never end.
            'filter = "src 10.9.0.0/16 or src fd09::/64"\n[http]\naddress = "off"\n'
            f'[spool]\ndirectory = "{directory}/spool"\n'
            f'[[files]]\ndirectory = "{directory}/records"\nformat = "json"\ncompression = "none"\n'
            f'rotate_interval = "2s"\n{output}\n'
        )
        self.start()

    def start(self):
        started = self.log().count("recording as")
        self.program = Program(self.directory, "nlringd", NLRINGD, "run", "--config", self.config)
        await_that("nlringd records", lambda: self.log().count("recording as") > started)

    def log(self):
        path = self.directory / "nlringd.log"
        return path.read_text() if path.exists() else ""

    def kill(self):
        self.program.kill()

    def end(self):
        code = self.program.end()
        assert code == 0, self.log()

    def records(self):
        """What it has written to files."""
        paths = sorted(pathlib.Path(self.directory / "records").glob("*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]

    def await_records(self, what, condition):
        await_that(what, lambda: condition(self.records()))


class Traffic:
    """Flows, some of them translated: each of its own source port."""

    def __init__(self):
        self.servers = []
        for family, address in ((socket.AF_INET, "10.9.9.9"), (socket.AF_INET6, "fd09::9")):
            server = socket.socket(family, socket.SOCK_DGRAM)
            server.bind((address, 53))
            threading.Thread(target=echo, args=[server], daemon=True).start()
            listener = socket.socket(family)
            listener.bind((address, 80))
            listener.listen(100)
            threading.Thread(target=answer, args=[listener], daemon=True).start()
            self.servers += [server, listener]

    def make_and_end(self, count):
        made = self.make(count)
        end_flows()
        return made

    def make(self, count):
        """Makes this many flows of each kind. How many there are."""
        made = 0
        for number in range(count):
            for family, prefix, server in (
                (socket.AF_INET, "10.9.1.", "10.9.9.9"),
                (socket.AF_INET, "10.9.2.", "10.9.9.9"),
                (socket.AF_INET6, "fd09::1:", "fd09::9"),
                (socket.AF_INET6, "fd09::2:", "fd09::9"),
            ):
                source = f"{prefix}{number % 200 + 1}"
                with socket.socket(family, socket.SOCK_DGRAM) as client:
                    client.bind((source, 0))
                    client.settimeout(10)
                    client.sendto(b"x" * (20 + number % 50), (server, 53))
                    client.recv(100)
                made += 1
                if number % 4 == 0:
                    with socket.socket(family) as client:
                        client.bind((source, 0))
                        client.settimeout(10)
                        client.connect((server, 80))
                        client.sendall(b"y" * (1000 + number))
                        client.shutdown(socket.SHUT_WR)
                        while client.recv(1000):
                            pass
                    made += 1
        return made

    def ping(self, count):
        for number in range(count):
            for source, server in (
                ("10.9.1.77", "10.9.9.9"),
                ("10.9.2.77", "10.9.9.9"),
                ("fd09::2:77", "fd09::9"),
            ):
                ping(source, server, 1000 + number)
        return 3 * count


def ping(source, server, identifier):
    """Sends an echo request with this id, by a raw socket."""
    is_ipv6 = ":" in source
    family, protocol = (socket.AF_INET6, 58) if is_ipv6 else (socket.AF_INET, 1)
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        raw.bind((source, 0))
        body = bytes([128 if is_ipv6 else 8, 0, 0, 0]) + identifier.to_bytes(2, "big") + bytes(6)
        if not is_ipv6:
            total = sum(int.from_bytes(body[at : at + 2], "big") for at in range(0, len(body), 2))
            total = (total & 0xFFFF) + (total >> 16)
            body = body[:2] + (total ^ 0xFFFF).to_bytes(2, "big") + body[4:]
        raw.sendto(body, (server, 0))


def echo(server):
    while True:
        data, client = server.recvfrom(2000)
        server.sendto(data * 2, client)


def answer(listener):
    while True:
        stream, _ = listener.accept()
        with stream:
            while stream.recv(10000):
                pass
            stream.sendall(b"z" * 5000)


def flows(records):
    return [record for record in records if record["record"] == "flow"]


def end_flows():
    """Ends all flows. The kernel alone would take up to a minute."""
    subprocess.run(["conntrack", "-F"], check=True, capture_output=True)


def settled(collector, made):
    """Ends all flows, and waits until they are in files."""
    end_flows()
    collector.await_records(f"{made} flows", lambda records: len(flows(records)) >= made)
    time.sleep(0.5)
