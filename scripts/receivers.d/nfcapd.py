"""nfcapd receives flows and events and misses none, and nfdump shows what nlringd's own files say."""

import re

import ipfix
from gateway import Collector, Traffic, end_flows, flows, settled
from programs import await_that, run as must, running, tool

PORT = 4739
FLOW = "fmt:%pr|%sa|%sp|%da|%dp|%nsa|%nsp|%nda|%ndp|%ipkt|%ibyt|%opkt|%obyt|%ts|%te"
# natEvent of RFC 8158. nfdump 1.7.1 has no names for these.
NAT_EVENTS = {"new": "4", "destroy": "5"}
# nfcapd does not count records of options, which losses are, so that each is a sequence error for it.
NO_LOSSES = 'records = ["flow", "event"]'
NOT_TRANSLATED = ("0.0.0.0", "0", "0.0.0.0", "0")


def nfcapd(place, number=0):
    """Each start needs a directory: files of the same minute have the same name."""
    files = place / f"files-{number}"
    files.mkdir()
    return [tool("nfcapd"), "-p", PORT, "-b", "127.0.0.1", "-w", files, "-B", 4 << 20, "-t", 3600]


def output(lines=""):
    return f'[[ipfix]]\naddress = "127.0.0.1:{PORT}"\nobservation_domain = 7\n{lines}'


def nfdump(place, *options):
    """What nfdump says of all files."""
    files = sorted(place.glob("files-*"))
    return "".join(must(tool("nfdump"), "-R", one, "-q", "-N", "-6", *options) for one in files)


def shown(place):
    text = nfdump(place, "-o", FLOW)
    return [tuple(word.strip() for word in line.split("|")) for line in text.splitlines() if "|" in line]


def row(one, is_biflow):
    """A flow as nfdump shows it. It knows no translated IPv6 addresses, and no ids of ICMP."""
    source, sport, destination, dport = one["before"]
    if one["icmp"]:
        sport, dport = 0, f"{one['icmp'][0]}.{one['icmp'][1]}"
    after = one["after"] if one["after"] and ":" not in source else NOT_TRANSLATED
    if one["after"] and ":" in source:
        after = ("0.0.0.0", one["after"][1], "0.0.0.0", one["after"][3])
    if one["icmp"]:
        after = (after[0], 0, after[2], 0)
    reply = one["reply_counters"] if is_biflow else (0, 0)
    words = (one["proto"], source, sport, destination, dport, *after, *one["counters"], *reply)
    return (*map(str, words), ipfix.instant(one["start"]), ipfix.instant(one["end"]))


def assert_same(found, wanted):
    found, wanted = sorted(found), sorted(wanted)
    assert found == wanted, (
        f"{len(found)} for {len(wanted)}",
        [one for one in found if one not in wanted][:3],
        [one for one in wanted if one not in found][:3],
    )


def complaints(log):
    """What nfcapd says beyond its start, its exporters and its counts."""
    usual = re.compile(
        r"Add flow source|Bound to|setsockopt|^Init |Startup|New ipfix exporter|^Ident: |Terminating|^$"
    )
    return [line for line in log.splitlines() if not usual.search(line)]


def sequence_errors(log):
    return sum(map(int, re.findall(r"Sequence Errors: (\d+), Bad Packets: 0", log)))


def assert_content(receiver):
    assert not complaints(receiver.log()), complaints(receiver.log())
    assert "Sequence Errors" in receiver.log() and sequence_errors(receiver.log()) == 0, receiver.log()


def each_direction(directory, is_biflow):
    """nlringd is restarted in between: the sequence goes on."""
    place = directory / f"biflow-{is_biflow}".lower()
    place.mkdir()
    with running(place, "nfcapd", *nfcapd(place)) as receiver:
        await_that("nfcapd is ready", lambda: "Startup" in receiver.log())
        collector = Collector(place, output(f"biflow = {str(is_biflow).lower()}\n{NO_LOSSES}"))
        made = 0
        for _ in range(2):
            made += Traffic.shared.make(30) + Traffic.shared.ping(3)
            settled(collector, made)
            collector.end()
            collector.start()
        collector.end()
    assert_content(receiver)
    recorded = flows(collector.records())
    wanted = [ipfix.forward(flow) for flow in recorded] if is_biflow else ipfix.directions(recorded)
    assert_same(shown(place), [row(one, is_biflow) for one in wanted])
    print(
        f"  biflow = {is_biflow}: {len(recorded)} flows are {len(wanted)} records, each as in nlringd's files"
    )


def events(directory):
    place = directory / "events"
    place.mkdir()
    with running(place, "nfcapd", *nfcapd(place)) as receiver:
        await_that("nfcapd is ready", lambda: "Startup" in receiver.log())
        collector = Collector(place, output(), records="events")
        made = Traffic.shared.make(10)
        end_flows()
        ends = lambda records: len([one for one in records if one["event"] == "destroy"])
        collector.await_records("ends", lambda records: ends(records) >= made)
        collector.end()
    assert_content(receiver)
    wanted = [event_row(one) for one in collector.records() if is_nat_event(one)]
    assert_same(shown_events(place), wanted)
    print(f"  {len(wanted)} events of NAT, each as in nlringd's files")


def is_nat_event(record):
    return record.get("event") in NAT_EVENTS and "nat_src" in record and ":" not in record["orig_src"]


def event_row(record):
    one = ipfix.forward({"orig_packets": 0, "orig_bytes": 0, "reply_packets": 0, "reply_bytes": 0, **record})
    source, sport, destination, dport = one["before"]
    time_ms = str(ipfix.ms(one["end"]))
    return (
        NAT_EVENTS[record["event"]],
        time_ms,
        *map(str, (one["proto"], source, sport, destination, dport, *one["after"])),
    )


def shown_events(place):
    """nfdump has the time of events in this format only."""
    keys = ["nat event", "Event time", "proto", "src addr", "src port", "dst addr", "dst port"]
    keys += ["src xlt ip", "src xlt port", "dst xlt ip", "dst xlt port"]
    events = []
    for block in nfdump(place, "-o", "raw").split("Flow Record:"):
        values = dict(re.findall(r"^  (\w[\w ]*?) += +([\w.]+)", block, re.MULTILINE))
        if values.get("nat event") in NAT_EVENTS.values() and ":" not in values["src addr"]:
            events.append(tuple(values[key] for key in keys))
    return events


def receiver_restarts(directory):
    """What was refused is sent again, with the templates."""
    place = directory / "restarts"
    place.mkdir()
    collector = Collector(place, output())
    made = 0
    for number in range(3):
        with running(place, f"nfcapd-{number}", *nfcapd(place, number)) as receiver:
            await_that("nfcapd is ready", lambda: "Startup" in receiver.log())
            made += Traffic.shared.make(20)
            settled(collector, made)
        assert not complaints(receiver.log()), complaints(receiver.log())
        refusals = collector.log().count("refused")
        made += Traffic.shared.make(5)
        end_flows()
        await_that("it is refused", lambda: collector.log().count("refused") > refusals)
    with running(place, "nfcapd-3", *nfcapd(place, 3)) as receiver:
        settled(collector, made)
        collector.end()
    assert not complaints(receiver.log()), complaints(receiver.log())
    wanted = {row(ipfix.forward(flow), True) for flow in flows(collector.records())}
    found = shown(place)
    assert_same(set(found), wanted)
    print(f"  3 restarts of nfcapd: {len(wanted)} flows, {len(found) - len(wanted)} records came again")


def run(directory):
    each_direction(directory, is_biflow=True)
    each_direction(directory, is_biflow=False)
    events(directory)
    receiver_restarts(directory)
