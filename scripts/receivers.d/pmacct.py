"""nfacctd of pmacct receives flows, and has what nlringd's own files say."""

import collections
import csv

import ipfix
from gateway import Collector, Traffic, flows, settled
from programs import await_that, running, tool

PORT = 4739
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp"}
CONFIG = """
daemonize: false
nfacctd_ip: 127.0.0.1
nfacctd_port: {port}
nfacctd_time_new: true
nfacctd_pipe_size: 8388608
plugins: print[all]
aggregate[all]: proto, src_host, src_port, dst_host, dst_port, post_nat_src_host, post_nat_dst_host, post_nat_src_port, post_nat_dst_port, timestamp_start, timestamp_end
print_output[all]: csv
print_output_file[all]: {place}/nfacctd.csv
print_output_file_append[all]: true
print_refresh_time[all]: 2
print_history[all]: 1h
timestamps_since_epoch: true
"""


def nfacctd(place):
    path = place / "nfacctd.conf"
    path.write_text(CONFIG.format(place=place, port=PORT))
    return [tool("nfacctd"), "-f", path]


def output(lines):
    return f'[[ipfix]]\naddress = "127.0.0.1:{PORT}"\nobservation_domain = 7\n{lines}'


def row(one):
    """A flow as nfacctd keys it."""
    source, sport, destination, dport = one["before"]
    nat_source, nat_sport, nat_destination, nat_dport = one["after"] or ("", 0, "", 0)
    if ":" in source:
        nat_source, nat_destination = "", ""  # not known to pmacct 1.7.7
    if one["icmp"]:
        sport, dport, nat_sport, nat_dport = 0, 0, 0, 0
    times = [f"{ipfix.ms(ns) // 1000}.{ipfix.ms(ns) % 1000:03}000" for ns in (one["start"], one["end"])]
    protocol = PROTOCOLS[one["proto"]]
    ports = (sport, dport, protocol, nat_source, nat_destination, nat_sport, nat_dport)
    return (source, destination, *map(str, ports), *times)


def shown(place):
    """What nfacctd has written: packets and bytes of each key."""
    counts = collections.Counter(), collections.Counter()
    path = place / "nfacctd.csv"
    for line in csv.reader(path.read_text().splitlines() if path.exists() else []):
        if line[0] != "SRC_IP":
            for counter, value in zip(counts, line[11:]):
                counter[tuple(line[:11])] += int(value)
    return counts


def complaints(log):
    return [line for line in log.splitlines() if line and not line.startswith("INFO")]


def each_direction(directory, is_biflow):
    place = directory / f"biflow-{is_biflow}".lower()
    place.mkdir()
    with running(place, "nfacctd", *nfacctd(place)) as receiver:
        await_that("nfacctd is ready", lambda: "waiting for" in receiver.log())
        collector = Collector(place, output(f"biflow = {str(is_biflow).lower()}"))
        made = 0
        for _ in range(2):
            made += Traffic.shared.make(30) + Traffic.shared.ping(3)
            settled(collector, made)
            collector.end()
            collector.start()
        collector.end()
        recorded = flows(collector.records())
        # nfacctd reads no reverse elements.
        ones = [ipfix.forward(flow) for flow in recorded] if is_biflow else ipfix.directions(recorded)
        wanted = collections.Counter(), collections.Counter()
        for one in ones:
            for counter, count in zip(wanted, one["counters"]):
                counter[row(one)] += count
        await_that("nfacctd writes", lambda: shown(place)[0].total() >= wanted[0].total())
        found = shown(place)
    assert found == wanted, (
        [(one - other) for one, other in zip(found, wanted)],
        [(one - other) for one, other in zip(wanted, found)],
    )
    assert not complaints(receiver.log()), complaints(receiver.log())
    print(f"  biflow = {is_biflow}: {len(ones)} records of {len(recorded)} flows, each as in nlringd's files")


def run(directory):
    each_direction(directory, is_biflow=False)
    each_direction(directory, is_biflow=True)
