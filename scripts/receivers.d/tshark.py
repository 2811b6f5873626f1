"""tshark reads each message over UDP and TCP without a warning, and finds what nlringd's own files say."""

import datetime
import re
import socket
import threading
import time

import ipfix
from gateway import Collector, Traffic, flows, settled
from programs import await_that, run as must, running, tool

PORT = 4739
MTU = 900
OUTPUT = f"""
[[ipfix]]
transport = "{{transport}}"
address = "127.0.0.1:{{port}}"
mtu = {MTU}
acknowledge_interval = "1s"
"""


class Receiver:
    """Reads what comes, which tshark reads with it: tshark itself is no receiver."""

    def __init__(self, transport):
        is_udp = transport == "udp"
        self.socket = socket.socket(type=socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", PORT))
        if not is_udp:
            self.socket.listen()
        threading.Thread(target=self.read if is_udp else self.accept, daemon=True).start()

    def read(self):
        try:
            while self.socket.recv(65536):
                pass
        except OSError:
            return

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                while connection.recv(65536):
                    pass

    def close(self):
        self.socket.close()


def decoded(transport, capture, *options):
    return must(tool("tshark"), "-r", capture, "-d", f"{transport}.port=={PORT},cflow", *options)


def messages(text):
    """Each message: its sequence number, how many data records it has, and these as lists of (name, value)."""
    for message in text.split("Cisco NetFlow/IPFIX\n")[1:]:
        sequence = int(re.search(r"FlowSequence: (\d+)", message)[1])
        count = sum(map(int, re.findall(r"Set \d+ \[id=\d+\] \((\d+) flows\)", message)))
        blocks = re.split(r"\n        Flow \d+\n", re.sub(r"\n    Set \d+.*", "", message))[1:]
        yield sequence, count, [
            re.findall(r"^ {12,}([\w ]+): ([^\n]*)", block, re.MULTILINE) for block in blocks
        ]


def assert_sequence(transport, found):
    """Each message says how many data records were sent before: over TCP on its connection."""
    expected = 0
    for sequence, count, _ in found:
        if transport == "tcp" and sequence == 0:
            expected = 0
        assert sequence == expected, f"{sequence} for {expected}"
        expected += count


def instant_ms(text):
    instant = datetime.datetime.strptime(
        text[:-10] + text[-10:].replace("000 UTC", " +0000"), "%b %d, %Y %H:%M:%S.%f %z"
    )
    return round(instant.timestamp() * 1000)


def as_flow(pairs):
    """A flow as `wanted` has it. None: it is another record."""
    values = dict(pairs)
    if "StartTime" not in values or "SrcAddr" not in values:
        return None
    octets = [int(value.split()[0]) for name, value in pairs if name == "Octets"]
    packets = [int(value.split()[0]) for name, value in pairs if name == "Packets"]
    number = lambda name: int(values.get(name, "0").split()[0])
    version = "IPv6" if ":" in values["SrcAddr"] else "IPv4"
    return (
        re.search(r"\((\d+)\)", values["Protocol"])[1],
        *(values["SrcAddr"], number("SrcPort"), values["DstAddr"], number("DstPort")),
        *(values.get(f"Post NAT Source {version} Address"), number("Post NAPT Source Transport Port")),
        *(
            values.get(f"Post NAT Destination {version} Address"),
            number("Post NAPT Destination Transport Port"),
        ),
        *(packets[0], octets[0], packets[1], octets[1]),
        *(instant_ms(values["StartTime"]), instant_ms(values["EndTime"])),
    )


def wanted(flow):
    one = ipfix.forward(flow)
    source, sport, destination, dport = one["before"]
    nat_source, nat_sport, nat_destination, nat_dport = one["after"] or (None, 0, None, 0)
    if one["icmp"]:
        sport, dport, nat_sport, nat_dport = 0, 0, 0, 0
    before, after = (source, sport, destination, dport), (nat_source, nat_sport, nat_destination, nat_dport)
    counters = (*one["counters"], *one["reply_counters"])
    return (str(one["proto"]), *before, *after, *counters, ipfix.ms(one["start"]), ipfix.ms(one["end"]))


def try_transport(directory, transport):
    place = directory / transport
    place.mkdir()
    receiver = Receiver(transport)
    capture = place / "capture.pcap"
    dump = [tool("dumpcap"), "-q", "-i", "lo", "-f", f"{transport} port {PORT}", "-w", capture, "-P"]
    with running(place, "dumpcap", *dump) as dumpcap:
        await_that("dumpcap is ready", lambda: "Capturing on" in dumpcap.log() or capture.exists())
        collector = Collector(place, OUTPUT.format(transport=transport, port=PORT), records="both")
        made = 0
        for _ in range(2):
            made += Traffic.shared.make(30) + Traffic.shared.ping(3)
            settled(collector, made)
            collector.end()
            collector.start()
        collector.end()
        time.sleep(1)  # dumpcap writes what it has about twice a second
    receiver.close()
    found = list(messages(decoded(transport, capture, "-V", "-O", "cflow")))
    assert_sequence(transport, found)
    records = [pairs for _, _, message in found for pairs in message]
    as_flows = sorted(map(str, filter(None, map(as_flow, records))))
    as_wanted = sorted(str(wanted(flow)) for flow in flows(collector.records()))
    assert as_flows == as_wanted, (len(as_flows), len(as_wanted), as_flows[:2], as_wanted[:2])
    losses = [one for one in collector.records() if one["record"] == "loss"]
    assert len([pairs for pairs in records if "Not Sent Flows" in dict(pairs)]) == len(losses) == 2
    notes = decoded(transport, capture, "-q", "-z", "expert,warn")
    assert "Warn" not in notes and "Error" not in notes, notes
    lengths = decoded(transport, capture, "-T", "fields", "-e", "ip.len").split()
    assert transport == "tcp" or MTU - 100 < max(map(int, lengths)) <= MTU, max(lengths)
    print(
        f"  {transport}: {len(found)} messages, {len(as_flows)} flows and {len(losses)} losses as in nlringd's files"
    )


def run(directory):
    try_transport(directory, "udp")
    try_transport(directory, "tcp")
