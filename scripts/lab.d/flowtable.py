"""A gateway whose flowtable takes flows and releases them. Neither makes an event."""

import sys

from collector import Collector
from hosts import Missing, Wrong, await_that, cable, hosts
from nat import ECHO
from tables import flow_row, listed_flows

PACKAGES = {"python3": "python3-minimal"}

RULES = """
table ip t {
  flowtable f { hook ingress priority 0; devices = { client, server }; }
  chain forward { type filter hook forward priority 0; ct state established,related accept; }
}
"""
# Keeps a connection open, and sends on it while it runs.
STREAM = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 7), 10) as s:
    print("ready", flush=True)
    while True:
        s.sendall(b"x" * 1000)
        s.recv(4096)
        time.sleep(0.05)
"""
# The interval of the audits, and how long the mirror may be wrong after a change.
AUDIT, BOUND_SECONDS = "1s", 10


def run(nlring, directory, options):
    with hosts("client", "gateway", "server") as (client, gateway, server):
        cable(client, ["10.1.0.2/24"], gateway, ["10.1.0.1/24"])
        cable(gateway, ["10.2.0.1/24"], server, ["10.2.0.2/24"])
        client.run("ip", "route", "add", "default", "via", "10.1.0.1")
        server.run("ip", "route", "add", "default", "via", "10.2.0.1")
        gateway.set("ipv4.ip_forward", 1)
        try:
            gateway.nft(RULES)
        except Wrong as wrong:
            raise Missing(f"this kernel has no flowtables: {wrong}") from None
        echo = directory / "echo"
        with echo.open("wb") as said:
            server.start(sys.executable, "-c", ECHO, 7, stdout=said, stderr=said)
        await_that("the echo server is ready", 30, lambda: "ready" in echo.read_text())

        mirror = start_mirror(gateway, nlring, directory, "taken-later", options)
        start_stream(client, directory, "first")
        mirror.await_events("the flow begins", 20, lambda event: event["event"] == "new")
        yield f"before it is taken: {same(mirror, gateway, False)}"
        # Before the rule that accepts: what is accepted goes no further.
        gateway.run(
            "nft",
            "insert",
            "rule",
            "ip",
            "t",
            "forward",
            "ip",
            "protocol",
            "tcp",
            "flow",
            "add",
            "@f",
        )
        yield f"taken by the flowtable: {same(mirror, gateway, True)}"
        late = start_mirror(gateway, nlring, directory, "began-later", options)
        yield f"a mirror that began after that: {same(late, gateway, True)}"
        gateway.run("nft", "flush", "chain", "ip", "t", "forward")
        gateway.run("nft", "delete", "flowtable", "ip", "t", "f")
        for each in (mirror, late):
            yield f"released again, {each.name}: {same(each, gateway, False)}"
        audited = sum(event.get("reason") == "audit" for event in mirror.events())
        if audited < 2:
            raise Wrong(f"{audited} audits found a difference, and two were made")
        for each in (mirror, late):
            each.end()


def start_mirror(gateway, nlring, directory, name, options):
    mirror = Collector(
        gateway.start,
        nlring,
        directory,
        name,
        ["conntrack", "--mirror", "--json", "--audit-interval", AUDIT, *options],
    )
    mirror.await_start()
    return mirror


def start_stream(client, directory, name):
    said = directory / name
    with said.open("wb") as file:
        client.start(sys.executable, "-c", STREAM, "10.2.0.2", stdout=file, stderr=file)
    await_that("the stream is open", 20, lambda: "ready" in said.read_text())


def same(mirror, gateway, is_offloaded):
    """Waits until the kernel is in the expected state, and the mirror equals it."""

    def flows():
        return listed_flows(gateway.run)

    await_that(
        f"the kernel's flows are offloaded: {is_offloaded}",
        60,
        lambda: [row[-1] for row in flows()] == [is_offloaded],
    )
    seconds = mirror.check_table(flows, flow_row, BOUND_SECONDS)
    return f"the mirror is conntrack's list, after {seconds:.1f} s"
